//! A directory of the user as a tree: which files a build takes from it, and their digests.
//!
//! Only what COPY, ADD and bind mounts name is read ([`Needed`]), less what `.dockerignore` excludes. Owners become 0:0, as
//! BuildKit's client sends them; modes and times stay; of the extended attributes only file capabilities do
//! ([`KEPT_XATTRS`]); a socket counts as an empty file.
//!
//! Files that are not in the memo ([`memo`]) go into the store while they are hashed, so a cold build reads its context once.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dockerfile::ignore::Matcher;
use oci::index::{Attrs, EncodedLayer, IndexError, Xattrs};
use oci::tree::{Id, Node, TreeError};
use oci::{Digest, Entry, Kind, LayerIndex, Time, Tree};
use store::Store;

use self::beneath::{Root, xattrs_of};
use self::memo::{Identity, Known, Settled};
use self::walk::{Found, FoundKind, identity, walk};
use crate::copy::clean;
use crate::parallel::lock;

mod beneath;
mod memo;
#[cfg(test)]
mod tests;
mod walk;

/// The extended attributes that a layer of ours holds. Others (`user.*`, security labels, ACLs) say something of the machine that the
/// file was on; BuildKit's layers leave them out, too.
pub const KEPT_XATTRS: &[&[u8]] = &[b"security.capability"];

/// Why a context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A file or directory cannot be read.
    #[error("cannot read {path:?} of the build context")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store refused a file.
    #[error("cannot take {path:?} of the build context into the store")]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: store::StoreError,
    },
    /// A name that no image can hold.
    #[error("build context")]
    Name(#[source] IndexError),
    /// More than an image can hold.
    #[error("build context")]
    Tree(#[source] TreeError),
    /// A file is another one than when it was hashed.
    #[error("{path:?} of the build context changed while the build was running")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// The build was stopped.
    #[error("interrupted")]
    Interrupted,
}

/// Which paths of a context are wanted.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Components, possibly with wildcards; everything below the last is wanted. The empty list wants all.
    patterns: BTreeSet<Vec<String>>,
}

impl Needed {
    /// Wants a source path as COPY writes it.
    pub fn path(&mut self, path: &str) {
        let path = clean(path);
        self.patterns.insert(path.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect());
    }

    /// Wants the files that `--parents` selects.
    pub fn parents(&mut self, path: &str) {
        let path = clean(&path.replace("/./", "/"));
        // `**` spans components, so everything from there on is wanted.
        let fixed: Vec<String> = path
            .split('/')
            .filter(|c| !c.is_empty())
            .take_while(|c| !c.contains("**"))
            .map(str::to_owned)
            .collect();
        self.patterns.insert(fixed);
    }

