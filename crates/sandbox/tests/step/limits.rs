//! What a step may use: control groups. Where this machine has none for us (in a user namespace), that is said, and the step runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox::{Exit, Limits};

use crate::Case;
use crate::death::{processes, wait_for_line};
use crate::kit::{Builder, errno};

pub(crate) const CASES: &[Case] = &[
    ("a_step_over_its_pids_limit_cannot_fork", a_step_over_its_pids_limit_cannot_fork),
    ("a_step_over_its_memory_is_killed", a_step_over_its_memory_is_killed),
    ("a_group_is_there_while_the_step_runs", a_group_is_there_while_the_step_runs),
    ("groups_of_killed_processes_are_swept", groups_of_killed_processes_are_swept),
    ("limits_that_cannot_be_set_are_told", limits_that_cannot_be_set_are_told),
];

/// Our group in the hierarchy of a controller, of whatever version; none, with the reason said, where it cannot have groups.
fn own_group(controller: &str) -> Option<PathBuf> {
    let skip = |why: &str| {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("skipped: {why}\n").as_bytes());
        None
    };
    let groups = std::fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let path = |names: &str| {
        groups.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(names)?.strip_prefix(":/"))
    };
    let v1 = Path::new("/sys/fs/cgroup").join(controller);
    let Some(group) = path(controller).map(|p| v1.join(p)) else {
        return skip(&format!("there are no v1 control groups of {controller}"));
    };
    let trial = group.join(format!("trial-{}", std::process::id()));
    if let Err(e) = std::fs::create_dir(&trial) {
        return skip(&format!("cannot make {}: {e}", trial.display()));
    }
    std::fs::remove_dir(&trial).expect("nobody is in it");
    Some(group)
}

/// The group of that hierarchy which a process is in.
fn group_of(process: &Path, controller: &str) -> PathBuf {
    let groups = std::fs::read_to_string(process.join("cgroup")).expect("it runs");
    let line = groups.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(controller)?.strip_prefix(":/"));
    Path::new("/sys/fs/cgroup").join(controller).join(line.expect("every process is in some group"))
}

fn a_step_over_its_pids_limit_cannot_fork() {
    let Some(_) = own_group("pids") else { return };
    let limits = Limits { pids: Some(4), ..Limits::default() };
    let ran = Builder::new().step(&["children", "10"]).change(|s| s.limits = limits).run();
    // The first process is one of the four.
    assert_eq!(ran.out, [format!("3 and then {}", errno(libc::EAGAIN))]);
    assert!(ran.outcome.hits.pids && !ran.outcome.hits.memory);
    let free = Builder::new().step(&["children", "10"]).run();
    assert_eq!(free.out, ["10 and then ok"]);
    assert!(!free.outcome.hits.pids);
}

fn a_step_over_its_memory_is_killed() {
    let Some(_) = own_group("memory") else { return };
    let limits = || Limits { memory: Some(64 << 20), memory_swap: Some(64 << 20), ..Limits::default() };
    let ran = Builder::new().step(&["take-memory", "200"]).change(|s| s.limits = limits()).run();
    assert_eq!(ran.outcome.exit, Exit::Signal(libc::SIGKILL));
    assert!(ran.outcome.hits.memory && !ran.outcome.hits.pids);
    let ran = Builder::new().step(&["take-memory", "10"]).change(|s| s.limits = limits()).run();
    assert_eq!((ran.outcome.exit, ran.outcome.hits.memory), (Exit::Code(0), false));
}

fn a_group_is_there_while_the_step_runs() {
    let Some(cpu) = own_group("cpu") else { return };
    let mark = format!("mark-{}-limits", std::process::id());
    let limits = Limits {
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpu_shares: Some(512),
        cpuset_cpus: own_group("cpuset").map(|_| "0".into()),
        ..Limits::default()
    };
    let case = Builder::new().step(&["pid", ":", "read", &mark, ":", "sleep"]);
    let (mut running, _scratch) = case.change(|s| s.limits = limits).spawn();
    assert_eq!(running.unset, []);
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let process = processes(&mark).pop().expect("it runs");
    let group = group_of(&process, "cpu");
    assert_eq!(group.parent(), Some(&*cpu));
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!(
        (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"), read("cpu.shares")),
        ("50000".into(), "100000".into(), "512".into())
    );
    if own_group("cpuset").is_some() {
        let cpus = std::fs::read_to_string(group_of(&process, "cpuset").join("cpuset.cpus")).unwrap();
        assert_eq!(cpus.trim(), "0");
    }
    drop(running);
    assert!(!group.exists(), "it goes with the step");
}

fn groups_of_killed_processes_are_swept() {
    let Some(pids) = own_group("pids") else { return };
    // As one that was killed together with its supervisor leaves it.
    let left = pids.join(format!("layercake-{}-left", std::process::id()));
    std::fs::create_dir(&left).unwrap();
    sandbox::sweep_groups();
    assert!(!left.exists());
    // One that is in use stays.
    let mark = format!("mark-{}-swept", std::process::id());
    let case = Builder::new().step(&["pid", ":", "read", &mark, ":", "sleep"]);
    let limits = Limits { pids: Some(100), ..Limits::default() };
    let (mut running, _scratch) = case.change(|s| s.limits = limits).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let group = group_of(&processes(&mark).pop().expect("it runs"), "pids");
    sandbox::sweep_groups();
    assert!(group.exists());
    drop(running);
    assert!(!group.exists());
}

fn limits_that_cannot_be_set_are_told() {
    let limits = Limits { cpuset_cpus: Some("99999".into()), ..Limits::default() };
    let (running, _scratch) = Builder::new().step(&["pid"]).change(|s| s.limits = limits).spawn();
    assert_eq!(running.unset.len(), 1, "{:?}", running.unset);
    assert_eq!(running.unset[0].limit, "CPUs");
    assert_eq!(running.wait().unwrap().exit, Exit::Code(0), "the step runs all the same");
}

/// Waits until a group is gone.
pub(crate) fn assert_group_gone(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while group.exists() {
        assert!(Instant::now() < deadline, "still there: {}", group.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The group that the step of a killed parent is in, if there can be one.
pub(crate) fn group_to_watch(mark: &str) -> Option<PathBuf> {
    own_group("pids")?;
    let found = processes(mark).into_iter().map(|p| group_of(&p, "pids"));
    let ours = |g: &PathBuf| g.file_name().is_some_and(|n| n.to_string_lossy().starts_with("layercake-"));
    Some(found.into_iter().find(ours).expect("one of them is in a group of ours"))
}
