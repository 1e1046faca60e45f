//! New content on its way into the store.
//!
//! Whatever is added is hashed, and written under the session's directory unless the store or the session has it. From then on
//! this process can read it; others, and anybody after a crash, only when the batch was committed and flushed.
//!
//! How the bytes get there is in [`crate::ingest`].

use std::cmp::Ordering as Order;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use oci::content::ContentSink;
use oci::index::{EncodedLayer, compare};
use oci::tar::{Digested, Mark};
use oci::{Digest, Entry, LayerIndex};

use crate::Store;
use crate::commit::Pending;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::images::{ImageRecord, Tag};
use crate::layers::{LayerEntries, TarBlob, TarOrigin};
use crate::locks::StepLock;
use crate::objects::Slot;
use crate::paths::{Dir, Key, Kind};
use crate::records::NewRecord;
use crate::sys::lock;

/// What a batch has collected. Its methods never write; they only remember.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Staged files that the batch has a share in.
    pub(crate) owned: HashSet<Slot>,
    /// Layers that were claimed with all that they need.
    reused: Vec<Digest>,
    /// What else was claimed. Of a million files, having them in both takes 70 MB.
    known: HashSet<Key>,
    /// Directories whose names the batch relies on.
    pub(crate) dirs: BTreeSet<Dir>,
    pub(crate) tars: Vec<(Digest, Digest, u64, TarOrigin)>,
    pub(crate) tar_blobs: Vec<(Digest, TarBlob)>,
    /// Marks of tars that are in `tars`.
    pub(crate) tar_marks: Vec<(Digest, Mark)>,
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) tags: Vec<Tag>,
    closed: bool,
}

/// New objects, layers, blobs, images, tags and records that become durable and visible together.
///
/// Every method takes `&self` and may be called from several threads; [`Batch::sink`] gives handles that own their share. Dropped
/// without [`Batch::commit`], a batch leaves nothing.
#[derive(Debug)]
pub struct Batch {
    sink: Sink,
}

/// A handle on a batch for another thread. Using it after the commit is an error ([`StoreError::Closed`]).
#[derive(Debug, Clone)]
pub struct Sink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    collected: Mutex<Collected>,
}

impl Shared {
    /// Ends the collecting; `None` if it has ended already.
    fn close(&self) -> Option<Collected> {
        let mut collected = lock(&self.collected);
        if collected.closed {
            return None;
        }
        self.store.core().open_batches.fetch_sub(1, Ordering::SeqCst);
        Some(std::mem::replace(&mut *collected, Collected { closed: true, ..Collected::default() }))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let shared = &self.sink.shared;
        if let Some(collected) = shared.close() {
            shared.store.core().discard(&collected.owned);
        }
    }
}

impl Core {
    /// Gives up what a batch staged.
    fn discard(&self, owned: &HashSet<Slot>) {
        for number in owned.iter().filter_map(|slot| self.staged.leave(*slot)) {
            if let Ok(session) = self.session() {
                let _ = self.root.unlink(&session.staged(number));
            }
        }
    }
}

impl Store {
    /// A new, empty batch.
    pub fn batch(&self) -> Batch {
        self.core().open_batches.fetch_add(1, Ordering::SeqCst);
        Batch { sink: Sink { shared: Arc::new(Shared { store: self.clone(), collected: Mutex::default() }) } }
    }
}

impl Batch {
    /// Another handle, for a thread of its own.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Reads to the end and keeps the bytes; gives their digest and number. An error of the reader comes back as it was.
    pub fn add(&self, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        self.sink.add(reader)
    }

