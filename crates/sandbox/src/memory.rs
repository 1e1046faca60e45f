//! How a process that builds gets its memory.

#![allow(unsafe_code)]

/// Lets all threads of the process share one heap, from which what is large is kept apart. To be called before any thread exists; where the C
/// library is not glibc, nothing needs to be said.
///
/// glibc gives every thread a heap of its own, and what one has freed is of no use to another: a build reads its context in one thread and
/// copies it in another, and of 300,000 files a third of the memory was such leftovers. Threads seldom wait for each other all the same, since
/// small pieces come from a cache that each has. Lists that are larger than a [`LARGE`] come from the kernel and go back to it at once: by
/// default glibc takes the first of them that is freed as a sign that there will be more, and keeps up to 64 MB.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    for (option, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, 4 * LARGE)]
    {
        // SAFETY: mallopt(3) takes two numbers and touches nothing but the allocator's own settings, under its lock. An option that it
        // does not know, or a value that it refuses, changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives memory back to the kernel that was freed between what is in use. Takes milliseconds for each 100 MB: worth it after something large.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number, and releases only pages of the allocator's that hold nothing.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Bytes from which on memory comes from the kernel: more than any buffer that is made for each file.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

#[cfg(test)]
mod tests {
    #[cfg(target_env = "gnu")]
    #[test]
    fn threads_share_one_heap() {
        super::share_heap();
        // SAFETY: mallinfo2(3) takes nothing and gives numbers.
        let arena = || unsafe { libc::mallinfo2() }.arena;
        let before = arena();
        let kept: Vec<Vec<Box<[u8; 4096]>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).map(|n| Box::new([n as u8; 4096])).collect()))
                .collect();
            threads.into_iter().filter_map(|t| t.join().ok()).collect()
        });
        assert_eq!(kept.len(), 4);
        // Of other heaps this number says nothing.
        assert!(arena() - before > 4 * 1000 * 4096 / 2, "{}", arena() - before);
    }
}
