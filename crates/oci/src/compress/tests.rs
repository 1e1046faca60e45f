use std::io::Read;
use std::process::{Command, Stdio};

use super::*;

/// Bytes that compress like a layer does: repeats near and far, some noise. Deterministic.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(len + 64);
    while out.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (state >> 33) as usize;
        if out.len() > 4096 && !pick.is_multiple_of(4) {
            let from = out.len() - 1 - pick % out.len().min(200_000);
            let n = (8 + pick % 90).min(out.len() - from);
            out.extend_from_within(from..from + n);
        } else {
            out.extend_from_slice(&state.to_le_bytes()[..5]);
        }
    }
    out.truncate(len);
    out
}

fn compress(input: &[u8], compression: Compression, threads: usize, cut: usize) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new(), compression, threads).unwrap();
    for piece in input.chunks(cut) {
        e.write_all(piece).unwrap();
    }
    e.finish().unwrap()
}

fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new(bytes)?.read_to_end(&mut out)?;
    Ok(out)
}

/// What a tool of the system makes of the input; `None` if it is not installed.
fn tool(argv: &[&str], input: &[u8]) -> Option<(bool, Vec<u8>)> {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Some((out.status.success(), out.stdout))
}

const ALL: [Compression; 6] = [
    Compression::None,
    Compression::Gzip(0),
    Compression::Gzip(1),
    Compression::Gzip(6),
    Compression::Zstd(0),
    Compression::Zstd(9),
];

#[test]
fn every_length_round_trips() {
    const MIB: usize = 1 << 20;
    let input = sample(2 * MIB + 100);
    for compression in ALL {
        for len in [0, 1, 511, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 100] {
            let bytes = compress(&input[..len], compression, 1, 64 * 1024);
            assert!(decompress(&bytes).unwrap() == input[..len], "{compression:?} {len}");
        }
    }
}

#[test]
fn threads_and_the_cutting_of_writes_change_nothing() {
    let input = sample(5_500_000);
    for compression in
        [Compression::Gzip(0), Compression::Gzip(1), Compression::Gzip(6), Compression::Zstd(3)]
    {
        let want = compress(&input, compression, 1, input.len());
        for (threads, cut) in [(1, 1000), (2, 65_536), (3, 4_000_001), (8, 777_777)] {
            assert!(compress(&input, compression, threads, cut) == want, "{compression:?} {threads} {cut}");
        }
    }
}

#[test]
fn a_block_does_not_depend_on_what_its_thread_did_before() {
    // Long enough that a state used again shows in the output (zlib-rs' did, in the twelfth block).
    let input = sample(12 << 20);
    let alone = compress(&input, Compression::Gzip(1), 1, 1 << 20);
    assert!(compress(&input, Compression::Gzip(1), 12, 1 << 20) == alone);
}

#[test]
fn blocks_are_joined_at_every_bit() {
    // The last code of a block ends at any of the eight bits of a byte, and a block may be of any kind.
    let input = sample(3 << 20);
    for shift in 0..64 {
        let mut blocks: Vec<u8> = input[shift * 4096..].iter().copied().take((1 << 20) + shift).collect();
        // Nearly nothing: fixed codes. Then a block that is all one byte.
        blocks.resize((2 << 20) + shift % 3, b'a');
        let bytes = compress(&blocks, Compression::Gzip(6), 1, 1 << 20);
        assert!(decompress(&bytes).unwrap() == blocks, "{shift}");
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut first).unwrap();
        assert_eq!(first.len(), blocks.len(), "one member has it all");
    }
}

#[test]
fn a_dropped_encoder_leaves_a_stream_that_is_cut_off() {
    for (compression, threads) in
        [(Compression::Gzip(6), 2), (Compression::Gzip(6), 1), (Compression::Zstd(3), 2)]
    {
        let mut out = Vec::new();
        let mut e = Encoder::new(&mut out, compression, threads).unwrap();
        e.write_all(&sample(3_000_000)).unwrap();
        drop(e);
        // There may be nothing yet.
        assert!(decompress(&out).map_or(true, |got| got.is_empty()), "{compression:?}");
    }
}

#[test]
fn a_writer_that_fails_ends_the_compression() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(buf.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in ALL {
        let mut e = Encoder::new(Full(1000), compression, 2).unwrap();
        let input = sample(6_000_000);
        let result = e.write_all(&input).and_then(|()| e.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull, "{compression:?}");
    }
}

