//! Observations: what a step learned about the trees that it ran on, as paths and fingerprints that outlive the trees.
//!
//! An observation is a path and one of these facts about it. Fingerprints are the first 16 bytes of a sha256:
//!
//! | fact | fingerprint over |
//! |---|---|
//! | attributes | type, mode, uid, gid; size and number of links (files); device numbers; xattrs |
//! | link | attributes and target of a symbolic link |
//! | content | attributes and the digest of the bytes |
//! | listing | the sorted names and types of a directory's children |
//! | meaning | content, and what the content means to this step (`meaning`): one of them has to be the same |
//! | same file | nothing: the name is one of the same file as another name |
//! | absence | nothing: the name is not there, its directory is |
//!
//! Modification times and inode numbers are in none.
//! The view knows inodes, not names: what a step saw of a file with several names is written down for all of them, since it may have
//! come by any. That two names are the same file shows (`test -ef`, `cp -a`), so the names after the first are observed to be the same
//! file as the first; as the number of links counts, too, the file then has these names and no others.
//!
//! A fact about a whole view: whether access control lists are obeyed in it.
//!
//! With them goes the identity that the step ran as: it was found out from the parent's passwd and group by us, not by the step; what
//! the step was given that is outside of all trees (the network, cache mounts, secrets, agents); and why the list is not whole, if it
//! is not: then it is there to be shown, and never to be looked up by.
//!
//! # Encoding, version 2
//!
//! `"layercake-observations-2\n"`, identity, reason for being not whole (empty: it is whole), number of things outside and each of
//! them, the number of views (the root, then the view mounts in order), and for each a byte (1: access control lists), the number of
//! observations, and each as: length of the prefix shared with the path before, rest of the path, one byte kind (`a`, `t` for link, `c`, `l`,
//! `m`, `n`, `s`), and the fingerprint (`a`, `t`, `c`, `l`), both (`m`), or the other name (`s`). Numbers are LEB128 varints; texts are length and bytes; paths
//! are sorted.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use oci::index::{compare, join, show};
use oci::tree::{Id, Node, ROOT, Walk, components};
use oci::varint::{Reader, put, put_bytes};
use oci::{Hasher, Tree};
use sandbox::{Bits, Seen};

use crate::copy::hash_inode;

const MAGIC: &[u8] = b"layercake-observations-2\n";

/// 16 bytes of a sha256.
pub type Fingerprint = [u8; 16];

/// What was learned about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Its attributes; it is no symbolic link.
    Attributes(Fingerprint),
    /// Its attributes and target; it is a symbolic link.
    Link(Fingerprint),
    /// Its attributes and bytes.
    Content(Fingerprint),
    /// The names in it.
    Listing(Fingerprint),
    /// Its attributes and bytes, or what they mean to this step.
    Meaning {
        /// As of the content.
        exact: Fingerprint,
        /// Of the meaning.
        meaning: Fingerprint,
    },
    /// That it is the same file as this other name.
    SameFile(Vec<u8>),
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

/// What a run learned of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Whether access control lists were obeyed.
    pub acls: bool,
    /// The facts, by path.
    pub facts: Vec<Observation>,
}

/// Everything that a run learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Who it ran as: `uid:gid:groups:home`.
    pub identity: String,
    /// Why the facts may not be all, or empty.
    pub partial: String,
    /// What it was given that lies outside of every tree: `network`, `cache TARGET`, `secret ID`, `ssh ID`.
    pub outside: Vec<String>,
    /// The root's observations, then those of the view mounts, in order.
    pub views: Vec<Observed>,
}

