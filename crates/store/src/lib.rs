//! The store: contents, layers, blobs, images, and records of past steps, shared by any number of processes.
//!
//! # On disk
//!
//! ```text
//! ROOT/                     mode 0700
//!   format                  "layercake-store 1"
//!   objects/ab/cdef...      contents of regular files by sha256, mode 0444, without owner, times or attributes
//!   layers/<hex>            layer indexes by id (oci::index has the encoding, which ends with its checksum)
//!   blobs/sha256/<hex>      compressed layers as they came, configs, manifests
//!   images/<hex>.json       an image: config, manifest, layers
//!   images/tags/<hex>.json  a tag: name, image; <hex> is the sha256 of the name
//!   db.sqlite               records of past steps and builds, tars and blobs of layers (db.sqlite-wal, db.sqlite-shm are SQLite's)
//!   dirs/<name>/            directories made from layers, for steps whose files cannot be served: see `dirs`
//!   mounts/<hex>/           cache mounts of RUN steps: see `mounts`
//!   memo/<hex>              bytes by name that may be lost at any time
//!   tmp/<session>/          what a running process has not committed yet, and its scratch directories
//!   locks/                  lock files
//! ```
//!
//! # Rules
//!
//! 1. A name in `objects/`, `layers/` or `blobs/` is always whole, has the digest that its name says, and is durable. It is never
//!    written to or replaced.
//! 2. An image, a tag or a record is there only if everything that it names is there and durable. The files under `images/` are the
//!    truth for images and tags.
//! 3. Everything in the database can be lost without losing an image. A damaged database is set aside and made anew.
//! 4. New content is staged under `tmp/<session>/`, visible to its process at once, and put into place by the group commit
//!    (a batch at a time or many together). A process that dies before that loses only what it had not flushed.
//! 5. Nothing is deleted from the first five but by `gc`, `verify --repair` and the removal of images and tags. The first two run
//!    alone: every process holds `locks/store` shared while it has the store open, and they take it exclusively. There are no
//!    other leases.
//! 6. Two hard links to one inode are never visible to a step: a step sees objects through their bytes only.
//!
//! 7. Whatever is read back from a layer or a small blob is checked against its digest; objects and large blobs are checked by
//!    `verify`.
//!
//! The rooms: `paths`, `sys` (file operations), `core` (what an open store consists of), `session` and `remove` (`tmp/`), `objects`
//! (files by digest), `batch`, `ingest` and `holes` (new content), `commit` (how it becomes durable, in which order), `layers`, `blobs`,
//! `images`, `records`, `builds`, `db`, `memo`, `locks`, `scratch`, `mounts`, `dirs`, `inventory` (what is there), `gc`, `verify`,
//! `fault` (for tests).

mod batch;
mod blobs;
mod builds;
mod commit;
mod core;
mod db;
mod dirs;
mod error;
pub mod fault;
mod gc;
mod holes;
mod images;
mod ingest;
mod inventory;
mod layers;
mod loan;
mod locks;
mod memo;
mod mounts;
mod objects;
mod paths;
mod records;
mod remove;
mod scratch;
mod session;
mod sys;
mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

use oci::Digest;
use oci::content::{Content, ReadAt};

pub use batch::{Batch, Sink};
pub use blobs::BlobWriter;
pub use builds::PastBuild;
pub use error::{Result, StoreError};
pub use gc::{Freed, Policy};
pub use holes::Holes;
pub use images::{ImageRecord, Tag};
pub use inventory::{Amount, Usage};
pub use layers::{LayerEntries, TarBlob, TarOrigin};
pub use loan::Loan;
pub use locks::StepLock;
pub use mounts::CacheMount;
pub use records::{NewRecord, Record};
pub use scratch::ScratchDir;
pub use verify::{Finding, Part, Verified};

use crate::commit::Committer;
use crate::core::Core;
use crate::paths::Key;

/// An open store. Cheap to clone; all clones share one session. When the last one goes, committed batches are written first.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The committer first: it is dropped first, and its thread uses the core.
#[derive(Debug)]
struct Inner {
    committer: Committer,
    core: Arc<Core>,
}

impl Store {
    /// Opens the store at `root`, making it in an empty or missing directory. Waits while another process collects garbage.
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_waiting(root, &mut || {}, &|| false)
    }

    /// Opens the store; `on_wait` is called once if another process has it alone, and `cancelled` is asked every 50 ms whether to
    /// give up with [`StoreError::Cancelled`].
    pub fn open_waiting(
        root: &Path,
        on_wait: &mut dyn FnMut(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Store> {
        let core = Arc::new(Core::open(root, on_wait, cancelled)?);
        Ok(Store { inner: Arc::new(Inner { committer: Committer::default(), core }) })
    }

    /// Where the store is: an absolute path.
    pub fn root(&self) -> &Path {
        self.core().root.path()
    }

    /// Waits until everything committed so far is durable and visible, and writes down the uses noted. Gives the first error of the
    /// group commit; after one, nothing more is written.
    pub fn flush(&self) -> Result<()> {
        self.inner.committer.flush()?;
        self.core().write_rows(&[])
    }

    /// Whether the object is in the store or staged by this process. Who wants to rely on it says so with [`Batch::reuse`].
    pub fn has_object(&self, digest: &Digest) -> Result<bool> {
        self.core().has_key(&Key::object(digest))
    }

    fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    fn committer(&self) -> &Committer {
        &self.inner.committer
    }
}

impl Content for Store {
    /// Opens an object, also one that is only staged by this process.
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(self.core().open_key(&Key::object(digest))?))
    }
}
