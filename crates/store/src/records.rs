//! Records of past steps.
//!
//! A record is found by its step key: by key and parent in one indexed look-up, or by key alone, newest first. Of one key and parent
//! only the newest run is kept, of one key the newest [`KEPT`]. Observations and log lie apart, compressed, and are read only when
//! asked for.
//!
//! Last use is kept to the hour, and written with the next transaction, so that a look-up never writes.

use std::collections::HashSet;

use oci::{Digest, Time};

use crate::Store;
use crate::commit::Pending;
use crate::core::Core;
use crate::error::Result;
use crate::sys::lock;

/// Records of one step key that are kept.
pub(crate) const KEPT: usize = 16;

/// Records of one result that may push out those of others. A step that is reused on one new parent after the other leaves a record each time,
/// and the result of another branch is wanted again when that branch is.
pub(crate) const KEPT_OF_LAYER: usize = 4;

/// A use this much later than the one on record, in seconds, is written down.
const USE_STEP: i64 = 3600;

/// Bytes of a log that are kept: the end of it.
pub(crate) const MAX_LOG: usize = 16 << 20;

/// Observations larger than this many bytes are not kept.
pub(crate) const MAX_OBSERVATIONS: usize = 256 << 20;

/// A run to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Step key.
    pub key: Digest,
    /// Chain id of the tree that the step started from.
    pub parent: Digest,
    /// The layer that it made.
    pub layer: Digest,
    /// Chain id with that layer.
    pub chain: Digest,
    /// When it ran.
    pub created: Time,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// What it printed. Of more than 16 MiB the end is kept.
    pub log: Vec<u8>,
    /// What it observed, encoded by the caller; `None` if the run cannot be used by observations. More than 256 MiB count as `None`.
    pub observations: Option<Vec<u8>>,
    /// What went into the key, as JSON, for explain.
    pub inputs: String,
    /// What else the caller wants to find with the record; in no key. The store does not look into it.
    pub notes: String,
}

/// A past run. Log and observations are loaded by [`Store::record_log`] and [`Store::record_observations`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number in the database; never given to another record.
    pub id: i64,
    /// Step key.
    pub key: Digest,
    /// Chain id of the tree that the step started from.
    pub parent: Digest,
    /// The layer that it made.
    pub layer: Digest,
    /// Chain id with that layer.
    pub chain: Digest,
    /// When it ran.
    pub created: Time,
    /// Last use that was written down, in seconds since 1970; it lags up to an hour.
    pub last_used: i64,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Whether it can be used by observations.
    pub has_observations: bool,
    /// What went into the key, as JSON, for explain.
    pub inputs: String,
    /// See [`NewRecord::notes`].
    pub notes: String,
}

impl Store {
    /// The run of a step on exactly this parent. Finding it counts as a use. A record whose layer is gone is none.
    pub fn record_by_parent(&self, key: &Digest, parent: &Digest) -> Result<Option<Record>> {
        let Some(record) = self.core().query(|db| db.record_by_parent(key, parent))? else { return Ok(None) };
        if !self.has_layer(&record.layer)? {
            return Ok(None);
        }
        self.note_use(record.id, record.last_used);
        Ok(Some(record))
    }

    /// Up to `limit` runs of a step, newest first. Only [`Store::record_used`] makes this a use. The layers may be gone.
    pub fn records(&self, key: &Digest, limit: usize) -> Result<Vec<Record>> {
        self.core().query(|db| db.records(key, limit))
    }

    /// One record by number.
    pub fn record(&self, id: i64) -> Result<Option<Record>> {
        self.core().query(|db| db.record(id))
    }

    /// Observations of a run; `None` if it has none or is gone.
    pub fn record_observations(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.core().query(|db| db.observations(id))
    }

    /// Log of a run; `None` if the record is gone.
    pub fn record_log(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.core().query(|db| db.log(id))
    }

    /// Notes that a record was used; it is written with the next transaction.
    pub fn record_used(&self, id: i64) {
        // An error will be met by the next who reads or writes records; a use is not worth one.
        if let Ok(Some(last)) = self.core().query(|db| db.last_used(id)) {
            self.note_use(id, last);
        }
    }

    fn note_use(&self, id: i64, last: i64) {
        if Time::now().secs - last > USE_STEP {
            lock(&self.core().used).insert(id);
        }
    }
}

impl Core {
    /// Writes the records and tars of a group, and the uses noted so far, in one transaction.
    pub(crate) fn write_rows(&self, group: &[Pending]) -> Result<()> {
        let used: HashSet<i64> = std::mem::take(&mut *lock(&self.used));
        let rows = |p: &Pending| {
            !p.records.is_empty() || !p.collected.tars.is_empty() || !p.collected.tar_blobs.is_empty()
        };
        if used.is_empty() && !group.iter().any(rows) {
            return Ok(());
        }
        let now = Time::now().secs;
        self.transaction(|tx| {
            for pending in group {
                for (diff_id, layer, size, origin) in &pending.collected.tars {
                    tx.put_tar(diff_id, layer, Some(*size), *origin)?;
                }
                for (diff_id, mark) in &pending.collected.tar_marks {
                    tx.put_tar_mark(diff_id, mark)?;
                }
                for (diff_id, blob) in &pending.collected.tar_blobs {
                    tx.put_tar_blob(diff_id, blob)?;
                }
                for record in &pending.records {
                    tx.put_record(record, now)?;
                }
            }
            used.iter().try_for_each(|id| tx.use_record(*id, now))
        })
    }
}
