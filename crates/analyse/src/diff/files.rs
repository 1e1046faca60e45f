//! Two merged trees, path by path.

use std::collections::HashSet;

use oci::index::{join, show};
use oci::tree::{Id, Inode, Node, ROOT};
use oci::{Time, Tree};
use serde::Serialize;

use super::Wanted;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second image has it.
    Added,
    /// Only the first one has it.
    Removed,
    /// Its bytes, its target or its type are others.
    Changed,
    /// Only its attributes are others.
    Metadata,
}

/// An attribute that is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttributeChange {
    /// Which, as the module above lists them.
    pub name: String,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

/// A path that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The path, absolute; what is no UTF-8 is replaced.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// `file`, `directory`, `symlink`, `device` or `fifo`; of the second image, if it is there.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes before; none where there is no file.
    pub size_from: Option<u64>,
    /// Bytes after.
    pub size_to: Option<u64>,
    /// What is different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeChange>,
    /// Number of the layer that it comes from in the first image, from 0.
    pub layer_from: Option<u32>,
    /// The same in the second image.
    pub layer_to: Option<u32>,
}

/// A number of paths and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Paths that are no directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the files; of changed ones, what they have now.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, change: &FileChange) {
        if change.kind == "directory" {
            self.directories += 1;
        } else {
            self.files += 1;
        }
        self.bytes += change.size_to.or(change.size_from).unwrap_or(0);
    }
}

/// All paths that are different, in order, with sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Sum of the added ones.
    pub added: Amount,
    /// Sum of the removed ones.
    pub removed: Amount,
    /// Sum of the changed ones.
    pub changed: Amount,
    /// Sum of those with other attributes only.
    pub metadata: Amount,
    /// Each.
    pub entries: Vec<FileChange>,
}

impl FileDiff {
    pub(super) fn push(&mut self, change: FileChange) {
        let sum = match change.change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Changed => &mut self.changed,
            Change::Metadata => &mut self.metadata,
        };
        sum.add(&change);
        self.entries.push(change);
    }
}

/// The word for an inode's type.
pub(super) fn kind(node: &Node) -> &'static str {
    match node {
        Node::Directory(_) => "directory",
        Node::File { .. } => "file",
        Node::Symlink(_) => "symlink",
        Node::CharDevice(..) | Node::BlockDevice(..) => "device",
        Node::Fifo => "fifo",
    }
}

fn size(node: &Node) -> Option<u64> {
    match node {
        Node::File { size, .. } => Some(*size),
        _ => None,
    }
}

