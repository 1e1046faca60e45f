//! What a step gets, and what of it is told.

use build::options::{NetworkMode, Secret};
use build::{BuildError, Event};

use crate::Case;
use crate::kit::World;

pub(crate) const CASES: &[Case] = &[
    ("a_run_gets_its_environment", a_run_gets_its_environment),
    ("mounts_leave_nothing", mounts_leave_nothing),
    ("secrets_are_nowhere", secrets_are_nowhere),
    ("failures_say_what_and_where", failures_say_what_and_where),
    ("output_comes_while_the_step_runs", output_comes_while_the_step_runs),
    ("names_that_the_image_lacks_are_told", names_that_the_image_lacks_are_told),
    ("names_that_an_image_cannot_have", names_that_an_image_cannot_have),
    ("a_tmpfs_has_the_mode_of_what_it_covers", a_tmpfs_has_the_mode_of_what_it_covers),
    ("modes_of_mounts_are_permissions", modes_of_mounts_are_permissions),
];

fn a_run_gets_its_environment() {
    let w = World::new();
    w.write("passwd", "root:x:0:0::/root:/bin/sh\nme:x:7:8::/home/me:/bin/sh\n");
    let b = w.build_with(
        "FROM base\nCOPY passwd /etc/passwd\nENV B=2\nARG A=1\nUSER me\nWORKDIR /w\nRUN env > /w/env; pwd > /w/pwd; id -u > /w/id; ls /nowhere || true",
        |o| {
            o.choices.build_args.insert("http_proxy".into(), "http://p".into());
        },
    );
    let mut env: Vec<String> = b.text("w/env").lines().map(str::to_owned).collect();
    env.retain(|l| !l.starts_with("PATH=") && !l.starts_with("SHLVL=") && !l.starts_with("PWD="));
    env.sort();
    assert_eq!(env, ["A=1", "B=2", "HOME=/home/me", "HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!((b.text("w/pwd"), b.text("w/id")), ("/w\n".into(), "7\n".into()));
    assert_eq!(b.outcome().image.config.config.user, "me");
    let none =
        w.build_with("FROM base\nRUN ls /sys/class/net > /net || ls /proc/sys/net/ipv4/conf > /net", |o| {
            o.network = NetworkMode::None;
        });
    assert!(!none.text("net").contains("eth0"), "{}", none.text("net"));
}

fn mounts_leave_nothing() {
    let w = World::new();
    w.write("src/f", "1");
    let b = w.build(
        "FROM base\nRUN --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/t --mount=source=src,target=/s,rw \
         cat /s/f > /out; echo 2 > /s/f; echo 2 > /s/g; touch /t/x /var/cache/x/y\n\
         RUN --mount=source=src,target=/s cat /s/f >> /out; ls /s >> /out",
    );
    assert_eq!(b.text("out"), "11f\n");
    for path in ["s", "t", "var", "etc", "dev", "proc", "run"] {
        assert!(b.tree().lookup(path.as_bytes()).is_none(), "/{path} is left");
    }
    assert_eq!(
        std::fs::read_to_string(w.at("src/f")).expect("the context"),
        "1",
        "the context is never written"
    );
}

fn secrets_are_nowhere() {
    let w = World::new();
    let text = "FROM base\nRUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY [ ${#KEY} = 6 ] && [ \"$(cat /run/secrets/key)\" = $KEY ] && echo ok > /x";
    let b = w.build_with(text, |o| {
        o.secrets.insert("key".into(), Secret::Bytes(b"s3cr3t".to_vec()));
    });
    assert_eq!(b.text("x"), "ok\n");
    assert!(!format!("{:?}", b.events).contains("s3cr3t"));
    w.store.flush().expect("the store takes all");
    let mut todo = vec![w.store.root().to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory of the store").flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = bytes.windows(6).any(|w| w == b"s3cr3t");
                assert!(!found, "{}", path.display());
            }
        }
    }
    // A secret that is not given is no file; one that is required is an error.
    let b = w.build("FROM base\nRUN --mount=type=secret,id=no [ ! -e /run/secrets/no ] && echo ok > /x");
    assert_eq!(b.text("x"), "ok\n");
    let e = w.build("FROM base\nRUN --mount=type=secret,id=no,required true").error();
    assert!(e.contains("secret no: not found"), "{e}");
}

