//! The power fails: what was not flushed may be there or not, in any combination that the file system allows.
//!
//! All changes of a store are recorded in order, with the contents of files when they were flushed. For every point in this list, the
//! states that a crash there can leave are made and opened:
//!
//! - what happened before the last `syncfs` is there, and the bytes of files that were flushed themselves;
//! - of what happened since, names whose directory was flushed afterwards are there; of the others any may be missing (none, all, and
//!   some random choices are tried), as with ordered journals and worse ones (ALICE, OSDI 2014, has the model);
//! - the bytes of a file that was made since the last `syncfs` may be missing.
//!
//! In each the store must open, `verify` must find nothing damaged, and what was reported as done must be there. The database is left
//! out: it may be lost at any time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use store::fault::{self, Change};
use store::{ImageRecord, Policy, Store};

use crate::{findings, put_image, put_step};

/// What happened.
#[derive(Debug)]
enum Event {
    Change(Change),
    /// The contents of the files that were made since the last one, by the names that they have now. All of it is durable.
    Flushed(Vec<(String, Vec<u8>)>),
    /// The content of one file, by the name that it had then. Its name need not be durable.
    FileFlushed(String, Vec<u8>),
    /// From here on these images have these tags, and no others do.
    Promise(Vec<ImageRecord>),
}

/// A file's content, if it is durable.
type Files = BTreeMap<String, Option<Vec<u8>>>;

/// Which of the changes that may be missing are there.
#[derive(Clone, Copy)]
enum Luck {
    None,
    All,
    Random(u64),
}

impl Luck {
    fn keeps(&mut self) -> bool {
        match self {
            Luck::None => false,
            Luck::All => true,
            Luck::Random(n) => {
                *n ^= *n >> 12;
                *n ^= *n << 25;
                *n ^= *n >> 27;
                n.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63 == 1
            }
        }
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The directory whose flushing makes a change durable.
fn directory(change: &Change) -> Option<&str> {
    match change {
        Change::Make(name) | Change::Directory(name) | Change::Remove(name) => Some(parent(name)),
        Change::Rename { to, .. } => Some(parent(to)),
        _ => None,
    }
}

/// `flushed`: contents that are durable whatever the names.
fn apply(files: &mut Files, flushed: &BTreeMap<&str, &Vec<u8>>, change: &Change) {
    match change {
        Change::Make(name) => drop(files.insert(name.clone(), None)),
        Change::Rename { from, to } => {
            // A name that is kept leads to the file, whether or not its first name was durable.
            let kept = from.as_ref().and_then(|from| files.remove(from)).flatten();
            let alone =
                || from.as_ref().and_then(|from| flushed.get(from.as_str())).map(|&bytes| bytes.clone());
            files.insert(to.clone(), kept.or_else(alone));
        }
        Change::Remove(name) => drop(files.remove(name)),
        _ => {}
    }
}

/// What a crash after the first `at` events may leave.
fn crash(events: &[Event], mut luck: Luck) -> Files {
    let mut files = Files::new();
    let mut pending: Vec<&Change> = Vec::new();
    let mut flushed: BTreeMap<&str, &Vec<u8>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Flushed(contents) => {
                pending.drain(..).for_each(|change| apply(&mut files, &flushed, change));
                for (name, bytes) in contents {
                    files.insert(name.clone(), Some(bytes.clone()));
                }
            }
            Event::Change(Change::FlushDirectory(dir)) => {
                // In order, since a later rename may need an earlier one.
                let (kept, rest) = pending.into_iter().partition(|c| directory(c) == Some(dir.as_str()));
                pending = rest;
                let kept: Vec<&Change> = kept;
                kept.into_iter().for_each(|change| apply(&mut files, &flushed, change));
            }
            Event::FileFlushed(name, bytes) => drop(flushed.insert(name, bytes)),
            Event::Change(change) => pending.push(change),
            Event::Promise(_) => {}
        }
    }
    pending.into_iter().filter(|_| luck.keeps()).for_each(|change| apply(&mut files, &flushed, change));
    files
}

/// Where a store keeps what must survive. The rest (sessions, locks, memos, the database) may be missing.
fn counts(name: &str) -> bool {
    name == "format" || ["objects/", "layers/", "blobs/", "images/"].iter().any(|d| name.starts_with(d))
}

fn write(root: &Path, files: &Files) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.as_deref().unwrap_or_default()).unwrap();
    }
}

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    /// Names of files that were made since everything was flushed.
    fresh: Vec<String>,
}

