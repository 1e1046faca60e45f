//! Developer commands: `cargo xtask COMMAND`.
//!
//! Everything that is more than one line of shell and that a person or a CI machine needs lives here, so that both run the same
//! thing: [`tests`] (with [`conformance`]), [`demo`], [`accept`], [`bench`], [`fuzz`], [`oracle`], [`overhead`], [`replay`], [`tidy`]. They install the
//! distribution's packages that they need
//! ([`packages`]), and where they cannot, they say what is left out.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a developer tool prints and reads the environment; the rules are about the libraries"
)]

mod accept;
mod bench;
mod conformance;
mod demo;
mod fuzz;
mod junit;
mod oracle;
mod overhead;
mod packages;
mod random;
mod replay;
mod sh;
mod supply;
mod tests;
mod tidy;
mod timing;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo            build the program and show the main job on the examples
  test [WORDS]    install what the tests need and run them all; WORDS go to the test runner and leave the conformance suites out
  accept [1-5]    the acceptance cases on real input: needs root, packages, and for 4 the network
  bench [NAME...] time whole workloads beside other tools and limits; --runs N, --small
  conformance [S] the conformance suites where they lie beside the checkout (S: build, layers, parser, dockerignore)
  fuzz [NAME [S]] run a fuzz target for S seconds, or list them
  oracle          random Dockerfiles, built with layercake and with BuildKit, and where they differ: needs root, a running BuildKit
                  (--buildctl PATH, --addr ADDRESS), and for RUN --base TAR; --kind, --seed, --first, --count, --keep DIR
  overhead [NAME] what observing steps costs: needs root, FUSE, --base TAR and the network; --runs N
  replay [NAME]   histories of projects under Docker's rule and under ours: needs root, FUSE, and --base TAR or mmdebstrap
  tidy            rules about the files of the repository
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rest = words.get(1..).unwrap_or_default();
    let done = match words.first().map(String::as_str) {
        Some("demo") => demo::run(rest),
        Some("test") => tests::run(rest),
        Some("accept") => accept::run(rest),
        Some("bench") => bench::run(rest),
        Some("conformance") => conformance::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("oracle") => oracle::run(rest),
        Some("overhead") => overhead::run(rest),
        Some("replay") => replay::run(rest),
        Some("tidy") => tidy::run(),
        Some("help" | "-h" | "--help") => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprint!("{HELP}");
            eprintln!("\nerror: {}", other.map_or("no command".into(), |o| format!("no such command: {o}")));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
