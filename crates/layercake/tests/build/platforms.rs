//! Several platforms as one image, several targets in one build, and the flags that RUN steps feel.

use serde_json::Value;

use crate::kit::{Lab, listing, sh};
use crate::runs::cached;

fn json(lab: &Lab, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(path)).unwrap()).unwrap()
}

/// A document of an OCI layout.
fn blob(lab: &Lab, layout: &str, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
    json(lab, &format!("{layout}/blobs/sha256/{digest}"))
}

const TEXT: &str = "FROM --platform=$BUILDPLATFORM scratch AS tools\nARG BUILDPLATFORM\nARG TARGETARCH\nCOPY <<E /arch\n$TARGETARCH on $BUILDPLATFORM\nE\n\
    FROM scratch\nARG TARGETPLATFORM\nARG TARGETVARIANT\nCOPY --from=tools /arch /\nLABEL platform=$TARGETPLATFORM\n";

#[test]
fn a_list_of_platforms_makes_an_index() {
    let lab = Lab::new();
    lab.file("ctx/Dockerfile", TEXT);
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--platform", "linux/arm/v7"];
    let out = ["-o", "type=oci,dest=oci,tar=false", "-o", "files", "-o", "type=tar,dest=t.tar"];
    let ran = lab
        .build(
            &[&platforms[..], &out, &["-t", "x:1", "--metadata-file", "meta", "--iidfile", "iid", "ctx"]]
                .concat(),
        )
        .ok();
    let top = json(&lab, "oci/index.json");
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1, "{top}");
    let index = blob(&lab, "oci", &top["manifests"][0]);
    let mut seen = Vec::new();
    for m in index["manifests"].as_array().unwrap() {
        let p = &m["platform"];
        let config = blob(&lab, "oci", &blob(&lab, "oci", m)["config"]);
        assert_eq!((&config["architecture"], &config["os"]), (&p["architecture"], &p["os"]));
        seen.push(config["config"]["Labels"]["platform"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    let host = oci_platform(&lab);
    let file = |arch: &str| format!("arch 644 {arch} on {host}\n");
    let dirs = [("linux_amd64", "amd64"), ("linux_arm64", "arm64"), ("linux_arm_v7", "arm")];
    for (dir, arch) in dirs {
        assert_eq!(listing(&lab.path("files").join(dir)), [file(arch)]);
    }
    std::fs::create_dir(lab.path("t")).unwrap();
    sh(&lab.path("t"), "tar", &["xf", &lab.at("t.tar")]);
    assert_eq!(listing(&lab.path("t")), listing(&lab.path("files")));
    let digest = top["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(json(&lab, "meta")["containerimage.digest"], digest);
    assert_eq!(lab.read("iid").trim(), digest);
    assert!(ran.stderr.contains(" for linux/arm64\n"), "{}", ran.stderr);
    // One platform is no index, unless that is asked for.
    let one = |args: &[&str]| {
        lab.build(&[args, &["--platform=linux/arm64", "-o", "type=oci,dest=one,tar=false", "ctx"]].concat())
            .ok();
        let top = json(&lab, "one/index.json")["manifests"][0]["mediaType"].as_str().unwrap().to_owned();
        std::fs::remove_dir_all(lab.path("one")).unwrap();
        top
    };
    assert!(one(&[]).contains("image.manifest"));
    assert!(one(&["--build-arg", "BUILDKIT_MULTI_PLATFORM=1"]).contains("image.index"));
    lab.build(&[&platforms[..], &["-o", "type=docker,dest=d.tar", "ctx"]].concat())
        .fails(2, &["cannot hold an image of several platforms"]);
    lab.build(&["--platform=what/ever/it/is", "ctx"]).fails(2, &["--platform"]);
}

/// This machine's platform, as a build tells it.
fn oci_platform(lab: &Lab) -> String {
    lab.file("probe/Dockerfile", "FROM scratch\nARG BUILDPLATFORM\nCOPY <<E /p\n$BUILDPLATFORM\nE\n");
    lab.build(&["-o", "probe-out", "probe"]).ok();
    lab.read("probe-out/p").trim().to_owned()
}

#[test]
fn steps_for_other_platforms() {
    let Some(lab) = Lab::rooted() else { return };
    // Native steps of a build for another platform run; foreign ones are refused before anything runs, where no emulator is registered.
    let cross = "FROM --platform=$BUILDPLATFORM base AS tools\nARG TARGETARCH\nRUN echo for $TARGETARCH > /made\nFROM scratch\nCOPY --from=tools /made /\n";
    lab.dockerfile(cross, &["--platform", "linux/s390x", "-o", "out"]).ok();
    assert_eq!(lab.read("out/made"), "for s390x\n");
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        return;
    }
    let ran = lab.dockerfile("FROM base\nRUN echo first\nRUN echo second\n", &["--platform", "linux/s390x"]);
    let ran = ran.fails(1, &["this RUN is for linux/s390x", "register an emulator", ">>> RUN echo first"]);
    assert!(!ran.stderr.contains(" RUN echo first\n#"), "{}", ran.stderr);
}

#[test]
fn several_targets() {
    let lab = Lab::new();
    lab.file("ctx/f", "f").file(
        "ctx/Dockerfile",
        "FROM scratch AS common\nCOPY f /common\nFROM common AS one\nCOPY f /one\nFROM common AS two\nCOPY f /two\nFROM common AS three\nCOPY f /three\n",
    );
    let args = [
        "--target",
        "one",
        "--target",
        "two",
        "-t",
        "img:{target}",
        "-o",
        "type=local,dest=out/{target}",
        "--metadata-file",
        "meta",
        "ctx",
    ];
    let ran = lab.build(&args).ok();
    let names = |dir: &str| {
        listing(&lab.path(dir)).iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("out"), ["one/", "one/common", "one/one", "two/", "two/common", "two/two"]);
    assert!(!ran.stderr.contains("COPY f /three"), "{}", ran.stderr);
    let common = |l: &&str| l.contains("COPY f /common") && l.starts_with('#');
    assert_eq!(ran.stderr.lines().filter(common).count(), 2);
    let last = ran.stderr.lines().rfind(common).unwrap().split(' ').next().unwrap();
    assert!(ran.stderr.contains(&format!("{last} CACHED")), "what is common runs once: {}", ran.stderr);
    let meta = json(&lab, "meta");
    assert!(
        meta["one"]["image.name"].as_str().unwrap().ends_with("img:one") && meta["two"].is_object(),
        "{meta}"
    );
    let tags = lab.run(&["images", "--format", "json"]).ok().stdout;
    assert!(tags.contains("img:one") && tags.contains("img:two"), "{tags}");
    lab.build(&["--target", "one", "--target", "two", "-t", "img:1", "ctx"])
        .fails(2, &["--tag img:1 cannot be used for several targets", "{target}"]);
    lab.build(&["--target", "none", "ctx"])
        .fails(1, &["target stage \"none\" could not be found", "one, two, three"]);
}

#[test]
fn what_steps_feel_of_the_flags() {
    let Some(lab) = Lab::rooted() else { return };
    let seen = |run: &str, args: &[&str]| {
        let _ = std::fs::remove_dir_all(lab.path("out"));
        let text = format!("FROM base\nRUN mkdir /o\n{run}\nFROM scratch\nCOPY --from=0 /o /\n");
        lab.dockerfile(&text, &[args, &["-o", "out"]].concat()).ok();
        lab.read("out/f").trim().to_owned()
    };
    let links = "ls /sys/class/net > /o/f";
    assert_eq!(seen(&format!("RUN {links}"), &["--network", "none"]), "lo");
    assert_eq!(seen(&format!("RUN --network=none {links}"), &[]), "lo");
    assert_eq!(seen("RUN sh -c 'ulimit -n' > /o/f", &["--ulimit", "nofile=321:400"]), "321");
    assert_eq!(
        seen("RUN grep own.host /etc/hosts | cut -f 1 > /o/f", &["--add-host", "own.host:10.1.2.3"]),
        "10.1.2.3"
    );
    assert_eq!(seen("RUN cat /proc/sys/kernel/hostname > /o/f", &[]), "buildkitsandbox");
    assert_eq!(
        seen("RUN cat /proc/sys/kernel/hostname > /o/f", &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=mine"]),
        "mine"
    );
    assert_eq!(
        seen(
            "RUN grep -o 'size=[0-9]*k' /proc/mounts > /o/all; grep /dev/shm /proc/mounts | grep -o 'size=[0-9]*k' > /o/f",
            &["--shm-size", "1m"]
        ),
        "size=1024k"
    );
    // A stage is rebuilt by name, and the others are not.
    let text = "FROM base AS a\nRUN echo of-a\nFROM base AS b\nRUN echo of-b\nFROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n";
    lab.dockerfile(text, &[]).ok();
    let ran = lab.dockerfile(text, &["--no-cache-filter", "B"]).ok();
    assert!(cached(&ran, "RUN echo of-a") && !cached(&ran, "RUN echo of-b"), "{}", ran.stderr);
    // A named context may be another image, and a file of any syntax is ours.
    lab.dockerfile(
        "# syntax=docker/dockerfile:1.99-labs\nFROM base\nRUN echo here > /here\n",
        &["-t", "other:1"],
    )
    .ok();
    let args = [
        "--build-context",
        "alpine:3=docker-image://other:1",
        "--build-arg",
        "BUILDKIT_SYNTAX=docker/dockerfile:1",
        "-o",
        "img",
    ];
    lab.dockerfile("FROM alpine:3 AS x\nRUN test -f /here\nFROM scratch\nCOPY --from=x /here /\n", &args)
        .ok();
    assert_eq!(lab.read("img/here"), "here\n");
}

#[test]
fn flags_of_dockers_builder() {
    let lab = Lab::new();
    lab.file("ctx/Dockerfile", "# syntax=example.org/other:1\nFROM scratch\nCOPY Dockerfile /\n");
    let ran = lab
        .build(&["--rm", "--force-rm", "--compress", "--load", "--provenance=false", "--sbom=false", "ctx"])
        .ok();
    assert!(ran.stderr.contains("WARNING: the frontend example.org/other:1 is not run"), "{}", ran.stderr);
    for flag in ["--provenance=mode=max", "--sbom=true"] {
        lab.build(&[flag, "ctx"]).fails(2, &["attestations are not made", "=false"]);
    }
    lab.build(&["-o", "type=registry,registry.insecure=true", "ctx"]).fails(2, &["--insecure HOST"]);
}
