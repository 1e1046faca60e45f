//! Fills a new database with what the images tell: an image lists its layers, its config their diff IDs, its manifest the blobs,
//! all in the same order.

use std::io::Read;

use oci::Digest;
use oci::types::{ImageConfig, Manifest};
use serde::de::DeserializeOwned;

use super::{DbResult, Tx};
use crate::images::{self, ImageRecord};
use crate::layers::{TarBlob, TarOrigin};
use crate::paths::Key;
use crate::sys::Root;

/// Larger documents are no configs or manifests.
const MAX_DOCUMENT: u64 = 16 << 20;

/// Adds a row for each tar and blob of each image. What cannot be read is left out: it can be found again or made again.
pub(super) fn rebuild(tx: &Tx<'_>, root: &Root) -> DbResult<()> {
    for image in images::readable(root) {
        let Some(config) = document::<ImageConfig>(root, &image.id) else { continue };
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            continue;
        }
        for (diff_id, layer) in diff_ids.iter().zip(&image.layers) {
            tx.put_tar(diff_id, layer, None, TarOrigin::Received)?;
        }
        for (diff_id, blob) in diff_ids.iter().zip(blobs(root, &image)) {
            if root.exists(&Key::blob(&blob.digest).path()).unwrap_or(false) {
                tx.put_tar_blob(diff_id, &blob)?;
            }
        }
    }
    Ok(())
}

/// The blobs of an image's layers, base first; none if the manifest does not fit the image.
fn blobs(root: &Root, image: &ImageRecord) -> Vec<TarBlob> {
    let manifest = image.manifest.as_ref().and_then(|digest| document::<Manifest>(root, digest));
    let layers = manifest.map(|m| m.layers).unwrap_or_default();
    if layers.len() != image.layers.len() {
        return Vec::new();
    }
    layers.into_iter().map(|l| TarBlob { media_type: l.media_type, digest: l.digest, size: l.size }).collect()
}

fn document<T: DeserializeOwned>(root: &Root, digest: &Digest) -> Option<T> {
    let mut bytes = Vec::new();
    root.read(&Key::blob(digest).path()).ok()?.take(MAX_DOCUMENT).read_to_end(&mut bytes).ok()?;
    if Digest::of(&bytes) != *digest {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}
