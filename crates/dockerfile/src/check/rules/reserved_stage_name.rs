//! ReservedStageName: a stage is called `scratch` or `context`.
//!
//! `FROM scratch` and `--from=context` mean something else.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "ReservedStageName",
    summary: "stages should not be called scratch or context",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let Some(name @ ("scratch" | "context")) = stage.from.name.as_deref() else { continue };
        let message = format!("{name} is a reserved name and should not be the name of a stage");
        reporter.report(&[stage.statement], Finding::new(stage.statement, message));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn reserved_names() {
        assert_eq!(lines(&RULE, "FROM scratch\nFROM a AS scratch\nFROM a AS Context\nFROM a AS b\n"), [2, 3]);
    }
}
