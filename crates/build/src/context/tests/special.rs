//! What is not a plain file, and what goes wrong.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;

use oci::Tree;
use store::Store;

use super::Dir;
use crate::context::{ContextError, Needed, read};
use crate::images::chain_text;
use crate::testkit::*;

#[test]
fn owners_become_root_and_modes_and_times_stay() {
    if !root() {
        return;
    }
    let mut rows: Vec<_> =
        [("d", Dir, 0o1777, (5, 6)), ("d/f", File("f"), 0o4711, (7, 8)), ("l", Link("d"), 0o777, (9, 9))]
            .iter()
            .map(Row::entry)
            .collect();
    rows[1].attrs.mtime = oci::Time { secs: -5, nanos: 7 };
    let dir = Dir::new(&tree_of(rows));
    let c = dir.all().unwrap();
    assert_eq!(lines(&c.tree), ["d/ [1777]", "d/f: f [4711]", "l -> d"]);
    assert_eq!(c.layer().unwrap().get(b"d/f").unwrap().attrs.mtime, oci::Time { secs: -5, nanos: 7 });
}

#[test]
fn hard_links_are_kept_among_what_is_wanted() {
    let dir = Dir::new(&tree(&[("a/1", File("x")), ("a/2", Hard("a/1")), ("b/3", Hard("a/1"))]));
    assert_eq!(lines(&dir.all().unwrap().tree), ["a/", "a/1: x", "a/2 => a/1", "b/", "b/3 => a/1"]);
    assert_eq!(lines(&dir.read(&["a/2", "b"], &[]).tree), ["a/", "a/2: x", "b/", "b/3 => a/2"]);
}

#[test]
fn pipes_devices_and_sockets() {
    let dir = Dir::new(&tree(&[("p", Fifo)]));
    let socket = UnixListener::bind(dir.at("socket")).unwrap();
    let c = dir.all().unwrap();
    // Nothing waits at the pipe, and a socket comes as an empty file.
    text_digest("");
    let mode = c.layer().unwrap().get(b"socket").unwrap().attrs.mode;
    assert_eq!(lines(&c.tree), ["p |".to_owned(), format!("socket:  [{mode:o}]")]);
    let batch = dir.store.batch();
    c.provide_all(&batch).expect("the empty file is had without opening the socket");
    batch.add_layer(&c.layer().unwrap()).unwrap();
    drop(socket);
    if root() {
        let dir = Dir::new(&tree(&[("c", Char(1, 3))]));
        assert_eq!(lines(&dir.all().unwrap().tree), ["c c1:3"]);
    }
}

#[test]
fn capabilities_are_kept_and_notes_are_not() {
    if !root() {
        return;
    }
    let dir = Dir::new(&tree(&[("f", File("f"))]));
    let cap = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(dir.at("f"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("security.capability", &cap);
    // Enough names to outgrow a small buffer.
    for i in 0..20 {
        set(&format!("trusted.{}{i}", "n".repeat(100)), b"");
    }
    let c = dir.all().unwrap();
    let xattrs = &c.tree.inode(c.tree.lookup(b"f").unwrap()).attrs.xattrs;
    assert_eq!(**xattrs, [(b"security.capability".to_vec(), cap.to_vec())]);
}

#[test]
fn names_that_are_no_utf8() {
    let dir = Dir::new(&Tree::new());
    fs::write(dir.at("").join(std::ffi::OsStr::from_bytes(b"d\xff")), "x").unwrap();
    for sources in [&["."][..], &["d*"]] {
        assert!(dir.read(sources, &[]).tree.lookup(b"d\xff").is_some(), "{sources:?}");
    }
}

#[test]
fn deep_directories_are_read() {
    let dir = Dir::new(&Tree::new());
    let room = 4095 - dir.at("").as_os_str().len() - 2;
    let deep = "x/".repeat(room / 2 - 1);
    fs::create_dir_all(dir.at(&deep)).unwrap();
    assert_eq!(dir.all().unwrap().layer().unwrap().entries().len(), deep.len() / 2);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = Dir::new(&tree(&[("d/secret", File("s"))]));
    let mode =
        |path: &str, mode| fs::set_permissions(dir.at(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("d/secret", 0);
    // Root may read all: this thread and those that it starts give that right up.
    if root() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        set_capabilities(None, sets).unwrap();
    }
    let e = chain_text(&dir.all().unwrap_err());
    assert!(e.contains(&format!("{:?}", dir.at("d/secret"))) && e.contains("ermission denied"), "{e}");
    // It does not matter to who does not want it.
    assert!(dir.read(&["other"], &[]).tree.is_empty());
    mode("d", 0);
    let e = chain_text(&dir.all().unwrap_err());
    mode("d", 0o700);
    assert!(e.contains(&format!("{:?}", dir.at("d"))) && e.contains("ermission denied"), "{e}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let dir = Dir::new(&Tree::new());
    fs::remove_dir(dir.at("")).unwrap();
    let e = chain_text(&dir.all().unwrap_err());
    let want =
        format!("cannot read {:?} of the build context: No such file or directory (os error 2)", dir.at(""));
    assert_eq!(e, want);
}

#[test]
fn a_file_that_changes_after_it_was_read_is_told() {
    let dir = Dir::new(&tree(&[("f", File("one")), ("gone", File("two"))]));
    let c = dir.all().unwrap();
    fs::write(dir.at("f"), "other").unwrap();
    fs::remove_file(dir.at("gone")).unwrap();
    // The store has them still; another one must be given them.
    c.provide_all(&dir.store.batch()).unwrap();
    let other = Store::open(&dir.dir.path().join("other")).unwrap();
    let provide = |text: &str| c.provide_one(&other.batch(), &oci::Digest::of(text.as_bytes()));
    let error = |text: &str| chain_text(&provide(text).unwrap_err());
    assert_eq!(
        error("one"),
        format!("{:?} of the build context changed while the build was running", dir.at("f"))
    );
    assert!(error("two").starts_with(&format!("cannot read {:?} of the build context", dir.at("gone"))));
    provide("not of this context").unwrap();
}

#[test]
fn reading_stops_when_the_build_does() {
    let dir = Dir::new(&tree(&[("f", File("f"))]));
    let mut needed = Needed::default();
    needed.everything();
    let stopped = read(&dir.store, &dir.at(""), &needed, None, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(ContextError::Interrupted)), "{stopped:?}");
}
