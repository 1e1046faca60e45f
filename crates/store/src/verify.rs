//! Verification: every digest recomputed, every reference followed; and repair: what is damaged goes, with what needs it.
//!
//! What refers to something is listed before what it refers to, so that a build that runs meanwhile makes nothing look missing.
//!
//! A repair drops, in this order: damaged and dangling tags, images, records and facts about tars; layers that are damaged or lack an
//! object; damaged objects and blobs. The next build or pull makes them again. Names that do not belong into the store are
//! reported and left alone. Damage of the database itself is marked, and the next open sets the database aside.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use oci::{Digest, Hasher, LayerIndex};

use crate::Store;
use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::gc::remove_keys;
use crate::images;
use crate::inventory::{self, Amount};
use crate::paths::{self, DB, DB_SUSPECT, Dir, Key, Kind};
use crate::sys::lock;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The content of a file.
    Object,
    /// A layer index.
    Layer,
    /// A compressed layer, config or manifest.
    Blob,
    /// An image.
    Image,
    /// A tag.
    Tag,
    /// A record, or what is known of a tar.
    Record,
    /// The database as a whole.
    Database,
    /// A file that does not belong there.
    Stray,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub part: Part,
    /// Which one: digest, tag name, number of a record, path.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// A repair has dropped it. The database is dropped by the next open.
    pub dropped: bool,
}

/// Result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects, layers and blobs that were read.
    pub checked: Amount,
    /// Everything that is wrong; what others depend on comes first.
    pub findings: Vec<Finding>,
}

/// What a repair removes.
#[derive(Debug, Default)]
struct Broken {
    keys: HashSet<Key>,
    images: Vec<Digest>,
    /// Files relative to the root.
    tags: Vec<String>,
    records: Vec<i64>,
    tars: Vec<Digest>,
    tar_blobs: Vec<(Digest, Digest)>,
    database: bool,
}

impl Store {
    /// Reads everything and checks it; with `repair` drops what is damaged and what needs it.
    ///
    /// `watch` is told the bytes read so far and to be read, and ends the work with [`StoreError::Cancelled`] by giving false. It is called from
    /// several threads. A repair needs the store alone, as [`Store::gc`] does.
    pub fn verify(&self, repair: bool, watch: &(dyn Fn(u64, u64) -> bool + Sync)) -> Result<Verified> {
        let core = self.core();
        if !repair {
            return Ok(check(core, watch)?.0);
        }
        self.alone(|| {
            let (mut verified, broken) = check(core, watch)?;
            drop_broken(core, &broken)?;
            for finding in &mut verified.findings {
                finding.dropped = finding.part != Part::Stray;
            }
            Ok(verified)
        })
    }
}

struct Check<'a> {
    core: &'a Core,
    findings: Vec<Finding>,
    broken: Broken,
}

impl Check<'_> {
    fn found(&mut self, part: Part, name: impl ToString, problem: impl Into<String>) {
        self.findings.push(Finding { part, name: name.to_string(), problem: problem.into(), dropped: false });
    }
}

