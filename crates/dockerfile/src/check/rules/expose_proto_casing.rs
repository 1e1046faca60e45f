//! ExposeProtoCasing: the protocol in EXPOSE has upper-case letters.
//!
//! It is stored in lower case anyway.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "ExposeProtoCasing",
    summary: "protocols in EXPOSE should be in lower case",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements.iter().filter(|s| matches!(s.instruction, Instruction::Expose(_))) {
        for word in &statement.words {
            let Some((port, protocol)) = word.text.split_once('/') else { continue };
            let lower = protocol.to_lowercase();
            if lower != protocol && matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
                let message = format!("protocol {protocol} should be in lower case");
                let finding = Finding::new(statement, message).at(word.span);
                reporter.report(&[statement], finding.fix(word.span, format!("{port}/{lower}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn protocols() {
        assert_eq!(lines(&RULE, "FROM a\nEXPOSE 80/TCP 81/udp\nEXPOSE 82\nEXPOSE 83/$P 84/Sctp\n"), [2, 4]);
    }

    #[test]
    fn the_fix_lowers_it() {
        assert_eq!(fixed(&RULE, "FROM a\nEXPOSE 80/TCP $P/Udp\n"), "FROM a\nEXPOSE 80/tcp $P/udp\n");
    }
}
