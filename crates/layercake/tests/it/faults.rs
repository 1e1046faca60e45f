//! Whatever happens while something is written, the store is sound afterwards, and the same command does its work the next time.
//!
//! `LAYERCAKE_FAULT` makes the program die, or its disk be full or broken, at the n-th thing that it writes; each command is run for
//! many n, up to the one that it does not reach. Others are killed at random moments, which hits steps and mounts, too.
//! `LAYERCAKE_TEST_SOAK=N` runs N of each kind instead of the few that a quick test can afford, and says how far it is;
//! `LAYERCAKE_TEST_SEED=N` chooses other moments.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::{BASE, Build, Outcome, mark};
use crate::registries::Registry;

/// The fault, and the code of a program that it killed.
const DIE: (&str, i32) = ("die", -1);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

/// How many faults of a kind are tried.
fn amount(few: u64) -> u64 {
    number("LAYERCAKE_TEST_SOAK").unwrap_or(few)
}

/// A small deterministic generator (xorshift64*).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// A context whose build copies, runs and joins stages, and takes the same time and gives the same image every time.
fn lab() -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(&format!(
        "{BASE}FROM base AS made\nRUN echo made > /made && mkdir /d && ln /made /d/hard\nFROM base\nCOPY a b /src/\n\
         RUN cat /src/a > /copy && rm /src/b\nCOPY --from=made /d /d\n"
    ));
    b.file("a", "a\n").file("b", "b\n");
    // With limits, so that steps have control groups, which are to go, too.
    for flag in
        ["--reproducible", "--build-arg=SOURCE_DATE_EPOCH=1600000001", "--pids-limit=1000", "--memory=1g"]
    {
        b.flag(flag);
    }
    Some(b)
}

fn id(b: &Build) -> String {
    let list = b.layercake(&["images", "--format", "json"]).json();
    let tagged = list.as_array().unwrap().iter().find(|i| i["name"] == "t:latest");
    tagged.unwrap_or_else(|| panic!("{list}"))["id"].as_str().unwrap().to_owned()
}

