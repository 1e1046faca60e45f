//! Files by digest: what is durable in `objects/`, `layers/`, `blobs/`, and what this process has staged.
//!
//! A staged file lies in the session's directory under a number, and the table [`Staged`] leads from its key to the number. It
//! belongs to one or more batches; the last owner that gives it up removes it. The commit thread renames it into place and then
//! takes it out of the table, so whoever finds nothing under the number looks in the final place next, and there it is.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::num::NonZeroU32;
use std::sync::RwLock;

use hashbrown::HashTable;

use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::paths::{Dir, Key, Kind};

/// A staged file, by its place in the list of all that this process has staged. No other file gets that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

/// Where a staged file lies and how many batches want it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    /// None since it was put into place, or given up.
    number: Option<NonZeroU32>,
    owners: u32,
    /// A batch that has it, and all that it needs, is on its way to the disk. Batches are written in the order in which they come, so
    /// whoever sees this comes later.
    submitted: bool,
}

/// Staged files of this process. Batches know them by their slots: of a million files, their keys in a table take 70 MB each time.
#[derive(Debug, Default)]
pub(crate) struct Staged(RwLock<Files>);

#[derive(Debug, Default)]
struct Files {
    all: Vec<Entry>,
    /// Those that are staged, by key.
    slots: HashTable<Slot>,
    hashing: RandomState,
}

impl Files {
    fn slot(&self, key: &Key) -> Option<Slot> {
        let hash = self.hashing.hash_one(key);
        self.slots.find(hash, |slot| self.all[slot.0 as usize].key == *key).copied()
    }

    fn get(&self, slot: Slot) -> &Entry {
        &self.all[slot.0 as usize]
    }

    /// Takes a file off the table.
    fn remove(&mut self, slot: Slot) -> Option<NonZeroU32> {
        let entry = &mut self.all[slot.0 as usize];
        let number = entry.number.take()?;
        if let Ok(found) = self.slots.find_entry(self.hashing.hash_one(entry.key), |s| *s == slot) {
            found.remove();
        }
        Some(number)
    }
}

impl Staged {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Files> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Files> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn number(&self, key: &Key) -> Option<u64> {
        let files = self.read();
        files.get(files.slot(key)?).number.map(|n| u64::from(n.get()))
    }

    /// The staged file of a key.
    pub(crate) fn slot(&self, key: &Key) -> Option<Slot> {
        self.read().slot(key)
    }

    /// Key and number of a file, if it is staged still.
    fn file(&self, slot: Slot) -> Option<(Key, u64)> {
        let entry = *self.read().get(slot);
        Some((entry.key, entry.number?.get().into()))
    }

    /// What a file is, also if it is not staged any more.
    pub(crate) fn kind(&self, slot: Slot) -> Kind {
        self.read().get(slot).key.kind
    }

    /// One more owner of a staged file, and whether it was submitted; none if it is not staged.
    pub(crate) fn join(&self, key: &Key) -> Option<(Slot, bool)> {
        let mut files = self.write();
        let slot = files.slot(key)?;
        let entry = &mut files.all[slot.0 as usize];
        entry.owners += 1;
        Some((slot, entry.submitted))
    }

    /// Notes that a batch with these files was submitted: of the layers among them.
    pub(crate) fn submitted<'a>(&self, slots: impl IntoIterator<Item = &'a Slot>) {
        let mut files = self.write();
        for slot in slots {
            let entry = &mut files.all[slot.0 as usize];
            entry.submitted |= entry.key.kind == Kind::Layer;
        }
    }

    /// Puts a new staged file into the table; its number is not 0. False if another thread was quicker, whose file then has one more owner.
    pub(crate) fn insert(&self, key: Key, number: u64) -> (Slot, bool) {
        let mut guard = self.write();
        let files = &mut *guard;
        if let Some(slot) = files.slot(&key) {
            files.all[slot.0 as usize].owners += 1;
            return (slot, false);
        }
        let number = u32::try_from(number).expect("a process stages less than 2^32 files");
        let slot = Slot(u32::try_from(files.all.len()).expect("each has a number of its own"));
        files.all.push(Entry { key, number: NonZeroU32::new(number), owners: 1, submitted: false });
        let hash = |slot: &Slot| files.hashing.hash_one(files.all[slot.0 as usize].key);
        files.slots.insert_unique(hash(&slot), slot, hash);
        (slot, true)
    }

    /// One owner less; gives the number of a file that nobody wants any more.
    pub(crate) fn leave(&self, slot: Slot) -> Option<u64> {
        let mut files = self.write();
        let entry = &mut files.all[slot.0 as usize];
        entry.owners -= 1;
        if entry.owners > 0 {
            return None;
        }
        files.remove(slot).map(|number| number.get().into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().slots.is_empty()
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
    pub(crate) fn staged_name(&self, slot: Slot) -> Result<Option<String>> {
        let Some((_, number)) = self.staged.file(slot) else { return Ok(None) };
        Ok(Some(self.session()?.staged(number)))
    }

    /// Renames a staged file into place. Nothing happens if another batch has done it. Gives whether a directory was made.
    ///
    /// Only the commit thread calls it, after the data were flushed.
    pub(crate) fn place(&self, slot: Slot) -> Result<bool> {
        let Some((key, number)) = self.staged.file(slot) else { return Ok(false) };
        let from = self.session()?.staged(number);
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
        self.staged.write().remove(slot);
        Ok(made)
    }
}
