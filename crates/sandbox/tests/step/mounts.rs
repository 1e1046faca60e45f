//! Mounts of a step: what each kind shows, and that none leaves a trace.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use oci::tree::ROOT;
use sandbox::{Exit, Mount, MountSource, SandboxError, User};

use crate::Case;
use crate::kit::{self, Builder, errno, observed};

pub(crate) const CASES: &[Case] = &[
    ("a_view_is_shown_and_observed", a_view_is_shown_and_observed),
    ("what_is_written_to_a_view_is_discarded", what_is_written_to_a_view_is_discarded),
    ("a_view_of_a_file", a_view_of_a_file),
    ("directories_of_the_host", directories_of_the_host),
    ("memory_and_secrets", memory_and_secrets),
    ("a_socket_of_the_host", a_socket_of_the_host),
    ("targets_leave_no_trace", targets_leave_no_trace),
    ("mounts_in_mounts", mounts_in_mounts),
    ("links_do_not_lead_out", links_do_not_lead_out),
    ("wrong_targets_are_refused", wrong_targets_are_refused),
    ("an_empty_tree_gets_all_mount_points", an_empty_tree_gets_all_mount_points),
];

fn mount(target: &str, source: MountSource) -> Mount {
    Mount { target: target.into(), source }
}

fn context() -> Builder {
    Builder::default()
        .dir("/src", 0o755)
        .file("/src/a", "first")
        .file("/src/b", "second")
        .file("/top", "third")
}

fn view(builder: Builder, path: &str, writable: bool) -> MountSource {
    let (tree, content) = builder.build();
    let subpath = tree.lookup(path.as_bytes()).expect("the path is in the tree");
    MountSource::View { tree, content, subpath, writable }
}

fn file(text: &str, mode: u32, uid: u32, gid: u32) -> MountSource {
    MountSource::File { bytes: text.into(), mode, uid, gid }
}

fn a_view_is_shown_and_observed() {
    let ran = Builder::new()
        .dir("/work", 0o755)
        .step(&[
            "list",
            "/work",
            ":",
            "read",
            "/work/a",
            ":",
            "write",
            "/work/a",
            "x",
            ":",
            "read",
            "/work/none",
            ":",
            "read",
            "/all/top",
            ":",
            "ino",
            "/work",
        ])
        // In the order of the targets /all comes first; what was seen comes in the order given.
        .change(|s| {
            s.mounts =
                vec![mount("/work", view(context(), "src", false)), mount("/all", view(context(), "", false))]
        })
        .run();
    let missing = errno(libc::ENOENT);
    assert_eq!(ran.out[..5], ["a b", "first", &*errno(libc::EROFS), &*missing, "third"]);
    assert_eq!(ran.outcome.seen.len(), 3);
    let (tree, _) = context().build();
    let src = tree.lookup(b"src").unwrap();
    if observed() {
        assert_eq!(ran.out[5], (src + 1).to_string());
    }
    for (view, path, learned) in [
        (1, "src", "al"),
        (1, "src/a", "ac"),
        (1, "src/b", ""),
        (1, "top", ""),
        (2, "top", "ac"),
        (2, "src", ""),
        (2, "", "a"),
    ] {
        ran.assert_learned_in(view, &tree, path, learned);
    }
    if observed() {
        assert_eq!(ran.outcome.seen[1].absent, [(src, b"none".to_vec())]);
    }
    ran.assert_learned("/work", "a"); // of the directory below a mount its attributes are learned
}

fn what_is_written_to_a_view_is_discarded() {
    let ran = Builder::new()
        .step(&[
            "append", "/w/a", "!", ":", "write", "/w/new", "x", ":", "read", "/w/a", ":", "list", "/w", ":",
            "mknod", "/w/n", "1", "3", ":", "open", "/w/n",
        ])
        .change(|s| s.mounts = vec![mount("/w", view(context(), "src", true))])
        .run();
    assert_eq!(ran.out, ["ok", "ok", "first!", "a b new", "ok", &*errno(libc::EACCES)]);
    assert!(ran.upper().is_empty(), "{:?}", ran.upper());
    let (tree, _) = context().build();
    ran.assert_learned_in(1, &tree, "src/a", "ac");
    ran.assert_learned_in(1, &tree, "src/b", "");
}

fn a_view_of_a_file() {
    for writable in [false, true] {
        let ran = Builder::new()
            .step(&["read", "/conf/one", ":", "append", "/conf/one", "!", ":", "read", "/conf/one"])
            .change(|s| s.mounts = vec![mount("/conf/one", view(context(), "src/b", writable))])
            .run();
        let (answer, after) =
            if writable { ("ok".to_owned(), "second!") } else { (errno(libc::EROFS), "second") };
        assert_eq!(ran.out, ["second", &*answer, after]);
        let (tree, _) = context().build();
        ran.assert_learned_in(1, &tree, "src/b", "ac");
        ran.assert_learned_in(1, &tree, "src", "");
        assert!(ran.upper().is_empty());
    }
}

