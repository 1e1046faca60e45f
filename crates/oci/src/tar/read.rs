//! A layer's tar to its index.
//!
//! The members are applied in order to a small model of the layer (names and inodes, no file system), which gives what unpacking
//! would give:
//!
//! - Of members with one path the last counts; a link made before its target was replaced keeps the old file. A directory
//!   over a directory keeps the content and takes the new attributes. Anything that is no directory removes what the layer had
//!   below its path.
//! - `.wh.NAME` hides NAME of the layers below, wherever in the stream it stands. With something of the same name in the layer,
//!   only that is kept: a file replaces by itself, a directory becomes opaque. (Docker would remove the layer's own
//!   file if the whiteout comes last, and BuildKit refuses; the specification says that a whiteout hides lower layers only.)
//! - `.wh..wh..opq` makes its directory opaque, wherever it stands. If the layer has no entry for the directory, there is one
//!   made up ([`Entry::bare_marker`]), as an index can say "opaque" only of an entry; the directory keeps its attributes.
//! - Other names that start with `.wh..wh.` are bookkeeping of aufs and ignored with what lies below. A whiteout of nothing,
//!   of `.` or of `..` is refused, and so is anything below a whiteout's own name.
//! - A hard link leads to what its target is at that moment, also through symbolic links of the layer. A target that the layer does not
//!   have is a file of the layers below; if a later member replaces that path, there is no way left to say so, and it is refused.
//! - Parents are not made up; [`crate::Tree`] does that when it knows the layers below. An entry below a symbolic link keeps
//!   its path, and the tree resolves it inside the image. Something below a file is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::archive::{Archive, Limits, Member, Type, xattr_cost};
use super::error::{Problem, TarError};
use super::{AUFS, OPAQUE, WHITEOUT};
use crate::content::ContentSink;
use crate::digest::Digest;
use crate::index::{Attrs, Entry, Kind, LayerIndex, compare, join, show, split};

/// Symbolic links that the target of a hard link may lead through.
const MAX_LINKS: usize = 40;
/// Names that are looked up in a layer, and 64 bytes of them each, on the way through symbolic links to the targets of hard links.
/// Seldom is there one such link; a layer of nothing else would take days.
const MAX_STEPS: u64 = if cfg!(test) { 500_000 } else { 20_000_000 };

/// How the members of a stream are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// `.wh.` names are whiteouts (a layer), or names like all others (the archive of a root file system).
    pub whiteouts: bool,
}

impl Default for ReadOptions {
    /// A layer.
    fn default() -> ReadOptions {
        ReadOptions { whiteouts: true }
    }
}

/// Reads a layer: file contents go to `sink`, the rest becomes the index. The stream is read to its very end, also behind the end
/// of the archive.
pub fn read_layer(
    reader: impl Read,
    sink: &mut dyn ContentSink,
    limits: &Limits,
) -> Result<LayerIndex, TarError> {
    read_layer_with(reader, sink, limits, ReadOptions::default())
}

/// [`read_layer`] for other archives as well.
pub fn read_layer_with(
    reader: impl Read,
    sink: &mut dyn ContentSink,
    limits: &Limits,
    options: ReadOptions,
) -> Result<LayerIndex, TarError> {
    Ok(read_layer_located(reader, sink, limits, options)?.index)
}

/// A layer together with which member of the stream every content came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// The layer.
    pub index: LayerIndex,
    /// For every entry of the index: the number of the member that holds its content, or [`NO_MEMBER`]. Files alone are numbered, from 0
    /// in the order of the stream, which is the order of the calls of the sink.
    pub members: Vec<u32>,
    /// Files that the stream holds and that no name leads to, since a later member replaced them: path and number.
    pub replaced: Vec<(Vec<u8>, u32)>,
}

/// The number of what is no file, in [`Located::members`].
pub const NO_MEMBER: u32 = u32::MAX;

