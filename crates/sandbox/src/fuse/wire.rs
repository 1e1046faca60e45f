//! Messages of the FUSE kernel protocol, version 7 (include/uapi/linux/fuse.h), as far as a read-only server needs them.
//! All numbers are in the machine's byte order.

use crate::view::Attr;

/// Version that we speak: 7.41 (Linux 6.12); the kernel talks down to it.
pub(super) const MAJOR: u32 = 7;
pub(super) const MINOR: u32 = 41;

/// Requests, by their kernel names.
pub(super) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const POLL: u32 = 40;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const SYNCFS: u32 = 50;
    pub(crate) const STATX: u32 = 52;
    /// FSYNC, FSYNCDIR, GETLK, SETLK, SETLKW, BMAP: ask nothing about a tree.
    pub(crate) const MUTE: [u32; 6] = [20, 30, 31, 32, 33, 37];
    /// SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR, CREATE, FALLOCATE, RENAME2,
    /// COPY_FILE_RANGE, TMPFILE: the mount is read-only, so the kernel refuses them before we see one.
    pub(crate) const CHANGES: [u32; 16] = [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51];
}

/// Flags of INIT.
pub(super) mod flag {
    pub(crate) const ASYNC_READ: u32 = 1 << 0;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    pub(crate) const NO_OPEN_SUPPORT: u32 = 1 << 17;
    pub(crate) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(crate) const POSIX_ACL: u32 = 1 << 20;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u32 = 1 << 23;
    pub(crate) const NO_OPENDIR_SUPPORT: u32 = 1 << 24;
}

/// Length of the header of a request.
pub(super) const IN_HEADER: usize = 40;
/// Length of the header of a reply.
pub(super) const OUT_HEADER: usize = 16;

/// Seconds that the kernel may trust an entry or attributes: 34 years.
const FOREVER: u64 = 1 << 30;

/// A request, borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A message as read from the device; `None` if it is cut off.
    pub(super) fn parse(message: &'a [u8]) -> Option<Request<'a>> {
        let (header, body) = message.split_at_checked(IN_HEADER)?;
        let whole = Request { opcode: 0, unique: 0, node: 0, body: header };
        Some(Request { opcode: whole.u32(4)?, unique: whole.u64(8)?, node: whole.u64(16)?, body })
    }

    /// A number in the body.
    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.body.get(at..at + 4)?.try_into().ok()?))
    }

    /// A number in the body.
    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.body.get(at..at + 8)?.try_into().ok()?))
    }

    /// The NUL-terminated name at an offset of the body.
    pub(super) fn name(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.body.get(at..)?;
        rest.iter().position(|&c| c == 0).map(|end| &rest[..end])
    }
}

/// Builds the body of a reply in a buffer that is never grown.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Reply<'a> {
    /// An empty body; the buffer has room for the header in front.
    pub(super) fn new(buffer: &'a mut [u8]) -> Reply<'a> {
        Reply { buffer, len: OUT_HEADER }
    }

    /// Bytes of the body so far.
    pub(super) fn body_len(&self) -> usize {
        self.len - OUT_HEADER
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.bytes(&n.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.bytes(&n.to_ne_bytes());
    }

    pub(super) fn zeros(&mut self, n: usize) {
        self.buffer[self.len..self.len + n].fill(0);
        self.len += n;
    }

    /// At most `n` bytes of room after the body, to be claimed with [`Reply::filled`].
    pub(super) fn room(&mut self, n: usize) -> &mut [u8] {
        let end = self.buffer.len().min(self.len + n);
        &mut self.buffer[self.len..end]
    }

    /// Claims bytes written into [`Reply::room`].
    pub(super) fn filled(&mut self, n: usize) {
        self.len += n;
    }

    /// The message, with its header.
    pub(super) fn finish(self, unique: u64) -> &'a [u8] {
        let (len, buffer) = (self.len, self.buffer);
        header(&mut buffer[..OUT_HEADER], len, 0, unique);
        &buffer[..len]
    }

    /// A reply that is only an error number.
    pub(super) fn error(self, unique: u64, errno: i32) -> &'a [u8] {
        header(&mut self.buffer[..OUT_HEADER], OUT_HEADER, -errno, unique);
        &self.buffer[..OUT_HEADER]
    }

    /// fuse_entry_out of a node.
    pub(super) fn entry(&mut self, node: u64, ino: u64, attr: &Attr) {
        self.entry_head(node);
        self.attr(ino, attr);
    }

    /// fuse_entry_out that says that there is nothing, for ever.
    pub(super) fn absent(&mut self) {
        self.entry_head(0);
        self.zeros(88);
    }

    fn entry_head(&mut self, node: u64) {
        for n in [node, 0, FOREVER, FOREVER, 0] {
            self.u64(n);
        }
    }

    /// fuse_attr_out.
    pub(super) fn attributes(&mut self, ino: u64, attr: &Attr) {
        self.u64(FOREVER);
        self.u64(0);
        self.attr(ino, attr);
    }

    fn attr(&mut self, ino: u64, a: &Attr) {
        let secs = a.mtime.secs as u64;
        for n in [ino, a.size, a.size.div_ceil(512), secs, secs, secs] {
            self.u64(n);
        }
        let (major, minor) = a.rdev;
        let rdev = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12);
        let nanos = a.mtime.nanos;
        for n in [nanos, nanos, nanos, a.mode, a.nlink, a.uid, a.gid, rdev, 4096, 0] {
            self.u32(n);
        }
    }

    /// fuse_dirent; false if it does not fit into `limit` bytes of body.
    pub(super) fn dirent(&mut self, limit: usize, ino: u64, next: u64, file_type: u32, name: &[u8]) -> bool {
        let len = (24 + name.len()).next_multiple_of(8);
        if self.body_len() + len > limit || self.len + len > self.buffer.len() {
            return false;
        }
        self.u64(ino);
        self.u64(next);
        self.u32(name.len() as u32);
        self.u32(file_type >> 12);
        self.bytes(name);
        self.zeros(len - 24 - name.len());
        true
    }

    /// fuse_init_out.
    pub(super) fn init(&mut self, minor: u32, max_readahead: u32, flags: u32) {
        const BACKGROUND: u32 = 64 | 48 << 16; // requests in the background, and from where on the kernel throttles
        const MAX_WRITE: u32 = 4096; // nothing is written; the kernel's own minimum
        const GRANULARITY: u32 = 1;
        const MAX_PAGES: u32 = 256; // 1 MiB a READ
        for n in [
            MAJOR,
            minor,
            max_readahead,
            flags,
            swap_halves(BACKGROUND),
            MAX_WRITE,
            GRANULARITY,
            swap_halves(MAX_PAGES),
        ] {
            self.u32(n);
        }
        self.zeros(32);
    }

    /// fuse_statfs_out: the same for every tree, every time.
    pub(super) fn statfs(&mut self) {
        for n in [1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19] {
            self.u64(n); // blocks, free, available, files, files free
        }
        for n in [4096, 255, 4096, 0] {
            self.u32(n); // block size, longest name, fragment size, padding
        }
        self.zeros(24);
    }
}

/// Two 16-bit fields in one 32-bit number: the first field is the lower address on every machine.
fn swap_halves(n: u32) -> u32 {
    if cfg!(target_endian = "big") { n.rotate_left(16) } else { n }
}

fn header(out: &mut [u8], len: usize, error: i32, unique: u64) {
    out[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    out[4..8].copy_from_slice(&error.to_ne_bytes());
    out[8..16].copy_from_slice(&unique.to_ne_bytes());
}