/// Bytes of the files that a tree shows, each inode once.
pub(super) fn live_bytes(tree: &Tree) -> u64 {
    let mut seen = HashSet::new();
    let mut sum = 0;
    let mut todo = vec![ROOT];
    while let Some(dir) = todo.pop() {
        for (_, id) in tree.children(dir) {
            match &tree.inode(id).node {
                Node::Directory(_) => todo.push(id),
                node if seen.insert(id) => sum += size(node).unwrap_or(0),
                _ => {}
            }
        }
    }
    sum
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn time(t: Time) -> String {
    if t.nanos == 0 { t.rfc3339() } else { format!("{} +{} ns", t.rfc3339(), t.nanos) }
}

/// What is different between two inodes, and whether it is more than attributes.
fn differences(a: &Inode, b: &Inode, wanted: Wanted) -> (Vec<AttributeChange>, bool) {
    let mut out = Vec::new();
    let mut add = |name: &str, from: String, to: String| {
        out.push(AttributeChange { name: name.to_owned(), from, to });
    };
    let mut content = true;
    match (&a.node, &b.node) {
        (Node::Directory(_), Node::Directory(_)) => content = false,
        (Node::File { digest: x, .. }, Node::File { digest: y, .. }) if x != y => {
            add("content", x.to_string(), y.to_string());
        }
        (Node::Symlink(x), Node::Symlink(y)) if x != y => add("target", text(x), text(y)),
        (x, y) if kind(x) != kind(y) => add("type", kind(x).to_owned(), kind(y).to_owned()),
        (x, y) if x != y => {
            let show = |n: &Node| match n {
                Node::CharDevice(x, y) => format!("c {x}:{y}"),
                Node::BlockDevice(x, y) => format!("b {x}:{y}"),
                _ => kind(n).to_owned(),
            };
            add("device", show(x), show(y));
        }
        _ => content = false,
    }
    let (x, y) = (&a.attrs, &b.attrs);
    // The mode of a link means nothing.
    if x.mode != y.mode && !matches!((&a.node, &b.node), (Node::Symlink(_), Node::Symlink(_))) {
        add("mode", format!("{:04o}", x.mode), format!("{:04o}", y.mode));
    }
    if x.uid != y.uid {
        add("owner", x.uid.to_string(), y.uid.to_string());
    }
    if x.gid != y.gid {
        add("group", x.gid.to_string(), y.gid.to_string());
    }
    if x.xattrs != y.xattrs {
        let names: std::collections::BTreeSet<&Vec<u8>> =
            x.xattrs.iter().chain(&y.xattrs).map(|(n, _)| n).collect();
        let value = |all: &oci::index::Xattrs, name: &Vec<u8>| {
            let found = all.iter().find(|(n, _)| n == name);
            found.map_or_else(|| "none".to_owned(), |(_, v)| format!("{:?}", text(v)))
        };
        for name in names {
            let (from, to) = (value(&x.xattrs, name), value(&y.xattrs, name));
            if from != to {
                add(&format!("xattr {}", text(name)), from, to);
            }
        }
    }
    if wanted.times && x.mtime != y.mtime {
        add("mtime", time(x.mtime), time(y.mtime));
    }
    (out, content)
}

struct Walker<'t> {
    a: &'t Tree,
    b: &'t Tree,
    wanted: Wanted,
    out: FileDiff,
}

impl Walker<'_> {
    fn one(&mut self, path: &[u8], tree: &Tree, id: Id, change: Change) {
        let inode = tree.inode(id);
        let (bytes, layer) = (size(&inode.node), Some(inode.layer));
        let first = change == Change::Removed;
        self.out.push(FileChange {
            path: show(path),
            change,
            kind: kind(&inode.node),
            size_from: bytes.filter(|_| first),
            size_to: bytes.filter(|_| !first),
            attributes: Vec::new(),
            layer_from: layer.filter(|_| first),
            layer_to: layer.filter(|_| !first),
        });
        for (name, child) in tree.children(id) {
            self.one(&join(path, name), tree, child, change);
        }
    }

    fn both(&mut self, path: &[u8], x: Id, y: Id) {
        let (a, b) = (self.a, self.b);
        let (i, j) = (a.inode(x), b.inode(y));
        let (attributes, content) = differences(i, j, self.wanted);
        if !attributes.is_empty() {
            self.out.push(FileChange {
                path: show(path),
                change: if content { Change::Changed } else { Change::Metadata },
                kind: kind(&j.node),
                size_from: size(&i.node),
                size_to: size(&j.node),
                attributes,
                layer_from: Some(i.layer),
                layer_to: Some(j.layer),
            });
        }
        let (mut left, mut right) = (a.children(x).peekable(), b.children(y).peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(l), Some(r)) => l.0.cmp(r.0),
            };
            let l = if order.is_le() { left.next() } else { None };
            let r = if order.is_ge() { right.next() } else { None };
            match (l, r) {
                (Some((name, l)), Some((_, r))) => self.both(&join(path, name), l, r),
                (Some((name, l)), None) => self.one(&join(path, name), a, l, Change::Removed),
                (None, Some((name, r))) => self.one(&join(path, name), b, r, Change::Added),
                (None, None) => return,
            }
        }
    }
}

