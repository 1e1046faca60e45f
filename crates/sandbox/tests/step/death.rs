//! Ends before the end: signals, dropped steps, a parent that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::Exit;

use crate::Case;
use crate::kit::Builder;

pub(crate) const CASES: &[Case] = &[
    ("a_step_can_be_killed_from_another_thread", a_step_can_be_killed_from_another_thread),
    ("signals_reach_the_first_process", signals_reach_the_first_process),
    ("a_dropped_step_is_gone", a_dropped_step_is_gone),
    ("nothing_survives_a_killed_parent", nothing_survives_a_killed_parent),
];

/// Processes of steps that have `mark` in their arguments, and processes that have a mount with it.
fn remains(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let path = entry.path();
        let read = |file: &str| std::fs::read(path.join(file)).unwrap_or_default();
        let contains = |text: &[u8]| text.windows(mark.len()).any(|w| w == mark.as_bytes());
        let pid: Option<u32> = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if pid.is_some_and(|p| p != std::process::id())
            && (contains(&read("cmdline")) || contains(&read("mountinfo")))
        {
            found.push(format!("{path:?} {}", String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
        }
    }
    found
}

/// Nothing of the step is left, at the latest after a moment in which the kernel takes things down.
fn assert_gone(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !remains(mark).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", remains(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn mark(n: u32) -> String {
    format!("mark-{}-{n}", std::process::id())
}

fn wait_for_line(from: impl Read, line: &str) {
    let first = BufReader::new(from).lines().next().expect("a line").expect("text");
    assert_eq!(first, line);
}

fn a_step_can_be_killed_from_another_thread() {
    let mark = mark(1);
    let (mut running, _scratch) =
        Builder::new().step(&["pid", ":", "leave-behind", ":", "read", &mark, ":", "sleep"]).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    assert!(!remains(&mark).is_empty());
    let handle = running.handle();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        handle.kill();
        handle
    });
    let outcome = running.wait().unwrap();
    assert_eq!(outcome.exit, Exit::Signal(libc::SIGKILL));
    killer.join().unwrap().kill(); // of something that is gone: nothing happens
    assert_gone(&mark);
}

fn signals_reach_the_first_process() {
    let (mut running, _scratch) = Builder::new().step(&["sleep-on-signal", "15"]).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "ready");
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().unwrap().exit, Exit::Code(7));
}

fn a_dropped_step_is_gone() {
    let mark = mark(2);
    let (mut running, scratch) = Builder::new().step(&["pid", ":", "read", &mark, ":", "sleep"]).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    drop(running);
    let alive: Vec<String> = remains(&mark).into_iter().filter(|r| r.contains("probe")).collect();
    assert!(alive.is_empty(), "processes are gone when drop returns: {alive:?}");
    let place = scratch.path().to_str().unwrap().to_owned();
    assert_gone(&place);
    scratch.close().expect("nothing holds the scratch directory");
}

/// The role of a parent that starts a step and waits to be killed.
pub(crate) fn parent(args: &[String]) {
    let ops = ["pid", ":", "leave-behind", ":", "read", &args[0], ":", "sleep"];
    let (mut running, scratch) = Builder::new().step(&ops).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{}", scratch.path().display());
    let _ = out.flush();
    let _ = running.wait();
}

struct KilledOnDrop(std::process::Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it is ours");
    }
}

fn nothing_survives_a_killed_parent() {
    let mark = mark(3);
    let parent = std::process::Command::new("/proc/self/exe")
        .args(["parent", &mark])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut parent = KilledOnDrop(parent.unwrap());
    let mut place = String::new();
    BufReader::new(parent.0.stdout.take().unwrap()).read_line(&mut place).unwrap();
    let place = place.trim();
    assert!(Path::new(place).join("upper").is_dir());
    let running = remains(&mark);
    assert!(running.iter().any(|r| r.contains("/probe")), "{running:?}");
    drop(parent);
    assert_gone(&mark);
    assert_gone(place);
    std::fs::remove_dir_all(place).expect("nothing holds the scratch directory");
}
