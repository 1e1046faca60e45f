//! From an overlayfs upper directory to a layer index: what a step changed, without walking its parent.
//!
//! Overlayfs marks a removed name with a character device 0:0 and a directory that hides the lower one with the xattr
//! `overlay.opaque`. Left out are: what equals the parent in every way (a file that was copied up and not changed, a directory that is
//! there only because a mount target lay in it), marks for names that the parent does not have, sockets (a layer cannot hold
//! them), and empty mount stubs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::index::{Attrs, Xattrs, join};
use oci::tree::{Node, ROOT};
use oci::{Entry, Kind, LayerIndex, Time, Tree};
use store::Batch;

use crate::context::KEPT_XATTRS;

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
    batch: &'a Batch,
    stubs: HashSet<&'a [u8]>,
    first: HashMap<(u64, u64), Vec<u8>>,
    entries: Vec<Entry>,
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
    Ok((out, opaque))
}

impl Walk<'_> {
    /// Adds what lies in a directory; true if there was anything to add.
    fn dir(&mut self, full: &Path, rel: &[u8]) -> Result<bool, CommitError> {
        let read = |source| CommitError::Read { path: full.to_owned(), source };
        let mut any = false;
        let mut names: Vec<std::ffi::OsString> = Vec::new();
        for e in std::fs::read_dir(full).map_err(read)? {
            names.push(e.map_err(read)?.file_name());
        }
        names.sort();
        for name in names {
            any |= self.entry(&full.join(&name), join(rel, name.as_bytes()))?;
        }
        Ok(any)
    }

    fn entry(&mut self, full: &Path, path: Vec<u8>) -> Result<bool, CommitError> {
        let read = |source| CommitError::Read { path: full.to_owned(), source };
        let m = std::fs::symlink_metadata(full).map_err(read)?;
        let ft = m.file_type();
        if ft.is_char_device() && m.rdev() == 0 {
            let known = self.tree.lookup(&path).is_some();
            if known {
                self.entries.push(Entry::whiteout(path));
            }
            return Ok(known);
        }
        if ft.is_socket() {
            return Ok(false);
        }
        let (xattrs, opaque) = xattrs(full).map_err(read)?;
        let mtime = Time { secs: m.mtime(), nanos: u32::try_from(m.mtime_nsec()).unwrap_or(0) };
        let attrs = Attrs { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid(), mtime, xattrs };
        let device = || (rustix::fs::major(m.rdev()), rustix::fs::minor(m.rdev()));
        if ft.is_dir() {
            let lower = self.tree.lookup(&path).map(|id| self.tree.inode(id)).filter(|i| i.is_dir());
            let at = self.entries.len();
            let changed_below = self.dir(full, &path)?;
            let opaque = opaque && lower.is_some();
            let same = !opaque && lower.is_some_and(|l| l.attrs == attrs);
            let stub = lower.is_none() && self.stubs.contains(path.as_slice());
            if !changed_below && (same || stub) {
                return Ok(false);
            }
            self.entries.insert(at, Entry { path, kind: Kind::Directory { opaque }, attrs });
            return Ok(true);
        }
        let kind = if ft.is_symlink() {
            let target = std::fs::read_link(full).map_err(read)?;
            Kind::Symlink { target: target.into_os_string().into_encoded_bytes() }
        } else if ft.is_fifo() {
            Kind::Fifo
        } else if ft.is_char_device() {
            let (major, minor) = device();
            Kind::CharDevice { major, minor }
        } else if ft.is_block_device() {
            let (major, minor) = device();
            Kind::BlockDevice { major, minor }
        } else {
            let inode = (m.dev(), m.ino());
            if m.nlink() > 1 {
                if let Some(target) = self.first.get(&inode) {
                    let kind = Kind::HardLink { target: target.clone() };
                    self.entries.push(Entry { path, kind, attrs });
                    return Ok(true);
                }
                // The bytes may be moved into the store below; the other names are only counted.
                self.first.insert(inode, path.clone());
            }
            let (digest, size) = if m.nlink() > 1 {
                let file = std::fs::File::open(full).map_err(read)?;
                self.batch.add_file(&file, full)
            } else {
                self.batch.add_path(full)
            }
            .map_err(CommitError::Store)?;
            Kind::File { size, digest }
        };
        let e = Entry { path, kind, attrs };
        let unchanged = m.nlink() == 1
            && self.tree.lookup(&e.path).map(|id| self.tree.inode(id)).is_some_and(|l| {
                l.nlink == 1 && !matches!(l.node, Node::Directory(_)) && l.to_entry(e.path.clone()) == e
            });
        if !unchanged {
            self.entries.push(e);
        }
        Ok(!unchanged)
    }
}

/// Takes what a step left in `upper`, on top of `tree`. File contents go into `batch`, some by being moved out of `upper`.
pub(crate) fn layer_of_upper(
    upper: &Path,
    tree: &Tree,
    stubs: &[Vec<u8>],
    batch: &Batch,
) -> Result<LayerIndex, CommitError> {
    let mut walk = Walk {
        tree,
        batch,
        stubs: stubs.iter().map(Vec::as_slice).collect(),
        first: HashMap::new(),
        entries: Vec::new(),
    };
    walk.dir(upper, b"")?;
    let m = std::fs::symlink_metadata(upper)
        .map_err(|source| CommitError::Read { path: upper.to_owned(), source })?;
    let root = &tree.inode(ROOT).attrs;
    if (m.mode() & 0o7777, m.uid(), m.gid()) != (root.mode, root.uid, root.gid) {
        let mtime = Time { secs: m.mtime(), nanos: u32::try_from(m.mtime_nsec()).unwrap_or(0) };
        let attrs = Attrs { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid(), mtime, xattrs: Vec::new() };
        walk.entries.push(Entry { path: Vec::new(), kind: Kind::Directory { opaque: false }, attrs });
    }
    LayerIndex::from_entries(walk.entries).map_err(CommitError::Layer)
}
