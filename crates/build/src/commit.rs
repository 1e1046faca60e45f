//! From an overlayfs upper directory to a layer index: what a step changed, without walking its parent.
//!
//! Overlayfs marks a removed name with a character device 0:0 and a directory that hides the lower one with the xattr
//! `overlay.opaque`. Left out are: what equals the parent in every way (a file that was copied up and not changed, a directory that is
//! there only because a mount target lay in it), marks for names that the parent does not have, sockets (a layer cannot hold
//! them), and empty mount stubs. What a user namespace could not show, an owner or a device, is what it was unless it was changed.
//! Below an opaque directory the parent has nothing that something could equal.
//!
//! What is left out because it equals the parent makes the layer depend on the parent's file, whether the step read it or not (`cp -p`
//! over a file that was the same before): [`Changes::compared`] names these, and they count as read.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::index::{Attrs, Xattrs, join};
use oci::tree::{Id, Node, ROOT};
use oci::{Entry, Kind, LayerIndex, Time, Tree};
use sandbox::Ids;
use store::Batch;

use crate::context::KEPT_XATTRS;

#[cfg(test)]
mod tests;

/// Why the changes of a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The upper directory cannot be read.
    #[error("cannot read {path:?}, which the step left")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store refused it.
    #[error("cannot store what the step left")]
    Store(#[source] store::StoreError),
    /// The step made a name that no layer can hold.
    #[error("the step left something that no layer can hold")]
    Layer(#[source] oci::index::IndexError),
}

struct Walk<'a> {
    tree: &'a Tree,
    /// Who exists where the step ran.
    ids: &'a Ids,
    batch: &'a Batch,
    stubs: HashSet<&'a [u8]>,
    first: HashMap<(u64, u64), Vec<u8>>,
    entries: Vec<Entry>,
    compared: Vec<Id>,
}

/// What a step left.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The layer.
    pub(crate) layer: LayerIndex,
    /// Inodes of the parent that something was left out for.
    pub(crate) compared: Vec<Id>,
}

/// A directory on the way. Not a frame of a recursion: a step can nest directories two thousand deep.
struct Open {
    full: PathBuf,
    rel: Vec<u8>,
    /// Names to be looked at, the last first.
    names: Vec<std::ffi::OsString>,
    /// The parent's directory that shows through.
    lower: Option<Id>,
    /// Its own entry, and whether that must be in the layer even if nothing below changed. None for the root.
    own: Option<(Entry, bool)>,
    changed: bool,
}

