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
//! - [`diff`] and [`packages`]: two images beside each other, and what package managers wrote down in them;
//! - [`dive`]: the score and the export of dive, computed from the same entries;
//! - [`findings`](fn@findings): waste in pieces that one change each would mend;
//! - [`gate`]: rules for CI, dive's and our own;
//! - [`report`]: all of it together, and as JSON, Markdown, SARIF, CSV;
//! - [`html`]: all of it as one page that draws itself;
//! - [`names`]: names of an image as text that is safe to show.
//!
//! Nothing here prints, reads the environment, or keeps a file's content.

pub mod account;
mod advice;
pub mod base;
pub mod cruft;
pub mod diff;
pub mod dive;
pub mod findings;
pub mod gate;
mod glob;
pub mod html;
pub mod image;
pub mod load;
mod merge;
pub mod names;
pub mod origin;
pub mod packages;
mod paths;
pub mod report;

pub use account::{Accounts, Cause, Charge, Class, Ledger, Owner, Sums};
pub use base::{Base, BaseSource};
pub use findings::{Finding, findings};
pub use gate::{Gate, Rules, Verdict};
pub use glob::Glob;
pub use image::{ContentId, Entry, EntryId, Event, Image, Kind, Layer, Line, NodeId, Origin, Packing, What};
pub use load::LoadError;
pub use paths::ROOT;
pub use report::Report;