fn failures_say_what_and_where() {
    let w = World::new();
    w.write("there/.keep", "");
    for (line, want) in [
        (
            "RUN exit 7",
            "RUN exit 7: process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7",
        ),
        ("RUN [\"/none\"]", "did not complete successfully: exit code: 127"),
        ("RUN sh -c 'kill -9 $$'; exit $?", "did not complete successfully: exit code: 137"),
        ("USER nobody\nRUN true", "user \"nobody\" is not in the image's /etc/passwd"),
        ("COPY missing /", "\"/missing\": not found in the build context"),
        ("COPY --from=base /missing /", "\"/missing\": not found in base"),
        ("COPY there /bin/busybox", "cannot copy to non-directory: \"/bin/busybox\""),
        ("RUN --mount=source=missing,target=/m true", "mount source \"missing\": not found"),
    ] {
        let b = w.build(&format!("FROM base\n{line}"));
        let e = b.error();
        assert!(e.contains(want), "{line}: {e}");
        let last = 1 + line.lines().count() as u32;
        match b.result.as_ref().expect_err("it fails") {
            BuildError::Step { lines, .. } => assert_eq!(*lines, Some((last, last)), "{line}"),
            other => panic!("{line}: {other:?}"),
        }
        assert!(b.events.iter().any(|e| matches!(e, Event::Failed { .. })), "{line}");
    }
    let e = w.build("FROM base\nNONSENSE").result.expect_err("no instruction");
    assert!(matches!(e, BuildError::Dockerfile { .. }), "{e:?}");
    let e = w.build("FROM no/such:image").error();
    assert!(e.contains("no/such:image: not found"), "{e}");
}

fn output_comes_while_the_step_runs() {
    let w = World::new();
    let b = w.build("FROM base\nRUN echo out; echo err >&2; printf '\\377'; echo");
    assert!(b.log().contains("out\n") && b.log().contains("err\n"), "{}", b.log());
    let streams: Vec<_> = b
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Log { stream, data, .. } if !data.is_empty() => Some(*stream),
            _ => None,
        })
        .collect();
    assert!(streams.len() >= 2, "both outputs: {streams:?}");
}

fn names_that_the_image_lacks_are_told() {
    let w = World::new();
    w.write("f", "1");
    let b = w.build("FROM base\nCOPY --chown=who:what f /f");
    assert_eq!(b.warnings().iter().filter(|w| w.contains("who and what")).count(), 1, "{:?}", b.warnings());
    let tree = b.tree();
    let attrs = &tree.inode(tree.lookup(b"f").expect("it is copied")).attrs;
    assert_eq!((attrs.uid, attrs.gid), (0, 0));
}

fn names_that_an_image_cannot_have() {
    let w = World::new();
    let e = w.build("FROM base\nRUN true\nRUN mkdir /d; echo 1 > /d/.wh.f").error();
    assert!(e.contains("RUN mkdir /d") && e.contains("/d/.wh.f") && !e.contains("damaged"), "{e}");
    // What no image is made of may have them.
    let b = w.build("FROM base AS a\nRUN echo 1 > /.wh.f\nFROM base\nCOPY --from=a /.wh.f /f");
    assert_eq!(b.text("f"), "1\n");
}

fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let w = World::new();
    let modes = |mode: &str| {
        let b = w.build(&format!(
            "FROM base\nRUN mkdir -m {mode} /d; ln -s d /l\n\
             RUN --mount=type=tmpfs,target=/l --mount=type=tmpfs,target=/new ls -ld /d /new | cut -c1-10 > /out"
        ));
        (b.text("out"), b.counts().0)
    };
    assert_eq!(modes("750"), ("drwxr-x---\ndrwxrwxrwt\n".into(), 2));
    // Nobody asked for it, and yet it counts.
    assert_eq!(modes("700"), ("drwx------\ndrwxrwxrwt\n".into(), 2));
}

fn modes_of_mounts_are_permissions() {
    let w = World::new();
    let b = w.build("FROM base\nRUN --mount=type=cache,target=/c,mode=4751 ls -ld /c | cut -c1-10 > /out");
    assert_eq!(b.text("out"), "drwxr-x--x\n");
}
