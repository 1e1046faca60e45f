//! What is known of a build: the Dockerfile, and for every step its layer, the tree below it, its time, and what it read.
//!
//! Times and reads come from the records of the store: those of the last run of a step, also if the build that is looked at found it in
//! the cache.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use build::observe::{Fact, Observation, decode};
use build::plan::{Copy, CopySource, Run, StepKind};
use build::{Outcome, StageReport};
use dockerfile::{Command, Dockerfile, Instruction, Statement};
use oci::index::{join, split};
use oci::tree::{Id, Node};
use oci::types::ImageConfig;
use oci::{Content, Kind, LayerIndex, Tree};
use store::Store;

use crate::shell::{Script, script};

/// Why nothing can be advised.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The store is damaged.
    #[error("the store cannot be read")]
    Store(#[from] store::StoreError),
    /// Layers do not fit on each other.
    #[error("the layers cannot be merged")]
    Tree(#[from] oci::tree::TreeError),
}

/// A build, looked at.
#[derive(Clone)]
pub struct Facts {
    /// Name of the Dockerfile.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The text, parsed.
    pub file: Dockerfile,
    /// The stages that were built and have steps, in order.
    pub stages: Vec<Stage>,
    /// The image's files.
    pub last: Arc<Tree>,
    /// The image's config.
    pub config: ImageConfig,
    /// The bytes of files.
    pub content: Arc<dyn Content>,
    /// Less than this many bytes are not worth a change.
    pub min_bytes: u64,
    /// Steps that take fewer seconds are not worth a change that saves only time.
    pub min_seconds: f64,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("name", &self.name)
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

/// A stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Statement of its FROM.
    pub from: usize,
    /// Its layers are in the image.
    pub shipped: bool,
    /// What it starts from.
    pub base: Arc<Tree>,
    /// Number of layers that it starts from.
    pub base_layers: u32,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step that made a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its statement in the file; none for triggers of the base image.
    pub statement: Option<usize>,
    /// Number of its layer in the trees of its stage.
    pub number: u32,
    /// Its layer.
    pub layer: Arc<LayerIndex>,
    /// What lies below.
    pub before: Arc<Tree>,
    /// How long it ran.
    pub seconds: f64,
    /// What it learned of what lies below; none where that is not known. Only of a RUN.
    pub reads: Option<Vec<Observation>>,
    /// What it is.
    pub what: What,
}

/// What a step is.
#[derive(Debug, Clone)]
pub enum What {
    /// A RUN.
    Run(Run),
    /// A COPY or ADD.
    Copy(Copy),
    /// A WORKDIR.
    Workdir,
}

impl Facts {
    /// Looks at a build that was just made.
    pub fn of_build(
        store: &Store,
        request: &build::Request,
        outcome: &Outcome,
        (min_bytes, min_seconds): (u64, f64),
    ) -> Result<Facts, FactsError> {
        let file = dockerfile::parse(&request.input.text).file;
        let mut stages = Vec::new();
        for report in &outcome.stages {
            if let Some(stage) = stage_of(store, &file, report)? {
                stages.push(stage);
            }
        }
        let layers: Vec<Arc<LayerIndex>> =
            outcome.image.layers.iter().map(|(id, _)| store.layer(id)).collect::<Result<_, _>>()?;
        Ok(Facts {
            name: request.input.name.clone(),
            text: request.input.text.clone(),
            file,
            stages,
            last: Arc::new(Tree::from_layers(layers.iter().map(|l| &**l))?),
            config: outcome.image.config.clone(),
            content: Arc::new(store.clone()),
            min_bytes,
            min_seconds,
        })
    }

    /// A statement's part of the text.
    pub fn source(&self, s: &Statement) -> &str {
        self.text.get(s.span.start..s.span.end).unwrap_or_default()
    }

    /// The statement of a step.
    pub fn statement(&self, step: &Step) -> Option<&Statement> {
        self.file.statements.get(step.statement?)
    }

    /// The commands of a RUN in shell form without heredocs.
    pub fn script(&self, step: &Step) -> Option<Script> {
        let s = self.statement(step)?;
        match &s.instruction {
            Instruction::Run(run) if matches!(run.command, Command::Shell(_)) && run.heredocs.is_empty() => {
                Some(script(&self.text, s.args_span.start..s.args_span.end, self.file.directives.escape))
            }
            _ => None,
        }
    }

    /// The escape character.
    pub fn escape(&self) -> char {
        self.file.directives.escape
    }

    /// Bytes of a step's files below a path that are in the image in the end.
    pub fn live_bytes(&self, stage: &Stage, step: &Step, path: &[u8]) -> u64 {
        let files = step.files_below(path);
        let live = |p: &[u8]| {
            !stage.shipped || self.last.lookup(p).is_some_and(|id| self.last.inode(id).layer == step.number)
        };
        files.filter(|(p, _)| live(p)).map(|(_, size)| size).sum()
    }
}

fn stage_of(store: &Store, file: &Dockerfile, report: &StageReport) -> Result<Option<Stage>, FactsError> {
    let at = |line: u32| file.statements.iter().position(|s| s.first_line == line);
    let first = report.steps.iter().find_map(|s| at(s.lines?.0));
    let Some(first) = first else { return Ok(None) };
    let is_from = |s: &Statement| matches!(s.instruction, Instruction::From(_));
    let Some(from) = file.statements[..=first].iter().rposition(is_from) else { return Ok(None) };
    let mut tree = Tree::new();
    for id in &report.base {
        tree.apply(&*store.layer(id)?)?;
    }
    let base = Arc::new(tree.clone());
    let base_layers = base.layers();
    let mut before = base.clone();
    let mut steps = Vec::new();
    for s in &report.steps {
        let layer = store.layer(&s.layer)?;
        let what = match &s.kind {
            StepKind::Run(r) => What::Run(r.clone()),
            StepKind::Copy(c) => What::Copy(c.clone()),
            StepKind::Workdir(_) => What::Workdir,
        };
        let mut reads = None;
        let mut seconds = 0.0;
        if let Some(r) = store.record_by_parent(&s.key, &s.parent)? {
            if matches!(what, What::Run(_)) {
                // A list that may lack something says nothing of what was not read.
                let recorded = store.record_observations(r.id)?.and_then(|b| decode(&b));
                let whole = recorded.filter(|r| r.partial.is_empty());
                reads = whole.and_then(|r| r.views.into_iter().next()).map(|v| v.facts);
            }
            seconds = r.duration_ms as f64 / 1000.0;
        }
        let number = before.layers();
        tree.apply(&layer)?;
        let statement = s.lines.and_then(|l| at(l.0));
        steps.push(Step { statement, number, layer, before: before.clone(), seconds, reads, what });
        before = Arc::new(tree.clone());
    }
    Ok(Some(Stage { from, shipped: report.shipped, base, base_layers, steps }))
}

impl Step {
    /// It is a RUN.
    pub fn run(&self) -> Option<&Run> {
        match &self.what {
            What::Run(r) => Some(r),
            _ => None,
        }
    }

    /// It is a COPY or ADD.
    pub fn copy(&self) -> Option<&Copy> {
        match &self.what {
            What::Copy(c) => Some(c),
            _ => None,
        }
    }

    /// Files of its layer at and below a path, with their sizes.
    pub fn files_below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a [u8], u64)> + 'a {
        self.layer.entries().iter().filter_map(move |e| match e.kind {
            Kind::File { size, .. } if is_below(&e.path, path) => Some((e.path.as_slice(), size)),
            _ => None,
        })
    }

    /// The tree with its layer.
    pub fn after(&self) -> Option<Tree> {
        let mut tree = Tree::clone(&self.before);
        tree.apply(&self.layer).ok()?;
        Some(tree)
    }

    /// Bytes of lower layers that its layer hides or repeats, by layer.
    pub fn hides(&self) -> BTreeMap<u32, Hidden> {
        let mut out: BTreeMap<u32, Hidden> = BTreeMap::new();
        let mut seen: HashSet<Id> = HashSet::new();
        let tree = &self.before;
        for e in self.layer.entries() {
            match &e.kind {
                Kind::Whiteout => {
                    if let Some(id) = tree.lookup(&e.path) {
                        hide(tree, id, &mut seen, &mut out);
                    }
                }
                Kind::Directory { opaque } => {
                    if let Some(id) = tree.lookup(&e.path).filter(|_| *opaque) {
                        for (_, child) in tree.children(id) {
                            hide(tree, child, &mut seen, &mut out);
                        }
                    }
                }
                kind => {
                    let Some(id) = tree.lookup(&e.path) else { continue };
                    let inode = tree.inode(id);
                    match (&inode.node, kind) {
                        (Node::File { size, digest }, Kind::File { digest: new, .. }) if digest == new => {
                            let h = out.entry(inode.layer).or_default();
                            if seen.insert(id) {
                                h.repeated += size;
                            }
                        }
                        _ => hide(tree, id, &mut seen, &mut out),
                    }
                }
            }
        }
        out
    }

    /// What it writes: paths of its layer that are more than a directory that was there already and stays as it was.
    pub fn writes(&self) -> BTreeSet<Vec<u8>> {
        let entries = self.layer.entries().iter().filter(|e| {
            let Kind::Directory { opaque: false } = e.kind else { return true };
            let Some(id) = self.before.lookup(&e.path) else { return true };
            let old = self.before.inode(id);
            let same = (old.attrs.mode, old.attrs.uid, old.attrs.gid, &old.attrs.xattrs)
                == (e.attrs.mode, e.attrs.uid, e.attrs.gid, &e.attrs.xattrs);
            !(old.is_dir() && same)
        });
        entries.map(|e| e.path.clone()).collect()
    }

    /// Whether it read something among these paths, or below one, or the names in a directory of one. True if nobody knows.
    pub fn read_any(&self, paths: &BTreeSet<Vec<u8>>) -> bool {
        if self.run().is_none() {
            // What a copy asks of the tree is whether its destination is there.
            let copy = self.copy().map(|c| c.dest.trim_matches('/').as_bytes().to_vec());
            return copy.is_some_and(|d| paths.iter().any(|p| is_below(&d, p)));
        }
        let Some(reads) = &self.reads else { return true };
        let parents: BTreeSet<&[u8]> = paths.iter().map(|p| split(p).0).collect();
        reads.iter().any(|o| match &o.fact {
            Fact::SameFile(other) if ancestors(other).any(|a| paths.contains(a)) => true,
            Fact::Listing(_) => parents.contains(o.path.as_slice()) || paths.contains(&o.path),
            _ => ancestors(&o.path).any(|a| paths.contains(a)),
        })
    }

    /// Whether it and a later step could change places.
    pub fn independent_of(&self, later: &Step) -> bool {
        self.writes_apart_from(later) && !later.read_any(&self.writes())
    }

    /// Whether what a later step writes has nothing to do with this one.
    pub fn writes_apart_from(&self, later: &Step) -> bool {
        let (mine, theirs) = (self.writes(), later.writes());
        let clash = |a: &BTreeSet<Vec<u8>>, b: &BTreeSet<Vec<u8>>| {
            a.iter().any(|p| ancestors(p).any(|x| b.contains(x)))
        };
        !(self.read_any(&theirs) || clash(&mine, &theirs) || clash(&theirs, &mine))
    }
}

