//! A directory of the user as a tree: which files a build takes from it, and their digests.
//!
//! Only what COPY, ADD and bind mounts name is read ([`Needed`]), less what `.dockerignore` excludes. Owners become 0:0, as
//! BuildKit's client sends them; modes and times stay; of the extended attributes only file capabilities do
//! ([`KEPT_XATTRS`]); a socket counts as an empty file.
//!
//! # The memo
//!
//! A file that was hashed before is not read again while its identity stays the same: device, inode, size, modification and
//! change time in nanoseconds. Size and modification time alone are never trusted: they can be set. A file that changed shortly
//! before it was looked at may change again within the clock's grain; it is hashed, but not remembered (git's racy guard).
//!
//! The memo is a file of the store, named by the digest of the directory's path, of rows of fixed size, little endian:
//! `device, inode, size, mtime ns, ctime ns: u64 each; digest: 32 bytes`, after the line `layercake-memo-1`. A memo that cannot
//! be read is as good as none.
//!
//! Files that are not in the memo go into the store while they are hashed, so a cold build reads its context once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dockerfile::ignore::{Matcher, ParentMatches};
use oci::index::{Attrs, Xattrs, join};
use oci::{Digest, Entry, Kind, LayerIndex, Time, Tree};
use store::Store;

use crate::copy::{clean, has_wildcards};

#[cfg(test)]
mod tests;

/// The extended attributes that a layer of ours holds. Others (`user.*`, security labels, ACLs) say something of the machine that the
/// file was on; BuildKit's layers leave them out, too.
pub const KEPT_XATTRS: &[&[u8]] = &[b"security.capability"];

/// A change this close to the time of looking may be followed by one with the same time stamps.
const RACY_NANOS: i128 = 1_000_000_000;

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
    Name(#[source] oci::index::IndexError),
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

/// Whether and how a path is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    No,
    /// Something below it is.
    Below,
    Yes,
}

fn wanted(patterns: &BTreeSet<Vec<String>>, path: &[String]) -> Want {
    let mut want = Want::No;
    for p in patterns {
        let fits = p.iter().zip(path).all(|(p, c)| {
            if has_wildcards(p) { dockerfile::glob::matches(p, c).unwrap_or(false) } else { p == c }
        });
        if fits {
            if p.len() <= path.len() {
                return Want::Yes;
            }
            want = Want::Below;
        }
    }
    want
}

/// A context, read.
#[derive(Debug)]
pub struct Context {
    /// The directory; none for what was fetched.
    root: Option<PathBuf>,
    /// What it is called in messages.
    label: String,
    /// When its source was made, if that says so.
    made: Option<Time>,
    /// The tree of what is wanted.
    pub tree: Arc<Tree>,
    /// The same as a layer.
    pub layer: LayerIndex,
    /// Where each content lies, for what the store may not hold yet.
    files: HashMap<Digest, PathBuf>,
    /// Number of files that were hashed, because the memo did not know them.
    pub hashed: usize,
    /// Number of files.
    pub count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i128,
    ctime: i128,
}

fn nanos(secs: i64, nanos: i64) -> i128 {
    i128::from(secs) * 1_000_000_000 + i128::from(nanos)
}

impl Identity {
    fn of(m: &std::fs::Metadata) -> Identity {
        Identity {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime: nanos(m.mtime(), m.mtime_nsec()),
            ctime: nanos(m.ctime(), m.ctime_nsec()),
        }
    }
}

struct Found {
    path: Vec<u8>,
    identity: Identity,
    mode: u32,
    mtime: Time,
    nlink: u64,
    xattrs: Xattrs,
    socket: bool,
    kind: FoundKind,
}

enum FoundKind {
    Dir,
    File,
    Other(Kind),
}

const MEMO_MAGIC: &[u8] = b"layercake-memo-1\n";
const MEMO_ROW: usize = 72;

