//! CopyIgnoredFile: COPY or ADD takes a file that `.dockerignore` excludes.
//!
//! To the build such a file does not exist. With negated patterns nothing is checked, because a part of an excluded
//! directory may be there. The whole context (`.`) is reported only if a pattern excludes all of it.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::ignore::{self, Matcher};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "CopyIgnoredFile",
    summary: "COPY and ADD should not take files that .dockerignore excludes",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let Some(matcher) = model.input.ignore.filter(|matcher| !matcher.has_negations()) else { return };
    for statement in model.stages.iter().flat_map(|stage| stage.body) {
        let sources = match &statement.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => &copy.sources,
            Instruction::Add(add) => &add.sources,
            _ => continue,
        };
        for source in sources.iter().filter(|source| is_local(source)) {
            if is_excluded(matcher, &ignore::clean(source)) {
                let keyword = statement.instruction.name();
                let message = format!("{keyword} of {source}, which .dockerignore excludes");
                reporter.report(&[statement], Finding::new(statement, message));
            }
        }
    }
}

/// Whether a source is a path in the context that is known as it stands.
fn is_local(source: &str) -> bool {
    !source.contains("://") && !source.starts_with("git@") && !source.contains('$')
}

fn is_excluded(matcher: &Matcher, path: &str) -> bool {
    if path == "." || path == "/" {
        return matcher.patterns().any(|(pattern, _)| matches!(pattern, "*" | "**" | "**/*"));
    }
    matcher.matches(path) || path.strip_prefix('/').is_some_and(|path| matcher.matches(path))
}

#[cfg(test)]
mod tests {
    use super::super::super::CheckInput;
    use super::super::super::testing::lines_with;
    use super::*;

    fn lines_for(patterns: &[&str], text: &str) -> Vec<u32> {
        let matcher = Matcher::new(patterns).expect("valid patterns");
        lines_with(&RULE, text, &CheckInput { ignore: Some(&matcher), ..CheckInput::default() })
    }

    const TEXT: &str = "FROM a\nCOPY node_modules/x .\nCOPY --from=b node_modules /\nADD ./node_modules/ src /\n\
                        COPY src .\nCOPY . .\nADD https://node_modules/x /\nCOPY /node_modules /\n";

    #[test]
    fn excluded_sources() {
        assert_eq!(lines_for(&["node_modules"], TEXT), [2, 4, 8]);
        assert_eq!(lines_for(&["other"], TEXT), [0; 0]);
    }

    #[test]
    fn negations_make_it_uncertain() {
        assert_eq!(lines_for(&["node_modules", "!node_modules/x/y"], TEXT), [0; 0]);
    }

    #[test]
    fn the_whole_context() {
        assert_eq!(lines_for(&["*"], "FROM a\nCOPY . /\n"), [2]);
        assert_eq!(lines_for(&["*.md"], "FROM a\nCOPY . /\n"), [0; 0]);
    }
}
