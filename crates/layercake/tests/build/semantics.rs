//! What people get wrong about COPY, ADD, RUN and the others, each as a build: the files that come out are BuildKit's.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::kit::{Lab, listing, sh, tar};
use crate::runs::cached;

/// Builds `FROM scratch` with these lines; gives the files, one in a line.
#[track_caller]
fn built(lab: &Lab, lines: &str) -> String {
    let _ = std::fs::remove_dir_all(lab.path("out"));
    lab.file("Dockerfile", format!("FROM scratch\n{lines}\n"));
    lab.build(&["-f", "Dockerfile", "-o", "out", "ctx"]).ok();
    listing(&lab.path("out")).join("|")
}

#[track_caller]
fn refused(lab: &Lab, lines: &str, said: &str) {
    lab.file("Dockerfile", format!("FROM scratch\n{lines}\n"));
    lab.build(&["-f", "Dockerfile", "ctx"]).fails(1, &[said]);
}

fn owner(path: impl AsRef<Path>) -> String {
    let m = std::fs::symlink_metadata(path).unwrap();
    format!("{}:{}", m.uid(), m.gid())
}

fn context() -> Lab {
    let lab = Lab::new();
    lab.file("ctx/a", "A").file("ctx/b", "B").file("ctx/d/in", "I").file("ctx/d/sub/deep", "D");
    std::fs::create_dir(lab.path("ctx/d/empty")).unwrap();
    lab
}

#[test]
fn paths() {
    let lab = context();
    for source in ["a", "/a", "./a", "../a", "../../a", "a/", "d/../a"] {
        assert_eq!(built(&lab, &format!("COPY {source} /o")), "o 644 A", "{source}");
    }
    assert_eq!(built(&lab, "WORKDIR /w\nCOPY a o/"), "w/ 755|w/o/ 755|w/o/a 644 A");
}

#[test]
fn directories_and_files() {
    let lab = context();
    std::fs::set_permissions(lab.path("ctx/d"), PermissionsExt::from_mode(0o700)).unwrap();
    let content = "o/ 755|o/empty/ 755|o/in 644 I|o/sub/ 755|o/sub/deep 644 D";
    for copy in ["COPY d /o", "COPY d/ /o/", "COPY d/. /o"] {
        assert_eq!(built(&lab, copy), content, "the content, and not the directory: {copy}");
    }
    assert_eq!(built(&lab, "COPY a /o/"), "o/ 755|o/a 644 A");
    assert_eq!(built(&lab, "COPY b /o/\nCOPY a /o"), "o/ 755|o/a 644 A|o/b 644 B");
    assert_eq!(built(&lab, "COPY a /o"), "o 644 A");
    // Several files without a slash: the last one stays.
    assert_eq!(built(&lab, "COPY a b /o"), "o 644 B");
    assert_eq!(built(&lab, "COPY a b /o/"), "o/ 755|o/a 644 A|o/b 644 B");
}

#[test]
fn wildcards() {
    let lab = context();
    lab.file("ctx/d/x.txt", "X").file("ctx/[1]", "1");
    assert_eq!(built(&lab, "COPY * /o/").replace("Dockerfile", ""), {
        "o/ 755|o/[1] 644 1|o/a 644 A|o/b 644 B|o/empty/ 755|o/in 644 I|o/sub/ 755|o/sub/deep 644 D|o/x.txt 644 X"
    });
    assert_eq!(built(&lab, "COPY *.txt /o/"), "", "no component is crossed, and no match copies nothing");
    assert_eq!(built(&lab, "COPY */*.txt /o/"), "o/ 755|o/x.txt 644 X");
    assert_eq!(built(&lab, "COPY [ab] /o/"), "o/ 755|o/a 644 A|o/b 644 B");
    assert_eq!(built(&lab, "COPY [[]1] /o/"), "o/ 755|o/[1] 644 1");
    refused(&lab, "COPY none /o/", "\"/none\": not found");
    lab.file("ctx/.dockerignore", "b\n");
    refused(&lab, "COPY b /o/", ".dockerignore excludes it");
}

