//! What a build would do now: the solver's look-ups without its runs.
//!
//! COPY, ADD and WORKDIR run nothing, so their results are computed, in memory. A RUN that no earlier result fits would run, and what
//! it would make is not known: the steps on it, and those that take from its stage, are told as unknown, with the step that it
//! depends on. But a step whose key has no record would run whatever lies below it.
//!
//! No registry, URL or repository is asked: a base image is what the store has under its name, and a download what it was when it was last
//! made. What a repository has, or a URL that was never asked, is unknown.

use std::sync::Arc;

use crate::account::{BuildEnd, BuildRecord, StepEnd};
use crate::context::Context;
use crate::error::BuildError;
use crate::events::{HitRule, RunReason};
use crate::fetch::FetchError;
use crate::lookup::{Found, RECORDS};
use crate::plan::{CopySource, Start, Step, StepKind};
use crate::solve::{At, Finished, Solver};
use crate::state::State;
use crate::steps::Prepared;

/// What a build would come to.
#[derive(Debug)]
pub struct Forecast {
    /// What would happen to every step.
    pub account: BuildRecord,
    /// The build context, for the texts of files that the store does not have.
    pub context: Option<Arc<Context>>,
}

/// What is known of a stage's files after a step.
#[derive(Clone)]
enum Known {
    /// All of it.
    State(State),
    /// Nothing: they depend on what this step would make.
    After(String),
}

/// A stage, looked through.
#[derive(Clone)]
struct Seen {
    known: Known,
    chain_missed: bool,
    barrier: Option<oci::Digest>,
}

