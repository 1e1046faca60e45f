//! What a step learns, changes, may do, and how it ends.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use oci::Kind;
use oci::content::{Content, ReadAt};
use sandbox::{Exit, Network, Resource, Rlimit, SandboxError, Security, Stdio, User};

use crate::Case;
use crate::kit::{Builder, errno, observed};

pub(crate) const CASES: &[Case] = &[
    ("what_is_read_is_learned_and_nothing_else", what_is_read_is_learned_and_nothing_else),
    ("what_a_step_wrote_itself_is_not_learned", what_a_step_wrote_itself_is_not_learned),
    ("changes_lie_in_the_upper_directory", changes_lie_in_the_upper_directory),
    ("attributes_and_listings_are_those_of_the_index", attributes_and_listings_are_those_of_the_index),
    ("xattrs_are_shown_but_for_those_of_overlayfs", xattrs_are_shown_but_for_those_of_overlayfs),
    ("access_control_lists_are_obeyed", access_control_lists_are_obeyed),
    ("large_files_arrive_whole", large_files_arrive_whole),
    ("many_readers_at_once", many_readers_at_once),
    ("content_that_is_gone_or_short_fails_the_step", content_that_is_gone_or_short_fails_the_step),
    ("exit_codes_and_signals", exit_codes_and_signals),
    ("commands_that_cannot_be_executed", commands_that_cannot_be_executed),
    ("what_surrounds_the_command", what_surrounds_the_command),
    ("another_user_has_no_capabilities", another_user_has_no_capabilities),
    ("a_missing_working_directory_is_made", a_missing_working_directory_is_made),
    ("root_has_dockers_capabilities_and_filter", root_has_dockers_capabilities_and_filter),
    ("insecure_steps_have_everything", insecure_steps_have_everything),
    ("devices_are_the_steps_own", devices_are_the_steps_own),
    ("proc_and_sys_are_guarded", proc_and_sys_are_guarded),
    ("without_network_there_is_loopback", without_network_there_is_loopback),
    ("limits_are_set_or_refused", limits_are_set_or_refused),
    ("a_terminal", a_terminal),
    ("the_executable_cannot_be_written", the_executable_cannot_be_written),
    ("impossible_steps_are_refused", impossible_steps_are_refused),
];

fn what_is_read_is_learned_and_nothing_else() {
    let ran = Builder::new()
        .dir("/d", 0o755)
        .file("/d/read", "text")
        .file("/d/statted", "text")
        .file("/d/untouched", "text")
        .dir("/listed", 0o755)
        .file("/listed/a", "")
        .link("/link", "d/read")
        .link("/text", "nowhere")
        .step(&[
            "read",
            "/link",
            ":",
            "lstat",
            "/d/statted",
            ":",
            "list",
            "/listed",
            ":",
            "link",
            "/text",
            ":",
            "read",
            "/d/none",
            ":",
            "read",
            "/none/x",
        ])
        .run();
    assert_eq!(ran.outcome.exit, Exit::Code(0));
    assert_eq!(ran.out[0], "text");
    assert_eq!(ran.out[2..], ["a", "nowhere", &errno(libc::ENOENT), &errno(libc::ENOENT)]);
    let seen = &ran.outcome.seen;
    assert_eq!((seen.len(), seen[0].incomplete.is_none()), (1, observed()));
    for (path, learned) in [
        ("/", "a"),
        ("/probe", "ac"),
        ("/link", "a"),
        ("/d", "a"),
        ("/d/read", "ac"),
        ("/d/statted", "a"),
        ("/d/untouched", ""),
        ("/listed", "al"),
        ("/listed/a", ""),
        ("/text", "a"),
    ] {
        ran.assert_learned(path, learned);
    }
    assert!(ran.missed("/d/none") && ran.missed("/none"));
    assert!((ran.outcome.stats.requests > 0) == observed() && ran.outcome.stats.max_rss > 0);
}

