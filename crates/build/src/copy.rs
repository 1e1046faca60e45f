//! COPY and ADD on trees: which files a source selects, and what they make of the destination.
//!
//! Sources and destination are [`Tree`]s, so a copy moves no bytes and touches no directory: it computes the entries of the new
//! layer. The rules are BuildKit's file backend (`fsutil/copy`), each as it behaves, not as documented:
//!
//! - a source is resolved in its root, links followed; wildcards match one component each and never cross `/`; a matched
//!   directory gives its *content*;
//! - the destination's links are followed inside the image; missing parents are made with mode 0755 (or the permissions of `--chmod`, if octal) and
//!   owner 0:0 (or `--chown`);
//! - a file goes to `dest/name` if `dest` is a directory, else becomes `dest`; a directory merges into `dest`, whose own
//!   attributes stay; directories below it that exist take the source's attributes, or only its mode if they are themselves not
//!   selected and lead to what is;
//! - a file over a directory and a directory over anything else are errors; a file over a file replaces the name (a hard link of the
//!   old file keeps its content);
//! - hard links inside one copied directory stay hard links.
//!
//! The layer holds what was touched and the directories on the way to it, as an unpacker expects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dockerfile::ignore::Matcher;
use oci::index::{Attrs, EncodedLayer, Encoder, Xattrs, join, show, split};
use oci::tree::{Id, MAX_INODES, Node, Place, TreeError, Walk};
use oci::{Entry, Hasher, Kind, LayerIndex, Time, Tree};

use crate::chmod::Chmod;
use crate::context::KEPT_XATTRS;

#[cfg(test)]
mod tests;

/// Why a copy cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source does not exist.
    #[error("{0:?}: not found")]
    NotFound(String),
    /// `--parents` keeps the path as it is written, but a part of it is a link.
    #[error(
        "{path:?}: --parents does not follow the link {link:?} on the way; write the path that it leads to"
    )]
    ThroughLink {
        /// The source.
        path: String,
        /// The link.
        link: String,
    },
    /// A file would replace a directory.
    #[error("cannot replace to directory {0:?} with file")]
    FileOverDirectory(String),
    /// A directory would replace something else.
    #[error("cannot copy to non-directory: {0:?}")]
    DirectoryOverFile(String),
    /// A path on the way to the destination is no directory, or leads in a circle.
    #[error("destination cannot be reached")]
    Destination(#[source] TreeError),
    /// A source path leads in a circle or through a file.
    #[error("source cannot be reached")]
    Source(#[source] TreeError),
    /// `--exclude` or `--parents` has a bad pattern.
    #[error("bad pattern {0:?}")]
    Pattern(String),
    /// The archive of an ADD cannot be read.
    #[error("archive {name:?} cannot be unpacked")]
    Archive {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The result would be no valid layer.
    #[error("result is no valid layer")]
    Layer(#[source] oci::index::IndexError),
}

/// What a copy does with what it selects.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Absolute destination; a trailing slash (or `/.`) counts.
    pub dest: String,
    /// Owner of everything that is made.
    pub chown: Option<(u32, u32)>,
    /// Mode of everything that is made.
    pub chmod: Option<Chmod>,
    /// Patterns relative to each source's root.
    pub exclude: Vec<String>,
    /// Keep the path of the source below the destination.
    pub parents: bool,
    /// Unpack sources that are archives.
    pub unpack: bool,
    /// Wildcards in sources mean something.
    pub wildcards: bool,
    /// Time of directories that are made on the way.
    pub now: Time,
}

/// One path that a source gave after wildcards, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Name that a file gets in a destination directory.
    pub name: Vec<u8>,
    /// The inode, links followed.
    pub id: Id,
}

/// A source of one COPY or ADD: where it comes from and which part.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// Path in the tree as written (cleaned by [`select`]).
    pub path: &'a str,
}

/// What a source selects: its matches and, for `--parents`, the include pattern.
#[derive(Debug)]
pub struct Selection {
    matches: Vec<Match>,
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

/// Told of what a selection picks: path below its match, inode, and whether it is included itself.
type Picked<'a> = dyn FnMut(&[u8], Id, bool) -> Result<(), CopyError> + 'a;

/// `path` with empty, `.` and `..` components resolved lexically, relative to the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for c in path.split('/') {
        match c {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            c => parts.push(c),
        }
    }
    parts.join("/")
}

