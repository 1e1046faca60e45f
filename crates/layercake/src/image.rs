//! Images of the store: found by what users type, with everything that commands ask of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use build::export::{self, LayerOptions, Manifested};
use build::images::MAX_DOCUMENT;
use oci::platform::Platform;
use oci::types::{Descriptor, History, ImageConfig, Manifest, media};
use oci::{Digest, LayerIndex, Reference, Time};
use store::{ImageRecord, Store, Tag};

use crate::error::{CommandError, Kind};

/// An image with its config.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) record: ImageRecord,
    pub(crate) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
}

/// A name that the command line gives.
pub(crate) fn reference(text: &str) -> Result<Reference, CommandError> {
    text.parse().map_err(|e| CommandError::usage(crate::error::chain(&e)))
}

/// The tag that a text names: canonical or familiar, or a name with the digest that it had when it was set.
pub(crate) fn find_tag(store: &Store, text: &str) -> Result<Option<Tag>, CommandError> {
    let Ok(wanted) = text.parse::<Reference>() else { return Ok(None) };
    if let Some(tag) = store.find_tag(&wanted.to_string())? {
        return Ok(Some(tag));
    }
    let Some(digest) = wanted.digest else { return Ok(None) };
    Ok(store.tags()?.into_iter().find(|t| {
        let same_name = t.name.parse::<Reference>().is_ok_and(|r| r.name() == wanted.name());
        same_name && (t.manifest == Some(digest) || t.id == digest)
    }))
}

/// The image that a text names: by tag, else by id or its beginning.
pub(crate) fn find(store: &Store, text: &str) -> Result<Option<Image>, CommandError> {
    let record = match find_tag(store, text)? {
        Some(tag) => store.image(&tag.id)?,
        None => store.find(text)?,
    };
    record.map(|r| load(store, r)).transpose()
}

/// [`find`], and an error that says what to do if there is none.
pub(crate) fn get(store: &Store, text: &str) -> Result<Image, CommandError> {
    find(store, text)?.ok_or_else(|| {
        CommandError::new(Kind::User, format!("there is no image {text:?} in the store"))
            .hint("see what there is with: layercake images --all")
    })
}

/// Reads the config of an image.
pub(crate) fn load(store: &Store, record: ImageRecord) -> Result<Image, CommandError> {
    let config_bytes = store.read_blob(&record.id, MAX_DOCUMENT)?;
    let config = serde_json::from_slice(&config_bytes).map_err(|e| {
        CommandError::new(Kind::User, format!("the config of image {} cannot be read: {e}", record.id))
    })?;
    Ok(Image { record, config, config_bytes })
}

impl Image {
    /// In the form that exports take.
    pub(crate) fn built(&self) -> build::Built {
        let diff_ids = self.config.rootfs.diff_ids.iter().copied();
        build::Built {
            id: self.record.id,
            config: self.config.clone(),
            config_bytes: self.config_bytes.clone(),
            layers: self.record.layers.iter().copied().zip(diff_ids).collect(),
        }
    }

    /// When it was made, by its own word; else when it came here.
    pub(crate) fn created(&self) -> Time {
        let own = self.config.created.as_deref().and_then(Time::parse_rfc3339);
        own.unwrap_or(self.record.created)
    }

    /// Its platform.
    pub(crate) fn platform(&self) -> Platform {
        self.config.platform()
    }

    /// Its layers' indexes, base first.
    pub(crate) fn layers(&self, store: &Store) -> Result<Vec<Arc<LayerIndex>>, CommandError> {
        Ok(self.record.layers.iter().map(|l| store.layer(l)).collect::<Result<_, _>>()?)
    }

    /// Bytes of file content in all layers.
    pub(crate) fn size(&self, store: &Store) -> Result<u64, CommandError> {
        Ok(self.layers(store)?.iter().map(|l| l.content_bytes()).sum())
    }

    /// The history with the number of the layer that each line made. Layers that no line speaks of come last, without a line.
    pub(crate) fn history(&self) -> Vec<(Option<&History>, Option<usize>)> {
        let mut layers = 0..self.record.layers.len();
        let mut out: Vec<_> = Vec::new();
        for line in &self.config.history {
            let layer = if line.empty_layer { None } else { layers.next() };
            out.push((Some(line), layer));
        }
        out.extend(layers.map(|l| (None, Some(l))));
        out
    }

    /// A manifest whose blobs are all in the store: the one that the image came with, unless `options` ask for another.
    pub(crate) fn manifest(
        &self,
        store: &Store,
        options: Option<&LayerOptions>,
    ) -> Result<Manifested, CommandError> {
        if options.is_none()
            && let Some(m) = self.own_manifest(store)?
        {
            return Ok(m);
        }
        Ok(export::manifest(store, &self.built(), options.unwrap_or(&LayerOptions::default()))?)
    }

    fn own_manifest(&self, store: &Store) -> Result<Option<Manifested>, CommandError> {
        let Some(digest) = self.record.manifest else { return Ok(None) };
        if !store.has_blob(&digest)? {
            return Ok(None);
        }
        let bytes = store.read_blob(&digest, MAX_DOCUMENT)?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
        for d in &manifest.layers {
            if !store.has_blob(&d.digest)? {
                return Ok(None);
            }
        }
        let media_type = manifest.media_type.as_deref().unwrap_or(media::MANIFEST);
        let mut descriptor = Descriptor::of(media_type, &bytes);
        descriptor.platform = Some(self.platform());
        Ok(Some(Manifested { bytes, descriptor, manifest }))
    }
}

/// The familiar names of every image, sorted.
pub(crate) fn names(store: &Store) -> Result<HashMap<Digest, Vec<Tag>>, CommandError> {
    let mut out: HashMap<Digest, Vec<Tag>> = HashMap::new();
    for tag in store.tags()? {
        out.entry(tag.id).or_default().push(tag);
    }
    Ok(out)
}

/// A tag's name as people write it.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |r| r.familiar())
}

/// Images that several texts name, each once, with the references among the texts.
pub(crate) fn get_all(store: &Store, texts: &[String]) -> Result<Vec<(Image, Vec<Reference>)>, CommandError> {
    let mut out: Vec<(Image, Vec<Reference>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for text in texts {
        let image = get(store, text)?;
        // An id is no name: an image that was asked for by id has none.
        let name = find_tag(store, text)?.and_then(|t| t.name.parse::<Reference>().ok());
        if seen.insert(image.record.id) {
            out.push((image, name.into_iter().collect()));
        } else if let Some((_, names)) = out.iter_mut().find(|(i, _)| i.record.id == image.record.id)
            && let Some(name) = name
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    Ok(out)
}
