//! Ends before the end: signals, dropped steps, a parent that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox::Exit;

use crate::Case;
use crate::kit::Builder;
use crate::limits;

pub(crate) const CASES: &[Case] = &[
    ("a_step_can_be_killed_from_another_thread", a_step_can_be_killed_from_another_thread),
    ("signals_reach_the_first_process", signals_reach_the_first_process),
    ("a_dropped_step_is_gone", a_dropped_step_is_gone),
    ("nothing_survives_a_killed_parent", nothing_survives_a_killed_parent),
];

/// Files of /proc of other processes, as (process, file) -> content.
fn others(file: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let other = |name: &str| name.parse().is_ok_and(|pid: u32| pid != std::process::id());
    let processes = entries.filter(|e| e.file_name().to_str().is_some_and(other)).map(|e| e.path());
    processes.map(|p| (p.clone(), std::fs::read(p.join(file)).unwrap_or_default())).collect()
}

fn contains(text: &[u8], mark: &str) -> bool {
    text.windows(mark.len()).any(|w| w == mark.as_bytes())
}

/// Processes of steps that have `mark` in their arguments.
pub(crate) fn processes(mark: &str) -> Vec<PathBuf> {
    others("cmdline").into_iter().filter(|(_, text)| contains(text, mark)).map(|(p, _)| p).collect()
}

/// The same, and processes that have a mount with it.
fn remains(mark: &str) -> Vec<PathBuf> {
    let mounts = others("mountinfo").into_iter().filter(|(_, text)| contains(text, mark)).map(|(p, _)| p);
    processes(mark).into_iter().chain(mounts).collect()
}

/// Nothing of the step is left, at the latest after a moment in which the kernel takes things down.
pub(crate) fn assert_gone(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !remains(mark).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", remains(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn mark(n: u32) -> String {
    format!("mark-{}-{n}", std::process::id())
}

pub(crate) fn wait_for_line(from: impl Read, line: &str) {
    assert!(BufReader::new(from).lines().any(|l| l.expect("text") == line), "the line {line:?} comes");
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
    // Many processes, so that killing them takes a moment.
    let (running, scratch) = Builder::new().step(&["in-parallel", "30", "read", &mark, ":", "sleep"]).spawn();
    let deadline = Instant::now() + Duration::from_secs(20);
    let processes = loop {
        let found = processes(&mark);
        if found.len() == 31 {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    };
    drop(running);
    let alive: Vec<&PathBuf> = processes.iter().filter(|p| p.exists()).collect();
    assert!(alive.is_empty(), "processes are gone when drop returns: {alive:?}");
    let place = scratch.path().to_str().unwrap().to_owned();
    assert_gone(&place);
    scratch.close().expect("nothing holds the scratch directory");
}

/// The role of a parent that starts a step and waits to be killed.
pub(crate) fn parent(args: &[String]) {
    // What is left behind is another program by the time that the line comes.
    let ops = ["leave-behind", ":", "pid", ":", "read", &args[0], ":", "sleep"];
    let limits = sandbox::Limits { pids: Some(100), ..sandbox::Limits::default() };
    let (mut running, scratch) = Builder::new().step(&ops).change(|s| s.limits = limits).spawn();
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
    assert_eq!(processes(&mark).len(), 2, "the parent and the probe");
    let group = limits::group_to_watch(&mark);
    drop(parent);
    assert_gone(&mark);
    if let Some(group) = group {
        limits::assert_group_gone(&group);
    }
    assert_gone(place);
    std::fs::remove_dir_all(place).expect("nothing holds the scratch directory");
}
