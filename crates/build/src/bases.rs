//! Base images and named contexts: what a name in FROM or `--from` means, and how it gets into the store.
//!
//! Order: a `--build-context` of that name (as written, or as the same image reference), then an image that the store has, then the
//! registry. `--pull` asks the registry first.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use oci::platform::Platform;
use oci::types::ImageConfig;
use oci::{Digest, Reference};
use store::Store;

use crate::error::BuildError;
use crate::images::{Incoming, LayerRef, MAX_DOCUMENT, take};
use crate::options::NamedContext;
use crate::plan::{BaseImage, Bases, Resolved};
use crate::tasks::Tasks;

/// Resolves names for one build.
pub struct Resolver<'a> {
    store: &'a Store,
    contexts: &'a BTreeMap<String, NamedContext>,
    client: Option<&'a registry::Client>,
    pull: bool,
    tasks: Tasks<'a>,
    known: Mutex<BTreeMap<(String, String), Resolved>>,
}

impl std::fmt::Debug for Resolver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("contexts", &self.contexts).finish_non_exhaustive()
    }
}

impl<'a> Resolver<'a> {
    /// A resolver.
    pub fn new(
        store: &'a Store,
        contexts: &'a BTreeMap<String, NamedContext>,
        client: Option<&'a registry::Client>,
        pull: bool,
        tasks: Tasks<'a>,
    ) -> Resolver<'a> {
        Resolver { store, contexts, client, pull, tasks, known: Mutex::default() }
    }

    fn context(&self, name: &str) -> Option<&'a NamedContext> {
        if let Some(c) = self.contexts.get(name) {
            return Some(c);
        }
        let wanted: Reference = name.parse().ok()?;
        self.contexts.iter().find(|(n, _)| n.parse::<Reference>().is_ok_and(|r| r == wanted)).map(|(_, c)| c)
    }

    fn resolve_new(&self, name: &str, platform: &Platform) -> Result<Resolved, BuildError> {
        match self.context(name) {
            Some(NamedContext::Dir(_) | NamedContext::Git(_) | NamedContext::Http(_)) => {
                let key = self.contexts.keys().find(|k| self.context(k) == self.context(name));
                Ok(Resolved::Local(key.cloned().unwrap_or_else(|| name.to_owned())))
            }
            Some(NamedContext::OciLayout { path, selector }) => self
                .tasks
                .run(&format!("load {name} from {}", path.display()), |id| {
                    load_layout(
                        self.store,
                        name,
                        path,
                        selector.as_deref(),
                        platform,
                        &|what, done, total| self.tasks.transfer(id, what, done, total),
                    )
                })
                .map(|i| Resolved::Image(Arc::new(i))),
            Some(NamedContext::Image(other)) => self.image(other, platform),
            None => self.image(name, platform),
        }
    }

    fn image(&self, name: &str, platform: &Platform) -> Result<Resolved, BuildError> {
        let reference: Reference = name.parse().map_err(|e| BuildError::Line {
            line: None,
            message: format!("{name:?} is no image name: {e}"),
            help: None,
        })?;
        let stored = from_store(self.store, name, &reference, platform)?;
        if !self.pull {
            if let Some(image) = stored.as_ref().filter(|i| !i.other_platform) {
                return Ok(Resolved::Image(Arc::new(image.clone())));
            }
            if let Some(image) = remembered(self.store, name, &reference, platform)? {
                return Ok(Resolved::Image(Arc::new(image)));
            }
        }
        let Some(client) = self.client else {
            let tried = "the store (offline)".to_owned();
            let missing = BuildError::BaseNotFound { name: name.to_owned(), tried };
            return stored.map(|i| Resolved::Image(Arc::new(i))).ok_or(missing);
        };
        let what = match platform.architecture == Platform::host().architecture {
            true => format!("pull {reference}"),
            false => format!("pull {reference} for {platform}"),
        };
        let pulled = self.tasks.run(&what, |task| {
            let transfer = |what: &str, done, total| self.tasks.transfer(task, what, done, total);
            let (image, id) = fetch(self.store, client, name, &reference, platform, &transfer)?;
            // A name stands for one image: other platforms do not take it from this machine's.
            if stored.is_none() || Platform::host().accepts(&image.config.platform()) {
                self.store.tag(&reference.to_string(), &id, image.digest.as_ref())?;
            }
            remember(self.store, &reference, platform, &id);
            Ok(image)
        });
        match (pulled, stored) {
            (Ok(image), _) => Ok(Resolved::Image(Arc::new(image))),
            // An image that was built here and is in no registry.
            (Err(e), Some(image)) if !self.pull && !matches!(e, BuildError::Interrupted) => {
                Ok(Resolved::Image(Arc::new(image)))
            }
            (Err(e), _) => Err(e),
        }
    }
}

impl Bases for Resolver<'_> {
    type Error = BuildError;

    fn is_named_context(&self, name: &str) -> bool {
        self.contexts.contains_key(name)
    }

    fn resolve(&self, name: &str, platform: &Platform) -> Result<Resolved, BuildError> {
        let key = (name.to_owned(), platform.to_string());
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        if let Some(r) = known {
            return Ok(r);
        }
        let resolved = self.resolve_new(name, platform)?;
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, resolved.clone());
        Ok(resolved)
    }
}

