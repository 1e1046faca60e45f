//! Locks between processes, all by `flock(2)`: the kernel releases them when their holder dies.
//!
//! ```text
//! locks/store        shared by every process that has the store open; alone: gc, verify --repair
//! locks/db           alone while the database is opened, made or set aside
//! locks/sessions     alone while a session is made or dead ones are looked for
//! locks/dirs         alone while directories are made from layers
//! locks/steps/<key>  alone by the process that runs the step; the file goes with the lock
//! ```

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use oci::Digest;

use crate::Store;
use crate::error::{Context, Result, StoreError};
use crate::paths::{STORE_LOCK, step_lock};
use crate::sys::{Root, try_lock};

/// How often a waiting process looks again, and asks whether it should go on waiting: at first, and after a while.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The right to run a step; released when dropped.
#[derive(Debug)]
pub struct StepLock {
    root: Arc<Root>,
    name: String,
    _file: File,
}

impl Drop for StepLock {
    fn drop(&mut self) {
        // Before the lock goes, so that the name never leads to a file that somebody else has locked.
        let _ = self.root.unlink(&self.name);
    }
}

impl Store {
    /// Waits for the right to run the step with this key, among all processes and threads. `on_wait` is called once if another
    /// holds it; `cancelled` is asked at least every 50 ms and ends the waiting with [`StoreError::Cancelled`].
    ///
    /// Look the records up again once you have it: who held it before has probably run the step.
    pub fn lock_step(
        &self,
        key: &Digest,
        on_wait: &mut dyn FnMut(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<StepLock> {
        let root = &self.core().root;
        let name = step_lock(key);
        let mut told = false;
        loop {
            let file = root.lock_file(&name)?;
            wait(&file, true, &mut once(&mut told, on_wait), cancelled).map_err(|e| e.at(root, &name))?;
            if is_at(root, &name, &file)? {
                return Ok(StepLock { root: root.clone(), name, _file: file });
            }
            // The holder before us removed the file: take the lock of the name that others see.
        }
    }
}

fn once<'a>(told: &'a mut bool, f: &'a mut dyn FnMut()) -> impl FnMut() + 'a {
    move || {
        if !std::mem::replace(told, true) {
            f();
        }
    }
}

fn is_at(root: &Root, name: &str, file: &File) -> Result<bool> {
    let path = root.join(name);
    let held = file.metadata().at("read", &path)?;
    match std::fs::symlink_metadata(&path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("read", &path),
    }
}

/// Why a lock was not got.
enum NoLock {
    Cancelled,
    System(rustix::io::Errno),
}

impl NoLock {
    fn at(self, root: &Root, name: &str) -> StoreError {
        match self {
            NoLock::Cancelled => StoreError::Cancelled,
            NoLock::System(e) => StoreError::io("lock", root.join(name), e),
        }
    }
}

fn wait(
    file: impl AsFd,
    alone: bool,
    on_wait: &mut dyn FnMut(),
    cancelled: &dyn Fn() -> bool,
) -> std::result::Result<(), NoLock> {
    let mut told = false;
    let mut pause = POLL.0;
    while !try_lock(&file, alone).map_err(NoLock::System)? {
        once(&mut told, on_wait)();
        if cancelled() {
            return Err(NoLock::Cancelled);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL.1);
    }
    Ok(())
}

/// The lock that says that the store is open.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
}

impl StoreLock {
    /// Takes it shared, waiting for a `gc` that runs.
    pub(crate) fn shared(
        root: &Root,
        on_wait: &mut dyn FnMut(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<StoreLock> {
        let file = root.lock_file(STORE_LOCK)?;
        wait(&file, false, on_wait, cancelled).map_err(|e| e.at(root, STORE_LOCK))?;
        Ok(StoreLock { file })
    }

    /// Makes it exclusive while `f` runs. Other processes that have the store open are an error, [`StoreError::InUse`].
    ///
    /// The kernel releases a lock before it takes its other kind, so a caller must not rely on anything it saw before.
    pub(crate) fn alone<T>(&self, root: &Root, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = root.join(STORE_LOCK);
        if !try_lock(&self.file, true).at("lock", &path)? {
            let pids = holders(&self.file);
            self.share(root)?;
            return Err(StoreError::InUse { root: root.path().to_owned(), pids });
        }
        let result = f();
        self.share(root)?;
        result
    }

    fn share(&self, root: &Root) -> Result<()> {
        wait(&self.file, false, &mut || {}, &|| false).map_err(|e| e.at(root, STORE_LOCK))
    }
}

/// Processes that hold a lock on the file, as `1, 2`; empty if the kernel does not say.
fn holders(file: &File) -> String {
    let (Ok(meta), Ok(table)) = (file.metadata(), std::fs::read_to_string("/proc/locks")) else {
        return String::new();
    };
    let inode = meta.ino().to_string();
    let me = std::process::id().to_string();
    let mut pids: Vec<&str> = table
        .lines()
        .filter_map(|line| {
            // 7: FLOCK  ADVISORY  READ 4711 fd:01:123456 0 EOF
            let mut words = line.split_whitespace().skip(1);
            let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
            let known = kind == "FLOCK" && place.rsplit(':').next()? == inode;
            (known && pid != me && pid != "0" && !pid.starts_with('-')).then_some(pid)
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn one_holder_at_a_time_and_waiting_is_told_once_and_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"step");
        let first = store.lock_step(&key, &mut || panic!("nobody holds it"), &|| false).unwrap();
        let told = std::cell::Cell::new(0);
        let asked = std::cell::Cell::new(0);
        let cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() == 3
        };
        let got = store.lock_step(&key, &mut || told.set(told.get() + 1), &cancelled);
        assert!(matches!(got, Err(StoreError::Cancelled)));
        assert_eq!(told.get(), 1);
        store.lock_step(&Digest::of(b"other"), &mut || panic!("another key"), &|| false).unwrap();

        let released = AtomicBool::new(false);
        std::thread::scope(|s| {
            let waiter = s.spawn(|| {
                let lock = store.lock_step(&key, &mut || {}, &|| false).unwrap();
                (released.load(Ordering::SeqCst), lock)
            });
            std::thread::sleep(Duration::from_millis(20));
            released.store(true, Ordering::SeqCst);
            drop(first);
            assert!(waiter.join().unwrap().0, "the lock was given away while it was held");
        });
        assert_eq!(std::fs::read_dir(dir.path().join("locks/steps")).unwrap().count(), 0);
    }

    /// The lock file goes with each release: without the look at the inode two threads soon hold locks of two files of one name.
    #[test]
    fn many_threads_never_hold_it_together() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"step");
        let inside = AtomicBool::new(false);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..8 {
                        let lock = store.lock_step(&key, &mut || {}, &|| false).unwrap();
                        assert!(!inside.swap(true, Ordering::SeqCst), "two holders");
                        std::thread::yield_now();
                        inside.store(false, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
