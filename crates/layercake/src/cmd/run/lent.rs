//! The store as a container's view uses it, until the container has ended.
//!
//! The threads that serve the view end some time after the container. If they had the store for themselves, it would never be
//! closed, and what the container wrote would lie there until the next program cleans up.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use oci::content::ReadAt;
use oci::{Content, Digest};
use store::Store;

/// A store that can be taken back.
#[derive(Debug)]
pub(super) struct Lent(RwLock<Option<Store>>);

impl Lent {
    pub(super) fn new(store: &Store) -> Arc<Lent> {
        Arc::new(Lent(RwLock::new(Some(store.clone()))))
    }

    /// From now on nothing can be opened.
    pub(super) fn take_back(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Content for Lent {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => store.open(digest),
            None => Err(io::Error::other("the container has ended")),
        }
    }
}
