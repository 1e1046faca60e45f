//! What is in a build's context, and which instruction takes what (`build --list-context`): nothing is read, hashed or run.
//!
//! Instructions of stages that the target does not need take nothing. A base image that is not in the store is not pulled; the list
//! says so, because its ONBUILD triggers could take more.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use dockerfile::mount::Kind as MountKind;
use oci::platform::Platform;
use oci::types::ImageConfig;
use oci::{Kind, Time, Tree};
use serde::Serialize;
use store::Store;

use crate::bases::Resolver;
use crate::context;
use crate::copy::{Source, Spec, clean, select};
use crate::error::BuildError;
use crate::events::Listener;
use crate::input::Files;
use crate::plan::{self, BaseImage, Bases, CopySource, Plan, Resolved, Step, StepKind};
use crate::{Request, matcher, plan_error};

/// A context with its takers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextList {
    /// The directory, or where the context came from.
    pub context: String,
    /// Everything that is not ignored, in layer order.
    pub files: Vec<Listed>,
    /// The instructions that take something, in the order of the file.
    pub instructions: Vec<Taker>,
    /// What the ignore file leaves out.
    pub ignored: Amount,
    /// What is there and no instruction takes.
    pub not_taken: Amount,
    /// Base images that are not in the store.
    pub unknown_bases: Vec<String>,
}

/// A number of files (everything but directories) and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// A name in the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its path; what is no UTF-8 is replaced.
    pub path: String,
    /// `file`, `directory`, `symlink`, `device` or `fifo`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes.
    pub size: u64,
    /// Lines of the instructions that take it.
    pub taken_by: Vec<u32>,
}

/// An instruction that takes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taker {
    /// Its first line; 0 for a trigger of a base image.
    pub line: u32,
    /// Its stage.
    pub stage: String,
    /// The instruction.
    pub text: String,
    /// What it takes.
    pub takes: Amount,
    /// Sources that are not there.
    pub missing: Vec<String>,
}

/// Images from the store only; any other is made up.
struct Local<'a> {
    resolver: Resolver<'a>,
    unknown: Mutex<Vec<String>>,
}

impl Bases for Local<'_> {
    type Error = BuildError;

    fn is_named_context(&self, name: &str) -> bool {
        self.resolver.is_named_context(name)
    }

    fn resolve(&self, name: &str, platform: &Platform) -> Result<Resolved, BuildError> {
        match self.resolver.resolve(name, platform) {
            Err(BuildError::BaseNotFound { .. }) => {
                self.unknown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(name.to_owned());
                let config = ImageConfig {
                    os: platform.os.clone(),
                    architecture: platform.architecture.clone(),
                    ..ImageConfig::default()
                };
                let image = BaseImage {
                    name: name.to_owned(),
                    config,
                    layers: Vec::new(),
                    digest: None,
                    other_platform: false,
                };
                Ok(Resolved::Image(image.into()))
            }
            other => other,
        }
    }
}

fn tree_of(layer: &oci::LayerIndex) -> Tree {
    Tree::from_layers([layer]).unwrap_or_default()
}

fn kind_of(kind: &Kind) -> (&'static str, u64) {
    match kind {
        Kind::Directory { .. } => ("directory", 0),
        Kind::File { size, .. } => ("file", *size),
        Kind::HardLink { .. } => ("file", 0),
        Kind::Symlink { .. } => ("symlink", 0),
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => ("device", 0),
        Kind::Fifo => ("fifo", 0),
        Kind::Whiteout => ("whiteout", 0),
    }
}

fn amount<'a>(entries: impl IntoIterator<Item = &'a oci::Entry>) -> Amount {
    let mut sum = Amount::default();
    for e in entries {
        if !matches!(e.kind, Kind::Directory { .. }) {
            sum.files += 1;
            sum.bytes += kind_of(&e.kind).1;
        }
    }
    sum
}

