//! The layer index: the sorted list of a layer's entries. The layer *is* its index; tar streams and directories are made from it.
//!
//! # Order and names
//!
//! A path is bytes without a leading or trailing slash; the root is the empty path. No component is empty, `.`, `..`, or holds a
//! NUL. Entries are sorted by component (a directory's whole content follows it directly: `a`, `a/b`, `a.c`), and a path occurs once.
//!
//! # Hard links
//!
//! The first path (in sorted order) of a group that lies in the layer holds the inode; the others are [`Kind::HardLink`] to it.
//! A link to a path that the layer does not hold means a file of the layers below, and is resolved when trees are merged.
//!
//! # Encoding, version 1
//!
//! Numbers are LEB128 varints (signed ones zigzag), byte strings are a length and the bytes.
//!
//! ```text
//! "layercake-index-1\n"
//! number of entries
//! per entry:
//!   length of the prefix shared with the path before, rest of the path
//!   kind (1 byte: d directory, D opaque directory, f file, h hard link, l symlink, c char device, b block device, p fifo, w whiteout)
//!   mode (12 bits), uid, gid, mtime seconds (signed), mtime nanoseconds       -- whiteouts have none of the five
//!   file: size, 32 bytes sha256; hard link, symlink: target; device: major, minor
//!   number of xattrs, each: name, value; sorted by name
//! 32 bytes sha256 of everything before
//! ```
//!
//! The *layer id* is that checksum. Two indexes with equal entries have equal bytes, so equal ids, anywhere.

use std::cmp::Ordering;
use std::io::{self, Write};

use crate::digest::{Digest, Hasher};
use crate::time::Time;
use crate::varint::{Reader, put, put_bytes};
pub use crate::xattrs::Xattrs;

pub use self::encoded::{EncodedLayer, Encoder};

pub(crate) use self::passes::{Listed, Passes};

mod encoded;
mod passes;

/// Longest path that we take, in bytes (Linux' PATH_MAX).
pub const MAX_PATH: usize = 4096;

/// The time of a [`Entry::bare_marker`].
const BARE_MARKER: Time = Time { secs: 0, nanos: 1 };

const MAGIC: &[u8] = b"layercake-index-1\n";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory. `opaque` hides everything that lower layers have in it.
    Directory {
        /// Hides the lower layers' content of this directory.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Number of bytes.
        size: u64,
        /// Digest of the bytes.
        digest: Digest,
    },
    /// Another name of a file, symlink or node.
    HardLink {
        /// Path of the name that holds the inode.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// The link's text.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Device major number.
        major: u32,
        /// Device minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Device major number.
        major: u32,
        /// Device minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The path of the lower layers is gone.
    Whiteout,
}

/// Attributes that every entry but a whiteout has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attrs {
    /// Permission bits with set-id and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Xattrs,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, no leading slash.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, time, xattrs. Default (zero) for whiteouts; ignored for hard links, whose target has them.
    pub attrs: Attrs,
}

impl Entry {
    /// The last component of the path.
    pub fn name(&self) -> &[u8] {
        split(&self.path).1
    }

    /// A whiteout of `path`.
    pub fn whiteout(path: Vec<u8>) -> Entry {
        Entry { path, kind: Kind::Whiteout, attrs: Attrs::default() }
    }

    /// An opaque marker of a directory that the layer itself has no entry for: the directory below keeps its attributes. An index has
    /// no entry of that kind, so it is told by a time that no tool writes.
    pub fn bare_marker(path: Vec<u8>) -> Entry {
        let attrs = Attrs { mode: 0o755, mtime: BARE_MARKER, ..Attrs::default() };
        Entry { path, kind: Kind::Directory { opaque: true }, attrs }
    }

    /// Whether it is a [`Entry::bare_marker`].
    pub fn is_bare_marker(&self) -> bool {
        matches!(self.kind, Kind::Directory { opaque: true }) && self.attrs.mtime == BARE_MARKER
    }
}

