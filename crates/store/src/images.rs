//! Images and tags.
use oci::Digest;
use oci::Time;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Result, pending};

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the config, which is a blob.
    pub id: Digest,
    /// Digest of the manifest, if it has one; a blob.
    pub manifest: Option<Digest>,
    /// Layer ids, base first.
    pub layers: Vec<Digest>,
    /// When it was put here.
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
    /// The manifest that the tag stood for when it was set.
    pub manifest: Option<Digest>,
    /// When it was set.
    #[serde(with = "time")]
    pub set: Time,
}

impl Store {
    /// Adds or replaces an image, durably.
    pub fn put_image(&self, _image: &ImageRecord) -> Result<()> {
        pending()
    }
    /// An image by its whole id.
    pub fn image(&self, _id: &Digest) -> Result<Option<ImageRecord>> {
        pending()
    }
    /// All images, latest first.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        pending()
    }
    /// Points a tag at an image, durably: everything committed before is flushed first.
    pub fn tag(&self, _name: &str, _id: &Digest, _manifest: Option<&Digest>) -> Result<()> {
        pending()
    }
    /// Removes a tag; false if there was none.
    pub fn untag(&self, _name: &str) -> Result<bool> {
        pending()
    }
    /// One tag by its canonical name.
    pub fn find_tag(&self, _name: &str) -> Result<Option<Tag>> {
        pending()
    }
    /// All tags by name.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        pending()
    }
    /// An image by canonical tag name, whole digest of config or manifest, or unique beginning of its id.
    pub fn find(&self, _name: &str) -> Result<Option<ImageRecord>> {
        pending()
    }
    /// Removes an image and all tags that name it; gives the tags' names. What only it needed stays until the next [`Store::gc`].
    pub fn remove_image(&self, _id: &Digest) -> Result<Vec<String>> {
        pending()
    }
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
