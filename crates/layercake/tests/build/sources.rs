//! ADD of what comes from elsewhere.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::contexts::repository;
use crate::kit::{Lab, listing, sh};
use crate::web::{Answer, Web};

fn dockerfile(lab: &Lab, text: &str) {
    lab.file("ctx/Dockerfile", text);
}

/// sha256 of `text`.
const TEXT_DIGEST: &str = "sha256:982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";

fn time_of(lab: &Lab, path: &str) -> i64 {
    std::fs::metadata(lab.path(path)).unwrap().mtime()
}

#[test]
fn a_file_with_its_name_mode_and_time() {
    let lab = Lab::new();
    let web = Web::start(|asked| match asked.path() {
        "/dated" => Answer::ok("text").header("Last-Modified", "Sat, 01 Jan 2022 00:00:00 GMT"),
        "/hop" => Answer::new(302, "").header("Location", "/hop2"),
        "/hop2" => Answer::new(307, "").header("Location", "/a/plain?x"),
        "/a/plain" => Answer::ok("text"),
        _ => Answer::new(404, ""),
    });
    let u = &web.url;
    dockerfile(
        &lab,
        &format!("FROM scratch\nADD {u}/dated {u}/hop {u}/a/plain?y /d/\nADD --chmod=644 {u}/dated /x\n"),
    );
    lab.build(&["-o", "out", "ctx"]).ok();
    assert_eq!(
        listing(&lab.path("out")),
        ["d/ 755", "d/dated 600 text", "d/hop 600 text", "d/plain 600 text", "x 644 text"]
    );
    assert_eq!((time_of(&lab, "out/d/dated"), time_of(&lab, "out/d/plain")), (1_640_995_200, 0));
}

#[test]
fn checksums() {
    let lab = Lab::new();
    let web = Web::start(|_| Answer::ok("text"));
    let u = &web.url;
    let add = |line: &str| {
        dockerfile(&lab, &format!("FROM scratch\nARG GOOD={TEXT_DIGEST}\nARG NONE\n{line}\n"));
        lab.build(&["-o", "out", "ctx"])
    };
    let wrong = TEXT_DIGEST.replace('9', "8");
    add(&format!("ADD --checksum={wrong} {u}/f /")).fails(1, &["digest mismatch", TEXT_DIGEST]);
    add(&format!("ADD --checksum=$GOOD {u}/f /")).ok();
    add(&format!("ADD --checksum=$NONE {u}/f /")).ok();
    add(&format!("ADD --checksum=md5:abc {u}/f /")).fails(1, &["invalid checksum", "sha256:<64 hex digits>"]);
    add(&format!("ADD --checksum=$GOOD {u}/f {u}/g /")).fails(1, &["multiple sources"]);
    add("ADD --checksum=$GOOD Dockerfile /").fails(1, &["requires HTTP(S) or Git sources"]);
    // What has the digest already need not be asked for.
    let asked = web.lines().len();
    add(&format!("LABEL a=b\nADD --checksum=$GOOD {u}/f /other")).ok();
    assert_eq!(web.lines().len(), asked);
}

#[test]
fn a_file_that_is_known_is_asked_for_by_its_tag() {
    let lab = Lab::new();
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let web = Web::start(move |asked| {
        let tag = format!("\"{}\"", now.load(Ordering::SeqCst));
        if asked.header("if-none-match") == Some(&tag) {
            return Answer::new(304, "");
        }
        Answer::ok(format!("version {tag}")).header("ETag", &tag)
    });
    dockerfile(&lab, &format!("FROM scratch\nADD {}/f /\n", web.url));
    let build = || {
        let log = lab.build(&["-o", "out", "ctx"]).ok().stderr;
        (log.contains("CACHED"), lab.read("out/f"))
    };
    assert_eq!(build(), (false, "version \"1\"".into()));
    assert_eq!(build(), (true, "version \"1\"".into()));
    version.store(2, Ordering::SeqCst);
    assert_eq!(build(), (false, "version \"2\"".into()));
    let tags: Vec<_> = web.asked().iter().map(|a| a.header("if-none-match").map(str::to_owned)).collect();
    assert_eq!(tags, [None, Some("\"1\"".into()), Some("\"1\"".into())]);
}

