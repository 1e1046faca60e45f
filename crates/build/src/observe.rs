//! Observations: what a step learned about the trees that it ran on, as paths and fingerprints that outlive the trees.
//!
//! An observation is a path and one of five facts about it. Fingerprints are the first 16 bytes of a sha256:
//!
//! | fact | fingerprint over |
//! |---|---|
//! | attributes | type, mode, uid, gid; size and number of links (files); device numbers; link target; xattrs |
//! | content | attributes and the digest of the bytes |
//! | listing | the sorted names and types of a directory's children |
//! | absence | nothing: the name is not there, its directory is |
//!
//! Modification times and inode numbers are in none. A link's target is an attribute, so a followed link needs no fact of its own.
//!
//! # Encoding, version 1
//!
//! `"layercake-observations-1\n"`, then for each view (the root, then the view mounts in order): the number of observations, and
//! each as: length of the prefix shared with the path before, length and bytes of the rest, one byte kind (`a`, `c`, `l`, `n`), and
//! the fingerprint (not for `n`). Numbers are LEB128 varints; paths are sorted.

use oci::index::{compare, join};
use oci::tree::{Id, Node};
use oci::{Hasher, Tree};
use sandbox::{Bits, Seen};

use crate::copy::hash_inode;

const MAGIC: &[u8] = b"layercake-observations-1\n";

/// 16 bytes of a sha256.
pub type Fingerprint = [u8; 16];

/// What was learned about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Its attributes.
    Attributes(Fingerprint),
    /// Its attributes and bytes.
    Content(Fingerprint),
    /// The names in it.
    Listing(Fingerprint),
    /// That it is not there.
    Absent,
}

/// A path and what was learned about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Path from the view's root, no leading slash.
    pub path: Vec<u8>,
    /// The fact.
    pub fact: Fact,
}

fn cut(h: Hasher) -> Fingerprint {
    let digest = h.finish();
    let mut out = [0; 16];
    out.copy_from_slice(&digest.as_bytes()[..16]);
    out
}

/// Fingerprint of an inode's attributes; of a file with its bytes if `content`.
fn attributes(tree: &Tree, id: Id, content: bool) -> Fingerprint {
    let inode = tree.inode(id);
    let mut h = Hasher::new();
    if content || !matches!(inode.node, Node::File { .. }) {
        h.update(if content { b"c" } else { b"a" });
        h.update(&inode.nlink.to_le_bytes());
        hash_inode(&mut h, b"", tree, id, &mut std::collections::HashMap::new());
        return cut(h);
    }
    h.update(b"a");
    h.update(&inode.nlink.to_le_bytes());
    for n in [inode.file_type() | inode.attrs.mode, inode.attrs.uid, inode.attrs.gid] {
        h.update(&n.to_le_bytes());
    }
    if let Node::File { size, .. } = inode.node {
        h.update(&size.to_le_bytes());
    }
    for (k, v) in &inode.attrs.xattrs {
        for part in [k, v] {
            h.update(&(part.len() as u64).to_le_bytes());
            h.update(part);
        }
    }
    cut(h)
}

fn listing(tree: &Tree, id: Id) -> Fingerprint {
    let mut h = Hasher::new();
    h.update(b"l");
    for (name, child) in tree.children(id) {
        h.update(&(name.len() as u64).to_le_bytes());
        h.update(name);
        h.update(&tree.inode(*child).file_type().to_le_bytes());
    }
    cut(h)
}

/// Names what a step saw of one tree. `None` if the list may lack something.
pub fn observations(tree: &Tree, seen: &Seen) -> Option<Vec<Observation>> {
    if seen.incomplete.is_some() {
        return None;
    }
    let mut out = Vec::with_capacity(seen.inodes.len() + seen.absent.len());
    for &(id, bits) in &seen.inodes {
        let inode = tree.get(id)?;
        let path = tree.path(id);
        if bits.contains(Bits::LIST) && inode.is_dir() {
            out.push(Observation { path: path.clone(), fact: Fact::Listing(listing(tree, id)) });
        }
        let fact = if bits.contains(Bits::CONTENT) && !inode.is_dir() {
            Fact::Content(attributes(tree, id, true))
        } else {
            Fact::Attributes(attributes(tree, id, false))
        };
        out.push(Observation { path, fact });
    }
    for (dir, name) in &seen.absent {
        tree.get(*dir)?;
        out.push(Observation { path: join(&tree.path(*dir), name), fact: Fact::Absent });
    }
    out.sort_by(|a, b| compare(&a.path, &b.path));
    Some(out)
}

