//! Who reads the bytes of a file: by digest, offset and length, never by path.
//!
//! The store is the implementation in the product. The tar writer and the FUSE view know only these traits, so where the bytes
//! lie (a file of their own, a pack, a staging directory) stays the store's business.

use std::io;
use std::sync::Arc;

use crate::digest::Digest;

/// Positional reads of one object.
pub trait ReadAt: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; 0 only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let n = buf.len().min(self.len() - start);
        buf[..n].copy_from_slice(&self[start..start + n]);
        Ok(n)
    }
}

/// File contents by digest.
pub trait Content: Send + Sync {
    /// Opens the object. A missing object is [`io::ErrorKind::NotFound`].
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>>;

    /// The whole object, refused above `limit` bytes.
    fn read_all(&self, digest: &Digest, limit: u64) -> io::Result<Vec<u8>> {
        let object = self.open(digest)?;
        let mut out = Vec::new();
        let mut buf = vec![0u8; 64 * 1024];
        loop {
            let n = object.read_at(&mut buf, out.len() as u64)?;
            if n == 0 {
                return Ok(out);
            }
            if out.len() as u64 + n as u64 > limit {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("object {digest} is larger than {limit} bytes"),
                ));
            }
            out.extend_from_slice(&buf[..n]);
        }
    }
}

/// Where new file contents go while a layer is read.
pub trait ContentSink {
    /// Reads `reader` to its end, keeps the bytes, gives their digest and number.
    fn add(&mut self, reader: &mut dyn io::Read) -> io::Result<(Digest, u64)>;
}

impl ContentSink for MemoryContent {
    fn add(&mut self, reader: &mut dyn io::Read) -> io::Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok((MemoryContent::add(self, &bytes), bytes.len() as u64))
    }
}

/// Contents held in memory, for tests and for small made-up trees.
#[derive(Debug, Default, Clone)]
pub struct MemoryContent(std::collections::HashMap<Digest, Arc<Vec<u8>>>);

impl MemoryContent {
    /// Adds an object and gives its digest.
    pub fn add(&mut self, bytes: &[u8]) -> Digest {
        let d = Digest::of(bytes);
        self.0.insert(d, Arc::new(bytes.to_vec()));
        d
    }
}

struct Shared(Arc<Vec<u8>>);

impl ReadAt for Shared {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

impl Content for MemoryContent {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        match self.0.get(digest) {
            Some(bytes) => Ok(Arc::new(Shared(bytes.clone()))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no object {digest}"))),
        }
    }
}
