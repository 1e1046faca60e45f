//! Capabilities, as bit masks by their kernel numbers (include/uapi/linux/capability.h).

pub(crate) const DAC_READ_SEARCH: u32 = 2;
pub(crate) const SYS_MODULE: u32 = 16;
pub(crate) const SYS_RAWIO: u32 = 17;
pub(crate) const SYS_CHROOT: u32 = 18;
pub(crate) const SYS_PTRACE: u32 = 19;
pub(crate) const SYS_PACCT: u32 = 20;
pub(crate) const SYS_ADMIN: u32 = 21;
pub(crate) const SYS_BOOT: u32 = 22;
pub(crate) const SYS_NICE: u32 = 23;
pub(crate) const SYS_TIME: u32 = 25;
pub(crate) const SYS_TTY_CONFIG: u32 = 26;
pub(crate) const SYSLOG: u32 = 34;
pub(crate) const PERFMON: u32 = 38;
pub(crate) const BPF: u32 = 39;

/// Docker's 14: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
/// SETFCAP.
pub(crate) const DEFAULT: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << SYS_CHROOT
    | 1 << 27
    | 1 << 29
    | 1 << 31;

#[cfg(test)]
mod tests {
    #[test]
    fn docker_gives_fourteen() {
        assert_eq!(super::DEFAULT.count_ones(), 14);
        assert_eq!(super::DEFAULT, 0xa804_25fb, "what /proc/self/status shows in a container of Docker");
    }
}