/// Whether a path has a wildcard that is not escaped.
pub fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// The leading components without wildcards, and the rest.
pub fn split_wildcards(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let at = parts.iter().position(|p| has_wildcards(p)).unwrap_or(parts.len());
    (parts[..at].join("/"), parts[at..].join("/"))
}

fn matcher(patterns: &[String]) -> Result<Option<Matcher>, CopyError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Matcher::new(patterns).map(Some).map_err(|_| CopyError::Pattern(patterns.join(", ")))
}

/// Resolves one source of a copy.
pub fn select(source: &Source<'_>, spec: &Spec) -> Result<Selection, CopyError> {
    let exclude = matcher(&spec.exclude)?;
    let mut include = None;
    let mut path = source.path.to_owned();
    let mut required = None;
    if spec.parents {
        let (root, pattern) = match path.split_once("/./") {
            Some((root, pattern)) => (root.to_owned(), clean(pattern)),
            None => (String::new(), clean(&path)),
        };
        if !has_wildcards(&root) && !has_wildcards(&pattern) {
            if exclude.as_ref().is_some_and(|e| e.matches(&pattern)) {
                return Err(CopyError::NotFound(format!("/{}", clean(&format!("{root}/{pattern}")))));
            }
            required = Some((clean(&root), clean(&format!("{root}/{pattern}"))));
        }
        include = matcher(&[pattern])?;
        path = root;
    }
    if let Some((root, required)) = required {
        // What is selected may be a link that leads nowhere: it is copied as a link.
        resolve_in(source.tree, &required, false)?;
        no_links_between(source.tree, &root, &required)?;
    }
    let path = clean(&path);
    let (fixed, wild) = if spec.wildcards { split_wildcards(&path) } else { (path.clone(), String::new()) };
    let base = resolve_source(source.tree, &fixed)?;
    let mut matches = Vec::new();
    if wild.is_empty() {
        let name = fixed.rsplit('/').next().unwrap_or("").as_bytes().to_vec();
        matches.push(Match { name, id: base });
    } else {
        let depth = wild.split('/').count();
        let prefix = source.tree.path(base).len();
        let found: Result<(), CopyError> = source.tree.walk(base, &mut |path, id| {
            if id == base {
                return Ok(Walk::Into);
            }
            let rel = &path[if prefix == 0 { 0 } else { prefix + 1 }..];
            let level = rel.iter().filter(|&&c| c == b'/').count() + 1;
            if level < depth {
                return Ok(Walk::Into);
            }
            let rel = String::from_utf8_lossy(rel);
            if dockerfile::glob::matches(&wild, &rel).unwrap_or(false) {
                // The match itself may be a link; what it leads to is copied, under its own name.
                let place = source.tree.resolve(path, true).map_err(CopyError::Source)?;
                if !place.exists() {
                    return Err(CopyError::NotFound(show(path)));
                }
                matches.push(Match { name: split(path).1.to_vec(), id: place.id });
            }
            Ok(Walk::Skip)
        });
        found?;
    }
    Ok(Selection { matches, include, exclude })
}

/// Refuses links on the way from `root` to `path`: the walk that `--parents` makes does not follow them, and would find nothing.
fn no_links_between(tree: &Tree, root: &str, path: &str) -> Result<(), CopyError> {
    let mut at = resolve_source(tree, root)?;
    let rest = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let mut shown = root.to_owned();
    let Some((dirs, _)) = rest.rsplit_once('/') else { return Ok(()) };
    for name in dirs.split('/') {
        shown = clean(&format!("{shown}/{name}"));
        let Some(next) = tree.child(at, name.as_bytes()) else { return Ok(()) };
        if let Node::Symlink(_) = tree.inode(next).node {
            return Err(CopyError::ThroughLink { path: show(path.as_bytes()), link: show(shown.as_bytes()) });
        }
        at = next;
    }
    Ok(())
}

fn resolve_source(tree: &Tree, path: &str) -> Result<Id, CopyError> {
    resolve_in(tree, path, true)
}

fn resolve_in(tree: &Tree, path: &str, follow_last: bool) -> Result<Id, CopyError> {
    match tree.resolve(path.as_bytes(), follow_last) {
        Ok(p) if p.exists() => Ok(p.id),
        Ok(_) | Err(TreeError::NotADirectory(_)) => Err(CopyError::NotFound(show(path.as_bytes()))),
        Err(e) => Err(CopyError::Source(e)),
    }
}

