//! UnpinnedBase: a base image without a tag, or with the tag `latest`.
//!
//! What is built then depends on the day. A tag says which version is meant, a digest which image. Variables without a value, stages and
//! `scratch` are no matter.

use super::super::facts::Facts;
use super::super::{Check, Finding, Reporter, Rule};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/UnpinnedBase",
    summary: "base images should have a tag or a digest",
    experimental: false,
    check: Check::Facts(check),
};

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for facts in &facts.stages {
        let stage = facts.stage;
        let Some(image) = &stage.image else { continue };
        let name = image.text.as_str();
        if stage.parent.is_some() || name == "scratch" || name.is_empty() || !image.unset.is_empty() {
            continue;
        }
        let last = name.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map(|(_, tag)| tag);
        if name.contains('@') || tag.is_some_and(|tag| tag != "latest") {
            continue;
        }
        let message = match tag {
            Some(_) => format!("{name} is another image from time to time"),
            None => {
                format!("{name} has no tag: it means {name}:latest, which is another image from time to time")
            }
        };
        let finding = Finding::new(stage.statement, message);
        let place = stage.statement.words.first().map_or(finding.span, |word| word.span);
        reporter.report(&[stage.statement], finding.at(place).help("name a version, as in alpine:3.20"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn tags() {
        let text = "FROM alpine\nFROM alpine:latest\nFROM alpine:3\nFROM localhost:5000/a\nFROM localhost:5000/a:1\n";
        assert_eq!(lines(&RULE, text), [1, 2, 4]);
        assert_eq!(lines(&RULE, "FROM a@sha256:0\nFROM scratch\n"), [0; 0]);
    }

    #[test]
    fn stages_and_variables() {
        let text = "ARG V=3\nARG B=alpine\nFROM a:$V AS x\nFROM x\nFROM $B\nFROM a:$NO\nFROM $NO\nFROM Build:1 AS Y\nFROM y\n";
        assert_eq!(lines(&RULE, text), [5]);
    }
}
