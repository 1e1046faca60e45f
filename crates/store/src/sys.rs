//! File operations on names below an open directory, with the errors of the store.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, IFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::fault::{Change, point};

/// An open directory and its path, which is only for messages and for other programs.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Root> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        Ok(Root { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Before each change: see [`crate::fault`].
    pub(crate) fn point(&self, change: impl FnOnce() -> Change) -> rustix::io::Result<()> {
        point(&self.path, change)
    }

    /// The whole path of a name.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    fn openat(&self, name: &str, flags: OFlags, mode: u32) -> rustix::io::Result<File> {
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Opens a file to read it.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        Ok(self.openat(name, OFlags::RDONLY | OFlags::NOFOLLOW, 0)?)
    }

    /// Makes a new file. It can be read, too.
    pub(crate) fn create(&self, name: &str, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let made = self.point(|| Change::Make(name.into())).and_then(|()| self.openat(name, flags, mode));
        made.at("write", self.join(name))
    }

    /// Opens a lock file, making it if it is not there.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        self.openat(name, flags, 0o600).at("write", self.join(name))
    }

    /// A new file with these bytes.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.write_new_with(name, mode, |file| file.write_all(bytes))
    }

    /// A new file with what is written into it.
    pub(crate) fn write_new_with(
        &self,
        name: &str,
        mode: u32,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let mut file = self.create(name, mode)?;
        let written = self.point(|| Change::Write).map_err(io::Error::from).and_then(|()| write(&mut file));
        written.at("write", self.join(name))
    }

    /// Whether the name exists.
    pub(crate) fn exists(&self, name: &str) -> Result<bool> {
        match rustix::fs::accessat(&self.fd, name, rustix::fs::Access::EXISTS, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e).at("read", self.join(name)),
        }
    }

    /// Makes a directory; one that is there is fine. Tells whether it is new.
    pub(crate) fn make_dir(&self, name: &str) -> Result<bool> {
        let made = || rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700));
        match self.point(|| Change::Directory(name.into())).and_then(|()| made()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e).at("write", self.join(name)),
        }
    }

    /// Asks the file system to lay new directories of a directory far from each other, as it does at the top. Ext4 looks for a free
    /// inode near the directory, and passes by each that was deleted in the last minute, at a microsecond each time: where thousands
    /// were deleted, as after a build or an emptied store, that was half of the time of a pull. Not all file systems have it.
    pub(crate) fn spread(&self, name: &str) {
        const TOPDIR: IFlags = IFlags::from_bits_retain(0x0002_0000);
        if let Ok(dir) = self.openat(name, OFlags::RDONLY | OFlags::DIRECTORY, 0)
            && let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        {
            let _ = rustix::fs::ioctl_setflags(&dir, flags | TOPDIR);
        }
    }

    /// Removes a file; tells whether there was one.
    pub(crate) fn unlink(&self, name: &str) -> Result<bool> {
        let gone = self.point(|| Change::Remove(name.into()));
        match gone.and_then(|()| rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e).at("remove", self.join(name)),
        }
    }

    /// Renames, replacing what was there.
    pub(crate) fn replace(&self, from: &str, to: &str) -> Result<()> {
        let change = || Change::Rename { from: Some(from.into()), to: to.into() };
        let renamed = self.point(change).and_then(|()| rustix::fs::renameat(&self.fd, from, &self.fd, to));
        renamed.at("write", self.join(to))
    }

    /// Renames unless the new name is taken. `Ok(false)`: it is taken, and `from` is still there.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> io::Result<bool> {
        self.point(|| Change::Rename { from: Some(from.into()), to: to.into() })?;
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // File systems without this flag: a link has the same effect.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => {
                rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())?;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Moves a file from anywhere on the same file system to a name that is free.
    pub(crate) fn move_in(&self, from: &Path, to: &str) -> io::Result<()> {
        self.point(|| Change::Rename { from: None, to: to.into() })?;
        Ok(rustix::fs::renameat(rustix::fs::CWD, from, &self.fd, to)?)
    }

    /// Makes the names of a directory durable.
    pub(crate) fn sync_dir(&self, name: &str) -> Result<()> {
        let dir = self.openat(name, OFlags::RDONLY | OFlags::DIRECTORY, 0).at("open", self.join(name))?;
        let flushed =
            self.point(|| Change::FlushDirectory(name.into())).and_then(|()| rustix::fs::fsync(dir));
        flushed.at("flush", self.join(name))
    }

    /// Makes the data of a file durable.
    pub(crate) fn sync_file(&self, name: &str) -> Result<()> {
        let file = self.openat(name, OFlags::RDONLY | OFlags::NOFOLLOW, 0).at("open", self.join(name))?;
        let flushed = self.point(|| Change::FlushFile(name.into())).and_then(|()| rustix::fs::fsync(file));
        flushed.at("flush", self.join(name))
    }

    /// Makes everything written to the file system durable.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.point(|| Change::FlushAll).and_then(|()| rustix::fs::syncfs(&self.fd)).at("flush", &self.path)
    }

    /// Names in a directory, without `.` and `..`, in no order.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<std::ffi::OsString>> {
        let path = self.join(name);
        std::fs::read_dir(&path)
            .and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect())
            .at("read", path)
    }

    /// Number of the device.
    pub(crate) fn device(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.fd).at("read", &self.path)?.st_dev)
    }
}

/// Tries to lock a file, alone or shared. `false`: another holds it.
pub(crate) fn try_lock(file: impl AsFd, alone: bool) -> rustix::io::Result<bool> {
    use rustix::fs::FlockOperation as Op;
    let op = if alone { Op::NonBlockingLockExclusive } else { Op::NonBlockingLockShared };
    loop {
        match rustix::fs::flock(&file, op) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A mutex whose holder may have panicked: the data of this crate is consistent between any two statements that can.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