fn load_memo(store: &Store, name: &str) -> HashMap<(u64, u64), (Identity, Digest)> {
    let mut out = HashMap::new();
    let bytes = store.memo_load(name).unwrap_or_default();
    let Some(rows) = bytes.strip_prefix(MEMO_MAGIC) else { return out };
    out.reserve(rows.len() / MEMO_ROW);
    for row in rows.chunks_exact(MEMO_ROW) {
        let n = |i: usize| u64::from_le_bytes(row[i * 8..i * 8 + 8].try_into().unwrap_or_default());
        let digest: [u8; 32] = row[40..72].try_into().unwrap_or_default();
        let id = Identity {
            dev: n(0),
            ino: n(1),
            size: n(2),
            mtime: i128::from(n(3) as i64),
            ctime: i128::from(n(4) as i64),
        };
        out.insert((id.dev, id.ino), (id, Digest::from_bytes(digest)));
    }
    out
}

fn save_memo(store: &Store, name: &str, rows: &[(Identity, Digest)]) {
    let mut out = MEMO_MAGIC.to_vec();
    out.reserve(rows.len() * MEMO_ROW);
    for (id, digest) in rows {
        for n in [id.dev, id.ino, id.size, id.mtime as u64, id.ctime as u64] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(digest.as_bytes());
    }
    // A memo that cannot be kept costs time in the next build, nothing else.
    let _ = store.memo_save(name, &out);
}

/// Attributes that belong to a file's meaning, not to this machine.
fn xattrs_of(path: &Path) -> Xattrs {
    let mut out = Vec::new();
    for name in KEPT_XATTRS {
        // Asked for by name: a listing may be long, and most files have none of these.
        let mut value = [0u8; 256];
        if let Ok(len) = rustix::fs::lgetxattr(path, *name, &mut value[..]) {
            out.push((name.to_vec(), value[..len].to_vec()));
        }
    }
    out.sort();
    out
}

struct Walker<'a> {
    root: &'a Path,
    patterns: BTreeSet<Vec<String>>,
    ignore: Option<&'a Matcher>,
    cancel: &'a AtomicBool,
    found: BTreeMap<Vec<u8>, Found>,
    new_patterns: Vec<Vec<String>>,
}

/// A directory on the way. Not a frame of a recursion: directories may nest two thousand deep.
struct Open {
    rel: Vec<u8>,
    names: Vec<std::ffi::OsString>,
    matched: ParentMatches,
    /// An excluded directory is kept if something in it is: its attributes, and how much was found before it.
    excluded: Option<(std::fs::Metadata, usize)>,
}

