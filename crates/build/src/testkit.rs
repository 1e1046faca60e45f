//! Small trees, written and read as text.
//!
//! [`tree`] makes one of `(path, what)` pairs. [`lines`] and [`layer_lines`] show one line for each name: `d/` is a directory, `f: text` a
//! file, `l -> to` a symbolic link, `b => a` a hard link, `p |` a pipe, `c c1:3` a device, `x gone` a whiteout, `d/ opaque`. What is not
//! usual follows in brackets: another mode than 755 (directories), 777 (symbolic links) or 644 (all else), another owner than 0:0, xattrs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use oci::compress::{Compression, Encoder};
use oci::content::MemoryContent;
use oci::index::Attrs;
use oci::types::ImageConfig;
use oci::{Digest, Entry, Kind, LayerIndex, Time, Tree};
use store::{Store, TarOrigin};

use crate::finish::Built;

/// What lies at a path of a test tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum N {
    Dir,
    File(&'static str),
    Link(&'static str),
    Hard(&'static str),
    Fifo,
    Char(u32, u32),
}
pub(crate) use N::{Char, Dir, Fifo, File, Hard, Link};

/// A path, what lies there, and a change of its attributes.
pub(crate) trait Row {
    fn entry(&self) -> Entry;
}

impl Row for (&str, N) {
    fn entry(&self) -> Entry {
        let kind = match self.1 {
            Dir => Kind::Directory { opaque: false },
            File(text) => Kind::File { size: text.len() as u64, digest: text_digest(text) },
            Link(to) => Kind::Symlink { target: to.into() },
            Hard(to) => Kind::HardLink { target: to.into() },
            Fifo => Kind::Fifo,
            Char(major, minor) => Kind::CharDevice { major, minor },
        };
        let mode = match self.1 {
            Dir => 0o755,
            Link(_) => 0o777,
            _ => 0o644,
        };
        Entry { path: self.0.into(), kind, attrs: Attrs { mode, ..Attrs::default() } }
    }
}

impl Row for (&str, N, u32) {
    fn entry(&self) -> Entry {
        let mut e = (self.0, self.1).entry();
        e.attrs.mode = self.2;
        e
    }
}

impl Row for (&str, N, u32, (u32, u32)) {
    fn entry(&self) -> Entry {
        let mut e = (self.0, self.1, self.2).entry();
        (e.attrs.uid, e.attrs.gid) = self.3;
        e
    }
}

static TEXTS: LazyLock<Mutex<HashMap<Digest, String>>> = LazyLock::new(Mutex::default);

/// The digest of a text, remembered so that a listing can show the text.
pub(crate) fn text_digest(text: &str) -> Digest {
    let digest = Digest::of(text.as_bytes());
    TEXTS.lock().unwrap().insert(digest, text.to_owned());
    digest
}

/// Every text that a test tree of this process has.
pub(crate) fn content() -> MemoryContent {
    let mut out = MemoryContent::default();
    for text in TEXTS.lock().unwrap().values() {
        out.add(text.as_bytes());
    }
    out
}

pub(crate) fn layer<R: Row>(rows: &[R]) -> LayerIndex {
    layer_of(rows.iter().map(Row::entry).collect())
}

pub(crate) fn layer_of(entries: Vec<Entry>) -> LayerIndex {
    LayerIndex::from_entries(entries).unwrap()
}

pub(crate) fn tree<R: Row>(rows: &[R]) -> Tree {
    tree_of(rows.iter().map(Row::entry).collect())
}

pub(crate) fn tree_of(entries: Vec<Entry>) -> Tree {
    Tree::from_layers([&layer_of(entries)]).unwrap()
}

fn line(e: &Entry) -> String {
    let path = String::from_utf8_lossy(&e.path);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (mut out, usual) = match &e.kind {
        Kind::Directory { opaque } => (format!("{path}/{}", if *opaque { " opaque" } else { "" }), 0o755),
        Kind::File { digest, size } => {
            let known = TEXTS.lock().unwrap().get(digest).cloned();
            (format!("{path}: {}", known.unwrap_or_else(|| format!("({size} bytes)"))), 0o644)
        }
        Kind::Symlink { target } => (format!("{path} -> {}", text(target)), 0o777),
        Kind::HardLink { target } => (format!("{path} => {}", text(target)), e.attrs.mode),
        Kind::Fifo => (format!("{path} |"), 0o644),
        Kind::CharDevice { major, minor } => (format!("{path} c{major}:{minor}"), 0o644),
        Kind::BlockDevice { major, minor } => (format!("{path} b{major}:{minor}"), 0o644),
        Kind::Whiteout => (format!("{path} gone"), 0),
    };
    let mut odd = Vec::new();
    if e.attrs.mode != usual {
        odd.push(format!("{:o}", e.attrs.mode));
    }
    if (e.attrs.uid, e.attrs.gid) != (0, 0) && !matches!(e.kind, Kind::HardLink { .. }) {
        odd.push(format!("{}:{}", e.attrs.uid, e.attrs.gid));
    }
    odd.extend(e.attrs.xattrs.iter().map(|(k, v)| format!("{}={}", text(k), text(v))));
    if !odd.is_empty() {
        out.push_str(&format!(" [{}]", odd.join(" ")));
    }
    out
}

/// The names of a layer.
pub(crate) fn layer_lines(layer: &LayerIndex) -> Vec<String> {
    layer.entries().iter().map(line).collect()
}

/// The names of a tree, without the root.
pub(crate) fn lines(tree: &Tree) -> Vec<String> {
    tree.flatten().iter().filter(|e| !e.path.is_empty()).map(line).collect()
}

/// A time that is not the default.
pub(crate) const SOME_TIME: Time = Time::from_secs(1_000_000_000);

/// Whether this is root; says so if not, because the test that asks is then skipped.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: it needs root\n");
    }
    root
}