fn put(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Encodes the observations of all views of a step.
pub fn encode(views: &[Vec<Observation>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put(&mut out, views.len());
    for view in views {
        put(&mut out, view.len());
        let mut before: &[u8] = &[];
        for o in view {
            let shared = before.iter().zip(&o.path).take_while(|(a, b)| a == b).count();
            put(&mut out, shared);
            put(&mut out, o.path.len() - shared);
            out.extend_from_slice(&o.path[shared..]);
            before = &o.path;
            let (kind, print) = match &o.fact {
                Fact::Attributes(p) => (b'a', Some(p)),
                Fact::Content(p) => (b'c', Some(p)),
                Fact::Listing(p) => (b'l', Some(p)),
                Fact::Absent => (b'n', None),
            };
            out.push(kind);
            out.extend_from_slice(print.map_or(&[][..], |p| &p[..]));
        }
    }
    out
}

/// Reads an encoding; `None` if it is damaged or of another version, which makes the record useless for looking up.
pub fn decode(bytes: &[u8]) -> Option<Vec<Vec<Observation>>> {
    let mut r = bytes.strip_prefix(MAGIC)?;
    fn number(r: &mut &[u8]) -> Option<usize> {
        let mut n = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let (&b, rest) = r.split_first()?;
            *r = rest;
            n |= usize::from(b & 0x7f).checked_shl(shift)?;
            if b & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }
    fn take<'a>(r: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
        let (head, rest) = r.split_at_checked(n)?;
        *r = rest;
        Some(head)
    }
    let views = number(&mut r)?;
    let mut out = Vec::new();
    for _ in 0..views {
        let count = number(&mut r)?;
        let mut view: Vec<Observation> = Vec::with_capacity(count.min(r.len()));
        for _ in 0..count {
            let shared = number(&mut r)?;
            let len = number(&mut r)?;
            let mut path = view.last().map_or(&[][..], |o| &o.path[..]).get(..shared)?.to_vec();
            path.extend_from_slice(take(&mut r, len)?);
            let kind = take(&mut r, 1)?[0];
            let mut print = || -> Option<Fingerprint> { take(&mut r, 16)?.try_into().ok() };
            let fact = match kind {
                b'a' => Fact::Attributes(print()?),
                b'c' => Fact::Content(print()?),
                b'l' => Fact::Listing(print()?),
                b'n' => Fact::Absent,
                _ => return None,
            };
            view.push(Observation { path, fact });
        }
        out.push(view);
    }
    r.is_empty().then_some(out)
}

/// The first observation that does not hold on `tree`, if any.
pub fn first_difference<'a>(tree: &Tree, view: &'a [Observation]) -> Option<&'a Observation> {
    view.iter().find(|o| !holds(tree, o))
}

fn holds(tree: &Tree, o: &Observation) -> bool {
    let id = tree.lookup(&o.path);
    match (&o.fact, id) {
        (Fact::Absent, None) => {
            // The directory must still be one: a look-up below a file is another answer.
            let (parent, _) = oci::index::split(&o.path);
            tree.lookup(parent).is_some_and(|p| tree.inode(p).is_dir())
        }
        (Fact::Attributes(p), Some(id)) => attributes(tree, id, false) == *p,
        (Fact::Content(p), Some(id)) => attributes(tree, id, true) == *p,
        (Fact::Listing(p), Some(id)) => tree.inode(id).is_dir() && listing(tree, id) == *p,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::index::Attrs;
    use oci::{Digest, Entry, Kind, LayerIndex, Time};

    fn file(path: &str, text: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
            attrs: Attrs { mode: 0o644, ..Attrs::default() },
        }
    }

    fn tree(entries: Vec<Entry>) -> Tree {
        Tree::from_layers([&LayerIndex::from_entries(entries).unwrap()]).unwrap()
    }

    fn seen(t: &Tree) -> Seen {
        let id = |p: &str| t.lookup(p.as_bytes()).unwrap();
        Seen {
            inodes: vec![
                (id(""), Bits::ATTR),
                (id("d"), Bits::ATTR | Bits::LIST),
                (id("d/read"), Bits::ATTR | Bits::CONTENT),
                (id("stat"), Bits::ATTR),
            ],
            absent: vec![(id("d"), b"none".to_vec())],
            incomplete: None,
        }
    }

    fn parent() -> Vec<Entry> {
        vec![file("d/read", "text"), file("d/other", "1"), file("stat", "xx"), file("unread", "1")]
    }

    #[test]
    fn round_trip() {
        let t = tree(parent());
        let views = vec![observations(&t, &seen(&t)).unwrap(), vec![]];
        let bytes = encode(&views);
        assert_eq!(decode(&bytes), Some(views));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        let partial = Seen { incomplete: Some("why".into()), ..seen(&t) };
        assert_eq!(observations(&t, &partial), None);
    }

    #[test]
    fn only_what_was_learned_counts() {
        let t = tree(parent());
        let obs = observations(&t, &seen(&t)).unwrap();
        let differs = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = parent();
            change(&mut entries);
            first_difference(&tree(entries), &obs).map(|o| String::from_utf8_lossy(&o.path).into_owned())
        };
        assert_eq!(differs(&|_| {}), None);
        assert_eq!(differs(&|e| e[3] = file("unread", "2")), None);
        assert_eq!(differs(&|e| e[1] = file("d/other", "2")), None);
        assert_eq!(
            differs(&|e| e[2] = file("stat", "yy")),
            None,
            "the bytes of a file that was only looked at"
        );
        assert_eq!(differs(&|e| e.iter_mut().for_each(|e| e.attrs.mtime = Time::from_secs(9))), None);
        assert_eq!(differs(&|e| e[2] = file("stat", "xyz")).as_deref(), Some("stat"));
        assert_eq!(differs(&|e| e[0] = file("d/read", "TEXT")).as_deref(), Some("d/read"));
        assert_eq!(differs(&|e| e[0].attrs.mode = 0o600).as_deref(), Some("d/read"));
        assert_eq!(differs(&|e| e.push(file("d/new", ""))).as_deref(), Some("d"));
        assert_eq!(differs(&|e| e.push(file("d/none", ""))).as_deref(), Some("d"));
        assert_eq!(differs(&|e| drop(e.remove(2))).as_deref(), Some("stat"));
    }
}
