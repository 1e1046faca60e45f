//! `layercake check`: what is wrong with Dockerfiles, or could be better, without building them.

mod fix;
mod sarif;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::input;
use dockerfile::check::{self, CheckInput, OWN};
use dockerfile::ignore::Matcher;
use dockerfile::{Class, Diagnostic};
use oci::platform::Platform;
use serde::Serialize;

use crate::cmd::load::platform;
use crate::error::CommandError;
use crate::{output, render, table, values};

/// `layercake check`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rules are BuildKit's, and our own on cache and size, whose names begin with layercake/. All are turned off in the same way: \
`# check=skip=RULE` at the head of the file, or right above an instruction. The exit code is 1 if there is a finding.")]
pub(crate) struct CheckArgs {
    /// Dockerfiles, or directories of build contexts
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: Vec<PathBuf>,
    /// Put the fixes into the files that are certain to change nothing else, and show what is left
    #[arg(long)]
    fix: bool,
    /// Which rules: all, or buildkit
    #[arg(long, value_enum, default_value = "all", value_name = "WHICH")]
    rules: Rules,
    /// Say what a rule is about, or list them all
    #[arg(long, value_name = "RULE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["path", "fix"])]
    explain: Option<String>,
    /// Value of a build argument (repeatable)
    #[arg(long, value_name = "KEY[=VALUE]")]
    build_arg: Vec<String>,
    /// Stage that is to be built
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Platform that is to be built for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// How to print the findings: text, json, sarif
    #[arg(long, value_enum, default_value = "text")]
    format: CheckFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    Text,
    Json,
    Sarif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rules {
    All,
    Buildkit,
}

/// A file with what was found in it.
struct Checked {
    name: String,
    text: String,
    found: Vec<Diagnostic>,
}

#[derive(Debug, Serialize)]
struct Finding<'a> {
    rule: &'a str,
    source: &'static str,
    severity: &'static str,
    class: &'static str,
    message: &'a str,
    file: &'a str,
    line: u32,
    /// Bytes of the file, half open.
    span: [usize; 2],
    help: Option<&'a str>,
    url: Option<String>,
    fix: Option<Fix<'a>>,
}

#[derive(Debug, Serialize)]
struct Fix<'a> {
    span: [usize; 2],
    replacement: &'a str,
}

fn finding<'a>(d: &'a Diagnostic, file: &'a str) -> Finding<'a> {
    Finding {
        rule: d.code,
        source: match d.class {
            Class::Check if !d.code.starts_with(OWN) => "buildkit",
            _ => "layercake",
        },
        severity: if d.is_error() { "error" } else { "warning" },
        class: match d.class {
            Class::Syntax => "syntax",
            Class::Instruction => "instruction",
            Class::Check => "check",
        },
        message: &d.message,
        file,
        line: d.line,
        span: [d.span.start, d.span.end],
        help: d.help.as_deref(),
        url: check::url(d.code),
        fix: d.fix.as_ref().map(|f| Fix { span: [f.span.start, f.span.end], replacement: &f.replacement }),
    }
}

/// Everything that is wrong. A file with errors is not looked at further: what follows from them would only confuse.
fn diagnostics(text: &str, input: &CheckInput<'_>) -> Vec<Diagnostic> {
    let parsed = dockerfile::parse(text);
    if parsed.diagnostics.iter().any(Diagnostic::is_error) {
        return parsed.diagnostics;
    }
    let found = check::run(&parsed, input);
    parsed.diagnostics.into_iter().chain(found).collect()
}

/// The Dockerfile that a path means.
fn load(path: &Path) -> Result<input::Input, CommandError> {
    if path.is_dir() {
        return Ok(input::load(path, None)?);
    }
    if !path.exists() {
        return Err(CommandError::usage(format!("there is no {}", path.display())));
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(input::load(parent, Some(path))?)
}

fn check(path: &Path, args: &CheckArgs) -> Result<Checked, CommandError> {
    let input = load(path)?;
    let ignore = match input.ignore.as_slice() {
        [] => None,
        patterns => Some(Matcher::new(patterns).map_err(|e| {
            CommandError::usage(format!("bad pattern in the ignore file: {}", crate::error::chain(&e)))
        })?),
    };
    let facts = CheckInput {
        build_args: args.build_arg.iter().filter_map(|a| values::variable(a)).collect(),
        ignore: ignore.as_ref(),
        target_platform: Some(platform(args.platform.as_deref())?.to_string()),
        build_platform: Some(Platform::host().to_string()),
        target_stage: args.target.as_ref().map(|t| t.to_lowercase()),
        own_rules: args.rules == Rules::All,
        ..CheckInput::default()
    };
    let mut text = input.text;
    if args.fix {
        let file = if path.is_dir() { path.join(&input.name) } else { path.to_owned() };
        let fixed = fix::file(&file, &|text| diagnostics(text, &facts))?;
        if !fixed.applied.is_empty() {
            output::note(&format!("{}: {} fixed", input.name, count(fixed.applied.len(), "finding")));
        }
        text = fixed.text.strip_prefix('\u{feff}').unwrap_or(&fixed.text).to_owned();
    }
    let found = diagnostics(&text, &facts);
    // Of several files, each is named as it was given.
    let name = if args.path.len() > 1 && path.is_dir() {
        path.join(&input.name).display().to_string()
    } else {
        input.name
    };
    Ok(Checked { name, text, found })
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, CommandError> {
    if let Some(rule) = &args.explain {
        return explain(rule);
    }
    let all = args.path.iter().map(|path| check(path, args)).collect::<Result<Vec<_>, _>>()?;
    match args.format {
        CheckFormat::Json => {
            let found = all.iter().flat_map(|file| file.found.iter().map(|d| finding(d, &file.name)));
            table::json(&found.collect::<Vec<_>>());
        }
        CheckFormat::Sarif => table::json(&sarif::log(&all)),
        CheckFormat::Text => {
            for file in &all {
                for d in &file.found {
                    output::line(&render::diagnostic(d, &file.name, &file.text));
                    let url = check::url(d.code).map_or_else(String::new, |u| format!(" ({u})"));
                    let fix = if d.fix.is_some() { "; --fix can mend it" } else { "" };
                    output::line(&format!("  rule: {}{url}{fix}\n", d.code));
                }
                output::line(&summary(&file.found, &file.name));
            }
        }
    }
    let clean = all.iter().all(|file| file.found.is_empty());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(rule: &str) -> Result<ExitCode, CommandError> {
    if rule.is_empty() {
        let rows: Vec<Vec<String>> =
            check::rules().map(|rule| vec![rule.name.to_owned(), rule.summary.to_owned()]).collect();
        output::line(&table::columns(&["RULE", "WHAT IT IS ABOUT"], &rows));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(text) = check::explain(rule) else {
        return Err(CommandError::usage(format!("no rule is called {rule}"))
            .hint("layercake check --explain lists them all"));
    };
    output::line(&text);
    if let Some(url) = check::url(rule) {
        output::line(&format!("\nBuildKit's page: {url}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn summary(found: &[Diagnostic], file: &str) -> String {
    let errors = found.iter().filter(|d| d.is_error()).count();
    match (errors, found.len() - errors) {
        (0, 0) => format!("{file}: no findings"),
        (e, 0) => format!("{file}: {}", count(e, "error")),
        (0, w) => format!("{file}: {}", count(w, "warning")),
        (e, w) => format!("{file}: {}, {}", count(e, "error"), count(w, "warning")),
    }
}
