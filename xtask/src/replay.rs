//! `cargo xtask replay`: histories of projects, built commit by commit under Docker's rule and under ours.
//!
//! Each history is generated ([`projects`]): 30 commits of the kinds that such a project sees, the same on each run. For either rule there is a
//! store of its own; each commit is built in both, one after the other, and the log of builds says what ran. The first commit fills the
//! cache and is in no sum. After two thirds of each history the base image gets an update, as from a distribution.
//!
//! Needs root, FUSE, and a root file system with gcc, make, python3, nodejs and rustc: from a tar (`--base`), else made by mmdebstrap.

mod projects;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use self::projects::Project;
use crate::sh::{self, Result};

/// What the steps of the histories use.
const PACKAGES: &str = "gcc,libc6-dev,make,python3,nodejs,rustc";

/// Commits of a history, the first included, if `--commits` does not say otherwise.
const COMMITS: usize = 30;

const RULES: [&str; 2] = ["chain", "traced"];

/// What a rule cost over one history.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    /// RUN steps that ran.
    steps: usize,
    /// RUN steps that there were.
    of: usize,
    /// What those that ran took, in milliseconds.
    run_ms: u64,
    /// What the builds took, in seconds.
    wall: f64,
}

/// Plays the histories whose names are given, or all of them.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let mut words = words.iter();
    let (mut base, mut program, mut dir, mut names) = (None, None, None, Vec::new());
    let mut commits = COMMITS;
    while let Some(w) = words.next() {
        let mut value = || words.next().map(PathBuf::from).ok_or(format!("{w} needs a value"));
        match w.as_str() {
            "--base" => base = Some(value()?),
            "--program" => program = Some(value()?),
            "--dir" => dir = Some(value()?),
            "--commits" => {
                let text = value()?.display().to_string();
                commits = text.parse().map_err(|_| format!("--commits {text}: not a number"))?;
            }
            name => names.push(name),
        }
    }
    let dir = dir.unwrap_or_else(|| sh::target().join("replay"));
    fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let program = program.map_or_else(sh::layercake, Ok)?;
    let base = match base {
        Some(tar) => tar,
        None => {
            let tar = dir.join("base.tar");
            if !tar.is_file() {
                let include = format!("--include={PACKAGES}");
                let mut make =
                    sh::command(&["mmdebstrap", "--variant=minbase", "--quiet", &include, "stable"]);
                sh::run(make.arg(&tar))?;
            }
            tar
        }
    };
    let all = projects::all();
    if let Some(name) = names.iter().find(|n| !all.iter().any(|p| p.name == **n)) {
        return Err(format!("there is no history {name}"));
    }
    let lab = Lab { program, dir, commits };
    for rule in RULES {
        lab.import(rule, &base)?;
    }
    let mut rows = Vec::new();
    for project in all.into_iter().filter(|p| names.is_empty() || names.contains(&p.name)) {
        let name = project.name;
        let costs = lab.play(project)?;
        rows.push((name, costs));
        println!("{}", row(name, &costs));
    }
    println!(
        "\n| history | RUN steps | chain: run again | seconds in them | seconds of builds | traced: run again | seconds in them | seconds of builds |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(|(name, costs)| println!("{}", row(name, costs)));
    Ok(())
}

fn row(name: &str, costs: &[Cost; 2]) -> String {
    let cost = |c: &Cost| format!("{} | {:.1} | {:.1}", c.steps, c.run_ms as f64 / 1000.0, c.wall);
    format!("| {name} | {} | {} | {} |", costs[0].of, cost(&costs[0]), cost(&costs[1]))
}

/// The program and its stores.
struct Lab {
    program: PathBuf,
    dir: PathBuf,
    commits: usize,
}

impl Lab {
    fn layercake(&self, rule: &str, args: &[&str]) -> Result<String> {
        let mut c = sh::command(&[&self.program.display().to_string()]);
        c.arg("--root").arg(self.dir.join(format!("store-{rule}"))).args(args).stderr(Stdio::piped());
        sh::read(&mut c)
    }

    fn import(&self, rule: &str, tar: &Path) -> Result<()> {
        let store = self.dir.join(format!("store-{rule}"));
        if store.exists() {
            fs::remove_dir_all(&store).map_err(|e| format!("cannot remove {}: {e}", store.display()))?;
        }
        self.layercake(rule, &["import", &tar.display().to_string(), "replay/base:first"])?;
        // The update: a package's files are others, and its log is longer.
        let update = self.dir.join("update");
        let text = "FROM replay/base:first\nRUN echo 2 > /etc/security-update && echo patched >> /var/log/dpkg.log\n";
        write(&update, "Dockerfile", text)?;
        self.layercake(rule, &["build", "-q", "-t", "replay/base:second", &update.display().to_string()])?;
        Ok(())
    }

    /// Builds all commits under both rules.
    fn play(&self, mut project: Project) -> Result<[Cost; 2]> {
        let mut costs = [Cost::default(); 2];
        let dir = self.dir.join(project.name);
        for commit in 0..self.commits {
            if commit > 0 {
                let what = project.commit(commit);
                println!("{} {commit}: {what}", project.name);
            }
            if dir.exists() {
                fs::remove_dir_all(&dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))?;
            }
            for (path, text) in &project.files {
                write(&dir, path, text)?;
            }
            write(&dir, "Dockerfile", project.dockerfile)?;
            let context = dir.display().to_string();
            for (rule, cost) in RULES.iter().zip(&mut costs) {
                let base =
                    if commit < self.commits * 2 / 3 { "replay/base:first" } else { "replay/base:second" };
                self.layercake(rule, &["tag", base, "replay/base"])?;
                let began = Instant::now();
                let cache = format!("--cache={rule}");
                self.layercake(rule, &["build", "-q", &cache, &context])?;
                let wall = began.elapsed().as_secs_f64();
                if commit == 0 {
                    continue;
                }
                let account = self.layercake(rule, &["explain", "--format", "json", &context])?;
                let account: serde_json::Value =
                    serde_json::from_str(&account).map_err(|e| format!("explain gave no JSON: {e}"))?;
                let stages = account[0]["stages"].as_array().cloned().unwrap_or_default();
                let steps = stages.iter().filter_map(|s| s["steps"].as_array()).flatten();
                for step in steps.filter(|s| s["kind"] == "run") {
                    cost.of += 1;
                    if step["end"] == "ran" {
                        cost.steps += 1;
                        cost.run_ms += step["took_ms"].as_u64().unwrap_or(0);
                    }
                }
                cost.wall += wall;
            }
            let so_far = |c: &Cost| format!("{} RUN steps, {:.1} s", c.steps, c.run_ms as f64 / 1000.0);
            if commit > 0 {
                println!("    so far: chain {}; traced {}", so_far(&costs[0]), so_far(&costs[1]));
            }
        }
        Ok(costs)
    }
}

fn write(dir: &Path, path: &str, text: &str) -> Result<()> {
    let at = dir.join(path);
    let made = at.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&at, text));
    made.map_err(|e| format!("cannot write {}: {e}", at.display()))
}
