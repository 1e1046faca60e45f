//! SOURCE_DATE_EPOCH and images that are the same on another day.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::contexts::repository;
use crate::kit::{Lab, sh, tar};
use crate::web::{Answer, Web};

/// Gives everything below a directory some time.
fn touch(dir: &Path, secs: u64) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            touch(&path, secs);
        }
        std::fs::File::open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    }
}

/// The config of the image in an OCI archive.
fn config(lab: &Lab, archive: &str) -> Value {
    let dir = lab.path(format!("{archive}.d"));
    std::fs::create_dir_all(&dir).unwrap();
    sh(&dir, "tar", &["xf", &lab.at(archive)]);
    let read =
        |path: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.join(path)).unwrap()).unwrap() };
    let blob = |digest: &Value| {
        read(&format!("blobs/sha256/{}", digest.as_str().unwrap().trim_start_matches("sha256:")))
    };
    let manifest = blob(&read("index.json")["manifests"][0]["digest"]);
    blob(&manifest["config"]["digest"])
}

const TEXT: &str = "FROM base\nRUN mkdir /d && echo made > /d/f && date > /dev/null\nCOPY a /x/\nADD b.tar /y/\nWORKDIR /w\nCOPY <<f /h\nhere\nf\n";

#[test]
fn two_days_give_one_image() {
    let Some(mut lab) = Lab::rooted() else { return };
    lab.file("ctx/a/one", "1").file("ctx/a/two", "2").file("ctx/Dockerfile", TEXT);
    std::fs::write(lab.path("ctx/b.tar"), tar(&[("old", 0o644, "old")])).unwrap();
    let mut archives = Vec::new();
    // The first day is long ago, so that the files are older than the epoch; the other is today.
    for (n, day) in [(1, 1_000_000_000), (2, 1_700_000_000)] {
        touch(&lab.path("ctx"), day);
        touch(&lab.path("base"), day);
        let store = lab.at(format!("store{n}"));
        lab.env("LAYERCAKE_ROOT", &store);
        let dest = format!("type=oci,dest=out{n}.tar");
        let args =
            ["--build-context", "base=base", "--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1600000001"];
        lab.build(&[&args[..], &["-t", "x:1", "-o", &dest, "ctx"]].concat()).ok();
        archives.push(std::fs::read(lab.path(format!("out{n}.tar"))).unwrap());
    }
    assert!(archives[0] == archives[1], "two archives of one tree differ");
    let c = config(&lab, "out1.tar");
    assert_eq!(c["created"], "2020-09-13T12:26:41Z");
    assert!(c["history"].as_array().unwrap().iter().all(|h| h["created"] == "2020-09-13T12:26:41Z"));
    // Files of an archive keep their times if those are older.
    lab.build(&[
        "--build-context",
        "base=base",
        "--reproducible",
        "--build-arg",
        "SOURCE_DATE_EPOCH=1600000001",
        "-o",
        "type=oci,dest=o,tar=false",
        "ctx",
    ])
    .ok();
    // Without the switch the two days differ.
    let mut plain = Vec::new();
    for (n, day) in [(3, 1_000_000_000), (4, 1_700_000_000)] {
        touch(&lab.path("ctx"), day);
        let store = lab.at(format!("store{n}"));
        lab.env("LAYERCAKE_ROOT", &store);
        let dest = format!("type=oci,dest=out{n}.tar");
        lab.build(&[
            "--build-context",
            "base=base",
            "--build-arg",
            "SOURCE_DATE_EPOCH=1600000001",
            "-o",
            &dest,
            "ctx",
        ])
        .ok();
        plain.push(std::fs::read(lab.path(format!("out{n}.tar"))).unwrap());
    }
    assert!(plain[0] != plain[1]);
}

const ON_A_BASE: &str = "FROM img AS made\nRUN rm /base/gone && ln /base/kept /base/linked && echo more >> /base/changed && mkdir -p /d/e\n\
    RUN --mount=type=cache,target=/c,id=r date +%s > /c/now; touch /d/e/now && chmod 700 /base && rm -r /d && mkdir /d && echo x > /d/x\n\
    COPY --link a /linked/\nCOPY --chown=1:2 --chmod=640 a/one /x/one\nADD young.tar.gz /y/\nUSER user\nWORKDIR /w/deep\n\
    RUN ln -s x /tmp/l; date > /dev/null\nCOPY <<f /h\nhere\nf\nVOLUME /v\nLABEL a=b\n\
    FROM img\nCOPY --from=made / /\nCOPY --from=made /base /again\nRUN echo last > /last\n";

