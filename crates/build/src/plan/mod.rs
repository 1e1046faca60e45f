//! From a Dockerfile to what has to be done: stages, their steps, and the config of every stage's image.
//!
//! Planning is pure but for one question: what a base image is like (its environment, user, triggers), which [`Bases`] answers. All
//! variables are expanded here, because their values are known before anything runs; so a plan says everything about a step
//! but the files that it meets.
//!
//! The rules are BuildKit's `dockerfile2llb`; docs/differences.md lists where we warn or fail instead.

mod dispatch;
mod epoch;
mod expose;
mod from;
mod stages;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::Digest;
use oci::platform::Platform;
use oci::types::ImageConfig;

use crate::chmod::Chmod;
use crate::fetch::GitRef;

pub use epoch::{DateSource, date_source};
pub(crate) use stages::is_proxy;
pub use stages::plan;

/// The PATH of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the history of our steps says of who made them; other tools look for it.
pub(crate) const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// An image to start from: in the store, whole.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// The name that it was asked for by.
    pub name: String,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers' ids, base first.
    pub layers: Vec<Digest>,
    /// The digest of its manifest, where it has one.
    pub digest: Option<Digest>,
    /// It is of another platform than asked for.
    pub other_platform: bool,
}

/// What a name in FROM or `--from` turned out to be.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// An image.
    Image(Arc<BaseImage>),
    /// A directory given with `--build-context`, by its name there.
    Local(String),
}

/// Who knows base images and named contexts.
pub trait Bases {
    /// The error of a name that cannot be resolved.
    type Error;
    /// Whether `--build-context` gives this name.
    fn is_named_context(&self, name: &str) -> bool;
    /// Resolves a name: a named context first, else an image.
    fn resolve(&self, name: &str, platform: &Platform) -> Result<Resolved, Self::Error>;
}

/// What the caller of a build chose.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--platform`; none: the machine's.
    pub platform: Option<Platform>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`, lower case.
    pub no_cache_filter: Vec<String>,
    /// `--expand-from`: variables in `COPY --from` mean something.
    pub expand_from: bool,
}

/// A build, planned.
#[derive(Debug)]
pub struct Plan {
    /// All stages that the target needs are [`Stage::needed`]; the others are there for their numbers only.
    pub stages: Vec<Stage>,
    /// Number of the target.
    pub target: usize,
    /// SOURCE_DATE_EPOCH, from `--build-arg` or the file's head: the time of everything that the build makes.
    pub epoch: Option<i64>,
    /// Things to tell.
    pub warnings: Vec<Warning>,
}

/// Something to tell about the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The sentence.
    pub text: String,
    /// Line in the Dockerfile, 1-based.
    pub line: Option<u32>,
}

/// What a stage starts from.
#[derive(Debug, Clone)]
pub enum Start {
    /// Nothing.
    Scratch,
    /// An image.
    Image(Arc<BaseImage>),
    /// Another stage.
    Stage(usize),
    /// A directory given with `--build-context`.
    Local(String),
    /// Not resolved, because nothing needs it.
    Unknown,
}

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name, or `stage-N`; for an image that only `--from` names, that image.
    pub name: String,
    /// What it starts from.
    pub start: Start,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The config of its image, without layers and times.
    pub config: ImageConfig,
    /// What it is built for.
    pub platform: Platform,
    /// Whether the target needs it.
    pub needed: bool,
}

/// One step: an instruction that makes a layer.
#[derive(Debug)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// The instruction with variables expanded, for people.
    pub title: String,
    /// Lines in the Dockerfile, 1-based; none for inherited triggers.
    pub lines: Option<(u32, u32)>,
    /// Do not look for an earlier result.
    pub no_cache: bool,
    /// Place of the step's line in the config's history.
    pub history: usize,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// RUN.
    Run(Run),
    /// COPY and ADD.
    Copy(Copy),
    /// WORKDIR.
    Workdir(Workdir),
}

/// A RUN.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command with its shell.
    pub args: Vec<String>,
    /// Environment, in order; the last of equal names counts.
    pub env: Vec<(String, String)>,
    /// Proxy variables: given to the step, in no key.
    pub proxy: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as written.
    pub user: String,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
    /// `--cache=chain`: what the step reads says nothing about when it is to run again.
    pub chain: bool,
    /// `--mount`s.
    pub mounts: Vec<RunMount>,
    /// `--no-cache`: it runs in every build. What lies below it is reused as ever.
    pub always: bool,
    /// A heredoc with `#!`: name and content of the script in `/dev/pipes`.
    pub script: Option<(String, String)>,
}

/// A `--mount` of a RUN.
#[derive(Debug, Clone)]
pub struct RunMount {
    /// As written, variables expanded.
    pub mount: dockerfile::mount::Mount,
    /// Stage that `from` names.
    pub from: Option<usize>,
    /// Absolute target; for secrets and sockets as the rules make it, if any.
    pub target: String,
}

impl RunMount {
    /// Whether it puts a directory or a file of a tree over its target.
    fn covers(&self) -> bool {
        use dockerfile::mount::Kind;
        matches!(self.mount.kind, Kind::Bind | Kind::Cache | Kind::Tmpfs)
    }
}

/// A COPY or ADD.
#[derive(Debug, Clone)]
pub struct Copy {
    /// It is an ADD.
    pub add: bool,
    /// What to copy.
    pub sources: Vec<CopySource>,
    /// Absolute destination; a trailing slash counts.
    pub dest: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`.
    pub link: bool,
    /// Stage that `--from` names; none: the context.
    pub from: Option<usize>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// One source of a COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path in the context or stage.
    Path(String),
    /// A file to download.
    Http {
        /// From where.
        url: String,
        /// `--checksum`.
        checksum: Option<Digest>,
    },
    /// A git repository, with what `--checksum` and `--keep-git-dir` add.
    Git(Box<GitRef>),
    /// A heredoc.
    Inline {
        /// File name.
        name: String,
        /// File content.
        content: String,
    },
}

/// A WORKDIR that is not the root.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// Absolute path.
    pub path: String,
    /// USER at that point: the owner of new directories.
    pub user: String,
}

/// Why a Dockerfile cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError<E> {
    /// A line is wrong.
    #[error("{message}")]
    At {
        /// Line in the Dockerfile, 1-based; none if it comes from a base image.
        line: Option<u32>,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// A base image or named context cannot be had.
    #[error("{name}")]
    Base {
        /// Line that names it.
        line: Option<u32>,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: E,
    },
    /// The whole file or the command line is wrong.
    #[error("{message}")]
    Whole {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}
