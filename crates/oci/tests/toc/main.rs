//! Tables of contents in layers, against what the same layers say when they are read as a whole.

#[allow(dead_code, reason = "other tests use all of it")]
mod make;

use std::io::Read;
use std::ops::Range;

use oci::compress::Decoder;
use oci::content::MemoryContent;
use oci::index::{Attrs, Xattrs};
use oci::tar::{Limits, read_layer, write_layer};
use oci::toc::{Announced, MAX_TOC, Toc, TocError};
use oci::{Digest, Entry, Kind, LayerIndex, Time};
use serde_json::{Value, json};

use make::{CHUNKED, ESTARGZ, Form, Made, edited, layer, pack};

const FORMS: [Form; 6] = [
    ESTARGZ,
    Form { chunk: 1 << 20, ..ESTARGZ },
    Form { together: 3, ..ESTARGZ },
    CHUNKED,
    Form { chunk: 1 << 20, ..CHUNKED },
    Form { footer_only: true, ..CHUNKED },
];

/// A layer that has everything.
fn sample() -> Vec<u8> {
    let mut content = MemoryContent::default();
    let mut entries = Vec::new();
    let mut add = |path: &str, kind: Kind| {
        let mtime = Time::from_secs(1_700_000_000 + entries.len() as i64);
        let attrs = Attrs { mode: 0o4751, uid: 7, gid: 1_000_000, mtime, xattrs: Xattrs::new() };
        entries.push(Entry { path: path.into(), kind, attrs });
    };
    let dir = |opaque| Kind::Directory { opaque };
    let mut file = |bytes: &[u8]| Kind::File { size: bytes.len() as u64, digest: content.add(bytes) };
    let noise: Vec<u8> = (0..4321u32).map(|n| (n * n / 7) as u8).collect();
    let holes = [&noise[..1000], &[0; 3000], &noise[..500]].concat();
    let end_of_zeros = [&noise[..1000], &[0; 1500]].concat();
    add("", dir(false));
    add("d", dir(true));
    add("d/empty", file(b""));
    add("d/small", file(b"small"));
    add("d/same", file(b"small"));
    add("d/other", file(b"other"));
    add("d/large", file(&noise));
    add("d/holes", file(&holes));
    add("d/end", file(&end_of_zeros));
    add("d/zeros", file(&[0; 2500]));
    add("d/link", Kind::HardLink { target: b"d/large".into() });
    add("d/lower", Kind::HardLink { target: b"of/a/lower/layer".into() });
    add("d/symlink", Kind::Symlink { target: b"../x".into() });
    add("d/null", Kind::CharDevice { major: 1, minor: 3 });
    add("d/disk", Kind::BlockDevice { major: 300, minor: 70000 });
    add("d/pipe", Kind::Fifo);
    add("gone", Kind::Whiteout);
    add(&format!("{}/name <&>\u{e9}\u{1f980}", "long".repeat(50)), file(&noise[..2000]));
    entries[4].attrs.xattrs =
        vec![(b"security.capability".into(), b"\x01\0\0\x02\n\xff".into()), (b"user.x".into(), b"".into())]
            .into();
    let mut tar = Vec::new();
    write_layer(&LayerIndex::from_entries(entries).unwrap(), &content, &mut tar).unwrap();
    tar
}

fn read(made: &Made) -> Result<Toc, TocError> {
    let announced = Announced::of(&made.descriptor).expect("it is announced");
    announced.read(&mut |part: Range<u64>| Ok(made.blob[part.start as usize..part.end as usize].to_vec()))
}

/// What a whole pull makes of it.
fn whole(made: &Made) -> LayerIndex {
    let reader = Decoder::new(&made.blob[..]).unwrap();
    read_layer(reader, &mut MemoryContent::default(), &Limits::default()).unwrap()
}

/// The bytes of a content, by its chunks.
fn bytes(made: &Made, toc: &Toc, number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in &toc.contents[number].chunks {
        assert_eq!(chunk.at, out.len() as u64);
        let mut part = vec![0; chunk.size as usize];
        if let Some(piece) = chunk.piece.map(|p| toc.pieces[p]) {
            let frame = &toc.frames[piece.frame];
            let mut reader = Decoder::new(&made.blob[frame.start as usize..frame.end as usize]).unwrap();
            std::io::copy(&mut reader.by_ref().take(piece.inner), &mut std::io::sink()).unwrap();
            reader.read_exact(&mut part).unwrap();
        }
        assert_eq!(Digest::of(&part), chunk.digest);
        out.extend(part);
    }
    out
}

