//! The merged view of a stack of layer indexes.
//!
//! A tree is a list of inodes; directories name their children, hard links are two names of one inode, and every inode knows the
//! layer that it came from. Applying a layer follows the OCI layer specification: whiteouts and opaque markers hide what lies
//! *below* the layer, never what it brings itself; a directory over a directory keeps the content and takes the new attributes;
//! anything else replaces what was there. An entry below a symbolic link of the image lands where the link leads *inside the
//! image*, as unpacking in a root directory would put it.
//!
//! A tree has at most [`MAX_INODES`] inodes, at most [`MAX_UNNAMED`] of them directories that no entry names, and no path that is longer
//! than an index holds: links would make directories of any depth.
//!
//! A layer costs what it has and what its directories had, however its names lie among theirs: a name that replaces another takes its place,
//! and those that come between others are put in together at the end.
//!
//! Inodes are shared between a tree and the trees made from it, so one more layer costs what the layer changes.
//!
//! An image may have millions of files: an inode has its first name in it, and a directory lists numbers, by which names are found.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use crate::digest::Digest;
use crate::index::{
    Attrs, Entries, Entry, IndexError, Kind, LayerIndex, Listed, MAX_PATH, check_path, join, show, split,
};

pub use self::inodes::{Children, Listing};
use self::inodes::{Further, Inodes, MAX_FURTHER, Slot};
pub use self::name::Name;

mod apply;
mod inodes;
mod name;
#[cfg(test)]
mod tests;

/// Number of an inode in its tree.
pub type Id = u32;

/// The root directory.
pub const ROOT: Id = 0;

/// How the names of the extended attributes begin that hold access control lists.
pub const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// Inodes of a tree: more than any image in use has. A layer of 100 KB can name paths whose directories would fill the memory.
pub const MAX_INODES: usize = if cfg!(test) { 60_000 } else { 6_000_000 };

/// Directories that no entry names: some tools leave them out, but each has files then. Of a layer of 70 KB they would take gigabytes.
pub const MAX_UNNAMED: usize = if cfg!(test) { 40_000 } else { 500_000 };

/// Links that a resolution follows at most (Linux: 40).
const MAX_LINKS: usize = 40;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory. What is in it, the tree says: [`Tree::children`].
    Directory(Listing),
    /// A regular file.
    File {
        /// Number of bytes.
        size: u64,
        /// Digest of the bytes.
        digest: Digest,
    },
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

impl Node {
    /// What an entry makes, if it makes an inode of its own; a hard link and a whiteout come back.
    fn of(kind: Kind) -> Result<Node, Kind> {
        Ok(match kind {
            Kind::Directory { .. } => Node::Directory(Listing::default()),
            Kind::File { size, digest } => Node::File { size, digest },
            Kind::Symlink { target } => Node::Symlink(target),
            Kind::CharDevice { major, minor } => Node::CharDevice(major, minor),
            Kind::BlockDevice { major, minor } => Node::BlockDevice(major, minor),
            Kind::Fifo => Node::Fifo,
            Kind::HardLink { .. } | Kind::Whiteout => return Err(kind),
        })
    }
}

/// One inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub node: Node,
    /// Mode, owner, time, xattrs.
    pub attrs: Attrs,
    /// Number of names; 1 for directories.
    pub nlink: u32,
    /// Number of the layer (0 is the base) that the inode's current state came from.
    pub layer: u32,
    /// Directory of the first name.
    pub parent: Id,
    /// The first name.
    pub name: Name,
}

