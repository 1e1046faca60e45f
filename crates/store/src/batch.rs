//! New content on its way into the store.
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci::content::ContentSink;
use oci::{Digest, LayerIndex};

use crate::error::{Result, pending};
use crate::images::ImageRecord;
use crate::layers::TarOrigin;
use crate::locks::StepLock;
use crate::records::NewRecord;

/// New objects, layers, blobs, images and tags that become durable and visible together. Every method takes `&self` and may be called from several threads.
/// Dropped without [`Batch::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Batch {}

/// A handle on a batch for another thread: `ContentSink`, `Clone`, `Send`.
#[derive(Debug, Clone)]
pub struct Sink {}

impl Batch {
    /// Another handle, for a thread of its own.
    pub fn sink(&self) -> Sink {
        Sink {}
    }
    /// Reads to the end, keeps the bytes.
    pub fn add(&self, _reader: &mut dyn Read) -> Result<(Digest, u64)> {
        pending()
    }
    /// Keeps bytes that are in memory.
    pub fn add_bytes(&self, _bytes: &[u8]) -> Result<Digest> {
        pending()
    }
    /// Takes in a file that stays where it is (build context). The file is hashed while it is copied.
    pub fn add_file(&self, _file: &File, _path: &Path) -> Result<(Digest, u64)> {
        pending()
    }
    /// Takes in a file that the caller gives up (upper directory of a RUN): it may be moved away.
    pub fn add_path(&self, _path: &Path) -> Result<(Digest, u64)> {
        pending()
    }
    /// Claims an object that the store has already (a digest from a memo); false if it has not.
    pub fn reuse(&self, _digest: &Digest) -> Result<bool> {
        pending()
    }
    /// Adds a layer; its objects must be in this batch or in the store.
    pub fn add_layer(&self, _layer: &LayerIndex) -> Result<Digest> {
        pending()
    }
    /// Adds a small blob (config, manifest).
    pub fn add_blob(&self, _bytes: &[u8]) -> Result<Digest> {
        pending()
    }
    /// The digest and size of a layer's tar.
    pub fn set_diff_id(
        &self,
        _layer: &Digest,
        _diff_id: &Digest,
        _tar_size: u64,
        _origin: TarOrigin,
    ) -> Result<()> {
        pending()
    }
    /// A compressed form of the tar `diff_id`, which is a blob of the store.
    pub fn add_tar_blob(
        &self,
        _diff_id: &Digest,
        _media_type: &str,
        _digest: &Digest,
        _size: u64,
    ) -> Result<()> {
        pending()
    }
    /// Adds or replaces an image.
    pub fn put_image(&self, _image: &ImageRecord) -> Result<()> {
        pending()
    }
    /// Points a tag at an image.
    pub fn tag(&self, _name: &str, _id: &Digest, _manifest: Option<&Digest>) -> Result<()> {
        pending()
    }
    /// Hands the batch over to the group commit and returns at once. `keep` is released when the batch is durable and visible.
    pub fn commit(self, _records: Vec<NewRecord>, _keep: Vec<StepLock>) -> Result<()> {
        pending()
    }
}

impl ContentSink for Batch {
    fn add(&mut self, reader: &mut dyn io::Read) -> io::Result<(Digest, u64)> {
        Ok(Batch::add(self, reader)?)
    }
}

impl ContentSink for Sink {
    fn add(&mut self, _reader: &mut dyn io::Read) -> io::Result<(Digest, u64)> {
        Ok(pending()?)
    }
}
impl Sink {
    /// See [`Batch::add_file`].
    pub fn add_file(&self, _file: &File, _path: &Path) -> Result<(Digest, u64)> {
        pending()
    }
    /// See [`Batch::add_path`].
    pub fn add_path(&self, _path: &Path) -> Result<(Digest, u64)> {
        pending()
    }
    /// See [`Batch::reuse`].
    pub fn reuse(&self, _digest: &Digest) -> Result<bool> {
        pending()
    }
}
