//! A store of its own for each case, and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Says why a test does not run; an error where everything must.
pub(crate) fn skip(why: &str) {
    assert!(!everything(), "must not be skipped here: {why}");
    eprintln!("skipped: {why}");
}

/// Must all cases run?
pub(crate) fn everything() -> bool {
    std::env::var_os("LAYERCAKE_TEST_ALL").is_some()
}

/// The value of a variable that names a file.
pub(crate) fn file_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_file())
}

/// Is there such a program?
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A store and a place for files, gone at the end.
pub(crate) struct Lab {
    dir: TempDir,
}

/// How a step of a build ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ran,
    Cached,
}

impl Lab {
    /// `None`, with the reason said, where steps cannot run.
    pub(crate) fn new() -> Option<Lab> {
        if !is_root() {
            skip("needs root");
            return None;
        }
        if !Path::new("/dev/fuse").exists() {
            skip("needs /dev/fuse");
            return None;
        }
        // On a disk: /tmp may be in memory, and a distribution is large.
        let dir = tempfile::Builder::new().prefix("layercake-accept-").tempdir_in("/var/tmp");
        Some(Lab { dir: dir.expect("a temporary directory can be made") })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let parent = path.parent().expect("it is in the lab");
        std::fs::create_dir_all(parent).expect("directories can be made");
        std::fs::write(&path, text).expect("files can be written");
        path
    }

    /// Copies one of the repository's examples into the lab.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let to = self.path(name);
        std::fs::create_dir_all(&to).expect("directories can be made");
        for file in std::fs::read_dir(from).expect("the example is there") {
            let file = file.expect("the example can be listed");
            std::fs::copy(file.path(), to.join(file.file_name())).expect("its files can be copied");
        }
        to
    }

    /// The program with these words.
    pub(crate) fn layercake(&self, words: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_layercake"));
        c.args(words).env("LAYERCAKE_ROOT", self.path("store")).stdin(Stdio::null());
        c
    }

    /// What the program prints with these words; it must succeed.
    pub(crate) fn print(&self, words: &[&str]) -> String {
        text(&ok(&mut self.layercake(words)).stdout)
    }

    /// The same as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.print(words)).expect("it is JSON")
    }

    /// Builds, and tells how the steps ended, in the Dockerfile's order.
    pub(crate) fn build(&self, tag: &str, context: &Path, more: &[&str]) -> Vec<(String, Step)> {
        let mut command = self.layercake(&["build", "--progress=rawjson", "-t", tag]);
        // The events come on one of the two; what is not one (the summary) is not JSON.
        let out = ok(command.args(more).arg(context));
        let lines = [text(&out.stdout), text(&out.stderr)].concat();
        let events: Vec<Value> = lines.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let planned = events.iter().find(|e| e["event"] == "planned").expect("a build announces its steps");
        let steps = planned["steps"].as_array().expect("as a list");
        steps
            .iter()
            .map(|s| {
                let end = |kind: &str| events.iter().any(|e| e["event"] == kind && e["id"] == s["id"]);
                let step = match (end("done"), end("cached")) {
                    (true, false) => Step::Ran,
                    (false, true) => Step::Cached,
                    other => panic!("step {s} ended as {other:?}"),
                };
                (s["name"].as_str().unwrap_or_default().to_owned(), step)
            })
            .collect()
    }

    /// Builds `example/base` from the distribution's busybox. `None`, with the reason said, where that is not a static program.
    pub(crate) fn base(&self) -> Option<()> {
        const BUSYBOX: &str = "/bin/busybox";
        let context = self.example("base");
        // A dynamic one needs libraries that the image will not have.
        let dynamic = |bytes: &[u8]| bytes.windows(9).any(|w| w == b"/ld-linux");
        match std::fs::read(BUSYBOX) {
            Ok(bytes) if !dynamic(&bytes) => {}
            _ => {
                skip("busybox-static is not installed");
                return None;
            }
        }
        std::fs::copy(BUSYBOX, context.join("busybox")).expect("it can be copied");
        self.build("example/base", &context, &[]);
        Some(())
    }

    /// `history`, the first step first: instruction and bytes of its layer.
    pub(crate) fn history(&self, image: &str) -> Vec<(String, u64)> {
        let list = self.json(&["history", "--format", "json", image]);
        let mut out: Vec<(String, u64)> = list
            .as_array()
            .expect("history is a list")
            .iter()
            .map(|h| {
                let by = h["created_by"].as_str().unwrap_or_default().to_owned();
                (by, h["size"].as_u64().expect("a size in bytes"))
            })
            .collect();
        out.reverse();
        out
    }

    /// Bytes in all layers.
    pub(crate) fn size(&self, image: &str) -> u64 {
        self.history(image).iter().map(|h| h.1).sum()
    }
}

/// Runs a command, which must succeed.
pub(crate) fn ok(command: &mut Command) -> Output {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = |bytes: &[u8]| text(&bytes[bytes.len().saturating_sub(4000)..]);
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}\n{}",
        out.status,
        said(&out.stdout),
        said(&out.stderr)
    );
    out
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// 1234567 as `1,234,567 B`.
pub(crate) fn bytes(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out + " B"
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0")))
}
