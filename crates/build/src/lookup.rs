//! Finding an earlier result of a step.
//!
//! Two rules, in this order:
//!
//! 1. *Same parent*: a record with the step's key on the same chain of layers. One query.
//! 2. *Same observations* (RUN): a record with the step's key, newest first, each of whose observations holds on the parent's tree, and
//!    that ran as the same user. Its layer is stacked on the new parent, and a record of the first kind is kept for the next time.
//!
//! Why rule 2 is right: everything that a step can learn of its parent passes through the view that serves it, and is an observation;
//! equal answers make a step with the same key do the same. What a step never asked for shows through, as it would if it ran again.
//! A record is used only if its list of observations is whole, can be read, and is of this version. What a build asks for more strictly than
//! an earlier one did, it gets: see `notes`.
//!
//! COPY, ADD and WORKDIR need no observations: they run nothing, so they are computed again on the new parent, and an equal layer is
//! taken as the earlier one.

use std::collections::HashSet;
use std::time::Duration;

use oci::tree::Id;
use oci::{Kind, Tree};
use store::{NewRecord, Record};

use crate::error::BuildError;
use crate::events::{Event, HitRule};
use crate::key::chain;
use crate::meaning::{self, Asked};
use crate::notes::Notes;
use crate::observe::{Difference, Fact, Recorded, decode, first_difference};
use crate::options::CacheMode;
use crate::plan::{CopySource, Start, StepKind};
use crate::solve::{At, Solver, StepReport};
use crate::state::State;
use crate::steps::Prepared;

/// Records of one key that are looked at.
pub(crate) const RECORDS: usize = 16;

/// An earlier result that may be used.
pub(crate) enum Found {
    /// By the first rule.
    SameParent(Box<Record>),
    /// By the second one: with what the step observed, encoded and not.
    Observed(Box<(Record, Vec<u8>, Recorded)>),
}

