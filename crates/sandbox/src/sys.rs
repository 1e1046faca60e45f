//! System calls that rustix does not offer as safe functions.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::process::Pid;

use crate::seccomp::Insn;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    Child,
    Parent(Pid),
}

/// fork(2). For processes with a single thread: there, the child may do whatever its parent might have done.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the caller is the init process, which has one thread, so no lock can be held by a thread that the child lacks.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(
            i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or_else(|| io::Error::other("fork gave no process id"))?,
        )),
    }
}

/// execve(2); returns only if it fails.
pub(crate) fn execve(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call, and both lists end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// How a child ended, and what it and its descendants used: times in microseconds, memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) user: u64,
    pub(crate) system: u64,
    pub(crate) max_rss: u64,
}

/// wait4(2) for one child.
pub(crate) fn wait(pid: Pid) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: rusage is a struct of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the types that the call writes.
        match check(unsafe { libc::wait4(pid.as_raw_nonzero().get(), &mut status, 0, &mut usage) }.into()) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    Ok(Ended {
        status,
        user: micros(usage.ru_utime),
        system: micros(usage.ru_stime),
        max_rss: usage.ru_maxrss as u64 * 1024,
    })
}

/// Sends any signal, also those that rustix has no name for. Errors do not matter: the process may just have ended.
pub(crate) fn kill(pid: Pid, signal: i32) {
    // SAFETY: a system call on two integers.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
}

/// Puts every signal back to its default and blocks none, as a program expects to find them.
pub(crate) fn reset_signals() {
    // The kernel's struct sigaction, larger than any architecture's: all zero is SIG_DFL, no flags, nothing blocked. Not through
    // the C library, which refuses the two signals that it keeps for itself; our parents may have left them ignored all the same.
    let default = [0u64; 8];
    const SET_SIZE: usize = 8;
    for signal in 1..=64 {
        // SAFETY: reads a sigaction from `default`, writes nothing, and installs no handler of ours. KILL and STOP are refused.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), SET_SIZE)
        };
    }
    // SAFETY: reads a signal set, which is one u64, and writes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            default.as_ptr(),
            ptr::null_mut::<u64>(),
            SET_SIZE,
        )
    };
}

/// Makes every file descriptor from 3 on close on exec.
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 1 << 2;
    // SAFETY: a system call on integers; it closes nothing now.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}

/// Installs a system call filter for this thread and all that it starts.
pub(crate) fn install_filter(program: &[Insn]) -> io::Result<()> {
    let code: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.0, jt: i.1, jf: i.2, k: i.3 }).collect();
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len, filter: code.as_ptr().cast_mut() };
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    // SAFETY: `filter` describes `code`, which is alive; the kernel copies and checks it, and writes to neither.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0 as libc::c_uint, &filter) })?;
    Ok(())
}

/// Sets a resource limit by its kernel number.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is alive and of the type that prlimit64 reads; no old limit is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0 as libc::pid_t,
            resource,
            &limit,
            ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// Another reader of the requests of a FUSE connection.
pub(crate) fn clone_fuse_device(of: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500; // _IOR(229, 0, uint32_t)
    let new = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let from = of.as_raw_fd() as u32;
    // SAFETY: the request reads one u32 behind the pointer, which is alive.
    check(unsafe { libc::ioctl(new.as_raw_fd(), FUSE_DEV_IOC_CLONE as _, &from) }.into())?;
    Ok(new)
}

/// Takes the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is a struct of integers, arrays and a union of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) }.into())?;
    Ok(())
}

/// Makes a mount read-only for whoever reaches it through this file.
pub(crate) fn make_mount_readonly(mount: &OwnedFd) -> io::Result<()> {
    set_readonly(mount, 0)
}

/// The same for all mounts in it, too.
pub(crate) fn make_mounts_readonly(mount: &OwnedFd) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    set_readonly(mount, AT_RECURSIVE)
}

fn set_readonly(mount: &OwnedFd, flags: libc::c_uint) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the path is a NUL-terminated string, `attr` has the layout and the size that are passed; both are only read.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as libc::c_uint | flags,
            &attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Ends this process at once, without running destructors or flushing anything.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns, touches nothing.
    unsafe { libc::_exit(code) }
}