fn check(core: &Core, watch: &(dyn Fn(u64, u64) -> bool + Sync)) -> Result<(Verified, Broken)> {
    let root = &core.root;
    let tags = images::tag_files(root)?;
    let image_ids = images::ids(root)?;
    let rows = Rows::read(core);
    let layers = inventory::list(root, Kind::Layer)?;
    let objects = inventory::list(root, Kind::Object)?;
    let blobs = inventory::list(root, Kind::Blob)?;

    let mut c = Check { core, findings: Vec::new(), broken: Broken::default() };
    let mut checked = Amount::default();
    let total =
        [&layers, &objects, &blobs].iter().flat_map(|l| &l.files).map(|(_, amount)| amount.bytes).sum();
    let progress = Progress { done: AtomicU64::new(0), total, stop: AtomicBool::new(false), watch };
    for (kind, listing) in [(Kind::Object, &objects), (Kind::Blob, &blobs)] {
        checked += listing.files.iter().map(|(_, amount)| *amount).sum();
        for (digest, problem) in hash_all(core, kind, &listing.files, &progress)? {
            c.found(part(kind), digest, problem);
            c.broken.keys.insert(Key { kind, digest });
        }
    }
    let sizes: HashMap<Digest, u64> =
        objects.files.iter().map(|(digest, amount)| (*digest, amount.bytes)).collect();
    for (id, amount) in &layers.files {
        checked += *amount;
        if let Some(problem) = layer_problem(core, id, &sizes, &c.broken.keys)? {
            c.found(Part::Layer, id, problem);
            c.broken.keys.insert(Key::layer(id));
        }
        progress.add(amount.bytes)?;
    }
    for stray in [&objects, &layers, &blobs].into_iter().flat_map(|l| &l.strays) {
        c.found(Part::Stray, stray, "does not belong into the store");
    }
    let good: HashSet<Key> = [(Kind::Layer, &layers), (Kind::Blob, &blobs)]
        .into_iter()
        .flat_map(|(kind, l)| l.files.iter().map(move |(digest, _)| Key { kind, digest: *digest }))
        .filter(|key| !c.broken.keys.contains(key))
        .collect();
    match rows {
        Ok(rows) => c.rows(&rows, &good),
        Err(StoreError::Damaged { what, .. }) => {
            c.found(Part::Database, DB, what);
            c.broken.database = true;
        }
        Err(e) => return Err(e),
    }
    let good_images = c.images(&image_ids, &good)?;
    for (file, tag) in tags {
        let problem = match &tag {
            Ok(tag) if good_images.contains(&tag.id) => continue,
            // Removed or moved while we were looking: an image goes after its tags.
            Ok(tag) if images::tag_file(root, &file).is_ok_and(|now| now.as_ref() != Some(tag)) => continue,
            Ok(tag) => format!("names the image {}, which is damaged or gone", tag.id),
            Err(StoreError::Damaged { what, .. }) => what.clone(),
            Err(e) => return Err(e.clone()),
        };
        c.found(Part::Tag, tag.map_or_else(|_| file.clone(), |tag| tag.name), problem);
        c.broken.tags.push(file);
    }
    Ok((Verified { checked, findings: c.findings }, c.broken))
}

/// What the database says.
struct Rows {
    records: Vec<crate::records::Record>,
    tars: Vec<(Digest, Digest)>,
    tar_blobs: Vec<(Digest, Digest)>,
}

impl Rows {
    fn read(core: &Core) -> Result<Rows> {
        let found = core.query(|db| db.check())?;
        if let Some(first) = found.first() {
            return Err(StoreError::Damaged {
                what: format!("is no sound database: {first}"),
                path: core.root.join(DB),
            });
        }
        core.query(|db| {
            Ok(Rows { records: db.all_records()?, tars: db.all_tars()?, tar_blobs: db.all_tar_blobs()? })
        })
    }
}

impl Check<'_> {
    fn rows(&mut self, rows: &Rows, good: &HashSet<Key>) {
        for record in &rows.records {
            let mut problem = None;
            if !good.contains(&Key::layer(&record.layer)) {
                problem = Some(format!("the layer {} is damaged or gone", record.layer));
            } else if self.core.query(|db| Ok((db.observations(record.id)?, db.log(record.id)?))).is_err() {
                problem = Some("its log or its observations cannot be read".to_owned());
            }
            if let Some(problem) = problem {
                self.found(Part::Record, record.id, problem);
                self.broken.records.push(record.id);
            }
        }
        for (diff_id, layer) in &rows.tars {
            if !good.contains(&Key::layer(layer)) {
                self.found(Part::Record, diff_id, format!("the tar's layer {layer} is damaged or gone"));
                self.broken.tars.push(*diff_id);
            }
        }
        for (diff_id, blob) in &rows.tar_blobs {
            if !good.contains(&Key::blob(blob)) {
                self.found(Part::Record, diff_id, format!("the tar's blob {blob} is damaged or gone"));
                self.broken.tar_blobs.push((*diff_id, *blob));
            }
        }
    }

    /// Checks the images and gives those that are sound.
    fn images(&mut self, ids: &[Digest], good: &HashSet<Key>) -> Result<HashSet<Digest>> {
        let mut sound = HashSet::new();
        for id in ids {
            let problem = match images::read_image(&self.core.root, id) {
                // Removed while we were looking.
                Ok(None) => continue,
                Ok(Some(image)) => {
                    let blobs = [Some(image.id), image.manifest];
                    let blobs = blobs.iter().flatten().map(Key::blob);
                    let missing =
                        blobs.chain(image.layers.iter().map(Key::layer)).find(|key| !good.contains(key));
                    missing.map(|key| format!("the {} {} is damaged or gone", key.kind.noun(), key.digest))
                }
                Err(StoreError::Damaged { what, .. }) => Some(what),
                Err(e) => return Err(e),
            };
            match problem {
                None => {
                    sound.insert(*id);
                }
                Some(problem) => {
                    self.found(Part::Image, id, problem);
                    self.broken.images.push(*id);
                }
            }
        }
        Ok(sound)
    }
}

