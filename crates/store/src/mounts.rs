//! Cache mounts: directories that outlive builds. The store gives them a place, and lists and removes them; who runs steps fills them.
//!
//! ```text
//! mounts/<hex>/     one for each kind of mount: <hex> is the digest that its user names it by
//!   id              the id that people know it by
//!   lock, lock.N    held while data, data.N is in use: shared or alone; its modification time is the last use
//!   data, data.N    the directories; N counts copies that were used at the same time (sharing=private)
//!   new, new.N      a directory in the making, by who holds making, making.N; or what a process that died left of one
//! ```
//!
//! Nothing here is content-addressed, verified or durable, and `gc` leaves it alone: it goes when somebody says so.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use oci::{Digest, Time};

use crate::Store;
use crate::error::{Context, Result};
use crate::inventory::{Amount, amount_below};
use crate::paths;

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// What names its directory.
    pub key: Digest,
    /// The id of `RUN --mount=type=cache,id=...`.
    pub id: String,
    /// How many directories it has.
    pub copies: u32,
    /// What they hold.
    pub amount: Amount,
    /// When it was last taken into use.
    pub last_used: Time,
    /// Somebody uses it now.
    pub in_use: bool,
}

/// Numbers of a mount's directories: of `data`, `data.1`, ... those that are there.
fn copies(dir: &Path) -> Vec<u32> {
    let number = |name: &str| match name.strip_prefix("data")? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    };
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut out: Vec<u32> = names.filter_map(|e| number(e.file_name().to_str()?)).collect();
    out.sort_unstable();
    out
}

fn numbered(dir: &Path, name: &str, n: u32) -> PathBuf {
    dir.join(if n == 0 { name.to_owned() } else { format!("{name}.{n}") })
}

impl Store {
    /// The directory of a cache mount, which its user makes and fills.
    pub fn cache_mount_dir(&self, key: &Digest) -> PathBuf {
        self.root().join(paths::MOUNTS).join(key.hex())
    }

    /// All cache mounts that hold something, by id.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMount>> {
        let root = self.root().join(paths::MOUNTS);
        let names = match std::fs::read_dir(&root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("read", &root)?,
        };
        let mut out = Vec::new();
        for entry in names {
            let dir = entry.at("read", &root)?.path();
            let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Ok(key) = Digest::from_hex(name) else { continue };
            let (mut amount, mut last_used, mut in_use) = (Amount::default(), Time::default(), false);
            let numbers = copies(&dir);
            for &n in &numbers {
                amount += amount_below(&numbered(&dir, "data", n));
                let Ok(lock) = File::open(numbered(&dir, "lock", n)) else { continue };
                in_use |= matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
                let used = lock.metadata().and_then(|m| m.modified()).ok();
                let used = used.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                let secs = used.and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0);
                last_used = last_used.max(Time::from_secs(secs));
            }
            if !numbers.is_empty() {
                let id = std::fs::read_to_string(dir.join("id")).unwrap_or_default();
                let copies = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                out.push(CacheMount { key, id, copies, amount, last_used, in_use });
            }
        }
        out.sort_by(|a, b| (&a.id, a.key).cmp(&(&b.id, b.key)));
        Ok(out)
    }

    /// Empties a cache mount; false if somebody uses it. The lock files stay, because somebody may be about to take them.
    pub fn remove_cache_mount(&self, key: &Digest) -> Result<bool> {
        let dir = self.cache_mount_dir(key);
        let mut held = Vec::new();
        for n in copies(&dir) {
            let path = numbered(&dir, "lock", n);
            let lock = File::options().create(true).append(true).open(&path).at("open", &path)?;
            match lock.try_lock() {
                Ok(()) => held.push((n, lock)),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(e)) => return Err(e).at("lock", &path),
            }
        }
        for (n, _lock) in &held {
            let data = numbered(&dir, "data", *n);
            std::fs::remove_dir_all(&data).at("remove", &data)?;
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !held.is_empty() && entry.file_name().to_string_lossy().starts_with("new") {
                // Who makes one holds a lock. What cannot be removed now is removed with the next one.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(store: &Store, id: &str, copies: &[&str]) -> Digest {
        let key = Digest::of(id.as_bytes());
        let dir = store.cache_mount_dir(&key);
        for c in copies {
            std::fs::create_dir_all(dir.join(format!("data{c}"))).unwrap();
            std::fs::write(dir.join(format!("data{c}/file")), "12345").unwrap();
            std::fs::write(dir.join(format!("lock{c}")), "").unwrap();
        }
        std::fs::write(dir.join("id"), id).unwrap();
        key
    }

    #[test]
    fn they_are_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.cache_mounts().unwrap(), []);
        let go = made(&store, "/root/go", &["", ".1"]);
        let apt = made(&store, "apt", &[""]);
        std::fs::create_dir_all(store.root().join("mounts/odd")).unwrap();
        let found = store.cache_mounts().unwrap();
        let short: Vec<_> =
            found.iter().map(|m| (m.id.as_str(), m.copies, m.amount.bytes, m.in_use)).collect();
        assert_eq!(short, [("/root/go", 2, 10, false), ("apt", 1, 5, false)]);
        assert!(found[0].last_used.secs > 1_600_000_000);
        assert_eq!(
            store.usage().unwrap().mounts.bytes,
            found.iter().map(|m| m.amount.bytes).sum::<u64>() + 11
        );

        let user = File::open(store.cache_mount_dir(&go).join("lock.1")).unwrap();
        user.lock_shared().unwrap();
        assert!(store.cache_mounts().unwrap()[0].in_use);
        assert!(!store.remove_cache_mount(&go).unwrap());
        assert_eq!(store.cache_mounts().unwrap()[0].copies, 2, "all or nothing");
        drop(user);
        std::fs::create_dir(store.cache_mount_dir(&go).join("new.1")).unwrap();
        assert!(store.remove_cache_mount(&go).unwrap() && store.remove_cache_mount(&apt).unwrap());
        assert_eq!(store.cache_mounts().unwrap(), []);
        assert!(!store.cache_mount_dir(&go).join("new.1").exists());
    }
}
