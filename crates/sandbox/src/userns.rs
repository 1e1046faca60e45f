//! Entering a user namespace, in which an ordinary user has the rights that making images takes: over what belongs to them.
//!
//! The process itself enters it, together with a mount namespace, and goes on as its root. Which users exist there is for a helper to
//! say: newuidmap and newgidmap may map ranges that the administrator gave the user in /etc/subuid and /etc/subgid. Without them, or
//! without a range, only the user is there, as root: every file belongs to that one, and a change of owner cannot be made.

use std::io;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::sys::{self, Forked};

/// Users or groups that are mapped: first inside, first outside, how many.
pub type Range = (u32, u32, u32);

/// Which users and groups are to exist in the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

/// How a namespace was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// With the maps that were asked for.
    Mapped,
    /// With one user only, and why it was not more.
    Single(String),
}

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The kernel refuses user namespaces to this user.
    #[error("cannot make a user namespace: {reason}")]
    Refused {
        /// Why, as far as we can tell.
        reason: &'static str,
        /// What to do.
        remedy: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something around it failed.
    #[error("cannot enter a user namespace: {what}")]
    Failed {
        /// What.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl UserNamespaceError {
    /// What the user can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            UserNamespaceError::Refused { remedy, .. } => Some(remedy),
            UserNamespaceError::Failed { .. } => None,
        }
    }
}

/// Enters a new user namespace as its root. To be called while the process has one thread. Without maps (or if they are refused) only
/// this user and group exist in it.
pub fn enter(maps: Result<&Maps, String>) -> Result<Entered, UserNamespaceError> {
    let failed = |what| move |e: io::Error| UserNamespaceError::Failed { what, source: e };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let helper = match maps {
        Ok(maps) => Ok(Helper::start(maps).map_err(failed("start the helper"))?),
        Err(why) => Err(why),
    };
    unshare(UnshareFlags::NEWUSER).map_err(|e| refused(e, &read_sysctl))?;
    let why_single = match helper {
        Ok(helper) => helper.map().err(),
        Err(why) => Some(why),
    };
    if why_single.is_some() {
        let write = |name: &str, text: &str| std::fs::write(format!("/proc/self/{name}"), text);
        // Older kernels lack the file, and need no such thing.
        let _ = write("setgroups", "deny");
        write("uid_map", &format!("0 {uid} 1")).map_err(failed("map the user"))?;
        write("gid_map", &format!("0 {gid} 1")).map_err(failed("map the group"))?;
    } else {
        let _ = rustix::thread::set_thread_groups(&[]);
    }
    let (root, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(group, group, group)
        .and_then(|()| rustix::thread::set_thread_res_uid(root, root, root))
        .map_err(|e| failed("become its root")(e.into()))?;
    unshare(UnshareFlags::NEWNS).map_err(|e| refused(e, &read_sysctl))?;
    Ok(why_single.map_or(Entered::Mapped, Entered::Single))
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: CLONE_FILES, the one flag that could pull descriptors away from under others, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn read_sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// Finds out what stands in the way.
fn refused(e: Errno, sysctl: &dyn Fn(&str) -> Option<u64>) -> UserNamespaceError {
    let (reason, remedy) = if sysctl("user/max_user_namespaces") == Some(0) {
        (
            "this machine allows none (user.max_user_namespaces is 0)",
            "have the administrator run: sysctl user.max_user_namespaces=15000; or run layercake as root",
        )
    } else if sysctl("kernel/unprivileged_userns_clone") == Some(0) {
        (
            "this machine allows them to root only (kernel.unprivileged_userns_clone is 0)",
            "have the administrator run: sysctl kernel.unprivileged_userns_clone=1; or run layercake as root",
        )
    } else if sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        (
            "AppArmor gives them no rights here, as on Ubuntu since 23.10 (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "have the administrator add an AppArmor profile with `userns,` for layercake, or run: sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0; or run layercake as root",
        )
    } else if matches!(e, Errno::NOSPC | Errno::USERS) {
        (
            "there are too many, or too deep in each other",
            "end others, or raise the sysctl user.max_user_namespaces",
        )
    } else {
        (
            "the system calls for it are forbidden, as by default in containers",
            "in a container, use docker's --security-opt seccomp=unconfined --security-opt apparmor=unconfined (and \
             --security-opt systempaths=unconfined for RUN), or run layercake as root",
        )
    };
    UserNamespaceError::Refused { reason, remedy, source: e.into() }
}

/// A child that stays outside and maps users and groups for us once we are inside.
struct Helper {
    child: rustix::process::Pid,
    go: io::PipeWriter,
    answer: io::PipeReader,
}

impl Helper {
    fn start(maps: &Maps) -> io::Result<Helper> {
        use std::io::{Read, Write};
        let (mut wait, go) = io::pipe()?;
        let (answer, mut tell) = io::pipe()?;
        let pid = std::process::id();
        match sys::fork()? {
            Forked::Parent(child) => Ok(Helper { child, go, answer }),
            Forked::Child => {
                drop((go, answer));
                // Nothing comes if the parent could not make the namespace.
                if wait.read_exact(&mut [0]).is_ok() {
                    let done = write_map(pid, "uid_map", "newuidmap", &maps.users)
                        .and_then(|()| write_map(pid, "gid_map", "newgidmap", &maps.groups));
                    let _ = tell.write_all(done.err().unwrap_or_default().as_bytes());
                }
                sys::exit_now(0)
            }
        }
    }

    /// Has the maps made; or says why they could not be.
    fn map(mut self) -> Result<(), String> {
        use std::io::{Read, Write};
        let _ = self.go.write_all(&[1]);
        let mut why = String::new();
        let _ = self.answer.read_to_string(&mut why);
        let _ = sys::wait(self.child);
        if why.is_empty() { Ok(()) } else { Err(why) }
    }
}

/// Maps users or groups of a process: itself where it may, else with the program.
fn write_map(pid: u32, file: &str, program: &str, ranges: &[Range]) -> Result<(), String> {
    let lines: Vec<String> =
        ranges.iter().map(|(inside, outside, n)| format!("{inside} {outside} {n}")).collect();
    if rustix::process::geteuid().is_root() {
        let path = format!("/proc/{pid}/{file}");
        return std::fs::write(&path, lines.join("\n")).map_err(|e| format!("cannot write {path}: {e}"));
    }
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for line in &lines {
        command.args(line.split(' '));
    }
    match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!("{program} failed: {}", String::from_utf8_lossy(&out.stderr).trim())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(format!("{program} is not installed (Debian and Ubuntu: package uidmap)"))
        }
        Err(e) => Err(format!("{program} cannot be run: {e}")),
    }
}

