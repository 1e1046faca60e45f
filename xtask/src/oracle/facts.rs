//! What is compared of an image: files as they are merged, config, history.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci::compress::Decoder;
use oci::content::ContentSink;
use oci::digest::{Digest, Hasher, Hashing};
use oci::index::{Entry, Kind, show};
use oci::layout::{Choice, Layout};
use oci::platform::Platform;
use oci::tar::{Limits, read_layer};
use oci::tree::Tree;
use oci::types::ImageConfig;
use serde_json::Value;

use crate::sh::Result;

/// Facts by what they are about: `file /a`, `config Env`, `history 3`.
pub(super) type Facts = BTreeMap<String, String>;

/// Directories that every step has mounted, and files that builders write for steps.
const MOUNTED: &[&str] = &["/dev", "/proc", "/sys", "/etc/hosts", "/etc/resolv.conf"];

/// Reads the image of an archive. Blobs are checked against their digests, layers against the config's.
pub(super) fn read(tar: &Path) -> Result<Facts> {
    let about = |e: &dyn std::fmt::Display| format!("{}: {e}", tar.display());
    let file = File::open(tar).map_err(|e| about(&e))?;
    let layout = Layout::open_tar(file).map_err(|e| about(&e))?;
    let image = layout.resolve(Choice::Any, &Platform::host()).map_err(|e| about(&e))?;
    let mut tree = Tree::new();
    for layer in &image.layers {
        let decoder = layout.open_layer(layer).map_err(|e| about(&e))?;
        let mut stream = Hashing::new(Decoder::new(decoder).map_err(|e| about(&e))?);
        let index = read_layer(&mut stream, &mut OnlyDigests, &Limits::default()).map_err(|e| about(&e))?;
        let (_, digest, _) = stream.finish();
        if digest != layer.diff_id {
            return Err(about(&format!("a layer is {digest}, and the config says {}", layer.diff_id)));
        }
        tree.apply(&index).map_err(|e| about(&e))?;
    }
    let mut facts = Facts::new();
    files(&tree, &mut facts);
    config(&image.config, &mut facts)?;
    Ok(facts)
}

/// The files of a tree.
pub(super) fn files(tree: &Tree, facts: &mut Facts) {
    for entry in tree.flatten() {
        let path = show(&entry.path);
        let inside =
            |dir: &&str| path.strip_prefix(*dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // BuildKit's layers do not have the root, whatever was done to it.
        if path != "/" && !MOUNTED.iter().any(inside) {
            facts.insert(format!("file {path}"), file(&entry));
        }
    }
}

fn file(entry: &Entry) -> String {
    let what = match &entry.kind {
        // Its attributes are those of the first name.
        Kind::HardLink { target } => return format!("hard link to {}", show(target)),
        Kind::Directory { .. } => "directory".to_owned(),
        Kind::File { size, digest } => format!("file of {size} bytes, {}", digest.short()),
        Kind::Symlink { target } => format!("link to {:?}", String::from_utf8_lossy(target)),
        Kind::CharDevice { major, minor } => format!("character device {major}:{minor}"),
        Kind::BlockDevice { major, minor } => format!("block device {major}:{minor}"),
        Kind::Fifo => "named pipe".to_owned(),
        Kind::Whiteout => "whiteout".to_owned(),
    };
    let a = &entry.attrs;
    format!("{what}, mode {:04o}, owner {}:{}", a.mode, a.uid, a.gid)
}

/// What a config says, and its history, but for times.
pub(super) fn config(config: &ImageConfig, facts: &mut Facts) -> Result<()> {
    let mut put = |name: String, value: Option<&str>| {
        if let Some(value) = value {
            facts.insert(name, value.to_owned());
        }
    };
    put("config author".into(), config.author.as_deref());
    put("config platform".into(), Some(&config.platform().to_string()));
    let run = serde_json::to_value(&config.config).map_err(|e| format!("cannot write a config: {e}"))?;
    for (name, value) in run.as_object().into_iter().flatten().filter(|(_, v)| says_something(v)) {
        put(format!("config {name}"), Some(&value.to_string()));
    }
    for (n, line) in config.history.iter().enumerate() {
        let layer = if line.empty_layer { "no layer" } else { "a layer" };
        put(
            format!("history {n:02}"),
            Some(&format!("{layer}: {:?}", line.created_by.as_deref().unwrap_or_default())),
        );
    }
    Ok(())
}

/// Empty lists are written by one builder and left out by the other, and mean the same.
fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
}

/// Keeps nothing of the contents of files.
struct OnlyDigests;

impl ContentSink for OnlyDigests {
    fn add(&mut self, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new();
        io::copy(reader, &mut hasher)?;
        let size = hasher.bytes();
        Ok((hasher.finish(), size))
    }
}
