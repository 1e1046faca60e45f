//! Why a build fails. The command line adds what to do about it.

use std::path::PathBuf;

use oci::Digest;

use crate::commit::CommitError;
use crate::context::ContextError;
use crate::copy::CopyError;
use crate::fetch::FetchError;
use crate::users::UserError;

/// Why a build, or a part of one, fails.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile has errors.
    #[error("{} has errors", file)]
    Dockerfile {
        /// Its name.
        file: String,
        /// What is wrong, one by one.
        diagnostics: Vec<dockerfile::Diagnostic>,
    },
    /// A line asks for something that cannot be done.
    #[error("{message}")]
    Line {
        /// Line in the Dockerfile, 1-based.
        line: Option<u32>,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// A command ended with another code than 0.
    #[error("process {command:?} did not complete successfully: {end}")]
    Command {
        /// The command with its shell.
        command: String,
        /// `exit code: 1`, `killed by SIGKILL`.
        end: String,
        /// The code, or 128 and the signal.
        code: i32,
        /// The last lines of its output.
        tail: String,
    },
    /// A step failed for another reason.
    #[error("{title}")]
    Step {
        /// The instruction.
        title: String,
        /// First and last line in the Dockerfile, 1-based.
        lines: Option<(u32, u32)>,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A base image cannot be had.
    #[error("{name}: not found")]
    BaseNotFound {
        /// The name that FROM gives.
        name: String,
        /// Where it was looked for.
        tried: String,
    },
    /// The registry refused or failed.
    #[error("cannot get {name}")]
    Registry {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: Box<registry::RegistryError>,
    },
    /// An image is damaged, or says something of itself that is not so.
    #[error("image {name} is damaged: {why}")]
    Image {
        /// The image.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// A layer does not fit on those below it.
    #[error("layer {} cannot be applied", layer.short())]
    Layer {
        /// Its id.
        layer: Digest,
        /// Why.
        #[source]
        source: oci::tree::TreeError,
    },
    /// The files of a layer cannot be written for a step.
    #[error("the files of layer {} cannot be laid out", layer.short())]
    LayerFiles {
        /// Its id.
        layer: Digest,
        /// Why.
        #[source]
        source: sandbox::FilesError,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The build context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A COPY or ADD.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A user or group.
    #[error(transparent)]
    User(#[from] UserError),
    /// The changes of a step.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    /// Something from elsewhere cannot be had.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The command line asks for something impossible.
    #[error("{message}")]
    Usage {
        /// What.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}

impl From<FetchError> for BuildError {
    fn from(e: FetchError) -> BuildError {
        match e {
            FetchError::Interrupted | FetchError::Context(ContextError::Interrupted) => {
                BuildError::Interrupted
            }
            FetchError::Store(e) => e.into(),
            e => BuildError::Fetch(Box::new(e)),
        }
    }
}

impl BuildError {
    /// A sentence about a line.
    pub(crate) fn line(line: Option<u32>, message: impl Into<String>) -> BuildError {
        BuildError::Line { line, message: message.into(), help: None }
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> BuildError {
        let path = path.into();
        move |source| BuildError::Io { what, path, source }
    }

    /// The innermost error of a step.
    pub fn root(&self) -> &BuildError {
        match self {
            BuildError::Step { source, .. } => source.root(),
            e => e,
        }
    }
}