/// A base image with times of its own, several kinds of steps, every form of output: the bytes are the same on another day, which here
/// is another store, other times of the files, and another time of the clock.
#[test]
fn two_days_give_one_image_on_a_base() {
    let Some(mut lab) = Lab::rooted() else { return };
    for name in ["kept", "gone", "changed"] {
        lab.file(&format!("base/base/{name}"), name);
    }
    std::fs::create_dir(lab.path("base/tmp")).unwrap();
    touch(&lab.path("base"), 1_400_000_000);
    lab.file("first/Dockerfile", "FROM base\nRUN chmod 1777 /tmp && echo made > /made\n");
    lab.build(&["--build-context", "base=base", "-t", "img:1", "-o", "type=oci,dest=img,tar=false", "first"])
        .ok();
    lab.file("ctx/a/one", "1").file("ctx/a/sub/two", "2").file("ctx/Dockerfile", ON_A_BASE);
    std::fs::write(lab.path("ctx/young.tar"), tar(&[("old", 0o644, "old"), ("dir/", 0o700, "")])).unwrap();
    sh(&lab.path("ctx"), "gzip", &["young.tar"]);
    let outputs = |day: u32| {
        [
            "type=oci,dest=oci",
            "type=docker,dest=docker",
            "type=tar,dest=tar",
            "type=oci,compression=zstd,dest=zstd",
        ]
        .map(|o| format!("{o}{day}"))
    };
    let day = |lab: &mut Lab, n: u32, date: u64, more: &[&str]| {
        let second = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        while std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() == second {
            std::thread::sleep(Duration::from_millis(20));
        }
        touch(&lab.path("ctx"), date);
        let store = lab.at(format!("day{n}"));
        lab.env("LAYERCAKE_ROOT", &store);
        let outputs = outputs(n);
        let mut args = vec!["--build-context", "img=oci-layout://img", "-t", "x:1"];
        args.extend(more);
        outputs.iter().for_each(|o| args.extend(["-o", o.as_str()]));
        args.push("ctx");
        lab.build(&args).ok();
        ["oci", "docker", "tar", "zstd"].map(|o| std::fs::read(lab.path(format!("{o}{n}"))).unwrap())
    };
    let switch = ["--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1650000000"];
    let one = day(&mut lab, 1, 1_500_000_000, &switch);
    let two = day(&mut lab, 2, 1_700_000_000, &switch);
    for (n, what) in ["oci", "docker", "tar", "zstd"].iter().enumerate() {
        assert!(one[n] == two[n], "the two {what} archives differ");
    }
    // The base keeps its times: what it made on the day of its own build is younger.
    let c = config(&lab, "oci1");
    let dates: Vec<&str> =
        c["history"].as_array().unwrap().iter().map(|h| h["created"].as_str().unwrap()).collect();
    assert_eq!(dates[2..], ["2022-04-15T05:20:00Z"; 3]);
    assert!(dates[..2].iter().all(|d| *d > "2024"), "{dates:?}");
    // Without the switch nothing of it is the same.
    let three = day(&mut lab, 3, 1_500_000_000, &[]);
    let four = day(&mut lab, 4, 1_700_000_000, &[]);
    assert!((0..4).all(|n| three[n] != four[n]));
}

/// `path time` of the files of all layers in an OCI layout, without directories.
fn times(lab: &Lab, layout: &str) -> Vec<String> {
    let dir = lab.path(layout);
    let mut out = Vec::new();
    for blob in std::fs::read_dir(dir.join("blobs/sha256")).unwrap().flatten() {
        let list = std::process::Command::new("tar")
            .args(["--full-time", "--utc", "-tvzf"])
            .arg(blob.path())
            .output()
            .unwrap();
        for line in String::from_utf8_lossy(&list.stdout).lines().filter(|l| l.starts_with('-')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            out.push(format!("{} {}", words[5], words[3]));
        }
    }
    out.sort();
    out
}

