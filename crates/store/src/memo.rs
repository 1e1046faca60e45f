//! Memos: bytes by name that may be lost, such as the digests of a build context's files by their stat identity.
//!
//! `memo/<sha256 of the name>` holds the bytes and then their sha256. It is renamed into place but never flushed, so a crash may
//! leave anything under the name; the sum makes that "nothing".

use std::io::Read;

use oci::Digest;

use crate::Store;
use crate::error::Result;
use crate::paths;

impl Store {
    /// The bytes last saved under `name`; `None` if there are none, or what is there is damaged.
    pub fn memo_load(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.core().root.read(&paths::memo(name)).ok()?.read_to_end(&mut bytes).ok()?;
        let at = bytes.len().checked_sub(32)?;
        let whole = Digest::of(&bytes[..at]).as_bytes() == &bytes[at..];
        bytes.truncate(at);
        whole.then_some(bytes)
    }

    /// Saves bytes under a name, replacing what was there. Not durable: losing a memo loses nothing but time.
    pub fn memo_save(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let core = self.core();
        let session = core.session()?;
        let new = session.staged(session.next());
        let mut all = bytes.to_vec();
        all.extend_from_slice(Digest::of(bytes).as_bytes());
        core.root.write_new(&new, &all, 0o600)?;
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
        assert_eq!(store.memo_load("ctx").unwrap(), b"two");
        assert_eq!(store.memo_load("empty").unwrap(), b"");
        let path = dir.path().join(paths::memo("ctx"));
        for bad in [&b""[..], b"x", &[0; 40]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(store.memo_load("ctx"), None);
        }
    }
}