#[test]
fn formats_are_known_by_their_magic() {
    for (head, want) in [
        (&b"\x1f\x8b\x08\0"[..], Format::Gzip),
        (b"\x28\xb5\x2f\xfd", Format::Zstd),
        (b"\x5a\x2a\x4d\x18", Format::Zstd),
        (b"\xfd7zXZ\0", Format::Xz),
        (b"BZh91AY&SY", Format::Bzip2),
        (b"BZh9\x17\x72\x45\x38\x50\x90", Format::Bzip2),
        (b"BZh9 is a word", Format::None),
        (b"\x1f\x8b", Format::None),
        (b"", Format::None),
        (b"etc/\0\0\0\0", Format::None),
    ] {
        assert_eq!(sniff(head), want, "{head:?}");
    }
}

#[test]
fn short_and_plain_streams_come_as_they_are() {
    for plain in [&b""[..], b"x", b"\x1f", b"BZh9", b"just a text of some length"] {
        let mut decoder = Decoder::new(plain).unwrap();
        let mut out = Vec::new();
        decoder.read_to_end(&mut out).unwrap();
        assert_eq!((decoder.format(), &out[..]), (Format::None, plain));
    }
}

/// One compressed stream of each format, made by the libraries.
fn streams(input: &[u8]) -> Vec<(Format, Vec<u8>)> {
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
    bz.write_all(input).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(input).unwrap();
    vec![
        (Format::Gzip, compress(input, Compression::Gzip(6), 1, 1 << 20)),
        (Format::Zstd, compress(input, Compression::Zstd(3), 1, 1 << 20)),
        (Format::Bzip2, bz.finish().unwrap()),
        (Format::Xz, xz.finish().unwrap()),
    ]
}

#[test]
fn parts_are_joined_and_damage_is_noticed() {
    let input = sample(150_000);
    for (format, one) in streams(&input) {
        assert_eq!(sniff(&one), format);
        let (_, empty) = streams(b"").into_iter().find(|(f, _)| *f == format).unwrap();
        let joined = [&one[..], &empty, &one].concat();
        assert!(decompress(&joined).unwrap() == [&input[..], &input].concat(), "{format}");
        for cut in [11, one.len() / 2, one.len() - 5, one.len() - 1] {
            let error = decompress(&one[..cut]).expect_err("a stream that is cut off");
            assert!(error.to_string().starts_with(&format!("{format}: ")), "{error}");
        }
        assert!(decompress(&joined[..joined.len() - 1]).is_err(), "{format}");
        for garbage in [&b"garbage after the end"[..], b"\0", b"\0\0\0"] {
            assert!(decompress(&[&one[..], garbage].concat()).is_err(), "{format} {garbage:?}");
        }
        let mut flipped = one.clone();
        flipped[one.len() / 2] ^= 0x10;
        assert!(!decompress(&flipped).is_ok_and(|out| out == input), "{format}");
    }
}

#[test]
fn all_fields_of_a_gzip_header_are_passed_over() {
    let plain = compress(b"content", Compression::Gzip(6), 1, 100);
    let mut head = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x03\0abcname\0comment\0".to_vec();
    let check = crc32fast::hash(&head) as u16;
    head.extend_from_slice(&check.to_le_bytes());
    assert_eq!(decompress(&[&head, &plain[10..]].concat()).unwrap(), b"content");
}

#[test]
fn skippable_frames_are_skipped() {
    let frame = compress(b"content", Compression::Zstd(3), 1, 100);
    let skip = b"\x50\x2a\x4d\x18\x08\0\0\0SKIPPED!";
    assert_eq!(decompress(&[&skip[..], &frame, skip, &frame].concat()).unwrap(), b"contentcontent");
}

#[test]
fn zstd_windows_are_bounded() {
    let with_window = |log: u32| {
        let mut e = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        e.window_log(log).unwrap();
        e.write_all(b"content").unwrap();
        e.finish().unwrap()
    };
    assert_eq!(decompress(&with_window(MAX_WINDOW_LOG)).unwrap(), b"content");
    let error = decompress(&with_window(MAX_WINDOW_LOG + 1)).unwrap_err();
    assert!(error.to_string().contains("too much memory"), "{error}");
}

#[test]
fn xz_dictionaries_are_bounded() {
    let with_dictionary = |bytes: u32| {
        let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        options.dict_size(bytes);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut e = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        e.write_all(b"content").unwrap();
        e.finish().unwrap()
    };
    assert_eq!(decompress(&with_dictionary(64 << 20)).unwrap(), b"content");
    assert!(decompress(&with_dictionary(512 << 20)).is_err());
}

