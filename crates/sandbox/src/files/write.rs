//! Writing entries below a directory.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use oci::index::{Attrs, join, show, split};
use oci::tree::Id;
use oci::{Content, Entry, Kind, LayerIndex, Tree};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::Baseline;
use crate::ids::Ids;
use crate::view::{View, is_overlay_xattr};

/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;

/// Why files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The bytes of a file could not be read.
    #[error("cannot read the content of {path:?}")]
    Content {
        /// Path in the tree.
        path: String,
        /// What the store said.
        source: io::Error,
    },
    /// Something could not be written.
    #[error("cannot make {path:?}")]
    Write {
        /// Path in the tree.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether a layer, as a directory of its own, shows over those below it what the index says: all its directories are in it, none of them
/// is reached by a link, and no link leads to a file of the layers below.
pub fn is_plain(layer: &LayerIndex) -> bool {
    layer.entries().iter().all(|e| {
        let (parent, _) = split(&e.path);
        let in_it =
            parent.is_empty() || layer.get(parent).is_some_and(|p| matches!(p.kind, Kind::Directory { .. }));
        let whole = match &e.kind {
            Kind::HardLink { target } => layer.get(target).is_some(),
            _ => true,
        };
        in_it && whole
    })
}

/// Writes a layer for overlayfs: with its whiteouts, and marks on opaque directories. `dest` is an empty directory.
pub fn write_layer(layer: &LayerIndex, content: &dyn Content, dest: &Path) -> Result<(), FilesError> {
    let mut w = Writer::new(dest, content, true)?;
    for entry in layer.entries() {
        w.add(entry)?;
    }
    w.finish().map(drop)
}

/// Writes a whole tree. `dest` is an empty directory.
pub fn write_tree(tree: &Tree, content: &dyn Content, dest: &Path) -> Result<(), FilesError> {
    let mut w = Writer::new(dest, content, true)?;
    for entry in tree.flatten() {
        w.add(&entry)?;
    }
    w.finish().map(drop)
}

/// Writes all that a view shows. `dest` is an empty directory.
pub(crate) fn write_view(view: &View, dest: &Path) -> Result<Baseline, FilesError> {
    let mut w = Writer::new(dest, view.content(), false)?;
    let mut first = HashMap::new();
    let mut todo = vec![(Vec::new(), view.root())];
    while let Some((path, id)) = todo.pop() {
        let mut entry = entry_of(view, id, path.clone());
        if !view.is_dir(id) && view.is_real(id) && view.tree().inode(id).nlink > 1 {
            match first.get(&id) {
                Some(target) => entry.kind = Kind::HardLink { target: Vec::clone(target) },
                None => drop(first.insert(id, path.clone())),
            }
        }
        w.add(&entry)?;
        let first = todo.len();
        todo.extend(view.children(id).map(|(name, child)| (join(&path, name), child)));
        todo[first..].reverse();
    }
    w.finish()
}

/// Writes the directories and files that a view shows for mount targets, and the directories that lead to them.
pub(crate) fn write_stubs(view: &View, stubs: &[Vec<u8>], dest: &Path) -> Result<(), FilesError> {
    let mut w = Writer::new(dest, view.content(), true)?;
    let mut paths = BTreeSet::from([Vec::new()]);
    for stub in stubs {
        let mut at = stub.as_slice();
        while !at.is_empty() {
            paths.insert(at.to_vec());
            at = split(at).0;
        }
    }
    let mut paths: Vec<Vec<u8>> = paths.into_iter().collect();
    paths.sort_by(|a, b| oci::index::compare(a, b));
    for path in paths {
        let mut names = path.split(|&c| c == b'/').filter(|c| !c.is_empty());
        let found = names.try_fold(view.root(), |at, name| view.child(at, name));
        if let Some(id) = found {
            w.add(&entry_of(view, id, path))?;
        }
    }
    w.finish().map(drop)
}

/// What a view shows of an inode.
fn entry_of(view: &View, id: Id, path: Vec<u8>) -> Entry {
    if view.is_real(id) {
        return view.tree().inode(id).to_entry(path);
    }
    let attr = view.attr(id);
    let kind = if view.is_dir(id) {
        Kind::Directory { opaque: false }
    } else {
        Kind::File { size: 0, digest: oci::Digest::of(b"") }
    };
    Entry { path, kind, attrs: Attrs { mode: attr.mode & 0o7777, mtime: attr.mtime, ..Attrs::default() } }
}

struct Writer<'a> {
    top: OwnedFd,
    content: &'a dyn Content,
    ids: &'static Ids,
    /// Whether opaque directories are marked for overlayfs.
    marks: bool,
    /// The directory of the last entry.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories, whose attributes are set when nothing is written to them any more.
    dirs: Vec<Entry>,
    baseline: Baseline,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(dest: &Path, content: &'a dyn Content, marks: bool) -> Result<Writer<'a>, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(dest, flags, Mode::empty())
            .map_err(|e| FilesError::Write { path: dest.display().to_string(), source: e.into() })?;
        Ok(Writer {
            top,
            content,
            ids: Ids::here(),
            marks,
            parent: None,
            dirs: Vec::new(),
            baseline: Baseline::default(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Adds an entry. Those of a directory come after it.
    fn add(&mut self, entry: &Entry) -> Result<(), FilesError> {
        if let Kind::Directory { .. } = entry.kind {
            self.dirs.push(entry.clone());
        }
        if entry.path.is_empty() {
            return Ok(());
        }
        let (parent, name) = split(&entry.path);
        let failed = |source: io::Error| FilesError::Write { path: show(&entry.path), source };
        if self.parent.as_ref().is_none_or(|(p, _)| p != parent) {
            let opened = self.open_dir(parent).map_err(|e| failed(e.into()))?;
            self.parent = Some((parent.to_vec(), opened));
        }
        let Some((_, dir)) = &self.parent else { return Ok(()) };
        if let Kind::File { digest, size } = &entry.kind {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
                .map_err(|e| failed(e.into()))?;
            let mut file = File::from(file);
            if *size > 0 {
                copy(self.content, digest, *size, &mut file, &mut self.buffer).map_err(|e| match e {
                    Copying::Read(source) => FilesError::Content { path: show(&entry.path), source },
                    Copying::Write(source) => failed(source),
                })?;
            }
            return self.dress_file(&file, &entry.attrs).map_err(failed);
        }
        self.add_other(dir, name, entry).map_err(failed)?;
        let known = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        self.baseline.note(&known.map_err(|e| failed(e.into()))?);
        Ok(())
    }

    fn add_other(&self, dir: &OwnedFd, name: &[u8], entry: &Entry) -> io::Result<()> {
        let node = |kind, major, minor| {
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), number)
        };
        let device = |kind, major, minor| match node(kind, major, minor) {
            Err(Errno::PERM) => node(FileType::RegularFile, 0, 0).map(|()| false),
            other => other.map(|()| true),
        };
        let mut mode = entry.attrs.mode;
        match &entry.kind {
            Kind::Directory { .. } => {
                // Its attributes come last.
                return Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?);
            }
            Kind::Whiteout => return Ok(node(FileType::CharacterDevice, 0, 0)?),
            Kind::HardLink { target } => {
                let (parent, last) = split(target);
                let from = self.open_dir(parent)?;
                return Ok(rustix::fs::linkat(&from, last, dir, name, AtFlags::empty())?);
            }
            Kind::Symlink { target } => rustix::fs::symlinkat(&**target, dir, name)?,
            Kind::Fifo => node(FileType::Fifo, 0, 0)?,
            Kind::CharDevice { major, minor } => {
                if !device(FileType::CharacterDevice, *major, *minor)? {
                    mode = 0;
                }
            }
            Kind::BlockDevice { major, minor } => {
                if !device(FileType::BlockDevice, *major, *minor)? {
                    mode = 0;
                }
            }
            Kind::File { .. } => {}
        }
        let path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        let path = [&path[..], name].concat();
        let link = matches!(entry.kind, Kind::Symlink { .. });
        self.dress(&path, &entry.attrs, (!link).then_some(mode))
    }

    fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve)
    }

    fn owner(&self, attrs: &Attrs) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.ids.user(attrs.uid))), Some(Gid::from_raw(self.ids.group(attrs.gid))))
    }

    /// Gives an open file its attributes.
    fn dress_file(&mut self, file: &File, attrs: &Attrs) -> io::Result<()> {
        let (uid, gid) = self.owner(attrs);
        // In this order: a change of the owner takes set-user-ID bits and capabilities away.
        rustix::fs::fchown(file, uid, gid)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(attrs.mode & 0o7777))?;
        for (name, value) in own_xattrs(attrs) {
            tolerate(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        }
        rustix::fs::futimens(file, &times(attrs))?;
        self.baseline.note(&rustix::fs::fstat(file)?);
        Ok(())
    }

    /// Gives a name its attributes; without following it, unless it has a mode.
    fn dress(&self, path: &[u8], attrs: &Attrs, mode: Option<u32>) -> io::Result<()> {
        let (uid, gid) = self.owner(attrs);
        rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(mode) = mode {
            rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777))?;
        }
        for (name, value) in own_xattrs(attrs) {
            tolerate(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()))?;
        }
        Ok(rustix::fs::utimensat(CWD, path, &times(attrs), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the attributes of directories, the deepest first.
    fn finish(mut self) -> Result<Baseline, FilesError> {
        let dirs = std::mem::take(&mut self.dirs);
        for entry in dirs.iter().rev() {
            let failed = |e: io::Error| FilesError::Write { path: show(&entry.path), source: e };
            let dir = self.open_dir(&entry.path).map_err(|e| failed(e.into()))?;
            let path = format!("/proc/self/fd/{}/.", dir.as_raw_fd());
            if self.marks && entry.kind == (Kind::Directory { opaque: true }) {
                let name = if self.ids.nested() { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" };
                rustix::fs::lsetxattr(&path, name, b"y", XattrFlags::empty())
                    .map_err(|e| failed(e.into()))?;
            }
            self.dress(path.as_bytes(), &entry.attrs, Some(entry.attrs.mode)).map_err(failed)?;
            self.baseline.note(&rustix::fs::fstat(dir.as_fd()).map_err(|e| failed(e.into()))?);
        }
        Ok(self.baseline)
    }
}

fn own_xattrs(attrs: &Attrs) -> impl Iterator<Item = (&[u8], &[u8])> {
    attrs.xattrs.iter().filter(|(n, _)| !is_overlay_xattr(n)).map(|(n, v)| (&**n, &**v))
}

/// An attribute that this process, or the file system, cannot hold is left out.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn times(attrs: &Attrs) -> Timestamps {
    let time = Timespec { tv_sec: attrs.mtime.secs, tv_nsec: attrs.mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

enum Copying {
    Read(io::Error),
    Write(io::Error),
}

fn copy(
    content: &dyn Content,
    digest: &oci::Digest,
    size: u64,
    to: &mut File,
    buffer: &mut [u8],
) -> Result<(), Copying> {
    let object = content.open(digest).map_err(Copying::Read)?;
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        match object.read_at(&mut buffer[..want], at) {
            Ok(0) => {
                let why = "object is shorter than its layer says";
                return Err(Copying::Read(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
            Ok(n) => {
                to.write_all(&buffer[..n]).map_err(Copying::Write)?;
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Copying::Read(e)),
        }
    }
    Ok(())
}
