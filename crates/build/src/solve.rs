//! Looks steps up or runs them: one thread per needed stage, each waiting for the stages that it takes from.
//!
//! Look-ups are not limited; at most [`Options::jobs`] steps run at once. The first failure stops everything: running commands are
//! killed, stages that wait are told, and the failure is the build's.
//!
//! The order of look-up for a step with a key on a parent: a record on the same parent; a record whose observations hold on this
//! parent (`lookup`); then it runs. A layer that equals an earlier result of the same key in everything but times is replaced by
//! that one, so that what follows finds its records again (early cut-off).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use oci::index::EncodedLayer;
use oci::{Digest, Time};
use store::{NewRecord, Record, StepLock, Store};

use crate::account::{BaseRecord, BuildRecord, StageRecord, StepEnd, StepRecord};
use crate::context::{Context, Needed};
use crate::error::BuildError;
use crate::events::{Event, HitRule, Listener, RunReason, StepId, StepInfo};
use crate::fetch::Fetcher;
use crate::finish::{ahead, lineage};
use crate::key::chain;
use crate::lookup::{RECORDS, copies_context};
use crate::masking::Masker;
use crate::noise::same_but_noise;
use crate::notes::Notes;
use crate::options::{Cutoff, Options};
use crate::plan::{BaseImage, CopySource, Plan, Stage, Start, Step, StepKind};
use crate::state::State;
use crate::steps::Prepared;
use crate::tasks::Ids;
use crate::view::Views;

/// What became of a step.
#[derive(Debug, Clone)]
pub(crate) struct StepReport {
    /// Its layer.
    pub(crate) layer: Digest,
    /// When its record was made.
    pub(crate) created: Time,
    /// How long it took when it ran.
    pub(crate) duration: Duration,
    /// The rule by which an earlier result was used; none if it ran.
    pub(crate) rule: Option<HitRule>,
    /// Why it ran.
    pub(crate) reason: Option<RunReason>,
    /// By which rule its result was taken as an earlier one.
    pub(crate) adopted: Option<Cutoff>,
    /// Whether the record was one on the same parent.
    pub(crate) same_parent: bool,
}

/// A step and its place: what it is called everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'p> {
    pub(crate) id: StepId,
    /// Number of its stage, and its own in that.
    pub(crate) stage: usize,
    pub(crate) number: usize,
    pub(crate) step: &'p Step,
}

/// A finished stage.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) state: State,
    /// Reports of its own steps, in order.
    pub(crate) steps: Vec<StepReport>,
    /// A cache that knows only chains would have missed somewhere below.
    pub(crate) chain_missed: bool,
    /// What was downloaded so far: see [`crate::steps`].
    pub(crate) barrier: Option<Digest>,
}

/// Everything that the threads of one build share.
pub(crate) struct Solver<'a> {
    pub(crate) store: &'a Store,
    pub(crate) plan: &'a Plan,
    pub(crate) options: &'a Options,
    pub(crate) listener: &'a dyn Listener,
    /// Interrupted from outside, or a step failed.
    pub(crate) cancel: Arc<AtomicBool>,
    pub(crate) context: OnceLock<Arc<Context>>,
    pub(crate) locals: BTreeMap<String, Arc<Context>>,
    /// How steps are shown their files.
    pub(crate) views: Views,
    /// The network, if there is one.
    pub(crate) client: Option<&'a registry::Client>,
    /// Nothing is to be run or kept: see `forecast`.
    pub(crate) dry: bool,
    /// What the build is of: its account without what happens.
    pub(crate) header: BuildRecord,
    /// Earlier builds, when somebody asks for them.
    pub(crate) past: OnceLock<Vec<BuildRecord>>,
    /// Knows what looks like a secret.
    pub(crate) masker: Masker,
    /// What has happened to each step so far.
    steps: Mutex<BTreeMap<StepId, StepRecord>>,
    /// The layers that each stage starts from, once that is known.
    below: Vec<OnceLock<Vec<Digest>>>,
    pub(crate) results: Vec<OnceLock<Finished>>,
    progress: Mutex<Progress>,
    changed: Condvar,
    pub(crate) first_id: Vec<StepId>,
}

#[derive(Default)]
struct Progress {
    running: usize,
    failed: bool,
    error: Option<BuildError>,
    /// Where the error happened, if in a step.
    stop: Option<Box<Stop>>,
    /// What failed commands wrote.
    written: BTreeMap<StepId, Digest>,
    handles: BTreeMap<StepId, sandbox::Handle>,
}