impl Walker<'_> {
    fn open(
        &self,
        rel: Vec<u8>,
        matched: ParentMatches,
        excluded: Option<std::fs::Metadata>,
    ) -> Result<Open, ContextError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(ContextError::Interrupted);
        }
        let path = self.root.join(OsStr::from_bytes(&rel));
        let read = |source| ContextError::Read { path: path.clone(), source };
        // All at once: an open directory for each level could be more than a process may have.
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(read)? {
            names.push(entry.map_err(read)?.file_name());
        }
        Ok(Open { rel, names, matched, excluded: excluded.map(|m| (m, self.found.len())) })
    }

    fn walk(&mut self) -> Result<(), ContextError> {
        let mut components: Vec<String> = Vec::new();
        let mut way = vec![self.open(Vec::new(), ParentMatches::default(), None)?];
        while let Some(dir) = way.last_mut() {
            if let Some(name) = dir.names.pop() {
                let path = join(&dir.rel, name.as_bytes());
                components.push(name.to_string_lossy().into_owned());
                match self.entry(path, &components, &dir.matched)? {
                    Some(open) => way.push(open),
                    None => drop(components.pop()),
                }
                continue;
            }
            let Some(done) = way.pop() else { break };
            components.pop();
            if let Some((m, before)) = done.excluded
                && self.found.len() > before
            {
                let full = self.root.join(OsStr::from_bytes(&done.rel));
                self.keep(done.rel, &full, &m, FoundKind::Dir);
            }
        }
        Ok(())
    }

    /// Looks at one name; gives the directory to go on in, if it is one.
    fn entry(
        &mut self,
        path: Vec<u8>,
        components: &[String],
        matched: &ParentMatches,
    ) -> Result<Option<Open>, ContextError> {
        let want = wanted(&self.patterns, components);
        if want == Want::No {
            return Ok(None);
        }
        let (ignored, matched) = match self.ignore {
            Some(m) => m.matches_below(&String::from_utf8_lossy(&path), matched),
            None => (false, ParentMatches::default()),
        };
        let full = &self.root.join(OsStr::from_bytes(&path));
        let m = match std::fs::symlink_metadata(full) {
            Ok(m) => m,
            // Gone between the listing and now: as if it had never been there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ContextError::Read { path: full.to_owned(), source }),
        };
        let ft = m.file_type();
        // Nothing can be below it.
        if want == Want::Below && !ft.is_dir() && !ft.is_symlink() {
            return Ok(None);
        }
        if ignored {
            let below =
                ft.is_dir() && self.ignore.is_some_and(|i| !i.may_skip_dir(&String::from_utf8_lossy(&path)));
            return if below { self.open(path, matched, Some(m)).map(Some) } else { Ok(None) };
        }
        let device = || (rustix::fs::major(m.rdev()), rustix::fs::minor(m.rdev()));
        let kind = if ft.is_dir() {
            FoundKind::Dir
        } else if ft.is_file() || ft.is_socket() {
            // A socket comes as an empty file, as BuildKit copies it.
            FoundKind::File
        } else if ft.is_symlink() {
            let target = std::fs::read_link(full)
                .map_err(|source| ContextError::Read { path: full.to_owned(), source })?;
            let target = target.into_os_string().into_encoded_bytes();
            self.follow(components, &target);
            FoundKind::Other(Kind::Symlink { target })
        } else if ft.is_fifo() {
            FoundKind::Other(Kind::Fifo)
        } else if ft.is_char_device() {
            let (major, minor) = device();
            FoundKind::Other(Kind::CharDevice { major, minor })
        } else {
            let (major, minor) = device();
            FoundKind::Other(Kind::BlockDevice { major, minor })
        };
        self.keep(path.clone(), full, &m, kind);
        if ft.is_dir() { self.open(path, matched, None).map(Some) } else { Ok(None) }
    }

    fn keep(&mut self, path: Vec<u8>, full: &Path, m: &std::fs::Metadata, kind: FoundKind) {
        self.found.entry(path.clone()).or_insert_with(|| Found {
            path,
            identity: Identity::of(m),
            mode: m.mode() & 0o7777,
            mtime: Time { secs: m.mtime(), nanos: u32::try_from(m.mtime_nsec()).unwrap_or(0) },
            nlink: m.nlink(),
            xattrs: xattrs_of(full),
            socket: m.file_type().is_socket(),
            kind,
        });
    }

    /// A link on the way to something wanted makes what it leads to wanted.
    fn follow(&mut self, link: &[String], target: &[u8]) {
        let target = String::from_utf8_lossy(target);
        let base = if target.starts_with('/') { String::new() } else { link[..link.len() - 1].join("/") };
        for p in &self.patterns {
            let reaches = p.iter().zip(link).all(|(p, c)| p == c || has_wildcards(p));
            // Links inside a copied directory are copied as links.
            if reaches && p.len() >= link.len() {
                let rest = p[link.len()..].join("/");
                let new = clean(&format!("{base}/{target}/{rest}"));
                let new: Vec<String> = new.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect();
                if !self.patterns.contains(&new) {
                    self.new_patterns.push(new);
                }
            }
        }
    }
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
    read_with(store, root, needed, ignore, cancel, Some(&memo))
}

/// Reads all of a directory that will not be there again: nothing of it is remembered.
pub(crate) fn read_once(store: &Store, root: &Path, cancel: &AtomicBool) -> Result<Context, ContextError> {
    let mut needed = Needed::default();
    needed.everything();
    read_with(store, root, &needed, None, cancel, None)
}

