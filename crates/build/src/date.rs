//! The date of a build: SOURCE_DATE_EPOCH found out, and what it does to contexts and finished layers.
//!
//! With an epoch, everything that the build itself dates has that time: config, history, directories that it makes. What steps wrote
//! keeps its times, unless layers are rewritten (`rewrite-timestamp=true`): then no file of the build's own layers is younger than the
//! epoch. With [`Options::reproducible`] layers are rewritten, and the files of a context directory have the epoch as their time from
//! the start: when somebody checked them out says nothing about them. So the same files give the same image on another day.

use oci::tree::Tree;
use oci::{Digest, Entry, LayerIndex, Time};
use store::{ImageRecord, Store};

use crate::context::Context;
use crate::error::BuildError;
use crate::fetch::{Fetcher, MAX_FILE};
use crate::finish::{Built, diff_id};
use crate::input::{Files, Place};
use crate::options::{NamedContext, Options};
use crate::plan::{self, Choices, DateSource};
use crate::{Request, plan_error};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// The choices of a request, with SOURCE_DATE_EPOCH as a number, or empty where there is none.
pub(crate) fn resolve(
    file: &dockerfile::Dockerfile,
    request: &Request,
    fetcher: &Fetcher<'_>,
) -> Result<Choices, BuildError> {
    let options = &request.options;
    let mut choices = options.choices.clone();
    let is_named = |name: &str| options.contexts.contains_key(name);
    let source = plan::date_source(file, &choices, &is_named).map_err(plan_error)?;
    let made = |files: &Files| match files {
        Files::Fetched(c) => c.made(),
        Files::None | Files::Dir(_) => None,
    };
    let found = match &source {
        Some(DateSource::Given(secs)) => Some(*secs),
        Some(DateSource::Context) => made(&request.files).map(|t| t.secs),
        Some(DateSource::Named(name)) => match options.contexts.get(name) {
            Some(NamedContext::Git(git)) => Some(fetcher.git(git, false)?.committed.secs),
            Some(NamedContext::Http(url)) => {
                crate::input::made(fetcher, &Place::Http(url.clone()))?.map(|t| t.secs)
            }
            _ => None,
        },
        Some(DateSource::Http(url, checksum)) => {
            let file = fetcher.http(url, checksum.as_ref(), MAX_FILE, &|_, _| {})?;
            match file.dated {
                true => Some(file.modified.secs),
                false => crate::input::made(fetcher, &Place::Http(url.clone()))?.map(|t| t.secs),
            }
        }
        Some(DateSource::Git(git)) => {
            Some(fetcher.git(git, git.keep_git_dir.unwrap_or(false))?.committed.secs)
        }
        None if options.reproducible => Some(made(&request.files).map_or(0, |t| t.secs)),
        None => None,
    };
    if let Some(secs) = found.or(options.reproducible.then_some(0)) {
        choices.build_args.insert(NAME.to_owned(), secs.to_string());
    } else if source.is_some() {
        choices.build_args.insert(NAME.to_owned(), String::new());
    }
    Ok(choices)
}

fn with_times(entries: &[Entry], time: impl Fn(Time) -> Time) -> Result<LayerIndex, BuildError> {
    let mut entries = entries.to_vec();
    for e in &mut entries {
        e.attrs.mtime = time(e.attrs.mtime);
    }
    LayerIndex::from_entries(entries).map_err(|e| BuildError::Copy(crate::copy::CopyError::Layer(e)))
}

/// A context whose files all have one time.
pub(crate) fn dated(context: Context, options: &Options, epoch: Option<i64>) -> Result<Context, BuildError> {
    match epoch {
        Some(secs) if options.reproducible => Ok(context.dated(Time::from_secs(secs))?),
        _ => Ok(context),
    }
}

/// A tree in which everything has one time.
pub(crate) fn dated_tree(tree: &Tree, time: Time) -> Result<Tree, BuildError> {
    Ok(Tree::from_layers([&with_times(&tree.flatten(), |_| time)?]).unwrap_or_default())
}

/// What of an image comes from its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Base {
    /// Layers.
    pub layers: usize,
    /// Lines of the history.
    pub history: usize,
}

/// An image as if it had been made at the epoch: its config and its own history say so, and with `rewrite` no file of its own layers is
/// younger. It is in the store, but not tagged.
pub fn at_epoch(
    store: &Store,
    image: &Built,
    base: Base,
    epoch: i64,
    rewrite: bool,
) -> Result<Built, BuildError> {
    let latest = Time::from_secs(epoch);
    let batch = store.batch();
    let mut out = image.clone();
    let mut changed = Vec::new();
    for (n, (id, _)) in image.layers.iter().enumerate().skip(base.layers).filter(|_| rewrite) {
        let layer = store.layer(id)?;
        if layer.entries().iter().all(|e| e.attrs.mtime <= latest) {
            continue;
        }
        let clamped = with_times(layer.entries(), |t| t.min(latest))?;
        for (digest, _) in clamped.objects() {
            batch.reuse(&digest)?;
        }
        changed.push((n, batch.add_layer(&clamped)?));
    }
    batch.commit(Vec::new(), Vec::new())?;
    for (n, layer) in changed {
        let diff = diff_id(store, &layer)?;
        out.layers[n] = (layer, diff);
        out.config.rootfs.diff_ids[n] = diff;
    }
    let text = latest.rfc3339();
    for h in out.config.history.iter_mut().skip(base.history) {
        h.created = Some(text.clone());
    }
    out.config.created = Some(text);
    out.config_bytes = crate::finish::config_bytes(&out.config)?;
    out.id = Digest::of(&out.config_bytes);
    keep(store, &out)?;
    Ok(out)
}

/// Puts an image into the store.
pub(crate) fn keep(store: &Store, image: &Built) -> Result<(), BuildError> {
    let batch = store.batch();
    batch.add_blob(&image.config_bytes)?;
    let layers = image.layers.iter().map(|(l, _)| *l).collect();
    batch.put_image(&ImageRecord { id: image.id, manifest: None, layers, created: Time::now() })?;
    Ok(batch.commit(Vec::new(), Vec::new())?)
}
