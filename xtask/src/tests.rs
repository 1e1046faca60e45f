//! `cargo xtask test`: everything that is tested without a person.

use std::time::Instant;

use crate::sh::{self, Result};
use crate::{accept, conformance, fuzz, junit, packages};

/// Runs the tests; with words for the runner (a filter, say) only the tests of the crates.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let started = Instant::now();
    sh::heading("packages");
    packages::install(&[packages::COMPILER, packages::TEST]);
    if !sh::is_root() {
        println!("not root: tests of whole steps skip themselves");
    } else if !std::path::Path::new("/dev/fuse").exists() {
        // The module may be there without being loaded.
        let _ = sh::run(&mut sh::command(&["modprobe", "fuse"]));
    }
    sh::heading("tests of the crates");
    crates(words)?;
    if words.is_empty() {
        fuzz::check()?;
        conformance::run(&[])?;
    }
    println!("\nall tests passed in {}", sh::seconds(started.elapsed()));
    Ok(())
}

fn crates(words: &[String]) -> Result<()> {
    let nextest = sh::which("cargo-nextest").is_some();
    let fixed: &[&str] = if nextest {
        &["cargo", "nextest", "run", "--workspace", "--locked"]
    } else {
        &["cargo", "test", "--workspace", "--locked", "--no-fail-fast"]
    };
    let argv: Vec<&str> = fixed.iter().copied().chain(words.iter().map(String::as_str)).collect();
    let mut command = sh::command(&argv);
    if let Some(rootfs) = accept::alpine() {
        command.env(accept::ALPINE, rootfs);
    }
    // Nextest keeps it there wherever cargo builds.
    let report = sh::root().join("target/nextest/default/junit.xml");
    let _ = std::fs::remove_file(&report);
    let ran = sh::run(&mut command);
    if nextest {
        let report = std::fs::read_to_string(report).unwrap_or_default();
        for name in junit::flaky(&report) {
            println!("flaky, a fault to be mended: {name}");
        }
        let skipped = junit::skipped(&report);
        if !skipped.is_empty() {
            println!("{} tests skipped themselves, in whole or in part:", skipped.len());
            for (name, reason) in skipped {
                println!("  {name}: {reason}");
            }
        }
        // Nextest has no documentation tests.
        ran?;
        return sh::run(&mut sh::command(&["cargo", "test", "--workspace", "--locked", "--doc", "--quiet"]));
    }
    ran
}
