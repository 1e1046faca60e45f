//! Which files a source means.

use super::kit::{copy, table};
use crate::testkit::*;

use oci::Tree;

fn context() -> Tree {
    tree(&[
        ("a.txt", File("a")),
        ("b.txt", File("b")),
        ("c.md", File("c")),
        ("d", Dir),
        ("d/a.txt", File("da")),
        ("d/empty", Dir),
        ("d/s/x", File("x")),
        ("e/s/y", File("y")),
        ("[x]", File("brackets")),
        (".hidden", File("h")),
    ])
}

#[test]
fn paths_are_of_the_root_and_stay_in_it() {
    let one: &[&str] = &["out/", "out/a.txt: a"];
    let from_d: &[&str] = &["out/", "out/a.txt: da"];
    table(
        &context(),
        &Tree::new(),
        &[
            ("a.txt /out/", one),
            ("/a.txt /out/", one),
            ("./a.txt /out/", one),
            ("../../a.txt /out/", one),
            ("d/../a.txt /out/", one),
            ("/d/./a.txt /out/", from_d),
            ("d/../../d/a.txt /out/", from_d),
            // A slash after a source means nothing.
            ("a.txt/ /out/", one),
        ],
    );
}

#[test]
fn a_directory_gives_its_content_and_a_file_itself() {
    let content: &[&str] = &["out/", "out/a.txt: da", "out/empty/", "out/s/", "out/s/x: x"];
    table(
        &context(),
        &Tree::new(),
        &[
            ("d /out", content),
            ("d/ /out/", content),
            ("d/. /out/", content),
            ("d/empty /out/", &["out/"]),
            ("a.txt /", &["a.txt: a"]),
            ("a.txt /out", &["out: a"]),
            ("a.txt /x/y", &["x/", "x/y: a"]),
            ("a.txt /x/y/", &["x/", "x/y/", "x/y/a.txt: a"]),
            ("a.txt /x/.", &["x/", "x/a.txt: a"]),
        ],
    );
}

#[test]
fn many_sources() {
    table(
        &context(),
        &Tree::new(),
        &[
            (
                "a.txt b.txt d /out/",
                &["out/", "out/a.txt: da", "out/b.txt: b", "out/empty/", "out/s/", "out/s/x: x"],
            ),
            // Without a slash the second file replaces the first, as in BuildKit.
            ("a.txt b.txt /out", &["out: b"]),
            ("d a.txt /out", &["out/", "out/a.txt: a", "out/empty/", "out/s/", "out/s/x: x"]),
            ("d e /out", &["out/", "out/a.txt: da", "out/empty/", "out/s/", "out/s/x: x", "out/s/y: y"]),
        ],
    );
}

#[test]
fn wildcards_match_one_component_and_flatten_directories() {
    table(
        &context(),
        &Tree::new(),
        &[
            ("*.txt /o/", &["o/", "o/a.txt: a", "o/b.txt: b"]),
            ("?.md /o/", &["o/", "o/c.md: c"]),
            ("[ab].txt /o/", &["o/", "o/a.txt: a", "o/b.txt: b"]),
            ("[^a].txt /o/", &["o/", "o/b.txt: b"]),
            ("*/a.txt /o/", &["o/", "o/a.txt: da"]),
            ("*/s /o/", &["o/", "o/x: x", "o/y: y"]),
            ("*/*/x /o/", &["o/", "o/x: x"]),
            ("d/* /o/", &["o/", "o/a.txt: da", "o/x: x"]),
            ("../*.md /o/", &["o/", "o/c.md: c"]),
            // `**` is `*` here.
            ("**/a.txt /o/", &["o/", "o/a.txt: da"]),
            (
                "* /o/",
                &[
                    "o/",
                    "o/.hidden: h",
                    "o/[x]: brackets",
                    "o/a.txt: da",
                    "o/b.txt: b",
                    "o/c.md: c",
                    "o/empty/",
                    "o/s/",
                    "o/s/x: x",
                    "o/s/y: y",
                ],
            ),
            ("[[]x] /o/", &["o/", "o/[x]: brackets"]),
            ("[[]* /o/", &["o/", "o/[x]: brackets"]),
        ],
    );
}

#[test]
fn a_wildcard_may_match_nothing_but_a_name_must_exist() {
    table(
        &context(),
        &Tree::new(),
        &[
            ("*.none /o/", &[]),
            ("*/none /o/", &[]),
            ("a.txt/* /o/", &[]),
            ("*.none a.txt /o/", &["o/", "o/a.txt: a"]),
            ("none /o/", &["error: \"/none\": not found"]),
            ("d/none /o/", &["error: \"/d/none\": not found"]),
            ("a.txt/x /o/", &["error: \"/a.txt/x\": not found"]),
            ("none/* /o/", &["error: \"/none\": not found"]),
        ],
    );
}

#[test]
fn links_of_sources_are_followed_at_the_top_only() {
    let src = tree(&[
        ("dir/f", File("f")),
        ("dir/inner", Link("f")),
        ("dir/up", Link("../../../etc/passwd")),
        ("etc/passwd", File("ours")),
        ("to-file", Link("dir/f")),
        ("to-dir", Link("dir")),
        ("absolute", Link("/dir/f")),
        ("out", Link("../../../../etc/passwd")),
        ("chain", Link("to-dir")),
        ("broken", Link("nothing")),
        ("round", Link("round")),
    ]);
    let content: &[&str] = &["o/", "o/f: f", "o/inner -> f", "o/up -> ../../../etc/passwd"];
    table(
        &src,
        &Tree::new(),
        &[
            ("to-file /o/", &["o/", "o/to-file: f"]),
            ("to-file /o", &["o: f"]),
            ("to-dir /o/", content),
            ("chain /o/", content),
            ("to-dir/f /o/", &["o/", "o/f: f"]),
            ("absolute /o/", &["o/", "o/absolute: f"]),
            // A link that leads out stays in: it is the root's own /etc/passwd.
            ("out /o/", &["o/", "o/out: ours"]),
            ("dir/up /o/", &["o/", "o/up: ours"]),
            ("to-* /o/", &["o/", "o/f: f", "o/inner -> f", "o/to-file: f", "o/up -> ../../../etc/passwd"]),
            ("broken /o/", &["error: \"/broken\": not found"]),
            (
                "round /o/",
                &["error: source cannot be reached: \"/round\" leads through too many symbolic links"],
            ),
        ],
    );
}

