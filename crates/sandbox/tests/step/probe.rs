//! What runs inside steps: does what its arguments say, and prints one line for each.
//!
//! `probe OPERATION [ARGUMENT...] [: OPERATION ...]`

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

pub(crate) fn main(args: &[String]) {
    if let [op, count, rest @ ..] = args
        && op == "in-parallel"
    {
        return in_parallel(count.parse().unwrap_or(1), rest);
    }
    let mut out = io::stdout();
    for op in args.split(|a| a == ":") {
        let op: Vec<&str> = op.iter().map(String::as_str).collect();
        let result = run(&op);
        let line = match result {
            Ok(text) => text,
            Err(e) => match e.raw_os_error() {
                Some(errno) => format!("errno {errno}"),
                None => format!("error {e}"),
            },
        };
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}

/// The same operations in several processes, their output one after the other.
fn in_parallel(count: usize, ops: &[String]) {
    let start = |_| {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("probe").args(ops).stdout(std::process::Stdio::piped()).spawn()
    };
    let all: Vec<_> = (0..count).map(start).collect();
    // Their output is small enough for the pipes, so they all run while we wait for the first.
    for child in all {
        let text = child.and_then(|c| c.wait_with_output()).map(|o| o.stdout).unwrap_or_default();
        let _ = io::stdout().write_all(&text);
    }
}

fn show(m: &fs::Metadata) -> String {
    let t = m.file_type();
    let kind = if t.is_dir() {
        "dir"
    } else if t.is_file() {
        "file"
    } else if t.is_symlink() {
        "link"
    } else if t.is_char_device() {
        "char"
    } else if t.is_socket() {
        "socket"
    } else {
        "other"
    };
    format!(
        "{kind} {:o} {}:{} size {} nlink {} mtime {}",
        m.mode() & 0o7777,
        m.uid(),
        m.gid(),
        m.size(),
        m.nlink(),
        m.mtime()
    )
}

fn check(result: libc::c_long) -> io::Result<String> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok("ok".into()) }
}

