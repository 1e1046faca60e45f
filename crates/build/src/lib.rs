//! Builds images from Dockerfiles.
//!
//! The way of the data:
//!
//! ```text
//! input (context, Dockerfile, ignore file) ─► plan (stages, steps, configs) ─► solve (look up or run) ─► finish (image) ─► export
//!                                      ▲ bases                          │ steps/{run,copy,workdir}
//!                                                                       │ context, fetch, observe, commit
//! ```
//!
//! [`build`] does all but the last. What happens is told to a [`Listener`] as [`Event`]s; nothing here prints or reads the
//! environment.

pub mod account;
mod aftermath;
mod archive;
pub mod bases;
mod cachemount;
pub mod checks;
pub mod chmod;
mod commit;
mod confined;
pub mod context;
pub mod copy;
mod date;
mod error;
pub mod events;
pub mod explain;
pub mod export;
pub mod fetch;
mod finish;
mod forecast;
mod foreign;
pub mod images;
pub mod input;
mod key;
pub mod lazy;
pub mod listing;
pub mod load;
mod lookup;
mod mask;
pub mod masking;
mod meaning;
mod noise;
mod notes;
pub mod observe;
pub mod options;
mod parallel;
pub mod plan;
mod preflight;
pub mod reason;
mod report;
mod solve;
mod sshagent;
mod state;
mod steps;
pub mod tasks;
#[cfg(test)]
mod testkit;
pub mod textdiff;
pub mod users;
mod view;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dockerfile::ignore::Matcher;
use store::Store;

use crate::account::{BuildEnd, BuildRecord};
pub use crate::account::{Rebased, rebased};
pub use crate::aftermath::{Failure, Left};
pub use crate::date::{Base, at_epoch};
pub use crate::error::BuildError;
pub use crate::events::{Event, Listener, RunReason, StepId, StepInfo};
pub use crate::finish::{Built, diff_id};
pub use crate::forecast::Forecast;
use crate::input::{Files, Place};
pub use crate::options::{CacheMode, Cutoff, NamedContext, NetworkMode, Options, Secret};
pub use crate::report::{StageReport, StageStep};
pub use crate::tasks::{Ids, Tasks};
pub use crate::view::{Shortfall, View, Views};

/// A build, as asked for.
#[derive(Debug)]
pub struct Request {
    /// The Dockerfile and what its context ignores.
    pub input: input::Input,
    /// The context's files.
    pub files: Files,
    /// Numbers for the steps of this build.
    pub ids: Ids,
    /// Everything else.
    pub options: Options,
}

/// What a build came to.
#[derive(Debug)]
pub struct Outcome {
    /// The image; in the store after [`Store::flush`].
    pub image: Built,
    /// What of it comes from the base image.
    pub base: Base,
    /// SOURCE_DATE_EPOCH, if there is one.
    pub epoch: Option<i64>,
    /// What happened to every step.
    pub account: BuildRecord,
    /// Base images that were others than in the build before, and what was kept nevertheless.
    pub rebased: Vec<Rebased>,
    /// How long the build took.
    pub took: Duration,
    /// The stages that were needed, with their steps.
    pub stages: Vec<StageReport>,
}

/// Builds an image. It is in the store when this returns, but not tagged.
///
/// `client` pulls base images; without one only what is in the store or given by `--build-context` can be started from. `cancel` stops
/// the build when it becomes true.
pub fn build(
    store: &Store,
    client: Option<&registry::Client>,
    request: &Request,
    listener: &dyn Listener,
    cancel: Arc<AtomicBool>,
) -> Result<Outcome, BuildError> {
    build_or_left(store, client, request, listener, cancel).map_err(|f| f.error)
}