#[test]
fn links_of_sources_and_destinations() {
    let lab = context();
    symlink("a", lab.path("ctx/to-a")).unwrap();
    symlink("d", lab.path("ctx/to-d")).unwrap();
    symlink("in", lab.path("ctx/d/inner")).unwrap();
    assert_eq!(built(&lab, "COPY to-a /o/"), "o/ 755|o/to-a 644 A");
    assert!(built(&lab, "COPY to-d /o/").contains("o/inner -> in"), "links inside stay links");
    std::fs::create_dir(lab.path("ctx/l")).unwrap();
    symlink("/real", lab.path("ctx/l/link")).unwrap();
    let linked = "COPY l /\nCOPY b /real/\n";
    let got = built(&lab, &format!("{linked}COPY a /link/"));
    assert_eq!(got, "link -> /real|real/ 755|real/a 644 A|real/b 644 B");
    assert_eq!(
        built(&lab, &format!("{linked}COPY --link a /link/")),
        "link/ 755|link/a 644 A|real/ 755|real/b 644 B"
    );
}

#[test]
fn owners() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("ctx/a", "A").file("ctx/d/in", "I");
    std::os::unix::fs::chown(lab.path("ctx/a"), Some(42), Some(43)).unwrap();
    lab.file("base/etc/group", "root:x:0:\nstaff:x:50:\nuser:x:1000:\n");
    let text = "FROM base AS one\nCOPY a /plain\nCOPY --chown=7:8 a /new/dir/numbers\nCOPY --chown=9 a /one-number\n\
        COPY --chown=user a /name\nCOPY --chown=user:staff d /both\nCOPY --chown=nobody:nogroup a /unknown\nCOPY --chown=root a /root\n\
        USER user\nCOPY a /user\nWORKDIR /of-user/deep\nWORKDIR /bin\n\
        FROM scratch\nCOPY --from=one /plain /name /user /unknown /one-number /root /o/\nCOPY --from=one /both /both\n\
        COPY --from=one /new /new\nCOPY --from=one /of-user /of-user\nCOPY --from=one /bin/busybox /bin/\nCOPY --from=one --chown=1:2 /name /again\n";
    let ran = lab.dockerfile(text, &["-o", "out"]).ok();
    let rows = [
        ("o/plain", "0:0", "files of a context are root's"),
        ("new/dir/numbers", "7:8", ""),
        ("new/dir", "7:8", "so are directories that are made for it"),
        ("o/one-number", "9:9", "the group has the same number"),
        ("o/name", "1000:1000", "COPY --from keeps owners"),
        ("both/in", "1000:50", ""),
        ("o/unknown", "0:0", ""),
        ("o/root", "0:0", ""),
        ("o/user", "0:0", "USER does not count for COPY"),
        ("of-user/deep", "1000:1000", "but for what WORKDIR makes"),
        ("again", "1:2", ""),
    ];
    for (path, want, why) in rows {
        assert_eq!(owner(lab.path("out").join(path)), want, "{path} {why}");
    }
    assert!(ran.stderr.contains("nobody and nogroup is not known in the image"), "{}", ran.stderr);
}

#[test]
fn modes_and_times() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("ctx/f", "f").file("ctx/x", "x");
    std::fs::set_permissions(lab.path("ctx/f"), PermissionsExt::from_mode(0o4751)).unwrap();
    let dated = |secs| {
        std::fs::File::open(lab.path("ctx/f"))
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(secs))
            .unwrap()
    };
    dated(1_500_000_000);
    let text = "FROM base\nCOPY f /o/f\nCOPY --chmod=600 f /o/octal\nCOPY --chmod=u=rwX,go=rX f /o/symbolic\nCOPY <<E /o/heredoc\nh\nE\n\
        FROM scratch\nCOPY --from=0 /o /\n";
    let ran = |_: &str| lab.dockerfile(text, &["-o", "out"]).ok();
    ran("first");
    let modes: Vec<String> = listing(&lab.path("out"))
        .iter()
        .map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(modes, ["f 4751", "heredoc 644", "octal 600", "symbolic 755"]);
    assert_eq!(std::fs::metadata(lab.path("out/f")).unwrap().mtime(), 1_500_000_000, "times are kept");
    dated(1_600_000_000);
    assert!(cached(&ran("second"), "COPY f /o/f"), "and do not count in the cache");
    std::fs::set_permissions(lab.path("ctx/f"), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(!cached(&ran("third"), "COPY f /o/f"), "modes do");
}

