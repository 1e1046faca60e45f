//! What a step learned about a tree.
//!
//! The FUSE server's threads write it down while the step runs: bits of inodes in atomics, absent names in one log per thread
//! (the kernel asks once for each, so there is little to keep apart before the end).

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use oci::tree::Id;

/// Which facts about one inode a step learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bits(pub u8);

impl Bits {
    /// Type, mode, owner, size, links, link target, xattrs.
    pub const ATTR: Bits = Bits(1);
    /// The bytes of a file.
    pub const CONTENT: Bits = Bits(2);
    /// The names in a directory, and their types.
    pub const LIST: Bits = Bits(4);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Bits) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Bits {
    type Output = Bits;
    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

/// What a step learned about one tree: the root's, or that of a view mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Inodes of the tree with what was learned of each, by number, none twice.
    pub inodes: Vec<(Id, Bits)>,
    /// Names that were looked for and are not there: directory and name, sorted, none twice.
    pub absent: Vec<(Id, Vec<u8>)>,
    /// Whether access control lists were obeyed, which they are where the tree has any: it shows in files that have none.
    pub acls: bool,
    /// Why the list may lack something; then it is good for nothing but display.
    pub incomplete: Option<String>,
}

impl Seen {
    /// Makes one of what stands there more than once for an inode.
    pub fn merge(&mut self) {
        self.inodes.sort_unstable();
        self.inodes.dedup_by(|b, a| {
            let same = a.0 == b.0;
            if same {
                a.1 = a.1 | b.1;
            }
            same
        });
    }
}

/// Bytes of absent names that one thread's log may hold before it is freed of repeats, and after that at most.
const ABSENT_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
struct AbsentLog {
    names: Vec<u8>,
    /// Directory, start of the name, length.
    items: Vec<(Id, u32, u8)>,
    /// Length of `names` that is next worth looking for repeats.
    next_sweep: usize,
}

impl AbsentLog {
    fn name(&self, item: &(Id, u32, u8)) -> &[u8] {
        &self.names[item.1 as usize..item.1 as usize + item.2 as usize]
    }

    fn sweep(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        items.sort_unstable_by(|a, b| (a.0, self.name(a)).cmp(&(b.0, self.name(b))));
        items.dedup_by(|a, b| a.0 == b.0 && self.name(a) == self.name(b));
        let mut names = Vec::new();
        for item in &mut items {
            let start = names.len();
            names.extend_from_slice(self.name(item));
            item.1 = start as u32;
        }
        self.next_sweep = names.len() * 2;
        *self = AbsentLog { names, items, next_sweep: self.next_sweep };
    }
}

/// Where observations of one tree are written down.
#[derive(Debug)]
pub(crate) struct Recorder {
    bits: Box<[AtomicU8]>,
    absent: Box<[Mutex<AbsentLog>]>,
    incomplete: OnceLock<String>,
}

impl Recorder {
    /// For a tree with inode numbers below `inodes`, written to by `threads` threads.
    pub(crate) fn new(inodes: usize, threads: usize) -> Recorder {
        Recorder {
            bits: (0..inodes).map(|_| AtomicU8::new(0)).collect(),
            absent: (0..threads).map(|_| Mutex::default()).collect(),
            incomplete: OnceLock::new(),
        }
    }

    /// An inode was shown. Stubs have numbers beyond the tree's, and leave no trace.
    pub(crate) fn saw(&self, id: Id, bits: Bits) {
        // Most are known already, and a plain load does not take the cache line from the other threads.
        if let Some(seen) = self.bits.get(id as usize)
            && seen.load(Ordering::Relaxed) & bits.0 != bits.0
        {
            seen.fetch_or(bits.0, Ordering::Relaxed);
        }
    }

    /// A name was found to be absent from a directory.
    pub(crate) fn missed(&self, thread: usize, dir: Id, name: &[u8]) {
        if dir as usize >= self.bits.len() {
            return;
        }
        let mut log = self.absent[thread].lock().unwrap_or_else(PoisonError::into_inner);
        if log.names.len() + name.len() > ABSENT_BYTES {
            if log.names.len() >= log.next_sweep {
                log.sweep();
            }
            if log.names.len() + name.len() > ABSENT_BYTES {
                drop(log);
                return self.spoil("too many absent names");
            }
        }
        let Ok(len) = u8::try_from(name.len()) else { return self.spoil("name longer than 255 bytes") };
        let start = log.names.len() as u32;
        log.names.extend_from_slice(name);
        log.items.push((dir, start, len));
    }

    /// Something happened that is not written down.
    pub(crate) fn spoil(&self, why: &str) {
        self.incomplete.get_or_init(|| why.to_owned());
    }

    /// Everything so far.
    pub(crate) fn collect(&self) -> Seen {
        let inodes = self.bits.iter().enumerate().filter_map(|(id, seen)| {
            let bits = seen.load(Ordering::Relaxed);
            (bits != 0).then_some((id as Id, Bits(bits)))
        });
        let mut absent = Vec::new();
        for log in &self.absent {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            absent.extend(log.items.iter().map(|item| (item.0, log.name(item).to_vec())));
        }
        absent.sort_unstable();
        absent.dedup();
        Seen { inodes: inodes.collect(), absent, acls: false, incomplete: self.incomplete.get().cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_each_fact_once_and_nothing_of_stubs() {
        let r = Recorder::new(3, 2);
        r.saw(1, Bits::ATTR);
        r.saw(1, Bits::ATTR | Bits::CONTENT);
        r.saw(3, Bits::LIST);
        r.missed(0, 2, b"x");
        r.missed(1, 2, b"x");
        r.missed(1, 0, b"y");
        r.missed(1, 3, b"in a stub");
        let seen = r.collect();
        assert_eq!(seen.inodes, [(1, Bits::ATTR | Bits::CONTENT)]);
        assert_eq!(seen.absent, [(0, b"y".to_vec()), (2, b"x".to_vec())]);
        assert_eq!(seen.incomplete, None);
        r.spoil("first");
        r.spoil("second");
        assert_eq!(r.collect().incomplete.as_deref(), Some("first"));
    }

    #[test]
    fn sweeping_a_log_keeps_every_name() {
        let mut log = AbsentLog::default();
        for name in [&b"b"[..], b"a", b"b", b""] {
            let start = log.names.len() as u32;
            log.names.extend_from_slice(name);
            log.items.push((7, start, name.len() as u8));
        }
        log.sweep();
        let names: Vec<&[u8]> = log.items.iter().map(|i| log.name(i)).collect();
        assert_eq!(names, [&b""[..], b"a", b"b"]);
        assert_eq!(log.names, b"ab");
    }
}
