//! RUN with its mounts, and what they leave behind.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kit::{Lab, Ran, listing};

/// Whether a step of a build with this title part was found in the cache.
pub(crate) fn cached(ran: &Ran, part: &str) -> bool {
    let id = ran.stderr.lines().find(|l| l.contains(part)).and_then(|l| l.split(' ').next()).unwrap();
    ran.stderr.lines().any(|l| l.starts_with(&format!("{id} CACHED")))
}

#[test]
fn cache_mounts_outlive_builds_and_no_cache() {
    let Some(lab) = Lab::rooted() else { return };
    let text = "FROM base\nRUN --mount=type=cache,target=/c,id=things echo x >> /c/log; cat /c/log > /seen\n\
                FROM scratch\nCOPY --from=0 /seen /\n";
    let seen = |args: &[&str]| {
        let _ = std::fs::remove_dir_all(lab.path("out"));
        lab.dockerfile(text, &[&["-o", "out"], args].concat()).ok();
        lab.read("out/seen").lines().count()
    };
    assert_eq!(seen(&[]), 1);
    assert_eq!(seen(&[]), 1, "the step was cached");
    assert_eq!(seen(&["--no-cache"]), 2);
    assert_eq!(seen(&["--no-cache"]), 3);
    assert_eq!(seen(&["--no-cache", "--no-cache-mounts"]), 1);
    assert_eq!(seen(&["--no-cache", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=ns"]), 1);

    let list = lab.run(&["du", "--mounts", "--format", "json"]).ok().stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let ids: Vec<&str> = list.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["ns/things", "things"]);
    assert_eq!((&list[1]["bytes"], &list[1]["in_use"]), (&2.into(), &false.into()));
    lab.run(&["prune", "--mount", "none"]).fails(1, &["no cache mount none", "ns/things, things"]);
    assert_eq!(lab.run(&["prune", "--mount", "things", "--dry-run"]).ok().stdout, "would free things: 2B\n");
    assert_eq!(lab.run(&["prune", "--mount", "things"]).ok().stdout, "freed things: 2B\n");
    assert_eq!(seen(&["--no-cache"]), 1);
    lab.run(&["prune", "--all", "-f"]).ok();
    assert_eq!(seen(&["--no-cache"]), 2, "prune leaves cache mounts alone");
    lab.run(&["prune", "--mounts"]).ok();
    assert_eq!(lab.run(&["du", "--mounts", "--format", "json"]).ok().stdout.trim(), "[]");
}

#[test]
fn options_of_cache_mounts() {
    let Some(lab) = Lab::rooted() else { return };
    let text = "FROM scratch AS seed\nCOPY <<f /d/f\nseeded\nf\nFROM base\nWORKDIR /w\nUSER user\n\
        RUN --mount=type=cache,target=sub,mode=0700,uid=1000,gid=1000 stat -c '%a %u %g %n' /w/sub > /tmp/a && touch sub/x\n\
        RUN --mount=type=cache,target=/c,from=seed,source=d,uid=1000 cat /c/f > /tmp/b\n\
        RUN --mount=type=cache,target=/c,ro ! touch /c/x 2>/tmp/c && grep -o Read-only /tmp/c > /tmp/d\n\
        RUN --mount=type=cache,target=/elsewhere,id=sub,mode=0700,uid=1000,gid=1000 ls /elsewhere > /tmp/e\n\
        FROM scratch\nCOPY --from=1 /tmp /\n";
    lab.dockerfile(
        &text.replace("WORKDIR /w\n", "WORKDIR /w\nUSER root\nRUN mkdir /tmp && chmod 777 /tmp\n"),
        &["-o", "out"],
    )
    .ok();
    let got = ["a", "b", "d", "e"].map(|n| lab.read(format!("out/{n}")));
    assert_eq!(got, ["700 1000 1000 /w/sub\n", "seeded\n", "Read-only\n", "x\n"]);
}

#[test]
fn locked_mounts_exclude_each_other_across_processes() {
    let Some(lab) = Lab::rooted() else { return };
    let text = |who: &str, sharing: &str| {
        format!(
            "FROM base\nRUN --mount=type=cache,target=/c,sharing={sharing} : {who}; \
             mkdir /c/busy || exit 9; sleep 0.3; rmdir /c/busy; touch /c/done-{who}\n"
        )
        .replace("rmdir", "rm -r")
    };
    lab.file("a/Dockerfile", text("a", "locked")).file("b/Dockerfile", text("b", "locked"));
    let mut children = [lab.start(&["a"]), lab.start(&["b"])];
    for c in &mut children {
        assert!(c.wait().unwrap().success());
    }
    // Private ones get copies of their own, and never wait.
    lab.file("a/Dockerfile", text("pa", "private")).file("b/Dockerfile", text("pb", "private"));
    let mut children = [lab.start(&["a"]), lab.start(&["b"])];
    for c in &mut children {
        assert!(c.wait().unwrap().success());
    }
}

#[test]
fn a_mount_in_use_is_waited_for_and_not_pruned() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("a/Dockerfile", "FROM base\nRUN --mount=type=cache,target=/c,id=m touch /c/on; while [ -e /c/on ]; do sleep 0.02; done\n");
    let mut child = lab.start(&["a"]);
    let on = wait_for(|| find(&lab.path("store/mounts"), "on"));
    lab.run(&["prune", "--mount", "m"]).fails(3, &["the cache mount m is in use"]);
    let list = lab.run(&["du", "--mounts"]).ok().stdout;
    assert!(list.contains("now"), "{list}");
    std::fs::remove_file(on).unwrap();
    assert!(child.wait().unwrap().success());
    lab.run(&["prune", "--mount", "m"]).ok();
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

fn wait_for<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(v) = check() {
            return v;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn bind_tmpfs_and_script_mounts() {
    let Some(lab) = Lab::rooted() else { return };
    lab.file("ctx/src/a", "one").file("ctx/one-file", "alone").file("named/n", "named");
    let text = "FROM base AS other\nRUN mkdir /o && echo other > /o/f\nFROM base\nRUN mkdir /out\nARG D=src\n\
        RUN --mount=target=/b,source=$D cat /b/a > /out/bind && ! touch /b/x 2>/dev/null\n\
        RUN --mount=target=/b,source=src,rw echo two > /b/a && cat /b/a > /out/rw\n\
        RUN --mount=type=bind,target=/b,source=src cat /b/a > /out/again\n\
        RUN --mount=from=other,source=/o,target=/o cat /o/f > /out/stage\n\
        RUN --mount=from=n,target=/n cat /n/n > /out/named\n\
        RUN --mount=target=/file,source=one-file cat /file > /out/file\n\
        RUN --mount=type=tmpfs,target=/t,size=64k touch /t/x && ! cat /bin/busybox > /t/big && echo full > /out/tmpfs\n\
        RUN <<EOF\n#!/bin/sh\necho \"$0\" > /out/script\nEOF\n\
        FROM scratch\nCOPY --from=1 /out /\nCOPY --from=1 /[bont] /mounts/\n";
    lab.dockerfile(text, &["-o", "out", "--build-context", "n=named"]).ok();
    let want = [
        "again 644 one",
        "bind 644 one",
        "file 644 alone",
        "named 644 named",
        "rw 644 two\n",
        "script 644 /dev/pipes/EOF\n",
        "stage 644 other\n",
        "tmpfs 644 full\n",
    ];
    assert_eq!(listing(&lab.path("out")), want, "no mount point stays in the image");
    lab.dockerfile("FROM base\nRUN --mount=target=/b,source=nope true\n", &[])
        .fails(1, &["mount source \"nope\": not found"]);
}

#[test]
fn secrets_as_files_and_variables() {
    let Some(mut lab) = Lab::rooted() else { return };
    lab.file("pw", "s3cr3t-file\n");
    lab.env("TOKEN", "s3cr3t-env");
    let secrets = ["--secret", "id=pw,src=pw", "--secret", "id=TOKEN", "--secret", "id=alias,env=TOKEN"];
    let text = "FROM base\nRUN mkdir /out && chmod 777 /out\n\
        RUN --mount=type=secret,id=pw stat -c '%a %u %g' /run/secrets/pw > /out/a && wc -c < /run/secrets/pw >> /out/a\n\
        RUN --mount=type=secret,id=pw,target=/x/y,mode=0440,uid=1,gid=2 stat -c '%a %u %g' /x/y > /out/b; ! ls /run/secrets 2>/dev/null >> /out/b\n\
        RUN --mount=type=secret,id=alias,env=PW [ \"$PW\" = s3cr3t-env ] && ! test -e /run/secrets/alias && touch /out/c\n\
        RUN --mount=type=secret,id=TOKEN,env=T,target=/t [ \"$T\" = \"$(cat /t)\" ] && touch /out/d\n\
        RUN --mount=type=secret,id=gone [ ! -e /run/secrets/gone ] && touch /out/e\n\
        RUN --mount=type=secret,id=gone,env=GONE [ \"${GONE-unset}\" = \"\" ] && touch /out/f\n\
        FROM scratch\nCOPY --from=0 /out /\nCOPY --from=0 /run* /x* /t* /mounts/\n";
    // The shell tests above hold the value, so it is part of the command; the point here is what the mounts do.
    lab.dockerfile(text, &[&secrets[..], &["-o", "out"]].concat()).ok();
    let want = ["a 644 400 0 0\n12\n", "b 644 440 1 2\n", "c 644 ", "d 644 ", "e 644 ", "f 644 "];
    assert_eq!(listing(&lab.path("out")), want);

    let required = "FROM base\nRUN --mount=type=secret,id=pw,required true\n";
    lab.dockerfile(required, &[]).fails(1, &["secret pw: not found", "--secret id=pw,src=FILE"]);
    lab.dockerfile(required, &["--secret", "id=pw,src=pw"]).ok();
    // What is in the cache needs no secret.
    assert!(cached(&lab.dockerfile(required, &[]).ok(), "RUN true"));
    // Another value is no reason to run again.
    lab.file("pw", "other");
    assert!(cached(&lab.dockerfile(required, &["--secret", "id=pw,src=pw"]).ok(), "RUN true"));
}

/// All files below a directory that hold one of some texts.
fn holding(dir: &Path, texts: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        if texts.iter().any(|t| name.contains(t)) {
            out.push(name.clone());
        }
        if entry.file_type().unwrap().is_dir() {
            out.extend(holding(&path, texts));
        } else if entry.file_type().unwrap().is_file() {
            out.extend(holding_file(&path, texts));
        }
    }
    out
}

#[test]
fn secrets_leave_no_trace() {
    let Some(mut lab) = Lab::rooted() else { return };
    let values = ["Xq7-file-value", "Xq8-env-value", "Xq9-never-used"];
    lab.file("pw", format!("{}\n", values[0])).file("unused", values[2]);
    lab.env("TOKEN", values[1]);
    crate::kit::sh(&lab.path(""), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "c", "-f", "key"]);
    let key = lab.read("key").lines().nth(2).unwrap().to_owned();
    let _agent = std::os::unix::net::UnixListener::bind(lab.path("agent")).unwrap();
    let (agent, key_file) = (format!("default={}", lab.at("agent")), format!("k={}", lab.at("key")));
    let secrets = [
        "--secret",
        "id=pw,src=pw",
        "--secret",
        "id=TOKEN",
        "--secret",
        "id=u,src=unused",
        "--ssh",
        &agent,
        "--ssh",
        &key_file,
    ];
    // What the search is to find, so that it is known to look into everything.
    let (in_layer, in_log) = ("Yq1-in-a-layer", "Yq2-in-a-log");
    let text = format!(
        "FROM base\n\
        RUN --mount=type=secret,id=pw --mount=type=secret,id=TOKEN,env=TOKEN cat /run/secrets/pw; echo \"$TOKEN\"; env; set -x; : $TOKEN\n\
        RUN --mount=type=secret,id=pw --mount=type=secret,id=TOKEN,env=T sha=$(cat /run/secrets/pw) && [ -n \"$sha$T\" ]\n\
        RUN --mount=type=ssh --mount=type=ssh,id=k echo $SSH_AUTH_SOCK\n\
        RUN echo {in_layer} > /marked; echo {in_log}\n\
        FROM scratch\nCOPY --from=0 / /\n"
    );
    let outputs = [
        "-o",
        "type=oci,dest=gz.tar",
        "-o",
        "type=oci,dest=oci.tar,compression=uncompressed,force-compression=true",
        "-o",
        "type=docker,dest=docker.tar,compression=uncompressed,force-compression=true",
        "-o",
        "files",
    ];
    let ran = lab
        .dockerfile(&text, &[&secrets[..], &outputs, &["-t", "x", "--metadata-file", "meta"]].concat())
        .ok();
    for v in values {
        assert!(!ran.stderr.contains(v) && !ran.stdout.contains(v), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains(" ***\n") && ran.stderr.contains("TOKEN=***"), "{}", ran.stderr);
    // A step that fails, and says so with the value.
    let failing = "FROM base\nRUN --mount=type=secret,id=pw --mount=type=secret,id=TOKEN,env=T \
        touch /left && cat /run/secrets/pw && echo failed with $T >&2 && exit 3\n";
    for how in ["plain", "quiet", "rawjson"] {
        let more = ["--progress", how, "--on-error=export-failed", "-o", "left"];
        let ran = lab
            .dockerfile(failing, &[&secrets[..], &more].concat())
            .fails(1, &["exit code: 3", "failed with ***"]);
        for v in values {
            assert!(!ran.stderr.contains(v), "{}", ran.stderr);
        }
    }
    assert!(lab.path("left/left").exists());
    let places = ["store", "gz.tar", "oci.tar", "docker.tar", "files", "left", "meta"].map(|p| lab.path(p));
    let search = |texts: &[&str]| {
        let found =
            places.iter().flat_map(|p| if p.is_dir() { holding(p, texts) } else { holding_file(p, texts) });
        found.collect::<Vec<String>>()
    };
    assert_eq!(search(&[&values[..], &[&key]].concat()), [""; 0]);
    // The search itself finds what is there: in layers, in archives, in the records' logs, and in a file of any kind.
    let marked = search(&[in_layer]).join("\n");
    for place in ["store/objects", "oci.tar", "docker.tar", "files/marked"] {
        assert!(marked.contains(&lab.at(place)), "{place} is not in {marked}");
    }
    assert!(search(&[in_log]).join("\n").contains(&lab.at("store")));
    lab.file("store/probe", values[1]);
    assert_eq!(search(&values).len(), 1);
}

fn holding_file(path: &Path, texts: &[&str]) -> Vec<String> {
    // The library searches text much faster than an unoptimised test does bytes.
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let found = texts.iter().filter(|t| text.contains(**t));
    found.map(|t| format!("{} holds {t}", path.display())).collect()
}

#[test]
fn agents() {
    let Some(lab) = Lab::rooted() else { return };
    let text = "FROM base\nRUN --mount=type=ssh,mode=0666,uid=1,gid=2 [ -S $SSH_AUTH_SOCK ] && stat -c '%n %a %u %g' $SSH_AUTH_SOCK > /a\n\
        RUN --mount=type=ssh,target=/s,id=other [ \"$SSH_AUTH_SOCK\" = /s ] && [ -S /s ] && touch /b\n\
        RUN --mount=type=ssh,id=none [ -z \"$SSH_AUTH_SOCK\" ]\nFROM scratch\nCOPY --from=0 /a /b /s* /run* /\n";
    let _agent = std::os::unix::net::UnixListener::bind(lab.path("agent")).unwrap();
    let agent = lab.at("agent");
    let (one, two) = (format!("default={agent}"), format!("other={agent}"));
    lab.dockerfile(text, &["-o", "out", "--ssh", &one, "--ssh", &two]).ok();
    assert_eq!(listing(&lab.path("out")), ["a 644 /run/buildkit/ssh_agent.0 666 1 2\n", "b 644 "]);
    lab.dockerfile("FROM base\nRUN --mount=type=ssh,required true\n", &[])
        .fails(1, &["no SSH key \"default\" forwarded", "--ssh default"]);
}

#[test]
fn keys_in_files_get_an_agent_of_their_own() {
    use std::os::unix::fs::PermissionsExt;
    let Some(lab) = Lab::rooted() else { return };
    crate::kit::sh(
        &lab.path(""),
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "a-test-key", "-f", "key"],
    );
    let text = "FROM base\nRUN --mount=type=ssh,required [ -S $SSH_AUTH_SOCK ]\n";
    lab.dockerfile(text, &["--ssh", &format!("default={}", lab.at("key"))]).ok();
    lab.dockerfile(text, &["--no-cache", "--ssh", "default=nothing"]).fails(2, &["--ssh default=nothing"]);
    lab.file("junk", "no key");
    std::fs::set_permissions(lab.path("junk"), std::fs::Permissions::from_mode(0o600)).unwrap();
    lab.dockerfile(text, &["--no-cache", "--ssh", "default=junk"])
        .fails(2, &["junk is no usable private key"]);
    let places = crate::kit::sh(&lab.path(""), "sh", &["-c", "ls -l /proc/[0-9]*/cwd 2>/dev/null; true"]);
    assert!(!places.contains(&lab.at("store")), "agents end with the build: {places}");
}

#[test]
fn what_is_not_allowed_is_said_before_anything_runs() {
    let Some(lab) = Lab::rooted() else { return };
    for (flag, allow) in [("--security=insecure", "security.insecure"), ("--network=host", "network.host")] {
        let text = format!("FROM base\nRUN echo first\nRUN {flag} echo second\n");
        let ran = lab
            .dockerfile(&text, &[])
            .fails(1, &[&format!("{flag} is not allowed"), &format!("--allow {allow}")]);
        assert!(!ran.stderr.contains("first\n#"), "{}", ran.stderr);
        lab.dockerfile(&text, &["--allow", allow]).ok();
    }
    lab.dockerfile("FROM base\nRUN --network=host true\n", &["--network", "host"]).ok();
    let device =
        |flag: &str| lab.dockerfile(&format!("FROM base\nRUN echo one\nRUN --device={flag} true\n"), &[]);
    let ran = device("nvidia.com/gpu=all,required")
        .fails(1, &["device nvidia.com/gpu=all is required", "Dockerfile:3"]);
    assert!(!ran.stderr.contains("DONE"), "{}", ran.stderr);
    device("nvidia.com/gpu=all").ok();
    // What the target does not need may ask for anything.
    lab.dockerfile("FROM base AS a\nRUN --security=insecure true\nFROM base\n", &[]).ok();
    let none = "FROM base\nRUN --network=none ls /sys/class/net > /n\nFROM scratch\nCOPY --from=0 /n /\n";
    lab.dockerfile(none, &["-o", "out"]).ok();
    assert_eq!(lab.read("out/n"), "lo\n");
    assert_eq!(std::fs::metadata(lab.path("out/n")).unwrap().uid(), 0);
}
