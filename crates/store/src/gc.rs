//! Garbage collection.
//!
//! **Roots** are the images (those with a tag, and without [`Policy::untagged_images`] all) and the records that the policy keeps.
//! From them: an image's config, manifest and layers; a record's layer; a layer's objects, and the blobs of its tars. Everything
//! else goes.
//!
//! **Which records stay**: those used within [`Policy::unused_for`]; and if what is left takes more than [`Policy::max_bytes`], the
//! least recently used go until it does not. Images never go to make room, nor records whose layer an image holds: that would free
//! nothing.
//!
//! **Alone**: see [`crate::locks`]. **Crash**: what refers to something goes, durably, before what it refers to; so at any point
//! the rest is a sound store, and the next run finishes the work.
//!
//! **Directories** made from layers go with their layer, like records when they are not used, and all of them when there is no room.
//!
//! Garbage, too: sessions of dead processes, databases that were set aside as damaged, step locks, and memos as old as the records
//! that go.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use oci::{Digest, LayerIndex, Time};

use crate::Store;
use crate::core::Core;
use crate::dirs;
use crate::error::{Context, Result, StoreError};
use crate::images;
use crate::inventory::{self, Amount};
use crate::paths::{self, Dir, Key, Kind};
use crate::records::Record;
use crate::session;
use crate::sys::lock;

/// What `gc` may remove besides what nothing refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Records and memos not used for this many seconds go; `Some(0)` means all.
    pub unused_for: Option<u64>,
    /// Records go, the least recently used first, until objects, layers and blobs have at most this many bytes together.
    pub max_bytes: Option<u64>,
    /// Images that no tag names go.
    pub untagged_images: bool,
}

/// What `gc` removed, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Records, the least recently used first.
    pub records: Vec<Record>,
    /// Images.
    pub images: Vec<Digest>,
    /// Contents of files.
    pub objects: Amount,
    /// Layer indexes.
    pub layers: Amount,
    /// Compressed layers, configs, manifests.
    pub blobs: Amount,
    /// Directories made from layers.
    pub dirs: Amount,
    /// Leftovers: dead sessions, damaged databases, memos.
    pub other: Amount,
    /// Objects, layers and blobs that stay.
    pub kept: Amount,
}

impl Freed {
    /// Everything that goes.
    pub fn total(&self) -> Amount {
        self.objects + self.layers + self.blobs + self.dirs + self.other
    }
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    freed: Freed,
    dead: Vec<Key>,
    tars: Vec<Digest>,
    tar_blobs: Vec<(Digest, Digest)>,
    /// Leftover files, relative to the root.
    files: Vec<String>,
    /// Directories made from layers.
    dirs: HashSet<PathBuf>,
}

impl Store {
    /// Removes garbage, or with `dry_run` only says what would go.
    ///
    /// Needs the store alone: other processes that have it open are [`StoreError::InUse`], and so is an open batch of this one. Nothing
    /// of this process may use the store meanwhile. A damaged image or layer is [`StoreError::Damaged`], since what it needs is
    /// not known: repair first ([`Store::verify`]).
    pub fn gc(&self, policy: &Policy, dry_run: bool) -> Result<Freed> {
        let core = self.core();
        if dry_run {
            return Ok(plan(core, policy)?.freed);
        }
        self.alone(|| {
            let plan = plan(core, policy)?;
            sweep(core, &plan)?;
            Ok(plan.freed)
        })
    }

    /// Runs `f` while no other process has the store open, and with nothing in memory of what may go.
    pub(crate) fn alone<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        self.flush()?;
        let core = self.core();
        if core.open_batches.load(Ordering::SeqCst) > 0 || !core.staged.is_empty() {
            let pids = std::process::id().to_string();
            return Err(StoreError::InUse { root: core.root.path().to_owned(), pids });
        }
        core.lock.alone(&core.root, || {
            lock(&core.layers).clear();
            lock(&core.tars).clear();
            f()
        })
    }
}

/// Sizes and numbers of referrers of all content-addressed files.
#[derive(Debug, Default)]
struct Marks {
    files: HashMap<Key, (Amount, u32)>,
    /// Blobs of the tars of a layer.
    blobs_of: HashMap<Digest, Vec<Digest>>,
    live: u64,
}