#[test]
fn the_systems_tools_agree() {
    let input = sample(3_000_000);
    for (argv, compression) in [
        (["gzip", "-dc"], Compression::Gzip(6)),
        (["gzip", "-dc"], Compression::Gzip(0)),
        (["zstd", "-dc"], Compression::Zstd(3)),
    ] {
        let bytes = compress(&input, compression, 2, 100_000);
        match tool(&argv, &bytes) {
            Some((ok, out)) => assert!(ok && out == input, "{argv:?}"),
            None => skipped(argv[0]),
        }
    }
    for argv in [["gzip", "-c"], ["zstd", "-c"], ["xz", "-c"], ["bzip2", "-c"]] {
        match tool(&argv, &input) {
            Some((ok, bytes)) => assert!(ok && decompress(&bytes).unwrap() == input, "{argv:?}"),
            None => skipped(argv[0]),
        }
    }
    if let Some((true, theirs)) = tool(&["gzip", "-6nc"], &input) {
        let ours = compress(&input, Compression::Gzip(6), 2, 100_000).len();
        assert!(ours * 100 < theirs.len() * 101, "{ours} bytes, gzip makes {}", theirs.len());
    }
}

/// Says on the test's output that a part did not run.
fn skipped(what: &str) {
    let _ = writeln!(io::stderr(), "skipped: {what} is not installed");
}

#[test]
fn bombs_are_cut_off() {
    let zeros = vec![0u8; 4 << 20];
    let growth = Growth { free: 1 << 20, factor: 50 };
    let read = |packed: &[u8]| {
        let mut out = Vec::new();
        let e = Decoder::new(packed).unwrap().with_growth(growth).read_to_end(&mut out).err();
        (e.map(|e| e.to_string()).unwrap_or_default(), out.len())
    };
    let gzip = compress(&zeros, Compression::Gzip(6), 1, 1 << 20);
    let zstd = compress(&zeros, Compression::Zstd(3), 1, 1 << 20);
    let mut bombs = vec![gzip.clone(), zstd];
    // Many small members, each harmless by itself.
    let member = compress(&zeros[..100_000], Compression::Gzip(6), 1, 1 << 20);
    bombs.push(member.repeat(60));
    bombs.extend([&["xz", "-c"][..], &["bzip2", "-c"]].iter().filter_map(|argv| Some(tool(argv, &zeros)?.1)));
    for bomb in &bombs {
        let (error, len) = read(bomb);
        assert!(error.contains("a decompression bomb"), "{error} {len}");
        assert!(
            len as u64 <= growth.free + growth.factor * bomb.len() as u64 + (1 << 18),
            "{len} of {}",
            bomb.len()
        );
    }
    // What is small stays what it is, and so does what does not shrink so well.
    assert_eq!(
        read(&compress(&zeros[..1 << 20], Compression::Gzip(6), 1, 1 << 20)),
        (String::new(), 1 << 20)
    );
    let (plain, noise) = (sample(4 << 20), compress(&sample(4 << 20), Compression::Gzip(6), 1, 1 << 20));
    assert_eq!(read(&noise), (String::new(), plain.len()));
    // Members without content cost their own bytes and no more.
    let empty = compress(&[], Compression::Gzip(6), 1, 1).repeat(100_000);
    assert_eq!(read(&empty), (String::new(), 0));
}

/// Bytes without any order.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

#[test]
fn gzip_stores_what_cannot_shrink_and_deflates_the_rest() {
    const SEGMENT: usize = 128 * 1024;
    let text = sample(SEGMENT);
    let noise = noise(3 * SEGMENT);
    let alone = |input: &[u8]| compress(input, Compression::Gzip(6), 1, SEGMENT).len();
    assert_eq!(alone(&noise), noise.len() + 7 * 5 + 18, "seven stored blocks, header and trailer");
    // Noise at the beginning, at the end, between, across the border of a block, and too short to be looked at.
    for pieces in [
        vec![&noise[..], &text, &text],
        vec![&text, &noise[..SEGMENT], &text, &noise],
        vec![&text[..1000], &noise, &text, &noise[..700]],
        [&text[..]; 7].into_iter().chain([&noise[..], &text]).collect(),
    ] {
        let input = pieces.concat();
        let bytes = compress(&input, Compression::Gzip(6), 1, 10_000);
        assert!(decompress(&bytes).unwrap() == input);
        assert_eq!(bytes, compress(&input, Compression::Gzip(6), 3, SEGMENT), "on three threads");
        if let Some((fine, got)) = tool(&["gzip", "-dc"], &bytes) {
            assert!(fine && got == input);
        }
    }
    let shrinks: Vec<u8> = noise.iter().map(|b| b & 0x7f).collect();
    assert!(alone(&shrinks) < shrinks.len() * 9 / 10, "seven bits of eight");
    assert!(alone(&[&noise[..1000]; 400].concat()) < 20_000, "what comes again soon");
}
