//! NoEmptyContinuation: an instruction that goes on over several lines has an empty line in it.
//!
//! Such lines are skipped, but will be an error one day. The fix removes them.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "NoEmptyContinuation",
    summary: "continued instructions should have no empty lines",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements {
        for (line, span) in &statement.empty_continuations {
            let mut finding = Finding::new(statement, "empty line in a continued instruction").at(*span);
            finding.line = *line;
            reporter.report(&[statement], finding.fix(*span, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn empty_lines() {
        assert_eq!(lines(&RULE, "FROM a\nRUN b \\\n\n c \\\n# d\n \t\n e\n\nUSER f\n"), [3, 6]);
    }

    #[test]
    fn the_fix_removes_them() {
        assert_eq!(fixed(&RULE, "FROM a\nRUN b \\\n\n  \r\n c\n"), "FROM a\nRUN b \\\n c\n");
    }
}
