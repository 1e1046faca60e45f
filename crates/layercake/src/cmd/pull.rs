//! `layercake pull`.

use std::path::PathBuf;
use std::process::ExitCode;

use build::plan::BaseImage;
use oci::Reference;
use oci::platform::Platform;
use registry::Client;
use store::Store;

use crate::cmd::load::platform;
use crate::error::CommandError;
use crate::progress::transfers::Transfers;
use crate::{context, image, output};

/// `layercake pull`
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Name of the image, with a tag or a digest [default tag: latest]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Platform to take from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Allow http and bad certificates
    #[arg(long)]
    insecure: bool,
    /// Print only the name
    #[arg(short, long)]
    quiet: bool,
}

/// The hosts that `--insecure` is about.
pub(crate) fn insecure(flag: bool, name: &Reference) -> Vec<String> {
    if flag { vec![name.registry.clone(), name.registry_host().to_owned()] } else { Vec::new() }
}

/// Pulls an image and shows how it comes.
pub(crate) fn pull(
    store: &Store,
    client: &Client,
    name: &Reference,
    platform: &Platform,
    quiet: bool,
) -> Result<BaseImage, CommandError> {
    if !quiet {
        output::note(&format!("pulling {name}"));
    }
    let transfers = Transfers::new(quiet);
    let shown = name.familiar();
    let image = build::bases::pull(store, client, &shown, name, platform, &|what, done, total| {
        transfers.update(what, done, total);
    })?;
    drop(transfers);
    if image.other_platform {
        warn_of_platform(&shown, &image.config.platform(), platform);
    }
    Ok(image)
}

/// Says that an image is for another platform than the one that was asked for.
pub(crate) fn warn_of_platform(name: &str, have: &Platform, wanted: &Platform) {
    output::note(&format!("warning: {name} is for {have}, not for {wanted}"));
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &PullArgs) -> Result<ExitCode, CommandError> {
    let name = image::reference(&args.name)?;
    let platform = platform(args.platform.as_deref())?;
    let store = context::store(root)?;
    let cancel = context::interrupt_flag()?;
    let client = context::client(&insecure(args.insecure, &name), &cancel)?;
    let before = image::find_tag(&store, &name.to_string())?;
    let image = pull(&store, &client, &name, &platform, args.quiet)?;
    store.flush()?;
    if !args.quiet {
        let after = image::find_tag(&store, &name.to_string())?;
        let same = before.is_some_and(|b| after.is_some_and(|a| (a.id, a.manifest) == (b.id, b.manifest)));
        if let Some(d) = image.digest {
            output::note(&format!("digest: {d}"));
        }
        output::note(if same { "the image was up to date" } else { "the image is new here" });
    }
    output::line(&name.to_string());
    Ok(ExitCode::SUCCESS)
}
