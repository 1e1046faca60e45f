//! ConsistentInstructionCasing: keywords are in different cases.
//!
//! The case of the majority of keywords in stages counts, upper case if there are as many of both. ARG before the
//! first FROM is not looked at.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "ConsistentInstructionCasing",
    summary: "all keywords should be in the same case",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let statements = || model.stages.iter().flat_map(|stage| [stage.statement].into_iter().chain(stage.body));
    let lower = statements().filter(|s| s.keyword == s.keyword.to_lowercase()).count();
    let upper = statements().filter(|s| s.keyword == s.keyword.to_uppercase()).count();
    for statement in statements() {
        let keyword = &statement.keyword;
        let (wanted, case) = match lower > upper {
            true => (keyword.to_lowercase(), "lower"),
            false => (keyword.to_uppercase(), "upper"),
        };
        if *keyword != wanted {
            let message = format!("{keyword} should be in {case} case, as most instructions are");
            let place = statement.keyword_span;
            reporter.report(&[statement], Finding::new(statement, message).at(place).fix(place, wanted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn the_majority_decides() {
        assert_eq!(lines(&RULE, "FROM a\nrun b\nCMD [\"c\"]\n"), [2]);
        assert_eq!(lines(&RULE, "from a\nrun b\nCMD [\"c\"]\n"), [3]);
        assert_eq!(lines(&RULE, "from a\nRUN b\n"), [1], "upper case wins a tie");
        assert_eq!(lines(&RULE, "From a\nrun b\n"), [1]);
        assert_eq!(lines(&RULE, "arg x\nFROM a\nRUN b\n"), [0; 0]);
    }

    #[test]
    fn the_fix_changes_the_keyword() {
        assert_eq!(fixed(&RULE, "FROM a\n Run b\nUSER c\n"), "FROM a\n RUN b\nUSER c\n");
    }
}
