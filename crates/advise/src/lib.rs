//! From what is known of a build to edits of its Dockerfile.
//!
//! ```text
//! build ─► facts (what every step made, read and took) ─► kinds (one file each) ─► Advice (edits, bytes, seconds) ─► verify ─► patch
//! ```
//!
//! - [`facts`]: a build's Dockerfile with, for every step, its layer, the tree below it, its time, and what it read;
//! - [`shell`]: the simple commands of a RUN, with their places in the Dockerfile;
//! - `kinds`: what can be advised, one kind for each file, each pure: facts in, advice out;
//! - [`edit`]: edits to a text, and to a patch;
//! - [`rebuilt`]: a Dockerfile put together from an image's history, where there is no other;
//! - [`verify`]: builds before and after, and compares.
//!
//! Edits are made on the places of the parsed file: what they do not touch stays as it is, to the byte, comments included.

pub mod edit;
pub mod facts;
mod kinds;
pub mod rebuilt;
pub mod shell;
#[cfg(test)]
mod testkit;
pub mod verify;

use serde::Serialize;

pub use edit::Edit;
pub use facts::Facts;
pub use kinds::advise;

/// What kind of change is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Delete files in the RUN that makes them.
    MergeRuns,
    /// `COPY --chmod`, `COPY --chown` in place of a RUN.
    CopyChmod,
    /// Copy first what a RUN reads, and the rest behind it.
    NarrowCopy,
    /// Leave files that nothing uses out of the context.
    Ignore,
    /// Keep a package manager's cache in a cache mount.
    CacheMount,
    /// Flags of package managers that leave less behind.
    Flags,
    /// Package lists that stay in the layer.
    Lists,
    /// Build in one stage, ship another.
    Split,
}

impl Kind {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MergeRuns => "merge-runs",
            Kind::CopyChmod => "copy-chmod",
            Kind::NarrowCopy => "narrow-copy",
            Kind::Ignore => "ignore",
            Kind::CacheMount => "cache-mount",
            Kind::Flags => "flags",
            Kind::Lists => "lists",
            Kind::Split => "split",
        }
    }
}

/// What a change is worth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Worth {
    /// Bytes that the image gets smaller by, not compressed, as measured on the layers.
    pub bytes: u64,
    /// Bytes that the builder need not read or keep; no part of the image.
    pub build_bytes: u64,
    /// Seconds of a later build, from the times that the steps took.
    pub seconds: f64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What kind.
    pub kind: Kind,
    /// First line of the instruction that it is about.
    pub line: u32,
    /// What to do, in one line.
    pub title: String,
    /// Why, with figures, and what to look out for.
    pub why: String,
    /// What it is worth.
    pub worth: Worth,
    /// Changes of the Dockerfile.
    pub edits: Vec<Edit>,
    /// Lines to add to `.dockerignore`.
    pub ignore: Vec<String>,
    /// A file of the context whose change must not run more steps than before: what a narrow COPY is measured with.
    #[serde(skip)]
    pub probe: Option<String>,
    /// Paths of the final image that may be otherwise afterwards, with all below them, and directories that held nothing else;
    /// everything else stays the same.
    pub changes: Vec<String>,
}

impl Advice {
    /// Whether two changes can be made one beside the other.
    pub fn fits_with(&self, other: &Advice) -> bool {
        let touches = |a: &Edit, b: &Edit| {
            (a.start < b.end && b.start < a.end)
                || a.start == b.start
                || (a.moves && b.inside(a))
                || (b.moves && a.inside(b))
        };
        !self.edits.iter().any(|a| other.edits.iter().any(|b| touches(a, b)))
    }
}

/// Those of a ranked list that can be made together: each that fits with all before it.
pub fn together(all: &[Advice]) -> Vec<&Advice> {
    let mut out: Vec<&Advice> = Vec::new();
    for a in all {
        if out.iter().all(|b| a.fits_with(b)) {
            out.push(a);
        }
    }
    out
}
