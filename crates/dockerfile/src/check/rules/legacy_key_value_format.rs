//! LegacyKeyValueFormat: ENV or LABEL has a blank where `=` should be.
//!
//! The fix is given when the value means the same in quotes: it stands on one line, and has no quotes or escapes.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "LegacyKeyValueFormat",
    summary: "ENV and LABEL should be written with = between name and value",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements {
        let (Instruction::Env(pairs) | Instruction::Label(pairs)) = &statement.instruction else { continue };
        let Some((name, value)) = pairs.pairs.first().filter(|_| pairs.legacy) else { continue };
        let keyword = statement.instruction.name();
        let message = format!("write {keyword} {name}=value: the form with a blank is deprecated");
        let mut finding = Finding::new(statement, message);
        let plain = |text: &str| !text.contains(['"', '\'', model.escape]);
        if statement.first_line == statement.last_line && plain(value) && plain(name) {
            let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
            finding = finding.fix(statement.args_span, format!("{name}={quote}{value}{quote}"));
        }
        reporter.report(&[statement], finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{check, fixed, lines};
    use super::*;

    #[test]
    fn the_old_form() {
        assert_eq!(lines(&RULE, "FROM a\nENV b c\nLABEL d e f\nENV g=h i=j\nARG k\n"), [2, 3]);
    }

    #[test]
    fn the_fix_keeps_the_value() {
        let text = "FROM a\nENV b  c\nLABEL d e $f\n";
        assert_eq!(fixed(&RULE, text), "FROM a\nENV b=c\nLABEL d=\"e $f\"\n");
        assert!(check("FROM a\nENV b c \\\n d\nENV e \"f\"\nENV g h\\ i\n").iter().all(|d| d.fix.is_none()));
    }
}
