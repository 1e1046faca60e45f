//! RedundantTargetPlatform: `FROM --platform=$TARGETPLATFORM`, which is the default.
//!
//! The fix takes the flag out.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::Span;

pub(in super::super) static RULE: Rule = Rule {
    name: "RedundantTargetPlatform",
    summary: "--platform=$TARGETPLATFORM is the default of FROM",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let Some(platform) = &stage.platform else { continue };
        let alone = platform.unset.is_empty() && platform.used == ["TARGETPLATFORM"];
        if !alone || model.globals.get("TARGETPLATFORM") != Some(&platform.text) {
            continue;
        }
        let statement = stage.statement;
        let ([flag], [image, ..]) = (statement.flags.as_slice(), statement.words.as_slice()) else {
            continue;
        };
        let message = "--platform=$TARGETPLATFORM has no effect: it is the default";
        let whole = Span::new(flag.span.start, image.span.start);
        reporter.report(&[statement], Finding::new(statement, message).at(flag.span).fix(whole, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn only_the_variable_alone() {
        let text = "FROM --platform=$TARGETPLATFORM a\nFROM --platform=${TARGETPLATFORM} a\n\
                    FROM --platform=$BUILDPLATFORM a\nFROM --platform=$TARGETOS/$TARGETARCH a\nFROM a\n";
        assert_eq!(lines(&RULE, text), [1, 2]);
    }

    #[test]
    fn the_fix_removes_the_flag() {
        assert_eq!(fixed(&RULE, "FROM --platform=$TARGETPLATFORM a AS b\n"), "FROM a AS b\n");
    }
}
