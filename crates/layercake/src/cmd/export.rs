//! `layercake export`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CommandError;
use crate::{context, dest, image};

/// `layercake export`
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let cancel = context::interrupt_flag()?;
    let image = image::get(&store, &args.image)?;
    dest::write_to(args.output.as_deref(), &cancel, |out| {
        build::export::tar(&store, &image.record.layers, out).map_err(dest::about("write the tar"))
    })?;
    Ok(ExitCode::SUCCESS)
}
