//! `layercake tag`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CommandError;
use crate::{context, image};

/// `layercake tag`
#[derive(Debug, clap::Args)]
pub(crate) struct TagArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The further name; what had it loses it
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &TagArgs) -> Result<ExitCode, CommandError> {
    let name = image::reference(&args.name)?;
    if name.digest.is_some() {
        return Err(CommandError::usage(format!(
            "{:?} has a digest: an image cannot be given one",
            args.name
        ))
        .hint("leave out what follows the @"));
    }
    let store = context::store(root)?;
    let image = image::get(&store, &args.source)?;
    store.tag(&name.to_string(), &image.record.id, image.record.manifest.as_ref())?;
    Ok(ExitCode::SUCCESS)
}
