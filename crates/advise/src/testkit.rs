//! Builds that never were: a Dockerfile, and what its steps made and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use build::observe::{Fact, Observation};
use build::plan::{Copy, CopySource, Run};
use dockerfile::Instruction;
use oci::content::MemoryContent;
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};

use crate::facts::{Facts, Stage, Step, What};
use crate::{Advice, edit};

/// A file of this size; the name decides its content.
pub(crate) fn file(path: &str, size: u64) -> Entry {
    let kind = Kind::File { size, digest: Digest::of(path.as_bytes()) };
    Entry { path: path.into(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
}

pub(crate) fn mode(mut e: Entry, mode: u32) -> Entry {
    e.attrs.mode = mode;
    e
}

pub(crate) fn owner(mut e: Entry, uid: u32, gid: u32) -> Entry {
    (e.attrs.uid, e.attrs.gid) = (uid, gid);
    e
}

pub(crate) fn dir(path: &str) -> Entry {
    let kind = Kind::Directory { opaque: false };
    Entry { path: path.into(), kind, attrs: Attrs { mode: 0o755, ..Attrs::default() } }
}

pub(crate) fn gone(path: &str) -> Entry {
    Entry::whiteout(path.into())
}

/// Something that a step read; a slash at the end: the names in a directory.
pub(crate) fn read(path: &str) -> Observation {
    match path.strip_suffix('/') {
        Some(dir) => Observation { path: dir.into(), fact: Fact::Listing([0; 16]) },
        None => Observation { path: path.into(), fact: Fact::Content([0; 16]) },
    }
}

/// A build in the making.
pub(crate) struct Scene {
    text: String,
    base: Vec<Entry>,
    steps: BTreeMap<u32, (Vec<Entry>, Vec<&'static str>)>,
    pub(crate) content: MemoryContent,
    cmd: Vec<String>,
}

impl Scene {
    pub(crate) fn new(text: &str) -> Scene {
        Scene {
            text: text.into(),
            base: Vec::new(),
            steps: BTreeMap::new(),
            content: MemoryContent::default(),
            cmd: Vec::new(),
        }
    }

    /// What the base image holds.
    pub(crate) fn base(mut self, entries: Vec<Entry>) -> Scene {
        self.base = entries;
        self
    }

    /// What the instruction on a line made and read; each took a second.
    pub(crate) fn step(mut self, line: u32, made: Vec<Entry>, reads: &[&'static str]) -> Scene {
        self.steps.insert(line, (made, reads.to_vec()));
        self
    }

    /// The command of the image.
    pub(crate) fn cmd(mut self, cmd: &[&str]) -> Scene {
        self.cmd = cmd.iter().map(|c| (*c).to_owned()).collect();
        self
    }

    /// The facts; the last stage is shipped.
    pub(crate) fn facts(self) -> Facts {
        let file = dockerfile::parse(&self.text).file;
        let mut stages: Vec<Stage> = Vec::new();
        let mut tree = Tree::new();
        for (n, s) in file.statements.iter().enumerate() {
            let what = match &s.instruction {
                Instruction::From(_) => {
                    stages.iter_mut().for_each(|s| s.shipped = false);
                    tree =
                        Tree::from_layers([&LayerIndex::from_entries(self.base.clone()).unwrap()]).unwrap();
                    let base = Arc::new(tree.clone());
                    stages.push(Stage { from: n, shipped: true, base, base_layers: 1, steps: Vec::new() });
                    continue;
                }
                Instruction::Run(_) => What::Run(Run {
                    args: Vec::new(),
                    env: vec![("HOME".into(), "/root".into())],
                    proxy: Vec::new(),
                    cwd: "/".into(),
                    user: String::new(),
                    network: None,
                    security: None,
                    mounts: Vec::new(),
                    script: None,
                    always: false,
                    chain: false,
                }),
                Instruction::Copy(c) => What::Copy(Copy {
                    add: false,
                    sources: c.sources.iter().map(|s| CopySource::Path(s.clone())).collect(),
                    dest: c.dest.clone(),
                    chown: c.chown.clone(),
                    chmod: None,
                    exclude: Vec::new(),
                    parents: false,
                    link: false,
                    from: c.from.as_ref().map(|_| 0),
                    unpack: None,
                }),
                Instruction::Workdir(_) => What::Workdir,
                _ => continue,
            };
            let (made, reads) = self.steps.get(&s.first_line).cloned().unwrap_or_default();
            let layer = Arc::new(LayerIndex::from_entries(made).unwrap());
            let before = Arc::new(tree.clone());
            tree.apply(&layer).unwrap();
            let reads = matches!(what, What::Run(_)).then(|| reads.into_iter().map(read).collect());
            let number = before.layers();
            let step = Step { statement: Some(n), number, layer, before, seconds: 1.0, reads, what };
            stages.last_mut().unwrap().steps.push(step);
        }
        let mut config = oci::types::ImageConfig::default();
        config.config.cmd = Some(self.cmd);
        Facts {
            name: "Dockerfile".into(),
            text: self.text,
            file,
            stages,
            last: Arc::new(tree),
            config,
            content: Arc::new(self.content),
            min_bytes: 100,
            min_seconds: 1.0,
        }
    }
}

/// The Dockerfile after one piece of advice.
#[track_caller]
pub(crate) fn after(facts: &Facts, advice: &Advice) -> String {
    let text = edit::apply(&facts.text, &advice.edits.iter().collect::<Vec<_>>()).unwrap();
    let errors: Vec<_> = dockerfile::parse(&text).diagnostics.into_iter().filter(|d| d.is_error()).collect();
    assert!(errors.is_empty(), "{text}\n{errors:?}");
    text
}
