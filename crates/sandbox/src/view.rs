//! What a FUSE mount shows: a tree, or a directory or file of one, and the stubs that mount targets need.
//!
//! Inode numbers are those of the tree. Stubs get the numbers from [`Tree::len`] on; nothing that is learned of a stub counts as
//! an observation, except that looking one up shows that the tree lacks the name.

use std::fmt;
use std::sync::Arc;

use oci::tree::{Children, Id, Name, Node};
use oci::{Content, Time, Tree};

use crate::ids::Ids;

/// The size that every directory shows: the true one would depend on the file system, and change with unrelated names.
const DIRECTORY_SIZE: u64 = 4096;

/// What a stub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stub {
    Directory,
    File,
}

/// What stat(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    /// With the type bits.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Device number: major, minor.
    pub(crate) rdev: (u32, u32),
}

/// What a directory shows: names, sorted, with the inodes that they lead to.
#[derive(Debug, Clone)]
pub(crate) enum Names<'v> {
    /// What the tree says.
    Tree(Children<'v>),
    /// That and stubs.
    Merged(&'v [(Name, Id)]),
}

impl<'v> Names<'v> {
    /// Name and inode by their place in the list.
    pub(crate) fn get(&self, n: usize) -> Option<(&'v [u8], Id)> {
        match self {
            Names::Tree(children) => children.get(n),
            Names::Merged(names) => names.get(n).map(|(name, id)| (&**name, *id)),
        }
    }
}

impl<'v> Iterator for Names<'v> {
    type Item = (&'v [u8], Id);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Names::Tree(children) => children.next(),
            Names::Merged(names) => names.split_off_first().map(|(name, id)| (&**name, *id)),
        }
    }
}

/// A tree with stubs, and the inode that is its root.
pub(crate) struct View {
    tree: Arc<Tree>,
    content: Arc<dyn Content>,
    root: Id,
    stubs: Vec<Stub>,
    /// Directories that show something else than the tree says, by inode.
    merged: Vec<(Id, Vec<(Name, Id)>)>,
    /// Inodes that decided where mounts lie: the step has learned of them before it starts.
    decided: Vec<Id>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("root", &self.root).field("stubs", &self.stubs).finish_non_exhaustive()
    }
}

impl View {
    /// The directory `subpath` of a tree. A file gets a directory of its own, in which it has the name [`View::FILE`].
    pub(crate) fn new(tree: Arc<Tree>, content: Arc<dyn Content>, subpath: Id) -> View {
        let single = !tree.inode(subpath).is_dir();
        let mut view =
            View { tree, content, root: subpath, stubs: Vec::new(), merged: Vec::new(), decided: Vec::new() };
        if single {
            view.root = view.push(Stub::Directory);
            view.merged.push((view.root, vec![(View::FILE.into(), subpath)]));
        }
        view
    }

    /// Name of the only file of a view of a file.
    pub(crate) const FILE: &'static [u8] = b"file";

    fn push(&mut self, stub: Stub) -> Id {
        let id = self.limit();
        self.stubs.push(stub);
        id
    }

    fn limit(&self) -> Id {
        (self.tree.len() + self.stubs.len()) as Id
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    pub(crate) fn content(&self) -> &dyn Content {
        &*self.content
    }

    pub(crate) fn root(&self) -> Id {
        self.root
    }

    /// Notes that a mount lies where it does because of this inode.
    pub(crate) fn decides(&mut self, id: Id) {
        self.decided.push(id);
    }

    /// What the step has learned without asking: the attributes of the root (its overlay has them from us, not from the kernel's
    /// requests) and of the links that lead to mount targets.
    pub(crate) fn given(&self) -> impl Iterator<Item = Id> {
        self.decided.iter().copied().chain([self.root])
    }

    /// Whether `id` is an inode of the tree.
    pub(crate) fn is_real(&self, id: Id) -> bool {
        (id as usize) < self.tree.len()
    }

    /// Whether `id` is an inode at all.
    pub(crate) fn knows(&self, id: Id) -> bool {
        id < self.limit()
    }

    /// The tree's inode, if it is one.
    pub(crate) fn node(&self, id: Id) -> Option<&Node> {
        self.tree.get(id).map(|i| &i.node)
    }

    fn stub(&self, id: Id) -> Option<Stub> {
        self.stubs.get((id as usize).checked_sub(self.tree.len())?).copied()
    }

    pub(crate) fn is_dir(&self, id: Id) -> bool {
        match self.tree.get(id) {
            Some(inode) => inode.is_dir(),
            None => self.stub(id) == Some(Stub::Directory),
        }
    }

    /// Names in a directory, sorted; none for anything else.
    pub(crate) fn children(&self, dir: Id) -> Names<'_> {
        match self.merged_names(dir) {
            Some(names) => Names::Merged(names),
            None if self.is_real(dir) => Names::Tree(self.tree.children(dir)),
            None => Names::Merged(&[]),
        }
    }

    fn merged_names(&self, dir: Id) -> Option<&[(Name, Id)]> {
        let at = self.merged.binary_search_by_key(&dir, |(id, _)| *id).ok()?;
        Some(&self.merged[at].1)
    }

