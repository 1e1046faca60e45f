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

/// Calls `hit` for each of the `files` that a memo knows as it is now, and gives the number of rows; 0 if the memo is damaged, or there
/// is none: then what was said counts for nothing. Files and rows are gone through once, side by side: for a million this takes less
/// time than a million searches, and the memo need not be in memory.
pub(super) fn recall<'a>(
    store: &Store,
    name: &str,
    mut files: Vec<u32>,
    identity: impl Fn(u32) -> &'a Identity,
    mut hit: impl FnMut(u32, Known),
) -> usize {
    let place = |n: u32| (identity(n).dev, identity(n).ino);
    files.sort_unstable_by_key(|n| place(*n));
    let (mut magic, mut rows, mut left) = (false, 0, Vec::new());
    let mut at = 0;
    let whole = store.memo_read(name, |piece| {
        left.extend_from_slice(piece);
        if !magic {
            // The first piece is longer than the line, if there is one.
            magic = left.starts_with(MAGIC);
            left.drain(..MAGIC.len().min(left.len()));
        }
        let mut taken = 0;
        for row in left.chunks_exact(ROW).take_while(|_| magic) {
            (rows, taken) = (rows + 1, taken + ROW);
            let key = (number(row, 0), number(row, 1));
            // Rows out of order are of a memo that somebody else wrote: their files are not found, and read.
            while files.get(at).is_some_and(|n| place(*n) < key) {
                at += 1;
            }
            for n in files[at..].iter().take_while(|n| place(**n) == key) {
                if let Some(known) = known(row, identity(*n)) {
                    hit(*n, known);
                }
            }
        }
        left.drain(..taken);
    });
    if whole && magic && left.is_empty() { rows } else { 0 }
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

/// Which files that are looked at from now on are old enough to be remembered.
#[derive(Clone, Copy)]
pub(super) struct Settled(i64);

impl Settled {
    pub(super) fn before(now: Time) -> Settled {
        Settled(nanos(now.secs, i64::from(now.nanos)) - RACY_NANOS)
    }

    pub(super) fn is(self, id: &Identity) -> bool {
        id.mtime < self.0 && id.ctime < self.0
    }
}

/// Leaves a memo for the next build. One that cannot be kept costs time in the next build, nothing else.
pub(super) fn save<'a>(
    store: &Store,
    name: &str,
    mut files: Vec<u32>,
    row: impl Fn(u32) -> Option<(&'a Identity, &'a Known)>,
) {
    files.sort_unstable_by_key(|n| row(*n).map(|(id, _)| (id.dev, id.ino)));
    let _ = store.memo_write(name, |out| {
        out.write_all(MAGIC)?;
        for (id, known) in files.iter().filter_map(|n| row(*n)) {
            for n in [id.dev, id.ino, id.size, id.mtime.cast_unsigned(), id.ctime.cast_unsigned()] {
                out.write_all(&n.to_le_bytes())?;
            }
            out.write_all(known.digest.as_bytes())?;
            out.write_all(&(u64::from(known.has_xattrs) * HAS_XATTRS).to_le_bytes())?;
        }
        Ok(())
    });
}