fn directories_of_the_host() {
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("old"), "kept").unwrap();
    for readonly in [false, true] {
        let dir = MountSource::Dir { path: cache.path().into(), readonly };
        let ran = Builder::new()
            .step(&[
                "read", "/c/old", ":", "write", "/c/new", "x", ":", "mknod", "/c/null", "1", "3", ":",
                "open", "/c/null",
            ])
            .change(|s| s.mounts = vec![mount("/c", dir)])
            .run();
        assert_eq!(ran.out[0], "kept");
        if readonly {
            assert_eq!(ran.out[1..3], [errno(libc::EROFS), errno(libc::EROFS)]);
        } else {
            assert_eq!(ran.out[1..], ["ok", "ok", &*errno(libc::EACCES)]);
            assert_eq!(std::fs::read_to_string(cache.path().join("new")).unwrap(), "x");
        }
        assert!(ran.upper().is_empty());
        std::fs::remove_file(cache.path().join("null")).ok();
        std::fs::remove_file(cache.path().join("new")).ok();
    }
    let gone = MountSource::Dir { path: "/nowhere/at/all".into(), readonly: false };
    let error =
        Builder::new().step(&["pid"]).change(|s| s.mounts = vec![mount("/c", gone)]).try_run().err().unwrap();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

fn memory_and_secrets() {
    let ran = Builder::new()
        .step(&[
            "stat",
            "/t",
            ":",
            "write",
            "/t/x",
            "y",
            ":",
            "read",
            "/run/secrets/key",
            ":",
            "stat",
            "/run/secrets/key",
            ":",
            "write",
            "/run/secrets/key",
            "x",
            ":",
            "read",
            "/script.sh",
            ":",
            "read",
            "/run/secrets/roots",
        ])
        .change(|s| {
            s.mounts = vec![
                mount("/t", MountSource::Tmpfs { size: Some(1 << 20), mode: Some(0o1777) }),
                mount("/run/secrets/key", file("hush", 0o400, 1000, 1001)),
                mount("/script.sh", file("#!/bin/sh", 0o755, 0, 0)),
                mount("/run/secrets/roots", file("", 0o400, 0, 0)),
            ];
            s.user = User { uid: 1000, gid: 1000, groups: Vec::new() };
        })
        .run();
    assert!(ran.out[0].starts_with("dir 1777 0:0"), "{}", ran.out[0]);
    assert_eq!(ran.out[1..3], ["ok", "hush"]);
    assert!(ran.out[3].starts_with("file 400 1000:1001 size 4"), "{}", ran.out[3]);
    assert_eq!(ran.out[4], errno(libc::EROFS));
    assert_eq!(ran.out[5..], ["#!/bin/sh", &*errno(libc::EACCES)]);
    assert!(ran.upper().is_empty());
    // Nothing of a secret is ever in a file of the host.
    let mut left = Vec::new();
    kit::walk(ran.scratch.path(), ran.scratch.path(), &mut left);
    // This program, which holds the word, may be among them.
    for path in left.iter().filter(|p| !p.ends_with('/') && !p.ends_with("probe")) {
        let bytes = std::fs::read(ran.scratch.path().join(path)).unwrap();
        assert!(!bytes.windows(4).any(|w| w == b"hush"), "{path}");
    }
}

fn a_socket_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut s, _) = listener.accept().unwrap();
        let mut text = String::new();
        s.read_to_string(&mut text).unwrap();
        s.write_all(format!("{text} yourself").as_bytes()).unwrap();
    });
    let ran = Builder::new()
        .step(&["stat", "/run/agent", ":", "connect", "/run/agent"])
        .change(|s| {
            s.mounts = vec![mount(
                "/run/agent",
                MountSource::Socket { path: path.clone(), mode: 0o600, uid: 5, gid: 6 },
            )];
            s.user = User { uid: 5, gid: 6, groups: Vec::new() };
        })
        .run();
    assert!(ran.out[0].starts_with("socket 600 5:6"), "{}", ran.out[0]);
    assert_eq!(ran.out[1], "hello yourself");
    agent.join().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0, "the host's socket stays as it is");
}

fn targets_leave_no_trace() {
    let ran = Builder::new()
        .dir("/etc", 0o755)
        .step(&[
            "list",
            "/etc",
            ":",
            "stat",
            "/etc/hosts",
            ":",
            "read",
            "/deep/er/secret",
            ":",
            "write",
            "/etc/new",
            "x",
        ])
        .change(|s| s.mounts = vec![mount("/deep/er/secret", file("x", 0o444, 0, 0))])
        .run();
    assert_eq!(ran.out[0], "hosts resolv.conf");
    assert_eq!(ran.upper(), ["etc/", "etc/new"]);
    assert!(
        ran.missed("/etc/hosts") && ran.missed("/deep") && ran.missed("/proc"),
        "what the tree lacks is learned"
    );
    ran.assert_learned("/etc", "al");
    let stubs: Vec<String> =
        ran.outcome.stubs.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    assert_eq!(
        stubs,
        ["proc", "dev", "sys", "etc/resolv.conf", "etc/hosts", "deep", "deep/er", "deep/er/secret"]
    );
}

