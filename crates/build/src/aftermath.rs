//! What is left of a build that failed: the files below the failed step, what its command wrote, and a way in.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use oci::Digest;
use oci::tree::{Node, Place};
use sandbox::Stdio;
use store::Store;

use crate::error::BuildError;
use crate::events::Listener;
use crate::options::Options;
use crate::plan::{Plan, Run, Stage, Step, StepKind};
use crate::solve::{Remains, Solver};
use crate::steps::PreparedRun;

/// A build that failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: BuildError,
    /// What is left of it, if it failed in a step.
    pub left: Option<Box<Left>>,
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        Failure { error, left: None }
    }
}

/// What is left of a build that failed in a step.
#[derive(Debug)]
pub struct Left {
    plan: Plan,
    remains: Remains,
}

/// Where a shell is looked for, if it is not known from the step.
const SHELLS: [&str; 4] = ["/bin/bash", "/bin/sh", "/bin/ash", "/busybox/sh"];

impl Left {
    pub(crate) fn new(plan: Plan, remains: Remains) -> Left {
        Left { plan, remains }
    }

    fn stage(&self) -> &Stage {
        &self.plan.stages[self.remains.stop.stage]
    }

    fn step(&self) -> &Step {
        &self.stage().steps[self.remains.stop.step]
    }

    /// The layers of the last good state: everything below the failed step. With `written`, also what the step's command wrote before
    /// it failed ([`Options::keep_failed`]).
    pub fn layers(&self, written: bool) -> Vec<Digest> {
        let mut out = self.remains.stop.parent.layers().to_vec();
        out.extend(self.remains.stop.wrote.filter(|_| written));
        out
    }

    /// The build's SOURCE_DATE_EPOCH.
    pub fn epoch(&self) -> Option<i64> {
        self.plan.epoch
    }

    /// Makes a shell ready where the failed command was: on what it left, with its user, environment, directory and mounts; where a
    /// COPY or the like failed, on what it was to be put upon, as root. `run` starts it. Nothing that it writes is kept, but for what
    /// goes to cache mounts.
    pub fn enter<R>(
        &self,
        store: &Store,
        options: &Options,
        listener: &dyn Listener,
        stdio: Stdio,
        run: impl FnOnce(&dyn Fn() -> Result<sandbox::Running, BuildError>) -> R,
    ) -> Result<R, BuildError> {
        let (stage, step, stop) = (self.stage(), self.step(), &self.remains.stop);
        let solver = Solver::new(store, &self.plan, options, listener, Arc::new(AtomicBool::new(false)));
        let solver = solver.resume(&self.remains);
        let state = match stop.wrote {
            Some(layer) => stop.parent.push(layer),
            None => stop.parent.clone(),
        };
        let tree = state.tree(store)?;
        let bare;
        let (prepared, own) = match &step.kind {
            StepKind::Run(r) => (PreparedRun::new(&solver, stage, step, r, None)?, r.args.first()),
            _ => {
                bare = outside(stage);
                (PreparedRun::bare(&bare), None)
            }
        };
        let known = stage.config.config.shell.as_ref().and_then(|s| s.first());
        let candidates = own.into_iter().chain(known).map(String::as_str).chain(SHELLS);
        let is_file = |p: &Place| p.exists() && matches!(tree.inode(p.id).node, Node::File { .. });
        // The command of an exec form may be anything.
        let is_shell = |c: &&str| c.rsplit('/').next().is_some_and(|n| n.ends_with("sh"));
        let mut there = candidates
            .filter(is_shell)
            .filter(|c| tree.resolve(c.as_bytes(), true).is_ok_and(|p| is_file(&p)));
        let shell = there.next().ok_or_else(|| BuildError::Line {
            line: step.lines.map(|l| l.0),
            message: "there is no shell in the files of the failed step".into(),
            help: Some("--on-error=export writes them to a directory".into()),
        })?;
        let mut entered = prepared.enter(&solver, stop.id, &tree, stdio)?;
        entered.step.argv = vec![shell.to_owned()];
        if matches!(stdio, Stdio::Pty { .. }) && !entered.step.env.iter().any(|(k, _)| k == "TERM") {
            entered.step.env.push(("TERM".into(), "xterm".into()));
        }
        // What else it needs lives until it has ended.
        Ok(run(&|| solver.views.spawn(store, &entered.step, state.layers(), &|_, _| ())))
    }
}

/// A look at a stage from outside of its steps.
fn outside(stage: &Stage) -> Run {
    let config = &stage.config.config;
    let env = config.env.iter().filter_map(|e| e.split_once('='));
    Run {
        args: Vec::new(),
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        proxy: Vec::new(),
        cwd: "/".into(),
        user: String::new(),
        network: None,
        security: None,
        mounts: Vec::new(),
        always: false,
        chain: false,
        script: None,
    }
}
