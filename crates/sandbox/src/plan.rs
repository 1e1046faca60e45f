//! The plan: everything that the step's first process does, as plain data.
//!
//! A pure function makes it from a [`Step`]; [`crate::init`] carries it out, in the order of the fields. docs/sandbox.md says
//! what is mounted and why.

use serde::{Deserialize, Serialize};

use crate::caps;
use crate::error::SandboxError;
use crate::seccomp::{self, Insn};
use crate::step::{Files, Mount, MountSource, Network, Rlimit, Security, Stdio, Step, User};
use crate::targets::{Content, Targets};
use crate::view::View;

/// Directory below the scratch directory on which everything is put together; the mounts exist in the step's namespace only.
pub(crate) const STAGE: &str = "mnt";
/// Place of the step's root below [`STAGE`].
pub(crate) const ROOT: &str = "root";

/// Where a step with pasta asks for names: of the link-local network, so nobody else's.
pub(crate) const NAMESERVER: &str = "169.254.1.1";

/// Paths that a sandboxed step sees empty (runtime-spec's masked paths; BuildKit's list).
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that a sandboxed step cannot write to (BuildKit's list).
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Character devices that a step has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in /dev.
const DEV_LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
];

/// Everything that the step's first process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The scratch directory; relative paths of operations start there.
    #[serde(with = "latin1")]
    pub(crate) scratch: Vec<u8>,
    /// Whether the step has a network namespace of its own.
    pub(crate) own_network: bool,
    /// Whether that is connected with the host's by pasta.
    pub(crate) pasta: bool,
    /// Control groups to join, as directories of the host.
    pub(crate) groups: Vec<String>,
    pub(crate) hostname: String,
    /// Names below [`STAGE`] on which the views are mounted; they are served by the parent.
    pub(crate) views: Vec<String>,
    /// Names below [`STAGE`] that are links to directories of the host, whose paths overlayfs' options could not hold.
    pub(crate) links: Vec<Link>,
    /// Mounts and what belongs to them, in order.
    pub(crate) ops: Vec<Op>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) stdio: Streams,
    #[serde(with = "latin1")]
    pub(crate) cwd: Vec<u8>,
    pub(crate) user: User,
    /// Capabilities to keep, as a bit mask; all others leave the bounding set. `None`: those of this process stay.
    pub(crate) capabilities: Option<u64>,
    /// System call filter.
    pub(crate) seccomp: Option<Vec<Insn>>,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

/// A name below [`STAGE`] for a directory of the host. A relative path starts at the scratch directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) name: String,
    #[serde(with = "latin1")]
    pub(crate) to: Vec<u8>,
}

/// Standard streams, as the first process finds or makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Streams {
    /// Output and error are inherited pipes, and become the user's.
    Pipes,
    /// Output and error are inherited; input too if it came with the plan.
    Inherit,
    /// A new terminal.
    Pty { rows: u16, cols: u16 },
}

/// A path in the step's root is absolute, and never leads out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// An overlay with its upper and work directory (relative to the scratch directory), at a name below the stage. The lower ones,
    /// topmost first, are names below the stage.
    Overlay { lowers: Vec<String>, upper: String, work: String, at: String, nodev: bool },
    /// A directory of the scratch directory as the root.
    Root { from: String, nodev: bool },
    /// A new file system.
    Mount {
        fstype: String,
        #[serde(with = "latin1")]
        target: Vec<u8>,
        flags: Vec<Flag>,
        data: String,
    },
    /// A directory or file below the stage, bound.
    BindStaged {
        from: String,
        #[serde(with = "latin1")]
        target: Vec<u8>,
        readonly: bool,
        file: bool,
    },
    /// A directory or file of the host, bound.
    BindHost {
        #[serde(with = "latin1")]
        from: Vec<u8>,
        #[serde(with = "latin1")]
        target: Vec<u8>,
        readonly: bool,
        /// Whether device files in it cannot be opened.
        nodev: bool,
        file: bool,
    },
    /// A file below the stage, in memory.
    File {
        name: String,
        #[serde(with = "latin1")]
        bytes: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// A character device that can be opened, in /dev.
    Device { name: String, major: u32, minor: u32 },
    /// A symbolic link.
    Symlink { target: String, text: String },
    /// Hides a path, if it exists: a file behind /dev/null, a directory behind an empty one.
    Mask { target: String },
    /// Makes a path, if it exists, read-only.
    ReadOnly { target: String },
    /// The unified control groups, if the host has them at /sys/fs/cgroup.
    Cgroup { readonly: bool },
}