    /// Wants everything.
    pub fn everything(&mut self) {
        self.patterns.insert(Vec::new());
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

/// A context, read.
#[derive(Debug)]
pub struct Context {
    /// The directory; none for what was fetched.
    root: Option<Root>,
    /// What it is called in messages.
    label: String,
    /// When its source was made, if that says so.
    made: Option<Time>,
    /// The tree of what is wanted.
    pub tree: Arc<Tree>,
    /// Which file of `tree` has each content, for what the store may not hold yet. Most builds need none of it.
    files: OnceLock<HashMap<Digest, Id>>,
    /// Number of files that were hashed, because the memo did not know them.
    pub hashed: usize,
    /// Number of files.
    pub count: usize,
}

/// Reads what is wanted of a directory.
pub fn read(
    store: &Store,
    root: &Path,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<Context, ContextError> {
    let real = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let memo = Digest::of(real.as_os_str().as_bytes()).hex();
    read_with(store, root, needed, ignore, cancel, Some(&memo), true)
}

/// The same, but nothing is kept: contents stay where they are, and what was hashed is not remembered.
pub(crate) fn peek(
    store: &Store,
    root: &Path,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<Context, ContextError> {
    let real = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let memo = Digest::of(real.as_os_str().as_bytes()).hex();
    read_with(store, root, needed, ignore, cancel, Some(&memo), false)
}

/// Reads all of a directory that will not be there again: nothing of it is remembered.
pub(crate) fn read_once(store: &Store, root: &Path, cancel: &AtomicBool) -> Result<Context, ContextError> {
    let mut needed = Needed::default();
    needed.everything();
    read_with(store, root, &needed, None, cancel, None, true)
}

/// What a directory holds and an ignore file leaves, without looking into files: all have the digest of nothing.
pub(crate) fn survey(
    root: &Path,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<LayerIndex, ContextError> {
    let mut needed = Needed::default();
    needed.everything();
    let entries = walk(&Root::open(root)?, &needed, ignore, cancel)?.into_iter().map(|f| Entry {
        attrs: Attrs { mode: f.mode, uid: 0, gid: 0, mtime: f.mtime(), xattrs: Xattrs::new() },
        kind: match (f.kind, f.other()) {
            (FoundKind::Dir, _) => Kind::Directory { opaque: false },
            (FoundKind::File, _) => Kind::File { size: f.identity.size, digest: Digest::of(b"") },
            (_, Some(other)) => other.clone(),
            (_, None) => Kind::File { size: 0, digest: Digest::of(b"") },
        },
        path: f.path.into(),
    });
    LayerIndex::from_entries(entries.collect()).map_err(ContextError::Name)
}

fn read_with(
    store: &Store,
    root: &Path,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
    memo_name: Option<&str>,
    keep: bool,
) -> Result<Context, ContextError> {
    let settled = Settled::before(Time::now());
    let root = Root::open(root)?;
    let found = walk(&root, needed, ignore, cancel)?;
    let Digests { files, mut otherwise, remembered } =
        digest_all(store, &root, &found, memo_name, cancel, keep)?;
    let hashed = files.iter().flatten().filter(|d| d.fresh).count();
    if let Some(name) = memo_name.filter(|_| keep) {
        let row = |n: u32| {
            let digested = files[n as usize].as_ref()?;
            let listed = &found[n as usize].identity;
            let identity = otherwise.get(&n).map_or(listed, |read| &read.identity);
            settled.is(identity).then_some((identity, &digested.known))
        };
        let rows: Vec<u32> = (0..found.len() as u32).filter(|n| row(*n).is_some()).collect();
        if hashed > 0 || rows.len() != remembered {
            memo::save(store, name, rows, row);
        }
    }

    let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut count = 0;
    let entries = (0u32..).zip(in_pieces(found).zip(in_pieces(files))).map(|(n, (f, digested))| {
        let read = otherwise.remove(&n);
        let xattrs = match (&read, &digested) {
            (Some(read), _) => read.xattrs.clone(),
            (None, Some(Digested { known: Known { has_xattrs: true, .. }, .. })) => root.xattrs(&f.path),
            // Of what is neither file nor directory, nothing that is kept means anything.
            _ => f.xattrs(),
        };
        let kind = match (f.kind, digested) {
            (FoundKind::Dir, _) => Kind::Directory { opaque: false },
            (FoundKind::File, None) | (FoundKind::Socket | FoundKind::Other, _) => match f.other() {
                Some(other) => other.clone(),
                None => {
                    count += 1;
                    Kind::File { size: 0, digest: Digest::of(b"") }
                }
            },
            (FoundKind::File, Some(Digested { known: Known { digest, .. }, .. })) => {
                count += 1;
                let (identity, size) = match &read {
                    Some(read) => (read.identity, read.size),
                    None => (f.identity, f.identity.size),
                };
                let inode = (identity.dev, identity.ino);
                match first.get(&inode) {
                    Some(target) => Kind::HardLink { target: target.clone() },
                    None => {
                        if f.linked {
                            first.insert(inode, f.path.to_vec());
                        }
                        Kind::File { size, digest }
                    }
                }
            }
        };
        let attrs = Attrs { mode: f.mode, uid: 0, gid: 0, mtime: f.mtime(), xattrs };
        Entry { path: f.path.into(), attrs, kind }
    });
    let tree = tree_of(entries)?;
    // Where the paths were there are holes now.
    if tree.len() > MANY {
        sandbox::give_back();
    }
    Ok(Context {
        label: root.path().display().to_string(),
        root: Some(root),
        made: None,
        tree: Arc::new(tree),
        files: OnceLock::new(),
        hashed,
        count,
    })
}

/// Files whose lists are so large that it is worth the time to give their memory back.
const MANY: usize = 100_000;

fn tree_of(entries: impl Iterator<Item = Entry>) -> Result<Tree, ContextError> {
    Tree::from_sorted(entries).map_err(|e| match e {
        TreeError::Entry(e) => ContextError::Name(e),
        e => ContextError::Tree(e),
    })
}

/// What [`Tree::from_sorted`] would make the tree of.
fn entries(tree: &Tree) -> Vec<Entry> {
    let mut all = tree.flatten();
    all.retain(|e| !e.path.is_empty());
    all
}

/// The items of a list, whose memory is given back on the way: of a million files, the list and what is made of it are large.
fn in_pieces<T>(mut all: Vec<T>) -> impl Iterator<Item = T> {
    const PIECE: usize = 4096;
    let mut pieces = Vec::with_capacity(all.len() / PIECE + 1);
    while all.len() > PIECE {
        pieces.push(all.split_off((all.len() - 1) / PIECE * PIECE));
        all.shrink_to_fit();
    }
    pieces.push(all);
    std::iter::from_fn(move || pieces.pop()).flatten()
}

/// What is known of a regular file.
struct Digested {
    known: Known,
    /// It was not in the memo.
    fresh: bool,
}

/// What is known of the files of a context, by their places in the list of what was found.
struct Digests {
    files: Vec<Option<Digested>>,
    /// Of those that were not what was listed when they were read, or have attributes. Few are so, and there may be a million files.
    otherwise: HashMap<u32, Otherwise>,
    /// How many files are in the memo.
    remembered: usize,
}

/// A file as it was when it was read.
struct Otherwise {
    identity: Identity,
    size: u64,
    xattrs: Xattrs,
}

/// The digest of every regular file: from the memo, or by taking the file into the store, on two threads at least.
fn digest_all(
    store: &Store,
    root: &Root,
    found: &[Found],
    memo_name: Option<&str>,
    cancel: &AtomicBool,
    keep: bool,
) -> Result<Digests, ContextError> {
    let is_file = |i: &u32| matches!(found[*i as usize].kind, FoundKind::File);
    let files = || (0..found.len() as u32).filter(is_file);
    let mut out: Vec<Option<Digested>> = Vec::new();
    out.resize_with(found.len(), || None);
    let mut remembered = 0;
    if let Some(name) = memo_name {
        let identity = |i: u32| &found[i as usize].identity;
        remembered = memo::recall(store, name, files().collect(), identity, |i, known| {
            out[i as usize] = Some(Digested { known, fresh: false });
        });
        if remembered == 0 {
            out.fill_with(|| None);
        }
    }
    let todo: Vec<u32> = files().filter(|i| out[*i as usize].is_none()).collect();
    if todo.is_empty() {
        return Ok(Digests { files: out, otherwise: HashMap::new(), remembered });
    }
    let batch = store.batch();
    let next = AtomicUsize::new(0);
    let out = Mutex::new(out);
    let otherwise: Mutex<HashMap<u32, Otherwise>> = Mutex::default();
    let failed: Mutex<Option<ContextError>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(todo.len()) {
            scope.spawn(|| {
                let sink = batch.sink();
                // Handed over now and then: all of them would be a second list.
                let mut mine: Vec<(u32, Digested)> = Vec::new();
                let hand_over = |mine: &mut Vec<(u32, Digested)>| {
                    let mut out = lock(&out);
                    mine.drain(..).for_each(|(i, digested)| out[i as usize] = Some(digested));
                };
                while let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = if cancel.load(Ordering::Relaxed) {
                        Err(ContextError::Interrupted)
                    } else {
                        fresh(root, &found[i as usize], keep.then_some(&sink))
                    };
                    match outcome {
                        Ok((digested, read)) => {
                            if let Some(read) = read {
                                lock(&otherwise).insert(i, read);
                            }
                            mine.push((i, digested));
                            if mine.len() == 256 {
                                hand_over(&mut mine);
                            }
                        }
                        Err(e) => {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                            lock(&failed).get_or_insert(e);
                            break;
                        }
                    }
                }
                hand_over(&mut mine);
            });
        }
    });
    if let Some(e) = lock(&failed).take() {
        return Err(e);
    }
    batch
        .commit(Vec::new(), Vec::new())
        .map_err(|source| ContextError::Store { path: root.path().to_owned(), source })?;
    let files = out.into_inner().unwrap_or_else(PoisonError::into_inner);
    let otherwise = otherwise.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Digests { files, otherwise, remembered })
}

/// Reads a file for the first time, into the store if there is a sink. With it what is not as it was listed.
fn fresh(
    root: &Root,
    found: &Found,
    sink: Option<&store::Sink>,
) -> Result<(Digested, Option<Otherwise>), ContextError> {
    let path = &found.path;
    let file = root.file(path)?;
    let read = |source| ContextError::Read { path: root.name(path), source };
    let stat = rustix::fs::fstat(&file).map_err(|e| read(e.into()))?;
    let (read_as, xattrs) = (identity(&stat), xattrs_of(&file));
    let (digest, size) = match sink {
        Some(sink) => ingest(sink, &file, &root.name(path))?,
        None => {
            let mut out = oci::digest::Hashing::new(io::sink());
            io::copy(&mut &file, &mut out).map_err(read)?;
            let (_, digest, size) = out.finish();
            (digest, size)
        }
    };
    let known = Known { digest, has_xattrs: !xattrs.is_empty() };
    let as_listed = read_as == found.identity && size == read_as.size && xattrs.is_empty();
    let otherwise = (!as_listed).then_some(Otherwise { identity: read_as, size, xattrs });
    Ok((Digested { known, fresh: true }, otherwise))
}

fn ingest(sink: &store::Sink, file: &std::fs::File, path: &Path) -> Result<(Digest, u64), ContextError> {
    sink.add_file(file, path).map_err(|source| ContextError::Store { path: path.to_owned(), source })
}

impl Context {
    /// A context that was fetched: its contents are in the store. `label` names it in messages.
    pub(crate) fn of_layer(
        label: String,
        layer: &LayerIndex,
        made: Option<Time>,
    ) -> Result<Context, oci::tree::TreeError> {
        let tree = Tree::from_layers([layer])?;
        let count = layer.entries().iter().filter(|e| matches!(e.kind, Kind::File { .. })).count();
        Ok(Context {
            root: None,
            label,
            made,
            tree: Arc::new(tree),
            files: OnceLock::new(),
            hashed: 0,
            count,
        })
    }

