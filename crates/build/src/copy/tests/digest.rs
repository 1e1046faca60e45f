//! What the digest of a selection depends on.

use oci::{Digest, Entry, Hasher, Time, Tree};

use super::kit::parse;
use crate::copy::{Source, select};
use crate::testkit::*;

fn digest(src: &Tree, args: &str) -> Digest {
    let (spec, sources, _) = parse(args);
    let mut h = Hasher::new();
    for path in sources {
        select(&Source { tree: src, path }, &spec).unwrap().hash_into(src, &mut h).unwrap();
    }
    h.finish()
}

fn rows() -> Vec<Entry> {
    [("d/a", File("1")), ("d/b", File("2")), ("d/l", Link("a")), ("d/s/c", Char(1, 3)), ("other", File("o"))]
        .iter()
        .map(Row::entry)
        .collect()
}

fn changed(args: &str, change: impl Fn(&mut Vec<Entry>)) -> bool {
    let mut other = rows();
    change(&mut other);
    digest(&tree_of(rows()), args) != digest(&tree_of(other), args)
}

#[test]
fn content_type_mode_owner_and_names_count() {
    let counts = |change: fn(&mut Vec<Entry>)| changed("d /o/", change);
    assert!(!counts(|_| {}));
    assert!(counts(|e| e[0] = ("d/a", File("9")).entry()), "content");
    assert!(counts(|e| e[0].attrs.mode = 0o600), "mode");
    assert!(counts(|e| e[0].attrs.uid = 1), "user");
    assert!(counts(|e| e[0].attrs.gid = 1), "group");
    assert!(counts(|e| e[0].path = b"d/A".to_vec()), "name");
    assert!(counts(|e| e[0] = ("d/a", Fifo).entry()), "type");
    assert!(counts(|e| e[2] = ("d/l", Link("b")).entry()), "link target");
    assert!(counts(|e| e[3] = ("d/s/c", Char(1, 5)).entry()), "device number");
    assert!(counts(|e| e.push(("d/new", Dir).entry())), "an empty directory");
    assert!(counts(|e| drop(e.remove(1))), "a file that is gone");
    assert!(
        counts(|e| e[0].attrs.xattrs = vec![(b"security.capability".to_vec(), b"x".to_vec())].into()),
        "capability"
    );
    assert!(counts(|e| e.swap_remove(0).path = b"d/s/a".to_vec()), "place");
}

#[test]
fn times_and_what_is_not_selected_do_not() {
    let counts = |change: fn(&mut Vec<Entry>)| changed("d /o/", change);
    assert!(!counts(|e| e.iter_mut().for_each(|e| e.attrs.mtime = Time::from_secs(5))));
    assert!(!counts(|e| e[4] = ("other", File("changed")).entry()));
    assert!(!changed("--exclude=b d /o/", |e| e[1] = ("d/b", File("changed")).entry()));
    // The directory gives its content: neither its name nor its attributes count.
    let here = tree(&[("d", Dir, 0o755), ("d/f", File("f"), 0o644)]);
    let there = tree(&[("x/y", Dir, 0o700), ("x/y/f", File("f"), 0o644)]);
    assert_eq!(digest(&here, "d /o/"), digest(&there, "x/y /o/"));
    assert_eq!(digest(&here, "d /o/"), digest(&there, "x/* /o/"));
}

#[test]
fn a_file_counts_with_its_name() {
    let t = tree(&[("a", File("1")), ("b", File("1")), ("x/a", File("1"))]);
    assert_ne!(digest(&t, "a /o/"), digest(&t, "b /o/"));
    assert_eq!(digest(&t, "a /o/"), digest(&t, "x/a /o/"));
}

#[test]
fn the_order_of_sources_counts() {
    let t = tree(&[("a", File("1")), ("b", File("2"))]);
    assert_ne!(digest(&t, "a b /o"), digest(&t, "b a /o"));
    assert_ne!(digest(&t, "a b /o"), digest(&t, "a /o"));
    assert_eq!(digest(&t, "a b /o/"), digest(&t, "[ab] /o/"));
}

#[test]
fn which_files_are_one_counts() {
    let linked = |to: &'static str| {
        tree(&[
            ("d/a", File("1")),
            ("d/b", File("1")),
            ("d/c", Hard(to)),
            ("d/d", Hard(if to == "d/a" { "d/b" } else { "d/a" })),
        ])
    };
    let separate = tree(&[("d/a", File("1")), ("d/b", File("1")), ("d/c", File("1")), ("d/d", File("1"))]);
    let all = [digest(&linked("d/a"), "d /o/"), digest(&linked("d/b"), "d /o/"), digest(&separate, "d /o/")];
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
}

#[test]
fn directories_that_lead_to_selected_files_count_and_others_do_not() {
    let t = |mode, other: &'static str| {
        tree(&[("d", Dir, mode), ("d/f", File("f"), 0o644), ("e", Dir, 0o755), ("e/g", File(other), 0o644)])
    };
    let d = |t: &Tree| digest(t, "--parents **/f /o/");
    assert_ne!(d(&t(0o755, "1")), d(&t(0o700, "1")));
    assert_eq!(d(&t(0o755, "1")), d(&t(0o755, "2")));
}
