//! How the files of a step's parent are shown to it: served and observed; or, where that cannot be had, from directories made of its
//! layers; or, where overlayfs is refused, too, from a copy.
//!
//! Which of them works is found out by the first step: nothing short of trying tells. A step that was shown its files without being
//! observed has no observations in its record, so only Docker's rule finds it again.
//!
//! A layer becomes one directory, which all images that have it share. That shows what the merged tree says only for layers that
//! name all their directories and reach none through a link of another layer ([`sandbox::is_plain`]). Everything up to the last
//! layer that does not goes into one directory, as do the lowest ones of a stack that is too tall for one mount.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use oci::{Content, Digest};
use sandbox::{Files, FilesError, Running, SandboxError, Step, Unset};
use store::Store;

use crate::error::BuildError;
use crate::key::{EMPTY_CHAIN, chain};

/// Lower directories of one overlay: the kernel takes 500, and a page of options.
const MOST_LOWERS: usize = 120;

/// How files are shown to steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum View {
    /// The first of the others that works here.
    #[default]
    Auto,
    /// Served through FUSE, and observed.
    Fuse,
    /// From directories of the layers under overlayfs.
    Overlay,
    /// From a copy for each step.
    Copy,
}

impl View {
    /// The one that `--view` names.
    pub fn from_name(name: &str) -> Option<View> {
        [View::Auto, View::Fuse, View::Overlay, View::Copy].into_iter().find(|v| v.name() == name)
    }

    /// As `--view` has it.
    pub fn name(self) -> &'static str {
        match self {
            View::Auto => "auto",
            View::Fuse => "fuse",
            View::Overlay => "overlay",
            View::Copy => "copy",
        }
    }
}

/// What a step gets otherwise than it was to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// Its files are not shown in the best way.
    View,
    /// A limit is not in force.
    Limits,
}

/// Starts steps, and remembers what works.
#[derive(Debug)]
pub struct Views {
    wanted: View,
    /// The number of the [`View`] that is tried next.
    now: AtomicU8,
    /// Whether it was told which limits are not in force.
    told: AtomicBool,
}

impl Views {
    /// For steps that are to be shown their files in this way.
    pub fn new(wanted: View) -> Views {
        let first = if wanted == View::Auto { View::Fuse } else { wanted };
        Views { wanted, now: AtomicU8::new(first as u8), told: AtomicBool::new(false) }
    }

    fn now(&self) -> View {
        match self.now.load(Ordering::Relaxed) {
            n if n == View::Fuse as u8 => View::Fuse,
            n if n == View::Overlay as u8 => View::Overlay,
            _ => View::Copy,
        }
    }

    /// Starts a step whose tree is that of `layers`, base first. Its scratch directory may hold other things. `warn` is told when another
    /// way than the best is taken, or limits are not in force: once, whatever the number of steps.
    pub fn spawn(
        &self,
        store: &Store,
        step: &Step,
        layers: &[Digest],
        warn: &dyn Fn(Shortfall, String),
    ) -> Result<Running, BuildError> {
        loop {
            let view = self.now();
            let scratch = step.scratch.join(view.name());
            std::fs::create_dir(&scratch).map_err(BuildError::io("make", &scratch))?;
            let files = match view {
                View::Overlay => Files::Overlay { lowers: lowers(store, &*step.content, layers)? },
                View::Copy => Files::Copy,
                View::Fuse | View::Auto => Files::Fuse,
            };
            let error = match sandbox::spawn(Step { files, scratch, ..step.clone() }) {
                Ok(running) => {
                    if !running.unset.is_empty() && !self.told.swap(true, Ordering::Relaxed) {
                        warn(Shortfall::Limits, unlimited(&running.unset));
                    }
                    return Ok(running);
                }
                Err(e) => e,
            };
            let next = match view {
                View::Fuse if error.is_without_fuse() => View::Overlay,
                View::Overlay if error.is_without_overlay() => View::Copy,
                _ => return Err(error.into()),
            };
            if self.wanted != View::Auto {
                return Err(error.into());
            }
            // Of several steps that are refused at once, one tells.
            let order = Ordering::Relaxed;
            if self.now.compare_exchange(view as u8, next as u8, order, order).is_ok() {
                warn(Shortfall::View, told(next, &error));
            }
        }
    }
}

fn told(next: View, error: &SandboxError) -> String {
    let why = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let how = if next == View::Overlay { "directories of its layers" } else { "a copy of its files" };
    format!(
        "each RUN gets {how}, and nobody sees what it reads: it is run again whenever something below it changed ({why})"
    )
}

