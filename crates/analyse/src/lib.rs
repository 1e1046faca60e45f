//! Facts about images: where every byte of one comes from, and which of them are dead weight.
//!
//! ```text
//! store, archive, registry, daemon ─► load ─► Image ─► merge (one pass) ─► account ─► findings ─► Report ─► text, JSON, ...
//! ```
//!
//! - [`Image`] (`image`, `paths`): config, history, layers and their entries, every path once, and the history of every path over the
//!   layers ([`Image::history`]);
//! - `load`: images from the local store, from archives, from any stream of layers; contents are hashed and not kept;
//! - `merge`: the layers laid over each other as a union file system does it, in one pass;
//! - [`account`]: what every byte is for: live, or dead or repeated with one cause;
//! - [`cruft`]: what package managers leave behind;
//! - [`base`]: which layers are the base image's;
//! - [`findings`](fn@findings): waste in pieces that one change each would mend;
//! - [`diff`] and [`packages`]: two images beside each other, and what package managers wrote down in them.
//!
//! Nothing here prints, reads the environment, or keeps a file's content.

pub mod account;
mod advice;
pub mod base;
pub mod cruft;
pub mod diff;
pub mod findings;
mod image;
pub mod load;
mod merge;
pub mod packages;
mod paths;

pub use account::{Accounts, Cause, Charge, Class, Ledger, Owner, Sums};
pub use base::{Base, BaseSource};
pub use findings::{Finding, findings};
pub use image::{ContentId, Entry, EntryId, Event, Image, Kind, Layer, Line, NodeId, Origin, Packing, What};
pub use load::LoadError;
pub use paths::ROOT;
