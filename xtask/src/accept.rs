//! `cargo xtask accept`: the acceptance cases on real input.
//!
//! The cases themselves are `crates/layercake/tests/accept`. 1 to 3 run with every `cargo xtask test`, each where its input can be
//! had; here all five must run: what is missing is an error.

use std::path::PathBuf;

use crate::sh::{self, Result};
use crate::{conformance, packages};

/// Names the tar of an Alpine root file system, for case 2.
pub(crate) const ALPINE: &str = "LAYERCAKE_TEST_ALPINE";

const CASES: [&str; 5] = ["case_1", "case_2", "case_3", "case_4", "case_5"];

/// An Alpine root file system beside the checkout.
pub(crate) fn alpine() -> Option<PathBuf> {
    let tar = conformance::place()?.join("images/alpine-minirootfs-3.7.3-x86_64.tar.gz");
    tar.is_file().then_some(tar)
}

/// Runs the cases with these numbers, or all.
pub(crate) fn run(numbers: &[String]) -> Result<()> {
    let mut cases = Vec::new();
    for n in numbers {
        let case = n.parse::<usize>().ok().and_then(|n| CASES.get(n.checked_sub(1)?));
        cases.push(*case.ok_or_else(|| format!("cases are 1 to {}, not {n}", CASES.len()))?);
    }
    if !sh::is_root() {
        return Err("the acceptance cases need root: they make a distribution's root file system".into());
    }
    sh::heading("packages");
    let missing = packages::install(&[packages::COMPILER, packages::DEMO, packages::TEST, packages::ACCEPT]);
    if !missing.is_empty() {
        return Err(format!("the acceptance cases need these packages: {}", missing.join(", ")));
    }
    sh::heading("cases");
    let mut command =
        sh::command(&["cargo", "test", "--locked", "-p", "layercake", "--test", "accept", "--"]);
    command.args(["--nocapture", "--test-threads=1"]).args(&cases);
    command.env("LAYERCAKE_TEST_ALL", "1");
    if let Some(rootfs) = alpine() {
        command.env(ALPINE, rootfs);
    }
    sh::run(&mut command)
}
