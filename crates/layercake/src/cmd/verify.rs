//! `layercake verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use serde::Serialize;
use store::{Finding, Part};

use crate::error::CommandError;
use crate::progress::transfers::Transfers;
use crate::table::{self, Format};
use crate::{context, human, output};

/// `layercake verify`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 1 if something is wrong and was not repaired. What a repair drops is made again by the next build or pull.")]
pub(crate) struct VerifyArgs {
    /// Drop what is damaged, and what needs it
    #[arg(long)]
    repair: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How to print what is wrong
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Row {
    part: &'static str,
    name: String,
    problem: String,
    dropped: bool,
}

fn row(f: Finding) -> Row {
    let part = match f.part {
        Part::Object => "object",
        Part::Layer => "layer",
        Part::Blob => "blob",
        Part::Image => "image",
        Part::Tag => "tag",
        Part::Record => "record",
        Part::Database => "database",
        Part::Stray => "stray",
    };
    Row { part, name: f.name, problem: f.problem, dropped: f.dropped }
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &VerifyArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let cancel = context::interrupt_flag()?;
    let transfers = Transfers::new(args.quiet || args.format == Format::Json);
    let verified = store.verify(args.repair, &|done, total| {
        // The end is told below, with what was found.
        if done < total {
            transfers.update("verifying", done, total);
        }
        !cancel.load(Ordering::Relaxed)
    })?;
    transfers.drop_unfinished();
    let checked = verified.checked;
    let rows: Vec<Row> = verified.findings.into_iter().map(row).collect();
    let open = rows.iter().filter(|r| !r.dropped).count();
    if args.format == Format::Json {
        table::json(&rows);
    } else {
        if !rows.is_empty() {
            table::print(Format::Table, &rows, &["PART", "PROBLEM", "DROPPED", "NAME"], |r| {
                let dropped = if r.dropped { "yes" } else { "no" };
                vec![r.part.to_owned(), r.problem.clone(), dropped.to_owned(), r.name.clone()]
            });
        }
        let found = match rows.len() {
            0 => "everything is sound".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        output::line(&format!("{} files, {} checked: {found}", checked.files, human::bytes(checked.bytes)));
        if open > 0 && !args.repair {
            output::note("hint: run `layercake verify --repair`");
        }
    }
    Ok(if open > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