/// [`read_layer_with`] for who wants to know where in the stream everything was.
pub fn read_layer_located(
    reader: impl Read,
    sink: &mut dyn ContentSink,
    limits: &Limits,
    options: ReadOptions,
) -> Result<Located, TarError> {
    let mut archive = Archive::new(reader, *limits);
    let mut layer = Assembly::new(options);
    while let Some(member) = archive.next_member()? {
        if !layer.wants(&member.path).map_err(|p| archive.error(p))? {
            continue;
        }
        let mut content = None;
        if member.kind == Type::File {
            let kept = sink.add(&mut archive);
            if let Some(error) = archive.stream_error() {
                return Err(error);
            }
            let (digest, size) = kept.map_err(|e| archive.error(Problem::Keep(e)))?;
            if size != member.size {
                let e = io::Error::other(format!("{size} of {} bytes were taken", member.size));
                return Err(archive.error(Problem::Keep(e)));
            }
            content = Some(digest);
        }
        layer.put(member, content).map_err(|p| archive.error(p))?;
    }
    archive.drain()?;
    layer.finish(limits.metadata).map_err(|(path, problem)| {
        let at = archive.error(Problem::Truncated).offset();
        TarError::new(path.as_deref(), at, problem)
    })
}

/// A layer that is put together member by member, wherever the members come from.
pub(crate) struct Assembly {
    model: Model,
    whiteouts: bool,
    files: u32,
}

impl Assembly {
    pub(crate) fn new(options: ReadOptions) -> Assembly {
        Assembly { model: Model::default(), whiteouts: options.whiteouts, files: 0 }
    }

    /// Whether a member of this name is an entry, and to be put. What it marks if it is none is noted.
    pub(crate) fn wants(&mut self, path: &[u8]) -> Result<bool, Problem> {
        if !self.whiteouts {
            return Ok(true);
        }
        match whiteout(path)? {
            Name::Plain => return Ok(true),
            Name::Ignored => {}
            Name::Hides(path) => {
                self.model.whiteouts.insert(path);
            }
            Name::Opaque(dir) => self.model.opaque(dir)?,
        }
        Ok(false)
    }

    /// Adds a member that is wanted; of a file with the digest of its `member.size` bytes.
    pub(crate) fn put(&mut self, member: Member, content: Option<Digest>) -> Result<(), Problem> {
        let attrs = Attrs {
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: member.xattrs,
        };
        let (major, minor) = member.device;
        let mut number = NO_MEMBER;
        let kind = match member.kind {
            Type::Directory => Kind::Directory { opaque: false },
            Type::HardLink => Kind::HardLink { target: member.link },
            Type::Symlink => Kind::Symlink { target: member.link },
            Type::CharDevice => Kind::CharDevice { major, minor },
            Type::BlockDevice => Kind::BlockDevice { major, minor },
            Type::Fifo => Kind::Fifo,
            Type::File => {
                number = self.files;
                self.files = self.files.saturating_add(1);
                Kind::File { size: member.size, digest: content.unwrap_or_else(|| Digest::of(b"")) }
            }
        };
        self.model.put(member.path, Inode::new(kind, attrs, number))
    }

    /// The layer. An error comes with the path that it is about.
    pub(crate) fn finish(self, metadata: u64) -> Result<Located, (Option<Vec<u8>>, Problem)> {
        self.model.finish(metadata)
    }
}

/// Calls `visit` for every member of an archive, in order, with a reader of its content. No name is special. An error of `visit`
/// ends it.
pub fn read_archive(
    reader: impl Read,
    limits: &Limits,
    visit: &mut dyn FnMut(&Member, &mut dyn Read) -> io::Result<()>,
) -> Result<(), TarError> {
    let mut archive = Archive::new(reader, *limits);
    while let Some(member) = archive.next_member()? {
        let visited = visit(&member, &mut archive);
        if let Some(error) = archive.stream_error() {
            return Err(error);
        }
        visited.map_err(|e| archive.error(Problem::Keep(e)))?;
    }
    archive.drain()
}

/// What a name means in a layer.
enum Name {
    Plain,
    Ignored,
    Hides(Vec<u8>),
    Opaque(Vec<u8>),
}

fn whiteout(path: &[u8]) -> Result<Name, Problem> {
    let (parent, name) = split(path);
    for part in parent.split(|&c| c == b'/') {
        if part.starts_with(AUFS) {
            return Ok(Name::Ignored);
        }
        if part.starts_with(WHITEOUT) {
            return Err(Problem::Whiteout);
        }
    }
    if name == OPAQUE {
        return Ok(Name::Opaque(parent.to_vec()));
    }
    if name.starts_with(AUFS) {
        return Ok(Name::Ignored);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain),
        Some(b"" | b"." | b"..") => Err(Problem::Whiteout),
        Some(hidden) => Ok(Name::Hides(join(parent, hidden))),
    }
}

