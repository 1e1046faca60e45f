//! What is known of an image beside the image: its base, and where its layers come from.

use std::path::Path;

use analyse::base::{BASE_DIGEST, BASE_NAME};
use analyse::origin::Origins;
use analyse::{Base, BaseSource, Image};
use oci::Digest;

use super::source::Loader;
use crate::error::CommandError;
use crate::image;

/// The base of an image.
pub(crate) fn find(
    from: &Loader<'_>,
    image: &Image,
    given: Option<&str>,
) -> Result<Option<Base>, CommandError> {
    let own: Vec<Digest> = image.config.rootfs.diff_ids.clone();
    if let Some(name) = given {
        let base = from.load(name, None)?;
        let ids = &base.config.rootfs.diff_ids;
        if !own.starts_with(ids) {
            return Err(CommandError::usage(format!(
                "--base {name}: its layers are not the first of {}",
                image.name
            )));
        }
        return Ok(Some(Base { name: Some(name.to_owned()), layers: ids.len(), source: BaseSource::Given }));
    }
    let Some(store) = from.store()? else { return Ok(None) };
    let names = image::names(&store)?;
    let mut best: Option<(usize, bool, Base)> = None;
    let said = |key: &str| -> Option<String> {
        let annotation = image.manifest.as_ref().and_then(|(_, m)| m.annotations.get(key));
        annotation.or_else(|| image.config.config.labels.get(key)).cloned()
    };
    let (digest, name) = (said(BASE_DIGEST), said(BASE_NAME));
    for record in store.images()? {
        if record.id == image.id {
            continue;
        }
        let Ok(other) = image::load(&store, record) else { continue };
        let ids = &other.config.rootfs.diff_ids;
        if ids.is_empty() || ids.len() >= own.len() || !own.starts_with(ids) {
            continue;
        }
        let tags = names.get(&other.record.id).map(Vec::as_slice).unwrap_or_default();
        let by_digest = digest.as_ref().is_some_and(|d| {
            let is = |o: Option<Digest>| o.is_some_and(|o| o.to_string() == *d);
            is(other.record.manifest) || tags.iter().any(|t| is(t.manifest))
        });
        let by_name = name
            .as_ref()
            .and_then(|n| n.parse::<oci::Reference>().ok())
            .is_some_and(|n| tags.iter().any(|t| t.name == n.to_string()));
        let named = by_digest || by_name;
        // An image without a name is mostly a step of a build that was tagged once: only named ones are bases.
        if tags.is_empty() && !named {
            continue;
        }
        if best.as_ref().is_none_or(|(n, was, _)| (named, ids.len()) > (*was, *n)) {
            let source = if named { BaseSource::Annotation } else { BaseSource::Prefix };
            let name = tags.first().map(|t| image::familiar(&t.name)).or_else(|| name.clone());
            best = Some((ids.len(), named, Base { name, layers: ids.len(), source }));
        }
    }
    Ok(best.map(|(_, _, base)| base))
}

/// Lines of the Dockerfile.
pub(crate) fn origins(_: &Loader<'_>, _: &Image, _: Option<&Path>) -> Result<Origins, CommandError> {
    Ok(Origins::new())
}