/// A path for people: bytes that are no UTF-8 replaced, with a leading slash.
pub fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Splits into parent path and last component. The parent of `a` is the empty path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&c| c == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (&[], path),
    }
}

/// `parent/name`, or `name` at the root.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parent.len() + name.len() + 1);
    out.extend_from_slice(parent);
    if !parent.is_empty() && !name.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

/// Order by components: `/` sorts before every other byte.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |c: u8| if c == b'/' { 0u16 } else { u16::from(c) + 1 };
    let same = common_prefix(a, b);
    match (a.get(same), b.get(same)) {
        (Some(&x), Some(&y)) => rank(x).cmp(&rank(y)),
        _ => a.len().cmp(&b.len()),
    }
}

/// The number of bytes with which both begin. Paths that are compared are mostly of one directory: eight bytes at a time are worth it.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let same = 8 * words.take_while(|(x, y)| x == y).count();
    same + a[same..].iter().zip(&b[same..]).take_while(|(x, y)| x == y).count()
}

/// Why a list of entries is no layer, or bytes are no index.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    /// A path breaks the rules of names.
    #[error("layer entry {0:?} has a name that no image may hold")]
    Name(String),
    /// A path occurs twice.
    #[error("layer has {0:?} twice")]
    Duplicate(String),
    /// The root is something else than a directory.
    #[error("layer entry for the root is no directory")]
    Root,
    /// A hard link leads to a directory, a whiteout, or in a circle.
    #[error("hard link {link:?} leads to {target:?}, which is no file")]
    Link {
        /// Path of the link.
        link: String,
        /// Path that it leads to.
        target: String,
    },
    /// An entry lies below one that is neither a directory nor a symbolic link.
    #[error("layer entry {path:?} lies below {file:?}, which is no directory")]
    BelowFile {
        /// Path of the entry.
        path: String,
        /// Path of what is no directory.
        file: String,
    },
    /// A symbolic link's text that no link can have.
    #[error("the text of symbolic link {0:?} is empty, too long or holds a NUL")]
    Text(String),
    /// Attributes' names that no file can have, or one of them twice.
    #[error("{path:?} has an extended attribute {name:?} that no file can have")]
    Xattr {
        /// Path of the entry.
        path: String,
        /// Name of the attribute.
        name: String,
    },
    /// The encoded bytes are damaged or of another version.
    #[error("layer index is damaged: {0}")]
    Damaged(&'static str),
}

/// A layer: its entries, sorted, in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerIndex {
    entries: Vec<Entry>,
}

/// Whether a layer may hold this path.
pub(crate) fn check_path(path: &[u8]) -> Result<(), IndexError> {
    let bad = path.len() > MAX_PATH
        || path.contains(&0)
        || (!path.is_empty()
            && path.split(|&c| c == b'/').any(|c| matches!(c, b"" | b"." | b"..") || c.len() > 255));
    if bad {
        let head = &path[..path.len().min(200)];
        return Err(IndexError::Name(String::from_utf8_lossy(head).into_owned()));
    }
    Ok(())
}

/// Whether a path lies below another one that is not the root.
fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether a symbolic link can have this text.
pub(crate) fn is_link_text(text: &[u8]) -> bool {
    !text.is_empty() && text.len() < MAX_PATH && !text.contains(&0)
}

/// Refuses sorted attributes whose names no file can have: empty ones, longer ones than Linux' XATTR_NAME_MAX, one of them twice.
fn check_xattrs(e: &Entry) -> Result<(), IndexError> {
    let mut before: Option<&[u8]> = None;
    for (name, _) in &e.attrs.xattrs {
        if name.is_empty() || name.len() > 255 || name.contains(&0) || before == Some(name) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(IndexError::Xattr { path: show(&e.path), name });
        }
        before = Some(name);
    }
    Ok(())
}

