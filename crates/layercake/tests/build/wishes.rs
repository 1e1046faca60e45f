//! What BuildKit lacks: RUN --no-cache, names of sources from ARGs, volumes, whole logs, and what is left of a failed build.

use crate::kit::{Lab, listing};
use crate::runs::cached;

#[test]
fn a_run_that_is_never_taken_from_the_cache() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("log", "").file("value", "1");
    let text = "FROM base\nRUN echo above\n\
        RUN --no-cache --mount=type=cache,target=/c --mount=type=secret,id=v echo x >> /c/log; cat /c/log | wc -l > /dev/null; cat /run/secrets/v > /v\n\
        RUN cat /v > /w\nRUN echo below\nFROM scratch\nCOPY --from=0 /w /\n";
    let build = |value: &str| {
        lab.file("value", value);
        lab.dockerfile(text, &["--secret", "id=v,src=value", "-o", "out"]).ok()
    };
    build("1");
    // It runs again, and says why; it gives what it gave before, so what reads that is not run again.
    let ran = build("1");
    let all = ["RUN echo above", "RUN echo x", "RUN cat /v", "RUN echo below"].map(|s| cached(&ran, s));
    assert_eq!(all, [true, false, true, true], "{}", ran.stderr);
    assert!(ran.stderr.contains("(ran: --no-cache), same result as before"), "{}", ran.stderr);
    // Another result is seen by what reads it, and by nothing else.
    let ran = build("2");
    let all = ["RUN echo above", "RUN echo x", "RUN cat /v", "RUN echo below"].map(|s| cached(&ran, s));
    assert_eq!(all, [true, false, false, true], "{}", ran.stderr);
    assert_eq!(lab.read("out/w"), "2");
    // The flag is no part of what the step is: without it the last result counts.
    let ran = lab.dockerfile(&text.replace("--no-cache ", ""), &["--secret", "id=v,src=value"]).ok();
    assert!(cached(&ran, "RUN echo x"), "{}", ran.stderr);
    let off = text.replace("--no-cache ", "--no-cache=false ");
    assert!(cached(&lab.dockerfile(&off, &[]).ok(), "RUN echo x"));
    lab.dockerfile("FROM base\nRUN --no-cache=often true\n", &[]).fails(1, &["true or false"]);
}

#[test]
fn the_source_of_a_copy_from_an_argument() {
    let lab = Lab::new();
    lab.file(
        "ctx/Dockerfile",
        "FROM scratch AS v1\nCOPY <<f /f\none\nf\nFROM scratch AS v2\nCOPY <<f /f\ntwo\nf\n\
         FROM scratch\nARG V=1\nCOPY --from=v$V /f /\n",
    );
    lab.build(&["ctx"]).fails(1, &["variable expansion is not supported for --from", "--expand-from"]);
    let mut got = Vec::new();
    for args in [&[][..], &["--build-arg", "V=2"]] {
        let ran = lab.build(&[&["--expand-from", "-o", "out", "ctx"], args].concat()).ok();
        got.push(lab.read("out/f"));
        assert_eq!(
            ran.stderr.matches("COPY <<f /f\n").count(),
            1,
            "only the stage that is named: {}",
            ran.stderr
        );
    }
    assert_eq!(got, ["one\n", "two\n"]);
    lab.build(&["--expand-from", "--build-arg", "V=", "--build-arg", "V=/..", "ctx"]).fails(1, &["v/.."]);
}

#[test]
fn the_log_is_whole() {
    let Some(lab) = Lab::rooted() else { return };
    let lines = 200_000;
    let ran = lab.dockerfile(&format!("FROM base\nRUN busybox seq {lines}\n"), &[]).ok();
    let number = |l: &str| l.strip_prefix('#')?.split(' ').nth(2)?.parse().ok();
    let got: Vec<u32> = ran.stderr.lines().filter_map(number).collect();
    assert!(got.iter().copied().eq(1..=lines), "{} lines of {lines} came", got.len());
    // Also as JSON.
    let ran = lab
        .dockerfile(&format!("FROM base\nRUN busybox seq {lines} \n"), &["--no-cache", "--progress=rawjson"]);
    let mut text = String::new();
    for line in ran.ok().stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["event"] == "log" {
            text.push_str(event["data"].as_str().unwrap());
        }
    }
    assert!(text.lines().filter_map(|l| l.parse::<u32>().ok()).eq(1..=lines));
}

