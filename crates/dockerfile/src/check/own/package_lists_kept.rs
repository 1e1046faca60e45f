//! PackageListsKept: the lists or the cache of the distribution's package manager stay in the layer.
//!
//! | manager | what stays | what helps in the same RUN |
//! |---|---|---|
//! | apt | `/var/lib/apt/lists`: 20 to 40 MB | `rm -rf /var/lib/apt/lists/*`, `apt-get dist-clean`, a cache mount |
//! | apk | `/var/cache/apk`: 2 MB | `--no-cache`, `rm` of it |
//! | dnf, yum, microdnf | `/var/cache/dnf`, `/var/cache/yum`: 30 to 200 MB | `dnf clean all`, `rm` of it, a cache mount |
//! | zypper | `/var/cache/zypp` | `zypper clean`, `rm` of it |
//! | pacman | `/var/cache/pacman/pkg` | `pacman -Scc`, `rm` of it |
//!
//! Only stages that are shipped are looked at. The fix is there for apk (`--no-cache`, if nothing else fetches the lists) and for apt (the
//! removal is put behind the last command, if all are joined by `&&` and nothing below needs the lists).

use super::super::facts::{Facts, Run};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers::{self, Manager};
use crate::shell::Joint;

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/PackageListsKept",
    summary: "lists and caches of package managers should not stay in the image",
    experimental: false,
    check: Check::Facts(check),
};

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for stage in facts.stages.iter().filter(|stage| stage.shipped) {
        let last_need = stage.runs.iter().rev().find(|run| needs_apt_lists(run)).map_or(0, |run| run.number);
        for run in &stage.runs {
            let needed = last_need > run.number;
            if let Some(finding) = apt(run, needed).or_else(|| apk(run)).or_else(|| others(run)) {
                reporter.report(&[run.statement], finding);
            }
        }
    }
}

/// Whether a RUN fetches the lists of apt and leaves them.
pub(super) fn keeps_apt_lists(run: &Run<'_>) -> bool {
    let apt = |program: &str| matches!(program, "apt-get" | "apt" | "aptitude");
    let is =
        |verb: &str| run.commands.iter().any(|c| apt(c.program()) && c.operands().any(|w| w.text == verb));
    is("update")
        && !is("dist-clean")
        && !is("distclean")
        && !run.mounted("/var/lib/apt/lists")
        && !removes(run, "apt")
}

/// Whether something that is called has this in its arguments and removes it: `rm`, `find -delete`.
fn removes(run: &Run<'_>, what: &str) -> bool {
    run.commands.iter().any(|c| {
        let removes = matches!(c.program(), "rm" | "unlink") || c.has("-delete") || c.has("rm");
        let all = |text: &str| matches!(text, "/var/lib/*" | "/var/cache/*" | "/var/cache" | "/var/*");
        // With a variable in the word it cannot be known.
        removes && c.args().iter().any(|w| w.text.contains(what) || all(&w.text) || !w.literal)
    })
}

/// Whether a RUN uses apt without fetching the lists first.
fn needs_apt_lists(run: &Run<'_>) -> bool {
    let mut apt = run.commands.iter().filter(|c| matches!(c.program(), "apt-get" | "apt" | "aptitude"));
    apt.next().is_some_and(|c| !c.has("update"))
}

/// `needed`: something below needs the lists.
fn apt(run: &Run<'_>, needed: bool) -> Option<Finding> {
    if !keeps_apt_lists(run) {
        return None;
    }
    let finding = Finding::new(run.statement, "the package lists of apt stay in the layer")
        .help("end with: && rm -rf /var/lib/apt/lists/*");
    let joined =
        run.commands.iter().all(|c| c.depth == 0 && c.before != Joint::Or && c.before != Joint::Background)
            && run.commands.iter().skip(1).all(|c| matches!(c.before, Joint::And | Joint::Pipe))
            && run.commands.last().is_some_and(|c| c.after == Joint::Then && c.before == Joint::And);
    // The text must end with the command: no comment, no `;`, no redirection that would take the addition with it.
    let end = run.statement.words.last().map(|word| word.text.len());
    let at_end = run.commands.last().and_then(|c| c.words.last()).map(|word| word.end);
    match end.and_then(|end| run.place(end, end)) {
        Some(_) if joined && end == at_end && !needed => {
            let place = run.place(end.unwrap_or_default().saturating_sub(1), end.unwrap_or_default())?;
            Some(finding.fix(crate::Span::new(place.end, place.end), " && rm -rf /var/lib/apt/lists/*"))
        }
        _ => Some(finding),
    }
}

fn apk(run: &Run<'_>) -> Option<Finding> {
    if run.mounted("/var/cache/apk") || removes(run, "apk") || run.mounted("/etc/apk/cache") {
        return None;
    }
    let updates = run.commands.iter().any(|c| {
        c.program() == "apk" && c.operands().any(|w| matches!(w.text.as_str(), "update" | "upgrade"))
    });
    let mut adds = run.commands.iter().filter_map(|c| {
        let install = managers::install(c).filter(|install| install.manager == Manager::Apk)?;
        (!c.has("--no-cache")).then_some(install)
    });
    let first = adds.next()?;
    let finding = Finding::new(run.statement, "the package lists of apk stay in the layer")
        .help("use: apk add --no-cache");
    let verb = first.verb.and_then(|verb| run.place(verb.start, verb.end));
    Some(match verb {
        Some(verb) if !updates => finding.fix(crate::Span::new(verb.end, verb.end), " --no-cache"),
        _ => finding,
    })
}

