//! What a copy makes of its destination.

use super::kit::{copy, copy_with, table};
use crate::testkit::*;

use oci::{Time, Tree};

fn src() -> Tree {
    tree(&[
        ("f", File("new"), 0o640, (7, 8)),
        ("d", Dir, 0o700, (5, 6)),
        ("d/f", File("new"), 0o644, (0, 0)),
        ("d/s", Dir, 0o750, (5, 6)),
        ("d/s/x", File("x"), 0o4755, (0, 0)),
        ("d/l", Link("f"), 0o777, (9, 9)),
        ("d/p", Fifo, 0o644, (0, 0)),
        ("d/c", Char(1, 3), 0o666, (0, 0)),
    ])
}

#[test]
fn modes_and_owners_come_from_the_source_or_the_flags() {
    table(
        &src(),
        &Tree::new(),
        &[
            ("f /a/b", &["a/", "a/b: new [640 7:8]"]),
            ("--chown=1:2 f /a/b", &["a/ [1:2]", "a/b: new [640 1:2]"]),
            ("--chmod=600 f /a/b", &["a/ [600]", "a/b: new [600 7:8]"]),
            // Set-ID and sticky bits are for what is copied, not for the directories on the way.
            ("--chmod=7751 f /a/b", &["a/ [751]", "a/b: new [7751 7:8]"]),
            ("--chmod=u=rwX,go=rX f /a/b", &["a/", "a/b: new [7:8]"]),
            // The top directory's own attributes stay behind.
            (
                "d /a",
                &[
                    "a/",
                    "a/c c1:3 [666]",
                    "a/f: new",
                    "a/l -> f [9:9]",
                    "a/p |",
                    "a/s/ [750 5:6]",
                    "a/s/x: x [4755]",
                ],
            ),
            (
                "--chown=1:2 --chmod=700 d /a",
                &[
                    "a/ [700 1:2]",
                    "a/c c1:3 [700 1:2]",
                    "a/f: new [700 1:2]",
                    "a/l -> f [1:2]",
                    "a/p | [700 1:2]",
                    "a/s/ [700 1:2]",
                    "a/s/x: x [700 1:2]",
                ],
            ),
            ("--chmod=g+w,o= d/s /a/", &["a/", "a/x: x [4770]"]),
        ],
    );
}

#[test]
fn new_parents_are_0755_and_old_ones_stay() {
    let dest = tree(&[("old", Dir, 0o1777, (3, 4))]);
    table(
        &src(),
        &dest,
        &[
            ("--chown=1:2 f /old/new/x", &["old/ [1777 3:4]", "old/new/ [1:2]", "old/new/x: new [640 1:2]"]),
            ("--chmod=700 d/s /old", &["old/ [1777 3:4]", "old/x: x [700]"]),
        ],
    );
    // Times of what is made, and of what is only on the way.
    let layer = copy_with(&src(), &dest, "f /old/new/", None).unwrap();
    let time = |p: &str| layer.get(p.as_bytes()).unwrap().attrs.mtime;
    assert_eq!(
        [time("old"), time("old/new"), time("old/new/f")],
        [Time::default(), SOME_TIME, Time::default()]
    );
}

#[test]
fn a_set_group_id_parent_hands_its_group_on() {
    let dest = tree(&[("g", Dir, 0o2775, (0, 50))]);
    table(
        &src(),
        &dest,
        &[
            ("d/f /g/n/m/f", &["g/ [2775 0:50]", "g/n/ [2755 0:50]", "g/n/m/ [2755 0:50]", "g/n/m/f: new"]),
            ("--chown=1:2 d/f /g/n/f", &["g/ [2775 0:50]", "g/n/ [2755 1:2]", "g/n/f: new [1:2]"]),
        ],
    );
}

#[test]
fn what_may_replace_what() {
    let dest = tree(&[
        ("f", File("old"), 0o600, (1, 1)),
        ("h1", File("linked"), 0o644, (0, 0)),
        ("h2", Hard("h1"), 0, (0, 0)),
        ("l", Link("f"), 0o777, (0, 0)),
        ("d", Dir, 0o711, (1, 1)),
        ("d/f", File("old"), 0o600, (1, 1)),
        ("d/s", Dir, 0o711, (1, 1)),
        ("e/f/in-the-way", File(""), 0o644, (0, 0)),
        ("k/s", File("a file"), 0o644, (0, 0)),
        ("m/s", Link("/d"), 0o777, (0, 0)),
        ("q/f", Link("/f"), 0o777, (0, 0)),
    ]);
    table(
        &src(),
        &dest,
        &[
            ("d/f /f", &["f: new"]),
            ("d/f /d/", &["d/ [711 1:1]", "d/f: new"]),
            ("d/f /d", &["d/ [711 1:1]", "d/f: new"]),
            // Directories below the top take the source's attributes, the top keeps its own.
            ("--exclude=[lpc] d /d", &["d/ [711 1:1]", "d/f: new", "d/s/ [750 5:6]", "d/s/x: x [4755]"]),
            ("d/f /e", &["error: cannot replace to directory \"/e/f\" with file"]),
            ("d /f", &["error: cannot copy to non-directory: \"/f\""]),
            ("d /f/", &["error: cannot copy to non-directory: \"/f\""]),
            ("f /f/", &["error: cannot copy to non-directory: \"/f\""]),
            ("f /f/x", &["error: cannot copy to non-directory: \"/f\""]),
            ("d /k", &["error: cannot copy to non-directory: \"/k/s\""]),
            ("d /m", &["error: cannot copy to non-directory: \"/m/s\""]),
            // A link that a file would replace is replaced, not followed.
            ("d/f /q/", &["q/", "q/f: new"]),
        ],
    );
    // A new file under one name of a hard-linked one leaves the other.
    let mut after = dest.clone();
    after.apply(&copy_with(&src(), &dest, "d/f /h1", None).unwrap()).unwrap();
    let names = lines(&after);
    assert!(names.contains(&"h1: new".into()) && names.contains(&"h2: linked".into()), "{names:?}");
}

