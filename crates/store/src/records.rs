//! Records of past steps.
use oci::{Digest, Time};

use crate::Store;
use crate::error::{Result, pending};

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
    /// How long it ran.
    pub duration_ms: u64,
    /// What it printed.
    pub log: Vec<u8>,
    /// What it observed, encoded by the caller; `None` if it cannot be used by observations.
    pub observations: Option<Vec<u8>>,
    /// What went into the key, as JSON, for explain.
    pub inputs: String,
}

/// A past run. Log and observations are loaded by [`Store::record_log`] and [`Store::record_observations`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number in the database.
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
    /// Last use known to the database, in seconds since 1970; it may lag an hour.
    pub last_used: i64,
    /// How long it ran.
    pub duration_ms: u64,
    /// Whether it can be used by observations.
    pub has_observations: bool,
    /// What went into the key, as JSON, for explain.
    pub inputs: String,
}

impl Store {
    /// The run of a step on exactly this parent.
    pub fn record_by_parent(&self, _key: &Digest, _parent: &Digest) -> Result<Option<Record>> {
        pending()
    }
    /// Runs of a step, newest first.
    pub fn records(&self, _key: &Digest, _limit: usize) -> Result<Vec<Record>> {
        pending()
    }
    /// One record by number.
    pub fn record(&self, _id: i64) -> Result<Option<Record>> {
        pending()
    }
    /// Observations of a run; `None` if it has none or is gone.
    pub fn record_observations(&self, _id: i64) -> Result<Option<Vec<u8>>> {
        pending()
    }
    /// Log of a run; `None` if the record is gone.
    pub fn record_log(&self, _id: i64) -> Result<Option<Vec<u8>>> {
        pending()
    }
    /// Remembers that the record was used (written with the next transaction, at most hourly).
    pub fn record_used(&self, _id: i64) {}
}
