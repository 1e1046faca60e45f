//! Archives that ADD unpacks merge into the destination.

use oci::{Entry, Tree};

use super::kit::copy_with;
use crate::images::chain_text;
use crate::testkit::*;

/// The destination after `ADD args`, where `a.tar` is an archive with these rows.
fn add<R: Row>(dest: &Tree, args: &str, rows: &[R]) -> Vec<String> {
    add_entries(dest, args, rows.iter().map(Row::entry).collect())
}

fn add_entries(dest: &Tree, args: &str, entries: Vec<Entry>) -> Vec<String> {
    let src = tree(&[("a.tar", File("tar")), ("plain", File("plain"))]);
    let mut after = dest.clone();
    match copy_with(&src, dest, &format!("--unpack {args}"), Some(("a.tar", entries))) {
        Ok(layer) => {
            after.apply(&layer).unwrap();
            lines(&after)
        }
        Err(e) => vec![chain_text(&e)],
    }
}

#[test]
fn the_destination_is_always_a_directory() {
    assert_eq!(add(&Tree::new(), "a.tar /x/y", &[("f", File("f"))]), ["x/", "x/y/", "x/y/f: f"]);
    assert_eq!(add(&Tree::new(), "a.tar plain /x/", &[("f", File("f"))]), ["x/", "x/f: f", "x/plain: plain"]);
    let file = tree(&[("x", File("old"))]);
    assert_eq!(add(&file, "a.tar /x", &[("f", File("f"))]), ["cannot copy to non-directory: \"/x\""]);
}

#[test]
fn it_merges_as_tar_does() {
    let dest = tree(&[
        ("keep", File("k"), 0o644, (0, 0)),
        ("d", Dir, 0o711, (1, 1)),
        ("d/old", File("old"), 0o644, (0, 0)),
        ("e/deep/x", File("x"), 0o644, (0, 0)),
        ("f", File("old"), 0o600, (1, 1)),
    ]);
    let rows = [
        ("d", Dir, 0o750, (5, 6)),
        ("d/new", File("new"), 0o4755, (5, 6)),
        ("e", File("now a file"), 0o644, (0, 0)),
        ("f/in", File("f is a directory"), 0o644, (0, 0)),
        ("f", Dir, 0o700, (0, 0)),
    ];
    let want = [
        "d/ [750 5:6]",
        "d/new: new [4755 5:6]",
        "d/old: old",
        "e: now a file",
        "f/ [700]",
        "f/in: f is a directory",
        "keep: k",
    ];
    assert_eq!(add(&dest, "a.tar /", &rows), want);
}

#[test]
fn chown_counts_and_chmod_does_not() {
    let rows = [("d/f", File("f"), 0o4755, (5, 6)), ("l", Link("d"), 0o777, (5, 6))];
    assert_eq!(
        add(&Tree::new(), "--chown=1:2 --chmod=600 a.tar /x/", &rows),
        ["x/ [1:2]", "x/d/", "x/d/f: f [4755 1:2]", "x/l -> d [1:2]"]
    );
}

#[test]
fn links_of_the_destination_are_followed_on_the_way() {
    let dest = tree(&[("usr/lib/a", File("a")), ("lib", Link("usr/lib")), ("dest", Link("/usr"))]);
    // As root file systems with a merged /usr need it.
    assert_eq!(
        add(&dest, "a.tar /", &[("lib/b", File("b"))]),
        ["dest -> /usr", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a: a", "usr/lib/b: b"]
    );
    assert_eq!(
        add(&dest, "a.tar /dest/", &[("lib/b", File("b")), ("n/m", File("m"))]),
        [
            "dest -> /usr",
            "lib -> usr/lib",
            "usr/",
            "usr/lib/",
            "usr/lib/a: a",
            "usr/lib/b: b",
            "usr/n/",
            "usr/n/m: m"
        ]
    );
    // An entry for the link's own name replaces it.
    assert_eq!(
        add(&dest, "a.tar /", &[("lib", Dir), ("lib/b", File("b"))]),
        ["dest -> /usr", "lib/", "lib/b: b", "usr/", "usr/lib/", "usr/lib/a: a"]
    );
}

#[test]
fn hard_links_of_the_archive_stay() {
    assert_eq!(
        add(&Tree::new(), "a.tar /x", &[("a", File("1")), ("b", Hard("a"))]),
        ["x/", "x/a: 1", "x/b => x/a"]
    );
}

#[test]
fn of_the_extended_attributes_only_capabilities_stay() {
    let mut e = ("f", File("f")).entry();
    e.attrs.xattrs =
        vec![(b"security.capability".to_vec(), b"cap".to_vec()), (b"user.x".to_vec(), b"1".to_vec())].into();
    assert_eq!(add_entries(&Tree::new(), "a.tar /", vec![e]), ["f: f [security.capability=cap]"]);
}
