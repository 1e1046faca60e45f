//! A file system at one place of a build: a stack of layers, its chain, and its tree when somebody asks for it.

use std::sync::{Arc, OnceLock};

use oci::{Digest, LayerIndex, Tree};
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
    /// The top layer, if the store does not have it.
    top: Option<Arc<LayerIndex>>,
    tree: OnceLock<Arc<Tree>>,
}

impl State {
    /// No layer.
    pub(crate) fn empty() -> State {
        State(Arc::new(Inner {
            below: None,
            layers: Vec::new(),
            chain: EMPTY_CHAIN,
            top: None,
            tree: OnceLock::new(),
        }))
    }

    /// The layers of an image.
    pub(crate) fn of_layers(layers: Vec<Digest>) -> State {
        let c = layers.iter().fold(EMPTY_CHAIN, |c, l| chain(&c, l));
        State(Arc::new(Inner { below: None, layers, chain: c, top: None, tree: OnceLock::new() }))
    }

    /// One more layer, which the store has.
    pub(crate) fn push(&self, layer: Digest) -> State {
        self.with(layer, None)
    }

    /// One more layer, which the store need not have.
    pub(crate) fn push_unkept(&self, layer: LayerIndex) -> State {
        self.with(layer.id(), Some(Arc::new(layer)))
    }

    fn with(&self, layer: Digest, top: Option<Arc<LayerIndex>>) -> State {
        let mut layers = self.0.layers.clone();
        layers.push(layer);
        let chain = chain(&self.0.chain, &layer);
        State(Arc::new(Inner { below: Some(self.clone()), layers, chain, top, tree: OnceLock::new() }))
    }

    /// Layer ids, base first.
    pub(crate) fn layers(&self) -> &[Digest] {
        &self.0.layers
    }

    /// Names the stack.
    pub(crate) fn chain(&self) -> Digest {
        self.0.chain
    }

    /// The layer of a number; none if there are not so many.
    pub(crate) fn layer(&self, store: &Store, number: usize) -> Result<Option<Arc<LayerIndex>>, BuildError> {
        let mut at = self;
        while let Some(b) = at.0.below.as_ref().filter(|b| b.0.layers.len() > number) {
            at = b;
        }
        match (&at.0.top, self.0.layers.get(number)) {
            (Some(top), Some(_)) if at.0.layers.len() == number + 1 => Ok(Some(top.clone())),
            (_, Some(id)) => Ok(Some(store.layer(id)?)),
            (_, None) => Ok(None),
        }
    }

    /// The merged tree; made once, from the tree below where there is one.
    pub(crate) fn tree(&self, store: &Store) -> Result<Arc<Tree>, BuildError> {
        if let Some(t) = self.0.tree.get() {
            return Ok(t.clone());
        }
        // The nearest state below that has a tree already; the layers above it are applied to a copy.
        let (mut at, mut above) = (self, Vec::new());
        let mut tree = loop {
            if let Some(t) = at.0.tree.get() {
                break Tree::clone(t);
            }
            match &at.0.below {
                Some(b) => {
                    above.push(at);
                    at = b;
                }
                None => {
                    let mut tree = Tree::new();
                    at.0.layers.iter().try_for_each(|id| apply(store, &mut tree, id))?;
                    break tree;
                }
            }
        };
        for state in above.into_iter().rev() {
            let Some(id) = state.0.layers.last() else { continue };
            match &state.0.top {
                Some(layer) => {
                    tree.apply(layer).map_err(|source| BuildError::Layer { layer: *id, source })?
                }
                None => apply(store, &mut tree, id)?,
            }
        }
        let tree = Arc::new(tree);
        Ok(self.0.tree.get_or_init(|| tree).clone())
    }
}

/// Puts a layer of the store on a tree.
pub(crate) fn apply(store: &Store, tree: &mut Tree, id: &Digest) -> Result<(), BuildError> {
    store.apply_layer(tree, id)?.map_err(|source| BuildError::Layer { layer: *id, source })
}