    /// Keeps bytes that are in memory.
    pub fn add_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        self.sink.add_bytes(bytes)
    }

    /// See [`Sink::add_file`].
    pub fn add_file(&self, file: &File, path: &Path) -> Result<(Digest, u64)> {
        self.sink.add_file(file, path)
    }

    /// See [`Sink::add_path`].
    pub fn add_path(&self, path: &Path) -> Result<(Digest, u64)> {
        self.sink.add_path(path)
    }

    /// See [`Sink::reuse`].
    pub fn reuse(&self, digest: &Digest) -> Result<bool> {
        self.sink.claim(Key::object(digest))
    }

    /// Adds a layer and gives its id. An object that is neither in the store nor in this batch is [`StoreError::Missing`].
    pub fn add_layer(&self, layer: &LayerIndex) -> Result<Digest> {
        for (digest, _) in layer.objects() {
            self.sink.need(Key::object(&digest))?;
        }
        let id = layer.id();
        self.sink.stage(Key::layer(&id), |file| layer.write(&id, file))?;
        Ok(id)
    }

    /// [`Batch::add_layer`] for one that is encoded already.
    pub fn add_encoded(&self, layer: &EncodedLayer) -> Result<Digest> {
        self.each_lacking(layer, |digest| self.sink.need(Key::object(digest)))?;
        self.sink.stage_bytes(Key::layer(&layer.id()), layer.bytes())?;
        Ok(layer.id())
    }

    /// Claims a layer that the store or this process has already, and everything that it needs: a layer that is there is whole, so its
    /// objects need not be looked for one by one. `false` if it has not, or if the layer cannot be read: nothing may rest on that one.
    pub fn reuse_layer(&self, id: &Digest) -> Result<bool> {
        let Ok(mut entries) = self.sink.shared.store.layer_entries(id) else { return Ok(false) };
        let mut dirs = BTreeSet::new();
        while let Some(entry) = entries.encoded().advance() {
            match entry {
                Ok(Entry { kind: oci::Kind::File { digest, .. }, .. }) => {
                    dirs.insert(Key::object(digest).dir());
                }
                Ok(_) => {}
                Err(_) => return Ok(false),
            }
        }
        if !self.sink.claim(Key::layer(id))? {
            return Ok(false);
        }
        self.sink.collect(|c| {
            c.dirs.append(&mut dirs);
            c.reused.push(*id);
        })?;
        Ok(true)
    }

    /// Tells of the objects of a layer that must yet be claimed or added: those that no layer of [`Batch::reuse_layer`] has at the same
    /// path. The layers are gone through side by side: of a million files, a list of what is claimed takes 70 MB.
    pub fn each_lacking<E>(
        &self,
        layer: &EncodedLayer,
        mut take: impl FnMut(&Digest) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let reused = lock(&self.sink.shared.collected).reused.clone();
        let open = |id| self.sink.shared.store.layer_entries(id).ok();
        let mut beside: Vec<Beside> = reused.iter().filter_map(open).map(Beside::new).collect();
        layer.try_each(|entry| match &entry.kind {
            oci::Kind::File { digest, .. } if !beside.iter_mut().any(|b| b.has(&entry.path, digest)) => {
                take(digest)
            }
            _ => Ok(()),
        })
    }

    /// Adds a small blob: a config, a manifest. For large ones there is [`Store::blob_writer`].
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.sink.stage_bytes(Key::blob(&digest), bytes)?;
        Ok(digest)
    }

    /// Remembers digest and size in bytes of a tar of the layer.
    pub fn set_diff_id(
        &self,
        layer: &Digest,
        diff_id: &Digest,
        tar_size: u64,
        origin: TarOrigin,
    ) -> Result<()> {
        self.sink.need(Key::layer(layer))?;
        self.sink.collect(|c| c.tars.push((*diff_id, *layer, tar_size, origin)))
    }

    /// [`Batch::set_diff_id`] for the tar that our writer makes of a layer, with where another digest may go on from.
    pub fn set_digested(&self, layer: &Digest, tar: Digested) -> Result<()> {
        self.set_diff_id(layer, &tar.digest, tar.size, TarOrigin::Written)?;
        self.sink.collect(|c| c.tar_marks.extend(tar.marks.into_iter().map(|m| (tar.digest, m))))
    }

    /// Remembers that a blob unpacks to the tar `diff_id`.
    pub fn add_tar_blob(&self, diff_id: &Digest, media_type: &str, digest: &Digest, size: u64) -> Result<()> {
        self.sink.need(Key::blob(digest))?;
        let blob = TarBlob { media_type: media_type.to_owned(), digest: *digest, size };
        self.sink.collect(|c| c.tar_blobs.push((*diff_id, blob)))
    }

    /// Adds or replaces an image. Its config, manifest and layers must be in this batch or in the store.
    pub fn put_image(&self, image: &ImageRecord) -> Result<()> {
        self.sink.need(Key::blob(&image.id))?;
        if let Some(manifest) = &image.manifest {
            self.sink.need(Key::blob(manifest))?;
        }
        for layer in &image.layers {
            self.sink.need(Key::layer(layer))?;
        }
        self.sink.collect(|c| c.images.push(image.clone()))
    }

    /// Points a tag (a canonical name) at an image of this batch or of the store.
    pub fn tag(&self, name: &str, id: &Digest, manifest: Option<&Digest>) -> Result<()> {
        let here = lock(&self.sink.shared.collected).images.iter().any(|image| image.id == *id);
        if !here && self.sink.shared.store.image(id)?.is_none() {
            return Err(StoreError::Missing { kind: "image", digest: *id });
        }
        let tag = Tag { name: name.to_owned(), id: *id, manifest: manifest.copied(), set: oci::Time::now() };
        self.sink.collect(|c| c.tags.push(tag))
    }

    /// Hands the batch over to the group commit and returns at once. `keep` is released when everything is durable and visible, so
    /// that whoever waits for a lock finds the record. The layers of `records` must be in this batch or in the store.
    ///
    /// An error is either one of this call, or [`StoreError::Stopped`] after an earlier failure of the group commit.
    pub fn commit(self, records: Vec<NewRecord>, keep: Vec<StepLock>) -> Result<()> {
        for record in &records {
            self.sink.need(Key::layer(&record.layer))?;
        }
        let shared = &self.sink.shared;
        let core = shared.store.core();
        let mut collected = shared.close().ok_or(StoreError::Closed)?;
        // Only for those who ask.
        collected.known = HashSet::new();
        lock(&core.tars).remember(&collected.tars, &collected.tar_blobs);
        let layer = |slot: &&Slot| core.staged.kind(**slot) == Kind::Layer;
        let layers: Vec<Slot> = collected.owned.iter().filter(layer).copied().collect();
        shared.store.committer().submit(core, Pending { collected, records, keep })?;
        core.staged.submitted(&layers);
        Ok(())
    }
}

