//! Runs one build step on a file system that we serve: the FUSE view of the parent tree, the namespaces, the executor.
//!
//! [`spawn`] takes a [`Step`] and gives a [`Running`]; its [`Outcome`] says how the step ended, where its changes lie (an
//! overlayfs upper directory) and what it learned about the trees that it ran on ([`Seen`]).
//!
//! The parent starts its own executable again with [`INIT_ARG`]; that process is single-threaded and carries out a plan, which is
//! plain data. A program that uses this crate calls [`init_main`] first thing in `main` when its first argument is [`INIT_ARG`].
//! docs/sandbox.md is the normative description of what a step gets and what it is kept from.

mod error;
mod run;
mod seen;
mod step;

pub use error::SandboxError;
pub use run::{Exit, Handle, Outcome, Running, Stats, init_main, spawn};
pub use seen::{Bits, Seen};
pub use step::{Mount, MountSource, Network, Resource, Rlimit, Security, Stdio, Step, User};

/// First argument of the process that a step is set up in.
pub const INIT_ARG: &str = "__sandbox-init";