    /// The tree as a layer.
    pub fn layer(&self) -> Result<LayerIndex, ContextError> {
        LayerIndex::from_entries(entries(&self.tree)).map_err(ContextError::Name)
    }

    /// Makes sure that the store holds the contents that a layer names.
    pub fn provide(&self, batch: &store::Batch, layer: &EncodedLayer) -> Result<(), ContextError> {
        batch.each_lacking(layer, |digest| self.provide_one(batch, digest))
    }

    /// Makes sure that the store holds all contents of the context.
    pub fn provide_all(&self, batch: &store::Batch) -> Result<(), ContextError> {
        (0..self.tree.len() as Id).try_for_each(|id| match &self.tree.inode(id).node {
            Node::File { digest, .. } => self.provide_one(batch, digest),
            _ => Ok(()),
        })
    }

    /// Makes sure that the store holds one content of the context.
    pub fn provide_one(&self, batch: &store::Batch, digest: &Digest) -> Result<(), ContextError> {
        let Some(root) = &self.root else { return Ok(()) };
        // Most are there, and need no name.
        let failed = |source| ContextError::Store { path: root.path().to_owned(), source };
        if batch.reuse(digest).map_err(failed)? {
            return Ok(());
        }
        let Some((root, within)) = self.path_of(digest) else { return Ok(()) };
        // An empty file may be a socket, which cannot be opened.
        if *digest == Digest::of(b"") {
            let added = batch.add_bytes(b"").map(drop);
            return added.map_err(failed);
        }
        let path = root.name(&within);
        let (got, _) = ingest(&batch.sink(), &root.file(&within)?, &path)?;
        if got == *digest { Ok(()) } else { Err(ContextError::Changed { path }) }
    }