/// Refuses what no layer may hold, whatever else is in it; sorts attributes.
fn check_entry(e: &mut Entry) -> Result<(), IndexError> {
    check_path(&e.path)?;
    if e.path.is_empty() && !matches!(e.kind, Kind::Directory { .. }) {
        return Err(IndexError::Root);
    }
    match &e.kind {
        Kind::HardLink { target } if target.is_empty() => {
            return Err(IndexError::Link { link: show(&e.path), target: show(target) });
        }
        Kind::HardLink { target } => check_path(target)?,
        Kind::Symlink { target } if !is_link_text(target) => {
            return Err(IndexError::Text(show(&e.path)));
        }
        _ => {}
    }
    e.attrs.xattrs.sort();
    check_xattrs(e)?;
    if matches!(e.kind, Kind::Whiteout) {
        e.attrs = Attrs::default();
    }
    Ok(())
}

impl LayerIndex {
    /// Sorts and checks entries, and brings hard links into canonical form.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<LayerIndex, IndexError> {
        entries.iter_mut().try_for_each(check_entry)?;
        // Most come sorted, and a sort takes room for half of them all the same.
        if !entries.is_sorted_by(|a, b| compare(&a.path, &b.path).is_le()) {
            entries.sort_by(|a, b| compare(&a.path, &b.path));
        }
        if let Some(w) = entries.windows(2).find(|w| w[0].path == w[1].path) {
            return Err(IndexError::Duplicate(show(&w[0].path)));
        }
        let mut index = LayerIndex { entries };
        index.settle_links()?;
        index.check_parents()?;
        Ok(index)
    }

    /// Refuses entries below a file. Below a symbolic link there may be some: it may be one of the layers below that they replace.
    fn check_parents(&self) -> Result<(), IndexError> {
        let mut file: Option<&[u8]> = None;
        for e in &self.entries {
            if let Some(file) = file
                && is_below(&e.path, file)
            {
                return Err(IndexError::BelowFile { path: show(&e.path), file: show(file) });
            }
            let kind = match &e.kind {
                Kind::HardLink { target } => self.get(target).map(|t| &t.kind),
                kind => Some(kind),
            };
            file = match kind {
                None | Some(Kind::Directory { .. } | Kind::Symlink { .. } | Kind::Whiteout) => None,
                Some(_) => Some(&e.path),
            };
        }
        Ok(())
    }

    /// Follows chains of links inside the layer and moves each inode to the first name of its group.
    fn settle_links(&mut self) -> Result<(), IndexError> {
        let mut groups: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for i in 0..self.entries.len() {
            if !matches!(self.entries[i].kind, Kind::HardLink { .. }) {
                continue;
            }
            let mut at = i;
            let mut hops = 0;
            let end = loop {
                let Kind::HardLink { target } = &self.entries[at].kind else { break Some(at) };
                match self.position(target) {
                    None => break None,
                    Some(next) => at = next,
                }
                hops += 1;
                if hops > self.entries.len() {
                    return Err(self.bad_link(i, at));
                }
            };
            match end {
                None => {
                    // A chain that leaves the layer: the link names the lower path itself.
                    if let Kind::HardLink { target } = self.entries[at].kind.clone() {
                        if self.has_content(&target) {
                            return Err(IndexError::Link {
                                link: show(&self.entries[i].path),
                                target: show(&target),
                            });
                        }
                        self.entries[i].kind = Kind::HardLink { target };
                    }
                }
                Some(end) => {
                    if matches!(self.entries[end].kind, Kind::Directory { .. } | Kind::Whiteout) {
                        return Err(self.bad_link(i, end));
                    }
                    groups.entry(end).or_default().push(i);
                }
            }
        }
        for (holder, links) in groups {
            let first = links.iter().copied().min().unwrap_or(holder).min(holder);
            let path = self.entries[first].path.clone();
            let attrs = self.entries[holder].attrs.clone();
            if first != holder {
                let link = Kind::HardLink { target: path.clone() };
                let kind = std::mem::replace(&mut self.entries[holder].kind, link);
                self.entries[first].kind = kind;
            }
            for &i in links.iter().chain([&holder]) {
                self.entries[i].attrs = attrs.clone();
                if i != first {
                    self.entries[i].kind = Kind::HardLink { target: path.clone() };
                }
            }
        }
        Ok(())
    }

    /// Whether something of this layer lies below a path that has no entry of its own. What is gone from a directory does, too.
    fn has_content(&self, path: &[u8]) -> bool {
        let next = self.entries.partition_point(|e| compare(&e.path, path).is_lt());
        self.entries.get(next).is_some_and(|e| is_below(&e.path, path))
    }

    fn bad_link(&self, link: usize, target: usize) -> IndexError {
        IndexError::Link { link: show(&self.entries[link].path), target: show(&self.entries[target].path) }
    }

    /// The entries, sorted.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, taken out.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|e| compare(&e.path, path)).ok()
    }

    /// The entry of a path.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|i| &self.entries[i])
    }

    /// Bytes of file content that the layer ships, each name of a hard link group once.
    pub fn content_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|e| match e.kind {
                Kind::File { size, .. } => size,
                _ => 0,
            })
            .sum()
    }

    /// Every object that the layer needs, in entry order, with repeats.
    pub fn objects(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.entries.iter().filter_map(|e| match e.kind {
            Kind::File { size, digest } => Some((digest, size)),
            _ => None,
        })
    }

    /// The layer's id and its encoding.
    pub fn encode(&self) -> (Digest, Vec<u8>) {
        let mut out = Vec::with_capacity(64 + self.entries.len() * 80);
        let Ok(()) = self.body::<std::convert::Infallible>(|piece| {
            out.append(piece);
            Ok(())
        });
        let id = Digest::of(&out);
        out.extend_from_slice(id.as_bytes());
        (id, out)
    }

    /// The layer's id alone.
    pub fn id(&self) -> Digest {
        let mut hasher = Hasher::new();
        let Ok(()) = self.body::<std::convert::Infallible>(|piece| {
            hasher.update(piece);
            Ok(())
        });
        hasher.finish()
    }

    /// Writes the encoding, which ends with the layer's `id`, without having all of it in memory.
    pub fn write(&self, id: &Digest, out: &mut dyn Write) -> io::Result<()> {
        self.body(|piece| out.write_all(piece))?;
        out.write_all(id.as_bytes())
    }

    /// Gives the encoding in pieces, without the checksum.
    fn body<E>(&self, mut take: impl FnMut(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        const PIECE: usize = 64 << 10;
        let mut piece = MAGIC.to_vec();
        put(&mut piece, self.entries.len() as u64);
        let mut before: &[u8] = &[];
        for e in &self.entries {
            put_entry(&mut piece, before, e);
            before = &e.path;
            if piece.len() >= PIECE {
                take(&mut piece)?;
                piece.clear();
            }
        }
        take(&mut piece)
    }

    /// Reads an encoding and checks all of it: checksum, order, names.
    pub fn decode(bytes: &[u8]) -> Result<(Digest, LayerIndex), IndexError> {
        let (id, entries) = Entries::new(bytes)?;
        Ok((id, LayerIndex::from_encoded(entries)?))
    }

    /// The layer of entries none of which was taken yet.
    pub fn from_encoded<B: AsRef<[u8]>>(encoded: Entries<B>) -> Result<LayerIndex, IndexError> {
        let mut entries = Vec::with_capacity(encoded.left as usize);
        for entry in encoded {
            entries.push(entry?);
        }
        Ok(LayerIndex { entries })
    }
}