/// Flags of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flag {
    NoSuid,
    NoDev,
    NoExec,
    ReadOnly,
    StrictAtime,
}

/// A plan, the views that it names (the root first), and which of them belongs to which mount of the step.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) views: Vec<View>,
    pub(crate) stubs: Vec<Vec<u8>>,
    /// Directories below the scratch directory to be filled before the plan runs.
    pub(crate) fills: Vec<(String, Fill)>,
    /// Directories to make below the scratch directory before the plan runs, each the upper directory of a view.
    pub(crate) uppers: Vec<(String, usize)>,
    /// Sockets to make below the scratch directory, with the index of their mount.
    pub(crate) sockets: Vec<(String, usize)>,
}

/// What a directory is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// All that a view shows.
    View(usize),
    /// The mount targets that the root's layers lack.
    Stubs,
}

fn invalid(text: impl Into<String>) -> SandboxError {
    SandboxError::Invalid(text.into())
}

fn cannot_mount(why: String) -> SandboxError {
    invalid(format!("cannot mount: {why}"))
}

/// Makes the plan of a step. `capable` are the capabilities that this process can give away.
pub(crate) fn make(step: &Step, capable: u64) -> Result<Planned, SandboxError> {
    use std::os::unix::ffi::OsStrExt;
    check(step)?;
    let sandboxed = step.security == Security::Sandbox;
    let root = View::new(step.tree.clone(), step.content.clone(), oci::tree::ROOT);
    let mut b = Builder {
        targets: Targets::new(root),
        served: step.files == Files::Fuse,
        views: Vec::new(),
        links: Vec::new(),
        fills: Vec::new(),
        ops: Vec::new(),
        uppers: Vec::new(),
        sockets: Vec::new(),
        files: 0,
    };
    b.root(step, sandboxed);
    b.system(step)?;
    // A target that lies in another comes after it.
    let mut order: Vec<usize> = (0..step.mounts.len()).collect();
    order.sort_by(|&x, &y| {
        let parts = |i: usize| {
            step.mounts[i].target.split(|&c| c == b'/').filter(|c| !c.is_empty()).collect::<Vec<_>>()
        };
        parts(x).cmp(&parts(y))
    });
    // Views are numbered in the order of the mounts, whatever order they are mounted in.
    let mut view_of = vec![0; step.mounts.len()];
    for (i, mount) in step.mounts.iter().enumerate() {
        if let MountSource::View { tree, content, subpath, .. } = &mount.source {
            if tree.get(*subpath).is_none() {
                return Err(invalid(format!(
                    "mount at {:?} has no source",
                    String::from_utf8_lossy(&mount.target)
                )));
            }
            view_of[i] = b.targets.views.len();
            b.targets.views.push(View::new(tree.clone(), content.clone(), *subpath));
            b.view(view_of[i]);
        }
    }
    for i in order {
        b.mount(&step.mounts[i], i, view_of[i])?;
    }
    if sandboxed {
        b.ops.extend(READONLY.map(|p| Op::ReadOnly { target: p.into() }));
        b.ops.extend(MASKED.map(|p| Op::Mask { target: p.into() }));
    }
    let capabilities = sandboxed.then_some(caps::DEFAULT & capable);
    let plan = Plan {
        scratch: step.scratch.as_os_str().as_bytes().to_vec(),
        own_network: step.network != Network::Host,
        pasta: step.network == Network::Pasta,
        groups: Vec::new(),
        hostname: step.hostname.clone(),
        views: b.views,
        links: b.links,
        ops: b.ops,
        rlimits: step.rlimits.clone(),
        stdio: match step.stdio {
            Stdio::Pipes => Streams::Pipes,
            Stdio::Inherit { .. } => Streams::Inherit,
            Stdio::Pty { rows, cols } => Streams::Pty { rows, cols },
        },
        cwd: step.cwd.clone(),
        user: known(&step.user),
        capabilities,
        seccomp: capabilities.and_then(|c| seccomp::default_filter(c, crate::ids::Ids::here().single())),
        argv: step.argv.clone(),
        env: step.env.clone(),
    };
    Ok(Planned {
        plan,
        views: b.targets.views,
        stubs: b.targets.stubs,
        fills: b.fills,
        uppers: b.uppers,
        sockets: b.sockets,
    })
}

