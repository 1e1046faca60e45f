//! Finds what is wanted of a directory: names, types and attributes; no file is opened.
//!
//! A directory is listed and all its entries are looked at relative to it in one go, which spares the kernel the way from the
//! top for each; then its directories are, by several threads where there are enough of them. At most one directory is open in
//! each thread, however deep they nest.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use dockerfile::ignore::{Matcher, ParentMatches};
use oci::index::{Xattrs, compare, join};
use oci::{Kind, Time};
use rustix::fs::{AtFlags, FileType, Stat};

use super::beneath::{Root, xattrs_of};
use super::memo::{Identity, nanos};
use super::{ContextError, Needed};
use crate::copy::{clean, has_wildcards};
use crate::parallel::lock;

/// From so many waiting directories on, other threads help.
const WORTH_THREADS: usize = 16;

/// More threads than this wait for each other in the kernel.
const MAX_THREADS: usize = 8;

/// Links that lead to what is wanted are followed so often.
const MAX_LINKS: usize = 40;

/// Something of a context. Most are files, of which there may be a million.
pub(super) struct Found {
    pub(super) path: Box<[u8]>,
    pub(super) identity: Identity,
    /// Permission bits.
    pub(super) mode: u32,
    /// It has other names.
    pub(super) linked: bool,
    pub(super) kind: FoundKind,
    /// What few have.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundKind {
    Dir,
    File,
    Socket,
    /// What [`Found::other`] says.
    Other,
}

#[derive(Default)]
struct Rare {
    /// Where [`Identity::mtime`] cannot hold it.
    mtime: Option<Time>,
    /// Of what is neither directory nor file.
    kind: Option<Kind>,
    /// Of a directory.
    xattrs: Xattrs,
}

impl Found {
    /// Last modification.
    pub(super) fn mtime(&self) -> Time {
        self.rare.as_ref().and_then(|rare| rare.mtime).unwrap_or_else(|| time(self.identity.mtime))
    }

    /// What it is, if it is neither directory nor file nor socket.
    pub(super) fn other(&self) -> Option<&Kind> {
        self.rare.as_ref()?.kind.as_ref()
    }

    /// The extended attributes of a directory.
    pub(super) fn xattrs(&self) -> Xattrs {
        self.rare.as_ref().map_or_else(Xattrs::new, |rare| rare.xattrs.clone())
    }
}

/// The time that so many nanoseconds are.
fn time(nanos: i64) -> Time {
    Time { secs: nanos.div_euclid(1_000_000_000), nanos: nanos.rem_euclid(1_000_000_000) as u32 }
}

/// A list that grows without being copied, and whose memory is given back while it is taken apart.
pub(super) struct Pieces<T>(Vec<Vec<T>>);

/// Items of a piece: so many that it comes from the kernel and goes back to it.
const PIECE: usize = 16 << 10;

impl<T> Default for Pieces<T> {
    fn default() -> Pieces<T> {
        Pieces(Vec::new())
    }
}

impl<T> Pieces<T> {
    fn push(&mut self, item: T) {
        match self.0.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(item),
            None => {
                let mut piece = Vec::with_capacity(if self.0.is_empty() { 4 } else { PIECE });
                piece.push(item);
                self.0.push(piece);
            }
        }
    }

    fn append(&mut self, other: &mut Pieces<T>) {
        self.0.append(&mut other.0);
    }

    /// All as one list, in any order.
    fn into_vec(mut self) -> Vec<T> {
        let mut out = Vec::with_capacity(self.0.iter().map(Vec::len).sum());
        while let Some(mut piece) = self.0.pop() {
            out.append(&mut piece);
        }
        out
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

fn components(path: &[u8]) -> Vec<String> {
    path.split(|b| *b == b'/').map(|c| String::from_utf8_lossy(c).into_owned()).collect()
}

/// A directory that is still to be listed.
struct Todo {
    rel: Vec<u8>,
    matched: ParentMatches,
    /// All below it is wanted.
    all: bool,
    /// The directory itself, and whether it is excluded; none for the root.
    itself: Option<(Found, bool)>,
}

/// What one thread found.
#[derive(Default)]
struct Part {
    found: Pieces<Found>,
    /// Excluded directories, which are kept if something in them is.
    excluded: Vec<Found>,
    /// What links make wanted.
    patterns: Vec<Vec<String>>,
}

/// The directories that wait, and how many threads are at one.
#[derive(Default)]
struct Queue {
    waiting: Vec<Todo>,
    busy: usize,
    failed: Option<ContextError>,
}

struct Walker<'a> {
    root: &'a Root,
    patterns: &'a BTreeSet<Vec<String>>,
    ignore: Option<&'a Matcher>,
    cancel: &'a AtomicBool,
}

