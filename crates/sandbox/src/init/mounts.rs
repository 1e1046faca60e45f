//! Puts the step's file system together, and makes it the root.
//!
//! Everything is assembled below `scratch/mnt`, a tmpfs that exists in the step's mount namespace only: one directory per view
//! and overlay, one file per file in memory. Targets in the step's root are opened with RESOLVE_IN_ROOT and mounted on through
//! /proc/self/fd, so that no link of an image leads out of it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{Context, Done};
use crate::channel::{self, Report};
use crate::error::Stage;
use crate::ids::Ids;
use crate::plan::{Flag, Op, Plan, ROOT, STAGE};

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Whether the host has nothing but the unified control groups.
pub(super) fn unified_cgroups() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup")
        .is_ok_and(|s| i128::from(s.f_type) == i128::from(CGROUP2_SUPER_MAGIC))
}

/// Carries out the mounts of a plan, and enters the new root.
pub(super) fn build(plan: &Plan, socket: &OwnedFd) -> Done<()> {
    let unified = unified_cgroups();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).doing(Stage::Mounts, || "make the mounts private".into())?;
    let scratch = || String::from_utf8_lossy(&plan.scratch).into_owned();
    rustix::process::chdir(&*plan.scratch).doing(Stage::Mounts, || format!("enter {:?}", scratch()))?;
    rustix::mount::mount("layercake", STAGE, "tmpfs", MountFlags::NOSUID, c"mode=700")
        .doing(Stage::Mounts, || format!("mount a tmpfs on {:?}", scratch() + "/" + STAGE))?;
    for name in &plan.views {
        let at = format!("{STAGE}/{name}");
        let device = view(&at)?;
        channel::send(socket, &Report::View, Some(device.as_fd()))
            .doing(Stage::Fuse, || "hand over the FUSE device".into())?;
    }
    for link in &plan.links {
        let to = if link.to.first() == Some(&b'/') { link.to.clone() } else { [b"../", &*link.to].concat() };
        rustix::fs::symlink(&*to, format!("{STAGE}/{}", link.name))
            .doing(Stage::Mounts, || format!("make {:?}", link.name))?;
    }
    // All that is left is done by the views' server, which is our parent: with the device gone from here, its death ends them.
    let mut root = Root { dir: None, unified, network_of_others: Ids::here().nested() && !plan.own_network };
    for op in &plan.ops {
        root.carry_out(op)?;
    }
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes())
            .doing(Stage::Process, || "set the host name".into())?;
    }
    if plan.own_network {
        crate::sys::loopback_up().doing(Stage::Process, || "take the loopback interface up".into())?;
    }
    let dir = root.dir()?;
    rustix::process::fchdir(dir).doing(Stage::Mounts, || "enter the root".into())?;
    rustix::process::pivot_root(".", ".").doing(Stage::Mounts, || "change the root".into())?;
    // The old root lies over the new one now; this takes it, and with it the stage, out of the namespace.
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(Stage::Mounts, || "leave the old root".into())?;
    rustix::process::chdir("/").doing(Stage::Mounts, || "enter the root".into())
}

/// Shows a view below the stage.
fn view(at: &str) -> Done<OwnedFd> {
    rustix::fs::mkdir(at, Mode::from_raw_mode(0o755)).doing(Stage::Mounts, || format!("make {at:?}"))?;
    mount_fuse(at.as_bytes(), MountFlags::RDONLY | MountFlags::NODEV)
}

/// Mounts a FUSE file system whose requests come to the returned device.
pub(crate) fn mount_fuse(at: &[u8], flags: MountFlags) -> Done<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .doing(Stage::Fuse, || "open /dev/fuse".into())?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions\0",
        device.as_raw_fd()
    );
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).map_err(|_| Errno::INVAL);
    data.and_then(|data| rustix::mount::mount("layercake", at, "fuse", flags, data))
        .doing(Stage::Fuse, || "mount a FUSE file system".into())?;
    Ok(device)
}

