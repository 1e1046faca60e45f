//! One world: a context, a Dockerfile, two stores, and a sequence of edits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use build::events::{HitRule, Recorder};
use build::{Event, Options, Request, input};
use oci::{Digest, Entry, Time};
use store::Store;

use crate::edits;
use crate::script::Script;
use crate::{Counts, Rng};

/// A static busybox.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

struct World {
    root: tempfile::TempDir,
    /// What the last traced build did.
    log: std::cell::RefCell<Vec<String>>,
    script: Script,
    traced: Store,
    uncached: Store,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Runs a world; an error is a divergence, or a build that only one of the two could do.
pub(crate) fn run(seed: u64, edits: usize, counts: &Counts) -> Result<(), String> {
    let mut r = Rng::new(seed);
    let root = tempfile::tempdir().map_err(text)?;
    let context = root.path().join("context");
    std::fs::create_dir_all(context.join("base/bin")).map_err(text)?;
    std::fs::copy(BUSYBOX, context.join("base/bin/busybox")).map_err(text)?;
    // The shell of the first RUN, before the other names exist.
    std::os::unix::fs::symlink("busybox", context.join("base/bin/sh")).map_err(text)?;
    edits::populate(&context, &mut r).map_err(text)?;
    let mut world = World {
        script: Script::new(&mut r),
        traced: Store::open(&root.path().join("traced")).map_err(text)?,
        uncached: Store::open(&root.path().join("uncached")).map_err(text)?,
        log: std::cell::RefCell::default(),
        root,
    };
    let mut history = vec!["first build".to_owned()];
    world.compare(counts).map_err(|e| world.story(&history, &e))?;
    for _ in 0..edits {
        let mut done = Vec::new();
        for _ in 0..1 + r.below(2) {
            done.push(if r.chance(25) {
                world.script.edit(&mut r)
            } else {
                edits::edit(&context, &mut r).map_err(text)?
            });
        }
        history.push(done.join(", "));
        counts.edits.fetch_add(1, Ordering::Relaxed);
        world.compare(counts).map_err(|e| world.story(&history, &e))?;
    }
    Ok(())
}

impl World {
    fn story(&self, history: &[String], e: &str) -> String {
        let log = self.log.borrow().join("\n  ");
        format!(
            "{e}\nedits:\n  {}\nDockerfile:\n{}\nbuild:\n  {log}",
            history.join("\n  "),
            self.script.text()
        )
    }

    fn compare(&self, counts: &Counts) -> Result<(), String> {
        let traced = self.build(&self.traced, false, Some(counts));
        let plain = self.build(&self.uncached, true, None);
        match (traced, plain) {
            (Ok(t), Ok(p)) => same(&t, &p),
            // Sources may be gone: then both fail, for the same reason.
            (Err(a), Err(b)) if a == b => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            (a, b) => Err(format!("traced: {:?}\nuncached: {:?}", a.map(|_| "built"), b.map(|_| "built"))),
        }
    }

    /// Builds; gives the entries of the image without times, and the digests of what it is configured as.
    fn build(
        &self,
        store: &Store,
        no_cache: bool,
        counts: Option<&Counts>,
    ) -> Result<BTreeMap<Vec<u8>, Entry>, String> {
        let mut options = Options { jobs: 2, ..Options::default() };
        options.choices.no_cache = no_cache;
        let input = input::Input { name: "Dockerfile".into(), text: self.script.text(), ignore: Vec::new() };
        let request = Request {
            input,
            files: build::input::Files::Dir(self.root.path().join("context")),
            ids: build::Ids::default(),
            options,
        };
        let recorder = Recorder::default();
        let cancel = Arc::new(AtomicBool::new(false));
        let built = build::build(store, None, &request, &recorder, cancel);
        let outcome = built.map_err(|e| {
            let mut out = e.to_string();
            let mut at: &dyn std::error::Error = &e;
            while let Some(s) = at.source() {
                out = s.to_string();
                at = s;
            }
            out
        })?;
        store.flush().map_err(text)?;
        if let Some(counts) = counts {
            *self.log.borrow_mut() = recorder.events().iter().map(|e| format!("{e:?}")).collect();
            for e in recorder.events() {
                let count = match e {
                    Event::Cached { rule: HitRule::SameParent, .. } => &counts.same_parent,
                    Event::Cached { rule: HitRule::SameObservations, .. } => &counts.observed,
                    Event::Done { layer: Some(_), .. } => &counts.ran,
                    _ => continue,
                };
                count.fetch_add(1, Ordering::Relaxed);
                counts.steps.fetch_add(1, Ordering::Relaxed);
            }
        }
        let layers: Vec<Digest> = outcome.image.layers.iter().map(|(l, _)| *l).collect();
        let tree = build::export::tree(store, &layers).map_err(text)?;
        let mut entries = BTreeMap::new();
        for mut e in tree.flatten() {
            e.attrs.mtime = Time::default();
            entries.insert(e.path.clone(), e);
        }
        Ok(entries)
    }
}

fn same(a: &BTreeMap<Vec<u8>, Entry>, b: &BTreeMap<Vec<u8>, Entry>) -> Result<(), String> {
    for (path, e) in a {
        if b.get(path) != Some(e) {
            return Err(format!("{}\n  traced:   {e:?}\n  uncached: {:?}", show(path), b.get(path)));
        }
    }
    match b.keys().find(|p| !a.contains_key(*p)) {
        Some(p) => Err(format!("{} is only in the uncached image: {:?}", show(p), b[p])),
        None => Ok(()),
    }
}

fn show(path: &[u8]) -> String {
    Path::new("/").join(String::from_utf8_lossy(path).as_ref()).display().to_string()
}
