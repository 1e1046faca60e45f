//! RemovedInLaterLayer: something is removed in another instruction than the one that made it.
//!
//! An image never gets smaller by another layer: what an earlier one holds is shipped, whether it can be seen or not. Looked for are files of
//! COPY and ADD that a later `rm` names, package lists of apt that were left behind, packages that a later RUN uninstalls, and downloads
//! (`curl -o`, `wget -O`) that a later RUN removes; in stages that are shipped. Make and remove in one RUN, use a bind mount
//! (`RUN --mount=type=bind,source=a.tar.gz,target=/tmp/a.tar.gz`) in place of COPY, or do it in another stage.

use super::super::facts::{Facts, Run, StageFacts, is_below};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers;
use super::package_lists_kept::keeps_apt_lists;
use crate::instruction::Statement;
use crate::shell::Command;

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/RemovedInLaterLayer",
    summary: "what is removed should be removed where it was made",
    experimental: false,
    check: Check::Facts(check),
};

/// Something that an instruction puts into its layer.
struct Made<'a> {
    statement: &'a Statement,
    number: usize,
    what: What,
}

enum What {
    Path(String),
    Package(String),
}

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for stage in facts.stages.iter().filter(|stage| stage.shipped) {
        let made = made(stage);
        for run in &stage.runs {
            let removed = removed(run);
            let first = removed.iter().find_map(|removed| {
                // What was made again in this very RUN is another thing.
                let mut known = made.iter().take_while(|_| facts.may_compare());
                known.find(|made| made.number < run.number && matches(&made.what, removed))
            });
            if let Some(made) = first {
                let what = match &made.what {
                    What::Path(path) => path,
                    What::Package(name) => name,
                };
                let message = format!(
                    "{what} is removed here, but the layer of line {} keeps it in the image",
                    made.statement.first_line
                );
                let help = "make and remove it in one RUN, mount it, or use another stage";
                reporter.report(
                    &[run.statement, made.statement],
                    Finding::new(run.statement, message).help(help),
                );
            }
        }
    }
}

fn made<'a>(stage: &StageFacts<'a>) -> Vec<Made<'a>> {
    let mut made: Vec<Made<'a>> = stage
        .added
        .iter()
        .map(|a| Made { statement: a.statement, number: a.number, what: What::Path(a.path.clone()) })
        .collect();
    for run in &stage.runs {
        let mut add = |what| made.push(Made { statement: run.statement, number: run.number, what });
        if keeps_apt_lists(run) {
            add(What::Path("/var/lib/apt/lists".to_owned()));
        }
        for command in &run.commands {
            if let Some(path) = download(run, command) {
                add(What::Path(path));
            }
            if let Some(install) = managers::install(command).filter(|install| install.manager.is_system()) {
                install.packages.iter().for_each(|name| add(What::Package((*name).to_owned())));
                let group =
                    command.args().windows(2).find(|w| matches!(w[0].text.as_str(), "--virtual" | "-t"));
                group.into_iter().for_each(|group| add(What::Package(group[1].text.clone())));
            }
        }
    }
    made
}

/// The file that a download is written to.
fn download(run: &Run<'_>, command: &Command) -> Option<String> {
    let option = match command.program() {
        "curl" => "-o",
        "wget" => "-O",
        _ => return None,
    };
    let words = command.args();
    let at = words.iter().position(|w| w.text == option)?;
    let path = run.absolute(words.get(at + 1)?)?;
    (!run.mounted(&path)).then_some(path)
}

fn removed(run: &Run<'_>) -> Vec<What> {
    let mut removed = Vec::new();
    for command in &run.commands {
        let first = command.operands().next().map_or("", |word| word.text.as_str());
        match (command.program(), first) {
            ("rm", _) => removed.extend(command.operands().filter_map(|w| run.absolute(w)).map(What::Path)),
            ("apk", "del")
            | ("apt-get" | "apt" | "yum" | "dnf" | "microdnf", "remove" | "purge" | "erase") => {
                let names = command.operands().skip(1);
                removed.extend(names.map(|word| What::Package(word.text.clone())));
            }
            _ => {}
        }
    }
    removed
}

fn matches(made: &What, removed: &What) -> bool {
    match (made, removed) {
        (What::Package(made), What::Package(removed)) => made == removed && !made.starts_with('$'),
        (What::Path(made), What::Path(removed)) => {
            let all = removed.strip_suffix("/*");
            let lists = made == "/var/lib/apt/lists";
            made == removed && made != "/"
                || all.is_some_and(|directory| {
                    made != directory && is_below(made, directory) || lists && directory == made
                })
                || !removed.contains('*') && removed != "/" && is_below(made, removed)
                || crate::glob::is_pattern(removed) && crate::glob::matches(removed, made).unwrap_or(false)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lines;
    use super::*;

    fn on(text: &str) -> Vec<u32> {
        lines(&RULE, &format!("FROM a:1\nWORKDIR /app\n{text}\n"))
    }

    #[test]
    fn files_of_other_layers() {
        assert_eq!(on("COPY a.tar.gz /tmp/\nRUN tar xf /tmp/a.tar.gz && rm /tmp/a.tar.gz"), [4]);
        assert_eq!(on("COPY a.tar.gz /tmp/b\nRUN rm -rf /tmp/*"), [4]);
        assert_eq!(on("COPY x/a.deb .\nRUN dpkg -i a.deb && rm a.deb"), [4]);
        assert_eq!(on("COPY *.deb /tmp/\nRUN dpkg -i /tmp/*.deb && rm /tmp/*.deb"), [4]);
        assert_eq!(on("COPY src /build\nRUN make -C /build\nRUN rm -rf /build"), [5]);
        assert_eq!(on("RUN curl -fsSL -o /tmp/x https://y\nRUN sh /tmp/x && rm /tmp/x"), [4]);
        assert_eq!(on("RUN apt-get update && apt-get install -y x\nRUN rm -rf /var/lib/apt/lists/*"), [4]);
        assert_eq!(on("RUN apk add --no-cache -t .deps gcc\nRUN make && apk del .deps"), [4]);
        assert_eq!(on("RUN apt-get install -y gcc make\nRUN make\nRUN apt-get purge -y gcc"), [5]);
    }

    #[test]
    fn files_of_the_same_layer_or_of_none() {
        for text in [
            "RUN curl -o /tmp/x https://y && sh /tmp/x && rm /tmp/x",
            "RUN apt-get update && rm -rf /var/lib/apt/lists/*\nRUN rm -rf /var/lib/apt/lists/*",
            "RUN --mount=type=bind,source=a,target=/tmp/a dpkg -i /tmp/a\nRUN rm -rf /tmp/b",
            "COPY a /tmp/a\nRUN rm /tmp/ab /tm /other",
            "COPY . /app\nRUN npm ci && rm -rf /app/node_modules/.cache",
            "COPY a /x/a\nRUN cd /y && rm a",
            "COPY $A /tmp/a\nRUN rm -f /tmp/$B",
            "RUN rm -f /x\nCOPY x /x",
            "RUN apk add gcc && make && apk del gcc",
            "RUN --mount=type=cache,target=/dl curl -o /dl/x https://y\nRUN rm -f /dl/x",
        ] {
            assert_eq!(on(text), [0; 0], "{text}");
        }
        let builder = "FROM a AS b\nCOPY x /x\nRUN rm /x\nFROM c\nCOPY --from=b /y /\n";
        assert_eq!(lines(&RULE, builder), [0; 0], "not shipped");
    }
}
