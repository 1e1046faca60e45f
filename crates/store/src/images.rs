//! Images and tags: small JSON files, which are the truth. The database knows nothing of them.
//!
//! ```text
//! images/<config digest>.json       {"id", "manifest", "layers", "created"}
//! images/tags/<sha256 of name>.json {"name", "id", "manifest", "set"}
//! ```
//!
//! Both are written by the group commit, after everything that they name is durable. A damaged image file is
//! [`StoreError::Damaged`] for who asks for that image; listings leave it out, and `verify` reports it.

use std::io::Read;

use oci::{Digest, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Context, Result, StoreError};
use crate::paths::{self, IMAGES, TAGS};
use crate::sys::Root;

/// Fewer digits are no id: too many names look like them.
const MIN_PREFIX: usize = 4;

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the config, which is a blob.
    pub id: Digest,
    /// Digest of the manifest, if the image has one; a blob.
    pub manifest: Option<Digest>,
    /// Layer ids, base first.
    pub layers: Vec<Digest>,
    /// When it was first put here.
    #[serde(with = "time")]
    pub created: Time,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The canonical name.
    pub name: String,
    /// The image.
    pub id: Digest,
    /// The manifest that the name stood for when it was set.
    pub manifest: Option<Digest>,
    /// When it was set to this.
    #[serde(with = "time")]
    pub set: Time,
}

/// Times as RFC 3339 text.
mod time {
    use oci::Time;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(t: &Time, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&t.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        let text = String::deserialize(d)?;
        Time::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not a time in RFC 3339 form"))
    }
}

/// Reads a document; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(root: &Root, name: &str) -> Result<Option<T>> {
    let mut text = Vec::new();
    match root.read(name).and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", root.join(name)),
    }
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(StoreError::Damaged { what: format!("cannot be read: {e}"), path: root.join(name) }),
    }
}

/// Reads an image and checks that it is the one that its file's name says.
pub(crate) fn read_image(root: &Root, id: &Digest) -> Result<Option<ImageRecord>> {
    let name = paths::image(id);
    match read::<ImageRecord>(root, &name)? {
        Some(image) if image.id != *id => {
            Err(StoreError::Damaged { what: format!("holds the image {}", image.id), path: root.join(name) })
        }
        other => Ok(other),
    }
}

/// Ids of all image files, whatever is in them.
pub(crate) fn ids(root: &Root) -> Result<Vec<Digest>> {
    let names = root.list(IMAGES)?;
    let mut ids: Vec<Digest> = names
        .iter()
        .filter_map(|name| Digest::from_hex(name.to_str()?.strip_suffix(".json")?).ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// All images that can be read.
pub(crate) fn readable(root: &Root) -> Vec<ImageRecord> {
    let ids = ids(root).unwrap_or_default();
    ids.iter().filter_map(|id| read_image(root, id).ok().flatten()).collect()
}

/// What a tag's file says now, if it is there.
pub(crate) fn tag_file(root: &Root, name: &str) -> Result<Option<Tag>> {
    read(root, name)
}

/// File name and content of every tag, in the order of the file names.
pub(crate) fn tag_files(root: &Root) -> Result<Vec<(String, Result<Tag>)>> {
    let mut out = Vec::new();
    for name in root.list(TAGS)? {
        let name = format!("{TAGS}/{}", name.to_string_lossy());
        match read::<Tag>(root, &name) {
            Ok(None) => {}
            Ok(Some(tag)) if paths::tag(&tag.name) != name => {
                let what = format!("holds the tag {:?}", tag.name);
                out.push((name.clone(), Err(StoreError::Damaged { what, path: root.join(name) })));
            }
            Ok(Some(tag)) => out.push((name, Ok(tag))),
            Err(e) => out.push((name, Err(e))),
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

impl Store {
    /// Adds or replaces an image, durably: everything committed before is flushed, too.
    pub fn put_image(&self, image: &ImageRecord) -> Result<()> {
        let batch = self.batch();
        batch.put_image(image)?;
        batch.commit(Vec::new(), Vec::new())?;
        self.flush()
    }

    /// An image by its whole id.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        read_image(&self.core().root, id)
    }

    /// All images, the latest first.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut images = readable(&self.core().root);
        images.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(images)
    }

    /// Points a tag at an image, durably: everything committed before is flushed first.
    pub fn tag(&self, name: &str, id: &Digest, manifest: Option<&Digest>) -> Result<()> {
        self.flush()?;
        let batch = self.batch();
        batch.tag(name, id, manifest)?;
        batch.commit(Vec::new(), Vec::new())?;
        self.flush()
    }

    /// Removes a tag, durably; false if there was none.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.flush()?;
        let root = &self.core().root;
        let there = root.unlink(&paths::tag(name))?;
        if there {
            root.sync_dir(TAGS)?;
        }
        Ok(there)
    }

    /// A tag by its canonical name.
    pub fn find_tag(&self, name: &str) -> Result<Option<Tag>> {
        read(&self.core().root, &paths::tag(name))
    }

    /// All tags by name.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let files = tag_files(&self.core().root)?;
        let mut tags: Vec<Tag> = files.into_iter().filter_map(|(_, tag)| tag.ok()).collect();
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    /// An image by canonical tag name, by `sha256:` and the whole digest of its config or manifest, or by the unique beginning of
    /// its id (4 hex digits or more, with or without `sha256:`). Names come first. An unclear beginning is [`StoreError::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<Option<ImageRecord>> {
        let root = &self.core().root;
        if let Some(tag) = self.find_tag(text)? {
            return read_image(root, &tag.id);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < MIN_PREFIX || !hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let ids: Vec<Digest> = ids(root)?.into_iter().filter(|id| id.hex().starts_with(hex)).collect();
        match ids.as_slice() {
            [] => {
                let Ok(digest) = Digest::from_hex(hex) else { return Ok(None) };
                Ok(self.images()?.into_iter().find(|image| image.manifest == Some(digest)))
            }
            [id] => read_image(root, id),
            more => Err(StoreError::Ambiguous { prefix: text.to_owned(), count: more.len() }),
        }
    }

    /// Removes an image and the tags that name it, durably; gives the tags' names. What only this image needed stays until the next
    /// [`Store::gc`]. An image that is not there is [`StoreError::Missing`].
    pub fn remove_image(&self, id: &Digest) -> Result<Vec<String>> {
        self.flush()?;
        let root = &self.core().root;
        let mut names = Vec::new();
        // Tags first: a tag without its image would be damage, an image without a tag is not.
        for tag in self.tags()?.into_iter().filter(|tag| tag.id == *id) {
            root.unlink(&paths::tag(&tag.name))?;
            names.push(tag.name);
        }
        if !names.is_empty() {
            root.sync_dir(TAGS)?;
        }
        if !root.unlink(&paths::image(id))? {
            return Err(StoreError::Missing { kind: "image", digest: *id });
        }
        root.sync_dir(IMAGES)?;
        Ok(names)
    }
}