/// What a name leads to: an entry, without its path until [`Model::finish`].
struct Inode {
    entry: Entry,
    member: u32,
}

impl Inode {
    fn new(kind: Kind, attrs: Attrs, member: u32) -> Inode {
        Inode { entry: Entry { path: Vec::new(), kind, attrs }, member }
    }

    fn is_dir(&self) -> bool {
        matches!(self.entry.kind, Kind::Directory { .. })
    }
}

/// The layer as far as it has been read.
#[derive(Default)]
struct Model {
    inodes: Vec<Inode>,
    /// Numbers of inodes by path. A hard link's inode is that of its target, or one of kind `HardLink` for a file below.
    names: BTreeMap<Vec<u8>, usize>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// Paths of the layers below that hard links of this layer lead to.
    lower: BTreeSet<Vec<u8>>,
    /// Names that lead elsewhere now, and the files that they led to.
    replaced: Vec<(Vec<u8>, usize)>,
    /// See [`MAX_STEPS`].
    steps: u64,
}

impl Model {
    fn at(&self, path: &[u8]) -> Option<&Inode> {
        self.names.get(path).map(|&i| &self.inodes[i])
    }

    /// Marks a directory opaque.
    fn opaque(&mut self, dir: Vec<u8>) -> Result<(), Problem> {
        if self.at(&dir).is_some_and(|i| !i.is_dir()) {
            return Err(Problem::BelowFile(show(&dir)));
        }
        self.opaque.insert(dir);
        Ok(())
    }

    /// Adds a member.
    fn put(&mut self, path: Vec<u8>, inode: Inode) -> Result<(), Problem> {
        if let Kind::HardLink { target } = inode.entry.kind {
            return self.put_link(path, target, inode.entry.attrs);
        }
        if let Some(&old) = self.names.get(&path)
            && inode.is_dir()
            && self.inodes[old].is_dir()
        {
            self.inodes[old].entry.attrs = inode.entry.attrs;
            return Ok(());
        }
        let is_dir = inode.is_dir();
        self.inodes.push(inode);
        self.set(path, self.inodes.len() - 1, is_dir)
    }

    fn put_link(&mut self, path: Vec<u8>, target: Vec<u8>, attrs: Attrs) -> Result<(), Problem> {
        if let Some(id) = self.resolve(&target)? {
            if self.inodes[id].is_dir() {
                return Err(Problem::Link(show(&target)));
            }
            // An unpacker sets the attributes of every name in turn, so the last header of a group counts.
            let entry = &mut self.inodes[id].entry;
            if !matches!(entry.kind, Kind::Symlink { .. }) {
                let xattrs = std::mem::take(&mut entry.attrs.xattrs);
                entry.attrs = Attrs { xattrs, ..attrs };
            }
            // Also from a path to itself: some tools write a file like that when they meet it twice.
            return self.set(path, id, false);
        }
        if target.is_empty() || target == path || self.below(&target).next().is_some() {
            return Err(Problem::Link(show(&target)));
        }
        self.lower.insert(target.clone());
        self.inodes.push(Inode::new(Kind::HardLink { target }, attrs, NO_MEMBER));
        self.set(path, self.inodes.len() - 1, false)
    }

    /// Lets a path lead to an inode.
    fn set(&mut self, path: Vec<u8>, id: usize, is_dir: bool) -> Result<(), Problem> {
        if path.is_empty() && !is_dir {
            return Err(Problem::Root);
        }
        if self.lower.contains(&path) {
            return Err(Problem::LinkReplaced(show(&path)));
        }
        let was_link = self.at(&path).is_some_and(|i| matches!(i.entry.kind, Kind::Symlink { .. }));
        if was_link && self.below(&path).next().is_some() {
            return Err(Problem::LinkWritten);
        }
        if !is_dir {
            let gone: Vec<Vec<u8>> = self.below(&path).cloned().collect();
            for name in gone {
                if let Some(old) = self.names.remove(&name) {
                    self.replaced.push((name, old));
                }
            }
        }
        if let Some(old) = self.names.insert(path.clone(), id)
            && old != id
        {
            self.replaced.push((path, old));
        }
        Ok(())
    }

