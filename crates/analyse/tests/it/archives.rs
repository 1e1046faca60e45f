//! Archives, streams and daemons: what is read, what is measured, what is refused.

use std::io::{Cursor, Read, Seek, Write};
use std::sync::atomic::AtomicBool;

use analyse::load::stream::{Control, Streamed, StreamedLayer};
use analyse::load::{LoadError, archive, pipe, stream};
use analyse::{Cause, Image, Packing, image::Origin};
use oci::Digest;
use oci::compress::{Compression, Encoder};
use oci::layout::{Choice, Layout};
use oci::platform::Platform;
use oci::types::{Descriptor, ImageConfig, Index, Manifest, media};

/// A tar of members: name, bytes (none: a directory), type flag.
pub(crate) fn tar(members: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(format!("{:011o}", bytes.map_or(0, <[u8]>::len)).as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = if bytes.is_some() { b'0' } else { b'5' };
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend_from_slice(&block);
        let bytes = bytes.unwrap_or_default();
        out.extend_from_slice(bytes);
        out.extend(std::iter::repeat_n(0, bytes.len().next_multiple_of(512) - bytes.len()));
    }
    out.extend([0; 1024]);
    out
}

/// Bytes that compress a little, and another way for every seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut r = crate::paths::Random(seed);
    (0..len).map(|_| (r.below(64) as u8) + 32).collect()
}

fn packed(bytes: &[u8], how: Compression) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new(), how, 1).unwrap();
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn config(tars: &[Vec<u8>], os: &str, architecture: &str) -> Vec<u8> {
    let mut c: ImageConfig = crate::kit::config(tars.len());
    (c.os, c.architecture) = (os.into(), architecture.into());
    c.rootfs.diff_ids = tars.iter().map(|t| Digest::of(t)).collect();
    serde_json::to_vec(&c).unwrap()
}

/// Two layers: a large file, a small one twice, a file that is deleted later; and a cache.
fn layers() -> Vec<Vec<u8>> {
    let (big, small, gone) = (noise(1, 300_000), noise(2, 3_000), noise(3, 50_000));
    vec![
        tar(&[
            ("d", None),
            ("d/big", Some(&big)),
            ("d/gone", Some(&gone)),
            ("twice", Some(&small)),
            ("twice", Some(b"new")),
        ]),
        tar(&[("d/.wh.gone", Some(b"")), ("tmp/x", Some(&small))]),
    ]
}

fn control(cancel: &AtomicBool) -> Control<'_> {
    Control { cancel, threads: 3, progress: &|_, _, _| {} }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// An OCI layout as files by name; every layer compressed in its own way. Two platforms, if asked for.
fn oci(how: &[Compression], platforms: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> =
        vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |media_type: &str, bytes: Vec<u8>| {
        let d = Descriptor::of(media_type, &bytes);
        files.push((format!("blobs/sha256/{}", d.digest.hex()), bytes));
        d
    };
    let mut manifests = Vec::new();
    for platform in platforms {
        let (os, arch) = platform.split_once('/').unwrap();
        let mut tars = layers();
        if *platform != "linux/amd64" {
            tars[0] = tar(&[(arch, Some(b"x"))]);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            config: blob(media::CONFIG, config(&tars, os, arch)),
            layers: tars
                .iter()
                .zip(how.iter().cycle())
                .map(|(t, h)| blob(h.layer_media_type(), packed(t, *h)))
                .collect(),
            annotations: Default::default(),
            rest: Default::default(),
        };
        let mut d = blob(media::MANIFEST, serde_json::to_vec(&manifest).unwrap());
        d.platform = Some(platform.parse().unwrap());
        manifests.push(d);
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media::INDEX.into()),
        manifests,
        annotations: Default::default(),
        rest: Default::default(),
    };
    files.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
    files
}