/// The ranges that /etc/subuid or /etc/subgid give a user, by name or number.
fn own_ranges(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let row = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (!owner.is_empty() && (owner == name || owner == uid.to_string()) && range.1 > 0).then_some(range)
    };
    text.lines().filter_map(row).collect()
}

/// The maps of a user: root inside is the user outside, and what follows are the user's ranges. `Err` says why there are none.
pub fn maps_of(uid: u32, gid: u32, passwd: &str, subuid: &str, subgid: &str) -> Result<Maps, String> {
    let by_uid = |line: &&str| line.split(':').nth(2) == Some(&uid.to_string());
    let name = passwd.lines().find(by_uid).and_then(|l| l.split(':').next()).unwrap_or_default();
    let map = |own: u32, text: &str, file: &str| -> Result<Vec<Range>, String> {
        let mut out = vec![(0, own, 1)];
        let mut next = 1u32;
        for (first, count) in own_ranges(text, name, uid) {
            out.push((next, first, count));
            next = next.saturating_add(count);
        }
        match out.len() {
            1 => Err(format!("{file} has no range for this user")),
            _ => Ok(out),
        }
    };
    Ok(Maps { users: map(uid, subuid, "/etc/subuid")?, groups: map(gid, subgid, "/etc/subgid")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_by_name_and_number() {
        let passwd = "root:x:0:0::/:\nme:x:1000:1001::/home/me:/bin/sh\n";
        let subuid = "other:1:2\nme:100000:65536\n1000:300000:10\n";
        let maps = maps_of(1000, 1001, passwd, subuid, "me:200000:5").unwrap();
        assert_eq!(maps.users, [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]);
        assert_eq!(maps.groups, [(0, 1001, 1), (1, 200_000, 5)]);
        let none = |subuid, subgid| maps_of(1000, 1001, passwd, subuid, subgid).unwrap_err();
        assert!(none("other:1:2\nme:x:y\n:5:6\nme:7:0", "me:1:1").contains("/etc/subuid"));
        assert!(none("me:1:1", "").contains("/etc/subgid"));
        // A user without a name.
        assert_eq!(maps_of(7, 7, passwd, "7:50:2", "7:50:2").unwrap().users, [(0, 7, 1), (1, 50, 2)]);
    }

    #[test]
    fn what_stands_in_the_way_is_named_with_a_remedy() {
        let with = |name: &'static str, value| move |asked: &str| (asked == name).then_some(value);
        let told = |e, sysctl: &dyn Fn(&str) -> Option<u64>| refused(e, sysctl).remedy().unwrap();
        assert!(
            told(Errno::NOSPC, &with("user/max_user_namespaces", 0)).contains("max_user_namespaces=15000")
        );
        assert!(told(Errno::PERM, &with("kernel/unprivileged_userns_clone", 0)).contains("userns_clone=1"));
        let apparmor = with("kernel/apparmor_restrict_unprivileged_userns", 1);
        assert!(told(Errno::ACCESS, &apparmor).contains("AppArmor profile"));
        assert!(told(Errno::PERM, &|_| None).contains("seccomp=unconfined"));
        assert!(told(Errno::NOSPC, &|_| None).contains("raise"));
    }
}
