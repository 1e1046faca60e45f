//! Finding an earlier result of a step, and saying why there is none.
//!
//! Two rules, in this order:
//!
//! 1. *Same parent*: a record with the step's key on the same chain of layers. One query.
//! 2. *Same observations* (RUN): a record with the step's key, newest first, each of whose observations holds on the parent's tree, and
//!    that ran as the same user. Its layer is stacked on the new parent, and a record of the first kind is kept for the next time.
//!
//! Why rule 2 is right: everything that a step can learn of its parent passes through the view that serves it, and is an observation;
//! equal answers make a step with the same key do the same. What a step never asked for shows through, as it would if it ran again.
//! A record is used only if its list of observations is whole, can be read, and is of this version.
//!
//! COPY, ADD and WORKDIR need no observations: they run nothing, so they are computed again on the new parent, and an equal layer is
//! taken as the earlier one.

use std::time::Duration;

use oci::Time;
use store::{NewRecord, Record};

use crate::error::BuildError;
use crate::events::{Event, HitRule, RunReason, StepId};
use crate::key::{Key, chain};
use crate::observe::{Difference, Recorded, decode, first_difference};
use crate::options::CacheMode;
use crate::solve::{Solver, StepReport};
use crate::state::State;
use crate::steps::Prepared;

/// Records of one key that are looked at.
pub(crate) const RECORDS: usize = 16;

impl Solver<'_> {
    /// An earlier result of a step that may be used on `parent`.
    pub(crate) fn look_up(
        &self,
        id: StepId,
        prepared: &Prepared<'_>,
        parent: &State,
    ) -> Result<Option<StepReport>, BuildError> {
        if let Some(report) = self.look_up_same_parent(id, prepared.key(), parent)? {
            return Ok(Some(report));
        }
        match prepared {
            Prepared::Run(run) if self.options.cache == CacheMode::Traced && run.may_be_observed() => {
                self.look_up_observed(id, prepared, parent)
            }
            _ => Ok(None),
        }
    }

    /// Rule 1 alone.
    pub(crate) fn look_up_same_parent(
        &self,
        id: StepId,
        key: &Key,
        parent: &State,
    ) -> Result<Option<StepReport>, BuildError> {
        let found = self.store.record_by_parent(&key.digest, &parent.chain())?;
        // A record whose layer was pruned is as good as none.
        let Some(r) = found else { return Ok(None) };
        if !self.store.has_layer(&r.layer)? {
            return Ok(None);
        }
        self.store.record_used(r.id);
        let (rule, saved) = (HitRule::SameParent, Duration::from_millis(r.duration_ms));
        self.listener.event(Event::Cached { id, rule, layer: r.layer, saved, detail: None });
        Ok(Some(report(id, &r, true)))
    }

    fn look_up_observed(
        &self,
        id: StepId,
        prepared: &Prepared<'_>,
        parent: &State,
    ) -> Result<Option<StepReport>, BuildError> {
        let key = prepared.key();
        for r in self.store.records(&key.digest, RECORDS)? {
            if !r.has_observations || !self.store.has_layer(&r.layer)? {
                continue;
            }
            let Some(bytes) = self.store.record_observations(r.id)? else { continue };
            let Some(recorded) = decode(&bytes) else { continue };
            if self.difference(prepared, &recorded, parent)?.is_some() {
                continue;
            }
            self.store.record_used(r.id);
            self.stack(key, &r, bytes, parent)?;
            let saved = Duration::from_millis(r.duration_ms);
            let detail = Some(format!("nothing that it read changed ({} facts)", recorded.len()));
            let rule = HitRule::SameObservations;
            self.listener.event(Event::Cached { id, rule, layer: r.layer, saved, detail });
            return Ok(Some(report(id, &r, false)));
        }
        Ok(None)
    }

    /// The first thing that a recorded run learned and that is otherwise on `parent`.
    fn difference(
        &self,
        prepared: &Prepared<'_>,
        recorded: &Recorded,
        parent: &State,
    ) -> Result<Option<Difference>, BuildError> {
        let tree = parent.tree(self.store)?;
        let Prepared::Run(run) = prepared else {
            return Ok(Some(Difference::other("the step is of another kind")));
        };
        // Who the step runs as comes from the parent's passwd and group, which we read, not the step.
        let who = match run.identity(self, &tree) {
            Ok(who) => who,
            Err(e) => return Ok(Some(Difference::other(&e.to_string()))),
        };
        if who != recorded.identity {
            return Ok(Some(Difference::other("the user that it runs as")));
        }
        let trees = run.view_trees(&tree);
        if trees.len() != recorded.views.len() {
            return Ok(Some(Difference::other("its mounts")));
        }
        for (n, (tree, view)) in trees.iter().zip(&recorded.views).enumerate() {
            if let Some(d) = first_difference(tree, view) {
                return Ok(Some(Difference { view: n, ..d }));
            }
        }
        Ok(None)
    }

    /// Keeps a record of an old result on a new parent, so that the first rule finds it next time.
    fn stack(&self, key: &Key, r: &Record, observations: Vec<u8>, parent: &State) -> Result<(), BuildError> {
        let record = NewRecord {
            key: key.digest,
            parent: parent.chain(),
            layer: r.layer,
            chain: chain(&parent.chain(), &r.layer),
            created: r.created,
            duration_ms: r.duration_ms,
            log: Vec::new(),
            observations: Some(observations),
            inputs: key.inputs.clone(),
        };
        Ok(self.store.batch().commit(vec![record], Vec::new())?)
    }

    /// Why a step with earlier runs has to run: the first thing that the newest of them learned and that is otherwise now.
    pub(crate) fn what_changed(
        &self,
        prepared: &Prepared<'_>,
        earlier: &[Record],
        parent: &State,
    ) -> Result<RunReason, BuildError> {
        if !matches!(prepared, Prepared::Run(_)) {
            return Ok(RunReason::Recomputed);
        }
        if self.options.cache != CacheMode::Traced {
            return Ok(RunReason::ParentChanged);
        }
        for r in earlier.iter().filter(|r| r.has_observations) {
            let Some(bytes) = self.store.record_observations(r.id)? else { continue };
            let Some(recorded) = decode(&bytes) else { continue };
            return Ok(match self.difference(prepared, &recorded, parent)? {
                None => RunReason::Pruned,
                Some(d) => {
                    let origin = self.origin(prepared, &d, parent)?;
                    RunReason::InputChanged { path: d.path, how: d.how, origin }
                }
            });
        }
        Ok(RunReason::ParentChanged)
    }

    /// The step that a path of the root view comes from, on this parent.
    fn origin(
        &self,
        prepared: &Prepared<'_>,
        d: &Difference,
        parent: &State,
    ) -> Result<Option<String>, BuildError> {
        let (Prepared::Run(_), 0) = (prepared, d.view) else { return Ok(None) };
        let tree = parent.tree(self.store)?;
        let Some(id) = tree.lookup(d.path.trim_start_matches('/').as_bytes()) else { return Ok(None) };
        let layer = parent.layers().get(tree.inode(id).layer as usize);
        Ok(layer.and_then(|l| self.title_of_layer(l)))
    }
}

fn report(id: StepId, r: &Record, same_parent: bool) -> StepReport {
    let created: Time = r.created;
    let duration = Duration::from_millis(r.duration_ms);
    StepReport { id, layer: r.layer, created, duration, cached: true, same_parent, chain_would_run: false }
}
