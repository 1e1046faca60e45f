//! BuildToolsKept: a compiler is installed in a stage that is shipped.
//!
//! Compilers and their headers take 100 to 400 MB, and nobody who runs the image needs them. Build in one stage and copy the result into
//! another, or install and remove in the same RUN (`apk add --virtual`, `apt-get purge`). Images that are there to build with have neither an
//! entry point nor files of the context; such are not reported.

use super::super::facts::{Facts, Run, StageFacts};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers;
use crate::instruction::Instruction;

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/BuildToolsKept",
    summary: "compilers should not stay in the image",
    experimental: false,
    check: Check::Facts(check),
};

const TOOLS: [&str; 21] = [
    "alpine-sdk",
    "autoconf",
    "automake",
    "base-devel",
    "build-base",
    "build-essential",
    "cargo",
    "clang",
    "cmake",
    "default-jdk",
    "g++",
    "gcc",
    "gcc-c++",
    "gfortran",
    "golang",
    "golang-go",
    "libc6-dev",
    "llvm",
    "make",
    "musl-dev",
    "rustc",
];

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    // The stages of which the image consists, and whether it is there to run something.
    let shipped = || facts.stages.iter().filter(|stage| stage.shipped);
    if !shipped().any(runs_something) {
        return;
    }
    for run in shipped().flat_map(|stage| &stage.runs) {
        let Some(tool) = kept(run) else { continue };
        let message = format!("{tool} stays in the image");
        let help = "build in another stage and copy the result, or remove the tools in the same RUN";
        reporter.report(&[run.statement], Finding::new(run.statement, message).help(help));
    }
}

fn runs_something(stage: &StageFacts<'_>) -> bool {
    stage.stage.body.iter().any(|s| matches!(s.instruction, Instruction::Entrypoint(_) | Instruction::Cmd(_)))
        && stage
            .stage
            .body
            .iter()
            .any(|s| matches!(s.instruction, Instruction::Copy(_) | Instruction::Add(_)))
}

/// A tool that the RUN installs and does not remove.
fn kept<'r>(run: &'r Run<'_>) -> Option<&'r str> {
    let removes = run.commands.iter().any(|c| {
        let verb = c.operands().next().map_or("", |word| word.text.as_str());
        matches!(verb, "del" | "purge" | "remove" | "autoremove" | "erase")
    });
    if removes {
        return None;
    }
    let installs = run.commands.iter().filter_map(managers::install).filter(|i| i.manager.is_system());
    installs.flat_map(|install| install.packages).find(|package| {
        let name = package.split(['=', '~', '<', '>', ':']).next().unwrap_or_default();
        TOOLS.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn tools_in_the_image() {
        let text = "FROM a:1\nRUN apt-get update && apt-get install -y git g++=4:12 && make\nCOPY x /\nCMD [\"/x\"]\n";
        assert_eq!(lines(&RULE, text), [2]);
        assert_eq!(lines(&RULE, &text.replace("apt-get install -y git g++=4:12", "apk add build-base")), [2]);
        assert_eq!(
            lines(&RULE, "FROM a AS b\nRUN apk add gcc\nFROM b\nCOPY x /\nCMD [\"/x\"]\n"),
            [2],
            "the base is shipped"
        );
    }

    #[test]
    fn tools_elsewhere() {
        for text in [
            "FROM a AS b\nRUN apk add gcc\nFROM c\nCOPY --from=b /x /\nCMD [\"/x\"]\n",
            "FROM a\nRUN apk add --virtual d gcc && make && apk del d\nCOPY x /\nCMD [\"/x\"]\n",
            "FROM a\nRUN apt-get install -y gcc && make && apt-get purge -y gcc\nCOPY x /\nCMD [\"/x\"]\n",
            "FROM a\nRUN apt-get install -y gcc\n",
            "FROM a\nRUN apt-get install -y gcc\nCMD [\"bash\"]\n",
            "FROM a\nRUN apt-get install -y libgcc-12 makeself\nCOPY x /\nCMD [\"/x\"]\n",
        ] {
            assert_eq!(lines(&RULE, text), [0; 0], "{text}");
        }
    }
}
