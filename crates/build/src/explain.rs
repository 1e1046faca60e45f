//! What is told of a past or coming build beside its account: read from records when somebody asks.
//!
//! | of a step | from |
//! |---|---|
//! | which files of the context it read | the observations of its record, and the layers below it |
//! | the difference between two texts | the objects of both, if they are there (of a dry run: the context) |
//! | how often it ran in the last builds | the log of builds |

use std::collections::HashSet;

use oci::index::show;
use oci::{Content, Digest};
use serde::Serialize;
use serde_json::Value;
use store::Store;

use crate::account::{BuildRecord, StageRecord, StepEnd, StepRecord};
use crate::context::Context;
use crate::error::BuildError;
use crate::events::RunReason;
use crate::lookup::{files_in, read_of};
use crate::masking::Masker;
use crate::observe::decode;
use crate::state::State;
use crate::textdiff;

/// Texts that are longer, in bytes, are not compared.
const LONGEST: u64 = 256 << 10;

/// Lines of a difference that are told.
const LINES: usize = 40;

/// What a step read of what was copied from the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reads {
    /// How many files it read.
    pub read: usize,
    /// How many there were.
    pub of: usize,
    /// How many facts it learned of all files below it.
    pub facts: usize,
    /// The files that it read, as paths in the image.
    pub files: Vec<String>,
}

/// How often a step ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// Builds in which it ran.
    pub ran: usize,
    /// Builds that had it and came to it.
    pub of: usize,
}

/// What can be told of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Details {
    /// What it read; `None` if that is not known (any more).
    pub reads: Option<Reads>,
    /// The first differing input, line by line, if it is a text.
    pub diff: Vec<String>,
    /// In the last builds of the same Dockerfile, this one included if it is past.
    pub runs: Runs,
}

/// Tells of a build.
#[derive(Debug)]
pub struct Teller<'a> {
    store: &'a Store,
    build: &'a BuildRecord,
    past: Vec<&'a BuildRecord>,
    context: Option<&'a Context>,
    masker: Masker,
}

impl<'a> Teller<'a> {
    /// `past` are builds, newest first: those of the same Dockerfile in the same context count. `context` is that of a dry run.
    pub fn new(
        store: &'a Store,
        build: &'a BuildRecord,
        past: impl IntoIterator<Item = &'a BuildRecord>,
        context: Option<&'a Context>,
    ) -> Teller<'a> {
        let past = past.into_iter().filter(|b| b.same_project(build)).collect();
        // What looks like a secret in any variable of the steps is looked for in texts, too.
        let mut masker = Masker::default();
        let keys = build.steps().filter_map(|(_, s)| s.key);
        for record in keys.filter_map(|k| store.records(&k, 1).ok()?.pop()) {
            let inputs: Value = serde_json::from_str(&record.inputs).unwrap_or_default();
            for (name, value) in inputs["env"].as_object().into_iter().flatten() {
                masker.learn(name, value.as_str().unwrap_or_default());
            }
        }
        Teller { store, build, past, context, masker }
    }

    /// What can be told of a step of the build.
    pub fn details(&self, stage: &StageRecord, step: &StepRecord) -> Details {
        let reads = self.reads(stage, step).unwrap_or_default();
        let diff = step.reason.as_ref().map(|r| self.diff(r)).unwrap_or_default();
        Details { reads, diff, runs: self.runs(stage, step) }
    }

    fn reads(&self, stage: &StageRecord, step: &StepRecord) -> Result<Option<Reads>, BuildError> {
        let (Some(key), Some(parent)) = (step.key, step.parent) else { return Ok(None) };
        let Some(record) = self.store.record_by_parent(&key, &parent)? else { return Ok(None) };
        let Some(bytes) = self.store.record_observations(record.id)? else { return Ok(None) };
        let Some(recorded) = decode(&bytes) else { return Ok(None) };
        let (layers, copied) = self.below(stage, step);
        let state = State::of_layers(layers.clone());
        if state.chain() != parent {
            return Ok(None);
        }
        let mut of = 0;
        for id in copied.iter().filter_map(|&n| layers.get(n as usize)) {
            of += files_in(&*self.store.layer(id)?);
        }
        let files = read_of(&*state.tree(self.store)?, &recorded, &copied);
        let files: Vec<String> = files.iter().map(|p| show(p)).collect();
        Ok(Some(Reads { read: files.len(), of, facts: recorded.len(), files }))
    }

    /// The layers that a step started from, and the numbers of those that were copied from the context.
    fn below(&self, stage: &StageRecord, step: &StepRecord) -> (Vec<Digest>, HashSet<u32>) {
        let mut makers: Vec<&StepRecord> = stage.steps.iter().take_while(|s| s.id != step.id).collect();
        makers.reverse();
        let mut at = stage;
        while let Some(b) =
            at.starts_from.as_ref().and_then(|n| self.build.stages.iter().find(|s| s.name == *n))
        {
            makers.extend(b.steps.iter().rev());
            at = b;
        }
        makers.reverse();
        let own = stage.steps.iter().take_while(|s| s.id != step.id).filter_map(|s| s.layer);
        let layers: Vec<Digest> = stage.below.iter().copied().chain(own).collect();
        let base = layers.len().saturating_sub(makers.len());
        let copies = makers.iter().enumerate().filter(|(_, s)| s.copies_context);
        let copied = copies.filter_map(|(n, _)| u32::try_from(base + n).ok()).collect();
        (layers, copied)
    }

    /// The two versions of the first differing file, compared.
    fn diff(&self, reason: &RunReason) -> Vec<String> {
        let (RunReason::InputChanged { old, new, .. } | RunReason::FilesChanged { old, new, .. }) = reason
        else {
            return Vec::new();
        };
        let text = |state: &Option<Box<crate::reason::FileState>>| -> Option<String> {
            let state = state.as_ref()?;
            let (digest, size) = (state.digest?, state.size?);
            if size > LONGEST {
                return None;
            }
            let kept = self.store.read_all(&digest, LONGEST).ok();
            let bytes = kept.or_else(|| self.context?.read(&digest, LONGEST))?;
            textdiff::is_text(&bytes).then(|| self.masker.text(&String::from_utf8_lossy(&bytes)))
        };
        match (text(old), text(new)) {
            (Some(old), Some(new)) => textdiff::diff(&old, &new, LINES),
            _ => Vec::new(),
        }
    }

    fn runs(&self, stage: &StageRecord, step: &StepRecord) -> Runs {
        let mut out = Runs { ran: 0, of: 0 };
        let number = stage.steps.iter().position(|s| s.id == step.id).unwrap_or(usize::MAX);
        let same = |b: &&&BuildRecord| b.platform == self.build.platform;
        for b in self.past.iter().filter(same) {
            let Some(s) = b.counterpart(&stage.name, number, &step.title, &step.kind, false) else {
                continue;
            };
            match s.end {
                StepEnd::Ran | StepEnd::Failed => out.ran += 1,
                StepEnd::Cached => {}
                _ => continue,
            }
            out.of += 1;
        }
        out
    }
}
