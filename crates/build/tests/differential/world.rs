//! One world: a context, a Dockerfile, two stores, and a sequence of edits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use build::events::{HitRule, Recorder};
use build::{Event, NamedContext, Options, Request, input};
use oci::{Digest, Entry, Time};
use store::Store;

use crate::base::{self, Tools, Traits};
use crate::edits;
use crate::script::Script;
use crate::weaken::{Weakness, weaken};
use crate::{Counts, Rng};

/// Two stores that worlds are built in, one after the other: what one leaves may be found by the next.
pub(crate) struct Stores {
    traced: Store,
    uncached: Store,
    /// The newest record that was looked at.
    weakened: i64,
    dir: tempfile::TempDir,
}

impl Stores {
    pub(crate) fn new() -> Result<Stores, String> {
        // In memory where that is possible: nothing here has to survive, and no build is to wait for a disk.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.map_err(text)?;
        Ok(Stores {
            traced: Store::open(&dir.path().join("traced")).map_err(text)?,
            uncached: Store::open(&dir.path().join("uncached")).map_err(text)?,
            weakened: 0,
            dir,
        })
    }
}

struct World<'s> {
    root: tempfile::TempDir,
    /// What the last traced build did.
    log: Vec<String>,
    script: Script,
    traits: Traits,
    stores: &'s mut Stores,
    weakness: Option<Weakness>,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Runs a world; an error is a divergence, or a build that only one of the two could do.
pub(crate) fn run(
    seed: u64,
    edits: usize,
    tools: &Tools,
    stores: &mut Stores,
    weakness: Option<Weakness>,
    counts: &Counts,
) -> Result<(), String> {
    let mut r = Rng::new(seed);
    let root = tempfile::tempdir_in(stores.dir.path()).map_err(text)?;
    let context = root.path().join("context");
    let files = context.join("base");
    let traits = Traits::random(&mut r, tools, weakness);
    base::populate(&files, &traits, tools).map_err(text)?;
    edits::populate(&context, &tools.program, &mut r).map_err(text)?;
    let script = Script::new(&mut r, &traits);
    let mut world = World { script, traits, stores, weakness, log: Vec::new(), root };
    let mut history = vec!["first build".to_owned()];
    world.compare(counts).map_err(|e| world.story(&history, &e))?;
    let mut refused = 0;
    for _ in 0..edits {
        let before = world.script.clone();
        let mut done = Vec::new();
        for _ in 0..1 + r.below(2) {
            done.push(match r.below(100) {
                0..25 => world.script.edit(&mut r),
                25..31 => base::edit(&files, &world.traits, tools, &mut r).map_err(text)?,
                31..45 if world.traits.dynamic => {
                    base::edit(&files, &world.traits, tools, &mut r).map_err(text)?
                }
                _ if r.chance(world.traits.twins) => edits::twins(&context, &mut r).map_err(text)?,
                _ => edits::edit(&context, &mut r).map_err(text)?,
            });
        }
        history.push(done.join(", "));
        counts.edits.fetch_add(1, Ordering::Relaxed);
        if world.compare(counts).map_err(|e| world.story(&history, &e))? {
            refused = 0;
            continue;
        }
        // Where nothing can be built any more, nothing is learned.
        world.script = before;
        refused += 1;
        if refused == 2 {
            break;
        }
    }
    Ok(())
}

impl World<'_> {
    fn story(&self, history: &[String], e: &str) -> String {
        let log = self.log.join("\n  ");
        format!(
            "{e}\nedits:\n  {}\nDockerfile:\n{}\nbuild:\n  {log}",
            history.join("\n  "),
            self.script.text()
        )
    }

    /// Builds both ways; whether it can be built.
    fn compare(&mut self, counts: &Counts) -> Result<bool, String> {
        let traced = self.build(true, counts);
        if let Some(w) = self.weakness {
            self.stores.weakened = weaken(&self.stores.traced, w, self.stores.weakened)?;
        }
        let plain = self.build(false, counts);
        match (traced, plain) {
            (Ok(t), Ok(p)) => same(&t, &p).map(|()| true),
            // Sources may be gone: then both fail, though of two stages that fail at once either may be first. No RUN ever fails.
            (Err(_), Err(_)) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
            (a, b) => Err(format!("traced: {:?}\nuncached: {:?}", a.map(|_| "built"), b.map(|_| "built"))),
        }
    }

    /// Builds; gives the entries of the image without times.
    fn build(&mut self, traced: bool, counts: &Counts) -> Result<BTreeMap<Vec<u8>, Entry>, String> {
        let store = if traced { &self.stores.traced } else { &self.stores.uncached };
        let mut options = Options { jobs: 2, ..Options::default() };
        options.choices.no_cache = !traced;
        let context = self.root.path().join("context");
        if let Some(name) = self.traits.named() {
            options.contexts.insert(name.into(), NamedContext::Dir(context.join("base")));
        }
        let input = input::Input { name: "Dockerfile".into(), text: self.script.text(), ignore: Vec::new() };
        let request =
            Request { input, files: build::input::Files::Dir(context), ids: build::Ids::default(), options };
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
        if traced {
            self.log = recorder.events().iter().map(|e| format!("{e:?}")).collect();
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
