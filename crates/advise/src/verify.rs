//! Whether advice holds: the Dockerfile is built as it is and as it would be, and the two images are compared.
//!
//! Both builds run every step: their steps have keys of their own ([`build::Options::salt`]), so that they neither find earlier results nor
//! are found by the user's next build, and their cache mounts begin empty. Advice fails if
//!
//! - the changed Dockerfile does not build;
//! - a path of the image differs that the advice did not name (times left out). Paths that differ between two builds of the *same*
//!   Dockerfile say nothing, and are left out, too; so do names that come or go, where the same two builds have others there that are the same but
//!   for numbers (npm's logs have the time in their names);
//! - the config differs (history and times left out);
//! - it was to save bytes, and the image (or, if that was the promise, all layers of the build) is not smaller;
//! - it was to save steps of a rebuild, and does not.
//!
//! What takes effect only later is measured later: a narrow COPY by changing a file that the steps do not read and building again with
//! Docker's rule; a cache mount by running everything again with the mount that the first build filled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use analyse::diff::{self, Change, Wanted};
use build::context::{self, Needed};
use build::input::Files;
use build::{CacheMode, Event, Ids, Listener, Outcome, Request};
use dockerfile::ignore::Matcher;
use oci::tree::Walk;
use oci::types::ImageConfig;
use oci::{Content, Tree};
use serde::Serialize;
use store::Store;

use crate::facts::ancestors;
use crate::{Advice, Edit, Kind, edit};

/// Unexpected paths that are named.
const NAMED: usize = 5;

/// What a build came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Bytes of files in the image's layers above its base, not compressed.
    pub image_bytes: u64,
    /// The same of all layers that the build made, in any stage.
    pub build_bytes: u64,
    /// How long it took when nothing was there.
    pub seconds: f64,
    /// How long it took the next time, if that is what the advice is about.
    pub again_seconds: Option<f64>,
    /// Steps that ran then.
    pub again_ran: Option<usize>,
}

/// Advice that holds, with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Before.
    pub before: Measured,
    /// After.
    pub after: Measured,
    /// Paths that differ, all of them named by the advice.
    pub changed: usize,
    /// Paths that differ from build to build of the same Dockerfile.
    pub unstable: usize,
}

impl Verified {
    /// Bytes that the image is smaller by.
    pub fn bytes_saved(&self) -> i64 {
        self.before.image_bytes as i64 - self.after.image_bytes as i64
    }

    /// Seconds that a build is shorter by: the next one, where that is what counts.
    pub fn seconds_saved(&self) -> f64 {
        match (self.before.again_seconds, self.after.again_seconds) {
            (Some(b), Some(a)) => b - a,
            _ => self.before.seconds - self.after.seconds,
        }
    }
}

/// Why verifying stopped; advice that does not hold is no error.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The Dockerfile cannot be built as it is.
    #[error("the Dockerfile cannot be built as it is")]
    Before(#[source] Box<build::BuildError>),
    /// The store is damaged.
    #[error("the store cannot be read")]
    Store(#[from] store::StoreError),
    /// The context cannot be read.
    #[error(transparent)]
    Context(#[from] context::ContextError),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Who hears nothing.
struct Silent;

impl Listener for Silent {
    fn event(&self, _: Event) {}
}

/// A build for comparison.
struct Built {
    tree: Tree,
    config: ImageConfig,
    measured: Measured,
    salt: String,
    request: Request,
}

/// Verifies advice about one Dockerfile.
pub struct Verifier<'a> {
    store: &'a Store,
    client: Option<&'a registry::Client>,
    request: &'a Request,
    ignore_text: String,
    cancel: Arc<AtomicBool>,
    salts: AtomicU64,
    before: Built,
    unstable: Unstable,
}

/// What differs between two builds of the Dockerfile as it is.
#[derive(Default)]
struct Unstable {
    paths: BTreeSet<Vec<u8>>,
    /// Shapes of the paths that only one of the two has.
    shapes: BTreeSet<Vec<u8>>,
}

impl Unstable {
    fn of(differs: &diff::FileDiff) -> Unstable {
        let paths = differs.entries.iter().map(|c| path_of(&c.path)).collect();
        let lone = differs.entries.iter().filter(|c| is_lone(c.change));
        Unstable { paths, shapes: lone.map(|c| shape(&path_of(&c.path))).collect() }
    }

    fn has(&self, path: &[u8], change: Change) -> bool {
        self.paths.contains(path) || (is_lone(change) && self.shapes.contains(&shape(path)))
    }
}

/// Only one of the trees has the path.
fn is_lone(change: Change) -> bool {
    matches!(change, Change::Added | Change::Removed)
}

/// A path with `#` for every word with a digit in it.
fn shape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in path.chunk_by(|a, b| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric()) {
        if word.iter().any(u8::is_ascii_digit) {
            out.push(b'#');
        } else {
            out.extend_from_slice(word);
        }
    }
    out
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("before", &self.before.measured).finish_non_exhaustive()
    }
}