/// Finds what is wanted of a directory, in the order of a layer's entries.
pub(super) fn walk(
    root: &Root,
    needed: &Needed,
    ignore: Option<&Matcher>,
    cancel: &AtomicBool,
) -> Result<Vec<Found>, ContextError> {
    let mut patterns = needed.patterns.clone();
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for _ in 0..MAX_LINKS {
        drop(found);
        let more;
        (found, more) = Walker { root, patterns: &patterns, ignore, cancel }.walk()?;
        let before = patterns.len();
        patterns.extend(more);
        if patterns.len() == before {
            break;
        }
    }
    Ok(found)
}

impl Walker<'_> {
    /// What is found, and what links make wanted.
    fn walk(&self) -> Result<(Vec<Found>, Vec<Vec<String>>), ContextError> {
        let mut part = Part::default();
        let all = self.patterns.iter().any(Vec::is_empty);
        let mut waiting =
            vec![Todo { rel: Vec::new(), matched: ParentMatches::default(), all, itself: None }];
        while waiting.len() < WORTH_THREADS
            && let Some(todo) = waiting.pop()
        {
            self.list(todo, &mut part, &mut waiting)?;
        }
        if !waiting.is_empty() {
            self.share(waiting, &mut part)?;
        }
        let mut found = part.found.into_vec();
        found.sort_unstable_by(|a, b| compare(&a.path, &b.path));
        let kept: Vec<Found> = part
            .excluded
            .drain(..)
            .filter(|dir| {
                let below = [&dir.path[..], b"/"].concat();
                let at = found.partition_point(|f| compare(&f.path, &below).is_lt());
                found.get(at).is_some_and(|f| f.path.starts_with(&below))
            })
            .collect();
        if !kept.is_empty() {
            found.extend(kept);
            found.sort_unstable_by(|a, b| compare(&a.path, &b.path));
        }
        Ok((found, part.patterns))
    }

    /// Lists the rest with several threads.
    fn share(&self, waiting: Vec<Todo>, part: &mut Part) -> Result<(), ContextError> {
        let queue = Mutex::new(Queue { waiting, ..Queue::default() });
        let changed = Condvar::new();
        let parts = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, MAX_THREADS);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut mine = Part::default();
                    self.work(&queue, &changed, &mut mine);
                    lock(&parts).push(mine);
                });
            }
        });
        if let Some(e) = lock(&queue).failed.take() {
            return Err(e);
        }
        for mut other in parts.into_inner().unwrap_or_else(PoisonError::into_inner) {
            part.found.append(&mut other.found);
            part.excluded.append(&mut other.excluded);
            part.patterns.append(&mut other.patterns);
        }
        Ok(())
    }

    fn work(&self, queue: &Mutex<Queue>, changed: &Condvar, mine: &mut Part) {
        let mut new = Vec::new();
        let mut q = lock(queue);
        loop {
            if q.failed.is_some() {
                return;
            }
            let Some(todo) = q.waiting.pop() else {
                if q.busy == 0 {
                    return;
                }
                q = changed.wait(q).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            q.busy += 1;
            drop(q);
            let outcome = self.list(todo, mine, &mut new);
            q = lock(queue);
            q.busy -= 1;
            q.waiting.append(&mut new);
            if let Err(e) = outcome {
                q.failed.get_or_insert(e);
            }
            changed.notify_all();
        }
    }

    /// Looks at all entries of a directory. Those that are directories to go on in are added to `new`.
    fn list(&self, mut todo: Todo, part: &mut Part, new: &mut Vec<Todo>) -> Result<(), ContextError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(ContextError::Interrupted);
        }
        let dir = self.root.dir(&todo.rel)?;
        if let Some((mut found, excluded)) = todo.itself.take() {
            let xattrs = xattrs_of(&dir);
            if !xattrs.is_empty() {
                found.rare.get_or_insert_default().xattrs = xattrs;
            }
            if excluded { part.excluded.push(found) } else { part.found.push(found) }
        }
        let read = |source: rustix::io::Errno| ContextError::Read {
            path: self.root.name(&todo.rel),
            source: source.into(),
        };
        for entry in rustix::fs::Dir::read_from(&dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(&dir, name, &todo, part, new)?;
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        above: &Todo,
        part: &mut Part,
        new: &mut Vec<Todo>,
    ) -> Result<(), ContextError> {
        let path = join(&above.rel, name.to_bytes());
        let want = if above.all { Want::Yes } else { wanted(self.patterns, &components(&path)) };
        if want == Want::No {
            return Ok(());
        }
        let (ignored, matched) = match self.ignore {
            Some(m) => m.matches_below(&String::from_utf8_lossy(&path), &above.matched),
            None => (false, ParentMatches::default()),
        };
        let read = |path: &[u8], source: rustix::io::Errno| ContextError::Read {
            path: self.root.name(path),
            source: source.into(),
        };
        let stat = match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone between the listing and now: as if it had never been there.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(read(&path, e)),
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_dir = file_type == FileType::Directory;
        // Nothing can be below it.
        if want == Want::Below && !is_dir && file_type != FileType::Symlink {
            return Ok(());
        }
        let deeper = |path: Vec<u8>, excluded| {
            let itself = Some((found(&path, &stat, FoundKind::Dir, None), excluded));
            Todo { rel: path, matched, all: want == Want::Yes, itself }
        };
        if ignored {
            if is_dir && self.ignore.is_some_and(|i| !i.may_skip_dir(&String::from_utf8_lossy(&path))) {
                new.push(deeper(path, true));
            }
            return Ok(());
        }
        let device = || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let (kind, other) = match file_type {
            FileType::Directory => {
                new.push(deeper(path, false));
                return Ok(());
            }
            FileType::RegularFile => (FoundKind::File, None),
            FileType::Socket => (FoundKind::Socket, None),
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(dir.as_fd(), name, Vec::new()).map_err(|e| read(&path, e))?;
                let target = target.into_bytes();
                self.follow(&path, &target, part);
                (FoundKind::Other, Some(Kind::Symlink { target }))
            }
            FileType::Fifo => (FoundKind::Other, Some(Kind::Fifo)),
            FileType::CharacterDevice => {
                let (major, minor) = device();
                (FoundKind::Other, Some(Kind::CharDevice { major, minor }))
            }
            FileType::BlockDevice => {
                let (major, minor) = device();
                (FoundKind::Other, Some(Kind::BlockDevice { major, minor }))
            }
            FileType::Unknown => return Err(read(&path, rustix::io::Errno::NOTSUP)),
        };
        part.found.push(found(&path, &stat, kind, other));
        Ok(())
    }

    /// A link on the way to something wanted makes what it leads to wanted.
    fn follow(&self, path: &[u8], target: &[u8], part: &mut Part) {
        // Links inside a copied directory are copied as links.
        let depth = path.iter().filter(|b| **b == b'/').count() + 1;
        if self.patterns.iter().all(|p| p.len() < depth) {
            return;
        }
        let link = components(path);
        let target = String::from_utf8_lossy(target);
        let base = if target.starts_with('/') { String::new() } else { link[..link.len() - 1].join("/") };
        for p in self.patterns.iter().filter(|p| p.len() >= depth) {
            if p.iter().zip(&link).all(|(p, c)| p == c || has_wildcards(p)) {
                let rest = p[link.len()..].join("/");
                let leads = clean(&format!("{base}/{target}/{rest}"));
                part.patterns.push(leads.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect());
            }
        }
    }
}

fn found(path: &[u8], stat: &Stat, kind: FoundKind, other: Option<Kind>) -> Found {
    let identity = identity(stat);
    let exact = Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    let mtime = (time(identity.mtime) != exact).then_some(exact);
    let rare = (mtime.is_some() || other.is_some())
        .then(|| Box::new(Rare { mtime, kind: other, xattrs: Xattrs::new() }));
    Found { path: path.into(), identity, mode: stat.st_mode & 0o7777, linked: stat.st_nlink > 1, kind, rare }
}

/// What a file is known by.
pub(super) fn identity(stat: &Stat) -> Identity {
    let sub = |n| i64::try_from(n).unwrap_or(0);
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        mtime: nanos(stat.st_mtime, sub(stat.st_mtime_nsec)),
        ctime: nanos(stat.st_ctime, sub(stat.st_ctime_nsec)),
    }
}
