use std::sync::Arc;

use oci::Tree;
use oci::content::MemoryContent;
use oci::tree::ROOT as TREE_ROOT;

use super::*;

fn step() -> Step {
    Step {
        tree: Arc::new(Tree::new()),
        content: Arc::new(MemoryContent::default()),
        files: Files::Fuse,
        scratch: "/scratch".into(),
        argv: vec!["sh".into(), "-c".into(), "true".into()],
        env: vec![("A".into(), "b=c".into())],
        cwd: b"/w\xff".to_vec(),
        user: User { uid: 1, gid: 2, groups: vec![3] },
        hostname: "host".into(),
        etc_hosts: b"hosts".to_vec(),
        resolv_conf: b"dns".to_vec(),
        network: Network::None,
        security: Security::Sandbox,
        mounts: Vec::new(),
        shm_size: 65536,
        rlimits: Vec::new(),
        limits: crate::Limits::default(),
        stdio: Stdio::Pipes,
    }
}

fn plan(change: impl FnOnce(&mut Step)) -> Planned {
    let mut step = step();
    change(&mut step);
    make(&step, u64::MAX).unwrap()
}

fn fs(fstype: &str, target: &str, flags: &[Flag], data: &str) -> Op {
    Op::Mount { fstype: fstype.into(), target: target.into(), flags: flags.to_vec(), data: data.into() }
}

fn memory_file(name: &str, target: &str, bytes: &str, mode: u32) -> [Op; 2] {
    [
        Op::File { name: name.into(), bytes: bytes.into(), mode, uid: 0, gid: 0 },
        Op::BindStaged { from: name.into(), target: target.into(), readonly: true, file: true },
    ]
}

fn overlay(lower: &str, upper: &str, work: &str, at: &str, nodev: bool) -> Op {
    Op::Overlay { lowers: vec![lower.into()], upper: upper.into(), work: work.into(), at: at.into(), nodev }
}

/// What every sandboxed step gets before its own mounts.
fn common() -> Vec<Op> {
    use Flag::{NoDev, NoExec, NoSuid, ReadOnly, StrictAtime};
    let device = |name: &str, major, minor| Op::Device { name: name.into(), major, minor };
    let link = |at: &str, to: &str| Op::Symlink { target: at.into(), text: to.into() };
    let mut ops = vec![
        overlay("v0", "upper", "work", "root", true),
        fs("proc", "/proc", &[NoSuid, NoDev, NoExec], ""),
        fs("tmpfs", "/dev", &[NoSuid, NoDev, StrictAtime], "mode=755,size=65536k"),
        device("null", 1, 3),
        device("zero", 1, 5),
        device("full", 1, 7),
        device("random", 1, 8),
        device("urandom", 1, 9),
        device("tty", 5, 0),
        link("/dev/fd", "/proc/self/fd"),
        link("/dev/stdin", "/proc/self/fd/0"),
        link("/dev/stdout", "/proc/self/fd/1"),
        link("/dev/stderr", "/proc/self/fd/2"),
        link("/dev/ptmx", "pts/ptmx"),
        link("/dev/core", "/proc/kcore"),
        fs("devpts", "/dev/pts", &[NoSuid, NoExec], "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        fs("tmpfs", "/dev/shm", &[NoSuid, NoDev, NoExec], "mode=1777,size=65536"),
        fs("mqueue", "/dev/mqueue", &[NoSuid, NoDev, NoExec], ""),
        fs("sysfs", "/sys", &[NoSuid, NoDev, NoExec, ReadOnly], ""),
        Op::Cgroup { readonly: true },
    ];
    ops.extend(memory_file("f0", "/etc/resolv.conf", "dns", 0o644));
    ops.extend(memory_file("f1", "/etc/hosts", "hosts", 0o644));
    ops
}

/// What comes after them.
fn guards() -> Vec<Op> {
    let readonly = READONLY.map(|p| Op::ReadOnly { target: p.into() });
    readonly.into_iter().chain(MASKED.map(|p| Op::Mask { target: p.into() })).collect()
}

#[test]
fn the_plan_of_a_plain_step() {
    let planned = plan(|_| {});
    let expected = Plan {
        groups: Vec::new(),
        pasta: false,
        scratch: b"/scratch".to_vec(),
        own_network: true,
        hostname: "host".into(),
        views: vec!["v0".into()],
        links: Vec::new(),
        ops: [common(), guards()].concat(),
        rlimits: Vec::new(),
        stdio: Streams::Pipes,
        cwd: b"/w\xff".to_vec(),
        user: User { uid: 1, gid: 2, groups: vec![3] },
        capabilities: Some(caps::DEFAULT),
        seccomp: seccomp::default_filter(caps::DEFAULT, false),
        argv: vec!["sh".into(), "-c".into(), "true".into()],
        env: vec![("A".into(), "b=c".into())],
    };
    assert_eq!(planned.plan, expected);
    assert_eq!(
        (planned.uppers, planned.sockets.len(), planned.views.len()),
        (vec![("upper".into(), 0)], 0, 1)
    );
    assert_eq!(planned.stubs.len(), 6, "proc, dev, sys, etc and two files in it");
    let json = serde_json::to_string(&planned.plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), planned.plan);
}

