//! VolatileBeforeExpensive: an argument that is new in every build stands above a step that takes long and does not use it.
//!
//! Every RUN behind ARG has the argument in its environment, and so in its cache key: with a new commit, date or build number everything
//! below runs again. Declare such arguments right above the instruction that uses them. The names that count hold a commit, a revision, a
//! date, a time or a build number; `CACHEBUST` and the like are there to do this. ENV with the value of such an argument counts as well.
//!
//! A LABEL with such a value is no matter: it changes the image's config only, and no step runs again (the old builder of Docker did that).

use super::super::facts::{Facts, StageFacts};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers;
use crate::instruction::{Instruction, Statement};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/VolatileBeforeExpensive",
    summary: "arguments that always change should stand below what takes long",
    experimental: false,
    check: Check::Facts(check),
};

/// More arguments at once are not followed.
const MAX_PENDING: usize = 16;

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    facts.stages.iter().for_each(|stage| check_stage(stage, reporter));
}

fn check_stage(stage: &StageFacts<'_>, reporter: &mut Reporter<'_>) {
    let mut pending: Vec<(&str, &Statement)> = Vec::new();
    let mut runs = stage.runs.iter().peekable();
    for (number, statement) in stage.stage.body.iter().enumerate() {
        match &statement.instruction {
            Instruction::Arg(args) => {
                let volatile =
                    args.iter().filter(|arg| is_volatile(&arg.key)).map(|arg| (arg.key.as_str(), statement));
                pending.extend(volatile.take(MAX_PENDING.saturating_sub(pending.len())));
            }
            Instruction::Env(env) => {
                let volatile =
                    env.pairs.iter().filter(|(_, value)| value.contains('$') && is_volatile(value));
                let volatile = volatile.map(|(name, _)| (name.as_str(), statement));
                pending.extend(volatile.take(MAX_PENDING.saturating_sub(pending.len())));
            }
            _ => {}
        }
        let Some(run) = runs.next_if(|run| run.number == number) else { continue };
        if !run.commands.iter().any(managers::is_expensive) {
            continue;
        }
        pending.retain(|(name, declared)| {
            // A step that uses it must run again anyway, and so must all below.
            if run.mentions(name) {
                return false;
            }
            let message = format!(
                "{name} changes with every build, and line {}, which does not use it, runs again each time",
                run.statement.first_line
            );
            let help = "declare it right above the instruction that uses it";
            reporter.report(&[declared, run.statement], Finding::new(declared, message).help(help));
            false
        });
    }
}

fn is_volatile(name: &str) -> bool {
    let name = name.to_uppercase();
    let has = |part: &str| name.contains(part);
    let ends = |part: &str| name.trim_end_matches(['}', '"']).ends_with(part);
    if has("CACHE") || has("EPOCH") || has("PIN") {
        return false;
    }
    has("GIT_SHA")
        || has("GIT_COMMIT")
        || has("COMMIT_SHA")
        || has("GIT_REV")
        || has("VCS_REF")
        || has("REVISION")
        || has("BUILD_DATE")
        || has("BUILD_TIME")
        || has("BUILDTIME")
        || has("BUILD_NUMBER")
        || has("BUILD_ID")
        || has("TIMESTAMP")
        || ends("COMMIT_HASH")
        || ends("SOURCE_COMMIT")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn arguments_above_installs() {
        assert_eq!(lines(&RULE, "FROM a\nARG GIT_SHA\nARG V=1\nRUN apk add gcc\nRUN make\n"), [2]);
        assert_eq!(
            lines(&RULE, "FROM a\nARG BUILD_DATE VCS_REF\nLABEL d=$BUILD_DATE\nRUN true\nRUN npm ci\n"),
            [2, 2]
        );
        assert_eq!(lines(&RULE, "FROM a\nARG X\nENV V=${BUILD_ID} W=1\nRUN make\n"), [3]);
    }

    #[test]
    fn arguments_in_the_right_place() {
        for text in [
            "ARG GIT_SHA\nFROM a\nRUN apk add gcc\n",
            "FROM a\nRUN apk add gcc\nARG GIT_SHA\nLABEL r=$GIT_SHA\n",
            "FROM a\nARG GIT_SHA\nRUN go build -ldflags \"-X v=$GIT_SHA\"\nRUN make\n",
            "FROM a\nARG GIT_SHA\nRUN echo x\n",
            "FROM a\nARG VERSION=1\nRUN apk add gcc=$VERSION\n",
            "FROM a\nARG CACHEBUST\nRUN apk add gcc\n",
            "FROM a\nARG SOURCE_DATE_EPOCH\nRUN apk add gcc\n",
            "FROM a\nLABEL revision=x\nRUN apk add gcc\n",
        ] {
            assert_eq!(lines(&RULE, text), [0; 0], "{text}");
        }
    }
}
