//! Turns the process into the one that the command expects: directory, limits, streams, identity, privileges, and then execve.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Context, Done};
use crate::channel::{self, Report};
use crate::error::Stage;
use crate::ids::Ids;
use crate::plan::{Plan, Streams};
use crate::step::User;
use crate::sys;

/// Where programs are sought when the environment has no PATH: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command cannot be executed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) code: i32,
}

/// Returns only if the command cannot be executed.
pub(super) fn execute(plan: Plan, stdin: Option<OwnedFd>, socket: &OwnedFd) -> Done<Refused> {
    let console = streams(&plan, stdin)?;
    if let Some(master) = &console {
        channel::send(socket, &Report::Pty, Some(master.as_fd()))
            .doing(Stage::Process, || "hand over the terminal".into())?;
    }
    drop(console);
    enter(&plan.cwd, &plan.user)?;
    let argv = strings(plan.argv.iter().map(|a| a.as_bytes().to_vec()))?;
    let env = strings(plan.env.iter().map(|(n, v)| [n.as_bytes(), b"=", v.as_bytes()].concat()))?;
    let candidates = candidates(&plan)?;
    // Late, since they hold for us as well: fewer files than we need must be possible.
    for limit in &plan.rlimits {
        sys::set_limit(limit.resource.number(), limit.soft, limit.hard).doing(Stage::Limits, || {
            format!("set the limit {} to {}:{}", limit.resource.name(), limit.soft, limit.hard)
        })?;
    }
    drop_privileges(&plan)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::reset_signals();
    sys::close_on_exec_from_3().doing(Stage::Process, || "keep files from the command".into())?;
    channel::send(socket, &Report::Execute, None).doing(Stage::Process, || "report".into())?;
    Ok(try_all(&plan.argv[0], &candidates, &argv, &env))
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> Done<Vec<CString>> {
    let all: Result<Vec<CString>, _> = list.map(CString::new).collect();
    all.map_err(|_| Errno::INVAL).doing(Stage::Process, || "pass a string with a NUL byte".into())
}

/// Paths under which the program may be.
fn candidates(plan: &Plan) -> Done<Vec<CString>> {
    let program = &plan.argv[0];
    if program.contains('/') {
        return strings([program.as_bytes().to_vec()].into_iter());
    }
    let path = plan.env.iter().rev().find(|(n, _)| n == "PATH").map_or(DEFAULT_PATH, |(_, v)| v);
    strings(path.split(':').filter(|d| !d.is_empty()).map(|d| format!("{d}/{program}").into_bytes()))
}

fn try_all(program: &str, candidates: &[CString], argv: &[CString], env: &[CString]) -> Refused {
    let mut refused = None;
    for path in candidates {
        let error = sys::execve(path, argv, env);
        let shown = path.to_string_lossy();
        let why = match error.raw_os_error() {
            Some(libc::ENOENT) if rustix::fs::stat(path).is_ok() => {
                format!(
                    "{shown} is there, but the interpreter that it names (first line, or dynamic loader) is not"
                )
            }
            Some(libc::ENOENT | libc::ENOTDIR) => continue,
            Some(libc::ENOEXEC) => {
                format!(
                    "{shown} is no program of this architecture, and no script with an interpreter in its first line"
                )
            }
            Some(libc::EACCES) if is_dir(path) => format!("{shown} is a directory"),
            Some(libc::EACCES) => format!("{shown} may not be executed (permission denied)"),
            _ => format!("{shown}: {error}"),
        };
        // As shells do: something that cannot be executed does not end the search, but is what is told when nothing else is found.
        let last = error.raw_os_error() != Some(libc::EACCES);
        refused.get_or_insert(Refused { why, code: 126 });
        if last {
            break;
        }
    }
    refused.unwrap_or_else(|| Refused {
        why: if program.contains('/') { "no such file".into() } else { "not found in PATH".into() },
        code: 127,
    })
}

fn is_dir(path: &CString) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}

