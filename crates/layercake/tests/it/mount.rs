//! `mount`.

use rustix::process::Signal;

use crate::lab::{BASE, Build, wait_until};

/// A store with the image `t`, and a directory.
fn image() -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(&format!("{BASE}RUN echo text > /file && chmod 4755 /file\n")).run().ok();
    std::fs::create_dir(b.path("at")).unwrap();
    Some(b)
}

#[test]
fn a_command_sees_the_files_and_nobody_else() {
    let Some(b) = image() else { return };
    let mount = |script: &str| b.layercake(&["mount", "t", "at", "--", "sh", "-c", script]);
    assert_eq!(mount("cat at/file; readlink at/bin/sh").ok(), "text\nbusybox");
    assert_eq!(mount("exit 7").code, 7);
    assert_eq!(mount("kill -9 $$").code, 128 + 9);
    let out = mount("echo new > at/file");
    assert!(out.code != 0 && out.stderr.contains("Read-only file system"), "{out}");
    let flags = mount("grep \"$PWD/at \" /proc/self/mountinfo").ok().to_owned();
    assert!(["ro", "nosuid", "nodev"].iter().all(|f| flags.contains(f)), "{flags}");
    assert_eq!(std::fs::read_dir(b.path("at")).unwrap().count(), 0, "the test does not see them");
    assert_eq!(b.layercake(&["mount", "t", "at", "--", "no-such-program"]).code, 127);
    assert_eq!(b.layercake(&["mount", "t", "none", "--", "true"]).code, 1);
    assert_eq!(b.layercake(&["mount", "no/such", "at", "--", "true"]).code, 1);
    b.assert_clean("no process");
}

#[test]
fn without_a_command_everybody_sees_them_until_the_end() {
    let Some(b) = image() else { return };
    let at = b.path("at");
    let gone = || std::fs::read_dir(&at).is_ok_and(|mut d| d.next().is_none());
    for by_umount in [false, true] {
        let mut mount = b.start(&["mount", "t", "at"]);
        mount.stdout_until("until Ctrl-C or umount");
        assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "text\n");
        if by_umount {
            rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty()).unwrap();
        } else {
            mount.signal(Signal::INT);
        }
        let out = mount.finish();
        assert_eq!(out.code, 0, "{out}");
        assert!(gone());
    }
    // A killed one leaves something that the next one replaces.
    let mut mount = b.start(&["mount", "t", "at"]);
    mount.stdout_until("until Ctrl-C or umount");
    mount.signal(Signal::KILL);
    mount.finish();
    wait_until("it is dead", || match std::fs::read_dir(&at) {
        Err(e) if e.raw_os_error() == Some(107) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut mount = b.start(&["mount", "t", "at"]);
    mount.stdout_until("until Ctrl-C or umount");
    assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "text\n");
    mount.signal(Signal::TERM);
    mount.finish();
    assert!(gone());
}

#[test]
fn without_root_a_command_is_needed() {
    for range in [true, false] {
        let Some(mut b) = Build::as_user(range) else { return };
        b.dockerfile(&format!("{BASE}RUN echo text > /file\n")).run().ok();
        std::fs::create_dir(b.path("at")).unwrap();
        let out = b.layercake(&["mount", "t", "at", "--", "cat", "at/file"]);
        assert_eq!(out.ok(), "text");
        let out = b.layercake(&["mount", "t", "at"]);
        assert!(out.code == 2 && out.stderr.contains("-- COMMAND"), "{out}");
    }
}
