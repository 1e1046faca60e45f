//! Images that are run before they are here: their files are fetched when they are read.
//!
//! A layer that brings a table of contents ([`oci::toc`]) needs not be pulled: the table says what it holds, and where in the blob the bytes
//! of each file are. Layers that the store has are taken from there, and those without a table, or with one that cannot be used, are pulled as
//! ever; so any mixture makes one tree.
//!
//! # What is verified, and when
//!
//! The manifest by its digest, as ever; the table by its digest in the manifest, before it is used; each chunk of a file by its digest in
//! the table, before a byte of it is given to anybody; each file by its own digest, before it becomes an object of the store. What is *not* verified
//! are the diff ID and the digest of a layer that is not here as a whole: that its tar says the same as its table is the word of who made
//! it.
//!
//! # What is kept
//!
//! Files that came as a whole become objects, so the next run finds them. The image itself, its layers and its name do not get into the
//! store, whose layers are whole by rule; `prune` removes the objects unless another layer has them.

mod fetch;
mod source;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use oci::platform::Platform;
use oci::toc::{Announced, Toc, TocError};
use oci::types::{Descriptor, ImageConfig};
use oci::{Digest, LayerIndex, Reference, Tree};
use registry::{Client, RegistryError};
use store::Store;

use crate::bases::{Transfer, refs};
use crate::error::BuildError;
use crate::images::{LayerRef, MAX_CONTENT, MAX_LAYERS, TRANSFERS, chain_text, take_layer};
use crate::parallel::each;

pub use source::Lazy;

/// Chunks of all layers of an image: about a gigabyte of memory, and far more than any image in use has. What goes beyond is pulled.
const MAX_CHUNKS: u64 = 8_000_000;

/// An image that can be shown, and is not all here.
#[derive(Debug)]
pub struct LazyImage {
    /// Digest of its config.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its files.
    pub tree: Tree,
    /// The contents of its files.
    pub files: Lazy,
}

/// Where a layer is taken from.
enum Layer {
    Stored(Digest),
    Listed(Box<Toc>),
}

/// Opens an image of a registry. `None` if nothing of it can be left there: no layer has a table of contents, or all are in the store.
///
/// `told` hears of layers that have a table which cannot be used.
pub fn open(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    transfer: &Transfer<'_>,
    told: &(dyn Fn(String) + Sync),
) -> Result<Option<LazyImage>, BuildError> {
    let name = reference.familiar();
    let failed = |source| match source {
        RegistryError::Cancelled => BuildError::Interrupted,
        source => BuildError::Registry { name: name.clone(), source: Box::new(source) },
    };
    let image = client.resolve(reference, platform).map_err(failed)?;
    let id = image.manifest.config.digest;
    let descriptors = &image.manifest.layers;
    let announced: Vec<Option<Announced>> = descriptors.iter().map(Announced::of).collect();
    if announced.iter().all(Option::is_none) || store.image(&id)?.is_some() {
        return Ok(None);
    }
    let layers = refs(&name, descriptors, &image.config.rootfs.diff_ids)?;
    if layers.len() > MAX_LAYERS {
        let why = format!("it has {} layers, at most {MAX_LAYERS} are taken", layers.len());
        return Err(BuildError::Image { name, why });
    }
    let chunks = AtomicU64::new(MAX_CHUNKS);
    let room = AtomicU64::new(MAX_CONTENT);
    let get_layer = |n: usize| -> Result<Layer, BuildError> {
        let (layer, descriptor) = (&layers[n], &descriptors[n]);
        if let Some(layer) = stored(store, layer)? {
            return Ok(Layer::Stored(layer));
        }
        if let Some(announced) = &announced[n] {
            match list(client, reference, descriptor, announced, &chunks) {
                Ok(toc) => return Ok(Layer::Listed(Box::new(toc))),
                Err(Unlisted::Registry(RegistryError::Cancelled)) => return Err(BuildError::Interrupted),
                Err(e) => told(format!(
                    "layer {} is pulled as a whole: {}",
                    descriptor.digest.short(),
                    chain_text(&e)
                )),
            }
        }
        let open =
            || Ok(Box::new(client.blob(reference, descriptor).map_err(failed)?) as Box<dyn Read + Send>);
        let progress = |done, all| transfer(&descriptor.digest.short(), done, all);
        take_layer(store, &name, layer, &room, &open, &progress).map(Layer::Stored)
    };
    let found = each(layers.len(), TRANSFERS, &get_layer)?;
    if found.iter().all(|l| matches!(l, Layer::Stored(_))) {
        return Ok(None);
    }
    let mut tree = Tree::new();
    let mut listed = Vec::new();
    for (n, layer) in found.into_iter().enumerate() {
        let mut apply = |id: Digest, index: &LayerIndex| {
            tree.apply(index).map_err(|source| BuildError::Layer { layer: id, source })
        };
        match layer {
            Layer::Stored(id) => apply(id, &*store.layer(&id)?)?,
            Layer::Listed(mut toc) => {
                apply(descriptors[n].digest, &std::mem::take(&mut toc.index))?;
                listed.push((descriptors[n].clone(), *toc));
            }
        }
    }
    let parts = {
        let (client, reference) = (client.clone(), reference.clone());
        Box::new(move |layer: &Descriptor, part| {
            let reader = client.blob_part(&reference, layer, part).map_err(RegistryError::into_io)?;
            Ok(Box::new(reader) as Box<dyn Read>)
        })
    };
    let files = Lazy::new(store, listed, parts)?;
    Ok(Some(LazyImage { id, config: image.config, tree, files }))
}

/// The layer, if the store has it.
fn stored(store: &Store, layer: &LayerRef) -> Result<Option<Digest>, BuildError> {
    match store.layer_id_of_diff_id(&layer.diff_id)? {
        Some(id) if store.has_layer(&id)? => Ok(Some(id)),
        _ => Ok(None),
    }
}

/// Why a layer has no table that could be used.
#[derive(Debug, thiserror::Error)]
enum Unlisted {
    #[error(transparent)]
    Registry(RegistryError),
    #[error(transparent)]
    Toc(#[from] TocError),
    #[error("the image has more than {MAX_CHUNKS} parts of files")]
    Chunks,
}

fn list(
    client: &Client,
    reference: &Reference,
    layer: &Descriptor,
    announced: &Announced,
    chunks: &AtomicU64,
) -> Result<Toc, Unlisted> {
    let toc = announced.read::<Unlisted>(&mut |part| {
        let mut bytes = Vec::new();
        let mut reader = client.blob_part(reference, layer, part).map_err(Unlisted::Registry)?;
        reader.read_to_end(&mut bytes).map_err(|e| {
            let host = reference.registry.clone();
            Unlisted::Registry(
                RegistryError::from_io(e)
                    .unwrap_or_else(|source| RegistryError::Unreachable { host, source }),
            )
        })?;
        Ok(bytes)
    })?;
    let has: usize = toc.contents.iter().map(|c| c.chunks.len()).sum();
    let left = |left: u64| left.checked_sub(has as u64);
    chunks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).map_err(|_| Unlisted::Chunks)?;
    Ok(toc)
}
