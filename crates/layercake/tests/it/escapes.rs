//! A Dockerfile, a context and an image that try to get at files outside, through the program.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::lab::{BASE, Build};

const SECRET: &str = "the secret of the host";

/// A context, and beside it a directory with a secret.
fn lab() -> Option<Build> {
    let b = Build::new()?;
    std::fs::create_dir(b.path("outside")).unwrap();
    std::fs::write(b.path("outside/file"), SECRET).unwrap();
    Some(b)
}

/// The kernel's way of opening files, and ours for where it refuses.
const REFUSALS: [Option<Errno>; 3] = [None, Some(Errno::PERM), Some(Errno::NOSYS)];

/// Does something for each of them, as far as they can be had here.
fn with_refusals(test: impl Fn(Build)) {
    for refused in REFUSALS {
        let Some(mut b) = lab() else { return };
        if refused.is_none_or(|error| b.refuse_openat2(error)) {
            test(b);
        }
    }
}

#[test]
fn a_dockerfile_that_is_a_link_does_not_lead_out_of_the_context() {
    with_refusals(dockerfile_is_a_link);
}

fn dockerfile_is_a_link(mut b: Build) {
    let context = b.path("context");
    for (name, target) in [("Dockerfile", b.path("outside/file")), (".dockerignore", b.path("outside/file"))]
    {
        symlink(target, context.join(name)).unwrap();
        if name != "Dockerfile" {
            b.dockerfile(BASE);
        }
        let out = b.run();
        assert!(out.code != 0 && out.stderr.contains("leads out of the build context"), "{name}: {out}");
        assert!(!out.stdout.contains(SECRET) && !out.stderr.contains(SECRET), "{out}");
        std::fs::remove_file(context.join(name)).unwrap();
    }
    // Inside is inside, however the link says it.
    b.file("real", BASE);
    std::fs::remove_file(context.join("Dockerfile")).unwrap();
    for target in ["real", "/real", "../../../real"] {
        symlink(target, context.join("Dockerfile")).unwrap();
        b.run().ok();
        std::fs::remove_file(context.join("Dockerfile")).unwrap();
    }
    // What the user names outside of the context is the user's.
    std::fs::copy(context.join("real"), b.path("elsewhere")).unwrap();
    symlink("elsewhere", b.path("link")).unwrap();
    b.flag("-f").flag("link");
    b.run().ok();
}

/// Whether the secret is in any file below a directory.
fn holds_secret(dir: &Path) -> bool {
    std::fs::read_dir(dir).into_iter().flatten().flatten().any(|e| {
        let path = e.path();
        match e.file_type() {
            Ok(t) if t.is_dir() => holds_secret(&path),
            Ok(t) if t.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes())
            }
            _ => false,
        }
    })
}

#[test]
fn sources_do_not_lead_out_of_the_context() {
    with_refusals(sources_lead_out);
}

fn sources_lead_out(mut b: Build) {
    let outside = b.path("outside");
    symlink(&outside, b.path("context/absolute")).unwrap();
    symlink("../outside", b.path("context/relative")).unwrap();
    symlink(outside.join("file"), b.path("context/file")).unwrap();
    let dir = outside.display();
    for line in [
        "COPY absolute/file /x".to_owned(),
        "COPY relative/file /x".into(),
        "COPY file /x".into(),
        "COPY ../outside/file /x".into(),
        "ADD relative/* /x/".into(),
        format!("COPY {dir}/file /x"),
        "RUN --mount=type=bind,source=absolute,target=/m cat /m/file".into(),
        "RUN --mount=type=bind,source=relative,target=/m cat /m/file".into(),
        "RUN --mount=type=bind,source=../outside,target=/m cat /m/file".into(),
        format!("RUN --mount=type=bind,source={dir},target=/m cat /m/file"),
        "RUN --mount=type=bind,target=/m cat /m/absolute/file".into(),
        "RUN --mount=type=bind,target=/m cat /m/relative/file".into(),
        "RUN --mount=type=cache,source=../../../outside,target=/m cat /m/file".into(),
    ] {
        let out = b.dockerfile(&format!("{BASE}{line}\n")).run();
        assert_ne!(out.code, 0, "{line}: {out}");
        assert!(!out.stdout.contains(SECRET) && !out.stderr.contains(SECRET), "{line}: {out}");
        assert!(!holds_secret(&b.store()), "{line}");
    }
}

#[test]
fn files_are_copied_where_openat2_is_refused() {
    with_refusals(|mut b| {
        b.file("d/deep/file", "inside\n").file(".dockerignore", "d/not\n").file("d/not", "ignored\n");
        b.dockerfile("FROM scratch\nCOPY d/deep/file /f\nCOPY d /d/\n").run().ok();
        b.layercake(&["save", "-o", "saved.tar", "t"]).ok();
        assert!(b.dockerfile("FROM scratch\nCOPY d/not /\n").run().stderr.contains(".dockerignore"));
    });
}

#[test]
fn destinations_do_not_lead_out_of_the_image() {
    let Some(mut b) = lab() else { return };
    let outside = b.path("outside").display().to_string();
    b.file("new", "new\n");
    b.dockerfile(&format!(
        "{BASE}RUN ln -s {outside} /link && ln -s ../../../../../..{outside} /up && mkdir -p /c\n\
         COPY new /link/copied\nCOPY new /up/copied\nADD new /link/sub/added\nWORKDIR /link/work\nRUN echo x > made\n\
         RUN --mount=type=cache,target=/c ln -s {outside} /c/out\n\
         RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/out/tmpfs --mount=type=bind,source=new,target=/link/bound true\n"
    ));
    b.run().ok();
    let found: Vec<_> =
        std::fs::read_dir(b.path("outside")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(found, ["file"], "nothing new is there");
    let script = format!("cat {outside}/copied {outside}/sub/added {outside}/work/made");
    assert_eq!(b.layercake(&["run", "t", "sh", "-c", &script]).ok(), "new\nnew\nx", "it is in the image");
}

#[test]
fn a_context_that_changes_under_the_build_does_not_lead_out() {
    with_refusals(context_changes);
}

fn context_changes(mut b: Build) {
    // A directory and a link to the outside take each other's place, as fast as they can.
    b.file("d/file", "inside\n").file("e/deep/file", "inside\n");
    let context = b.path("context");
    symlink(b.path("outside"), context.join("link")).unwrap();
    symlink(b.path("outside"), context.join("e/link")).unwrap();
    b.dockerfile("FROM scratch\nCOPY d /d\nCOPY e/deep/file /f\nCOPY . /all\n").flag("--no-cache");
    let (stop, mut built) = (AtomicBool::new(false), 0);
    let exchange = |a: &str, b: &str| {
        let (a, b) = (context.join(a), context.join(b));
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).unwrap();
    };
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange("d", "link");
                exchange("e/deep", "e/link");
            }
        });
        for _ in 0..12 {
            let out = b.run();
            // It may see a context that no build can be made of, and say so.
            built += u32::from(out.code == 0);
            assert!(out.code == 0 || out.code == 1, "{out}");
            assert!(!holds_secret(&b.store()), "after {built} builds");
        }
        stop.store(true, Ordering::Relaxed);
    });
    // With the directories in their places everything is there again.
    if context.join("d").is_symlink() {
        exchange("d", "link");
    }
    if context.join("e/deep").is_symlink() {
        exchange("e/deep", "e/link");
    }
    b.run().ok();
}
