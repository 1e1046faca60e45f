//! Running other programs, and where things lie.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An error is what to print.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command in the checkout that reads nothing from the terminal.
pub(crate) fn command(argv: &[&str]) -> Command {
    let mut c = Command::new(argv[0]);
    c.args(&argv[1..]).current_dir(root()).stdin(Stdio::null());
    c
}

/// Says what is run and runs it, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", text(command));
    let status = command.status().map_err(|e| format!("cannot start {}: {e}", text(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", text(command))) }
}

/// Builds layercake as it is released, and gives the program.
pub(crate) fn layercake() -> Result<PathBuf> {
    run(&mut command(&["cargo", "build", "--release", "--locked", "-p", "layercake"]))?;
    Ok(target().join("release/layercake"))
}

/// Runs a command and gives its standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|e| format!("cannot start {}: {e}", text(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(format!("{}: {}\n{}", text(command), out.status, said.trim_end()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The command as a person would type it.
fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(word).collect::<Vec<_>>().join(" ")
}

fn word(w: &OsStr) -> String {
    let w = w.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@+%".contains(c);
    if !w.is_empty() && w.chars().all(plain) { w.into_owned() } else { format!("'{w}'") }
}

/// Looks a program up in PATH, and in the directories that only root's PATH has.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

/// Is this process root?
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|s| {
        s.lines()
            .find_map(|l| l.strip_prefix("Uid:"))
            .and_then(|l| l.split_whitespace().nth(1).map(|effective| effective == "0"))
            .unwrap_or(false)
    })
}

/// A heading in the output.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// `1 m 02 s`, `12.3 s`.
pub(crate) fn seconds(d: Duration) -> String {
    match d.as_secs() {
        s if s >= 60 => format!("{} m {:02} s", s / 60, s % 60),
        _ => format!("{:.1} s", d.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut c = command(&["sh", "-c", "echo $X"]);
        assert_eq!(text(&c), "sh -c 'echo $X'");
        assert_eq!(read(c.env("X", "7")).as_deref(), Ok("7\n"));
        assert!(run(&mut command(&["false"])).is_err());
        assert!(read(&mut command(&["/no/such/program"])).is_err());
    }

    #[test]
    fn programs_are_found() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-at-all").is_none());
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(62)), "1 m 02 s");
    }
}
