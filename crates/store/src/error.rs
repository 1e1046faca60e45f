//! What can go wrong in the store, by what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;
use rustix::io::Errno;

/// Result of the store's calls.
pub type Result<T> = std::result::Result<T, StoreError>;

/// An error of the store. Paths are whole, so that the message can stand alone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space or no quota left.
    #[error("no space left on the device while writing {}", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// The file system is mounted read-only.
    #[error("{} lies on a read-only file system", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// The user may not.
    #[error("no permission to {what} {}", path.display())]
    Permission {
        /// `read`, `write` ...
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// Any other failure of a file operation.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// `read`, `write` ...
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file of the store does not hold what its name says.
    #[error("the store is damaged: {} {what}", path.display())]
    Damaged {
        /// What is wrong with it.
        what: String,
        /// Which file.
        path: PathBuf,
    },
    /// Something that was asked for by digest is not in the store.
    #[error("no {kind} {digest} in the store")]
    Missing {
        /// `object`, `layer`, `blob`, `image`.
        kind: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// Bytes that should have had a certain digest had another.
    #[error("expected content {expected} but got {got}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// A file was written to while it was being taken in.
    #[error("{} changed while it was being read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// What was to be taken in is no regular file.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Something is larger than the caller allows.
    #[error("{kind} {digest} is larger than {limit} bytes")]
    TooLarge {
        /// `blob`.
        kind: &'static str,
        /// Its digest.
        digest: Digest,
        /// The caller's limit, in bytes.
        limit: u64,
    },
    /// The store was made by a program that knows a later format.
    #[error("{} has format {found}, this program knows up to {known}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest that we read.
        known: u32,
    },
    /// A directory that holds other things, so that no store is made in it.
    #[error("{} is no layercake store: it holds {found:?}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the things that it holds.
        found: std::ffi::OsString,
    },
    /// Other processes use the store and what was asked for needs it alone.
    #[error("{} is in use by {}", root.display(), if pids.is_empty() { "another process".to_owned() } else { format!("process {pids}") })]
    InUse {
        /// Root of the store.
        root: PathBuf,
        /// Numbers of the processes, as far as known, separated by `, `.
        pids: String,
    },
    /// An id prefix that several images have.
    #[error("{prefix:?} is the beginning of {count} image ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many have it.
        count: usize,
    },
    /// The caller gave up waiting.
    #[error("cancelled")]
    Cancelled,
    /// Something of this process could not be written earlier, so nothing after it is.
    #[error("nothing more is written to the store after an earlier failure")]
    Stopped {
        /// The earlier failure.
        #[source]
        source: Arc<StoreError>,
    },
    /// A batch was used after its commit.
    #[error("the batch is closed")]
    Closed,
    /// The database refuses.
    #[error("database {}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
}

impl StoreError {
    /// The kind that an error of the system is, for what we were doing with which file.
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> StoreError {
        let source = source.into();
        let path = path.as_ref().to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => StoreError::Full { path },
            Some(Errno::ROFS) => StoreError::ReadOnly { path },
            Some(Errno::ACCESS | Errno::PERM) => StoreError::Permission { what, path },
            _ => StoreError::Io { what, path, source: Arc::new(source) },
        }
    }

    /// What the user can do about it, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            StoreError::Full { .. } => {
                "free some space, run `layercake prune`, or use --root to put the store elsewhere"
            }
            StoreError::ReadOnly { .. } => "use --root to put the store on a file system that can be written",
            StoreError::Permission { .. } => {
                "check who owns the store, or use --root to name one of your own"
            }
            StoreError::Damaged { .. } => "run `layercake verify --repair`",
            StoreError::Changed { .. } => "build again when nothing writes to the file any more",
            StoreError::Newer { .. } => "use the newer program, or --root to name another store",
            StoreError::NotAStore { .. } => "name an empty directory, or one that does not exist",
            StoreError::InUse { .. } => "try again when it has ended",
            StoreError::Ambiguous { .. } => "give more digits of the id",
            StoreError::Stopped { source } => return source.hint(),
            _ => return None,
        })
    }
}

impl From<StoreError> for io::Error {
    /// Keeps the store's error as the inner one, for `downcast`.
    fn from(e: StoreError) -> io::Error {
        let kind = match &e {
            StoreError::Full { .. } => io::ErrorKind::StorageFull,
            StoreError::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem,
            StoreError::Permission { .. } => io::ErrorKind::PermissionDenied,
            StoreError::Missing { .. } => io::ErrorKind::NotFound,
            StoreError::Damaged { .. } | StoreError::Mismatch { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}

/// Names the file operation that failed.
pub(crate) trait Context<T> {
    /// `what` is a verb, as in "cannot read".
    fn at(self, what: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| StoreError::io(what, path, e))
    }
}
