//! InvalidDefinitionDescription (experimental): a comment above a stage or an argument does not begin with its name.
//!
//! `docker build --call=outline` shows such comments as descriptions. An empty comment in between ends a comment that
//! is not meant as one.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "InvalidDefinitionDescription",
    summary: "comments above stages and arguments should begin with their name",
    experimental: true,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements {
        let names: Vec<&str> = match &statement.instruction {
            Instruction::From(from) => from.name.as_deref().into_iter().collect(),
            Instruction::Arg(args) => args.iter().map(|arg| arg.key.as_str()).collect(),
            _ => continue,
        };
        let (Some(name), Some(comment)) = (names.first(), statement.comments.last()) else { continue };
        let first = comment.split(' ').next().unwrap_or_default();
        if !names.contains(&first) {
            let keyword = statement.instruction.name();
            let message = format!("the comment above {keyword} does not begin with the name it describes");
            let example = if names.len() > 1 { "NAME" } else { name };
            let help = format!("write # {example} description, or put a line with only # below the comment");
            reporter.report(&[statement], Finding::new(statement, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    const TEXT: &str = "# A is\nARG A\n# is B\nARG B=1\n# the base\nFROM a AS c\n# d is\nFROM a AS d\n\
                        # x\n#\nARG E\n# y\nFROM a\n";

    #[test]
    fn only_when_asked_for() {
        assert_eq!(lines(&RULE, TEXT), [0; 0]);
        for names in ["all", "InvalidDefinitionDescription"] {
            assert_eq!(lines(&RULE, &format!("# check=experimental={names}\n{TEXT}")), [5, 7]);
        }
    }
}
