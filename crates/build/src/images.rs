//! Images from elsewhere on their way into the store: layers unpacked to indexes and objects, blobs kept byte for byte.
//!
//! A layer is taken in one pass: the blob is written and hashed as it comes, decompressed, hashed again (diff ID), and read as a tar
//! whose file contents become objects. Nothing is visible before both digests fit. A layer whose diff ID the store knows,
//! together with a blob for it, is not read again.
//!
//! An image is somebody else's word. Beside the bounds of a layer (`oci::tar::Limits`, `oci::compress::Growth`) there are those of an image:
//! [`MAX_LAYERS`], [`MAX_CONTENT`] for the files of all its layers, and no blob is begun that is larger than the room on disk.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use oci::compress::Decoder;
use oci::digest::Hashing;
use oci::tar::Limits;
use oci::tar::read::read_layer;
use oci::types::{ImageConfig, media};
use oci::{Digest, Time};
use store::{ImageRecord, Store, TarOrigin};

use crate::error::BuildError;
use crate::parallel::each;

#[cfg(test)]
mod tests;

/// Largest config or manifest that is taken (BuildKit and containerd: 4 to 8 MiB).
pub const MAX_DOCUMENT: u64 = 8 << 20;

/// Layers that come at once.
pub(crate) const TRANSFERS: usize = 4;

/// Layers of an image: Docker takes 127.
pub const MAX_LAYERS: usize = 1000;

/// Bytes of the files of all layers of an image that are new to the store, uncompressed: what one layer may hold.
pub const MAX_CONTENT: u64 = 256 << 30;

/// A layer that an image names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob; none where the archive does not say (docker-save).
    pub digest: Option<Digest>,
    /// Size of the blob, where known.
    pub size: Option<u64>,
    /// Digest of the tar.
    pub diff_id: Digest,
}

/// An image to be taken.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The manifest as it came; none for docker-save archives.
    pub manifest: Option<&'a [u8]>,
    /// The config as it came.
    pub config: &'a [u8],
    /// Its layers, base first.
    pub layers: Vec<LayerRef>,
}

/// Who gives a layer's blob, by its number.
pub type Open<'a> = dyn Fn(usize) -> Result<Box<dyn Read + Send>, BuildError> + Sync + 'a;

/// Told how many bytes of a layer's blob have come: number, bytes so far, all bytes or 0.
pub type Progress<'a> = dyn Fn(usize, u64, u64) + Sync + 'a;

/// Takes an image: unknown layers in parallel, then config, manifest and the image's record. Durable after `Store::flush`.
pub fn take(
    store: &Store,
    image: &Incoming<'_>,
    open: &Open<'_>,
    progress: &Progress<'_>,
) -> Result<(ImageRecord, ImageConfig), BuildError> {
    let damaged = |why: String| BuildError::Image { name: image.name.to_owned(), why };
    let config: ImageConfig = serde_json::from_slice(image.config)
        .map_err(|e| damaged(format!("its config cannot be read ({e})")))?;
    if image.layers.len() > MAX_LAYERS {
        return Err(damaged(format!("it has {} layers, at most {MAX_LAYERS} are taken", image.layers.len())));
    }
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(damaged(format!(
            "the manifest names {} layers, the config {}",
            image.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    for (l, want) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        if l.diff_id != *want {
            return Err(damaged(format!("layer {} has diff ID {want} in the config", l.diff_id)));
        }
    }
    let room = AtomicU64::new(MAX_CONTENT);
    let layers = each(image.layers.len(), TRANSFERS, &|i| {
        let progress = |done, all| progress(i, done, all);
        take_layer(store, image.name, &image.layers[i], &room, &|| open(i), &progress)
    })?;
    // Layers that do not fit on each other are refused here, not in the middle of a build.
    let mut tree = oci::Tree::new();
    for id in &layers {
        crate::state::apply(store, &mut tree, id)?;
    }
    drop(tree);
    let batch = store.batch();
    let id = batch.add_blob(image.config)?;
    let manifest = image.manifest.map(|m| batch.add_blob(m)).transpose()?;
    let record = ImageRecord { id, manifest, layers, created: Time::now() };
    batch.put_image(&record)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok((record, config))
}

/// Copies what is read into a writer, and counts.
struct Tee<'a, R, W> {
    reader: R,
    writer: W,
    done: u64,
    all: u64,
    progress: &'a dyn Fn(u64, u64),
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.writer.write_all(&buf[..n])?;
        let before = self.done >> 18;
        self.done += n as u64;
        if self.done >> 18 != before || n == 0 {
            (self.progress)(self.done, self.all);
        }
        Ok(n)
    }
}

/// Takes one layer; gives its id.
pub(crate) fn take_layer(
    store: &Store,
    name: &str,
    layer: &LayerRef,
    room: &AtomicU64,
    open: &dyn Fn() -> Result<Box<dyn Read + Send>, BuildError>,
    progress: &dyn Fn(u64, u64),
) -> Result<Digest, BuildError> {
    if let Some(id) = store.layer_id_of_diff_id(&layer.diff_id)?
        && store.has_layer(&id)?
        && !store.tar_blobs(&layer.diff_id)?.is_empty()
    {
        return Ok(id);
    }
    let label = layer.digest.unwrap_or(layer.diff_id);
    let damaged =
        |why: String| BuildError::Image { name: name.to_owned(), why: format!("layer {label}: {why}") };
    let free = store.available()?;
    if let Some(size) = layer.size.filter(|&s| s > free) {
        return Err(damaged(format!("it has {size} bytes, and the store has room for {free}")));
    }
    let mut blob = store.blob_writer()?;
    let batch = store.batch();
    let mut sink = batch.sink();
    let failed = |e: io::Error| match registry::RegistryError::from_io(e) {
        Ok(source) => BuildError::Registry { name: name.to_owned(), source: Box::new(source) },
        Err(e) => damaged(e.to_string()),
    };
    let mut tee = Tee { reader: open()?, writer: &mut blob, done: 0, all: layer.size.unwrap_or(0), progress };
    let mut tar = Hashing::new(Decoder::new(&mut tee).map_err(failed)?);
    let limits = Limits { content: room.load(Ordering::Relaxed), ..Limits::default() };
    let index = read_layer(&mut tar, &mut sink, &limits).map_err(|e| damaged(chain_text(&e)))?;
    let _ = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        Some(left.saturating_sub(index.content_bytes()))
    });
    // The digests are over everything, also what follows the end of the archive.
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    let (decoder, diff_id, tar_size) = tar.finish();
    drop(decoder);
    io::copy(&mut tee, &mut io::sink()).map_err(failed)?;
    let got = tee.done;
    if diff_id != layer.diff_id {
        return Err(damaged(format!("its content has diff ID {diff_id}, the config says {}", layer.diff_id)));
    }
    if let Some(size) = layer.size.filter(|&s| s != got) {
        return Err(damaged(format!("it has {got} bytes, the manifest says {size}")));
    }
    let (digest, size) = blob.commit(layer.digest.as_ref())?;
    let id = batch.add_layer(&index)?;
    batch.set_diff_id(&id, &diff_id, tar_size, TarOrigin::Received)?;
    let media_type = if layer.media_type.is_empty() { media::LAYER } else { &layer.media_type };
    batch.add_tar_blob(&diff_id, media_type, &digest, size)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok(id)
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain_text(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        out.push_str(": ");
        out.push_str(&s.to_string());
        at = s.source();
    }
    out
}