/// What one step takes of the main context: paths, and sources that are not there. `None`: it takes from elsewhere.
fn taken(step: &Step, tree: &Tree) -> Option<(Vec<Vec<u8>>, Vec<String>)> {
    let (mut paths, mut missing, mut any) = (Vec::new(), Vec::new(), false);
    match &step.kind {
        StepKind::Copy(copy) if copy.from.is_none() => {
            for source in &copy.sources {
                let CopySource::Path(path) = source else { continue };
                any = true;
                let spec = Spec {
                    dest: copy.dest.clone(),
                    exclude: copy.exclude.clone(),
                    parents: copy.parents,
                    wildcards: true,
                    now: Time::default(),
                    ..Spec::default()
                };
                match select(&Source { tree, path }, &spec) {
                    Ok(selection) => paths.extend(selection.paths(tree, |_| true)),
                    Err(_) => missing.push(path.clone()),
                }
            }
        }
        StepKind::Run(run) => {
            for m in run.mounts.iter().filter(|m| m.from.is_none() && m.mount.kind == MountKind::Bind) {
                any = true;
                let source = clean(m.mount.source.as_deref().unwrap_or("/"));
                match tree.resolve(source.as_bytes(), true).ok().filter(oci::tree::Place::exists) {
                    None => missing.push(source),
                    Some(place) => {
                        let walked: Result<(), std::convert::Infallible> =
                            tree.walk(place.id, &mut |path, _| {
                                paths.push(path.to_vec());
                                Ok(oci::tree::Walk::Into)
                            });
                        let Ok(()) = walked;
                    }
                }
            }
        }
        _ => {}
    }
    any.then_some((paths, missing))
}

/// Plans with base images that the store has; gives the names of those that it has not, sorted, which the plan takes for empty.
pub(crate) fn plan_from_store(
    store: &Store,
    request: &Request,
    parsed: &dockerfile::Parsed,
    listener: &dyn Listener,
) -> Result<(Plan, Vec<String>), BuildError> {
    let tasks = crate::tasks::Tasks { listener, ids: &request.ids };
    let resolver = Resolver::new(store, &request.options.contexts, None, false, tasks);
    let bases = Local { resolver, unknown: Mutex::default() };
    let plan = plan::plan(&parsed.file, &request.options.choices, &bases).map_err(plan_error)?;
    let mut unknown = bases.unknown.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    unknown.sort();
    unknown.dedup();
    Ok((plan, unknown))
}

/// Lists a build's context.
pub fn list_context(
    store: &Store,
    request: &Request,
    listener: &dyn Listener,
    cancel: &AtomicBool,
) -> Result<ContextList, BuildError> {
    let parsed = dockerfile::parse(&request.input.text);
    if parsed.diagnostics.iter().any(dockerfile::Diagnostic::is_error) {
        let (file, diagnostics) = (request.input.name.clone(), parsed.diagnostics);
        return Err(BuildError::Dockerfile { file, diagnostics });
    }
    let (plan, unknown) = plan_from_store(store, request, &parsed, listener)?;
    let (context, layer, ignored) = match &request.files {
        Files::None => (String::new(), oci::LayerIndex::default(), Amount::default()),
        Files::Fetched(c) => (c.label().to_owned(), c.layer()?, Amount::default()),
        Files::Dir(dir) => {
            let matcher = matcher(&request.input.ignore)?;
            let kept = context::survey(dir, matcher.as_ref(), cancel)?;
            let (all, left) = match matcher {
                Some(_) => (amount(context::survey(dir, None, cancel)?.entries()), amount(kept.entries())),
                None => Default::default(),
            };
            let ignored = Amount { files: all.files - left.files, bytes: all.bytes - left.bytes };
            (dir.display().to_string(), kept, ignored)
        }
    };
    Ok(list(&plan, context, &layer, ignored, unknown))
}

fn list(
    plan: &Plan,
    context: String,
    layer: &oci::LayerIndex,
    ignored: Amount,
    unknown_bases: Vec<String>,
) -> ContextList {
    let tree = tree_of(layer);
    let mut by_path: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    let mut instructions = Vec::new();
    for stage in plan.stages.iter().filter(|s| s.needed) {
        for step in &stage.steps {
            let Some((mut paths, missing)) = taken(step, &tree) else { continue };
            paths.sort();
            paths.dedup();
            let line = step.lines.map_or(0, |l| l.0);
            let takes = amount(paths.iter().filter_map(|p| layer.get(p)));
            for p in paths {
                by_path.entry(p).or_default().push(line);
            }
            let (stage, text) = (stage.name.clone(), step.title.clone());
            instructions.push(Taker { line, stage, text, takes, missing });
        }
    }
    instructions.sort_by_key(|t| t.line);
    let mut not_taken = Amount::default();
    let mut files = Vec::new();
    for e in layer.entries().iter().filter(|e| !e.path.is_empty()) {
        let (kind, size) = kind_of(&e.kind);
        let taken_by = by_path.remove(&e.path).unwrap_or_default();
        if kind != "directory" && taken_by.is_empty() {
            not_taken.files += 1;
            not_taken.bytes += size;
        }
        files.push(Listed { path: String::from_utf8_lossy(&e.path).into_owned(), kind, size, taken_by });
    }
    ContextList { context, files, instructions, ignored, not_taken, unknown_bases }
}
