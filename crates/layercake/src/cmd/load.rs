//! `layercake load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oci::Reference;
use oci::layout::{Choice, ImageEntry, Layout};
use oci::platform::Platform;
use store::Store;

use crate::error::{CommandError, Kind};
use crate::progress::transfers::Transfers;
use crate::{context, dest, output};

/// `layercake load`
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Archive of images (`docker save` or OCI, compressed or not) or directory with an OCI layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Platform to take from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// `--platform`, or this machine's.
pub(crate) fn platform(text: Option<&str>) -> Result<Platform, CommandError> {
    match text {
        Some(p) => p.parse().map_err(|e| CommandError::usage(format!("--platform: {e}"))),
        None => Ok(Platform::host()),
    }
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &LoadArgs) -> Result<ExitCode, CommandError> {
    let platform = platform(args.platform.as_deref())?;
    let store = context::store(root)?;
    let (layout, label) = match args.input.as_deref() {
        Some(path) if Path::new(path).is_dir() => {
            let what = format!("load {path}");
            (build::load::open(&store, Path::new(path)).map_err(dest::about(&what))?, path.to_owned())
        }
        other => {
            let (file, label) = dest::open(other)?;
            let what = format!("load {label}");
            (build::load::open_archive(&store, &label, file).map_err(dest::about(&what))?, label)
        }
    };
    if layout.images().is_empty() {
        return Err(CommandError::new(Kind::User, format!("there are no images in {label}")));
    }
    for entry in layout.images() {
        load(&store, &layout, &label, entry, &platform, args.quiet)?;
    }
    store.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The whole names among those of an entry: a word alone is a tag, and of which repository nobody knows.
fn references(names: &[String]) -> Vec<Reference> {
    let mut out: Vec<Reference> =
        names.iter().filter(|n| n.contains([':', '/'])).filter_map(|n| n.parse().ok()).collect();
    out.sort();
    out.dedup();
    out
}

fn load(
    store: &Store,
    layout: &Layout,
    label: &str,
    entry: &ImageEntry,
    platform: &Platform,
    quiet: bool,
) -> Result<(), CommandError> {
    let choice = match (&entry.descriptor, entry.names.first()) {
        (Some(d), _) => Choice::Digest(d.digest),
        (None, Some(name)) => Choice::Name(name),
        (None, None) => Choice::Any,
    };
    let failed =
        |e| CommandError::new(Kind::User, format!("cannot load {label}: {}", crate::error::chain(&e)));
    let image = layout.resolve(choice, platform).map_err(failed)?;
    if !image.platform_matches {
        let text = format!("warning: the image is for {}, not for {platform}", image.platform);
        output::note(&text);
    }
    let names = references(&entry.names);
    let shown = names.first().map_or_else(|| label.to_owned(), Reference::familiar);
    let transfers = Transfers::new(quiet);
    let (record, _) = build::load::take_resolved(store, &shown, layout, &image, &|what, done, total| {
        transfers.update(what, done, total)
    })?;
    drop(transfers);
    store.flush()?;
    for n in &names {
        store.tag(&n.to_string(), &record.id, record.manifest.as_ref())?;
        output::line(&format!("Loaded image: {}", n.familiar()));
    }
    if names.is_empty() {
        output::line(&format!("Loaded image ID: {}", record.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_alone_is_no_name() {
        let names = ["docker.io/library/a:1", "1", "latest", "a:1", "b/c", "Bad:Name"];
        let names: Vec<String> = names.iter().map(|s| (*s).to_owned()).collect();
        let found: Vec<String> = references(&names).iter().map(Reference::familiar).collect();
        assert_eq!(found, ["b/c:latest", "a:1"]);
    }
}