#[test]
fn credentials_go_to_the_host_that_they_are_for() {
    let lab = Lab::new();
    let other = Web::start(|_| Answer::ok("moved"));
    let to = format!("{}/there", other.url);
    let web = Web::start(move |asked| match (asked.path(), asked.header("authorization")) {
        ("/away", _) => Answer::new(302, "").header("Location", &to),
        (_, Some(a)) => Answer::ok(format!("for {a}")),
        _ => Answer::new(401, ""),
    });
    let u = &web.url;
    dockerfile(&lab, &format!("FROM scratch\nADD {u}/f {u}/away /\n"));
    lab.build(&["ctx"]).fails(1, &["invalid response status 401", "HTTP_AUTH_TOKEN_<host>"]);
    lab.file("token", "t0k-en\n").file("header", "Basic QWxhZGRpbg==");
    lab.build(&["-o", "t", "--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token", "ctx"]).ok();
    assert_eq!((lab.read("t/f"), lab.read("t/away")), ("for Bearer t0k-en".into(), "moved".into()));
    lab.build(&["-o", "h", "--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,src=header", "ctx"]).ok();
    assert_eq!(lab.read("h/f"), "for Basic QWxhZGRpbg==");
    assert!(other.asked().iter().all(|a| a.header("authorization").is_none()));
    lab.build(&["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=gone", "ctx"])
        .fails(2, &["there is no file gone"]);
}

#[test]
fn repositories() {
    let lab = Lab::new();
    let (first, second) = repository(&lab);
    let web = Web::git(lab.path("repos"));
    let u = format!("{}/repo.git", web.url);
    let add = |flags: &str, source: &str| {
        let _ = std::fs::remove_dir_all(lab.path("out"));
        dockerfile(&lab, &format!("FROM scratch\nADD {flags} {source} /\n"));
        lab.build(&["-o", "out", "ctx"])
    };
    let head = || {
        let git = ["-c", "safe.directory=*", "rev-parse", "HEAD"];
        lab.path("out/.git").exists().then(|| sh(&lab.path("out"), "git", &git))
    };
    add("", &u).ok();
    assert_eq!((lab.read("out/file"), head()), ("two".into(), None));
    add("--keep-git-dir", &format!("{u}#v1")).ok();
    assert_eq!((lab.read("out/file"), head()), ("one".into(), Some(first.clone())));
    assert_eq!(sh(&lab.path("out"), "git", &["-c", "safe.directory=*", "describe", "--exact-match"]), "v1");
    add("--keep-git-dir=false", &format!("{u}?keep-git-dir=true")).fails(1, &["inconsistent keep-git-dir"]);
    add("--keep-git-dir", &format!("{u}#v1:sub")).ok();
    assert_eq!(listing(&lab.path("out")).last().map(String::as_str), Some("inner 644 in"));
    add(&format!("--checksum={second}"), &u).ok();
    add(&format!("--checksum={}", &second[..7]), &u).ok();
    // A tag is right by its own id, and by that of its commit.
    add(&format!("--checksum={first}"), &format!("{u}#v1")).ok();
    add(&format!("--checksum={first}"), &u).fails(1, &["expected checksum to match"]);
    add("--checksum=foobar", &u).fails(1, &["invalid checksum foobar"]);
    add(&format!("--checksum={first}"), &format!("{u}?commit={second}")).fails(1, &["checksum mismatch"]);
    add("", &format!("{u}?mtime=commit")).ok();
    assert_eq!(time_of(&lab, "out/file"), 1_500_000_000);
    add("", &format!("{u}?ref={second}&commit={second}&fetch-by-commit=1")).ok();
    assert_eq!(lab.read("out/file"), "two");
    add("", &format!("{u}?branch=v1")).fails(1, &["does not contain ref refs/heads/v1"]);
    dockerfile(&lab, &format!("FROM scratch\nCOPY {u} /\n"));
    lab.build(&["ctx"]).fails(1, &["source can't be a git ref for COPY"]);
}

#[test]
fn a_branch_that_moves_makes_later_steps_run() {
    let Some(lab) = Lab::rooted() else { return };
    repository(&lab);
    let (work, bare) = (lab.path("work"), lab.at("repos/repo.git"));
    let web = Web::git(lab.path("repos"));
    // The directory has files that only the first commit wrote; no RUN reads any.
    let text = format!(
        "FROM base AS other\nRUN echo 0\nFROM base\nRUN echo 1\nADD {}/repo.git#main:sub /sub/\nRUN echo 2\nRUN echo 3\nCOPY --from=other /etc /other\n",
        web.url
    );
    let build = || {
        let log = lab.dockerfile(&text, &[]).ok().stderr;
        let ran = ["0", "1", "2", "3"].map(|n| {
            let step = log.lines().find_map(|l| l.strip_suffix(&format!("RUN echo {n}"))?.split(' ').next());
            let step = step.unwrap_or_else(|| panic!("RUN echo {n} is not in {log}"));
            log.lines().any(|l| l.starts_with(&format!("{step} DONE")))
        });
        (ran, log)
    };
    assert_eq!(build().0, [true; 4]);
    assert_eq!(build().0, [false; 4], "the branch is where it was");
    let push = |message: &str| {
        sh(&work, "git", &["commit", "-q", "--allow-empty", "-am", message]);
        sh(&work, "git", &["push", "-q", &bare, "main"]);
    };
    lab.file("work/sub/inner", "changed");
    push("3");
    let (ran, log) = build();
    assert_eq!(ran, [false, false, true, true], "{log}");
    assert!(log.contains("(ran: its download above it changed)"), "{log}");
    assert_eq!(build().0, [false; 4], "the branch is where it was");
    // A commit that changes nothing of what is taken: a clone below would bring it all the same.
    lab.file("work/file", "three");
    push("4");
    let (ran, log) = build();
    assert_eq!(ran, [false, false, true, true], "{log}");
    push("5, and nothing");
    assert_eq!(build().0, [false, false, true, true]);
    // Another branch is no move of this one.
    sh(&work, "git", &["push", "-q", &bare, "main:elsewhere"]);
    assert_eq!(build().0, [false; 4]);
}