    /// The names below a path.
    fn below(&self, path: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        // '0' is the byte after '/': between the two lies exactly what starts with the path and a slash.
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        self.names.range(from..to).map(|(name, _)| name)
    }

    /// The inode of a path, the layer's own symbolic links followed on the way to its last component.
    fn resolve(&mut self, path: &[u8]) -> Result<Option<usize>, Problem> {
        if let Some(&id) = self.names.get(path) {
            return Ok(Some(id));
        }
        let mut todo: Vec<Vec<u8>> = path.split(|&c| c == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|&c| c == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            self.steps += 1 + next.len() as u64 / 64;
            if self.steps > MAX_STEPS {
                return Err(Problem::Limit(
                    "steps through symbolic links to the targets of hard links",
                    MAX_STEPS,
                ));
            }
            match self.at(&next).map(|i| &i.entry.kind) {
                Some(Kind::Symlink { target }) if !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(target.split(|&c| c == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => at = next,
            }
        }
        Ok(self.names.get(&at).copied())
    }

    /// The index. An error comes with the path that it is about.
    ///
    /// There may be millions of inodes, so they become the entries where they lie.
    fn finish(mut self, metadata: u64) -> Result<Located, (Option<Vec<u8>>, Problem)> {
        let mut more: Vec<Inode> = Vec::new();
        let mut bare = |entry| more.push(Inode { entry, member: NO_MEMBER });
        for path in std::mem::take(&mut self.whiteouts) {
            match self.at(&path) {
                None if self.opaque.contains(&path) => {}
                None => bare(Entry::whiteout(path)),
                Some(i) if i.is_dir() => {
                    self.opaque.insert(path);
                }
                Some(_) => {}
            }
        }
        for path in std::mem::take(&mut self.opaque) {
            match self.names.get(&path) {
                Some(&id) => {
                    if let Kind::Directory { opaque } = &mut self.inodes[id].entry.kind {
                        *opaque = true;
                    }
                }
                None => bare(Entry::bare_marker(path)),
            }
        }
        // The first name in the canonical order is the one that holds the inode there, too.
        let mut named = vec![false; self.inodes.len()];
        let mut links: Vec<(Vec<u8>, usize)> = Vec::new();
        for (mut path, id) in std::mem::take(&mut self.names) {
            let first = &mut self.inodes[id].entry.path;
            if !named[id] {
                *first = path;
            } else {
                if compare(&path, first).is_lt() {
                    std::mem::swap(&mut path, first);
                }
                links.push((path, id));
            }
            named[id] = true;
        }
        // Every name has a copy: a file of many names and many attributes grows with the product of both.
        let mut copied = 0u64;
        for (path, id) in links {
            let first = &self.inodes[id].entry;
            copied += xattr_cost(&first.attrs.xattrs) + first.path.len() as u64;
            if copied > metadata {
                return Err((Some(path), Problem::Limit("bytes of metadata", metadata)));
            }
            let kind = Kind::HardLink { target: first.path.clone() };
            more.push(Inode { entry: Entry { path, kind, attrs: first.attrs.clone() }, member: NO_MEMBER });
        }
        let mut told = named.clone();
        let mut replaced: Vec<(Vec<u8>, u32)> = Vec::new();
        for (path, id) in self.replaced {
            let member = self.inodes[id].member;
            // Once, though it may have lost several names.
            if !std::mem::replace(&mut told[id], true) && member != NO_MEMBER {
                replaced.push((path, member));
            }
        }
        let mut inodes = self.inodes;
        let mut named = named.into_iter();
        inodes.retain(|_| named.next().unwrap_or_default());
        inodes.append(&mut more);
        inodes.sort_unstable_by(|a, b| compare(&a.entry.path, &b.entry.path));
        let members = inodes.iter().map(|i| i.member).collect();
        let entries = inodes.into_iter().map(|i| i.entry).collect();
        let index = LayerIndex::from_entries(entries).map_err(|e| (None, e.into()))?;
        Ok(Located { index, members, replaced })
    }
}