    /// The inode of a name in a directory.
    pub(crate) fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        match self.merged_names(dir) {
            Some(names) => names.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|at| names[at].1),
            None if self.is_real(dir) => self.tree.child(dir, name),
            None => None,
        }
    }

    /// Adds a stub; `dir` must be a directory that lacks the name.
    pub(crate) fn add_stub(&mut self, dir: Id, name: &[u8], stub: Stub) -> Id {
        let mut children: Vec<(Name, Id)> = self.children(dir).map(|(name, id)| (name.into(), id)).collect();
        let id = self.push(stub);
        let at = children.partition_point(|(n, _)| **n < *name);
        children.insert(at, (name.into(), id));
        match self.merged.binary_search_by_key(&dir, |(id, _)| *id) {
            Ok(at) => self.merged[at].1 = children,
            Err(at) => self.merged.insert(at, (dir, children)),
        }
        id
    }

    /// Directory of an inode's first name; for `..` in listings.
    pub(crate) fn parent(&self, id: Id) -> Id {
        match self.tree.get(id) {
            Some(inode) if id != self.root => inode.parent,
            _ => self.root,
        }
    }

    /// Upper bits of `st_mode`.
    pub(crate) fn file_type(&self, id: Id) -> u32 {
        match (self.tree.get(id), self.stub(id)) {
            (Some(inode), _) => inode.file_type(),
            (None, Some(Stub::Directory)) => 0o040000,
            _ => 0o100000,
        }
    }

    /// What stat(2) shows of an inode.
    pub(crate) fn attr(&self, id: Id) -> Attr {
        let Some(inode) = self.tree.get(id) else {
            let dir = self.is_dir(id);
            return Attr {
                size: if dir { DIRECTORY_SIZE } else { 0 },
                mtime: Time::default(),
                mode: if dir { 0o040755 } else { 0o100644 },
                nlink: 1,
                uid: 0,
                gid: 0,
                rdev: (0, 0),
            };
        };
        let (size, rdev) = match &inode.node {
            Node::Directory(_) => (DIRECTORY_SIZE, (0, 0)),
            Node::File { size, .. } => (*size, (0, 0)),
            Node::Symlink(target) => (target.len() as u64, (0, 0)),
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => (0, (*major, *minor)),
            Node::Fifo => (0, (0, 0)),
        };
        Attr {
            size,
            mtime: inode.attrs.mtime,
            mode: inode.file_type() | (inode.attrs.mode & 0o7777),
            nlink: if inode.is_dir() { 1 } else { inode.nlink.max(1) },
            // Whoever is shown somebody that is not mapped could neither change nor copy the file.
            uid: Ids::here().user(inode.attrs.uid),
            gid: Ids::here().group(inode.attrs.gid),
            rdev,
        }
    }
}

/// Whether an extended attribute is one by which overlayfs would take our files for its own.
pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::content::MemoryContent;
    use oci::index::{Attrs, Xattrs};
    use oci::tree::ROOT;
    use oci::{Digest, Entry, Kind, LayerIndex};

    fn tree() -> Arc<Tree> {
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
            attrs: Attrs {
                mode: 0o4751,
                uid: 3,
                gid: 4,
                mtime: Time { secs: 9, nanos: 1 },
                xattrs: Xattrs::new(),
            },
        };
        let layer = LayerIndex::from_entries(vec![
            entry("a", Kind::Directory { opaque: false }),
            entry("a/f", Kind::File { size: 7, digest: Digest::of(b"1234567") }),
            entry("a/g", Kind::HardLink { target: b"a/f".to_vec() }),
            entry("z", Kind::CharDevice { major: 5, minor: 300 }),
        ])
        .unwrap();
        Arc::new(Tree::from_layers([&layer]).unwrap())
    }

    fn view(subpath: &str) -> View {
        let tree = tree();
        let id = tree.lookup(subpath.as_bytes()).unwrap();
        View::new(tree, Arc::new(MemoryContent::default()), id)
    }

    #[test]
    fn stubs_stand_in_order_among_the_names_of_the_tree() {
        let mut v = view("");
        let m = v.add_stub(ROOT, b"m", Stub::Directory);
        let n = v.add_stub(m, b"n", Stub::File);
        let names: Vec<&[u8]> = v.children(ROOT).map(|(n, _)| n).collect();
        assert_eq!(names, [&b"a"[..], b"m", b"z"]);
        assert_eq!((v.child(ROOT, b"m"), v.child(m, b"n")), (Some(m), Some(n)));
        assert!(!v.is_real(m) && v.knows(n) && !v.knows(n + 1));
        assert!(v.is_dir(m) && !v.is_dir(n));
        assert_eq!((v.file_type(m), v.file_type(n)), (0o040000, 0o100000));
        assert!(v.tree().child(ROOT, b"m").is_none(), "the tree itself stays as it is");
    }

    #[test]
    fn a_file_is_shown_in_a_directory_of_its_own() {
        let v = view("a/f");
        assert!(!v.is_real(v.root()) && v.is_dir(v.root()));
        let f = v.child(v.root(), View::FILE).unwrap();
        assert_eq!(f, v.tree().lookup(b"a/f").unwrap());
    }

    #[test]
    fn attributes_are_those_of_the_index() {
        let v = view("a");
        assert_eq!((v.root(), v.parent(v.root())), (v.tree().lookup(b"a").unwrap(), v.root()));
        let dir = v.attr(v.root());
        assert_eq!((dir.size, dir.nlink, dir.mode), (4096, 1, 0o044751));
        let f = v.attr(v.child(v.root(), b"g").unwrap());
        assert_eq!((f.size, f.nlink, f.mode, f.uid, f.gid, f.mtime.nanos), (7, 2, 0o104751, 3, 4, 1));
        assert_eq!(v.attr(v.tree().lookup(b"z").unwrap()).rdev, (5, 300));
    }
}
