//! What each kind of step is made of: its key, and how it runs when no earlier result fits.

mod copy;
mod run;
mod workdir;

use crate::error::BuildError;
use crate::events::StepId;
use crate::key::Key;
use crate::plan::{Stage, Step, StepKind};
use crate::solve::{Ran, Solver};
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

    /// Runs the step on `parent`.
    pub(crate) fn execute(&self, solver: &Solver<'_>, id: StepId, parent: &State) -> Result<Ran, BuildError> {
        match self {
            Prepared::Run(r) => r.execute(solver, id, parent),
            Prepared::Copy(c) => c.execute(solver, parent),
            Prepared::Workdir(w) => w.execute(solver, parent),
        }
    }
}

impl<'a> Solver<'a> {
    /// Finds out a step's inputs. Waits for the stages that it takes from.
    pub(crate) fn prepare(&self, stage: &'a Stage, step: &'a Step) -> Result<Prepared<'a>, BuildError> {
        Ok(match &step.kind {
            StepKind::Workdir(w) => Prepared::Workdir(workdir::PreparedWorkdir::new(w, self.plan.epoch)),
            StepKind::Copy(c) => Prepared::Copy(Box::new(copy::PreparedCopy::new(self, step, c)?)),
            StepKind::Run(r) => Prepared::Run(Box::new(run::PreparedRun::new(self, stage, step, r)?)),
        })
    }
}
