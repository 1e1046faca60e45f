//! Runs one build step on a file system that we serve: the FUSE view of the parent tree, the namespaces, the executor.
//!
//! [`spawn`] takes a [`Step`] and gives a [`Running`]; its [`Outcome`] says how the step ended, where its changes lie (an
//! overlayfs upper directory) and what it learned about the trees that it ran on ([`Seen`]).
//!
//! The parent starts its own executable again with [`INIT_ARG`]; that process is single-threaded and carries out a plan, which is
//! plain data. A program that uses this crate calls [`init_main`] first thing in `main` when its first argument is [`INIT_ARG`].
//! docs/sandbox.md is the normative description of what a step gets and what it is kept from.

mod caps;
mod cgroup;
mod channel;
mod error;
mod exe;
mod files;
mod fuse;
mod ids;
mod init;
mod memory;
mod mounted;
mod plan;
mod run;
mod seccomp;
mod seen;
mod socket;
mod step;
mod sys;
mod targets;
pub mod userns;
mod view;

pub use cgroup::{Hits, Limits, Unset, sweep as sweep_groups};
pub use error::{SandboxError, Stage};
pub use files::{FilesError, is_plain, write_layer, write_tree};
#[cfg(feature = "fuzz")]
pub use fuse::played::Played;
pub use ids::Ids;
pub use memory::{give_back, share_heap};
pub use mounted::Mounted;
pub use run::{Exit, Handle, Outcome, Running, Stats, spawn};
pub use seen::{Bits, Seen};
pub use step::{Files, Mount, MountSource, Network, Resource, Rlimit, Security, Stdio, Step, User};

/// First argument of the process that a step is set up in.
pub const INIT_ARG: &str = "__sandbox-init";

/// The process that a step is set up in: what `main` runs when its first argument is [`INIT_ARG`]. To be called before any thread
/// exists; `args` are those after [`INIT_ARG`], of which there are none in this version.
pub fn init_main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ! {
    drop(args.into_iter());
    init::main()
}
