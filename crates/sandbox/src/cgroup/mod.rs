//! Control groups: what a step may use of memory, processors and processes.
//!
//! A step with limits gets a group of its own in each hierarchy that one of them needs (`layercake-<process>-<number>`; one directory of a
//! v1 hierarchy, or one of the unified one), made by the parent before the step starts. The step's first process joins them before
//! anything else, so all that it starts is in them; the supervisor is not. Limits never fail a step: what cannot be set is told
//! ([`Unset`]), and the step runs without it.
//!
//! *Where*: with v1 below the group that this process is in. The unified hierarchy allows that only in its root, since a group with
//! processes has no limited groups below it; so it is the nearest group above without any where the controllers can be had: for root the
//! slice, for others what was delegated to them. A group with processes is left as it is: the kernel would let us turn on some controllers there
//! (cpu, cpuset, pids), but then the groups below are for threads, and no process can join them (cgroup-v2, "Threads").
//! [`Limits::parent`] says something else; what is missing of it is made, and goes with the last group.
//!
//! *The end*: the parent removes the groups when the step has ended; if it is gone, the supervisor does. If both were killed, the next
//! process that starts a step does ([`sweep`]): the parent holds a lock (flock(2)) on each group, so a group that can be locked
//! is nobody's. The kernel keeps groups that still have processes.

mod hosts;
mod limits;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use self::limits::{Hits, Limits, Unset};

use self::hosts::{Hierarchies, Hierarchy};
use self::limits::{Controller, Version};

/// What the names of our groups begin with.
const PREFIX: &str = "layercake-";

/// The groups of one step. Dropped, they are removed.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    dirs: Vec<Dir>,
    /// Groups above them that did not exist, the topmost first.
    above: Vec<PathBuf>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    version: Version,
    /// Says that somebody still wants the group.
    _lock: OwnedFd,
}

impl Groups {
    /// Makes the groups for some limits, and sets them; gives what could not be set as well.
    pub(crate) fn make(limits: &Limits) -> (Groups, Vec<Unset>) {
        let (mut groups, mut unset) = (Groups::default(), Vec::new());
        if limits.is_empty() {
            return (groups, unset);
        }
        let hierarchies = Hierarchies::here();
        let mut unified = Vec::new();
        // Controllers that are mounted together share a group.
        let mut v1: Vec<(&Hierarchy, Vec<Controller>)> = Vec::new();
        for controller in limits.controllers() {
            match hierarchies.of(controller) {
                None => unified.push(controller),
                Some(h) => match v1.iter_mut().find(|(other, _)| other.mount == h.mount) {
                    Some((_, all)) => all.push(controller),
                    None => v1.push((h, vec![controller])),
                },
            }
        }
        for (hierarchy, controllers) in v1 {
            groups.in_v1(hierarchy, limits, &controllers, &mut unset);
        }
        if !unified.is_empty() {
            match &hierarchies.unified {
                Some(h) => groups.in_unified(h, limits, unified, &mut unset),
                None => unset.extend(unified.into_iter().flat_map(|c| {
                    limits.unset(c, &format!("this machine has no control groups for it ({})", c.name()))
                })),
            }
        }
        (groups, unset)
    }

    fn in_v1(&mut self, h: &Hierarchy, limits: &Limits, controllers: &[Controller], unset: &mut Vec<Unset>) {
        let base = h.base(limits.parent.as_deref());
        let made = self.parents(&h.mount, &base).and_then(|()| {
            sweep_in(&base);
            self.group(&base, Version::One)
        });
        let path = match made {
            Ok(path) => path,
            Err(e) => {
                let why = format!("cannot make a control group in {}: {e}", base.display());
                return unset.extend(controllers.iter().flat_map(|c| limits.unset(*c, &why)));
            }
        };
        if controllers.contains(&Controller::Cpuset) {
            // Nobody can join a group without any; they are not inherited.
            inherit(&path);
        }
        for controller in controllers {
            limits.set(&path, *controller, Version::One, unset);
        }
    }

    fn in_unified(
        &mut self,
        h: &Hierarchy,
        limits: &Limits,
        wanted: Vec<Controller>,
        unset: &mut Vec<Unset>,
    ) {
        let (mut bases, mut why) = (Vec::new(), String::new());
        if limits.parent.is_some() {
            let base = h.base(limits.parent.as_deref());
            match self.parents(&h.mount, &base) {
                Ok(()) => bases.push(base),
                Err(e) => why = format!("cannot make the control group {}: {e}", base.display()),
            }
        } else {
            bases.extend(h.own.ancestors().take_while(|p| p.starts_with(&h.mount)).map(Path::to_owned));
        }
        for base in bases {
            let enabled: Vec<Controller> =
                wanted.iter().copied().filter(|c| enable(&h.mount, &base, *c)).collect();
            if enabled.is_empty() {
                continue;
            }
            sweep_in(&base);
            match self.group(&base, Version::Two) {
                Ok(path) => {
                    for controller in wanted {
                        if enabled.contains(&controller) {
                            limits.set(&path, controller, Version::Two, unset);
                        } else {
                            let why = format!("{} is not delegated to {}", controller.name(), base.display());
                            unset.extend(limits.unset(controller, &why));
                        }
                    }
                    return;
                }
                Err(e) => why = format!("cannot make a control group in {}: {e}", base.display()),
            }
        }
        if why.is_empty() {
            why = "no control group with it was delegated to this process".into();
        }
        unset.extend(wanted.into_iter().flat_map(|c| limits.unset(c, &why)));
    }