/// A layer beside another one, both gone through in their order.
struct Beside {
    layer: LayerEntries,
    /// Path and content of the entry that was reached.
    here: Option<(Vec<u8>, Option<Digest>)>,
}

impl Beside {
    fn new(layer: LayerEntries) -> Beside {
        Beside { layer, here: None }
    }

    /// Whether the layer has a file of this content at a path; the paths that are asked for come in order.
    fn has(&mut self, path: &[u8], content: &Digest) -> bool {
        loop {
            match self.here.as_ref().map(|(here, content)| (compare(here, path), content)) {
                Some((Order::Equal, here)) => return *here == Some(*content),
                Some((Order::Greater, _)) => return false,
                Some((Order::Less, _)) | None => {}
            }
            let Some(Ok(entry)) = self.layer.encoded().advance() else { return false };
            let content = match entry.kind {
                oci::Kind::File { digest, .. } => Some(digest),
                _ => None,
            };
            let (here, known) = self.here.get_or_insert_default();
            here.clone_from(&entry.path);
            *known = content;
        }
    }
}

impl Sink {
    /// Claims an object that the store or this process has already, as when its digest is known from a memo; `false` if it has
    /// not, and then it must be added.
    pub fn reuse(&self, digest: &Digest) -> Result<bool> {
        self.claim(Key::object(digest))
    }

    fn collect(&self, f: impl FnOnce(&mut Collected)) -> Result<()> {
        let mut collected = lock(&self.shared.collected);
        if collected.closed {
            return Err(StoreError::Closed);
        }
        f(&mut collected);
        Ok(())
    }

    /// Takes a share in a file that is staged or in the store; `false` if it is neither.
    pub(crate) fn claim(&self, key: Key) -> Result<bool> {
        let core = self.core();
        {
            let mut collected = lock(&self.shared.collected);
            if collected.closed {
                return Err(StoreError::Closed);
            }
            let own = |slot| collected.owned.contains(&slot);
            if core.staged.slot(&key).is_some_and(own) || collected.known.contains(&key) {
                return Ok(true);
            }
            if let Some((slot, submitted)) = core.staged.join(&key) {
                collected.owned.insert(slot);
                drop(collected);
                return if submitted { Ok(true) } else { self.claim_below(key).map(|()| true) };
            }
        }
        if !core.root.exists(&key.path())? {
            return Ok(false);
        }
        self.collect(|c| {
            c.known.insert(key);
            // Who put it there may not have flushed the directory yet.
            c.dirs.insert(key.dir());
        })?;
        Ok(true)
    }

    /// Takes a share in what a layer needs that another batch has staged, and may yet drop.
    fn claim_below(&self, key: Key) -> Result<()> {
        if key.kind != Kind::Layer {
            return Ok(());
        }
        let layer = self.shared.store.layer(&key.digest)?;
        layer.objects().try_for_each(|(digest, _)| self.need(Key::object(&digest)))
    }

    fn need(&self, key: Key) -> Result<()> {
        if self.claim(key)? {
            return Ok(());
        }
        Err(StoreError::Missing { kind: key.kind.noun(), digest: key.digest })
    }

    pub(crate) fn stage_bytes(&self, key: Key, bytes: &[u8]) -> Result<()> {
        self.stage(key, |file| file.write_all(bytes))
    }

    /// Stages what is written, unless it is there.
    fn stage(&self, key: Key, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        if self.claim(key)? {
            return Ok(());
        }
        let core = self.core();
        let session = core.session()?;
        let number = session.next()?;
        let name = session.staged(number);
        if let Err(e) = core.root.write_new_with(&name, 0o444, write) {
            let _ = core.root.unlink(&name);
            return Err(e);
        }
        self.take(key, number)
    }

    /// Makes a file of the session's directory a staged one of this batch.
    pub(crate) fn take(&self, key: Key, number: u64) -> Result<()> {
        let core = self.core();
        let mut collected = lock(&self.shared.collected);
        let mut spare = collected.closed;
        if !spare {
            let own = |slot| collected.owned.contains(&slot);
            if core.staged.slot(&key).is_some_and(own) {
                spare = true;
            } else {
                let (slot, new) = core.staged.insert(key, number);
                spare = !new;
                collected.owned.insert(slot);
                collected.dirs.insert(key.dir());
            }
        }
        let closed = collected.closed;
        drop(collected);
        if spare {
            core.root.unlink(&core.session()?.staged(number))?;
        }
        if closed { Err(StoreError::Closed) } else { Ok(()) }
    }

    pub(crate) fn core(&self) -> &Core {
        self.shared.store.core()
    }
}

impl ContentSink for Batch {
    fn add(&mut self, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        self.sink.add(reader)
    }
}

impl ContentSink for Sink {
    fn add(&mut self, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        Sink::add(self, reader)
    }
}
