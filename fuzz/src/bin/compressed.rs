//! Compressed layers. The first byte says how the rest is taken: as it is, or packed, so that the tar behind it is reached. What comes
//! out is bounded by what went in, and a second reading of the same bytes gives the same.

#![no_main]

use std::io::{Read, Write};

use oci::compress::Decoder;
use oci::content::MemoryContent;
use oci::tar::{Limits, read_layer};

fn pack(how: u8, bytes: &[u8]) -> Vec<u8> {
    match how % 4 {
        0 => bytes.to_vec(),
        1 => zstd::bulk::compress(bytes, 1).expect("memory is enough"),
        2 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).expect("memory is enough");
            out.finish().expect("memory is enough")
        }
        // The right magic number, and anything behind it.
        _ => {
            let magic: &[u8] = match bytes.first().map_or(0, |b| b % 4) {
                0 => b"\x1f\x8b\x08\0\0\0\0\0\0\0",
                1 => b"\x28\xb5\x2f\xfd",
                2 => b"\xfd7zXZ\0\0\x04",
                _ => b"BZh91AY&SY",
            };
            [magic, bytes.get(1..).unwrap_or_default()].concat()
        }
    }
}

/// What can be had of a stream, up to 4 MiB, and whether it ended well.
fn unpack(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let Ok(decoder) = Decoder::new(bytes) else { return (out, false) };
    let whole = decoder.take(4 << 20).read_to_end(&mut out).is_ok();
    (out, whole)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [how, rest @ ..] = input else { return };
    let packed = pack(*how, rest);
    let first = unpack(&packed);
    assert_eq!(unpack(&packed), first);
    if matches!(how % 4, 1 | 2) {
        assert_eq!(first, (rest.to_vec(), true));
    }
    let limits = Limits { entries: 1000, metadata: 1 << 20, content: 1 << 20 };
    if let Ok(decoder) = Decoder::new(&packed[..]) {
        let _ = read_layer(decoder, &mut MemoryContent::default(), &limits);
    }
});
