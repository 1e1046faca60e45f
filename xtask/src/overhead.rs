//! `cargo xtask overhead --base TAR [--runs N] [NAME...]`: what observing a step costs.
//!
//! The same RUN is built under `--view=fuse`, where all that it reads of its parent is served and written down, and under
//! `--view=overlay`, where it has plain directories. Both take turns within each repetition, and medians are shown: the time of the step as
//! the log of builds has it, and the processor time of the whole build, the step's and the server's.
//!
//! | workload | the step |
//! |---|---|
//! | true | a thousand times `sh -c true` |
//! | gcc | `make -j2` of 200 files of C |
//! | apt | `apt-get install` of git, curl and less, downloaded before |
//! | pip | `pip install` of ten wheels, downloaded before |
//! | npm | `npm ci` of what express, eslint and webpack need, downloaded before |
//! | cat | every file of the root file system is read |
//!
//! Needs root, FUSE, a root file system as a tar with gcc, make, python3-pip, npm and working lists of packages (mmdebstrap makes one), and
//! for apt, pip and npm the network, once, in a step that is not measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::sh::{self, Result};
use crate::timing::{Cost, median, timed_group};

const NAMES: [&str; 6] = ["true", "gcc", "apt", "pip", "npm", "cat"];
const VIEWS: [&str; 2] = ["overlay", "fuse"];

const WHEELS: &str = "requests flask django numpy pyyaml jinja2 click rich pytest sqlalchemy";
const MODULES: &str = "express eslint webpack";

/// What a workload downloads, and the step that is measured.
fn steps(name: &str) -> (String, &'static str) {
    let apt = "apt-get update -qq && apt-get install -y -qq --download-only git curl less";
    let pip = format!("pip download -q -d /wheels {WHEELS}");
    let npm =
        format!("mkdir /n && cd /n && npm init -y && npm install --cache /c {MODULES} && rm -r node_modules");
    match name {
        "true" => (":".into(), "i=0; while [ $i -lt 1000 ]; do sh -c true; i=$((i+1)); done"),
        "gcc" => (":".into(), "cd /src && make -s -j2"),
        "apt" => {
            (apt.into(), "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-download git curl less")
        }
        "pip" => (
            pip,
            "pip install -q --break-system-packages --no-index --find-links /wheels /wheels/*.whl 2>/dev/null || \
             pip install -q --no-index --find-links /wheels /wheels/*.whl",
        ),
        "npm" => (npm, "cd /n && npm ci --offline --cache /c"),
        _ => (":".into(), "find / -xdev -type f -print0 | xargs -0 cat > /dev/null"),
    }
}

/// Measures the workloads whose names are given, or all of them.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let mut words = words.iter();
    let (mut base, mut program, mut runs, mut names) = (None, None, 5, Vec::new());
    while let Some(w) = words.next() {
        let mut value = || words.next().ok_or(format!("{w} needs a value"));
        match w.as_str() {
            "--base" => base = Some(PathBuf::from(value()?)),
            "--program" => program = Some(PathBuf::from(value()?)),
            "--runs" => runs = value()?.parse().map_err(|_| "--runs needs a number")?,
            name if NAMES.contains(&name) => names.push(name),
            name => return Err(format!("no workload {name}: there are {}", NAMES.join(", "))),
        }
    }
    let base = base.ok_or("--base TAR is needed")?;
    let program = program.map_or_else(sh::layercake, Ok)?;
    let dir = tempfile::tempdir().map_err(|e| format!("cannot make a directory: {e}"))?;
    let lab = Lab { program, dir: dir.path().to_owned() };
    lab.layercake(&["import", &base.display().to_string(), "overhead/base"])?;
    println!(
        "| step | directories, wall s | view, wall s | ratio | directories, CPU s | view, CPU s | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for name in NAMES.into_iter().filter(|n| names.is_empty() || names.contains(n)) {
        let mut costs: [Vec<(f64, Cost)>; 2] = Default::default();
        // The first of either makes what the second finds: downloads, and the parent as directories.
        for run in 0..=runs {
            // Each goes first every other time: what the first leaves for the second, or takes from it, counts for both.
            let order = if run % 2 == 0 { [0, 1] } else { [1, 0] };
            for at in order {
                let cost = lab.turn(name, VIEWS[at], run)?;
                if run > 0 {
                    costs[at].push(cost);
                }
            }
        }
        let [wall, cpu] = [
            costs.each_ref().map(|c| median(c.iter().map(|(wall, _)| *wall))),
            costs.each_ref().map(|c| median(c.iter().map(|(_, c)| c.cpu.as_secs_f64()))),
        ];
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            wall[0],
            wall[1],
            wall[1] / wall[0],
            cpu[0],
            cpu[1],
            cpu[1] / cpu[0]
        );
    }
    Ok(())
}

struct Lab {
    program: PathBuf,
    dir: PathBuf,
}

impl Lab {
    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut c = sh::command(&[&self.program.display().to_string()]);
        c.arg("--root").arg(self.dir.join("store")).args(args).stderr(Stdio::piped());
        c
    }

    fn layercake(&self, args: &[&str]) -> Result<String> {
        sh::read(&mut self.command(args))
    }

    /// Builds once; gives the seconds of the step, and what the whole build cost.
    fn turn(&self, name: &str, view: &str, run: usize) -> Result<(f64, Cost)> {
        let context = self.dir.join("context");
        sources(&context.join("src")).map_err(|e| format!("cannot write the sources: {e}"))?;
        let (before, measured) = steps(name);
        // Its own instruction for each, so that neither finds what the other left.
        let text =
            format!("FROM overhead/base\nCOPY src /src\nRUN {before}\nRUN : {view} {run}; {measured}\n");
        fs::write(context.join("Dockerfile"), text).map_err(|e| format!("cannot write: {e}"))?;
        let context = context.display().to_string();
        let view = format!("--view={view}");
        let group = format!("overhead-{}-{}", std::process::id(), view.trim_start_matches("--view="));
        let cost = timed_group(&self.command(&["build", "-q", &view, &context]), &group)?;
        let account = self.layercake(&["explain", "--format", "json", &context])?;
        let account: serde_json::Value =
            serde_json::from_str(&account).map_err(|e| format!("explain gave no JSON: {e}"))?;
        let steps = account[0]["stages"].as_array().cloned().unwrap_or_default();
        let last = steps.iter().filter_map(|s| s["steps"].as_array()).flatten().last().cloned();
        let took = last.filter(|s| s["end"] == "ran").and_then(|s| s["took_ms"].as_f64());
        Ok((took.ok_or("the step did not run")? / 1000.0, cost))
    }
}

/// Two hundred files of C that need headers of the C library and of each other.
fn sources(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    let mut objects = String::new();
    for n in 0..200 {
        fs::write(dir.join(format!("part{n}.h")), format!("int part{n}(const char *text);\n"))?;
        let next = (n + 1) % 200;
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include \"part{n}.h\"\n#include \"part{next}.h\"\n\
             int part{n}(const char *text) {{\n    char *copy = strdup(text);\n    for (char *p = copy; *p; p++) *p ^= {n};\n    \
             int r = printf(\"%s\", copy) > {n} ? part{next}(copy) : (int)strlen(copy);\n    free(copy);\n    return r;\n}}\n"
        );
        fs::write(dir.join(format!("part{n}.c")), text)?;
        objects.push_str(&format!(" part{n}.o"));
    }
    fs::write(dir.join("Makefile"), format!("CFLAGS=-O1\nall:{objects}\n"))
}
