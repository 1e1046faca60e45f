//! A layer as its encoding: what was just made, and is to be written, takes half the memory that its entries would.

use super::{
    CHECKSUM, Entries, Entry, IndexError, Kind, LayerIndex, MAGIC, check_entry, compare, put_entry, show,
};
use crate::digest::Digest;
use crate::varint::put;

/// Most bytes of a number.
const NUMBER: usize = 10;

/// A layer, encoded. It was encoded here, so nothing in it can be wrong.
#[derive(Clone)]
pub struct EncodedLayer {
    id: Digest,
    bytes: Vec<u8>,
    /// Where the encoding begins.
    start: usize,
}

/// The entries of a layer on their way into an encoding.
#[derive(Debug)]
pub struct Encoder {
    /// Room for what comes before the entries, among it their number, and then the entries.
    bytes: Vec<u8>,
    before: Option<Vec<u8>>,
    count: u64,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { bytes: vec![0; MAGIC.len() + NUMBER], before: None, count: 0 }
    }
}

impl Encoder {
    /// Adds the next entry. They come in order, in canonical form as to hard links, and none below another that is no directory: as
    /// [`crate::Tree::flatten`] gives them.
    pub fn push(&mut self, mut entry: Entry) -> Result<(), IndexError> {
        check_entry(&mut entry)?;
        let before = self.before.as_deref();
        if before.is_some_and(|before| compare(before, &entry.path).is_ge()) {
            return Err(IndexError::Duplicate(show(&entry.path)));
        }
        put_entry(&mut self.bytes, before.unwrap_or_default(), &entry);
        self.before = Some(entry.path);
        self.count += 1;
        Ok(())
    }

    /// The layer.
    pub fn finish(mut self) -> EncodedLayer {
        let mut head = MAGIC.to_vec();
        put(&mut head, self.count);
        let start = MAGIC.len() + NUMBER - head.len();
        self.bytes[start..][..head.len()].copy_from_slice(&head);
        let id = Digest::of(&self.bytes[start..]);
        self.bytes.extend_from_slice(id.as_bytes());
        self.bytes.shrink_to_fit();
        EncodedLayer { id, bytes: self.bytes, start }
    }
}

impl From<&LayerIndex> for EncodedLayer {
    fn from(layer: &LayerIndex) -> EncodedLayer {
        let (id, bytes) = layer.encode();
        EncodedLayer { id, bytes, start: 0 }
    }
}

impl std::fmt::Debug for EncodedLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedLayer").field("id", &self.id).finish_non_exhaustive()
    }
}

const OWN: &str = "what was encoded here can be decoded";

