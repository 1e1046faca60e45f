//! Files of which a step depends on less than their bytes.
//!
//! A fact of this kind holds two fingerprints: of the content, and of what the content means to this step. It holds if either is the
//! same. The first is asked first, and needs no file to be opened; `--cache-semantics=off` never asks the second.
//!
//! Each case has a file of its own, which states its proof. A case that is not certain says so, and then the bytes count.

mod ldso;

use std::collections::HashSet;

use oci::tree::{Id, Node};
use oci::{Content, Hasher, LayerIndex, Tree};

use crate::observe::{Fact, Fingerprint, Recorded, attributes, cut};

/// Largest file whose meaning is looked for.
const MAX_BYTES: u64 = 16 << 20;

/// What a step asked, as far as a meaning may depend on it.
pub(crate) struct Asked<'a> {
    /// The root that it ran on, or would run on.
    pub(crate) tree: &'a Tree,
    /// Last components of all paths that it asked for, in all views.
    pub(crate) names: HashSet<&'a [u8]>,
    /// Resolved paths, without leading slash, below which it may have seen files that nobody observed: cache mounts and the like.
    pub(crate) covered: &'a [Vec<u8>],
}

impl<'a> Asked<'a> {
    pub(crate) fn new(tree: &'a Tree, recorded: &'a Recorded, covered: &'a [Vec<u8>]) -> Asked<'a> {
        let facts = recorded.views.iter().flat_map(|v| &v.facts);
        Asked { tree, names: facts.map(|o| oci::index::split(&o.path).1).collect(), covered }
    }
}

/// A run that has ended, for the cases to see whether they apply.
pub(crate) struct Run<'a> {
    pub(crate) recorded: &'a Recorded,
    pub(crate) tree: &'a Tree,
    pub(crate) layer: &'a LayerIndex,
    /// Its command and script.
    pub(crate) text: &'a str,
}

/// A kind of file with a meaning.
trait Meaning: Sync {
    /// Where it lies in the root, without leading slash.
    fn path(&self) -> &'static [u8];
    /// Whether the proof covers what this run did; `id` is the file.
    fn applies(&self, run: &Run<'_>, id: Id) -> bool;
    /// Hashes all of the file that can matter to the step; `None` if that cannot be told.
    fn hash(&self, bytes: &[u8], asked: &Asked<'_>, into: &mut Hasher) -> Option<()>;
}

const CASES: [&dyn Meaning; 1] = [&ldso::LinkerCache];

/// What a file means to a step; `None` if only its bytes can say.
pub(crate) fn meaning(path: &[u8], id: Id, asked: &Asked<'_>, content: &dyn Content) -> Option<Fingerprint> {
    let case = CASES.into_iter().find(|c| c.path() == path)?;
    let inode = asked.tree.get(id)?;
    let Node::File { digest, .. } = &inode.node else { return None };
    if inode.nlink != 1 {
        return None;
    }
    let bytes = content.read_all(digest, MAX_BYTES).ok()?;
    let mut h = Hasher::new();
    h.update(b"m");
    for n in [inode.attrs.mode, inode.attrs.uid, inode.attrs.gid, inode.attrs.xattrs.len() as u32] {
        h.update(&n.to_le_bytes());
    }
    for part in inode.attrs.xattrs.iter().flat_map(|(k, v)| [k, v]) {
        h.update(&(part.len() as u64).to_le_bytes());
        h.update(part);
    }
    case.hash(&bytes, asked, &mut h)?;
    Some(cut(h))
}

/// Replaces the content of files by their meaning, where a proof covers the run.
pub(crate) fn find(
    recorded: &mut Recorded,
    tree: &Tree,
    layer: &LayerIndex,
    text: &str,
    covered: &[Vec<u8>],
    content: &dyn Content,
) {
    let mut found = Vec::new();
    let run = Run { recorded, tree, layer, text };
    for case in CASES {
        let Some(root) = recorded.views.first() else { return };
        let at = root.facts.iter().position(|o| o.path == case.path() && matches!(o.fact, Fact::Content(_)));
        let Some((at, id)) = at.zip(tree.lookup(case.path())) else { continue };
        if case.applies(&run, id)
            && let Some(meaning) = meaning(case.path(), id, &Asked::new(tree, recorded, covered), content)
        {
            found.push((at, Fact::Meaning { exact: attributes(tree, id, true), meaning }));
        }
    }
    for (at, fact) in found {
        recorded.views[0].facts[at].fact = fact;
    }
}
