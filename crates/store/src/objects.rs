//! Files by digest: what is durable in `objects/`, `layers/`, `blobs/`, and what this process has staged.
//!
//! A staged file lies in the session's directory under a number, and the map [`Staged`] leads from its key to the number. It
//! belongs to one or more batches; the last owner that gives it up removes it. The commit thread renames it into place and then
//! takes it out of the map, so whoever finds nothing under the number looks in the final place next, and there it is.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::RwLock;

use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::paths::{Dir, Key};

/// Where a staged file lies and how many batches want it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    owners: u32,
    /// A batch that has it, and all that it needs, is on its way to the disk. Batches are written in the order in which they come, so
    /// whoever sees this comes later.
    submitted: bool,
}

/// Staged files of this process.
#[derive(Debug, Default)]
pub(crate) struct Staged(RwLock<HashMap<Key, Entry>>);

impl Staged {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Key, Entry>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Key, Entry>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn number(&self, key: &Key) -> Option<u64> {
        self.read().get(key).map(|e| e.number)
    }

    /// One more owner of a staged file, and whether it was submitted; none if it is not staged.
    pub(crate) fn join(&self, key: &Key) -> Option<bool> {
        self.write().get_mut(key).map(|entry| {
            entry.owners += 1;
            entry.submitted
        })
    }

    /// Notes that a batch with these files was submitted.
    pub(crate) fn submitted(&self, keys: impl IntoIterator<Item = Key>) {
        let mut map = self.write();
        for key in keys {
            if let Some(entry) = map.get_mut(&key) {
                entry.submitted = true;
            }
        }
    }

    /// Puts a new staged file into the map; false if another thread was quicker, whose file then has one more owner.
    pub(crate) fn insert(&self, key: Key, number: u64) -> bool {
        let mut new = false;
        self.write().entry(key).and_modify(|e| e.owners += 1).or_insert_with(|| {
            new = true;
            Entry { number, owners: 1, submitted: false }
        });
        new
    }

    /// One owner less; gives the number of a file that nobody wants any more.
    pub(crate) fn leave(&self, key: &Key) -> Option<u64> {
        let mut map = self.write();
        let entry = map.get_mut(key)?;
        entry.owners -= 1;
        if entry.owners > 0 {
            return None;
        }
        map.remove(key).map(|e| e.number)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }
}

impl Core {
    /// Opens a file by digest. Where there is none the error is [`StoreError::Missing`].
    pub(crate) fn open_key(&self, key: &Key) -> Result<File> {
        if let Some(number) = self.staged.number(key) {
            let name = self.session()?.staged(number);
            match self.root.read(&name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other.at("read", self.root.join(name)),
            }
        }
        let name = key.path();
        match self.root.read(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing { kind: key.kind.noun(), digest: key.digest })
            }
            other => other.at("read", self.root.join(name)),
        }
    }

    /// Whether the file is in the store or staged.
    pub(crate) fn has_key(&self, key: &Key) -> Result<bool> {
        Ok(self.staged.number(key).is_some() || self.root.exists(&key.path())?)
    }

    /// Where a file is staged; `None` if it is in the store by now.
    pub(crate) fn staged_name(&self, key: &Key) -> Result<Option<String>> {
        let Some(number) = self.staged.number(key) else { return Ok(None) };
        Ok(Some(self.session()?.staged(number)))
    }

    /// Renames a staged file into place. Nothing happens if another batch has done it. Gives whether a directory was made.
    ///
    /// Only the commit thread calls it, after the data were flushed.
    pub(crate) fn place(&self, key: &Key) -> Result<bool> {
        let Some(from) = self.staged_name(key)? else { return Ok(false) };
        let to = key.path();
        let mut made = false;
        let mut renamed = self.root.rename_new(&from, &to);
        if let (Err(e), Dir::Objects(_)) = (&renamed, key.dir())
            && e.kind() == io::ErrorKind::NotFound
        {
            made = self.root.make_dir(&key.dir().to_string())?;
            renamed = self.root.rename_new(&from, &to);
        }
        if !renamed.at("write", self.root.join(&to))? {
            // Another process has put the same content there.
            self.root.unlink(&from)?;
        }
        self.staged.write().remove(key);
        Ok(made)
    }
}
