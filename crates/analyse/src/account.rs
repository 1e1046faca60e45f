//! What every byte of an image is for.
//!
//! # Figures
//!
//! ```text
//! shipped     = bytes of all file entries of all layers (a hard linked file once in each layer that brings it)
//! live        = bytes of the files that the merged file system has (each inode once)
//! reclaimable = shipped - live                        bytes that are shipped and that nobody can see: dead
//! efficiency  = live / shipped                        1 if nothing is shipped
//! repeated    = live bytes whose content is live at another path, too, but for the first
//! cruft       = live bytes that package managers leave behind and that nothing needs (the cruft database says which)
//! ```
//!
//! A byte is one of content; sizes of sparse files count their holes. Tar headers, padding and directories count nowhere. All figures are
//! there twice: as content, and as part of the compressed layers ([`crate::Packing`] says how that is known).
//!
//! # Causes
//!
//! Every dead, repeated or needless file has exactly one [`Cause`] and is charged in exactly one layer: the one whose
//! instruction has to change for the bytes to go away. Files form *runs* (see `merge`): the same content, moved or with other attributes
//! from layer to layer. In a run every file but the first is a copy that a later layer made: it is charged in *its own* layer, as
//! [`Cause::Metadata`] or [`Cause::Moved`]. The first is charged for what happened to the last: nothing if that is live, else
//! [`Cause::Overwritten`] or [`Cause::Deleted`], in the layer that brought it. So what is charged with one of these four is the
//! reclaimable sum, byte for byte, and no layer is charged for more than it ships.
//!
//! A live run is then [`Cause::Cruft`] if its path is in the database, else [`Cause::Duplicate`] if a run of a lower layer (or an earlier entry)
//! is live with the same content.
//!
//! # Owners
//!
//! What is charged in a layer of the base image is the base's ([`Owner::Base`]): who builds on it cannot mend it. A base's file that a later
//! layer overwrites or deletes is the base's, too; the copy that a `chown` of it makes is yours.

use std::collections::HashMap;

use serde::Serialize;

use crate::image::{ContentId, Entry, EntryId, Layer};
use crate::merge::{ALIVE, Again, Fate};

/// Why a byte is dead, repeated or needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Something else took the path.
    Overwritten,
    /// The same content again at the same path: only mode, owner, times or attributes changed.
    Metadata,
    /// A later layer deleted it.
    Deleted,
    /// The same content again at another path, while the old one was deleted.
    Moved,
    /// The same content is live at another path, too.
    Duplicate,
    /// Left behind by a package manager.
    Cruft,
}

/// What kind of waste a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Shipped, and nobody can see it.
    Dead,
    /// Live, and there more than once.
    Repeated,
    /// Live, and not needed.
    Needless,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 6] =
        [Cause::Overwritten, Cause::Metadata, Cause::Deleted, Cause::Moved, Cause::Duplicate, Cause::Cruft];

    /// What kind of waste it is.
    pub fn class(self) -> Class {
        match self {
            Cause::Overwritten | Cause::Metadata | Cause::Deleted | Cause::Moved => Class::Dead,
            Cause::Duplicate => Class::Repeated,
            Cause::Cruft => Class::Needless,
        }
    }

    /// The word for it, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Overwritten => "overwritten",
            Cause::Metadata => "metadata",
            Cause::Deleted => "deleted",
            Cause::Moved => "moved",
            Cause::Duplicate => "duplicate",
            Cause::Cruft => "cruft",
        }
    }
}

/// Whose layer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The base image's.
    Base,
    /// Of who built this image.
    Yours,
}

/// Numbers of files and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sums {
    /// Files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The same as part of the compressed layers.
    pub packed: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, e: &Entry) {
        self.files += 1;
        self.bytes += e.size;
        self.packed += e.packed;
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.packed += other.packed;
    }
}

/// What a file is charged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Why.
    pub cause: Cause,
    /// The layer that made it so: that overwrote or deleted it, or that brought the copy.
    pub by: usize,
    /// The entry that explains it: what replaced it, what it is a copy of.
    pub peer: Option<EntryId>,
    /// For [`Cause::Cruft`] the rule of the database.
    pub rule: Option<u16>,
}

/// Sums of one layer, or of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// All file entries.
    pub shipped: Sums,
    /// By cause, in the order of [`Cause::ALL`].
    pub causes: [Sums; 6],
}

