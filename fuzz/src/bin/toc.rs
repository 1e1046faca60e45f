//! Tables of contents of layers: the bytes are the JSON of a zstd:chunked layer, and the digest is put right. Of what is taken, every content has
//! all its bytes, in places that are in the blob and nobody else's.

#![no_main]

use std::ops::Range;

use oci::Digest;
use oci::toc::{Announced, TocError};
use oci::types::{Descriptor, media};

/// Where the table begins.
const TABLE: u64 = 100_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let packed = zstd::encode_all(bytes, 1).expect("memory takes all bytes");
    let size = TABLE + packed.len() as u64;
    let mut layer = Descriptor::new(media::LAYER_ZSTD, Digest::of(b"the blob"), size);
    let mut say = |what: &str, value: String| {
        layer.annotations.insert(format!("io.github.containers.zstd-chunked.{what}"), value);
    };
    say("manifest-checksum", Digest::of(&packed).to_string());
    say("manifest-position", format!("{TABLE}:{}:{}:1", packed.len(), bytes.len()));
    let announced = Announced::of(&layer).expect("it is announced");
    let get = &mut |part: Range<u64>| {
        assert_eq!(part, TABLE..size);
        Ok::<_, TocError>(packed.clone())
    };
    let Ok(toc) = announced.read(get) else { return };
    for content in &toc.contents {
        let mut at = 0;
        for chunk in &content.chunks {
            assert!(chunk.at == at && chunk.size > 0);
            at += chunk.size;
        }
        assert_eq!(at, content.size);
        let pieces: Vec<usize> = content.chunks.iter().filter_map(|c| c.piece).collect();
        assert!(content.run.as_ref().is_none_or(|run| run.clone().eq(pieces)));
    }
    assert!(toc.frames.iter().all(|f| f.start < f.end && f.end <= TABLE));
    assert!(toc.frames.windows(2).all(|w| w[0].end <= w[1].start));
    let mut filled = (0, 0);
    for piece in &toc.pieces {
        assert!((piece.frame, piece.inner) >= filled);
        let chunk = &toc.contents[piece.content].chunks[piece.chunk];
        filled = (piece.frame, piece.inner + chunk.size);
        assert!(chunk.piece.is_some());
    }
    for (digest, size) in toc.index.objects().filter(|(_, size)| *size > 0) {
        assert!(toc.contents.iter().any(|c| (c.digest, c.size) == (digest, size)));
    }
});