fn what_a_step_wrote_itself_is_not_learned() {
    let ran = Builder::new()
        .dir("/d", 0o755)
        .step(&[
            "write",
            "/d/new",
            "x",
            ":",
            "read",
            "/d/new",
            ":",
            "mkdir",
            "/d/sub",
            ":",
            "write",
            "/d/sub/f",
            "y",
            ":",
            "read",
            "/d/sub/f",
            ":",
            "read",
            "/d/sub/none",
            ":",
            "list",
            "/d/sub",
        ])
        .run();
    assert_eq!(ran.out[1], "x");
    assert!(ran.missed("/d/new") && ran.missed("/d/sub"));
    let names: Vec<&[u8]> = ran.outcome.seen[0].absent.iter().map(|(_, n)| &**n).collect();
    assert!(
        !names.contains(&&b"f"[..]) && !names.contains(&&b"none"[..]),
        "below a directory of its own nothing is asked"
    );
    ran.assert_learned("/d", "a");
}

fn changes_lie_in_the_upper_directory() {
    let ran = Builder::new()
        .dir("/d", 0o755)
        .file("/d/appended", "one ")
        .file("/d/mode", "")
        .file("/d/gone", "")
        .file("/d/same", "")
        .step(&[
            "append",
            "/d/appended",
            "two",
            ":",
            "chmod",
            "/d/mode",
            "600",
            ":",
            "remove",
            "/d/gone",
            ":",
            "write",
            "/d/new",
            "x",
            ":",
            "list",
            "/d",
        ])
        .run();
    let mut listed: Vec<&str> = ran.out[4].split(' ').collect();
    listed.sort_unstable();
    assert_eq!(listed, ["appended", "mode", "new", "same"]);
    assert_eq!(ran.upper(), ["d/", "d/appended", "d/gone", "d/mode", "d/new"]);
    assert_eq!(ran.upper_text("d/appended"), "one two");
    let gone = std::fs::symlink_metadata(ran.outcome.upper.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0, "a whiteout");
    ran.assert_learned("/d/appended", "ac"); // copying a file up reads it
    ran.assert_learned("/d/mode", "a"); // an empty file has no content to read
    ran.assert_learned("/d/same", "");
    assert!(ran.outcome.stubs.contains(&b"etc/hosts".to_vec()));
    // The root directory's own attributes are those of the tree.
    let root = std::fs::metadata(&ran.outcome.upper).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid()), (0o755, 0));
    assert!(ran.scratch.path().join("upper") == ran.outcome.upper);
}

fn attributes_and_listings_are_those_of_the_index() {
    let ran = Builder::new()
        .dir("/d", 0o1750)
        .with(|e| (e.attrs.uid, e.attrs.gid) = (7, 8))
        .file("/d/f", "12345")
        .with(|e| e.attrs.mtime.secs = -100)
        .entry_of("/d/g", Kind::HardLink { target: b"d/f".to_vec() })
        .entry_of("/d/fifo", Kind::Fifo)
        .entry_of("/d/null", Kind::CharDevice { major: 1, minor: 3 })
        .dir("/d/b", 0o755)
        .dir("/d/B", 0o755)
        .step(&[
            "stat", "/d", ":", "stat", "/d/f", ":", "list", "/d", ":", "ino", "/d/f", ":", "ino", "/d/g",
            ":", "open", "/d/null", ":", "lstat", "/d/null",
        ])
        .run();
    if observed() {
        assert_eq!(ran.out[0], "dir 1750 7:8 size 4096 nlink 1 mtime 1000000");
    }
    assert!(
        ran.out[0].starts_with("dir 1750 7:8 ") && ran.out[0].ends_with(" mtime 1000000"),
        "{}",
        ran.out[0]
    );
    assert_eq!(ran.out[1], "file 644 0:0 size 5 nlink 2 mtime -100");
    assert_eq!(ran.out[2], "B b f fifo g null", "sorted");
    assert_eq!(ran.out[3], ran.out[4], "two names of one inode");
    assert_eq!(ran.out[5], errno(libc::EACCES), "devices of an image cannot be opened");
    assert!(ran.out[6].starts_with("char 755 0:0"));
    let big: Vec<String> = (0..3000).map(|n| format!("file-with-a-long-name-{n:05}")).collect();
    let tree = big.iter().fold(Builder::new().dir("/big", 0o755), |b, n| b.file(&format!("/big/{n}"), ""));
    assert_eq!(tree.step(&["list", "/big"]).run().out[0], big.join(" "), "a listing of many messages");
}

