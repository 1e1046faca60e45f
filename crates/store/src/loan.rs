//! The store as a step's view uses it, until the step has ended.
//!
//! The threads that serve a view end some time after the step. If they had the store for themselves, it would not be closed when
//! everybody else is done with it, and this session's directory would lie there until the next program sweeps it.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use oci::content::ReadAt;
use oci::{Content, Digest};

use crate::Store;

#[derive(Debug)]
struct Lent(RwLock<Option<Store>>);

impl Content for Lent {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => store.open(digest),
            None => Err(io::Error::other("the step has ended")),
        }
    }
}

/// File contents for somebody who may hold on to them too long: when this is dropped, nothing can be opened any more.
#[derive(Debug)]
pub struct Loan(Arc<Lent>);

impl Loan {
    /// What is lent.
    pub fn content(&self) -> Arc<dyn Content> {
        self.0.clone()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Store {
    /// Lends the contents of the store.
    pub fn lend(&self) -> Loan {
        Loan(Arc::new(Lent(RwLock::new(Some(self.clone())))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_ends_with_the_loan_and_lets_the_store_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let batch = store.batch();
        let digest = batch.add_bytes(b"text").unwrap();
        let loan = store.lend();
        let content = loan.content();
        assert_eq!(content.read_all(&digest, 10).unwrap(), b"text");
        drop(loan);
        assert!(content.open(&digest).is_err());
        drop((batch, store));
        // Nothing of the session is left, although somebody still holds the content.
        let left: Vec<_> = std::fs::read_dir(dir.path().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