/// Compares two trees. What lies below an added or removed directory is listed, too.
pub fn compare_trees(a: &Tree, b: &Tree, wanted: Wanted) -> FileDiff {
    let mut walker = Walker { a, b, wanted, out: FileDiff::default() };
    walker.both(b"", ROOT, ROOT);
    walker.out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dir, file, link};
    use super::*;
    use oci::{Entry, LayerIndex};

    fn tree(entries: Vec<Entry>) -> Tree {
        Tree::from_layers([&LayerIndex::from_entries(entries).unwrap()]).unwrap()
    }

    fn found(a: Vec<Entry>, b: Vec<Entry>, wanted: Wanted) -> Vec<(String, Change, String)> {
        let attributes =
            |c: &FileChange| c.attributes.iter().map(|a| a.name.clone()).collect::<Vec<_>>().join(",");
        let diff = compare_trees(&tree(a), &tree(b), wanted);
        diff.entries.iter().map(|c| (c.path.clone(), c.change, attributes(c))).collect()
    }

    fn row(path: &str, change: Change, attributes: &str) -> (String, Change, String) {
        (path.to_owned(), change, attributes.to_owned())
    }

    #[test]
    fn every_attribute_is_named() {
        let with = |change: &dyn Fn(&mut Entry)| {
            let mut e = file("f", "x");
            change(&mut e);
            found(vec![file("f", "x")], vec![e], Wanted { times: true })
        };
        assert_eq!(with(&|_| {}), []);
        assert_eq!(with(&|e| e.attrs.mode = 0o755), [row("/f", Change::Metadata, "mode")]);
        assert_eq!(with(&|e| e.attrs.uid = 1), [row("/f", Change::Metadata, "owner")]);
        assert_eq!(with(&|e| e.attrs.gid = 1), [row("/f", Change::Metadata, "group")]);
        assert_eq!(with(&|e| e.attrs.mtime = Time::from_secs(9)), [row("/f", Change::Metadata, "mtime")]);
        assert_eq!(
            with(&|e| e.attrs.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())].into()),
            [row("/f", Change::Metadata, "xattr user.a")]
        );
        assert_eq!(with(&|e| *e = file("f", "y")), [row("/f", Change::Changed, "content")]);
        assert_eq!(with(&|e| *e = link("f", "y")), [row("/f", Change::Changed, "type,mode")]);
        assert_eq!(
            found(vec![link("l", "a")], vec![link("l", "b")], Wanted::default()),
            [row("/l", Change::Changed, "target")]
        );
    }

    #[test]
    fn times_count_only_if_asked_for() {
        let mut e = file("f", "x");
        e.attrs.mtime = Time::from_secs(9);
        assert_eq!(found(vec![file("f", "x")], vec![e], Wanted::default()), []);
    }

    #[test]
    fn whole_directories_come_and_go_and_turn_into_files() {
        let a = vec![dir("gone"), file("gone/f", "12"), file("stays", ""), dir("turns"), file("turns/f", "")];
        let b = vec![dir("comes"), file("comes/f", "123"), file("stays", ""), file("turns", "1")];
        assert_eq!(
            found(a.clone(), b.clone(), Wanted::default()),
            [
                row("/comes", Change::Added, ""),
                row("/comes/f", Change::Added, ""),
                row("/gone", Change::Removed, ""),
                row("/gone/f", Change::Removed, ""),
                row("/turns", Change::Changed, "type,mode"),
                row("/turns/f", Change::Removed, ""),
            ]
        );
        let d = compare_trees(&tree(a), &tree(b), Wanted::default());
        assert_eq!(d.added, Amount { files: 1, directories: 1, bytes: 3 });
        assert_eq!(d.removed, Amount { files: 2, directories: 1, bytes: 2 });
        assert_eq!(d.changed, Amount { files: 1, directories: 0, bytes: 1 });
    }
}
