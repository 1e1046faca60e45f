//! AddInsteadOfCopy: ADD of local files that are no archives.
//!
//! ADD looks into every file and unpacks it if it is an archive; COPY takes files as they are, which is what is meant nearly always. The fix
//! is there where it cannot matter: directories, and files whose name says that they are text. Names with variables or wildcards, names of
//! archives, and names without an extension (which may be anything) are not reported.

use super::super::facts::Facts;
use super::super::{Check, Finding, Reporter, Rule};
use crate::instruction::{AddInst, Instruction};

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/AddInsteadOfCopy",
    summary: "ADD should be used for archives, URLs and repositories only",
    experimental: false,
    check: Check::Facts(check),
};

const TEXT: [&str; 28] = [
    "bash",
    "c",
    "cfg",
    "conf",
    "cpp",
    "css",
    "csv",
    "env",
    "go",
    "h",
    "html",
    "ini",
    "java",
    "js",
    "json",
    "lock",
    "md",
    "php",
    "properties",
    "py",
    "rb",
    "rs",
    "sh",
    "sql",
    "toml",
    "ts",
    "txt",
    "yaml",
];

const OTHER: [&str; 13] =
    ["bat", "crt", "exe", "key", "list", "pem", "pl", "ps1", "service", "so", "vbs", "xml", "yml"];

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for statement in facts.stages.iter().flat_map(|facts| facts.stage.body) {
        let Instruction::Add(add) = &statement.instruction else { continue };
        if !is_plain(add) || !add.sources.iter().all(|source| is_no_archive(source)) {
            continue;
        }
        let what = if add.sources.is_empty() { "text".to_owned() } else { add.sources.join(" ") };
        let message = format!("ADD of {what}, which is no archive");
        let place = statement.keyword_span;
        let copy = if statement.keyword == statement.keyword.to_lowercase() { "copy" } else { "COPY" };
        let finding = Finding::new(statement, message).at(place).help("use COPY");
        reporter.report(&[statement], finding.fix(place, copy));
    }
}

/// Whether nothing is asked that only ADD can do.
fn is_plain(add: &AddInst) -> bool {
    add.checksum.is_none() && add.keep_git_dir.is_none() && add.unpack.is_none()
}

fn is_no_archive(source: &str) -> bool {
    if source.contains("://") || source.starts_with("git@") || source.contains(['$', '*', '?', '[', '\\']) {
        return false;
    }
    let name = source.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") {
        // A directory; what is in it is not unpacked.
        return !source.ends_with(".git");
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    extension.is_some_and(|e| TEXT.contains(&e.as_str()) || OTHER.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn what_copy_could_take() {
        let text = "FROM a\nADD . /app\nADD src/ /app\nADD a.py b.JSON /app/\nadd x.sh /\nADD <<E /t\nx\nE\n";
        assert_eq!(lines(&RULE, text), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_only_add_can_take() {
        for source in [
            "a.tar.gz",
            "a.tgz",
            "rootfs",
            "https://x/y.py",
            "git@x:y.py",
            "$F.py",
            "*.py",
            "a.py b.tar",
            "--unpack=true a.py",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM a\nADD {source} /x/\n")), [0; 0], "{source}");
        }
        assert_eq!(lines(&RULE, "FROM a\nCOPY . /\n"), [0; 0]);
    }

    #[test]
    fn the_fix_takes_copy() {
        let text = "from a\n  add --chown=1 a.py \\\n  /b\nADD [\"x y.py\", \"/\"]\n";
        assert_eq!(fixed(&RULE, text), "from a\n  copy --chown=1 a.py \\\n  /b\nCOPY [\"x y.py\", \"/\"]\n");
    }
}
