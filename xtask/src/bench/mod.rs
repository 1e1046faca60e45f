//! `cargo xtask bench [--runs N] [--small] [NAME...]`: the release build on whole workloads, beside what it is held against.
//!
//! Tools and limits take turns within each repetition, and medians are shown: on a machine that others use, only ratios of one run
//! mean anything. What is not installed is left out, and said. `--small` tries the driver in a minute.
//!
//! | workload | what | held against |
//! |---|---|---|
//! | noop | rebuild of 12 instructions on 20,000 files, nothing changed | `find -printf` of the same files |
//! | edit | the same, one file changed that the three long steps do not read | our own noop |
//! | cold | the same on an empty store, with an OCI archive | the 3 s that its steps sleep |
//! | gzip, zstd | COPY of 1 GB and an OCI archive | `tar` through `gzip` (`pigz` where installed) or `zstd -T0` |
//! | stages | eight stages that sleep 1.5 s each | the longest |
//! | steps | sixty RUN that do nothing, each | - |
//! | version | `--version` | - |

mod inputs;
mod tools;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use self::tools::Tool;
use crate::sh::{self, Result};
use crate::timing::{Cost, median, timed};

const NAMES: [&str; 8] = ["noop", "edit", "cold", "gzip", "zstd", "stages", "steps", "version"];

struct Bench {
    dir: tempfile::TempDir,
    small: bool,
    tools: Vec<Tool>,
    /// By workload and name, in the order of NAMES.
    costs: BTreeMap<(usize, String), Vec<Cost>>,
    nonce: u64,
}

/// Runs the benchmark.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let at = words.iter().position(|w| w == "--runs");
    let runs = match at.map(|i| words.get(i + 1).and_then(|n| n.parse().ok())) {
        None => 5,
        Some(Some(n)) => n,
        Some(None) => return Err("--runs needs a number".into()),
    };
    let small = words.iter().any(|w| w == "--small");
    let names: Vec<&String> = words
        .iter()
        .enumerate()
        .filter(|(i, w)| !w.starts_with("--") && Some(*i) != at.map(|a| a + 1))
        .map(|(_, w)| w)
        .collect();
    if let Some(name) = names.iter().find(|n| !NAMES.contains(&n.as_str())) {
        return Err(format!("no workload {name}: there are {}", NAMES.join(", ")));
    }
    if !sh::is_root() || !Path::new("/bin/busybox").exists() {
        return Err("the workloads need root and /bin/busybox (package busybox-static)".into());
    }
    sh::run(&mut sh::command(&["cargo", "build", "--release", "--locked"]))?;
    let mut tools = vec![Tool::Layercake];
    match sh::which("buildah") {
        Some(_) => tools.push(Tool::Buildah),
        None => println!("buildah is not installed, and left out"),
    }
    let dir = tempfile::tempdir().map_err(|e| format!("cannot make a directory: {e}"))?;
    let mut bench = Bench { dir, small, tools, costs: BTreeMap::new(), nonce: 0 };
    for (n, name) in NAMES.iter().enumerate() {
        if names.is_empty() || names.iter().any(|w| w == name) {
            sh::heading(name);
            bench.workload(n, name, runs)?;
        }
    }
    bench.table();
    Ok(())
}

fn io(e: std::io::Error) -> String {
    format!("cannot make the inputs: {e}")
}

impl Bench {
    fn workload(&mut self, n: usize, name: &str, runs: usize) -> Result<()> {
        let context = self.dir.path().join(match name {
            "noop" | "edit" | "cold" => "sources",
            "gzip" | "zstd" => "large",
            _ => "little",
        });
        if !context.exists() {
            inputs::programs(&context).map_err(io)?;
            match name {
                "noop" | "edit" | "cold" => {
                    inputs::sources(&context, if self.small { 500 } else { 20_000 }).map_err(io)?;
                    std::fs::write(context.join("deps.txt"), "one\ntwo\n").map_err(io)?;
                }
                "gzip" | "zstd" => {
                    let (count, each) = if self.small { (4, 1 << 20) } else { (50, 20_000_000) };
                    inputs::large(&context.join("data"), count, each).map_err(io)?;
                }
                _ => {}
            }
            // What changed a moment ago is read again by who is careful.
            std::thread::sleep(Duration::from_millis(1500));
        }
        let dockerfile = self.dir.path().join(format!("{name}.Dockerfile"));
        // The first time is not counted: it fills the caches of the disk, and the stores.
        for run in 0..=runs {
            self.nonce += 1;
            for (tool, cost) in self.turn(name, &context, &dockerfile)? {
                if run > 0 {
                    print!("{tool} {:.3} s  ", cost.wall.as_secs_f64());
                    self.costs.entry((n, tool)).or_default().push(cost);
                }
            }
            println!();
        }
        Ok(())
    }

