//! Faults on request: the store dies, or its disk is full or broken, at the n-th thing that it changes on the disk; and a witness of
//! all that it changes, in order.
//!
//! Every call that changes something passes [`point`] first: making, writing, renaming and removing files, flushing, and the
//! database's transactions. A test counts through all of them, or plays them again up to any of them, so no moment of a commit is
//! left out. Builds without debug assertions ignore it.

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

/// What happens when the count is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// The process is killed before it does it.
    Die = 1,
    /// It fails with ENOSPC, as does everything that needs space after it.
    Full = 2,
    /// It fails with EIO, once.
    Broken = 3,
}

/// Something on the disk is about to change. Names are below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new file.
    Make(String),
    /// Bytes of a file that is new.
    Write,
    /// A new directory, unless it is there.
    Directory(String),
    /// A file gets another name. What had it is gone.
    Rename {
        /// None: it comes from outside.
        from: Option<String>,
        /// The new name.
        to: String,
    },
    /// A file goes.
    Remove(String),
    /// The names of a directory become durable.
    FlushDirectory(String),
    /// The data of a file become durable.
    FlushFile(String),
    /// Everything becomes durable.
    FlushAll,
    /// A transaction of the database.
    Rows,
    /// A transaction of the database has been made.
    RowsMade,
}

impl Change {
    /// Whether it may fail on a full disk. Flushing may: space that was promised can turn out not to be there.
    fn needs_space(&self) -> bool {
        !matches!(self, Change::Remove(_) | Change::FlushDirectory(_) | Change::RowsMade)
    }
}

type Witness = Box<dyn Fn(&Path, &Change) + Send>;

static FAULT: AtomicU8 = AtomicU8::new(0);
static LEFT: AtomicU64 = AtomicU64::new(0);
static WITNESS: Mutex<Option<Witness>> = Mutex::new(None);

/// Marks that there is a witness.
const WATCHED: u8 = 0x80;

/// Lets the fault happen at the `at`-th change from now on, counted from 1, in this process.
pub fn set(fault: Fault, at: u64) {
    LEFT.store(at, Ordering::SeqCst);
    FAULT.store(fault as u8, Ordering::SeqCst);
}

/// Tells all changes of this process to a witness, before they are made, with the root of the store.
pub fn watch(witness: impl Fn(&Path, &Change) + Send + 'static) {
    *WITNESS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(witness));
    FAULT.fetch_or(WATCHED, Ordering::SeqCst);
}

/// Something on the disk is about to change.
pub(crate) fn point(root: &Path, change: impl FnOnce() -> Change) -> rustix::io::Result<()> {
    let fault = FAULT.load(Ordering::Relaxed);
    if !cfg!(debug_assertions) || fault == 0 {
        return Ok(());
    }
    let change = change();
    if fault & WATCHED != 0
        && let Some(witness) = &*WITNESS.lock().unwrap_or_else(PoisonError::into_inner)
    {
        witness(root, &change);
    }
    let left = LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)));
    let left = left.unwrap_or_default();
    match fault & !WATCHED {
        _ if left > 1 => Ok(()),
        1 if left == 1 => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal comes before the call returns, but the compiler cannot know.
            std::process::abort()
        }
        2 if change.needs_space() => Err(Errno::NOSPC),
        3 if left == 1 => Err(Errno::IO),
        _ => Ok(()),
    }
}
