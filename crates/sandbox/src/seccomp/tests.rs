use super::*;
use crate::caps;

/// What a filter answers to a call, by carrying it out as the kernel does.
fn run(program: &[Insn], arch: Arch, number: u32, arguments: [u64; 2]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.audit().to_le_bytes());
    data.extend(0u64.to_le_bytes());
    for a in arguments {
        data.extend(a.to_le_bytes());
    }
    data.resize(64, 0);
    let (mut at, mut acc) = (0usize, 0u32);
    loop {
        let Insn(code, yes, no, k) = program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                acc = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap());
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return k,
            JUMP_EQUAL => acc == k,
            JUMP_ABOVE => acc > k,
            JUMP_NOT_BELOW => acc >= k,
            JUMP_ANY_BIT => acc & k != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { yes } else { no });
    }
}

fn number(arch: Arch, name: &str) -> u32 {
    let row =
        table::TABLE.iter().find(|r| r.0 == name).unwrap_or_else(|| panic!("{name} is not in the table"));
    arch.number(row).unwrap_or_else(|| panic!("{arch:?} has no {name}"))
}

const EPERM: u32 = ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

const PAIRS: [[Arch; 2]; 2] = [[Arch::X86_64, Arch::I386], [Arch::Aarch64, Arch::Arm]];

#[test]
fn decisions_of_the_default_profile() {
    for archs in PAIRS {
        let program = assemble(&archs, caps::DEFAULT, false);
        assert!(program.len() < 4096, "BPF_MAXINSNS");
        for arch in archs {
            let answer = |name: &str, args: [u64; 2]| run(&program, arch, number(arch, name), args);
            for name in
                ["read", "execve", "chroot", "mknodat", "ptrace", "openat2", "setxattrat", "prctl", "capset"]
            {
                assert_eq!(answer(name, [0; 2]), ALLOW, "{arch:?} {name}");
            }
            for name in
                ["mount", "unshare", "setns", "bpf", "reboot", "open_by_handle_at", "syslog", "mbind", "kcmp"]
            {
                assert_eq!(answer(name, [0; 2]), EPERM, "{arch:?} {name}");
            }
            assert_eq!(answer("clone3", [0; 2]), ENOSYS);
            assert_eq!(answer("clone", [0x11, 0]), ALLOW);
            for flag in
                [0x2_0000u64, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
            {
                assert_eq!(answer("clone", [flag | 0x11, 0]), EPERM, "{arch:?} clone {flag:#x}");
            }
            for (family, expected) in
                [(1, ALLOW), (2, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
            {
                assert_eq!(answer("socket", [family, 0]), expected, "{arch:?} socket {family}");
                // The kernel drops the upper half, so it must not matter.
                assert_eq!(
                    answer("socket", [family | 1 << 32, 0]),
                    expected,
                    "{arch:?} socket {family} with a high bit"
                );
            }
            for (persona, expected) in
                [(0, ALLOW), (8, ALLOW), (0x20000, ALLOW), (0xffff_ffff, ALLOW), (0x40000, EPERM)]
            {
                assert_eq!(
                    answer("personality", [persona, 0]),
                    expected,
                    "{arch:?} personality {persona:#x}"
                );
            }
            assert_eq!(run(&program, arch, 5000, [0; 2]), ENOSYS, "a call of the future");
        }
    }
}

#[test]
fn every_call_of_the_table_is_treated_as_its_rule_says_and_no_other_is_allowed() {
    for archs in PAIRS {
        for capabilities in [0, caps::DEFAULT, u64::MAX] {
            let program = assemble(&archs, capabilities, false);
            for arch in archs {
                let known: BTreeMap<u32, &str> =
                    table::TABLE.iter().filter_map(|r| Some((arch.number(r)?, r.0))).collect();
                let newest = *known.range(..0xf_0000).next_back().unwrap().0;
                for n in (0..1000).chain(0xf_0000..0xf_0010) {
                    let expected = match known.get(&n).map(|name| action(name, capabilities)) {
                        Some(Action::Allow) => ALLOW,
                        Some(Action::Errno(e)) => ERRNO | e as u32,
                        Some(Action::If(_)) => continue,
                        None if n < newest => EPERM,
                        None => ENOSYS,
                    };
                    assert_eq!(run(&program, arch, n, [0; 2]), expected, "{arch:?} {n} {:?}", known.get(&n));
                }
            }
        }
    }
}

#[test]
fn other_architectures_are_killed_and_x32_is_unknown() {
    let program = assemble(&PAIRS[0], caps::DEFAULT, false);
    assert_eq!(run(&program, Arch::Aarch64, 0, [0; 2]), KILL_PROCESS);
    assert_eq!(run(&program, Arch::X86_64, 0x4000_0000, [0; 2]), ENOSYS);
    assert_eq!(run(&program, Arch::X86_64, 0x4000_0000 + 59, [0; 2]), ENOSYS);
}

#[test]
fn capabilities_open_what_they_are_for() {
    let archs = &PAIRS[0];
    let admin = assemble(archs, 1 << caps::SYS_ADMIN, false);
    for name in ["mount", "unshare", "clone3", "syslog", "bpf"] {
        assert_eq!(run(&admin, Arch::X86_64, number(Arch::X86_64, name), [0; 2]), ALLOW, "{name}");
    }
    assert_eq!(run(&admin, Arch::X86_64, number(Arch::X86_64, "clone"), [0x1000_0000, 0]), ALLOW);
    let syslog = assemble(archs, 1 << caps::SYSLOG, false);
    assert_eq!(run(&syslog, Arch::X86_64, number(Arch::X86_64, "syslog"), [0; 2]), ALLOW);
    assert_eq!(run(&syslog, Arch::X86_64, number(Arch::X86_64, "mount"), [0; 2]), EPERM);
    let none = assemble(archs, 0, false);
    assert_eq!(run(&none, Arch::X86_64, number(Arch::X86_64, "chroot"), [0; 2]), EPERM);
}

#[test]
fn the_profile_names_only_calls_of_the_table() {
    let names = profile::WITH_CAPABILITY.iter().flat_map(|(_, n)| n.iter());
    let names = names.chain(profile::WITH_ARGUMENTS.iter().map(|(n, _)| n)).chain(profile::NOT_IMPLEMENTED);
    for name in names {
        assert!(table::TABLE.iter().any(|r| r.0 == *name), "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn numbers_agree_with_the_c_library() {
    for (name, n) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("mseal", libc::SYS_mseal),
        ("newfstatat", libc::SYS_newfstatat),
        ("umount2", libc::SYS_umount2),
    ] {
        assert_eq!(i64::from(number(Arch::X86_64, name)), n, "{name}");
    }
}