impl Selection {
    /// The matches.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// The paths in `tree` of what is selected and wanted; directories that only lead there are left out.
    pub fn paths(&self, tree: &Tree, wanted: impl Fn(Id) -> bool) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for m in &self.matches {
            let start = tree.path(m.id);
            let visited = self.visit(tree, m.id, &mut |rel, id, include| {
                if include && wanted(id) {
                    out.push(join(&start, rel));
                }
                Ok(())
            });
            debug_assert!(visited.is_ok(), "a visitor that cannot fail");
        }
        out
    }

    fn included(&self, rel: &[u8]) -> (bool, bool) {
        if rel.is_empty() {
            return (true, false);
        }
        let rel = String::from_utf8_lossy(rel);
        let include = self.include.as_ref().is_none_or(|m| m.matches(&rel));
        let excluded = self.exclude.as_ref().is_some_and(|m| m.matches(&rel));
        (include && !excluded, excluded)
    }

    fn descend(&self, excluded: bool) -> bool {
        !excluded || self.exclude.as_ref().is_some_and(Matcher::has_negations)
    }

    /// Visits what is selected below one match, the match first: path relative to the match, inode, and whether it is included itself. A
    /// directory may only lead to what is; it is visited when that comes, and not at all if nothing does.
    fn visit(&self, tree: &Tree, start: Id, f: &mut Picked<'_>) -> Result<(), CopyError> {
        let skip = tree.path(start).len();
        let mut ways: Vec<(Vec<u8>, Id)> = Vec::new();
        tree.walk(start, &mut |path, id| {
            let rel = if id == start { &[][..] } else { &path[if skip == 0 { 0 } else { skip + 1 }..] };
            let (include, excluded) = self.included(rel);
            while ways.last().is_some_and(|(way, _)| !below(rel, way)) {
                ways.pop();
            }
            if include {
                ways.drain(..).try_for_each(|(way, dir)| f(&way, dir, false))?;
                f(rel, id, true)?;
            } else if tree.inode(id).is_dir() {
                ways.push((rel.to_vec(), id));
            } else {
                return Ok(Walk::Skip);
            }
            Ok(if self.descend(excluded) { Walk::Into } else { Walk::Skip })
        })
    }

    /// The digest of everything that is selected: names, types, modes, owners, contents; no times.
    pub fn hash_into(&self, tree: &Tree, hasher: &mut Hasher) -> Result<(), CopyError> {
        for m in &self.matches {
            let is_dir = tree.inode(m.id).is_dir();
            hash_bytes(hasher, if is_dir { b"" } else { &m.name });
            let mut links: HashMap<Id, u64> = HashMap::new();
            self.visit(tree, m.id, &mut |rel, id, _| {
                // The content of a directory source is copied, not the directory.
                if !(rel.is_empty() && is_dir) {
                    hash_inode(hasher, rel, tree, id, &mut links);
                }
                Ok(())
            })?;
            hasher.update(b"end");
        }
        Ok(())
    }
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || (path.starts_with(dir) && path.get(dir.len()) == Some(&b'/'))
}

fn hash_bytes(h: &mut Hasher, bytes: &[u8]) {
    h.update(&(bytes.len() as u64).to_le_bytes());
    h.update(bytes);
}

/// One inode for a digest: what a copy of it would have. `links` numbers hard link groups.
pub fn hash_inode(h: &mut Hasher, rel: &[u8], tree: &Tree, id: Id, links: &mut HashMap<Id, u64>) {
    let inode = tree.inode(id);
    hash_bytes(h, rel);
    for n in [inode.file_type() | inode.attrs.mode, inode.attrs.uid, inode.attrs.gid] {
        h.update(&n.to_le_bytes());
    }
    match &inode.node {
        Node::Directory(_) | Node::Fifo => {}
        Node::File { size, digest } => {
            h.update(&size.to_le_bytes());
            h.update(digest.as_bytes());
            if inode.nlink > 1 {
                let next = links.len() as u64;
                h.update(&links.entry(id).or_insert(next).to_le_bytes());
            }
        }
        Node::Symlink(target) => hash_bytes(h, target),
        Node::CharDevice(a, b) | Node::BlockDevice(a, b) => {
            h.update(&a.to_le_bytes());
            h.update(&b.to_le_bytes());
        }
    }
    h.update(&(inode.attrs.xattrs.len() as u64).to_le_bytes());
    for (k, v) in &inode.attrs.xattrs {
        hash_bytes(h, k);
        hash_bytes(h, v);
    }
}

/// The entries of an archive below its root, or `None` if the file is no archive.
pub type Unpack<'a> = dyn FnMut(&Tree, Id, &[u8]) -> Result<Option<Vec<Entry>>, CopyError> + 'a;

