//! What happens during a build, as data. Listeners render it: the terminal, the plain log, JSON. Nothing here prints.
//!
//! A build first announces its steps ([`Event::Planned`]); every step then goes through [`Event::Started`], any number of
//! [`Event::Log`] and [`Event::Transfer`], and exactly one of [`Event::Cached`], [`Event::Done`], [`Event::Failed`],
//! [`Event::Canceled`]. Work beside the Dockerfile (pulling a base, reading the context, exporting) is a step, too, announced by
//! [`Event::Task`].

use std::time::Duration;

use oci::Digest;
use serde::{Deserialize, Serialize};

pub use crate::reason::RunReason;

/// Number of a step within a build.
pub type StepId = u32;

/// A step, as people are shown it.
#[derive(Debug, Clone, Serialize)]
pub struct StepInfo {
    /// Its number.
    pub id: StepId,
    /// Name of its stage, or `stage-N`; empty in a build of one stage and for tasks.
    pub stage: String,
    /// `1/4`: place within the stage; empty for tasks.
    pub place: String,
    /// The instruction, variables expanded; or what the task does.
    pub name: String,
    /// First and last line in the Dockerfile, 1-based; none for tasks and inherited ONBUILD triggers.
    pub lines: Option<(u32, u32)>,
}

impl StepInfo {
    /// `[build 2/4] RUN make`, the form of BuildKit's plain log.
    pub fn title(&self) -> String {
        match (self.stage.is_empty(), self.place.is_empty()) {
            (_, true) => format!("[internal] {}", self.name),
            (true, false) => format!("[{}] {}", self.place, self.name),
            (false, false) => format!("[{} {}] {}", self.stage, self.place, self.name),
        }
    }
}

/// Which of a step's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which rule of the cache gave a hit (DESIGN: look-up order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HitRule {
    /// A record of the same step on the same parent.
    SameParent,
    /// A record of the same step whose observations are the same on this parent.
    SameObservations,
}

/// One event.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The steps of the build, in Dockerfile order.
    Planned {
        /// All steps that may run.
        steps: Vec<StepInfo>,
    },
    /// A task beside the Dockerfile was announced.
    Task {
        /// The task.
        step: StepInfo,
    },
    /// A step began.
    Started {
        /// Which.
        id: StepId,
    },
    /// A step wrote output (not necessarily a whole line).
    Log {
        /// Which.
        id: StepId,
        /// Which output.
        stream: Stream,
        /// The bytes.
        #[serde(serialize_with = "lossy")]
        data: Vec<u8>,
    },
    /// Bytes moved for a step.
    Transfer {
        /// Which step.
        id: StepId,
        /// What moves: a layer's short digest, a file.
        what: String,
        /// Bytes so far.
        done: u64,
        /// All bytes, 0 where unknown.
        total: u64,
    },
    /// A step waits for another process that runs the same step.
    Waiting {
        /// Which.
        id: StepId,
        /// For what.
        what: String,
    },
    /// A step's earlier result is used.
    Cached {
        /// Which.
        id: StepId,
        /// By which rule.
        rule: HitRule,
        /// Its layer.
        layer: Digest,
        /// What it took when it ran.
        saved: Duration,
        /// More about the rule, for people.
        detail: Option<String>,
    },
    /// A step ran, or a task ended.
    Done {
        /// Which.
        id: StepId,
        /// How long it took.
        took: Duration,
        /// Why it ran; none for tasks.
        reason: Option<Box<RunReason>>,
        /// Its layer, where it made one.
        layer: Option<Digest>,
        /// Bytes of file content that the layer holds.
        bytes: u64,
        /// The layer equals an earlier result of this step, which was taken (early cut-off).
        adopted: bool,
    },
    /// A step failed.
    Failed {
        /// Which.
        id: StepId,
        /// Why.
        error: String,
        /// The last lines of what it wrote, secrets masked; empty for steps that run no command.
        tail: String,
    },
    /// A step was stopped because another one failed or the build was interrupted.
    Canceled {
        /// Which.
        id: StepId,
    },
    /// Something that the user should know; the build goes on.
    Warning {
        /// The sentence.
        text: String,
        /// Line in the Dockerfile.
        line: Option<u32>,
    },
}

fn lossy<S: serde::Serializer>(data: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(data))
}

/// Who is told. Called from several threads.
pub trait Listener: Sync {
    /// One event happened.
    fn event(&self, event: Event);
}

/// A listener that keeps everything, for tests and for callers that only want the end.
#[derive(Debug, Default)]
pub struct Recorder(std::sync::Mutex<Vec<Event>>);

impl Recorder {
    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Listener for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }
}
