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

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use oci::index::{compare, join};
use oci::tree::{Id, Node, ROOT, Walk};
use oci::{Hasher, Tree};
use sandbox::{Bits, Seen};

use crate::copy::hash_inode;

mod check;
mod encoding;

pub use check::first_difference;
pub use encoding::{decode, encode};

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
        h.update(&tree.inode(child).file_type().to_le_bytes());
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

#[cfg(test)]
mod tests;