impl Recorded {
    /// Number of observations in all views.
    pub fn len(&self) -> usize {
        self.views.iter().map(|v| v.facts.len()).sum()
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where what a step learned is otherwise now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Number of the view: 0 is the root.
    pub view: usize,
    /// Absolute path in the view; empty if it is about no path.
    pub path: String,
    /// What is otherwise.
    pub how: String,
}

impl Difference {
    /// A difference that is about no path.
    pub fn other(how: &str) -> Difference {
        Difference { view: 0, path: String::new(), how: how.to_owned() }
    }
}

pub(crate) fn cut(h: Hasher) -> Fingerprint {
    let digest = h.finish();
    let mut out = [0; 16];
    out.copy_from_slice(&digest.as_bytes()[..16]);
    out
}

/// Fingerprint of an inode's attributes; of a file with its bytes if `content`.
pub(crate) fn attributes(tree: &Tree, id: Id, content: bool) -> Fingerprint {
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

/// All names of the inodes among `wanted` that have several.
fn names_of_links(tree: &Tree, wanted: &HashSet<Id>) -> HashMap<Id, Vec<Vec<u8>>> {
    let mut out: HashMap<Id, Vec<Vec<u8>>> = HashMap::new();
    if wanted.is_empty() {
        return out;
    }
    let done: Result<(), Infallible> = tree.walk(ROOT, &mut |path, id| {
        if wanted.contains(&id) {
            out.entry(id).or_default().push(path.to_vec());
        }
        Ok(Walk::Into)
    });
    let Ok(()) = done;
    out
}

/// Names what a step saw of one tree. `None` if the tree is another one.
pub fn observations(tree: &Tree, seen: &Seen) -> Option<Observed> {
    let linked: HashSet<Id> = seen
        .inodes
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| tree.get(*id).is_some_and(|i| !i.is_dir() && i.nlink > 1))
        .collect();
    let mut links = names_of_links(tree, &linked);
    let mut out = Vec::with_capacity(seen.inodes.len() + seen.absent.len());
    for &(id, bits) in &seen.inodes {
        let inode = tree.get(id)?;
        let fact = if bits.contains(Bits::CONTENT) && !inode.is_dir() {
            Fact::Content(attributes(tree, id, true))
        } else if matches!(inode.node, Node::Symlink(_)) {
            Fact::Link(attributes(tree, id, false))
        } else {
            Fact::Attributes(attributes(tree, id, false))
        };
        if linked.contains(&id) {
            // No name found: the tree does not hold the inode that the view showed.
            let names = links.remove(&id)?;
            for path in &names {
                out.push(Observation { path: path.clone(), fact: fact.clone() });
            }
            for path in &names[1..] {
                out.push(Observation { path: path.clone(), fact: Fact::SameFile(names[0].clone()) });
            }
            continue;
        }
        let path = tree.path(id);
        if bits.contains(Bits::LIST) && inode.is_dir() {
            out.push(Observation { path: path.clone(), fact: Fact::Listing(listing(tree, id)) });
        }
        out.push(Observation { path, fact });
    }
    for (dir, name) in &seen.absent {
        tree.get(*dir)?;
        out.push(Observation { path: join(&tree.path(*dir), name), fact: Fact::Absent });
    }
    out.sort_by(|a, b| compare(&a.path, &b.path));
    Some(Observed { acls: seen.acls, facts: out })
}

/// Encodes what a run learned.
pub fn encode(recorded: &Recorded) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, recorded.identity.as_bytes());
    put_bytes(&mut out, recorded.partial.as_bytes());
    put(&mut out, recorded.outside.len() as u64);
    for text in &recorded.outside {
        put_bytes(&mut out, text.as_bytes());
    }
    put(&mut out, recorded.views.len() as u64);
    for view in &recorded.views {
        out.push(u8::from(view.acls));
        put(&mut out, view.facts.len() as u64);
        let mut before: &[u8] = &[];
        for o in &view.facts {
            let shared = before.iter().zip(&o.path).take_while(|(a, b)| a == b).count();
            put(&mut out, shared as u64);
            put_bytes(&mut out, &o.path[shared..]);
            before = &o.path;
            let (kind, print) = match &o.fact {
                Fact::Attributes(p) => (b'a', &p[..]),
                Fact::Link(p) => (b't', &p[..]),
                Fact::Content(p) => (b'c', &p[..]),
                Fact::Listing(p) => (b'l', &p[..]),
                Fact::Absent => (b'n', &[][..]),
                Fact::Meaning { exact, .. } => (b'm', &exact[..]),
                Fact::SameFile(_) => (b's', &[][..]),
            };
            out.push(kind);
            out.extend_from_slice(print);
            if let Fact::Meaning { meaning, .. } = &o.fact {
                out.extend_from_slice(meaning);
            }
            if let Fact::SameFile(other) = &o.fact {
                put_bytes(&mut out, other);
            }
        }
    }
    out
}

/// Reads an encoding; `None` if it is damaged or of another version, which makes the record useless for looking up.
pub fn decode(bytes: &[u8]) -> Option<Recorded> {
    let mut r = Reader::new(bytes.strip_prefix(MAGIC)?);
    let text = |r: &mut Reader<'_>| String::from_utf8(r.bytes()?.to_vec()).ok();
    let (identity, partial) = (text(&mut r)?, text(&mut r)?);
    let mut outside = Vec::new();
    for _ in 0..r.number()? {
        outside.push(text(&mut r)?);
    }
    let mut views = Vec::new();
    for _ in 0..r.number()? {
        let acls = match r.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let count: usize = r.small()?;
        let mut facts: Vec<Observation> = Vec::with_capacity(count.min(r.left()));
        for _ in 0..count {
            let shared: usize = r.small()?;
            let mut path = facts.last().map_or(&[][..], |o| &o.path[..]).get(..shared)?.to_vec();
            path.extend_from_slice(r.bytes()?);
            let kind = r.byte()?;
            let print = |r: &mut Reader<'_>| -> Option<Fingerprint> { r.take(16)?.try_into().ok() };
            let fact = match kind {
                b'a' => Fact::Attributes(print(&mut r)?),
                b't' => Fact::Link(print(&mut r)?),
                b'c' => Fact::Content(print(&mut r)?),
                b'l' => Fact::Listing(print(&mut r)?),
                b's' => Fact::SameFile(r.bytes()?.to_vec()),
                b'm' => Fact::Meaning { exact: print(&mut r)?, meaning: print(&mut r)? },
                b'n' => Fact::Absent,
                _ => return None,
            };
            facts.push(Observation { path, fact });
        }
        views.push(Observed { acls, facts });
    }
    (r.left() == 0).then_some(Recorded { identity, partial, outside, views })
}

