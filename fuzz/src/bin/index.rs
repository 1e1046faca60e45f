//! Layer indexes: what decodes is encoded and decoded again without loss; what a layer may hold can be written as a tar that reads as the same.

#![no_main]

use oci::content::MemoryContent;
use oci::index::{Entry, Kind};
use oci::tar::{Limits, WriteError, read_layer, write_layer};
use oci::{Digest, LayerIndex};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = LayerIndex::decode(bytes);
    // A first line and a checksum that had to be guessed would keep everything else from being reached.
    let mut whole = b"layercake-index-1\n".to_vec();
    whole.extend_from_slice(bytes);
    whole.extend_from_slice(Digest::of(&whole).as_bytes());
    let Ok((_, decoded)) = LayerIndex::decode(&whole) else { return };
    let (id, encoded) = decoded.encode();
    assert_eq!(LayerIndex::decode(&encoded), Ok((id, decoded.clone())));
    let entries = decoded.into_entries().into_iter().map(sayable).collect();
    let Ok(index) = LayerIndex::from_entries(entries) else { return };
    let mut tar = Vec::new();
    match write_layer(&index, &MemoryContent::default(), &mut tar) {
        Ok(()) => {}
        Err(WriteError::WhiteoutName(_) | WriteError::Xattr { .. } | WriteError::Xattrs { .. }) => return,
        Err(other) => panic!("{other}"),
    }
    let read = read_layer(tar.as_slice(), &mut MemoryContent::default(), &Limits::default());
    assert_eq!(read.expect("our own tar is read"), index);
});

/// An entry as far as a tar can say it: whole seconds, 12 bits of mode, no attributes of overlayfs; files are empty, as no contents are there.
fn sayable(mut entry: Entry) -> Entry {
    if entry.is_bare_marker() {
        return Entry::bare_marker(entry.path);
    }
    if let Kind::File { size, digest } = &mut entry.kind {
        (*size, *digest) = (0, Digest::of(b""));
    }
    entry.attrs.mode &= 0o7777;
    entry.attrs.mtime.nanos = 0;
    entry
        .attrs
        .xattrs
        .retain(|(name, _)| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
    entry
}
