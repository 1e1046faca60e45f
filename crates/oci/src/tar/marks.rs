//! The digest of a layer's tar, begun where that of another layer left off.
//!
//! The digest of a layer's tar, its diff ID, is over every byte of every file. A layer that begins as an earlier one did, since only a file
//! further on changed, has a tar that begins with the same bytes. So the hasher's state is kept after some of the entries, as a [`Mark`],
//! and found again by what came before it:
//!
//! - A mark's name is the sha256 of `"layercake-tar-2\n"` and of the entries before it, as the layer index encodes them. The writer makes the
//!   bytes of an entry from the entry alone, so equal names mean equal bytes. Who changes what the writer makes changes this word.
//! - The first mark comes after 4 MiB, and each further one when a 32nd more has passed, but no less than 4 MiB. What counts as passed is
//!   512 bytes an entry and the size of a file: so where marks lie follows from the entries before them, too, and two layers that begin
//!   alike have them at the same places.

use std::io;

use super::BLOCK;
use super::write::{LayerWriter, WriteError, WriteOptions};
use crate::content::Content;
use crate::digest::{Digest, Hasher, Hashing};
use crate::index::{Entries, IndexError, Kind, LayerIndex, Listed, Passes, put_entry};

const MAGIC: &[u8] = b"layercake-tar-2\n";

/// Bytes between two marks, at least.
const STEP: u64 = 4 << 20;

/// A hasher's state after some entries of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its name: what came before.
    pub prefix: Digest,
    /// [`Hasher::state`].
    pub state: Vec<u8>,
}

/// What is known of a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// The diff ID.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Marks that were not known yet.
    pub marks: Vec<Mark>,
}

/// Where marks of a layer lie: the number of entries before each, and its name.
fn places(layer: &mut impl Passes, step: u64) -> Result<Vec<(usize, Digest)>, IndexError> {
    let mut out = Vec::new();
    let mut names = Hasher::new();
    names.update(MAGIC);
    let (mut passed, mut next) = (0u64, step);
    let (mut bytes, mut before, mut n) = (Vec::new(), Vec::new(), 0);
    layer.restart();
    while let Some(e) = layer.next()? {
        bytes.clear();
        put_entry(&mut bytes, &before, e);
        names.update(&bytes);
        before.clear();
        before.extend_from_slice(&e.path);
        n += 1;
        passed += BLOCK as u64;
        if let Kind::File { size, .. } = e.kind {
            passed = passed.saturating_add(size);
        }
        if passed >= next {
            out.push((n, names.clone().finish()));
            next = passed.saturating_add(step.max(passed / 32));
        }
    }
    Ok(out)
}

/// The digest of the tar that [`write::write_layer`] makes of a layer. `known` is asked for the state of a mark by its name, the last
/// mark first; a state that is damaged counts as none.
pub fn digest_layer(
    index: &LayerIndex,
    content: &dyn Content,
    known: &mut dyn FnMut(&Digest) -> Option<Vec<u8>>,
) -> Result<Digested, WriteError> {
    digest_in_steps(&mut Listed::new(index), content, known, STEP)
}

/// [`digest_layer`] for a layer that is not decoded as a whole.
pub fn digest_encoded<B: AsRef<[u8]>>(
    layer: &mut Entries<B>,
    content: &dyn Content,
    known: &mut dyn FnMut(&Digest) -> Option<Vec<u8>>,
) -> Result<Digested, WriteError> {
    digest_in_steps(layer, content, known, STEP)
}

