//! What is different between two images: the merged files, the layers, the packages, the configs and the histories.
//!
//! Files are compared as the merged trees show them. Two files are the same if type, mode, owner, extended attributes, device
//! numbers, link target and content are; modification times count only if asked for, since hardly any two builds have the same ones.
//! A path that differs in its bytes (or target, or type) is *changed*; one that differs in anything else has *changed metadata*.
//! Which of them differ is said by name: `type`, `content`, `target`, `device`, `mode`, `owner`, `group`, `xattr NAME`, `mtime`.

mod config;
mod files;
mod layers;
mod path;
pub mod text;

use std::sync::Arc;

use oci::types::ImageConfig;
use oci::{Content, LayerIndex, Tree};
use serde::Serialize;

use crate::packages::{self, PackageChange, Problem};

pub use config::{ConfigChange, compare as compare_configs};
pub use files::{Amount, AttributeChange, Change, FileChange, FileDiff, compare_trees};
pub use layers::{HistoryLine, LayerChange, LayerDiff};
pub use path::{PathDiff, PathSide, path_diff};

/// Version of the JSON form of a [`Diff`].
pub const SCHEMA: u32 = 1;

/// One of two images.
#[derive(Clone)]
pub struct Side {
    /// What the user called it.
    pub name: String,
    /// The digest of its config, where it is known.
    pub id: String,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, base first.
    pub layers: Vec<Arc<LayerIndex>>,
    /// The layers, merged.
    pub tree: Arc<Tree>,
    /// The files' bytes; those that are not to be had are an error of that file only.
    pub content: Arc<dyn Content>,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is wanted of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Modification times count.
    pub times: bool,
}

/// An image, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What the user called it.
    pub name: String,
    /// The digest of its config.
    pub id: String,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of the files in all layers.
    pub bytes: u64,
    /// Bytes of the files that the merged tree shows, each inode once.
    pub live_bytes: u64,
}

/// Everything that is different.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The first image.
    pub a: Summary,
    /// The second.
    pub b: Summary,
    /// The merged trees.
    pub files: FileDiff,
    /// By layer.
    pub layers: LayerDiff,
    /// Packages that came, went, or have another version.
    pub packages: Vec<PackageChange>,
    /// Package databases that could not be read.
    pub problems: Vec<Problem>,
    /// Fields of the config.
    pub config: Vec<ConfigChange>,
}

impl Diff {
    /// Whether the images are the same to whoever runs them: files, packages, config. The cut into layers may be another one.
    pub fn is_empty(&self) -> bool {
        self.files.entries.is_empty() && self.packages.is_empty() && self.config.is_empty()
    }
}

fn summary(side: &Side) -> Summary {
    Summary {
        name: side.name.clone(),
        id: side.id.clone(),
        layers: side.layers.len(),
        bytes: side.layers.iter().map(|l| l.content_bytes()).sum(),
        live_bytes: files::live_bytes(&side.tree),
    }
}

/// Compares two images.
pub fn compare(a: &Side, b: &Side, wanted: Wanted) -> Diff {
    let installed_a = packages::installed(&a.tree, &*a.content);
    let installed_b = packages::installed(&b.tree, &*b.content);
    let mut problems = installed_a.problems;
    problems.extend(installed_b.problems.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>());
    Diff {
        schema: SCHEMA,
        a: summary(a),
        b: summary(b),
        files: compare_trees(&a.tree, &b.tree, wanted),
        layers: layers::compare(a, b, wanted),
        packages: packages::compare(&installed_a.packages, &installed_b.packages),
        problems,
        config: config::compare(&a.config, &b.config),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Images made of texts.

    use super::*;
    use oci::content::MemoryContent;
    use oci::index::Attrs;
    use oci::types::History;
    use oci::{Digest, Entry, Kind};

    pub(crate) fn file(path: &str, text: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
            attrs: Attrs { mode: 0o644, ..Attrs::default() },
        }
    }

    pub(crate) fn dir(path: &str) -> Entry {
        let kind = Kind::Directory { opaque: false };
        Entry { path: path.into(), kind, attrs: Attrs { mode: 0o755, ..Attrs::default() } }
    }

    pub(crate) fn link(path: &str, to: &str) -> Entry {
        let kind = Kind::Symlink { target: to.into() };
        Entry { path: path.into(), kind, attrs: Attrs { mode: 0o777, ..Attrs::default() } }
    }

    /// An image of layers with their history lines.
    pub(crate) fn side(name: &str, layers: Vec<(&str, Vec<Entry>)>, texts: &[&str]) -> Side {
        let mut content = MemoryContent::default();
        for t in texts {
            content.add(t.as_bytes());
        }
        let mut config = ImageConfig::default();
        let mut indexes = Vec::new();
        for (line, entries) in layers {
            config.history.push(History { created_by: Some(line.to_owned()), ..History::default() });
            indexes.push(Arc::new(LayerIndex::from_entries(entries).unwrap()));
        }
        let tree = Arc::new(Tree::from_layers(indexes.iter().map(|l| &**l)).unwrap());
        Side {
            name: name.into(),
            id: String::new(),
            config,
            layers: indexes,
            tree,
            content: Arc::new(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{file, side};
    use super::*;

    #[test]
    fn another_cut_into_layers_is_no_difference_of_the_images() {
        let a = side("a", vec![("RUN x", vec![file("x", "1"), file("y", "2")])], &[]);
        let b = side("b", vec![("RUN x", vec![file("x", "1")]), ("RUN y", vec![file("y", "2")])], &[]);
        let d = compare(&a, &b, Wanted::default());
        assert!(d.is_empty(), "{d:?}");
        assert_eq!((d.layers.shared, d.a.bytes, d.b.live_bytes), (0, 2, 2));
    }

    #[test]
    fn packages_are_read_and_compared() {
        let (old, new) = (
            "Package: p\nStatus: a b installed\nVersion: 1\n",
            "Package: p\nStatus: a b installed\nVersion: 2\n",
        );
        let a = side("a", vec![("FROM", vec![file("var/lib/dpkg/status", old)])], &[old]);
        let b = side("b", vec![("FROM", vec![file("var/lib/dpkg/status", new)])], &[new]);
        let d = compare(&a, &b, Wanted::default());
        assert_eq!(d.packages.len(), 1);
        assert_eq!((d.packages[0].from[0].as_str(), d.packages[0].to[0].as_str()), ("1", "2"));
        assert!(!d.is_empty());
    }
}
