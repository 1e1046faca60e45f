//! JSONArgsRecommended: CMD or ENTRYPOINT is in shell form.
//!
//! The shell is then the container's first process, and most shells do not pass signals on, so the container does not
//! stop when it is told to. Nothing is said when SHELL is set, here or by the base: that shell was chosen.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::{Command, Instruction};

pub(in super::super) static RULE: Rule = Rule {
    name: "JSONArgsRecommended",
    summary: "CMD and ENTRYPOINT should be in exec form, so that signals reach the program",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let mut shells: Vec<bool> = Vec::new();
    for (number, stage) in model.stages.iter().enumerate() {
        let mut has_shell = match stage.parent {
            Some(parent) => shells[parent],
            None => model.input.bases.get(&number).is_some_and(|base| base.has_shell),
        };
        for statement in stage.body {
            match &statement.instruction {
                Instruction::Shell(_) => has_shell = true,
                Instruction::Cmd(Command::Shell(_)) | Instruction::Entrypoint(Command::Shell(_))
                    if !has_shell =>
                {
                    let name = statement.instruction.name();
                    let message = format!("{name} in shell form: signals will not reach the program");
                    let help = format!("write {name} [\"program\", \"argument\"]");
                    reporter.report(&[statement], Finding::new(statement, message).help(help));
                }
                _ => {}
            }
        }
        shells.push(has_shell);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::testing::{lines, lines_with};
    use super::super::super::{BaseImage, CheckInput};
    use super::*;

    #[test]
    fn shell_forms() {
        assert_eq!(lines(&RULE, "FROM a\nCMD b\nENTRYPOINT [\"c\"]\nENTRYPOINT d\nRUN e\n"), [2, 4]);
    }

    #[test]
    fn a_shell_that_was_chosen() {
        let text = "FROM a AS x\nSHELL [\"s\"]\nCMD b\nFROM x\nCMD c\nFROM a\nCMD d\n";
        assert_eq!(lines(&RULE, text), [7]);
        let base = BaseImage { has_shell: true, ..BaseImage::default() };
        let input = CheckInput { bases: BTreeMap::from([(0, base)]), ..CheckInput::default() };
        assert_eq!(lines_with(&RULE, "FROM a\nCMD b\nFROM c\nCMD d\n", &input), [4]);
    }
}