#[test]
fn links_on_the_way_to_the_destination_are_followed_inside_the_root() {
    let dest = tree(&[
        ("real", Dir),
        ("rel", Link("real")),
        ("abs", Link("/real")),
        ("out", Link("../../../real")),
        ("dangling", Link("made/here")),
        ("file", File("old")),
        ("to-file", Link("file")),
        ("round", Link("round")),
    ]);
    let into: &[&str] = &["real/", "real/f: new"];
    table(
        &src(),
        &dest,
        &[
            ("d/f /rel/", into),
            ("d/f /rel", into),
            ("d/f /rel/f", into),
            ("d/f /abs/", into),
            ("d/f /out/f", into),
            ("d/s /abs", &["real/", "real/x: x [4755]"]),
            ("d/s /rel/sub/", &["real/", "real/sub/", "real/sub/x: x [4755]"]),
            ("d/f /dangling", &["made/", "made/here: new"]),
            ("d/f /dangling/", &["made/", "made/here/", "made/here/f: new"]),
            ("d/s /dangling", &["made/", "made/here/", "made/here/x: x [4755]"]),
            ("d/f /to-file", &["file: new"]),
            (
                "d/f /round/x",
                &["error: destination cannot be reached: \"/round\" leads through too many symbolic links"],
            ),
        ],
    );
}

#[test]
fn a_linked_copy_does_not_look_at_what_is_there() {
    let dest = tree(&[("real", Dir), ("l", Link("real")), ("f", File("old"))]);
    let after = |args: &str| {
        let mut t = dest.clone();
        t.apply(&copy_with(&src(), &dest, args, None).unwrap()).unwrap();
        lines(&t)
    };
    assert_eq!(after("--link d/f /l/"), ["f: old", "l/", "l/f: new", "real/"]);
    assert_eq!(after("--link d/f /real/x"), ["f: old", "l -> real", "real/", "real/x: new"]);
    assert_eq!(after("--link d/s /f/"), ["f/", "f/x: x [4755]", "l -> real", "real/"]);
}

#[test]
fn hard_links_stay_inside_one_copied_directory() {
    let src = tree(&[("d/a", File("1")), ("d/b", Hard("d/a")), ("d/s/c", Hard("d/a")), ("e/d", Hard("d/a"))]);
    table(
        &src,
        &Tree::new(),
        &[
            ("d /o/", &["o/", "o/a: 1", "o/b => o/a", "o/s/", "o/s/c => o/a"]),
            ("d e /o/", &["o/", "o/a: 1", "o/b => o/a", "o/d: 1", "o/s/", "o/s/c => o/a"]),
            ("d/a d/b /o/", &["o/", "o/a: 1", "o/b: 1"]),
            ("--exclude=a d /o/", &["o/", "o/b: 1", "o/s/", "o/s/c => o/b"]),
        ],
    );
    // A second source that replaces the first name leaves the others linked.
    let two = tree(&[("d/a", File("1")), ("d/b", Hard("d/a")), ("d/c", Hard("d/a")), ("a", File("2"))]);
    assert_eq!(copy(&two, &Tree::new(), "d a /o/"), ["o/", "o/a: 2", "o/b: 1", "o/c => o/b"]);
}

#[test]
fn of_the_extended_attributes_only_capabilities_stay() {
    let mut e = ("f", File("f")).entry();
    e.attrs.xattrs = vec![
        (b"security.capability".to_vec(), b"cap".to_vec()),
        (b"security.selinux".to_vec(), b"label".to_vec()),
        (b"user.note".to_vec(), b"text".to_vec()),
    ]
    .into();
    assert_eq!(copy(&tree_of(vec![e]), &Tree::new(), "f /"), ["f: f [security.capability=cap]"]);
}

#[test]
fn a_later_source_sees_what_an_earlier_one_made() {
    let src = tree(&[("l/x", Link("/target")), ("f", File("f")), ("d/x", Dir), ("d/x/y", File("y"))]);
    table(
        &src,
        &tree(&[("target", Dir)]),
        &[
            // The link that came first is a destination for nobody: names below the top are replaced or refused.
            ("l d /", &["error: cannot copy to non-directory: \"/x\""]),
            ("l f /x", &["x/", "x/f: f", "x/x -> /target"]),
            ("f d /o", &["error: cannot copy to non-directory: \"/o\""]),
            ("d f /o", &["o/", "o/f: f", "o/x/", "o/x/y: y"]),
        ],
    );
}
