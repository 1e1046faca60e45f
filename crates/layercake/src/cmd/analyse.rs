//! `layercake analyse`: where every byte of an image comes from, what of it is waste, and whether it passes the rules of CI.

pub(crate) mod base;
mod rules;
mod screen;
pub(crate) mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use analyse::report::{self, Report, text};
use analyse::{Image, dive};
use oci::platform::Platform;

use crate::cmd::load::platform;
use crate::error::{CommandError, Kind};
use crate::{context, env, output, table};

/// `layercake analyse`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IMAGE is the name or id of an image of the store, a file or directory (docker-save archive, OCI layout or archive), - for an archive on \
standard input, or an image of a registry, which is read without being stored. Prefixes say which: store:, archive:, oci:DIR[:TAG], registry:, \
docker-daemon:, podman:, docker-archive:. The figures are explained in docs/analyse.md.

Exit code: 0, 1 a rule fails, 2 usage, 3 the image could not be analysed.")]
pub(crate) struct AnalyseArgs {
    /// Image to look into
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to look for the image: store, archive, docker, podman or registry [default: by its name]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Platform to take from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// How to print the report [default: text; on a terminal the image is shown on a screen of its own, unless rules are checked or a
    /// file is written]
    #[arg(long, value_enum)]
    format: Option<AnalyseFormat>,
    /// Print the report on a terminal, too
    #[arg(long)]
    no_tui: bool,
    /// Write one page with a map of the image, its layers and findings to a file; it needs nothing but a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write dive's export to a file, as dive does
    #[arg(short, long, value_name = "FILE")]
    json: Option<String>,
    /// How many findings to show in text and Markdown
    #[arg(long, value_name = "N", default_value_t = text::FINDINGS)]
    top: usize,
    /// The base image: what it ships is not yours to mend [default: found out]
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// The Dockerfile that the image was built from, for the lines of its instructions
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Allow http and bad certificates
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    rules: rules::RuleArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AnalyseFormat {
    // No doc comments: clap would give each value a paragraph of its own in every help.
    Text,
    Json,
    DiveJson,
    Markdown,
    Sarif,
    Csv,
}

/// Everything that keeps an image from being analysed has one exit code, whoever is to blame: a gate must not take it for its verdict.
pub(crate) fn unable(mut e: CommandError) -> CommandError {
    if matches!(e.kind, Kind::User) {
        e.code = Some(3);
    }
    e
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &AnalyseArgs) -> Result<ExitCode, CommandError> {
    let wanted: Platform = platform(args.platform.as_deref())?;
    let rules = args.rules.rules(env::ci())?;
    let cancel = context::interrupt_flag()?;
    let plain = args.no_tui || args.format.is_some() || args.json.is_some() || args.html.is_some();
    if !plain && rules.is_none() && screen::possible() {
        screen::show(root, &wanted, &cancel, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let from = source::Loader { root: &root, platform: &wanted, insecure: args.insecure, cancel: &cancel };
    let mut image: Image = from.load(&args.image, args.source.as_deref()).map_err(unable)?;
    if !image.platform_matches {
        output::note(&format!("warning: {} is for {}, not for {wanted}", args.image, image.platform));
    }
    let found = base::find(&from, &image, args.base.as_deref()).map_err(unable)?;
    image.set_base(found);
    let origins = base::origins(&from, &image, args.file.as_deref())?;
    base::name_layers(&mut image, &origins);
    let mut report = Report::new(&image);
    report.origins = origins;
    if let Some(rules) = &rules {
        let baseline = args.rules.baseline(&from).map_err(unable)?;
        report.gate = Some(rules.check(&image, &report.dive, baseline.as_ref()));
    }
    if let Some(path) = &args.json {
        let export = dive::export(&image, &report.dive);
        let text = serde_json::to_string_pretty(&export).unwrap_or_default();
        std::fs::write(path, text)
            .map_err(|e| CommandError::new(Kind::Environment, format!("cannot write {path}: {e}")))?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, analyse::html::page(&image, &report.findings)).map_err(|e| {
            CommandError::new(Kind::Environment, format!("cannot write {}: {e}", path.display()))
        })?;
    }
    show(&report, args);
    Ok(match &report.gate {
        Some(gate) if !gate.passes() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Prints the report.
fn show(report: &Report<'_>, args: &AnalyseArgs) {
    match args.format.unwrap_or(AnalyseFormat::Text) {
        AnalyseFormat::Text => output::line(&text::summary(report, args.top, width())),
        AnalyseFormat::Json => table::json(&report::json::document(report)),
        AnalyseFormat::DiveJson => table::json(&dive::export(report.image, &report.dive)),
        AnalyseFormat::Markdown => output::line(report::markdown::write(report, args.top).trim_end()),
        AnalyseFormat::Sarif => {
            table::json(&report::sarif::write(report, env!("CARGO_PKG_VERSION")));
        }
        AnalyseFormat::Csv => output::line(report::csv::write(report).trim_end()),
    }
}

/// Columns of the terminal; more than enough where there is none.
fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 20 => usize::from(size.ws_col),
        _ => 200,
    }
}
