//! Where a layer comes from, beyond its line of the history: the line of the Dockerfile, and what the step read.
//!
//! Both are facts that the image does not hold. Whoever has them (records of our builds, a Dockerfile) puts them beside the image.

use std::collections::BTreeMap;

use serde::Serialize;

/// Where one layer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Source {
    /// The Dockerfile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// First line of the instruction in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Last line of the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_line: Option<u32>,
    /// The instruction, variables expanded.
    #[serde(skip)]
    pub instruction: Option<String>,
    /// How long the step ran, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Files whose content the step read, at most [`Source::MOST`] of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// How many it read in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_count: Option<u64>,
}

impl Source {
    /// Names that are kept.
    pub const MOST: usize = 1000;
}

/// Where the layers of an image come from, by their numbers.
pub type Origins = BTreeMap<usize, Source>;