fn copy(from: &PathBuf, to: &PathBuf) {
    let _ = std::fs::remove_dir_all(to);
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// What must hold after any accident, without any repair.
fn assert_sound(b: &Build, what: &str) {
    let out = b.layercake(&["verify"]);
    assert_eq!(out.code, 0, "{what}: {out}");
}

/// Runs a command with each of some faults, on a copy of a store each; it must end with `code`. Then `check` looks at the store as it
/// was left.
fn with_faults(b: &Build, (fault, code): (&str, i32), few: u64, words: &[&str], check: impl Fn(&str)) {
    let kept = b.path("kept");
    copy(&b.store(), &kept);
    let run = |at: u64| {
        copy(&kept, &b.store());
        let mut command = b.command(words);
        command.env("LAYERCAKE_FAULT", format!("{fault}@{at}"));
        crate::lab::finish(b.spawn(command))
    };
    let hit = |out: &Outcome| out.code != 0;
    // How many points there are: more than any command has is the same as none.
    let (mut low, mut high) = (0, 1);
    while hit(&run(high)) {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if hit(&run(middle)) { low = middle } else { high = middle }
    }
    let (mut tried, mut reached) = (0, 0);
    let stride = (low / amount(few)).max(1);
    let mut at = 1 + (stride / 2).min(low.saturating_sub(1));
    while at <= low {
        let what = format!("{fault}@{at} of {low} in {}", words[0]);
        let out = run(at);
        // How much is written in one commit differs from run to run, so the last points may not be reached; and what may be lost
        // (a memo, the log of builds) may fail to be written. The store must be sound all the same.
        if out.code != 0 {
            assert_eq!(out.code, code, "{what}: {out}");
            reached += 1;
        }
        check(&what);
        tried += 1;
        at += stride;
    }
    copy(&kept, &b.store());
    assert!(reached > 0 && reached * 2 >= tried, "{fault} in {}: {reached} of {tried} reached", words[0]);
}

#[test]
fn a_build_that_dies_at_any_write_is_done_again() {
    let Some(b) = lab() else { return };
    b.run().ok();
    let want = id(&b);
    std::fs::remove_dir_all(b.store()).unwrap();
    std::fs::create_dir(b.store()).unwrap();
    let words = b.build_words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    with_faults(&b, DIE, 12, &words, |what| {
        assert_sound(&b, what);
        b.run().ok();
        assert_eq!(id(&b), want, "{what}");
        assert_sound(&b, what);
        b.assert_clean("no process");
    });
}

#[test]
fn a_build_on_a_full_disk_fails_and_loses_nothing() {
    let Some(b) = lab() else { return };
    b.run().ok();
    let want = id(&b);
    // What was there stays: another image, tagged.
    b.layercake(&["tag", "t", "before"]).ok();
    let words = b.build_words();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--no-cache"]).collect();
    for fault in [("full", 3), ("broken", 3)] {
        with_faults(&b, fault, 8, &words, |what| {
            assert_sound(&b, what);
            b.layercake(&["run", "--rm", "before", "cat", "/copy"]).ok();
            b.run().ok();
            assert_eq!(id(&b), want, "{what}");
            b.assert_clean("no process");
        });
    }
}

#[test]
fn what_changes_a_store_may_die_at_any_write() {
    let Some(b) = lab() else { return };
    b.run().ok();
    let want = id(&b);
    b.layercake(&["save", "-o", "saved.tar", "t"]).ok();
    b.layercake(&["tag", "t", "other"]).ok();
    for words in [
        &["load", "-i", "saved.tar"][..],
        &["tag", "t", "third"],
        &["rmi", "--force", "t", "other"],
        &["prune", "--all"],
        &["import", "saved.tar", "rootfs"],
    ] {
        with_faults(&b, DIE, 6, words, |what| {
            assert_sound(&b, what);
            // A command that was done before its last write has nothing left to do.
            let again = b.layercake(words);
            assert!(again.code == 0 || words[0] == "rmi", "{what}: {again}");
            assert_sound(&b, what);
            b.run().ok();
            assert_eq!(id(&b), want, "{what}");
            b.assert_clean("no process");
        });
    }
}

#[test]
fn a_repair_may_die_at_any_write() {
    let Some(b) = lab() else { return };
    b.run().ok();
    let want = id(&b);
    // The content of one file is damaged.
    let objects = std::fs::read_dir(b.store().join("objects")).unwrap().flatten().map(|e| e.path());
    let object = objects.flat_map(|d| std::fs::read_dir(d).unwrap().flatten()).next().unwrap().path();
    std::fs::write(&object, "damaged").unwrap();
    with_faults(&b, DIE, 8, &["verify", "--repair"], |what| {
        b.layercake(&["verify", "--repair"]).ok();
        assert_sound(&b, what);
        b.run().ok();
        assert_eq!(id(&b), want, "{what}");
    });
}

#[test]
fn a_build_killed_at_any_moment_is_done_again() {
    let Some(mut b) = lab() else { return };
    let seconds = mark();
    b.dockerfile(&format!(
        "{BASE}FROM base AS made\nRUN (sleep {seconds} &) ; sleep 0.2; echo made > /made\nFROM base\nCOPY a b /src/\nRUN cat /src/a > /copy\n\
         COPY --from=made /made /\n"
    ));
    let begin = std::time::Instant::now();
    b.run().ok();
    let whole = u64::try_from(begin.elapsed().as_millis()).unwrap();
    let want = id(&b);
    let mut rng = Rng(number("LAYERCAKE_TEST_SEED").unwrap_or(0x5eed));
    let mut groups = 0;
    for n in 0..amount(15) {
        if n % 50 == 0 {
            eprintln!("{n} kills survived");
        }
        if n % 2 == 0 {
            std::fs::remove_dir_all(b.store()).unwrap();
        }
        let build = b.start_build();
        let moment = rng.below(whole);
        std::thread::sleep(Duration::from_millis(moment));
        groups += u32::from(!b.groups().is_empty());
        build.signal(Signal::KILL);
        build.finish();
        b.assert_nothing_runs(&seconds);
        assert_sound(&b, &format!("killed after {moment} ms"));
        b.run().ok();
        assert_eq!(id(&b), want, "killed after {moment} ms");
        b.assert_clean(&seconds);
    }
    eprintln!("{groups} were killed while a step had control groups");
}

#[test]
fn other_commands_killed_at_any_moment_are_done_again() {
    let Some(b) = lab() else { return };
    b.run().ok();
    let want = id(&b);
    b.layercake(&["save", "-o", "saved.tar", "t"]).ok();
    let mut commands: Vec<(bool, Vec<&str>)> = vec![
        (true, vec!["load", "-i", "saved.tar"]),
        (true, vec!["import", "saved.tar", "rootfs"]),
        (false, vec!["save", "-o", "again.tar", "t"]),
        (false, vec!["rmi", "--force", "t"]),
        (false, vec!["prune", "--all"]),
        (false, vec!["verify", "--repair"]),
    ];
    let registry = Registry::start(&b, false);
    let name = registry.as_ref().map(|r| format!("{}/killed:1", r.host)).unwrap_or_default();
    if registry.is_some() {
        b.layercake(&["tag", "t", &name]).ok();
        b.layercake(&["push", &name]).ok();
        commands.extend([(true, vec!["pull", &name]), (false, vec!["push", &name])]);
    }
    let (kept, none) = (b.path("kept"), b.path("none"));
    copy(&b.store(), &kept);
    std::fs::create_dir(&none).unwrap();
    let mut whole = vec![None; commands.len()];
    let mut rng = Rng(number("LAYERCAKE_TEST_SEED").unwrap_or(0x0dd));
    for n in 0..amount(16) {
        if n % 50 == 0 {
            eprintln!("{n} kills survived");
        }
        let which = usize::try_from(n).unwrap() % commands.len();
        let (from_nothing, words) = &commands[which];
        let begin = || copy(if *from_nothing { &none } else { &kept }, &b.store());
        begin();
        let time = *whole[which].get_or_insert_with(|| {
            let start = std::time::Instant::now();
            b.layercake(words);
            begin();
            u64::try_from(start.elapsed().as_millis()).unwrap().max(1)
        });
        let command = b.start(words);
        let moment = rng.below(time);
        std::thread::sleep(Duration::from_millis(moment));
        command.signal(Signal::KILL);
        command.finish();
        let what = format!("{} killed after {moment} ms", words[0]);
        assert_sound(&b, &what);
        // What was removed before the end is not there to be removed again.
        let again = b.layercake(words);
        assert!(again.code == 0 || words[0] == "rmi", "{what}: {again}");
        assert_sound(&b, &what);
        b.run().ok();
        assert_eq!(id(&b), want, "{what}");
        b.assert_clean("no process");
    }
}
