//! What counts as an archive.

use std::io::Write;

use oci::compress::{Compression, Encoder};
use oci::content::MemoryContent;

use super::{Reader, is_tar, unpack};
use crate::testkit::*;

fn tar() -> Vec<u8> {
    let mut tar = Vec::new();
    oci::tar::write_layer(&layer(&[("d/f", File("f")), ("l", Link("d"))]), &content(), &mut tar).unwrap();
    tar
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new(), Compression::Zstd(3), 1).unwrap();
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

#[test]
fn the_content_decides() {
    let tar = tar();
    let mut damaged = gzip(&tar);
    damaged[12..].fill(0xff);
    let mut bad_sum = tar.clone();
    bad_sum[0] ^= 1;
    let rows: [(&str, Vec<u8>, bool); 13] = [
        ("tar", tar.clone(), true),
        ("gzip", gzip(&tar), true),
        ("zstd", zstd(&tar), true),
        // Only the first member is looked at.
        ("cut tar", tar[..600].to_vec(), true),
        ("cut gzip", gzip(&[tar.clone(), vec![1; 1 << 20]].concat())[..200].to_vec(), true),
        ("nothing", Vec::new(), false),
        ("empty gzip", gzip(b""), false),
        ("gzip of text", gzip(b"text"), false),
        ("damaged gzip", damaged, false),
        ("text", b"hello".to_vec(), false),
        ("zeros", vec![0; 1024], false),
        ("bad checksum", bad_sum, false),
        ("half a header", tar[..300].to_vec(), false),
    ];
    for (name, bytes, want) in rows {
        assert_eq!(is_tar(&bytes[..]), want, "{name}");
    }
}

#[test]
fn an_object_is_read_to_its_size() {
    let mut content = MemoryContent::default();
    let digest = content.add(b"0123456789");
    let object = oci::Content::open(&content, &digest).unwrap();
    let mut out = String::new();
    std::io::Read::read_to_string(&mut Reader::new(object, 4), &mut out).unwrap();
    assert_eq!(out, "0123");
}

#[test]
fn directories_that_an_archive_leaves_out_are_left_to_who_unpacks_it() {
    let mut tar = oci::tar::write::Writer::new(Vec::new(), 0);
    for path in ["in/d/f", "x/.wh.y"] {
        tar.file(path, 4, &mut &b"text"[..]).unwrap();
    }
    let bytes = tar.finish().unwrap();
    let mut content = MemoryContent::default();
    let entries = unpack(&bytes[..], &mut content).unwrap();
    let names: Vec<_> = entries.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(names, ["in/d/f", "x/.wh.y"], "and nothing is a whiteout");
    assert!(unpack(&bytes[..514], &mut content).is_err(), "a file that is cut off");
}
