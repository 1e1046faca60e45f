//! Layers, and what is known of their tars and blobs.
//!
//! A layer may have several tars: ours, which the deterministic writer makes from the index, and any that was pulled and read as
//! the same index (entries in another order, other padding). Each has its own diff ID, and a compressed blob belongs to one of them,
//! not to the layer: so blobs are linked to diff IDs, and only [`TarOrigin::Written`] tars can be made again from the layer.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use oci::index::{Entries, IndexError};
use oci::tree::TreeError;
use oci::{Digest, Entry, LayerIndex, Tree};

use crate::Store;
use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::paths::Key;
use crate::sys::lock;

/// Encoded size of the layers kept in memory, in bytes. Decoded they take about three times that.
const CACHE: u64 = 64 << 20;

/// Layers of more encoded bytes than this are not decoded only to be put on a tree.
const KEPT: u64 = 4 << 20;

/// Where a tar of a layer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarOrigin {
    /// Our deterministic writer makes it from the index.
    Written,
    /// It was pulled or loaded: only a blob that came has these bytes.
    Received,
}

/// A blob that unpacks to a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarBlob {
    /// Media type, as in a manifest.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
}

/// Decoded layers, the least recently used dropped first.
#[derive(Debug, Default)]
pub(crate) struct LayerCache {
    layers: HashMap<Digest, Cached>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct Cached {
    layer: Arc<LayerIndex>,
    bytes: u64,
    used: u64,
}

impl LayerCache {
    fn get(&mut self, id: &Digest) -> Option<Arc<LayerIndex>> {
        self.clock += 1;
        let cached = self.layers.get_mut(id)?;
        cached.used = self.clock;
        Some(cached.layer.clone())
    }