#[test]
fn a_table_says_what_the_tar_says_and_leads_to_every_byte() {
    let tar = sample();
    for form in FORMS {
        let made = layer(&tar, form);
        let toc = read(&made).unwrap();
        assert_eq!(toc.index, whole(&made), "{form:?}");
        assert_eq!(toc.own.is_some(), !form.zstd);
        for (digest, size) in toc.index.objects().filter(|(_, size)| *size > 0) {
            if toc.own.as_deref().is_some_and(|own| Digest::of(own) == digest) {
                continue;
            }
            let number = toc.contents.iter().position(|c| c.digest == digest).expect("it has a place");
            let got = bytes(&made, &toc, number);
            assert_eq!((Digest::of(&got), got.len() as u64), (digest, size), "{form:?}");
        }
        assert!(toc.frames.windows(2).all(|w| w[0].end <= w[1].start), "{form:?}: nothing overlaps");
        for content in &toc.contents {
            let pieces: Vec<usize> = content.chunks.iter().filter_map(|c| c.piece).collect();
            assert_eq!(content.run.clone().map(|r| r.collect()), Some(pieces), "{form:?}");
        }
    }
    let zeros =
        |form| read(&layer(&tar, form)).unwrap().contents.iter().filter(|c| c.run == Some(0..0)).count();
    assert_eq!((zeros(CHUNKED), zeros(ESTARGZ)), (1, 0), "zeros are not fetched");
}

#[test]
fn a_layer_without_the_annotation_has_no_table() {
    for form in FORMS {
        let made = layer(&sample(), form);
        let mut other = made.descriptor.clone();
        other.annotations.retain(|key, _| !key.ends_with("digest") && !key.ends_with("checksum"));
        assert_eq!(Announced::of(&other), None);
        for kind in ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", oci::types::media::LAYER] {
            let other = oci::types::Descriptor { media_type: kind.into(), ..made.descriptor.clone() };
            assert_eq!(Announced::of(&other), None, "{kind}");
        }
    }
    let mut older = layer(&sample(), CHUNKED).descriptor;
    older.annotations =
        older.annotations.into_iter().map(|(k, v)| (k.replace("io.github.", "io."), v)).collect();
    assert!(Announced::of(&older).is_some());
}

#[test]
fn another_table_than_the_manifest_says_is_refused() {
    for form in FORMS {
        let mut made = layer(&sample(), form);
        for value in made.descriptor.annotations.values_mut().filter(|v| v.starts_with("sha256:")) {
            *value = Digest::of(b"another").to_string();
        }
        assert!(matches!(read(&made), Err(TocError::Digest { .. })), "{form:?}");
        // Whatever byte of the blob is another one, nothing else comes of it than what was announced.
        let made = layer(&sample(), form);
        let right = read(&made).unwrap();
        for at in (0..made.blob.len()).rev().take(1200) {
            let mut bad = made.clone();
            bad.blob[at] ^= 0x10;
            match read(&bad) {
                Ok(toc) => assert_eq!(toc, right, "{form:?}: byte {at}"),
                Err(e) => assert!(!matches!(e, TocError::Entry { .. }), "{form:?}: byte {at}: {e}"),
            }
        }
        for length in [0, 1, 50, 51, 71, 72, 500] {
            let mut bad = made.clone();
            bad.blob.truncate(length);
            bad.descriptor.size = length as u64;
            assert!(read(&bad).is_err(), "{form:?}: {length}");
        }
    }
}

/// The entries of a table that belong to a name.
fn of<'v>(table: &'v mut Value, name: &'v str) -> impl Iterator<Item = &'v mut Value> {
    let entries = table["entries"].as_array_mut().unwrap();
    entries.iter_mut().filter(move |e| e["name"] == name)
}

