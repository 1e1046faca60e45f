//! FromAsCasing: FROM and AS are not in the same case.
//!
//! Nothing is said when FROM itself mixes cases; ConsistentInstructionCasing does that.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "FromAsCasing",
    summary: "AS should have the case of its FROM",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let Some(word) = stage.statement.words.get(1) else { continue };
        let keyword = &stage.statement.keyword;
        let wanted = match keyword {
            k if *k == k.to_lowercase() => "as",
            k if *k == k.to_uppercase() => "AS",
            _ => continue,
        };
        if word.text != wanted {
            let message = format!("{} should have the case of {keyword}", word.text);
            let finding = Finding::new(stage.statement, message).at(word.span).fix(word.span, wanted);
            reporter.report(&[stage.statement], finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn mixed_cases() {
        let text = "FROM a as b\nfrom a AS c\nFROM a AS d\nfrom a as e\nFrom a As f\nFROM a\n";
        assert_eq!(lines(&RULE, text), [1, 2]);
    }

    #[test]
    fn the_fix_follows_from() {
        assert_eq!(fixed(&RULE, "FROM a as b\nfrom a As c\n"), "FROM a AS b\nfrom a as c\n");
    }
}
