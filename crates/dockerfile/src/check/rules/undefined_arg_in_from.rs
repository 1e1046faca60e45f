//! UndefinedArgInFrom: FROM uses an argument that is not declared before the first FROM.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::suggest::did_you_mean;

pub(in super::super) static RULE: Rule = Rule {
    name: "UndefinedArgInFrom",
    summary: "arguments in FROM must be declared before the first FROM",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        for name in [&stage.image, &stage.platform].into_iter().flatten().flat_map(|e| &e.unset) {
            if model.declared.contains(name) {
                continue;
            }
            let message = format!("argument {name} is not declared before the first FROM");
            let similar = model.similar(name, model.declared.len(), model.declared.iter());
            let mut finding = Finding::new(stage.statement, message);
            finding.help = did_you_mean(similar);
            reporter.report(&[stage.statement], finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{check, lines};
    use super::*;

    #[test]
    fn arguments_of_from() {
        let text =
            "ARG A\nARG B=b\nFROM $B$A\nARG C=c\nFROM a:$C\nFROM --platform=$D a\nFROM a:$TARGETARCH\n";
        assert_eq!(lines(&RULE, text), [5, 6]);
    }

    #[test]
    fn similar_names() {
        let found = check("ARG VERSION=1\nFROM a:${VERSON}\n");
        let helps: Vec<_> = found.iter().filter(|d| d.code == RULE.name).map(|d| &d.help).collect();
        assert_eq!(helps, [&Some("did you mean VERSION?".to_owned())]);
    }
}
