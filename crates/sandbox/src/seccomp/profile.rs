//! The default profile as data: moby's, which BuildKit and Docker use.
//!
//! Source: moby/profiles, seccomp/default.json, version 0.2.3 (commit cd3bed8061c7, 2026-06-30). Whatever [`super::table`] names
//! and nothing here restricts is allowed; everything else fails with EPERM. Entries that all our kernels satisfy
//! (`minKernel` 4.8) stand without their condition; those for other architectures are left out.

use super::{Condition, Test};
use crate::caps;

/// Calls that need one of several capabilities: without any of them they fail as calls that the profile does not name.
pub(super) const WITH_CAPABILITY: &[(u32, &[&str])] = &[
    (caps::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        caps::SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (caps::SYS_BOOT, &["reboot"]),
    (caps::SYS_CHROOT, &["chroot"]),
    (caps::SYS_MODULE, &["delete_module", "init_module", "finit_module"]),
    (caps::SYS_PACCT, &["acct"]),
    (caps::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (caps::SYS_RAWIO, &["iopl", "ioperm"]),
    (caps::SYS_TIME, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (caps::SYS_TTY_CONFIG, &["vhangup"]),
    (caps::SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (caps::SYSLOG, &["syslog"]),
    (caps::BPF, &["bpf"]),
    (caps::PERFMON, &["perf_event_open"]),
];

/// Calls allowed when one of the conditions on their arguments holds.
pub(super) const WITH_ARGUMENTS: &[(&str, &[Condition])] = &[
    // Any family but AF_ALG (38) and AF_VSOCK (40).
    (
        "socket",
        &[
            Condition { argument: 0, test: Test::Below(38) },
            Condition { argument: 0, test: Test::Equal(39) },
            Condition { argument: 0, test: Test::Above(40) },
        ],
    ),
    // PER_LINUX, PER_LINUX32, each with and without UNAME26, and the question which it is.
    (
        "personality",
        &[
            Condition { argument: 0, test: Test::Equal(0) },
            Condition { argument: 0, test: Test::Equal(0x8) },
            Condition { argument: 0, test: Test::Equal(0x2_0000) },
            Condition { argument: 0, test: Test::Equal(0x2_0008) },
            Condition { argument: 0, test: Test::Equal(0xffff_ffff) },
        ],
    ),
    // No new namespace: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
    ("clone", &[Condition { argument: 0, test: Test::NoneOf(0x7e02_0000) }]),
];

/// Calls that fail as if the kernel lacked them, so that C libraries fall back: clone3's flags lie in memory, out of a filter's reach.
pub(super) const NOT_IMPLEMENTED: &[&str] = &["clone3"];

/// Calls that name users and groups. Not of the profile: see [`super::default_filter`].
pub(super) const IDENTITY: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];
