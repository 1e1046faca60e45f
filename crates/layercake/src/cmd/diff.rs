//! `layercake diff`: what is different between two images.

mod load;
mod markdown;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use analyse::diff::{self, Wanted};

use crate::error::CommandError;
use crate::{context, output, table};

/// `layercake diff`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image is a name or id in the store, an OCI layout or archive, a docker-save archive, or a name in a registry (nothing of it is \
kept). Modification times are not compared unless --times is given. In the text, + is added, - removed, ~ changed, and m other \
attributes only.")]
pub(crate) struct DiffArgs {
    /// The image before: a name, an id, or a file
    #[arg(value_name = "A")]
    a: String,
    /// The image after
    #[arg(value_name = "B")]
    b: String,
    /// How to print the differences
    #[arg(long, value_enum, default_value = "text")]
    format: DiffFormat,
    /// Only this path and what lies below it; of a text file, with its lines
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// What is in the layers that the images do not share, too
    #[arg(long)]
    layers: bool,
    /// Modification times count
    #[arg(long)]
    times: bool,
    /// Most paths to print [0: all]
    #[arg(long, value_name = "N", default_value_t = 60)]
    limit: usize,
    /// Exit with 1 if the images are different
    #[arg(long)]
    exit_code: bool,
    /// Platform to take from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Registry that may be used over http or with a bad certificate (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DiffFormat {
    Text,
    Json,
    Markdown,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &DiffArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let loader = load::Loader::new(&store, args.platform.as_deref(), &args.insecure)?;
    let (a, b) = (loader.load(&args.a)?, loader.load(&args.b)?);
    let wanted = Wanted { times: args.times };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let different = match &args.path {
        Some(path) => {
            let found = diff::path_diff(&a.side, &b.side, path, wanted);
            if found.a.is_none() && found.b.is_none() {
                return Err(CommandError::usage(format!("{} is in neither image", found.path)));
            }
            match args.format {
                DiffFormat::Json => table::json(&found),
                DiffFormat::Text => output::line(&text::path(&found, limit)),
                DiffFormat::Markdown => output::line(&markdown::path(&found, limit)),
            }
            !found.files.entries.is_empty()
        }
        None => {
            let found = diff::compare(&a.side, &b.side, wanted);
            match args.format {
                DiffFormat::Json => table::json(&found),
                DiffFormat::Text => output::line(&text::whole(&found, args.layers, limit)),
                DiffFormat::Markdown => output::line(&markdown::whole(&found, args.layers, limit)),
            }
            !found.is_empty()
        }
    };
    Ok(if different && args.exit_code { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
