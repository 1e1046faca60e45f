//! One path in two images: what it is in each, which layers have it, and how its text differs.

use oci::index::show;
use oci::tree::Node;
use oci::{Kind, Tree};
use serde::Serialize;

use super::files::{FileDiff, kind};
use super::{Side, Wanted, compare_trees, text};

/// Larger files are not compared as text, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// A path in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathSide {
    /// `file`, `directory` and so on.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// Digest of a file's bytes, or a link's target.
    pub content: Option<String>,
    /// Mode, as `0644`.
    pub mode: String,
    /// Owner and group, as `0:0`.
    pub owner: String,
    /// Numbers of the layers that have an entry for it, from 0, and what the entry is: `file`, `deleted` and so on.
    pub layers: Vec<(usize, &'static str)>,
}

/// A path in two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathDiff {
    /// The path.
    pub path: String,
    /// In the first image; none: it is not there.
    pub a: Option<PathSide>,
    /// In the second.
    pub b: Option<PathSide>,
    /// What is different at the path and below it.
    pub files: FileDiff,
    /// Unified difference of the contents, where both are text of at most 1 MiB.
    pub text: Option<String>,
    /// Why there is none, where the contents differ.
    pub no_text: Option<String>,
}

fn side(side: &Side, path: &[u8]) -> Option<PathSide> {
    let id = side.tree.lookup(path)?;
    let inode = side.tree.inode(id);
    let (size, content) = match &inode.node {
        Node::File { size, digest } => (Some(*size), Some(digest.to_string())),
        Node::Symlink(target) => (None, Some(String::from_utf8_lossy(target).into_owned())),
        _ => (None, None),
    };
    let word = |k: &Kind| match k {
        Kind::Directory { opaque: true } => "replaced directory",
        Kind::Directory { .. } => "directory",
        Kind::File { .. } => "file",
        Kind::HardLink { .. } => "hard link",
        Kind::Symlink { .. } => "symlink",
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => "device",
        Kind::Fifo => "fifo",
        Kind::Whiteout => "deleted",
    };
    let layers = side.layers.iter().enumerate();
    Some(PathSide {
        kind: kind(&inode.node),
        size,
        content,
        mode: format!("{:04o}", inode.attrs.mode),
        owner: format!("{}:{}", inode.attrs.uid, inode.attrs.gid),
        layers: layers.filter_map(|(n, l)| l.get(path).map(|e| (n, word(&e.kind)))).collect(),
    })
}

/// The text of a file; an empty one for a file that is not there.
fn read(side: &Side, path: &[u8]) -> Result<String, String> {
    let Some(id) = side.tree.lookup(path) else { return Ok(String::new()) };
    let Node::File { size, digest } = &side.tree.inode(id).node else {
        return Err("it is no regular file in both".to_owned());
    };
    if *size > MAX_TEXT {
        return Err(format!("{} is larger than 1 MiB in {}", show(path), side.name));
    }
    let bytes = side.content.read_all(digest, MAX_TEXT).map_err(|e| e.to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err("it is binary".to_owned()),
    }
}

/// A tree with nothing but what lies at a path.
fn below(tree: &Tree, path: &[u8]) -> Tree {
    let mut entries = Vec::new();
    if let Some(id) = tree.lookup(path) {
        let done: Result<(), std::convert::Infallible> = tree.walk(id, &mut |p, id| {
            entries.push(tree.inode(id).to_entry(p.to_vec()));
            Ok(oci::tree::Walk::Into)
        });
        let Ok(()) = done;
    }
    let layer = oci::LayerIndex::from_entries(entries).unwrap_or_default();
    Tree::from_layers([&layer]).unwrap_or_default()
}

/// Compares one path and what lies below it. The path is as written: no link is followed.
pub fn path_diff(a: &Side, b: &Side, path: &str, wanted: Wanted) -> PathDiff {
    let path = oci::tree::components(path.as_bytes()).collect::<Vec<_>>().join(&b'/');
    let is_file =
        |s: &Side| s.tree.lookup(&path).is_some_and(|id| matches!(s.tree.inode(id).node, Node::File { .. }));
    let digest = |p: &Option<PathSide>| p.as_ref().and_then(|p| p.content.clone());
    let (of_a, of_b) = (side(a, &path), side(b, &path));
    let (mut text, mut no_text) = (None, None);
    if (is_file(a) || is_file(b)) && digest(&of_a) != digest(&of_b) {
        let name = |there: &Option<PathSide>, s: &str| match there {
            Some(_) => format!("{s}/{}", String::from_utf8_lossy(&path)),
            None => "/dev/null".to_owned(),
        };
        match (read(a, &path), read(b, &path)) {
            (Ok(x), Ok(y)) => text = Some(text::unified(&x, &y, &name(&of_a, "a"), &name(&of_b, "b"))),
            (Err(why), _) | (_, Err(why)) => no_text = Some(why),
        }
    }
    // Layer numbers are those of the whole images.
    let mut files = compare_trees(&below(&a.tree, &path), &below(&b.tree, &path), wanted);
    for c in &mut files.entries {
        let layer = |s: &Side| {
            s.tree.lookup(c.path.trim_start_matches('/').as_bytes()).map(|id| s.tree.inode(id).layer)
        };
        c.layer_from = c.layer_from.and_then(|_| layer(a));
        c.layer_to = c.layer_to.and_then(|_| layer(b));
    }
    PathDiff { path: show(&path), a: of_a, b: of_b, files, text, no_text }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, side};
    use super::*;
    use oci::Entry;

    #[test]
    fn a_text_file_is_compared_line_by_line_with_its_layers() {
        let a = side("a", vec![("x", vec![file("d/f", "1\n"), file("d/g", "")])], &["1\n"]);
        let b = side(
            "b",
            vec![
                ("x", vec![file("d/f", "1\n")]),
                ("y", vec![Entry::whiteout(b"d/f".to_vec())]),
                ("z", vec![file("d/f", "2\n")]),
            ],
            &["2\n"],
        );
        let d = path_diff(&a, &b, "/d//f", Wanted::default());
        assert_eq!(d.text.as_deref(), Some("--- a/d/f\n+++ b/d/f\n@@ -1,1 +1,1 @@\n-1\n+2\n"));
        assert_eq!(d.b.unwrap().layers, [(0, "file"), (1, "deleted"), (2, "file")]);
        assert_eq!((d.files.entries.len(), d.files.entries[0].layer_to), (1, Some(2)));
        let d = path_diff(&a, &b, "d", Wanted::default());
        let paths: Vec<_> = d.files.entries.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["/d/f", "/d/g"]);
        assert_eq!(d.text, None);
    }

    #[test]
    fn what_cannot_be_shown_says_why() {
        let a = side("a", vec![("x", vec![file("bin", "\0a"), file("lost", "1")])], &["\0a"]);
        let b = side("b", vec![("x", vec![file("bin", "\0b"), file("lost", "2")])], &["\0b"]);
        assert_eq!(path_diff(&a, &b, "bin", Wanted::default()).no_text.as_deref(), Some("it is binary"));
        assert!(path_diff(&a, &b, "lost", Wanted::default()).no_text.unwrap().contains("no object"));
        let none = path_diff(&a, &b, "nowhere", Wanted::default());
        assert_eq!((none.a, none.b, none.text, none.no_text), (None, None, None, None));
    }
}