/// Enters the working directory; what is missing of it is made, and belongs to the user.
fn enter(cwd: &[u8], user: &User) -> Done<()> {
    let shown = || String::from_utf8_lossy(cwd).into_owned();
    let first = rustix::process::chdir(cwd);
    if first != Err(Errno::NOENT) {
        return first.doing(Stage::Directory, || format!("enter the working directory {:?}", shown()));
    }
    let make = || -> Result<(), Errno> {
        let mut path = Vec::new();
        for name in cwd.split(|&c| c == b'/').filter(|c| !c.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(name);
            match rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    rustix::fs::chown(&*path, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        rustix::process::chdir(cwd)
    };
    make().doing(Stage::Directory, || format!("make the working directory {:?}", shown()))
}

/// Sets the standard streams up; gives the other end of a new terminal.
fn streams(plan: &Plan, stdin: Option<OwnedFd>) -> Done<Option<OwnedFd>> {
    let null = || rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty());
    let set = || -> Result<Option<OwnedFd>, Errno> {
        match plan.stdio {
            Streams::Pipes | Streams::Inherit => {
                match &stdin {
                    Some(file) => rustix::stdio::dup2_stdin(file)?,
                    None => rustix::stdio::dup2_stdin(null()?)?,
                }
                if plan.stdio == Streams::Pipes {
                    // So that the user may open /dev/stdout, which leads to the pipe's inode.
                    let (uid, gid) = (Some(Uid::from_raw(plan.user.uid)), Some(Gid::from_raw(plan.user.gid)));
                    rustix::fs::fchown(rustix::stdio::stdout(), uid, gid)?;
                    rustix::fs::fchown(rustix::stdio::stderr(), uid, gid)?;
                }
                Ok(None)
            }
            Streams::Pty { rows, cols } => {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
                let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
                rustix::pty::unlockpt(&master)?;
                let flags = rustix::pty::OpenptFlags::RDWR
                    | rustix::pty::OpenptFlags::NOCTTY
                    | rustix::pty::OpenptFlags::CLOEXEC;
                let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
                let size =
                    rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(&slave, size)?;
                rustix::fs::fchown(&slave, Some(Uid::from_raw(plan.user.uid)), None)?;
                rustix::process::ioctl_tiocsctty(&slave)?;
                rustix::stdio::dup2_stdin(&slave)?;
                rustix::stdio::dup2_stdout(&slave)?;
                rustix::stdio::dup2_stderr(&slave)?;
                // What a container's terminal is also known as.
                let name = rustix::pty::ptsname(&master, Vec::new())?;
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    "/dev/console",
                    FileType::RegularFile,
                    Mode::from_raw_mode(0o600),
                    0,
                )?;
                rustix::mount::mount_bind(&name, "/dev/console")?;
                Ok(Some(master))
            }
        }
    };
    set().doing(Stage::Process, || "set up the standard streams".into())
}

/// Bounding set, filter, groups, user, capabilities: in the order in which each step still has the right to do the next.
fn drop_privileges(plan: &Plan) -> Done<()> {
    if let Some(keep) = plan.capabilities {
        // Numbers beyond the last that the kernel knows are refused.
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if keep & (1 << number) != 0 {
                continue;
            }
            match rustix::thread::capability_is_in_bounding_set(one) {
                Ok(true) => rustix::thread::remove_capability_from_bounding_set(one)
                    .doing(Stage::Privileges, || format!("give up capability {number}"))?,
                Ok(false) => {}
                Err(_) => break,
            }
        }
        rustix::thread::clear_ambient_capability_set()
            .doing(Stage::Privileges, || "clear the ambient capabilities".into())?;
    }
    if let Some(filter) = &plan.seccomp {
        // Before the right to do so is gone: without no_new_privs, which a step must not have (sudo), it takes CAP_SYS_ADMIN.
        sys::install_filter(filter).doing(Stage::Privileges, || "install the system call filter".into())?;
    }
    // With a single user there are no other groups, and the kernel lets nobody leave those that he is in.
    if Ids::here().setgroups() {
        let groups: Vec<Gid> = plan.user.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        rustix::thread::set_thread_groups(&groups).doing(Stage::Privileges, || "set the groups".into())?;
    }
    let (uid, gid) = (Uid::from_raw(plan.user.uid), Gid::from_raw(plan.user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .doing(Stage::Privileges, || format!("become group {gid:?}"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .doing(Stage::Privileges, || format!("become user {uid:?}"))?;
    if let Some(keep) = plan.capabilities {
        // A user other than root has none left, and gets none.
        let keep =
            if plan.user.uid == 0 { CapabilitySet::from_bits_retain(keep) } else { CapabilitySet::empty() };
        let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)
            .doing(Stage::Privileges, || "give up capabilities".into())?;
    }
    // Changing the user has cleared it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    Ok(())
}
