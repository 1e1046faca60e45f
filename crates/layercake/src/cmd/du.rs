//! `layercake du`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use store::{Amount, Policy};

use crate::cmd::mounts;
use crate::error::CommandError;
use crate::table::{self, Format};
use crate::{context, human, output};

/// `layercake du`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIZE is the sum of the files' sizes, DISK what the file system uses for them.")]
pub(crate) struct DuArgs {
    /// List the cache mounts of RUN steps instead, by id
    #[arg(long)]
    mounts: bool,
    /// How to print the list
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    files: u64,
    bytes: u64,
    disk: u64,
    #[serde(skip)]
    what: &'static str,
}

fn row(kind: &'static str, what: &'static str, a: Amount) -> Row {
    Row { kind, files: a.files, bytes: a.bytes, disk: a.disk, what }
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &DuArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    if args.mounts {
        return mounts::list(&store, args.format);
    }
    let u = store.usage()?;
    let mut rows = vec![
        row("objects", "contents of files", u.objects),
        row("layers", "indexes of layers", u.layers),
        row("blobs", "compressed layers, manifests, configs", u.blobs),
        row("images", "images and tags", u.images),
        row("database", "records of past steps", u.database),
        row("memo", "digests of build contexts", u.memo),
        row("dirs", "layers as directories, for --view=overlay", u.dirs),
        row("mounts", "cache mounts of RUN steps", u.mounts),
        row("tmp", "of running and dead processes", u.tmp),
    ];
    if args.format == Format::Json {
        table::json(&rows);
        return Ok(ExitCode::SUCCESS);
    }
    rows.push(row("total", "", u.total()));
    table::print(args.format, &rows, &["KIND", "FILES", "SIZE", "DISK", "WHAT"], |r| {
        vec![
            r.kind.to_owned(),
            r.files.to_string(),
            human::bytes(r.bytes),
            human::bytes(r.disk),
            r.what.to_owned(),
        ]
    });
    let free = |unused_for| -> Result<String, CommandError> {
        let policy = Policy { unused_for, untagged_images: true, ..Policy::default() };
        Ok(human::bytes(store.gc(&policy, true)?.total().bytes))
    };
    output::line(&format!(
        "\n`layercake prune` frees {}, `layercake prune --all` frees {} ({} records of past steps)",
        free(None)?,
        free(Some(0))?,
        u.records
    ));
    Ok(ExitCode::SUCCESS)
}
