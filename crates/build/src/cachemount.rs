//! Cache mounts in use (`store::mounts` has their layout).
//!
//! A mount is named by its id, and by what makes it another one: mode and owner, and the files that it was first filled with (as in
//! BuildKit). Who uses it holds a lock on `lock`: shared for `sharing=shared`, alone for `locked`; `private` takes the first of `data`,
//! `data.1`, `data.2`, ... that nobody holds. The locks are the kernel's, so they hold between processes and end with them.
//! What is in a mount never counts in a key.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dockerfile::mount::Sharing;
use oci::tree::{Id, Walk};
use oci::{Digest, Hasher, Tree};
use store::Store;

use crate::copy::hash_inode;
use crate::error::BuildError;
use crate::export::write_tree;

#[cfg(test)]
mod tests;

/// A cache mount in use.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Held {
    /// The directory to mount.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Which cache mount, and how it is made.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) sharing: Sharing,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seed: Option<Seed>,
}

/// What a new mount holds.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    tree: Arc<Tree>,
    start: Id,
    digest: String,
}

impl Seed {
    /// What lies below an inode: its digest is over names, types, modes, owners and contents; not where it lies, no times.
    pub(crate) fn new(tree: Arc<Tree>, start: Id) -> Seed {
        let skip = tree.path(start).len();
        let (mut h, mut links) = (Hasher::new(), HashMap::new());
        let done: Result<(), std::convert::Infallible> = tree.walk(start, &mut |path, id| {
            hash_inode(&mut h, &path[skip.min(path.len())..], &tree, id, &mut links);
            Ok(Walk::Into)
        });
        let Ok(()) = done;
        Seed { tree, start, digest: h.finish().hex() }
    }
}

/// What a wait asks and tells.
pub(crate) struct Wait<'a> {
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
    /// Called once, when it begins.
    pub(crate) begins: &'a dyn Fn(&str),
}

const PAUSE: Duration = Duration::from_millis(20);

impl Wanted {
    fn key(&self) -> Digest {
        let seed = self.seed.as_ref().map_or("", |s| &s.digest);
        let mut h = Hasher::new();
        h.update(self.id.as_bytes());
        h.update(format!("\0{:o} {} {} {seed}", self.mode, self.uid, self.gid).as_bytes());
        h.finish()
    }
}

/// The cache mounts of a step.
#[derive(Debug, Default)]
pub(crate) struct AllHeld(BTreeMap<Digest, Held>);

impl AllHeld {
    /// The directory of a mount of the step.
    pub(crate) fn path(&self, wanted: &Wanted) -> Option<&Path> {
        self.0.get(&wanted.key()).map(Held::path)
    }
}

/// Takes all cache mounts of a step into use: each once, and always in the same order, so that steps that want the same ones do not
/// wait for each other in a circle.
pub(crate) fn open_all<'a>(
    store: &Store,
    all: impl IntoIterator<Item = &'a Wanted>,
    wait: &Wait<'_>,
) -> Result<AllHeld, BuildError> {
    let sorted: BTreeMap<Digest, &Wanted> = all.into_iter().map(|w| (w.key(), w)).collect();
    let mut out = AllHeld::default();
    for (key, wanted) in sorted {
        out.0.insert(key, open(store, wanted, wait)?);
    }
    Ok(out)
}

/// Takes a cache mount into use; makes and fills it first if it is new.
fn open(store: &Store, wanted: &Wanted, wait: &Wait<'_>) -> Result<Held, BuildError> {
    let dir = store.cache_mount_dir(&wanted.key());
    std::fs::create_dir_all(&dir).map_err(BuildError::io("create", &dir))?;
    for n in 0..1000u32 {
        let name = |base: &str| if n == 0 { base.to_owned() } else { format!("{base}.{n}") };
        let exclusive = wanted.sharing != Sharing::Shared;
        let wait = (wanted.sharing != Sharing::Private).then_some(wait);
        let Some(lock) = lock(&dir.join(name("lock")), exclusive, wait, &wanted.id)? else { continue };
        // The time of the last use; a file system that cannot keep it loses nothing else.
        let _ = lock.set_modified(SystemTime::now());
        let path = dir.join(name("data"));
        if !path.exists() {
            // Shared users may come at the same time: one of them makes it.
            let _making = self::lock(&dir.join(name("making")), true, wait, &wanted.id)?;
            if !path.exists() {
                make(store, wanted, &dir.join(name("new")), &path)?;
            }
        }
        return Ok(Held { path, _lock: lock });
    }
    Err(BuildError::line(None, format!("too many builds use the cache mount {:?}", wanted.id)))
}

/// A lock on a file; `None` if somebody else has it and nobody is to wait.
fn lock(path: &Path, exclusive: bool, wait: Option<&Wait<'_>>, id: &str) -> Result<Option<File>, BuildError> {
    let file = File::options().create(true).append(true).open(path).map_err(BuildError::io("open", path))?;
    let mut told = false;
    loop {
        match if exclusive { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(e)) => return Err(BuildError::io("lock", path)(e)),
            Err(TryLockError::WouldBlock) => {}
        }
        let Some(wait) = wait else { return Ok(None) };
        if (wait.is_cancelled)() {
            return Err(BuildError::Interrupted);
        }
        if !std::mem::replace(&mut told, true) {
            (wait.begins)(&format!("the cache mount {id}, which another step uses"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Makes the directory beside its place, and puts it there whole.
fn make(store: &Store, wanted: &Wanted, new: &Path, path: &Path) -> Result<(), BuildError> {
    let _ = std::fs::remove_dir_all(new);
    std::fs::create_dir(new).map_err(BuildError::io("create", new))?;
    if let Some(seed) = &wanted.seed {
        write_tree(&seed.tree, seed.start, store, new)?;
    }
    // Without the right to change owners the directory stays ours, which is the user that runs the step.
    let _ = std::os::unix::fs::chown(new, Some(wanted.uid), Some(wanted.gid));
    std::fs::set_permissions(new, std::fs::Permissions::from_mode(wanted.mode))
        .map_err(BuildError::io("change", new))?;
    let id_path = new.with_file_name("id");
    std::fs::write(&id_path, &wanted.id).map_err(BuildError::io("write", &id_path))?;
    std::fs::rename(new, path).map_err(BuildError::io("create", path))
}

/// Empties the cache mounts with these ids, waiting for their users to end.
pub(crate) fn clear(store: &Store, ids: &[String], wait: &Wait<'_>) -> Result<(), BuildError> {
    for mount in store.cache_mounts()?.iter().filter(|m| ids.contains(&m.id)) {
        let mut told = false;
        while !store.remove_cache_mount(&mount.key)? {
            if (wait.is_cancelled)() {
                return Err(BuildError::Interrupted);
            }
            if !std::mem::replace(&mut told, true) {
                (wait.begins)(&format!("the cache mount {}, which another build uses", mount.id));
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}
