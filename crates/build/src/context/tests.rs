//! Directories read as contexts.

mod memo;
mod special;
mod wanted;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use dockerfile::ignore::Matcher;
use oci::Tree;
use oci::tree::ROOT;
use store::Store;

use super::{Context, ContextError, Needed, read};
use crate::export::write_tree;
use crate::testkit::content;

/// A directory, and a store to read it into.
struct Dir {
    dir: tempfile::TempDir,
    store: Store,
}

impl Dir {
    fn new(tree: &Tree) -> Dir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        write_tree(tree, ROOT, &content(), &dir.path().join("context")).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Dir { dir, store }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("context").join(path)
    }

    fn read_needed(&self, needed: &Needed, ignore: &[&str]) -> Result<Context, ContextError> {
        let matcher = Matcher::new(ignore).unwrap();
        read_from(&self.store, &self.at(""), needed, &matcher)
    }

    /// What these sources of a COPY need.
    fn read(&self, sources: &[&str], ignore: &[&str]) -> Context {
        let mut needed = Needed::default();
        sources.iter().for_each(|s| needed.path(s));
        self.read_needed(&needed, ignore).unwrap()
    }

    fn all(&self) -> Result<Context, ContextError> {
        let mut needed = Needed::default();
        needed.everything();
        self.read_needed(&needed, &[])
    }
}

fn read_from(store: &Store, dir: &Path, needed: &Needed, ignore: &Matcher) -> Result<Context, ContextError> {
    let ignore = (!ignore.is_empty()).then_some(ignore);
    read(store, dir, needed, ignore, &AtomicBool::new(false))
}
