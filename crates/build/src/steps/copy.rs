//! COPY and ADD: the digest of what is selected is the key, the result is computed on trees.

use std::sync::Arc;

use oci::index::{Attrs, EncodedLayer, show};
use oci::tree::{Id, Node};
use oci::{Content, Digest, Entry, Hasher, Kind, LayerIndex, Time, Tree};
use serde_json::{Map, json};

use super::workdir::owner;
use crate::archive;
use crate::context::Context;
use crate::copy::{CopyError, Source, Spec, Work, select};
use crate::error::BuildError;
use crate::key::{Key, chain, key};
use crate::plan::{Copy, CopySource, Start, Step};
use crate::solve::{At, Ran, Solver};
use crate::state::State;

/// A source with its tree.
struct Opened<'p> {
    tree: Arc<Tree>,
    path: &'p str,
    /// Where contents are that the store may not hold yet.
    context: Option<Arc<Context>>,
    /// Local files are unpacked by ADD, downloads only on request.
    local: bool,
    wildcards: bool,
}

pub(crate) struct PreparedCopy<'p> {
    copy: &'p Copy,
    opened: Vec<Opened<'p>>,
    /// Objects made for heredocs and downloads; they go with the step's own.
    batch: std::sync::Mutex<Option<store::Batch>>,
    pub(super) key: Key,
    /// What it downloads: its key, and the commits of repositories, which may move while the files that are taken stay.
    pub(super) downloaded: Option<Digest>,
}

/// A tree with one file in its root.
fn one_file(name: &str, mode: u32, mtime: Time, digest: Digest, size: u64) -> Result<Tree, BuildError> {
    let attrs = Attrs { mode, mtime, ..Attrs::default() };
    let entry = Entry { path: name.as_bytes().to_vec(), kind: Kind::File { size, digest }, attrs };
    let layer = LayerIndex::from_entries(vec![entry]).map_err(CopyError::Layer)?;
    Ok(Tree::from_layers([&layer]).unwrap_or_default())
}

impl<'p> PreparedCopy<'p> {
    pub(super) fn new(
        solver: &Solver<'_>,
        step: &Step,
        copy: &'p Copy,
    ) -> Result<PreparedCopy<'p>, BuildError> {
        let line = step.lines.map(|l| l.0);
        let batch = solver.store.batch();
        let now = solver.plan.epoch.map_or_else(Time::now, Time::from_secs);
        let from: Option<(Arc<Tree>, Option<Arc<Context>>)> = match copy.from {
            None => None,
            Some(stage) => Some(match &solver.plan.stages[stage].start {
                Start::Local(name) if solver.plan.stages[stage].steps.is_empty() => {
                    match solver.locals.get(name) {
                        Some(c) => (c.tree.clone(), Some(c.clone())),
                        None => (Arc::new(Tree::new()), None),
                    }
                }
                _ => (solver.wait_for(stage)?.state.tree(solver.store)?, None),
            }),
        };
        let mut opened = Vec::new();
        let mut commits = Vec::new();
        for source in &copy.sources {
            opened.push(match source {
                CopySource::Path(path) => {
                    let (tree, context) = match &from {
                        Some((t, c)) => (t.clone(), c.clone()),
                        None => match solver.context.get() {
                            Some(c) => (c.tree.clone(), Some(c.clone())),
                            None => (Arc::new(Tree::new()), None),
                        },
                    };
                    Opened { tree, path, context, local: true, wildcards: true }
                }
                CopySource::Inline { name, content } => {
                    let digest = batch.add_bytes(content.as_bytes())?;
                    let tree = one_file(name, 0o644, now, digest, content.len() as u64)?;
                    Opened { tree: Arc::new(tree), path: name, context: None, local: false, wildcards: false }
                }
                CopySource::Http { url, checksum } => {
                    let fetcher = solver.fetcher();
                    let file = match solver.dry {
                        true => fetcher.http_before(url)?,
                        false => fetcher.http(url, checksum.as_ref(), crate::fetch::MAX_FILE, &|_, _| {})?,
                    };
                    batch.reuse(&file.digest)?;
                    let tree = one_file(&file.name, 0o600, file.modified, file.digest, file.size)?;
                    Opened { tree: Arc::new(tree), path: "*", context: None, local: false, wildcards: true }
                }
                CopySource::Git(git) => {
                    let checkout = solver.fetcher().git(git, git.keep_git_dir.unwrap_or(false))?;
                    for (digest, _) in checkout.layer.objects() {
                        batch.reuse(&digest)?;
                    }
                    let tree = Tree::from_layers([&*checkout.layer]).unwrap_or_default();
                    commits.push(checkout.commit);
                    Opened { tree: Arc::new(tree), path: "/", context: None, local: false, wildcards: false }
                }
            });
        }
        let mut h = Hasher::new();
        for o in &opened {
            let spec = spec_of(copy, o, None, now);
            let selection = select(&Source { tree: &o.tree, path: o.path }, &spec)
                .map_err(|e| explain_missing(solver, copy, o, e, line))?;
            selection.hash_into(&o.tree, &mut h)?;
            h.update(&[u8::from(spec.unpack)]);
        }
        let mut inputs = Map::new();
        inputs.insert("step".into(), json!("copy"));
        inputs.insert("sources".into(), json!(h.finish().hex()));
        inputs.insert("dest".into(), json!(copy.dest));
        inputs.insert("chown".into(), json!(copy.chown));
        inputs.insert("chmod".into(), json!(copy.chmod));
        inputs.insert("exclude".into(), json!(copy.exclude));
        inputs.insert("parents".into(), json!(copy.parents));
        inputs.insert("link".into(), json!(copy.link));
        // Times are in no key, unless they are asked for. The epoch is that of heredocs and of directories that are made.
        if let Some(e) = solver.plan.epoch {
            inputs.insert("epoch".into(), json!(e));
            if solver.options.reproducible {
                inputs.insert("times".into(), json!("epoch"));
            }
        }
        if copy.sources.iter().any(|s| matches!(s, CopySource::Git(g) if g.commit_times)) {
            inputs.insert("times".into(), json!("commit"));
        }
        let key = key(inputs);
        let downloads =
            copy.sources.iter().any(|s| matches!(s, CopySource::Http { .. } | CopySource::Git(_)));
        let downloaded = downloads.then(|| {
            commits.iter().fold(key.digest, |below, commit| chain(&below, &Digest::of(commit.as_bytes())))
        });
        Ok(PreparedCopy { copy, opened, batch: std::sync::Mutex::new(Some(batch)), key, downloaded })
    }

    pub(super) fn execute(&self, solver: &Solver<'_>, at: At<'_>, parent: &State) -> Result<Ran, BuildError> {
        let tree = parent.tree(solver.store)?;
        let now = solver.plan.epoch.map_or_else(Time::now, Time::from_secs);
        // With --chmod BuildKit ignores --link.
        let linked = self.copy.link && self.copy.chmod.is_none();
        let image = (!parent.layers().is_empty() && !linked).then_some(&*tree);
        let chown = owner(solver, self.copy.chown.as_deref().unwrap_or(""), image)?;
        let dest = if linked { Tree::new() } else { Tree::clone(&tree) };
        drop(tree);
        let taken = self.batch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let batch = taken.unwrap_or_else(|| solver.store.batch());
        let specs: Vec<Spec> = self.opened.iter().map(|o| spec_of(self.copy, o, chown, now)).collect();
        let mut layer: Option<EncodedLayer> = None;
        let none = Spec::default();
        let mut work = Work::new(dest, &none);
        for (n, (o, spec)) in self.opened.iter().zip(&specs).enumerate() {
            work = work.with_spec(spec);
            let source = Source { tree: &o.tree, path: o.path };
            let selection = select(&source, spec)?;
            let mut unpack = |tree: &Tree, id: Id, name: &[u8]| unpack(solver, o, tree, id, name, &batch);
            if n + 1 == specs.len() {
                layer = Some(work.finish_with(&source, &selection, &mut unpack)?);
                break;
            }
            work.copy(&source, &selection, &mut unpack)?;
        }
        let layer = layer.unwrap_or_else(|| (&LayerIndex::default()).into());
        // All sources that are in a context are in the same one.
        if !solver.dry
            && let Some(c) = self.opened.iter().find_map(|o| o.context.as_ref())
        {
            // Most files are those that the last build had.
            if let Some(before) = solver.layer_before(at) {
                batch.reuse_layer(&before)?;
            }
            c.provide(&batch, &layer)?;
        }
        Ok(Ran { layer, batch, log: Vec::new(), observations: None })
    }
}

