//! `cargo xtask oracle [--buildctl PATH] [--addr ADDRESS] [--base TAR] [--kind language|copy|run|all] [--seed N] [--first N] [--count N]
//! [--keep DIR] [--program PATH]`: random Dockerfiles, built with layercake and with BuildKit, and where the results differ.
//!
//! | kind | cases |
//! |---|---|
//! | [`language`] | words, variables, directives, heredocs, and instructions that change the config |
//! | [`copy`] | COPY and ADD of deep trees with patterns, links, archives, ignore files, stages and a second context |
//! | run | RUN and everything around it ([`run`]), and what a step is given ([`mounts`]); needs `--base`, a root file system of busybox as a tar |
//!
//! Kind, seed and number make a [`case`], the same on each run; a case is built by itself, so `--first` and `--count 1` show it again. Both
//! builders write `type=oci`. Compared are ([`facts`]): whether it was built at all; the merged files by path, type, mode, owner, size, digest,
//! text of links and groups of hard links; the config; `created_by` and `empty_layer` of the history. Times are not, nor
//! is what both mount. What both refuse counts as the same, whatever they say. A difference with a reason ([`known`]) is counted apart.
//!
//! Needs root, since contexts have files of several owners, and a running BuildKit. `--keep` leaves the cases that differ in a directory, with
//! logs and archives.

mod builders;
mod case;
mod compare;
mod copy;
mod facts;
mod known;
mod language;
mod mounts;
mod run;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use self::builders::{Base, Builders};
use self::case::{Case, Kind};
use self::compare::Verdict;
use crate::sh::{self, Result};

/// Cases of each kind, if `--count` does not say otherwise.
const COUNT: u64 = 100;

/// Where BuildKit's daemon listens if nobody says otherwise.
const ADDRESS: &str = "unix:///run/buildkit/buildkitd.sock";

/// Lines of what differs that are shown of one case.
const SHOWN: usize = 20;

/// Builds cases and compares; an error if anything differs.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let mut words = words.iter();
    let (mut base, mut program, mut keep, mut kinds) = (None, None, None, None);
    let (mut buildctl, mut addr) = (PathBuf::from("buildctl"), ADDRESS.to_owned());
    let (mut seed, mut first, mut count) = (1, 0, COUNT);
    while let Some(w) = words.next() {
        let value = words.next().ok_or_else(|| format!("{w} is no flag, or needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{w} {value}: not a number"));
        match w.as_str() {
            "--buildctl" => buildctl = value.into(),
            "--addr" => addr.clone_from(value),
            "--base" => base = Some(PathBuf::from(value)),
            "--program" => program = Some(PathBuf::from(value)),
            "--keep" => keep = Some(std::path::absolute(value).map_err(|e| format!("{value}: {e}"))?),
            "--kind" if value == "all" => kinds = None,
            "--kind" => {
                let kind = Kind::ALL.into_iter().find(|k| k.name() == value);
                kinds = Some(kind.ok_or_else(|| format!("there is no kind {value}"))?);
            }
            "--seed" => seed = number()?,
            "--first" => first = number()?,
            "--count" => count = number()?,
            _ => return Err(format!("no flag {w}")),
        }
    }
    if kinds == Some(Kind::Run) && base.is_none() {
        return Err("--kind run needs --base TAR".into());
    }
    if !sh::is_root() {
        return Err("this needs root: contexts have files of several owners".into());
    }
    let program = program.map_or_else(sh::layercake, Ok)?;
    let dir = tempfile::tempdir().map_err(|e| format!("cannot make a directory: {e}"))?;
    let base = base.map(|tar| Base::new(&tar, dir.path().join("base"))).transpose()?;
    let builders = Builders { program, store: dir.path().join("store"), buildctl, addr, base };
    builders.check()?;
    let cases = keep.unwrap_or_else(|| dir.path().join("cases"));
    let kinds = Kind::ALL
        .into_iter()
        .filter(|k| kinds.map_or(*k != Kind::Run || builders.base.is_some(), |one| one == *k));
    let mut tally = Tally::default();
    for kind in kinds {
        for number in first..first.saturating_add(count) {
            one(&builders, &cases, (kind, seed, number), &mut tally)?;
        }
    }
    for (why, n) in &tally.known {
        println!("known, {n} times: {why}");
    }
    println!("{}", tally.line());
    if tally.differ == 0 { Ok(()) } else { Err(format!("{} cases differ", tally.differ)) }
}

/// How many cases came out how.
#[derive(Debug, Default)]
struct Tally {
    same: usize,
    refused: usize,
    /// By reason.
    known: BTreeMap<&'static str, usize>,
    differ: usize,
}

impl Tally {
    fn line(&self) -> String {
        let known: usize = self.known.values().sum();
        format!("{} same, {} both refused, {known} known, {} differ", self.same, self.refused, self.differ)
    }
}

/// Builds one case with both, and tells of it if they differ.
fn one(builders: &Builders, cases: &Path, id: (Kind, u64, u64), tally: &mut Tally) -> Result<()> {
    let (kind, seed, number) = id;
    let dir = cases.join(format!("{}-{seed}-{number}", kind.name()));
    let gone = |e| format!("cannot remove {}: {e}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(gone)?;
    }
    let case = Case::new(kind, seed, number);
    case.write(&dir)?;
    match compare::judge(&case, &builders.layercake(&case, &dir)?, &builders.buildkit(&case, &dir)?) {
        Verdict::Same => tally.same += 1,
        Verdict::BothRefused => tally.refused += 1,
        Verdict::Known(why) => *tally.known.entry(why).or_default() += 1,
        Verdict::Differ(lines) => {
            tally.differ += 1;
            sh::heading(&format!("--kind {} --seed {seed} --first {number} --count 1", kind.name()));
            print!("{}", told(&case));
            for line in lines.iter().take(SHOWN) {
                println!("differs: {line}");
            }
            if lines.len() > SHOWN {
                println!("differs: {} facts more", lines.len() - SHOWN);
            }
            return Ok(());
        }
    }
    fs::remove_dir_all(&dir).map_err(gone)
}

/// A case for people: what the builders are told, and the Dockerfile.
fn told(case: &Case) -> String {
    let said = [("--build-arg", case.build_arg), ("--target", case.target), ("--label", case.label)];
    let said: String =
        said.iter().filter_map(|(flag, value)| value.map(|v| format!("{flag} {v}\n"))).collect();
    let end = if case.dockerfile.ends_with('\n') { "" } else { "\n" };
    format!("{said}{}{end}", case.dockerfile)
}
