//! Starting a step and waiting for it.

use std::ffi::OsString;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::SandboxError;
use crate::seen::Seen;
use crate::step::Step;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether the command returned 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// What a step cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// From [`spawn`] until the command was executed.
    pub setup: Duration,
    /// From then until it ended.
    pub run: Duration,
    /// CPU time of the command and its descendants in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Largest resident set of one of its processes, in bytes.
    pub max_rss: u64,
    /// FUSE requests answered, over all views.
    pub requests: u64,
}

/// What came of a step.
#[derive(Debug)]
pub struct Outcome {
    /// How the command ended.
    pub exit: Exit,
    /// What it learned: of the root first, then of each view mount in the order of [`Step::mounts`].
    pub seen: Vec<Seen>,
    /// The overlayfs upper directory: everything that the step changed. Its own attributes are those of the root directory.
    pub upper: PathBuf,
    /// Paths (from the root, no leading slash) that were shown as mount targets without being in the tree. If `upper` has one of
    /// them as an empty directory, it is a trace of the mount and not of the step.
    pub stubs: Vec<Vec<u8>>,
    /// What it cost.
    pub stats: Stats,
}

/// A step that runs. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Running {
    /// Read end of standard output, with [`crate::Stdio::Pipes`].
    pub stdout: Option<PipeReader>,
    /// Read end of standard error, with [`crate::Stdio::Pipes`].
    pub stderr: Option<PipeReader>,
    /// Our end of the terminal, with [`crate::Stdio::Pty`].
    pub pty: Option<OwnedFd>,
    handle: Handle,
}

/// Sends signals to a step from any thread.
#[derive(Debug, Clone)]
pub struct Handle(());

impl Handle {
    /// Kills every process of the step. Does nothing once it has ended.
    pub fn kill(&self) {}

    /// Sends a signal to the step's first process.
    pub fn signal(&self, _signal: i32) {}
}

impl Running {
    /// For signals from another thread while one is in [`Running::wait`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Kills every process of the step.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Sends a signal to the step's first process.
    pub fn signal(&self, signal: i32) {
        self.handle.signal(signal);
    }

    /// Waits for the end. With pipes, read them to their end (in other threads) first or meanwhile: a step blocks on a full pipe.
    pub fn wait(self) -> Result<Outcome, SandboxError> {
        Err(SandboxError::Lost("not started".into()))
    }
}

/// Starts a step. Returns when its command is about to be executed; a command that cannot be executed is an error of [`Running::wait`].
pub fn spawn(_step: Step) -> Result<Running, SandboxError> {
    Err(SandboxError::Lost("not started".into()))
}

/// The process that a step is set up in; `args` are those after [`crate::INIT_ARG`]. To be called before any thread exists.
pub fn init_main(_args: impl IntoIterator<Item = OsString>) -> ! {
    std::process::exit(70)
}
