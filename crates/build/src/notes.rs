//! What a record of a step says beside its key: JSON in [`store::NewRecord::notes`], in no key.
//!
//! | member | |
//! |---|---|
//! | `below` | ids of the layers that the step started from, base first: what was there when it ran |
//! | `observed` | nothing ran on these layers: the result was taken because nothing that the step read had changed. Does not count for `--cache=chain` |
//! | `noise` | the layer is an earlier one that differs in noise from what the step made (`--cutoff=noise`). Does not count for `--cutoff=exact` |
//!
//! Notes that cannot be read are empty ones.

use oci::Digest;
use serde::{Deserialize, Serialize};
use store::Record;

use crate::options::{CacheMode, Cutoff, Options};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notes {
    pub(crate) below: Vec<Digest>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) observed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) noise: bool,
}

impl Notes {
    pub(crate) fn of(record: &Record) -> Notes {
        serde_json::from_str(&record.notes).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a build with these options takes the record.
    pub(crate) fn count(&self, options: &Options) -> bool {
        !(self.observed && options.cache == CacheMode::Chain || self.noise && options.cutoff == Cutoff::Exact)
    }
}
