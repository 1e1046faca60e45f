//! BroadCopyBeforeInstall: the whole context is copied before dependencies are installed.
//!
//! With a cache that follows the chain of instructions (Docker's), every change of any file then installs everything again. Layercake's own
//! cache looks at what the install read and is not fooled, but the file is built elsewhere, too. Copy what the install reads
//! (`package.json`, `requirements.txt`, `go.mod`) first, install, and copy the rest behind it.
//!
//! Only COPY and ADD of the whole context (`.`, `./`, `/`, `*`) count. `pip install .` and what else needs the source is not an install of
//! dependencies, and a manager that has already run in the stage above the COPY is not reported again.

use super::super::facts::{Facts, StageFacts};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers::{self, Install, Manager};
use crate::instruction::{Instruction, Statement};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/BroadCopyBeforeInstall",
    summary: "dependencies should be installed before the whole context is copied",
    experimental: false,
    check: Check::Facts(check),
};

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    facts.stages.iter().for_each(|stage| check_stage(stage, reporter));
}

fn check_stage(stage: &StageFacts<'_>, reporter: &mut Reporter<'_>) {
    let mut broad: Option<&Statement> = None;
    let mut seen: Vec<Manager> = Vec::new();
    let mut runs = stage.runs.iter().peekable();
    for (number, statement) in stage.stage.body.iter().enumerate() {
        if is_broad(statement) {
            broad = broad.or(Some(statement));
        }
        let Some(run) = runs.next_if(|run| run.number == number) else { continue };
        for install in run.commands.iter().filter_map(managers::install).filter(installs_dependencies) {
            if seen.contains(&install.manager) {
                continue;
            }
            seen.push(install.manager);
            if let Some(copy) = broad.take() {
                let message = format!(
                    "the whole context is copied before line {} installs: a change of any file installs again",
                    run.statement.first_line
                );
                let help = match install.manager.is_system() {
                    true => "install packages of the distribution above this",
                    false => {
                        "copy only the files that name the dependencies, install, and copy the rest behind it"
                    }
                };
                reporter.report(&[copy, run.statement], Finding::new(copy, message).help(help));
            }
        }
    }
}

fn is_broad(statement: &Statement) -> bool {
    let sources = match &statement.instruction {
        Instruction::Copy(copy) if copy.from.is_none() && copy.exclude.is_empty() => &copy.sources,
        Instruction::Add(add) if add.exclude.is_empty() => &add.sources,
        _ => return false,
    };
    sources.iter().any(|source| matches!(source.as_str(), "." | "./" | "/" | "*" | "./*"))
}

/// Whether it needs nothing of the source but the files that name dependencies.
fn installs_dependencies(install: &Install<'_>) -> bool {
    let local = |p: &&str| p.starts_with(['.', '/', '$']) || p.ends_with(".whl") || p.ends_with(".tgz");
    !install.packages.iter().any(local)
        // Poetry and uv install the project itself, and so do these without a package.
        && !matches!(install.manager, Manager::Poetry | Manager::Uv if install.packages.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn installs_behind_the_whole_context() {
        for install in [
            "npm ci",
            "pip install -r requirements.txt",
            "cd x && bundle install",
            "apt-get install -y gcc",
            "yarn",
            "go mod download",
        ] {
            let text = format!("FROM a\nWORKDIR /x\nCOPY . .\nRUN {install}\nRUN {install}\n");
            assert_eq!(lines(&RULE, &text), [3], "{install}");
        }
        assert_eq!(
            lines(&RULE, "FROM a AS b\nADD ./ /x\nRUN npm ci\nFROM c\nCOPY --from=b /x /x\n"),
            [2],
            "builders count, too"
        );
    }

    #[test]
    fn installs_that_are_in_the_right_place() {
        for text in [
            "COPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm run build\nRUN npm install --offline",
            "COPY . .\nRUN pip install .",
            "COPY . .\nRUN pip install -e ./x",
            "COPY . .\nRUN make",
            "COPY --from=b . .\nRUN npm ci",
            "COPY src .\nRUN npm ci",
            "COPY --exclude=src . .\nRUN npm ci",
            "RUN npm ci\nCOPY . .",
            "COPY . .\nRUN yarn build",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM a\n{text}\n")), [0; 0], "{text}");
        }
        assert_eq!(lines(&RULE, "FROM a\nCOPY . .\nFROM b\nRUN npm ci\n"), [0; 0], "another stage");
    }
}
