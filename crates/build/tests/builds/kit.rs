//! A context, a store, and builds told as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use build::account::BuildRecord;
use build::events::{HitRule, Listener, Recorder};
use build::{BuildError, Event, NamedContext, Options, Outcome, Request, input};
use oci::{Content, Digest, Tree};
use store::Store;

/// A static busybox.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// A directory with a store, a build context, and a base with a shell: `FROM base`.
pub(crate) struct World {
    root: tempfile::TempDir,
    pub(crate) store: Store,
}

/// What came of a build.
pub(crate) struct Built {
    pub(crate) result: Result<Outcome, BuildError>,
    pub(crate) events: Vec<Event>,
    store: Store,
}

impl World {
    pub(crate) fn new() -> World {
        let root = tempfile::tempdir().expect("a directory");
        let bin = root.path().join("base/bin");
        std::fs::create_dir_all(&bin).expect("the base");
        std::fs::copy(BUSYBOX, bin.join("busybox")).expect("busybox");
        for name in ["sh", "cat", "echo", "touch", "sleep", "usleep", "mkdir", "rm", "id", "env", "pwd", "ls"]
        {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("an applet");
        }
        std::fs::create_dir(root.path().join("context")).expect("the context");
        let store = Store::open(&root.path().join("store")).expect("a store");
        World { root, store }
    }

    /// A path of the context.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join("context").join(path)
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().expect("it lies in the context")).expect("its directory");
        std::fs::write(at, text).expect("a file of the context");
    }

    /// A path of the base.
    pub(crate) fn base(&self, path: &str) -> PathBuf {
        self.root.path().join("base").join(path)
    }

    /// Writes a file of the base.
    pub(crate) fn write_base(&self, path: &str, text: &str) {
        let at = self.base(path);
        std::fs::create_dir_all(at.parent().expect("it lies in the base")).expect("its directory");
        std::fs::write(at, text).expect("a file of the base");
    }

    /// Opens the store anew, as another process would.
    pub(crate) fn reopen(&mut self) {
        self.store.flush().expect("the store takes all");
        let path = self.store.root().to_owned();
        self.store = Store::open(&path).expect("the store");
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Built {
        self.build_with(dockerfile, |_| {})
    }

    pub(crate) fn build_with(&self, dockerfile: &str, change: impl FnOnce(&mut Options)) -> Built {
        self.build_into(&self.store, dockerfile, change)
    }

    /// The same with another store.
    pub(crate) fn build_into(
        &self,
        store: &Store,
        dockerfile: &str,
        change: impl FnOnce(&mut Options),
    ) -> Built {
        let (recorder, cancel) = (Recorder::default(), Arc::new(AtomicBool::new(false)));
        let result = build::build(store, None, &self.request(dockerfile, change), &recorder, cancel);
        // As the program does when a build has ended.
        store.flush().expect("the store takes all");
        Built { result, events: recorder.events(), store: store.clone() }
    }

    pub(crate) fn build_until(
        &self,
        dockerfile: &str,
        change: impl FnOnce(&mut Options),
        cancel: Arc<AtomicBool>,
        listener: &dyn Listener,
    ) -> Result<Outcome, BuildError> {
        let request = self.request(dockerfile, change);
        build::build(&self.store, None, &request, listener, cancel)
    }

    fn request(&self, dockerfile: &str, change: impl FnOnce(&mut Options)) -> Request {
        let base = NamedContext::Dir(self.root.path().join("base"));
        let mut options = Options { contexts: BTreeMap::from([("base".into(), base)]), ..Options::default() };
        change(&mut options);
        let input =
            input::Input { name: "Dockerfile".into(), text: dockerfile.to_owned(), ignore: Vec::new() };
        let files = input::Files::Dir(self.at(""));
        Request { input, files, ids: build::Ids::default(), options }
    }

    /// What a build would do.
    pub(crate) fn forecast(&self, dockerfile: &str, change: impl FnOnce(&mut Options)) -> BuildRecord {
        let (recorder, cancel) = (Recorder::default(), Arc::new(AtomicBool::new(false)));
        let told = build::forecast(&self.store, &self.request(dockerfile, change), &recorder, cancel);
        told.unwrap_or_else(|e| panic!("{}", chain_text(&e))).account
    }

    /// What a cache mount of this target holds.
    pub(crate) fn cached_file(&self, name: &str) -> String {
        let mounts = self.store.root().join("mounts");
        let found = std::fs::read_dir(mounts).expect("there are cache mounts");
        let texts =
            found.filter_map(|m| std::fs::read_to_string(m.ok()?.path().join("data").join(name)).ok());
        texts.collect()
    }
}