/// /etc/resolv.conf of a step: with pasta its resolver first, and none that listens on the host's loopback.
fn resolv_conf(step: &Step) -> Vec<u8> {
    if step.network != Network::Pasta {
        return step.resolv_conf.clone();
    }
    let text = String::from_utf8_lossy(&step.resolv_conf);
    let server = |line: &str| line.split_whitespace().next() == Some("nameserver");
    let loopback = |line: &str| {
        let address = line.split_whitespace().nth(1).unwrap_or_default();
        address.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    };
    let kept = text.lines().filter(|l| !(server(l) && loopback(l)));
    std::iter::once(format!("nameserver {NAMESERVER}").as_str())
        .chain(kept)
        .flat_map(|l| [l.as_bytes(), b"\n"].concat())
        .collect()
}

/// Users and groups that do not exist here are root: with one user only that is all that there is.
fn known(user: &User) -> User {
    let ids = crate::ids::Ids::here();
    let groups = user.groups.iter().copied().filter(|g| ids.has_group(*g)).collect();
    User { uid: ids.user(user.uid), gid: ids.group(user.gid), groups }
}

/// Refuses what no system call would take.
fn check(step: &Step) -> Result<(), SandboxError> {
    if step.argv.first().is_none_or(String::is_empty) {
        return Err(invalid("no command was given"));
    }
    if step.argv.iter().any(|a| a.contains('\0')) {
        return Err(invalid("an argument of the command holds a NUL byte"));
    }
    if let Some((name, _)) =
        step.env.iter().find(|(n, v)| n.is_empty() || n.contains(['=', '\0']) || v.contains('\0'))
    {
        return Err(invalid(format!("environment variable {name:?} cannot be set")));
    }
    if step.cwd.first() != Some(&b'/') || step.cwd.contains(&0) {
        return Err(invalid(format!(
            "working directory {:?} is no absolute path",
            String::from_utf8_lossy(&step.cwd)
        )));
    }
    if step.hostname.len() > 64 || step.hostname.contains('\0') {
        return Err(invalid(format!("host name {:?} is longer than 64 bytes", step.hostname)));
    }
    // The kernel takes the highest number for "leave it as it is".
    let mut ids = vec![step.user.uid, step.user.gid];
    ids.extend(&step.user.groups);
    for m in &step.mounts {
        if let MountSource::File { uid, gid, .. } | MountSource::Socket { uid, gid, .. } = &m.source {
            ids.extend([uid, gid]);
        }
    }
    if ids.contains(&u32::MAX) {
        return Err(invalid(format!("{} is the number of no user and no group", u32::MAX)));
    }
    if let Some(m) = step.mounts.iter().find(|m| m.target.first() != Some(&b'/') || m.target.contains(&0)) {
        return Err(invalid(format!(
            "mount target {:?} is no absolute path",
            String::from_utf8_lossy(&m.target)
        )));
    }
    Ok(())
}

struct Builder {
    targets: Targets,
    /// Whether views are served through FUSE.
    served: bool,
    views: Vec<String>,
    links: Vec<Link>,
    fills: Vec<(String, Fill)>,
    ops: Vec<Op>,
    uppers: Vec<(String, usize)>,
    sockets: Vec<(String, usize)>,
    files: usize,
}

