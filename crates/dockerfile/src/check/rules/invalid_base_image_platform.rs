//! InvalidBaseImagePlatform: the base image is for another platform than the build.
//!
//! Its programs can then be run by emulation at most. Only systems and architectures are compared, and only where the
//! base image's platform is known.

use super::super::model::Model;
use super::super::platform::Platform;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "InvalidBaseImagePlatform",
    summary: "the base image should be for the platform of the build",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let target = model.target_platform();
    for (number, stage) in model.stages.iter().enumerate() {
        let known = model.input.bases.get(&number).and_then(|base| base.platform.as_deref());
        let Some(actual) = known.and_then(|text| Platform::parse(text, &target)) else { continue };
        let asked = stage.platform.as_ref().map(|platform| Platform::parse(&platform.text, &target));
        let Some(expected) = asked.unwrap_or(Some(target.clone())) else { continue };
        if expected != actual {
            let image = &stage.from.image;
            let message = format!(
                "base image {image} is for {}/{}, but {}/{} is wanted",
                actual.os, actual.architecture, expected.os, expected.architecture
            );
            reporter.report(&[stage.statement], Finding::new(stage.statement, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::testing::lines_with;
    use super::super::super::{BaseImage, CheckInput};
    use super::*;

    #[test]
    fn known_platforms() {
        let base = BaseImage { platform: Some("linux/arm64/v8".into()), ..BaseImage::default() };
        let input = CheckInput {
            target_platform: Some("linux/amd64".into()),
            bases: BTreeMap::from([(0, base.clone()), (1, base)]),
            ..CheckInput::default()
        };
        let text = "FROM a\nFROM --platform=linux/arm64 b\nFROM c\n";
        assert_eq!(lines_with(&RULE, text, &input), [1]);
        let input = CheckInput { target_platform: Some("linux/aarch64".into()), ..input };
        assert_eq!(lines_with(&RULE, text, &input), [0; 0]);
    }
}
