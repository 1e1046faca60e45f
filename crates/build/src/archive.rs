//! Archives that ADD and contexts unpack: tars, plain or compressed, by content and never by name.
//!
//! The first member's header must be readable; an empty or damaged compressed file is no archive, and is copied as it is (Docker's
//! rule).

use std::io::{self, Read};
use std::sync::Arc;

use oci::compress::Decoder;
use oci::content::ContentSink;
use oci::tar::Limits;
use oci::tar::archive::Archive;
use oci::tar::read::{ReadOptions, read_layer_with};
use oci::{Entry, Kind, ReadAt, Tree};

#[cfg(test)]
mod tests;

/// An object as a stream.
pub(crate) struct Reader {
    object: Arc<dyn ReadAt>,
    at: u64,
    size: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads `size` bytes of an object from its start.
    pub(crate) fn new(object: Arc<dyn ReadAt>, size: u64) -> Reader {
        Reader { object, at: 0, size }
    }
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(buf.len());
        let n = self.object.read_at(&mut buf[..left], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Whether the stream is a tar with at least one member, plain or compressed.
pub(crate) fn is_tar(reader: impl Read) -> bool {
    let Ok(decoder) = Decoder::new(reader) else { return false };
    let mut archive = Archive::new(decoder, Limits::default());
    matches!(archive.next_member(), Ok(Some(_)))
}

/// An archive on its way into a directory: contents go to `sink`. Links of the archive lead inside it, as if it were the root.
pub(crate) fn unpack(
    reader: impl Read,
    sink: &mut dyn ContentSink,
) -> Result<Vec<Entry>, Box<dyn std::error::Error + Send + Sync>> {
    let options = ReadOptions { whiteouts: false };
    let layer = read_layer_with(reader, sink, &Limits::default(), options)?;
    let mut entries = Tree::from_layers([&layer])?.flatten();
    // Directories that the archive leaves out are made where it is unpacked.
    entries.retain(|e| layer.get(&e.path).is_some() || !matches!(e.kind, Kind::Directory { .. }));
    Ok(entries)
}