#[test]
fn quiet_builds_show_what_failed() {
    let Some(lab) = Lab::rooted() else { return };
    let text = "FROM base\nRUN busybox seq 100; echo to stderr >&2; exit 4\n";
    for args in [&["-q"][..], &["--progress=quiet"], &["--progress=none"]] {
        let ran = lab
            .dockerfile(text, args)
            .fails(1, &["[1/1] RUN busybox seq", "exit code: 4", ">>> RUN busybox"]);
        assert!(ran.stderr.contains("\n99\n100\n") && ran.stderr.contains("to stderr"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("\n50\n"), "only the end: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    // Nothing else is said, and one that works says nothing but its id.
    let ran = lab.dockerfile("FROM base\nRUN echo loud\n", &["-q"]).ok();
    assert_eq!((ran.stderr.as_str(), ran.stdout.lines().count()), ("", 1));
    let ran = lab.dockerfile(text, &["--progress=rawjson"]).fails(1, &[]);
    let failed = ran.stderr.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let failed = failed.into_iter().find(|e| e["event"] == "failed").unwrap();
    assert!(failed["tail"].as_str().unwrap().contains("99\n100"), "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("exit code: 4"), "{failed}");
}

#[test]
fn files_out_of_a_failed_build() {
    let Some(lab) = Lab::rooted() else { return };
    let text = "FROM scratch AS tests\nCOPY <<a /d/a\nfrom the context\na\nCOPY --from=base /bin /bin\nWORKDIR /reports\n\
        RUN echo before > one\nRUN echo half > two; rm /d/a; chmod 700 /reports; exit 3\nRUN echo never > three\n\
        FROM scratch\nCOPY --from=tests /reports /\n";
    let without_bin = |dir: &str| {
        let all = listing(&lab.path(dir)).into_iter().filter(|l| !l.starts_with("bin"));
        all.collect::<Vec<_>>()
    };
    let good = ["d/ 755", "d/a 644 from the context\n", "reports/ 755", "reports/one 644 before\n"];
    lab.dockerfile(text, &["--on-error=export", "-o", "good", "-t", "x"])
        .fails(1, &["exit code: 3", "as they were before the failed step", "are in good"]);
    assert_eq!(without_bin("good"), good);
    assert_eq!(lab.run(&["images", "-q"]).ok().stdout, "", "a failed build names nothing");
    let left = ["d/ 755", "reports/ 700", "reports/one 644 before\n", "reports/two 644 half\n"];
    let ran =
        lab.dockerfile(text, &["--on-error=export-failed", "-o", "left", "-o", "type=tar,dest=left.tar"]);
    ran.fails(1, &["exit code: 3", "as the failed step left them", "are in left, left.tar"]);
    assert_eq!(without_bin("left"), left);
    std::fs::create_dir(lab.path("tar")).unwrap();
    crate::kit::sh(&lab.path("tar"), "tar", &["xf", &lab.at("left.tar")]);
    assert_eq!(without_bin("tar"), left);
    // The step is not taken as done: it runs again.
    lab.dockerfile(text, &[]).fails(1, &["exit code: 3"]);
    let ran = lab.dockerfile(&text.replace("exit 3", "true"), &["-o", "out"]).ok();
    assert!(cached(&ran, "RUN echo before"), "{}", ran.stderr);
    assert_eq!(listing(&lab.path("out")).len(), 3);
    // Also where no command failed, and by platform.
    lab.dockerfile(
        "FROM scratch\nCOPY <<E /a\na\nE\nCOPY nothing /\n",
        &["--on-error=export-failed", "-o", "copy"],
    )
    .fails(1, &["not found", "are in copy"]);
    assert_eq!(listing(&lab.path("copy")), ["a 644 a\n"]);
    let split = ["--on-error=export", "-o", "split", "--platform=linux/arm64,linux/amd64"];
    lab.dockerfile("FROM scratch\nCOPY <<E /a\na\nE\nCOPY nothing /\n", &split)
        .fails(1, &["are in split/linux_arm64"]);
    assert_eq!(listing(&lab.path("split")), ["linux_arm64/ 755", "linux_arm64/a 644 a\n"]);
    // What cannot be done is said at once.
    for args in [&["--on-error=export"][..], &["--on-error=export", "-o", "type=oci,dest=o.tar"]] {
        lab.dockerfile(text, args).fails(2, &["no --output takes files"]);
    }
    lab.dockerfile(text, &["--on-error=shell"]).fails(2, &["needs a terminal"]);
    lab.dockerfile(text, &["--on-error=what"]).fails(2, &["export-failed"]);
}

#[test]
fn volumes() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("shared/in", "in").file("one", "first\n");
    let text = "FROM base\nRUN cat /v/in /f/one > /got && echo out > /v/out && echo second >> /f/one\nRUN ! test -e /never && ls /v > /w\n\
        FROM scratch\nCOPY --from=0 /got /w /v* /f* /\n";
    let flags = ["-v", "./shared:/v", "-v", "./one:/f/one", "-o", "out"];
    lab.dockerfile(text, &flags).ok();
    assert_eq!(listing(&lab.path("out")), ["got 644 infirst\n", "w 644 in\nout\n"], "no mount point is left");
    assert_eq!((lab.read("shared/out"), lab.read("one")), ("out\n".into(), "first\nsecond\n".into()));
    // What is in them, and where they are, is no part of the cache; what the step is shown where is.
    lab.file("other/x", "").file("shared/in", "changed");
    let ran = lab.dockerfile(text, &["-v", "./other:/v", "-v", "./one:/f/one"]).ok();
    assert!(cached(&ran, "RUN cat /v/in") && cached(&ran, "RUN ! test"), "{}", ran.stderr);
    lab.dockerfile(text, &["-v", "./shared:/v:ro", "-v", "./one:/f/one"])
        .fails(1, &["Read-only file system"]);
    lab.dockerfile(text, &["-v", "./shared:/v", "-v", "./one:/f/one:ro"])
        .fails(1, &["Read-only file system"]);
    lab.dockerfile(text, &[]).fails(1, &["No such file"]);
    lab.dockerfile(text, &["-v", "./none:/v"]).fails(1, &["cannot use ./none"]);
    lab.dockerfile(text, &["-v", "name:/v"]).fails(2, &["named volumes"]);
}
