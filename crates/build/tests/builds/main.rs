//! Whole builds through the public interface, with real steps: what runs, what is reused, and what stops.
//!
//! This program is the builder and each step's first process. Needs root and a static busybox; without them it says so and passes.

mod cache;
mod fixed;
mod forecast;
mod graph;
mod kit;
#[path = "../differential/ldcache.rs"]
mod ldcache;
mod sound;
mod steps;
mod views;
mod why;

use std::io::Write;

/// A test: its name and what it does.
type Case = (&'static str, fn());

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main([]);
    }
    let mut out = std::io::stdout();
    let all = [
        graph::CASES,
        cache::CASES,
        sound::CASES,
        fixed::CASES,
        steps::CASES,
        views::CASES,
        why::CASES,
        forecast::CASES,
    ]
    .concat();
    if args.iter().any(|a| a == "--list") {
        // What nextest asks for, once for all tests and once for the ignored ones, of which there are none.
        for (name, _) in all.iter().filter(|_| !args.iter().any(|a| a == "--ignored")) {
            let _ = writeln!(out, "{name}: test");
        }
        return;
    }
    if !rustix::process::geteuid().is_root() || !std::path::Path::new(kit::BUSYBOX).exists() {
        let why = format!("skipped: steps need root and a static {}", kit::BUSYBOX);
        let _ = writeln!(out, "{why}\n\ntest result: 0 passed; 0 failed");
        return;
    }
    let filter = args[1..].iter().find(|a| !a.starts_with('-'));
    let exact = args.iter().any(|a| a == "--exact");
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in all {
        if filter.is_some_and(|f| if exact { name != f } else { !name.contains(&**f) }) {
            continue;
        }
        let ok = std::panic::catch_unwind(case).is_ok();
        let _ = writeln!(out, "test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed.push(name) }
    }
    let _ = writeln!(out, "\ntest result: {passed} passed; {} failed {failed:?}", failed.len());
    if !failed.is_empty() {
        std::process::exit(101);
    }
}