fn spec_of(copy: &Copy, o: &Opened<'_>, chown: Option<(u32, u32)>, now: Time) -> Spec {
    Spec {
        dest: copy.dest.clone(),
        chown,
        chmod: copy.chmod.clone(),
        exclude: copy.exclude.clone(),
        parents: copy.parents && o.local,
        unpack: match copy.unpack {
            Some(u) => u,
            None => copy.add && o.local,
        },
        wildcards: o.wildcards,
        now,
    }
}

/// A missing source of the context may be there and ignored.
fn explain_missing(
    solver: &Solver<'_>,
    copy: &Copy,
    o: &Opened<'_>,
    e: CopyError,
    line: Option<u32>,
) -> BuildError {
    let CopyError::NotFound(path) = &e else { return e.into() };
    let (message, help) = match (&o.context, copy.from) {
        (Some(c), None) if c.hides(path) => (
            format!("{path:?}: not found: it is in the build context, but .dockerignore excludes it"),
            Some(format!("add a line !{} to .dockerignore", path.trim_start_matches('/'))),
        ),
        (Some(c), None) => (
            format!("{path:?}: not found in the build context"),
            Some(format!("paths are relative to the context, which is {}", c.label())),
        ),
        (None, None) if o.local => (format!("{path:?}: not found: there is no build context"), None),
        (_, Some(stage)) => (format!("{path:?}: not found in {}", solver.plan.stages[stage].name), None),
        _ => (format!("{path:?}: not found"), None),
    };
    BuildError::Line { line, message, help }
}

/// Unpacks a file, if it is an archive.
fn unpack(
    solver: &Solver<'_>,
    o: &Opened<'_>,
    tree: &Tree,
    id: Id,
    name: &[u8],
    batch: &store::Batch,
) -> Result<Option<Vec<Entry>>, CopyError> {
    let Node::File { digest, size } = tree.inode(id).node else { return Ok(None) };
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| CopyError::Archive { name: show(name), source };
    if let Some(c) = &o.context {
        c.provide_one(batch, &digest).map_err(|e| failed(Box::new(e)))?;
    }
    let open = || solver.store.open(&digest).map(|at| archive::Reader::new(at, size));
    if !archive::is_tar(open().map_err(|e| failed(Box::new(e)))?) {
        return Ok(None);
    }
    let reader = open().map_err(|e| failed(Box::new(e)))?;
    let decoder = oci::compress::Decoder::new(reader).map_err(|e| failed(Box::new(e)))?;
    archive::unpack(decoder, &mut batch.sink()).map(Some).map_err(failed)
}
