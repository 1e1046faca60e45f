//! Sparse files in layers: their size is the file's, holes included; what they take of the layer is what lies in the archive.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use analyse::load::stream::{Control, Streamed, StreamedLayer};
use analyse::load::{LoadError, stream};
use analyse::{Cause, Image, image::Origin};
use oci::Digest;
use oci::types::ImageConfig;

/// Size of the file, holes included.
const SIZE: u64 = 3_000_000;
/// Its data: where, and how many bytes.
const PIECES: [(u64, usize); 6] =
    [(0, 700), (500_000, 512), (1_000_000, 1), (1_500_000, 1300), (2_000_000, 2048), (2_999_999, 1)];

fn data() -> Vec<u8> {
    crate::archives::noise(9, PIECES.iter().map(|p| p.1).sum())
}

/// The file as programs see it.
fn content() -> Vec<u8> {
    let mut out = vec![0; SIZE as usize];
    let data = data();
    let mut rest = &data[..];
    for (at, n) in PIECES {
        out[at as usize..][..n].copy_from_slice(&rest[..n]);
        rest = &rest[n..];
    }
    out
}

/// A header with its checksum, and the data with its padding.
fn member(name: &str, flag: u8, more: &[(usize, &[u8])], data: &[u8], size: usize) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    for (at, bytes) in more {
        block[*at..][..bytes.len()].copy_from_slice(bytes);
    }
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut out = block.to_vec();
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A file with PAX records before it.
fn pax(records: &[(&str, String)], data: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut n = rest.len();
        while n != rest.len() + n.to_string().len() {
            n = rest.len() + n.to_string().len();
        }
        text.push_str(&format!("{n}{rest}"));
    }
    let mut out = member("PaxHeaders/s", b'x', &[], text.as_bytes(), text.len());
    out.extend(member("GNUSparseFile.0/s", b'0', &[], data, data.len()));
    out
}

/// The file in each form that GNU tar writes, under the form's name.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let oct = |n: u64| format!("{n:011o}\0");
    let pair = |p: &(u64, usize)| oct(p.0) + &oct(p.1 as u64);
    let (first, more) = PIECES.split_at(4);
    let first: String = first.iter().map(pair).collect();
    let mut extension: Vec<u8> = more.iter().map(pair).collect::<String>().into_bytes();
    extension.resize(512, 0);
    let data = data();
    let fields: [(usize, &[u8]); 4] =
        [(257, b"ustar  \0"), (386, first.as_bytes()), (482, b"\x01"), (483, &oct(SIZE).into_bytes())];
    let old = member("s", b'S', &fields, &[extension.as_slice(), &data].concat(), data.len());

    let name = || ("GNU.sparse.name", "s".to_owned());
    let mut v00 = vec![
        name(),
        ("GNU.sparse.size", SIZE.to_string()),
        ("GNU.sparse.numblocks", PIECES.len().to_string()),
    ];
    for (at, n) in PIECES {
        v00.extend([("GNU.sparse.offset", at.to_string()), ("GNU.sparse.numbytes", n.to_string())]);
    }
    let map: Vec<String> = PIECES.iter().map(|(at, n)| format!("{at},{n}")).collect();
    let v01 = [name(), ("GNU.sparse.size", SIZE.to_string()), ("GNU.sparse.map", map.join(","))];
    let v10 = [
        name(),
        ("GNU.sparse.major", "1".into()),
        ("GNU.sparse.minor", "0".into()),
        ("GNU.sparse.realsize", SIZE.to_string()),
    ];
    let mut mapped = format!("{}\n", PIECES.len());
    PIECES.iter().for_each(|(at, n)| mapped.push_str(&format!("{at}\n{n}\n")));
    let mut mapped = mapped.into_bytes();
    mapped.resize(512, 0);
    mapped.extend(&data);
    vec![("old GNU", old), ("0.0", pax(&v00, &data)), ("0.1", pax(&v01, &data)), ("1.0", pax(&v10, &mapped))]
}

/// Layers that are not compressed, from anywhere; stopped when the word is met.
fn load(tars: &[Vec<u8>]) -> Result<Image, LoadError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let mut config: ImageConfig = crate::kit::config(tars.len());
    config.rootfs.diff_ids = tars.iter().map(|t| Digest::of(t)).collect();
    let layer = |t: &Vec<u8>| StreamedLayer {
        media_type: String::new(),
        digest: None,
        size: Some(t.len() as u64),
        verified: false,
    };
    let streamed = Streamed {
        name: "x".into(),
        origin: Origin::Archive,
        config: serde_json::to_vec(&config).unwrap(),
        manifest: None,
        layers: tars.iter().map(layer).collect(),
        platform: None,
    };
    let open = |n: usize| {
        let bytes = std::io::Cursor::new(tars[n].clone());
        Ok(Box::new(Raise { inner: bytes, cancel: cancel.clone() }) as Box<dyn Read + Send>)
    };
    stream::load(streamed, &open, &Control { cancel: &cancel, threads: 1, progress: &|_, _, _| {} })
}

/// Passes everything on, and raises the flag when it meets the word.
struct Raise {
    inner: std::io::Cursor<Vec<u8>>,
    cancel: Arc<AtomicBool>,
}

impl Read for Raise {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        if buf[..n].windows(5).any(|w| w == b"STOP!") {
            self.cancel.store(true, Ordering::Relaxed);
        }
        Ok(n)
    }
}

#[test]
fn a_sparse_file_counts_in_full_and_takes_what_lies_in_the_archive() {
    for (form, sparse) in forms() {
        let other = member("t", b'0', &[], b"next", 4);
        let end = vec![0; 1024];
        // The whole file again above it, at the same path: the content is the same, so only the attributes can differ.
        let whole = member("s", b'0', &[(100, b"0000600")], &content(), SIZE as usize);
        let gone = member(".wh.s", b'0', &[], b"", 0);
        let layers = [
            [sparse.as_slice(), &other, &end].concat(),
            [whole.as_slice(), &end].concat(),
            [gone.as_slice(), &end].concat(),
        ];
        let image = load(&layers).unwrap();
        let a = image.accounts();
        assert_eq!((a.total.shipped.bytes, a.live.bytes), (2 * SIZE + 4, 4), "{form}");
        assert_eq!(a.total.cause(Cause::Metadata).bytes, SIZE, "{form}: the whole file again has its digest");
        assert_eq!(a.total.cause(Cause::Deleted).bytes, SIZE, "{form}");
        // Header, map and data of the sparse one; header and content of the whole one.
        assert_eq!(a.total.cause(Cause::Deleted).packed, sparse.len() as u64, "{form}");
        assert_eq!(a.total.cause(Cause::Metadata).packed, whole.len() as u64, "{form}");
        assert_eq!(a.live.packed, other.len() as u64, "{form}");
    }
}

#[test]
fn reading_a_hole_can_be_stopped() {
    // Some hundred gigabytes of nothing in a few bytes: no byte of the layer is read while they pass.
    let records = [
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.realsize", "500000000000".to_owned()),
    ];
    let mut map = b"1\n0\n5\n".to_vec();
    map.resize(512, 0);
    map.extend(b"STOP!");
    let got = load(&[pax(&records, &map)]);
    assert!(matches!(got, Err(LoadError::Cancelled)), "{got:?}");
}
