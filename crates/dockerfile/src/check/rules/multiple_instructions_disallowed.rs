//! MultipleInstructionsDisallowed: CMD, ENTRYPOINT or HEALTHCHECK stands twice in a stage.
//!
//! Only the last one counts; those before it are reported.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::Statement;
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    summary: "CMD, ENTRYPOINT and HEALTHCHECK should stand in a stage once",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let mut before: [Option<&Statement>; 3] = [None; 3];
        for statement in stage.body {
            let slot = match statement.instruction {
                Instruction::Cmd(_) => &mut before[0],
                Instruction::Entrypoint(_) => &mut before[1],
                Instruction::Healthcheck(_) => &mut before[2],
                _ => continue,
            };
            if let Some(earlier) = slot.replace(statement) {
                let name = statement.instruction.name();
                let line = statement.first_line;
                let message = format!("{name} has no effect: the one on line {line} takes its place");
                reporter.report(&[earlier, statement], Finding::new(earlier, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn all_but_the_last() {
        let text = "FROM a\nCMD []\nENTRYPOINT []\nCMD []\nCMD []\nHEALTHCHECK NONE\nHEALTHCHECK CMD x\n\
                    FROM a\nCMD []\nENV a=b\nENV a=c\n";
        assert_eq!(lines(&RULE, text), [2, 4, 6]);
    }

    #[test]
    fn either_comment_turns_it_off() {
        let text = "FROM a\nCMD []\n# check=skip=MultipleInstructionsDisallowed\nCMD []\n";
        assert_eq!(lines(&RULE, text), [0; 0]);
    }
}