impl Inode {
    /// The type as the upper bits of `st_mode`.
    pub fn file_type(&self) -> u32 {
        match self.node {
            Node::Directory(_) => 0o040000,
            Node::File { .. } => 0o100000,
            Node::Symlink(_) => 0o120000,
            Node::CharDevice(..) => 0o020000,
            Node::BlockDevice(..) => 0o060000,
            Node::Fifo => 0o010000,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    /// The entry that describes this inode at `path`; a directory comes without its content.
    pub fn to_entry(&self, path: Vec<u8>) -> Entry {
        let kind = match &self.node {
            Node::Directory(_) => Kind::Directory { opaque: false },
            Node::File { size, digest } => Kind::File { size: *size, digest: *digest },
            Node::Symlink(target) => Kind::Symlink { target: target.clone() },
            Node::CharDevice(major, minor) => Kind::CharDevice { major: *major, minor: *minor },
            Node::BlockDevice(major, minor) => Kind::BlockDevice { major: *major, minor: *minor },
            Node::Fifo => Kind::Fifo,
        };
        Entry { path, kind, attrs: self.attrs.clone() }
    }
}

/// Why a layer does not fit on a tree, or a path leads nowhere.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// A hard link's target is in no layer.
    #[error("hard link {link:?} leads to {target:?}, which is not in the image")]
    MissingTarget {
        /// Path of the link.
        link: String,
        /// Path that it leads to.
        target: String,
    },
    /// A hard link's target is a directory.
    #[error("hard link {link:?} leads to the directory {target:?}")]
    DirectoryTarget {
        /// Path of the link.
        link: String,
        /// Path that it leads to.
        target: String,
    },
    /// An entry lies below something that is no directory.
    #[error("{0:?} lies below something that is no directory")]
    NotADirectory(String),
    /// Too many symbolic links on the way.
    #[error("{0:?} leads through too many symbolic links")]
    Loop(String),
    /// Where links lead is too deep.
    #[error("{0:?} leads through symbolic links to a path of more than {MAX_PATH} bytes")]
    TooLong(String),
    /// [`MAX_INODES`].
    #[error("the image has more than {MAX_INODES} files and directories")]
    TooMany,
    /// [`MAX_UNNAMED`].
    #[error("the image has more than {MAX_UNNAMED} directories that no entry of a layer names")]
    TooManyUnnamed,
    /// An entry that no layer may hold, or not there.
    #[error(transparent)]
    Entry(#[from] IndexError),
}

/// Where a path leads: the deepest existing inode and what is left below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The deepest inode that exists.
    pub id: Id,
    /// Path of `id`, links resolved.
    pub path: Vec<u8>,
    /// Components that do not exist below `id`; empty if the whole path exists.
    pub rest: Vec<Vec<u8>>,
}

impl Place {
    /// The whole resolved path.
    pub fn full_path(&self) -> Vec<u8> {
        self.rest.iter().fold(self.path.clone(), |p, c| join(&p, c))
    }

