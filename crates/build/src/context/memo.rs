//! What is remembered of a context's files between builds: each file's identity with the digest of its content.
//!
//! A file that was hashed before is not read again while its identity stays the same: device, inode, size, modification and
//! change time in nanoseconds. Size and modification time alone are never trusted: they can be set. A file that changed shortly
//! before it was looked at may change again within the clock's grain; it is hashed, but not remembered (git's racy guard).
//!
//! A change of extended attributes moves the change time, too, so a file that was seen without any is not asked again.
//!
//! # Format
//!
//! A file of the store, named by the digest of the directory's path: the line `layercake-memo-2`, then rows of 80 bytes in the
//! order of their first two fields, little endian: `device, inode, size, mtime ns, ctime ns: u64 each; digest: 32 bytes; flags:
//! u64` (1: has extended attributes). A memo that cannot be read is as good as none.

use oci::{Digest, Time};
use store::Store;

/// A change this close to the time of looking may be followed by one with the same time stamps.
const RACY_NANOS: i64 = 1_000_000_000;

const MAGIC: &[u8] = b"layercake-memo-2\n";
const ROW: usize = 80;
const HAS_XATTRS: u64 = 1;

/// What a file is known by. Times are nanoseconds since 1970, of which 64 bits are good for the years 1678 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
}

/// Nanoseconds since 1970. A time that does not fit wraps around: it is still the same number for the same time, and another for one
/// that is near.
pub(super) fn nanos(secs: i64, nanos: i64) -> i64 {
    secs.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

/// What a memo says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) digest: Digest,
    pub(super) has_xattrs: bool,
}

/// A memo as it was read.
#[derive(Default)]
pub(super) struct Memo(Vec<u8>);

impl Memo {
    pub(super) fn load(store: &Store, name: &str) -> Memo {
        let bytes = store.memo_load(name).unwrap_or_default();
        let whole = bytes.strip_prefix(MAGIC).is_some_and(|rows| rows.len() % ROW == 0);
        Memo(if whole { bytes } else { Vec::new() })
    }

    fn row(&self, i: usize) -> &[u8] {
        &self.0[MAGIC.len() + i * ROW..][..ROW]
    }

    pub(super) fn len(&self) -> usize {
        self.0.len().saturating_sub(MAGIC.len()) / ROW
    }

    /// What is known of a file that is the same as then. The rows are not in order in a memo that somebody else wrote: then
    /// nothing is found, and the file is read.
    pub(super) fn get(&self, id: &Identity) -> Option<Known> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(middle);
            match (number(row, 0), number(row, 1)).cmp(&(id.dev, id.ino)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return known(row, id),
            }
        }
        None
    }
}

fn number(row: &[u8], i: usize) -> u64 {
    row[i * 8..i * 8 + 8].try_into().map_or(0, u64::from_le_bytes)
}

fn known(row: &[u8], id: &Identity) -> Option<Known> {
    let times = [number(row, 3), number(row, 4)].map(u64::cast_signed);
    let same = number(row, 2) == id.size && times == [id.mtime, id.ctime];
    let digest: [u8; 32] = row[40..72].try_into().ok()?;
    same.then(|| Known { digest: Digest::from_bytes(digest), has_xattrs: number(row, 9) & HAS_XATTRS != 0 })
}

/// The memo that a build will leave.
pub(super) struct Rows {
    rows: Vec<(Identity, Known)>,
    racy_from: i64,
}

impl Rows {
    /// For files that are looked at from `now` on.
    pub(super) fn new(now: Time) -> Rows {
        Rows { rows: Vec::new(), racy_from: nanos(now.secs, i64::from(now.nanos)) - RACY_NANOS }
    }

    /// Makes room for so many.
    pub(super) fn reserve(&mut self, files: usize) {
        self.rows.reserve_exact(files);
    }

    /// Remembers a file, if it is old enough.
    pub(super) fn add(&mut self, id: Identity, known: Known) {
        if id.mtime < self.racy_from && id.ctime < self.racy_from {
            self.rows.push((id, known));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn save(mut self, store: &Store, name: &str) {
        self.rows.sort_unstable_by_key(|(id, _)| (id.dev, id.ino));
        let mut out = MAGIC.to_vec();
        out.reserve(self.rows.len() * ROW);
        for (id, known) in &self.rows {
            for n in [id.dev, id.ino, id.size, id.mtime.cast_unsigned(), id.ctime.cast_unsigned()] {
                out.extend_from_slice(&n.to_le_bytes());
            }
            out.extend_from_slice(known.digest.as_bytes());
            out.extend_from_slice(&(u64::from(known.has_xattrs) * HAS_XATTRS).to_le_bytes());
        }
        // A memo that cannot be kept costs time in the next build, nothing else.
        let _ = store.memo_save(name, &out);
    }
}