impl Solver<'_> {
    /// Looks all needed stages through.
    pub(crate) fn forecast(&self) -> Result<Forecast, BuildError> {
        let mut seen: Vec<Option<Seen>> = vec![None; self.plan.stages.len()];
        for i in 0..self.plan.stages.len() {
            if self.plan.stages[i].needed {
                self.look_through(i, &mut seen)?;
            }
        }
        let account = BuildRecord { end: BuildEnd::DryRun, ..self.account() };
        Ok(Forecast { account, context: self.context.get().cloned() })
    }

    fn look_through(&self, i: usize, seen: &mut Vec<Option<Seen>>) -> Result<Seen, BuildError> {
        if let Some(s) = &seen[i] {
            return Ok(s.clone());
        }
        let stage = &self.plan.stages[i];
        let mut at_start = Seen { known: Known::State(State::empty()), chain_missed: false, barrier: None };
        match &stage.start {
            Start::Scratch | Start::Unknown => {}
            Start::Image(image) => at_start.known = Known::State(State::of_layers(image.layers.clone())),
            Start::Local(name) => at_start.known = Known::State(self.local_state(name)?),
            Start::Stage(b) => at_start = self.look_through(*b, seen)?,
        }
        let mut now = at_start;
        if let Known::State(s) = &now.known {
            self.note_below(i, s.layers());
        }
        for at in self.steps_at().filter(|at| at.stage == i) {
            let mut from = None;
            for b in takes_from(at.step) {
                if let Known::After(what) = self.look_through(b, seen)?.known {
                    from = Some(what);
                }
            }
            now = self.look_ahead(at, now, from)?;
        }
        if let Known::State(state) = &now.known {
            // For those who take from this stage.
            let finished = Finished {
                state: state.clone(),
                steps: Vec::new(),
                chain_missed: now.chain_missed,
                barrier: now.barrier,
            };
            let _ = self.results[i].set(finished);
        }
        seen[i] = Some(now.clone());
        Ok(now)
    }

    /// What would happen to one step. `from` is a step that it takes something from and that would run.
    fn look_ahead(&self, at: At<'_>, mut now: Seen, from: Option<String>) -> Result<Seen, BuildError> {
        if let Some(what) = from {
            return Ok(self.unknown(at, &what, now));
        }
        let stage = &self.plan.stages[at.stage];
        if asks_git(at.step) {
            return Ok(self.not_asked(at, now));
        }
        let prepared = match self.prepare(stage, at.step, &mut now.barrier) {
            Err(BuildError::Fetch(e)) if matches!(*e, FetchError::Offline { .. }) => {
                return Ok(self.not_asked(at, now));
            }
            prepared => prepared?,
        };
        let key = prepared.key().digest;
        self.note(at.id, |s| s.key = Some(key));
        let earlier = self.store.records(&key, RECORDS)?;
        let last_took = earlier.first().map(|r| r.duration_ms).or_else(|| self.took_before(at));
        self.note(at.id, |s| s.ran_ms = last_took.unwrap_or(0));
        let afresh = at.step.no_cache || matches!(&at.step.kind, StepKind::Run(r) if r.always);
        let is_run = matches!(prepared, Prepared::Run(_));
        let parent = match &now.known {
            Known::State(s) => s.clone(),
            Known::After(what) if is_run && (afresh || earlier.is_empty()) => {
                let what = what.clone();
                let reason = match afresh {
                    true => RunReason::NoCache,
                    false => self.what_changed(at, &prepared, &earlier, &State::empty())?,
                };
                self.would_run(at, reason);
                return Ok(Seen { known: Known::After(what), chain_missed: true, ..now });
            }
            Known::After(what) => {
                let what = what.clone();
                return Ok(self.unknown(at, &what, now));
            }
        };
        self.note(at.id, |s| s.parent = Some(parent.chain()));
        let found = if afresh { None } else { self.find(&prepared, &parent)? };
        if let Some(found) = found {
            let (record, rule, detail) = match found {
                Found::SameParent(r) => (*r, HitRule::SameParent, None),
                Found::Observed(f) => {
                    let detail = self.unchanged(at, &f.2, &parent)?;
                    (f.0, HitRule::SameObservations, Some(detail))
                }
            };
            now.chain_missed |= rule != HitRule::SameParent;
            self.note(at.id, |s| {
                s.end = StepEnd::Cached;
                s.rule = Some(rule);
                s.note = detail;
                s.layer = Some(record.layer);
                s.ran_ms = record.duration_ms;
                s.chain_would_run = now.chain_missed;
            });
            return Ok(Seen { known: Known::State(parent.push(record.layer)), ..now });
        }
        now.chain_missed = true;
        let mut reason = match afresh {
            true => RunReason::NoCache,
            false => self.what_changed(at, &prepared, &earlier, &parent)?,
        };
        if is_run {
            self.would_run(at, reason);
            return Ok(Seen { known: Known::After(self.named(at)), ..now });
        }
        let ran = prepared.execute(self, at, &parent)?;
        let same = |r: &&store::Record| self.same_but_times(&ran.layer, &r.layer);
        if reason == RunReason::Recomputed
            && let Some(r) = earlier.iter().find(same)
        {
            self.note(at.id, |s| {
                s.end = StepEnd::Cached;
                s.rule = Some(HitRule::SameObservations);
                s.layer = Some(r.layer);
                s.chain_would_run = true;
            });
            return Ok(Seen { known: Known::State(parent.push(r.layer)), ..now });
        }
        if matches!(&reason, RunReason::StepChanged { input, .. } if input == "files")
            && let Some(files) = self.which_files(at, &ran.layer)
        {
            reason = files;
        }
        if reason == RunReason::Recomputed {
            reason = RunReason::ParentChanged { origin: None };
        }
        self.would_run(at, reason);
        Ok(Seen { known: Known::State(parent.push_unkept(ran.layer.decode())), ..now })
    }

    fn would_run(&self, at: At<'_>, reason: RunReason) {
        self.note(at.id, |s| {
            s.end = StepEnd::WouldRun;
            s.reason = Some(reason);
            s.chain_would_run = true;
        });
    }

    fn unknown(&self, at: At<'_>, what: &str, now: Seen) -> Seen {
        let took = self.took_before(at).unwrap_or(0);
        self.note(at.id, |s| {
            s.end = StepEnd::Unknown;
            s.note = Some(format!("depends on {what}, which would run"));
            s.ran_ms = s.ran_ms.max(took);
            s.chain_would_run = true;
        });
        Seen { known: Known::After(what.to_owned()), chain_missed: true, ..now }
    }

    /// A step that takes what a dry run does not ask for.
    fn not_asked(&self, at: At<'_>, now: Seen) -> Seen {
        let seen = self.unknown(at, "", now);
        self.note(at.id, |s| s.note = Some("a dry run does not ask what lies there".to_owned()));
        Seen { known: Known::After(self.named(at)), ..seen }
    }

    /// `#7 RUN make`
    fn named(&self, at: At<'_>) -> String {
        format!("#{} {}", at.id, self.masker.text(&at.step.title))
    }
}

fn asks_git(step: &Step) -> bool {
    matches!(&step.kind, StepKind::Copy(c) if c.sources.iter().any(|s| matches!(s, CopySource::Git(_))))
}

/// The stages that a step takes from, beside the one that it stands in.
fn takes_from(step: &Step) -> Vec<usize> {
    match &step.kind {
        StepKind::Copy(c) => c.from.into_iter().collect(),
        StepKind::Run(r) => r.mounts.iter().filter_map(|m| m.from).collect(),
        StepKind::Workdir(_) => Vec::new(),
    }
}
