//! Packages of the distribution (Debian, Ubuntu).
//!
//! A package is looked for by what it brings, so that programs installed by other means count. What is missing is installed with
//! apt-get as root, or through sudo; without either it is named, and whoever needs it skips itself.

use std::io::IsTerminal;
use std::path::Path;

use crate::sh::{self, Result};

/// A package, and the file or program by which it is known to be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// A program's name, or an absolute path.
    pub(crate) brings: &'static str,
}

const fn package(name: &'static str, brings: &'static str) -> Package {
    Package { name, brings }
}

/// The C compiler that SQLite and zstd are built with.
pub(crate) const COMPILER: &[Package] =
    &[package("gcc", "cc"), package("libc6-dev", "/usr/include/stdlib.h")];

/// For `cargo xtask demo`.
pub(crate) const DEMO: &[Package] = &[package("busybox-static", "/bin/busybox")];

/// For the test suite. Each is used by tests that skip themselves without it.
pub(crate) const TEST: &[Package] = &[
    package("busybox-static", "/bin/busybox"),
    package("chromium", "chromium"),
    package("docker-registry", "docker-registry"),
    package("git", "git"),
    package("mmdebstrap", "mmdebstrap"),
    package("openssl", "openssl"),
    package("python3", "python3"),
    package("skopeo", "skopeo"),
    package("tmux", "tmux"),
    package("zstd", "zstd"),
];

/// For the acceptance cases, besides [`TEST`].
pub(crate) const ACCEPT: &[Package] = &[
    package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    package("podman", "podman"),
    package("umoci", "umoci"),
];

fn present(p: &Package) -> bool {
    if p.brings.starts_with('/') { Path::new(p.brings).exists() } else { sh::which(p.brings).is_some() }
}

/// Installs those that are not there. Gives the names of those that could not be had.
pub(crate) fn install(wanted: &[&[Package]]) -> Vec<&'static str> {
    let missing: Vec<Package> = wanted.iter().copied().flatten().copied().filter(|p| !present(p)).collect();
    if missing.is_empty() {
        println!("packages: all there");
        return Vec::new();
    }
    let names: Vec<&'static str> = missing.iter().map(|p| p.name).collect();
    println!("packages: {} missing, installing them with apt-get", names.join(", "));
    if let Err(e) = apt(&names) {
        println!("packages: not installed: {e}");
    }
    let left: Vec<&'static str> = missing.iter().filter(|p| !present(p)).map(|p| p.name).collect();
    if !left.is_empty() {
        println!("packages: without {}: what needs them is skipped", left.join(", "));
    }
    left
}

/// What to put in front of a command that needs root; `None` where that cannot be had. Nobody is asked for a password where nobody
/// can answer.
pub(crate) fn as_root() -> Option<&'static [&'static str]> {
    if sh::is_root() {
        return Some(&[]);
    }
    sh::which("sudo")?;
    let somebody = std::io::stdin().is_terminal() && std::env::var_os("CI").is_none();
    Some(if somebody { &["sudo"] } else { &["sudo", "-n"] })
}

fn apt(names: &[&str]) -> Result<()> {
    if sh::which("apt-get").is_none() {
        return Err("there is no apt-get here".into());
    }
    let as_root = as_root().ok_or("not root, and there is no sudo")?;
    let apt = |words: &[&str]| {
        let fixed =
            ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
        let argv: Vec<&str> = as_root.iter().chain(&fixed).chain(words).copied().collect();
        let mut command = sh::command(&argv);
        if as_root == ["sudo"] {
            command.stdin(std::process::Stdio::inherit());
        }
        sh::run(&mut command)
    };
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].iter().chain(names).copied().collect();
    // The lists may be old, or not there at all: then the first attempt fails without having changed anything.
    apt(&install).or_else(|_| {
        apt(&["update"])?;
        apt(&install)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        assert!(present(&package("coreutils", "/")));
        assert!(present(&package("dash", "sh")));
        assert!(!present(&package("nothing", "no-such-program-at-all")));
        assert_eq!(install(&[&[package("dash", "sh")]]), Vec::<&str>::new());
    }
}