/// The entries of an encoding, one after the other: a layer of a million files takes three times its encoding in memory. Ends at the first
/// error.
#[derive(Debug, Clone)]
pub struct Entries<B> {
    bytes: B,
    /// Where the first entry begins.
    first: usize,
    /// How many there are.
    all: u64,
    /// Where the next entry begins.
    at: usize,
    left: u64,
    /// The entry before; before the first, one of the path that comes before all others but the root's.
    current: Entry,
}

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 32;

impl<B: AsRef<[u8]>> Entries<B> {
    /// The layer's id, and its entries; the checksum is checked at once, order and names as they come.
    pub fn new(bytes: B) -> Result<(Digest, Entries<B>), IndexError> {
        let Some((body, sum)) = bytes.as_ref().split_last_chunk::<CHECKSUM>() else {
            return Err(IndexError::Damaged("too short"));
        };
        let id = Digest::of(body);
        if id.as_bytes() != sum {
            return Err(IndexError::Damaged("checksum does not match"));
        }
        let body = body.len();
        Ok((id, Entries::of_body(bytes, body)?))
    }

    /// The entries of an encoding of which so many bytes come before the checksum, which is right.
    fn of_body(bytes: B, body: usize) -> Result<Entries<B>, IndexError> {
        let entries = bytes.as_ref()[..body].strip_prefix(MAGIC);
        let mut reader = Reader::new(entries.ok_or(IndexError::Damaged("unknown version"))?);
        let left = reader.number().ok_or(CUT_OFF)?;
        if left > reader.left() as u64 {
            return Err(IndexError::Damaged("more entries than bytes"));
        }
        if left == 0 && reader.left() > 0 {
            return Err(AFTER_THE_LAST);
        }
        let first = body - reader.left();
        let current = Entry::whiteout(Vec::new());
        Ok(Entries { bytes, first, all: left, at: first, left, current })
    }