/// What is told, and of what.
type Lie = (&'static str, fn(&mut Value));

#[test]
fn lies_about_files_are_told() {
    const CHUNKS: &str = "its chunks are not the file";
    const OUTSIDE: &str = "outside of the blob";
    let lies: [Lie; 22] = [
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["offset"] = 1_000_000.into())),
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["offset"] = u64::MAX.into())),
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["offset"] = 0.into())),
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["innerOffset"] = u64::MAX.into())),
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["endOffset"] = 1_000_000.into())),
        (OUTSIDE, |t| of(t, "d/small").for_each(|e| e["endOffset"] = 1.into())),
        ("another file", |t| {
            let offset = of(t, "d/large").next().unwrap()["offset"].clone();
            of(t, "d/other").for_each(|e| e["offset"] = offset.clone());
        }),
        (CHUNKS, |t| of(t, "d/large").for_each(|e| e["chunkOffset"] = 0.into())),
        (CHUNKS, |t| of(t, "d/large").skip(1).for_each(|e| e["chunkOffset"] = u64::MAX.into())),
        (CHUNKS, |t| of(t, "d/large").next().unwrap()["chunkSize"] = 999.into()),
        (CHUNKS, |t| of(t, "d/large").for_each(|e| e["chunkSize"] = u64::MAX.into())),
        (CHUNKS, |t| of(t, "d/large").next().unwrap()["size"] = 1.into()),
        (CHUNKS, |t| of(t, "d/large").next().unwrap()["size"] = 0.into()),
        (CHUNKS, |t| {
            let last = t["entries"].as_array().unwrap().iter().rposition(|e| e["name"] == "d/large");
            t["entries"].as_array_mut().unwrap().remove(last.unwrap());
            let last = of(t, "d/large").last().unwrap();
            last["chunkSize"] = 1000.into();
        }),
        (CHUNKS, |t| t["entries"].as_array_mut().unwrap().insert(0, json!({"name": "x", "type": "chunk"}))),
        (CHUNKS, |t| of(t, "d/large").for_each(|e| e["chunkType"] = "ones".into())),
        ("the digest of", |t| of(t, "d/large").skip(1).for_each(|e| e["chunkDigest"] = "".into())),
        ("the digest of", |t| of(t, "d/large").next().unwrap()["digest"] = "".into()),
        ("the digest of", |t| of(t, "d/large").next().unwrap()["digest"] = "sha512:00".into()),
        ("the digest of", |t| {
            let other = of(t, "d/large").next().unwrap()["digest"].clone();
            of(t, "d/holes").next().unwrap()["digest"] = other;
        }),
        ("leads out of the root", |t| of(t, "d/small").for_each(|e| e["name"] = "d/../../x".into())),
        ("not what stands in the tar", |t| of(t, "d/small").for_each(|e| e["name"] = "d/\u{fffd}".into())),
    ];
    let tar = sample();
    for (n, (expected, lie)) in lies.iter().enumerate() {
        for form in [ESTARGZ, CHUNKED] {
            let told = read(&edited(&tar, form, lie)).map_or_else(|e| e.to_string(), |_| "nothing".into());
            assert!(told.contains(expected), "{n} {form:?}: {told}");
        }
    }
}

#[test]
fn what_is_no_table_is_told() {
    let edits: [Lie; 9] = [
        ("version 2", |t| t["version"] = 2.into()),
        ("cannot be read", |t| t["version"] = Value::Null),
        ("cannot be read", |t| t["entries"] = json!({})),
        ("cannot be read", |t| *t = json!([])),
        ("cannot be read", |t| *t = json!({"version": 1})),
        ("cannot be read", |t| of(t, "d/small").for_each(|e| e["size"] = (-1).into())),
        ("uid", |t| of(t, "d/small").for_each(|e| e["uid"] = (1u64 << 32).into())),
        ("type is not known", |t| of(t, "d/small").for_each(|e| e["type"] = "door".into())),
        ("attribute's value", |t| of(t, "d/small").for_each(|e| e["xattrs"] = json!({"user.a": "%"}))),
    ];
    for (expected, edit) in edits {
        for form in [ESTARGZ, CHUNKED] {
            let told = read(&edited(&sample(), form, &edit)).unwrap_err();
            assert!(told.to_string().contains(expected), "{told}");
        }
    }
}

#[test]
fn bombs_are_not_unpacked() {
    // A table of nothing but blanks.
    let blanks = vec![b' '; MAX_TOC as usize + 100_000];
    let packed = pack(&blanks, true);
    let mut made = layer(&sample(), CHUNKED);
    let offset = made.blob.len();
    made.blob.extend(&packed);
    made.descriptor.size = made.blob.len() as u64;
    for said in [blanks.len(), 100] {
        for (key, value) in &mut made.descriptor.annotations {
            match key.rsplit('.').next() {
                Some("manifest-checksum") => *value = Digest::of(&packed).to_string(),
                _ => *value = format!("{offset}:{}:{said}:1", packed.len()),
            }
        }
        let told = read(&made).unwrap_err();
        assert!(matches!(told, TocError::TooLarge(_) | TocError::Unpack(_)), "{told}");
    }
    // A table that is large as it is.
    let mut made = layer(&sample(), CHUNKED);
    made.descriptor.size = 1 << 40;
    for (key, value) in &mut made.descriptor.annotations {
        if key.ends_with("position") {
            *value = format!("100:{}:100:1", 1u64 << 33);
        }
    }
    let asked = Announced::of(&made.descriptor)
        .unwrap()
        .read(&mut |_| -> Result<Vec<u8>, TocError> { panic!("it is fetched") });
    assert!(matches!(asked, Err(TocError::TooLarge(_))));
}
