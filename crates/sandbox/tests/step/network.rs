//! A network of a step's own that leads outside. The host is one of our making: a network namespace with an interface that has two addresses
//! and a route, and things that listen.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use sandbox::Network;

use crate::Case;
use crate::death::{assert_gone, processes, wait_for_line};
use crate::kit::{self, Builder, errno};

pub(crate) const CASES: &[Case] = &[
    ("pasta_leads_outside_and_not_to_the_hosts_loopback", || in_a_host("reach")),
    ("pasta_ends_with_the_step", || in_a_host("end")),
    ("pasta_that_is_missing_is_named", || in_a_host("missing")),
];

/// The address that pasta gives to the step as well, and another one.
const SHARED: &str = "10.9.0.1";
const OTHER: &str = "10.9.1.1";

/// Runs one of these tests in a process of its own, in a network namespace.
fn in_a_host(test: &str) {
    let missing =
        ["/usr/bin/pasta", "/usr/sbin/ip", "/dev/net/tun"].into_iter().find(|p| !Path::new(p).exists());
    if let Some(missing) = missing {
        return skip(&format!("there is no {missing} (packages passt and iproute2)"));
    }
    let out = Command::new("/proc/self/exe").args(["network", test, &kit::way().to_string()]).output();
    let out = out.expect("this program starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}: {text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    let _ = write!(std::io::stdout(), "{text}");
}

fn skip(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

/// The process that is the host: `TEST WAY`.
pub(crate) fn main(args: &[String]) {
    kit::use_way(args[1].parse().expect("a number"));
    #[allow(unsafe_code)]
    // SAFETY: CLONE_FILES, the one flag that could pull descriptors away from under others, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }.expect("root may");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("root may");
    let ip =
        |words: &str| Command::new("/usr/sbin/ip").args(words.split(' ')).status().is_ok_and(|s| s.success());
    let made = [
        "link set lo up",
        "link add outer type veth peer name inner",
        "link set inner up",
        "link set outer up",
    ]
    .into_iter()
    .all(ip)
        && ip(&format!("addr add {SHARED}/24 dev outer"))
        && ip(&format!("addr add {OTHER}/32 dev outer"))
        && ip("route add default via 10.9.0.254 dev outer");
    if !made {
        return skip("this kernel makes no pair of interfaces");
    }
    match args[0].as_str() {
        "reach" => reach(),
        "end" => end(),
        _ => missing(),
    }
}

/// Answers everybody on a port, with some text.
fn serve(address: &str) -> String {
    let listener = TcpListener::bind((address, 0)).expect("the address is ours");
    let port = listener.local_addr().expect("it listens").port();
    let text = format!("this is {address}");
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|mut c| drop(c.write_all(text.as_bytes())))
    });
    port.to_string()
}

fn reach() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    // A resolver that only the host reaches, as systemd-resolved is one.
    std::fs::write(&file, "search example.org\nnameserver 127.0.0.1\n").unwrap();
    rustix::mount::mount_bind(&file, "/etc/resolv.conf").expect("root may");
    let resolver = UdpSocket::bind(("127.0.0.1", 53)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0u8; 512];
        while let Ok((_, from)) = resolver.recv_from(&mut question) {
            let _ = resolver.send_to(b"an answer", from);
        }
    });
    let (loopback, other) = (serve("127.0.0.1"), serve(OTHER));
    let name = format!("layercake-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let ops = [
        "tcp",
        "127.0.0.1",
        &loopback,
        ":",
        "tcp",
        "10.9.0.254",
        &loopback,
        ":",
        "tcp",
        OTHER,
        &other,
        ":",
        "abstract",
        &name,
        ":",
        "ask-resolver",
        ":",
        "read",
        "/etc/resolv.conf",
    ];
    let ran = |network| {
        let step = Builder::new().step(&ops).change(|s| {
            s.network = network;
            s.resolv_conf = std::fs::read("/etc/resolv.conf").unwrap();
        });
        let ran = step.run();
        assert_eq!(ran.outcome.exit, sandbox::Exit::Code(0), "{}", ran.err);
        ran.out
    };
    let refused = errno(libc::ECONNREFUSED);
    let host = ran(Network::Host);
    assert_eq!((&*host[0], &*host[2], &*host[3]), ("this is 127.0.0.1", "this is 10.9.1.1", "ok"));
    let pasta = ran(Network::Pasta);
    // The loopback is the step's own; and the way out does not stand for the host's.
    assert_eq!((&pasta[0], &pasta[3]), (&refused, &refused));
    assert_ne!(pasta[1], "this is 127.0.0.1");
    assert_eq!(pasta[2], "this is 10.9.1.1", "other addresses are reached as from the host");
    assert_eq!(pasta[4], "an answer");
    assert_eq!(pasta[5], "nameserver 169.254.1.1|search example.org");
    let none = ran(Network::None);
    assert_ne!(none[2], "this is 10.9.1.1");
    assert_eq!((&none[0], &none[3]), (&refused, &refused));
}

/// Starts a step with pasta; gives it with the process of pasta.
fn start(mark: &str) -> (sandbox::Running, tempfile::TempDir, PathBuf) {
    let case = Builder::new().step(&["pid", ":", "read", mark, ":", "sleep"]);
    let (mut running, scratch) = case.change(|s| s.network = Network::Pasta).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let parent = |p: &Path| {
        let status = std::fs::read_to_string(p.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap_or_default();
        PathBuf::from(format!("/proc/{}", line.trim()))
    };
    // Those of other tests have other parents.
    let supervisor = parent(&processes(mark).into_iter().find(|p| !is_self(p)).expect("the step"));
    let pasta = processes("--netns").into_iter().find(|p| parent(p) == supervisor).expect("pasta runs");
    (running, scratch, pasta)
}

fn is_self(process: &Path) -> bool {
    process.ends_with(std::process::id().to_string())
}

fn end() {
    let mark = format!("mark-{}-pasta", std::process::id());
    let (running, _scratch, pasta) = start(&mark);
    drop(running);
    wait_until_gone(&pasta);
    // Killed with the process that watches over it.
    let (running, _scratch, pasta) = start(&mark);
    let mut status = String::new();
    std::fs::File::open(pasta.join("status")).unwrap().read_to_string(&mut status).unwrap();
    let supervisor: i32 =
        status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, Signal::KILL).unwrap();
    wait_until_gone(&pasta);
    drop(running);
    assert_gone(&mark);
}

fn wait_until_gone(process: &Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let zombie = |p: &Path| std::fs::read_to_string(p.join("status")).is_ok_and(|s| s.contains("State:\tZ"));
    while process.exists() && !zombie(process) {
        assert!(std::time::Instant::now() < deadline, "still there: {}", process.display());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn missing() {
    let run = || Builder::new().step(&["pid"]).change(|s| s.network = Network::Pasta).try_run().map(drop);
    // An outside that is none.
    Command::new("/usr/sbin/ip").args(["route", "del", "default"]).status().unwrap();
    let error = run().expect_err("there is no way out");
    assert!(error.to_string().contains("with pasta (") && error.hint().is_some(), "{error}");
    // No program.
    for dir in ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"] {
        let _ = rustix::mount::mount("layercake", dir, "tmpfs", MountFlags::empty(), c"");
    }
    let error = run().expect_err("there is no pasta");
    assert!(
        error.to_string().contains("pasta") && error.hint().is_some_and(|h| h.contains("passt")),
        "{error}"
    );
}
