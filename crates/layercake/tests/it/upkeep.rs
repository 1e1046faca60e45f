//! `check`, `du`, `prune`, `verify`.

use std::io::Write;

use crate::lab::{BASE, Build, Cached, Ran};

#[test]
fn check_finds_what_buildkit_finds() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile("FROM scratch AS Odd\nCOPY bin/busybox /\n");
    let dir = b.path("context").display().to_string();
    let out = b.layercake(&["check", &dir]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stdout.contains("Dockerfile:1:17") && out.stdout.contains("rule: StageNameCasing"), "{out}");
    let file = b.path("context/Dockerfile").display().to_string();
    let out = b.layercake(&["check", "--format", "json", &file]);
    let list: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!((out.code, &list[0]["rule"], &list[0]["line"]), (1, &"StageNameCasing".into(), &1.into()));
    assert_eq!(list.as_array().unwrap().len(), 1);
    b.dockerfile("FROM scratch AS odd\nCOPY bin/busybox /\n");
    let out = b.layercake(&["check", &dir]);
    assert_eq!(out.code, 0, "{out}");
    b.dockerfile("FROM scratch\nNO\nCOPY\n");
    let out = b.layercake(&["check", &dir]);
    assert_eq!((out.code, out.stdout.contains("2 errors")), (1, true), "{out}");
    assert_eq!(b.layercake(&["check", "no/such"]).code, 2);
    assert!(!b.store().exists(), "a check needs no store");
}

fn objects(b: &Build) -> u64 {
    let list = b.layercake(&["du", "--format", "json"]).json();
    let of = list.as_array().unwrap().iter().find(|r| r["kind"] == "objects").unwrap();
    of["bytes"].as_u64().unwrap()
}

#[test]
fn prune_says_what_goes_and_takes_the_cache_only_if_told_to() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}RUN head -c 100000 /dev/zero > /zeros\n")).run().ok();
    let all = objects(&b);
    b.layercake(&["rmi", "t"]).ok();
    b.layercake(&["prune"]).ok();
    assert_eq!(objects(&b), all, "the build cache stays");
    assert_eq!(b.run().steps(), [Cached; 2]);
    b.layercake(&["rmi", "t"]).ok();
    let dry = b.layercake(&["prune", "--all", "--dry-run"]).ok().to_owned();
    assert!(dry.starts_with("would free ") && dry.contains("2 results of past steps"), "{dry}");
    assert_eq!(objects(&b), all);
    let freed = b.layercake(&["prune", "--all"]).ok().to_owned();
    assert_eq!(freed.replace("freed", "would free"), dry);
    assert_eq!(objects(&b), 0);
    assert_eq!(b.layercake(&["prune", "--all"]).ok(), "there is nothing to free");
    assert_eq!(b.run().steps(), [Ran; 2]);
}

#[test]
fn prune_keeps_images_with_a_name() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    b.layercake(&["prune", "--all"]).ok();
    assert_eq!(b.layercake(&["run", "t", "echo", "works"]).ok(), "works");
}

#[test]
fn verify_finds_damage_and_repairs_it() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    let out = b.layercake(&["verify"]);
    assert!(out.ok().contains("everything is sound"), "{out}");
    let objects = b.store().join("objects");
    let dirs = std::fs::read_dir(objects).unwrap().flatten();
    let object = dirs.flat_map(|d| std::fs::read_dir(d.path()).unwrap().flatten()).next().unwrap().path();
    let mut file = std::fs::File::options().append(true).open(&object).unwrap();
    file.write_all(b"x").unwrap();
    let out = b.layercake(&["verify", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!((out.code, &list[0]["part"]), (1, &"object".into()), "{out}");
    let out = b.layercake(&["verify", "--repair"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(b.layercake(&["verify"]).code, 0);
    assert_eq!(b.run().steps(), [Ran], "what was dropped is made again");
}