/// What a directory holds and an ignore file leaves, without looking into files: all have the digest of nothing.
pub(crate) fn survey(
    root: &Path,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<LayerIndex, ContextError> {
    let mut needed = Needed::default();
    needed.everything();
    let entries = walk(root, &needed, ignore, cancel)?.into_iter().map(|f| Entry {
        path: f.path,
        attrs: Attrs { mode: f.mode, uid: 0, gid: 0, mtime: f.mtime, xattrs: f.xattrs },
        kind: match f.kind {
            FoundKind::Dir => Kind::Directory { opaque: false },
            FoundKind::File if f.socket => Kind::File { size: 0, digest: Digest::of(b"") },
            FoundKind::File => Kind::File { size: f.identity.size, digest: Digest::of(b"") },
            FoundKind::Other(k) => k,
        },
    });
    LayerIndex::from_entries(entries.collect()).map_err(ContextError::Name)
}

/// Finds what is wanted of a directory, in the order of paths.
fn walk(
    root: &Path,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<Vec<Found>, ContextError> {
    let mut walker = Walker {
        root,
        patterns: needed.patterns.clone(),
        ignore,
        cancel,
        found: BTreeMap::new(),
        new_patterns: Vec::new(),
    };
    for _ in 0..40 {
        if !walker.patterns.is_empty() {
            walker.walk()?;
        }
        if walker.new_patterns.is_empty() {
            break;
        }
        let new = std::mem::take(&mut walker.new_patterns);
        walker.patterns.extend(new);
    }
    Ok(walker.found.into_values().collect())
}

fn read_with(
    store: &Store,
    root: &Path,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
    memo_name: Option<&str>,
) -> Result<Context, ContextError> {
    let now = Time::now();
    let found = walk(root, needed, ignore, cancel)?;
    let memo = memo_name.map(|name| load_memo(store, name)).unwrap_or_default();
    let digests = digest_all(store, root, &found, &memo, cancel)?;

    let mut entries = Vec::with_capacity(found.len());
    let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut rows = Vec::new();
    let mut files = HashMap::new();
    let racy_from = nanos(now.secs, i64::from(now.nanos)) - RACY_NANOS;
    let (mut count, mut hashed) = (0, 0);
    for (f, hashed_now) in found.into_iter().zip(digests) {
        let kind = match (f.kind, hashed_now) {
            (FoundKind::Dir, _) => Kind::Directory { opaque: false },
            (FoundKind::Other(k), _) => k,
            (FoundKind::File, digest) => {
                let (digest, size, fresh) = digest.unwrap_or((Digest::of(b""), 0, false));
                count += 1;
                hashed += usize::from(fresh);
                if !f.socket && f.identity.mtime < racy_from && f.identity.ctime < racy_from {
                    rows.push((f.identity, digest));
                }
                files.insert(digest, root.join(OsStr::from_bytes(&f.path)));
                let inode = (f.identity.dev, f.identity.ino);
                match first.get(&inode) {
                    Some(target) => Kind::HardLink { target: target.clone() },
                    None => {
                        if f.nlink > 1 {
                            first.insert(inode, f.path.clone());
                        }
                        Kind::File { size, digest }
                    }
                }
            }
        };
        entries.push(Entry {
            path: f.path,
            attrs: Attrs { mode: f.mode, uid: 0, gid: 0, mtime: f.mtime, xattrs: f.xattrs },
            kind,
        });
    }
    if let Some(name) = memo_name.filter(|_| hashed > 0 || rows.len() != memo.len()) {
        save_memo(store, name, &rows);
    }
    let layer = LayerIndex::from_entries(entries).map_err(ContextError::Name)?;
    let tree = Tree::from_layers([&layer]).unwrap_or_default();
    let label = root.display().to_string();
    Ok(Context {
        root: Some(root.to_owned()),
        label,
        made: None,
        tree: Arc::new(tree),
        layer,
        files,
        hashed,
        count,
    })
}

type Digested = Option<(Digest, u64, bool)>;

/// The digest of every regular file: from the memo, or by taking the file into the store, on two threads at least.
fn digest_all(
    store: &Store,
    root: &Path,
    found: &[Found],
    memo: &HashMap<(u64, u64), (Identity, Digest)>,
    cancel: &AtomicBool,
) -> Result<Vec<Digested>, ContextError> {
    let mut out: Vec<Digested> = Vec::with_capacity(found.len());
    let mut todo = Vec::new();
    for (i, f) in found.iter().enumerate() {
        let known = match (&f.kind, memo.get(&(f.identity.dev, f.identity.ino))) {
            (FoundKind::File, Some((id, digest))) if *id == f.identity => {
                Some((*digest, f.identity.size, false))
            }
            (FoundKind::File, _) if f.socket => Some((Digest::of(b""), 0, false)),
            _ => None,
        };
        if known.is_none() && matches!(f.kind, FoundKind::File) {
            todo.push(i);
        }
        out.push(known);
    }
    if todo.is_empty() {
        return Ok(out);
    }
    let batch = store.batch();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, (Digest, u64))>> = Mutex::new(Vec::with_capacity(todo.len()));
    let failed: Mutex<Option<ContextError>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(todo.len()) {
            scope.spawn(|| {
                let sink = batch.sink();
                let mut mine = Vec::new();
                while let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = if cancel.load(Ordering::Relaxed) {
                        Err(ContextError::Interrupted)
                    } else {
                        ingest(&sink, &root.join(OsStr::from_bytes(&found[i].path)))
                    };
                    match outcome {
                        Ok(d) => mine.push((i, d)),
                        Err(e) => {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                            lock(&failed).get_or_insert(e);
                            break;
                        }
                    }
                }
                lock(&results).append(&mut mine);
            });
        }
    });
    if let Some(e) = lock(&failed).take() {
        return Err(e);
    }
    for (i, (digest, size)) in lock(&results).drain(..) {
        out[i] = Some((digest, size, true));
    }
    batch
        .commit(Vec::new(), Vec::new())
        .map_err(|source| ContextError::Store { path: root.to_owned(), source })?;
    Ok(out)
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open(path: &Path) -> Result<std::fs::File, ContextError> {
    use rustix::fs::{Mode, OFlags};
    // A FIFO or a link put here since the listing must not be waited for or followed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        Err(e) => Err(ContextError::Read { path: path.to_owned(), source: e.into() }),
    }
}

