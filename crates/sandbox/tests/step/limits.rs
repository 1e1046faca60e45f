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

/// Where groups with a controller are made here.
struct Place {
    /// The hierarchy.
    mount: PathBuf,
    /// Our own group.
    own: PathBuf,
    /// Its line in /proc/PID/cgroup begins with the number and this.
    names: String,
    unified: bool,
}

impl Place {
    /// The hierarchy of a controller, of whatever version.
    fn find(controller: &str) -> Result<Place, String> {
        let top = Path::new("/sys/fs/cgroup");
        let place = |mount: PathBuf, names: &str| {
            let own = group_at(&mount, Path::new("/proc/self"), names)?;
            Some(Place { mount, own, names: names.to_owned(), unified: names.is_empty() })
        };
        if let Some(v1) = place(top.join(controller), controller) {
            return Ok(v1);
        }
        let has = |mount: &PathBuf| {
            let all = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            all.split_whitespace().any(|c| c == controller)
        };
        let mount = [top.to_owned(), top.join("unified")].into_iter().find(has);
        let place = mount.and_then(|mount| place(mount, ""));
        place.ok_or(format!("there are no control groups of {controller}"))
    }

    /// Where a group can be made by hand: of the unified hierarchy above all that has processes.
    fn base(&self) -> &Path {
        if self.unified { &self.mount } else { &self.own }
    }

    /// The group that a process is in.
    fn group_of(&self, process: &Path) -> PathBuf {
        group_at(&self.mount, process, &self.names).expect("every process is in some group")
    }
}

fn group_at(mount: &Path, process: &Path, names: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
    let path = groups.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(names)?.strip_prefix(":/"))?;
    Some(mount.join(path))
}

/// Where groups with a controller can be made; nowhere, with the reason said, where this machine does not let us.
fn place(controller: &str) -> Option<Place> {
    let tried = Place::find(controller).and_then(|place| {
        let trial = place.base().join(format!("trial-{}", std::process::id()));
        std::fs::create_dir(&trial).map_err(|e| format!("cannot make {}: {e}", trial.display()))?;
        std::fs::remove_dir(&trial).expect("nobody is in it");
        Ok(place)
    });
    match tried {
        Ok(place) => Some(place),
        Err(why) => {
            let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("skipped: {why}\n").as_bytes());
            None
        }
    }
}

fn a_step_over_its_pids_limit_cannot_fork() {
    let Some(_) = place("pids") else { return };
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
    let Some(_) = place("memory") else { return };
    let limits = || Limits { memory: Some(64 << 20), memory_swap: Some(64 << 20), ..Limits::default() };
    let ran = Builder::new().step(&["take-memory", "200"]).change(|s| s.limits = limits()).run();
    assert_eq!(ran.outcome.exit, Exit::Signal(libc::SIGKILL));
    assert!(ran.outcome.hits.memory && !ran.outcome.hits.pids);
    let ran = Builder::new().step(&["take-memory", "10"]).change(|s| s.limits = limits()).run();
    assert_eq!((ran.outcome.exit, ran.outcome.hits.memory), (Exit::Code(0), false));
}

fn a_group_is_there_while_the_step_runs() {
    let Some(cpu) = place("cpu") else { return };
    let cpuset = place("cpuset");
    let mark = format!("mark-{}-limits", std::process::id());
    let limits = Limits {
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpu_shares: Some(512),
        cpuset_cpus: cpuset.as_ref().map(|_| "0".into()),
        ..Limits::default()
    };
    let case = Builder::new().step(&["pid", ":", "read", &mark, ":", "sleep"]);
    let (mut running, _scratch) = case.change(|s| s.limits = limits).spawn();
    assert_eq!(running.unset, []);
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let process = processes(&mark).pop().expect("it runs");
    let group = cpu.group_of(&process);
    let parent = group.parent().expect("it is not the root");
    if cpu.unified {
        assert!(cpu.own.starts_with(parent), "{} is not above us", parent.display());
    } else {
        assert_eq!(parent, cpu.own);
    }
    let read =
        |group: &Path, file: &str| std::fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    let files: &[(&str, &str)] = match cpu.unified {
        true => &[("cpu.max", "50000 100000"), ("cpu.weight", "20")],
        false => &[("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "100000"), ("cpu.shares", "512")],
    };
    for (file, value) in files {
        assert_eq!(read(&group, file), *value, "{file}");
    }
    if let Some(cpuset) = cpuset {
        assert_eq!(read(&cpuset.group_of(&process), "cpuset.cpus"), "0");
    }
    drop(running);
    assert!(!group.exists(), "it goes with the step");
}

fn groups_of_killed_processes_are_swept() {
    let Some(pids) = place("pids") else { return };
    // As one that was killed together with its supervisor leaves it.
    let left = pids.base().join(format!("layercake-{}-left", std::process::id()));
    std::fs::create_dir(&left).unwrap();
    sandbox::sweep_groups();
    assert!(!left.exists());
    // One that is in use stays.
    let mark = format!("mark-{}-swept", std::process::id());
    let case = Builder::new().step(&["pid", ":", "read", &mark, ":", "sleep"]);
    let limits = Limits { pids: Some(100), ..Limits::default() };
    let (mut running, _scratch) = case.change(|s| s.limits = limits).spawn();
    wait_for_line(running.stdout.take().expect("a pipe"), "1");
    let group = pids.group_of(&processes(&mark).pop().expect("it runs"));
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
    let pids = place("pids")?;
    let found = processes(mark).into_iter().map(|p| pids.group_of(&p));
    let ours = |g: &PathBuf| g.file_name().is_some_and(|n| n.to_string_lossy().starts_with("layercake-"));
    Some(found.into_iter().find(ours).expect("one of them is in a group of ours"))
}
