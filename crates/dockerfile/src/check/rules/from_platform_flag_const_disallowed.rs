//! FromPlatformFlagConstDisallowed: `FROM --platform` names a platform instead of a variable.
//!
//! The file can then be built for that one only. Nothing is said when the stage's name holds the system or the
//! architecture: such stages are chosen by platform.

use super::super::model::Model;
use super::super::platform::Platform;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    summary: "--platform of FROM should not be a constant",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for stage in &model.stages {
        let Some(found) = stage.platform.as_ref().filter(|p| p.used.is_empty() && p.unset.is_empty()) else {
            continue;
        };
        let Some(platform) = Platform::parse(&found.text, &model.target_platform()) else { continue };
        let name = stage.from.name.as_deref().unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            continue;
        }
        let message = format!("platform {} is a constant", found.text);
        let help = "use $BUILDPLATFORM, or leave the flag out and build with --platform";
        let place = stage.statement.flags.first().map(|flag| flag.span);
        let finding = Finding::new(stage.statement, message).help(help);
        let place = place.unwrap_or(finding.span);
        reporter.report(&[stage.statement], finding.at(place));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn constants() {
        let text = "FROM --platform=linux/amd64 a\nFROM --platform=linux/arm64 a AS build-arm64\n\
                    FROM --platform=$BUILDPLATFORM a\nFROM --platform=arm64 a AS b\nFROM --platform=? a\n";
        assert_eq!(lines(&RULE, text), [1, 4]);
    }
}
