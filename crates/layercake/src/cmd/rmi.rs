//! `layercake rmi`.

use std::path::PathBuf;
use std::process::ExitCode;

use store::Store;

use crate::error::{CommandError, Kind};
use crate::{context, image, output};

/// `layercake rmi`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A name is taken from its image; the image goes with its last name. Given by id, an image goes with all names, if there are \
several only with --force. The room is freed by `layercake prune`.")]
pub(crate) struct RmiArgs {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Remove an image with several names; do not mind images that are not there
    #[arg(short, long)]
    force: bool,
}

/// Runs the command: as many as can be are removed, then the first error is told.
pub(crate) fn run(root: Option<PathBuf>, args: &RmiArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let mut failed = None;
    for text in &args.images {
        if let Err(e) = remove(&store, text, args.force) {
            failed.get_or_insert(e);
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn remove(store: &Store, text: &str, force: bool) -> Result<(), CommandError> {
    let names = image::names(store)?;
    let count = |id: &oci::Digest| names.get(id).map_or(0, Vec::len);
    if let Some(tag) = image::find_tag(store, text)?
        && count(&tag.id) > 1
    {
        store.untag(&tag.name)?;
        output::line(&format!("Untagged: {}", image::familiar(&tag.name)));
        return Ok(());
    }
    let found = match image::find_tag(store, text)? {
        Some(tag) => store.image(&tag.id)?,
        None => store.find(text)?,
    };
    let Some(record) = found else {
        if force {
            return Ok(());
        }
        return Err(CommandError::new(Kind::User, format!("there is no image {text:?} in the store"))
            .hint("see what there is with: layercake images --all"));
    };
    if count(&record.id) > 1 && !force {
        let list: Vec<String> = names[&record.id].iter().map(|t| image::familiar(&t.name)).collect();
        return Err(CommandError::new(
            Kind::User,
            format!("image {} has several names: {}", record.id.short(), list.join(", ")),
        )
        .hint("remove one of the names, or all with --force"));
    }
    for name in store.remove_image(&record.id)? {
        output::line(&format!("Untagged: {}", image::familiar(&name)));
    }
    output::line(&format!("Deleted: {}", record.id));
    Ok(())
}
