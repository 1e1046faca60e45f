//! Which files are read.

use super::{Dir, Needed};
use crate::testkit::*;

fn dir() -> Dir {
    Dir::new(&tree(&[
        ("a", File("a")),
        ("d/x", File("dx")),
        ("d/s/y", File("y")),
        ("d/s/up", Link("../../e")),
        ("e/x", File("ex")),
        ("link", Link("d")),
        ("chain", Link("link")),
        ("abs", Link("/d")),
        ("out", Link("../../../e")),
        ("host", Link("/etc/passwd")),
        ("broken", Link("nothing")),
        ("round", Link("round")),
        ("grows", Link("grows/more")),
        ("[x]", File("brackets")),
    ]))
}

#[test]
fn only_what_is_named() {
    let rows: &[(&[&str], &[&str])] = &[
        (&["a"], &["a: a"]),
        (&["/a", "./d/x"], &["a: a", "d/", "d/x: dx"]),
        (&["../../a"], &["a: a"]),
        (&["d/s"], &["d/", "d/s/", "d/s/up -> ../../e", "d/s/y: y"]),
        (&["none", "d/none"], &["d/"]),
        // What has nothing below it is not read; links may.
        (
            &["*/x"],
            &[
                "abs -> /d",
                "broken -> nothing",
                "chain -> link",
                "d/",
                "d/x: dx",
                "e/",
                "e/x: ex",
                "grows -> grows/more",
                "host -> /etc/passwd",
                "link -> d",
                "out -> ../../../e",
                "round -> round",
            ],
        ),
        (&["d/*/y"], &["d/", "d/s/", "d/s/y: y"]),
        (&["[ae]"], &["a: a", "e/", "e/x: ex"]),
        (&["[[]x]"], &["[x]: brackets"]),
        // A link on the way: it, and what it leads to.
        (&["link/x"], &["d/", "d/x: dx", "link -> d"]),
        (&["link"], &["d/", "d/s/", "d/s/up -> ../../e", "d/s/y: y", "d/x: dx", "link -> d"]),
        (&["lin?/x"], &["d/", "d/x: dx", "link -> d"]),
        (&["chain/x"], &["chain -> link", "d/", "d/x: dx", "link -> d"]),
        (&["abs/x"], &["abs -> /d", "d/", "d/x: dx"]),
        (&["d/s/up/x"], &["d/", "d/s/", "d/s/up -> ../../e", "e/", "e/x: ex"]),
        // Links that lead out stay in.
        (&["out/x"], &["e/", "e/x: ex", "out -> ../../../e"]),
        (&["host"], &["host -> /etc/passwd"]),
        (&["broken", "round", "grows"], &["broken -> nothing", "grows -> grows/more", "round -> round"]),
    ];
    let dir = dir();
    for (sources, want) in rows {
        assert_eq!(lines(&dir.read(sources, &[]).tree), *want, "{sources:?}");
    }
    assert_eq!(lines(&dir.read(&["."], &[]).tree), lines(&dir.all().unwrap().tree));
    assert_eq!(dir.all().unwrap().count, 5);
    assert!(dir.read(&[], &[]).tree.is_empty());
}

#[test]
fn what_parents_may_select() {
    let dir = dir();
    let read = |source: &str| {
        let mut needed = Needed::default();
        needed.parents(source);
        lines(&dir.read_needed(&needed, &[]).unwrap().tree)
    };
    assert_eq!(read("d/s/y"), ["d/", "d/s/", "d/s/y: y"]);
    assert_eq!(read("d/./s/y"), ["d/", "d/s/", "d/s/y: y"]);
    assert_eq!(read("./[de]/./x"), ["d/", "d/x: dx", "e/", "e/x: ex"]);
    assert_eq!(read("d/**/y"), ["d/", "d/s/", "d/s/up -> ../../e", "d/s/y: y", "d/x: dx"]);
    assert_eq!(read("**/x"), lines(&dir.all().unwrap().tree));
}

