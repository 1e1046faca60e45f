//! PermissionsInLaterLayer: a RUN changes the mode or owner of files that COPY or ADD brought.
//!
//! A layer cannot hold a mode alone: every file that `chmod` or `chown` touches is in the image twice, however large it is, and whether
//! anything changed or not. `COPY --chmod` and `COPY --chown` bring files as they are to be. Looked at are stages that are shipped, and paths
//! that are exactly what was copied, or directories above it with `-R`.

use super::super::facts::{Facts, is_below};
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/PermissionsInLaterLayer",
    summary: "modes and owners should be set by COPY, not by a RUN behind it",
    experimental: false,
    check: Check::Facts(check),
};

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for stage in facts.stages.iter().filter(|stage| stage.shipped) {
        for run in &stage.runs {
            let found = run.commands.iter().find_map(|command| {
                let program = command.program();
                if !matches!(program, "chmod" | "chown" | "chgrp") {
                    return None;
                }
                let recursive = command.args().iter().any(|w| {
                    w.text == "--recursive"
                        || w.text.starts_with('-') && !w.text.starts_with("--") && w.text.contains('R')
                });
                // The first operand is the mode or owner (but for `--reference=...`, which is rare).
                let paths: Vec<String> = command.operands().skip(1).filter_map(|w| run.absolute(w)).collect();
                let known = stage.added.iter().take_while(|_| facts.may_compare());
                let earlier = known.filter(|added| added.number < run.number);
                let mut pairs = earlier.flat_map(|added| paths.iter().map(move |path| (added, path)));
                let hit = pairs.find(|(added, path)| {
                    added.path == **path || recursive && is_below(&added.path, path) && *path != "/"
                });
                hit.map(|(added, path)| (program, added, path.clone()))
            });
            let Some((program, added, path)) = found else { continue };
            let message = format!(
                "{program} of {path} puts what line {} copied into the image a second time",
                added.statement.first_line
            );
            let flag = if program == "chmod" { "--chmod" } else { "--chown" };
            let help = format!("use {} {flag}", added.statement.instruction.name());
            reporter
                .report(&[run.statement, added.statement], Finding::new(run.statement, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    fn on(text: &str) -> Vec<u32> {
        lines(&RULE, &format!("FROM a:1\nWORKDIR /app\n{text}\n"))
    }

    #[test]
    fn what_was_copied() {
        assert_eq!(on("COPY run.sh /\nRUN chmod +x /run.sh"), [4]);
        assert_eq!(on("COPY run.sh .\nRUN x && chmod 755 ./run.sh"), [4]);
        assert_eq!(on("COPY . .\nRUN chown -R me:me /app"), [4]);
        assert_eq!(on("COPY --from=b /x /app/x\nRUN adduser me && chown -hR me /app /log"), [4]);
        assert_eq!(on("ADD a.tar /data/\nRUN chgrp --recursive 0 /data"), [4]);
    }

    #[test]
    fn what_was_not() {
        for text in [
            "RUN chmod +x /run.sh\nCOPY run.sh /",
            "COPY run.sh /\nRUN chmod +x /other.sh",
            "COPY run.sh /x/\nRUN chmod 755 /x",
            "COPY . .\nRUN mkdir data && chown me data",
            "RUN curl -o /x y && chmod +x /x",
            "COPY $A /x\nRUN chmod +x $A",
        ] {
            assert_eq!(on(text), [0; 0], "{text}");
        }
        assert_eq!(
            lines(&RULE, "FROM a AS b\nCOPY x /x\nRUN chmod 1 /x\nFROM c\nCOPY --from=b /x /\n"),
            [0; 0]
        );
    }
}
