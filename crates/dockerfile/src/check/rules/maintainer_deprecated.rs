//! MaintainerDeprecated: MAINTAINER is used.
//!
//! A label says the same; but it is another field of the image, so this is not rewritten.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "MaintainerDeprecated",
    summary: "MAINTAINER is deprecated in favour of a label",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements {
        let Instruction::Maintainer(author) = &statement.instruction else { continue };
        let help = format!("write LABEL org.opencontainers.image.authors={author:?}");
        reporter.report(
            &[statement],
            Finding::new(statement, "MAINTAINER is deprecated, use a label").help(help),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn maintainers() {
        assert_eq!(lines(&RULE, "FROM a\nMAINTAINER b\nLABEL maintainer=c\n"), [2]);
    }
}
