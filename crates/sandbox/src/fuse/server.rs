//! Answers the kernel's requests for one mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use oci::ReadAt;
use oci::index::Xattrs;
use oci::tree::{ACL_PREFIX, Id, Node};
use rustix::io::Errno;

use super::wire::{MAJOR, MINOR, OUT_HEADER, Reply, Request, flag, op};
use crate::seen::{Bits, Recorder, Seen};
use crate::view::{View, is_overlay_xattr};

/// The kernel's name for the root of a mount.
const ROOT_NODE: u64 = 1;
/// Largest READ that we let the kernel ask for.
const MAX_READ: usize = 1 << 20;
/// Linux' PATH_MAX: no link is longer.
const MAX_LINK: usize = 4096;
/// Room for replies that a thread starts with: all but those to large READs fit. A step has several threads, most of which are asked for
/// little; clearing [`MAX_READ`] for each took longer than the questions of a small step.
const REPLY_BUFFER: usize = OUT_HEADER + (64 << 10);
/// The kernel refuses smaller buffers than 8 KiB; names and attribute requests fit easily.
const REQUEST_BUFFER: usize = 16 << 10;
/// Objects that a thread keeps open. Each may be a file descriptor, of which a process has 1024 by default.
const OPEN_OBJECTS: usize = 32;

/// Why the content of a file could not be served.
#[derive(Debug)]
pub(crate) struct ReadFailure {
    /// Path in the tree.
    pub(crate) path: Vec<u8>,
    /// What the store said.
    pub(crate) error: io::Error,
}

/// One mount: what it shows, and what was asked of it.
#[derive(Debug)]
pub(crate) struct Server {
    view: View,
    /// Whether access control lists are obeyed.
    acls: bool,
    recorder: Recorder,
    failure: OnceLock<ReadFailure>,
    requests: AtomicU64,
    broken: AtomicBool,
}

/// Open objects of one thread, found by inode.
type Objects = Vec<Option<(Id, Arc<dyn ReadAt>)>>;