impl Builder {
    /// The root file system.
    fn root(&mut self, step: &Step, nodev: bool) {
        use std::os::unix::ffi::OsStrExt;
        let lowers = match &step.files {
            Files::Fuse => {
                self.view(0);
                vec!["v0".into()]
            }
            Files::Overlay { lowers } => {
                // Above all layers: what the root lacks of mount targets.
                self.fills.push(("stubs".into(), Fill::Stubs));
                let mut paths: Vec<Vec<u8>> =
                    lowers.iter().map(|p| p.as_os_str().as_bytes().to_vec()).collect();
                if paths.is_empty() {
                    self.fills.push(("lower".into(), Fill::View(0)));
                    paths.push(b"lower".to_vec());
                }
                paths.insert(0, b"stubs".to_vec());
                let names: Vec<String> = (0..paths.len()).map(|n| format!("l{n}")).collect();
                let links = names.iter().zip(paths).map(|(name, to)| Link { name: name.clone(), to });
                self.links.extend(links);
                names
            }
            Files::Copy => {
                self.fills.push(("upper".into(), Fill::View(0)));
                return self.ops.push(Op::Root { from: "upper".into(), nodev });
            }
        };
        self.uppers.push(("upper".into(), 0));
        let (upper, work, at) = ("upper".into(), "work".into(), ROOT.into());
        self.ops.push(Op::Overlay { lowers, upper, work, at, nodev });
    }

    /// Shows a view at `v<number>` below the stage.
    fn view(&mut self, number: usize) {
        let name = format!("v{number}");
        if self.served {
            return self.views.push(name);
        }
        let copy = format!("c{number}");
        self.fills.push((copy.clone(), Fill::View(number)));
        self.links.push(Link { name, to: copy.into_bytes() });
    }

    fn target(&mut self, target: &[u8], content: Content) -> Result<Vec<u8>, SandboxError> {
        self.targets.add(target, content).map_err(cannot_mount)
    }

    fn file_system(
        &mut self,
        fstype: &str,
        target: &str,
        flags: &[Flag],
        data: &str,
    ) -> Result<(), SandboxError> {
        let target = self.target(target.as_bytes(), Content::Directory)?;
        self.ops.push(Op::Mount { fstype: fstype.into(), target, flags: flags.to_vec(), data: data.into() });
        Ok(())
    }

