//! `layercake prune`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use store::{Freed, Policy};

use crate::cmd::{login, mounts};
use crate::error::CommandError;
use crate::{context, human, output, table, values};

/// `layercake prune`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Goes: what nothing refers to any more, images without a name, leftovers of killed processes. Results of past steps (the build \
cache) stay, unless --all, --unused-for or --max-size say otherwise. Images with a name always stay, and so do cache mounts of RUN \
steps: those go with --mount or --mounts, and nothing else goes then.")]
pub(crate) struct PruneArgs {
    /// All results of past steps, too
    #[arg(short, long, conflicts_with_all = ["unused_for", "max_size"])]
    all: bool,
    /// Also results of past steps that were not used for this time, such as 24h or 7d
    #[arg(long, value_name = "TIME")]
    unused_for: Option<String>,
    /// Also the results of past steps used least recently, until the store holds at most this much, such as 10g
    #[arg(long, value_name = "BYTES")]
    max_size: Option<String>,
    /// Instead, empty the cache mounts with this id (repeatable)
    #[arg(long, value_name = "ID", conflicts_with_all = ["all", "unused_for", "max_size"])]
    mount: Vec<String>,
    /// Instead, empty all cache mounts
    #[arg(long, conflicts_with_all = ["all", "unused_for", "max_size", "mount"])]
    mounts: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    format: table::Format,
}

#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    count: u64,
    bytes: u64,
}

fn rows(f: &Freed) -> Vec<Row> {
    let amount = |kind, a: store::Amount| Row { kind, count: a.files, bytes: a.bytes };
    vec![
        Row { kind: "images", count: f.images.len() as u64, bytes: 0 },
        Row { kind: "records", count: f.records.len() as u64, bytes: 0 },
        amount("objects", f.objects),
        amount("layers", f.layers),
        amount("blobs", f.blobs),
        amount("dirs", f.dirs),
        amount("leftovers", f.other),
    ]
}

/// `2 images, 14 results of past steps, 3 layers, 120 file contents, 4 blobs: 12.3MB`
fn sentence(f: &Freed) -> String {
    let words = [
        (f.images.len() as u64, "image without a name", "images without a name"),
        (f.records.len() as u64, "result of a past step", "results of past steps"),
        (f.layers.files, "layer", "layers"),
        (f.objects.files, "file content", "file contents"),
        (f.blobs.files, "blob", "blobs"),
        (f.dirs.files, "file of a layer's directory", "files of layers' directories"),
        (f.other.files, "leftover", "leftovers"),
    ];
    let parts: Vec<String> = words
        .iter()
        .filter(|(n, _, _)| *n > 0)
        .map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many }))
        .collect();
    format!("{}: {}", parts.join(", "), human::bytes(f.total().bytes))
}

fn is_nothing(f: &Freed) -> bool {
    f.images.is_empty() && f.records.is_empty() && f.total().files == 0
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &PruneArgs) -> Result<ExitCode, CommandError> {
    let unused_for = match (&args.unused_for, args.all) {
        (Some(t), _) => Some(values::seconds("unused-for", t)?),
        (None, true) => Some(0),
        (None, false) => None,
    };
    let max_bytes = args.max_size.as_deref().map(|s| values::bytes("max-size", s)).transpose()?;
    let policy = Policy { unused_for, max_bytes, untagged_images: true };
    let store = context::store(root)?;
    if args.mounts || !args.mount.is_empty() {
        return mounts::remove(&store, &args.mount, args.dry_run, args.format);
    }
    let planned = store.gc(&policy, true)?;
    let json = args.format == table::Format::Json;
    if args.dry_run && json {
        table::json(&rows(&planned));
        return Ok(ExitCode::SUCCESS);
    }
    if is_nothing(&planned) {
        if json {
            table::json(&rows(&planned));
        } else {
            output::line("there is nothing to free");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        output::line(&format!("would free {}", sentence(&planned)));
        return Ok(ExitCode::SUCCESS);
    }
    if !args.force && rustix::termios::isatty(rustix::stdio::stdin()) {
        output::ask(&format!("This removes {}. Go on? [y/N] ", sentence(&planned)));
        let answer = login::read_line(&mut std::io::stdin())?;
        if !matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
            output::note("nothing was removed");
            return Ok(ExitCode::SUCCESS);
        }
    }
    sandbox::sweep_groups();
    let freed = store.gc(&policy, false)?;
    if json {
        table::json(&rows(&freed));
    } else {
        output::line(&format!("freed {}", sentence(&freed)));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Amount;

    #[test]
    fn it_says_what_goes() {
        let f = Freed {
            layers: Amount { files: 1, bytes: 100, disk: 4096 },
            objects: Amount { files: 3, bytes: 1_000_000, disk: 4096 },
            ..Freed::default()
        };
        assert_eq!(sentence(&f), "1 layer, 3 file contents: 1.00MB");
        assert!(!is_nothing(&f) && is_nothing(&Freed::default()));
    }
}
