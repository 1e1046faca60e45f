//! Where the files and the Dockerfile of a build may come from.

use crate::kit::{Lab, listing, sh, tar};
use crate::web::{Answer, Web};

const COPY_ALL: &str = "FROM scratch\nCOPY . /\n";

fn gzip(lab: &Lab, bytes: &[u8]) -> Vec<u8> {
    lab.file("to-gzip", bytes);
    sh(&lab.path(""), "gzip", &["-kf", "to-gzip"]);
    std::fs::read(lab.path("to-gzip.gz")).unwrap()
}

/// A bare repository `repo.git` with two commits, a tag on the first, and a branch with a directory; gives the commits.
pub(crate) fn repository(lab: &Lab) -> (String, String) {
    let work = lab.path("work");
    std::fs::create_dir_all(&work).unwrap();
    let git = |args: &[&str]| sh(&work, "git", args);
    git(&["init", "-q", "-b", "main", "."]);
    lab.file("work/Dockerfile", COPY_ALL).file("work/file", "one").file("work/.dockerignore", "file\n");
    lab.file("work/run.sh", "#!").file("work/sub/Dockerfile", "FROM scratch\nCOPY inner /\n");
    lab.file("work/sub/inner", "in");
    sh(&work, "chmod", &["755", "run.sh"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "1"]);
    git(&["tag", "-am", "tag", "v1"]);
    let first = git(&["rev-parse", "HEAD"]);
    lab.file("work/file", "two");
    git(&["commit", "-qam", "2"]);
    let second = git(&["rev-parse", "HEAD"]);
    git(&["clone", "-q", "--bare", ".", &lab.at("repos/repo.git")]);
    (first, second)
}

#[test]
fn a_tar_on_standard_input() {
    let lab = Lab::new();
    let files = [
        ("Dockerfile", 0o644, COPY_ALL),
        (".dockerignore", 0o644, "a\n"),
        ("a", 0o640, "text"),
        ("d/", 0o700, ""),
    ];
    let plain = tar(&files);
    lab.build_with(&["-o", "plain", "-"], &plain).ok();
    let all = listing(&lab.path("plain"));
    // Whoever packed the tar chose: its ignore file is a file like others.
    assert_eq!(
        all,
        [
            ".dockerignore 644 a\n".to_owned(),
            format!("Dockerfile 644 {COPY_ALL}"),
            "a 640 text".into(),
            "d/ 700".into()
        ]
    );
    lab.build_with(&["-o", "gz", "-"], &gzip(&lab, &plain)).ok();
    assert_eq!(listing(&lab.path("gz")), all);
}

#[test]
fn owners_of_a_tar_stay() {
    let lab = Lab::new();
    let context = tar(&[("Dockerfile", 0o644, COPY_ALL), ("a", 0o640, "")]);
    lab.build_with(&["-o", "type=tar,dest=out.tar", "-"], &context).ok();
    let list = sh(&lab.path(""), "tar", &["--numeric-owner", "-tvf", "out.tar", "a"]);
    assert!(list.contains(" 10/11 "), "{list}");
}

#[test]
fn another_dockerfile_of_a_tar() {
    let lab = Lab::new();
    let context = tar(&[("sub/My.df", 0o644, "FROM scratch\nCOPY a /b\n"), ("a", 0o644, "text")]);
    lab.build_with(&["-o", "out", "-f", "sub/My.df", "-"], &context).ok();
    assert_eq!(listing(&lab.path("out")), ["b 644 text"]);
    lab.build_with(&["-"], &context).fails(2, &["there is no Dockerfile in standard input"]);
    let broken = &context[..520];
    lab.build_with(&["-f", "sub/My.df", "-"], broken).fails(2, &["cannot be used as a build context"]);
}

#[test]
fn a_dockerfile_on_standard_input() {
    let lab = Lab::new();
    lab.file("ctx/a", "text").file("ctx/b", "text").file("ctx/.dockerignore", "b\n");
    lab.build_with(&["-o", "empty", "-"], b"FROM scratch\nCOPY <<x /y\nhello\nx\n").ok();
    assert_eq!(listing(&lab.path("empty")), ["y 644 hello\n"]);
    lab.build_with(&["-"], b"FROM scratch\nCOPY a /\n").fails(1, &["there is no build context"]);
    lab.build_with(&["-f", "x", "-"], b"FROM scratch\n").fails(2, &["-f names another one"]);
    // With a directory as the context, the directory's ignore file counts.
    lab.build_with(&["-o", "out", "-f", "-", "ctx"], COPY_ALL.as_bytes()).ok();
    assert_eq!(listing(&lab.path("out")), [".dockerignore 644 b\n", "a 644 text"]);
    lab.build_with(&["-f", "-", "-"], b"").fails(2, &["both the build context and the Dockerfile"]);
}

