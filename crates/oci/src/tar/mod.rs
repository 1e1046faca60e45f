//! Tar streams: any layer or root file system archive is read, one canonical form is written.
//!
//! | module | room |
//! |---|---|
//! | `header` | one 512-byte block and the PAX records: bytes to fields and back |
//! | `pax` | what PAX records say of a member |
//! | [`archive`] | a stream of blocks to members: long names, PAX, sparse files, bounds |
//! | [`error`] | why a stream is refused |
//! | [`read`] | members to a [`crate::LayerIndex`]: whiteouts, duplicates, hard links |
//! | [`write`] | a [`crate::LayerIndex`] to a stream, and plain members for image archives |
//!
//! # What is read
//!
//! POSIX.1-1988 (USTAR), POSIX.1-2001 (PAX `x`; `g` is skipped, as Docker does), V7, GNU (long names `L` and `K`, base-256 numbers,
//! sparse files `S`), GNU sparse files in PAX headers (0.0, 0.1, 1.0), star's prefix, and the misplaced prefix of Go before 1.8.
//! Where tools disagree about an archive, Go's `archive/tar` is the measure, since Docker, containerd and BuildKit read with it.
//! The block reader is our own: PAX values are bytes and may hold newlines (file capabilities do), extension headers are
//! hostile and must be bounded, and a size in a PAX header must move the place of the next header.

pub mod archive;
pub mod error;
mod header;
pub mod marks;
pub(crate) mod pax;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

pub use archive::{Archive, Limits, Member, Type};
pub use error::{Problem, TarError};
pub use marks::{Digested, Mark, digest_encoded, digest_layer};
pub use read::{
    Located, NO_MEMBER, ReadOptions, read_archive, read_layer, read_layer_located, read_layer_with,
};
pub use write::{WriteError, WriteOptions, Writer, write_encoded, write_layer, write_layer_with};

/// Size of a tar block.
pub const BLOCK: usize = 512;

/// Prefix of the names that hide something of the layers below.
pub const WHITEOUT: &[u8] = b".wh.";

/// Name of the file that hides the whole content which the layers below have in its directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Prefix of aufs' own names: bookkeeping that got into old images, no content.
pub const AUFS: &[u8] = b".wh..wh.";