    fn path_of(&self, digest: &Digest) -> Option<(&Root, Vec<u8>)> {
        let root = self.root.as_ref()?;
        let files = self.files.get_or_init(|| {
            let digests = (0..self.tree.len() as Id).filter_map(|id| match self.tree.inode(id).node {
                Node::File { digest, .. } => Some((digest, id)),
                _ => None,
            });
            digests.collect()
        });
        Some((root, self.tree.path(*files.get(digest)?)))
    }

    /// One content, if the context's directory holds it still and it is not longer than `limit` bytes.
    pub fn read(&self, digest: &oci::Digest, limit: u64) -> Option<Vec<u8>> {
        let (root, path) = self.path_of(digest)?;
        let mut bytes = Vec::new();
        let mut file = std::io::Read::take(root.file(&path).ok()?, limit + 1);
        std::io::Read::read_to_end(&mut file, &mut bytes).ok()?;
        (bytes.len() as u64 <= limit && oci::Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// The context with another time for everything in it.
    pub(crate) fn dated(mut self, time: Time) -> Result<Context, ContextError> {
        let dated = entries(&self.tree).into_iter().map(|mut e| {
            e.attrs.mtime = time;
            e
        });
        self.tree = Arc::new(tree_of(dated)?);
        self.files = OnceLock::new();
        Ok(self)
    }

    /// The context with other content of one file, which must be in the store. `None` if there is no such file.
    pub fn with_file(&self, path: &[u8], digest: Digest, size: u64) -> Option<Context> {
        let mut entries = entries(&self.tree);
        let entry = entries.iter_mut().find(|e| e.path == path && matches!(e.kind, Kind::File { .. }))?;
        entry.kind = Kind::File { size, digest };
        let tree = Arc::new(tree_of(entries.into_iter()).ok()?);
        Some(Context {
            root: self.root.clone(),
            label: self.label.clone(),
            made: self.made,
            tree,
            files: self.files.clone(),
            hashed: 0,
            count: self.count,
        })
    }

    /// When what was fetched was made: the commit, `Last-Modified`, or the newest file of an archive.
    pub fn made(&self) -> Option<Time> {
        self.made
    }

    /// What it is called in messages: the directory, or where it was fetched from.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether a path exists in the directory, although the tree does not have it (it is ignored).
    pub fn hides(&self, path: &str) -> bool {
        let path = clean(path);
        self.tree.lookup(path.as_bytes()).is_none()
            && self.root.as_ref().is_some_and(|r| r.holds(path.as_bytes()))
    }
}