impl Record {
    fn witness(&mut self, root: &Path, change: &Change) {
        match change {
            Change::Make(name) => self.fresh.push(name.clone()),
            Change::Rename { from, to } => {
                // It is tried again when its directory was missing: the first time did nothing.
                self.events.retain(|e| from.is_none() || !matches!(e, Event::Change(c) if c == change));
                for name in &mut self.fresh {
                    if from.as_ref() == Some(name) {
                        name.clone_from(to);
                    }
                }
                if from.is_none() {
                    self.fresh.push(to.clone());
                }
            }
            Change::FlushFile(name) => {
                let bytes = std::fs::read(root.join(name)).unwrap_or_default();
                self.events.push(Event::FileFlushed(name.clone(), bytes));
                return;
            }
            Change::FlushAll => {
                let read = |name: &String| Some((name.clone(), std::fs::read(root.join(name)).ok()?));
                self.events.push(Event::Flushed(self.fresh.iter().filter_map(read).collect()));
                // What is still staged may be written to while an earlier group is flushed.
                self.fresh.retain(|name| name.starts_with("tmp/"));
                return;
            }
            _ => {}
        }
        self.events.push(Event::Change(change.clone()));
    }
}

/// A store's life: images that share contents come and go, steps are recorded, and what nobody needs is removed.
fn life(root: &Path, record: &Mutex<Record>) {
    let store = Store::open(root).unwrap();
    let mut tagged: Vec<ImageRecord> = Vec::new();
    let promise = |tagged: &[ImageRecord]| {
        store.flush().unwrap();
        record.lock().unwrap().events.push(Event::Promise(tagged.to_vec()));
    };
    promise(&[]);
    tagged.push(put_image(&store, "docker.io/library/a:1", b"shared"));
    promise(&tagged);
    put_step(&store, "step", "parent", b"made by a step");
    tagged.push(put_image(&store, "docker.io/library/b:1", b"content of b"));
    promise(&tagged);
    // The same layer as the first, under another name.
    tagged.push(put_image(&store, "docker.io/library/c:1", b"shared"));
    promise(&tagged);
    // Nothing is promised while this happens: an image that is being removed may be there or not.
    let gone = tagged.remove(0);
    promise(&tagged);
    store.remove_image(&gone.id).unwrap();
    store.gc(&Policy { unused_for: Some(0), ..Policy::default() }, false).unwrap();
    promise(&tagged);
    tagged.push(put_image(&store, "docker.io/library/d:1", b"made by a step"));
    promise(&tagged);
}

#[test]
fn a_store_survives_a_power_failure_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let record = Arc::new(Mutex::new(Record::default()));
    let (witness, ours) = (record.clone(), root.clone());
    // Other tests of this process have stores, too.
    fault::watch(move |root, change| {
        if root == ours {
            witness.lock().unwrap().witness(root, change);
        }
    });
    life(&root, &record);
    let format = std::fs::read(root.join("format")).unwrap();
    let events = std::mem::take(&mut record.lock().unwrap().events);
    let changes = events.iter().filter(|e| matches!(e, Event::Change(_))).count();
    assert!(changes > 50, "only {changes} changes were seen");

    let mut promised: Vec<ImageRecord> = Vec::new();
    let mut seen: BTreeMap<Files, PathBuf> = BTreeMap::new();
    for at in 0..=events.len() {
        if let Some(Event::Promise(images)) = at.checked_sub(1).map(|i| &events[i]) {
            promised.clone_from(images);
        }
        let lucks =
            [Luck::None, Luck::All].into_iter().chain((1..=3).map(|n| Luck::Random(n * 77 + at as u64)));
        for luck in lucks {
            let mut files = crash(&events[..at], luck);
            files.retain(|name, _| counts(name));
            files.insert("format".into(), Some(format.clone()));
            let fresh = !seen.contains_key(&files);
            let next = dir.path().join(format!("crash{}", seen.len()));
            if fresh {
                write(&next, &files);
            }
            let place = seen.entry(files).or_insert(next);
            let store = Store::open(place).unwrap();
            let what = || {
                format!(
                    "after {at} of {} events: {:?}",
                    events.len(),
                    events[..at].iter().rev().take(6).collect::<Vec<_>>()
                )
            };
            if fresh {
                assert_eq!(findings(&store), [] as [String; 0], "{}", what());
            }
            for image in &promised {
                assert!(store.image(&image.id).unwrap().is_some(), "image {} {}", image.id, what());
                assert!(
                    store.tags().unwrap().iter().any(|t| t.id == image.id),
                    "tag of {} {}",
                    image.id,
                    what()
                );
            }
        }
    }
    assert!(seen.len() > 20, "only {} states", seen.len());
}