#[test]
fn exclude_is_relative_to_each_source() {
    table(
        &context(),
        &Tree::new(),
        &[
            ("--exclude=*.txt d /o/", &["o/", "o/empty/", "o/s/", "o/s/x: x"]),
            ("--exclude=s d /o/", &["o/", "o/a.txt: da", "o/empty/"]),
            ("--exclude=s --exclude=!s/x d /o/", &["o/", "o/a.txt: da", "o/empty/", "o/s/", "o/s/x: x"]),
            ("--exclude=* --exclude=!s d /o/", &["o/", "o/s/", "o/s/x: x"]),
            ("--exclude=**/x --exclude=empty d e /o/", &["o/", "o/a.txt: da", "o/s/", "o/s/y: y"]),
            ("--exclude=[ d /o/", &["error: bad pattern \"[\""]),
        ],
    );
}

#[test]
fn parents_keep_the_path() {
    table(
        &context(),
        &Tree::new(),
        &[
            ("--parents d/s/x /o/", &["o/", "o/d/", "o/d/s/", "o/d/s/x: x"]),
            ("--parents d/s /o/", &["o/", "o/d/", "o/d/s/", "o/d/s/x: x"]),
            ("--parents ./d/./s/x /o/", &["o/", "o/s/", "o/s/x: x"]),
            ("--parents [de]/./s /o/", &["o/", "o/s/", "o/s/x: x", "o/s/y: y"]),
            ("--parents **/*.txt /o/", &["o/", "o/a.txt: a", "o/b.txt: b", "o/d/", "o/d/a.txt: da"]),
            ("--parents */s /o/", &["o/", "o/d/", "o/d/s/", "o/d/s/x: x", "o/e/", "o/e/s/", "o/e/s/y: y"]),
            ("--parents --exclude=**/a.txt **/*.txt /o/", &["o/", "o/b.txt: b"]),
            ("--parents --exclude=**/s d/s/x /o/", &["error: \"/d/s/x\": not found"]),
            ("--parents none/x /o/", &["error: \"/none/x\": not found"]),
            ("--parents a.txt/x /o/", &["error: \"/a.txt/x\": not found"]),
            ("--parents d/./none /o/", &["error: \"/d/none\": not found"]),
            ("--parents **/none /o/", &["o/"]),
        ],
    );
    // Directories on the way have the source's attributes.
    let src = tree(&[("d", Dir, 0o700, (5, 6)), ("d/f", File("f"), 0o600, (1, 2))]);
    assert_eq!(copy(&src, &Tree::new(), "--parents d/f /o/"), ["o/", "o/d/ [700 5:6]", "o/d/f: f [600 1:2]"]);
    // One that is there takes its mode alone, unless it is selected itself.
    let dest = tree(&[("o/d", Dir, 0o750, (3, 4))]);
    table(
        &src,
        &dest,
        &[
            ("--chown=8:9 --chmod=640 --parents d/f /o/", &["o/", "o/d/ [700 3:4]", "o/d/f: f [640 8:9]"]),
            ("--parents d /o/", &["o/", "o/d/ [700 5:6]", "o/d/f: f [600 1:2]"]),
        ],
    );
}

#[test]
fn parents_and_links() {
    let src = tree(&[
        ("d/f", File("f")),
        ("link", Link("d")),
        ("d/l", Link("f")),
        ("deep/link", Link("../d")),
        ("lost", Link("none")),
    ]);
    let refused = |path: &str, link: &str| {
        format!(
            "error: {path:?}: --parents does not follow the link {link:?} on the way; write the path that it leads to"
        )
    };
    let got = |args: &str| copy(&src, &Tree::new(), args);
    assert_eq!(got("--parents link/f /o/"), [refused("/link/f", "/link")]);
    assert_eq!(got("--parents deep/link/f /o/"), [refused("/deep/link/f", "/deep/link")]);
    assert_eq!(got("--parents deep/./link/f /o/"), [refused("/deep/link/f", "/deep/link")]);
    // A link at the end is copied as one; before the pivot they are followed, as in other sources.
    assert_eq!(got("--parents d/l /o/"), ["o/", "o/d/", "o/d/l -> f"]);
    assert_eq!(got("--parents link /o/"), ["o/", "o/link -> d"]);
    assert_eq!(got("--parents lost ./deep/../lost /o/"), ["o/", "o/lost -> none"]);
    assert_eq!(got("--parents deep/link/./f /o/"), ["o/", "o/f: f"]);
}

#[test]
fn names_that_are_no_utf8_are_copied() {
    let mut e = ("x", File("x")).entry();
    e.path = b"n\xff".to_vec();
    let src = tree_of(vec![e]);
    let got = super::kit::copy_with(&src, &Tree::new(), "n* /o/", None).unwrap();
    assert_eq!(got.entries()[1].path, b"o/n\xff");
}
