//! Layers as tar streams: what is read and written is canonical, so that reading it gives the same index.
//!
//! The checksum of every block is put right, as nothing would get past it otherwise; an odd last byte leaves them as they are.

#![no_main]

use std::convert::Infallible;

use oci::content::MemoryContent;
use oci::index::EncodedLayer;
use oci::tar::{BLOCK, Limits, read_layer, write_layer};

fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for block in out.chunks_exact_mut(BLOCK).filter(|b| b.iter().any(|&b| b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    out
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let odd = bytes.last().is_some_and(|b| b % 2 == 1);
    let stream = if odd { bytes.to_vec() } else { with_checksums(bytes) };
    let limits = Limits { entries: 1000, metadata: 1 << 20, content: 1 << 20 };
    let mut content = MemoryContent::default();
    let Ok(index) = read_layer(stream.as_slice(), &mut content, &limits) else { return };
    let mut tar = Vec::new();
    if write_layer(&index, &content, &mut tar).is_err() {
        return;
    }
    // Times lose their fractions on the way, and nothing else; after that, nothing changes any more.
    let read = read_layer(tar.as_slice(), &mut content, &Limits::default()).expect("our own tar is read");
    let entries = index.entries().iter().cloned().map(Ok::<_, Infallible>);
    assert_eq!(EncodedLayer::from(&read).same_but_times(entries), Ok(true));
    let mut again = Vec::new();
    write_layer(&read, &content, &mut again).expect("what was read can be written");
    assert_eq!(again, tar);
});
