//! A file system at one place of a build: a stack of layers, its chain, and its tree when somebody asks for it.

use std::sync::{Arc, OnceLock};

use oci::{Digest, Tree};
use store::Store;

use crate::error::BuildError;
use crate::key::{EMPTY_CHAIN, chain};

/// A stack of layers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    below: Option<State>,
    layers: Vec<Digest>,
    chain: Digest,
    tree: OnceLock<Arc<Tree>>,
}

impl State {
    /// No layer.
    pub(crate) fn empty() -> State {
        State(Arc::new(Inner { below: None, layers: Vec::new(), chain: EMPTY_CHAIN, tree: OnceLock::new() }))
    }

    /// The layers of an image.
    pub(crate) fn of_layers(layers: Vec<Digest>) -> State {
        let c = layers.iter().fold(EMPTY_CHAIN, |c, l| chain(&c, l));
        State(Arc::new(Inner { below: None, layers, chain: c, tree: OnceLock::new() }))
    }

    /// One more layer.
    pub(crate) fn push(&self, layer: Digest) -> State {
        let mut layers = self.0.layers.clone();
        layers.push(layer);
        let chain = chain(&self.0.chain, &layer);
        State(Arc::new(Inner { below: Some(self.clone()), layers, chain, tree: OnceLock::new() }))
    }

    /// Layer ids, base first.
    pub(crate) fn layers(&self) -> &[Digest] {
        &self.0.layers
    }

    /// Names the stack.
    pub(crate) fn chain(&self) -> Digest {
        self.0.chain
    }

    /// The merged tree; made once, from the tree below where there is one.
    pub(crate) fn tree(&self, store: &Store) -> Result<Arc<Tree>, BuildError> {
        if let Some(t) = self.0.tree.get() {
            return Ok(t.clone());
        }
        // The nearest state below that has a tree already; the layers above it are applied to a copy.
        let mut at = self;
        let mut missing = 0;
        let mut tree = loop {
            if let Some(t) = at.0.tree.get() {
                break Tree::clone(t);
            }
            match &at.0.below {
                Some(b) => {
                    missing += 1;
                    at = b;
                }
                None => {
                    missing = self.0.layers.len();
                    break Tree::new();
                }
            }
        };
        for id in &self.0.layers[self.0.layers.len() - missing..] {
            let layer = store.layer(id)?;
            tree.apply(&layer).map_err(|source| BuildError::Layer { layer: *id, source })?;
        }
        let tree = Arc::new(tree);
        Ok(self.0.tree.get_or_init(|| tree).clone())
    }
}
