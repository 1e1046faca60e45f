//! WorkdirRelativePath: the first WORKDIR of a stage is relative.
//!
//! It then depends on the base image's working directory, which may change. Later ones build on the first.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "WorkdirRelativePath",
    summary: "the first WORKDIR should be absolute",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let windows = model.target_platform().os == "windows";
    let mut set: Vec<bool> = Vec::new();
    for stage in &model.stages {
        let mut is_set = stage.parent.is_some_and(|parent| set[parent]);
        for statement in stage.body {
            let Instruction::Workdir(path) = &statement.instruction else { continue };
            // What a variable holds may be absolute.
            let absolute = path.starts_with(['/', '$', '"', '\'']) || (windows && is_windows_path(path));
            if !is_set && !absolute {
                let message = format!("{path} depends on the working directory of the base image");
                reporter
                    .report(&[statement], Finding::new(statement, message).help("write an absolute path"));
            }
            is_set = true;
        }
        set.push(is_set);
    }
}

fn is_windows_path(path: &str) -> bool {
    path.starts_with('\\') || path.as_bytes().get(1) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::super::super::CheckInput;
    use super::super::super::testing::{lines, lines_with};
    use super::*;

    #[test]
    fn the_first_in_a_stage() {
        assert_eq!(lines(&RULE, "FROM a\nWORKDIR b\nWORKDIR c\nFROM a\nWORKDIR /b\nWORKDIR c\n"), [2]);
        assert_eq!(lines(&RULE, "FROM a AS x\nWORKDIR /b\nFROM x\nWORKDIR c\n"), [0; 0]);
        assert_eq!(lines(&RULE, "FROM a\nWORKDIR $HOME\n"), [0; 0]);
    }

    #[test]
    fn windows_paths() {
        let text = "FROM a\nWORKDIR c:\\\\x\n";
        assert_eq!(lines(&RULE, text), [2]);
        let input = CheckInput { target_platform: Some("windows/amd64".into()), ..CheckInput::default() };
        assert_eq!(lines_with(&RULE, text, &input), [0; 0]);
    }
}
