//! What leaves the store: layers as blobs, manifests, directories and tars of an image's files.
//!
//! Layers that were pulled or loaded go out as the blobs that came; our own are compressed when they are first asked for, and
//! kept. Everything is deterministic: the same image and compression give the same bytes.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci::compress::{Compression, Encoder};
use oci::index::Attrs;
use oci::tar::{write_encoded, write_layer};
use oci::tree::{Children, Id, Node, ROOT};
use oci::types::{Descriptor, Manifest, Rest, media};
use oci::{Content, Digest, LayerIndex, Time, Tree};
use store::Store;

use crate::error::BuildError;
use crate::finish::Built;
use crate::images::chain_text;

#[cfg(test)]
mod tests;

/// How layers are compressed on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// For layers that have no blob yet.
    pub compression: Compression,
    /// Compress layers again that have a blob of another kind.
    pub force: bool,
    /// Docker's media types instead of OCI's.
    pub docker_types: bool,
}

impl Default for LayerOptions {
    fn default() -> LayerOptions {
        LayerOptions { compression: Compression::DEFAULT, force: false, docker_types: false }
    }
}

/// A manifest with its blobs, all in the store.
#[derive(Debug, Clone)]
pub struct Manifested {
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// The manifest's descriptor, with platform.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
}

fn kind(media_type: &str) -> &'static str {
    match media_type {
        media::LAYER_ZSTD => "zstd",
        media::LAYER | media::DOCKER_LAYER => "none",
        _ => "gzip",
    }
}

fn oci_type(media_type: &str) -> String {
    match media_type {
        media::DOCKER_LAYER_GZIP => media::LAYER_GZIP.to_owned(),
        media::DOCKER_LAYER => media::LAYER.to_owned(),
        t => t.to_owned(),
    }
}

fn docker_type(media_type: &str) -> String {
    match media_type {
        media::LAYER_GZIP => media::DOCKER_LAYER_GZIP.to_owned(),
        media::LAYER => media::DOCKER_LAYER.to_owned(),
        t => t.to_owned(),
    }
}

/// The blob of a layer: one that is there, or a new one.
pub fn layer_blob(
    store: &Store,
    layer: &Digest,
    diff_id: &Digest,
    options: &LayerOptions,
) -> Result<Descriptor, BuildError> {
    let wanted = options.compression.layer_media_type();
    let blobs = store.tar_blobs(diff_id)?;
    let fitting = blobs.iter().find(|b| kind(&b.media_type) == kind(wanted));
    let received = store.diff_id(layer)?.is_none_or(|(d, _)| d != *diff_id);
    let any = if options.force || !received { None } else { blobs.first() };
    if let Some(b) = fitting.or(any)
        && store.has_blob(&b.digest)?
    {
        let media_type =
            if options.docker_types { docker_type(&b.media_type) } else { oci_type(&b.media_type) };
        return Ok(Descriptor::new(&media_type, b.digest, b.size));
    }
    let damaged = |why: String| BuildError::Image { name: format!("layer {}", layer.short()), why };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let blob = store.blob_writer()?;
    let mut encoder = Encoder::new(blob, options.compression, threads).map_err(|e| damaged(e.to_string()))?;
    if received {
        // Only the blob that came has the bytes of this diff ID.
        let source = blobs.first().ok_or_else(|| damaged("its blob is not in the store".into()))?;
        let (file, _) = store.open_blob(&source.digest)?;
        let mut decoder = oci::compress::Decoder::new(file).map_err(|e| damaged(e.to_string()))?;
        io::copy(&mut decoder, &mut encoder).map_err(|e| damaged(e.to_string()))?;
    } else {
        let mut entries = store.layer_entries(layer)?;
        write_encoded(entries.encoded(), store, &mut encoder).map_err(|e| damaged(chain_text(&e)))?;
    }
    let blob = encoder.finish().map_err(|e| damaged(e.to_string()))?;
    let (digest, size) = blob.commit(None)?;
    store.add_tar_blob(diff_id, wanted, &digest, size)?;
    let media_type = if options.docker_types { docker_type(wanted) } else { wanted.to_owned() };
    Ok(Descriptor::new(&media_type, digest, size))
}

