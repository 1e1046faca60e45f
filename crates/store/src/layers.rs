//! Layers and what is known of their tars.
use std::sync::Arc;

use oci::{Digest, LayerIndex};

use crate::Store;
use crate::error::{Result, pending};

/// Where a tar of a layer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarOrigin {
    /// Our deterministic writer makes it from the index.
    Written,
    /// It was pulled or loaded; only the blob that came has these bytes.
    Received,
}

/// A blob that unpacks to a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarBlob {
    /// Media type, as in a manifest.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
}

impl Store {
    /// The layer of an id. Its checksum is verified when it is read.
    pub fn layer(&self, _id: &Digest) -> Result<Arc<LayerIndex>> {
        pending()
    }
    /// Whether the layer is in the store.
    pub fn has_layer(&self, _id: &Digest) -> Result<bool> {
        pending()
    }
    /// The layer that a tar with this digest was read as, or was written from.
    pub fn layer_id_of_diff_id(&self, _diff_id: &Digest) -> Result<Option<Digest>> {
        pending()
    }
    /// Digest and size of the tar that *our writer* makes of the layer, if known.
    pub fn diff_id(&self, _layer: &Digest) -> Result<Option<(Digest, u64)>> {
        pending()
    }
    /// See [`crate::Batch::set_diff_id`].
    pub fn set_diff_id(
        &self,
        _layer: &Digest,
        _diff_id: &Digest,
        _tar_size: u64,
        _origin: TarOrigin,
    ) -> Result<()> {
        pending()
    }
    /// See [`crate::Batch::add_tar_blob`].
    pub fn add_tar_blob(
        &self,
        _diff_id: &Digest,
        _media_type: &str,
        _digest: &Digest,
        _size: u64,
    ) -> Result<()> {
        pending()
    }
    /// The blobs that unpack to the tar `diff_id`.
    pub fn tar_blobs(&self, _diff_id: &Digest) -> Result<Vec<TarBlob>> {
        pending()
    }
}