/// A docker-save archive.
fn docker() -> Vec<(String, Vec<u8>)> {
    let tars = layers();
    let mut files: Vec<(String, Vec<u8>)> =
        tars.iter().enumerate().map(|(n, t)| (format!("l{n}/layer.tar"), t.clone())).collect();
    let config = config(&tars, "linux", "amd64");
    let manifest = format!(
        r#"[{{"Config":"{}.json","RepoTags":["x:1"],"Layers":["l0/layer.tar","l1/layer.tar"]}}]"#,
        Digest::of(&config).hex()
    );
    files.push((format!("{}.json", Digest::of(&config).hex()), config));
    files.push(("manifest.json".into(), manifest.into_bytes()));
    files
}

fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, Option<&[u8]>)> =
        files.iter().map(|(n, b)| (n.as_str(), Some(b.as_slice()))).collect();
    tar(&members)
}

fn piped(bytes: &[u8]) -> Result<Image, LoadError> {
    let cancel = AtomicBool::new(false);
    pipe::load(bytes, Choice::Any, &amd64(), "x", Origin::Archive, &control(&cancel))
}

fn from_file(bytes: &[u8], platform: &str) -> Result<Image, LoadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let cancel = AtomicBool::new(false);
    let layout = Layout::open_tar(file)?;
    archive::load(&layout, Choice::Any, &platform.parse().unwrap(), "x", &control(&cancel))
}

/// What is true of [`layers`] however they come.
fn check(i: &Image) {
    let a = i.accounts();
    assert_eq!(a.total.shipped.bytes, 300_000 + 3_000 + 50_000 + 3 + 3_000);
    assert_eq!(a.live.bytes, 300_000 + 3 + 3_000);
    assert_eq!(a.total.cause(Cause::Deleted).bytes, 50_000);
    assert_eq!(a.total.cause(Cause::Overwritten).bytes, 3_000, "the first of two members of one path");
    assert_eq!(a.total.cause(Cause::Cruft).bytes, 3_000, "in /tmp");
    for l in &i.layers {
        assert_eq!(l.packing, Packing::Measured);
        let parts: u64 = i.layer_entries(l.index).map(|(_, e)| e.packed).sum();
        assert!(
            parts <= l.packed && parts + 2048 + 64 >= l.packed.min(parts + 2048 + 64),
            "{parts} of {}",
            l.packed
        );
        assert!(parts * 100 >= l.packed * 50, "{parts} of {}: most of a layer is its files", l.packed);
    }
}

#[test]
fn every_compression_from_a_file_and_in_a_stream() {
    for how in [Compression::None, Compression::Gzip(6), Compression::Zstd(3)] {
        let files = oci(&[how], &["linux/amd64"]);
        let bytes = archive_of(&files);
        for image in [from_file(&bytes, "linux/amd64").unwrap(), piped(&bytes).unwrap()] {
            check(&image);
            assert_eq!(image.layers[0].media_type, how.layer_media_type());
            let big = image.find(b"d/big").and_then(|n| image.entry_at(n, 9)).unwrap();
            let (is, whole) = (image.entry(big).packed, image.layers[0].packed);
            // 300,000 of 353,003 bytes, all equally hard to compress.
            let share = is as f64 / whole as f64;
            assert!((0.80..0.90).contains(&share), "{how:?}: {is} of {whole}");
        }
    }
    let mixed = archive_of(&oci(&[Compression::Gzip(1), Compression::Zstd(1)], &["linux/amd64"]));
    let image = piped(&mixed).unwrap();
    check(&image);
    assert_eq!([image.layers[0].compression, image.layers[1].compression], ["gzip", "zstd"]);
}

#[test]
fn layers_of_many_gzip_members() {
    // What eStargz is: every piece a member of its own.
    let tars = layers();
    let pieces =
        |t: &Vec<u8>| t.chunks(10_000).flat_map(|c| packed(c, Compression::Gzip(6))).collect::<Vec<u8>>();
    let blobs: Vec<Vec<u8>> = tars.iter().map(pieces).collect();
    let streamed = Streamed {
        name: "x".into(),
        origin: Origin::Registry,
        config: config(&tars, "linux", "amd64"),
        manifest: None,
        layers: blobs
            .iter()
            .map(|b| StreamedLayer {
                media_type: media::LAYER_GZIP.into(),
                digest: Some(Digest::of(b)),
                size: Some(b.len() as u64),
                verified: false,
            })
            .collect(),
        platform: None,
    };
    let open = |n: usize| Ok(Box::new(Cursor::new(blobs[n].clone())) as Box<dyn Read + Send>);
    let cancel = AtomicBool::new(false);
    check(&stream::load(streamed, &open, &control(&cancel)).unwrap());
}

