//! Images from anywhere, read without being kept.
//!
//! | module | from |
//! |---|---|
//! | [`store`] | the local store: layer indexes; nothing is decompressed |
//! | [`archive`] | OCI layouts (directories, tars) and docker-save archives |
//! | [`daemon`] | Docker's and Podman's stores, through their sockets |
//! | [`indexes`] | layer indexes that are there already |
//! | [`pipe`] | archives that go by: standard input, the daemons of Docker and Podman |
//! | [`stream`] | any list of layers that can be opened: registries |
//! | `assemble` | what they all end in: entries and paths to an [`Image`] |
//!
//! # What is checked
//!
//! A blob with a digest is checked against digest and size (an error names the layer), one without (docker-save archives) against the
//! diff ID. Where the blob's own digest was checked, the diff ID is not computed: it would cost a second pass of sha256 over every
//! uncompressed byte and could only find that the image's config is wrong about itself.

pub mod archive;
mod assemble;
pub mod daemon;
pub mod indexes;
pub mod pipe;
pub mod store;
pub mod stream;

use oci::digest::DigestError;

pub(crate) use assemble::{Assembly, Raw};

/// Most layers of an image. (Docker takes 127; overlayfs about 500.)
pub const MAX_LAYERS: usize = 10_000;

/// Why an image cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A layer is damaged or makes no sense.
    #[error("layer {layer}: {what}")]
    Layer {
        /// Its number; 0 is the base.
        layer: usize,
        /// What is wrong, and where in it.
        what: String,
    },
    /// A layer's bytes cannot be had.
    #[error("layer {layer} cannot be read")]
    Read {
        /// Its number.
        layer: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An archive or layout makes no sense.
    #[error("the image cannot be read")]
    Layout(#[from] oci::layout::LayoutError),
    /// The store is damaged.
    #[error("the store cannot be read")]
    Store(#[from] ::store::StoreError),
    /// A config or manifest makes no sense.
    #[error("{what} is no {kind}: {why}")]
    Document {
        /// Its digest or name.
        what: String,
        /// What it should be.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Something that should be a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Too many layers, entries or names.
    #[error("the image has more {0} than can be analysed")]
    TooLarge(&'static str),
    /// A daemon does not give the image.
    #[error(transparent)]
    Daemon(#[from] daemon::DaemonError),
    /// The caller wanted it to stop.
    #[error("cancelled")]
    Cancelled,
}