#[test]
fn rewriting_takes_only_what_is_too_young_and_not_the_base() {
    let lab = Lab::new();
    lab.file("ctx/old", "old")
        .file("ctx/young", "young")
        .file("ctx/Dockerfile", "FROM scratch\nCOPY old young /\n");
    let set = |name: &str, secs| {
        let file = std::fs::File::open(lab.path(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    };
    set("ctx/old", 1_000_000_000);
    set("ctx/young", 1_700_000_000);
    let plain = |epoch: &str, out: &str| {
        let dest = format!("type=oci,dest={out},tar=false,rewrite-timestamp=true");
        lab.build(&["-t", "first", "--build-arg", epoch, "-o", &dest, "ctx"]).ok();
    };
    plain("SOURCE_DATE_EPOCH=1600000000", "a");
    assert_eq!(times(&lab, "a"), ["old 2001-09-09", "young 2020-09-13"]);
    lab.file("two/Dockerfile", "FROM first\nCOPY young2 /\n").file("two/young2", "2");
    let dest = "type=oci,dest=b,tar=false,rewrite-timestamp=true,source-date-epoch=1500000000";
    lab.build(&["-o", dest, "two"]).ok();
    // The base in the store was not rewritten: only the archive was.
    assert_eq!(times(&lab, "b"), ["old 2001-09-09", "young 2023-11-14", "young2 2017-07-14"]);
    lab.build(&["-o", "type=oci,dest=c,rewrite-timestamp=true", "two"])
        .fails(2, &["needs a date", "--reproducible"]);
    // Files that leave as files all have the date.
    lab.build(&["--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", "files", "ctx"]).ok();
    for f in ["old", "young"] {
        let m = std::fs::metadata(lab.path(format!("files/{f}"))).unwrap().modified().unwrap();
        assert_eq!(m, UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    }
}

#[test]
fn where_the_date_comes_from() {
    let lab = Lab::new();
    repository(&lab);
    let git = Web::git(lab.path("repos"));
    let packed = tar(&[("Dockerfile", 0o644, "FROM scratch\nCOPY . /\n")]);
    let web = Web::start(move |asked| match asked.path() {
        "/dated" => Answer::ok(packed.clone()).header("Last-Modified", "Sat, 01 Jan 2022 00:00:00 GMT"),
        _ => Answer::ok(packed.clone()),
    });
    let created = |args: &[&str]| {
        lab.build(&[args, &["-o", "type=oci,dest=o.tar"]].concat()).ok();
        config(&lab, "o.tar")["created"].as_str().unwrap().to_owned()
    };
    let date = |value: &str| format!("SOURCE_DATE_EPOCH={value}");
    let context = date("context");
    let (repo, dated, plain) =
        (format!("{}/repo.git", git.url), format!("{}/dated", web.url), format!("{}/plain", web.url));
    assert_eq!(created(&["--build-arg", &context, &repo]), "2017-07-14T02:40:00Z");
    assert_eq!(created(&["--build-arg", &context, &dated]), "2022-01-01T00:00:00Z");
    assert_eq!(created(&["--build-arg", &context, &plain]), "2020-09-13T12:26:40Z", "the newest file");
    let named = format!("src={repo}");
    lab.file(
        "ctx/Dockerfile",
        format!("FROM scratch AS when\nADD {dated} /\nFROM scratch\nCOPY Dockerfile /\n"),
    );
    assert_eq!(
        created(&["--build-arg", &date("src"), "--build-context", &named, "ctx"]),
        "2017-07-14T02:40:00Z"
    );
    assert_eq!(created(&["--build-arg", &date("when"), "ctx"]), "2022-01-01T00:00:00Z");
    lab.build(&["--build-arg", &date("nope"), "ctx"]).fails(1, &["invalid SOURCE_DATE_EPOCH: nope"]);
    // A directory has no date of its own, but the switch asks git, and takes 1970 where that knows nothing.
    assert!(created(&["--build-arg", &context, "ctx"]).as_str() > "2024");
    assert_eq!(created(&["--reproducible", "work"]), "2017-07-14T02:40:00Z");
    assert_eq!(created(&["--reproducible", "ctx"]), "1970-01-01T00:00:00Z");
}