#[test]
fn a_directory_and_its_dockerfiles() {
    let lab = Lab::new();
    lab.file("a/dockerfile", COPY_ALL).file("b/Containerfile", COPY_ALL).file("c/x", "");
    lab.file("other/D", COPY_ALL)
        .file("other/D.dockerignore", "x\n")
        .file("c/.dockerignore", "*\n")
        .file("c/y", "");
    lab.build(&["-o", "oa", "a"]).ok();
    lab.build(&["-o", "ob", "b"]).ok();
    lab.build(&["-o", "oc", "-f", "other/D", "c"]).ok();
    assert_eq!(listing(&lab.path("oc")), [".dockerignore 644 *\n", "y 644 "]);
    lab.build(&["c"]).fails(2, &["there is no Dockerfile in c"]);
    lab.build(&["nowhere"]).fails(2, &["the build context nowhere is no directory"]);
}

#[test]
fn a_git_repository() {
    let lab = Lab::new();
    let (first, second) = repository(&lab);
    let web = Web::git(lab.path("repos"));
    let url = format!("{}/repo.git", web.url);
    let built = |name: &str, context: &str| {
        lab.build(&["-o", name, context]).ok();
        lab.read(format!("{name}/file"))
    };
    assert_eq!(built("default", &url), "two");
    assert_eq!(built("tag", &format!("{url}#v1")), "one");
    assert_eq!(built("branch", &format!("{url}?branch=main")), "two");
    assert_eq!(built("commit", &format!("{url}#{first}")), "one");
    assert_eq!(built("pinned", &format!("{url}?ref=main&checksum={second}")), "two");
    let all = listing(&lab.path("default"));
    let names: Vec<&str> = all.iter().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        [".dockerignore", "Dockerfile", "file", "run.sh", "sub/", "sub/Dockerfile", "sub/inner"]
    );
    assert!(all.contains(&"run.sh 755 #!".to_owned()) && all.contains(&"file 644 two".to_owned()), "{all:?}");
    lab.build(&["-o", "dir", &format!("{url}#v1:sub")]).ok();
    assert_eq!(listing(&lab.path("dir")), ["inner 644 in"]);
    lab.build(&["-o", "named", "-f", "sub/Dockerfile", &url]).fails(1, &["inner"]);
    lab.build_with(&["-o", "stdin", "-f", "-", &url], b"FROM scratch\nCOPY sub/inner /x\n").ok();
    assert_eq!(listing(&lab.path("stdin")), ["x 644 in"]);
    lab.build(&[&format!("{url}#nope")]).fails(1, &["does not contain ref nope"]);
    lab.build(&[&format!("{url}#v1:nope")]).fails(1, &["git subdir not a directory: nope"]);
    lab.build(&[&format!("{url}?commit={}", &first[..8])]).fails(1, &["expected checksum to match"]);
    lab.build(&[&format!("{url}?odd=1")]).fails(2, &["unexpected query"]);
}

#[test]
fn a_commit_is_fetched_once() {
    let lab = Lab::new();
    let (first, _) = repository(&lab);
    let web = Web::git(lab.path("repos"));
    let url = format!("{}/repo.git", web.url);
    lab.build(&[&format!("{url}#v1")]).ok();
    let fetches = || web.lines().iter().filter(|l| l.starts_with("POST")).count();
    let before = fetches();
    lab.build(&[&format!("{url}#v1")]).ok();
    // What the tag is was asked, which is one request of its own; the commit was not fetched.
    assert_eq!(fetches(), before + 1, "{:#?}", web.lines());
    let asked = web.lines().len();
    lab.build(&[&format!("{url}#{first}")]).ok();
    assert_eq!(web.lines().len(), asked, "a commit needs no question");
}

#[test]
fn git_directories_are_kept_on_request() {
    let mut lab = Lab::new();
    let (_, second) = repository(&lab);
    let web = Web::git(lab.path("repos"));
    let url = format!("{}/repo.git", web.url);
    lab.build(&["-o", "query", &format!("{url}?keep-git-dir=1")]).ok();
    assert_eq!(sh(&lab.path("query"), "git", &["-c", "safe.directory=*", "rev-parse", "HEAD"]), second);
    let argument = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    lab.build(&[&argument[..], &["-o", "arg", &url]].concat()).ok();
    // Another store fetches again, and gets the same bytes.
    let store = lab.at("other-store");
    lab.env("LAYERCAKE_ROOT", &store);
    lab.build(&[&argument[..], &["-o", "again", &url]].concat()).ok();
    let files = |name: &str| sh(&lab.path(name), "sh", &["-c", "find . -type f | sort | xargs sha256sum"]);
    assert_eq!(files("arg"), files("again"));
    assert_eq!(files("arg"), files("query"));
    assert_eq!(sh(&lab.path("query"), "git", &["-c", "safe.directory=*", "status", "--porcelain"]), "");
}

