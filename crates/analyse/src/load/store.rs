//! Images of the local store, from their layer indexes: no blob is opened.

use oci::Digest;
use oci::types::{ImageConfig, Manifest};
use store::{ImageRecord, Store};

use super::assemble::Head;
use super::{Assembly, LoadError, Raw};
use crate::image::{Image, Origin};

/// Largest config or manifest that is taken.
const MAX_DOCUMENT: u64 = 8 << 20;

/// Loads an image of the store. `name` is what it was asked for by.
pub fn load(store: &Store, record: &ImageRecord, name: &str) -> Result<Image, LoadError> {
    let config_bytes = store.read_blob(&record.id, MAX_DOCUMENT)?;
    let config: ImageConfig = document(&record.id, "image config", &config_bytes)?;
    let manifest = match record.manifest {
        Some(digest) if store.has_blob(&digest)? => {
            let bytes = store.read_blob(&digest, MAX_DOCUMENT)?;
            Some((digest, document::<Manifest>(&digest, "manifest", &bytes)?))
        }
        _ => None,
    };
    let mut assembly = Assembly::new(record.layers.len())?;
    for (n, id) in record.layers.iter().enumerate() {
        let diff_id = config.rootfs.diff_ids.get(n).copied();
        let own = manifest.as_ref().and_then(|(_, m)| m.layers.get(n));
        // The manifest's blob if the image came with one; else the smallest that the store has.
        let blobs = diff_id.map(|d| store.tar_blobs(&d)).transpose()?.unwrap_or_default();
        let blob = match own {
            Some(d) => Some((d.media_type.clone(), d.digest, d.size)),
            None => blobs.into_iter().min_by_key(|b| b.size).map(|b| (b.media_type, b.digest, b.size)),
        };
        let compression = blob.as_ref().map_or("", |(t, _, _)| compression(t));
        let raw = Raw {
            media_type: blob.as_ref().map(|b| b.0.clone()).unwrap_or_default(),
            compression,
            digest: blob.as_ref().map(|b| b.1),
            diff_id,
            packed: blob.as_ref().map(|b| b.2),
            index: store.layer(id)?,
            measured: None,
        };
        assembly.add(n, raw)?;
    }
    let head =
        Head { name: name.to_owned(), origin: Origin::Store, id: record.id, config, manifest, wanted: None };
    assembly.finish(head)
}

/// The compression that a media type speaks of.
fn compression(media_type: &str) -> &'static str {
    match media_type.rsplit(['+', '.']).next() {
        Some("gzip") => "gzip",
        Some("zstd") => "zstd",
        _ => "uncompressed",
    }
}

fn document<T: serde::de::DeserializeOwned>(
    digest: &Digest,
    kind: &'static str,
    bytes: &[u8],
) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|e| LoadError::Document {
        what: digest.to_string(),
        kind,
        why: e.to_string(),
    })
}