#[test]
fn docker_archives_plain_and_compressed_as_a_whole() {
    let bytes = archive_of(&docker());
    check(&from_file(&bytes, "linux/amd64").unwrap());
    check(&piped(&bytes).unwrap());
    check(&piped(&packed(&bytes, Compression::Gzip(6))).unwrap());
    check(&piped(&packed(&bytes, Compression::Zstd(3))).unwrap());
}

#[test]
fn a_directory_with_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in oci(&[Compression::Gzip(6)], &["linux/amd64"]) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let cancel = AtomicBool::new(false);
    let layout = Layout::open_dir(dir.path()).unwrap();
    check(&archive::load(&layout, Choice::Any, &amd64(), "x", &control(&cancel)).unwrap());
}

#[test]
fn the_platform_is_chosen() {
    let bytes = archive_of(&oci(&[Compression::Gzip(6)], &["linux/amd64", "linux/arm64"]));
    let arm = from_file(&bytes, "linux/arm64").unwrap();
    assert!(arm.find(b"arm64").is_some() && arm.platform_matches);
    check(&from_file(&bytes, "linux/amd64").unwrap());
    assert!(matches!(from_file(&bytes, "linux/s390x"), Err(LoadError::Layout(_))));
}

#[test]
fn damage_is_refused_with_its_place() {
    // A bit of the second layer: the tar still reads, the digest does not fit.
    for (files, file) in [(docker(), "l1/layer.tar"), (oci(&[Compression::None], &["linux/amd64"]), "blobs")]
    {
        let mut files = files;
        let second = Digest::of(&layers()[1]).hex();
        let at = files.iter().position(|(n, _)| n == file || n.ends_with(&second)).unwrap();
        files[at].1[512 + 512 + 100] ^= 1;
        let bytes = archive_of(&files);
        for got in [from_file(&bytes, "linux/amd64"), piped(&bytes)] {
            let e = got.unwrap_err();
            let text = format!("{e}: {:?}", std::error::Error::source(&e).map(ToString::to_string));
            assert!(text.contains("layer 1"), "{file}: {text}");
        }
    }
    // Cut off: everywhere.
    let whole = archive_of(&oci(&[Compression::Gzip(6)], &["linux/amd64"]));
    for part in [10, 600, whole.len() / 3, whole.len() - 3000] {
        assert!(piped(&whole[..part]).is_err(), "{part}");
    }
    assert!(piped(b"").is_err());
    assert!(piped(&noise(5, 5000)).is_err());
    // A compressed layer that ends early, under its true digest.
    let mut files = oci(&[Compression::Gzip(6)], &["linux/amd64"]);
    let gz = packed(&layers()[0], Compression::Gzip(6));
    let at = files.iter().position(|(_, b)| *b == gz).unwrap();
    files[at].1.truncate(gz.len() / 2);
    let e = piped(&archive_of(&files)).unwrap_err();
    assert!(matches!(e, LoadError::Layer { layer: 0, .. } | LoadError::Read { layer: 0, .. }), "{e:?}");
}

/// A stream that raises a flag once some bytes have been read, and goes on.
struct Raise<'a> {
    inner: Cursor<Vec<u8>>,
    flag: &'a AtomicBool,
}

impl Read for Raise<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.inner.position() > 100_000 {
            self.flag.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        self.inner.read(buf)
    }
}

