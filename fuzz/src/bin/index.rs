//! Layer indexes: what decodes is encoded and decoded again without loss; a valid one without files can be written as a tar that reads
//! as the same.

#![no_main]

use oci::content::MemoryContent;
use oci::tar::{Limits, read_layer, write_layer};
use oci::{Digest, LayerIndex};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = LayerIndex::decode(bytes);
    // A checksum that had to be guessed would keep everything else from being reached: it is put right.
    let mut whole = bytes.to_vec();
    whole.extend_from_slice(Digest::of(bytes).as_bytes());
    let Ok((_, decoded)) = LayerIndex::decode(&whole) else { return };
    let (id, encoded) = decoded.encode();
    assert_eq!(LayerIndex::decode(&encoded), Ok((id, decoded.clone())));
    let Ok(index) = LayerIndex::from_entries(decoded.into_entries()) else { return };
    let mut tar = Vec::new();
    // File contents are not there: only an index without files gets this far.
    if write_layer(&index, &MemoryContent::default(), &mut tar).is_ok() {
        let read = read_layer(tar.as_slice(), &mut MemoryContent::default(), &Limits::default());
        let read = read.expect("our own tar is read");
        assert_eq!(read, index);
    }
});
