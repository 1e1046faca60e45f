//! Blobs: compressed layers as they came, configs, manifests. They are kept byte for byte.

use std::fs::File;
use std::io::{self, Read, Write};

use oci::Digest;

use crate::Store;
use crate::batch::Batch;
use crate::error::{Context, Result, StoreError};
use crate::ingest::NewFile;
use crate::paths::{Key, Kind};

/// A blob being written, in a batch of its own. Dropped without commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: NewFile,
    batch: Batch,
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Digest of the bytes written so far.
    pub fn digest(&self) -> Digest {
        self.file.digest()
    }

    /// Ends the blob. Bytes of another digest than `expected` are thrown away ([`StoreError::Mismatch`]). The blob is visible to
    /// this process at once, and durable after [`Store::flush`].
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let got = self.digest();
        if let Some(expected) = expected
            && *expected != got
        {
            return Err(StoreError::Mismatch { expected: *expected, got });
        }
        let result = self.file.finish(Kind::Blob)?;
        self.batch.commit(Vec::new(), Vec::new())?;
        Ok(result)
    }
}

impl Store {
    /// Whether the blob is in the store or staged by this process.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.core().has_key(&Key::blob(digest))
    }

    /// Opens a blob and gives its size in bytes. Its digest was verified when it was written, not now.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let core = self.core();
        let key = Key::blob(digest);
        let file = core.open_key(&key)?;
        let size = file.metadata().at("read", core.root.join(key.path()))?.len();
        Ok((file, size))
    }

    /// A whole blob of up to `limit` bytes, its digest verified.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.core().root.join(Key::blob(digest).path());
        let (file, size) = self.open_blob(digest)?;
        if size > limit {
            return Err(StoreError::TooLarge { kind: Kind::Blob.noun(), digest: *digest, limit });
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).at("read", &path)?;
        let got = Digest::of(&bytes);
        if got != *digest {
            return Err(StoreError::Damaged { what: format!("holds content {got}"), path });
        }
        Ok(bytes)
    }

    /// A new blob.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let batch = self.batch();
        Ok(BlobWriter { file: NewFile::create(&batch.sink())?, batch })
    }

    /// Bytes that the store's file system has room for.
    pub fn available(&self) -> Result<u64> {
        let root = self.core().root.path();
        let told = rustix::fs::statvfs(root).at("read", root)?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// A small blob, in a batch of its own. It is visible to this process at once, and durable after [`Store::flush`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let batch = self.batch();
        let digest = batch.add_blob(bytes)?;
        batch.commit(Vec::new(), Vec::new())?;
        Ok(digest)
    }
}
