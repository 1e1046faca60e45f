//! Parsing of documents, with the checks that every source of images needs.

use crate::types::{ImageConfig, Index, Manifest, media};

/// Largest manifest, index or config, in bytes: what registries take.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// No JSON, or not of the right shape.
    #[error("it is not valid")]
    Json(#[source] serde_json::Error),
    /// Docker's first schema, or one of the future.
    #[error("it is of schema version {0}, and only version 2 is supported")]
    Schema(u32),
    /// It says that it is something else.
    #[error("it says that it is of type {0:?}")]
    Type(String),
    /// It can be read as a manifest and as an index, so that two tools would see different images.
    #[error("it is a manifest and an index at once")]
    Both,
    /// The config does not list the layers that the manifest lists.
    #[error("there are {layers} layers, but the config lists {diff_ids}")]
    Layers {
        /// Of the manifest.
        layers: usize,
        /// Of the config.
        diff_ids: usize,
    },
    /// A layer of a type that we cannot unpack.
    #[error("layers of type {0:?} are not supported")]
    LayerType(String),
}

/// Reads a manifest.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest, DocumentError> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    schema(manifest.schema_version)?;
    if manifest.rest.contains_key("manifests") {
        return Err(DocumentError::Both);
    }
    match &manifest.media_type {
        Some(t) if !media::is_manifest(t) => Err(DocumentError::Type(t.clone())),
        _ => Ok(manifest),
    }
}

/// Reads an index or manifest list.
pub fn parse_index(bytes: &[u8]) -> Result<Index, DocumentError> {
    let index: Index = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    schema(index.schema_version)?;
    if index.rest.contains_key("layers") || index.rest.contains_key("config") {
        return Err(DocumentError::Both);
    }
    match &index.media_type {
        Some(t) if !media::is_index(t) => Err(DocumentError::Type(t.clone())),
        _ => Ok(index),
    }
}

/// Reads a config.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
    serde_json::from_slice(bytes).map_err(DocumentError::Json)
}

/// Checks that manifest and config speak of the same number of layers, all of types that can be unpacked.
pub fn check_layers(manifest: &Manifest, config: &ImageConfig) -> Result<(), DocumentError> {
    if let Some(layer) = manifest.layers.iter().find(|l| !is_layer(&l.media_type)) {
        return Err(DocumentError::LayerType(layer.media_type.clone()));
    }
    count(manifest.layers.len(), config)
}

/// Checks that there are as many layers as the config says.
pub(super) fn count(layers: usize, config: &ImageConfig) -> Result<(), DocumentError> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers == diff_ids { Ok(()) } else { Err(DocumentError::Layers { layers, diff_ids }) }
}

/// Whether a media type is that of a layer: a tar, not compressed or by gzip or zstd. The compression itself is found by magic.
pub fn is_layer(media_type: &str) -> bool {
    let tar = ["application/vnd.oci.image.layer.v1.", "application/vnd.oci.image.layer.nondistributable.v1."]
        .iter()
        .find_map(|p| media_type.strip_prefix(p));
    let docker =
        ["application/vnd.docker.image.rootfs.diff.", "application/vnd.docker.image.rootfs.foreign.diff."]
            .iter()
            .find_map(|p| media_type.strip_prefix(p));
    matches!(tar, Some("tar" | "tar+gzip" | "tar+zstd"))
        || matches!(docker, Some("tar" | "tar.gzip" | "tar.zstd"))
}

fn schema(version: u32) -> Result<(), DocumentError> {
    if version == 2 { Ok(()) } else { Err(DocumentError::Schema(version)) }
}
