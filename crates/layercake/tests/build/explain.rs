//! `layercake explain`, and what a build says at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kit::Lab;
use crate::web::{Answer, Web};

const TEXT: &str =
    "FROM base\nARG GREAT_TOKEN\nWORKDIR /app\nCOPY . .\nRUN cat conf > /one\nRUN cat other > /two\n";

#[test]
fn the_last_build_is_explained() {
    let Some(lab) = Lab::rooted() else { return };
    lab.run(&["explain"]).fails(2, &["no such build in the log", "layercake build"]);
    lab.file("ctx/conf", "a\nb\nc\n").file("ctx/other", "o\n");
    lab.dockerfile(TEXT, &[]).ok();
    let first = lab.run(&["explain", "ctx"]).ok();
    assert!(first.stdout.contains("ran, ") && first.stdout.contains("there is no earlier run of it"));
    assert!(first.stdout.contains("4 of 4 steps ran"), "{}", first.stdout);

    lab.file("ctx/conf", "a\nB\nDB_PASSWORD=canary\nc\n");
    let built = lab.dockerfile(TEXT, &[]).ok();
    assert!(built.stderr.contains("(ran: /app/conf changed (COPY . . line 4 <- conf))"), "{}", built.stderr);
    assert!(built.stderr.contains("CACHED (inputs unchanged: read 1 of 3 copied files)"), "{}", built.stderr);
    assert!(built.stderr.contains("2 of 4 steps ran, "), "{}", built.stderr);
    assert!(built.stderr.contains("; a chain cache would have run 3, "), "{}", built.stderr);

    let told = lab.run(&["explain", "ctx"]).ok().stdout;
    for part in [
        "[1/4] WORKDIR /app (line 3)\n   cached: the same step on the same layers",
        ": conf changed\n     @@ 1 @@\n      a\n     -b\n     +B\n     +DB_PASSWORD=***\n      c\n",
        ": /app/conf changed (COPY . . line 4 <- conf)\n     @@ 1 @@",
        "   cached: inputs unchanged, ",
        "   read 1 of 3 copied files; ran in 2 of the last 2 builds\n",
        "   read 1 of 3 copied files; ran in 1 of the last 2 builds\n",
        "2 of 4 steps ran, ",
        "a chain cache would have run 3, ",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    assert!(!told.contains("canary"), "{told}");

    // One step, its files, and JSON.
    let json = lab.run(&["explain", "--format", "json", "ctx"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let build = &json[0];
    let steps = build["stages"][0]["steps"].as_array().unwrap();
    let ends: Vec<&str> = steps.iter().map(|s| s["end"].as_str().unwrap()).collect();
    assert_eq!(ends, ["cached", "ran", "ran", "cached"]);
    assert_eq!(steps[2]["reason"]["why"], "input-changed");
    assert!(steps[2]["diff"].to_string().contains("+DB_PASSWORD=***"), "{}", steps[2]["diff"]);
    assert!(!build.to_string().contains("canary"), "{build}");
    assert_eq!(steps[2]["reason"]["origin"]["context"], "conf");
    assert_eq!(steps[3]["rule"], "same-observations");
    assert_eq!((&steps[3]["reads"]["read"], &steps[3]["reads"]["of"]), (&1.into(), &3.into()));
    assert_eq!(steps[3]["reads"]["files"], serde_json::Value::Null, "on demand only");
    assert_eq!(steps[2]["runs"], serde_json::json!({"ran": 2, "of": 2}));
    assert_eq!((&build["totals"]["ran"], &build["end"]), (&2.into(), &"ok".into()));
    let id = steps[3]["id"].to_string();
    let one = lab.run(&["explain", "--step", &id, "--files", "ctx"]).ok().stdout;
    assert!(one.contains("RUN cat other > /two") && one.contains("\n     /app/other\n"), "{one}");
    assert!(!one.contains("RUN cat conf"), "{one}");
    lab.run(&["explain", "--step", "99", "ctx"]).fails(2, &["no step #99", &id]);
    let number = build["number"].as_i64().unwrap();
    let before = lab.run(&["explain", "--build", &(number - 1).to_string()]).ok().stdout;
    assert!(before.contains("4 of 4 steps ran"), "{before}");
    lab.run(&["explain", "--build", "77"]).fails(2, &["no such build"]);
    lab.run(&["explain", "base"]).fails(2, &["no build of base"]);
}

#[test]
fn a_dry_run_says_what_would_run() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("ctx/conf", "1\n").file("ctx/other", "o\n");
    let text = format!("{TEXT}RUN cat /one\n");
    lab.dockerfile(&text, &[]).ok();
    let dry = |more: &[&str]| {
        lab.run(&[&["explain", "--dry-run", "--build-context", "base=base"], more, &["ctx"]].concat())
    };
    let same = dry(&[]).ok().stdout;
    assert!(
        same.contains("0 steps would run, 0.0 s when they last ran; results of 5 would be kept"),
        "{same}"
    );
    lab.file("ctx/conf", "2\n");
    let told = dry(&[]).ok().stdout;
    for part in [
        "a build of ",
        "would run: conf changed\n     @@ 1 @@\n     -1\n     +2\n",
        "last time): /app/conf changed (COPY . . line 4 <- conf)",
        "unknown: depends on #",
        " RUN cat conf > /one, which would run",
        "2 steps would run, ",
        "; of 2 it cannot be said",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    let token = dry(&["--build-arg", "GREAT_TOKEN=canary"]).ok().stdout;
    assert!(token.contains("variable GREAT_TOKEN is new") && !token.contains("canary"), "{token}");
    let json = dry(&["--format", "json"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["end"], &json[0]["number"]), (&"dry-run".into(), &serde_json::Value::Null));
    // Nothing of all this was a build.
    let last = lab.run(&["explain", "ctx"]).ok().stdout;
    assert!(last.contains("5 of 5 steps ran"), "{last}");
    lab.file("ctx/Dockerfile", "FROM nowhere.invalid/none\nRUN true\n");
    dry(&[]).fails(1, &["layercake pull"]);
}

#[test]
fn a_new_base_is_told_with_what_was_kept() {
    let Some(lab) = Lab::rooted() else { return };
    let base = |version: &str| {
        lab.file("base/etc/version", version);
        lab.file("bctx/Dockerfile", "FROM base\nRUN true\n");
        lab.build(&["--build-context", "base=base", "-t", "local/base", "bctx"]).ok();
    };
    base("1\n");
    lab.file("ctx/f", "f\n");
    let text = "FROM local/base AS a\nCOPY f /f\nRUN cat /f > /one; sleep 0.2\nRUN cat /etc/version > /two\nFROM a\nRUN cat /one\n";
    lab.file("ctx/Dockerfile", text);
    let first = lab.build(&["ctx"]).ok().stderr;
    assert!(!first.contains("were kept"), "{first}");
    base("2\n");
    let second = lab.build(&["ctx"]).ok().stderr;
    let line = second.lines().find(|l| l.contains("were kept")).unwrap_or_else(|| panic!("{second}"));
    assert!(
        line.starts_with("local/base is ") && line.contains(": 3 of 4 steps on it were kept, "),
        "{line}"
    );
    let saved: f64 = line.rsplit(", ").next().and_then(|s| s.strip_suffix(" s saved")?.parse().ok()).unwrap();
    assert!(saved >= 0.2, "the duration of the run that was recorded: {line}");
    assert!(second.contains("/etc/version changed (FROM local/base, now "), "{second}");
    let again = lab.build(&["ctx"]).ok().stderr;
    assert!(!again.contains("were kept"), "it is the same base now: {again}");
}

#[test]
fn what_was_downloaded_makes_later_steps_run() {
    let Some(lab) = Lab::rooted() else { return };
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let web = Web::start(move |_| Answer::ok(format!("version {}", now.load(Ordering::SeqCst))));
    let text = format!(
        "FROM base AS other\nRUN echo 0\nFROM base\nRUN echo 1\nADD {}/refs/main v.json\nRUN echo 2\nCOPY --from=other /etc /other\n",
        web.url
    );
    let build = |text: &str| {
        let log = lab.dockerfile(text, &[]).ok().stderr;
        let ends = log.lines().filter_map(|l| l.split_once(' ')).filter(|(n, _)| n.starts_with('#'));
        let ends = ends.filter_map(|(n, end)| Some((n.to_owned(), end.split(' ').next()?.to_owned())));
        let mut ends: Vec<_> = ends.filter(|(_, e)| ["CACHED", "DONE"].contains(&&**e)).collect();
        ends.sort();
        // Without the reading of the context, where there is one.
        (ends.iter().map(|(_, e)| e.clone()).rev().take(5).rev().collect::<Vec<_>>(), log)
    };
    build(&text);
    assert_eq!(build(&text).0, ["CACHED"; 5]);
    version.store(2, Ordering::SeqCst);
    let (ends, log) = build(&text);
    // What is above it, and the other stage, stay; the step below it runs, although it reads nothing of it.
    assert_eq!(ends, ["CACHED", "CACHED", "DONE", "DONE", "CACHED"], "{log}");
    assert!(log.contains("(ran: its download above it changed)"), "{log}");
    assert!(log.contains("(ran: /v.json changed)"), "{log}");
    // What a dry run takes for it is what it last was.
    version.store(3, Ordering::SeqCst);
    let asked = web.lines().len();
    let dry = lab.run(&["explain", "--dry-run", "--build-context", "base=base", "ctx"]).ok().stdout;
    assert!(dry.contains("0 steps would run"), "{dry}");
    assert_eq!(web.lines().len(), asked, "nobody was asked");
    // A checksum says that it cannot change.
    let digest = oci::Digest::of(b"version 3");
    let fixed = text.replace("ADD ", &format!("ADD --checksum={digest} "));
    build(&fixed);
    version.store(4, Ordering::SeqCst);
    assert_eq!(build(&fixed).0, ["CACHED"; 5]);
}
