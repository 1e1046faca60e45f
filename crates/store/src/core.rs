//! What an open store consists of: shared by its clones and by the commit thread.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::db::Db;
use crate::error::{Context, Result, StoreError};
use crate::layers::{KnownTars, LayerCache};
use crate::locks::StoreLock;
use crate::objects::Staged;
use crate::paths;
use crate::session::{self, Session, Sweeper};
use crate::sys::{Root, lock};

/// Version of the layout of the directory, in the file `format`.
const FORMAT: u32 = 1;
const FORMAT_WORDS: &str = "layercake-store ";

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) root: Arc<Root>,
    pub(crate) staged: Staged,
    pub(crate) db: Mutex<Db>,
    pub(crate) layers: Mutex<LayerCache>,
    pub(crate) tars: Mutex<KnownTars>,
    /// Records used since the last transaction.
    pub(crate) used: Mutex<HashSet<i64>>,
    /// Batches that are open: gc must not run beside them.
    pub(crate) open_batches: AtomicUsize,
    session: Mutex<Option<Arc<Session>>>,
    pub(crate) sweeper: Sweeper,
    /// Last, so that it is released last.
    pub(crate) lock: StoreLock,
}

impl Core {
    pub(crate) fn open(path: &Path, on_wait: &mut dyn FnMut(), cancelled: &dyn Fn() -> bool) -> Result<Core> {
        let path = std::path::absolute(path).at("find", path)?;
        let root = Arc::new(prepare(&path)?);
        let lock = StoreLock::shared(&root, on_wait, cancelled)?;
        let db = Db::open(&root, &lock)?;
        Ok(Core {
            root,
            staged: Staged::default(),
            db: Mutex::new(db),
            layers: Mutex::default(),
            tars: Mutex::default(),
            used: Mutex::default(),
            open_batches: AtomicUsize::new(0),
            session: Mutex::default(),
            sweeper: Sweeper::default(),
            lock,
        })
    }

    /// Has what dead processes left removed, unless the making of a session has seen to it.
    pub(crate) fn sweep(&self) -> Result<()> {
        if lock(&self.session).is_none() && !self.root.list(paths::TMP)?.is_empty() {
            session::sweep_dead(&self.root, &self.sweeper)?;
        }
        Ok(())
    }

    /// The session, made by the first who asks.
    pub(crate) fn session(&self) -> Result<Arc<Session>> {
        let mut session = lock(&self.session);
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let new = Arc::new(Session::create(&self.root, &self.sweeper)?);
        *session = Some(new.clone());
        Ok(new)
    }
}

/// Makes what is missing of a store's directories.
fn prepare(path: &Path) -> Result<Root> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700).create(path).at("make", path)?;
    let root = Root::open(path)?;
    check_format(&root)?;
    for dir in paths::DIRECTORIES.iter().chain([&paths::STEP_LOCKS]) {
        root.make_dir(dir)?;
    }
    Ok(root)
}

/// Reads the file `format`, or makes it in an empty directory. Any other directory is refused: nobody wants a store spread among
/// their files because of a mistyped `--root`.
fn check_format(root: &Root) -> Result<()> {
    let path = root.join(paths::FORMAT);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let damaged =
                || StoreError::Damaged { what: "is no format that we know".into(), path: path.clone() };
            let found = text
                .strip_prefix(FORMAT_WORDS)
                .and_then(|n| n.trim_end().parse().ok())
                .ok_or_else(damaged)?;
            if found > FORMAT {
                return Err(StoreError::Newer { path, found, known: FORMAT });
            }
            return Ok(());
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).at("read", path),
    }
    let ours =
        |name: &std::ffi::OsString| name == "lost+found" || name == paths::FORMAT || is_new_format(name);
    if let Some(other) = root.list("")?.iter().find(|name| !ours(name)) {
        return Err(StoreError::NotAStore { path: root.path().to_owned(), found: other.clone() });
    }
    // Two processes may be here at once; both write the same.
    let new = format!("{}.new-{}", paths::FORMAT, std::process::id());
    root.unlink(&new)?;
    root.write_new(&new, format!("{FORMAT_WORDS}{FORMAT}\n").as_bytes(), 0o644)?;
    root.replace(&new, paths::FORMAT)
}

fn is_new_format(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"format.new-")
}

/// Whether the system says that a call cannot work here, so that another way should be tried.
pub(crate) fn is_unsupported(e: &std::io::Error) -> bool {
    matches!(
        e.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::XDEV
                | Errno::PERM
                | Errno::ACCESS
                | Errno::INVAL
                | Errno::OPNOTSUPP
                | Errno::NOTTY
                | Errno::NOSYS
        )
    )
}
