//! Tables of contents inside of layers: what a layer holds, and where in its blob, without reading the blob.
//!
//! Two formats, both layers like all others for whoever does not know them (containerd's `docs/estargz.md`; `pkg/chunked` of
//! containers/storage). Both compress every file, or each chunk of a large one, by itself, and end with a table in JSON:
//!
//! | | eStargz | zstd:chunked |
//! |---|---|---|
//! | the blob | gzip members | zstd frames |
//! | the table | last member of the tar, `stargz.index.json`, in a gzip member of its own | a skippable frame, compressed itself |
//! | where it stands | footer: the last 51 bytes | annotation `...manifest-position`, `OFFSET:LENGTH:UNPACKED:1`; else the footer: the last 72 bytes |
//! | its digest | annotation `containerd.io/snapshot/stargz/toc.digest`, of the JSON | annotation `...manifest-checksum`, of the compressed JSON |
//!
//! (`...` is `io.github.containers.zstd-chunked`, of older writers `io.containers.zstd-chunked`.) The annotations are those of the layer's descriptor in the manifest, so whoever trusts the
//! manifest's digest can trust the table. **Without the annotation of the digest there is no table.**
//!
//! # Footers
//!
//! eStargz: an empty gzip member with an extra field of 26 bytes: `S`, `G`, 22 (two bytes), 16 hex digits of the offset of the table's gzip
//! member, `STARGZ`. zstd:chunked: a skippable frame (`50 2a 4d 18`, length 64) of eight little-endian numbers of 64 bits: offset of the
//! compressed table, its length, its length unpacked, its type (1), three about something else, and `GNUlInUx`. Older ones have a length of 40,
//! and the letters right behind the type.
//!
//! # The table
//!
//! `{"version": 1, "entries": [...]}`, in the order of the tar. Of an entry:
//!
//! | field | |
//! |---|---|
//! | `name`, `type` | as in the tar; `reg`, `dir`, `symlink`, `hardlink`, `char`, `block`, `fifo`; or `chunk`: more of the `reg` before it |
//! | `linkName`, `mode`, `uid`, `gid`, `modtime`, `devMajor`, `devMinor` | as in the tar; `modtime` is RFC 3339 |
//! | `xattrs` | names to values in base64 |
//! | `size`, `digest` | of the whole file; eStargz may leave out the digest of a file of one chunk |
//! | `offset` | where in the blob the gzip member or zstd frame begins that holds the file or chunk |
//! | `innerOffset` | where in what that unpacks to (eStargz; 0) |
//! | `endOffset` | where the last frame of the file ends (zstd:chunked) |
//! | `chunkOffset`, `chunkSize`, `chunkDigest` | which part of the file; a last or only chunk may have the size 0, which means the rest |
//! | `chunkType` | `zeros`: the chunk is nothing but zeros |
//!
//! # What is taken of it
//!
//! The entries become a [`LayerIndex`] by the code that reads tars, so a table means the same as a tar with these members: whiteouts,
//! hard links, names that come twice. For every content ([`Content`]) there are its chunks; each has a digest, and together they
//! are the file, without a gap. A member or frame ([`Toc::frames`]) ends where the next one begins.
//!
//! A table is refused, and its layer has to be read as a whole, if it cannot say what the tar says: names that JSON cannot hold are
//! written with U+FFFD in place of what they are. Times in eStargz are whole seconds. `stargz.index.json` is a file of the image for
//! whoever reads the tar, and so it is here.
//!
//! # Bounds
//!
//! [`MAX_PACKED`] and [`MAX_TOC`] bytes, two million entries, and as many names and contents as a tar may have
//! ([`crate::tar::Limits`]). Everything lies in the blob, before the
//! table; nothing overlaps.

mod build;
mod entry;
mod find;

use std::io;
use std::ops::Range;

use crate::digest::Digest;
use crate::index::LayerIndex;
use crate::tar::Problem;

pub use find::Announced;