#[allow(unsafe_code)]
fn run(op: &[&str]) -> io::Result<String> {
    let ok = |_: ()| "ok".to_owned();
    match op {
        ["read", root, path] => run(&["read", &format!("{root}{path}")]),
        ["read", path] => fs::read(path).map(|b| String::from_utf8_lossy(&b).trim_end().replace('\n', "|")),
        ["checksum", path] => fs::read(path).map(|b| oci::Digest::of(&b).to_string()),
        ["write", path, text] => fs::write(path, text).map(ok),
        ["append", path, text] => {
            fs::OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes()).map(ok)
        }
        ["open", path] => fs::OpenOptions::new().read(true).write(true).open(path).map(|_| "ok".into()),
        ["stat", path] => fs::metadata(path).map(|m| show(&m)),
        ["lstat", path] => fs::symlink_metadata(path).map(|m| show(&m)),
        ["ino", path] => fs::symlink_metadata(path).map(|m| m.ino().to_string()),
        ["link", path] => fs::read_link(path).map(|p| p.display().to_string()),
        ["list", path] => {
            let names: io::Result<Vec<String>> =
                fs::read_dir(path)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect();
            Ok(names?.join(" "))
        }
        ["list-sorted", path] => {
            let listed = run(&["list", path])?;
            let mut names: Vec<&str> = listed.split(' ').collect();
            names.sort_unstable();
            Ok(names.join(" "))
        }
        ["mkdir", path] => fs::create_dir(path).map(ok),
        ["remove", path] => fs::remove_file(path).map(ok),
        ["remove-all", path] => fs::remove_dir_all(path).map(ok),
        ["chmod", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(ok)
        }
        ["chown", path, id] => {
            let id = id.parse().map_err(io::Error::other)?;
            std::os::unix::fs::chown(path, Some(id), Some(id)).map(ok)
        }
        ["hard-link", from, to] => fs::hard_link(from, to).map(ok),
        ["mknod", path, major, minor] => {
            let number = rustix::fs::makedev(major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, *path, rustix::fs::FileType::CharacterDevice, mode, number)?;
            Ok("ok".into())
        }
        ["xattr", path, name] => {
            let mut value = vec![0u8; 4096];
            let n = rustix::fs::lgetxattr(*path, *name, &mut value[..])?;
            Ok(value[..n].iter().map(|b| format!("{b:02x}")).collect())
        }
        ["xattrs", path] => {
            let mut names = vec![0u8; 4096];
            let n = rustix::fs::llistxattr(*path, &mut names[..])?;
            Ok(String::from_utf8_lossy(&names[..n]).replace('\0', " ").trim_end().to_owned())
        }
        ["status", field] => {
            let text = fs::read_to_string("/proc/self/status")?;
            let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(":"));
            Ok(line.unwrap_or("-").split_whitespace().collect::<Vec<_>>().join(" "))
        }
        ["limit", name] => {
            let text = fs::read_to_string("/proc/self/limits")?;
            let line = text.lines().find(|l| l.starts_with(name)).unwrap_or("-");
            Ok(line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        }
        ["cwd"] => Ok(std::env::current_dir()?.display().to_string()),
        ["pid"] => Ok(std::process::id().to_string()),
        ["arguments"] => Ok(std::env::args().count().to_string()),
        ["environment"] => {
            let mut all: Vec<String> = std::env::vars().map(|(n, v)| format!("{n}={v}")).collect();
            all.sort();
            Ok(all.join(" "))
        }
        ["files"] => {
            let mut open: Vec<String> = (0..64)
                .filter_map(|n| {
                    fs::read_link(format!("/proc/self/fd/{n}")).ok().map(|to| format!("{n}={}", to.display()))
                })
                .collect();
            open.sort();
            Ok(open.join(" "))
        }
        ["umask"] => {
            let old = rustix::process::umask(rustix::fs::Mode::empty());
            rustix::process::umask(old);
            Ok(format!("{:o}", old.as_raw_mode()))
        }
        ["ignored-signals"] => run(&["status", "SigIgn"]),
        ["host-name"] => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ["interfaces"] => {
            let text = fs::read_to_string("/proc/net/dev")?;
            let names: Vec<&str> =
                text.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim).collect();
            Ok(names.join(" "))
        }
        ["loopback"] => {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            std::net::TcpStream::connect(listener.local_addr()?).map(|_| "ok".into())
        }
        ["tcp", address, port] => {
            let to = (*address, port.parse().map_err(io::Error::other)?);
            let to = std::net::ToSocketAddrs::to_socket_addrs(&to)?.next().ok_or(io::ErrorKind::NotFound)?;
            let mut s = std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(500))?;
            let mut text = String::new();
            s.read_to_string(&mut text)?;
            Ok(text)
        }
        ["abstract", name] => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            std::os::unix::net::UnixStream::connect_addr(&address).map(|_| "ok".into())
        }
        ["ask-resolver"] => {
            let text = fs::read_to_string("/etc/resolv.conf")?;
            let server = text.lines().find_map(|l| l.strip_prefix("nameserver ")).unwrap_or_default();
            let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
            socket.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
            // Connected, so that a refusal is heard of.
            socket.connect((server, 53))?;
            socket.send(&[1; 20])?;
            let mut answer = [0u8; 64];
            let n = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
        }
        ["connect", path] => {
            let mut s = std::os::unix::net::UnixStream::connect(path)?;
            s.write_all(b"hello")?;
            s.shutdown(std::net::Shutdown::Write)?;
            let mut text = String::new();
            s.read_to_string(&mut text)?;
            Ok(text)
        }
        ["mount"] => {
            // SAFETY: every pointer is to a NUL-terminated string, or null where mount(2) takes none.
            check(
                unsafe {
                    libc::mount(c"x".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null())
                }
                .into(),
            )
        }
        ["out-of-chroot", below, path] => {
            // A root below the working directory does not hold who goes up from there; all the way, if nothing else does.
            std::env::set_current_dir("/")?;
            std::os::unix::fs::chroot(below)?;
            (0..64).try_for_each(|_| std::env::set_current_dir(".."))?;
            let found = run(&["read", path.trim_start_matches('/')]);
            std::os::unix::fs::chroot(".")?;
            found
        }
        ["user-namespace"] => {
            // SAFETY: a system call on an integer.
            check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
        }
        ["abort-fuse"] => {
            // Each connection has a file that ends it; the answer is that of the last.
            let mut answer = Err(io::Error::from_raw_os_error(libc::ENOENT));
            for connection in fs::read_dir("/sys/fs/fuse/connections")?.flatten() {
                answer = fs::OpenOptions::new().write(true).open(connection.path().join("abort"));
                if answer.is_ok() {
                    break;
                }
            }
            answer.map(|_| "ok".into())
        }
        ["chroot"] => std::os::unix::fs::chroot("/").map(ok),
        ["unshare"] => {
            // SAFETY: a system call on an integer.
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())
        }
        ["socket", family] => {
            let family = family.parse().map_err(io::Error::other)?;
            // SAFETY: a system call on integers.
            check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) }.into())
        }
        ["system-call", number] => {
            let number: libc::c_long = number.parse().map_err(io::Error::other)?;
            // SAFETY: only called with numbers that the kernel does not know, so that nothing happens.
            check(unsafe { libc::syscall(number, 0, 0, 0) })
        }
        ["call", name] => {
            let (number, first) = match *name {
                "ptrace" => (libc::SYS_ptrace, 16), // of the process above us, which there is none of
                "bpf" => (libc::SYS_bpf, 0),
                "perf_event_open" => (libc::SYS_perf_event_open, 0),
                "init_module" => (libc::SYS_init_module, 0),
                "kexec_load" => (libc::SYS_kexec_load, 0),
                "keyctl" => (libc::SYS_keyctl, 0),
                "add_key" => (libc::SYS_add_key, 0),
                "request_key" => (libc::SYS_request_key, 0),
                "open_by_handle_at" => (libc::SYS_open_by_handle_at, 0),
                "io_uring_setup" => (libc::SYS_io_uring_setup, 1),
                "setns" => (libc::SYS_setns, 0),
                "pivot_root" => (libc::SYS_pivot_root, 0),
                "move_mount" => (libc::SYS_move_mount, 0),
                "fsopen" => (libc::SYS_fsopen, 0),
                "userfaultfd" => (libc::SYS_userfaultfd, 0),
                "reboot" => (libc::SYS_reboot, 0),
                "swapon" => (libc::SYS_swapon, 0),
                "clone3" => (libc::SYS_clone3, 0),
                "kcmp" => (libc::SYS_kcmp, 0),
                "pidfd_getfd" => (libc::SYS_pidfd_getfd, 0),
                "umount2" => (libc::SYS_umount2, 0),
                "open_tree" => (libc::SYS_open_tree, 0),
                "fsmount" => (libc::SYS_fsmount, 0),
                "fspick" => (libc::SYS_fspick, 0),
                "mount_setattr" => (libc::SYS_mount_setattr, 0),
                "finit_module" => (libc::SYS_finit_module, 0),
                "delete_module" => (libc::SYS_delete_module, 0),
                "quotactl" => (libc::SYS_quotactl, 0),
                "acct" => (libc::SYS_acct, 0),
                "syslog" => (libc::SYS_syslog, 3),
                "sethostname" => (libc::SYS_sethostname, 0),
                "vhangup" => (libc::SYS_vhangup, 0),
                "personality" => (libc::SYS_personality, 0x004_0000), // ADDR_NO_RANDOMIZE
                other => return Err(io::Error::other(format!("unknown call {other}"))),
            };
            // SAFETY: every argument but the first is zero: where the call is allowed, it fails or changes nothing of ours.
            check(unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) })
        }
        ["exe-flags"] => {
            let path = CString::new("/proc/self/exe").map_err(io::Error::other)?;
            let readonly = rustix::fs::statvfs(&path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
            Ok(format!("read-only {readonly}"))
        }
        ["terminal"] => {
            let size = rustix::termios::tcgetwinsize(io::stdout())?;
            Ok(format!("{} {} {}", rustix::termios::isatty(io::stdin()), size.ws_row, size.ws_col))
        }
        ["stdin"] => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(format!("{text:?}"))
        }
        ["error", text] => writeln!(io::stderr(), "{text}").map(ok),
        ["sleep"] => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        ["sleep-on-signal", number] => {
            extern "C" fn leave(_: libc::c_int) {
                // SAFETY: ends the process, and is allowed in a handler.
                unsafe { libc::_exit(7) }
            }
            let number: i32 = number.parse().map_err(io::Error::other)?;
            // SAFETY: the handler ends the process, which at that point does nothing but sleep.
            unsafe { libc::signal(number, leave as *const () as libc::sighandler_t) };
            let _ = writeln!(io::stdout(), "ready");
            run(&["sleep"])
        }
        ["leave-behind"] => {
            // A child that outlives us, in a session of its own, holding nothing of ours.
            let exe = std::env::current_exe()?;
            std::process::Command::new("/proc/self/exe")
                .args(["probe", "sleep"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()?;
            Ok(exe.display().to_string())
        }
        ["children", count] => {
            let exe = || std::process::Command::new("/proc/self/exe").args(["probe", "sleep"]).spawn();
            let (mut children, mut end) = (Vec::new(), "ok".to_owned());
            for _ in 0..count.parse().map_err(io::Error::other)? {
                match exe() {
                    Ok(child) => children.push(child),
                    Err(e) => {
                        end = format!("errno {}", e.raw_os_error().unwrap_or(0));
                        break;
                    }
                }
            }
            let text = format!("{} and then {end}", children.len());
            for mut child in children {
                child.kill()?;
                child.wait()?;
            }
            Ok(text)
        }
        ["take-memory", mib] => {
            let mib: usize = mib.parse().map_err(io::Error::other)?;
            // Written to, or the kernel gives none.
            let taken = std::hint::black_box(vec![1u8; mib << 20]);
            Ok(taken.len().to_string())
        }
        ["exit", code] => std::process::exit(code.parse().unwrap_or(1)),
        ["abort"] => std::process::abort(),
        other => Err(io::Error::other(format!("unknown operation {other:?}"))),
    }
}