impl Marks {
    /// One referrer more, and transitively for a layer that had none.
    fn add(&mut self, core: &Core, key: Key) -> Result<()> {
        let Some((amount, count)) = self.files.get_mut(&key) else { return Ok(()) };
        *count += 1;
        if *count > 1 {
            return Ok(());
        }
        self.live += amount.bytes;
        for key in self.below(core, key)? {
            self.add(core, key)?;
        }
        Ok(())
    }

    /// One referrer less, and transitively for a layer that has none left.
    fn remove(&mut self, core: &Core, key: Key) -> Result<()> {
        let Some((amount, count)) = self.files.get_mut(&key) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        self.live -= amount.bytes;
        for key in self.below(core, key)? {
            self.remove(core, key)?;
        }
        Ok(())
    }

    /// What a file refers to; each once.
    fn below(&self, core: &Core, key: Key) -> Result<HashSet<Key>> {
        if key.kind != Kind::Layer {
            return Ok(HashSet::new());
        }
        let layer = read_layer(core, &key.digest)?;
        let blobs = self.blobs_of.get(&key.digest).into_iter().flatten().map(Key::blob);
        Ok(layer.objects().map(|(digest, _)| Key::object(&digest)).chain(blobs).collect())
    }
}

fn read_layer(core: &Core, id: &Digest) -> Result<LayerIndex> {
    let path = core.root.join(Key::layer(id).path());
    let bytes = std::fs::read(&path).at("read", &path)?;
    match LayerIndex::decode(&bytes) {
        Ok((found, layer)) if found == *id => Ok(layer),
        Ok((found, _)) => Err(StoreError::Damaged { what: format!("holds the layer {found}"), path }),
        Err(e) => Err(StoreError::Damaged { what: format!("cannot be read: {e}"), path }),
    }
}

