//! The data of container images: digests, references, manifests and configs, layers as indexes, tar and compression.
//!
//! Bytes and `std::io` traits only: nothing here knows of a store, a network or a process. The three layers of the crate:
//!
//! - *names and documents*: [`digest`], [`reference`], [`platform`], [`types`] (OCI image specification, unknown fields kept);
//! - *layers*: [`index`] (the canonical list of a layer's entries), [`tree`] (layers merged), [`content`] (who reads file bytes);
//! - *streams*: [`tar`] (read any layer, write ours), [`compress`], [`layout`] (OCI layouts and docker archives), [`toc`] (tables of
//!   contents in layers, by which they need not be read as a whole).

pub mod base64;
pub mod compress;
pub mod content;
pub mod digest;
pub mod index;
pub mod layout;
pub mod platform;
pub mod reference;
pub mod tar;
pub mod time;
pub mod toc;
pub mod tree;
pub mod types;
pub mod varint;
mod xattrs;

pub use content::{Content, ReadAt};
pub use digest::{Digest, Hasher};
pub use index::{Entry, Kind, LayerIndex};
pub use reference::Reference;
pub use time::Time;
pub use tree::Tree;
