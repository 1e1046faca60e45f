//! Scratch directories.
use std::path::Path;

use crate::Store;
use crate::error::{Result, pending};

/// An empty directory on the store's file system, removed with everything in it when dropped.
#[derive(Debug)]
pub struct ScratchDir {
    path: std::path::PathBuf,
}

impl ScratchDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// A new scratch directory, mode 0700.
    pub fn scratch(&self) -> Result<ScratchDir> {
        pending()
    }
}