    /// Whether everything exists.
    pub fn exists(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Layers, merged.
#[derive(Debug, Clone)]
pub struct Tree {
    inodes: Inodes,
    further: Further,
    layers: u32,
    has_xattrs: bool,
    has_acls: bool,
    /// Files whose first name is gone while others are left. Empty but while a layer is applied: finding the others takes a walk, which is
    /// made once for all.
    nameless: Vec<Id>,
    /// Names of directories that come before others which are there already. Empty but while a layer is applied.
    between: HashMap<Id, BTreeMap<Name, Slot>>,
    /// Directories that were made without an entry.
    unnamed: usize,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// A root directory (mode 0755, owner 0:0) and nothing in it.
    pub fn new() -> Tree {
        let root = Inode {
            node: Node::Directory(Listing::default()),
            attrs: Attrs { mode: 0o755, ..Attrs::default() },
            nlink: 1,
            layer: 0,
            parent: ROOT,
            name: Name::default(),
        };
        let mut inodes = Inodes::default();
        inodes.push(root);
        Tree {
            inodes,
            further: Further::default(),
            layers: 0,
            has_xattrs: false,
            has_acls: false,
            nameless: Vec::new(),
            between: HashMap::new(),
            unnamed: 0,
        }
    }

    /// All layers of a stack, base first.
    pub fn from_layers<'a>(layers: impl IntoIterator<Item = &'a LayerIndex>) -> Result<Tree, TreeError> {
        let mut tree = Tree::new();
        for layer in layers {
            tree.apply(layer)?;
        }
        Ok(tree)
    }

    /// A layer that was never a [`LayerIndex`], and a tree the same as if it had been: of a directory with a million files, having both
    /// takes twice the memory. The entries come in the order of [`crate::index::compare`], none of them a whiteout, and a hard link after
    /// the name that it leads to.
    pub fn from_sorted(entries: impl IntoIterator<Item = Entry>) -> Result<Tree, TreeError> {
        let mut tree = Tree::new();
        // The directory of the entry before.
        let mut dir: (Vec<u8>, Id) = (Vec::new(), ROOT);
        for mut e in entries {
            check_path(&e.path)?;
            e.attrs.xattrs.sort();
            tree.room_for(1)?;
            let (parent_path, name) = split(&e.path);
            if dir.0 != parent_path {
                dir = (parent_path.to_vec(), tree.make_dirs(parent_path, 0)?);
            }
            if e.path.is_empty() || tree.child(dir.1, name).is_some() {
                return Err(IndexError::Duplicate(show(&e.path)).into());
            }
            match Node::of(e.kind) {
                Ok(node) => drop(tree.create(dir.1, name, node, e.attrs, 0)),
                Err(Kind::HardLink { target }) => {
                    let id =
                        tree.lookup(&target).filter(|&id| !tree.inode(id).is_dir()).ok_or_else(|| {
                            TreeError::MissingTarget { link: show(&e.path), target: show(&target) }
                        })?;
                    tree.link_again(dir.1, name, id);
                }
                Err(_) => return Err(IndexError::Name(show(&e.path)).into()),
            }
        }
        tree.settle();
        tree.inodes.shrink();
        tree.layers = 1;
        Ok(tree)
    }

    /// How many layers were applied.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// Upper bound of inode numbers; some numbers below it may be of inodes that no name leads to any more.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.slots(ROOT).is_empty()
    }

    /// Whether some inode ever had an extended attribute.
    pub fn has_xattrs(&self) -> bool {
        self.has_xattrs
    }

    /// Whether some inode ever had a POSIX access control list.
    pub fn has_acls(&self) -> bool {
        self.has_acls
    }

    fn note_xattrs(&mut self, attrs: &Attrs) {
        self.has_xattrs |= !attrs.xattrs.is_empty();
        self.has_acls |= attrs.xattrs.iter().any(|(n, _)| n.starts_with(ACL_PREFIX));
    }

    /// The inode of a number that this tree gave out.
    pub fn inode(&self, id: Id) -> &Inode {
        self.inodes.at(id)
    }

    /// The inode of any number.
    pub fn get(&self, id: Id) -> Option<&Inode> {
        self.inodes.get(id)
    }

    /// The children of a directory, sorted by name; none for anything else.
    pub fn children(&self, id: Id) -> Children<'_> {
        Children::new(self, self.slots(id))
    }

    fn slots(&self, id: Id) -> &[Slot] {
        match &self.inode(id).node {
            Node::Directory(children) => children.slots(),
            _ => &[],
        }
    }

