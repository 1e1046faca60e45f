//! The conformance suites: cases with recorded answers of other builders, and a harness that runs them. They are no part of this
//! repository; where they lie beside the checkout (`../shared/conformance`), they run with the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::sh::{self, Result};

/// A suite must pass at least this share of its cases, in percent.
const FLOORS: &[(&str, u64)] = &[("build", 98), ("layers", 100), ("parser", 100), ("dockerignore", 100)];
/// A suite that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Memory that the program may use for a hostile layer, in KiB (the harness' own limit).
const MEMORY: u64 = 512 * 1024;

/// Stands between the harness and the program and notes the program's peak memory.
///
/// The harness asks the kernel for the peak of its child; that figure survives `exec`, and so includes the harness itself, which
/// holds a few hundred MiB of cases when it starts the child. This small process in between has no such past.
const GAUGE: &str = r#"#!/usr/bin/env python3
import os, resource, signal, subprocess, sys
child = subprocess.Popen([os.environ["GAUGE_PROGRAM"]] + sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
code = child.wait()
with open(os.environ["GAUGE_FILE"], "a") as f:
    f.write("%d\n" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"#;

/// Where the suites are, if they are here.
pub(crate) fn place() -> Option<PathBuf> {
    let dir = sh::root().parent()?.join("shared/conformance");
    dir.join("run.py").is_file().then_some(dir)
}

/// Runs the named suites, or all of them.
pub(crate) fn run(names: &[String]) -> Result<()> {
    sh::heading("conformance");
    let Some(dir) = place() else {
        println!("skipped: no ../shared/conformance beside the checkout");
        return Ok(());
    };
    if sh::which("python3").is_none() {
        println!("skipped: python3 is not installed");
        return Ok(());
    }
    let known = |n: &String| FLOORS.iter().any(|(k, _)| k == n);
    if let Some(n) = names.iter().find(|n| !known(n)) {
        return Err(format!("no suite is called {n}"));
    }
    sh::run(&mut sh::command(&["cargo", "build", "--locked", "-p", "layercake"]))?;
    let driver =
        ["cargo", "build", "--locked", "-p", "layercake-dockerfile", "--example", "conformance_driver"];
    sh::run(&mut sh::command(&driver))?;
    let mut failed = Vec::new();
    for (suite, floor) in FLOORS {
        if !names.is_empty() && !names.iter().any(|n| n == suite) {
            continue;
        }
        if matches!(*suite, "build" | "layers") && !sh::is_root() {
            println!("{suite}: skipped: needs root");
            continue;
        }
        let result = one(&dir, suite)?;
        println!("{suite}: {}", result.line());
        if result.share() < *floor {
            failed.push(format!("{suite}: {} % of the cases passed, the floor is {floor} %", result.share()));
        }
        if let Some(peak) = result.memory.filter(|&m| m > MEMORY) {
            failed.push(format!(
                "{suite}: used {} MiB of memory, the limit is {} MiB",
                peak / 1024,
                MEMORY / 1024
            ));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// How a suite ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Of the passed: the harness failed them for memory that was its own.
    memory_only: u64,
    /// Peak memory of the program in KiB, where it was measured.
    memory: Option<u64>,
}

impl Outcome {
    fn line(&self) -> String {
        let mut out = format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.memory_only > 0 {
            out.push_str(&format!(
                " ({} of the passed the harness failed only for its own memory)",
                self.memory_only
            ));
        }
        if let Some(m) = self.memory {
            out.push_str(&format!("; most memory used: {} MiB", m / 1024));
        }
        out
    }

    /// Passed of those that ran, in percent, rounded down.
    fn share(&self) -> u64 {
        (self.passed * 100).checked_div(self.passed + self.failed).unwrap_or(0)
    }
}

fn one(dir: &Path, suite: &str) -> Result<Outcome> {
    let temp = tempfile::tempdir().map_err(|e| format!("cannot make a temporary directory: {e}"))?;
    let at = |name: &str| temp.path().join(name);
    let program = sh::target().join("debug/layercake");
    let (json, log) = (at("result.json"), at("log"));
    let limit = format!("{}", LIMIT.as_secs());
    let mut command = sh::command(&["timeout", "--kill-after=30", &limit, "python3", "-B"]);
    command
        .arg(dir.join("run.py"))
        .args(["--suite", suite, "--work"])
        .arg(at("work"))
        .arg("--json")
        .arg(&json);
    command.env("LAYERCAKE", &program).env("LAYERCAKE_ROOT", at("store"));
    command.env("CONFORMANCE_DRIVER", sh::target().join("debug/examples/conformance_driver"));
    std::fs::create_dir(at("work")).map_err(|e| e.to_string())?;
    if suite == "layers" {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(at("gauge"), GAUGE).map_err(|e| e.to_string())?;
        std::fs::set_permissions(at("gauge"), PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        command.env("LAYERCAKE", at("gauge")).env("GAUGE_PROGRAM", &program).env("GAUGE_FILE", at("memory"));
    }
    let out = std::fs::File::create(&log).map_err(|e| e.to_string())?;
    let both = out.try_clone().map_err(|e| e.to_string())?;
    let status =
        command.stdout(out).stderr(both).status().map_err(|e| format!("cannot start python3: {e}"))?;
    // The exit status is 1 when cases failed, which the result says, too.
    let Ok(text) = std::fs::read_to_string(&json) else {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let from = said.len().saturating_sub(2000);
        return Err(format!(
            "the {suite} suite ended without a result ({status}):\n{}",
            said.get(from..).unwrap_or(&said)
        ));
    };
    let result = serde_json::from_str(&text).map_err(|e| format!("the {suite} suite's result: {e}"))?;
    let (mut outcome, lines) = judge(&result);
    for l in lines {
        println!("  {l}");
    }
    let peaks = std::fs::read_to_string(at("memory")).unwrap_or_default();
    outcome.memory = peaks.lines().filter_map(|l| l.parse().ok()).max();
    Ok(outcome)
}

/// Counts the cases; gives a line for each that failed.
fn judge(result: &Value) -> (Outcome, Vec<String>) {
    let mut out = Outcome::default();
    let mut lines = Vec::new();
    for case in result["results"].as_array().into_iter().flatten() {
        let why: Vec<&str> = case["why"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match case["status"].as_str() {
            Some("passed") => out.passed += 1,
            Some("skipped") => out.skipped += 1,
            _ if !why.is_empty() && why.iter().all(|w| about_memory(w)) => {
                out.passed += 1;
                out.memory_only += 1;
            }
            _ => {
                out.failed += 1;
                let first = why.first().and_then(|w| w.lines().next()).unwrap_or("no reason given");
                let short: String = first.chars().take(160).collect();
                lines.push(format!("failed: {}: {short}", case["case"].as_str().unwrap_or("?")));
            }
        }
    }
    (out, lines)
}

/// `used 545 MiB of memory`
fn about_memory(why: &str) -> bool {
    why.strip_prefix("used ")
        .and_then(|w| w.strip_suffix(" MiB of memory"))
        .is_some_and(|n| n.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_that_fail_for_the_harness_memory_only_are_counted_apart() {
        let result = serde_json::json!({"results": [
            {"case": "a", "status": "passed", "why": []},
            {"case": "b", "status": "failed", "why": ["used 545 MiB of memory"]},
            {"case": "c", "status": "failed", "why": ["ESCAPE: x", "used 545 MiB of memory"]},
            {"case": "d", "status": "failed", "why": []},
            {"case": "e", "status": "skipped", "why": ["no"]},
        ]});
        let (outcome, lines) = judge(&result);
        assert_eq!(outcome, Outcome { passed: 2, failed: 2, skipped: 1, memory_only: 1, memory: None });
        assert_eq!(lines, ["failed: c: ESCAPE: x", "failed: d: no reason given"]);
        assert_eq!(outcome.share(), 50);
        assert_eq!(Outcome::default().share(), 0, "a suite without cases has passed nothing");
    }
}
