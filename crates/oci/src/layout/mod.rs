//! Images in files: OCI layouts, as directories and as tars, and `docker save` archives.
//!
//! # OCI layout (image-layout.md)
//!
//! `index.json` lists manifests and indexes, `blobs/sha256/<hex>` holds everything that has a digest, `oci-layout` says the version.
//! An `oci-layout` file that is missing is tolerated, since nothing depends on it and tools have left it out; one of another
//! major version is refused. Names stand in annotations: `org.opencontainers.image.ref.name` (any text; Docker, containerd and BuildKit put
//! the tag there) and `io.containerd.image.name` (the whole name).
//!
//! # docker save
//!
//! `manifest.json` is a list of `{"Config": path, "RepoTags": [name], "Layers": [path]}`; there is no manifest. Layers are tars, which
//! some tools compress. Since Docker 25 (and in what containerd and BuildKit write) the archive is an OCI layout too, and the
//! paths lead into `blobs/sha256`. Where both are there, the OCI part is read: it has the manifests' own bytes.
//!
//! # Trust
//!
//! Everything with a digest is checked against digest and size while it is read ([`Verified`]). Paths out of `manifest.json` stay inside of the layout.
//! Documents are read up to [`MAX_DOCUMENT`] bytes, indexes nest up to [`MAX_DEPTH`] deep.

mod document;
mod files;
mod read;
mod write;

use std::io;

pub use document::{
    DocumentError, MAX_DOCUMENT, check_layers, is_layer, parse_config, parse_index, parse_manifest,
};
pub use files::{Noted, Verified, relative};
pub use read::{Choice, ImageEntry, LayerSource, Layout, ResolvedImage, Source};
pub use write::{
    ImageToWrite, OpenBlob, WriteOptions, write_docker_archive, write_oci_archive, write_oci_directory,
};

use crate::compress::Format;
use crate::digest::Digest;
use crate::tar::TarError;

/// How deep indexes may lie in each other.
pub const MAX_DEPTH: usize = 8;

/// Annotation with an image's whole name.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Annotation with the time of creation.
pub const CREATED: &str = "org.opencontainers.image.created";

/// Annotation by which BuildKit marks what is no image: attestations.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Why images cannot be read from or written to files.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read or written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// Neither kind of layout.
    #[error("this is no OCI layout and no docker archive: there is neither index.json nor manifest.json")]
    NotALayout,
    /// A compressed archive, in which nothing can be found by its place.
    #[error("the archive is compressed ({0})")]
    Compressed(Format),
    /// The archive is no tar.
    #[error("the archive cannot be read")]
    Tar(#[source] TarError),
    /// A file that another one names is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A document makes no sense.
    #[error("{what}")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// The bytes are not those of the digest, or of another size.
    #[error("{what} is damaged: {problem}")]
    Damaged {
        /// Which file or blob.
        what: String,
        /// What does not fit.
        problem: String,
    },
    /// Indexes in indexes in indexes.
    #[error("indexes lie more than {MAX_DEPTH} deep in each other, or list too much")]
    Nesting,
    /// A path of manifest.json leads elsewhere.
    #[error("manifest.json names {0:?}, which is no path in the archive")]
    Path(String),
    /// No image at all.
    #[error("there is no image in it")]
    NoImage,
    /// No image of that name.
    #[error("there is no image {wanted:?} in it, only {have}")]
    NoName {
        /// What was asked for.
        wanted: String,
        /// Names that there are.
        have: String,
    },
    /// No image of that digest.
    #[error("there is no image {0} in it")]
    NoDigest(Digest),
    /// None of several images is of the platform.
    #[error("there is no image for {wanted} in it, only for {have}")]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// Platforms that there are.
        have: String,
    },
    /// Several images, and nothing to choose by.
    #[error("there are several images in it ({have}): say which")]
    Ambiguous {
        /// What there is.
        have: String,
    },
    /// A docker archive has no place for an index.
    #[error("a docker archive holds images of one platform, and this is an index")]
    DockerIndex,
}

impl LayoutError {
    fn io(what: impl Into<String>, source: io::Error) -> LayoutError {
        LayoutError::Io { what: what.into(), source }
    }
}

#[cfg(test)]
mod tests;