#[test]
fn a_file_by_url() {
    let lab = Lab::new();
    let context = tar(&[("Dockerfile", 0o644, COPY_ALL), ("a", 0o644, "text")]);
    let packed = gzip(&lab, &context);
    let web = Web::start(move |asked| match asked.path() {
        "/ctx.tar" => Answer::ok(context.clone()),
        "/ctx" => Answer::ok(packed.clone()),
        "/df" => Answer::ok(COPY_ALL),
        _ => Answer::new(404, "no"),
    });
    let url = |path: &str| format!("{}/{path}", web.url);
    let all = [format!("Dockerfile 644 {COPY_ALL}"), "a 644 text".to_owned()];
    lab.build(&["-o", "plain", &url("ctx.tar")]).ok();
    assert_eq!(listing(&lab.path("plain")), all);
    lab.build(&["-o", "packed", &url("ctx")]).ok();
    assert_eq!(listing(&lab.path("packed")), all);
    lab.build(&["-o", "df", &url("df")]).ok();
    assert_eq!(listing(&lab.path("df")), [format!("context 600 {COPY_ALL}")]);
    lab.build(&[&url("none")]).fails(1, &["invalid response status 404"]);
    // A Dockerfile from elsewhere, with a directory.
    lab.file("dir/x", "").file("dir/y", "").file("dir/.dockerignore", "y\n.dockerignore\n");
    lab.build(&["-o", "remote", "-f", &url("df"), "dir"]).ok();
    assert_eq!(listing(&lab.path("remote")), ["x 644 "]);
}

#[test]
fn named_contexts() {
    let lab = Lab::new();
    repository(&lab);
    let git = Web::git(lab.path("repos"));
    let web = Web::start(|_| Answer::ok("from afar"));
    let text = "FROM g AS stage\nFROM scratch\nCOPY --from=stage file /stage\nCOPY --from=g sub /sub\n\
                COPY --from=h context /h\nCOPY --from=d f /d\n";
    lab.file("ctx/Dockerfile", text).file("dir/f", "dir").file("dir/.dockerignore", "g\n");
    let (g, h) = (format!("g={}/repo.git#v1", git.url), format!("h={}/x", web.url));
    let contexts = ["--build-context", &g, "--build-context", &h, "--build-context", "d=dir"];
    lab.build(&[&contexts[..], &["-o", "out", "ctx"]].concat()).ok();
    let inner = "sub/Dockerfile 644 FROM scratch\nCOPY inner /\n";
    assert_eq!(
        listing(&lab.path("out")),
        ["d 644 dir", "h 600 from afar", "stage 644 one", "sub/ 755", inner, "sub/inner 644 in"]
    );
    lab.build(&["--build-context", "d=nowhere", "ctx"]).fails(2, &["there is no directory nowhere"]);
}

#[test]
fn what_is_in_a_context_and_who_takes_it() {
    let lab = Lab::new();
    lab.file("ctx/.dockerignore", "node_modules\n").file("ctx/node_modules/big", "0123456789");
    lab.file("ctx/src/main.c", "int main;")
        .file("ctx/src/main.o", "xx")
        .file("ctx/README", "readme")
        .file("ctx/Makefile", "all:");
    let text = "FROM alpine:none AS build\nCOPY Makefile src/*.c /b/\nRUN --mount=target=/src,source=src make\n\
                FROM scratch AS unused\nCOPY README /\nFROM scratch\nCOPY --from=build /b /\nCOPY --exclude=*.o src gone /s/\n";
    lab.file("ctx/Dockerfile", text);
    let out = lab.build(&["--list-context", "--format", "json", "ctx"]).ok();
    let list: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    let files: Vec<String> = list["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            format!(
                "{} {} {} {}",
                f["path"].as_str().unwrap(),
                f["type"].as_str().unwrap(),
                f["size"],
                f["taken_by"]
            )
        })
        .collect();
    let dockerfile = format!("Dockerfile file {} []", text.len());
    assert_eq!(
        files,
        [
            ".dockerignore file 13 []",
            &dockerfile,
            "Makefile file 4 [2]",
            "README file 6 []",
            "src directory 0 [3,8]",
            "src/main.c file 9 [2,3,8]",
            "src/main.o file 2 [3]"
        ]
    );
    assert_eq!(list["ignored"], serde_json::json!({"files": 1, "bytes": 10}));
    assert_eq!(list["not_taken"]["files"], 3);
    assert_eq!(list["unknown_bases"], serde_json::json!(["alpine:none"]));
    let takers: Vec<String> = list["instructions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| format!("{} {} {}", t["line"], t["takes"]["bytes"], t["missing"]))
        .collect();
    assert_eq!(takers, ["2 13 []", "3 11 []", "8 9 [\"gone\"]"]);
    let text = lab.build(&["--list-context", "ctx"]).ok().stdout;
    assert!(
        text.contains("left out by the ignore file: 1 file, 10B")
            && text.contains("2,3,8   9B     src/main.c"),
        "{text}"
    );
}

#[test]
fn parents_through_a_link_are_refused() {
    let lab = Lab::new();
    lab.file("ctx/d/f", "f").file("ctx/Dockerfile", "FROM scratch\nCOPY --parents link/f /o/\n");
    std::os::unix::fs::symlink("d", lab.path("ctx/link")).unwrap();
    lab.build(&["ctx"])
        .fails(1, &["--parents does not follow the link \"/link\"", ">>> COPY --parents link/f"]);
}
