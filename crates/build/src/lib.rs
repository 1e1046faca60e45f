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

mod aftermath;
mod archive;
pub mod bases;
mod cachemount;
pub mod chmod;
mod commit;
pub mod context;
pub mod copy;
mod date;
mod error;
pub mod events;
pub mod export;
pub mod fetch;
mod finish;
mod foreign;
pub mod images;
pub mod input;
mod key;
pub mod listing;
pub mod load;
mod lookup;
mod mask;
pub mod observe;
pub mod options;
pub mod plan;
mod preflight;
mod solve;
mod sshagent;
mod state;
mod steps;
pub mod tasks;
#[cfg(test)]
mod testkit;
pub mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dockerfile::ignore::Matcher;
use store::Store;

pub use crate::aftermath::{Failure, Left};
pub use crate::date::{Base, at_epoch};
pub use crate::error::BuildError;
pub use crate::events::{Event, Listener, StepId, StepInfo};
pub use crate::finish::{Built, diff_id};
use crate::input::{Files, Place};
pub use crate::options::{CacheMode, NamedContext, NetworkMode, Options, Secret};
pub use crate::solve::StepReport;
pub use crate::tasks::{Ids, Tasks};

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
    /// Steps that ran.
    pub ran: usize,
    /// Steps whose earlier result was used.
    pub cached: usize,
    /// What the used results took when they ran.
    pub saved: Duration,
    /// Steps that a cache that knows only chains of steps (Docker's) would have run, and what they took when they last ran.
    pub chain_ran: usize,
    /// See `chain_ran`.
    pub chain_took: Duration,
    /// How long the build took.
    pub took: Duration,
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
    let parsed = dockerfile::parse(&request.input.text);
    if parsed.diagnostics.iter().any(dockerfile::Diagnostic::is_error) {
        return Err(BuildError::Dockerfile {
            file: request.input.name.clone(),
            diagnostics: parsed.diagnostics,
        }
        .into());
    }
    for d in &parsed.diagnostics {
        listener.event(Event::Warning { text: d.message.clone(), line: Some(d.line) });
    }
    let options = &request.options;
    let tasks = Tasks { listener, ids: &request.ids };
    let resolver = bases::Resolver::new(store, &options.contexts, client, options.pull, tasks);
    let fetcher =
        fetch::Fetcher { store, client, secrets: &options.secrets, ssh: &options.ssh, cancel: &cancel };
    let choices = date::resolve(&parsed.file, request, &fetcher)?;
    let plan = plan::plan(&parsed.file, &choices, &resolver).map_err(plan_error)?;
    for w in &plan.warnings {
        listener.event(Event::Warning { text: w.text.clone(), line: w.line });
    }
    foreign::check(&plan)?;
    check(request, &parsed, &plan, listener)?;
    preflight::check(&plan, options)?;
    if options.no_cache_mounts {
        clear_cache_mounts(store, &plan, options, listener, &cancel)?;
    }
    let mut solver = solve::Solver::new(store, &plan, options, listener, cancel.clone());
    solver.client = client;
    read_contexts(store, request, &mut solver, &tasks, &cancel)?;
    solver.number(&request.ids);
    listener.event(Event::Planned { steps: solver.step_infos() });
    let target = match solver.run() {
        Ok(t) => t,
        Err(error) => {
            let left = solver.remains().map(|r| Box::new(Left::new(plan, r)));
            return Err(Failure { error, left });
        }
    };
    let mut image = finish::finish(store, &plan, &target, &|i| solver.wait_for(i).ok())?;
    let base = finish::base(&plan);
    match plan.epoch {
        Some(epoch) if options.reproducible => image = at_epoch(store, &image, base, epoch, true)?,
        _ => date::keep(store, &image)?,
    }
    let mut outcome = Outcome {
        image,
        base,
        epoch: plan.epoch,
        ran: 0,
        cached: 0,
        saved: Duration::ZERO,
        chain_ran: 0,
        chain_took: Duration::ZERO,
        took: Duration::ZERO,
    };
    for i in 0..plan.stages.len() {
        if !plan.stages[i].needed {
            continue;
        }
        for s in solver.wait_for(i)?.steps {
            if s.chain_would_run {
                outcome.chain_ran += 1;
                outcome.chain_took += s.duration;
            }
            if s.cached {
                outcome.cached += 1;
                outcome.saved += s.duration;
            } else {
                outcome.ran += 1;
            }
        }
    }
    outcome.took = began.elapsed();
    Ok(outcome)
}

/// Runs the build checks with what the plan found out about the base images.
fn check(
    request: &Request,
    parsed: &dockerfile::Parsed,
    plan: &plan::Plan,
    listener: &dyn Listener,
) -> Result<(), BuildError> {
    let choices = &request.options.choices;
    let mut bases = BTreeMap::new();
    for (i, stage) in plan.stages.iter().enumerate() {
        let plan::Start::Image(image) = &stage.start else { continue };
        let c = &image.config;
        let platform = oci::platform::Platform::new(&c.os, &c.architecture, c.variant.as_deref());
        let variables =
            c.config.env.iter().map(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k).to_owned());
        bases.insert(
            i,
            dockerfile::check::BaseImage {
                variables: variables.collect(),
                has_shell: c.config.shell.as_ref().is_some_and(|s| !s.is_empty()),
                platform: Some(platform.to_string()),
            },
        );
    }
    let ignore = matcher(&request.input.ignore)?;
    let host = oci::platform::Platform::host();
    let input = dockerfile::check::CheckInput {
        build_args: choices.build_args.clone(),
        ignore: ignore.as_ref(),
        target_platform: Some(choices.platform.as_ref().unwrap_or(&host).to_string()),
        build_platform: Some(host.to_string()),
        target_stage: choices.target.as_ref().map(|t| t.to_lowercase()),
        bases,
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        dockerfile::check::run(parsed, &input).into_iter().partition(dockerfile::Diagnostic::is_error);
    for d in warnings {
        listener.event(Event::Warning { text: format!("{}: {}", d.code, d.message), line: Some(d.line) });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(BuildError::Dockerfile { file: request.input.name.clone(), diagnostics: errors })
}

/// Reads the main context and the named ones, as far as the plan takes from them.
fn read_contexts(
    store: &Store,
    request: &Request,
    solver: &mut solve::Solver<'_>,
    tasks: &Tasks<'_>,
    cancel: &AtomicBool,
) -> Result<(), BuildError> {
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
                let read = context::read(store, dir, &needed, matcher.as_ref(), cancel)?;
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
            let read = context::read(store, dir, &needed, matcher.as_ref(), cancel);
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
