//! Cache mounts: directories that outlive builds, one for each id, in the store's `mounts/`.
//!
//! `mounts/<sha256 of the id, mode, owner and seed>/` holds `data/` and `id` (the id as text). Who uses it holds a lock on `lock`: shared
//! for `sharing=shared`, exclusive for `locked`; `private` takes the first of `data`, `data.1`, `data.2`, ... that nobody holds.
//! What is in it never counts in a key.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dockerfile::mount::Sharing;
use oci::tree::Id;
use oci::{Hasher, Tree};

use crate::error::BuildError;
use crate::export::write_tree;
use crate::solve::Solver;

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

/// Takes a cache mount into use; makes and seeds it first if it is new.
pub(crate) fn open(
    solver: &Solver<'_>,
    id: &str,
    sharing: Sharing,
    seed: Option<&(Arc<Tree>, Id)>,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<Held, BuildError> {
    let mut h = Hasher::new();
    h.update(id.as_bytes());
    h.update(format!("\0{mode:o} {uid} {gid} {}", u8::from(seed.is_some())).as_bytes());
    let dir = solver.store.root().join("mounts").join(h.finish().hex());
    std::fs::create_dir_all(&dir).map_err(BuildError::io("create", &dir))?;
    for n in 0..1000u32 {
        let name = |base: &str| if n == 0 { base.to_owned() } else { format!("{base}.{n}") };
        let lock_path = dir.join(name("lock"));
        let lock = File::create(&lock_path).map_err(BuildError::io("open", &lock_path))?;
        let got = loop {
            let tried = match sharing {
                Sharing::Shared => lock.try_lock_shared(),
                Sharing::Locked | Sharing::Private => lock.try_lock(),
            };
            match tried {
                Ok(()) => break true,
                Err(_) if sharing == Sharing::Private => break false,
                Err(_) if solver.is_cancelled() => return Err(BuildError::Interrupted),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if !got {
            continue;
        }
        let path = dir.join(name("data"));
        if !path.exists() {
            let fresh = dir.join(name("new"));
            let _ = std::fs::remove_dir_all(&fresh);
            std::fs::create_dir(&fresh).map_err(BuildError::io("create", &fresh))?;
            if let Some((tree, start)) = seed {
                write_tree(tree, *start, solver.store, &fresh)?;
            }
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))
                .map_err(BuildError::io("change", &fresh))?;
            // Without the right to change owners the directory stays ours, which is the user that runs the step.
            let _ = std::os::unix::fs::chown(&fresh, Some(uid), Some(gid));
            let id_path = dir.join("id");
            std::fs::write(&id_path, id).map_err(BuildError::io("write", &id_path))?;
            // Another shared user may have been faster.
            if std::fs::rename(&fresh, &path).is_err() && !path.exists() {
                return Err(BuildError::line(None, format!("cannot make the cache mount {id:?}")));
            }
        }
        return Ok(Held { path, _lock: lock });
    }
    Err(BuildError::line(None, format!("too many builds use the cache mount {id:?}")))
}
