//! Images made by hand, for tests.

use std::sync::Arc;

use analyse::Image;
use oci::index::Attrs;
use oci::types::{History, ImageConfig};
use oci::{Digest, Entry, Kind, LayerIndex};

pub(crate) fn entry(path: &[u8], kind: Kind) -> Entry {
    Entry { path: path.to_vec(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
}

/// A file of `size` bytes, whose content is told by a text.
pub(crate) fn file(path: &str, content: &str, size: u64) -> Entry {
    entry(path.as_bytes(), Kind::File { size, digest: Digest::of(content.as_bytes()) })
}

pub(crate) fn dir(path: &str) -> Entry {
    let mut e = entry(path.as_bytes(), Kind::Directory { opaque: false });
    e.attrs.mode = 0o755;
    e
}

pub(crate) fn opaque(path: &str) -> Entry {
    entry(path.as_bytes(), Kind::Directory { opaque: true })
}

pub(crate) fn symlink(path: &str, to: &str) -> Entry {
    entry(path.as_bytes(), Kind::Symlink { target: to.into() })
}

pub(crate) fn gone(path: &str) -> Entry {
    Entry::whiteout(path.as_bytes().to_vec())
}

pub(crate) fn layer(entries: Vec<Entry>) -> Arc<LayerIndex> {
    Arc::new(LayerIndex::from_entries(entries).unwrap())
}

/// An image whose layers were made by these instructions.
pub(crate) fn image(layers: &[Arc<LayerIndex>], instructions: &[&str]) -> Arc<Image> {
    try_image(layers, instructions).unwrap()
}

/// [`image`], if the layers fit on each other.
pub(crate) fn try_image(
    layers: &[Arc<LayerIndex>],
    instructions: &[&str],
) -> Result<Arc<Image>, analyse::LoadError> {
    let line = |i: &&str| History { created_by: Some((*i).to_owned()), ..History::default() };
    let mut config: ImageConfig = serde_json::from_str(
        r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#,
    )
    .unwrap();
    config.history = instructions.iter().map(line).collect();
    analyse::load::indexes::load("test", config, layers).map(Arc::new)
}