    /// Makes what is missing of a group above ours.
    fn parents(&mut self, mount: &Path, base: &Path) -> Result<(), Errno> {
        let mut missing: Vec<&Path> =
            base.ancestors().take_while(|p| p.starts_with(mount) && !p.is_dir()).collect();
        missing.reverse();
        for path in missing {
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                Ok(()) => self.above.push(path.to_owned()),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes a group of a name that nobody has.
    fn group(&mut self, base: &Path, version: Version) -> Result<PathBuf, Errno> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Of another process namespace, or just swept by somebody else: another number will do.
        for _ in 0..100 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(e),
            }
            let Some(lock) = lock(&path) else { continue };
            // Whoever swept it between the two calls held the lock, or holds it.
            if path.is_dir() {
                self.dirs.push(Dir { path: path.clone(), version, _lock: lock });
                return Ok(path);
            }
        }
        Err(Errno::EXIST)
    }

    /// The directories that the step's first process joins.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|d| d.path.clone()).collect()
    }

    /// Which limits the step met so far.
    pub(crate) fn hits(&self) -> Hits {
        let mut hits = Hits::default();
        for dir in &self.dirs {
            hits.read(&dir.path, dir.version);
        }
        hits
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // What the kernel still has processes in (of a supervisor that was killed) is for the next one to sweep.
            let _ = rustix::fs::unlinkat(CWD, &dir.path, AtFlags::REMOVEDIR);
        }
        for path in self.above.iter().rev() {
            let _ = rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
    }
}

/// The lock on a group; none if another has it, or the group is gone.
fn lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(dir)
}

/// Gives a v1 cpuset without processors or memory those of the group above.
fn inherit(path: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
        // Up to one that has them, and down again.
        let empty: Vec<&Path> =
            path.ancestors().take_while(|d| d.join(file).exists() && read(d).is_empty()).collect();
        let Some(above) = empty.last().and_then(|d| d.parent()) else { continue };
        let value = read(above);
        for dir in empty.iter().rev() {
            // What cannot be set is told when the group is joined.
            let _ = std::fs::write(dir.join(file), &value);
        }
    }
}

/// Whether a group of the unified hierarchy may have limited groups with processes in it: it has none itself, or is the root, which alone has no
/// type.
fn takes_groups(group: &Path) -> bool {
    match std::fs::read_to_string(group.join("cgroup.type")) {
        Ok(kind) => {
            kind.trim() == "domain"
                && std::fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|all| all.is_empty())
        }
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether groups in a group of the unified hierarchy have a controller, if need be since we turned it on.
fn enable(mount: &Path, base: &Path, controller: Controller) -> bool {
    let has = |dir: &Path, file: &str| {
        let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.split_whitespace().any(|c| c == controller.name())
    };
    let mut way: Vec<&Path> = base.ancestors().take_while(|p| p.starts_with(mount)).collect();
    way.reverse();
    for dir in way {
        if !has(dir, "cgroup.subtree_control") && takes_groups(dir) {
            let file = std::fs::OpenOptions::new().append(true).open(dir.join("cgroup.subtree_control"));
            // Whether it worked is seen below.
            let _ = file.and_then(|mut f| {
                std::io::Write::write_all(&mut f, format!("+{}", controller.name()).as_bytes())
            });
        }
    }
    takes_groups(base) && has(base, "cgroup.subtree_control")
}

/// Removes the groups of processes that were killed, as far as nothing runs in them.
pub fn sweep() {
    let hierarchies = Hierarchies::here();
    for h in &hierarchies.v1 {
        sweep_in(&h.own);
    }
    if let Some(h) = &hierarchies.unified {
        h.own.ancestors().take_while(|p| p.starts_with(&h.mount)).for_each(sweep_in);
    }
}

fn sweep_in(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(PREFIX))
            && let Some(_lock) = lock(&entry.path())
        {
            let _ = rustix::fs::unlinkat(CWD, entry.path(), AtFlags::REMOVEDIR);
        }
    }
}

/// Groups as the step's processes know them: by their paths on the host, in the mount namespace that they begin in.
pub(crate) mod inside {
    use super::*;

    /// Puts this process into a group.
    pub(crate) fn join(path: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("{path}/cgroup.procs"), flags, Mode::empty())?;
        rustix::io::write(&file, b"0").map(|_| ())
    }

    /// The groups, in a way that they can be removed by when the root is another.
    pub(crate) struct Removal(Vec<(OwnedFd, String)>);

    impl Removal {
        pub(crate) fn of(paths: &[String]) -> Removal {
            let open = |path: &String| {
                let (dir, name) = path.rsplit_once('/')?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some((rustix::fs::open(dir, flags, Mode::empty()).ok()?, name.to_owned()))
            };
            Removal(paths.iter().filter_map(open).collect())
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// To be called when nothing runs in them any more.
        pub(crate) fn remove(&self) {
            for (dir, name) in &self.0 {
                let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

#[cfg(test)]
mod tests;
