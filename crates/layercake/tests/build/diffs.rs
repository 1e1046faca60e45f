//! `diff` of images that were built, saved, and never run.

use crate::kit::Lab;

/// Two images from scratch, `one` and `two`.
fn two(lab: &Lab) {
    lab.file("one/etc/motd", "hello\nworld\n").file("one/gone/a", "1").file("one/gone/b", "22");
    lab.file("one/var/lib/dpkg/status", "Package: p\nStatus: install ok installed\nVersion: 1\n");
    lab.file("two/etc/motd", "hello\nmoon\n").file("two/new", "new");
    lab.file("two/var/lib/dpkg/status", "Package: p\nStatus: install ok installed\nVersion: 2\n");
    for (name, env) in [("one", "1"), ("two", "2")] {
        lab.file(&format!("{name}/Dockerfile"), format!("FROM scratch\nCOPY . /\nENV X={env}\n"));
        lab.file(&format!("{name}/.dockerignore"), "Dockerfile\n.dockerignore\n");
        lab.build(&["-t", name, name]).ok();
    }
}

#[test]
fn files_packages_and_config_of_two_images() {
    let lab = Lab::new();
    two(&lab);
    let out = lab.run(&["diff", "one", "two"]).ok().stdout;
    for line in ["~ /etc/motd", "- /gone/", "with 2 paths", "+ /new", "p   ", "dpkg", "Env X"] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&lab.run(&["diff", "--format", "json", "one", "two"]).ok().stdout).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["packages"][0]["from"][0], "1");
    assert_eq!(json["files"]["added"]["files"], 1);
    assert_eq!(json["files"]["removed"]["files"], 2);
    assert_eq!(json["config"][0]["to"], "2");
    let text = lab.run(&["diff", "--format", "markdown", "one", "two"]).ok().stdout;
    assert!(text.contains("| ~ | `/etc/motd` |"), "{text}");
}

#[test]
fn one_path_with_its_lines() {
    let lab = Lab::new();
    two(&lab);
    let out = lab.run(&["diff", "--path", "/etc/motd", "one", "two"]).ok().stdout;
    assert!(out.contains("-world") && out.contains("+moon") && out.contains("in layers 0 (file)"), "{out}");
    lab.run(&["diff", "--path", "/nowhere", "one", "two"]).fails(2, &["/nowhere is in neither image"]);
}

#[test]
fn exit_codes_and_archives() {
    let lab = Lab::new();
    two(&lab);
    lab.run(&["diff", "--exit-code", "one", "one"]).ok();
    lab.run(&["diff", "--exit-code", "one", "two"]).fails(1, &[]);
    lab.run(&["save", "-o", "two.tar", "two"]).ok();
    lab.run(&["diff", "--exit-code", "two", "two.tar"]).ok();
    let out = lab.run(&["diff", "one", "two.tar"]).ok().stdout;
    assert!(out.contains("~ /etc/motd"), "{out}");
    let images = lab.run(&["images", "--all", "--format", "json"]).ok().stdout;
    let images: serde_json::Value = serde_json::from_str(&images).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 2, "nothing of an archive is kept");
    lab.run(&["diff", "one", "two", "--bogus"]).fails(2, &[]);
}
