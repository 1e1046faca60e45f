//! PipeWithoutPipefail: a failed download or program in a pipe goes unnoticed.
//!
//! The shell looks at the last program of a pipe only. `curl ... | sh` succeeds when curl does not: an empty script is a good script. Only
//! pipes are reported whose last program takes an empty input for granted (a shell, `tee`, `cat`, `sort` and the like), and whose first one
//! brings the data from elsewhere; `... | tar x` complains of its own. `set -o pipefail` in the command or in SHELL is the way out where
//! the shell has it (bash, busybox, zsh).

use super::super::facts::{Facts, Run, Shell};
use super::super::{Check, Finding, Reporter, Rule};
use crate::shell::{Command, Joint};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/PipeWithoutPipefail",
    summary: "a failure inside of a pipe should not go unnoticed",
    experimental: false,
    check: Check::Facts(check),
};

/// Programs that bring data from elsewhere.
const SOURCES: [&str; 14] = [
    "aws", "base64", "curl", "docker", "fetch", "gcloud", "git", "gpg", "gsutil", "kubectl", "openssl",
    "rsync", "ssh", "wget",
];

/// Programs that take an empty input for granted.
const SINKS: [&str; 25] = [
    "ash", "awk", "bash", "cat", "cut", "dash", "gawk", "head", "jq", "mawk", "node", "perl", "php",
    "python", "python3", "ruby", "sed", "sh", "sort", "tail", "tee", "tr", "uniq", "xargs", "zsh",
];

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for run in facts.stages.iter().flat_map(|stage| &stage.runs) {
        if run.shell != Shell::Posix || sets_pipefail(run) {
            continue;
        }
        let mut first: Option<&Command> = None;
        for command in &run.commands {
            if command.before != Joint::Pipe {
                first = Some(command);
            }
            let Some(source) = first.filter(|first| !std::ptr::eq(*first, command)) else { continue };
            let (from, to) = (source.program(), command.program());
            if command.before != Joint::Pipe || command.after == Joint::Pipe {
                continue;
            }
            if !SOURCES.contains(&from) || !SINKS.contains(&to) {
                continue;
            }
            let message = format!("if {from} fails, {to} does not notice, and the step succeeds");
            let help = "begin with `set -o pipefail &&` where the shell has it, or write to a file first";
            let finding = Finding::new(run.statement, message).help(help);
            let words = source.words.first().zip(command.words.last());
            let place = words.and_then(|(a, b)| run.place(a.start, b.end)).unwrap_or(finding.span);
            reporter.report(&[run.statement], finding.at(place));
            break;
        }
    }
}

fn sets_pipefail(run: &Run<'_>) -> bool {
    run.commands.iter().any(|c| c.program() == "set" && c.has("pipefail"))
        || run
            .commands
            .iter()
            .any(|c| c.words.iter().any(|w| w.text == "pipefail" || w.text.contains("PIPESTATUS")))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn downloads_into_shells() {
        let text = "FROM a\nRUN curl -fsSL https://x | sh\nRUN a && wget -qO- https://x | sed s/a/b/ | sudo tee /y\nRUN curl x | tar xz\n\
                    RUN echo x | sh\nRUN curl x -o y && sh y\nRUN ls | sort\nRUN curl x | gpg --dearmor | tee k\n";
        assert_eq!(lines(&RULE, text), [2, 3, 8]);
    }

    #[test]
    fn pipefail_is_set() {
        for line in [
            "RUN set -o pipefail && curl x | sh",
            "RUN set -euo pipefail; curl x | sh",
            "RUN [\"bash\", \"-o\", \"pipefail\", \"-c\", \"curl x | sh\"]",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM a\n{line}\n")), [0; 0], "{line}");
        }
        let shell = "FROM a AS b\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN curl x | sh\nFROM b\nRUN curl x | sh\n";
        assert_eq!(lines(&RULE, shell), [0; 0]);
        let again = format!(
            "{shell}SHELL [\"/bin/sh\", \"-c\"]\nRUN curl x | sh\nSHELL [\"pwsh\"]\nRUN curl x | sh\n"
        );
        assert_eq!(lines(&RULE, &again), [7]);
    }
}
