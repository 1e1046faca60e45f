//! Memos: bytes by name that may be lost, such as the digests of a build context's files by their stat identity.
//!
//! `memo/<sha256 of the name>` holds the bytes and then their sha256. It is renamed into place but never flushed, so a crash may
//! leave anything under the name; the sum makes that "nothing".

use std::io::{self, BufWriter, Read, Write};

use oci::digest::{Hasher, Hashing};

use crate::Store;
use crate::error::Result;
use crate::paths;

/// Length of the sum.
const SUM: u64 = 32;
/// Bytes that are read or written at once.
const PIECE: usize = 64 << 10;

impl Store {
    /// The bytes last saved under `name`; `None` if there are none, or what is there is damaged.
    pub fn memo_load(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.memo_read(name, |piece| bytes.extend_from_slice(piece)).then_some(bytes)
    }

    /// Reads the bytes last saved under `name` piece by piece. Only at the end is it known whether they are whole: what `take` was given
    /// counts for nothing if the answer is no.
    pub fn memo_read(&self, name: &str, mut take: impl FnMut(&[u8])) -> bool {
        let mut read = || {
            let mut file = self.core().root.read(&paths::memo(name)).ok()?;
            let mut left = file.metadata().ok()?.len().checked_sub(SUM)?;
            let mut piece = vec![0; PIECE.min(usize::try_from(left).ok()?)];
            let mut hasher = Hasher::new();
            while left > 0 {
                let n = PIECE.min(usize::try_from(left).ok()?);
                file.read_exact(&mut piece[..n]).ok()?;
                hasher.update(&piece[..n]);
                take(&piece[..n]);
                left -= n as u64;
            }
            let mut sum = [0; SUM as usize];
            file.read_exact(&mut sum).ok()?;
            Some(hasher.finish().as_bytes() == &sum)
        };
        read().unwrap_or(false)
    }

    /// Saves bytes under a name, replacing what was there. Not durable: losing a memo loses nothing but time.
    pub fn memo_save(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.memo_write(name, |out| out.write_all(bytes))
    }

    /// The same for bytes that need not be in memory all at once.
    pub fn memo_write(&self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let core = self.core();
        let session = core.session()?;
        let new = session.staged(session.next()?);
        core.root.write_new_with(&new, 0o600, |file| {
            let mut out = BufWriter::with_capacity(PIECE, Hashing::new(file));
            write(&mut out)?;
            let (file, sum, _) = out.into_inner()?.finish();
            file.write_all(sum.as_bytes())
        })?;
        core.root.replace(&new, &paths::memo(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_memo_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.memo_load("ctx"), None);
        store.memo_save("ctx", b"one").unwrap();
        store.memo_save("ctx", b"two").unwrap();
        store.memo_save("empty", b"").unwrap();
        let long: Vec<u8> = (0..2 * PIECE + 5).map(|n| n as u8).collect();
        store.memo_save("long", &long).unwrap();
        assert_eq!(store.memo_load("long").unwrap(), long);
        assert_eq!(store.memo_load("ctx").unwrap(), b"two");
        assert_eq!(store.memo_load("empty").unwrap(), b"");
        let path = dir.path().join(paths::memo("ctx"));
        for bad in [&b""[..], b"x", &[0; 40]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(store.memo_load("ctx"), None);
        }
    }
}
