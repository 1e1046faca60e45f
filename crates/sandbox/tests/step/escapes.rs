//! Ways out of sandboxes, tried from inside.

use crate::Case;
use crate::kit::{Builder, errno};

pub(crate) const CASES: &[Case] = &[("known_escapes_are_refused", known_escapes_are_refused)];

/// Each is a way out of some sandbox, past or present, and must fail with an error of the kernel or of the file system.
fn known_escapes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("of-the-host").to_str().unwrap().to_owned();
    std::fs::write(&host, "of the host").unwrap();
    let attempts: &[&[&str]] = &[
        // Kernel settings that run programs of the attacker's choice as the host's root.
        &["write", "/proc/sys/kernel/core_pattern", "|/x"],
        &["write", "/proc/sys/kernel/modprobe", "/x"],
        &["write", "/proc/sys/fs/binfmt_misc/register", ":x:M::x::/x:"],
        &["write", "/sys/kernel/uevent_helper", "/x"],
        &["write", "/sys/fs/cgroup/release_agent", "/x"],
        &["write", "/sys/fs/cgroup/memory/release_agent", "/x"],
        &["write", "/proc/sysrq-trigger", "c"],
        &["write", "/proc/sys/vm/panic_on_oom", "2"],
        &["write", "/proc/sys/kernel/core_pipe_limit", "1"],
        &["write", "/proc/self/oom_score_adj", "-1000"],
        &["write", "/sys/power/state", "mem"],
        // Control groups: limits would be worth nothing.
        &["write", "/sys/fs/cgroup/cgroup.procs", "0"],
        &["write", "/sys/fs/cgroup/pids/cgroup.procs", "0"],
        &["write", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1"],
        &["mkdir", "/sys/fs/cgroup/new"],
        // Other processes: there are none but its own.
        &["list", "/proc/2/root"],
        &["read", "/proc/kcore"],
        // The host's files: a file that the test has, by every root and directory that leads somewhere.
        &["read", "/proc/1/root/../..", &host],
        &["read", "/proc/self/root", &host],
        &["read", "/proc/1/cwd/../../..", &host],
        &["read", "/dev/fd/../../../..", &host],
        &["read", "/proc/1/task/1/root", &host],
        &["out-of-chroot", "/tmp", &host],
        // New rights: mounts, namespaces, tracing, kernel memory, modules, keys, handles of files, io_uring.
        &["mount"],
        &["unshare"],
        &["call", "ptrace"],
        &["call", "bpf"],
        &["call", "perf_event_open"],
        &["call", "init_module"],
        &["call", "kexec_load"],
        &["call", "keyctl"],
        &["call", "add_key"],
        &["call", "request_key"],
        &["call", "open_by_handle_at"],
        &["call", "io_uring_setup"],
        &["call", "setns"],
        &["call", "pivot_root"],
        &["call", "move_mount"],
        &["call", "fsopen"],
        &["call", "userfaultfd"],
        &["call", "reboot"],
        &["call", "swapon"],
        &["call", "clone3"],
        &["call", "personality"],
        &["call", "kcmp"],
        &["call", "pidfd_getfd"],
        &["call", "umount2"],
        &["call", "open_tree"],
        &["call", "fsmount"],
        &["call", "fspick"],
        &["call", "mount_setattr"],
        &["call", "finit_module"],
        &["call", "delete_module"],
        &["call", "quotactl"],
        &["call", "acct"],
        &["call", "syslog"],
        &["call", "sethostname"],
        &["call", "vhangup"],
        &["user-namespace"],
        // Devices of the host, and the control files of FUSE, by which the view could be served by the step.
        &["open", "/dev/fuse"],
        &["open", "/dev/mem"],
        &["open", "/dev/kmsg"],
        &["abort-fuse"],
        &["remove", "/dev/pts/ptmx"],
        &["open", "/tmp/fuse"],
        &["open", "/tmp/disk"],
        // What is mounted for it.
        &["write", "/etc/hosts", "x"],
        &["remove", "/etc/resolv.conf"],
        &["chmod", "/proc/sys/kernel", "777"],
        &["chmod", "/sys/kernel", "777"],
    ];
    let mut ops = vec!["mknod", "/tmp/fuse", "10", "229", ":", "mknod", "/tmp/disk", "254", "0"];
    for attempt in attempts {
        ops.push(":");
        ops.extend(*attempt);
    }
    let ran = Builder::new().dir("/tmp", 0o1777).step(&ops).run();
    let answers = &ran.out[2..];
    assert_eq!(answers.len(), attempts.len());
    for (attempt, answer) in attempts.iter().zip(answers) {
        // Masked files are there, and empty.
        assert!(answer.starts_with("errno ") || answer.is_empty(), "{attempt:?}: {answer}");
        // Without arguments that make sense, a call fails in any case; a forbidden one fails in one of these ways.
        let forbidden = [errno(libc::EPERM), errno(libc::ENOSYS)];
        let allowed = ["ptrace", "kcmp"];
        if attempt[0] == "call" && !allowed.contains(&attempt[1]) {
            assert!(forbidden.contains(answer), "{attempt:?}: {answer}");
        }
    }
}
