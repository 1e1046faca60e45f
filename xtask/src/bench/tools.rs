//! The programs that are timed, each as a user calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sh;

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
