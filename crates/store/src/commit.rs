//! The group commit: one thread that makes batches durable and visible, as many at once as are waiting.
//!
//! For a group, in this order; whatever stands in a later line relies on the lines before:
//!
//! 1. image and tag files are written under the session's directory, unless they are there already and say the same in all but times;
//! 2. the data of every staged file goes to the disk: file by file if there are few ([`FEW`]), so that a small commit does not wait
//!    for what other programs have written, or by one `syncfs`;
//! 3. staged objects and blobs are renamed into place, unless the name is taken (the content is the same then), and every directory
//!    that got a name, or has one that the group relies on, is flushed once;
//! 4. the same for layers, which need the objects;
//! 5. image files are renamed into place, then tag files, and their directories are flushed;
//! 6. one database transaction with all records and facts about tars;
//! 7. what dead processes left is handed to the sweeper, if no session was made;
//! 8. the step locks of the group are released.
//!
//! A crash at any point leaves complete files without an image or record that names them, which the next `gc` removes, and the
//! session's directory, which the next session removes.
//!
//! After a failure nothing more is written: a later batch may rely on files of the failed one. What is staged stays readable for
//! this process until the store is closed.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Collected;
use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::images::{self, ImageRecord, Tag};
use crate::locks::StepLock;
use crate::paths::{self, Dir, Kind};
use crate::records::NewRecord;
use crate::sys::lock;

/// Up to so many staged files are flushed one by one. Each costs the journal a commit, which a `syncfs` has only one of.
const FEW: usize = 4;

/// A batch that waits for its commit.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) collected: Collected,
    pub(crate) records: Vec<NewRecord>,
    pub(crate) keep: Vec<StepLock>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    /// Batches handed in so far, and batches dealt with.
    submitted: u64,
    done: u64,
    failed: Option<Arc<StoreError>>,
    closing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something is waiting, or the store is being closed.
    work: Condvar,
    /// `done` has grown.
    progress: Condvar,
}

/// Hands batches to the thread. Dropped, it waits until all are written.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(crate) fn submit(&self, core: &Arc<Core>, pending: Pending) -> Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let path = core.root.path();
            let (core, shared) = (core.clone(), self.shared.clone());
            let started =
                std::thread::Builder::new().name("store-commit".into()).spawn(move || run(&core, &shared));
            *thread = Some(started.at("start the writing thread of", path)?);
        }
        let mut queue = lock(&self.shared.queue);
        if let Some(source) = &queue.failed {
            return Err(StoreError::Stopped { source: source.clone() });
        }
        queue.waiting.push_back(pending);
        queue.submitted += 1;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until everything submitted so far is dealt with.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut queue = lock(&self.shared.queue);
        let target = queue.submitted;
        loop {
            if let Some(e) = &queue.failed {
                return Err(StoreError::clone(e));
            }
            if queue.done >= target {
                return Ok(());
            }
            queue = self.shared.progress.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

/// Tells those who wait when the thread ends by a panic.
struct Alive<'a>(&'a Shared, &'a Core);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = lock(&self.0.queue);
            let panicked = std::io::Error::other("the writing thread panicked");
            queue
                .failed
                .get_or_insert_with(|| Arc::new(StoreError::io("write", self.1.root.path(), panicked)));
            queue.waiting.clear();
            self.0.progress.notify_all();
        }
    }
}

fn run(core: &Core, shared: &Shared) {
    let _alive = Alive(shared, core);
    loop {
        let group: Vec<Pending> = {
            let mut queue = lock(&shared.queue);
            while queue.waiting.is_empty() && !queue.closing {
                queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.waiting.is_empty() {
                return;
            }
            queue.waiting.drain(..).collect()
        };
        let stopped = lock(&shared.queue).failed.is_some();
        let result = if stopped { Ok(()) } else { commit(core, &group) };
        let number = group.len() as u64;
        // The locks go before the waiting ends: who flushed may count on them being free.
        for pending in group {
            drop(pending.keep);
        }
        let mut queue = lock(&shared.queue);
        queue.done += number;
        if let Err(e) = result {
            queue.failed.get_or_insert_with(|| Arc::new(e));
        }
        shared.progress.notify_all();
    }
}

fn commit(core: &Core, group: &[Pending]) -> Result<()> {
    let collected = || group.iter().map(|p| &p.collected);
    let mut images = Documents::new(Dir::Images);
    let mut tags = Documents::new(Dir::Tags);
    for c in collected() {
        for image in &c.images {
            let same = |old: ImageRecord| ImageRecord { created: image.created, ..old } == *image;
            images.add(core, image, paths::image(&image.id), same)?;
        }
        for tag in &c.tags {
            tags.add(core, tag, paths::tag(&tag.name), |old: Tag| Tag { set: tag.set, ..old } == *tag)?;
        }
    }
    let documents = images.written.iter().chain(&tags.written);
    match collected().map(|c| c.owned.len()).sum::<usize>() + documents.clone().count() {
        ..=FEW => {
            let owned = collected().flat_map(|c| &c.owned);
            for name in owned.filter_map(|slot| core.staged_name(*slot).transpose()) {
                core.root.sync_file(&name?)?;
            }
            documents.into_iter().try_for_each(|(name, _)| core.root.sync_file(name))?;
        }
        _ => core.root.sync_all()?,
    }
    for layers in [false, true] {
        let mut dirs = BTreeSet::new();
        for c in collected() {
            for slot in c.owned.iter().filter(|slot| (core.staged.kind(**slot) == Kind::Layer) == layers) {
                if core.place(*slot)? {
                    dirs.insert(Dir::AllObjects);
                }
            }
            dirs.extend(c.dirs.iter().filter(|dir| (**dir == Dir::Layers) == layers));
        }
        dirs.iter().try_for_each(|dir| core.root.sync_dir(&dir.to_string()))?;
    }
    images.place(core)?;
    tags.place(core)?;
    core.write_rows(group)?;
    core.sweep()
}

/// The documents of one directory that a group has.
struct Documents {
    dir: Dir,
    /// Where each is staged, and where it goes.
    written: Vec<(String, String)>,
    /// There is one that was there already; who put it there may not have flushed the directory yet.
    found: bool,
}

impl Documents {
    fn new(dir: Dir) -> Documents {
        Documents { dir, written: Vec::new(), found: false }
    }

    /// Writes a document to the session's directory, unless what its name leads to is the `same`. One that cannot be read is not.
    fn add<T: Serialize + DeserializeOwned>(
        &mut self,
        core: &Core,
        value: &T,
        to: String,
        same: impl FnOnce(T) -> bool,
    ) -> Result<()> {
        let earlier = self.written.iter().any(|(_, name)| *name == to);
        if !earlier && images::read(&core.root, &to).is_ok_and(|old| old.is_some_and(same)) {
            self.found = true;
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(value).expect("plain data without maps has a JSON form");
        text.push(b'\n');
        let session = core.session()?;
        let name = session.staged(session.next()?);
        core.root.write_new(&name, &text, 0o644)?;
        self.written.push((name, to));
        Ok(())
    }

    /// Gives the documents their names, durably.
    fn place(&self, core: &Core) -> Result<()> {
        self.written.iter().try_for_each(|(from, to)| core.root.replace(from, to))?;
        if self.found || !self.written.is_empty() {
            core.root.sync_dir(&self.dir.to_string())?;
        }
        Ok(())
    }
}
