//! The step's first processes: carry out a plan.
//!
//! Two of them: the *supervisor*, which makes the namespaces, waits for the step, and kills it when the parent asks or is gone;
//! and the step itself, process 1 of its namespace, which mounts, gives up privileges and executes the command. Both have one
//! thread, so that fork and unshare do what they say.

mod mounts;
mod pasta;
mod process;

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::UnshareFlags;

pub(crate) use self::mounts::mount_fuse;
use self::pasta::Pasta;
use crate::cgroup::inside::{Removal, join};

use crate::channel::{self, Failure, Order, Report};
use crate::error::Stage;
use crate::plan::Plan;
use crate::sys::{self, Forked};

type Done<T> = Result<T, Failure>;

/// Says of an error what was being done.
trait Context<T> {
    fn doing(self, stage: Stage, what: impl FnOnce() -> String) -> Done<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, stage: Stage, what: impl FnOnce() -> String) -> Done<T> {
        self.map_err(|e| {
            let e: io::Error = e.into();
            Failure { stage, what: what(), errno: e.raw_os_error().unwrap_or(libc::EIO) }
        })
    }
}

/// The whole life of the process started by [`crate::spawn`]; its standard input is the socket.
pub(crate) fn main() -> ! {
    // The parent reads the reason from the socket; the exit code says nothing.
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { sys::exit_now(70) };
    let Ok((plan, stdin)) = channel::receive_long::<Plan>(&socket) else { sys::exit_now(70) };
    if let Err(failure) = run(plan, stdin, &socket) {
        let _ = channel::send(&socket, &Report::Failed(failure), None);
    }
    sys::exit_now(0)
}

fn run(plan: Plan, stdin: Option<OwnedFd>, socket: &OwnedFd) -> Done<()> {
    // It was taken from the path of a file descriptor.
    let _ = rustix::thread::set_name(c"layercake-init");
    // Signals of the terminal are the parent's business.
    let _ = rustix::process::setsid();
    let dumpable = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(dumpable)
        .doing(Stage::Process, || "hide the memory of the first process".into())?;
    let mut namespaces =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if plan.own_network {
        namespaces |= UnshareFlags::NEWNET;
    }
    let groups = Removal::of(&plan.groups);
    let pasta = plan.pasta.then(Pasta::prepare).transpose()?;
    unshare(namespaces).doing(Stage::Namespaces, || "make namespaces".into())?;
    if let Some(pasta) = &pasta {
        pasta.connect(socket)?;
    }
    match sys::fork().doing(Stage::Process, || "start the step's process".into())? {
        Forked::Parent(step) => {
            drop((plan, stdin));
            supervise(step, socket, &groups, pasta)
        }
        Forked::Child => {
            drop((groups, pasta));
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            let (report, failed) = match become_step(plan, stdin, socket) {
                Ok(process::Refused { why, code }) => (Report::NoCommand { why, code }, code),
                Err(failure) => (Report::Failed(failure), 70),
            };
            let _ = channel::send(socket, &report, None);
            sys::exit_now(failed)
        }
    }
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: CLONE_FILES, the one flag that could pull descriptors away from under others, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Returns only if the command cannot be executed.
fn become_step(plan: Plan, stdin: Option<OwnedFd>, socket: &OwnedFd) -> Done<process::Refused> {
    let _ = rustix::process::setsid();
    for path in &plan.groups {
        if let Err(e) = join(path) {
            let report = Report::NoGroup { path: path.clone(), errno: e.raw_os_error() };
            channel::send(socket, &report, None).doing(Stage::Process, || "report".into())?;
        }
    }
    if mounts::unified_cgroups() {
        // After joining, so that the step's own group is the root of what it sees.
        unshare(UnshareFlags::NEWCGROUP).doing(Stage::Namespaces, || "make namespaces".into())?;
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    mounts::build(&plan, socket)?;
    process::execute(plan, stdin, socket)
}

/// Waits for the step, and tells the parent how it ended. Returns when nothing of it runs any more.
fn supervise(step: Pid, socket: &OwnedFd, groups: &Removal, pasta: Option<Pasta>) -> Done<()> {
    // Whoever reads the step's output waits until nobody holds the pipes.
    let release = || -> Result<(), Errno> {
        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)
    };
    let watched = release().and_then(|()| rustix::process::pidfd_open(step, PidfdFlags::empty()));
    match watched {
        Ok(ended) => watch(step, &ended, socket),
        Err(_) => sys::kill(step, libc::SIGKILL),
    }
    // Process 1 ends after all others of its namespace are dead.
    let ended = sys::wait(step).doing(Stage::Process, || "wait for the step".into())?;
    if let Some(pasta) = pasta {
        pasta.end();
    }
    let sys::Ended { status, user, system, max_rss } = ended;
    let _ = channel::send(socket, &Report::Ended { status, user, system, max_rss }, None);
    if !groups.is_empty() {
        // The parent looks at them, and removes them; but it may be killed before it does.
        while matches!(channel::receive::<Order>(socket), Ok(Some(_))) {}
        groups.remove();
    }
    Ok(())
}

/// Obeys orders until the step has ended.
fn watch(step: Pid, ended: &OwnedFd, socket: &OwnedFd) {
    loop {
        let mut fds = [PollFd::new(ended, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return sys::kill(step, libc::SIGKILL),
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        if !fds[1].revents().is_empty() {
            match channel::receive::<Order>(socket) {
                Ok(Some((Order::Signal(signal), _))) => sys::kill(step, signal),
                // The parent is gone.
                Ok(None) | Err(_) => return sys::kill(step, libc::SIGKILL),
            }
        }
    }
}