fn plan(core: &Core, policy: &Policy) -> Result<Plan> {
    let root = &core.root;
    let mut plan = Plan::default();

    // Referrers are listed before what they refer to: beside running builds (dry run) nothing then looks missing.
    let mut tagged = HashSet::new();
    for (_, tag) in images::tag_files(root)? {
        tagged.insert(tag?.id);
    }
    let mut kept_images = Vec::new();
    for id in images::ids(root)? {
        match images::read_image(root, &id)? {
            Some(image) if tagged.contains(&id) || !policy.untagged_images => kept_images.push(image),
            Some(_) => plan.freed.images.push(id),
            None => {}
        }
    }
    let records = core.query(|db| db.all_records())?;
    let tars = core.query(|db| db.all_tars())?;
    let tar_blobs = core.query(|db| db.all_tar_blobs())?;

    let mut marks = Marks::default();
    for kind in [Kind::Layer, Kind::Object, Kind::Blob] {
        for (digest, amount) in inventory::list(root, kind)?.files {
            marks.files.insert(Key { kind, digest }, (amount, 0));
        }
    }
    let layer_of: HashMap<Digest, Digest> = tars.iter().copied().collect();
    for (diff_id, blob) in &tar_blobs {
        if let Some(layer) = layer_of.get(diff_id) {
            marks.blobs_of.entry(*layer).or_default().push(*blob);
        }
    }

    for image in &kept_images {
        for blob in [Some(image.id), image.manifest].into_iter().flatten() {
            marks.add(core, Key::blob(&blob))?;
        }
        for layer in &image.layers {
            marks.add(core, Key::layer(layer))?;
        }
    }
    let oldest =
        policy.unused_for.map(|age| Time::now().secs.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
    let goes = |record: &Record| oldest.is_some_and(|oldest| record.last_used <= oldest);
    let (old, kept): (Vec<Record>, Vec<Record>) = records.into_iter().partition(goes);
    plan.freed.records = old;
    let by_image: HashSet<Digest> =
        kept_images.iter().flat_map(|image| image.layers.iter().copied()).collect();
    for record in &kept {
        marks.add(core, Key::layer(&record.layer))?;
    }
    let mut rest = kept.into_iter().filter(|record| !by_image.contains(&record.layer));
    while policy.max_bytes.is_some_and(|max| marks.live > max) {
        let Some(record) = rest.next() else { break };
        marks.remove(core, Key::layer(&record.layer))?;
        plan.freed.records.push(record);
    }

    for (key, (amount, count)) in &marks.files {
        if *count > 0 {
            plan.freed.kept += *amount;
            continue;
        }
        plan.dead.push(*key);
        *match key.kind {
            Kind::Object => &mut plan.freed.objects,
            Kind::Layer => &mut plan.freed.layers,
            Kind::Blob => &mut plan.freed.blobs,
        } += *amount;
    }
    let lives = |key: Key| marks.files.get(&key).is_some_and(|(_, count)| *count > 0);
    plan.tars =
        tars.iter().filter(|(_, layer)| !lives(Key::layer(layer))).map(|(diff_id, _)| *diff_id).collect();
    let dead_tars: HashSet<&Digest> = plan.tars.iter().collect();
    plan.tar_blobs = tar_blobs
        .into_iter()
        .filter(|(diff_id, blob)| {
            !lives(Key::blob(blob)) || dead_tars.contains(diff_id) || !layer_of.contains_key(diff_id)
        })
        .collect();
    let alive = |layer: &Digest| lives(Key::layer(layer));
    let kept = dirs_kept(core, policy, marks.live)?;
    for (path, amount) in dirs::garbage(core, &alive, oldest, !kept)? {
        plan.freed.dirs += amount;
        plan.dirs.insert(path);
    }
    leftovers(core, oldest, &mut plan)?;
    Ok(plan)
}

/// Whether there is room for directories made from layers beside `live` bytes: they are the first to go.
fn dirs_kept(core: &Core, policy: &Policy, live: u64) -> Result<bool> {
    let Some(max) = policy.max_bytes else { return Ok(true) };
    Ok(live + inventory::amount_below(&core.root.join(paths::DIRS)).bytes <= max)
}

/// Adds what dead processes and damage left.
fn leftovers(core: &Core, oldest: Option<i64>, plan: &mut Plan) -> Result<()> {
    let root = &core.root;
    for path in session::dead(root)? {
        plan.freed.other += inventory::amount_below(&path);
    }
    let damaged = format!("{}.damaged-", paths::DB);
    plan.files.extend(inventory::database_files(root)?.into_iter().filter(|name| name.starts_with(&damaged)));
    for name in root.list(paths::MEMO)? {
        let name = format!("{}/{}", paths::MEMO, name.to_string_lossy());
        let saved = std::fs::symlink_metadata(root.join(&name))
            .map(|meta| std::os::unix::fs::MetadataExt::mtime(&meta));
        if oldest.is_some_and(|oldest| saved.is_ok_and(|saved| saved <= oldest)) {
            plan.files.push(name);
        }
    }
    for name in &plan.files {
        plan.freed.other += inventory::amount_below(&root.join(name));
    }
    Ok(())
}

/// Carries a plan out. Only with the store alone.
fn sweep(core: &Core, plan: &Plan) -> Result<()> {
    let root = &core.root;
    core.transaction(|tx| {
        plan.freed.records.iter().try_for_each(|record| tx.remove_record(record.id))?;
        plan.tars.iter().try_for_each(|diff_id| tx.remove_tar(diff_id))?;
        plan.tar_blobs.iter().try_for_each(|(diff_id, blob)| tx.remove_tar_blob(diff_id, blob))
    })?;
    core.query(|db| db.settle_down())?;
    for id in &plan.freed.images {
        root.unlink(&paths::image(id))?;
    }
    if !plan.freed.images.is_empty() {
        root.sync_dir(&Dir::Images.to_string())?;
    }
    dirs::remove(core, &plan.dirs)?;
    remove_keys(core, &plan.dead)?;
    for name in &plan.files {
        root.unlink(name)?;
    }
    for name in root.list(paths::STEP_LOCKS)? {
        root.unlink(&format!("{}/{}", paths::STEP_LOCKS, name.to_string_lossy()))?;
    }
    session::sweep(root)
}

/// Removes files: layers first, durably, then what they refer to.
pub(crate) fn remove_keys(core: &Core, keys: &[Key]) -> Result<()> {
    let (layers, others): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| key.kind == Kind::Layer);
    for key in &layers {
        core.root.unlink(&key.path())?;
    }
    if !layers.is_empty() {
        core.root.sync_dir(&Dir::Layers.to_string())?;
    }
    for key in others {
        core.root.unlink(&key.path())?;
    }
    Ok(())
}