fn others(run: &Run<'_>) -> Option<Finding> {
    let found = run.commands.iter().filter_map(managers::install).map(|install| install.manager);
    for manager in found {
        let (name, directories, help) = match manager {
            Manager::Dnf => {
                ("dnf", ["/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum"], "dnf clean all")
            }
            Manager::Yum => {
                ("yum", ["/var/cache/yum", "/var/cache/dnf", "/var/cache/libdnf5"], "yum clean all")
            }
            Manager::Zypper => ("zypper", ["/var/cache/zypp"; 3], "zypper clean"),
            Manager::Pacman => ("pacman", ["/var/cache/pacman/pkg"; 3], "pacman -Scc --noconfirm"),
            _ => continue,
        };
        let cleans = run.commands.iter().any(|c| c.has("clean") || c.has("-Scc") || c.has("cc"));
        let removed = ["/var/cache", "dnf", "yum", "zypp", "pacman"].iter().any(|part| removes(run, part));
        if cleans || removed || directories.iter().any(|d| run.mounted(d)) {
            return None;
        }
        let message = format!("the package cache of {name} stays in the layer");
        return Some(Finding::new(run.statement, message).help(format!("end with: && {help}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines, some_fixed};
    use super::*;

    fn one(run: &str) -> bool {
        !lines(&RULE, &format!("FROM a:1\n{run}\n")).is_empty()
    }

    #[test]
    fn what_stays() {
        for run in [
            "RUN apt-get update && apt-get install -y gcc",
            "RUN apt-get -qq update; apt-get install x; apt-get clean",
            "RUN <<E\napt-get update\napt-get install x\nE",
            "RUN apk add gcc",
            "RUN apk add -U gcc",
            "RUN apk update && apk add gcc",
            "RUN dnf install -y gcc",
            "RUN microdnf install gcc",
            "RUN yum -y install gcc && rm -rf /tmp/x",
            "RUN zypper -n in gcc",
            "RUN pacman -Sy --noconfirm gcc",
        ] {
            assert!(one(run), "{run}");
        }
    }

    #[test]
    fn what_does_not() {
        for run in [
            "RUN apt-get update && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*",
            "RUN apt-get update && apt-get install -y gcc && rm -rf /var/lib/{apt,dpkg,cache,log}",
            "RUN apt-get update && apt-get install -y gcc && find /var/lib/apt/lists -delete",
            "RUN apt-get update && apt-get dist-clean",
            "RUN --mount=type=cache,target=/var/lib/apt apt-get update && apt-get install x",
            "RUN apt-get install x",
            "RUN echo apt-get update",
            "RUN apk add --no-cache gcc",
            "RUN apk add -U gcc && rm -rf /var/cache/apk/*",
            "RUN --mount=type=cache,target=/var/cache/apk apk add gcc",
            "RUN dnf install -y gcc && dnf clean all",
            "RUN yum install -y gcc && rm -rf /var/cache/yum",
            "RUN --mount=type=cache,target=/var/cache/dnf dnf install x",
            "RUN zypper -n in gcc && zypper clean -a",
            "RUN pacman -S gcc && pacman -Scc --noconfirm",
            "RUN pacman -Scc",
        ] {
            assert!(!one(run), "{run}");
        }
    }

    #[test]
    fn stages_that_are_not_shipped() {
        assert_eq!(lines(&RULE, "FROM a AS b\nRUN apk add x\nFROM c\nCOPY --from=b /x /\n"), [0; 0]);
        assert_eq!(lines(&RULE, "FROM a AS b\nRUN apk add x\nFROM b\nCMD [\"x\"]\n"), [2]);
    }

    #[test]
    fn fixes_for_apk() {
        assert_eq!(
            fixed(&RULE, "FROM a\nRUN set -e; \\\n  apk add \\\n  gcc -U\n"),
            "FROM a\nRUN set -e; \\\n  apk add --no-cache \\\n  gcc -U\n"
        );
        let two = "FROM a\nRUN apk add b && apk add c\n";
        assert_eq!(fixed(&RULE, two), "FROM a\nRUN apk add --no-cache b && apk add --no-cache c\n");
        let update = "FROM a\nRUN apk update && apk add gcc\n";
        assert_eq!(some_fixed(&RULE, update), update);
    }

    #[test]
    fn fixes_for_apt() {
        let text = "FROM a\nRUN apt-get update \\\n && apt-get install -y \\\n      gcc  \nCMD [\"x\"]\n";
        let wanted = "FROM a\nRUN apt-get update \\\n && apt-get install -y \\\n      gcc && rm -rf /var/lib/apt/lists/*  \nCMD [\"x\"]\n";
        assert_eq!(fixed(&RULE, text), wanted);
        for run in [
            "RUN apt-get update; apt-get install x",
            "RUN apt-get update && apt-get install x || true",
            "RUN apt-get update && apt-get install x > /log",
            "RUN apt-get update && apt-get install x &",
            "RUN apt-get update && apt-get install x # y",
            "RUN apt-get update && apt-get install x\nRUN apt-get install y",
            "RUN apt-get update && if a; then apt-get install x; fi",
            "RUN <<E\napt-get update && apt-get install x\nE",
        ] {
            let text = format!("FROM a\n{run}\n");
            assert_eq!(some_fixed(&RULE, &text), text);
        }
    }
}
