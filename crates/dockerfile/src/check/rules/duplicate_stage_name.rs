//! DuplicateStageName: two stages have the same name.

use std::collections::HashSet;

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "DuplicateStageName",
    summary: "every stage should have a name of its own",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let mut seen = HashSet::new();
    for stage in &model.stages {
        let Some(name) = &stage.from.name else { continue };
        if !seen.insert(name) {
            let message = format!("there is another stage with the name {name}");
            let help = "FROM means the one above it, COPY --from the last one";
            reporter.report(&[stage.statement], Finding::new(stage.statement, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn names_without_regard_to_case() {
        assert_eq!(lines(&RULE, "FROM a AS x\nFROM b AS X\nFROM c AS y\nFROM d AS x\nFROM e\n"), [2, 4]);
    }
}