impl EncodedLayer {
    /// The layer's id.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn encoded(&self) -> Entries<&[u8]> {
        let body = self.bytes().len() - CHECKSUM;
        Entries::of_body(self.bytes(), body).expect(OWN)
    }

    /// The entries, sorted.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.encoded().map(|entry| entry.expect(OWN))
    }

    /// Calls `f` for every entry, until it fails.
    pub fn try_each<E>(&self, mut f: impl FnMut(&Entry) -> Result<(), E>) -> Result<(), E> {
        let mut entries = self.encoded();
        while let Some(entry) = entries.advance() {
            f(entry.expect(OWN))?;
        }
        Ok(())
    }

    /// All entries at once.
    pub fn decode(&self) -> LayerIndex {
        LayerIndex::from_encoded(self.encoded()).expect(OWN)
    }

    /// Every object that the layer needs, in entry order, with repeats.
    pub fn objects(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let mut entries = self.encoded();
        std::iter::from_fn(move || {
            while let Some(entry) = entries.advance() {
                if let Kind::File { size, digest } = entry.expect(OWN).kind {
                    return Some((digest, size));
                }
            }
            None
        })
    }

    /// Bytes of file content that the layer ships, each name of a hard link group once.
    pub fn content_bytes(&self) -> u64 {
        self.objects().map(|(_, size)| size).sum()
    }

    /// Whether this layer and another, whose entries these are, are the same in all but modification times, for comparing two runs of one
    /// step (early cut-off).
    pub fn same_but_times<E>(&self, other: impl IntoIterator<Item = Result<Entry, E>>) -> Result<bool, E> {
        let mut own = self.entries();
        for theirs in other {
            let theirs = theirs?;
            let Some(mut own) = own.next() else { return Ok(false) };
            own.attrs.mtime = theirs.attrs.mtime;
            if own != theirs {
                return Ok(false);
            }
        }
        Ok(own.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Attrs, MAX_PATH, Xattrs};
    use crate::time::Time;

    fn file(path: &str, text: &str) -> Entry {
        let kind = Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
        Entry { path: path.into(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
    }

    #[test]
    fn the_encoding_is_that_of_the_index() {
        for count in [0, 1, 127, 128, 300] {
            let mut entries: Vec<Entry> = (0..count).map(|n| file(&format!("d{n:04}/f"), "x")).collect();
            entries.extend(["z", "zz"].map(|path| Entry {
                path: path.into(),
                kind: Kind::HardLink { target: b"d0000/f".to_vec() },
                attrs: Attrs::default(),
            }));
            let mut encoder = Encoder::default();
            for e in &entries {
                encoder.push(e.clone()).unwrap();
            }
            let encoded = encoder.finish();
            let index = LayerIndex { entries };
            assert_eq!((encoded.id(), encoded.bytes().to_vec()), index.encode(), "{count}");
            assert_eq!(encoded.decode(), index);
            assert_eq!(EncodedLayer::from(&index).entries().collect::<Vec<_>>(), index.entries);
            assert!(encoded.objects().eq(index.objects()));
            assert_eq!(encoded.content_bytes(), count);
        }
    }

    #[test]
    fn what_no_layer_may_hold_is_refused() {
        let refused = |entries: Vec<Entry>| {
            let mut encoder = Encoder::default();
            entries.into_iter().find_map(|e| encoder.push(e).err())
        };
        assert_eq!(refused(vec![file("a", ""), file("a", "")]), Some(IndexError::Duplicate("/a".into())));
        assert_eq!(refused(vec![file("b", ""), file("a", "")]), Some(IndexError::Duplicate("/a".into())));
        let deep = vec!["d"; MAX_PATH / 2 + 1].join("/");
        assert!(matches!(refused(vec![file(&deep, "")]), Some(IndexError::Name(_))));
        let mut twice = file("a", "");
        twice.attrs.xattrs = Xattrs::from(vec![(b"user.a".to_vec(), Vec::new()); 2]);
        assert!(matches!(refused(vec![twice]), Some(IndexError::Xattr { .. })));
    }

    #[test]
    fn times_alone_make_no_difference() {
        let with = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = vec![file("a", "1"), file("b", "2"), Entry::whiteout(b"c".to_vec())];
            change(&mut entries);
            entries
        };
        let layer = EncodedLayer::from(&LayerIndex { entries: with(&|_| ()) });
        let same = |change: &dyn Fn(&mut Vec<Entry>)| {
            layer.same_but_times(with(change).into_iter().map(Ok::<_, ()>)).unwrap()
        };
        assert!(same(&|_| ()));
        assert!(same(&|e| e[1].attrs.mtime = Time::from_secs(7)));
        assert!(!same(&|e| e[1].attrs.mode = 0o600));
        assert!(!same(&|e| drop(e.pop())));
        assert!(!same(&|e| e.push(file("d", ""))));
        assert!(!same(&|e| e[0] = file("a", "3")));
        assert!(!same(&|e| e[0].attrs.xattrs.push((b"user.a".to_vec(), Vec::new()))));
        assert_eq!(layer.same_but_times([Err("unreadable")]), Err("unreadable"));
    }
}