#[test]
fn an_insecure_step_keeps_what_we_have() {
    let plan = plan(|s| {
        s.security = Security::Insecure;
        s.network = Network::Host;
    })
    .plan;
    assert_eq!((plan.capabilities, &plan.seccomp, plan.own_network), (None, &None, false));
    assert_eq!(plan.ops[0], overlay("v0", "upper", "work", "root", false));
    assert!(!plan.ops.iter().any(|op| matches!(op, Op::Mask { .. } | Op::ReadOnly { .. })));
    assert!(plan.ops.contains(&Op::Cgroup { readonly: false }));
    assert!(plan.ops.contains(&fs(
        "tmpfs",
        "/dev",
        &[Flag::NoSuid, Flag::StrictAtime],
        "mode=755,size=65536k"
    )));
}

#[test]
fn capabilities_that_we_lack_are_not_given() {
    let without_net_raw = caps::DEFAULT & !(1 << 13);
    let planned = make(&step(), without_net_raw | 1 << 40).unwrap();
    assert_eq!(planned.plan.capabilities, Some(without_net_raw));
}

#[test]
fn mounts_come_in_the_order_of_their_targets_and_views_in_the_order_given() {
    let view = |writable| MountSource::View {
        tree: Arc::new(Tree::new()),
        content: Arc::new(MemoryContent::default()),
        subpath: TREE_ROOT,
        writable,
    };
    let socket = MountSource::Socket { path: "/agent".into(), mode: 0o600, uid: 0, gid: 0 };
    let mount = |target: &str, source| Mount { target: target.into(), source };
    let planned = plan(|s| {
        s.mounts = vec![
            mount("/b/in", view(false)),
            mount("/b", view(true)),
            mount("/a-dash", MountSource::Tmpfs { size: Some(4096), mode: Some(0o1777) }),
            mount("/a/deep", MountSource::File { bytes: b"x".to_vec(), mode: 0o400, uid: 0, gid: 0 }),
            mount("/a", MountSource::Dir { path: "/cache".into(), readonly: true }),
            mount("/z", socket),
        ];
    });
    let host = |from: &str, target: &str, readonly, file| Op::BindHost {
        from: from.into(),
        target: target.into(),
        readonly,
        nodev: true,
        file,
    };
    let staged = |from: &str, target: &str, readonly| Op::BindStaged {
        from: from.into(),
        target: target.into(),
        readonly,
        file: false,
    };
    let mut expected = vec![host("/cache", "/a", true, false)];
    expected.extend(memory_file("f2", "/a/deep", "x", 0o400));
    expected.extend([
        fs("tmpfs", "/a-dash", &[Flag::NoSuid, Flag::NoDev], "mode=1777,size=4096"),
        overlay("v2", "u2", "w2", "o2", true),
        staged("o2", "/b", false),
        staged("v1", "/b/in", true),
        host("s5", "/z", false, true),
    ]);
    assert_eq!(planned.plan.ops, [common(), expected, guards()].concat());
    assert_eq!(planned.plan.views, ["v0", "v1", "v2"]);
    assert_eq!(planned.uppers, [("upper".into(), 0), ("u2".into(), 2)]);
    assert_eq!(planned.sockets, [("s5".into(), 5)]);
    // The target inside the writable view is shown by that view, not by the root.
    assert!(planned.views[2].child(TREE_ROOT, b"in").is_some());
    assert!(planned.stubs.contains(&b"b".to_vec()) && !planned.stubs.contains(&b"b/in".to_vec()));
}