fn part(kind: Kind) -> Part {
    match kind {
        Kind::Object => Part::Object,
        Kind::Layer => Part::Layer,
        Kind::Blob => Part::Blob,
    }
}

/// What is wrong with a layer.
fn layer_problem(
    core: &Core,
    id: &Digest,
    sizes: &HashMap<Digest, u64>,
    broken: &HashSet<Key>,
) -> Result<Option<String>> {
    let path = core.root.join(Key::layer(id).path());
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at("read", &path)?,
    };
    let layer = match LayerIndex::decode(&bytes) {
        Ok((found, _)) if found != *id => return Ok(Some(format!("holds the layer {found}"))),
        Ok((_, layer)) => layer,
        Err(e) => return Ok(Some(e.to_string())),
    };
    for (digest, size) in layer.objects() {
        let problem = match sizes.get(&digest) {
            None => "is not in the store",
            Some(_) if broken.contains(&Key::object(&digest)) => "is damaged",
            Some(found) if *found != size => "has another size",
            Some(_) => continue,
        };
        return Ok(Some(format!("its object {digest} {problem}")));
    }
    Ok(None)
}

struct Progress<'a> {
    done: AtomicU64,
    total: u64,
    stop: AtomicBool,
    watch: &'a (dyn Fn(u64, u64) -> bool + Sync),
}

impl Progress<'_> {
    fn add(&self, bytes: u64) -> Result<()> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !(self.watch)(done, self.total) {
            self.stop.store(true, Ordering::Relaxed);
        }
        if self.stop.load(Ordering::Relaxed) { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}

/// Hashes files with a thread per CPU; gives those that do not have the digest of their name, sorted.
fn hash_all(
    core: &Core,
    kind: Kind,
    files: &[(Digest, Amount)],
    progress: &Progress<'_>,
) -> Result<Vec<(Digest, String)>> {
    let next = AtomicUsize::new(0);
    let bad = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some((digest, amount)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(problem) = hash_problem(core, &Key { kind, digest: *digest })? {
                lock(&bad).push((*digest, problem));
            }
            progress.add(amount.bytes)?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut bad = bad.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    bad.sort();
    Ok(bad)
}

fn hash_problem(core: &Core, key: &Key) -> Result<Option<String>> {
    let name = key.path();
    let mut file = match core.root.read(&name) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", core.root.join(name)),
    };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // A sector that cannot be read is what this is for.
            Err(e) => return Ok(Some(format!("cannot be read: {e}"))),
        }
    }
    let got = hasher.finish();
    Ok((got != key.digest).then(|| format!("holds content {got}")))
}

/// Only with the store alone.
fn drop_broken(core: &Core, broken: &Broken) -> Result<()> {
    let root = &core.root;
    if broken.database {
        drop(root.lock_file(DB_SUSPECT)?);
    } else {
        core.transaction(|tx| {
            broken.records.iter().try_for_each(|id| tx.remove_record(*id))?;
            broken.tars.iter().try_for_each(|diff_id| tx.remove_tar(diff_id))?;
            broken.tar_blobs.iter().try_for_each(|(diff_id, blob)| tx.remove_tar_blob(diff_id, blob))
        })?;
        core.query(|db| db.settle_down())?;
    }
    for name in &broken.tags {
        root.unlink(name)?;
    }
    root.sync_dir(&Dir::Tags.to_string())?;
    for id in &broken.images {
        root.unlink(&paths::image(id))?;
    }
    root.sync_dir(&Dir::Images.to_string())?;
    let keys: Vec<Key> = broken.keys.iter().copied().collect();
    remove_keys(core, &keys)
}