/// [`build()`], which in failing tells also what is left of the build.
pub fn build_or_left(
    store: &Store,
    client: Option<&registry::Client>,
    request: &Request,
    listener: &dyn Listener,
    cancel: Arc<AtomicBool>,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let plan = planned(store, client, request, listener, &cancel)?;
    if request.options.no_cache_mounts {
        clear_cache_mounts(store, &plan, &request.options, listener, &cancel)?;
    }
    let solver = solver(store, client, request, &plan, listener, &cancel, false)?;
    listener.event(Event::Planned { steps: solver.step_infos() });
    let base = finish::base(&plan);
    let image = solver.run().and_then(|target| {
        let image = finish::finish(store, &plan, &target, &|i| solver.wait_for(i).ok())?;
        match plan.epoch {
            Some(epoch) if request.options.reproducible => at_epoch(store, &image, base, epoch, true),
            _ => date::keep(store, &image).map(|()| image),
        }
    });
    let mut account = solver.account();
    account.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let as_before = |s: &account::StepRecord| s.rule == Some(events::HitRule::SameParent);
    let rebased = match account.steps().all(|(_, s)| as_before(s)) {
        true => Vec::new(),
        false => rebased(&account, solver.past_if(|b| b.end == BuildEnd::Ok)),
    };
    match &image {
        Ok(image) => account.image = Some(image.id),
        Err(e) => {
            let interrupted = matches!(e.root(), BuildError::Interrupted);
            account.end = if interrupted { BuildEnd::Interrupted } else { BuildEnd::Failed };
            account.error = Some(solver.masker.text(&images::chain_text(e)));
        }
    }
    // A build that only tries something out is none that the next one is to be compared with.
    if request.options.salt.is_none()
        && let Err(e) = account::keep(store, &account)
    {
        let text = format!("the log of builds cannot be written: {}", images::chain_text(&e));
        listener.event(Event::Warning { text, line: None });
    }
    let image = match image {
        Ok(image) => image,
        Err(error) => {
            let left = solver.remains().map(|r| Box::new(Left::new(plan, r)));
            return Err(Failure { error, left });
        }
    };
    let stages = report::stages(&plan, &account);
    Ok(Outcome { image, base, epoch: plan.epoch, account, rebased, took: began.elapsed(), stages })
}

/// What would become of a build, were it to take place now: its account, with what would run and why. Nothing is run and nothing kept;
/// no registry and no URL is asked: what they last gave is taken for what they would give.
pub fn forecast(
    store: &Store,
    request: &Request,
    listener: &dyn Listener,
    cancel: Arc<AtomicBool>,
) -> Result<Forecast, BuildError> {
    let plan = planned(store, None, request, listener, &cancel)?;
    let solver = solver(store, None, request, &plan, listener, &cancel, true)?;
    solver.forecast()
}

/// Parses, plans and checks.
fn planned(
    store: &Store,
    client: Option<&registry::Client>,
    request: &Request,
    listener: &dyn Listener,
    cancel: &AtomicBool,
) -> Result<plan::Plan, BuildError> {
    let parsed = dockerfile::parse(&request.input.text);
    if parsed.diagnostics.iter().any(dockerfile::Diagnostic::is_error) {
        return Err(BuildError::Dockerfile {
            file: request.input.name.clone(),
            diagnostics: parsed.diagnostics,
        });
    }
    for d in &parsed.diagnostics {
        listener.event(Event::Warning { text: d.message.clone(), line: Some(d.line) });
    }
    let options = &request.options;
    if let Some(text) = preflight::foreign_syntax(&parsed.file, options) {
        listener.event(Event::Warning { text, line: None });
    }
    let tasks = Tasks { listener, ids: &request.ids };
    let resolver =
        bases::Resolver::new(store, &options.contexts, client, options.pull && client.is_some(), tasks);
    let fetcher = fetch::Fetcher { store, client, secrets: &options.secrets, ssh: &options.ssh, cancel };
    let choices = date::resolve(&parsed.file, request, &fetcher)?;
    let plan = plan::plan(&parsed.file, &choices, &resolver).map_err(plan_error)?;
    for w in &plan.warnings {
        listener.event(Event::Warning { text: w.text.clone(), line: w.line });
    }
    foreign::check(&plan)?;
    checks::before_build(request, &parsed, &plan, listener)?;
    preflight::check(&plan, options)?;
    Ok(plan)
}

/// A solver with everything that the plan takes from contexts.
fn solver<'a>(
    store: &'a Store,
    client: Option<&'a registry::Client>,
    request: &'a Request,
    plan: &'a plan::Plan,
    listener: &'a dyn Listener,
    cancel: &Arc<AtomicBool>,
    dry: bool,
) -> Result<solve::Solver<'a>, BuildError> {
    let mut solver = solve::Solver::new(store, plan, &request.options, listener, cancel.clone());
    solver.client = client;
    solver.dry = dry;
    let tasks = Tasks { listener, ids: &request.ids };
    read_contexts(store, request, &mut solver, &tasks, cancel)?;
    solver.header = header(request, plan, &solver.masker);
    solver.number(&request.ids);
    Ok(solver)
}

