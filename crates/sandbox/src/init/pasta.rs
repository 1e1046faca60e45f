//! A network of the step's own that leads outside: the program pasta moves what the step sends and gets between an interface in the
//! step's network namespace and sockets of the host.
//!
//! Pasta needs the host's network and the step's, so a helper is forked before the namespaces are made, gets the new network as a file
//! afterwards, and becomes pasta. It is killed by us at the end of the step, and by the kernel if we die (it keeps its user, as a change
//! of that would clear the order to do so; it gives up its rights and its file system by itself).
//!
//! What is reachable is what the host reaches, but for the host's loopback: connections to the gateway are not passed to it
//! (`--no-map-gw`), and no port of either side is shown on the other one. Names are asked of [`NAMESERVER`], an address that
//! pasta passes on to the host's resolver, wherever that listens.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::{Context, Done};
use crate::channel;
use crate::error::Stage;
use crate::plan::NAMESERVER;
use crate::sys::{self, Forked};

/// Where the program is looked for: no environment tells.
const PLACES: [&str; 5] =
    ["/usr/local/bin/pasta", "/usr/bin/pasta", "/bin/pasta", "/usr/local/sbin/pasta", "/usr/sbin/pasta"];

/// How long it may take to make an interface, in seconds.
const PATIENCE: i64 = 30;

/// The helper, waiting for the namespace; and later pasta.
pub(super) struct Pasta {
    process: Pid,
    socket: OwnedFd,
    /// Pasta writes its process id here when everything is there.
    ready: OwnedFd,
    /// What it has to say.
    messages: OwnedFd,
}

impl Pasta {
    /// Starts the helper, in the namespaces of this process.
    pub(super) fn prepare() -> Done<Pasta> {
        let what = || "start the helper of the network".into();
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(Stage::Network, what);
        let (socket, theirs) = channel::pair().doing(Stage::Network, what)?;
        let (ready, tell) = pipe()?;
        let (messages, say) = pipe()?;
        match sys::fork().doing(Stage::Network, what)? {
            Forked::Parent(process) => Ok(Pasta { process, socket, ready, messages }),
            Forked::Child => {
                let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
                drop((socket, ready, messages));
                if let Err(errno) = become_pasta(&theirs, &tell, &say) {
                    // No process id begins so.
                    let _ = rustix::io::write(&tell, format!("!{}\n", errno.raw_os_error()).as_bytes());
                }
                sys::exit_now(1)
            }
        }
    }

    /// Has the network of this process connected, and waits until it is. Gives up if `parent` is closed.
    pub(super) fn connect(&self, parent: &OwnedFd) -> Done<()> {
        let what = || "connect its network".to_owned();
        let network = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(Stage::Network, what)?;
        channel::send(&self.socket, &(), Some(network.as_fd())).doing(Stage::Network, what)?;
        let mut fds = [PollFd::new(&self.ready, PollFlags::IN), PollFd::new(parent, PollFlags::RDHUP)];
        let patience = rustix::time::Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
        let waited = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&patience)));
        match waited.doing(Stage::Network, what)? {
            0 => {
                return Err(Errno::TIMEDOUT)
                    .doing(Stage::Network, || "connect its network with pasta".into());
            }
            _ if fds[0].revents().is_empty() => return Err(Errno::PIPE).doing(Stage::Network, what),
            _ => {}
        }
        let mut text = [0u8; 32];
        let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.ready, &mut text))
            .doing(Stage::Network, what)?;
        let text = String::from_utf8_lossy(&text[..n]);
        match text.trim().strip_prefix('!') {
            Some(errno) => Err(Errno::from_raw_os_error(errno.parse().unwrap_or(libc::EIO)))
                .doing(Stage::Network, || "start the program pasta".into()),
            None if n == 0 => Err(Errno::NETDOWN)
                .doing(Stage::Network, || format!("connect its network with pasta ({})", self.said())),
            None => Ok(()),
        }
    }

    /// What it said of its failure.
    fn said(&self) -> String {
        let mut text = vec![0u8; 4096];
        // It has ended, so all is there.
        let n = rustix::io::read(&self.messages, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..n]).into_owned();
        // It says when it says it, and of each message that there is nobody to log it.
        let plain = |l: &'_ str| match l.split_once(": ") {
            Some((time, rest)) if time.parse::<f64>().is_ok() => rest.trim().to_owned(),
            _ => l.trim().to_owned(),
        };
        let lines: Vec<String> = text.lines().filter(|l| !l.contains("syslog")).map(plain).collect();
        if lines.is_empty() { "it ended without a word".into() } else { lines.join("; ") }
    }

    /// The step has ended.
    pub(super) fn end(self) {
        sys::kill(self.process, libc::SIGKILL);
        let _ = sys::wait(self.process);
    }
}

/// Returns only if it fails.
fn become_pasta(socket: &OwnedFd, tell: &OwnedFd, say: &OwnedFd) -> Result<(), Errno> {
    let Some(((), Some(network))) = channel::receive::<()>(socket)? else { return Err(Errno::PIPE) };
    // Nobody reads what it says while it runs, and it must not wait for that.
    rustix::fs::fcntl_setfl(say, OFlags::NONBLOCK)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(say)?;
    rustix::stdio::dup2_stderr(say)?;
    for kept in [&network, tell] {
        rustix::io::fcntl_setfd(kept, FdFlags::empty())?;
    }
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let (network, tell) = (path(&network), path(tell));
    let words = [
        "pasta",
        "--foreground",
        "--quiet",
        "--runas",
        "0:0",
        "--config-net",
        "--no-map-gw",
        "-t",
        "none",
        "-u",
        "none",
        "-T",
        "none",
        "-U",
        "none",
        "--dns-forward",
        NAMESERVER,
        "--netns",
        &network,
        "--pid",
        &tell,
    ];
    // An ignored SIGPIPE, as Rust's programs have, is an error to some versions.
    sys::reset_signals();
    let words: Vec<CString> = words.iter().filter_map(|w| CString::new(*w).ok()).collect();
    let mut last = Errno::NOENT;
    for place in PLACES {
        let Ok(program) = CString::new(place) else { continue };
        let error = sys::execve(&program, &words, &[]);
        if error.raw_os_error() != Some(libc::ENOENT) {
            last = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        }
    }
    Err(last)
}
