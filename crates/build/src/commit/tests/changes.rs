//! One change each.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::kit::{Overlay, make_node, set_mtime, store};
use crate::testkit::*;

use oci::Tree;

fn base() -> Tree {
    tree_of(
        [
            ("a", File("a"), 0o644, (0, 0)),
            ("d", Dir, 0o755, (0, 0)),
            ("d/f", File("f"), 0o640, (5, 6)),
            ("d/s", Dir, 0o700, (0, 0)),
            ("d/s/x", File("x"), 0o755, (0, 0)),
            ("empty", Dir, 0o755, (0, 0)),
            ("h1", File("h"), 0o644, (0, 0)),
            ("h2", Hard("h1"), 0o644, (0, 0)),
            ("l", Link("d"), 0o777, (0, 0)),
        ]
        .iter()
        .map(|row| {
            let mut e = row.entry();
            e.attrs.mtime = SOME_TIME;
            e
        })
        .collect(),
    )
}

/// A change, and the layer that it makes.
type Case = (&'static str, fn(&Overlay), &'static [&'static str]);

#[test]
fn changes_and_their_layers() {
    let cases: &[Case] = &[
        ("nothing", |_| {}, &[]),
        ("new file", |o| fs::write(o.at("d/new"), "n").unwrap(), &["d/", "d/new: n"]),
        ("changed file", |o| fs::write(o.at("a"), "b").unwrap(), &["a: b"]),
        (
            "appended file",
            |o| fs::OpenOptions::new().append(true).open(o.at("d/f")).unwrap().write_all(b"+").unwrap(),
            &["d/", "d/f: f+ [640 5:6]"],
        ),
        ("removed file", |o| fs::remove_file(o.at("a")).unwrap(), &["a gone"]),
        (
            "removed file below",
            |o| fs::remove_file(o.at("d/s/x")).unwrap(),
            &["d/", "d/s/ [700]", "d/s/x gone"],
        ),
        ("removed directory", |o| fs::remove_dir_all(o.at("d")).unwrap(), &["d gone"]),
        (
            "replaced directory",
            |o| {
                fs::remove_dir_all(o.at("d")).unwrap();
                fs::create_dir(o.at("d")).unwrap();
                fs::write(o.at("d/n"), "n").unwrap();
            },
            &["d/ opaque", "d/n: n"],
        ),
        (
            "directory becomes a file",
            |o| {
                fs::remove_dir_all(o.at("d")).unwrap();
                fs::write(o.at("d"), "n").unwrap();
            },
            &["d: n"],
        ),
        (
            "file becomes a directory",
            |o| {
                fs::remove_file(o.at("a")).unwrap();
                fs::create_dir(o.at("a")).unwrap();
            },
            &["a/"],
        ),
        (
            "link becomes a directory",
            |o| {
                fs::remove_file(o.at("l")).unwrap();
                fs::create_dir(o.at("l")).unwrap();
                fs::write(o.at("l/f"), "n").unwrap();
            },
            &["l/", "l/f: n"],
        ),
        (
            "new file and gone again",
            |o| {
                fs::write(o.at("n"), "n").unwrap();
                fs::remove_file(o.at("n")).unwrap();
            },
            &[],
        ),
        (
            "chmod",
            |o| fs::set_permissions(o.at("a"), fs::Permissions::from_mode(0o600)).unwrap(),
            &["a: a [600]"],
        ),
        ("chown", |o| chown(o.at("d/s"), Some(1), Some(2)).unwrap(), &["d/", "d/s/ [700 1:2]"]),
        (
            "opened for writing only",
            |o| drop(fs::OpenOptions::new().append(true).open(o.at("a")).unwrap()),
            &[],
        ),
        (
            "written with the same bytes and time",
            |o| {
                fs::write(o.at("d/f"), "f").unwrap();
                set_mtime(&o.at("d/f"), SOME_TIME);
            },
            &[],
        ),
        ("touched", |o| set_mtime(&o.at("a"), oci::Time::from_secs(5)), &["a: a"]),
        (
            "mode of the root",
            |o| fs::set_permissions(o.at(""), fs::Permissions::from_mode(0o1777)).unwrap(),
            &["/ [1777]"],
        ),
        (
            "new hard links",
            |o| {
                fs::create_dir(o.at("n")).unwrap();
                fs::write(o.at("n/2"), "n").unwrap();
                fs::hard_link(o.at("n/2"), o.at("n/1")).unwrap();
                fs::hard_link(o.at("n/2"), o.at("d/3")).unwrap();
            },
            &["d/", "d/3: n", "n/", "n/1 => d/3", "n/2 => d/3"],
        ),
        ("hard link to an old file", |o| fs::hard_link(o.at("a"), o.at("b")).unwrap(), &["a: a", "b => a"]),
        ("one name of a hard-linked file", |o| fs::write(o.at("h1"), "n").unwrap(), &["h1: n"]),
        (
            "one name of a hard-linked file, unchanged",
            |o| drop(fs::OpenOptions::new().append(true).open(o.at("h2")).unwrap()),
            &["h2: h"],
        ),
        ("new link", |o| symlink("a/b", o.at("n")).unwrap(), &["n -> a/b"]),
        (
            "hard link to a link",
            |o| {
                symlink("x", o.at("n1")).unwrap();
                fs::hard_link(o.at("n1"), o.at("n2")).unwrap();
            },
            &["n1 -> x", "n2 => n1"],
        ),
        ("pipe", |o| make_node(&o.at("n"), Fifo).unwrap(), &["n |"]),
        ("device", |o| make_node(&o.at("n"), Char(1, 3)).unwrap(), &["n c1:3"]),
        (
            "new socket",
            |o| drop(std::os::unix::net::UnixListener::bind(o.at("empty/n")).unwrap()),
            // A layer cannot hold it; its directory changed all the same.
            &["empty/"],
        ),
        (
            "socket in place of a file",
            |o| {
                fs::remove_file(o.at("a")).unwrap();
                drop(std::os::unix::net::UnixListener::bind(o.at("a")).unwrap());
            },
            &["a gone"],
        ),
        (
            "renamed file",
            |o| fs::rename(o.at("d/f"), o.at("empty/f")).unwrap(),
            &["d/", "d/f gone", "empty/", "empty/f: f [640 5:6]"],
        ),
    ];
    let Some((_dir, store)) = store() else { return };
    for (name, change, want) in cases {
        let o = Overlay::new(&base(), &store);
        change(&o);
        let seen = o.seen();
        let layer = o.commit().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(layer_lines(&layer), *want, "{name}");
        let mut after = o.tree.clone();
        after.apply(&layer).unwrap();
        assert_eq!(lines(&after), lines(&seen), "{name}: the layer on its parent");
    }
}

#[test]
fn a_replaced_directory_keeps_what_was_put_back() {
    let Some((_dir, store)) = store() else { return };
    let o = Overlay::new(&base(), &store);
    fs::remove_dir_all(o.at("d")).unwrap();
    // The same files, to the last attribute, as an unpacked archive has them.
    for (path, mode) in [("d", 0o755), ("d/s", 0o700)] {
        fs::create_dir(o.at(path)).unwrap();
        fs::set_permissions(o.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(o.at("d/s/x"), "x").unwrap();
    fs::set_permissions(o.at("d/s/x"), fs::Permissions::from_mode(0o755)).unwrap();
    for path in ["d/s/x", "d/s", "d"] {
        set_mtime(&o.at(path), SOME_TIME);
    }
    assert_eq!(o.lines(), ["d/ opaque", "d/s/ [700]", "d/s/x: x [755]"]);
}

#[test]
fn capabilities_are_kept_and_notes_are_not() {
    let Some((_dir, store)) = store() else { return };
    let o = Overlay::new(&base(), &store);
    let set = |name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(o.at("a"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    // Version 2, cap_net_raw in permitted and effective.
    let cap = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("user.note", b"text");
    set("security.capability", &cap);
    let layer = o.commit().unwrap();
    assert_eq!(*layer.get(b"a").unwrap().attrs.xattrs, [(b"security.capability".to_vec(), cap.to_vec())]);
    assert_eq!(layer.entries().len(), 1);
}

#[test]
fn stubs_of_mounts_are_left_out_while_they_are_empty() {
    let Some((_dir, store)) = store() else { return };
    let mut o = Overlay::new(&base(), &store);
    o.stubs = [&b"run"[..], b"run/secrets", b"mnt", b"d/m"].map(<[u8]>::to_vec).to_vec();
    fs::create_dir_all(o.at("run/secrets")).unwrap();
    fs::create_dir(o.at("mnt")).unwrap();
    fs::write(o.at("mnt/kept"), "k").unwrap();
    fs::create_dir(o.at("d/m")).unwrap();
    set_mtime(&o.at("d"), SOME_TIME);
    assert_eq!(o.lines(), ["mnt/", "mnt/kept: k"]);
}

#[test]
fn odd_names() {
    use std::os::unix::ffi::OsStrExt;
    let Some((_dir, store)) = store() else { return };
    let o = Overlay::new(&base(), &store);
    let name = std::ffi::OsStr::from_bytes(b"\xff\n\\ ");
    fs::write(o.at("d").join(name), "n").unwrap();
    let long = "x".repeat(255);
    fs::write(o.at(&long), "n").unwrap();
    let layer = o.commit().unwrap();
    assert!(layer.get(b"d/\xff\n\\ ").is_some() && layer.get(long.as_bytes()).is_some());
}

#[test]
fn deep_directories_are_walked() {
    let Some((_dir, store)) = store() else { return };
    let o = Overlay::new(&base(), &store);
    // As deep as the length of a path allows.
    let room = 4095 - o.upper().as_os_str().len() - 2;
    let deep = "x/".repeat(room / 2 - 1);
    fs::create_dir_all(o.upper().join(&deep)).unwrap();
    let layer = o.commit().unwrap();
    assert_eq!(layer.entries().len(), deep.len() / 2);
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let Some((_dir, store)) = store() else { return };
    let o = Overlay::new(&base(), &store);
    let gone = o.upper().join("gone");
    let e = layer_of(&gone, &o);
    assert_eq!(e, format!("cannot read {gone:?}, which the step left"));
}

fn layer_of(upper: &std::path::Path, o: &Overlay) -> String {
    crate::commit::layer_of_upper(upper, &o.tree, &[], &o.store.batch()).unwrap_err().to_string()
}