    /// One turn of every tool.
    fn turn(&self, name: &str, context: &Path, dockerfile: &Path) -> Result<Vec<(String, Cost)>> {
        let write = |text: String| std::fs::write(dockerfile, text).map_err(io);
        let mut out = Vec::new();
        match name {
            "noop" | "edit" => write(inputs::application(0))?,
            "cold" => write(inputs::application(self.nonce))?,
            "gzip" | "zstd" => write(format!("{}ENV N={}\nCOPY data /data\n", inputs::BASE, self.nonce))?,
            "stages" => write(inputs::stages(self.nonce))?,
            "steps" => write(inputs::steps(self.nonce))?,
            _ => {}
        }
        if name == "edit" {
            inputs::edit(context, self.nonce).map_err(io)?;
        }
        let dir = self.dir.path();
        let archive = dir.join("archive.tar").display().to_string();
        for tool in &self.tools {
            let build = |more: &[&str]| tool.build(dir, dockerfile, context, more);
            let export = |compression: &str| match tool {
                Tool::Layercake => {
                    vec![build(&["--output", &format!("type=oci,dest={archive},compression={compression}")])]
                }
                Tool::Buildah => {
                    let to = format!("oci-archive:{archive}");
                    let form = ["--compression-format", compression];
                    vec![build(&[]), tool.command(dir, &[&["push"], &form[..], &["bench", &to]].concat())]
                }
            };
            let _ = std::fs::remove_file(&archive);
            if matches!(name, "cold" | "gzip" | "zstd") {
                let _ = std::fs::remove_dir_all(dir.join(tool.name()));
            }
            let commands = match name {
                "cold" | "gzip" => export("gzip"),
                "zstd" => export("zstd"),
                "version" => vec![tool.command(dir, &["--version"])],
                _ => vec![build(&[])],
            };
            out.push((tool.name().to_owned(), timed(commands)?));
        }
        if let Some((label, command)) = limit(name, context, &archive) {
            out.push((label, timed([command])?));
        }
        Ok(out)
    }

    fn table(&self) {
        println!(
            "\n| workload | tool | wall s (median) | min-max | CPU s | beside layercake |\n|---|---|---|---|---|---|"
        );
        for ((n, tool), costs) in &self.costs {
            let wall = sorted(costs, |c| c.wall);
            let ours = self
                .costs
                .get(&(*n, Tool::Layercake.name().to_owned()))
                .map(|c| median(c.iter().map(|c| c.wall.as_secs_f64())));
            println!(
                "| {} | {tool} | {:.3} | {:.3}-{:.3} | {:.3} | {:.2} |",
                NAMES[*n],
                median(wall.iter().copied()),
                wall.first().copied().unwrap_or_default(),
                wall.last().copied().unwrap_or_default(),
                median(costs.iter().map(|c| c.cpu.as_secs_f64())),
                median(wall.iter().copied()) / ours.unwrap_or(f64::NAN)
            );
        }
    }
}

/// What a workload is held against, if a program can show it.
fn limit(name: &str, context: &Path, archive: &str) -> Option<(String, Command)> {
    let (label, script) = match name {
        "noop" => ("find -printf", "find . -printf '%s %T@ %i\\n' > /dev/null".to_owned()),
        "gzip" if sh::which("pigz").is_some() => {
            ("tar | pigz -p2", format!("tar c . | pigz -p2 > {archive}"))
        }
        "gzip" => ("tar | gzip", format!("tar c . | gzip > {archive}")),
        "zstd" if sh::which("zstd").is_some() => {
            ("tar | zstd -T0", format!("tar c . | zstd -q -T0 > {archive}"))
        }
        "stages" => ("the longest stage", "sleep 1.5".to_owned()),
        _ => return None,
    };
    let mut command = sh::command(&["sh", "-c", &script]);
    command.current_dir(context);
    Some((label.to_owned(), command))
}

fn sorted(costs: &[Cost], of: impl Fn(&Cost) -> Duration) -> Vec<f64> {
    let mut all: Vec<f64> = costs.iter().map(|c| of(c).as_secs_f64()).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_that_do_not_exist_are_named() {
        let e = run(&["nope".to_owned()]).unwrap_err();
        assert!(e.contains("nope") && e.contains("noop"), "{e}");
        assert!(run(&["--runs".to_owned(), "x".to_owned()]).is_err());
    }
}
