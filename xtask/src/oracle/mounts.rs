//! Cases about what a step is given: mounts of every type, users, directories, shells, heredocs.
//!
//! The id of a cache is not the same in two steps by chance alone: each case has a few ids, and both builders begin with empty caches.

use super::case::{Case, Item, What};
use crate::random::Random;

#[rustfmt::skip]
const TARGETS: &[&str] = &[
    "/m", "/m/n", "/d", "/d/e", "m", "/lnk", "/lnk/x", "/f", "/tmp/m", "/etc/x", "/var/cache/q", "$T",
    "/new/deep/dir", "/d/../y", "/etc/passwd", "/run/s", "/w",
];
const SOURCES: &[&str] = &["a", "sub", "sub/x", ".", "/", "a/..", "sub/l", "nope", "$S", "/sub", "ldir"];
const STAGE_SOURCES: &[&str] = &["/d", "/etc/passwd", "/", "/d/e", "d", "/o", "/o/..", "/nope", "/lnk", "/f"];

/// What lies at the targets.
const LOOK: &str = "for p in /m /m/n /d /lnk /f /tmp/m /etc/x /var/cache/q /new /y /w /run/secrets /sec /run/s /w/m /w/sec; do \
     stat -c '%n %F %a %u %g' $p; done > /o/out1 2>/dev/null; true";

/// Steps that write down what they see, and that change what they can.
const COMMANDS: &[&str] = &[
    LOOK,
    LOOK,
    LOOK,
    "find /m /d /lnk/ /f /w -type f 2>/dev/null | sort | xargs cat > /o/out2 2>/dev/null; true",
    "(echo hi > /m/w; echo $?; touch /d/new; echo $?; echo x > /tmp/m/y; echo $?; echo z > /f; echo $?) > /o/out3 2>/dev/null; true",
    "id > /o/out4; pwd >> /o/out4; echo $HOME $SEC $T >> /o/out4",
    "cat /run/secrets/* /sec /w/sec > /o/out5 2>/dev/null; true",
    "find /d /m 2>/dev/null | sort | xargs stat -c '%A %u %g %n' > /o/out6 2>/dev/null; true",
    "rm -rf /d/* /m/* 2>/dev/null; true",
    "mkdir -p /m/n/o /d/z /new/deep/dir/k 2>/dev/null; true",
    "true",
    "umask > /o/out8; ulimit -n >> /o/out8; cat /proc/self/oom_score_adj >> /o/out8",
    "mv /d /d9 2>/dev/null; true",
    "echo $0 $# > /o/out9",
];

/// Makes a case.
pub(super) fn case(r: &mut Random) -> Case {
    let own = |item: Item, mode, owner| Item { mode: Some(mode), owner: Some(owner), ..item };
    let link = |path: &str, to: &str| Item { what: What::Symlink(to.into()), ..Item::text(path, "") };
    let directory = |path: &str| Item { what: What::Directory, ..Item::text(path, "") };
    let mut context = vec![
        own(Item::text("a", "a\n"), 0o640, (5, 0)),
        own(directory("sub"), 0o750, (5, 7)),
        Item::text("sub/x", "x\n"),
        link("sub/l", "x"),
        link("ldir", "sub"),
    ];
    if r.percent(20) {
        context.push(Item::text(".dockerignore", r.of(&["sub\n", "a\n", "**/x\n", "*\n!sub\n"])));
    }
    let other = match r.percent(30) {
        true => vec![Item::text("a", "oa\n"), directory("sub"), Item::text("sub/x", "ox\n")],
        false => Vec::new(),
    };
    let mut lines = Vec::new();
    let mut from: Vec<&str> = if other.is_empty() { Vec::new() } else { vec!["other"] };
    let cache = r.below(1 << 30);
    for &name in &["s0", "s1"][..r.of(&[1, 2, 2])] {
        let base = if name == "s1" && r.percent(40) { "s0" } else { "base" };
        lines.push(format!("FROM {base} AS {name}"));
        if base == "base" {
            // Where steps of any user can write down what they see.
            lines.push("RUN mkdir -m 777 /o".into());
        }
        lines.extend(before(r).map(str::to_owned));
        for _ in 0..1 + r.below(3) {
            lines.push(step(r, &from, cache));
        }
        from.push(name);
    }
    if from.contains(&"s1") && r.percent(30) {
        lines.push(format!("COPY --from=s0 {} /final/", r.of(&["/d", "/lnk", "/f", "/lnk/"])));
    }
    Case { dockerfile: lines.join("\n") + "\n", context, other, ..Case::default() }
}

/// What stands above the steps of a stage: each kind of it in some of the cases.
fn before(r: &mut Random) -> impl Iterator<Item = &'static str> {
    let files = "RUN mkdir -p /d/e && echo 1 > /d/e/1 && echo f > /f && ln -sfn /d /lnk && chown 5:7 /d/e";
    let shells = [
        "SHELL [\"/bin/sh\", \"-ec\"]",
        "SHELL [\"/bin/sh\", \"-uc\"]",
        "SHELL [\"/bin/busybox\", \"ash\", \"-c\"]",
    ];
    let kinds: [(usize, &[&str]); 6] = [
        (70, &[files]),
        (30, &["ARG S=sub T=/m"]),
        (30, &["WORKDIR /w", "WORKDIR /d", "WORKDIR /lnk", "WORKDIR /w/m"]),
        (25, &["USER nobody", "USER 5:7", "USER 1000", "USER daemon", "USER root:7"]),
        (15, &shells),
        (15, &["ENV HOME=/h PATH=$PATH:/x"]),
    ];
    kinds.map(|(percent, lines)| r.percent(percent).then(|| r.of(lines))).into_iter().flatten()
}

