//! What steps and containers may use, and a network of their own, through the command line.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::lab::{BASE, Build, Cached, Ran, mark, skip, wait_until};

/// Whether groups with a controller can be made here; if not, the reason is said.
fn has_groups(controller: &str) -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = |l: &str| Some(l.split_once(':')?.1.strip_prefix(controller)?.strip_prefix(":/")?.to_owned());
    let top = Path::new("/sys/fs/cgroup");
    let v1 = groups.lines().find_map(path).map(|p| top.join(controller).join(p));
    // In the unified hierarchy above all that has processes.
    let unified = [top.to_owned(), top.join("unified")].into_iter().find(|mount| {
        let all = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        all.split_whitespace().any(|c| c == controller)
    });
    let trial = |g: PathBuf| {
        let dir = g.join(format!("trial-{}-{}", std::process::id(), mark()));
        std::fs::create_dir(&dir).and_then(|()| std::fs::remove_dir(&dir)).is_ok()
    };
    let found = v1.or(unified).is_some_and(trial);
    if !found {
        eprintln!("skipped: no control groups of {controller} can be made here");
    }
    found
}

#[test]
fn a_step_that_wants_too_much_memory_is_told_so() {
    let Some(mut b) = Build::new() else { return };
    if !has_groups("memory") {
        return;
    }
    b.dockerfile(&format!("{BASE}RUN awk 'BEGIN {{ s = \"x\"; while (1) s = s s }}'\n"));
    b.flag("--memory=32m").flag("--memory-swap=32m");
    let out = b.run();
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("more memory than --memory gives it"), "{out}");
    b.dockerfile(BASE).run().ok();
    let words = ["run", "-m", "32m", "t", "awk", "BEGIN { s = \"x\"; while (1) s = s s }"];
    let out = b.layercake(&words);
    assert_eq!(out.code, 128 + 9, "{out}");
    assert!(out.stderr.contains("more memory than --memory gives it"), "{out}");
}

#[test]
fn a_step_that_wants_too_many_processes_is_told_so() {
    let Some(mut b) = Build::new() else { return };
    if !has_groups("pids") {
        return;
    }
    let seconds = mark();
    b.dockerfile(&format!("{BASE}RUN for n in 1 2 3 4 5 6 7 8; do sleep {seconds} & done; true\n"));
    b.flag("--pids-limit=4");
    let out = b.run();
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("--pids-limit allows"), "{out}");
    b.assert_clean(&seconds);
}

#[test]
fn groups_go_with_a_killed_build() {
    let Some(mut b) = Build::new() else { return };
    if !has_groups("pids") {
        return;
    }
    let seconds = mark();
    b.dockerfile(&format!("{BASE}RUN sleep {seconds}\n")).flag("--pids-limit=100").flag("--memory=1g");
    let build = b.start_build();
    wait_until("the step has its groups", || match b.groups().len() {
        0 => Err("none yet".into()),
        _ => Ok(()),
    });
    build.signal(Signal::KILL);
    build.finish();
    b.assert_nothing_runs(&seconds);
    wait_until("the groups are gone", || match b.groups() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn limits_are_no_part_of_the_cache_and_never_fail_a_build() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}RUN echo x > /x\nRUN echo y > /y\n"));
    assert_eq!(b.run().steps(), [Ran, Ran, Ran]);
    b.flag("--memory=64m").flag("--cpus=0.5").flag("--pids-limit=50").flag("--cpu-shares=512");
    assert_eq!(b.run().steps(), [Cached, Cached, Cached]);
    // A processor that is not there.
    b.flag("--cpuset-cpus=99999").flag("--no-cache");
    let out = b.run();
    assert_eq!(out.steps(), [Ran, Ran, Ran], "{out}");
    assert_eq!(out.stderr.matches("going on without a limit of CPUs").count(), 1, "said once: {out}");
    let out = b.layercake(&["run", "--cpuset-cpus", "99999", "t", "cat", "/x"]);
    assert_eq!(out.ok(), "x");
    assert!(out.stderr.contains("warning: going on without a limit of CPUs"), "{out}");
}

#[test]
fn a_network_of_its_own_is_another_step() {
    let Some(mut b) = Build::new() else { return };
    // That it leads outside is tested with the sandbox; here, that the command line gets one.
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let leads_outside = routes.lines().skip(1).any(|l| l.split_whitespace().nth(1) == Some("00000000"));
    if !Path::new("/usr/bin/pasta").exists() || !Path::new("/dev/net/tun").exists() || !leads_outside {
        return skip("needs pasta (package passt), /dev/net/tun, and a route that leads outside");
    }
    b.dockerfile(&format!("{BASE}RUN head -n 1 /etc/resolv.conf > /first\n"));
    b.run().ok();
    let network = |b: &Build| b.layercake(&["run", "t", "cat", "/first"]).ok().to_owned();
    assert_ne!(network(&b), "nameserver 169.254.1.1");
    b.flag("--network=pasta");
    assert_eq!(b.run().steps(), [Cached, Ran]);
    assert_eq!(network(&b), "nameserver 169.254.1.1");
    assert_eq!(b.run().steps(), [Cached, Cached]);
    b.dockerfile(&format!("{BASE}RUN --network=host true\n"));
    let out = b.run();
    assert!(
        out.code != 0 && out.stderr.contains("network.host"),
        "as with Docker, that must be allowed: {out}"
    );
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let inside =
        |mode| b.layercake(&["run", "--network", mode, "t", "readlink", "/proc/self/ns/net"]).ok().to_owned();
    assert_eq!(inside("host"), own);
    assert_ne!(inside("pasta"), own);
}
