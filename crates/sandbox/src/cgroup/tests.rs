use super::limits::{Controller, Version};
use super::*;

fn set(limits: &Limits, controller: Controller, version: Version) -> Vec<String> {
    limits
        .settings(controller, version)
        .into_iter()
        .map(|(file, value, _)| format!("{file}={value}"))
        .collect()
}

#[test]
fn limits_are_files_of_either_version() {
    use Controller::{Cpu, Cpuset, Memory, Pids};
    use Version::{One, Two};
    let mut l = Limits { memory: Some(100), ..Limits::default() };
    assert_eq!(l.controllers(), [Memory]);
    assert_eq!(set(&l, Memory, One), ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"]);
    assert_eq!(set(&l, Memory, Two), ["memory.max=100", "memory.swap.max=100"]);
    l.memory_swap = Some(u64::MAX);
    assert_eq!(set(&l, Memory, One)[1], "memory.memsw.limit_in_bytes=-1");
    assert_eq!(set(&l, Memory, Two)[1], "memory.swap.max=max");
    l.memory_swap = Some(100);
    assert_eq!(set(&l, Memory, Two)[1], "memory.swap.max=0");
    l = Limits { cpu_shares: Some(1024), cpu_quota: Some(50_000), ..Limits::default() };
    assert_eq!(set(&l, Cpu, One), ["cpu.shares=1024", "cpu.cfs_quota_us=50000"]);
    assert_eq!(set(&l, Cpu, Two), ["cpu.weight=39", "cpu.max=50000 100000"]);
    l = Limits { cpu_period: Some(5000), cpuset_cpus: Some("0".into()), pids: Some(7), ..Limits::default() };
    assert_eq!(set(&l, Cpu, Two), ["cpu.max=max 5000"]);
    assert_eq!(set(&l, Cpuset, One), ["cpuset.cpus=0"]);
    assert_eq!(set(&l, Pids, Two), ["pids.max=7"]);
    assert_eq!(l.controllers(), [Cpu, Cpuset, Pids]);
    assert!(Limits { parent: Some("x".into()), ..Limits::default() }.is_empty());
    assert!(Limits { memory_swap: Some(1), ..Limits::default() }.is_empty(), "means nothing without memory");
}

/// A directory that looks like the unified hierarchy: `own` has processes, so only the group above it can have limited ones.
fn unified(own: &str, delegated: &str) -> (tempfile::TempDir, Hierarchy) {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join(own);
    std::fs::create_dir_all(&own).unwrap();
    let above = own.parent().unwrap().join("cgroup.subtree_control");
    std::fs::write(above, delegated).unwrap();
    let h = Hierarchy::at(dir.path().to_owned(), own);
    (dir, h)
}

#[test]
fn the_unified_hierarchy_is_used_where_it_was_delegated() {
    let (dir, h) = unified("slice/scope", "memory pids\n");
    let limits = Limits { memory: Some(1 << 20), pids: Some(5), cpu_quota: Some(1), ..Limits::default() };
    // The scope itself has processes. The kernel would turn on pids there all the same, and then no process could join a group below.
    for (file, text) in [("cgroup.type", "domain\n"), ("cgroup.procs", "1\n"), ("cgroup.subtree_control", "")]
    {
        std::fs::write(dir.path().join("slice/scope").join(file), text).unwrap();
    }
    let (mut groups, mut unset) = (Groups::default(), Vec::new());
    groups.in_unified(&h, &limits, limits.controllers(), &mut unset);
    let path = groups.dirs[0].path.clone();
    assert_eq!(path.parent().unwrap(), dir.path().join("slice"));
    let written = std::fs::read_to_string(dir.path().join("slice/scope/cgroup.subtree_control")).unwrap();
    assert_eq!(written, "", "it is left as it is");
    // The files of a real group are there when it is made; ours are not, which is told of each.
    let told: Vec<&str> = unset.iter().map(|u| u.limit).collect();
    assert_eq!(told, ["memory", "CPU time", "processes"]);
    assert!(
        unset[0].why.contains("memory.max") && unset[1].why.contains("cpu is not delegated"),
        "{unset:?}"
    );
    // With a lock on it, nobody sweeps it.
    sweep_in(&dir.path().join("slice"));
    assert!(path.is_dir());
    drop(groups);
    assert!(!path.exists());
}

#[test]
fn a_group_takes_limited_groups_without_processes_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    assert!(takes_groups(dir.path()), "the root has no type");
    let (kind, processes) = (dir.path().join("cgroup.type"), dir.path().join("cgroup.procs"));
    for (text, all, takes) in [
        ("domain\n", "", true),
        ("domain\n", "17\n", false),
        ("domain threaded\n", "", false),
        ("domain invalid\n", "", false),
        ("threaded\n", "", false),
    ] {
        std::fs::write(&kind, text).unwrap();
        std::fs::write(&processes, all).unwrap();
        assert_eq!(takes_groups(dir.path()), takes, "{text:?} with {all:?}");
    }
}

#[test]
fn without_any_delegation_every_limit_is_told() {
    let (_dir, h) = unified("slice/scope", "");
    let limits = Limits { memory: Some(1 << 20), pids: Some(5), ..Limits::default() };
    std::fs::remove_file(h.mount.join("slice/cgroup.subtree_control")).unwrap();
    for dir in ["slice/scope", "slice", ""] {
        std::fs::create_dir(h.mount.join(dir).join("cgroup.subtree_control")).unwrap();
    }
    let (mut groups, mut unset) = (Groups::default(), Vec::new());
    groups.in_unified(&h, &limits, limits.controllers(), &mut unset);
    assert!(groups.dirs.is_empty());
    assert_eq!(unset.len(), 2);
    assert!(unset[0].why.contains("delegated"), "{unset:?}");
}

#[test]
fn groups_of_dead_processes_are_swept_and_parents_go_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("layercake-1-0");
    std::fs::create_dir(&dead).unwrap();
    std::fs::create_dir(dir.path().join("other-1-0")).unwrap();
    let h = Hierarchy::at(dir.path().to_owned(), dir.path().to_owned());
    let limits = Limits { pids: Some(5), ..Limits::default() };
    let (mut groups, mut unset) = (Groups::default(), Vec::new());
    groups.in_v1(&h, &limits, &[Controller::Pids], &mut unset);
    assert!(!dead.exists() && dir.path().join("other-1-0").exists());
    let below = Limits { parent: Some("/a/b".into()), ..limits };
    groups.in_v1(&h, &below, &[Controller::Pids], &mut unset);
    assert_eq!(groups.paths()[1].parent().unwrap(), dir.path().join("a/b"));
    drop(groups);
    assert!(!dir.path().join("a").exists());
}
