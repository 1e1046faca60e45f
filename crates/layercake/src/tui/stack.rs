//! All paths of an image in the order of a walk.
//!
//! A directory's content follows it, `end` tells where it ends, and a parent's number is always less than its children's. What is
//! asked of a whole tree (comparisons, sums, filters) is then one pass over an array.

use std::sync::Arc;

use analyse::{EntryId, Image, Kind, What};

/// Number of a path, in the order of a walk.
pub(crate) type NodeId = u32;

/// The root directory.
pub(crate) const ROOT: NodeId = 0;

/// What a path is at some point of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As an entry of a layer says.
    Entry(EntryId),
    /// A directory that no layer has an entry for.
    Implied,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    own: analyse::NodeId,
    parent: NodeId,
    end: NodeId,
    depth: u32,
}

/// The paths of an image. See the module.
#[derive(Debug)]
pub(crate) struct Stack {
    image: Arc<Image>,
    nodes: Vec<Node>,
    /// By the image's own number.
    places: Vec<NodeId>,
}

impl Stack {
    /// Puts the paths of an image in order.
    pub(crate) fn new(image: Arc<Image>) -> Stack {
        let count = image.node_count();
        let mut nodes: Vec<Node> = Vec::with_capacity(count);
        let mut places = vec![ROOT; count];
        let mut todo = vec![(analyse::ROOT, ROOT, 0)];
        while let Some((own, parent, depth)) = todo.pop() {
            let id = nodes.len() as NodeId;
            places[own.0 as usize] = id;
            nodes.push(Node { own, parent, end: id + 1, depth });
            todo.extend(image.children(own).iter().rev().map(|&c| (c, id, depth + 1)));
        }
        for id in (1..nodes.len()).rev() {
            let Node { parent, end, .. } = nodes[id];
            let above = &mut nodes[parent as usize].end;
            *above = (*above).max(end);
        }
        Stack { image, nodes, places }
    }

    /// The image.
    pub(crate) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Number of paths, the root among them.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The image's own number of a path.
    pub(crate) fn own(&self, id: NodeId) -> analyse::NodeId {
        self.nodes[id as usize].own
    }

    /// The path that the image knows by this number.
    pub(crate) fn place(&self, own: analyse::NodeId) -> NodeId {
        self.places[own.0 as usize]
    }

    /// The directory of a path; the root's is the root.
    pub(crate) fn parent(&self, id: NodeId) -> NodeId {
        self.nodes[id as usize].parent
    }

    /// Components of the path.
    pub(crate) fn depth(&self, id: NodeId) -> usize {
        self.nodes[id as usize].depth as usize
    }

    /// What lies directly in a directory, by name.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.nodes[id as usize].end;
        let mut at = id + 1;
        std::iter::from_fn(move || {
            let child = (at < end).then_some(at)?;
            at = self.nodes[child as usize].end;
            Some(child)
        })
    }

    /// The last component of the path.
    pub(crate) fn name(&self, id: NodeId) -> &[u8] {
        self.image.file_name(self.own(id))
    }

    /// The path, with a leading slash.
    pub(crate) fn path(&self, id: NodeId) -> Vec<u8> {
        let mut out = vec![b'/'];
        out.extend(self.image.path(self.own(id)));
        out
    }

    /// What a path is when the first `layers` layers are merged.
    pub(crate) fn state(&self, id: NodeId, layers: usize) -> Option<State> {
        match self.image.at(self.own(id), layers.checked_sub(1)?) {
            Some(What::Set(entry)) => Some(State::Entry(entry)),
            Some(_) => Some(State::Implied),
            None => (id == ROOT).then_some(State::Implied),
        }
    }

    /// The entry of a state; directories that no layer speaks of have none.
    pub(crate) fn entry(&self, state: State) -> Option<&analyse::Entry> {
        match state {
            State::Entry(id) => Some(self.image.entry(id)),
            State::Implied => None,
        }
    }

    /// Whether a state is a directory.
    pub(crate) fn is_dir(&self, state: State) -> bool {
        self.entry(state).is_none_or(|e| matches!(e.kind, Kind::Directory { .. }))
    }

    /// Bytes of a state's content. Further names of a file have none of their own.
    pub(crate) fn size(&self, state: State) -> u64 {
        self.entry(state).map_or(0, |e| e.size)
    }

    /// The file that a state's bytes are in: itself, or what a hard link leads to when the layers up to its own are merged.
    pub(crate) fn file(&self, state: State) -> Option<EntryId> {
        let State::Entry(mut id) = state else { return None };
        let mut upto = self.image.layer_of(id);
        // A link leads to a file of its own layer, or to something of a layer before: each step goes down or ends.
        loop {
            let entry = self.image.entry(id);
            let Kind::HardLink { .. } = entry.kind else { return entry.is_file().then_some(id) };
            let target = self.image.find(self.image.link_target(entry)?)?;
            let next = match self.image.entry_at(target, upto) {
                Some(next) if self.image.entry(next).is_file() => next,
                _ => {
                    upto = upto.checked_sub(1)?;
                    self.image.entry_at(target, upto)?
                }
            };
            id = next;
        }
    }
}