fn xattrs_are_shown_but_for_those_of_overlayfs() {
    let xattr = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ran = Builder::new()
        .file("/f", "x")
        .with(|e| {
            e.attrs.xattrs = vec![
                xattr("security.capability", &capability),
                xattr("trusted.overlay.metacopy", b""),
                xattr("trusted.overlay.redirect", b"/probe"),
                xattr("user.note", b"hi"),
            ]
            .into();
        })
        .step(&[
            "xattr",
            "/f",
            "user.note",
            ":",
            "xattr",
            "/f",
            "security.capability",
            ":",
            "xattrs",
            "/f",
            ":",
            "read",
            "/f",
            ":",
            "xattr",
            "/f",
            "user.none",
            ":",
            "append",
            "/f",
            "y",
        ])
        .run();
    assert_eq!(ran.out[0], "6869");
    assert!(ran.out[1].starts_with("010000020020"), "{}", ran.out[1]);
    assert!(ran.out[2].contains("user.note") && !ran.out[2].contains("overlay"), "{}", ran.out[2]);
    assert_eq!(ran.out[3..5], ["x", &errno(libc::ENODATA)]);
    let mut value = [0u8; 16];
    let n = rustix::fs::lgetxattr(ran.outcome.upper.join("f"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..n], b"hi", "copied up with the file");
    let without =
        Builder::new().file("/f", "x").step(&["xattr", "/f", "user.note", ":", "xattrs", "/f"]).run();
    assert_eq!(without.out[1], "");
    assert_eq!(without.outcome.seen[0].incomplete.is_none(), observed());
}

fn access_control_lists_are_obeyed() {
    // Version 2; the owner rw, user 1000 r, the group nothing, mask r, others nothing.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    for (uid, expected) in [(1000, "for one"), (1001, &*errno(libc::EACCES))] {
        let ran = Builder::new()
            .file("/f", "for one")
            .with(|e| {
                e.attrs.mode = 0o640;
                e.attrs.xattrs = vec![(b"system.posix_acl_access".to_vec(), acl.clone())].into();
            })
            .step(&["read", "/f"])
            .change(|s| s.user = User { uid, gid: 1000, groups: Vec::new() })
            .run();
        assert_eq!(ran.out, [expected]);
    }
}

