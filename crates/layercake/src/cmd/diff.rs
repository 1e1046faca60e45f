//! `layercake diff`: what is different between two images.

mod markdown;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use analyse::diff::{self, Side, Wanted};
use oci::Tree;

use crate::cmd::analyse::unable;
use crate::cmd::files;
use crate::cmd::load::platform;
use crate::error::{CommandError, Kind, chain};
use crate::{context, output, table};

/// `layercake diff`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image is what `analyse` takes: a name or id in the store, an OCI layout or archive, a docker-save archive, a name in a registry \
(nothing of it is kept), with the same prefixes. Modification times are not compared unless --times is given. In the text, + is added, - removed, ~ changed, and m other \
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

/// An image as it is compared.
fn side(name: &str, found: &files::Found) -> Result<Side, CommandError> {
    let layers = found.image.layers(&found.store)?;
    let tree = Tree::from_layers(layers.iter().map(|l| &**l))
        .map_err(|e| CommandError::new(Kind::User, format!("{name}: {}", chain(&e))))?;
    Ok(Side {
        name: name.to_owned(),
        id: found.image.record.id.to_string(),
        config: found.image.config.clone(),
        layers,
        tree: Arc::new(tree),
        content: Arc::new(found.store.clone()),
    })
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &DiffArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let platform = platform(args.platform.as_deref())?;
    if args.a == "-" && args.b == "-" {
        return Err(CommandError::usage("standard input holds one image only"));
    }
    let load = |text| -> Result<_, CommandError> {
        let found = files::find(
            &store,
            text,
            &files::Wanted { platform: &platform, insecure: &args.insecure, pull: true },
        )?;
        Ok((side(text, &found)?, found))
    };
    // Such errors are no verdict.
    let ((a, _in), (b, _too)) = (load(&args.a).map_err(unable)?, load(&args.b).map_err(unable)?);
    let wanted = Wanted { times: args.times };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let different = match &args.path {
        Some(path) => {
            let found = diff::path_diff(&a, &b, path, wanted);
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
            let found = diff::compare(&a, &b, wanted);
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
