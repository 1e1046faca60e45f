//! `tmp/<session>`: where a process keeps what is not durable yet, and what happens to it when the process is killed.
//!
//! ```text
//! tmp/<pid>-<time in ns>/lock         flock held alone for the life of the process' store
//! tmp/<pid>-<time in ns>/staged/f-<time in ns>/12
//!                                     staged files, by number, spread over 16 directories so that threads do not queue for one,
//!                                     and over 16 others for every 1024 files ([`Root::spread`] says why)
//! tmp/<pid>-<time in ns>/scratch-3-<time in ns>
//!                                     scratch directories
//! tmp/dead-<session>                  a dead session that is being removed
//! ```
//!
//! A session is made by the first write, under the sessions lock; under the same lock others find out which sessions are dead
//! (their lock can be taken) and rename them, so that nobody takes a session for dead between its making and its locking.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use oci::Time;

use crate::error::{Context, Result, StoreError};
use crate::paths::{SESSIONS_LOCK, TMP};
use crate::remove::remove_tree;
use crate::sys::{self, Root, lock};

/// Beginning of the names of dead sessions.
const ASIDE: &str = "dead-";

/// Directories for staged files at a time.
const SPREAD: u64 = 16;

/// Staged files that so many directories hold.
const ROUND: u64 = 64 * SPREAD;

/// The temporary directory of this process' store.
#[derive(Debug)]
pub(crate) struct Session {
    root: Arc<Root>,
    /// Relative to the root.
    dir: String,
    /// Part of the names of directories: where ext4 lays one depends on its name, and should not be where the last session's was.
    nanos: u32,
    next: AtomicU64,
    /// Rounds that have their directories.
    rounds: AtomicU64,
    making: Mutex<()>,
    _lock: File,
}

impl Session {
    /// Makes a session. Sessions of dead processes are handed to `sweeper`.
    pub(crate) fn create(root: &Arc<Root>, sweeper: &Sweeper) -> Result<Session> {
        let guard = sweep_dead(root, sweeper)?;
        let now = Time::now();
        let dir = format!("{TMP}/{}-{}{:09}", std::process::id(), { now.secs }, { now.nanos });
        if !root.make_dir(&dir)? {
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(StoreError::io("make", root.join(&dir), source));
        }
        let name = format!("{dir}/lock");
        let file = root.lock_file(&name)?;
        sys::try_lock(&file, true).at("lock", root.join(&name))?;
        drop(guard);
        root.spread(&dir);
        root.make_dir(&format!("{dir}/staged"))?;
        root.spread(&format!("{dir}/staged"));
        Ok(Session {
            root: root.clone(),
            dir,
            nanos: now.nanos,
            next: AtomicU64::new(1),
            rounds: AtomicU64::new(0),
            making: Mutex::default(),
            _lock: file,
        })
    }

    /// A number for a new staged file, whose directory is there; none is 0.
    pub(crate) fn next(&self) -> Result<u64> {
        let number = self.number();
        let round = number / ROUND;
        if self.rounds.load(Ordering::Acquire) <= round {
            let _making = lock(&self.making);
            for missing in self.rounds.load(Ordering::Acquire)..=round {
                for n in 0..SPREAD {
                    self.root.make_dir(&self.staged_dir(missing * ROUND + n))?;
                }
                self.rounds.store(missing + 1, Ordering::Release);
            }
        }
        Ok(number)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn staged_dir(&self, number: u64) -> String {
        let dir = number / ROUND * SPREAD + number % SPREAD;
        format!("{}/staged/{dir:x}-{}", self.dir, self.nanos)
    }

    /// Name of a staged file, relative to the root.
    pub(crate) fn staged(&self, number: u64) -> String {
        format!("{}/{number}", self.staged_dir(number))
    }

    /// Name for a new scratch directory, relative to the root.
    pub(crate) fn scratch(&self) -> String {
        format!("{}/scratch-{}-{}", self.dir, self.number(), self.nanos)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What cannot be removed now is tried again by the next session of any process.
        let _ = remove_tree(&self.root.join(&self.dir));
    }
}

/// Hands sessions of dead processes to `sweeper`; gives the sessions lock.
pub(crate) fn sweep_dead(root: &Root, sweeper: &Sweeper) -> Result<File> {
    let guard = lock_sessions(root)?;
    for dead in dead_sessions(root)? {
        sweeper.remove(dead);
    }
    Ok(guard)
}

fn lock_sessions(root: &Root) -> Result<File> {
    let file = root.lock_file(SESSIONS_LOCK)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .at("lock", root.join(SESSIONS_LOCK))?;
    Ok(file)
}

/// Paths of what dead sessions left. Only with the sessions lock: without it a session that is being made looks dead, too.
fn find_dead(root: &Root) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for name in root.list(TMP)? {
        let path = root.join(TMP).join(&name);
        let aside = name.as_encoded_bytes().starts_with(ASIDE.as_bytes());
        let held = match File::open(path.join("lock")) {
            _ if aside => false,
            Ok(file) => !sys::try_lock(&file, true).at("lock", &path)?,
            // Its maker died before it had one, or most of it is removed already.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(_) => true,
        };
        if !held {
            out.push(path);
        }
    }
    Ok(out)
}

/// Renames dead sessions, so that their names say what they are, and gives their new paths. Only with the sessions lock.
fn dead_sessions(root: &Root) -> Result<Vec<PathBuf>> {
    let aside = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_owned();
        if name.as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
            return path;
        }
        let mut new = OsString::from(ASIDE);
        new.push(name);
        let new = path.with_file_name(new);
        if std::fs::rename(&path, &new).is_ok() { new } else { path }
    };
    Ok(find_dead(root)?.into_iter().map(aside).collect())
}

/// Paths of what dead sessions left.
pub(crate) fn dead(root: &Root) -> Result<Vec<PathBuf>> {
    let _guard = lock_sessions(root)?;
    find_dead(root)
}

/// Removes what dead sessions left, at once. Gives the first failure.
pub(crate) fn sweep(root: &Root) -> Result<()> {
    let dead = {
        let _guard = lock_sessions(root)?;
        dead_sessions(root)?
    };
    dead.iter().map(|path| remove_tree(path).at("remove", path)).fold(Ok(()), Result::and)
}

/// A thread that removes trees, so that nobody waits for it. It starts with the first tree and is joined on drop.
#[derive(Debug, Default)]
pub(crate) struct Sweeper(Mutex<Option<(mpsc::Sender<PathBuf>, JoinHandle<()>)>>);

impl Sweeper {
    /// Removes `path`, soon. Failures are left to the next sweep.
    pub(crate) fn remove(&self, path: PathBuf) {
        let mut running = lock(&self.0);
        if running.is_none() {
            let (sender, receiver) = mpsc::channel::<PathBuf>();
            let thread = std::thread::Builder::new().name("store-sweeper".into()).spawn(move || {
                for path in receiver {
                    let _ = remove_tree(&path);
                }
            });
            *running = thread.ok().map(|thread| (sender, thread));
        }
        let unsent = match running.as_ref() {
            Some((sender, _)) => sender.send(path).err().map(|e| e.0),
            None => Some(path),
        };
        drop(running);
        if let Some(path) = unsent {
            let _ = remove_tree(&path);
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some((sender, thread)) = lock(&self.0).take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
