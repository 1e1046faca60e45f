//! The log of builds: what happened in each, as bytes that the caller understands.
//!
//! The newest [`KEPT`] are kept, compressed, in the database. They are told from and nothing else: losing them loses no image and no
//! earlier result. An account of more than 8 MiB is not kept.

use oci::Time;

use crate::Store;
use crate::error::Result;

/// Builds that are kept.
pub(crate) const KEPT: usize = 200;

/// Bytes of an account, before compression.
pub(crate) const MAX_BUILD: usize = 8 << 20;

/// The account of a past build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastBuild {
    /// Its number; later builds have higher ones, and none is given twice.
    pub id: i64,
    /// When it was written down, in seconds since 1970.
    pub created_secs: i64,
    /// As it was given to [`Store::add_build`].
    pub bytes: Vec<u8>,
}

impl Store {
    /// Writes down what happened in a build; gives its number, or `None` if it is too long to be kept.
    pub fn add_build(&self, bytes: &[u8]) -> Result<Option<i64>> {
        if bytes.len() > MAX_BUILD {
            return Ok(None);
        }
        let now = Time::now().secs;
        self.core().transaction(|tx| tx.put_build(now, bytes)).map(Some)
    }

    /// Up to `limit` past builds, newest first. Accounts that cannot be read are left out.
    pub fn builds(&self, limit: usize) -> Result<Vec<PastBuild>> {
        self.core().query(|db| db.builds(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.builds(9).unwrap(), []);
        let first = store.add_build(b"0").unwrap().unwrap();
        for n in 1..=KEPT {
            assert_eq!(store.add_build(n.to_string().as_bytes()).unwrap(), Some(first + n as i64));
        }
        let all = store.builds(usize::MAX).unwrap();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].bytes, KEPT.to_string().as_bytes());
        assert_eq!(all[KEPT - 1].bytes, b"1");
        assert_eq!(store.builds(2).unwrap(), all[..2]);
        assert_eq!(store.add_build(&vec![0; MAX_BUILD + 1]).unwrap(), None);
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().builds(1).unwrap(), all[..1]);
    }
}