/// An image of the store as a base.
fn from_record(
    store: &Store,
    name: &str,
    record: store::ImageRecord,
    platform: &Platform,
) -> Result<BaseImage, BuildError> {
    let bytes = store.read_blob(&record.id, MAX_DOCUMENT)?;
    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| BuildError::Image {
        name: name.to_owned(),
        why: format!("its config cannot be read ({e})"),
    })?;
    let other_platform = !platform.accepts(&config.platform());
    let (layers, digest) = (record.layers, record.manifest);
    Ok(BaseImage { name: name.to_owned(), config, layers, digest, other_platform })
}

/// An image that the store has under this name; it may be for another platform.
fn from_store(
    store: &Store,
    name: &str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<BaseImage>, BuildError> {
    let Some(record) = store.find(&reference.to_string())? else { return Ok(None) };
    from_record(store, name, record, platform).map(Some)
}

fn memo_name(reference: &Reference, platform: &Platform) -> String {
    format!("base {reference} {platform}")
}

/// Keeps in mind which image a name was for a platform: a tag can only say it for one.
fn remember(store: &Store, reference: &Reference, platform: &Platform, id: &Digest) {
    // Without it the registry is asked again.
    let _ = store.memo_save(&memo_name(reference, platform), id.to_string().as_bytes());
}

/// An image that was pulled for a platform and is still there.
fn remembered(
    store: &Store,
    name: &str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<BaseImage>, BuildError> {
    let text = store.memo_load(&memo_name(reference, platform)).unwrap_or_default();
    let Ok(id) = String::from_utf8_lossy(&text).parse::<Digest>() else { return Ok(None) };
    match store.image(&id)? {
        Some(record) => from_record(store, name, record, platform).map(Some),
        None => Ok(None),
    }
}

/// Told what moves: a layer's short digest, bytes so far, all bytes.
pub type Transfer<'a> = dyn Fn(&str, u64, u64) + Sync + 'a;

/// Pulls an image into the store and tags it with its own name.
pub fn pull(
    store: &Store,
    client: &registry::Client,
    name: &str,
    reference: &Reference,
    platform: &Platform,
    transfer: &Transfer<'_>,
) -> Result<BaseImage, BuildError> {
    let (image, id) = fetch(store, client, name, reference, platform, transfer)?;
    store.tag(&reference.to_string(), &id, image.digest.as_ref())?;
    Ok(image)
}

/// Pulls an image into the store; gives its id, too.
fn fetch(
    store: &Store,
    client: &registry::Client,
    name: &str,
    reference: &Reference,
    platform: &Platform,
    transfer: &Transfer<'_>,
) -> Result<(BaseImage, Digest), BuildError> {
    let failed = |source| BuildError::Registry { name: name.to_owned(), source: Box::new(source) };
    let image = client.resolve(reference, platform).map_err(failed)?;
    let layers = refs(name, &image.manifest.layers, &image.config.rootfs.diff_ids)?;
    let incoming =
        Incoming { name, manifest: Some(&image.manifest_bytes), config: &image.config_bytes, layers };
    let descriptors = &image.manifest.layers;
    let (record, config) = take(
        store,
        &incoming,
        &|i| Ok(Box::new(client.blob(reference, &descriptors[i]).map_err(failed)?) as Box<dyn Read + Send>),
        &|i, done, all| transfer(&descriptors[i].digest.short(), done, all),
    )?;
    let other_platform = !platform.accepts(&config.platform());
    let (id, layers, digest) = (record.id, record.layers, record.manifest);
    Ok((BaseImage { name: name.to_owned(), config, layers, digest, other_platform }, id))
}

pub(crate) fn refs(
    name: &str,
    descriptors: &[oci::types::Descriptor],
    diff_ids: &[Digest],
) -> Result<Vec<LayerRef>, BuildError> {
    if descriptors.len() != diff_ids.len() {
        let why = format!("the manifest names {} layers, the config {}", descriptors.len(), diff_ids.len());
        return Err(BuildError::Image { name: name.to_owned(), why });
    }
    Ok(descriptors
        .iter()
        .zip(diff_ids)
        .map(|(d, id)| LayerRef {
            media_type: d.media_type.clone(),
            digest: Some(d.digest),
            size: Some(d.size),
            diff_id: *id,
        })
        .collect())
}

/// Loads an image of an OCI layout directory or tar.
pub fn load_layout(
    store: &Store,
    name: &str,
    path: &Path,
    selector: Option<&str>,
    platform: &Platform,
    transfer: &Transfer<'_>,
) -> Result<BaseImage, BuildError> {
    let source = crate::load::open(store, path)?;
    let image = crate::load::choose(&source, name, selector, platform)?;
    let (record, config) = crate::load::take_resolved(store, name, &source, &image, transfer)?;
    let other_platform = !platform.accepts(&config.platform());
    let (layers, digest) = (record.layers, record.manifest);
    Ok(BaseImage { name: name.to_owned(), config, layers, digest, other_platform })
}
