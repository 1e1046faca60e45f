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

#[test]
fn check_mends_what_it_can_and_nothing_else() {
    let Some(mut b) = Build::new() else { return };
    let text = "\u{feff}# check=skip=JSONArgsRecommended\r\nFROM scratch AS Odd\r\n  add  a.py \\\n\n  /x\nRUN pip install x\ncd /\n";
    b.dockerfile(text);
    let file = b.path("context/Dockerfile").display().to_string();
    let out = b.layercake(&["check", "--fix", &file]);
    assert_eq!(out.code, 1, "there is an error: {out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "a file with errors is not touched");
    let (text, after) = (
        text.replace("cd /\n", "\tRUN cd /\n"),
        "\u{feff}# check=skip=JSONArgsRecommended\r\nFROM scratch AS odd\r\n  COPY  a.py \\\n  /x\nRUN pip install --no-cache-dir x\n\tRUN cd /\n",
    );
    b.dockerfile(&text);
    let before = std::fs::metadata(&file).unwrap();
    let out = b.layercake(&["check", "--fix", &file]);
    assert_eq!((out.code, out.stderr.contains("findings fixed")), (1, true), "{out}");
    assert!(out.stdout.contains("layercake/CdWithoutEffect") && out.stdout.contains("1 warning"), "{out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions(), before.permissions());
    let out = b.layercake(&["check", "--fix", &file]);
    assert_eq!((out.code, out.stderr.as_str()), (1, ""), "nothing is left to fix: {out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
    let out = b.layercake(&["check", "--rules", "buildkit", &file]);
    assert_eq!(out.code, 0, "{out}");
    let out = b.layercake(&["check", "--format", "sarif", &file, &file]).stdout;
    let log: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(2), "{out}");
    let out = b.layercake(&["check", "--explain", "CdWithoutEffect"]);
    assert!(out.code == 0 && out.stdout.starts_with("CdWithoutEffect: "), "{out}");
    assert_eq!(b.layercake(&["check", "--explain", "NoSuchRule"]).code, 2);
}

#[test]
fn questions_about_a_build_are_answered_without_building() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile("# V is a version\nARG V=1\n# out is all\nFROM none:$V AS out\nRUN cd /\nRUN --mount=type=secret,id=key,required x\n");
    let dir = b.path("context").display().to_string();
    let call = |words: &[&str]| b.layercake(&[&["build"], words, &[dir.as_str()]].concat());
    let out = call(&["--check"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "Check complete, no warnings found.\n"), "{out}");
    let out = call(&["--call", "check,rules=all"]);
    assert!(
        out.code == 1
            && out.stdout.starts_with(
                "Check complete, 1 warning has been found!\n\nWARNING: layercake/CdWithoutEffect\n"
            ),
        "{out}"
    );
    assert_eq!(call(&["--call", "check,rules=all,ignorestatus=true"]).code, 0);
    let out = call(&["--call", "outline"]);
    let wanted = "TARGET:      out\nDESCRIPTION: is all\n\nBUILD ARG   VALUE   DESCRIPTION\nV           1       is a version\n\n\
                  SECRET   REQUIRED\nkey      true\n";
    assert_eq!((out.code, out.stdout.as_str()), (0, wanted), "{out}");
    let out = call(&["--call", "targets"]);
    assert_eq!(out.stdout, "TARGET        DESCRIPTION\nout (default) is all\n", "{out}");
    let out = call(&["--call", "outline,format=json"]).json();
    assert_eq!((&out["args"][0]["value"], &out["secrets"][0]["required"]), (&"1".into(), &true.into()));
    assert_eq!(out["args"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(call(&["--call", "what"]).code, 2);
    b.dockerfile("FROM scratch AS Odd\nNO\n");
    let out = b.layercake(&["build", "--check", &dir]);
    assert_eq!((out.code, out.stderr.contains("Dockerfile:2")), (1, true), "{out}");
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