#[test]
fn ignored_files_are_not_there() {
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        // Sources, patterns, what is left.
        (&["d"], &["d"], &[]),
        (&["d/x"], &["d"], &[]),
        (&["d"], &["d/s"], &["d/", "d/x: dx"]),
        (&["d"], &["**/y"], &["d/", "d/s/", "d/s/up -> ../../e", "d/x: dx"]),
        (&["d", "e"], &["*", "!e"], &["e/", "e/x: ex"]),
        // A child comes back, and its directories with it.
        (&["d"], &["d", "!d/s/y"], &["d/", "d/s/", "d/s/y: y"]),
        (&["."], &["*", "!d/x"], &["d/", "d/x: dx"]),
        (&["."], &["*", "!**/x"], &["d/", "d/x: dx", "e/", "e/x: ex"]),
        (&["d"], &["d", "!d/none"], &[]),
        (&["d"], &["d/*", "!d/s"], &["d/", "d/s/", "d/s/up -> ../../e", "d/s/y: y"]),
        (&["d"], &["d", "!d/s", "d/s/y"], &["d/", "d/s/", "d/s/up -> ../../e"]),
        // A link that is ignored leads nowhere; one that is not does not bring back what is.
        (&["link/x"], &["link"], &[]),
        (&["link/x"], &["d"], &["link -> d"]),
    ];
    let dir = dir();
    for (sources, ignore, want) in rows {
        assert_eq!(lines(&dir.read(sources, ignore).tree), *want, "{sources:?} without {ignore:?}");
    }
    let c = dir.read(&["d", "none"], &["d/x"]);
    assert!(c.hides("/d/x") && c.hides("d/../d/x"), "it is there, but ignored");
    assert!(!c.hides("none") && !c.hides("d/s/y"));
}

#[test]
fn an_ignored_directory_that_comes_back_keeps_its_attributes() {
    let dir = Dir::new(&tree(&[("d", Dir, 0o750), ("d/x", File("x"), 0o644), ("d/y", File("y"), 0o644)]));
    assert_eq!(lines(&dir.read(&["."], &["d", "!d/x"]).tree), ["d/ [750]", "d/x: x"]);
}

#[test]
fn an_ignored_directory_does_not_stay_for_a_file_whose_name_begins_like_it() {
    let dir = Dir::new(&tree(&[("d/x", File("x")), ("d.c", File("c")), ("dd", File("d"))]));
    assert_eq!(lines(&dir.read(&["."], &["d", "!dd", "!d.c"]).tree), ["d.c: c", "dd: d"]);
}

#[test]
fn a_wide_and_deep_directory_is_read_by_several_threads_as_by_one() {
    let paths: Vec<String> = (0..60)
        .flat_map(|n| {
            [format!("d{n}/sub/deep/f"), format!("d{n}/sub/g"), format!("out{n}/x/kept"), format!("out{n}/y")]
        })
        .collect();
    let rows: Vec<_> = paths.iter().map(|p| (p.as_str(), File("f"))).collect();
    let dir = Dir::new(&tree(&rows));
    let names = |c: &crate::context::Context| {
        let layer = c.layer().unwrap();
        layer.entries().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect::<Vec<_>>()
    };
    let all = dir.read(&["/"], &["out*", "!out*/x/kept"]);
    let mut want: Vec<String> = (0..60)
        .flat_map(|n| {
            ["d#", "d#/sub", "d#/sub/deep", "d#/sub/deep/f", "d#/sub/g", "out#", "out#/x", "out#/x/kept"]
                .map(|p| p.replace('#', &n.to_string()))
        })
        .collect();
    want.sort();
    let mut got = names(&all);
    got.sort();
    assert_eq!(got, want);
    assert_eq!(names(&dir.read(&["*/sub/g"], &[])).iter().filter(|p| p.ends_with("/sub/g")).count(), 60);
}
