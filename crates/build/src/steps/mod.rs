//! What each kind of step is made of: its key, and how it runs when no earlier result fits.
//!
//! # Barriers
//!
//! People put an ADD of a URL or of a git repository above a RUN to have it run again when what lies there changed, although the RUN
//! reads nothing of it. So the digest of everything that a stage has downloaded so far is part of the key of its later RUNs. Of a
//! repository the commit counts as well: the RUN may be a clone of it, which brings more than the files that the ADD takes.

mod copy;
mod run;
mod workdir;

use oci::Digest;

pub(crate) use self::run::{PreparedRun, cache_ids};
use crate::error::BuildError;
use crate::key::{EMPTY_CHAIN, Key, chain};
use crate::plan::{Stage, Step, StepKind};
use crate::solve::{At, Ran, Solver};
use crate::state::State;

/// A step whose inputs are known.
pub(crate) enum Prepared<'p> {
    Run(Box<run::PreparedRun<'p>>),
    Copy(Box<copy::PreparedCopy<'p>>),
    Workdir(workdir::PreparedWorkdir<'p>),
}

impl Prepared<'_> {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Prepared::Run(r) => &r.key,
            Prepared::Copy(c) => &c.key,
            Prepared::Workdir(w) => &w.key,
        }
    }

    /// What the result of the step is kept under, beside its key: everything that it can see, whether it looks or not.
    pub(crate) fn place(&self, parent: &State) -> Digest {
        match self {
            Prepared::Run(r) => r.place(parent),
            _ => parent.chain(),
        }
    }

    /// Runs the step on `parent`.
    pub(crate) fn execute(&self, solver: &Solver<'_>, at: At<'_>, parent: &State) -> Result<Ran, BuildError> {
        match self {
            Prepared::Run(r) => r.execute(solver, at.id, parent),
            Prepared::Copy(c) => c.execute(solver, at, parent),
            Prepared::Workdir(w) => w.execute(solver, parent),
        }
    }
}

impl<'a> Solver<'a> {
    /// Finds out a step's inputs. Waits for the stages that it takes from. `barrier` is what the stage downloaded so far.
    pub(crate) fn prepare(
        &self,
        stage: &'a Stage,
        step: &'a Step,
        barrier: &mut Option<Digest>,
    ) -> Result<Prepared<'a>, BuildError> {
        Ok(match &step.kind {
            StepKind::Workdir(w) => Prepared::Workdir(workdir::PreparedWorkdir::new(w, self.plan.epoch)),
            StepKind::Copy(c) => {
                let prepared = copy::PreparedCopy::new(self, step, c)?;
                if let Some(downloaded) = &prepared.downloaded {
                    *barrier = Some(chain(&barrier.unwrap_or(EMPTY_CHAIN), downloaded));
                }
                Prepared::Copy(Box::new(prepared))
            }
            StepKind::Run(r) => {
                Prepared::Run(Box::new(run::PreparedRun::new(self, stage, step, r, barrier.as_ref())?))
            }
        })
    }
}
