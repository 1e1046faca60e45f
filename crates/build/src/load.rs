//! Images in files: OCI layouts (directories and tars) and docker-save archives, compressed or not, into the store and out of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use oci::compress::Decoder;
use oci::layout::{
    Choice, ImageToWrite, Layout, LayoutError, ResolvedImage, Source, WriteOptions, write_docker_archive,
    write_oci_archive, write_oci_directory,
};
use oci::platform::Platform;
use oci::types::{Descriptor, ImageConfig};
use oci::{Digest, Reference};
use store::{ImageRecord, Store};

use crate::bases::Transfer;
use crate::error::BuildError;
use crate::export::Manifested;
use crate::finish::Built;
use crate::images::{Incoming, LayerRef, chain_text, take};

#[cfg(test)]
mod tests;

fn bad(name: &str) -> impl Fn(LayoutError) -> BuildError + '_ {
    move |e| BuildError::Image { name: name.to_owned(), why: chain_text(&e) }
}

/// Opens a layout: a directory, or a tar.
pub fn open(store: &Store, path: &Path) -> Result<Layout, BuildError> {
    let label = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(BuildError::io("read", path))?;
    if meta.is_dir() {
        return Layout::open_dir(path).map_err(bad(&label));
    }
    let file = File::open(path).map_err(BuildError::io("read", path))?;
    open_archive(store, &label, file)
}

/// Opens an archive that may be compressed or a pipe: such ones go through an unnamed file of the store's, since members are read by
/// place.
pub fn open_archive(store: &Store, label: &str, mut file: File) -> Result<Layout, BuildError> {
    let failed = |e: io::Error| BuildError::Image { name: label.to_owned(), why: e.to_string() };
    if file.stream_position().is_ok() {
        match Layout::open_tar(file.try_clone().map_err(failed)?) {
            Err(LayoutError::Compressed(_)) => {}
            other => return other.map_err(bad(label)),
        }
        file.rewind().map_err(failed)?;
    }
    open_stream(store, label, file)
}

/// Opens an archive that comes in a stream, compressed or not, by way of an unnamed file of the store's.
pub fn open_stream(store: &Store, label: &str, reader: impl Read) -> Result<Layout, BuildError> {
    let failed = |e: io::Error| BuildError::Image { name: label.to_owned(), why: e.to_string() };
    let mut decoder = Decoder::new(reader).map_err(failed)?;
    let mut plain = store::Holes::new(unnamed_file(store)?);
    io::copy(&mut decoder, &mut plain).map_err(failed)?;
    let mut plain = plain.finish().map_err(failed)?;
    plain.rewind().map_err(failed)?;
    Layout::open_tar(plain).map_err(bad(label))
}

/// A file whose name is gone when this returns.
fn unnamed_file(store: &Store) -> Result<File, BuildError> {
    let scratch = store.scratch()?;
    let path = scratch.path().join("archive");
    let options = File::options().read(true).write(true).create_new(true).open(&path);
    options.map_err(BuildError::io("create", &path))
}

/// The image of a layout that `selector` (a tag, a name or a digest; none: the only one) means.
pub fn choose(
    layout: &Layout,
    name: &str,
    selector: Option<&str>,
    platform: &Platform,
) -> Result<ResolvedImage, BuildError> {
    let choice = match selector {
        None => Choice::Any,
        Some(s) => match s.parse::<Digest>() {
            Ok(d) => Choice::Digest(d),
            Err(_) => Choice::Name(s),
        },
    };
    layout.resolve(choice, platform).map_err(bad(name))
}

/// Takes an image of a layout into the store.
pub fn take_resolved(
    store: &Store,
    name: &str,
    layout: &Layout,
    image: &ResolvedImage,
    transfer: &Transfer<'_>,
) -> Result<(ImageRecord, ImageConfig), BuildError> {
    let layers = image
        .layers
        .iter()
        .map(|l| match &l.source {
            Source::Blob(d) => LayerRef {
                media_type: d.media_type.clone(),
                digest: Some(d.digest),
                size: Some(d.size),
                diff_id: l.diff_id,
            },
            Source::File { size, .. } => {
                LayerRef { media_type: String::new(), digest: None, size: Some(*size), diff_id: l.diff_id }
            }
        })
        .collect();
    let manifest = image.manifest.as_ref().map(|(_, bytes, _)| bytes.as_slice());
    let incoming = Incoming { name, manifest, config: &image.config_bytes, layers };
    let label = |i: usize| image.layers[i].diff_id.short();
    take(store, &incoming, &|i| layout.open_layer(&image.layers[i]).map_err(bad(name)), &|i, done, all| {
        transfer(&label(i), done, all)
    })
}

/// Which kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// An OCI layout.
    Oci,
    /// What `docker load` takes (an OCI layout as well).
    Docker,
}

/// An image, or an index of images, on its way into an archive.
#[derive(Debug, Clone)]
pub struct Outgoing(ImageToWrite);

impl Outgoing {
    /// A built image with its manifest.
    pub fn new(image: &Built, manifest: Manifested, names: Vec<Reference>) -> Outgoing {
        Outgoing(ImageToWrite {
            media_type: manifest.descriptor.media_type,
            bytes: manifest.bytes,
            platform: manifest.descriptor.platform,
            names,
            created: image.config.created.clone(),
            annotations: BTreeMap::new(),
            documents: vec![image.config_bytes.clone()],
        })
    }

    /// The digest of its manifest or index.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0.bytes)
    }

    /// An index; `documents` are the manifests that it names, and their configs.
    pub fn index(
        index: &Descriptor,
        bytes: Vec<u8>,
        documents: Vec<Vec<u8>>,
        created: Option<String>,
        names: Vec<Reference>,
    ) -> Outgoing {
        Outgoing(ImageToWrite {
            media_type: index.media_type.clone(),
            bytes,
            platform: None,
            names,
            created,
            annotations: BTreeMap::new(),
            documents,
        })
    }
}

fn to_write(images: &[Outgoing]) -> Vec<ImageToWrite> {
    images.iter().map(|i| i.0.clone()).collect()
}

/// Writes images whose blobs are in the store as one archive.
pub fn save(
    store: &Store,
    images: &[Outgoing],
    kind: ArchiveKind,
    out: impl Write,
) -> Result<(), BuildError> {
    let blobs = |d: &Descriptor| blob(store, d);
    let images = to_write(images);
    let options = WriteOptions::default();
    match kind {
        ArchiveKind::Oci => write_oci_archive(out, &images, &blobs, &options),
        ArchiveKind::Docker => write_docker_archive(out, &images, &blobs, &options),
    }
    .map_err(bad("archive"))
}

/// Writes images whose blobs are in the store into an OCI layout directory.
pub fn save_directory(store: &Store, images: &[Outgoing], path: &Path) -> Result<(), BuildError> {
    write_oci_directory(path, &to_write(images), &|d| blob(store, d)).map_err(bad("layout"))
}

fn blob(store: &Store, d: &Descriptor) -> io::Result<Box<dyn Read>> {
    let (file, _) = store.open_blob(&d.digest)?;
    Ok(Box::new(file))
}