fn copy(request: &Request, text: String, ignore: Vec<String>, files: Files) -> Request {
    let mut options = request.options.clone();
    options.label = String::new();
    let input = build::input::Input { name: request.input.name.clone(), text, ignore };
    Request { input, files, ids: Ids::default(), options }
}

fn path_of(shown: &str) -> Vec<u8> {
    shown.trim_start_matches('/').as_bytes().to_vec()
}

impl<'a> Verifier<'a> {
    /// Builds the Dockerfile as it is. `known` is the image of an earlier build of it, to find out what differs anyway; `ignore_text` its ignore
    /// file.
    pub fn new(
        store: &'a Store,
        client: Option<&'a registry::Client>,
        request: &'a Request,
        known: &Tree,
        ignore_text: &str,
        cancel: Arc<AtomicBool>,
    ) -> Result<Verifier<'a>, VerifyError> {
        let mut out = Verifier {
            store,
            client,
            request,
            ignore_text: ignore_text.to_owned(),
            cancel,
            salts: AtomicU64::new(0),
            before: Built {
                tree: Tree::new(),
                config: ImageConfig::default(),
                measured: Measured::default(),
                salt: String::new(),
                request: copy(request, String::new(), Vec::new(), Files::None),
            },
            unstable: Unstable::default(),
        };
        let plain =
            copy(request, request.input.text.clone(), request.input.ignore.clone(), request.files.clone());
        out.before = match out.build(plain)? {
            Ok(b) => b,
            Err(e) => return Err(VerifyError::Before(Box::new(e))),
        };
        let differs = diff::compare_trees(known, &out.before.tree, Wanted::default());
        out.unstable = Unstable::of(&differs);
        Ok(out)
    }

    fn salt(&self) -> String {
        let n = self.salts.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{n}", std::process::id(), { oci::Time::now().secs })
    }

    fn run(&self, request: &Request) -> Result<Result<Outcome, build::BuildError>, VerifyError> {
        let built = build::build(self.store, self.client, request, &Silent, self.cancel.clone());
        if self.cancel.load(Ordering::Relaxed) {
            return Err(VerifyError::Interrupted);
        }
        self.store.flush()?;
        Ok(built)
    }

    /// Builds with nothing to start from.
    fn build(&self, mut request: Request) -> Result<Result<Built, build::BuildError>, VerifyError> {
        let salt = self.salt();
        request.options.salt = Some(salt.clone());
        request.options.cache_namespace = format!("{}advise-{salt}", request.options.cache_namespace);
        let outcome = match self.run(&request)? {
            Ok(o) => o,
            Err(e) => return Ok(Err(e)),
        };
        let mut tree = Tree::new();
        let mut measured = Measured { seconds: outcome.took.as_secs_f64(), ..Measured::default() };
        for (id, _) in &outcome.image.layers {
            let layer = self.store.layer(id)?;
            if let Err(source) = tree.apply(&layer) {
                return Ok(Err(build::BuildError::Layer { layer: *id, source }));
            }
        }
        for stage in &outcome.stages {
            for step in &stage.steps {
                let bytes = self.store.layer(&step.layer)?.content_bytes();
                measured.build_bytes += bytes;
                measured.image_bytes += if stage.shipped { bytes } else { 0 };
            }
        }
        Ok(Ok(Built { tree, config: outcome.image.config, measured, salt, request }))
    }

    /// The whole context, with something added to one of its files.
    fn changed_context(
        &self,
        built: &Built,
        probe: &str,
    ) -> Result<Option<Arc<context::Context>>, VerifyError> {
        let context = match &built.request.files {
            Files::Fetched(c) => c.clone(),
            Files::Dir(dir) => {
                let matcher = Matcher::new(&built.request.input.ignore).ok();
                let mut needed = Needed::default();
                needed.everything();
                Arc::new(context::read(self.store, dir, &needed, matcher.as_ref(), &self.cancel)?)
            }
            Files::None => return Ok(None),
        };
        let Some(id) = context.tree.lookup(probe.as_bytes()) else { return Ok(None) };
        let oci::tree::Node::File { digest, .. } = &context.tree.inode(id).node else { return Ok(None) };
        let batch = self.store.batch();
        context.provide_one(&batch, digest)?;
        batch.commit(Vec::new(), Vec::new())?;
        let Ok(mut bytes) = self.store.read_all(digest, 64 << 20) else { return Ok(None) };
        bytes.push(b'\n');
        let batch = self.store.batch();
        let (digest, size) =
            oci::content::ContentSink::add(&mut batch.sink(), &mut &bytes[..]).map_err(store_error)?;
        batch.commit(Vec::new(), Vec::new())?;
        self.store.flush()?;
        Ok(context.with_file(probe.as_bytes(), digest, size).map(Arc::new))
    }

    /// Measures what the next build takes: after a change of a file, with Docker's rule; or from nothing but filled cache mounts.
    fn again(&self, built: &mut Built, advice: &Advice) -> Result<(), VerifyError> {
        let mut request = copy(
            &built.request,
            built.request.input.text.clone(),
            built.request.input.ignore.clone(),
            built.request.files.clone(),
        );
        match (advice.kind, &advice.probe) {
            (Kind::NarrowCopy, Some(probe)) => {
                let Some(context) = self.changed_context(built, probe)? else { return Ok(()) };
                request.files = Files::Fetched(context);
                request.options.cache = CacheMode::Chain;
                request.options.salt = Some(built.salt.clone());
            }
            (Kind::CacheMount, _) => request.options.salt = Some(self.salt()),
            _ => return Ok(()),
        }
        if let Ok(o) = self.run(&request)? {
            built.measured.again_seconds = Some(o.took.as_secs_f64());
            built.measured.again_ran = Some(o.account.totals().ran);
        }
        Ok(())
    }

    /// One piece of advice; why it does not hold, if it does not.
    pub fn verify(&mut self, advice: &Advice) -> Result<Result<Verified, String>, VerifyError> {
        if matches!(advice.kind, Kind::NarrowCopy | Kind::CacheMount) {
            let empty = copy(self.request, String::new(), Vec::new(), Files::None);
            let request = std::mem::replace(&mut self.before.request, empty);
            let mut before = Built {
                tree: Tree::new(),
                config: ImageConfig::default(),
                measured: Measured { again_seconds: None, again_ran: None, ..self.before.measured },
                salt: self.before.salt.clone(),
                request,
            };
            let result = self.again(&mut before, advice);
            self.before.request = before.request;
            self.before.measured = before.measured;
            result?;
        } else {
            self.before.measured.again_seconds = None;
            self.before.measured.again_ran = None;
        }
        self.compare(&[advice])
    }

    /// Several at once.
    pub fn verify_all(&mut self, all: &[&Advice]) -> Result<Result<Verified, String>, VerifyError> {
        self.before.measured.again_seconds = None;
        self.before.measured.again_ran = None;
        self.compare(all)
    }

    fn compare(&self, all: &[&Advice]) -> Result<Result<Verified, String>, VerifyError> {
        let edits: Vec<&Edit> = all.iter().flat_map(|a| &a.edits).collect();
        let Some(text) = edit::apply(&self.request.input.text, &edits) else {
            return Ok(Err("its edits overlap".to_owned()));
        };
        let lines: Vec<String> = all.iter().flat_map(|a| a.ignore.clone()).collect();
        let ignore = dockerfile::ignore::read_patterns(&edit::append(&self.ignore_text, &lines));
        let mut after = match self.build(copy(self.request, text, ignore, self.request.files.clone()))? {
            Ok(b) => b,
            Err(e) => return Ok(Err(format!("it does not build: {}", chain(&e)))),
        };
        if let [one] = all {
            self.again(&mut after, one)?;
        }
        let allowed: BTreeSet<Vec<u8>> = all.iter().flat_map(|a| &a.changes).map(|c| path_of(c)).collect();
        let differs = diff::compare_trees(&self.before.tree, &after.tree, Wanted::default());
        let (mut changed, mut unstable, mut unexpected) = (0, 0, Vec::new());
        for c in &differs.entries {
            let path = path_of(&c.path);
            if is_named(&self.before.tree, &path, &allowed) {
                changed += 1;
            } else if self.unstable.has(&path, c.change) {
                unstable += 1;
            } else {
                let what: Vec<&str> = c.attributes.iter().map(|a| a.name.as_str()).collect();
                let what =
                    if what.is_empty() { format!("{:?}", c.change).to_lowercase() } else { what.join(", ") };
                unexpected.push(format!("{} ({what})", c.path));
            }
        }
        if !unexpected.is_empty() {
            let more = unexpected.len().saturating_sub(NAMED);
            unexpected.truncate(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Ok(Err(format!("the image differs in {}{more}", unexpected.join(", "))));
        }
        let config = diff::compare_configs(&self.before.config, &after.config);
        if let Some(c) = config.first() {
            return Ok(Err(format!("the config differs in {}", c.field)));
        }
        let (b, a) = (self.before.measured, after.measured);
        let promised = |f: fn(&Advice) -> u64| all.iter().any(|x| f(x) > 0);
        if promised(|x| x.worth.bytes) && a.image_bytes >= b.image_bytes {
            return Ok(Err(format!(
                "the image is not smaller ({} bytes before, {} after)",
                b.image_bytes, a.image_bytes
            )));
        }
        if promised(|x| x.worth.build_bytes) && a.build_bytes >= b.build_bytes {
            return Ok(Err(format!(
                "the build is not smaller ({} bytes before, {} after)",
                b.build_bytes, a.build_bytes
            )));
        }
        if let (Some(x), Some(y), [one]) = (b.again_ran, a.again_ran, all)
            && one.kind == Kind::NarrowCopy
            && y >= x
        {
            return Ok(Err(format!("after a change as many steps run as before ({y})")));
        }
        Ok(Ok(Verified { before: b, after: a, changed, unstable }))
    }
}

