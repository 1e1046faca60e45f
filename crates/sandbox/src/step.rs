//! What is to be run, and on what.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use oci::tree::Id;
use oci::{Content, Tree};
use serde::{Deserialize, Serialize};

use crate::cgroup::Limits;

/// One step: a command and everything that it gets.
#[derive(Clone)]
pub struct Step {
    /// The root file system that the step starts from.
    pub tree: Arc<Tree>,
    /// Who has the bytes of its files.
    pub content: Arc<dyn Content>,
    /// How its files are shown to it.
    pub files: Files,
    /// An existing empty directory on the file system of the store, for this step alone. `upper` and `work` are made in it.
    pub scratch: PathBuf,
    /// Program and arguments; the program is sought in the `PATH` of `env` if it has no slash.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute working directory; made, owned by `user`, if the tree lacks it (and then part of the layer).
    pub cwd: Vec<u8>,
    /// Who runs it.
    pub user: User,
    /// Host name in the step's UTS namespace.
    pub hostname: String,
    /// Bytes of /etc/hosts.
    pub etc_hosts: Vec<u8>,
    /// Bytes of /etc/resolv.conf.
    pub resolv_conf: Vec<u8>,
    /// What network it sees.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// Further mounts. They are mounted in the order of their targets, so that one may lie in another.
    pub mounts: Vec<Mount>,
    /// Size of /dev/shm in bytes.
    pub shm_size: u64,
    /// Limits to set; others are inherited.
    pub rlimits: Vec<Rlimit>,
    /// What it may use, with all its processes. Where that cannot be limited, it runs without, and [`crate::Running::unset`] says so.
    pub limits: Limits,
    /// Where its standard streams go.
    pub stdio: Stdio,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the tree (large) nor environment and mounts (secrets).
        f.debug_struct("Step")
            .field("argv", &self.argv)
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

/// Numeric identity of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How the files of a step's trees are shown to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// Served by this process through FUSE, and observed.
    Fuse,
    /// From directories under overlayfs. Nothing is observed.
    Overlay {
        /// Directories of the root's layers, made by [`crate::write_layer`] or [`crate::write_tree`], the topmost first. Without any, the
        /// tree is written into the scratch directory. What is mounted besides the root is written there in any case.
        lowers: Vec<PathBuf>,
    },
    /// From a copy of each tree in the scratch directory. Nothing is observed.
    Copy,
}

/// Network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// Loopback only.
    None,
    /// One of its own, which the program pasta connects with the host's: nothing of the host's loopback is in it.
    Pasta,
}

/// Confinement of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Docker's defaults: 14 capabilities, system call filter, masked paths, no device files but the usual ones.
    Sandbox,
    /// All capabilities, no filter, nothing masked (`RUN --security=insecure`).
    Insecure,
}

/// One further mount.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Absolute path; links in it are followed inside the step's root. What does not exist is shown, but never becomes part of the layer.
    pub target: Vec<u8>,
    /// What to mount.
    pub source: MountSource,
}

/// What to mount.
#[derive(Clone)]
pub enum MountSource {
    /// A part of a tree, served and observed as the root is.
    View {
        /// The tree.
        tree: Arc<Tree>,
        /// Who has the bytes of its files.
        content: Arc<dyn Content>,
        /// The directory or file of the tree to mount.
        subpath: Id,
        /// Whether it can be written; what is written is gone after the step.
        writable: bool,
    },
    /// A directory of the host (cache mounts, volumes).
    Dir {
        /// Where it is.
        path: PathBuf,
        /// Whether writes are refused.
        readonly: bool,
    },
    /// A file of the host. What replaces it there (most editors do) is not seen.
    HostFile {
        /// Where it is.
        path: PathBuf,
        /// Whether writes are refused.
        readonly: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Limit in bytes; none: half of the memory.
        size: Option<u64>,
        /// Permissions; none: those of the directory that it covers (as runc does it), or 1777.
        mode: Option<u32>,
    },
    /// A read-only file in memory (secrets, scripts).
    File {
        /// What is in it.
        bytes: Vec<u8>,
        /// Permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A Unix socket of the host (SSH agent).
    Socket {
        /// Where it is.
        path: PathBuf,
        /// Permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl fmt::Debug for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountSource::View { subpath, writable, .. } => f
                .debug_struct("View")
                .field("subpath", subpath)
                .field("writable", writable)
                .finish_non_exhaustive(),
            MountSource::Dir { path, readonly } => {
                f.debug_struct("Dir").field("path", path).field("readonly", readonly).finish()
            }
            MountSource::HostFile { path, readonly } => {
                f.debug_struct("HostFile").field("path", path).field("readonly", readonly).finish()
            }
            MountSource::Tmpfs { size, mode } => {
                f.debug_struct("Tmpfs").field("size", size).field("mode", mode).finish()
            }
            // The bytes may be a secret.
            MountSource::File { bytes, mode, uid, gid } => f
                .debug_struct("File")
                .field("len", &bytes.len())
                .field("mode", mode)
                .field("uid", uid)
                .field("gid", gid)
                .finish(),
            MountSource::Socket { path, .. } => {
                f.debug_struct("Socket").field("path", path).finish_non_exhaustive()
            }
        }
    }
}

/// Where a step's standard streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Standard output and error to pipes of [`crate::Running`], input empty.
    Pipes,
    /// This process' own streams; input empty unless `stdin`.
    Inherit {
        /// Whether the step reads this process' standard input.
        stdin: bool,
    },
    /// A new terminal, whose other end is in [`crate::Running`].
    Pty {
        /// Lines of the terminal.
        rows: u16,
        /// Columns of the terminal.
        cols: u16,
    },
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub resource: Resource,
    /// Limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// Upper bound of `soft`; `u64::MAX` is none.
    pub hard: u64,
}

macro_rules! resources {
    ($($name:ident $text:literal $libc:ident,)*) => {
        /// The resources of setrlimit(2), by the names of `docker --ulimit`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Resource { $($name,)* }

        impl Resource {
            /// The resource of a name such as `nofile`.
            pub fn from_name(name: &str) -> Option<Resource> {
                match name { $($text => Some(Resource::$name),)* _ => None }
            }

            /// The name.
            pub fn name(self) -> &'static str {
                match self { $(Resource::$name => $text,)* }
            }

            /// The kernel's number.
            #[allow(clippy::unnecessary_cast)] // the type differs between C libraries
            pub(crate) fn number(self) -> u32 {
                match self { $(Resource::$name => libc::$libc as u32,)* }
            }
        }
    };
}

resources! {
    As "as" RLIMIT_AS,
    Core "core" RLIMIT_CORE,
    Cpu "cpu" RLIMIT_CPU,
    Data "data" RLIMIT_DATA,
    Fsize "fsize" RLIMIT_FSIZE,
    Locks "locks" RLIMIT_LOCKS,
    Memlock "memlock" RLIMIT_MEMLOCK,
    Msgqueue "msgqueue" RLIMIT_MSGQUEUE,
    Nice "nice" RLIMIT_NICE,
    Nofile "nofile" RLIMIT_NOFILE,
    Nproc "nproc" RLIMIT_NPROC,
    Rss "rss" RLIMIT_RSS,
    Rtprio "rtprio" RLIMIT_RTPRIO,
    Rttime "rttime" RLIMIT_RTTIME,
    Sigpending "sigpending" RLIMIT_SIGPENDING,
    Stack "stack" RLIMIT_STACK,
}
