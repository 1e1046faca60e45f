//! From nodes to typed instructions: which flags and arguments each instruction takes.
//!
//! Source: BuildKit, frontend/dockerfile/instructions/parse.go. What is an error there is one here, and nothing
//! else is; where it silently ignores something (flags of ARG, STOPSIGNAL and `HEALTHCHECK NONE`), there is a
//! warning. Unlike there, all errors are reported.

use std::collections::HashMap;
use std::time::Duration;

use crate::flags::{self, Flags, Kind};
use crate::instruction::{
    AddInst, ArgDef, Command, CopyInst, Dockerfile, FromInst, Healthcheck, Instruction, KeyValues, Onbuild,
    RunInst, Statement,
};
use crate::mount;
use crate::suggest::{did_you_mean, nearest_keyword};
use crate::syntax::{Args, Heredoc, Node, Tree, Word, parse_heredoc};
use crate::{Class, Diagnostic, Span};

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The typed form of a tree; its diagnostics and those of its instructions are added to `diagnostics`.
pub(crate) fn file(tree: Tree, diagnostics: &mut Vec<Diagnostic>) -> Dockerfile {
    let mut statements = Vec::with_capacity(tree.nodes.len());
    let mut in_stage = false;
    diagnostics.extend(tree.diagnostics);
    for node in tree.nodes {
        let is_from = node.keyword.eq_ignore_ascii_case("FROM");
        in_stage |= is_from;
        let place = (node.keyword_span, node.first_line);
        let Some(statement) = statement(node, diagnostics) else { continue };
        if !in_stage && !matches!(statement.instruction, Instruction::Arg(_)) {
            let message = format!("{} stands before the first FROM", statement.instruction.name());
            diagnostics.push(
                Diagnostic::error(Class::Instruction, "NoStage", message, place.0, place.1)
                    .help("only ARG may; put this behind a FROM"),
            );
            continue;
        }
        statements.push(statement);
    }
    diagnostics.sort_by_key(|d| (d.line, d.span));
    Dockerfile { directives: tree.directives, statements }
}