impl Ledger {
    /// What is charged with a cause.
    pub fn cause(&self, cause: Cause) -> Sums {
        self.causes[cause as usize]
    }

    /// What is charged with causes of a class.
    pub fn class(&self, class: Class) -> Sums {
        let mut out = Sums::default();
        Cause::ALL.iter().filter(|c| c.class() == class).for_each(|&c| out += self.cause(c));
        out
    }
}

/// What every byte of an image is for.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    pub(crate) fates: Vec<Fate>,
    charges: Vec<Option<Charge>>,
    /// Of the whole image.
    pub total: Ledger,
    /// By layer.
    pub layers: Vec<Ledger>,
    /// What the merged file system has, each inode once.
    pub live: Sums,
}

impl Accounts {
    /// What an entry is charged with; `None` for what is live and needed, and for everything but files.
    pub fn charge(&self, id: EntryId) -> Option<&Charge> {
        self.charges.get(id.index())?.as_ref()
    }

    /// The layer that took an entry's last name away; `None` if it is live. Only files and what is like them end; directories do when they are
    /// removed.
    pub fn ended(&self, id: EntryId) -> Option<usize> {
        let fate = self.fates.get(id.index())?;
        (fate.ended != ALIVE).then_some(fate.ended as usize)
    }

    /// Bytes that are shipped and dead.
    pub fn reclaimable(&self) -> Sums {
        self.total.class(Class::Dead)
    }

    /// The exact score: the part of the shipped bytes that is live; 1 if there are none.
    pub fn efficiency(&self) -> f64 {
        match self.total.shipped.bytes {
            0 => 1.0,
            shipped => self.live.bytes as f64 / shipped as f64,
        }
    }
}

/// Charges every file. `cruft` gives the rule of the database that makes an entry needless.
pub(crate) fn account(
    entries: &[Entry],
    layers: &[Layer],
    fates: Vec<Fate>,
    cruft: &dyn Fn(usize) -> Option<u16>,
) -> Accounts {
    let mut out = Accounts {
        charges: vec![None; entries.len()],
        layers: vec![Ledger::default(); layers.len()],
        ..Accounts::default()
    };
    // The first live run with each content: head and live end.
    let mut first: HashMap<ContentId, EntryId> = HashMap::new();
    for (l, layer) in layers.iter().enumerate() {
        for n in layer.range.0..layer.range.1 {
            let e = &entries[n as usize];
            let Some(content) = e.content() else { continue };
            let fate = &fates[n as usize];
            out.layers[l].shipped.add(e);
            if fate.ended == ALIVE {
                out.live.add(e);
            }
            let charge = if let Some(again) = fate.again {
                let cause = match again {
                    Again::Attributes => Cause::Metadata,
                    Again::Moved => Cause::Moved,
                };
                Some(Charge { cause, by: l, peer: Some(fate.previous), rule: None })
            } else {
                let mut last = n;
                while fates[last as usize].next != EntryId::NONE {
                    last = fates[last as usize].next.0;
                }
                let end = &fates[last as usize];
                if end.ended != ALIVE {
                    let by = end.ended as usize;
                    let peer = (end.replaced_by != EntryId::NONE).then_some(end.replaced_by);
                    let cause =
                        if peer.is_some() || e.replaced { Cause::Overwritten } else { Cause::Deleted };
                    Some(Charge { cause, by, peer, rule: None })
                } else if e.size == 0 {
                    None
                } else if let Some(rule) = cruft(last as usize) {
                    Some(Charge { cause: Cause::Cruft, by: l, peer: None, rule: Some(rule) })
                } else {
                    match first.get(&content) {
                        Some(&original) => {
                            let cause = Cause::Duplicate;
                            Some(Charge { cause, by: l, peer: Some(original), rule: None })
                        }
                        None => {
                            first.insert(content, EntryId(n));
                            None
                        }
                    }
                }
            };
            if let Some(c) = &charge {
                out.layers[l].causes[c.cause as usize].add(e);
            }
            out.charges[n as usize] = charge;
        }
    }
    for ledger in &out.layers {
        out.total.shipped += ledger.shipped;
        for (sum, part) in out.total.causes.iter_mut().zip(&ledger.causes) {
            *sum += *part;
        }
    }
    out.fates = fates;
    out
}