impl Server {
    /// A server that `threads` threads will run [`Server::serve`] of.
    pub(crate) fn new(view: View, threads: usize) -> Server {
        let recorder = Recorder::new(view.tree().len(), threads);
        view.given().for_each(|id| recorder.saw(id, Bits::ATTR));
        Server {
            acls: view.tree().has_acls(),
            view,
            recorder,
            failure: OnceLock::new(),
            requests: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Seen {
        Seen { acls: self.acls, ..self.recorder.collect() }
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The first content that could not be read.
    pub(crate) fn failure(&self) -> Result<(), ReadFailure> {
        match self.failure.get() {
            None => Ok(()),
            Some(f) => Err(ReadFailure { path: f.path.clone(), error: copy_error(&f.error) }),
        }
    }

    /// Whether a thread of the server panicked, so that requests were left without an answer.
    pub(crate) fn broke_down(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Answers requests until the mount is gone. `thread` counts from 0.
    pub(crate) fn serve(&self, device: &OwnedFd, thread: usize) {
        let _alarm = Alarm(&self.broken);
        let mut request = vec![0u8; REQUEST_BUFFER];
        let mut reply = vec![0u8; REPLY_BUFFER];
        let mut objects = no_objects();
        loop {
            let n = match rustix::io::read(device, &mut request[..]) {
                Ok(n) => n,
                // A request that was withdrawn while we read it.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                Err(_) => return,
            };
            let wanted = OUT_HEADER + read_size(&request[..n]).min(MAX_READ);
            if wanted > reply.len() {
                reply.resize(wanted, 0);
            }
            if let Some(message) = self.answer(thread, &request[..n], &mut reply, &mut objects) {
                // ENOENT: whoever asked was killed meanwhile.
                let _ = rustix::io::write(device.as_fd(), message);
            }
        }
    }

    /// [`Server::answer`] for one request alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn answer_bytes<'b>(&self, message: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        self.answer(0, message, buffer, &mut no_objects())
    }

    /// The reply to a request; none if it gets none.
    fn answer<'b>(
        &self,
        thread: usize,
        message: &[u8],
        buffer: &'b mut [u8],
        objects: &mut Objects,
    ) -> Option<&'b [u8]> {
        let Some(r) = &Request::parse(message) else {
            self.recorder.spoil("a file system request that is cut off");
            return None;
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        if matches!(r.opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
            return None;
        }
        let mut reply = Reply::new(buffer);
        Some(match self.fill(thread, r, &mut reply, objects) {
            Ok(()) => reply.finish(r.unique),
            Err(errno) => reply.error(r.unique, errno.raw_os_error()),
        })
    }

    fn fill(
        &self,
        thread: usize,
        r: &Request<'_>,
        out: &mut Reply<'_>,
        objects: &mut Objects,
    ) -> Result<(), Errno> {
        match r.opcode {
            op::INIT => return self.init(r, out),
            op::STATFS => {
                out.statfs();
                return Ok(());
            }
            op::RELEASE | op::RELEASEDIR | op::DESTROY => return Ok(()),
            op::OPEN
            | op::OPENDIR
            | op::ACCESS
            | op::FLUSH
            | op::STATX
            | op::LSEEK
            | op::IOCTL
            | op::POLL
            | op::SYNCFS => {
                return Err(Errno::NOSYS);
            }
            op::LOOKUP
            | op::GETATTR
            | op::READLINK
            | op::READDIR
            | op::READ
            | op::GETXATTR
            | op::LISTXATTR => {}
            other if op::MUTE.contains(&other) => return Err(Errno::NOSYS),
            other if op::CHANGES.contains(&other) => return Err(Errno::ROFS),
            other => {
                self.recorder.spoil(&format!("file system request {other} is unknown"));
                return Err(Errno::NOSYS);
            }
        }
        let id = match r.node {
            ROOT_NODE => self.view.root(),
            node => node
                .checked_sub(1)
                .and_then(|n| Id::try_from(n).ok())
                .filter(|&id| self.view.knows(id))
                .ok_or_else(|| self.damaged("inode"))?,
        };
        match r.opcode {
            op::LOOKUP => self.lookup(thread, id, r.name(0).ok_or_else(|| self.damaged("LOOKUP"))?, out),
            op::GETATTR => {
                self.recorder.saw(id, Bits::ATTR);
                out.attributes(ino(id), &self.view.attr(id));
                Ok(())
            }
            op::READLINK => {
                self.recorder.saw(id, Bits::ATTR);
                let Some(Node::Symlink(target)) = self.view.node(id) else { return Err(Errno::INVAL) };
                if target.len() >= MAX_LINK {
                    return Err(Errno::NAMETOOLONG);
                }
                out.bytes(target);
                Ok(())
            }
            op::READDIR => {
                let (offset, size) = r.u64(8).zip(r.u32(16)).ok_or_else(|| self.damaged("READDIR"))?;
                self.list(id, offset, size as usize, out)
            }
            op::READ => {
                let (offset, size) = r.u64(8).zip(r.u32(16)).ok_or_else(|| self.damaged("READ"))?;
                self.read(id, offset, size as usize, out, objects)
            }
            // The kernel asks at every execve, and for ever, unless it is told once that there are none at all. Listing them is
            // rare, and a file system that cannot do it makes programs complain.
            op::GETXATTR if !self.view.tree().has_xattrs() => Err(Errno::NOSYS),
            op::GETXATTR => {
                let (size, name) = r.u32(0).zip(r.name(8)).ok_or_else(|| self.damaged("GETXATTR"))?;
                self.get_xattr(id, name, size as usize, out)
            }
            _ => {
                let size = r.u32(0).ok_or_else(|| self.damaged("LISTXATTR"))?;
                self.list_xattrs(id, size as usize, out)
            }
        }
    }

    fn damaged(&self, what: &str) -> Errno {
        self.recorder.spoil(&format!("file system request with a bad {what}"));
        Errno::IO
    }

    fn init(&self, r: &Request<'_>, out: &mut Reply<'_>) -> Result<(), Errno> {
        let (major, minor) = r.u32(0).zip(r.u32(4)).ok_or(Errno::PROTO)?;
        let flags = r.u32(12).ok_or(Errno::PROTO)?;
        if major != MAJOR {
            return Err(Errno::PROTO);
        }
        let mut wanted = flag::ASYNC_READ
            | flag::BIG_WRITES
            | flag::NO_OPEN_SUPPORT
            | flag::PARALLEL_DIROPS
            | flag::MAX_PAGES
            | flag::CACHE_SYMLINKS
            | flag::NO_OPENDIR_SUPPORT;
        // With it, the kernel asks for the lists of every inode.
        if self.acls {
            wanted |= flag::POSIX_ACL;
        }
        out.init(minor.min(MINOR), MAX_READ as u32, flags & wanted);
        Ok(())
    }

    fn lookup(&self, thread: usize, dir: Id, name: &[u8], out: &mut Reply<'_>) -> Result<(), Errno> {
        let found = self.view.child(dir, name);
        match found {
            Some(id) if self.view.is_real(id) => self.recorder.saw(id, Bits::ATTR),
            _ => self.recorder.missed(thread, dir, name),
        }
        match found {
            Some(id) => out.entry(u64::from(id) + 1, ino(id), &self.view.attr(id)),
            None => out.absent(),
        }
        Ok(())
    }

    fn list(&self, dir: Id, offset: u64, size: usize, out: &mut Reply<'_>) -> Result<(), Errno> {
        if !self.view.is_dir(dir) {
            return Err(Errno::NOTDIR);
        }
        self.recorder.saw(dir, Bits::ATTR | Bits::LIST);
        let children = self.view.children(dir);
        let mut at = offset;
        loop {
            let fits = match at {
                0 => out.dirent(size, ino(dir), 1, 0o040000, b"."),
                1 => out.dirent(size, ino(self.view.parent(dir)), 2, 0o040000, b".."),
                n => match usize::try_from(n - 2).ok().and_then(|n| children.get(n)) {
                    Some((name, id)) => out.dirent(size, ino(id), n + 1, self.view.file_type(id), name),
                    None => false,
                },
            };
            if !fits {
                return Ok(());
            }
            at += 1;
        }
    }

    fn read(
        &self,
        id: Id,
        offset: u64,
        size: usize,
        out: &mut Reply<'_>,
        objects: &mut Objects,
    ) -> Result<(), Errno> {
        self.recorder.saw(id, Bits::ATTR | Bits::CONTENT);
        let (length, digest) = match self.view.node(id) {
            Some(Node::File { size, digest }) => (*size, digest),
            None if !self.view.is_dir(id) => return Ok(()), // a stub: empty
            _ => return Err(Errno::INVAL),
        };
        let wanted = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
        let room = out.room(wanted);
        if room.len() < wanted {
            // Fewer bytes than were asked for would be taken for the end of the file.
            return Err(self.damaged("READ"));
        }
        let mut filled = 0;
        let slot = &mut objects[id as usize % OPEN_OBJECTS];
        let result = (|| {
            let object = match slot {
                Some((open, object)) if *open == id => object,
                _ => &slot.insert((id, self.view.content().open(digest)?)).1,
            };
            while filled < room.len() {
                match object.read_at(&mut room[filled..], offset + filled as u64) {
                    Ok(0) => {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "object is shorter than its layer says",
                        ));
                    }
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        })();
        match result {
            Ok(()) => {
                out.filled(filled);
                Ok(())
            }
            Err(error) => {
                *slot = None;
                self.failure.get_or_init(|| ReadFailure { path: self.view.tree().path(id), error });
                Err(Errno::IO)
            }
        }
    }

    fn xattrs(&self, id: Id) -> &[(Vec<u8>, Vec<u8>)] {
        static NONE: Xattrs = Xattrs::new();
        self.view.tree().get(id).map_or(&NONE, |i| &i.attrs.xattrs)
    }

    fn get_xattr(&self, id: Id, name: &[u8], size: usize, out: &mut Reply<'_>) -> Result<(), Errno> {
        if is_overlay_xattr(name) {
            return Err(Errno::NODATA);
        }
        self.recorder.saw(id, Bits::ATTR);
        let all = self.xattrs(id);
        // As if the whole tree had none, where the kernel is told so once: what one file answers must not depend on others.
        if all.is_empty() && !(self.acls && name.starts_with(ACL_PREFIX)) {
            return Err(Errno::OPNOTSUPP);
        }
        let (_, value) = all.iter().find(|(n, _)| n == name).ok_or(Errno::NODATA)?;
        if size == 0 {
            xattr_size(out, value.len());
        } else if value.len() > size {
            return Err(Errno::RANGE);
        } else {
            out.bytes(value);
        }
        Ok(())
    }

    fn list_xattrs(&self, id: Id, size: usize, out: &mut Reply<'_>) -> Result<(), Errno> {
        self.recorder.saw(id, Bits::ATTR);
        let names = || self.xattrs(id).iter().map(|(n, _)| n).filter(|n| !is_overlay_xattr(n));
        let total: usize = names().map(|n| n.len() + 1).sum();
        if size == 0 {
            xattr_size(out, total);
        } else if total > size {
            return Err(Errno::RANGE);
        } else {
            for name in names() {
                out.bytes(name);
                out.zeros(1);
            }
        }
        Ok(())
    }
}

/// The bytes that a request for contents asks for; of others none.
fn read_size(message: &[u8]) -> usize {
    let read = Request::parse(message).filter(|r| r.opcode == op::READ);
    read.and_then(|r| r.u32(16)).map_or(0, |n| n as usize)
}

fn no_objects() -> Objects {
    (0..OPEN_OBJECTS).map(|_| None).collect()
}

/// Notes a panic while it goes up.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// fuse_getxattr_out.
fn xattr_size(out: &mut Reply<'_>, size: usize) {
    out.u32(size as u32);
    out.u32(0);
}

/// The inode number that stat(2) shows: never 0, and the same in every run.
fn ino(id: Id) -> u64 {
    u64::from(id) + 1
}

fn copy_error(e: &io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(e.kind(), e.to_string()),
    }
}