/// The first observation that does not hold on `tree`, if any. `meaning` is asked what a file at a path means now where its content is
/// another one.
///
/// Observations are sorted by path, and neighbours share most of it: the directories on the way are kept, so that a path costs one or two
/// look-ups by name, however deep it lies.
pub fn first_difference(
    tree: &Tree,
    view: &Observed,
    meaning: &dyn Fn(&[u8], Id) -> Option<Fingerprint>,
) -> Option<Difference> {
    if tree.has_acls() != view.acls {
        return Some(Difference::other("whether its files have access control lists"));
    }
    let mut at = Cursor { tree, path: Vec::new(), ids: vec![ROOT] };
    view.facts.iter().find_map(|o| {
        let how = at.differs(o, meaning)?;
        Some(Difference { view: 0, path: show(&o.path), how: how.to_owned() })
    })
}

/// A place in a tree that moves along sorted paths.
struct Cursor<'a> {
    tree: &'a Tree,
    /// The components that were found.
    path: Vec<Vec<u8>>,
    /// The root, and the inode of each component.
    ids: Vec<Id>,
}

impl Cursor<'_> {
    /// The inode at exactly this path, and that of its directory.
    fn find(&mut self, path: &[u8]) -> (Option<Id>, Option<Id>) {
        let parts: Vec<&[u8]> = components(path).collect();
        let shared = self.path.iter().zip(&parts).take_while(|(a, b)| a.as_slice() == **b).count();
        self.path.truncate(shared);
        self.ids.truncate(shared + 1);
        for part in &parts[shared..] {
            let dir = self.ids[self.ids.len() - 1];
            match self.tree.child(dir, part) {
                Some(id) => {
                    self.path.push(part.to_vec());
                    self.ids.push(id);
                }
                None => {
                    let whole = self.path.len() + 1 == parts.len();
                    return (None, whole.then_some(dir));
                }
            }
        }
        let n = self.ids.len();
        (Some(self.ids[n - 1]), n.checked_sub(2).map(|i| self.ids[i]))
    }

    /// What about an observation is otherwise here.
    fn differs(
        &mut self,
        o: &Observation,
        meaning: &dyn Fn(&[u8], Id) -> Option<Fingerprint>,
    ) -> Option<&'static str> {
        let tree = self.tree;
        let (id, dir) = self.find(&o.path);
        match (&o.fact, id) {
            // The directory must still be one: a look-up below a file is another answer.
            (Fact::Absent, None) => match dir {
                Some(d) if tree.inode(d).is_dir() => None,
                _ => Some("its directory is gone"),
            },
            (Fact::Absent, Some(_)) => Some("is new"),
            (_, None) => Some("is gone"),
            (Fact::SameFile(other), Some(id)) => {
                (tree.lookup(other) != Some(id)).then_some("is another file than its hard link")
            }
            (Fact::Attributes(p), Some(id)) => {
                (attributes(tree, id, false) != *p).then_some("attributes changed")
            }
            (Fact::Link(p), Some(id)) => (attributes(tree, id, false) != *p).then_some("leads elsewhere"),
            (Fact::Content(p), Some(id)) => (attributes(tree, id, true) != *p).then_some("content changed"),
            (Fact::Meaning { exact, meaning: old }, Some(id)) => {
                let same = attributes(tree, id, true) == *exact || meaning(&o.path, id) == Some(*old);
                (!same).then_some("content changed")
            }
            (Fact::Listing(p), Some(id)) => {
                let same = tree.inode(id).is_dir() && listing(tree, id) == *p;
                (!same).then_some("names in it changed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::index::Attrs;
    use oci::{Digest, Entry, Kind, LayerIndex, Time};

    fn first_difference(tree: &Tree, view: &Observed) -> Option<Difference> {
        super::first_difference(tree, view, &|_, _| None)
    }

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
            ..Seen::default()
        }
    }

    fn parent() -> Vec<Entry> {
        vec![file("d/read", "text"), file("d/other", "1"), file("stat", "xx"), file("unread", "1")]
    }

    #[test]
    fn round_trip() {
        let t = tree(parent());
        let mut views = vec![observations(&t, &seen(&t)).unwrap(), Observed { acls: true, facts: vec![] }];
        views[0].facts.push(Observation { path: b"z".to_vec(), fact: Fact::SameFile(b"stat".to_vec()) });
        let fact = Fact::Meaning { exact: [1; 16], meaning: [2; 16] };
        views[1].facts.push(Observation { path: b"m".to_vec(), fact });
        let recorded = Recorded {
            identity: "1:2:3:/home".into(),
            partial: "why".into(),
            outside: vec!["network".into(), "cache /c".into()],
            views,
        };
        let bytes = encode(&recorded);
        assert_eq!(decode(&bytes), Some(recorded));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn only_what_was_learned_counts() {
        let t = tree(parent());
        let obs = observations(&t, &seen(&t)).unwrap();
        let differs = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = parent();
            change(&mut entries);
            first_difference(&tree(entries), &obs).map(|d| d.path)
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
        assert_eq!(differs(&|e| e[2] = file("stat", "xyz")).as_deref(), Some("/stat"));
        assert_eq!(differs(&|e| e[0] = file("d/read", "TEXT")).as_deref(), Some("/d/read"));
        assert_eq!(differs(&|e| e[0].attrs.mode = 0o600).as_deref(), Some("/d/read"));
        assert_eq!(differs(&|e| e.push(file("d/new", ""))).as_deref(), Some("/d"));
        assert_eq!(differs(&|e| e.push(file("d/none", ""))).as_deref(), Some("/d"));
        assert_eq!(differs(&|e| drop(e.remove(2))).as_deref(), Some("/stat"));
    }

    #[test]
    fn any_name_of_a_hard_link_may_have_been_used() {
        let link =
            |path: &str, to: &str| Entry { kind: Kind::HardLink { target: to.into() }, ..file(path, "") };
        let t = tree(vec![file("a", "x"), link("b", "a"), file("c", "y")]);
        let one = Seen { inodes: vec![(t.lookup(b"b").unwrap(), Bits::ATTR)], ..Seen::default() };
        let obs = observations(&t, &one).unwrap();
        assert_eq!(first_difference(&t, &obs), None);
        // The inode has two names still, but another second one.
        let moved = tree(vec![file("a", "x"), link("d", "a"), file("c", "y")]);
        assert_eq!(
            first_difference(&moved, &obs).map(|d| (d.path, d.how)),
            Some(("/b".into(), "is gone".into()))
        );
    }

    #[test]
    fn which_names_are_one_file_counts() {
        let link =
            |path: &str, to: &str| Entry { kind: Kind::HardLink { target: to.into() }, ..file(path, "") };
        let t = tree(vec![file("a", "x"), link("b", "a"), file("c", "x"), link("d", "c")]);
        let saw = |t: &Tree, p: &str| (t.lookup(p.as_bytes()).unwrap(), Bits::ATTR | Bits::CONTENT);
        let both = Seen { inodes: vec![saw(&t, "a"), saw(&t, "d")], ..Seen::default() };
        let obs = observations(&t, &both).unwrap();
        assert_eq!(first_difference(&t, &obs), None);
        // Same contents and numbers of links everywhere, but `a` and `d` are one file now.
        let crossed = tree(vec![file("a", "x"), link("d", "a"), file("b", "x"), link("c", "b")]);
        assert_eq!(
            first_difference(&crossed, &obs).map(|d| (d.path, d.how)),
            Some(("/b".into(), "is another file than its hard link".into()))
        );
    }

    #[test]
    fn obeying_access_control_lists_is_a_fact_about_the_view() {
        let with = |xattrs| {
            let mut e = file("a", "x");
            e.attrs.xattrs = xattrs;
            tree(vec![file("b", ""), e])
        };
        let plain = with(vec![(b"user.x".to_vec(), vec![])]);
        let listed = with(vec![(b"system.posix_acl_access".to_vec(), vec![2])]);
        let obs = Observed { acls: false, facts: vec![] };
        assert_eq!(first_difference(&plain, &obs), None);
        assert!(first_difference(&listed, &obs).is_some());
    }

    #[test]
    fn absence_needs_the_directory() {
        let t = tree(vec![file("d/e/f", "")]);
        let gone = Seen { absent: vec![(t.lookup(b"d/e").unwrap(), b"n".to_vec())], ..Seen::default() };
        let obs = observations(&t, &gone).unwrap();
        assert_eq!(first_difference(&t, &obs), None);
        assert!(first_difference(&tree(vec![file("d/e", "")]), &obs).is_some());
        assert!(first_difference(&tree(vec![file("d/x", "")]), &obs).is_some());
        assert!(first_difference(&tree(vec![file("d/e/f", ""), file("d/e/n", "")]), &obs).is_some());
    }
}
