//! Opening what is in a directory, and nothing else, whatever changes in it meanwhile: what was a directory when it was listed may be a
//! link to somewhere else when its files are opened.
//!
//! Two meanings of a path:
//!
//! - [`Confined::beneath`]: no link is followed, neither on the way nor at the end. `..` and absolute paths are refused (EXDEV).
//! - [`Confined::as_root`]: links are followed as if the directory were the root of everything, so that `..` does not lead above it, and what is
//!   absolute begins at it.
//!
//! Two ways to do either:
//!
//! - *The kernel's*: openat2(2) with `RESOLVE_BENEATH` or `RESOLVE_IN_ROOT` (Linux 5.6).
//! - *Ours*: one part after the other, each opened relative to the descriptor of the directory before it and never through a link
//!   (`O_NOFOLLOW`). A descriptor stays with its directory, so a link that takes its place meanwhile leads nowhere; `..` is the descriptor that we
//!   came by. It costs a call for each part, and holds one descriptor; as root one for each directory on the way.
//!
//! Which way it is, is found out once, when the directory is opened. Without the call there is ENOSYS (older kernels, gVisor), or EPERM from filters
//! of system calls that are older than it (Docker before 20.10). The kernel also gives up on `..` while others rename and mount; then it is our way for
//! that path. Both ways open the same, and refuse with the same errors; only where
//! something changes between two looks can ENOTDIR stand for ELOOP.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// Links on one way: as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// How often the kernel is asked again.
const TRIES: usize = 32;

/// How paths are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the kernel.
    Kernel,
    /// By us, part by part.
    Parts,
}

/// A directory that nothing leads out of.
#[derive(Debug)]
pub(crate) struct Confined {
    dir: OwnedFd,
    way: Way,
}

impl Confined {
    /// Opens the directory; links on the way to it are followed.
    pub(crate) fn open(path: &Path) -> Result<Confined, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let tried = openat2(&dir, b".", OFlags::PATH, ResolveFlags::BENEATH);
        let way = match tried {
            Err(Errno::NOSYS | Errno::PERM) => Way::Parts,
            _ => Way::Kernel,
        };
        Ok(Confined { dir, way })
    }

    /// Opens something in it without following any link: ELOOP where there is one, also as the last part, unless `flags` are those that open
    /// the link itself (`O_PATH | O_NOFOLLOW`). The empty path is the directory.
    pub(crate) fn beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if path.starts_with(b"/") || path.split(|&c| c == b'/').any(|part| part == b"..") {
            return Err(Errno::XDEV);
        }
        match self.way {
            Way::Kernel => {
                let name = if path.is_empty() { b"." } else { path };
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                match patiently(|| openat2(&self.dir, name, flags, resolve)) {
                    Err(Errno::AGAIN) => self.beneath_by_parts(path, flags),
                    opened => opened,
                }
            }
            Way::Parts => self.beneath_by_parts(path, flags),
        }
    }

    /// Opens something as a process would that has the directory as its root.
    pub(crate) fn as_root(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.way {
            Way::Kernel => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                match patiently(|| openat2(&self.dir, path, flags, resolve)) {
                    Err(Errno::AGAIN) => self.as_root_by_parts(path, flags),
                    opened => opened,
                }
            }
            Way::Parts => self.as_root_by_parts(path, flags),
        }
    }

    fn beneath_by_parts(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut parts = path.split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b".")).peekable();
        let mut above: Option<OwnedFd> = None;
        while let Some(part) = parts.next() {
            let dir = above.as_ref().unwrap_or(&self.dir).as_fd();
            if parts.peek().is_none() {
                return open_last(dir, part, flags);
            }
            // With O_DIRECTORY what is mounted on demand is mounted.
            above = Some(open_dir(dir, part, OFlags::PATH)?);
        }
        open_one(self.dir.as_fd(), b".", flags)
    }

    fn as_root_by_parts(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let mut todo: Vec<Vec<u8>> = Vec::new();
        push_parts(&mut todo, path);
        // The way from the root on, and whether its end is something that has nothing below it.
        let mut way: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let (mut leaf, mut links) = (false, 0);
        while let Some(part) = todo.pop() {
            if leaf {
                return Err(Errno::NOTDIR);
            }
            if part == b".." {
                way.pop();
                continue;
            }
            if part.is_empty() || part == b"." {
                continue;
            }
            let dir = way.last().map_or(&self.dir, |(_, fd)| fd).as_fd();
            let found = open_one(dir, &part, OFlags::PATH | OFlags::NOFOLLOW)?;
            match file_type(&found)? {
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    push_parts(&mut todo, &target);
                }
                kind => {
                    leaf = kind != FileType::Directory;
                    way.push((part, found));
                }
            }
        }
        // Once more, with access. If it is a link by now, it is not followed.
        let Some((name, _)) = way.pop() else { return open_one(self.dir.as_fd(), b".", flags) };
        let dir = way.last().map_or(&self.dir, |(_, fd)| fd).as_fd();
        open_last(dir, &name, flags)
    }
}

/// The parts of a path, the first on top.
fn push_parts(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    todo.extend(path.split(|&c| c == b'/').rev().map(<[u8]>::to_vec));
}

/// Where a path has `..` the kernel gives up (EAGAIN, openat2(2)) when anything anywhere is renamed or mounted meanwhile, and on a busy
/// machine something always is.
fn patiently(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    let mut opened = open();
    for _ in 1..TRIES {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = open();
    }
    opened
}

fn openat2(dir: &OwnedFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn open_one(dir: BorrowedFd<'_>, part: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, part, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the last part of a path, never through a link.
fn open_last(dir: BorrowedFd<'_>, part: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlags::DIRECTORY) {
        return open_dir(dir, part, flags);
    }
    let found = open_one(dir, part, flags | OFlags::NOFOLLOW)?;
    // Of a link this would be the link itself, which only those get who ask for it.
    let itself = flags.contains(OFlags::PATH) && !flags.contains(OFlags::NOFOLLOW);
    if itself && file_type(&found)? == FileType::Symlink { Err(Errno::LOOP) } else { Ok(found) }
}

/// Opens a directory, never through a link.
fn open_dir(dir: BorrowedFd<'_>, part: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let opened = open_one(dir, part, flags | OFlags::DIRECTORY | OFlags::NOFOLLOW);
    // The kernel says the same of links and of files.
    if let Err(Errno::NOTDIR) = opened {
        let found = open_one(dir, part, OFlags::PATH | OFlags::NOFOLLOW)?;
        // A directory by now: it was a link, or something else that is gone.
        if matches!(file_type(&found)?, FileType::Symlink | FileType::Directory) {
            return Err(Errno::LOOP);
        }
    }
    opened
}

fn file_type(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}
