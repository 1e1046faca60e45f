//! Files that were hashed before are not read again, unless they may have changed.

use std::fs;
use std::time::{Duration, SystemTime};

use super::Dir;
use crate::testkit::*;

/// Waits until a change made before is old enough to be trusted.
fn grow_old() {
    std::thread::sleep(Duration::from_millis(1100));
}

#[test]
fn unchanged_files_are_not_read_again() {
    let rows = ["forged", "moved", "same", "touched"].map(|n| (n, File("12345")));
    let dir = Dir::new(&tree(&rows));
    grow_old();
    fs::write(dir.at("young"), "12345").unwrap();
    let read = || dir.all().unwrap().hashed;
    assert_eq!(read(), 5, "the first time all are");
    assert_eq!(read(), 1, "what changed just now may change again within the clock's grain");

    let mtime = fs::metadata(dir.at("forged")).unwrap().modified().unwrap();
    fs::write(dir.at("forged"), "54321").unwrap();
    let set = |n: &str, t: SystemTime| {
        fs::OpenOptions::new().append(true).open(dir.at(n)).unwrap().set_modified(t).unwrap();
    };
    set("forged", mtime);
    set("touched", SystemTime::now());
    fs::rename(dir.at("moved"), dir.at("other")).unwrap();
    fs::write(dir.at("moved"), "xxxxx").unwrap();
    let c = dir.all().unwrap();
    assert_eq!(
        c.hashed, 5,
        "the young, the touched, the forged time, the new name, the new file of the old name"
    );
    text_digest("54321");
    text_digest("xxxxx");
    assert_eq!(
        lines(&c.tree),
        ["forged: 54321", "moved: xxxxx", "other: 12345", "same: 12345", "touched: 12345", "young: 12345"]
    );
}

#[test]
fn a_memo_does_not_stand_in_for_the_content() {
    let dir = Dir::new(&tree(&[("f", File("content of f"))]));
    grow_old();
    dir.all().unwrap();
    // The store forgets the file, not the memo.
    dir.store.gc(&store::Policy::default(), false).unwrap();
    let digest = text_digest("content of f");
    assert!(!dir.store.has_object(&digest).unwrap());
    let c = dir.all().unwrap();
    assert_eq!(c.hashed, 0);
    let batch = dir.store.batch();
    c.provide_all(&batch).unwrap();
    batch.commit(Vec::new(), Vec::new()).unwrap();
    assert!(dir.store.has_object(&digest).unwrap());
}

#[test]
fn a_damaged_memo_is_none() {
    let dir = Dir::new(&tree(&[("f", File("f"))]));
    grow_old();
    assert_eq!([dir.all().unwrap().hashed, dir.all().unwrap().hashed], [1, 0]);
    let name =
        oci::Digest::of(fs::canonicalize(dir.at("")).unwrap().into_os_string().as_encoded_bytes()).hex();
    let good = dir.store.memo_load(&name).expect("there is one, by this name");
    for bad in [&b""[..], b"layercake-memo-0\n", &good[..good.len() - 1]] {
        dir.store.memo_save(&name, bad).unwrap();
        assert_eq!(dir.all().unwrap().hashed, 1, "{} bytes", bad.len());
    }
}

#[test]
fn a_file_in_the_memo_keeps_its_extended_attributes_and_shows_new_ones() {
    if !root() {
        return;
    }
    let dir = Dir::new(&tree(&[("has", File("has")), ("gets", File("gets"))]));
    // A file capability: version 2, effective, CAP_NET_RAW permitted.
    let capability = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let flags = rustix::fs::XattrFlags::empty();
    let give = |n: &str| rustix::fs::setxattr(dir.at(n), "security.capability", &capability, flags).unwrap();
    let having = |c: &crate::context::Context| {
        let layer = c.layer().unwrap();
        let with = layer.entries().iter().filter(|e| !e.attrs.xattrs.is_empty());
        with.map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect::<Vec<_>>()
    };
    give("has");
    grow_old();
    assert_eq!(having(&dir.all().unwrap()), ["has"]);
    let c = dir.all().unwrap();
    assert_eq!((c.hashed, having(&c)), (0, vec!["has".to_owned()]));
    give("gets");
    let c = dir.all().unwrap();
    assert_eq!((c.hashed, having(&c)), (1, vec!["gets".to_owned(), "has".to_owned()]));
}