    /// The child of a directory by name.
    pub fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        let slots = self.slots(dir);
        match self.find(slots, name) {
            Ok(at) => Some(self.named(slots[at]).1),
            Err(_) if self.between.is_empty() => None,
            Err(_) => self.between.get(&dir)?.get(name).map(|slot| self.named(*slot).1),
        }
    }

    /// Where a name stands in a directory's list, or belongs.
    fn find(&self, slots: &[Slot], name: &[u8]) -> Result<usize, usize> {
        slots.binary_search_by(|slot| self.named(*slot).0.cmp(name))
    }

    /// The path of an inode: of a directory, or of the first name of a file.
    pub fn path(&self, id: Id) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ROOT {
            let inode = self.inode(at);
            parts.push(&inode.name);
            at = inode.parent;
        }
        parts.iter().rev().fold(Vec::new(), |p, c| join(&p, c))
    }

    /// The inode at exactly this path, no link followed.
    pub fn lookup(&self, path: &[u8]) -> Option<Id> {
        let mut at = ROOT;
        for c in components(path) {
            at = self.child(at, c)?;
        }
        Some(at)
    }

    /// Resolves a path as a process with this tree as its root would: `..` and links stay inside. The last component's link is
    /// followed if `follow_last`. `visit` sees every inode that the resolution went through.
    pub fn resolve_with(
        &self,
        path: &[u8],
        follow_last: bool,
        visit: &mut dyn FnMut(Id),
    ) -> Result<Place, TreeError> {
        let mut todo: Vec<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut stack: Vec<Id> = vec![ROOT];
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        visit(ROOT);
        while let Some(c) = todo.pop() {
            if c == b".." {
                if rest.pop().is_none() && stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let at = stack[stack.len() - 1];
            if !rest.is_empty() {
                rest.push(c);
                continue;
            }
            if !self.inode(at).is_dir() {
                return Err(TreeError::NotADirectory(show(path)));
            }
            match self.child(at, &c) {
                None => rest.push(c),
                Some(id) => {
                    visit(id);
                    match &self.inode(id).node {
                        Node::Symlink(target) if follow_last || !todo.is_empty() => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(TreeError::Loop(show(path)));
                            }
                            if target.first() == Some(&b'/') {
                                stack.truncate(1);
                            }
                            todo.extend(
                                components(target).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev(),
                            );
                        }
                        _ => stack.push(id),
                    }
                }
            }
        }
        let id = stack[stack.len() - 1];
        if !rest.is_empty() && !self.inode(id).is_dir() {
            return Err(TreeError::NotADirectory(show(path)));
        }
        let path = stack[1..].iter().fold(Vec::new(), |p, &i| join(&p, &self.inode(i).name));
        Ok(Place { id, path, rest })
    }

    /// [`Tree::resolve_with`] without a visitor.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Place, TreeError> {
        self.resolve_with(path, follow_last, &mut |_| {})
    }

    /// Puts one more layer on top. On an error the tree is not to be used any more.
    pub fn apply(&mut self, layer: &LayerIndex) -> Result<(), TreeError> {
        self.apply_passes(&mut Listed::new(layer))
    }

    /// The same for a layer that is not decoded as a whole: of a million files, it would take as much memory as the tree. The entries
    /// are gone through from the first on, whatever was taken of them.
    pub fn apply_encoded<B: AsRef<[u8]>>(&mut self, layer: &mut Entries<B>) -> Result<(), TreeError> {
        self.apply_passes(layer)
    }

    /// The inode that a layer's path names: links of directories on the way are followed, the last is not.
    fn lower(&self, path: &[u8]) -> Option<Id> {
        if let Some(id) = self.lookup(path) {
            return Some(id);
        }
        self.resolve(path, false).ok().filter(Place::exists).map(|p| p.id)
    }

    /// Directory and name under which `path` leads to `id`.
    fn name_of(&self, path: &[u8], id: Id) -> (Id, Name) {
        let (parent, name) = split(path);
        match self.lower_dir(parent) {
            Some(p) if self.child(p, name) == Some(id) => (p, name.into()),
            _ => (self.inode(id).parent, self.inode(id).name.clone()),
        }
    }

    fn lower_dir(&self, path: &[u8]) -> Option<Id> {
        if let Some(id) = self.lookup(path).filter(|&id| self.inode(id).is_dir()) {
            return Some(id);
        }
        self.resolve(path, true).ok().filter(Place::exists).map(|p| p.id)
    }

    /// The directory at `path`, made with mode 0755 and owner 0:0 where no entry names it.
    fn make_dirs(&mut self, path: &[u8], layer: u32) -> Result<Id, TreeError> {
        if let Some(id) = self.lookup(path).filter(|&id| self.inode(id).is_dir()) {
            return Ok(id);
        }
        let place = self.resolve(path, true)?;
        let mut at = place.id;
        if !self.inode(at).is_dir() {
            return Err(TreeError::NotADirectory(show(path)));
        }
        let length = place.path.len() + place.rest.iter().map(|c| c.len() + 1).sum::<usize>();
        if length > MAX_PATH {
            return Err(TreeError::TooLong(show(path)));
        }
        self.room_for(place.rest.len())?;
        self.unnamed += place.rest.len();
        if self.unnamed > MAX_UNNAMED {
            return Err(TreeError::TooManyUnnamed);
        }
        for c in &place.rest {
            let attrs = Attrs { mode: 0o755, ..Attrs::default() };
            at = self.create(at, c, Node::Directory(Listing::default()), attrs, layer);
        }
        Ok(at)
    }

    fn room_for(&self, more: usize) -> Result<(), TreeError> {
        let full = self.inodes.len() + more > MAX_INODES || self.further.len() + more > MAX_FURTHER;
        if full { Err(TreeError::TooMany) } else { Ok(()) }
    }

    fn set_attrs(&mut self, id: Id, e: &Entry, layer: u32) {
        self.note_xattrs(&e.attrs);
        let inode = self.inodes.change(id);
        inode.attrs = e.attrs.clone();
        inode.layer = layer;
    }

    fn create(&mut self, parent: Id, name: &[u8], node: Node, attrs: Attrs, layer: u32) -> Id {
        self.note_xattrs(&attrs);
        let id = self.inodes.len() as Id;
        self.inodes.push(Inode { node, attrs, nlink: 1, layer, parent, name: name.into() });
        self.link(parent, name, Slot::own(id));
        id
    }

    /// Gives a file a further name.
    fn link_again(&mut self, parent: Id, name: &[u8], id: Id) {
        let slot = self.further.push(name.into(), id);
        self.link(parent, name, slot);
        self.inodes.change(id).nlink += 1;
    }

    /// Lets a name lead to an inode, whatever it led to before.
    fn link(&mut self, parent: Id, name: &[u8], slot: Slot) {
        // Mostly it is the last one.
        let at = match self.slots(parent).last().map(|last| self.named(*last).0.cmp(name)) {
            None | Some(Ordering::Less) => Err(self.slots(parent).len()),
            Some(_) => self.find(self.slots(parent), name),
        };
        if let Node::Directory(children) = &mut self.inodes.change(parent).node {
            match at {
                Ok(at) => children.change()[at] = slot,
                Err(at) if at == children.slots().len() => children.change().push(slot),
                Err(_) => drop(self.between.entry(parent).or_default().insert(name.into(), slot)),
            }
        }
    }

    /// What is in a directory, taken out to be changed.
    fn take_slots(&mut self, dir: Id) -> Listing {
        match &mut self.inodes.change(dir).node {
            Node::Directory(children) => std::mem::take(children),
            _ => Listing::default(),
        }
    }

    fn put_slots(&mut self, dir: Id, slots: Listing) {
        if let Node::Directory(children) = &mut self.inodes.change(dir).node {
            *children = slots;
        }
    }

    /// Puts the names between others where they belong.
    fn settle(&mut self) {
        for (dir, names) in std::mem::take(&mut self.between) {
            let mut listing = self.take_slots(dir);
            listing.change().extend(names.into_values());
            // Two sorted pieces.
            listing.change().sort_by(|a, b| self.named(*a).0.cmp(self.named(*b).0));
            self.put_slots(dir, listing);
        }
    }

    /// Forgets what a name leads to, with everything below it. Another takes its place.
    fn replaced(&mut self, parent: Id, name: &[u8]) {
        if let Some(id) = self.child(parent, name) {
            self.forget(id, parent, name);
        }
    }

    /// Takes these names of a directory away.
    fn unlink_many(&mut self, dir: Id, mut names: Vec<Name>) {
        names.sort_unstable();
        self.unlink_all(dir, |name| names.binary_search_by(|n| (**n).cmp(name)).is_ok());
    }

    /// Takes some names of a directory away.
    fn unlink_all(&mut self, dir: Id, which: impl Fn(&[u8]) -> bool) {
        let mut listing = self.take_slots(dir);
        let mut gone: Vec<(Name, Id)> = Vec::new();
        listing.change().retain(|slot| {
            let (name, id) = self.named(*slot);
            let stays = !which(name);
            if !stays {
                gone.push((name.into(), id));
            }
            stays
        });
        self.put_slots(dir, listing);
        for (name, child) in gone {
            self.forget(child, dir, &name);
        }
    }

    /// One name of `id` is gone: counts links, and notes hard-linked files that need another first name.
    fn forget(&mut self, id: Id, parent: Id, name: &[u8]) {
        if self.inode(id).is_dir() {
            let between = self.between.remove(&id).unwrap_or_default();
            let slots: Vec<Slot> = self.slots(id).iter().copied().chain(between.into_values()).collect();
            for slot in slots {
                let (name, child) = self.named(slot);
                let name = Name::from(name);
                self.forget(child, id, &name);
            }
            return;
        }
        let inode = self.inodes.change(id);
        inode.nlink = inode.nlink.saturating_sub(1);
        if inode.nlink > 0 && inode.parent == parent && *inode.name == *name {
            self.nameless.push(id);
        }
    }

    /// Gives files that lost their first name another one that still exists.
    fn name_the_nameless(&mut self) {
        let mut wanted: std::collections::HashSet<Id> = self.nameless.drain(..).collect();
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            if wanted.is_empty() {
                return;
            }
            let mut found: Vec<(Name, Id)> = Vec::new();
            for (name, child) in self.children(dir) {
                if self.inode(child).is_dir() {
                    todo.push(child);
                } else if wanted.remove(&child) {
                    found.push((name.into(), child));
                }
            }
            for (name, id) in found {
                let inode = self.inodes.change(id);
                inode.parent = dir;
                inode.name = name;
            }
        }
    }

    /// Visits every name below `id` in layer order (a directory, then its content): path and inode. The start itself comes first.
    pub fn walk<E>(&self, id: Id, visit: &mut Visit<'_, E>) -> Result<(), E> {
        let mut path = self.path(id);
        self.walk_at(id, &mut path, visit)
    }

    fn walk_at<E>(&self, id: Id, path: &mut Vec<u8>, visit: &mut Visit<'_, E>) -> Result<(), E> {
        if visit(path, id)? == Walk::Skip {
            return Ok(());
        }
        let len = path.len();
        for (name, child) in self.children(id) {
            if len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.walk_at(child, path, visit)?;
            path.truncate(len);
        }
        Ok(())
    }

    /// The tree as one layer: what `export` and `squash` need. Sorted, hard links kept.
    pub fn flatten(&self) -> Vec<Entry> {
        let mut out = Vec::new();
        let Ok(()) = self.flatten_where::<std::convert::Infallible>(
            |_, _| true,
            |e| {
                out.push(e);
                Ok(())
            },
        );
        out
    }

    /// Gives the entries of [`Tree::flatten`] that are wanted, by path and inode; what lies in a directory that is not wanted is not asked
    /// for.
    pub fn flatten_where<E>(
        &self,
        wanted: impl Fn(&[u8], Id) -> bool,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seen: HashMap<Id, Vec<u8>> = HashMap::new();
        self.walk(ROOT, &mut |path, id| {
            if !wanted(path, id) {
                return Ok(Walk::Skip);
            }
            let inode = self.inode(id);
            let mut e = inode.to_entry(path.to_vec());
            if inode.nlink > 1 && !inode.is_dir() {
                match seen.get(&id) {
                    Some(first) => e.kind = Kind::HardLink { target: first.clone() },
                    None => {
                        seen.insert(id, path.to_vec());
                    }
                }
            }
            take(e)?;
            Ok(Walk::Into)
        })
    }
}

/// Told of every name that a walk meets: path and inode.
pub type Visit<'a, E> = dyn FnMut(&[u8], Id) -> Result<Walk, E> + 'a;

/// Whether a walk goes on below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Visit the content.
    Into,
    /// Leave the content out.
    Skip,
}

/// The components of a path: empty ones and `.` left out.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&c| c == b'/').filter(|c| !c.is_empty() && *c != b".")
}