fn ingest(sink: &store::Sink, path: &Path) -> Result<(Digest, u64), ContextError> {
    let file = open(path)?;
    sink.add_file(&file, path).map_err(|source| ContextError::Store { path: path.to_owned(), source })
}

impl Context {
    /// A context that was fetched: its contents are in the store. `label` names it in messages.
    pub(crate) fn of_layer(
        label: String,
        layer: LayerIndex,
        made: Option<Time>,
    ) -> Result<Context, oci::tree::TreeError> {
        let tree = Tree::from_layers([&layer])?;
        let count = layer.entries().iter().filter(|e| matches!(e.kind, Kind::File { .. })).count();
        Ok(Context {
            root: None,
            label,
            made,
            tree: Arc::new(tree),
            layer,
            files: HashMap::new(),
            hashed: 0,
            count,
        })
    }

    /// Makes sure that the store holds the contents that a layer names.
    pub fn provide(&self, batch: &store::Batch, layer: &LayerIndex) -> Result<(), ContextError> {
        layer.objects().try_for_each(|(digest, _)| self.provide_one(batch, &digest))
    }

    /// Makes sure that the store holds one content of the context.
    pub fn provide_one(&self, batch: &store::Batch, digest: &Digest) -> Result<(), ContextError> {
        let Some(path) = self.files.get(digest) else { return Ok(()) };
        if batch.reuse(digest).map_err(|source| ContextError::Store { path: path.clone(), source })? {
            return Ok(());
        }
        // An empty file may be a socket, which cannot be opened.
        if *digest == Digest::of(b"") {
            let added = batch.add_bytes(b"").map(drop);
            return added.map_err(|source| ContextError::Store { path: path.clone(), source });
        }
        let (got, _) = ingest(&batch.sink(), path)?;
        if got == *digest { Ok(()) } else { Err(ContextError::Changed { path: path.clone() }) }
    }

    /// The same contents with other attributes.
    pub(crate) fn with_layer(self, layer: LayerIndex) -> Context {
        let tree = Arc::new(Tree::from_layers([&layer]).unwrap_or_default());
        Context { layer, tree, ..self }
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
            && self.root.as_ref().is_some_and(|r| std::fs::symlink_metadata(r.join(&path)).is_ok())
    }
}
