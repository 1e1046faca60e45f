//! `layercake history`.

use std::path::PathBuf;
use std::process::ExitCode;

use oci::types::History;
use oci::{Digest, Time};
use serde::Serialize;

use crate::error::CommandError;
use crate::table::{self, Format};
use crate::{context, human, image, output};

/// `layercake history`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The latest step comes first. SIZE is the number of bytes of file content in the layer that the step made, not compressed; \
LAYER is that layer's id, which equals in all images that share it.")]
pub(crate) struct HistoryArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Show whole ids and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Ages and sizes for people; `--human=false` gives times and bytes
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Only the layers' ids
    #[arg(short, long)]
    quiet: bool,
    /// How to print the list
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One line of the history.
#[derive(Debug, Serialize)]
struct Row {
    created: Option<String>,
    created_by: String,
    comment: String,
    empty_layer: bool,
    /// The layer; none for instructions that made none.
    layer: Option<Digest>,
    diff_id: Option<Digest>,
    /// Bytes of file content in the layer.
    size: u64,
    /// Entries of the layer: files, directories, links, deletions.
    entries: usize,
}

/// The instruction as people wrote it: without the words that stand for "no command ran", in one line.
fn instruction(line: &History) -> String {
    let text = line.created_by.as_deref().unwrap_or_default();
    let text = text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &HistoryArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let image = image::get(&store, &args.image)?;
    let layers = image.layers(&store)?;
    let mut rows = Vec::new();
    for (line, number) in image.history().into_iter().rev() {
        let layer = number.map(|n| &layers[n]);
        rows.push(Row {
            created: line.and_then(|l| l.created.clone()),
            created_by: line.map_or_else(|| "<missing>".to_owned(), instruction),
            comment: line.and_then(|l| l.comment.clone()).unwrap_or_default(),
            empty_layer: number.is_none(),
            layer: number.map(|n| image.record.layers[n]),
            diff_id: number.and_then(|n| image.config.rootfs.diff_ids.get(n).copied()),
            size: layer.map_or(0, |l| l.content_bytes()),
            entries: layer.map_or(0, |l| l.entries().len()),
        });
    }
    let id = |d: &Option<Digest>| match d {
        Some(d) if args.no_trunc => d.to_string(),
        Some(d) => d.short(),
        None => "-".to_owned(),
    };
    if args.quiet {
        rows.iter().filter(|r| r.layer.is_some()).for_each(|r| output::line(&id(&r.layer)));
        return Ok(ExitCode::SUCCESS);
    }
    let now = Time::now();
    table::print(args.format, &rows, &["LAYER", "CREATED", "SIZE", "CREATED BY", "COMMENT"], |r| {
        let at = r.created.as_deref().and_then(Time::parse_rfc3339);
        let created = match (at, args.human) {
            (Some(t), true) => human::ago(t, now),
            (Some(t), false) => t.rfc3339(),
            (None, _) => "-".to_owned(),
        };
        let size = if args.human { human::bytes(r.size) } else { r.size.to_string() };
        let by =
            if args.no_trunc { r.created_by.clone() } else { crate::progress::text::cut(&r.created_by, 60) };
        vec![id(&r.layer), created, size, by, r.comment.clone()]
    });
    Ok(ExitCode::SUCCESS)
}