    /// Bytes of the whole encoding.
    pub fn size(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    /// Begins again with the first entry.
    pub fn restart(&mut self) {
        self.at = self.first;
        self.left = self.all;
        self.current.path.clear();
    }

    /// The next entry, which is good until the one after it is wanted: it takes no memory of its own.
    pub fn advance(&mut self) -> Option<Result<&Entry, IndexError>> {
        let first = self.left == self.all;
        self.left = self.left.checked_sub(1)?;
        match self.read(first) {
            Ok(()) => Some(Ok(&self.current)),
            Err(e) => {
                self.left = 0;
                Some(Err(e))
            }
        }
    }

    /// Makes the next entry the current one.
    fn read(&mut self, first: bool) -> Result<(), IndexError> {
        let bytes = self.bytes.as_ref();
        let end = bytes.len() - CHECKSUM;
        let mut reader = Reader::new(&bytes[self.at..end]);
        let order = read_entry(&mut reader, &mut self.current).ok_or(CUT_OFF)?;
        check_path(&self.current.path)?;
        if !first && order != Ordering::Less {
            return Err(IndexError::Damaged("entries out of order"));
        }
        self.at = end - reader.left();
        if self.left == 0 && self.at < end {
            return Err(AFTER_THE_LAST);
        }
        Ok(())
    }
}

impl<B: AsRef<[u8]>> Iterator for Entries<B> {
    type Item = Result<Entry, IndexError>;

