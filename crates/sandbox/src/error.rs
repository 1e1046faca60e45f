//! Why a step could not be run.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Part of the set-up that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Opening or mounting FUSE.
    Fuse,
    /// Making namespaces.
    Namespaces,
    /// A network of its own that leads outside.
    Network,
    /// Mounting the overlay.
    Overlay,
    /// Any other mount.
    Mounts,
    /// The working directory.
    Directory,
    /// Resource limits.
    Limits,
    /// User, groups, capabilities, system call filter.
    Privileges,
    /// Everything else.
    Process,
}

/// Why a step could not be run, or ran on something broken. A command that ran and failed is no error: see [`crate::Exit`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program is not there or cannot be executed; what a shell reports as 127 or 126.
    #[error("cannot run {program:?} (working directory {cwd:?}, user {uid}:{gid}): {why}")]
    Command {
        /// The program as given.
        program: String,
        /// Working directory.
        cwd: String,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// What is wrong with it.
        why: String,
        /// 127: not found; 126: found, but cannot be executed.
        code: i32,
    },
    /// The step asks for something impossible.
    #[error("{0}")]
    Invalid(String),
    /// A part of the set-up was refused.
    #[error("cannot {what} for the step")]
    Setup {
        /// Which part.
        stage: Stage,
        /// What was being done.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Bytes of a file of the tree could not be read while the step ran, so what it did is worth nothing.
    #[error("cannot read the content of {path:?} that the step asked for")]
    Content {
        /// Path in the tree.
        path: String,
        /// What the store said.
        source: io::Error,
    },
    /// Preparing on this side of the sandbox failed.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The processes that run the step ended without a word, or the server of its files broke down.
    #[error("lost the step: {0}")]
    Lost(String),
}

impl SandboxError {
    /// Whether this machine has no FUSE for us, so that a plain overlay is the way to go on.
    pub fn is_without_fuse(&self) -> bool {
        matches!(self, SandboxError::Setup { stage: Stage::Fuse, .. })
    }

    /// Whether overlayfs cannot be had, so that a copy is the way to go on.
    pub fn is_without_overlay(&self) -> bool {
        matches!(self, SandboxError::Setup { stage: Stage::Overlay, .. })
    }

    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        let SandboxError::Setup { stage, source, .. } = self else { return None };
        Some(match (stage, source.raw_os_error()?) {
            (Stage::Fuse, libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "load the kernel module with `modprobe fuse`; in a container, add the device /dev/fuse (docker: --device /dev/fuse)"
            }
            (Stage::Fuse, libc::EACCES | libc::EPERM) => {
                "this process may not use /dev/fuse; in a container, add the device and CAP_SYS_ADMIN (docker: --privileged, or \
                 --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
            }
            (Stage::Namespaces, libc::EPERM | libc::EACCES) => {
                "namespaces need root with CAP_SYS_ADMIN; in a container, use docker's --privileged, or --cap-add SYS_ADMIN \
                 --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
            }
            (Stage::Namespaces, libc::ENOSPC | libc::EUSERS) => {
                "the limit of namespaces is reached: see the sysctls user.max_mnt_namespaces and user.max_pid_namespaces"
            }
            (Stage::Network, libc::ENOENT) => {
                "--network=pasta needs the program pasta (Debian, Ubuntu and Fedora: package passt); --network=host does without"
            }
            (Stage::Network, _) => {
                "pasta needs /dev/net/tun (in a container: --device /dev/net/tun) and an interface that leads outside"
            }
            (Stage::Overlay, libc::ENODEV) => "load the kernel module with `modprobe overlay`",
            (Stage::Overlay, libc::EINVAL | libc::EOPNOTSUPP) => {
                "overlayfs needs a store on ext4, xfs, btrfs or tmpfs; on overlayfs itself (inside a container), NFS and FUSE it does \
                 not work: choose another directory with --root, such as a volume"
            }
            (Stage::Mounts, libc::EPERM) if crate::Ids::here().nested() => {
                "in a container, parts of /proc are masked, and the kernel refuses a new one then: use docker's --security-opt \
                 systempaths=unconfined, or podman's --security-opt unmask=ALL"
            }
            (Stage::Overlay | Stage::Mounts, libc::EPERM | libc::EACCES) => {
                "mounting needs root with CAP_SYS_ADMIN; in a container, use docker's --privileged, or --cap-add SYS_ADMIN \
                 --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
            }
            (Stage::Mounts, libc::ENOSPC) => "the limit of mounts is reached: see the sysctl fs.mount-max",
            (Stage::Limits, libc::EPERM) => {
                "raising a hard limit needs CAP_SYS_RESOURCE, which this process lacks"
            }
            (Stage::Privileges, libc::EINVAL | libc::ENOSYS) => {
                "the kernel lacks system call filters (CONFIG_SECCOMP_FILTER); a step can only run with --security=insecure"
            }
            (Stage::Privileges, libc::EPERM) => "changing user and capabilities needs root",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_users_meet_come_with_a_remedy() {
        let setup = |stage, errno| SandboxError::Setup {
            stage,
            what: "open /dev/fuse".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        let fuse = setup(Stage::Fuse, libc::ENOENT);
        assert!(fuse.is_without_fuse() && fuse.hint().unwrap().contains("modprobe fuse"));
        assert!(!fuse.to_string().contains("No such file"), "Display does not repeat the source");
        assert!(setup(Stage::Overlay, libc::EINVAL).hint().unwrap().contains("--root"));
        assert!(setup(Stage::Namespaces, libc::EPERM).hint().unwrap().contains("--privileged"));
        assert!(setup(Stage::Network, libc::ENOENT).hint().unwrap().contains("passt"));
        assert!(setup(Stage::Process, libc::EIO).hint().is_none());
    }
}
