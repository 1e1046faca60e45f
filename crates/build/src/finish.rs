//! The image of a finished build: its config, with diff IDs, history and times, as bytes.
//!
//! The times of an image are those of its layers, taken from their records: a build that changes nothing gives the same image, byte for
//! byte. With SOURCE_DATE_EPOCH all our own times are that one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use oci::tar::{WriteError, digest_encoded};
use oci::types::{History, ImageConfig};
use oci::{Content, Digest, ReadAt, Time};
use store::Store;

use crate::date::Base;
use crate::error::BuildError;
use crate::parallel::each;
use crate::plan::{BaseImage, Plan, Start};
use crate::solve::{Finished, StepReport};

#[cfg(test)]
mod tests;

/// An image, made.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// The config as bytes.
    pub config_bytes: Vec<u8>,
    /// Layer id and diff ID of every layer, base first.
    pub layers: Vec<(Digest, Digest)>,
}

/// The image that a stage ultimately starts from.
fn base_of(plan: &Plan, mut stage: usize) -> Option<&BaseImage> {
    loop {
        match &plan.stages[stage].start {
            Start::Stage(b) => stage = *b,
            Start::Image(i) => return Some(i),
            Start::Scratch | Start::Local(_) | Start::Unknown => return None,
        }
    }
}

/// The stages from the first to `stage`: their layers are those of its image.
pub(crate) fn lineage(plan: &Plan, mut stage: usize) -> Vec<usize> {
    let mut out = vec![stage];
    while let Start::Stage(b) = plan.stages[stage].start {
        out.push(b);
        stage = b;
    }
    out.reverse();
    out
}

/// Makes the image of the target; it is in the store, but not tagged.
pub(crate) fn finish(
    store: &Store,
    plan: &Plan,
    target: &Finished,
    result_of: &dyn Fn(usize) -> Option<Finished>,
) -> Result<Built, BuildError> {
    let stage = &plan.stages[plan.target];
    let epoch = plan.epoch;
    let base = base_of(plan, plan.target);
    let base_ids: &[Digest] = base.map_or(&[], |b| &b.config.rootfs.diff_ids);
    let layers = target.state.layers();
    let titles = titles(plan, layers.len());
    let first = base_ids.len().min(layers.len());
    let own = diff_ids(store, &layers[first..], &titles[first..])?;
    let diff: Vec<Digest> = base_ids.iter().copied().chain(own).collect();

    let mut reports: HashMap<usize, StepReport> = HashMap::new();
    for s in lineage(plan, plan.target) {
        let Some(f) = result_of(s) else { continue };
        for (step, report) in plan.stages[s].steps.iter().zip(f.steps) {
            reports.insert(step.history, report);
        }
    }
    let mut config = stage.config.clone();
    let base_history = base.map_or(0, |b| b.config.history.len());
    let fallback = base.and_then(|b| b.config.created.as_deref().and_then(Time::parse_rfc3339));
    let first = reports.iter().min_by_key(|(i, _)| **i).map(|(_, r)| r.created);
    let mut at = first.or(fallback).unwrap_or_default();
    for (i, h) in config.history.iter_mut().enumerate().skip(base_history) {
        if let Some(r) = reports.get(&i) {
            at = r.created;
        }
        h.created = Some(epoch.map_or(at, Time::from_secs).rfc3339());
    }
    let last = epoch.map_or(at, Time::from_secs).rfc3339();
    pad_history(&mut config, &titles, &last);
    config.created = Some(last);
    config.rootfs.diff_ids = diff.clone();
    config.rest.remove("moby.buildkit.cache.v0");
    config.rest.remove("moby.buildkit.buildinfo.v1");
    let config_bytes = config_bytes(&config)?;
    let id = Digest::of(&config_bytes);
    Ok(Built { id, config, config_bytes, layers: layers.iter().copied().zip(diff).collect() })
}

/// A config as the bytes that its digest is over.
pub(crate) fn config_bytes(config: &ImageConfig) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(config).map_err(|e| BuildError::Image {
        name: "result".into(),
        why: format!("its config cannot be written ({e})"),
    })
}

/// What of a plan's target comes from its base image.
pub(crate) fn base(plan: &Plan) -> Base {
    base_of(plan, plan.target)
        .map_or(Base::default(), |b| Base { layers: b.layers.len(), history: b.config.history.len() })
}

