//! Which layers are the base image's.
//!
//! In this order, the first that says something:
//!
//! 1. the caller names a base (`--base`), whose diff IDs must be the first of the image;
//! 2. records of our own builds;
//! 3. the annotations `org.opencontainers.image.base.digest` and `.name` of the manifest, or labels of the same names, if the image that they name is at
//!    hand to count its layers;
//! 4. a local image whose diff IDs are the first of the image, and not all of them; the one with the most layers.
//!
//! Without any of them every layer is yours.

use serde::Serialize;

use crate::account::Owner;
use crate::image::Image;

/// Annotation with the name of the base image.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Annotation with the digest of the base image's manifest.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// How a base was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// The user named it.
    Given,
    /// Our own build says so.
    Record,
    /// The image's annotations or labels say so.
    Annotation,
    /// A local image has the same first layers.
    Prefix,
}

/// The base image of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Its name, if one is known.
    pub name: Option<String>,
    /// How many of the image's layers are its.
    pub layers: usize,
    /// How it was found.
    pub source: BaseSource,
}

impl Image {
    /// Says which layers are the base's. More layers than there are count as all.
    pub fn set_base(&mut self, base: Option<Base>) {
        self.base = base.map(|b| Base { layers: b.layers.min(self.layers.len()), ..b });
    }

    /// The base, as far as it is known.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// Whose layer it is.
    pub fn owner(&self, layer: usize) -> Owner {
        match &self.base {
            Some(b) if layer < b.layers => Owner::Base,
            _ => Owner::Yours,
        }
    }
}
