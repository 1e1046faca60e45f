//! Why a step could not be run.

use std::io;
use std::path::PathBuf;

/// Why a step could not be run, or ran on something broken. A command that ran and failed is no error: see [`crate::Exit`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program is not there or cannot be executed; what a shell reports as 127 or 126.
    #[error("cannot run {program:?} (working directory {cwd:?}, user {uid}:{gid}): {why}")]
    Command {
        /// The program as given.
        program: String,
        /// Working directory.
        cwd: String,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// What is wrong with it.
        why: String,
        /// 127: not found; 126: found, but cannot be executed.
        code: i32,
    },
    /// The step asks for something impossible.
    #[error("{0}")]
    Invalid(String),
    /// A part of the set-up was refused.
    #[error("cannot set up the step: {what}")]
    Setup {
        /// What was being done.
        what: String,
        /// What the user can do about it.
        hint: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Bytes of a file of the tree could not be read while the step ran.
    #[error("cannot read the content of {path:?} while the step ran")]
    Content {
        /// Path in the tree.
        path: String,
        /// What the store said.
        source: io::Error,
    },
    /// Preparing on this side of the sandbox failed.
    #[error("{what} {path:?}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process that sets the step up ended without a word.
    #[error("the step's first process ended without reporting ({0})")]
    Lost(String),
}

impl SandboxError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            SandboxError::Setup { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}
