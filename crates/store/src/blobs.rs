//! Blobs: compressed layers as they came, configs, manifests.
use std::fs::File;
use std::io::{self, Write};

use oci::Digest;

use crate::Store;
use crate::error::{Result, pending};

/// A blob being written. Dropped without commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {}

impl Write for BlobWriter {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        Ok(pending()?)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        0
    }
    /// Ends the blob; with another digest than `expected` it is thrown away. Visible to this process at once, durable after [`Store::flush`].
    pub fn commit(self, _expected: Option<&Digest>) -> Result<(Digest, u64)> {
        pending()
    }
}

impl Store {
    /// Whether the blob is in the store.
    pub fn has_blob(&self, _digest: &Digest) -> Result<bool> {
        pending()
    }
    /// Opens a blob and gives its size.
    pub fn open_blob(&self, _digest: &Digest) -> Result<(File, u64)> {
        pending()
    }
    /// A whole small blob, its digest verified.
    pub fn read_blob(&self, _digest: &Digest, _limit: u64) -> Result<Vec<u8>> {
        pending()
    }
    /// A new blob.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        pending()
    }
    /// A small blob. Visible to this process at once, durable after [`Store::flush`].
    pub fn put_blob(&self, _bytes: &[u8]) -> Result<Digest> {
        pending()
    }
}
