//! Directories made from layers, for steps whose files cannot be served. The store gives them a place; who needs one fills it.
//!
//! ```text
//! dirs/<name>/files   what the user of the name wrote; whole, and never written to again
//! dirs/<name>         its modification time is the last use
//! ```
//!
//! A name begins with the hexadecimal id of the layer that it is made from, or with `flat-` for several in one. Everything here can be
//! made again at any time: nothing refers to it, `verify` does not look at it, and `gc` takes what was not used for long, what
//! has lost its layer, and all of it to make room. Several are made together: all are flushed at once, then renamed into place.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::FlockOperation;

use crate::Store;
use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::inventory::{Amount, amount_below};
use crate::paths::{self, DIRS_LOCK};
use crate::remove::remove_tree;

/// Name of the part that its user writes.
const FILES: &str = "files";

impl Store {
    /// The directories of these names, in order. Those that are not there are made: `make` is called with the number of each and the
    /// path of an empty directory, which it fills. Other processes and threads that want some meanwhile wait.
    pub fn directories<E: From<StoreError>>(
        &self,
        names: &[String],
        make: &mut dyn FnMut(usize, &Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<PathBuf>, E> {
        let core = self.core();
        let place = |name: &String| format!("{}/{name}", paths::DIRS);
        let missing = || -> Result<Vec<usize>> {
            let mut out = Vec::new();
            for (n, name) in names.iter().enumerate() {
                if !core.root.exists(&place(name))? && !names[..n].contains(name) {
                    out.push(n);
                }
            }
            Ok(out)
        };
        if !missing()?.is_empty() {
            core.root.make_dir(paths::DIRS)?;
            let lock = core.root.lock_file(DIRS_LOCK)?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).at("lock", core.root.join(DIRS_LOCK))?;
            let scratch = self.scratch()?;
            let missing = missing()?;
            for &n in &missing {
                let dir = scratch.path().join(n.to_string());
                let files = dir.join(FILES);
                std::fs::create_dir_all(&files).at("make", &files)?;
                make(n, &files)?;
            }
            core.root.sync_all()?;
            for n in missing {
                let from = scratch.path().join(n.to_string());
                core.root.move_in(&from, &place(&names[n])).at("write", core.root.join(place(&names[n])))?;
            }
            core.root.sync_dir(paths::DIRS)?;
        }
        for name in names {
            // A use that is not noted makes it go too early, nothing else.
            let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            let path = core.root.join(place(name));
            let _ = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty());
        }
        Ok(names.iter().map(|name| core.root.join(place(name)).join(FILES)).collect())
    }
}

/// What `gc` is to take, with its size: `oldest` is the time of the last use that is too long ago, `everything` means all.
pub(crate) fn garbage(
    core: &Core,
    lives: &dyn Fn(&Digest) -> bool,
    oldest: Option<i64>,
    everything: bool,
) -> Result<Vec<(PathBuf, Amount)>> {
    if !core.root.exists(paths::DIRS)? {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for name in core.root.list(paths::DIRS)? {
        let path = core.root.join(paths::DIRS).join(&name);
        let name = name.to_string_lossy();
        let hex = name.split('-').next().unwrap_or_default();
        let used = std::fs::symlink_metadata(&path).map(|m| std::os::unix::fs::MetadataExt::mtime(&m));
        let old = oldest.is_some_and(|oldest| used.is_ok_and(|used| used <= oldest));
        let dead = Digest::from_hex(hex).is_ok_and(|layer| !lives(&layer));
        if everything || old || dead {
            let amount = amount_below(&path);
            out.push((path, amount));
        }
    }
    Ok(out)
}

/// Removes what [`garbage`] found. What a crash leaves of one has no name that anybody looks for.
pub(crate) fn remove(core: &Core, garbage: &HashSet<PathBuf>) -> Result<()> {
    for path in garbage {
        let aside = core
            .root
            .join(paths::TMP)
            .join(format!("dead-dir-{}", path.file_name().unwrap_or_default().to_string_lossy()));
        let gone = if std::fs::rename(path, &aside).is_ok() { &aside } else { path };
        remove_tree(gone).at("remove", gone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn make(store: &Store, names: &[&str]) -> (Vec<PathBuf>, Vec<usize>) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut made = Vec::new();
        let paths = store.directories::<StoreError>(&names, &mut |n, path| {
            made.push(n);
            std::fs::write(path.join("f"), "12345").at("write", path)
        });
        (paths.unwrap(), made)
    }

    #[test]
    fn each_is_made_once_and_counted_and_goes_with_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layer = "a".repeat(64);
        let (paths, made) = make(&store, &[&layer, "flat-x", &layer]);
        assert_eq!((made, paths.len()), (vec![0, 1], 3));
        assert_eq!(std::fs::read_to_string(paths[2].join("f")).unwrap(), "12345");
        assert_eq!(make(&store, &["flat-x"]), (vec![paths[1].clone()], Vec::new()));
        assert_eq!(store.usage().unwrap().dirs.bytes, 10);
        assert!(store.usage().unwrap().total().bytes >= 10);
        // No such layer is in the store.
        let freed = store.gc(&Policy::default(), false).unwrap();
        assert_eq!((freed.dirs.bytes, freed.total().bytes >= 5), (5, true));
        assert!(!paths[0].exists() && paths[1].exists());
        let freed = store.gc(&Policy { max_bytes: Some(1 << 40), ..Policy::default() }, true).unwrap();
        assert_eq!(freed.dirs.bytes, 0, "there is room");
        store.gc(&Policy { unused_for: Some(0), ..Policy::default() }, false).unwrap();
        assert!(!paths[1].exists());
        assert_eq!(store.usage().unwrap().dirs.files, 0);
    }

    #[test]
    fn what_could_not_be_made_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let names = ["one".to_owned(), "two".to_owned()];
        let failed = store.directories::<StoreError>(&names, &mut |n, path| {
            std::fs::write(path.join("f"), "x").at("write", path)?;
            if n == 1 { Err(StoreError::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(failed, Err(StoreError::Cancelled)));
        assert_eq!(std::fs::read_dir(dir.path().join("dirs")).unwrap().count(), 0);
        assert_eq!(make(&store, &["one"]).1, [0]);
    }
}