fn large_files_arrive_whole() {
    let text: String = (0..700_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let ran = Builder::new()
        .file("/large", &text)
        .step(&["checksum", "/large", ":", "append", "/large", "end"])
        .run();
    assert_eq!(ran.out[0], oci::Digest::of(text.as_bytes()).to_string());
    assert_eq!(ran.upper_text("large"), text + "end");
    assert_eq!(ran.outcome.seen[0].incomplete.is_none(), observed(), "every READ was answered in full");
}

fn many_readers_at_once() {
    // More files than a server thread keeps open, read by several processes; each must get its own bytes.
    let names: Vec<String> = (0..200).map(|n| format!("/many/{n}")).collect();
    let tree =
        names.iter().fold(Builder::new().dir("/many", 0o755), |b, n| b.file(n, &format!("content of {n}")));
    let ops: Vec<&str> = names.iter().flat_map(|n| ["read", n, ":"]).collect();
    let ran = tree
        .step(&["in-parallel", "4"].iter().chain(&ops[..ops.len() - 1]).copied().collect::<Vec<_>>())
        .run();
    let expected: Vec<String> = names.iter().map(|n| format!("content of {n}")).collect();
    assert_eq!(ran.out.len(), 4 * expected.len());
    for part in ran.out.chunks(expected.len()) {
        assert_eq!(part, expected);
    }
    names.iter().for_each(|n| ran.assert_learned(n, "ac"));
}

struct Broken(std::sync::Arc<dyn Content>, oci::Digest, bool);

impl Content for Broken {
    fn open(&self, digest: &oci::Digest) -> std::io::Result<std::sync::Arc<dyn ReadAt>> {
        match (*digest == self.1, self.2) {
            (true, true) => Ok(std::sync::Arc::new(b"hal".to_vec())),
            (true, false) => Err(std::io::Error::from_raw_os_error(libc::ENOENT)),
            _ => self.0.open(digest),
        }
    }
}

fn content_that_is_gone_or_short_fails_the_step() {
    for short in [false, true] {
        // The command itself takes the error for an answer and succeeds.
        let case = Builder::new().dir("/d", 0o755).file("/d/f", "half").step(&["read", "/d/f"]);
        let error = case
            .change(|s| {
                s.content = std::sync::Arc::new(Broken(s.content.clone(), oci::Digest::of(b"half"), short))
            })
            .try_run()
            .err()
            .expect("a step that could not read must not count");
        match error {
            SandboxError::Content { path, source } => {
                assert_eq!(path, "/d/f");
                assert_eq!(source.kind() == std::io::ErrorKind::UnexpectedEof, short);
            }
            other => panic!("{other}"),
        }
    }
}

fn exit_codes_and_signals() {
    assert_eq!(Builder::new().step(&["exit", "3"]).run().outcome.exit, Exit::Code(3));
    // Process 1 of a namespace cannot abort by a signal of its own making; it dies of an illegal instruction or an exit code.
    assert_ne!(Builder::new().step(&["abort"]).run().outcome.exit, Exit::Code(0));
    let ran = Builder::new().step(&["error", "to the other stream", ":", "leave-behind"]).run();
    assert_eq!(
        (&*ran.err, ran.outcome.exit),
        ("to the other stream\n", Exit::Code(0)),
        "ends although a child still runs"
    );
}

fn commands_that_cannot_be_executed() {
    let refused = |change: &dyn Fn(&mut sandbox::Step)| {
        let tree = Builder::new()
            .dir("/bin", 0o755)
            .file("/bin/data", "no program")
            .file("/bin/text", "no program")
            .with(|e| e.attrs.mode = 0o755)
            .file("/bin/script", "#!/none/sh\n")
            .with(|e| e.attrs.mode = 0o755);
        match tree.step(&[]).change(change).try_run() {
            Err(SandboxError::Command { program, cwd, uid, gid, why, code }) => {
                (program, cwd, uid, gid, why, code)
            }
            Err(other) => panic!("{other}"),
            Ok(ran) => panic!("ran: {:?}", ran.out),
        }
    };
    let run = |program: &str| {
        let program = program.to_owned();
        let (_, _, _, _, why, code) = refused(&|s| {
            s.argv = vec![program.clone()];
            s.env.push(("PATH".into(), "/none:/bin".into()));
        });
        (why, code)
    };
    assert_eq!(run("nothing"), ("not found in PATH".to_owned(), 127));
    assert_eq!(run("/nothing"), ("no such file".to_owned(), 127));
    for (program, part) in [
        ("data", "permission"),
        ("text", "no program"),
        ("script", "interpreter"),
        ("/bin", "is a directory"),
    ] {
        let (why, code) = run(program);
        assert!(why.contains(part) && code == 126, "{program}: {why}");
    }
    let (program, cwd, uid, gid, ..) = refused(&|s| {
        s.argv = vec!["x".into()];
        s.cwd = b"/bin".to_vec();
        s.user = User { uid: 5, gid: 6, groups: Vec::new() };
    });
    assert_eq!((&*program, &*cwd, uid, gid), ("x", "/bin", 5, 6));
    let found = Builder::new()
        .dir("/b", 0o755)
        .link("/b/probe", "/probe")
        .step(&[])
        .change(|s| {
            s.argv = ["probe", "probe", "arguments"].map(String::from).to_vec();
            s.env.push(("PATH".into(), "/none:/b".into()));
        })
        .run();
    assert_eq!(found.out, ["3"]);
    assert!(found.missed("/none"), "where a program is not found is learned, too");
}

fn what_surrounds_the_command() {
    // A descriptor of ours that survives exec must not reach the command.
    let _leaked = rustix::io::dup(std::fs::File::open("/etc").unwrap()).unwrap();
    let ran = Builder::new()
        .dir("/w", 0o755)
        .step(&[
            "environment",
            ":",
            "cwd",
            ":",
            "pid",
            ":",
            "umask",
            ":",
            "ignored-signals",
            ":",
            "status",
            "SigBlk",
            ":",
            "host-name",
            ":",
            "read",
            "/etc/hosts",
            ":",
            "read",
            "/etc/resolv.conf",
            ":",
            "files",
            ":",
            "stdin",
            ":",
            "open",
            "/etc/hosts",
        ])
        .change(|s| s.cwd = b"/w".to_vec())
        .run();
    assert_eq!(ran.out[0], "A=1");
    assert_eq!(ran.out[1..4], ["/w", "1", "22"]);
    // Rust's own runtime ignores SIGPIPE (13) in the probe, nothing else is ignored or blocked.
    assert_eq!(ran.out[4..6], ["0000000000001000", "0000000000000000"]);
    assert_eq!(ran.out[6..9], ["inside", "127.0.0.1 localhost", "nameserver 192.0.2.1"]);
    let files: Vec<&str> = ran.out[9].split(' ').collect();
    assert!(files.len() == 3 && files[0] == "0=/dev/null" && files[1].starts_with("1=pipe:"), "{files:?}");
    assert_eq!(ran.out[10], "\"\"");
    assert_eq!(ran.out[11], errno(libc::EROFS));
}

fn another_user_has_no_capabilities() {
    let ran = Builder::new()
        .dir("/tmp", 0o1777)
        .step(&[
            "status",
            "Uid",
            ":",
            "status",
            "Gid",
            ":",
            "status",
            "Groups",
            ":",
            "status",
            "CapEff",
            ":",
            "status",
            "CapPrm",
            ":",
            "status",
            "CapBnd",
            ":",
            "write",
            "/tmp/mine",
            "x",
            ":",
            "write",
            "/yours",
            "x",
            ":",
            "chown",
            "/tmp/mine",
            "0",
            ":",
            "write",
            "/dev/stdout",
            "written by path\n",
        ])
        .change(|s| s.user = User { uid: 1000, gid: 1001, groups: vec![1001, 27] })
        .run();
    assert_eq!(ran.out[..3], ["1000 1000 1000 1000", "1001 1001 1001 1001", "27 1001"]);
    assert_eq!(ran.out[3..5], ["0000000000000000", "0000000000000000"]);
    assert_eq!(u64::from_str_radix(&ran.out[5], 16).unwrap() & !0xa804_25fb, 0);
    assert_eq!(ran.out[6..10], ["ok", &errno(libc::EACCES), &errno(libc::EPERM), "written by path"]);
    assert_eq!(std::fs::metadata(ran.outcome.upper.join("tmp/mine")).unwrap().uid(), 1000);
}

fn a_missing_working_directory_is_made() {
    let ran = Builder::new()
        .dir("/a", 0o755)
        .link("/l", "/a")
        .step(&["cwd"])
        .change(|s| {
            s.cwd = b"/l/b/c".to_vec();
            s.user = User { uid: 9, gid: 10, groups: Vec::new() };
        })
        .run();
    assert_eq!(ran.out, ["/a/b/c"]);
    assert_eq!(ran.upper(), ["a/", "a/b/", "a/b/c/"]);
    let made = std::fs::metadata(ran.outcome.upper.join("a/b")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (9, 10, 0o755));
    assert_eq!(
        std::fs::metadata(ran.outcome.upper.join("a")).unwrap().uid(),
        0,
        "what existed stays as it is"
    );
    let file =
        Builder::new().file("/f", "").step(&["cwd"]).change(|s| s.cwd = b"/f/x".to_vec()).try_run().err();
    assert!(file.is_some_and(|e| e.to_string().contains("/f/x")));
}

fn root_has_dockers_capabilities_and_filter() {
    let mine = {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let bounding = text.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
        u64::from_str_radix(&bounding, 16).unwrap()
    };
    let ran = Builder::new()
        .dir("/tmp", 0o1777)
        .file("/tmp/f", "")
        .step(&[
            "status",
            "CapEff",
            ":",
            "status",
            "CapPrm",
            ":",
            "status",
            "CapBnd",
            ":",
            "status",
            "CapInh",
            ":",
            "status",
            "CapAmb",
            ":",
            "status",
            "NoNewPrivs",
            ":",
            "status",
            "Seccomp",
            ":",
            "mount",
            ":",
            "unshare",
            ":",
            "socket",
            "1",
            ":",
            "socket",
            "38",
            ":",
            "socket",
            "40",
            ":",
            "system-call",
            "4000",
            ":",
            "chown",
            "/tmp/f",
            "5",
            ":",
            "chroot",
        ])
        .run();
    let docker = format!("{:016x}", 0xa804_25fb & mine);
    assert_eq!(ran.out[..3], [&*docker, &*docker, &*docker]);
    assert_eq!(ran.out[3..7], ["0000000000000000", "0000000000000000", "0", "2"]);
    let denied = errno(libc::EPERM);
    assert_eq!(ran.out[7..13], [&*denied, &*denied, "ok", &*denied, &*denied, &*errno(libc::ENOSYS)]);
    assert_eq!(ran.out[13..], ["ok", "ok"]);
}

fn insecure_steps_have_everything() {
    let ran = Builder::new()
        .dir("/tmp", 0o1777)
        .step(&[
            "status", "Seccomp", ":", "mount", ":", "unshare", ":", "mknod", "/n", "1", "3", ":", "open",
            "/n", ":", "status", "CapEff",
        ])
        .change(|s| s.security = Security::Insecure)
        .run();
    assert_eq!(ran.out[..5], ["0", "ok", "ok", "ok", "ok"]);
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(text.contains(&format!("CapEff:\t{}", ran.out[5])), "all that we have");
}

fn devices_are_the_steps_own() {
    let before = std::fs::metadata("/dev/null").unwrap();
    let ran = Builder::new()
        .dir("/tmp", 0o1777)
        .step(&[
            "write",
            "/dev/null",
            "x",
            ":",
            "open",
            "/dev/zero",
            ":",
            "open",
            "/dev/full",
            ":",
            "open",
            "/dev/urandom",
            ":",
            "chmod",
            "/dev/null",
            "600",
            ":",
            "chown",
            "/dev/null",
            "5",
            ":",
            "mknod",
            "/tmp/null",
            "1",
            "3",
            ":",
            "open",
            "/tmp/null",
            ":",
            "mknod",
            "/dev/null2",
            "1",
            "3",
            ":",
            "open",
            "/dev/null2",
            ":",
            "hard-link",
            "/dev/null",
            "/dev/null3",
            ":",
            "link",
            "/dev/ptmx",
            ":",
            "open",
            "/dev/ptmx",
            ":",
            "stat",
            "/dev/shm",
            ":",
            "list",
            "/dev",
        ])
        .run();
    let denied = errno(libc::EACCES);
    assert_eq!(ran.out[..10], ["ok", "ok", "ok", "ok", "ok", "ok", "ok", &*denied, "ok", &*denied]);
    assert_eq!(ran.out[10..13], [&*errno(libc::EXDEV), "pts/ptmx", "ok"]);
    assert!(ran.out[13].starts_with("dir 1777"));
    let names = "core fd full mqueue null null2 ptmx pts random shm stderr stdin stdout tty urandom zero";
    let mut listed: Vec<&str> = ran.out[14].split(' ').collect();
    listed.sort_unstable();
    assert_eq!(listed.join(" "), names);
    let after = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()), "the host's is another");
    assert_eq!(ran.upper(), ["tmp/", "tmp/null"]);
}

