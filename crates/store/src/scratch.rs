//! Scratch directories: `tmp/<session>/scratch-<n>-<time>`, for the upper and work directories of a step.

use std::path::{Path, PathBuf};

use crate::Store;
use crate::error::Result;

/// An empty directory on the store's file system. Dropped, it is removed with everything in it, whatever its modes and depth, by
/// a background thread.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    store: Store,
}

impl ScratchDir {
    /// Where it is: an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        self.store.core().sweeper.remove(std::mem::take(&mut self.path));
    }
}

impl Store {
    /// A new scratch directory, mode 0700. Scratch directories of a killed process are removed by the next process that writes.
    pub fn scratch(&self) -> Result<ScratchDir> {
        let core = self.core();
        let name = core.session()?.scratch();
        core.root.make_dir(&name)?;
        Ok(ScratchDir { path: core.root.join(name), store: self.clone() })
    }
}
