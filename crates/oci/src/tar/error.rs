//! Why a tar stream is refused.

use std::error::Error;
use std::fmt;
use std::io;

/// Longest PAX header or GNU long name, in bytes: Go's bound.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;
/// Extended attributes of a file, in bytes of its header: with the longest name and link beside them they fit into [`MAX_EXTENSION`].
pub(super) const MAX_XATTRS: u64 = MAX_EXTENSION - (16 << 10);

/// Why a stream is refused: where, and what.
#[derive(Debug)]
pub struct TarError {
    name: Option<String>,
    offset: u64,
    pub(super) problem: Box<Problem>,
}

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The stream below failed.
    #[error("the stream cannot be read")]
    Read(#[source] io::Error),
    /// The place where contents go failed.
    #[error("the content cannot be kept")]
    Keep(#[source] io::Error),
    /// The stream ends inside of a header or of announced data.
    #[error("the archive is cut off")]
    Truncated,
    /// This is no tar header.
    #[error("the header's checksum does not match")]
    Checksum,
    /// A zero block with more headers behind it.
    #[error("a zero block stands before more headers")]
    LoneZeroBlock,
    /// A field is no number, or out of range.
    #[error("the {0} is no valid number")]
    Number(&'static str),
    /// The extended header cannot be parsed.
    #[error("the extended header is malformed")]
    Pax,
    /// An extended header or long name is larger than any needs to be.
    #[error("the extended header or long name has {0} bytes, more than {MAX_EXTENSION}")]
    Extension(u64),
    /// Two extended headers or long names of one kind for one member.
    #[error("two extended headers of one kind describe one member")]
    Twice,
    /// Extended headers at the end.
    #[error("the archive ends after an extended header")]
    NoMember,
    /// A member of a type that no image holds.
    #[error("members of type {0:?} are not supported")]
    Type(char),
    /// A sparse map makes no sense.
    #[error("the map of the sparse file is not valid: {0}")]
    Sparse(&'static str),
    /// `..` above the root.
    #[error("the {0} leads out of the root")]
    Escape(&'static str),
    /// No file system holds such a name.
    #[error("the {0} is empty, too long, or holds a NUL")]
    Name(&'static str),
    /// The root is something else than a directory.
    #[error("the root is no directory")]
    Root,
    /// An entry for what a whiteout cannot name.
    #[error("the whiteout names nothing that can be removed")]
    Whiteout,
    /// A link to a directory, to itself, or to nothing.
    #[error("the hard link leads to {0:?}, which is no file")]
    Link(String),
    /// A hard link to a lower layer's file, which this layer replaces afterwards.
    #[error("the hard link to {0:?} was made before this layer replaced it")]
    LinkReplaced(String),
    /// Names below a symbolic link that is then replaced.
    #[error("it replaces a symbolic link through which earlier entries were written")]
    LinkWritten,
    /// The directory that a marker is of is none.
    #[error("it lies below {0:?}, which is no directory")]
    BelowFile(String),
    /// One of [`Limits`].
    #[error("the archive has more than {1} {0}")]
    Limit(&'static str, u64),
    /// The entries make no layer.
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
}

impl TarError {
    pub(super) fn new(name: Option<&[u8]>, offset: u64, problem: Problem) -> TarError {
        let name = name.map(|n| match n {
            b"" => "./".to_owned(),
            n => String::from_utf8_lossy(&n[..n.len().min(300)]).into_owned(),
        });
        TarError { name, offset, problem: Box::new(problem) }
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Name of the entry, as far as it was known.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Byte in the (uncompressed) stream where the entry's header starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "tar entry {name:?} at byte {}: {}", self.offset, self.problem),
            None => write!(f, "tar at byte {}: {}", self.offset, self.problem),
        }
    }
}

impl Error for TarError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}