fn proc_and_sys_are_guarded() {
    let ran = Builder::new()
        .step(&[
            "write",
            "/proc/sys/kernel/hostname",
            "x",
            ":",
            "write",
            "/proc/sysrq-trigger",
            "x",
            ":",
            "read",
            "/proc/keys",
            ":",
            "read",
            "/proc/timer_list",
            ":",
            "list",
            "/sys/firmware",
            ":",
            "chmod",
            "/sys",
            "700",
            ":",
            "list",
            "/proc/acpi",
        ])
        .run();
    let readonly = errno(libc::EROFS);
    assert_eq!(ran.out[0], readonly);
    assert!(ran.out[1] == readonly || ran.out[1] == errno(libc::ENOENT), "{}", ran.out[1]);
    assert_eq!(ran.out[2..5], ["", "", ""]);
    assert_eq!(ran.out[5], readonly);
    assert!(ran.out[6].is_empty() || ran.out[6] == errno(libc::ENOENT));
}

fn without_network_there_is_loopback() {
    let ran =
        Builder::new().step(&["interfaces", ":", "loopback"]).change(|s| s.network = Network::None).run();
    // Some kernels put tunnel devices into every namespace; none of them leads anywhere.
    assert!(ran.out[0].split(' ').any(|i| i == "lo") && !ran.out[0].contains("eth"), "{}", ran.out[0]);
    assert_eq!(ran.out[1], "ok");
}