/// The manifest of an image; its config and layers are blobs of the store afterwards.
pub fn manifest(store: &Store, image: &Built, options: &LayerOptions) -> Result<Manifested, BuildError> {
    let mut layers = Vec::new();
    for (layer, diff_id) in &image.layers {
        layers.push(layer_blob(store, layer, diff_id, options)?);
    }
    let (media_type, config_type) = if options.docker_types {
        (media::DOCKER_MANIFEST, media::DOCKER_CONFIG)
    } else {
        (media::MANIFEST, media::CONFIG)
    };
    store.put_blob(&image.config_bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type.to_owned()),
        config: Descriptor::of(config_type, &image.config_bytes),
        layers,
        annotations: std::collections::BTreeMap::new(),
        rest: Rest::new(),
    };
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| BuildError::Image {
        name: image.id.short(),
        why: format!("its manifest cannot be written ({e})"),
    })?;
    store.put_blob(&bytes)?;
    let mut descriptor = Descriptor::of(media_type, &bytes);
    descriptor.platform = Some(image.config.platform());
    Ok(Manifested { bytes, descriptor, manifest })
}

/// The merged tree of an image.
pub fn tree(store: &Store, layers: &[Digest]) -> Result<Tree, BuildError> {
    let mut tree = Tree::new();
    for id in layers {
        crate::state::apply(store, &mut tree, id)?;
    }
    Ok(tree)
}

/// Writes the files of an image as one tar (`--output type=tar`, `export`).
pub fn tar(store: &Store, layers: &[Digest], out: impl Write) -> Result<(), BuildError> {
    tar_dated(store, layers, None, out)
}

/// [`tar`], with one time for everything.
pub fn tar_dated(
    store: &Store,
    layers: &[Digest],
    time: Option<Time>,
    out: impl Write,
) -> Result<(), BuildError> {
    let tree = dated(tree(store, layers)?, time)?;
    let flat = LayerIndex::from_entries(tree.flatten())
        .map_err(|e| BuildError::Copy(crate::copy::CopyError::Layer(e)))?;
    write_layer(&flat, store, out)
        .map_err(|e| BuildError::Image { name: "result".into(), why: chain_text(&e) })
}

/// As [`tar_dated`], for several images: each in a directory of its own.
pub fn tar_of_several(
    store: &Store,
    images: &[(String, Vec<Digest>, Option<Time>)],
    out: impl Write,
) -> Result<(), BuildError> {
    let mut entries = Vec::new();
    for (dir, layers, time) in images {
        let tree = dated(tree(store, layers)?, *time)?;
        for mut e in tree.flatten() {
            e.path = oci::index::join(dir.as_bytes(), &e.path);
            if let oci::Kind::HardLink { target } = &mut e.kind {
                *target = oci::index::join(dir.as_bytes(), target);
            }
            entries.push(e);
        }
    }
    let all =
        LayerIndex::from_entries(entries).map_err(|e| BuildError::Copy(crate::copy::CopyError::Layer(e)))?;
    write_layer(&all, store, out)
        .map_err(|e| BuildError::Image { name: "result".into(), why: chain_text(&e) })
}

/// Writes the files of an image into a directory (`--output type=local`).
pub fn local(store: &Store, layers: &[Digest], dest: &Path) -> Result<(), BuildError> {
    local_dated(store, layers, None, dest)
}

fn dated(tree: Tree, time: Option<Time>) -> Result<Tree, BuildError> {
    match time {
        Some(t) => crate::date::dated_tree(&tree, t),
        None => Ok(tree),
    }
}

/// [`local`], with one time for everything.
pub fn local_dated(
    store: &Store,
    layers: &[Digest],
    time: Option<Time>,
    dest: &Path,
) -> Result<(), BuildError> {
    std::fs::create_dir_all(dest).map_err(BuildError::io("create", dest))?;
    let tree = dated(tree(store, layers)?, time)?;
    write_tree(&tree, ROOT, store, dest)
}

