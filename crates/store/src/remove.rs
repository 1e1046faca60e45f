//! Removes trees that a step left: directories without any permission, immutable files, trees deeper than a path can be long.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

/// Directories open at once. What lies deeper is first moved up.
const MAX_DEPTH: usize = 64;

/// Removes `path` with everything in it. Goes on after an error and gives the first one; a path that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let top = match open_dir(rustix::fs::CWD, &CString::new(parent.as_os_str().as_bytes())?) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut job = Job {
        top: top.as_fd(),
        name: CString::new(name.as_bytes())?,
        deep: Vec::new(),
        moved: 0,
        error: None,
    };
    let first = job.name.clone();
    job.remove(job.top, &first, FileType::Unknown, 0);
    while let Some(name) = job.deep.pop() {
        job.remove(job.top, &name, FileType::Directory, 0);
    }
    job.error.map_or(Ok(()), |e| Err(e.into()))
}

struct Job<'a> {
    /// The directory in which the tree lies.
    top: BorrowedFd<'a>,
    name: CString,
    /// Names in `top` of directories that were moved up.
    deep: Vec<CString>,
    moved: u32,
    error: Option<Errno>,
}

impl Job<'_> {
    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) {
        let done = match kind {
            FileType::Directory => self.remove_dir(dir, name, depth),
            _ => match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                // Linux says EISDIR, others of POSIX EPERM.
                Err(Errno::ISDIR) => self.remove_dir(dir, name, depth),
                Err(Errno::PERM | Errno::ACCESS) => {
                    if is_dir(dir, name) {
                        self.remove_dir(dir, name, depth)
                    } else {
                        unlock(dir, name);
                        rustix::fs::unlinkat(dir, name, AtFlags::empty())
                    }
                }
                other => other,
            },
        };
        match done {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => {
                self.error.get_or_insert(e);
            }
        }
    }

    fn remove_dir(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) -> rustix::io::Result<()> {
        // An empty directory goes at once; this also spares opening most of overlayfs' own.
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::PERM | Errno::ACCESS) => {}
            other => return other,
        }
        if depth >= MAX_DEPTH {
            let up = CString::new(format!("{}.deep-{}", self.name.to_string_lossy(), self.moved))
                .expect("a C string and a number hold no NUL");
            self.moved += 1;
            rustix::fs::renameat(dir, name, self.top, &up)?;
            self.deep.push(up);
            return Ok(());
        }
        let mut me = match open_dir(dir, name) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
                open_dir(dir, name)?
            }
            other => other?,
        };
        self.empty(&mut me, depth)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::PERM | Errno::ACCESS) => {
                unlock(dir, name);
                rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
            }
            other => other,
        }
    }

    fn empty(&mut self, me: &mut OwnedFd, depth: usize) -> rustix::io::Result<()> {
        // Names first, then the removing: a listing that changes while it is read may skip names.
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*me)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        if !names.is_empty()
            && rustix::fs::accessat(&*me, c".", rustix::fs::Access::WRITE_OK, AtFlags::empty()).is_err()
        {
            unlock_fd(&*me);
        }
        for (name, kind) in names {
            self.remove(me.as_fd(), &name, kind, depth + 1);
        }
        Ok(())
    }
}

fn open_dir(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn is_dir(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|st| FileType::from_raw_mode(st.st_mode) == FileType::Directory)
}

/// Takes the immutable and append-only flags from a name and its directory, and makes the directory writable.
fn unlock(dir: BorrowedFd<'_>, name: &CStr) {
    unlock_fd(dir);
    // Only these two kinds can have the flags, and opening a device may do things.
    let kind = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|st| FileType::from_raw_mode(st.st_mode));
    if !matches!(kind, Ok(FileType::RegularFile | FileType::Directory)) {
        return;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::openat(dir, name, flags, Mode::empty()) {
        clear_flags(&fd);
    }
}

// Both are best effort: the removal that follows tells whether they helped.
fn unlock_fd(dir: impl AsFd) {
    clear_flags(&dir);
    let _ = rustix::fs::fchmod(dir, Mode::RWXU);
}

fn clear_flags(fd: impl AsFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(&fd) {
        let bad = IFlags::IMMUTABLE | IFlags::APPEND;
        if flags.intersects(bad) {
            let _ = rustix::fs::ioctl_setflags(&fd, flags - bad);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_what_permissions_and_depth_protect() {
        let tmp = tempfile::tempdir().unwrap();
        let outside = tmp.path().join("outside");
        fs::write(&outside, "stays").unwrap();
        let tree = tmp.path().join("tree");
        fs::create_dir_all(tree.join("work/work/inner")).unwrap();
        File::create(tree.join("work/work/inner/f")).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        symlink(tmp.path(), tree.join("dirlink")).unwrap();
        fs::set_permissions(tree.join("work/work"), fs::Permissions::from_mode(0o000)).unwrap();
        // Deeper than PATH_MAX, and than there may be open files.
        let mut at = open_dir(rustix::fs::CWD, &CString::new(tree.as_os_str().as_bytes()).unwrap()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"deeper", Mode::RWXU).unwrap();
            at = open_dir(&at, c"deeper").unwrap();
        }
        drop(at);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let low = rustix::process::Rlimit { current: Some(512), maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
        remove_tree(&tree).unwrap();
        let left: Vec<_> = fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["outside"]);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
    }

    #[test]
    fn what_is_not_there_is_fine() {
        let tmp = tempfile::tempdir().unwrap();
        remove_tree(&tmp.path().join("no/such")).unwrap();
        remove_tree(&tmp.path().join("none")).unwrap();
    }
}
