//! `cargo xtask tidy`: rules about the files of the repository that no compiler checks.
//!
//! - No paths or host names of one machine: what is committed works everywhere.
//! - `unsafe` in the sandbox crate only. (That each block says why it is sound is clippy's business: `undocumented_unsafe_blocks`.)
//! - A source file is one room: at most [`LONGEST`] lines, or a reason in [`LONG`].
//! - Packages: their number, where they come from, their licences ([`supply`]).

use std::path::Path;

use crate::sh::{self, Result};
use crate::supply::{self, BUDGET};

/// Lines of a source file.
const LONGEST: usize = 900;
/// Longer files, and why they stay whole.
const LONG: &[(&str, &str)] = &[];
/// Beginnings of paths of one machine. In two parts, so that this file keeps its own rule.
const PLACES: &[(&str, &str)] =
    &[("/wo", "rk/main"), ("/wo", "rk/shared"), ("/wo", "rk/."), ("/tm", "p/lc/"), ("/ro", "ot/.cargo")];

/// Checks all tracked files.
pub(crate) fn run() -> Result<()> {
    let root = sh::root();
    let files =
        sh::read(&mut sh::command(&["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let mut bad = Vec::new();
    let mut seen = 0;
    for name in files.split('\0').filter(|n| !n.is_empty()) {
        // Tracked, but removed in the work tree; or not text.
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { continue };
        seen += 1;
        bad.extend(check(name, &text));
    }
    let (about, packages) = supply::check(&root)?;
    bad.extend(about);
    for (name, reason) in LONG {
        if !root.join(name).exists() {
            bad.push(format!("{name}: listed as long ({reason}), but it is not there"));
        }
    }
    if !bad.is_empty() {
        return Err(format!("{} places are not tidy:\n  {}", bad.len(), bad.join("\n  ")));
    }
    println!("tidy: {seen} files, {packages} of at most {BUDGET} packages in Cargo.lock");
    Ok(())
}

/// What is wrong with a file.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut bad = Vec::new();
    let rust = name.ends_with(".rs");
    for (n, line) in text.lines().enumerate() {
        for (a, b) in PLACES {
            if has_path(line, &format!("{a}{b}")) {
                bad.push(format!("{name}:{}: path of one machine: {a}{b}...", n + 1));
            }
        }
        if rust && !name.starts_with("crates/sandbox/") && uses_unsafe(line) {
            bad.push(format!("{name}:{}: `unsafe` outside of crates/sandbox", n + 1));
        }
    }
    let lines = text.lines().count();
    let source = rust || Path::new(name).extension().is_some_and(|e| e == "sh");
    if source && lines > LONGEST && !LONG.iter().any(|(f, _)| *f == name) {
        bad.push(format!("{name}: {lines} lines, at most {LONGEST}: what belongs into a room of its own?"));
    }
    bad
}

/// Does a path begin like this here? `a/work/` does not.
fn has_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "/._-".contains(c))
    })
}

/// `unsafe` as a word of the language: before a block, a function, an impl, a trait, an extern block, or as an attribute.
fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("unsafe").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].trim_start();
        !before.is_some_and(|c| c.is_alphanumeric() || "_\"`".contains(c))
            && ["{", "fn ", "impl ", "impl<", "trait ", "extern ", "("].iter().any(|s| after.starts_with(s))
            || after.is_empty() && code.trim_start().starts_with(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found() {
        let (a, b) = PLACES[0];
        assert_eq!(check("x.md", &format!("see {a}{b}/x")).len(), 1);
        assert!(check("x.md", &format!("see net{a}{b}, .{a}{b} and /wo rk/main")).is_empty());
    }

    #[test]
    fn unsafe_is_found_where_it_is_code() {
        // Not spelled out here: the rule looks at this file, too.
        let code = |text: &str| text.replace("UNSAFE", "unsafe");
        for yes in ["    let x = UNSAFE { f() };", "pub UNSAFE fn f() {", "UNSAFE impl Send for X {}"] {
            assert!(uses_unsafe(&code(yes)), "{yes}");
        }
        for no in ["#![allow(UNSAFE_code)]", "// UNSAFE { no }", "    // it is UNSAFE fn to", "\"UNSAFE {\""]
        {
            assert!(!uses_unsafe(&code(no)), "{no}");
        }
        assert!(!check("crates/oci/src/x.rs", &code("UNSAFE { }")).is_empty());
        assert!(check("crates/sandbox/src/x.rs", &code("UNSAFE { }")).is_empty());
        assert!(check("README.md", &code("UNSAFE { }")).is_empty());
    }

    #[test]
    fn long_files_need_a_reason() {
        assert!(check("crates/x/src/a.rs", &"\n".repeat(LONGEST)).is_empty());
        assert_eq!(check("crates/x/src/a.rs", &"\n".repeat(LONGEST + 1)).len(), 1);
        assert!(check("Cargo.lock", &"\n".repeat(LONGEST + 1)).is_empty());
    }
}
