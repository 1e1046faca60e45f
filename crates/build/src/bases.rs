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
        if !self.pull
            && let Some(image) = from_store(self.store, name, &reference, platform)?
        {
            return Ok(Resolved::Image(Arc::new(image)));
        }
        let Some(client) = self.client else {
            return Err(BuildError::BaseNotFound {
                name: name.to_owned(),
                tried: "the store (offline)".into(),
            });
        };
        let what = format!("pull {reference}");
        let pulled = self.tasks.run(&what, |id| {
            let transfer = |what: &str, done, total| self.tasks.transfer(id, what, done, total);
            pull(self.store, client, name, &reference, platform, &transfer)
        });
        pulled.map(|i| Resolved::Image(Arc::new(i)))
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

/// An image that the store has under this name, for this platform.
fn from_store(
    store: &Store,
    name: &str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<BaseImage>, BuildError> {
    let Some(record) = store.find(&reference.to_string())? else { return Ok(None) };
    let bytes = store.read_blob(&record.id, MAX_DOCUMENT)?;
    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| BuildError::Image {
        name: name.to_owned(),
        why: format!("its config cannot be read ({e})"),
    })?;
    let have = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let other_platform = !platform.accepts(&have);
    Ok(Some(BaseImage {
        name: name.to_owned(),
        config,
        layers: record.layers,
        digest: record.manifest,
        other_platform,
    }))
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
    store.tag(&reference.to_string(), &record.id, record.manifest.as_ref())?;
    let have = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let other_platform = !platform.accepts(&have);
    Ok(BaseImage {
        name: name.to_owned(),
        config,
        layers: record.layers,
        digest: record.manifest,
        other_platform,
    })
}

fn refs(
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
    let have = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let other_platform = !platform.accepts(&have);
    Ok(BaseImage {
        name: name.to_owned(),
        config,
        layers: record.layers,
        digest: record.manifest,
        other_platform,
    })
}