    fn next(&mut self) -> Option<Result<Entry, IndexError>> {
        self.advance().map(|entry| entry.cloned())
    }
}

const AFTER_THE_LAST: IndexError = IndexError::Damaged("bytes after the last entry");

const CUT_OFF: IndexError = IndexError::Damaged("cut off, or no such encoding");

/// Turns an entry into the one that follows it; says how the paths of the two compare.
fn read_entry(r: &mut Reader<'_>, entry: &mut Entry) -> Option<Ordering> {
    let shared = r.small()?;
    let rest = r.bytes()?;
    let order = compare(entry.path.get(shared..)?, rest);
    entry.path.truncate(shared);
    entry.path.extend_from_slice(rest);
    let tag = r.byte()?;
    let mut attrs = Attrs::default();
    if tag != b'w' {
        attrs.mode = r.small()?;
        attrs.uid = r.small()?;
        attrs.gid = r.small()?;
        let z = r.number()?;
        attrs.mtime = Time { secs: (z >> 1) as i64 ^ -((z & 1) as i64), nanos: r.small()? };
    }
    entry.kind = match tag {
        b'd' | b'D' => Kind::Directory { opaque: tag == b'D' },
        b'f' => Kind::File { size: r.number()?, digest: Digest::from_bytes(r.take(32)?.try_into().ok()?) },
        b'h' => Kind::HardLink { target: r.bytes()?.to_vec() },
        b'l' => Kind::Symlink { target: r.bytes()?.to_vec() },
        b'c' => Kind::CharDevice { major: r.small()?, minor: r.small()? },
        b'b' => Kind::BlockDevice { major: r.small()?, minor: r.small()? },
        b'p' => Kind::Fifo,
        b'w' => Kind::Whiteout,
        _ => return None,
    };
    for _ in 0..r.number()? {
        let name = r.bytes()?.to_vec();
        attrs.xattrs.push((name, r.bytes()?.to_vec()));
    }
    entry.attrs = attrs;
    Some(order)
}

/// Encodes an entry that follows the path `before`.
pub(crate) fn put_entry(out: &mut Vec<u8>, before: &[u8], e: &Entry) {
    let shared = common_prefix(before, &e.path);
    put(out, shared as u64);
    put_bytes(out, &e.path[shared..]);
    out.push(tag(&e.kind));
    if !matches!(e.kind, Kind::Whiteout) {
        put(out, u64::from(e.attrs.mode));
        put(out, u64::from(e.attrs.uid));
        put(out, u64::from(e.attrs.gid));
        let s = e.attrs.mtime.secs;
        put(out, ((s << 1) ^ (s >> 63)) as u64);
        put(out, u64::from(e.attrs.mtime.nanos));
    }
    match &e.kind {
        Kind::File { size, digest } => {
            put(out, *size);
            out.extend_from_slice(digest.as_bytes());
        }
        Kind::HardLink { target } | Kind::Symlink { target } => put_bytes(out, target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put(out, u64::from(*major));
            put(out, u64::from(*minor));
        }
        Kind::Directory { .. } | Kind::Fifo | Kind::Whiteout => {}
    }
    put(out, e.attrs.xattrs.len() as u64);
    for (name, value) in &e.attrs.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn tag(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory { opaque: false } => b'd',
        Kind::Directory { opaque: true } => b'D',
        Kind::File { .. } => b'f',
        Kind::HardLink { .. } => b'h',
        Kind::Symlink { .. } => b'l',
        Kind::CharDevice { .. } => b'c',
        Kind::BlockDevice { .. } => b'b',
        Kind::Fifo => b'p',
        Kind::Whiteout => b'w',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
            attrs: Attrs { mode: 0o644, mtime: Time { secs: -5, nanos: 7 }, ..Attrs::default() },
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.into(), kind: Kind::HardLink { target: target.into() }, attrs: Attrs::default() }
    }

    #[test]
    fn a_directory_is_followed_by_its_whole_content() {
        let ix = LayerIndex::from_entries(
            ["a.c", "a/b", "a", "a/b/c", "a-"]
                .map(|p| Entry {
                    path: p.into(),
                    kind: Kind::Directory { opaque: false },
                    attrs: Attrs::default(),
                })
                .to_vec(),
        )
        .unwrap();
        let order: Vec<_> =
            ix.entries().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
        assert_eq!(order, ["a", "a/b", "a/b/c", "a-", "a.c"]);
    }