#[test]
fn submodules() {
    let lab = Lab::new();
    repository(&lab);
    let web = Web::git(lab.path("repos"));
    let outer = lab.path("outer");
    std::fs::create_dir_all(&outer).unwrap();
    let git = |args: &[&str]| sh(&outer, "git", args);
    git(&["init", "-q", "-b", "main", "."]);
    git(&["submodule", "--quiet", "add", &format!("{}/repo.git", web.url), "inner"]);
    lab.file("outer/top", "top");
    git(&["add", "."]);
    git(&["commit", "-qm", "1"]);
    git(&["clone", "-q", "--bare", ".", &lab.at("repos/outer.git")]);
    let u = format!("{}/outer.git", web.url);
    dockerfile(
        &lab,
        &format!(
            "FROM scratch\nADD {u} /with/\nADD {u}?submodules=false /without/\nADD --keep-git-dir {u} /git/\n"
        ),
    );
    lab.build(&["-o", "out", "ctx"]).ok();
    assert_eq!((lab.read("out/with/inner/file"), lab.read("out/with/top")), ("two".into(), "top".into()));
    assert!(!lab.path("out/with/inner/.git").exists());
    assert!(!lab.path("out/without/inner/file").exists() && lab.path("out/without/.gitmodules").exists());
    assert_eq!(
        sh(&lab.path("out/git/inner"), "git", &["-c", "safe.directory=*", "status", "--porcelain"]),
        ""
    );
}

#[test]
fn private_repositories() {
    let lab = Lab::new();
    repository(&lab);
    // base64 of x-access-token:t0k-en
    let web = Web::private_git(lab.path("repos"), "basic eC1hY2Nlc3MtdG9rZW46dDBrLWVu");
    let host = web.url.trim_start_matches("http://");
    dockerfile(&lab, &format!("FROM scratch\nADD --keep-git-dir {}/repo.git /\n", web.url));
    lab.build(&["ctx"]).fails(1, &["git ls-remote failed"]);
    lab.file("token", "t0k-en\n").file("header", "basic eC1hY2Nlc3MtdG9rZW46dDBrLWVu");
    for secret in [
        "id=GIT_AUTH_TOKEN,src=token".to_owned(),
        format!("id=GIT_AUTH_TOKEN.{host},src=token"),
        "id=GIT_AUTH_HEADER,src=header".into(),
    ] {
        lab.build(&["-o", "out", "--secret", &secret, "--no-cache", "ctx"]).ok();
        assert_eq!(lab.read("out/file"), "two");
        assert!(!lab.read("out/.git/config").contains("eC1hY2N"));
    }
}

#[test]
fn repositories_over_ssh() {
    let mut lab = Lab::new();
    repository(&lab);
    let repo = lab.at("repos/repo.git");
    // The other side of an ssh connection, without ssh: runs what it is told to.
    let fake = "#!/bin/sh\necho \"$SSH_AUTH_SOCK $*\" >> \"$HOME_OF_TEST/ssh.log\"\nfor last; do :; done\nexec sh -c \"$last\"\n";
    lab.file("bin/ssh", fake);
    std::fs::set_permissions(lab.path("bin/ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", lab.at("bin"));
    let home = lab.at("");
    lab.env("PATH", &path).env("HOME_OF_TEST", &home);
    let agent = lab.at("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let flag = format!("default={agent}");
    for source in [format!("ssh://git@example.com{repo}"), format!("git@example.com:{repo}")] {
        dockerfile(&lab, &format!("FROM scratch\nADD {source} /\n"));
        lab.build(&["ctx"]).fails(1, &["no SSH key \"default\" forwarded", "--ssh default"]);
        lab.build(&["-o", "out", "--no-cache", "--ssh", &flag, "ctx"]).ok();
        assert_eq!(lab.read("out/file"), "two");
    }
    let log = lab.read("ssh.log");
    assert!(
        log.lines()
            .all(|l| l.starts_with(&format!("{agent} ")) && l.contains("StrictHostKeyChecking=accept-new")),
        "{log}"
    );
}
