//! ExposeInvalidFormat: EXPOSE has an address or a port of the host.
//!
//! Both are ignored: an image cannot publish ports. The fix leaves the container's port.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "ExposeInvalidFormat",
    summary: "EXPOSE should not have addresses or ports of the host",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.statements.iter().filter(|s| matches!(s.instruction, Instruction::Expose(_))) {
        // With variables, a colon may be part of `${name:-value}`.
        for word in statement.words.iter().filter(|word| !word.text.contains('$')) {
            let Some((host, port)) = word.text.rsplit_once(':') else { continue };
            if host.trim_matches(':').is_empty() {
                continue;
            }
            let message =
                format!("{} publishes nothing: EXPOSE takes ports of the container only", word.text);
            let finding = Finding::new(statement, message).at(word.span);
            reporter.report(
                &[statement],
                match port {
                    "" => finding,
                    port => finding.fix(word.span, port),
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn ports_of_the_host() {
        let text = "FROM a\nEXPOSE 80:80\nEXPOSE 127.0.0.1:80:81/tcp 82\nEXPOSE [::1]::80\nEXPOSE ${P:-80} 80-90 :80 ::81\n";
        assert_eq!(lines(&RULE, text), [2, 3, 4]);
    }

    #[test]
    fn the_fix_leaves_the_containers_port() {
        assert_eq!(fixed(&RULE, "FROM a\nEXPOSE 1.2.3.4:80:81/tcp 82\n"), "FROM a\nEXPOSE 81/tcp 82\n");
    }
}