fn limits_are_set_or_refused() {
    let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
    let nofile = Resource::from_name("nofile").unwrap();
    let ran = Builder::new()
        .step(&["limit", "Max open files", ":", "limit", "Max core file size"])
        .change(|s| s.rlimits = vec![limit(nofile, 50, 60), limit(Resource::Core, 0, 0)])
        .run();
    assert_eq!(ran.out, ["50 60", "0 0"]);
    let wrong =
        Builder::new().step(&["pid"]).change(|s| s.rlimits = vec![limit(nofile, 9, 8)]).try_run().err();
    assert!(wrong.is_some_and(|e| e.to_string().contains("nofile to 9:8")));
    assert_eq!(Resource::from_name("fish"), None);
}

fn a_terminal() {
    let case = Builder::new().step(&[
        "terminal",
        ":",
        "open",
        "/dev/tty",
        ":",
        "open",
        "/dev/console",
        ":",
        "exit",
        "4",
    ]);
    let (mut running, _scratch) = case.change(|s| s.stdio = Stdio::Pty { rows: 33, cols: 99 }).spawn();
    let terminal = running.pty.take().expect("a terminal");
    assert!(running.stdout.is_none() && running.stderr.is_none());
    let mut text = Vec::new();
    let mut part = [0u8; 512];
    // At the end of the last process the terminal fails with EIO.
    while let Ok(n @ 1..) = rustix::io::read(&terminal, &mut part) {
        text.extend_from_slice(&part[..n]);
    }
    assert_eq!(running.wait().unwrap().exit, Exit::Code(4));
    assert_eq!(String::from_utf8_lossy(&text), "true 33 99\r\nok\r\nok\r\n");
}

fn the_executable_cannot_be_written() {
    let ran = Builder::new()
        .file("/script", "#!/proc/self/exe\n")
        .with(|e| e.attrs.mode = 0o755)
        .step(&[])
        .change(|s| s.argv = vec!["/script".into()])
        .run();
    // The script is read by the host's own executable; that is reached through a read-only mount.
    assert_eq!(ran.out, ["read-only true"]);
}

fn impossible_steps_are_refused() {
    let refused =
        |change: &dyn Fn(&mut sandbox::Step)| match Builder::new().step(&["pid"]).change(change).try_run() {
            Err(SandboxError::Invalid(text)) => text,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("ran"),
        };
    assert!(refused(&|s| s.argv.clear()).contains("no command"));
    assert!(refused(&|s| s.argv.push("\0".into())).contains("NUL"));
    assert!(refused(&|s| s.cwd = b"relative".to_vec()).contains("absolute"));
    assert!(refused(&|s| s.env = vec![("A=B".into(), "x".into())]).contains("A=B"));
    assert!(refused(&|s| s.hostname = "h".repeat(65)).contains("64"));
    assert!(refused(&|s| s.user.gid = u32::MAX).contains("no group"));
}
