//! Opening what is in a context, and nothing else, whatever changes in it meanwhile ([`Confined::beneath`]). Its root is opened once.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::index::Xattrs;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{ContextError, KEPT_XATTRS};
use crate::confined::Confined;

/// The directory of a context.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: PathBuf,
    dir: Arc<Confined>,
}

impl Root {
    /// Opens it; links on the way to it are followed.
    pub(super) fn open(path: &Path) -> Result<Root, ContextError> {
        match Confined::open(path) {
            Ok(dir) => Ok(Root { path: path.to_owned(), dir: Arc::new(dir) }),
            Err(e) => Err(ContextError::Read { path: path.to_owned(), source: e.into() }),
        }
    }

    /// Where it was when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What messages call something in it.
    pub(super) fn name(&self, path: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }

    fn read(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, ContextError> {
        self.dir.beneath(path, OFlags::RDONLY | flags).map_err(|e| match e {
            // There was none when it was listed.
            Errno::LOOP => ContextError::Changed { path: self.name(path) },
            e => ContextError::Read { path: self.name(path), source: e.into() },
        })
    }

    /// Opens a file. One that has become a pipe is not waited for.
    pub(super) fn file(&self, path: &[u8]) -> Result<File, ContextError> {
        self.read(path, OFlags::NONBLOCK).map(File::from)
    }

    /// Opens a directory, to list it.
    pub(super) fn dir(&self, path: &[u8]) -> Result<OwnedFd, ContextError> {
        self.read(path, OFlags::DIRECTORY)
    }

    /// Whether something is there.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        // What lies behind a link is asked of the tree.
        !matches!(self.dir.beneath(path, OFlags::PATH | OFlags::NOFOLLOW), Err(e) if e != Errno::LOOP)
    }

    /// The attributes of something that need not be readable.
    pub(super) fn xattrs(&self, path: &[u8]) -> Xattrs {
        let Ok(file) = self.dir.beneath(path, OFlags::PATH) else { return Xattrs::new() };
        let through = format!("/proc/self/fd/{}", file.as_raw_fd());
        kept_xattrs(|name, value| rustix::fs::getxattr(&*through, name, value))
    }
}

/// The attributes of an open file or directory that a layer holds.
pub(super) fn xattrs_of(file: &impl std::os::fd::AsFd) -> Xattrs {
    kept_xattrs(|name, value| rustix::fs::fgetxattr(file, name, value))
}

fn kept_xattrs(get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>) -> Xattrs {
    let mut out = Vec::new();
    for name in KEPT_XATTRS {
        // Asked for by name: a listing may be long, and most files have none of these.
        let mut value = [0u8; 256];
        if let Ok(len) = get(name, &mut value) {
            out.push((name.to_vec(), value[..len].to_vec()));
        }
    }
    out.sort();
    out.into()
}