/// The typed form of one node; `None` if it has errors, which are added to `diagnostics`.
pub(crate) fn statement(mut node: Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Statement> {
    let mut lower = Lower { problems: Vec::new(), warnings: Vec::new(), node: &node };
    let instruction = lower.instruction();
    let Lower { problems, warnings, .. } = lower;
    let failed = !problems.is_empty();
    diagnostics.extend(problems);
    diagnostics.extend(warnings);
    let instruction = instruction.filter(|_| !failed)?;
    Some(Statement {
        span: node.span,
        first_line: node.first_line,
        last_line: node.last_line,
        keyword_span: node.keyword_span,
        flags: flags::written(&node),
        args_span: node.args_span,
        keyword: std::mem::take(&mut node.keyword),
        original: std::mem::take(&mut node.original),
        comments: std::mem::take(&mut node.comments),
        empty_continuations: std::mem::take(&mut node.empty_continuations),
        pieces: std::mem::take(&mut node.pieces),
        words: match node.args {
            Args::Words(words) | Args::Exec(words) => words,
            _ => Vec::new(),
        },
        instruction,
    })
}

struct Lower<'a> {
    node: &'a Node,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Lower<'_> {
    fn problem(&mut self, code: &'static str, message: impl Into<String>) -> &mut Diagnostic {
        let whole = Span::new(self.node.keyword_span.start, self.node.args_span.end);
        self.problem_at(whole, code, message)
    }

    fn problem_at(&mut self, span: Span, code: &'static str, message: impl Into<String>) -> &mut Diagnostic {
        let at = self.problems.len();
        self.problems.push(Diagnostic::error(Class::Instruction, code, message, span, self.node.first_line));
        &mut self.problems[at]
    }

    fn keyword(&self) -> String {
        self.node.keyword.to_uppercase()
    }

    fn flags(&mut self, known: &[(&'static str, Kind)]) -> Flags {
        Flags::read(self.node, known, &mut self.problems)
    }

    /// Warns of flags that BuildKit does not look at.
    fn ignored_flags(&mut self) {
        for flag in &self.node.flags {
            let message = format!("flag {} has no effect on {}", flag.text, self.keyword());
            let line = self.node.first_line;
            self.warnings.push(Diagnostic::warning(
                Class::Instruction,
                "IgnoredFlag",
                message,
                flag.span,
                line,
            ));
        }
    }

    fn words(&self) -> &[Word] {
        match &self.node.args {
            Args::Words(words) | Args::Exec(words) => words,
            _ => &[],
        }
    }

    fn texts(&self) -> Vec<String> {
        self.words().iter().map(|word| word.text.clone()).collect()
    }

    /// The arguments, of which there must be at least one.
    fn some(&mut self) -> Option<Vec<String>> {
        let texts = self.texts();
        if texts.is_empty() {
            let message = format!("{} needs at least one argument", self.keyword());
            self.problem("MissingArgument", message);
            return None;
        }
        Some(texts)
    }

    /// The one argument.
    fn one(&mut self) -> Option<String> {
        self.some()?.into_iter().next()
    }

    /// The arguments from the `from`th on, as a command.
    fn command(&self, from: usize) -> Command {
        let words = self.words().get(from..).unwrap_or_default();
        match &self.node.args {
            Args::Exec(_) => Command::Exec(words.iter().map(|w| w.text.clone()).collect()),
            _ => Command::Shell(words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")),
        }
    }

    fn instruction(&mut self) -> Option<Instruction> {
        Some(match self.node.keyword.to_lowercase().as_str() {
            "from" => Instruction::From(self.from()?),
            "arg" => Instruction::Arg(self.arg()?),
            "env" => Instruction::Env(self.key_values()?),
            "label" => Instruction::Label(self.key_values()?),
            "run" => Instruction::Run(self.run()),
            "copy" => Instruction::Copy(self.copy()?),
            "add" => Instruction::Add(self.add()?),
            "workdir" => Instruction::Workdir(self.plain()?),
            "user" => Instruction::User(self.plain()?),
            "maintainer" => Instruction::Maintainer(self.plain()?),
            "cmd" => {
                self.flags(&[]);
                Instruction::Cmd(self.command(0))
            }
            "entrypoint" => {
                self.flags(&[]);
                Instruction::Entrypoint(self.command(0))
            }
            "expose" => {
                self.flags(&[]);
                let mut ports = self.some()?;
                ports.sort();
                Instruction::Expose(ports)
            }
            "volume" => Instruction::Volume(self.volume()?),
            "stopsignal" => {
                self.ignored_flags();
                Instruction::Stopsignal(self.one()?)
            }
            "healthcheck" => Instruction::Healthcheck(self.healthcheck()?),
            "shell" => Instruction::Shell(self.shell()?),
            "onbuild" => Instruction::Onbuild(self.onbuild()?),
            _ => {
                let name = self.node.keyword.clone();
                let help = did_you_mean(nearest_keyword(&name, KEYWORDS));
                let span = self.node.keyword_span;
                self.problem_at(span, "UnknownInstruction", format!("unknown instruction {name}")).help =
                    help;
                return None;
            }
        })
    }

    /// An instruction without flags whose argument is the rest of the line.
    fn plain(&mut self) -> Option<String> {
        self.flags(&[]);
        self.one()
    }

    fn from(&mut self) -> Option<FromInst> {
        let flags = self.flags(&[("platform", Kind::One)]);
        let words = self.words().to_vec();
        let name = match words.as_slice() {
            [_] => None,
            [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => Some(name),
            _ => {
                let help = match words.iter().find(|w| w.text.starts_with('#')) {
                    Some(_) => "a comment must stand on a line of its own",
                    None => "write FROM image or FROM image AS name",
                };
                self.problem("FromArguments", "FROM takes an image and, behind AS, a name").help =
                    Some(help.to_owned());
                return None;
            }
        };
        if let Some(name) = name.filter(|name| !is_stage_name(&name.text.to_lowercase())) {
            let message = format!("invalid stage name {:?}", name.text);
            self.problem_at(name.span, "StageName", message).help =
                Some("a name is a letter followed by letters, digits, -, _ and .".to_owned());
        }
        Some(FromInst {
            image: words.first()?.text.clone(),
            platform: flags.one("platform"),
            name: name.map(|name| name.text.to_lowercase()),
            name_as_written: name.map(|name| name.text.clone()),
        })
    }

    fn arg(&mut self) -> Option<Vec<ArgDef>> {
        self.ignored_flags();
        self.some()?;
        let mut out = Vec::new();
        for word in self.words().to_vec() {
            let (key, value) = match word.text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.text, None),
            };
            if key.is_empty() {
                self.problem_at(word.span, "BlankName", "an argument's name must not be empty");
            }
            out.push(ArgDef { key, value });
        }
        Some(out)
    }

    fn key_values(&mut self) -> Option<KeyValues> {
        self.flags(&[]);
        let Args::Pairs { pairs, legacy } = &self.node.args else { return None };
        let keyword = self.keyword();
        if pairs.is_empty() {
            let message = format!("{keyword} needs at least one argument");
            self.problem("MissingArgument", message);
        } else if pairs.iter().any(|(name, _)| name.is_empty()) {
            self.problem("BlankName", format!("a name in {keyword} must not be empty"));
        }
        Some(KeyValues { pairs: pairs.clone(), legacy: *legacy })
    }

    fn run(&mut self) -> RunInst {
        let flags = self.flags(&[
            ("mount", Kind::Many),
            ("network", Kind::One),
            ("security", Kind::One),
            ("cache", Kind::One),
            ("device", Kind::Many),
            ("no-cache", Kind::Bool),
        ]);
        let run = RunInst {
            command: self.command(0),
            mounts: flags.many("mount"),
            network: flags.given_value("network"),
            security: flags.given_value("security"),
            cache: flags.given_value("cache"),
            devices: flags.many("device"),
            no_cache: flags.bool("no-cache").unwrap_or(false),
            heredocs: self.node.heredocs.clone(),
        };
        for (mount, span) in flags.places("mount") {
            if let Err(error) = mount::check(mount) {
                self.problem_at(span, "InvalidMount", error.to_string());
            }
        }
        for (device, span) in flags.places("device") {
            if let Err(error) = mount::Device::parse(device) {
                self.problem_at(span, "InvalidDevice", error.to_string());
            }
        }
        self.one_of(&flags, "network", &["default", "none", "host"]);
        self.one_of(&flags, "security", &["sandbox", "insecure"]);
        self.one_of(&flags, "cache", &["traced", "chain"]);
        run
    }

    fn one_of(&mut self, flags: &Flags, flag: &str, allowed: &[&str]) {
        for (value, span) in flags.places(flag).filter(|(value, _)| !allowed.contains(value)) {
            let message = format!("--{flag} must be one of {}, not {value:?}", allowed.join(", "));
            self.problem_at(span, "InvalidFlagValue", message);
        }
    }

    /// The sources, the destination, and the sources that are heredocs.
    fn sources_and_dest(&mut self) -> Option<(Vec<String>, String, Vec<Heredoc>)> {
        let words = self.words().to_vec();
        let keyword = self.keyword();
        let Some((dest, sources)) = words.split_last().filter(|(_, sources)| !sources.is_empty()) else {
            let message = format!("{keyword} needs a source and a destination");
            self.problem("MissingArgument", message);
            return None;
        };
        if matches!(parse_heredoc(&dest.text), Ok(Some(_))) {
            let message = format!("the destination of {keyword} must not be a heredoc");
            self.problem_at(dest.span, "HeredocDestination", message);
        }
        let bodies: HashMap<&str, &Heredoc> =
            self.node.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc)).collect();
        let mut paths = Vec::new();
        let mut heredocs = Vec::new();
        for source in sources {
            match parse_heredoc(&source.text) {
                Ok(Some(mut heredoc)) => {
                    if let Some(found) = bodies.get(heredoc.name.as_str()) {
                        heredoc.content = found.content.clone();
                    }
                    heredoc.content = heredoc.body();
                    heredocs.push(heredoc);
                }
                _ => paths.push(source.text.clone()),
            }
        }
        Some((paths, dest.text.clone(), heredocs))
    }

    fn copy(&mut self) -> Option<CopyInst> {
        let flags = self.flags(&[
            ("from", Kind::One),
            ("chown", Kind::One),
            ("chmod", Kind::One),
            ("link", Kind::Bool),
            ("parents", Kind::Bool),
            ("exclude", Kind::Many),
        ]);
        let (sources, dest, heredocs) = self.sources_and_dest()?;
        Some(CopyInst {
            sources,
            dest,
            heredocs,
            from: flags.one("from"),
            chown: flags.one("chown"),
            chmod: flags.one("chmod"),
            link: flags.bool("link").unwrap_or_default(),
            parents: flags.bool("parents").unwrap_or_default(),
            exclude: flags.many("exclude"),
        })
    }

    fn add(&mut self) -> Option<AddInst> {
        let flags = self.flags(&[
            ("chown", Kind::One),
            ("chmod", Kind::One),
            ("checksum", Kind::One),
            ("link", Kind::Bool),
            ("keep-git-dir", Kind::Bool),
            ("unpack", Kind::Bool),
            ("exclude", Kind::Many),
        ]);
        let (sources, dest, heredocs) = self.sources_and_dest()?;
        Some(AddInst {
            sources,
            dest,
            heredocs,
            chown: flags.one("chown"),
            chmod: flags.one("chmod"),
            checksum: flags.one("checksum"),
            link: flags.bool("link").unwrap_or_default(),
            keep_git_dir: flags.bool("keep-git-dir"),
            unpack: flags.bool("unpack"),
            exclude: flags.many("exclude"),
        })
    }

    fn volume(&mut self) -> Option<Vec<String>> {
        self.flags(&[]);
        let volumes: Vec<String> = self.some()?.iter().map(|v| v.trim().to_owned()).collect();
        if volumes.iter().any(String::is_empty) {
            self.problem("EmptyVolume", "a volume must not be empty");
        }
        Some(volumes)
    }

    fn shell(&mut self) -> Option<Vec<String>> {
        self.flags(&[]);
        let words = self.some()?;
        if !matches!(self.node.args, Args::Exec(_)) {
            self.problem("ShellForm", "SHELL must be in exec form").help =
                Some("write SHELL [\"/bin/bash\", \"-c\"]".to_owned());
        }
        Some(words)
    }

    fn healthcheck(&mut self) -> Option<Healthcheck> {
        let kind = self.one()?;
        if kind.to_uppercase() == "NONE" {
            self.ignored_flags();
            if self.words().len() > 1 {
                self.problem("HealthcheckArguments", "HEALTHCHECK NONE takes no arguments");
            }
            return Some(Healthcheck::None);
        }
        let flags = self.flags(&[
            ("interval", Kind::One),
            ("timeout", Kind::One),
            ("start-period", Kind::One),
            ("start-interval", Kind::One),
            ("retries", Kind::One),
        ]);
        if kind.to_uppercase() != "CMD" {
            let message = format!("unknown type {kind} of HEALTHCHECK");
            self.problem("HealthcheckType", message).help =
                Some("write HEALTHCHECK CMD command, or HEALTHCHECK NONE".to_owned());
        } else if self.words().len() < 2 {
            self.problem("MissingArgument", "HEALTHCHECK CMD needs a command");
        }
        Some(Healthcheck::Cmd {
            command: self.command(1),
            interval: self.duration(&flags, "interval"),
            timeout: self.duration(&flags, "timeout"),
            start_period: self.duration(&flags, "start-period"),
            start_interval: self.duration(&flags, "start-interval"),
            retries: self.retries(&flags),
        })
    }

    fn duration(&mut self, flags: &Flags, name: &str) -> Option<Duration> {
        let (value, span) = flags.places(name).next().filter(|(value, _)| !value.is_empty())?;
        let Some((negative, duration)) = crate::duration::parse(value) else {
            let message = format!("--{name} must be a duration, not {value:?}");
            self.problem_at(span, "InvalidFlagValue", message).help =
                Some("write a number with a unit: 30s, 1m30s, 500ms".to_owned());
            return None;
        };
        if negative || (duration < Duration::from_millis(1) && !duration.is_zero()) {
            self.problem_at(span, "InvalidFlagValue", format!("--{name} must be at least 1ms"));
        }
        Some(duration).filter(|d| !d.is_zero())
    }

    fn retries(&mut self, flags: &Flags) -> Option<u32> {
        let (value, span) = flags.places("retries").next().filter(|(value, _)| !value.is_empty())?;
        match value.parse::<i32>() {
            Ok(count) if count >= 0 => u32::try_from(count).ok(),
            _ => {
                let message = format!("--retries must be a number from 0, not {value:?}");
                self.problem_at(span, "InvalidFlagValue", message);
                None
            }
        }
    }

    fn onbuild(&mut self) -> Option<Onbuild> {
        self.flags(&[]);
        let Args::Nested(inner) = &self.node.args else {
            self.problem("MissingArgument", "ONBUILD needs an instruction");
            return None;
        };
        let trigger = inner.keyword.to_uppercase();
        if matches!(trigger.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            let span = inner.keyword_span;
            self.problem_at(span, "OnbuildTrigger", format!("{trigger} must not be used with ONBUILD"));
            return None;
        }
        let mut text = onbuild_text(&self.node.original).to_owned();
        for heredoc in &self.node.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        let mut inner = (**inner).clone();
        inner.heredocs = self.node.heredocs.clone();
        let mut found = Vec::new();
        let inner = statement(inner, &mut found);
        // What is wrong with the trigger is no error before it is used.
        self.warnings
            .extend(found.into_iter().map(|d| Diagnostic { severity: crate::Severity::Warning, ..d }));
        Some(Onbuild { text, inner: inner.map(Box::new) })
    }
}

/// The text behind the keyword ONBUILD.
fn onbuild_text(original: &str) -> &str {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let text = original.trim_start_matches(blank);
    match text.get(..7) {
        Some(keyword) if keyword.eq_ignore_ascii_case("ONBUILD") => text[7..].trim_start_matches(blank),
        _ => original,
    }
}

/// Whether `name` is a letter followed by letters, digits, `-`, `_` and `.`, in lower case.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}