    #[test]
    fn encoding_round_trips_and_any_flipped_byte_is_noticed() {
        let mut f = file("dir/f", "hello");
        f.attrs.xattrs =
            vec![(b"user.b".to_vec(), b"2".to_vec()), (b"user.a".to_vec(), b"1".to_vec())].into();
        let ix = LayerIndex::from_entries(vec![
            f,
            link("dir/z", "dir/f"),
            Entry::whiteout(b"gone".to_vec()),
            Entry {
                path: b"dev".to_vec(),
                kind: Kind::CharDevice { major: 5, minor: 1 },
                attrs: Attrs::default(),
            },
        ])
        .unwrap();
        let (id, bytes) = ix.encode();
        let mut written = Vec::new();
        ix.write(&ix.id(), &mut written).unwrap();
        assert!((ix.id(), written) == (id, bytes.clone()), "in pieces it is the same");
        assert_eq!(LayerIndex::decode(&bytes).unwrap(), (id, ix));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(LayerIndex::decode(&bad).is_err(), "byte {i}");
        }
    }

    #[test]
    fn the_first_name_of_a_link_group_holds_the_inode() {
        let a = LayerIndex::from_entries(vec![file("m", "x"), link("a", "m"), link("z", "a")]).unwrap();
        let b = LayerIndex::from_entries(vec![file("a", "x"), link("z", "a"), link("m", "z")]).unwrap();
        assert_eq!(a, b);
        assert!(matches!(a.get(b"a").unwrap().kind, Kind::File { .. }));
    }

    #[test]
    fn refuses_bad_names_and_links() {
        for bad in ["../x", "a//b", "/a", "a/", "a/./b", "a\0b"] {
            assert!(
                matches!(LayerIndex::from_entries(vec![file(bad, "")]), Err(IndexError::Name(_))),
                "{bad:?}"
            );
        }
        assert_eq!(LayerIndex::from_entries(vec![file("", "")]), Err(IndexError::Root));
        assert!(matches!(LayerIndex::from_entries(vec![link("a", "")]), Err(IndexError::Link { .. })));
        assert!(matches!(
            LayerIndex::from_entries(vec![file("a", ""), file("a", "")]),
            Err(IndexError::Duplicate(_))
        ));
        assert!(matches!(
            LayerIndex::from_entries(vec![link("a", "b"), link("b", "a")]),
            Err(IndexError::Link { .. })
        ));
        let dir =
            Entry { path: b"d".to_vec(), kind: Kind::Directory { opaque: false }, attrs: Attrs::default() };
        assert!(matches!(LayerIndex::from_entries(vec![link("a", "d"), dir]), Err(IndexError::Link { .. })));
        // What has content is a directory, too, whoever names it.
        for content in [file("d/f", ""), Entry::whiteout(b"d/gone".to_vec())] {
            let refused = LayerIndex::from_entries(vec![link("a", "d"), content]);
            assert!(matches!(refused, Err(IndexError::Link { .. })));
        }
        assert!(LayerIndex::from_entries(vec![link("a", "d"), file("d-", ""), file("b/d/f", "")]).is_ok());
    }

    #[test]
    fn refuses_what_no_link_and_no_attribute_can_say() {
        for bad in [&b""[..], b"a\0b", &[b't'; MAX_PATH]] {
            let kind = Kind::Symlink { target: bad.to_vec() };
            let made = LayerIndex::from_entries(vec![Entry { kind, ..file("a", "") }]);
            assert_eq!(made, Err(IndexError::Text("/a".into())), "{} bytes", bad.len());
        }
        let long = "n".repeat(256);
        for bad in [&[""][..], &["user.\0"], &[&long], &["user.a", "user.b", "user.a"]] {
            let mut f = file("a", "");
            f.attrs.xattrs = bad.iter().map(|n| (n.as_bytes().to_vec(), Vec::new())).collect();
            assert!(matches!(LayerIndex::from_entries(vec![f]), Err(IndexError::Xattr { .. })), "{bad:?}");
        }
    }
}