/// What a build is of.
fn header(request: &Request, plan: &plan::Plan, masker: &masking::Masker) -> BuildRecord {
    let context = match &request.files {
        Files::None => "-".to_owned(),
        Files::Dir(dir) => dir.canonicalize().unwrap_or_else(|_| dir.clone()).display().to_string(),
        Files::Fetched(context) => context.label().to_owned(),
    };
    let options = &request.options;
    let args = options.choices.build_args.iter();
    BuildRecord {
        began: oci::Time::now().rfc3339(),
        context,
        dockerfile: request.input.name.clone(),
        target: options.choices.target.clone(),
        platform: plan.stages.get(plan.target).map(|s| s.platform.to_string()).unwrap_or_default(),
        cache: options.cache,
        cutoff: options.cutoff,
        build_args: args.map(|(k, v)| (k.clone(), masker.value(k, v))).collect(),
        ..BuildRecord::default()
    }
}

/// Reads the main context and the named ones, as far as the plan takes from them.
fn read_contexts(
    store: &Store,
    request: &Request,
    solver: &mut solve::Solver<'_>,
    tasks: &Tasks<'_>,
    cancel: &AtomicBool,
) -> Result<(), BuildError> {
    let read = if solver.dry { context::peek } else { context::read };
    let mut starts: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    for (i, stage) in solver.plan.stages.iter().enumerate().filter(|(_, s)| s.needed) {
        if let plan::Start::Local(name) = &stage.start {
            starts.entry(name).or_default().push(i);
        }
    }
    let mut locals = BTreeMap::new();
    for (name, stages) in starts {
        let context = match request.options.contexts.get(name) {
            Some(NamedContext::Dir(dir)) => {
                let patterns = input::ignore_patterns(dir, None)?;
                let matcher = matcher(&patterns)?;
                let needed = match stages[..] {
                    [only] if solver.plan.stages[only].steps.is_empty() => solver.needed_of(Some(only)),
                    // A stage's steps may look at everything that the stage starts from.
                    _ => {
                        let mut all = context::Needed::default();
                        all.everything();
                        all
                    }
                };
                let read = read(store, dir, &needed, matcher.as_ref(), cancel)?;
                date::dated(read, &request.options, solver.plan.epoch)?
            }
            Some(NamedContext::Git(git)) => {
                let place = Place::Git(git.clone());
                tasks.run(&format!("load context {name} from {}", git.shown()), |_| {
                    input::named(&solver.fetcher(), &place)
                })?
            }
            Some(NamedContext::Http(url)) => {
                let place = Place::Http(url.clone());
                tasks.run(&format!("load context {name} from {}", fetch::shown(url)), |_| {
                    input::named(&solver.fetcher(), &place)
                })?
            }
            _ => continue,
        };
        locals.insert(name.to_owned(), Arc::new(context));
    }
    solver.locals = locals;
    let needed = solver.needed_of(None);
    if needed.is_empty() {
        return Ok(());
    }
    let context = match &request.files {
        Files::None => return Ok(()),
        Files::Fetched(context) => context.clone(),
        Files::Dir(dir) => tasks.run("read build context", |_| {
            let matcher = matcher(&request.input.ignore)?;
            let read = read(store, dir, &needed, matcher.as_ref(), cancel);
            let read = read.map_err(|e| match e {
                context::ContextError::Interrupted => BuildError::Interrupted,
                e => e.into(),
            })?;
            date::dated(read, &request.options, solver.plan.epoch).map(Arc::new)
        })?,
    };
    let _ = solver.context.set(context);
    Ok(())
}

/// `--no-cache-mounts`: empties what the build's RUNs would mount.
fn clear_cache_mounts(
    store: &Store,
    plan: &plan::Plan,
    options: &Options,
    listener: &dyn Listener,
    cancel: &AtomicBool,
) -> Result<(), BuildError> {
    let wait = cachemount::Wait {
        is_cancelled: &|| cancel.load(std::sync::atomic::Ordering::Relaxed),
        begins: &|what| listener.event(Event::Warning { text: format!("waiting for {what}"), line: None }),
    };
    cachemount::clear(store, &steps::cache_ids(plan, options), &wait)
}

fn matcher(patterns: &[String]) -> Result<Option<Matcher>, BuildError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Matcher::new(patterns).map(Some).map_err(|e| BuildError::Usage {
        message: format!("bad pattern in the ignore file: {e}"),
        help: Some("see the pattern rules of .dockerignore".into()),
    })
}

fn plan_error(e: plan::PlanError<BuildError>) -> BuildError {
    match e {
        plan::PlanError::At { line, message, help } => BuildError::Line { line, message, help },
        plan::PlanError::Whole { message, help } => BuildError::Line { line: None, message, help },
        plan::PlanError::Base { line, name, source } => BuildError::Step {
            title: format!("FROM {name}"),
            lines: line.map(|l| (l, l)),
            source: Box::new(source),
        },
    }
}