/// Writes what lies below `start` into an existing directory.
///
/// No link is followed: a name that exists is replaced unless both are directories. Owners and xattrs are set as far as this
/// process may.
pub fn write_tree(tree: &Tree, start: Id, content: &dyn Content, dest: &Path) -> Result<(), BuildError> {
    /// A directory in the making. Not a frame of a recursion: an image may nest directories two thousand deep.
    struct Open<'t> {
        path: PathBuf,
        children: Children<'t>,
        /// Set when everything is in it: that changes its time, and it may be read-only.
        attrs: Option<&'t Attrs>,
    }
    let mut links: HashMap<Id, PathBuf> = HashMap::new();
    let mut way = vec![Open { path: dest.to_owned(), children: tree.children(start), attrs: None }];
    while let Some(dir) = way.last_mut() {
        let Some((name, id)) = dir.children.next() else {
            if let Some(Open { path, attrs: Some(attrs), .. }) = way.pop() {
                set_attrs(&path, attrs, false)?;
            }
            continue;
        };
        let path = dir.path.join(std::ffi::OsStr::from_bytes(name));
        let inode = tree.inode(id);
        let existing = std::fs::symlink_metadata(&path).ok();
        match (&existing, inode.is_dir()) {
            (Some(m), true) if m.is_dir() => {}
            (Some(m), _) if m.is_dir() => {
                std::fs::remove_dir_all(&path).map_err(BuildError::io("replace", &path))?
            }
            (Some(_), _) => std::fs::remove_file(&path).map_err(BuildError::io("replace", &path))?,
            (None, _) => {}
        }
        if !inode.is_dir() && inode.nlink > 1 {
            if let Some(first) = links.get(&id) {
                std::fs::hard_link(first, &path).map_err(BuildError::io("link", &path))?;
                continue;
            }
            links.insert(id, path.clone());
        }
        match &inode.node {
            Node::Directory(_) => {
                if existing.is_none_or(|m| !m.is_dir()) {
                    std::fs::create_dir(&path).map_err(BuildError::io("create", &path))?;
                }
                way.push(Open { path, children: tree.children(id), attrs: Some(&inode.attrs) });
                continue;
            }
            Node::File { digest, .. } => write_file(content, digest, &path)?,
            Node::Symlink(target) => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path)
                    .map_err(BuildError::io("create", &path))?;
            }
            Node::CharDevice(..) | Node::BlockDevice(..) | Node::Fifo => make_node(&inode.node, &path)?,
        }
        set_attrs(&path, &inode.attrs, matches!(inode.node, Node::Symlink(_)))?;
    }
    Ok(())
}

fn write_file(content: &dyn Content, digest: &Digest, path: &Path) -> Result<(), BuildError> {
    let mut out = std::fs::File::create_new(path).map_err(BuildError::io("create", path))?;
    let object = content.open(digest).map_err(BuildError::io("read the content of", path))?;
    let mut buf = vec![0u8; 256 << 10];
    let mut at = 0;
    loop {
        let n = object.read_at(&mut buf, at).map_err(BuildError::io("read the content of", path))?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buf[..n]).map_err(BuildError::io("write", path))?;
        at += n as u64;
    }
}

fn make_node(node: &Node, path: &Path) -> Result<(), BuildError> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let (kind, dev) = match node {
        Node::CharDevice(a, b) => (FileType::CharacterDevice, makedev(*a, *b)),
        Node::BlockDevice(a, b) => (FileType::BlockDevice, makedev(*a, *b)),
        _ => (FileType::Fifo, 0),
    };
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), dev)
        .map_err(|e| BuildError::io("create", path)(e.into()))
}

fn set_attrs(path: &Path, attrs: &Attrs, is_link: bool) -> Result<(), BuildError> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};
    let failed = |e: io::Error| BuildError::io("set the attributes of", path)(e);
    match std::os::unix::fs::lchown(path, Some(attrs.uid), Some(attrs.gid)) {
        // An ordinary user keeps what it may: its own name on everything.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        r => r.map_err(failed)?,
    }
    if !is_link {
        // After the owner: changing that clears set-id bits.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(attrs.mode)).map_err(failed)?;
    }
    for (name, value) in &attrs.xattrs {
        // What the file system or this user cannot hold is left out, as with `cp -a`.
        let _ = rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty());
    }
    let t = Timespec { tv_sec: attrs.mtime.secs, tv_nsec: attrs.mtime.nanos.into() };
    let times = Timestamps { last_access: t, last_modification: t };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))
}