impl Built {
    pub(crate) fn outcome(&self) -> &Outcome {
        self.result.as_ref().unwrap_or_else(|e| panic!("{}", chain_text(e)))
    }

    /// How many steps ran, and how many were not run again.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let t = self.outcome().account.totals();
        (t.ran, t.cached)
    }

    pub(crate) fn error(&self) -> String {
        match &self.result {
            Ok(o) => panic!("built {}, should have failed", o.image.id),
            Err(e) => chain_text(e),
        }
    }

    pub(crate) fn id(&self) -> Digest {
        self.outcome().image.id
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn tree(&self) -> Tree {
        let layers: Vec<Digest> = self.outcome().image.layers.iter().map(|(l, _)| *l).collect();
        build::export::tree(&self.store, &layers).expect("the layers fit")
    }

    /// The text of a file of the image.
    pub(crate) fn text(&self, path: &str) -> String {
        let tree = self.tree();
        let id = tree.lookup(path.as_bytes()).unwrap_or_else(|| panic!("{path} is not in the image"));
        match &tree.inode(id).node {
            oci::tree::Node::File { digest, .. } => {
                let bytes = self.store.read_all(digest, 1 << 20).expect("its content");
                String::from_utf8(bytes).expect("text")
            }
            other => panic!("{path} is no file: {other:?}"),
        }
    }

    /// What became of each step, in the order of the Dockerfile: `ran`, `adopted` (ran, and gave the same), `cached`, `observed` (reused by
    /// what it read, or computed again with the same result), `failed`, `canceled`, or `waits` if nothing did.
    pub(crate) fn steps(&self) -> Vec<String> {
        let Some(Event::Planned { steps }) = self.events.iter().find(|e| matches!(e, Event::Planned { .. }))
        else {
            return Vec::new();
        };
        let outcome = |wanted: u32| {
            let ends = self.events.iter().filter_map(|e| match e {
                Event::Done { id, adopted, .. } if *id == wanted => {
                    Some(if *adopted { "adopted" } else { "ran" })
                }
                Event::Cached { id, rule: HitRule::SameParent, .. } if *id == wanted => Some("cached"),
                Event::Cached { id, .. } if *id == wanted => Some("observed"),
                Event::Failed { id, .. } if *id == wanted => Some("failed"),
                Event::Canceled { id } if *id == wanted => Some("canceled"),
                _ => None,
            });
            let ends: Vec<_> = ends.collect();
            if ends.is_empty() { "waits".to_owned() } else { ends.join("+") }
        };
        steps.iter().map(|s| outcome(s.id)).collect()
    }

    /// Why each step ran, or why it was reused: as the log shows it; empty where there is nothing to say.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let Some(Event::Planned { steps }) = self.events.iter().find(|e| matches!(e, Event::Planned { .. }))
        else {
            return Vec::new();
        };
        let text = |wanted: u32| {
            self.events.iter().find_map(|e| match e {
                Event::Done { id, reason, .. } if *id == wanted => reason.as_ref().and_then(|r| r.text()),
                Event::Cached { id, detail, .. } if *id == wanted => detail.clone(),
                _ => None,
            })
        };
        steps.iter().map(|s| text(s.id).unwrap_or_default()).collect()
    }

    /// The output of all steps.
    pub(crate) fn log(&self) -> String {
        let parts = self.events.iter().filter_map(|e| match e {
            Event::Log { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
            _ => None,
        });
        parts.collect()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let parts = self.events.iter().filter_map(|e| match e {
            Event::Warning { text, .. } => Some(text.clone()),
            _ => None,
        });
        parts.collect()
    }
}

fn chain_text(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        out.push_str(": ");
        out.push_str(&s.to_string());
        at = s.source();
    }
    out
}

/// Removes a layer's index from a store, as a collector would.
pub(crate) fn prune_layer(store: &Path, id: &Digest) {
    let layers = store.join("layers");
    let mut todo = vec![layers];
    let hex = id.hex();
    let mut removed = 0;
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory of the store").flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().replace('/', "").ends_with(&hex) {
                std::fs::remove_file(path).expect("the layer");
                removed += 1;
            }
        }
    }
    assert_eq!(removed, 1, "the layer is one file");
}