/// The step that a build stopped at.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) stage: usize,
    pub(crate) step: usize,
    pub(crate) id: StepId,
    /// What lies below it.
    pub(crate) parent: State,
    /// What its command wrote before it failed.
    pub(crate) wrote: Option<Digest>,
}

/// Why a stage failed, and where.
struct StageError {
    error: BuildError,
    stop: Option<Box<Stop>>,
}

impl From<BuildError> for StageError {
    fn from(error: BuildError) -> StageError {
        StageError { error, stop: None }
    }
}

/// What a failed build leaves: results so far, and where it stopped.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) stop: Box<Stop>,
    context: Option<Arc<Context>>,
    locals: BTreeMap<String, Arc<Context>>,
    results: Vec<Option<Finished>>,
}

/// The right to run a step.
struct Permit<'s, 'a>(&'s Solver<'a>);

impl Drop for Permit<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// A step that ran, and why.
struct Kept {
    reason: RunReason,
    took: Duration,
    ran: Ran,
}

/// What a step that was not in the cache came to.
pub(crate) struct Ran {
    pub(crate) layer: EncodedLayer,
    pub(crate) batch: store::Batch,
    pub(crate) log: Vec<u8>,
    pub(crate) observations: Option<Vec<u8>>,
}

impl<'a> Solver<'a> {
    pub(crate) fn new(
        store: &'a Store,
        plan: &'a Plan,
        options: &'a Options,
        listener: &'a dyn Listener,
        cancel: Arc<AtomicBool>,
    ) -> Solver<'a> {
        Solver {
            store,
            plan,
            options,
            listener,
            cancel,
            context: OnceLock::new(),
            locals: BTreeMap::new(),
            views: Views::new(options.view),
            client: None,
            dry: false,
            header: BuildRecord::default(),
            past: OnceLock::new(),
            masker: masker(plan, options),
            steps: Mutex::default(),
            below: plan.stages.iter().map(|_| OnceLock::new()).collect(),
            results: plan.stages.iter().map(|_| OnceLock::new()).collect(),
            progress: Mutex::default(),
            changed: Condvar::new(),
            first_id: vec![0; plan.stages.len()],
        }
    }

    /// Numbers the steps of all stages.
    pub(crate) fn number(&mut self, ids: &Ids) {
        let all: usize = self.plan.stages.iter().map(|s| s.steps.len()).sum();
        let mut id = ids.take(u32::try_from(all).unwrap_or(u32::MAX));
        for (first, stage) in self.first_id.iter_mut().zip(&self.plan.stages) {
            *first = id;
            id += stage.steps.len() as StepId;
        }
        let blank: Vec<StepRecord> = self
            .step_infos()
            .into_iter()
            .filter_map(|info| {
                let step = self.steps_at().find(|at| at.id == info.id)?.step;
                Some(blank(info, step, &self.masker))
            })
            .collect();
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.extend(blank.into_iter().map(|s| (s.id, s)));
    }

    /// The steps of all needed stages.
    pub(crate) fn steps_at(&self) -> impl Iterator<Item = At<'a>> {
        let plan = self.plan;
        let first = self.first_id.clone();
        plan.stages.iter().enumerate().filter(|(_, s)| s.needed).flat_map(move |(stage, s)| {
            let first = first[stage];
            s.steps.iter().enumerate().map(move |(number, step)| At {
                id: first + number as StepId,
                stage,
                number,
                step,
            })
        })
    }

    /// Writes down what happens to a step.
    pub(crate) fn note(&self, id: StepId, f: impl FnOnce(&mut StepRecord)) {
        if let Some(s) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            f(s);
        }
    }

    /// What a stage starts from, written down.
    pub(crate) fn note_below(&self, stage: usize, layers: &[Digest]) {
        let _ = self.below[stage].set(layers.to_vec());
    }

    /// What has happened so far.
    pub(crate) fn account(&self) -> BuildRecord {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let stages = self.plan.stages.iter().enumerate().filter(|(_, s)| s.needed).map(|(i, s)| {
            let base = match &s.start {
                Start::Image(image) => Some(BaseRecord {
                    name: image.name.clone(),
                    digest: base_digest(image),
                    layers: image.layers.len(),
                }),
                _ => None,
            };
            let starts_from = match &s.start {
                Start::Stage(b) => Some(self.plan.stages[*b].name.clone()),
                _ => None,
            };
            let ids = (0..s.steps.len()).map(|n| self.first_id[i] + n as StepId);
            StageRecord {
                name: s.name.clone(),
                base,
                starts_from,
                below: self.below[i].get().cloned().unwrap_or_default(),
                steps: ids.filter_map(|id| steps.get(&id).cloned()).collect(),
            }
        });
        BuildRecord { stages: stages.collect(), ..self.header.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps of all needed stages, for the listener.
    pub(crate) fn step_infos(&self) -> Vec<StepInfo> {
        let mut out = Vec::new();
        for (stage, first) in self.plan.stages.iter().zip(&self.first_id) {
            if !stage.needed {
                continue;
            }
            let base = usize::from(matches!(stage.start, Start::Image(_)));
            let all = stage.steps.len() + base;
            for (n, step) in stage.steps.iter().enumerate() {
                out.push(StepInfo {
                    id: first + n as StepId,
                    stage: format!("{} {}", self.options.label, stage.name).trim().to_owned(),
                    place: format!("{}/{all}", n + 1 + base),
                    name: step.title.clone(),
                    lines: step.lines,
                });
            }
        }
        out
    }

    /// What the build takes from a context: the main one (`None`) or that of a stage.
    pub(crate) fn needed_of(&self, from: Option<usize>) -> Needed {
        let mut needed = Needed::default();
        for stage in self.plan.stages.iter().filter(|s| s.needed) {
            if let (Start::Stage(b), Some(f)) = (&stage.start, from)
                && *b == f
            {
                needed.everything();
            }
            for step in &stage.steps {
                match &step.kind {
                    StepKind::Copy(c) if c.from == from => {
                        for s in &c.sources {
                            match s {
                                CopySource::Path(p) if c.parents => needed.parents(p),
                                CopySource::Path(p) => needed.path(p),
                                _ => {}
                            }
                        }
                    }
                    StepKind::Run(r) => {
                        for m in &r.mounts {
                            let binds = matches!(m.mount.kind, dockerfile::mount::Kind::Bind);
                            // A cache mount may be seeded from a stage.
                            let takes = m.from == from && (binds || from.is_some());
                            if takes {
                                needed.path(m.mount.source.as_deref().unwrap_or("/"));
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        if from == Some(self.plan.target) {
            needed.everything();
        }
        needed
    }

    /// Runs everything that the target needs.
    pub(crate) fn run(&self) -> Result<Finished, BuildError> {
        let done = AtomicBool::new(false);
        let shipped = lineage(self.plan, self.plan.target);
        let (made, layers) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&done));
            scope.spawn(move || ahead(self.store, layers, &self.cancel));
            let threads: Vec<_> = (0..self.plan.stages.len())
                .filter(|&i| self.plan.stages[i].needed)
                .map(|i| {
                    let made = shipped.contains(&i).then(|| made.clone());
                    scope.spawn(move || self.stage(i, made))
                })
                .collect();
            drop(made);
            for t in threads {
                if t.join().is_err() {
                    self.fail(BuildError::line(None, "a thread of the build panicked; this is a bug").into());
                }
            }
            done.store(true, Ordering::Release);
        });
        if let Some(e) = self.lock().error.take() {
            return Err(e);
        }
        self.results[self.plan.target].get().cloned().ok_or(BuildError::Interrupted)
    }

    /// Kills what runs as soon as the build is cancelled.
    fn watch(&self, done: &AtomicBool) {
        while !done.load(Ordering::Acquire) {
            if self.cancel.load(Ordering::Relaxed) {
                self.fail(BuildError::Interrupted.into());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fail(&self, e: StageError) {
        let mut p = self.lock();
        p.failed = true;
        // What stops because of a failure says only that it was interrupted.
        if p.error.is_none() {
            p.error = Some(e.error);
            p.stop = e.stop;
        }
        for h in p.handles.values() {
            h.kill();
        }
        drop(p);
        self.cancel.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Remembers what a failed command wrote.
    pub(crate) fn keep_written(&self, id: StepId, layer: Digest) {
        self.lock().written.insert(id, layer);
    }

    /// What is left of a build that failed in a step.
    pub(crate) fn remains(self) -> Option<Remains> {
        let mut p = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut stop = p.stop.take()?;
        stop.wrote = p.written.remove(&stop.id);
        let results = self.results.into_iter().map(OnceLock::into_inner).collect();
        Some(Remains { stop, context: self.context.into_inner(), locals: self.locals, results })
    }

    /// Knows what a failed build knew.
    pub(crate) fn resume(mut self, remains: &Remains) -> Solver<'a> {
        self.locals.clone_from(&remains.locals);
        if let Some(c) = &remains.context {
            let _ = self.context.set(c.clone());
        }
        for (slot, result) in self.results.iter().zip(&remains.results) {
            if let Some(r) = result {
                let _ = slot.set(r.clone());
            }
        }
        self
    }

    pub(crate) fn register(&self, id: StepId, handle: sandbox::Handle) {
        let mut p = self.lock();
        if p.failed {
            handle.kill();
        }
        p.handles.insert(id, handle);
    }

    pub(crate) fn unregister(&self, id: StepId) {
        self.lock().handles.remove(&id);
    }

    /// The result of another stage, when it is there.
    pub(crate) fn wait_for(&self, stage: usize) -> Result<Finished, BuildError> {
        let mut p = self.lock();
        loop {
            if let Some(f) = self.results[stage].get() {
                return Ok(f.clone());
            }
            if p.failed {
                return Err(BuildError::Interrupted);
            }
            p = self.changed.wait(p).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn permit(&self) -> Result<Permit<'_, 'a>, BuildError> {
        let mut p = self.lock();
        while p.running >= self.options.jobs.max(1) && !p.failed {
            p = self.changed.wait(p).unwrap_or_else(PoisonError::into_inner);
        }
        if p.failed {
            return Err(BuildError::Interrupted);
        }
        p.running += 1;
        Ok(Permit(self))
    }

    /// Runs a stage. `made` is told of the layers that become the image's.
    fn stage(&self, i: usize, made: Option<Sender<Digest>>) {
        match self.stage_steps(i, &self.plan.stages[i], made) {
            Ok(f) => {
                let p = self.lock();
                let _ = self.results[i].set(f);
                drop(p);
                self.changed.notify_all();
            }
            Err(e) => self.fail(e),
        }
    }

    fn stage_steps(
        &self,
        i: usize,
        stage: &Stage,
        made: Option<Sender<Digest>>,
    ) -> Result<Finished, StageError> {
        let (mut chain_missed, mut barrier) = (false, None);
        let mut state = match &stage.start {
            Start::Scratch => State::empty(),
            Start::Image(image) => State::of_layers(image.layers.clone()),
            Start::Stage(b) => {
                let below = self.wait_for(*b)?;
                chain_missed = below.chain_missed;
                barrier = below.barrier;
                below.state
            }
            Start::Local(name) => self.local_state(name)?,
            Start::Unknown => {
                return Err(BuildError::line(
                    None,
                    format!("stage {} was not planned; this is a bug", stage.name),
                )
                .into());
            }
        };
        self.note_below(i, state.layers());
        let mut steps = Vec::new();
        for (n, step) in stage.steps.iter().enumerate() {
            let id = self.first_id[i] + n as StepId;
            let at = At { id, stage: i, number: n, step };
            match self.step(at, stage, &state, &mut barrier) {
                Ok(report) => {
                    state = state.push(report.layer);
                    if let Some(made) = &made {
                        let _ = made.send(report.layer);
                    }
                    chain_missed |= !report.same_parent;
                    self.note(id, |s| ended(s, &report, chain_missed));
                    steps.push(report);
                }
                Err(e) => {
                    let stopped = matches!(e.root(), BuildError::Interrupted);
                    self.note(id, |s| {
                        s.end = if stopped { StepEnd::Canceled } else { StepEnd::Failed };
                        s.note = Some(self.masker.text(&crate::images::chain_text(&e)));
                    });
                    self.listener.event(if stopped {
                        Event::Canceled { id }
                    } else {
                        let tail = match e.root() {
                            BuildError::Command { tail, .. } => tail.clone(),
                            _ => String::new(),
                        };
                        Event::Failed { id, error: crate::images::chain_text(&e), tail }
                    });
                    if stopped {
                        return Err(e.into());
                    }
                    let stop = Stop { stage: i, step: n, id, parent: state, wrote: None };
                    let (title, lines) = (step.title.clone(), step.lines);
                    let error = BuildError::Step { title, lines, source: Box::new(e) };
                    return Err(StageError { error, stop: Some(Box::new(stop)) });
                }
            }
        }
        Ok(Finished { state, steps, chain_missed, barrier })
    }

    /// A directory given with `--build-context` that a stage starts from: its files as one layer.
    pub(crate) fn local_state(&self, name: &str) -> Result<State, BuildError> {
        let Some(context) = self.locals.get(name) else { return Ok(State::empty()) };
        if context.tree.is_empty() {
            return Ok(State::empty());
        }
        let layer = context.layer()?;
        if self.dry {
            return Ok(State::empty().push_unkept(layer));
        }
        let batch = self.store.batch();
        context.provide_all(&batch)?;
        let id = batch.add_layer(&layer)?;
        batch.commit(Vec::new(), Vec::new())?;
        Ok(State::of_layers(vec![id]))
    }

    /// For what comes from elsewhere.
    pub(crate) fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            store: self.store,
            client: self.client,
            secrets: &self.options.secrets,
            ssh: &self.options.ssh,
            cancel: &self.cancel,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn step(
        &self,
        at: At<'a>,
        stage: &'a Stage,
        parent: &State,
        barrier: &mut Option<Digest>,
    ) -> Result<StepReport, BuildError> {
        let (id, step) = (at.id, at.step);
        if self.is_cancelled() {
            return Err(BuildError::Interrupted);
        }
        self.listener.event(Event::Started { id });
        let prepared = self.prepare(stage, step, barrier)?;
        let key = prepared.key();
        self.note(id, |s| {
            s.key = Some(key.digest);
            s.parent = Some(prepared.place(parent));
        });
        let afresh = step.no_cache || matches!(&step.kind, StepKind::Run(r) if r.always);
        if !afresh && let Some(report) = self.look_up(at, &prepared, parent)? {
            return Ok(report);
        }
        let place = chain(&prepared.place(parent), &key.digest);
        let lock = self.store.lock_step(
            &place,
            &mut || {
                self.listener
                    .event(Event::Waiting { id, what: "another build that runs the same step".into() });
            },
            &|| self.is_cancelled(),
        );
        let lock: StepLock = match lock {
            Ok(l) => l,
            Err(store::StoreError::Cancelled) => return Err(BuildError::Interrupted),
            Err(e) => return Err(e.into()),
        };
        // Since the look-up another build may have finished this step, whether or not it was waited for.
        if !afresh && let Some(r) = self.find_same_parent(&prepared, parent)? {
            return Ok(self.use_record(at, &r, HitRule::SameParent, None));
        }
        let earlier = self.store.records(&key.digest, RECORDS)?;
        let reason = match afresh {
            true => RunReason::NoCache,
            false => self.what_changed(at, &prepared, &earlier, parent)?,
        };
        self.note(id, |s| s.reason = Some(reason.clone()));
        let permit = self.permit()?;
        let began = Instant::now();
        let ran = prepared.execute(self, at, parent)?;
        drop(permit);
        let ran = Kept { reason, took: began.elapsed(), ran };
        self.keep(at, &prepared, parent, &earlier, ran, lock)
    }

    /// The earlier layer that counts as the result of a step that ran, and by which rule.
    fn earlier_layer<'r>(
        &self,
        ran: &Ran,
        earlier: &'r [Record],
        is_run: bool,
        parent: &State,
    ) -> Result<Option<(&'r Record, Cutoff)>, BuildError> {
        if let Some(r) = earlier.iter().find(|r| self.same_but_times(&ran.layer, &r.layer)) {
            return Ok(Some((r, Cutoff::Exact)));
        }
        if !is_run || self.options.cutoff != Cutoff::Noise {
            return Ok(None);
        }
        let tree = parent.tree(self.store)?;
        let new = ran.layer.decode();
        let mut layers = earlier.iter().filter_map(|r| Some((r, self.store.layer(&r.layer).ok()?)));
        let found = layers.find(|(_, old)| same_but_noise(&new, old, &tree, self.store));
        Ok(found.map(|(r, _)| (r, Cutoff::Noise)))
    }

    /// Whether a new layer is an earlier one in all but times. One that cannot be read is none.
    pub(crate) fn same_but_times(&self, new: &EncodedLayer, old: &Digest) -> bool {
        self.store.layer_entries(old).is_ok_and(|old| new.same_but_times(old).unwrap_or(false))
    }

    /// Keeps the result of a step that ran; takes an earlier layer instead if it is the same in all but times.
    fn keep(
        &self,
        at: At<'_>,
        prepared: &Prepared<'_>,
        parent: &State,
        earlier: &[Record],
        kept: Kept,
        lock: StepLock,
    ) -> Result<StepReport, BuildError> {
        let Kept { mut reason, took, ran } = kept;
        let (id, key) = (at.id, prepared.key());
        let is_run = matches!(prepared, Prepared::Run(_));
        let adopted = match at.step.no_cache {
            true => None,
            false => self.earlier_layer(&ran, earlier, is_run, parent)?,
        };
        let other_files =
            |r: &RunReason| matches!(r, RunReason::StepChanged { input, .. } if input == "files");
        if other_files(&reason)
            && let Some(files) = self.which_files(at, &ran.layer)
        {
            reason = files;
        }
        let bytes = ran.layer.content_bytes();
        let layer = match adopted {
            Some((r, _)) => r.layer,
            None => ran.batch.add_encoded(&ran.layer)?,
        };
        let created = adopted.map_or_else(Time::now, |(r, _)| r.created);
        let adopted = adopted.map(|(_, how)| how);
        let noise = adopted == Some(Cutoff::Noise);
        let notes = Notes { below: parent.layers().to_vec(), observed: false, noise };
        let record = NewRecord {
            key: key.digest,
            parent: prepared.place(parent),
            layer,
            chain: chain(&parent.chain(), &layer),
            created,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            log: ran.log,
            observations: ran.observations,
            inputs: key.inputs.clone(),
            notes: notes.text(),
        };
        ran.batch.commit(vec![record], vec![lock])?;
        // A copy runs nothing: where it gives what it gave before, it counts as reused.
        let pure = reason == RunReason::Recomputed;
        if pure && adopted.is_some() {
            let (rule, saved) = (HitRule::SameObservations, Duration::ZERO);
            self.listener.event(Event::Cached { id, rule, layer, saved, detail: None });
            return Ok(StepReport {
                layer,
                created,
                duration: took,
                rule: Some(rule),
                reason: None,
                adopted: None,
                same_parent: false,
            });
        }
        let reason = if pure { RunReason::ParentChanged { origin: None } } else { reason };
        self.listener.event(Event::Done {
            id,
            took,
            reason: Some(Box::new(reason.clone())),
            layer: Some(layer),
            bytes,
            adopted: adopted.is_some(),
        });
        let reason = Some(reason);
        Ok(StepReport { layer, created, duration: took, rule: None, reason, adopted, same_parent: false })
    }
}

/// A step of which nothing is known yet.
fn blank(info: StepInfo, step: &Step, masker: &Masker) -> StepRecord {
    StepRecord {
        id: info.id,
        place: info.place,
        title: masker.text(&info.name),
        lines: info.lines,
        kind: crate::why::kind_of(&step.kind).to_owned(),
        copies_context: copies_context(&step.kind),
        end: StepEnd::NotReached,
        rule: None,
        reason: None,
        adopted: None,
        note: None,
        key: None,
        parent: None,
        layer: None,
        took_ms: 0,
        ran_ms: 0,
        chain_would_run: false,
    }
}

/// Writes down how a step ended.
fn ended(s: &mut StepRecord, report: &StepReport, chain_would_run: bool) {
    let ran_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
    s.end = if report.rule.is_some() { StepEnd::Cached } else { StepEnd::Ran };
    s.rule = report.rule;
    s.reason.clone_from(&report.reason);
    s.adopted = report.adopted;
    s.layer = Some(report.layer);
    s.took_ms = if report.rule.is_some() { 0 } else { ran_ms };
    s.ran_ms = ran_ms;
    s.chain_would_run = chain_would_run;
}

/// What names a base image: the digest of its manifest or, where that is not known, the chain of its layers.
pub(crate) fn base_digest(image: &BaseImage) -> Digest {
    image.digest.unwrap_or_else(|| State::of_layers(image.layers.clone()).chain())
}

/// Knows the values of all variables of a build that look like secrets.
fn masker(plan: &Plan, options: &Options) -> Masker {
    let mut out = Masker::default();
    options.choices.build_args.iter().for_each(|(k, v)| out.learn(k, v));
    for stage in plan.stages.iter().filter(|s| s.needed) {
        let set = stage.config.config.env.iter().filter_map(|e| e.split_once('='));
        set.for_each(|(k, v)| out.learn(k, v));
        for step in &stage.steps {
            if let StepKind::Run(run) = &step.kind {
                run.env.iter().for_each(|(k, v)| out.learn(k, v));
            }
        }
    }
    out
}