fn step(r: &mut Random, from: &[&str], cache: usize) -> String {
    let mut words = vec!["RUN".to_owned()];
    for _ in 0..r.of(&[0, 1, 1, 1, 2, 3]) {
        words.push(mount(r, from, cache));
    }
    if r.percent(10) {
        words.push(format!("--network={}", r.of(&["none", "none", "none", "default", "default", "bad"])));
    }
    if r.percent(5) {
        words.push(format!("--security={}", r.of(&["sandbox", "sandbox", "sandbox", "bad"])));
    }
    let command = r.of(COMMANDS);
    words.push(match r.below(100) {
        0..70 => command.into(),
        70..80 => serde_json::json!(["/bin/sh", "-c", command]).to_string(),
        80..90 => format!("<<E\n{command}\necho $T > /o/hd\nE"),
        90..95 => format!("<<E\n#!/bin/busybox sh\n{command}\nE"),
        _ => "cat <<A <<B > /o/two; true\nl1 $T\nA\nl2\nB".into(),
    });
    words.join(" ")
}

/// One `--mount`, its options in any order.
fn mount(r: &mut Random, from: &[&str], cache: usize) -> String {
    let key = r.of(&["target", "target", "dst", "destination"]);
    let target = format!("{key}={}", r.of(TARGETS));
    let mut options: Vec<String> = Vec::new();
    match r.below(14) {
        n @ 0..5 => {
            if n > 0 {
                options.push("type=bind".into());
            }
            let named = if from.is_empty() || r.percent(40) { None } else { Some(r.of(from)) };
            let sources = if named.is_none_or(|n| n == "other") { SOURCES } else { STAGE_SOURCES };
            if r.percent(70) {
                options.push(format!("{}={}", r.of(&["source", "src"]), r.of(sources)));
            }
            options.extend(sometimes(
                r,
                35,
                &["rw", "readwrite", "ro", "readonly", "rw=false", "rw=true", "readonly=false"],
            ));
            options.extend(named.map(|n| format!("from={n}")));
            options.push(target);
        }
        5..8 => {
            options.extend(sometimes(
                r,
                20,
                &["sharing=shared", "sharing=private", "sharing=locked", "sharing=shared", "sharing=bad"],
            ));
            options.extend(sometimes(
                r,
                25,
                &["mode=0700", "mode=755", "mode=0777", "mode=4755", "mode=0700", "mode=x"],
            ));
            options.extend(sometimes(r, 25, &["uid=5", "uid=1000"]));
            options.extend(sometimes(r, 20, &["gid=7"]));
            options.extend(sometimes(r, 15, &["ro", "readonly"]));
            if from.contains(&"s0") && r.percent(25) {
                options.push(r.of(&["source=/d", "source=/", "source=/etc"]).into());
                options.push("from=s0".into());
            }
            options.extend(["type=cache".into(), target, format!("id=c{cache}-{}", r.below(3))]);
        }
        8..10 => {
            options.extend(sometimes(r, 30, &["size=1m", "size=4096", "size=1k", "size=1m", "size=x"]));
            options.extend(["type=tmpfs".into(), target]);
        }
        10..13 => {
            options.extend(sometimes(r, 95, &["id=s", "id=s", "id=none", "src=s"]));
            let places =
                ["/sec", "sec", "/run/secrets/other", "/d/sec", "/etc/passwd", "/lnk/sec", "/new/sec"];
            if r.percent(50) {
                options.push(format!("{key}={}", r.of(&places)));
            }
            options.extend(sometimes(r, 30, &["env=SEC", "env=PATH2"]));
            options.extend(sometimes(r, 30, &["mode=0444", "mode=0640", "mode=400"]));
            options.extend(sometimes(r, 30, &["uid=5", "uid=0"]));
            options.extend(sometimes(r, 20, &["required", "required=true", "required=false"]));
            options.push("type=secret".into());
        }
        _ => {
            options.extend(sometimes(r, 30, &["required=false"]));
            options.push("type=ssh".into());
        }
    }
    if r.percent(2) {
        options.push(r.of(&["foo=1", "target=", "foo", "uid=-1"]).into());
    }
    let mut mixed = Vec::new();
    while !options.is_empty() {
        mixed.push(options.swap_remove(r.below(options.len())));
    }
    // An option is checked by the type that is known so far, so that most orders are refused unless the type comes first.
    if r.percent(70) {
        mixed.sort_by_key(|o| !o.starts_with("type="));
    }
    format!("--mount={}", mixed.join(","))
}

/// One of some options, so many times out of a hundred.
fn sometimes(r: &mut Random, percent: usize, of: &[&str]) -> Option<String> {
    r.percent(percent).then(|| r.of(of).into())
}
