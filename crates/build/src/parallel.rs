//! The same thing done for several at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what a thread that panicked has left is taken as it is.
pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `get` for every number below `count`, in up to `threads` threads; gives what it gave, in order. The first failure ends it.
pub(crate) fn each<T: Send, E: Send>(
    count: usize,
    threads: usize,
    get: &(dyn Fn(usize) -> Result<T, E> + Sync),
) -> Result<Vec<T>, E> {
    let out: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slot) = out.get(n) else { return };
                    match get(n) {
                        Ok(value) => *lock(slot) = Some(value),
                        Err(e) => {
                            next.store(count, Ordering::Relaxed);
                            lock(&failed).get_or_insert(e);
                        }
                    }
                }
            });
        }
    });
    if let Some(e) = lock(&failed).take() {
        return Err(e);
    }
    Ok(out.iter().filter_map(|slot| lock(slot).take()).collect())
}
