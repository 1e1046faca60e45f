//! `cargo xtask fuzz`: the fuzz targets in `fuzz/`, a workspace of its own.
//!
//! A target is one file in `fuzz/src/bin`. What it starts from are the files in `fuzz/seeds/NAME`, words that mean something to it
//! stand in `fuzz/words/NAME` (libFuzzer's dictionary format), and both may be missing. What a run learns is kept in
//! `target/fuzz/corpus/NAME`, inputs that break something in `target/fuzz/found/NAME`.
//!
//! The coverage that guides the engine comes from flags of the stable compiler; no nightly toolchain is needed.

use std::path::Path;
use std::process::Command;

use crate::sh::{self, Result};

/// LLVM's counters at each edge, and what comparisons compare.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// The longest input, in bytes.
const LONGEST: &str = "-max_len=8192";

/// Checks that all targets compile; the engine itself is left out, as it needs a C++ compiler.
pub(crate) fn check() -> Result<()> {
    sh::heading("fuzz targets");
    let argv = ["cargo", "check", "--locked", "--no-default-features", "--manifest-path", "fuzz/Cargo.toml"];
    sh::run(sh::command(&argv).env("CARGO_TARGET_DIR", sh::target()))
}

/// `fuzz` lists the targets; `fuzz NAME [SECONDS [DIRECTORY...]]` runs one, with more seeds from the directories.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let Some(name) = words.first() else {
        for target in targets()? {
            println!("{target}");
        }
        return Ok(());
    };
    if !targets()?.contains(name) {
        return Err(format!("no fuzz target is called {name}"));
    }
    let seconds: u32 = match words.get(1) {
        Some(text) => text.parse().map_err(|_| format!("{text} is no number of seconds"))?,
        None => 60,
    };
    let host = sh::read(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let host = host.trim();
    let dir = sh::target().join("fuzz");
    // With a target named, the flags do not reach build scripts and macros.
    let argv =
        ["cargo", "build", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", host];
    let mut build = sh::command(&argv);
    build.args(["--bin", name]).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &dir);
    sh::run(&mut build)?;
    let (corpus, found) = (dir.join("corpus").join(name), dir.join("found").join(name));
    for dir in [&corpus, &found] {
        std::fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    }
    let mut fuzz = sh::command(&["nice", "-n", "19"]);
    fuzz.arg(dir.join(host).join("release").join(name)).arg(&corpus);
    let seeds = sh::root().join("fuzz/seeds").join(name);
    fuzz.args(Some(seeds).filter(|dir| dir.is_dir())).args(words.iter().skip(2));
    let dictionary = sh::root().join("fuzz/words").join(name);
    fuzz.args(Some(dictionary).filter(|file| file.is_file()).map(|file| option("dict", &file)));
    fuzz.arg(format!("{}/", option("artifact_prefix", &found)));
    fuzz.arg(format!("-max_total_time={seconds}"));
    sh::run(fuzz.args([LONGEST, "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]))
}

fn option(name: &str, path: &Path) -> String {
    format!("-{name}={}", path.display())
}

/// The names of all targets, sorted.
fn targets() -> Result<Vec<String>> {
    let dir = sh::root().join("fuzz/src/bin");
    let files = std::fs::read_dir(&dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))?;
    let name = |file: std::fs::DirEntry| Some(file.path().file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = files.filter_map(|file| name(file.ok()?)).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_words_belong_to_a_target() {
        let targets = targets().expect("the directory is there");
        assert!(targets.len() >= 4, "{targets:?}");
        for part in ["seeds", "words"] {
            for entry in
                std::fs::read_dir(sh::root().join("fuzz").join(part)).expect("the directory is there")
            {
                let name = entry.expect("an entry").file_name().into_string().expect("a name");
                assert!(targets.contains(&name), "{part}/{name} is of no target");
            }
        }
    }
}