    fn put(&mut self, id: Digest, layer: Arc<LayerIndex>, bytes: u64, limit: u64) {
        self.clock += 1;
        self.bytes += bytes;
        let new = Cached { layer, bytes, used: self.clock };
        if let Some(old) = self.layers.insert(id, new) {
            self.bytes -= old.bytes;
        }
        while self.bytes > limit && self.layers.len() > 1 {
            let Some(oldest) = self.layers.iter().min_by_key(|(_, c)| c.used).map(|(id, _)| *id) else {
                return;
            };
            if let Some(old) = self.layers.remove(&oldest) {
                self.bytes -= old.bytes;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = LayerCache::default();
    }
}

/// What this process has learned of tars, so that it can be asked before it is in the database.
#[derive(Debug, Default)]
pub(crate) struct KnownTars {
    layers: HashMap<Digest, Digest>,
    written: HashMap<Digest, (Digest, u64)>,
    blobs: HashMap<Digest, Vec<TarBlob>>,
}

impl KnownTars {
    pub(crate) fn remember(
        &mut self,
        tars: &[(Digest, Digest, u64, TarOrigin)],
        blobs: &[(Digest, TarBlob)],
    ) {
        for (diff_id, layer, size, origin) in tars {
            self.layers.insert(*diff_id, *layer);
            if *origin == TarOrigin::Written {
                self.written.insert(*layer, (*diff_id, *size));
            }
        }
        for (diff_id, blob) in blobs {
            let blobs = self.blobs.entry(*diff_id).or_default();
            if !blobs.contains(blob) {
                blobs.push(blob.clone());
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = KnownTars::default();
    }
}

/// The entries of a layer, in order. After an error there are none.
#[derive(Debug)]
pub struct LayerEntries {
    store: Store,
    id: Digest,
    entries: Entries<Vec<u8>>,
}

impl Iterator for LayerEntries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        Some(self.entries.next()?.map_err(|e| unreadable(self.store.core(), &self.id, &e)))
    }
}

impl LayerEntries {
    /// The same entries for those who go through them several times.
    pub fn encoded(&mut self) -> &mut Entries<Vec<u8>> {
        &mut self.entries
    }
}

fn unreadable(core: &Core, id: &Digest, e: &IndexError) -> StoreError {
    damaged(core, id, format!("cannot be read: {e}"))
}

fn damaged(core: &Core, id: &Digest, what: String) -> StoreError {
    StoreError::Damaged { what, path: core.root.join(Key::layer(id).path()) }
}

impl Store {
    /// The layer of an id, from the store or from a batch of this process. Its checksum is verified when it is read.
    pub fn layer(&self, id: &Digest) -> Result<Arc<LayerIndex>> {
        let core = self.core();
        if let Some(layer) = lock(&core.layers).get(id) {
            return Ok(layer);
        }
        let LayerEntries { entries, .. } = self.layer_entries(id)?;
        self.decoded(id, entries)
    }

    /// The entries of a layer, each wanted once: the layer is not decoded as a whole, nor kept.
    pub fn layer_entries(&self, id: &Digest) -> Result<LayerEntries> {
        let (found, entries) =
            Entries::new(self.read_layer(id)?).map_err(|e| unreadable(self.core(), id, &e))?;
        if found != *id {
            return Err(damaged(self.core(), id, format!("holds the layer {found}")));
        }
        Ok(LayerEntries { store: self.clone(), id: *id, entries })
    }

    /// Puts a layer on a tree. A large one is not decoded as a whole, nor kept: it takes as much memory as what it makes of the tree.
    pub fn apply_layer(&self, tree: &mut Tree, id: &Digest) -> Result<std::result::Result<(), TreeError>> {
        let core = self.core();
        let known = lock(&core.layers).get(id);
        if let Some(layer) = known {
            return Ok(tree.apply(&layer));
        }
        let LayerEntries { mut entries, .. } = self.layer_entries(id)?;
        if entries.size() <= KEPT {
            return Ok(tree.apply(&*self.decoded(id, entries)?));
        }
        match tree.apply_encoded(&mut entries) {
            Err(TreeError::Entry(e @ IndexError::Damaged(_))) => Err(unreadable(core, id, &e)),
            applied => Ok(applied),
        }
    }

    /// Decodes a layer, and keeps it.
    fn decoded(&self, id: &Digest, entries: Entries<Vec<u8>>) -> Result<Arc<LayerIndex>> {
        let core = self.core();
        let size = entries.size();
        let layer = Arc::new(LayerIndex::from_encoded(entries).map_err(|e| unreadable(core, id, &e))?);
        lock(&core.layers).put(*id, layer.clone(), size, CACHE);
        Ok(layer)
    }

    pub(crate) fn read_layer(&self, id: &Digest) -> Result<Vec<u8>> {
        let core = self.core();
        let key = Key::layer(id);
        let mut bytes = Vec::new();
        core.open_key(&key)?.read_to_end(&mut bytes).at("read", core.root.join(key.path()))?;
        Ok(bytes)
    }

    /// Whether the layer is in the store or in a batch of this process.
    pub fn has_layer(&self, id: &Digest) -> Result<bool> {
        self.core().has_key(&Key::layer(id))
    }

    /// The layer that a tar with this digest was read as or written from.
    pub fn layer_id_of_diff_id(&self, diff_id: &Digest) -> Result<Option<Digest>> {
        let core = self.core();
        if let Some(layer) = lock(&core.tars).layers.get(diff_id) {
            return Ok(Some(*layer));
        }
        core.query(|db| db.layer_of_tar(diff_id))
    }

    /// Digest and size in bytes of the tar that *our writer* makes of the layer, if it was ever made.
    pub fn diff_id(&self, layer: &Digest) -> Result<Option<(Digest, u64)>> {
        let core = self.core();
        if let Some(known) = lock(&core.tars).written.get(layer) {
            return Ok(Some(*known));
        }
        core.query(|db| db.written_tar(layer))
    }

    /// A hasher's state, by the name of the mark: see [`oci::tar::marks`].
    pub fn tar_mark(&self, prefix: &Digest) -> Result<Option<Vec<u8>>> {
        self.core().query(|db| db.tar_mark(prefix))
    }

    /// The blobs that unpack to the tar `diff_id`.
    pub fn tar_blobs(&self, diff_id: &Digest) -> Result<Vec<TarBlob>> {
        let core = self.core();
        let mut blobs = lock(&core.tars).blobs.get(diff_id).cloned().unwrap_or_default();
        for blob in core.query(|db| db.tar_blobs(diff_id))? {
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        Ok(blobs)
    }

    /// [`crate::Batch::add_tar_blob`] in a batch of its own.
    pub fn add_tar_blob(&self, diff_id: &Digest, media_type: &str, digest: &Digest, size: u64) -> Result<()> {
        let batch = self.batch();
        batch.add_tar_blob(diff_id, media_type, digest, size)?;
        batch.commit(Vec::new(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_was_used_last() {
        let id = |n: u8| Digest::of(&[n]);
        let mut cache = LayerCache::default();
        for n in 0..3 {
            cache.put(id(n), Arc::default(), 10, 30);
        }
        assert!(cache.get(&id(0)).is_some());
        cache.put(id(3), Arc::default(), 10, 30);
        assert!(cache.get(&id(1)).is_none(), "the oldest goes");
        assert!(cache.get(&id(0)).is_some(), "what was used stays");
        cache.put(id(4), Arc::default(), 100, 30);
        assert!(cache.get(&id(4)).is_some(), "one layer may be larger than all");
        assert_eq!((cache.layers.len(), cache.bytes), (1, 100));
    }
}