/// Which limits are not in force, and why: each reason once.
fn unlimited(unset: &[Unset]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for Unset { limit, why } in unset {
        match reasons.iter_mut().find(|(other, _)| other == why) {
            Some((_, limits)) => limits.push(limit),
            None => reasons.push((why, vec![limit])),
        }
    }
    let told = reasons.iter().map(|(why, limits)| format!("{} ({why})", limits.join(" and ")));
    format!("going on without a limit of {}", told.collect::<Vec<_>>().join(", and of "))
}

/// Part of a stack of layers that becomes one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part<'a> {
    name: String,
    layers: &'a [Digest],
}

/// Divides a stack: base first.
fn parts<'a>(layers: &'a [Digest], plain: &[bool]) -> Vec<Part<'a>> {
    let tall = layers.len().saturating_sub(MOST_LOWERS - 1);
    let flat = plain.iter().rposition(|p| !p).map_or(0, |last| last + 1).max(if tall > 1 { tall } else { 0 });
    let below = &layers[..flat];
    let mut out = Vec::new();
    if !below.is_empty() {
        let chain = below.iter().fold(EMPTY_CHAIN, |c, layer| chain(&c, layer));
        out.push(Part { name: format!("flat-{}", chain.hex()), layers: below });
    }
    // Overlayfs refuses a directory twice. What a layer says, it says once for all where it lies highest.
    let highest = |n: usize| !layers[n + 1..].contains(&layers[n]);
    let rest = (flat..layers.len()).filter(|&n| highest(n));
    out.extend(rest.map(|n| Part { name: layers[n].hex(), layers: &layers[n..=n] }));
    out
}

/// The directories of a stack of layers, the topmost first; made if they are not there.
fn lowers(store: &Store, content: &dyn Content, layers: &[Digest]) -> Result<Vec<PathBuf>, BuildError> {
    let indexes: Vec<Arc<oci::LayerIndex>> =
        layers.iter().map(|id| store.layer(id)).collect::<Result<_, _>>()?;
    let plain: Vec<bool> = indexes.iter().map(|layer| sandbox::is_plain(layer)).collect();
    let parts = parts(layers, &plain);
    let kind = flavour();
    let names: Vec<String> = parts.iter().map(|p| format!("{}{kind}", p.name)).collect();
    let mut dirs = store.directories::<BuildError>(&names, &mut |n, dest| {
        let part = &parts[n];
        let failed = |source: FilesError| {
            let layer = part.layers.last().copied().unwrap_or(EMPTY_CHAIN);
            BuildError::LayerFiles { layer, source }
        };
        match part.layers {
            [id] if !part.name.starts_with("flat-") => {
                sandbox::write_layer(&*store.layer(id)?, content, dest).map_err(failed)
            }
            several => {
                let tree = crate::export::tree(store, several)?;
                sandbox::write_tree(&tree, content, dest).map_err(failed)
            }
        }
    })?;
    dirs.reverse();
    Ok(dirs)
}

/// What else a directory depends on: the users that exist here decide who owns its files, and where overlayfs' marks are.
fn flavour() -> String {
    let ids = sandbox::Ids::here();
    if ids.nested() { format!("-{}", Digest::of(ids.text().as_bytes()).short()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(n: usize) -> Vec<Digest> {
        (0..n).map(|i| Digest::of(i.to_string().as_bytes())).collect()
    }

    #[test]
    fn a_layer_is_a_directory_unless_it_depends_on_those_below() {
        let l = digests(4);
        let shape = |plain: [bool; 4]| -> Vec<usize> {
            parts(&l, &plain)
                .iter()
                .map(|p| if p.name.starts_with("flat-") { p.layers.len() * 10 } else { 1 })
                .collect()
        };
        assert_eq!(shape([true; 4]), [1, 1, 1, 1]);
        assert_eq!(shape([true, false, true, true]), [20, 1, 1]);
        assert_eq!(shape([false, true, true, false]), [40]);
        assert_eq!(shape([false, true, true, true]), [10, 1, 1, 1]);
        assert!(parts(&[], &[]).is_empty());
        let twice = [l[0], l[1], l[0], l[1], l[1]];
        let names: Vec<String> = parts(&twice, &[true; 5]).into_iter().map(|p| p.name).collect();
        assert_eq!(names, [l[0].hex(), l[1].hex()]);
    }

    #[test]
    fn a_tall_stack_fits_into_a_mount() {
        for (n, dirs) in [(1, 1), (119, 119), (120, 120), (121, 120), (700, 120)] {
            let l = digests(n);
            let parts = parts(&l, &vec![true; n]);
            assert_eq!(parts.len(), dirs, "{n}");
            assert_eq!(parts.iter().map(|p| p.layers.len()).sum::<usize>(), n, "none is left out");
        }
    }

    #[test]
    fn names() {
        for v in [View::Auto, View::Fuse, View::Overlay, View::Copy] {
            assert_eq!(View::from_name(v.name()), Some(v));
        }
        assert_eq!(View::from_name("fish"), None);
    }
}