/// Entries that are put into the destination at a time, at least: a context may have millions.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 4096 };

/// The content of a directory that goes into an empty one.
struct Content<'a> {
    src: &'a Tree,
    selection: &'a Selection,
    id: Id,
    target: &'a [u8],
}

/// A destination in the making. What it has touched is told by numbers and not by paths, of which there may be millions.
#[cfg_attr(test, derive(Clone))]
pub struct Work<'a> {
    tree: Tree,
    /// Inodes from this number on are of its making.
    new: usize,
    /// Directories that were there and have been given attributes.
    changed: BTreeSet<Id>,
    /// Names that have been given to files by hard links; the files may be old ones.
    linked: BTreeSet<Vec<u8>>,
    spec: &'a Spec,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("new", &self.new).finish_non_exhaustive()
    }
}

impl<'a> Work<'a> {
    /// Starts from `dest`; `--link` starts from an empty tree.
    pub fn new(dest: Tree, spec: &'a Spec) -> Work<'a> {
        Work { new: dest.len(), tree: dest, changed: BTreeSet::new(), linked: BTreeSet::new(), spec }
    }

    /// Goes on with the rules of another source.
    pub fn with_spec(self, spec: &'a Spec) -> Work<'a> {
        Work { spec, ..self }
    }

    fn put(&mut self, entries: Vec<Entry>) -> Result<(), CopyError> {
        for e in &entries {
            match e.kind {
                Kind::Directory { .. } => {
                    let old = |id: &Id| (*id as usize) < self.new && self.tree.inode(*id).is_dir();
                    self.changed.extend(self.tree.lookup(&e.path).filter(old));
                }
                Kind::HardLink { .. } => drop(self.linked.insert(e.path.clone())),
                _ => {}
            }
        }
        let layer = LayerIndex::from_entries(entries).map_err(CopyError::Layer)?;
        self.tree.apply(&layer).map_err(CopyError::Destination)
    }

    fn resolve(&self, path: &[u8]) -> Result<Place, CopyError> {
        self.tree.resolve(path, true).map_err(CopyError::Destination)
    }

    fn dir_attrs(&self, mode: u32) -> Attrs {
        let (uid, gid) = self.spec.chown.unwrap_or((0, 0));
        Attrs { mode, uid, gid, mtime: self.spec.now, xattrs: Xattrs::new() }
    }

    /// Makes a directory and its parents; gives its resolved path.
    pub fn make_dirs(&mut self, path: &[u8], mode: u32) -> Result<Vec<u8>, CopyError> {
        let place = self.resolve(path)?;
        if place.exists() && !self.tree.inode(place.id).is_dir() {
            return Err(CopyError::DirectoryOverFile(show(&place.path)));
        }
        // mkdir(2) hands a set-group-ID bit of the parent on, and its group where none is given.
        let parent = &self.tree.inode(place.id).attrs;
        let mut attrs = self.dir_attrs(mode);
        if parent.mode & 0o2000 != 0 {
            attrs.mode |= 0o2000;
            if self.spec.chown.is_none() {
                attrs.gid = parent.gid;
            }
        }
        let mut at = place.path;
        let mut entries = Vec::new();
        for c in &place.rest {
            at = join(&at, c);
            let kind = Kind::Directory { opaque: false };
            entries.push(Entry { path: at.clone(), kind, attrs: attrs.clone() });
        }
        if !entries.is_empty() {
            self.put(entries)?;
        }
        Ok(at)
    }

    fn new_dir_mode(&self) -> u32 {
        match &self.spec.chmod {
            // Directories on the way get permissions alone, no set-ID bits and no sticky one.
            Some(Chmod::Octal(m)) => *m & 0o777,
            _ => 0o755,
        }
    }

    /// Copies everything that a selection gave.
    pub fn copy(
        &mut self,
        source: &Source<'_>,
        selection: &Selection,
        unpack: &mut Unpack<'_>,
    ) -> Result<(), CopyError> {
        for m in &selection.matches {
            if self.spec.unpack
                && let Node::File { .. } = source.tree.inode(m.id).node
                && let Some(entries) = unpack(source.tree, m.id, &m.name)?
            {
                self.unpack(entries)?;
                continue;
            }
            self.copy_match(source.tree, selection, m)?;
        }
        Ok(())
    }

    /// Merges an archive as `tar -x` does: what it names replaces what is there, a directory merges, and a directory that it only
    /// passes through may be a link of the destination.
    fn unpack(&mut self, entries: Vec<Entry>) -> Result<(), CopyError> {
        let dest = self.make_dirs(clean(&self.spec.dest).as_bytes(), 0o755)?;
        let mut dirs: HashMap<Vec<u8>, Vec<u8>> = HashMap::from([(Vec::new(), dest)]);
        let mut made: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut out: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        // Sorted as layers are: a directory's entry comes before what lies in it, a hard link after what it leads to.
        for mut e in entries {
            let named = std::mem::take(&mut e.path);
            if named.is_empty() {
                e.path = dirs[&named].clone();
            } else {
                let (parent, name) = split(&named);
                e.path = join(&self.passed(&mut dirs, parent)?, name);
                if let Kind::Directory { .. } = e.kind {
                    dirs.insert(named.clone(), e.path.clone());
                }
            }
            if let Kind::HardLink { target } = &mut e.kind
                && let Some(path) = made.get(target)
            {
                *target = path.clone();
            }
            e.attrs.xattrs.retain(|(name, _)| KEPT_XATTRS.contains(&name.as_slice()));
            if let Some((uid, gid)) = self.spec.chown {
                e.attrs.uid = uid;
                e.attrs.gid = gid;
            }
            made.insert(named, e.path.clone());
            out.insert(e.path.clone(), e);
        }
        self.put(out.into_values().collect())
    }

    /// Where a directory of an archive lies: as the archive's own entry says, or else where the destination's links lead.
    fn passed(&self, dirs: &mut HashMap<Vec<u8>, Vec<u8>>, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        if let Some(known) = dirs.get(path) {
            return Ok(known.clone());
        }
        let (parent, name) = split(path);
        let full = self.resolve(&join(&self.passed(dirs, parent)?, name))?.full_path();
        dirs.insert(path.to_vec(), full.clone());
        Ok(full)
    }

    /// [`Work::copy`] and then [`Work::finish`]. The content of a directory that comes into an empty one, as a context mostly does, becomes
    /// entries of the layer without becoming part of the tree: of a million files that would be as much memory again.
    pub fn finish_with(
        mut self,
        source: &Source<'_>,
        selection: &Selection,
        unpack: &mut Unpack<'_>,
    ) -> Result<EncodedLayer, CopyError> {
        if let [m] = &selection.matches[..]
            && selection.include.is_none()
            && selection.exclude.is_none()
            && source.tree.children(m.id).len() > 0
        {
            let target = self.target(source.tree, m)?;
            if let Some(id) = self.tree.lookup(&target).filter(|id| self.tree.children(*id).len() == 0) {
                self.changed.insert(id);
                return self.encode(Some(&Content {
                    src: source.tree,
                    selection,
                    id: m.id,
                    target: &target,
                }));
            }
        }
        self.copy(source, selection, unpack)?;
        self.finish()
    }

    fn copy_match(&mut self, src: &Tree, selection: &Selection, m: &Match) -> Result<(), CopyError> {
        let target = self.target(src, m)?;
        let mut entries = Vec::new();
        let mut first: HashMap<Id, Vec<u8>> = HashMap::new();
        selection.visit(src, m.id, &mut |rel, id, include| {
            entries.extend(match include {
                true => self.copied(src, rel, id, &target, &mut first)?,
                false => self.passed_through(src, rel, id, &target)?,
            });
            // The list of a directory is put together anew for each piece: pieces that grow with it keep that linear.
            if entries.len() >= AT_ONCE.max((self.tree.len() - self.new) / 8) {
                self.put(std::mem::take(&mut entries))?;
            }
            Ok(())
        })?;
        if !entries.is_empty() {
            self.put(entries)?;
        }
        Ok(())
    }

    /// Where a match goes: the path of the file, or of the directory, which is made.
    fn target(&mut self, src: &Tree, m: &Match) -> Result<Vec<u8>, CopyError> {
        let dest = &self.spec.dest;
        let mode = self.new_dir_mode();
        let ensure = match dest.rsplit_once('/') {
            Some((_, "")) => dest.as_str(),
            Some((dir, _)) => dir,
            None => "",
        };
        self.make_dirs(clean(ensure).as_bytes(), mode)?;
        let place = self.resolve(clean(dest).as_bytes())?;
        let src_is_dir = src.inode(m.id).is_dir();
        let mut target = place.full_path();
        if src_is_dir {
            if !place.exists() {
                self.make_dirs(&target, mode)?;
            } else if !self.tree.inode(place.id).is_dir() {
                return Err(CopyError::DirectoryOverFile(show(&target)));
            }
        } else {
            if place.exists() && self.tree.inode(place.id).is_dir() {
                target = join(&target, &m.name);
            }
            self.make_dirs(split(&target).0, mode)?;
        }
        Ok(target)
    }

    /// A directory that only leads to what is selected: one that is there takes the mode of the source, and nothing else.
    fn passed_through(
        &self,
        src: &Tree,
        rel: &[u8],
        id: Id,
        target: &[u8],
    ) -> Result<Option<Entry>, CopyError> {
        let path = join(target, rel);
        let there = self.tree.lookup(&path).map(|id| self.tree.inode(id)).filter(|i| i.is_dir());
        match there {
            Some(dir) => {
                let mut e = dir.to_entry(path);
                e.attrs.mode = src.inode(id).attrs.mode;
                Ok(Some(e))
            }
            None => self.copied(src, rel, id, target, &mut HashMap::new()),
        }
    }

    /// What becomes of something of a source; nothing of the directory whose content is copied.
    fn copied(
        &self,
        src: &Tree,
        rel: &[u8],
        id: Id,
        target: &[u8],
        first: &mut HashMap<Id, Vec<u8>>,
    ) -> Result<Option<Entry>, CopyError> {
        let inode = src.inode(id);
        let path = join(target, rel);
        let existing = self.tree.lookup(&path).map(|id| self.tree.inode(id).is_dir());
        match (inode.is_dir(), existing) {
            (true, _) if rel.is_empty() => return Ok(None),
            (true, Some(false)) => return Err(CopyError::DirectoryOverFile(show(&path))),
            (false, Some(true)) => return Err(CopyError::FileOverDirectory(show(&path))),
            _ => {}
        }
        let mut e = inode.to_entry(path.clone());
        e.attrs.xattrs.retain(|(name, _)| KEPT_XATTRS.contains(&name.as_slice()));
        if let Some((uid, gid)) = self.spec.chown {
            e.attrs.uid = uid;
            e.attrs.gid = gid;
        }
        if let (Some(chmod), false) = (&self.spec.chmod, matches!(inode.node, Node::Symlink(_))) {
            e.attrs.mode = chmod.apply(e.attrs.mode, inode.is_dir());
        }
        if inode.nlink > 1 && !inode.is_dir() {
            match first.get(&id) {
                Some(f) => e.kind = Kind::HardLink { target: f.clone() },
                None => {
                    first.insert(id, path);
                }
            }
        }
        Ok(Some(e))
    }

    /// The inodes that were touched and the directories on the way to them, by number.
    fn touched(&self) -> Vec<bool> {
        let mut touched = vec![false; self.tree.len()];
        let new = (self.new..self.tree.len()).map(|id| id as Id);
        let linked = self.linked.iter().filter_map(|path| self.tree.lookup(split(path).0));
        for mut id in new.chain(self.changed.iter().copied()).chain(linked) {
            while !std::mem::replace(&mut touched[id as usize], true) {
                id = self.tree.inode(id).parent;
            }
        }
        touched
    }

    /// The layer: what was touched, with the directories on the way.
    pub fn finish(self) -> Result<EncodedLayer, CopyError> {
        self.encode(None)
    }

    /// The layer, with content that is not in the tree.
    fn encode(self, content: Option<&Content<'_>>) -> Result<EncodedLayer, CopyError> {
        let touched = self.touched();
        let wanted = |path: &[u8], id: Id| touched[id as usize] || self.linked.contains(path);
        let mut encoder = Encoder::default();
        let mut room = MAX_INODES.saturating_sub(self.tree.len());
        self.tree.flatten_where(wanted, |e| {
            let content = content.filter(|c| c.target == e.path);
            if !e.path.is_empty() {
                encoder.push(e).map_err(CopyError::Layer)?;
            }
            let Some(c) = content else { return Ok(()) };
            let mut first: HashMap<Id, Vec<u8>> = HashMap::new();
            c.selection.visit(c.src, c.id, &mut |rel, id, _| {
                let Some(e) = self.copied(c.src, rel, id, c.target, &mut first)? else { return Ok(()) };
                if !matches!(e.kind, Kind::HardLink { .. }) {
                    room = room.checked_sub(1).ok_or(CopyError::Destination(TreeError::TooMany))?;
                }
                encoder.push(e).map_err(CopyError::Layer)
            })
        })?;
        Ok(encoder.finish())
    }
}