/// Whether a path is among those that may differ, below one of them, or a directory that held nothing else.
fn is_named(before: &Tree, path: &[u8], allowed: &BTreeSet<Vec<u8>>) -> bool {
    if ancestors(path).any(|a| allowed.contains(a)) {
        return true;
    }
    let Some(id) = before.lookup(path).filter(|id| before.inode(*id).is_dir()) else { return false };
    let inside = before.walk(id, &mut |p, i| match () {
        () if ancestors(p).any(|a| allowed.contains(a)) => Ok(Walk::Skip),
        () if before.inode(i).is_dir() => Ok(Walk::Into),
        () => Err(()),
    });
    inside.is_ok() && allowed.iter().any(|a| ancestors(a).any(|x| x == path))
}

fn store_error(e: std::io::Error) -> VerifyError {
    VerifyError::Context(context::ContextError::Read { path: "the changed file".into(), source: e })
}

fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        out.push_str(": ");
        out.push_str(&s.to_string());
        at = s.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{dir, file};
    use oci::LayerIndex;

    #[test]
    fn names_that_differ_by_numbers_only_have_one_shape() {
        let of = |p: &str| String::from_utf8(shape(p.as_bytes())).unwrap();
        assert_eq!(of("r/_logs/2026-12-01T02_01_22_924Z-debug-0.log"), "r/_logs/#-#-#_#_#_#-debug-#.log");
        assert_eq!(
            of("r/_logs/2026-12-01T02_01_22_924Z-debug-0.log"),
            of("r/_logs/2027-01-31T12_01_22_1Z-debug-0.log")
        );
        assert_ne!(of("a/x1"), of("b/x1"));
        assert_eq!(of("a/src/main.c"), "a/src/main.c");
    }

    #[test]
    fn named_are_paths_with_all_below_and_directories_of_nothing_else() {
        let entries =
            vec![dir("a"), dir("a/b"), file("a/b/c", 1), dir("x"), file("x/y", 1), file("x/z", 1), dir("e")];
        let tree = Tree::from_layers([&LayerIndex::from_entries(entries).unwrap()]).unwrap();
        let allowed: BTreeSet<Vec<u8>> = [b"a/b".to_vec(), b"x/y".to_vec()].into();
        let named = |p: &str| is_named(&tree, p.as_bytes(), &allowed);
        assert!(named("a/b") && named("a/b/c") && named("a/b/new") && named("x/y"));
        assert!(named("a"), "it holds nothing else");
        assert!(!named("x") && !named("x/z") && !named("e") && !named("new"));
    }
}