#[test]
fn it_stops_when_it_is_told_to() {
    let cancel = AtomicBool::new(false);
    let raise = Raise { inner: Cursor::new(archive_of(&docker())), flag: &cancel };
    let got = pipe::load(raise, Choice::Any, &amd64(), "x", Origin::Archive, &control(&cancel));
    assert!(matches!(got, Err(LoadError::Cancelled)), "{got:?}");
}

#[test]
fn layers_from_anywhere_are_hashed_if_nobody_else_does() {
    let tars = layers();
    let blobs: Vec<Vec<u8>> = tars.iter().map(|t| packed(t, Compression::Zstd(3))).collect();
    let streamed = |broken: Option<usize>| Streamed {
        name: "x".into(),
        origin: Origin::Registry,
        config: config(&tars, "linux", "amd64"),
        manifest: None,
        layers: blobs
            .iter()
            .enumerate()
            .map(|(n, b)| StreamedLayer {
                media_type: media::LAYER_ZSTD.into(),
                digest: Some(if broken == Some(n) { Digest::of(b"other") } else { Digest::of(b) }),
                size: Some(b.len() as u64),
                verified: false,
            })
            .collect(),
        platform: None,
    };
    let open = |n: usize| Ok(Box::new(Cursor::new(blobs[n].clone())) as Box<dyn Read + Send>);
    let cancel = AtomicBool::new(false);
    check(&stream::load(streamed(None), &open, &control(&cancel)).unwrap());
    let e = stream::load(streamed(Some(1)), &open, &control(&cancel)).unwrap_err();
    assert!(matches!(e, LoadError::Layer { layer: 1, .. }), "{e:?}");
}

/// Answers one request on a socket: gives what was asked for.
fn serve(dir: &std::path::Path, reply: Vec<u8>) -> (std::path::PathBuf, std::thread::JoinHandle<String>) {
    let socket = dir.join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0; 1];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            request.push(byte[0]);
        }
        // Whoever has heard enough hangs up.
        let _ = stream.write_all(&reply);
        String::from_utf8(request).unwrap()
    });
    (socket, server)
}

#[test]
fn a_daemon_gives_its_archive() {
    let archive = archive_of(&docker());
    let mut chunked =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in archive.chunks(40_000) {
        chunked.extend(format!("{:x};x=y\r\n", piece.len()).into_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let sized =
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", archive.len()).as_bytes(), &archive]
            .concat();
    let open_end = [b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &archive].concat();
    for reply in [chunked.clone(), sized.clone(), open_end] {
        let dir = tempfile::tempdir().unwrap();
        let (socket, server) = serve(dir.path(), reply);
        let body = analyse::load::daemon::open(&socket, "a/b c:1").unwrap();
        let cancel = AtomicBool::new(false);
        let image = pipe::load(body, Choice::Any, &amd64(), "x", Origin::Daemon, &control(&cancel)).unwrap();
        check(&image);
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /images/a/b%20c:1/get HTTP/1.1\r\nHost:"), "{request}");
    }
    for cut in [chunked.len() - 2000, 30, 90] {
        let dir = tempfile::tempdir().unwrap();
        let (socket, server) = serve(dir.path(), chunked[..cut].to_vec());
        let cancel = AtomicBool::new(false);
        let got = analyse::load::daemon::open(&socket, "x")
            .map_err(LoadError::from)
            .and_then(|b| pipe::load(b, Choice::Any, &amd64(), "x", Origin::Daemon, &control(&cancel)));
        assert!(got.is_err(), "cut at {cut}");
        server.join().unwrap();
    }
}

#[test]
fn a_daemon_says_no_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let text = br#"{"message":"reference does not exist"}"#;
    let reply = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n", text.len());
    let (socket, server) = serve(dir.path(), [reply.as_bytes(), text].concat());
    let e = analyse::load::daemon::open(&socket, "x").unwrap_err();
    assert!(e.is_missing() && e.to_string().contains("reference does not exist"), "{e}");
    server.join().unwrap();
    let e = analyse::load::daemon::open(&dir.path().join("none"), "x").unwrap_err();
    assert!(e.to_string().contains("none"), "{e}");
}
