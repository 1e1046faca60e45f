//! Cache mounts: directories that outlive builds, one for each id, in the store's `mounts/`.
//!
//! `mounts/<sha256 of the id, mode, owner and seed>/` holds `data/` and `id` (the id as text). Who uses it holds a lock on `lock`: shared
//! for `sharing=shared`, exclusive for `locked`; `private` takes the first of `data`, `data.1`, `data.2`, ... that nobody holds.
//! Another content of the seed is another mount, as in BuildKit. What is in it never counts in a step's key.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dockerfile::mount::Sharing;
use oci::tree::{Id, Walk};
use oci::{Hasher, Tree};
use store::Store;

use crate::copy::hash_inode;
use crate::error::BuildError;
use crate::export::write_tree;
use crate::solve::Solver;

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

/// Who may use it, and what it is made as.
#[derive(Debug, Clone, Copy)]
struct Want<'a> {
    id: &'a str,
    sharing: Sharing,
    seed: Option<&'a (Arc<Tree>, Id)>,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Takes a cache mount into use; makes and seeds it first if it is new.
pub(crate) fn open(
    solver: &Solver<'_>,
    id: &str,
    sharing: Sharing,
    seed: Option<&(Arc<Tree>, Id)>,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<Held, BuildError> {
    take(solver.store, Want { id, sharing, seed, mode, uid, gid }, &|| solver.is_cancelled())
}

fn take(store: &Store, want: Want<'_>, cancelled: &dyn Fn() -> bool) -> Result<Held, BuildError> {
    let mut h = Hasher::new();
    h.update(want.id.as_bytes());
    h.update(format!("\0{:o} {} {} ", want.mode, want.uid, want.gid).as_bytes());
    if let Some((tree, start)) = want.seed {
        hash_seed(&mut h, tree, *start);
    }
    let dir = store.root().join("mounts").join(h.finish().hex());
    std::fs::create_dir_all(&dir).map_err(BuildError::io("create", &dir))?;
    for n in 0..1000u32 {
        let name = |base: &str| if n == 0 { base.to_owned() } else { format!("{base}.{n}") };
        let exclusive = want.sharing != Sharing::Shared;
        let wait = want.sharing != Sharing::Private;
        let Some(lock) = lock(&dir.join(name("lock")), exclusive, wait, cancelled)? else { continue };
        let path = dir.join(name("data"));
        if !path.exists() {
            // Shared users may come at the same time: one of them makes it.
            let _making = self::lock(&dir.join(name("making")), true, true, cancelled)?;
            if !path.exists() {
                make(store, want, &dir.join(name("new")), &path)?;
            }
        }
        return Ok(Held { path, _lock: lock });
    }
    Err(BuildError::line(None, format!("too many builds use the cache mount {:?}", want.id)))
}

/// A lock on a file; `None` if somebody else has it and nobody is to wait.
fn lock(
    path: &Path,
    exclusive: bool,
    wait: bool,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<File>, BuildError> {
    let file = File::create(path).map_err(BuildError::io("open", path))?;
    loop {
        match if exclusive { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(e)) => return Err(BuildError::io("lock", path)(e)),
            Err(TryLockError::WouldBlock) if !wait => return Ok(None),
            Err(TryLockError::WouldBlock) if cancelled() => return Err(BuildError::Interrupted),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Makes the directory beside its place, and puts it there whole.
fn make(store: &Store, want: Want<'_>, new: &Path, path: &Path) -> Result<(), BuildError> {
    let _ = std::fs::remove_dir_all(new);
    std::fs::create_dir(new).map_err(BuildError::io("create", new))?;
    if let Some((tree, start)) = want.seed {
        write_tree(tree, *start, store, new)?;
    }
    // Without the right to change owners the directory stays ours, which is the user that runs the step.
    let _ = std::os::unix::fs::chown(new, Some(want.uid), Some(want.gid));
    std::fs::set_permissions(new, std::fs::Permissions::from_mode(want.mode))
        .map_err(BuildError::io("change", new))?;
    let id_path = new.with_file_name("id");
    std::fs::write(&id_path, want.id).map_err(BuildError::io("write", &id_path))?;
    std::fs::rename(new, path).map_err(BuildError::io("create", path))
}

/// What a seed holds: names, types, modes, owners, contents; not where it lies, no times.
fn hash_seed(h: &mut Hasher, tree: &Tree, start: Id) {
    let skip = tree.path(start).len();
    let mut links = HashMap::new();
    let done: Result<(), std::convert::Infallible> = tree.walk(start, &mut |path, id| {
        hash_inode(h, &path[skip.min(path.len())..], tree, id, &mut links);
        Ok(Walk::Into)
    });
    let Ok(()) = done;
}