/// What a step hides of one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Bytes of files that it deletes or overwrites.
    pub gone: u64,
    /// Bytes of files that it has again, with other attributes.
    pub repeated: u64,
}

fn hide(tree: &Tree, id: Id, seen: &mut HashSet<Id>, out: &mut BTreeMap<u32, Hidden>) {
    let inode = tree.inode(id);
    match &inode.node {
        // A file with more names may live on under another one.
        Node::File { size, .. } if inode.nlink == 1 && seen.insert(id) => {
            out.entry(inode.layer).or_default().gone += size;
        }
        _ => tree.children(id).for_each(|(_, child)| hide(tree, child, seen, out)),
    }
}

/// Whether a path is another one or lies below it. Everything lies below the empty path.
pub fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A path and the directories above it, up to but not including the root.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = Some(path).filter(|p| !p.is_empty());
    std::iter::from_fn(move || {
        let now = next?;
        next = Some(split(now).0).filter(|p| !p.is_empty());
        Some(now)
    })
}

/// The path in the context (or stage) that a file of a COPY's layer came from, where that is plain to see.
pub fn source_of(copy: &Copy, path: &[u8]) -> Option<String> {
    let dest = copy.dest.trim_matches('/').as_bytes();
    if copy.parents || !is_below(path, dest) {
        return None;
    }
    let rest = path.strip_prefix(dest)?;
    let rest = String::from_utf8(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()).ok()?;
    let sources: Vec<&str> = copy
        .sources
        .iter()
        .map(|s| match s {
            CopySource::Path(p) if !p.contains(['*', '?', '[']) => {
                Some(p.trim_start_matches("./").trim_matches('/')).map(|p| if p == "." { "" } else { p })
            }
            _ => None,
        })
        .collect::<Option<_>>()?;
    for s in &sources {
        let name = s.rsplit('/').next().unwrap_or(s);
        if !s.is_empty() && (rest == name || rest.is_empty()) {
            return Some((*s).to_owned());
        }
    }
    match sources[..] {
        [only] => Some(join(only.as_bytes(), rest.as_bytes())).and_then(|p| String::from_utf8(p).ok()),
        _ => None,
    }
}
