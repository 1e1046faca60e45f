//! SecretsUsedInArgOrEnv: an argument or variable has the name of a secret.
//!
//! Its value ends up in the image's history or configuration, for everyone to read. A name counts if one of its
//! parts (between underscores) is such a word, unless another part says that it is none: `public`, `file`, `version`.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::Instruction;

const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(in super::super) static RULE: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    summary: "secrets should not be passed by ARG or ENV",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for statement in model.stages.iter().flat_map(|stage| stage.body) {
        let names: Vec<&String> = match &statement.instruction {
            Instruction::Arg(args) => args.iter().map(|arg| &arg.key).collect(),
            Instruction::Env(env) => env.pairs.iter().map(|(name, _)| name).collect(),
            _ => continue,
        };
        for name in names.into_iter().filter(|name| is_secret(name)) {
            let keyword = statement.instruction.name();
            let message = format!("{name} looks like a secret, and {keyword} stores it in the image");
            let help = "pass it with --secret and RUN --mount=type=secret";
            reporter.report(&[statement], Finding::new(statement, message).help(help));
        }
    }
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    #[test]
    fn names() {
        for secret in ["API_KEY", "token", "GITHUB_TOKEN", "secret_message", "Db_Passwd", "APIKEY"] {
            assert!(is_secret(secret), "{secret}");
        }
        for harmless in ["KEYBOARD", "PUBLIC_KEY", "TOKEN_FILE", "monkey", "AUTHOR", "", "KEY_VERSION"] {
            assert!(!is_secret(harmless), "{harmless}");
        }
    }

    #[test]
    fn both_instructions() {
        assert_eq!(lines(&RULE, "ARG TOKEN\nFROM a\nARG A_TOKEN\nENV B=1 KEY=2\nLABEL key=x\n"), [3, 4]);
    }
}