/// What lies in a directory, as a tree's entries, without its own; hard links as in [`Tree::flatten`].
pub(crate) fn walk_dir(root: &Path) -> Vec<Entry> {
    let mut out = Vec::new();
    walk_below(root, b"", &mut HashMap::new(), &mut out);
    out.sort_by(|a, b| oci::index::compare(&a.path, &b.path));
    for e in &mut out {
        e.attrs.xattrs.sort();
    }
    layer_of(out).into_entries()
}

fn walk_below(root: &Path, rel: &[u8], first: &mut HashMap<(u64, u64), Vec<u8>>, out: &mut Vec<Entry>) {
    for entry in std::fs::read_dir(root.join(OsStr::from_bytes(rel))).unwrap() {
        let entry = entry.unwrap();
        let path = oci::index::join(rel, entry.file_name().as_bytes());
        let full = entry.path();
        let m = std::fs::symlink_metadata(&full).unwrap();
        let ft = m.file_type();
        let (major, minor) = (rustix::fs::major(m.rdev()), rustix::fs::minor(m.rdev()));
        let kind = match first.get(&(m.dev(), m.ino())) {
            Some(target) if !ft.is_dir() => Kind::HardLink { target: target.clone() },
            _ if ft.is_dir() => Kind::Directory { opaque: false },
            _ if ft.is_symlink() => Kind::Symlink {
                target: std::fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes(),
            },
            _ if ft.is_fifo() => Kind::Fifo,
            _ if ft.is_char_device() => Kind::CharDevice { major, minor },
            _ if ft.is_block_device() => Kind::BlockDevice { major, minor },
            _ if ft.is_file() => {
                let text = String::from_utf8(std::fs::read(&full).unwrap()).unwrap();
                Kind::File { size: text.len() as u64, digest: text_digest(&text) }
            }
            _ => continue,
        };
        if m.nlink() > 1 && !ft.is_dir() {
            first.entry((m.dev(), m.ino())).or_insert_with(|| path.clone());
        }
        let mut value = [0; 64];
        let cap = rustix::fs::lgetxattr(&full, "security.capability", &mut value[..]);
        let xattrs =
            cap.map(|n| (b"security.capability".to_vec(), value[..n].to_vec())).into_iter().collect();
        let mtime = Time { secs: m.mtime(), nanos: m.mtime_nsec() as u32 };
        let attrs = Attrs { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid(), mtime, xattrs };
        out.push(Entry { path: path.clone(), kind, attrs });
        if ft.is_dir() {
            walk_below(root, &path, first, out);
        }
    }
}

/// A layer's tar, and that compressed.
pub(crate) fn blob_of(layer: &LayerIndex) -> (Digest, Vec<u8>) {
    let mut tar = Vec::new();
    oci::tar::write_layer(layer, &content(), &mut tar).unwrap();
    (Digest::of(&tar), gzip(&tar))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), Compression::Gzip(6), 1).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image that we made, with its layers in the store.
pub(crate) fn built(store: &Store, layers: &[LayerIndex]) -> Built {
    let content = content();
    let batch = store.batch();
    let mut ids = Vec::new();
    for layer in layers {
        for (digest, size) in layer.objects() {
            batch.add_bytes(&oci::Content::read_all(&content, &digest, size).unwrap()).unwrap();
        }
        let id = batch.add_layer(layer).unwrap();
        let mut tar = Vec::new();
        oci::tar::write_layer(layer, &content, &mut tar).unwrap();
        let diff_id = Digest::of(&tar);
        batch.set_diff_id(&id, &diff_id, tar.len() as u64, TarOrigin::Written).unwrap();
        ids.push((id, diff_id));
    }
    batch.commit(Vec::new(), Vec::new()).unwrap();
    let config = config_of(ids.iter().map(|(_, d)| *d).collect());
    let config_bytes = serde_json::to_vec(&config).unwrap();
    Built { id: Digest::of(&config_bytes), config, config_bytes, layers: ids }
}

/// The config of an image with these layers.
pub(crate) fn config_of(diff_ids: Vec<Digest>) -> ImageConfig {
    let mut config =
        ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = diff_ids;
    config
}

/// How many objects, layers, blobs and images a store has.
pub(crate) fn inventory(store: &Store) -> [u64; 4] {
    store.flush().unwrap();
    let u = store.usage().unwrap();
    [u.objects.files, u.layers.files, u.blobs.files, store.images().unwrap().len() as u64]
}
