//! This program's own executable, as the step's first process is started from it.
//!
//! That process is in the step's namespaces for a moment, so the step's files could lead back to its executable (a script whose
//! interpreter is /proc/self/exe) and have the host's layercake rewritten by a step that runs as root (CVE-2019-5736). So it is
//! executed through a detached read-only mount of the file: whoever opens it over /proc gets that mount, and EROFS on writing.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

/// What to execute. Without permission to mount it is the file itself.
pub(crate) fn path() -> PathBuf {
    static SEALED: OnceLock<Option<OwnedFd>> = OnceLock::new();
    match SEALED.get_or_init(seal) {
        Some(mount) => format!("/proc/self/fd/{}", mount.as_raw_fd()).into(),
        None => "/proc/self/exe".into(),
    }
}

fn seal() -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = match rustix::mount::open_tree(CWD, "/proc/self/exe", flags) {
        Ok(mount) => mount,
        // Since this process is in a mount namespace of its own, the link leads into another one; the path does not.
        Err(_) => {
            let path = std::fs::read_link("/proc/self/exe").ok()?;
            let mount = rustix::mount::open_tree(CWD, &path, flags).ok()?;
            let (ours, found) = (rustix::fs::stat("/proc/self/exe").ok()?, rustix::fs::fstat(&mount).ok()?);
            ((ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino)).then_some(mount)?
        }
    };
    crate::sys::make_mount_readonly(&mount).ok()?;
    Some(mount)
}
