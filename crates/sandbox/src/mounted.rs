//! A tree mounted for whoever wants to look at it: read-only, served by this process.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use oci::{Content, Tree};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::channel::Failure;
use crate::error::{SandboxError, Stage};
use crate::fuse::Server;
use crate::init::mount_fuse;
use crate::run::{serve, setup_error};
use crate::view::View;

/// A mounted tree. Dropped, it is unmounted; who still has files of it open gets errors from then on.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Mounted {
    /// Mounts a tree on a directory, without device files and set-user-ID programs. With `private` it is seen only by what this thread
    /// starts from now on. A mount whose server was killed is replaced.
    pub fn mount(
        tree: Arc<Tree>,
        content: Arc<dyn Content>,
        path: &Path,
        private: bool,
    ) -> Result<Mounted, SandboxError> {
        let failed = |what: String| {
            move |e: Errno| setup_error(Failure { stage: Stage::Mounts, what, errno: e.raw_os_error() })
        };
        if private {
            unshare(UnshareFlags::NEWNS).map_err(failed("make a mount namespace".into()))?;
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", slave).map_err(failed("keep mounts to itself".into()))?;
        }
        if rustix::fs::stat(path).err() == Some(Errno::NOTCONN) {
            rustix::mount::unmount(path, UnmountFlags::DETACH)
                .map_err(failed(format!("unmount what is left on {path:?}")))?;
        }
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        let device = mount_fuse(path.as_os_str().as_bytes(), flags).map_err(setup_error)?;
        let mut threads = Vec::new();
        let view = View::new(tree, content, oci::tree::ROOT);
        match serve(view, device, true, &mut threads) {
            Ok(server) => Ok(Mounted { path: path.to_owned(), server, threads }),
            Err(e) => {
                let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
                Err(e)
            }
        }
    }

    /// Something that waits until somebody unmounts it.
    pub fn end(&mut self) -> impl FnOnce() + Send + use<> {
        let threads = std::mem::take(&mut self.threads);
        move || {
            for thread in threads {
                let _ = thread.join();
            }
        }
    }

    /// The first file whose content could not be read, if there was one.
    pub fn failure(&self) -> Result<(), SandboxError> {
        self.server.failure().map_err(|failure| SandboxError::Content {
            path: format!("/{}", String::from_utf8_lossy(&failure.path)),
            source: failure.error,
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may be unmounted already.
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: CLONE_FILES, the one flag that could pull descriptors away from under others, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