impl Solver<'_> {
    /// An earlier result of a step that may be used on `parent`. Nothing is changed, and nobody told.
    pub(crate) fn find(&self, prepared: &Prepared<'_>, parent: &State) -> Result<Option<Found>, BuildError> {
        if let Some(r) = self.find_same_parent(prepared, parent)? {
            return Ok(Some(Found::SameParent(Box::new(r))));
        }
        match prepared {
            Prepared::Run(run) if self.options.cache == CacheMode::Traced && run.may_be_observed() => {
                self.find_observed(prepared, parent)
            }
            _ => Ok(None),
        }
    }

    /// Rule 1 alone.
    pub(crate) fn find_same_parent(
        &self,
        prepared: &Prepared<'_>,
        parent: &State,
    ) -> Result<Option<Record>, BuildError> {
        let found = self.store.record_by_parent(&prepared.key().digest, &prepared.place(parent))?;
        let Some(r) = found.filter(|r| Notes::of(r).count(self.options)) else { return Ok(None) };
        // A record whose layer was pruned is as good as none.
        Ok(if self.store.has_layer(&r.layer)? { Some(r) } else { None })
    }

    fn find_observed(&self, prepared: &Prepared<'_>, parent: &State) -> Result<Option<Found>, BuildError> {
        for r in self.store.records(&prepared.key().digest, RECORDS)? {
            if !r.has_observations || !self.store.has_layer(&r.layer)? || !Notes::of(&r).count(self.options) {
                continue;
            }
            let Some(bytes) = self.store.record_observations(r.id)? else { continue };
            let Some(recorded) = decode(&bytes).filter(|r| r.partial.is_empty()) else { continue };
            if self.difference(prepared, &recorded, parent)?.is_none() {
                return Ok(Some(Found::Observed(Box::new((r, bytes, recorded)))));
            }
        }
        Ok(None)
    }

    /// Uses an earlier result, if there is one.
    pub(crate) fn look_up(
        &self,
        at: At<'_>,
        prepared: &Prepared<'_>,
        parent: &State,
    ) -> Result<Option<StepReport>, BuildError> {
        let (record, rule, detail) = match self.find(prepared, parent)? {
            None => return Ok(None),
            Some(Found::SameParent(r)) => (*r, HitRule::SameParent, None),
            Some(Found::Observed(found)) => {
                let (r, bytes, recorded) = *found;
                let detail = self.unchanged(at, &recorded, parent)?;
                self.stack(prepared, &r, bytes, parent)?;
                (r, HitRule::SameObservations, Some(detail))
            }
        };
        Ok(Some(self.use_record(at, &record, rule, detail)))
    }

    /// Takes an earlier result.
    pub(crate) fn use_record(
        &self,
        at: At<'_>,
        record: &Record,
        rule: HitRule,
        detail: Option<String>,
    ) -> StepReport {
        self.store.record_used(record.id);
        let saved = Duration::from_millis(record.duration_ms);
        self.listener.event(Event::Cached { id: at.id, rule, layer: record.layer, saved, detail });
        let same_parent = rule == HitRule::SameParent;
        StepReport {
            layer: record.layer,
            created: record.created,
            duration: saved,
            rule: Some(rule),
            reason: None,
            adopted: None,
            same_parent,
        }
    }

    /// `inputs unchanged: read 3 of 214 copied files`
    pub(crate) fn unchanged(
        &self,
        at: At<'_>,
        recorded: &Recorded,
        parent: &State,
    ) -> Result<String, BuildError> {
        let copied = self.copied_layers(at, parent);
        let mut of = 0;
        for &n in &copied {
            of += parent.layer(self.store, n as usize)?.map_or(0, |l| files_in(&l));
        }
        if of == 0 {
            return Ok("inputs unchanged".to_owned());
        }
        let read = read_of(&*parent.tree(self.store)?, recorded, &copied).len();
        let noun = if of == 1 { "file" } else { "files" };
        Ok(format!("inputs unchanged: read {read} of {of} copied {noun}"))
    }

    /// The steps that made the layers which a step starts from, after those of the base: stage and number.
    pub(crate) fn makers(&self, at: At<'_>) -> Vec<(usize, usize)> {
        let mut out: Vec<(usize, usize)> = (0..at.number).rev().map(|n| (at.stage, n)).collect();
        let mut stage = at.stage;
        while let Start::Stage(b) = self.plan.stages[stage].start {
            stage = b;
            out.extend((0..self.plan.stages[stage].steps.len()).rev().map(|n| (stage, n)));
        }
        out.reverse();
        out
    }

    /// Numbers of the layers among those of `parent` that were copied from the build context.
    pub(crate) fn copied_layers(&self, at: At<'_>, parent: &State) -> HashSet<u32> {
        let makers = self.makers(at);
        let base = parent.layers().len().saturating_sub(makers.len());
        let copies = |&(s, n): &(usize, usize)| copies_context(&self.plan.stages[s].steps[n].kind);
        let numbers = makers.iter().enumerate().filter(|(_, m)| copies(m));
        numbers.filter_map(|(i, _)| u32::try_from(base + i).ok()).collect()
    }

    /// The first thing that a recorded run learned and that is otherwise on `parent`.
    pub(crate) fn difference(
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
        let covered = run.covered(&trees[0]);
        let meaning = |path: &[u8], id| {
            let asked = Asked::new(&trees[0], recorded, &covered);
            self.options.semantics.then(|| meaning::meaning(path, id, &asked, self.store))?
        };
        for (n, (tree, view)) in trees.iter().zip(&recorded.views).enumerate() {
            // Only files of the root have a meaning.
            let meaning: &(dyn Fn(&[u8], Id) -> _ + Sync) = if n == 0 { &meaning } else { &|_, _| None };
            if let Some(d) = first_difference(tree, view, meaning) {
                return Ok(Some(Difference { view: n, ..d }));
            }
        }
        Ok(None)
    }

    /// Keeps a record of an old result on a new parent, so that the first rule finds it next time.
    fn stack(
        &self,
        prepared: &Prepared<'_>,
        r: &Record,
        observations: Vec<u8>,
        parent: &State,
    ) -> Result<(), BuildError> {
        let key = prepared.key();
        let notes = Notes { below: parent.layers().to_vec(), observed: true, noise: Notes::of(r).noise };
        let record = NewRecord {
            key: key.digest,
            parent: prepared.place(parent),
            layer: r.layer,
            chain: chain(&parent.chain(), &r.layer),
            created: r.created,
            duration_ms: r.duration_ms,
            log: Vec::new(),
            observations: Some(observations),
            inputs: key.inputs.clone(),
            notes: notes.text(),
        };
        Ok(self.store.batch().commit(vec![record], Vec::new())?)
    }
}

/// Whether a step takes files from the build context.
pub(crate) fn copies_context(kind: &StepKind) -> bool {
    matches!(kind, StepKind::Copy(c) if c.from.is_none() && c.sources.iter().any(|s| matches!(s, CopySource::Path(_))))
}

/// How many files a layer brings.
pub(crate) fn files_in(layer: &oci::LayerIndex) -> usize {
    layer.entries().iter().filter(|e| matches!(e.kind, Kind::File { .. } | Kind::HardLink { .. })).count()
}

/// The files of the root, among those that came with the layers of these numbers, whose bytes a step read.
pub(crate) fn read_of(tree: &Tree, recorded: &Recorded, layers: &HashSet<u32>) -> Vec<Vec<u8>> {
    let root = recorded.views.first().map_or(&[][..], |v| &v.facts);
    let read = root.iter().filter(|o| matches!(o.fact, Fact::Content(_) | Fact::Meaning { .. }));
    let copied =
        read.filter(|o| tree.lookup(&o.path).is_some_and(|id| layers.contains(&tree.inode(id).layer)));
    copied.map(|o| o.path.clone()).collect()
}
