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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use oci::{Digest, LayerIndex, Time};
use store::{NewRecord, Record, StepLock, Store};

use crate::context::{Context, Needed};
use crate::error::BuildError;
use crate::events::{Event, HitRule, Listener, RunReason, StepId, StepInfo};
use crate::fetch::Fetcher;
use crate::key::{Key, chain};
use crate::lookup::RECORDS;
use crate::options::Options;
use crate::plan::{CopySource, Plan, Stage, Start, Step, StepKind};
use crate::state::State;
use crate::tasks::Ids;

/// What became of a step; the build's account.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Which step.
    pub id: StepId,
    /// Its layer.
    pub layer: Digest,
    /// When its record was made.
    pub created: Time,
    /// How long it took when it ran.
    pub duration: Duration,
    /// Whether an earlier result was used.
    pub cached: bool,
    /// Whether the record was one on the same parent.
    pub same_parent: bool,
    /// Whether a cache that knows only chains would have run the step.
    pub chain_would_run: bool,
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
    /// The network, if there is one.
    pub(crate) client: Option<&'a registry::Client>,
    results: Vec<OnceLock<Finished>>,
    /// What made each layer, for people.
    titles: Mutex<BTreeMap<Digest, String>>,
    progress: Mutex<Progress>,
    changed: Condvar,
    first_id: Vec<StepId>,
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
    no_cache: bool,
}

/// What a step that was not in the cache came to.
pub(crate) struct Ran {
    pub(crate) layer: LayerIndex,
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
            client: None,
            results: plan.stages.iter().map(|_| OnceLock::new()).collect(),
            titles: Mutex::default(),
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
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&done));
            let threads: Vec<_> = (0..self.plan.stages.len())
                .filter(|&i| self.plan.stages[i].needed)
                .map(|i| scope.spawn(move || self.stage(i)))
                .collect();
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

    fn stage(&self, i: usize) {
        match self.stage_steps(i, &self.plan.stages[i]) {
            Ok(f) => {
                let p = self.lock();
                let _ = self.results[i].set(f);
                drop(p);
                self.changed.notify_all();
            }
            Err(e) => self.fail(e),
        }
    }

    fn stage_steps(&self, i: usize, stage: &Stage) -> Result<Finished, StageError> {
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
        let mut steps = Vec::new();
        for (n, step) in stage.steps.iter().enumerate() {
            let id = self.first_id[i] + n as StepId;
            match self.step(id, stage, step, &state, &mut barrier) {
                Ok(mut report) => {
                    state = state.push(report.layer);
                    self.name_layer(report.layer, step);
                    chain_missed |= !report.same_parent;
                    report.chain_would_run = chain_missed;
                    steps.push(report);
                }
                Err(e) => {
                    let stopped = matches!(e.root(), BuildError::Interrupted);
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

    fn name_layer(&self, layer: Digest, step: &Step) {
        let title = match step.lines {
            Some((line, _)) => format!("{} on line {line}", step.title),
            None => step.title.clone(),
        };
        self.titles.lock().unwrap_or_else(PoisonError::into_inner).entry(layer).or_insert(title);
    }

    /// The step of this build that made a layer, for people.
    pub(crate) fn title_of_layer(&self, layer: &Digest) -> Option<String> {
        self.titles.lock().unwrap_or_else(PoisonError::into_inner).get(layer).cloned()
    }

    /// A directory given with `--build-context` that a stage starts from: its files as one layer.
    fn local_state(&self, name: &str) -> Result<State, BuildError> {
        let Some(context) = self.locals.get(name) else { return Ok(State::empty()) };
        if context.layer.is_empty() {
            return Ok(State::empty());
        }
        let batch = self.store.batch();
        context.provide(&batch, &context.layer)?;
        let id = batch.add_layer(&context.layer)?;
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
        id: StepId,
        stage: &Stage,
        step: &Step,
        parent: &State,
        barrier: &mut Option<Digest>,
    ) -> Result<StepReport, BuildError> {
        if self.is_cancelled() {
            return Err(BuildError::Interrupted);
        }
        self.listener.event(Event::Started { id });
        let prepared = self.prepare(stage, step, barrier)?;
        let key = prepared.key();
        let afresh = step.no_cache || matches!(&step.kind, StepKind::Run(r) if r.always);
        if !afresh && let Some(report) = self.look_up(id, &prepared, parent)? {
            return Ok(report);
        }
        let place = chain(&parent.chain(), &key.digest);
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
        if !afresh && let Some(report) = self.look_up_same_parent(id, key, parent)? {
            return Ok(report);
        }
        let earlier = self.store.records(&key.digest, RECORDS)?;
        let reason = match (afresh, earlier.first()) {
            (true, _) => RunReason::NoCache,
            (false, Some(_)) => self.what_changed(&prepared, &earlier, parent)?,
            (false, None) => RunReason::First,
        };
        let permit = self.permit()?;
        let began = Instant::now();
        let ran = prepared.execute(self, id, parent)?;
        drop(permit);
        let ran = Kept { reason, took: began.elapsed(), ran, no_cache: step.no_cache };
        self.keep(id, key, parent, &earlier, ran, lock)
    }

    /// Keeps the result of a step that ran; takes an earlier layer instead if it is the same in all but times.
    fn keep(
        &self,
        id: StepId,
        key: &Key,
        parent: &State,
        earlier: &[Record],
        kept: Kept,
        lock: StepLock,
    ) -> Result<StepReport, BuildError> {
        let Kept { reason, took, ran, no_cache } = kept;
        let mut created = Time::now();
        let mut adopted = None;
        if !no_cache {
            let plain = ran.layer.without_times();
            for r in earlier {
                if let Ok(old) = self.store.layer(&r.layer)
                    && old.without_times() == plain
                {
                    adopted = Some(r.layer);
                    created = r.created;
                    break;
                }
            }
        }
        let bytes = ran.layer.content_bytes();
        let layer = match adopted {
            Some(l) => l,
            None => ran.batch.add_layer(&ran.layer)?,
        };
        let record = NewRecord {
            key: key.digest,
            parent: parent.chain(),
            layer,
            chain: chain(&parent.chain(), &layer),
            created,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            log: ran.log,
            observations: ran.observations,
            inputs: key.inputs.clone(),
        };
        ran.batch.commit(vec![record], vec![lock])?;
        // A copy runs nothing: where it gives what it gave before, it counts as reused.
        let pure = reason == RunReason::Recomputed;
        if pure && let Some(layer) = adopted {
            self.listener.event(Event::Cached {
                id,
                rule: HitRule::SameObservations,
                layer,
                saved: Duration::ZERO,
                detail: None,
            });
        } else {
            let reason = if pure { RunReason::ParentChanged } else { reason };
            self.listener.event(Event::Done {
                id,
                took,
                reason: Some(reason),
                layer: Some(layer),
                bytes,
                adopted: adopted.is_some(),
            });
        }
        let cached = pure && adopted.is_some();
        Ok(StepReport {
            id,
            layer,
            created,
            duration: took,
            cached,
            same_parent: false,
            chain_would_run: false,
        })
    }
}
