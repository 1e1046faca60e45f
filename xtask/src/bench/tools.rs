//! The programs that are timed, each as a user calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sh::{self, Result};

/// What a run cost.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// User and system time of the program and all that it waited for.
    pub(super) cpu: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Layercake,
    Buildah,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Layercake => "layercake",
            Tool::Buildah => "buildah",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Tool::Layercake => sh::target().join("release/layercake"),
            Tool::Buildah => "buildah".into(),
        }
    }

    /// A command on a store of its own below `dir`.
    pub(super) fn command(self, dir: &Path, words: &[&str]) -> Command {
        let mut c = Command::new(self.program());
        let store = dir.join(self.name());
        match self {
            Tool::Layercake => c.args(words).env("LAYERCAKE_ROOT", store),
            Tool::Buildah => {
                let of = |name: &str| store.join(name).display().to_string();
                c.args(["--root", &of("root"), "--runroot", &of("run")]).args(words)
            }
        };
        c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        c
    }

    /// Builds `context` as `bench`; `more` are words that both take.
    pub(super) fn build(self, dir: &Path, dockerfile: &Path, context: &Path, more: &[&str]) -> Command {
        let (file, context) = (dockerfile.display().to_string(), context.display().to_string());
        let fixed: &[&str] = match self {
            Tool::Layercake => &["build", "--progress=plain"],
            Tool::Buildah => &["bud", "--layers", "--jobs=8"],
        };
        let words: Vec<&str> = fixed.iter().copied().chain(more.iter().copied()).collect();
        self.command(dir, &[&words[..], &["-t", "bench", "-f", &file, &context]].concat())
    }
}

/// Processor time of all children that were waited for.
fn children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|e| format!("cannot read /proc: {e}"))?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    // proc(5): fields 16 and 17, in ticks; after the name come fields 3 and on. A tick is 10 ms.
    let ticks: u64 = after.split_whitespace().skip(13).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Runs commands one after the other and times them together.
pub(super) fn timed(commands: impl IntoIterator<Item = Command>) -> Result<Cost> {
    let (begin, before) = (Instant::now(), children()?);
    for mut command in commands {
        let out = command.output().map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(format!(
                "{command:?}: {}\n{}",
                out.status,
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
    }
    Ok(Cost { wall: begin.elapsed(), cpu: children()?.saturating_sub(before) })
}
