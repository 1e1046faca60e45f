//! What we build on: where packages come from, under which licences, and what none of them may be.
//!
//! The same rules stand in `deny.toml`, for `cargo deny check licenses sources bans`, which knows more (advisories among it, if it can reach
//! its database). These here need neither a further tool nor a network, so they are part of every run of CI.
//!
//! A licence is an SPDX expression: `OR` is a choice, `AND` and `WITH` bind closer, and `/` is an old form of `OR`.

use std::path::Path;

use serde_json::Value;

use crate::sh::{self, Result};

/// Packages in Cargo.lock, ours included: each is code that somebody has to trust.
pub(crate) const BUDGET: usize = 260;

/// The only place that packages come from.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that ask for no more than their text to be kept.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    // Tables of characters.
    "Unicode-3.0",
    // The list of root certificates.
    "CDLA-Permissive-2.0",
    // The library of that name.
    "bzip2-1.0.6",
];

/// What must not come in, not even through others, and why.
const BANNED: &[(&str, &str)] = &[
    ("tokio", "no asynchronous runtime"),
    ("async-std", "no asynchronous runtime"),
    ("openssl-sys", "one TLS library, and none that has to be installed"),
    ("native-tls", "one TLS library"),
];

/// What is wrong with the packages; and their number.
pub(crate) fn check(root: &Path) -> Result<(Vec<String>, usize)> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock"))
        .map_err(|e| format!("cannot read Cargo.lock: {e}"))?;
    let (mut bad, packages) = check_lock(&lock);
    let host = sh::read(std::process::Command::new("rustc").args(["--print", "host-tuple"]))?;
    // For this platform only, since the packages of others need not be there.
    let argv = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", host.trim()];
    let metadata: Value = serde_json::from_str(&sh::read(&mut sh::command(&argv))?)
        .map_err(|e| format!("cargo metadata makes no sense: {e}"))?;
    let text = |p: &Value, key: &str| p[key].as_str().unwrap_or_default().to_owned();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !allowed(&licence) {
            bad.push(format!("Cargo.lock: {name} has the licence {licence:?}"));
        }
    }
    Ok((bad, packages))
}

/// What the lock file alone tells.
fn check_lock(lock: &str) -> (Vec<String>, usize) {
    let mut bad = Vec::new();
    let packages: Vec<&str> = lock.split("[[package]]\n").skip(1).collect();
    for package in &packages {
        let get = |key: &str| {
            package.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let name = get("name").unwrap_or_default();
        match get("source") {
            Some(SOURCE) if get("checksum").is_some() => {}
            Some(SOURCE) => bad.push(format!("Cargo.lock: {name} has no checksum")),
            Some(source) => bad.push(format!("Cargo.lock: {name} comes from {source}")),
            None if name == "xtask" || name.starts_with("layercake") => {}
            None => bad.push(format!("Cargo.lock: {name} comes from nowhere")),
        }
        if let Some((_, why)) = BANNED.iter().find(|(n, _)| *n == name) {
            bad.push(format!("Cargo.lock: {name} must not come in: {why}"));
        }
    }
    if packages.len() > BUDGET {
        bad.push(format!("Cargo.lock: {} packages, the budget is {BUDGET}", packages.len()));
    }
    (bad, packages.len())
}

/// Whether an SPDX expression can be met with [`LICENCES`].
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    either(&mut rest) == Some(true) && rest.is_empty()
}

/// Alternatives. `None` here and below: this is no expression.
fn either(words: &mut &[&str]) -> Option<bool> {
    let mut good = both(words)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        good |= both(words)?;
    }
    Some(good)
}

fn both(words: &mut &[&str]) -> Option<bool> {
    let mut good = one(words)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        good &= one(words)?;
    }
    Some(good)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    let (name, rest) = words.split_first()?;
    *words = rest;
    let good = if *name == "(" {
        let good = either(words)?;
        *words = words.strip_prefix(&[")"])?;
        good
    } else {
        LICENCES.contains(name)
    };
    // An exception only gives further rights.
    if let ["WITH", _, rest @ ..] = *words {
        *words = rest;
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences() {
        for yes in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "MIT AND (ISC OR GPL-3.0-only)",
        ] {
            assert!(allowed(yes), "{yes}");
        }
        for no in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR ISC) AND MPL-2.0",
            "MIT ISC",
            "(MIT",
            "MIT OR",
            "AND MIT",
        ] {
            assert!(!allowed(no), "{no}");
        }
    }

    #[test]
    fn places_and_names() {
        let package = |text: &str| check_lock(&format!("version = 4\n\n[[package]]\n{text}\n")).0;
        let source = format!("source = \"{SOURCE}\"");
        assert_eq!(package(&format!("name = \"serde\"\n{source}\nchecksum = \"0\"")), [""; 0]);
        assert_eq!(package("name = \"layercake-oci\""), [""; 0]);
        for bad in [
            format!("name = \"serde\"\n{source}"),
            "name = \"serde\"\nsource = \"git+https://h/x#1\"".into(),
            "name = \"serde\"".into(),
            format!("name = \"tokio\"\n{source}\nchecksum = \"0\""),
        ] {
            assert_eq!(package(&bad).len(), 1, "{bad}");
        }
        let many = "[[package]]\nname = \"layercake\"\n\n".repeat(BUDGET + 1);
        assert_eq!(check_lock(&many), (vec!["Cargo.lock: 261 packages, the budget is 260".to_owned()], 261));
    }
}
