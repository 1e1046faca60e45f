//! StageNameCasing: the name of a stage has upper-case letters.
//!
//! Names are compared without regard to case, so lower case alone says what happens. The fix writes it so.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "StageNameCasing",
    summary: "names of stages should be in lower case",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let (Some(name), Some(lower)) = (&stage.from.name_as_written, &stage.from.name) else { continue };
        let Some(word) = stage.statement.words.get(2).filter(|_| name != lower) else { continue };
        let message = format!("stage name {name} should be in lower case");
        let finding = Finding::new(stage.statement, message).at(word.span).fix(word.span, lower);
        reporter.report(&[stage.statement], finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn upper_case_in_names() {
        assert_eq!(lines(&RULE, "FROM a AS b\nFROM a AS Bc\nFROM Upper\n"), [2]);
    }

    #[test]
    fn the_fix_lowers_the_name() {
        assert_eq!(fixed(&RULE, "FROM A AS \\\n Bc\n"), "FROM A AS \\\n bc\n");
    }
}
