//! CdWithoutEffect: a RUN that ends with `cd`.
//!
//! Every RUN begins in the working directory that WORKDIR says; where the shell of the one before was does not count. Whoever ends a RUN
//! with `cd` believes otherwise, and what follows happens in the wrong place.

use super::super::facts::Facts;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/CdWithoutEffect",
    summary: "a RUN should not end with cd",
    experimental: false,
    check: Check::Facts(check),
};

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for run in facts.stages.iter().flat_map(|stage| &stage.runs) {
        let Some(last) = run.commands.last().filter(|c| c.depth == 0 && c.program() == "cd") else {
            continue;
        };
        let target = last.args().first().map_or("~", |word| word.text.as_str());
        let help = format!("use WORKDIR {target}, or let the commands follow in the same RUN");
        let message = "cd has no effect on what follows: every RUN begins in the directory that WORKDIR says";
        let finding = Finding::new(run.statement, message).help(help);
        let words = last.words.first().zip(last.words.last());
        let place = words.and_then(|(first, last)| run.place(first.start, last.end)).unwrap_or(finding.span);
        reporter.report(&[run.statement], finding.at(place));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn the_last_command_counts() {
        let text = "FROM a\nRUN cd /x\nRUN mkdir y && cd y\nRUN cd /x && make\nRUN (cd /x)\nRUN echo cd\nRUN make; \\\n  cd -\n";
        assert_eq!(lines(&RULE, text), [2, 3, 7]);
    }

    #[test]
    fn other_forms() {
        assert_eq!(
            lines(
                &RULE,
                "FROM a\nRUN <<E\nmake\ncd /x\nE\nRUN [\"sh\", \"-c\", \"cd /x\"]\nRUN [\"cd\", \"x\"]\n"
            ),
            [2, 6]
        );
        assert_eq!(lines(&RULE, "FROM a\nRUN if x; then cd y; fi\nRUN cat <<E\ncd /x\nE\n"), [0; 0]);
    }
}