fn mounts_in_mounts() {
    let cache = tempfile::tempdir().unwrap();
    let ran = Builder::new()
        .dir("/app", 0o755)
        .step(&[
            "list",
            "/app",
            ":",
            "read",
            "/app/secret",
            ":",
            "write",
            "/app/cache/x",
            "y",
            ":",
            "read",
            "/app/cache/deep/key",
            ":",
            "list",
            "/tmp/in",
        ])
        .change(|s| {
            // Given inside out.
            s.mounts = vec![
                mount("/app/cache/deep/key", file("inner", 0o444, 0, 0)),
                mount("/app/cache", MountSource::Dir { path: cache.path().into(), readonly: false }),
                mount("/app/secret", file("outer", 0o444, 0, 0)),
                mount("/app", view(context(), "src", false)),
                mount("/tmp/in/side", MountSource::Tmpfs { size: None, mode: Some(0o755) }),
                mount("/tmp", MountSource::Tmpfs { size: None, mode: Some(0o755) }),
            ];
        })
        .run();
    assert_eq!(ran.out, ["a b cache secret", "outer", "ok", "inner", "side"]);
    assert!(ran.upper().is_empty());
    assert_eq!(std::fs::read_to_string(cache.path().join("x")).unwrap(), "y");
    assert_eq!(ran.outcome.seen.len(), 2);
    let (tree, _) = context().build();
    ran.assert_learned_in(1, &tree, "src", "al");
}

fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    let inside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("trap")).unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let ran = Builder::new()
        .link("/out", &format!("/../..{target}"))
        .step(&["read", &format!("{target}/one"), ":", "list", "/c"])
        .change(|s| {
            s.mounts = vec![
                mount("/out/one", file("in the step's own tree", 0o444, 0, 0)),
                mount("/c", MountSource::Dir { path: inside.path().into(), readonly: false }),
            ];
        })
        .run();
    assert_eq!(ran.out, ["in the step's own tree", "trap"]);
    let error = Builder::new()
        .step(&["pid"])
        .change(|s| {
            s.mounts = vec![
                mount("/c", MountSource::Dir { path: inside.path().into(), readonly: false }),
                mount("/c/trap/two", file("x", 0o444, 0, 0)),
            ];
        })
        .try_run();
    // The link of the cache leads into the step's root, where there is no such directory.
    assert!(error.is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was made outside");
}

fn wrong_targets_are_refused() {
    let refused = |m: Mount| match Builder::new()
        .file("/f", "")
        .dir("/d", 0o755)
        .step(&["pid"])
        .change(|s| s.mounts = vec![m])
        .try_run()
    {
        Err(SandboxError::Invalid(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("ran"),
    };
    assert!(
        refused(mount("/", MountSource::Tmpfs { size: None, mode: Some(0o755) })).contains("root directory")
    );
    assert!(refused(mount("/f/x", file("", 0o444, 0, 0))).contains("no directory"));
    assert!(refused(mount("/d", file("", 0o444, 0, 0))).contains("is a directory"));
    assert!(refused(mount("/f", view(context(), "src", false))).contains("is no directory"));
    assert!(refused(mount("relative", file("", 0o444, 0, 0))).contains("absolute"));
}

fn an_empty_tree_gets_all_mount_points() {
    let program = view(Builder::new(), "", false);
    let ran = Builder::default()
        .step(&[])
        .change(|s| {
            s.argv = ["/p/probe", "probe", "list", "/"].map(String::from).to_vec();
            // Only the program itself comes from a mount; its libraries are where it looks for them.
            s.mounts = vec![mount("/p", program)];
            let (tree, content) = Builder::new().build();
            for dir in ["lib64", "lib", "usr"] {
                if let Some(subpath) = tree.lookup(dir.as_bytes()).filter(|&id| id != ROOT) {
                    let (tree, content) = (tree.clone(), content.clone());
                    s.mounts.push(mount(
                        &format!("/{dir}"),
                        MountSource::View { tree, content, subpath, writable: false },
                    ));
                }
            }
        })
        .run();
    assert_eq!(ran.outcome.exit, Exit::Code(0));
    let names: Vec<&str> = ran.out[0].split(' ').collect();
    assert!(["dev", "etc", "p", "proc", "sys"].iter().all(|n| names.contains(n)), "{names:?}");
    assert!(ran.upper().is_empty(), "and none of them is in the layer");
    assert!(ran.outcome.seen[0].inodes.iter().all(|(id, _)| *id == ROOT));
}
