//! Going through the entries of a layer several times, decoded or not.

use super::{Entries, Entry, IndexError, LayerIndex};

/// The entries of a layer, gone through several times.
pub(crate) trait Passes {
    /// From the first on.
    fn restart(&mut self);

    /// The next entry.
    fn next(&mut self) -> Result<Option<&Entry>, IndexError>;
}

/// Those of a layer in memory.
pub(crate) struct Listed<'a> {
    entries: &'a [Entry],
    at: usize,
}

impl<'a> Listed<'a> {
    pub(crate) fn new(layer: &'a LayerIndex) -> Listed<'a> {
        Listed { entries: layer.entries(), at: 0 }
    }
}

impl Passes for Listed<'_> {
    fn restart(&mut self) {
        self.at = 0;
    }

    fn next(&mut self) -> Result<Option<&Entry>, IndexError> {
        self.at += 1;
        Ok(self.entries.get(self.at - 1))
    }
}

impl<B: AsRef<[u8]>> Passes for Entries<B> {
    fn restart(&mut self) {
        Entries::restart(self);
    }

    fn next(&mut self) -> Result<Option<&Entry>, IndexError> {
        self.advance().transpose()
    }
}