/// What made each layer, as far as our own steps did: the last layers are theirs.
fn titles(plan: &Plan, layers: usize) -> Vec<String> {
    let mut own = Vec::new();
    for s in lineage(plan, plan.target) {
        let stage = &plan.stages[s];
        // FROM counts; only one that names an image has a line of its own in the log.
        let all = stage.steps.len() + usize::from(matches!(stage.start, Start::Image(_) | Start::Local(_)));
        let first = 1 + usize::from(matches!(stage.start, Start::Image(_)));
        own.extend(
            stage.steps.iter().enumerate().map(|(n, step)| format!("[{}/{all}] {}", n + first, step.title)),
        );
    }
    let mut out = vec![String::new(); layers.saturating_sub(own.len())];
    out.extend(own);
    out
}

/// Other tools want one history entry for each layer. A base that was made without a history, or a directory that a stage starts
/// from, leaves some out; the entries that are missing are added at the end, as BuildKit does it.
fn pad_history(config: &mut ImageConfig, titles: &[String], created: &str) {
    let named = config.history.iter().filter(|h| !h.empty_layer).count();
    for title in titles.iter().skip(named) {
        config.history.push(History {
            created: Some(created.to_owned()),
            created_by: Some(title.clone()).filter(|t| !t.is_empty()),
            comment: Some("buildkit.exporter.image.v0".to_owned()),
            ..History::default()
        });
    }
    let mut over = named.saturating_sub(titles.len());
    for h in config.history.iter_mut().rev().filter(|h| !h.empty_layer) {
        if over > 0 {
            h.empty_layer = true;
            over -= 1;
        }
    }
}

/// The diff IDs of layers that we made: known ones from the store, others by writing their tars into a hash, in parallel.
/// `titles` says what made each, for errors.
fn diff_ids(store: &Store, layers: &[Digest], titles: &[String]) -> Result<Vec<Digest>, BuildError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    each(layers.len(), threads, &|i| {
        diff_id(store, &layers[i]).map_err(|e| match (e, &titles[i]) {
            (e @ BuildError::Line { .. }, title) if !title.is_empty() => {
                BuildError::Step { title: title.clone(), lines: None, source: Box::new(e) }
            }
            (e, _) => e,
        })
    })
}

/// The digest of the tar that our writer makes of a layer. If it is not known yet, the tar is hashed, from where it parts from one that
/// was.
pub fn diff_id(store: &Store, layer: &Digest) -> Result<Digest, BuildError> {
    diff_id_of(store, store, layer)
}

/// Finds diff IDs of layers while the build goes on, in the order in which they come, until it is cancelled: hashing then fills what the
/// steps leave of the processors. What goes wrong here goes wrong again in [`finish`], and is told there.
pub(crate) fn ahead(store: &Store, layers: Receiver<Digest>, cancel: &AtomicBool) {
    let content = Stoppable { store, cancel };
    for layer in layers {
        if cancel.load(Ordering::Relaxed) {
            return;
        }
        let _ = diff_id_of(store, &content, &layer);
    }
}

/// Contents that cannot be opened any more once the build is cancelled.
#[derive(Debug)]
struct Stoppable<'a> {
    store: &'a Store,
    cancel: &'a AtomicBool,
}

impl Content for Stoppable<'_> {
    fn open(&self, digest: &Digest) -> std::io::Result<Arc<dyn ReadAt>> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(std::io::ErrorKind::Interrupted.into()),
            false => self.store.open(digest),
        }
    }
}

fn diff_id_of(store: &Store, content: &dyn Content, layer: &Digest) -> Result<Digest, BuildError> {
    if let Some((d, _)) = store.diff_id(layer)? {
        return Ok(d);
    }
    let mut entries = store.layer_entries(layer)?;
    // A mark that cannot be read is one that is not there: the tar is hashed from further back.
    let mut known = |prefix: &Digest| store.tar_mark(prefix).ok().flatten();
    let tar = digest_encoded(entries.encoded(), content, &mut known).map_err(|e| match e {
        WriteError::WhiteoutName(path) => BuildError::Line {
            line: None,
            message: format!(
                "{path} cannot be in an image: there, names that begin with .wh. stand for removed files"
            ),
            help: Some("remove it in the step that makes it, or give it another name".into()),
        },
        e => {
            BuildError::Image { name: format!("layer {}", layer.short()), why: crate::images::chain_text(&e) }
        }
    })?;
    let digest = tar.digest;
    let batch = store.batch();
    batch.set_digested(layer, tar)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok(digest)
}
