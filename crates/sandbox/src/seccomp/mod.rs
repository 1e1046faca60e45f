//! System call filters: Docker's default profile, assembled into classic BPF.
//!
//! A filter looks at the architecture first, then seeks the number by bisection among ranges of equal treatment, then, for a few
//! calls, looks at arguments. Numbers beyond the largest that the profile knows are calls of newer kernels: they fail with ENOSYS,
//! so that programs fall back instead of giving up (runc's rule). x32 calls fail with ENOSYS, as on the kernels without them.
//!
//! Arguments are compared by their low 32 bits, which is all that the kernel looks at in each of those that the profile tests
//! (`int` and `unsigned int`, and clone's flags); comparing 64 bits would let a caller pass by setting a bit that the kernel drops.

mod profile;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One instruction: struct sock_filter as (code, jump if true, jump if false, operand).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Insn(pub(crate) u16, pub(crate) u8, pub(crate) u8, pub(crate) u32);

/// Codes of the instructions that we use (include/uapi/linux/bpf_common.h).
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_NOT_BELOW: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Low half of the first argument, on the little-endian machines that we have profiles for; each takes 8 bytes.
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    argument: u32,
    test: Test,
}

/// What the low 32 bits of the argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Below(u32),
    Equal(u32),
    Above(u32),
    /// None of these bits is set.
    NoneOf(u32),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(i32),
    /// Allowed if one condition holds, else EPERM.
    If(&'static [Condition]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arch {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

impl Arch {
    /// AUDIT_ARCH_* of include/uapi/linux/audit.h.
    fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::I386 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    fn number(self, row: &table::Row) -> Option<u32> {
        let n = match self {
            Arch::X86_64 => row.1,
            Arch::I386 => row.2,
            Arch::Aarch64 => row.3,
            Arch::Arm => row.4,
        };
        u32::try_from(n).ok()
    }
}

/// Docker's default profile for a process with these capabilities, on this machine. `None` on an architecture that we have no
/// numbers for.
///
/// `pretend`: calls that change owners and identities succeed without doing anything ([`profile::IDENTITY`]). That is for steps where
/// only one user exists: they could not but fail, and programs that unpack and install things give up then.
pub(crate) fn default_filter(capabilities: u64, pretend: bool) -> Option<Vec<Insn>> {
    let archs: &[Arch] = if cfg!(target_arch = "x86_64") {
        &[Arch::X86_64, Arch::I386]
    } else if cfg!(target_arch = "aarch64") {
        &[Arch::Aarch64, Arch::Arm]
    } else {
        return None;
    };
    Some(assemble(archs, capabilities, pretend))
}

fn assemble(archs: &[Arch], capabilities: u64, pretend: bool) -> Vec<Insn> {
    let mut program = vec![Insn(LOAD, 0, 0, ARCHITECTURE)];
    for &arch in archs {
        let mut section = vec![Insn(LOAD, 0, 0, NUMBER)];
        section.extend(bisect(&ranges(arch, capabilities, pretend)));
        program.push(Insn(JUMP_EQUAL, 1, 0, arch.audit()));
        program.push(Insn(JUMP, 0, 0, section.len() as u32));
        program.extend(section);
    }
    program.push(Insn(RETURN, 0, 0, KILL_PROCESS));
    program
}

/// The treatment of one call.
fn action(name: &str, capabilities: u64) -> Action {
    let granted = profile::WITH_CAPABILITY.iter().filter(|(_, names)| names.contains(&name));
    let (mut conditional, mut has) = (false, false);
    for (capability, _) in granted {
        conditional = true;
        has |= capabilities & (1 << capability) != 0;
    }
    if has {
        return Action::Allow;
    }
    if profile::NOT_IMPLEMENTED.contains(&name) {
        return Action::Errno(libc::ENOSYS);
    }
    if let Some((_, conditions)) = profile::WITH_ARGUMENTS.iter().find(|(n, _)| *n == name) {
        return Action::If(conditions);
    }
    if conditional { Action::Errno(libc::EPERM) } else { Action::Allow }
}

/// Ranges of numbers treated alike: where each begins, from 0 on.
fn ranges(arch: Arch, capabilities: u64, pretend: bool) -> Vec<(u32, Action)> {
    let mut calls: BTreeMap<u32, Action> = BTreeMap::new();
    for row in table::TABLE {
        if let Some(number) = arch.number(row) {
            let pretended = pretend && profile::IDENTITY.contains(&row.0);
            let action = if pretended { Action::Errno(0) } else { action(row.0, capabilities) };
            calls.insert(number, action);
        }
    }
    // arm has a few calls of its own far beyond all others.
    const PRIVATE: u32 = 0xf_0000;
    let newest = calls.range(..PRIVATE).next_back().map_or(0, |(n, _)| *n);
    let mut ranges: Vec<(u32, Action)> = vec![(0, Action::Errno(libc::EPERM))];
    let mut push = |start: u32, action: Action| {
        match ranges.last_mut() {
            Some(last) if last.0 == start => last.1 = action,
            Some(last) if last.1 == action => return,
            _ => ranges.push((start, action)),
        }
        // Overwriting the start of a range may have made it equal to the one before.
        if let [.., (_, a), (_, b)] = ranges[..]
            && a == b
        {
            ranges.pop();
        }
    };
    for (&number, &action) in &calls {
        push(number, action);
        let after = if number < newest { libc::EPERM } else { libc::ENOSYS };
        push(number + 1, Action::Errno(after));
    }
    if arch == Arch::X86_64 {
        debug_assert!(newest < 0x4000_0000, "x32 calls have bit 30, so they lie beyond the newest");
    }
    ranges
}

/// Seeks the number in the accumulator among ranges; every way ends in a return.
fn bisect(ranges: &[(u32, Action)]) -> Vec<Insn> {
    if let [(_, action)] = ranges {
        return decide(*action);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let pivot = right[0].0;
    let (left, right) = (bisect(left), bisect(right));
    let mut code = match u8::try_from(left.len()) {
        Ok(near) => vec![Insn(JUMP_NOT_BELOW, near, 0, pivot)],
        Err(_) => vec![Insn(JUMP_NOT_BELOW, 0, 1, pivot), Insn(JUMP, 0, 0, left.len() as u32)],
    };
    code.extend(left);
    code.extend(right);
    code
}

fn decide(action: Action) -> Vec<Insn> {
    let errno = |n: i32| Insn(RETURN, 0, 0, ERRNO | n as u32);
    match action {
        Action::Allow => vec![Insn(RETURN, 0, 0, ALLOW)],
        Action::Errno(n) => vec![errno(n)],
        Action::If(conditions) => {
            let mut code = Vec::new();
            for c in conditions {
                code.push(Insn(LOAD, 0, 0, ARGUMENTS + 8 * c.argument));
                code.push(match c.test {
                    Test::Equal(n) => Insn(JUMP_EQUAL, 0, 1, n),
                    Test::Above(n) => Insn(JUMP_ABOVE, 0, 1, n),
                    Test::Below(n) => Insn(JUMP_NOT_BELOW, 1, 0, n),
                    Test::NoneOf(bits) => Insn(JUMP_ANY_BIT, 1, 0, bits),
                });
                code.push(Insn(RETURN, 0, 0, ALLOW));
            }
            code.push(errno(libc::EPERM));
            code
        }
    }
}

#[cfg(test)]
mod tests;
