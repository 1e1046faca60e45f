//! `cargo xtask demo`: the main job on the examples, from nothing: a base image of one program, an image on it that is built again
//! after a change, and an image of several stages. Nothing is fetched but packages; nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sh::{self, Result};
use crate::{packages, sh::heading};

/// Shows the program at work.
pub(crate) fn run(words: &[String]) -> Result<()> {
    if let Some(w) = words.first() {
        return Err(format!("demo takes no words, not {w}"));
    }
    heading("packages");
    let missing = packages::install(&[packages::COMPILER, packages::DEMO]);
    if !missing.is_empty() {
        return Err(format!("the demo needs these packages: {}", missing.join(", ")));
    }
    heading("the program");
    let program = sh::layercake()?;

    // On a disk: where /tmp is in memory, the store would be, too.
    let temp = tempfile::Builder::new().prefix("layercake-demo-").tempdir_in("/var/tmp");
    let temp = temp.map_err(|e| format!("cannot make a directory in /var/tmp: {e}"))?;
    copy(&sh::root().join("examples"), temp.path())?;
    let examples = temp.path();
    let at = |name: &str| examples.join(name);
    let as_root = packages::as_root().ok_or("steps need root, and there is no sudo")?;
    if !as_root.is_empty() {
        println!("steps need root: the program is run through sudo");
    }
    let store = format!("LAYERCAKE_ROOT={}", at("store").display());
    let layercake = |words: &[&str]| {
        let mut c = Command::new("env");
        if let Some((sudo, rest)) = as_root.split_first() {
            c = Command::new(sudo);
            c.args(rest).arg("env");
        }
        c.arg(&store).arg(&program).args(words).current_dir(examples).stdin(Stdio::null());
        println!("$ layercake {}", words.join(" "));
        let status = c.status().map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        if status.success() { Ok(()) } else { Err(format!("layercake {}: {status}", words.join(" "))) }
    };

    let shown = show(&layercake, &at);
    if !as_root.is_empty() {
        // What root made here only root can remove.
        sh::read(sh::command(as_root).args(["rm", "-rf", "--"]).arg(at("store")))?;
    }
    shown?;
    println!("\nThe store of this demo is removed; the program is {}", program.display());
    Ok(())
}

/// The tour, with a way to call the program, and one to name files of the examples.
fn show(layercake: &dyn Fn(&[&str]) -> Result<()>, at: &dyn Fn(&str) -> PathBuf) -> Result<()> {
    heading("a base image: one program, FROM scratch");
    std::fs::copy("/bin/busybox", at("base/busybox"))
        .map_err(|e| format!("cannot copy /bin/busybox: {e}"))?;
    layercake(&["build", "--progress=plain", "-t", "example/base", "base"])?;

    heading("an image on it: every step runs");
    layercake(&["build", "--progress=plain", "-t", "example/cache", "cache"])?;
    heading("again, with nothing changed: every step comes from the cache");
    layercake(&["build", "--progress=plain", "-t", "example/cache", "cache"])?;
    heading("again, with example.txt changed: the install stays, COPY and the RUN that reads the file run");
    let text = std::fs::read(at("cache/example.txt")).map_err(|e| e.to_string())?;
    file(&at("cache/example.txt"), &[text.as_slice(), b"A line more.\n"].concat())?;
    layercake(&["build", "--progress=plain", "-t", "example/cache", "cache"])?;
    heading("its layers, the latest first");
    layercake(&["history", "example/cache"])?;
    heading("the image runs");
    layercake(&["run", "example/cache"])?;

    heading("several stages, of which one ships");
    layercake(&["build", "--progress=plain", "-t", "example/multistage", "multistage"])?;
    heading("its layers: a program and two files, nothing of the stages that made them");
    layercake(&["history", "example/multistage"])?;
    layercake(&["run", "example/multistage"])?;
    heading("what there is now");
    layercake(&["images"])
}

fn file(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// Copies a directory of directories and files.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: std::io::Error| format!("cannot copy {}: {e}", from.display());
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).map_err(failed)?;
            // The permissions of the checkout are not everywhere the same.
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .map_err(failed)?;
        }
    }
    Ok(())
}
