//! Layers in a few letters, and images of them.

use std::sync::Arc;

use analyse::{Image, load};
use oci::index::{Attrs, Entry, Kind};
use oci::types::{History, ImageConfig, RootFs};
use oci::{Digest, LayerIndex};

/// A megabyte, as the cases count.
pub(crate) const MB: u64 = 1_000_000;

/// Entries of a layer.
#[derive(Default)]
pub(crate) struct Layer(pub(crate) Vec<Entry>);

impl Layer {
    fn put(mut self, path: &str, kind: Kind, mode: u32) -> Layer {
        let attrs = match kind {
            Kind::Whiteout => Attrs::default(),
            _ => Attrs { mode, ..Attrs::default() },
        };
        self.0.push(Entry { path: path.as_bytes().to_vec(), kind, attrs });
        self
    }

    /// A file whose content is a name for it.
    pub(crate) fn file(self, path: &str, size: u64, content: &str) -> Layer {
        self.mode(path, size, content, 0o644)
    }

    pub(crate) fn mode(self, path: &str, size: u64, content: &str, mode: u32) -> Layer {
        let digest = Digest::of(format!("{content} {size}").as_bytes());
        self.put(path, Kind::File { size, digest }, mode)
    }

    pub(crate) fn dir(self, path: &str) -> Layer {
        self.put(path, Kind::Directory { opaque: false }, 0o755)
    }

    pub(crate) fn opaque(self, path: &str) -> Layer {
        self.put(path, Kind::Directory { opaque: true }, 0o755)
    }

    pub(crate) fn gone(self, path: &str) -> Layer {
        self.put(path, Kind::Whiteout, 0)
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Layer {
        self.put(path, Kind::HardLink { target: target.as_bytes().to_vec() }, 0o644)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Layer {
        self.put(path, Kind::Symlink { target: target.as_bytes().to_vec() }, 0o777)
    }
}

pub(crate) fn layer() -> Layer {
    Layer::default()
}

/// Indexes of layers.
pub(crate) fn indexes(layers: Vec<Layer>) -> Vec<Arc<LayerIndex>> {
    layers.into_iter().map(|l| Arc::new(LayerIndex::from_entries(l.0).unwrap())).collect()
}

/// A config with a line of history for every layer.
pub(crate) fn config(layers: usize) -> ImageConfig {
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        rootfs: RootFs {
            diff_ids: (0..layers).map(|n| Digest::of(format!("diff {n}").as_bytes())).collect(),
            ..RootFs::default()
        },
        history: (0..layers)
            .map(|n| History { created_by: Some(format!("RUN step {n}")), ..History::default() })
            .collect(),
        ..ImageConfig::default()
    }
}

/// An image of layers.
pub(crate) fn image(layers: Vec<Layer>) -> Image {
    let config = config(layers.len());
    load::indexes::load("test", config, &indexes(layers)).unwrap()
}
