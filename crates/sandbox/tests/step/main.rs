//! Real steps: this program is the parent, the step's first process, and, inside the step, the probe that looks around.
//!
//! Each test runs in every way in which files can be shown to a step ([`kit::WAYS`]). Needs root; without it, it says so and passes.

mod cases;
mod death;
mod escapes;
mod kit;
mod limits;
mod mounts;
mod network;
mod probe;
mod rootless;

use std::io::Write;

/// A test: its name and what it does.
type Case = (&'static str, fn());

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(sandbox::INIT_ARG) => sandbox::init_main([]),
        Some("probe") => return probe::main(&args[2..]),
        Some("parent") => return death::parent(&args[2..]),
        Some("network") => return network::main(&args[2..]),
        Some("rootless") => return rootless::main(&args[2..]),
        // Executed as the interpreter of this script: see `cases::the_executable_cannot_be_written`.
        Some("/script") => return probe::main(&["exe-flags".into()]),
        _ => {}
    }
    let mut out = std::io::stdout();
    let cases =
        [cases::CASES, escapes::CASES, mounts::CASES, limits::CASES, network::CASES, death::CASES].concat();
    let ways = kit::WAYS.iter().enumerate();
    let mut all: Vec<(String, Box<dyn Fn() + std::panic::RefUnwindSafe>)> = Vec::new();
    for (n, way) in ways {
        for (name, case) in cases.iter().copied() {
            let run = move || {
                kit::use_way(n);
                case();
            };
            all.push((format!("{way}::{name}"), Box::new(run)));
        }
        for user in rootless::USERS {
            let run = move || rootless::in_namespace(user, n);
            all.push((format!("{way}::as_an_ordinary_user_with_{user}"), Box::new(run)));
        }
    }
    if args.iter().any(|a| a == "--list") {
        // What nextest asks for, once for all tests and once for the ignored ones, of which there are none.
        for (name, ..) in all.iter().filter(|_| !args.iter().any(|a| a == "--ignored")) {
            let _ = writeln!(out, "{name}: test");
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(out, "skipped: steps need root\n\ntest result: 0 passed; 0 failed");
        return;
    }
    let filter = args[1..].iter().find(|a| !a.starts_with('-'));
    let exact = args.iter().any(|a| a == "--exact");
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in all {
        if filter.is_some_and(|f| if exact { name != *f } else { !name.contains(&**f) }) {
            continue;
        }
        let ok = std::panic::catch_unwind(&*case).is_ok();
        let _ = writeln!(out, "test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed.push(name) }
    }
    let _ = writeln!(out, "\ntest result: {passed} passed; {} failed {failed:?}", failed.len());
    if !failed.is_empty() {
        std::process::exit(101);
    }
}
