//! The same tests in a user namespace: this program becomes an ordinary user, or takes a range of users, and enters one.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags};
use sandbox::userns::{self, Entered, Maps};

use crate::kit;

/// Which users exist in the namespace: 65536 of them, or root alone.
pub(crate) const USERS: [&str; 2] = ["a_range", "one_id"];

/// Tests that say something else there, and why.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("", "devices_are_the_steps_own", "devices cannot be made, and those of the host are shown"),
    ("", "insecure_steps_have_everything", "nor opened"),
    ("", "attributes_and_listings_are_those_of_the_index", "a device is shown by a stand-in"),
    ("", "what_is_written_to_a_view_is_discarded", "it makes a device"),
    ("", "directories_of_the_host", "it makes a device"),
    ("", "nothing_survives_a_killed_parent", "the parent would have to enter the namespace, too"),
    ("", "changes_lie_in_the_upper_directory", "of a copy, whiteouts are of another owner"),
    ("one_id", "another_user_has_no_capabilities", "there is no other user"),
    ("one_id", "access_control_lists_are_obeyed", "there is no other user"),
    ("one_id", "a_missing_working_directory_is_made", "there is no other user"),
    ("one_id", "commands_that_cannot_be_executed", "there is no other user"),
    ("one_id", "memory_and_secrets", "there is no other user"),
    ("one_id", "a_socket_of_the_host", "there is no other user"),
];

/// Runs all tests that hold there in a process of its own.
pub(crate) fn in_namespace(user: &str, way: usize) {
    let out = Command::new("/proc/self/exe").args(["rootless", user, &way.to_string()]).output();
    let out = out.expect("this program starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}: {text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("passed"), "{text}");
}

/// The process that enters the namespace: `USER WAY`.
pub(crate) fn main(args: &[String]) {
    let (user, way) = (args[0].as_str(), args[1].parse().expect("a number"));
    open_devices();
    let range = vec![(0, 100_000, 65536)];
    let entered = if user == "a_range" {
        userns::enter(Ok(&Maps { users: range.clone(), groups: range }))
    } else {
        let (uid, gid) = (rustix::process::Uid::from_raw(54321), rustix::process::Gid::from_raw(54321));
        rustix::thread::set_thread_groups(&[]).expect("root may");
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("root may");
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
        // As after an exec.
        let dumpable = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(dumpable).expect("everybody may");
        userns::enter(Err("the test wants it".into()))
    };
    match entered {
        Ok(Entered::Mapped) => assert_eq!(user, "a_range"),
        Ok(Entered::Single(why)) => assert_eq!((user, &*why), ("one_id", "the test wants it")),
        Err(e) => {
            let _ = writeln!(std::io::stdout(), "skipped: {e}, 0 passed");
            return;
        }
    }
    if std::fs::File::open(std::env::current_exe().expect("it has a path")).is_err() {
        let _ =
            writeln!(std::io::stdout(), "skipped: this program's file cannot be read by others, 0 passed");
        return;
    }
    kit::use_way(way);
    let cases = [
        crate::cases::CASES,
        crate::escapes::CASES,
        crate::mounts::CASES,
        crate::limits::CASES,
        crate::network::CASES,
        crate::death::CASES,
    ]
    .concat();
    let holds = |name: &str| !OTHERWISE.iter().any(|(u, n, _)| *n == name && (u.is_empty() || *u == user));
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in cases.into_iter().filter(|(name, _)| holds(name)) {
        match std::panic::catch_unwind(case) {
            Ok(()) => passed += 1,
            Err(_) => failed.push(name),
        }
    }
    let _ = writeln!(std::io::stdout(), "{passed} passed, failed: {failed:?}");
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

/// Where only root may use FUSE and tunnels: devices that everybody may, for this process and those that it starts.
fn open_devices() {
    #[allow(unsafe_code)]
    // SAFETY: CLONE_FILES, the one flag that could pull descriptors away from under others, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.expect("root may");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("root may");
    let dir = tempfile::tempdir().expect("a directory");
    rustix::mount::mount("layercake", dir.path(), "tmpfs", MountFlags::empty(), c"").expect("root may");
    for (place, minor) in
        [("/dev/fuse", 229), ("/dev/net/tun", 200)].into_iter().filter(|(p, _)| Path::new(p).exists())
    {
        let node = dir.path().join(minor.to_string());
        let number = rustix::fs::makedev(10, minor);
        rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)
            .expect("root may");
        rustix::fs::chmod(&node, Mode::from_raw_mode(0o666)).expect("root may");
        rustix::mount::mount_bind(&node, place).expect("there is one");
    }
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).expect("it was mounted");
}