/// Reads all xattrs that belong to the file, and whether overlayfs calls the directory opaque.
fn xattrs(path: &Path) -> io::Result<(Xattrs, bool)> {
    let mut names = vec![0u8; 1024];
    let n = loop {
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(n) => break n,
            Err(rustix::io::Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => break 0,
            Err(e) => return Err(e.into()),
        }
    };
    let (mut out, mut opaque) = (Vec::new(), false);
    for name in names[..n].split(|&c| c == 0).filter(|n| !n.is_empty()) {
        let overlay = name.strip_prefix(b"trusted.overlay.").or_else(|| name.strip_prefix(b"user.overlay."));
        if overlay != Some(b"opaque") && !KEPT_XATTRS.contains(&name) {
            continue;
        }
        let mut value = vec![0u8; 65536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(len);
        match overlay {
            Some(_) => opaque = value == b"y",
            None => out.push((name.to_vec(), value)),
        }
    }
    out.sort();
    Ok((out.into(), opaque))
}

impl Walk<'_> {
    /// An owner that does not exist here was shown as root. As long as it is, it is what it was.
    fn keep_what_cannot_be_shown(&self, attrs: &mut Attrs, below: &Attrs) {
        if attrs.uid == 0 && !self.ids.has_user(below.uid) {
            attrs.uid = below.uid;
        }
        if attrs.gid == 0 && !self.ids.has_group(below.gid) {
            attrs.gid = below.gid;
        }
    }

    /// The device that an empty file without permissions stands for where devices cannot be made: see `sandbox`'s directories.
    fn stands_for(&self, m: &std::fs::Metadata, below: Id) -> Option<Entry> {
        let empty = m.is_file() && m.len() == 0 && m.mode() & 0o7777 == 0;
        let device = matches!(self.tree.inode(below).node, Node::CharDevice(..) | Node::BlockDevice(..));
        (self.ids.nested() && empty && device).then(|| self.tree.inode(below).to_entry(Vec::new()))
    }

    fn open(
        full: PathBuf,
        rel: Vec<u8>,
        lower: Option<Id>,
        own: Option<(Entry, bool)>,
    ) -> Result<Open, CommitError> {
        let read = |source| CommitError::Read { path: full.clone(), source };
        let mut names = Vec::new();
        for e in std::fs::read_dir(&full).map_err(read)? {
            names.push(e.map_err(read)?.file_name());
        }
        names.sort_by(|a, b| b.cmp(a));
        Ok(Open { full, rel, names, lower, own, changed: false })
    }

    fn walk(&mut self, upper: &Path) -> Result<(), CommitError> {
        let mut way = vec![Self::open(upper.to_owned(), Vec::new(), Some(ROOT), None)?];
        while let Some(dir) = way.last_mut() {
            if let Some(name) = dir.names.pop() {
                let (full, path) = (dir.full.join(&name), join(&dir.rel, name.as_bytes()));
                let below = dir.lower.and_then(|d| self.tree.child(d, name.as_bytes()));
                match self.entry(full, path, below)? {
                    Found::Directory(open) => way.push(*open),
                    Found::Other { changed } => dir.changed |= changed,
                }
                continue;
            }
            let Some(done) = way.pop() else { break };
            let Some((entry, wanted)) = done.own else { break };
            if done.changed || wanted {
                self.entries.push(entry);
                if let Some(parent) = way.last_mut() {
                    parent.changed = true;
                }
            }
        }
        Ok(())
    }

    /// Looks at one name; `below` is what the parent has there, as far as it shows through.
    fn entry(&mut self, full: PathBuf, path: Vec<u8>, below: Option<Id>) -> Result<Found, CommitError> {
        let read = |source| CommitError::Read { path: full.clone(), source };
        let m = std::fs::symlink_metadata(&full).map_err(read)?;
        let ft = m.file_type();
        // No layer can hold a socket; but what it replaced is gone.
        if ft.is_char_device() && m.rdev() == 0 || ft.is_socket() {
            if below.is_some() {
                self.entries.push(Entry::whiteout(path));
            }
            return Ok(Found::Other { changed: below.is_some() });
        }
        let (xattrs, opaque) = xattrs(&full).map_err(read)?;
        let mtime = Time { secs: m.mtime(), nanos: u32::try_from(m.mtime_nsec()).unwrap_or(0) };
        let mut attrs = Attrs { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid(), mtime, xattrs };
        if let Some(id) = below {
            self.keep_what_cannot_be_shown(&mut attrs, &self.tree.inode(id).attrs);
        }
        if ft.is_dir() {
            let lower = below.filter(|&id| self.tree.inode(id).is_dir());
            let opaque = opaque && lower.is_some();
            let same = !opaque && lower.is_some_and(|l| self.tree.inode(l).attrs == attrs);
            self.compared.extend(lower.filter(|_| same));
            let stub = lower.is_none() && self.stubs.contains(path.as_slice());
            let own = Entry { path: path.clone(), kind: Kind::Directory { opaque }, attrs };
            let lower = lower.filter(|_| !opaque);
            return Ok(Found::Directory(Box::new(Self::open(
                full,
                path,
                lower,
                Some((own, !same && !stub)),
            )?)));
        }
        let linked = m.nlink() > 1;
        if linked {
            let inode = (m.dev(), m.ino());
            if let Some(target) = self.first.get(&inode) {
                let kind = Kind::HardLink { target: target.clone() };
                self.entries.push(Entry { path, kind, attrs });
                return Ok(Found::Other { changed: true });
            }
            self.first.insert(inode, path.clone());
        }
        let (major, minor) = (rustix::fs::major(m.rdev()), rustix::fs::minor(m.rdev()));
        let device = below.and_then(|id| self.stands_for(&m, id));
        let kind = if let Some(device) = device {
            attrs.mode = device.attrs.mode;
            device.kind
        } else if ft.is_symlink() {
            let target = std::fs::read_link(&full).map_err(read)?;
            Kind::Symlink { target: target.into_os_string().into_encoded_bytes() }
        } else if ft.is_fifo() {
            Kind::Fifo
        } else if ft.is_char_device() {
            Kind::CharDevice { major, minor }
        } else if ft.is_block_device() {
            Kind::BlockDevice { major, minor }
        } else {
            // A file with one name may be moved into the store.
            let taken = if linked {
                self.batch.add_file(&std::fs::File::open(&full).map_err(read)?, &full)
            } else {
                self.batch.add_path(&full)
            };
            let (digest, size) = taken.map_err(CommitError::Store)?;
            Kind::File { size, digest }
        };
        let e = Entry { path, kind, attrs };
        let same = below.filter(|&id| {
            let l = self.tree.inode(id);
            !linked
                && l.nlink == 1
                && !matches!(l.node, Node::Directory(_))
                && l.to_entry(e.path.clone()) == e
        });
        match same {
            Some(id) => self.compared.push(id),
            None => self.entries.push(e),
        }
        Ok(Found::Other { changed: same.is_none() })
    }
}

/// What a name is.
enum Found {
    Directory(Box<Open>),
    Other { changed: bool },
}

/// Takes what a step left in `upper`, on top of `tree`. File contents go into `batch`, some by being moved out of `upper`.
pub(crate) fn layer_of_upper(
    upper: &Path,
    tree: &Tree,
    stubs: &[Vec<u8>],
    batch: &Batch,
) -> Result<Changes, CommitError> {
    let mut walk = Walk {
        tree,
        ids: Ids::here(),
        batch,
        stubs: stubs.iter().map(Vec::as_slice).collect(),
        first: HashMap::new(),
        entries: Vec::new(),
        compared: Vec::new(),
    };
    walk.walk(upper)?;
    let m = std::fs::symlink_metadata(upper)
        .map_err(|source| CommitError::Read { path: upper.to_owned(), source })?;
    let root = &tree.inode(ROOT).attrs;
    let mtime = Time { secs: m.mtime(), nanos: u32::try_from(m.mtime_nsec()).unwrap_or(0) };
    let mut attrs =
        Attrs { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid(), mtime, xattrs: Xattrs::new() };
    walk.keep_what_cannot_be_shown(&mut attrs, root);
    if (attrs.mode, attrs.uid, attrs.gid) != (root.mode, root.uid, root.gid) {
        walk.entries.push(Entry { path: Vec::new(), kind: Kind::Directory { opaque: false }, attrs });
    }
    let layer = LayerIndex::from_entries(walk.entries).map_err(CommitError::Layer)?;
    Ok(Changes { layer, compared: walk.compared })
}
