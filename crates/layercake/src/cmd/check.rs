//! `layercake check`: what is wrong with a Dockerfile, without building it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::input;
use dockerfile::check::{self, CheckInput};
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
The rules are BuildKit's, and are turned off in the same way: `# check=skip=RULE` at the head of the file. The exit code is 1 if \
there is a finding.")]
pub(crate) struct CheckArgs {
    /// Dockerfile, or the directory of a build context
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,
    /// Value of a build argument (repeatable)
    #[arg(long, value_name = "KEY[=VALUE]")]
    build_arg: Vec<String>,
    /// Stage that is to be built
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Platform that is to be built for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// How to print the findings
    #[arg(long, value_enum, default_value = "text")]
    format: CheckFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    Text,
    Json,
}

#[derive(Debug, Serialize)]
struct Finding<'a> {
    rule: &'a str,
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
fn diagnostics(input: &input::Input, args: &CheckArgs) -> Result<Vec<Diagnostic>, CommandError> {
    let parsed = dockerfile::parse(&input.text);
    if parsed.diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(parsed.diagnostics);
    }
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
        ..CheckInput::default()
    };
    let found = check::run(&parsed, &facts);
    Ok(parsed.diagnostics.into_iter().chain(found).collect())
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let input = if args.path.is_dir() {
        input::load(&args.path, None)?
    } else if !args.path.exists() {
        return Err(CommandError::usage(format!("there is no {}", args.path.display())));
    } else {
        let parent = args.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        input::load(parent, Some(&args.path))?
    };
    let found = diagnostics(&input, args)?;
    match args.format {
        CheckFormat::Json => {
            table::json(&found.iter().map(|d| finding(d, &input.name)).collect::<Vec<_>>());
        }
        CheckFormat::Text => {
            for d in &found {
                output::line(&render::diagnostic(d, &input.name, &input.text));
                let url = check::url(d.code).map_or_else(String::new, |u| format!(" ({u})"));
                output::line(&format!("  rule: {}{url}\n", d.code));
            }
            output::line(&summary(&found, &input.name));
        }
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(found: &[Diagnostic], file: &str) -> String {
    let errors = found.iter().filter(|d| d.is_error()).count();
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    match (errors, found.len() - errors) {
        (0, 0) => format!("{file}: no findings"),
        (e, 0) => format!("{file}: {}", count(e, "error")),
        (0, w) => format!("{file}: {}", count(w, "warning")),
        (e, w) => format!("{file}: {}, {}", count(e, "error"), count(w, "warning")),
    }
}