    /// A file in memory, bound read-only.
    fn file(
        &mut self,
        target: &[u8],
        bytes: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<(), SandboxError> {
        let target = self.target(target, Content::File)?;
        let name = format!("f{}", self.files);
        self.files += 1;
        self.ops.push(Op::File { name: name.clone(), bytes: bytes.to_vec(), mode, uid, gid });
        self.ops.push(Op::BindStaged { from: name, target, readonly: true, file: true });
        Ok(())
    }

    /// What every step gets.
    fn system(&mut self, step: &Step) -> Result<(), SandboxError> {
        use Flag::{NoDev, NoExec, NoSuid, ReadOnly, StrictAtime};
        let sandboxed = step.security == Security::Sandbox;
        self.file_system("proc", "/proc", &[NoSuid, NoDev, NoExec], "")?;
        // Without a device control group, nodev is what keeps a step from opening the nodes that it may make.
        let dev: &[Flag] = if sandboxed { &[NoSuid, NoDev, StrictAtime] } else { &[NoSuid, StrictAtime] };
        self.file_system("tmpfs", "/dev", dev, "mode=755,size=65536k")?;
        for (name, major, minor) in DEVICES {
            self.ops.push(Op::Device { name: name.into(), major, minor });
        }
        self.ops.extend(DEV_LINKS.map(|(at, to)| Op::Symlink { target: at.into(), text: to.into() }));
        // The group of terminals, where there is one.
        let terminals = if crate::ids::Ids::here().has_group(5) {
            "newinstance,ptmxmode=0666,mode=0620,gid=5"
        } else {
            "newinstance,ptmxmode=0666,mode=0620"
        };
        self.file_system("devpts", "/dev/pts", &[NoSuid, NoExec], terminals)?;
        let shm = format!("mode=1777,size={}", step.shm_size);
        self.file_system("tmpfs", "/dev/shm", &[NoSuid, NoDev, NoExec], &shm)?;
        self.file_system("mqueue", "/dev/mqueue", &[NoSuid, NoDev, NoExec], "")?;
        let sys: &[Flag] =
            if sandboxed { &[NoSuid, NoDev, NoExec, ReadOnly] } else { &[NoSuid, NoDev, NoExec] };
        self.file_system("sysfs", "/sys", sys, "")?;
        self.ops.push(Op::Cgroup { readonly: sandboxed });
        self.file(b"/etc/resolv.conf", &resolv_conf(step), (0o644, 0, 0))?;
        self.file(b"/etc/hosts", &step.etc_hosts, (0o644, 0, 0))
    }

    fn mount(&mut self, mount: &Mount, number: usize, view: usize) -> Result<(), SandboxError> {
        use std::os::unix::ffi::OsStrExt;
        match &mount.source {
            MountSource::View { tree, subpath, writable, .. } => {
                let file = !tree.inode(*subpath).is_dir();
                let content = if file { Content::File } else { Content::View(view) };
                let target = self.target(&mount.target, content)?;
                let mut from = format!("v{view}");
                // A copy is the step's own.
                if *writable && self.served {
                    let (upper, work) = (format!("u{view}"), format!("w{view}"));
                    self.uppers.push((upper.clone(), view));
                    let at = format!("o{view}");
                    let lowers = vec![from];
                    self.ops.push(Op::Overlay { lowers, upper, work, at: at.clone(), nodev: true });
                    from = at;
                }
                if file {
                    from.push('/');
                    from.push_str(&String::from_utf8_lossy(View::FILE));
                }
                self.ops.push(Op::BindStaged { from, target, readonly: !writable, file });
            }
            MountSource::Dir { path, readonly } | MountSource::HostFile { path, readonly } => {
                let file = matches!(mount.source, MountSource::HostFile { .. });
                let target =
                    self.target(&mount.target, if file { Content::File } else { Content::Directory })?;
                let from = path.as_os_str().as_bytes().to_vec();
                self.ops.push(Op::BindHost { from, target, readonly: *readonly, nodev: true, file });
            }
            MountSource::Tmpfs { size, mode } => {
                let (target, mode) = match mode {
                    Some(mode) => (self.target(&mount.target, Content::Directory)?, *mode),
                    None => {
                        let placed = self.targets.add_like_what_was_there(&mount.target);
                        let (target, mode) = placed.map_err(cannot_mount)?;
                        (target, mode.unwrap_or(0o1777))
                    }
                };
                let mut data = format!("mode={mode:o}");
                if let Some(size) = size {
                    data.push_str(&format!(",size={size}"));
                }
                let flags = vec![Flag::NoSuid, Flag::NoDev];
                self.ops.push(Op::Mount { fstype: "tmpfs".into(), target, flags, data });
            }
            MountSource::File { bytes, mode, uid, gid } => {
                self.file(&mount.target, bytes, (*mode, *uid, *gid))?
            }
            MountSource::Socket { .. } => {
                let target = self.target(&mount.target, Content::File)?;
                let name = format!("s{number}");
                self.sockets.push((name.clone(), number));
                self.ops.push(Op::BindHost {
                    from: name.into_bytes(),
                    target,
                    readonly: false,
                    nodev: true,
                    file: true,
                });
            }
        }
        Ok(())
    }
}

/// Bytes as a JSON string of the characters U+0000 to U+00FF: compact for text, and nothing is lost.
mod latin1 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&bytes.iter().map(|&b| char::from(b)).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(d)?
            .chars()
            .map(|c| u8::try_from(c).map_err(|_| D::Error::custom("character beyond U+00FF in bytes")))
            .collect()
    }
}

#[cfg(test)]
mod tests;