fn mount_flags(flags: &[Flag]) -> MountFlags {
    flags.iter().fold(MountFlags::empty(), |all, flag| {
        all | match flag {
            Flag::NoSuid => MountFlags::NOSUID,
            Flag::NoDev => MountFlags::NODEV,
            Flag::NoExec => MountFlags::NOEXEC,
            Flag::ReadOnly => MountFlags::RDONLY,
            Flag::StrictAtime => MountFlags::STRICTATIME,
        }
    })
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The path of an open file, for mount(2).
fn through(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Adds flags to a bind mount. Those that it has stay: in a user namespace it may not lose what the mount of the host has.
fn remount(path: &str, flags: MountFlags) -> Result<(), Errno> {
    use rustix::fs::StatVfsMountFlags as Has;
    let has = rustix::fs::statvfs(path)?.f_flag;
    let kept = [
        (Has::RDONLY, MountFlags::RDONLY),
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOEXEC, MountFlags::NOEXEC),
        (Has::NOATIME, MountFlags::NOATIME),
        (Has::NODIRATIME, MountFlags::NODIRATIME),
        (Has::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept.iter().filter(|(flag, _)| has.contains(*flag));
    let flags = kept.fold(flags | MountFlags::BIND, |all, (_, flag)| all | *flag);
    rustix::mount::mount_remount(path, flags, "")
}

struct Root {
    dir: Option<OwnedFd>,
    unified: bool,
    /// Whether the network is that of another user namespace, whose sysfs may not be mounted.
    network_of_others: bool,
}

impl Root {
    fn dir(&self) -> Done<&OwnedFd> {
        self.dir.as_ref().ok_or(Errno::NOENT).doing(Stage::Mounts, || "find the root".into())
    }

    /// Opens a path of the step's root, without access to what is behind it.
    fn open(&self, path: &[u8], extra: OFlags) -> Done<Result<OwnedFd, Errno>> {
        // An absolute path is relative to the root with RESOLVE_IN_ROOT.
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        Ok(rustix::fs::openat2(self.dir()?, path, flags, Mode::empty(), ResolveFlags::IN_ROOT))
    }

    /// Opens a mount target. The views show those that lie in them; what lies in other mounts is made here if it is missing.
    fn target(&self, path: &[u8], file: bool) -> Done<OwnedFd> {
        match self.open(path, OFlags::empty())? {
            Err(Errno::NOENT) => {}
            other => return other.doing(Stage::Mounts, || format!("open {:?} in the root", text(path))),
        }
        let mut at = Vec::new();
        let mut names = path.split(|&c| c == b'/').filter(|c| !c.is_empty()).peekable();
        while let Some(name) = names.next() {
            // Each time from the root on: a link on the way must not lead out of it.
            let parent = if at.is_empty() { b"/".to_vec() } else { at.clone() };
            at.push(b'/');
            at.extend_from_slice(name);
            if self.open(&at, OFlags::empty())?.is_ok() {
                continue;
            }
            let dir = self
                .open(&parent, OFlags::DIRECTORY)?
                .doing(Stage::Mounts, || format!("open {:?} in the root", text(&parent)))?;
            let made = if names.peek().is_none() && file {
                rustix::fs::mknodat(&dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
            } else {
                rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))
            };
            made.doing(Stage::Mounts, || format!("make {:?} in the root", text(&at)))?;
        }
        self.open(path, OFlags::empty())?
            .doing(Stage::Mounts, || format!("open {:?} in the root", text(path)))
    }

    fn bind(&self, from: &[u8], target: &[u8], readonly: bool, nodev: bool, file: bool) -> Done<()> {
        let place = self.target(target, file)?;
        rustix::mount::mount_bind(from, through(&place))
            .doing(Stage::Mounts, || format!("mount {:?} on {:?}", text(from), text(target)))?;
        let mut flags = MountFlags::empty();
        if readonly {
            flags |= MountFlags::RDONLY;
        }
        if nodev {
            flags |= MountFlags::NODEV;
        }
        if flags.is_empty() {
            return Ok(());
        }
        let mounted = self.target(target, file)?;
        remount(&through(&mounted), flags)
            .doing(Stage::Mounts, || format!("set the flags of the mount on {:?}", text(target)))
    }

    fn carry_out(&mut self, op: &Op) -> Done<()> {
        match op {
            Op::Overlay { lowers, upper, work, at, nodev } => self.overlay(lowers, upper, work, at, *nodev),
            Op::Root { from, nodev } => self.own_root(from, *nodev),
            Op::Mount { fstype, target, flags, data } => {
                let place = self.target(target, false)?;
                if fstype == "sysfs" && self.network_of_others {
                    return self.sys_of_host(&place, flags.contains(&Flag::ReadOnly));
                }
                let data = std::ffi::CString::new(data.as_bytes()).map_err(|_| Errno::INVAL);
                data.and_then(|d| {
                    rustix::mount::mount(&**fstype, through(&place), &**fstype, mount_flags(flags), &*d)
                })
                .doing(Stage::Mounts, || format!("mount {fstype} on {:?}", text(target)))
            }
            Op::BindStaged { from, target, readonly, file } => {
                self.bind(format!("{STAGE}/{from}").as_bytes(), target, *readonly, true, *file)
            }
            Op::BindHost { from, target, readonly, nodev, file } => {
                self.bind(from, target, *readonly, *nodev, *file)
            }
            Op::File { name, bytes, mode, uid, gid } => {
                let write = || -> Result<(), Errno> {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    let file =
                        rustix::fs::open(format!("{STAGE}/{name}"), flags, Mode::from_raw_mode(0o600))?;
                    let mut rest: &[u8] = bytes;
                    while !rest.is_empty() {
                        rest = &rest[rustix::io::write(&file, rest)?..];
                    }
                    let (uid, gid) = (
                        rustix::fs::Uid::from_raw(Ids::here().user(*uid)),
                        rustix::fs::Gid::from_raw(Ids::here().group(*gid)),
                    );
                    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
                    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))
                };
                write().doing(Stage::Mounts, || "write a file in memory".into())
            }
            Op::Device { name, major, minor } => self.device(name, *major, *minor),
            Op::Symlink { target, text: to } => {
                let (parent, name) = target.rsplit_once('/').unwrap_or(("/", target));
                let dir = self.target(parent.as_bytes(), false)?;
                rustix::fs::symlinkat(&**to, &dir, name)
                    .doing(Stage::Mounts, || format!("make the link {target:?}"))
            }
            Op::Mask { target } => self.mask(target),
            Op::ReadOnly { target } => match self.open(target.as_bytes(), OFlags::empty())? {
                Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e).doing(Stage::Mounts, || format!("open {target:?} in the root")),
                Ok(place) => {
                    let path = through(&place);
                    let bind = rustix::mount::mount_bind(&path, &path);
                    bind.doing(Stage::Mounts, || format!("mount {target:?} on itself"))?;
                    let mounted = self.target(target.as_bytes(), false)?;
                    let flags =
                        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                    remount(&through(&mounted), flags)
                        .doing(Stage::Mounts, || format!("make {target:?} read-only"))
                }
            },
            Op::Cgroup { readonly } => {
                if !self.unified {
                    return Ok(());
                }
                let Ok(place) = self.open(b"/sys/fs/cgroup", OFlags::DIRECTORY)? else { return Ok(()) };
                let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                if *readonly {
                    flags |= MountFlags::RDONLY;
                }
                // Control groups are for looking at; a build does without them where they are refused.
                let _ = rustix::mount::mount("cgroup2", through(&place), "cgroup2", flags, c"");
                Ok(())
            }
        }
    }

    /// A node of the step's own: changing mode or owner of the host's would be seen by the host. Where making nodes is forbidden
    /// (in a container), the host's is bound read-only, which for devices means that only their attributes cannot be written.
    fn device(&self, name: &str, major: u32, minor: u32) -> Done<()> {
        let (node, target) = (format!("{STAGE}/{name}"), format!("/dev/{name}"));
        let number = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(CWD, &*node, FileType::CharacterDevice, mode, number) {
            Ok(()) => self.bind(node.as_bytes(), target.as_bytes(), false, false, true),
            Err(_) => {
                let made = rustix::fs::mknodat(CWD, &*node, FileType::RegularFile, mode, 0);
                made.and_then(|()| rustix::mount::mount_bind(&*target, &*node))
                    .doing(Stage::Mounts, || format!("mount the host's {target}"))?;
                self.bind(node.as_bytes(), target.as_bytes(), true, false, true)
            }
        }
    }

    /// The host's /sys with all that is mounted in it, read-only: only that may be shown.
    fn sys_of_host(&self, place: &OwnedFd, readonly: bool) -> Done<()> {
        let mount = || -> Result<(), std::io::Error> {
            rustix::mount::mount_bind_recursive("/sys", through(place))?;
            if readonly {
                let mounted = rustix::fs::openat2(
                    self.dir.as_ref().ok_or(Errno::NOENT)?,
                    "/sys",
                    OFlags::PATH | OFlags::CLOEXEC,
                    Mode::empty(),
                    ResolveFlags::IN_ROOT,
                )?;
                crate::sys::make_mounts_readonly(&mounted)?;
            }
            Ok(())
        };
        mount().doing(Stage::Mounts, || "mount the host's /sys".into())
    }

    fn mask(&self, target: &str) -> Done<()> {
        let place = match self.open(target.as_bytes(), OFlags::empty())? {
            Err(Errno::NOENT) => return Ok(()),
            other => other.doing(Stage::Mounts, || format!("open {target:?} in the root"))?,
        };
        let hide = || -> Result<(), Errno> {
            let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Directory;
            if !is_dir {
                return rustix::mount::mount_bind(format!("{STAGE}/null"), through(&place));
            }
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount("tmpfs", through(&place), "tmpfs", flags, c"size=0k,mode=755")
        };
        hide().doing(Stage::Mounts, || format!("hide {target:?}"))
    }

    fn own_root(&mut self, from: &str, nodev: bool) -> Done<()> {
        let path = format!("{STAGE}/{ROOT}");
        let mount = || -> Result<OwnedFd, Errno> {
            rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o755))?;
            rustix::mount::mount_bind(from, &*path)?;
            if nodev {
                remount(&path, MountFlags::NODEV)?;
            }
            rustix::fs::open(&*path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        self.dir = Some(mount().doing(Stage::Mounts, || "mount the copy of the files".into())?);
        Ok(())
    }

    fn overlay(&mut self, lowers: &[String], upper: &str, work: &str, at: &str, nodev: bool) -> Done<()> {
        let path = format!("{STAGE}/{at}");
        rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o755))
            .doing(Stage::Mounts, || format!("make {path:?}"))?;
        // `volatile`: nothing needs to be on disk before the store takes the layer, and unmounting would sync the file system.
        let lower: Vec<String> = lowers.iter().map(|name| format!("{STAGE}/{name}")).collect();
        let lower = lower.join(":");
        // In a user namespace overlayfs keeps its marks where a file's owner may write them.
        let marks = if Ids::here().nested() { ",userxattr" } else { "" };
        let data = format!(
            "lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=nofollow,index=off,metacopy=off,xino=off,volatile{marks}\0"
        );
        let flags = if nodev { MountFlags::NODEV } else { MountFlags::empty() };
        let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).map_err(|_| Errno::INVAL);
        data.and_then(|data| rustix::mount::mount("overlay", &*path, "overlay", flags, data))
            .doing(Stage::Overlay, || "mount the overlay".into())?;
        if at == ROOT {
            let dir = rustix::fs::openat(
                CWD,
                &*path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            self.dir = Some(dir.doing(Stage::Mounts, || "open the root".into())?);
        }
        Ok(())
    }
}
