//! The inodes of a tree and the lists of its directories, in memory: there may be millions, and one tree is made from another.

use std::sync::Arc;

use super::{Id, Inode, Name, Tree};

/// Inodes that are shared, and copied, together.
const PIECE: usize = 32;

/// Inodes by number. Clones share those that are the same in both, in pieces: one by one they would take a quarter more memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Inodes(Vec<Arc<Vec<Inode>>>);

impl Inodes {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE + last.len())
    }

    pub(super) fn get(&self, id: Id) -> Option<&Inode> {
        self.0.get(id as usize / PIECE)?.get(id as usize % PIECE)
    }

    pub(super) fn at(&self, id: Id) -> &Inode {
        &self.0[id as usize / PIECE][id as usize % PIECE]
    }

    pub(super) fn change(&mut self, id: Id) -> &mut Inode {
        &mut Arc::make_mut(&mut self.0[id as usize / PIECE])[id as usize % PIECE]
    }

    pub(super) fn push(&mut self, inode: Inode) {
        match self.0.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => {
                let last = Arc::make_mut(last);
                // A tree that is larger than a piece will fill it.
                if last.len() == last.capacity() {
                    last.reserve_exact(last.len().min(PIECE - last.len()));
                }
                last.push(inode);
            }
            None => {
                let mut piece = Vec::with_capacity(if self.0.is_empty() { 1 } else { PIECE });
                piece.push(inode);
                self.0.push(Arc::new(piece));
            }
        }
    }

    /// Gives back the room that the list has grown for nothing.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}

/// A name in a directory: an inode under its first name, or one of the tree's further names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Set in slots of further names.
const FURTHER: u32 = 1 << 31;

/// There are fewer further names than this.
pub(super) const MAX_FURTHER: usize = FURTHER as usize;

impl Slot {
    /// An inode under the name that it has itself.
    pub(super) fn own(id: Id) -> Slot {
        Slot(id)
    }
}

/// What is in a directory: see [`Tree::children`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing(Arc<Vec<Slot>>);

impl Listing {
    pub(super) fn slots(&self) -> &[Slot] {
        &self.0
    }

    pub(super) fn change(&mut self) -> &mut Vec<Slot> {
        Arc::make_mut(&mut self.0)
    }
}

/// Names of inodes that have another name already: what a hard link makes.
#[derive(Debug, Clone, Default)]
pub(super) struct Further(Arc<Vec<(Name, Id)>>);

impl Further {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, name: Name, id: Id) -> Slot {
        let slot = Slot(FURTHER | self.0.len() as u32);
        Arc::make_mut(&mut self.0).push((name, id));
        slot
    }
}

impl Tree {
    /// Name and inode of a slot of a directory's.
    pub(super) fn named(&self, slot: Slot) -> (&[u8], Id) {
        match slot.0 & FURTHER {
            0 => (&self.inode(slot.0).name, slot.0),
            _ => {
                let (name, id) = &self.further.0[(slot.0 & !FURTHER) as usize];
                (name, *id)
            }
        }
    }
}

/// What is in a directory, sorted by name: names with the inodes that they lead to.
#[derive(Debug, Clone)]
pub struct Children<'t> {
    tree: &'t Tree,
    slots: std::slice::Iter<'t, Slot>,
}

impl<'t> Children<'t> {
    pub(super) fn new(tree: &'t Tree, slots: &'t [Slot]) -> Children<'t> {
        Children { tree, slots: slots.iter() }
    }

    /// Name and inode by their place in the list.
    pub fn get(&self, n: usize) -> Option<(&'t [u8], Id)> {
        self.slots.as_slice().get(n).map(|slot| self.tree.named(*slot))
    }
}

impl<'t> Iterator for Children<'t> {
    type Item = (&'t [u8], Id);

    fn next(&mut self) -> Option<(&'t [u8], Id)> {
        self.slots.next().map(|slot| self.tree.named(*slot))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl DoubleEndedIterator for Children<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.slots.next_back().map(|slot| self.tree.named(*slot))
    }
}

impl ExactSizeIterator for Children<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Attrs, Node, ROOT};

    #[test]
    fn pieces_are_one_list_and_a_clone_keeps_what_it_had() {
        let inode = |n: u32| Inode {
            node: Node::Fifo,
            attrs: Attrs::default(),
            nlink: 1,
            layer: n,
            parent: ROOT,
            name: Name::default(),
        };
        let mut a = Inodes::default();
        for n in 0..3 * PIECE as u32 + 1 {
            assert_eq!((a.len(), a.get(n)), (n as usize, None));
            a.push(inode(n));
        }
        let b = a.clone();
        a.change(PIECE as Id).layer = 7;
        a.push(inode(1000));
        assert_eq!((a.len(), b.len()), (3 * PIECE + 2, 3 * PIECE + 1));
        assert_eq!(a.at(PIECE as Id).layer, 7);
        assert!((0..b.len() as Id).all(|n| b.at(n).layer == n), "the clone is as it was");
        assert!(b.get(b.len() as Id).is_none());
        let shared = |(a, b)| Arc::ptr_eq(a, b);
        assert_eq!(a.0.iter().zip(&b.0).filter(|pair| shared(*pair)).count(), 2);
    }
}