/// Largest table as it stands in the blob, in bytes.
pub const MAX_PACKED: u64 = 32 << 20;
/// Largest table as JSON, in bytes: some 400,000 files.
pub const MAX_TOC: u64 = 128 << 20;
/// Name of the table in an eStargz layer.
const OWN_NAME: &[u8] = b"stargz.index.json";

/// How the parts of a blob are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Each is a gzip member.
    Gzip,
    /// Each is one or more zstd frames.
    Zstd,
}

/// A layer by its table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// What the layer holds.
    pub index: LayerIndex,
    /// How its blob is compressed.
    pub packing: Packing,
    /// Every content that is not empty, once for each digest.
    pub contents: Vec<Content>,
    /// The compressed parts that hold contents: bytes of the blob, in order, without overlap. What a part unpacks to may be longer than what
    /// is needed of it, and the range may reach further than the part.
    pub frames: Vec<Range<u64>>,
    /// What is in the frames, in order.
    pub pieces: Vec<Piece>,
    /// The table itself, where it is a file of the layer.
    pub own: Option<Vec<u8>>,
}

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Digest of all of it.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// Path of one file that has it, for messages.
    pub path: Vec<u8>,
    /// Its parts, in order, without a gap.
    pub chunks: Vec<Chunk>,
    /// The pieces that it consists of, if they follow each other.
    pub run: Option<Range<usize>>,
}

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the content.
    pub at: u64,
    /// Number of bytes, not 0.
    pub size: u64,
    /// Their digest.
    pub digest: Digest,
    /// Number of the piece that holds it; none for zeros.
    pub piece: Option<usize>,
}

/// Where in a frame a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Number of the frame.
    pub frame: usize,
    /// Where in what the frame unpacks to.
    pub inner: u64,
    /// Number of the content.
    pub content: usize,
    /// Number of the chunk in it.
    pub chunk: usize,
}

/// Why a table of contents is not used.
#[derive(Debug, thiserror::Error)]
pub enum TocError {
    /// Its place is said by nothing, or lies outside of the blob.
    #[error("the place of its table of contents is not in the blob, or not said")]
    Place,
    /// It is larger than any needs to be.
    #[error("its table of contents has more than {0} bytes")]
    TooLarge(u64),
    /// It cannot be unpacked.
    #[error("its table of contents cannot be unpacked")]
    Unpack(#[source] io::Error),
    /// It is another one than the manifest says.
    #[error("its table of contents has digest {got}, the manifest says {expected}")]
    Digest {
        /// What the manifest says.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// It is no JSON of the right form.
    #[error("its table of contents cannot be read")]
    Json(#[source] serde_json::Error),
    /// Its version is not known.
    #[error("its table of contents has version {0}, known is 1")]
    Version(u64),
    /// Something is wrong with an entry.
    #[error("its table of contents says of {name:?}: {problem}")]
    Entry {
        /// Name of the entry, shortened.
        name: String,
        /// What is wrong.
        problem: Box<EntryProblem>,
    },
    /// The entries make no layer.
    #[error("its table of contents is no layer: {0}")]
    Layer(Box<Problem>),
}

/// What is wrong with an entry of a table of contents.
#[derive(Debug, thiserror::Error)]
pub enum EntryProblem {
    /// What would be wrong in a tar, too.
    #[error(transparent)]
    Member(#[from] Problem),
    /// Its type is not known.
    #[error("the type is not known")]
    Type,
    /// JSON could not hold what it says.
    #[error("the {0} is not what stands in the tar")]
    Text(&'static str),
    /// A digest is missing, unreadable, or not the same as another.
    #[error("the digest of {0} is missing or wrong")]
    Digest(&'static str),
    /// The chunks are not the file.
    #[error("its chunks are not the file: {0}")]
    Chunks(&'static str),
    /// Bytes outside of the blob's files.
    #[error("its bytes lie outside of the blob")]
    Outside,
    /// Bytes that are those of something else, too.
    #[error("its bytes are those of another file, too")]
    Overlap,
}

impl TocError {
    fn entry(name: &str, problem: impl Into<EntryProblem>) -> TocError {
        TocError::Entry { name: name.chars().take(200).collect(), problem: Box::new(problem.into()) }
    }
}
