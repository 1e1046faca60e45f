//! Every path of an image once: a tree of names.
//!
//! A node is a directory's node and a name in it, 12 bytes, found by a hash table of numbers. 150,000 paths take about 6 MB,
//! and what is known about a path is a number beside it.

use std::hash::{BuildHasher, RandomState};

use crate::image::NodeId;

/// The root directory's node.
pub const ROOT: NodeId = NodeId(0);

const FREE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    name: u32,
    len: u16,
}

/// The names of an image.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// Open addressing; a power of two, at most half full.
    table: Vec<u32>,
    /// Keyed, since names are hostile.
    hasher: RandomState,
}

impl Default for Paths {
    fn default() -> Paths {
        let root = Node { parent: 0, name: 0, len: 0 };
        Paths { nodes: vec![root], names: Vec::new(), table: vec![FREE; 64], hasher: RandomState::new() }
    }
}

impl Paths {
    /// Number of nodes; all numbers below are nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.nodes[node.index()].parent)
    }

    pub(crate) fn name(&self, node: NodeId) -> &[u8] {
        let n = self.nodes[node.index()];
        &self.names[n.name as usize..n.name as usize + usize::from(n.len)]
    }

    fn slot(&self, parent: NodeId, name: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut at = self.hasher.hash_one((parent.0, name)) as usize & mask;
        loop {
            let n = self.table[at];
            if n == FREE || (self.nodes[n as usize].parent == parent.0 && self.name(NodeId(n)) == name) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The node of a name in a directory.
    pub(crate) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let n = self.table[self.slot(parent, name)];
        (n != FREE).then_some(NodeId(n))
    }

    /// The node of a name in a directory, made if it is new. Names have at most 255 bytes, as the index checks.
    pub(crate) fn intern(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        if self.nodes.len() * 2 >= self.table.len() {
            self.grow();
        }
        let slot = self.slot(parent, name);
        if self.table[slot] != FREE {
            return NodeId(self.table[slot]);
        }
        let id = self.nodes.len() as u32;
        let at = self.names.len() as u32;
        self.names.extend_from_slice(name);
        self.nodes.push(Node { parent: parent.0, name: at, len: name.len() as u16 });
        self.table[slot] = id;
        NodeId(id)
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        self.table = vec![FREE; size];
        for n in 1..self.nodes.len() as u32 {
            let node = self.nodes[n as usize];
            let name = &self.names[node.name as usize..node.name as usize + usize::from(node.len)];
            let mut at = self.hasher.hash_one((node.parent, name)) as usize & (size - 1);
            while self.table[at] != FREE {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = n;
        }
    }

    /// The node of a path (no leading slash), made if it is new.
    pub(crate) fn intern_path(&mut self, path: &[u8]) -> NodeId {
        components(path).fold(ROOT, |at, name| self.intern(at, name))
    }

    /// The node of a path, if there is one.
    pub(crate) fn find(&self, path: &[u8]) -> Option<NodeId> {
        components(path).try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// Writes the path of a node, without a leading slash.
    pub(crate) fn path(&self, node: NodeId) -> Vec<u8> {
        let mut chain = Vec::new();
        let mut at = node;
        while at != ROOT {
            chain.push(at);
            at = self.parent(at);
        }
        let mut out = Vec::new();
        for &n in chain.iter().rev() {
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(self.name(n));
        }
        out
    }
}

/// The parts of a path.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&c| c == b'/').filter(|c| !c.is_empty() && *c != b".")
}

/// Interns sorted paths: the directories of the path before are remembered.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    path: Vec<u8>,
    /// End of each component in `path`, and its node.
    stack: Vec<(usize, NodeId)>,
}

impl Cursor {
    pub(crate) fn intern(&mut self, paths: &mut Paths, path: &[u8]) -> NodeId {
        let shared = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        while let Some(&(end, _)) = self.stack.last() {
            let whole = end <= shared && path.get(end).is_none_or(|&c| c == b'/');
            if whole {
                break;
            }
            self.stack.pop();
        }
        let (mut from, mut at) = self.stack.last().map_or((0, ROOT), |&(end, n)| (end, n));
        while from < path.len() {
            if path[from] == b'/' {
                from += 1;
                continue;
            }
            let end = path[from..].iter().position(|&c| c == b'/').map_or(path.len(), |i| from + i);
            at = paths.intern(at, &path[from..end]);
            self.stack.push((end, at));
            from = end;
        }
        self.path.clear();
        self.path.extend_from_slice(path);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once_and_found_again() {
        let mut paths = Paths::default();
        let mut cursor = Cursor::default();
        let all: Vec<Vec<u8>> = (0..500)
            .flat_map(|d| (0..7).map(move |f| format!("usr/d{d}/f{f}")))
            .chain(["usr".into(), "usr/d1".into(), "usr/d1.x".into(), "a".into(), String::new()])
            .map(String::into_bytes)
            .collect();
        let ids: Vec<NodeId> = all.iter().map(|p| cursor.intern(&mut paths, p)).collect();
        for (p, id) in all.iter().zip(&ids) {
            assert_eq!(paths.path(*id), *p);
            assert_eq!(paths.find(p), Some(*id));
            assert_eq!(paths.intern_path(p), *id);
        }
        assert_eq!(paths.len(), 1 + 1 + 500 + 3500 + 2, "root, usr, directories, files, usr/d1.x and a");
        assert_eq!(paths.find(b"usr/d1/none"), None);
    }
}