#[test]
fn what_replaces_what() {
    let lab = context();
    lab.file("ctx/e/x/y", "Y").file("ctx/g/x", "X");
    assert_eq!(built(&lab, "COPY a /o\nCOPY b /o"), "o 644 B");
    refused(&lab, "COPY e /\nCOPY g /", "cannot replace to directory \"/x\" with file");
    refused(&lab, "COPY g /\nCOPY e /", "cannot copy to non-directory: \"/x\"");
    // Directories below that are there take the source's mode, the destination keeps its own.
    std::fs::create_dir_all(lab.path("ctx/m/sub")).unwrap();
    std::fs::set_permissions(lab.path("ctx/m"), PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::set_permissions(lab.path("ctx/m/sub"), PermissionsExt::from_mode(0o711)).unwrap();
    assert_eq!(built(&lab, "COPY d/sub /o/sub/\nCOPY m /o"), "o/ 755|o/sub/ 711|o/sub/deep 644 D");
}

#[test]
fn links_pipes_and_empty_directories() {
    let lab = context();
    std::fs::hard_link(lab.path("ctx/d/in"), lab.path("ctx/d/again")).unwrap();
    sh(&lab.path("ctx/d"), "mkfifo", &["pipe"]);
    lab.file("Dockerfile", "FROM scratch\nCOPY d /o\nCOPY d/in d/again /apart/\n");
    lab.build(&["-f", "Dockerfile", "-o", "out", "ctx"]).ok();
    let inode = |p: &str| std::fs::metadata(lab.path("out").join(p)).unwrap().ino();
    assert_eq!(inode("o/in"), inode("o/again"), "hard links stay inside one directory");
    assert_ne!(inode("apart/in"), inode("apart/again"));
    assert!(std::fs::metadata(lab.path("out/o/pipe")).unwrap().file_type().is_fifo());
    assert!(lab.path("out/o/empty").is_dir());
}

#[test]
fn archives() {
    let lab = context();
    let bytes = tar(&[("in-it/", 0o700, ""), ("in-it/f", 0o640, "F"), ("a", 0o600, "from the archive")]);
    for name in ["plain", "gz", "bz", "x", "zst"] {
        std::fs::write(lab.path(format!("ctx/{name}")), &bytes).unwrap();
    }
    let pack = |program: &str, name: &str| {
        sh(&lab.path("ctx"), "sh", &["-c", &format!("{program} -c < {name} > t && mv t {name}")]);
    };
    pack("gzip", "gz");
    pack("bzip2", "bz");
    pack("xz", "x");
    pack("zstd -q", "zst");
    let unpacked = "o/ 755|o/a 600 from the archive|o/in-it/ 700|o/in-it/f 640 F";
    for name in ["plain", "gz", "bz", "x", "zst"] {
        assert_eq!(
            built(&lab, &format!("ADD {name} /o")),
            unpacked,
            "{name}: its content says that it is one"
        );
    }
    assert_eq!(owner(lab.path("out/o/a")), "10:11", "with the archive's owners");
    built(&lab, "ADD --chown=1:2 plain /o/");
    assert_eq!(owner(lab.path("out/o/in-it/f")), "1:2");
    lab.file("ctx/fake.tar.gz", "no archive");
    assert_eq!(built(&lab, "ADD fake.tar.gz /o/"), "o/ 755|o/fake.tar.gz 644 no archive");
    lab.file("ctx/empty.tar", "");
    assert_eq!(built(&lab, "ADD empty.tar /o/"), "o/ 755|o/empty.tar 644 ");
    assert!(built(&lab, "ADD --unpack=false gz /o/").starts_with("o/ 755|o/gz 644 "));
    assert_eq!(built(&lab, "ADD plain gz /o/"), unpacked);
    // What is there is replaced, what is a directory stays one.
    assert_eq!(built(&lab, "COPY d/sub /o/in-it/\nCOPY b /o/a\nADD plain /o"), {
        "o/ 755|o/a 600 from the archive|o/in-it/ 700|o/in-it/deep 644 D|o/in-it/f 640 F"
    });
}

#[test]
fn commands() {
    let Some(lab) = Lab::rooted() else { return };
    let out = "FROM base\nRUN mkdir /o\n";
    let said = |lines: &str, file: &str| {
        lab.dockerfile(&format!("{out}{lines}\nFROM scratch\nCOPY --from=0 /o /\n"), &["-o", "out"]).ok();
        lab.read(format!("out/{file}"))
    };
    assert_eq!(said("RUN cd /bin\nRUN echo $PWD > /o/cd", "cd"), "/\n");
    assert_eq!(
        said("ENV V=x\nRUN [\"sh\", \"-c\", \"echo '$V' $0 > /o/exec\", \"$V\"]", "exec"),
        "$V $V\n",
        "nobody expands"
    );
    assert_eq!(
        said("RUN <<E\nfalse\necho on > /o/here\nE", "here"),
        "on\n",
        "a heredoc goes on after an error"
    );
    assert_eq!(
        said("RUN readlink /proc/self/fd/0 > /o/in; [ -t 1 ] || echo no terminal >> /o/in", "in"),
        "/dev/null\nno terminal\n"
    );
    assert_eq!(said("ARG A=1\nENV B=2\nRUN echo $A$B$HOME > /o/env", "env"), "12/root\n", "HOME is passwd's");
    assert_eq!(said("WORKDIR /w\nWORKDIR deep\nRUN echo $PWD > /o/w", "w"), "/w/deep\n");
    assert_eq!(
        said("VOLUME /v\nRUN mkdir -p /v && echo kept > /v/f\nRUN cp /v/f /o/v", "v"),
        "kept\n",
        "volumes keep what comes later"
    );
    assert_eq!(said("ENV a=hi\nENV a=bye b=$a\nRUN echo $a $b > /o/e", "e"), "bye hi\n");
    assert_eq!(said("ENV X=env\nARG X=arg\nRUN echo $X > /o/x", "x"), "arg\n", "the last one wins");
    assert_eq!(said("USER user\nRUN id -u > /tmp/x || true\nUSER 0\nRUN id -u > /o/id", "id"), "0\n");
    for (lines, message) in [
        ("RUN --mount=type=tmpfs,target=/ true", "invalid mount target \"/\""),
        ("USER nobody-here\nRUN true", "nobody-here"),
        ("RUN exit 3", "exit code: 3"),
    ] {
        lab.dockerfile(&format!("FROM base\n{lines}\n"), &[]).fails(1, &[message]);
    }
}

#[test]
fn what_the_config_says() {
    let lab = context();
    let inspect = |text: &str| -> serde_json::Value {
        lab.file("Dockerfile", text);
        lab.build(&["-f", "Dockerfile", "-t", "img", "ctx"]).ok();
        let all: serde_json::Value = serde_json::from_str(&lab.run(&["inspect", "img"]).ok().stdout).unwrap();
        all[0].clone()
    };
    let one = inspect(
        "FROM scratch\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\nEXPOSE 80-82/UDP 90\nWORKDIR /\nWORKDIR /w\nWORKDIR /w\nHEALTHCHECK --retries=2 CMD x\n\
         SHELL [\"/x\", \"-y\"]\nONBUILD COPY a /triggered\nSTOPSIGNAL 9\nVOLUME /v\n",
    );
    let text = one.to_string();
    for part in [
        "80/udp",
        "81/udp",
        "82/udp",
        "90/tcp",
        "\"/x\",\"-y\"",
        "\"COPY a /triggered\"",
        "\"CMD-SHELL\",\"x\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    lab.file("Dockerfile", "FROM img\nENTRYPOINT [\"own\"]\n");
    lab.build(&["-f", "Dockerfile", "-t", "child", "-o", "type=oci,dest=c,tar=false", "ctx"]).ok();
    let mut config = serde_json::Value::Null;
    for blob in std::fs::read_dir(lab.path("c/blobs/sha256")).unwrap().flatten() {
        if let Ok(v) = serde_json::from_slice::<serde_json::Value>(&std::fs::read(blob.path()).unwrap())
            && v.get("rootfs").is_some()
        {
            config = v;
        }
    }
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["own"]));
    assert!(
        config["config"].get("Cmd").is_none_or(serde_json::Value::is_null),
        "an entry point takes the inherited command away"
    );
    assert!(config["config"].get("OnBuild").is_none_or(serde_json::Value::is_null), "triggers are used once");
    let history: Vec<(String, bool)> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["created_by"].as_str().unwrap().to_owned(), h["empty_layer"] == true))
        .collect();
    let layers = history.iter().filter(|(_, empty)| !empty).map(|(t, _)| t.as_str()).collect::<Vec<_>>();
    // A WORKDIR makes a layer each time, but for the root; a trigger has no line where it is set, and one where it runs.
    assert_eq!(layers, ["WORKDIR /w", "WORKDIR /w", "COPY a /triggered # buildkit"]);
    assert!(!history.iter().any(|(t, _)| t.starts_with("ONBUILD")), "{history:?}");
}