fn digest_in_steps(
    layer: &mut impl Passes,
    content: &dyn Content,
    known: &mut dyn FnMut(&Digest) -> Option<Vec<u8>>,
    step: u64,
) -> Result<Digested, WriteError> {
    let places = places(layer, step)?;
    let found = places.iter().enumerate().rev().find_map(|(n, (entries, name))| {
        let hasher = Hasher::resume(&known(name)?)?;
        Some((n + 1, *entries, hasher))
    });
    let (skipped, first, hasher) = found.unwrap_or((0, 0, Hasher::new()));
    let mut places = places.into_iter().skip(skipped).peekable();
    let options = WriteOptions::default();
    let mut writer = LayerWriter::new(Hashing::resume(io::sink(), hasher), content, &options);
    let mut marks = Vec::new();
    let mut n = 0;
    layer.restart();
    while let Some(entry) = layer.next()? {
        n += 1;
        if n <= first {
            continue;
        }
        writer.entry(entry)?;
        if let Some((_, prefix)) = places.next_if(|(entries, _)| *entries == n) {
            marks.push(Mark { prefix, state: writer.out().hasher().state() });
        }
    }
    let (_, digest, size) = writer.finish()?.finish();
    Ok(Digested { digest, size, marks })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::content::ReadAt;
    use crate::index::{Attrs, Entry};
    use crate::tar::write_layer;

    /// Files whose bytes follow from their digests; it counts how many are opened.
    #[derive(Debug, Default)]
    struct Files {
        texts: HashMap<Digest, Arc<Vec<u8>>>,
        opened: AtomicUsize,
    }

    #[derive(Debug)]
    struct Bytes(Arc<Vec<u8>>);

    impl ReadAt for Bytes {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = &self.0[(offset as usize).min(self.0.len())..];
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
    }

    impl Content for Files {
        fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let text = self.texts.get(digest).ok_or(io::ErrorKind::NotFound)?;
            Ok(Arc::new(Bytes(text.clone())))
        }
    }

    impl Files {
        fn file(&mut self, path: &str, byte: u8, size: usize) -> Entry {
            let text = vec![byte; size];
            let digest = Digest::of(&text);
            self.texts.insert(digest, Arc::new(text));
            let kind = Kind::File { size: size as u64, digest };
            Entry { path: path.into(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
        }

        fn opened(&self) -> usize {
            self.opened.swap(0, Ordering::Relaxed)
        }
    }

    fn plain(index: &LayerIndex, files: &Files) -> (Digest, u64) {
        let mut out = Hashing::new(io::sink());
        write_layer(index, files, &mut out).unwrap();
        let (_, digest, size) = out.finish();
        files.opened();
        (digest, size)
    }

    #[test]
    fn a_tar_that_begins_as_another_is_not_hashed_again() {
        let mut files = Files::default();
        let mut entries: Vec<Entry> =
            (0..40u8).map(|n| files.file(&format!("f{n:02}"), n, 700 + usize::from(n))).collect();
        entries[3].attrs.xattrs = vec![(b"user.long".to_vec(), vec![7; 300])].into();
        let index = LayerIndex::from_entries(entries.clone()).unwrap();
        let mut known: HashMap<Digest, Vec<u8>> = HashMap::new();
        let first = digest_in_steps(&mut Listed::new(&index), &files, &mut |_| None, 4096).unwrap();
        assert_eq!(files.opened(), 40);
        assert_eq!((first.digest, first.size), plain(&index, &files));
        assert_eq!(first.marks.len(), 10, "one for each four files, of which each is about 1 KiB");
        known.extend(first.marks.iter().map(|m| (m.prefix, m.state.clone())));

        // Nothing changed: the end alone is hashed.
        let again =
            digest_in_steps(&mut Listed::new(&index), &files, &mut |name| known.get(name).cloned(), 4096)
                .unwrap();
        assert_eq!((again.digest, again.size, again.marks.len()), (first.digest, first.size, 0));
        assert_eq!(files.opened(), 0);

        // One file of any place is another, or has another mode, or is gone, or is new.
        for n in 0..40 {
            let mut changed = entries.clone();
            match n % 4 {
                0 => changed[n] = files.file(&format!("f{n:02}"), 200, 1000),
                1 => changed[n].attrs.mode = 0o755,
                2 => drop(changed.remove(n)),
                _ => changed.insert(n, files.file(&format!("f{:02}x", n - 1), 201, 5)),
            }
            let index = LayerIndex::from_entries(changed).unwrap();
            let got =
                digest_in_steps(&mut Listed::new(&index), &files, &mut |name| known.get(name).cloned(), 4096)
                    .unwrap();
            let opened = files.opened();
            assert_eq!((got.digest, got.size), plain(&index, &files), "change at {n}");
            assert!(opened <= 41 - n / 4 * 4, "change at {n}: {opened} files were read");
        }
    }

    #[test]
    fn damaged_marks_count_as_none() {
        let mut files = Files::default();
        let entries = (0..8u8).map(|n| files.file(&format!("f{n}"), n, 1500)).collect();
        let index = LayerIndex::from_entries(entries).unwrap();
        let whole = digest_in_steps(&mut Listed::new(&index), &files, &mut |_| None, 4096).unwrap();
        let states: HashMap<Digest, Vec<u8>> =
            whole.marks.iter().map(|m| (m.prefix, m.state.clone())).collect();
        type Damage = fn(&mut Vec<u8>);
        let damages: [Damage; 4] = [|s| s[20] ^= 1, |s| s[30] ^= 1, |s| s.truncate(50), |s| s.clear()];
        for damage in damages {
            files.opened();
            let got = digest_in_steps(
                &mut Listed::new(&index),
                &files,
                &mut |name| {
                    let mut state = states[name].clone();
                    damage(&mut state);
                    Some(state)
                },
                4096,
            );
            assert_eq!(got.unwrap().digest, whole.digest);
            assert_eq!(files.opened(), 8);
        }
    }
}
