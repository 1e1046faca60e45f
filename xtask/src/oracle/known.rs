//! Differences that are known, each with its reason. docs/differences.md has them for users.

use super::case::{Case, Item, What};

/// Who does otherwise than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd<'a> {
    /// BuildKit refuses what layercake builds, and says this.
    BuildKit(&'a str),
    /// layercake refuses what BuildKit builds, and says this.
    Layercake(&'a str),
    /// Both build, and this is one line of what differs.
    Result(&'a str),
}

/// One known difference.
struct Known {
    /// Who does otherwise, and words that are in what is said.
    odd: Odd<'static>,
    /// Whether the case is one for it, by what is said and one of its lines.
    when: fn(&Case, &str, &str) -> bool,
    /// Why it is so.
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        odd: Odd::BuildKit("\"/\": not found"),
        when: |_, _, line| line.contains("--parents"),
        why: "a source of / with --parents is copied here, and not found there",
    },
    Known {
        odd: Odd::BuildKit("not found"),
        when: |case, said, line| {
            (line.contains("--parents") || line.contains("--exclude")) && about_a_link(case, said)
        },
        why: "links that lead nowhere are copied here with --parents or --exclude, and not found there",
    },
    Known {
        odd: Odd::BuildKit("lstat /"),
        when: |_, _, line| has_pattern(line),
        why: "a pattern below a directory that nothing else transfers finds nothing here, and is an error there",
    },
    Known {
        odd: Odd::Layercake("not found in s"),
        when: |case, _, line| {
            let from = line.split_once("--from=").map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
            line.contains("--parents")
                && from.is_some_and(|s| case.dockerfile.contains(&format!("FROM {s} ")))
        },
        why: "what a stage lacks is not missed by --parents there, if the copying stage begins with it",
    },
    Known {
        odd: Odd::Layercake("--parents does not follow the link"),
        when: |_, _, line| line.contains("--parents"),
        why: "--parents through a link of a directory is an error here, and copies nothing there",
    },
    Known {
        odd: Odd::Result("BuildKit has nothing"),
        when: |case, _, line| line.contains("--exclude") && has_pattern(line) && links(case).next().is_some(),
        why: "with --exclude, what lies behind links that a pattern finds is copied here, and not transferred there",
    },
    Known {
        odd: Odd::Result("layercake has hard link to"),
        when: |_, _, _| true,
        why: "names of a file that lower layers have as a file of its own become links here, and stay what they were there",
    },
];

/// The reason for a difference, if it is known.
pub(super) fn why(case: &Case, odd: Odd<'_>) -> Option<&'static str> {
    let is = |k: &&Known| {
        let said = match (k.odd, odd) {
            (Odd::BuildKit(words), Odd::BuildKit(said))
            | (Odd::Layercake(words), Odd::Layercake(said))
            | (Odd::Result(words), Odd::Result(said)) => Some(said).filter(|s| s.contains(words)),
            _ => None,
        };
        said.is_some_and(|said| case.dockerfile.lines().any(|line| (k.when)(case, said, line)))
    };
    KNOWN.iter().find(is).map(|k| k.why)
}

fn has_pattern(line: &str) -> bool {
    line.contains(['*', '?', '['])
}

/// Whether the path in what is said, `"/a/b": not found`, ends like that of a symbolic link of the case, or is one that a step makes.
fn about_a_link(case: &Case, said: &str) -> bool {
    let path = said.rsplit_once("\": not found").and_then(|(before, _)| before.rsplit_once('"'));
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let made =
        |path: &str| case.dockerfile.contains("ln -s") && case.dockerfile.contains(&format!(" {path}"));
    path.is_some_and(|(_, path)| made(path) || links(case).any(|i| name(&i.path) == name(path)))
}

fn links(case: &Case) -> impl Iterator<Item = &Item> {
    case.context.iter().chain(&case.other).filter(|i| matches!(i.what, What::Symlink(_)))
}
