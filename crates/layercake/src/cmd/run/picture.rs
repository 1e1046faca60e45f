//! The image of a container: from the store, where it is pulled to if need be, or of a registry and left there.

use std::sync::Arc;

use build::lazy::{Lazy, LazyImage};
use oci::platform::Platform;
use oci::types::ImageConfig;
use oci::{Content, Digest, Tree};
use registry::Client;
use store::{Loan, Store};

use super::{RunArgs, When, process};
use crate::cmd::pull;
use crate::error::{CommandError, Kind};
use crate::image::{self, Image};
use crate::progress::transfers::Transfers;
use crate::{context, output};

/// An image, and who has its files.
pub(super) struct Picture {
    pub(super) id: Digest,
    pub(super) config: ImageConfig,
    pub(super) tree: Arc<Tree>,
    /// Its layers in the store; none where they are not all there.
    pub(super) layers: Vec<Digest>,
    files: Files,
}

enum Files {
    Stored(Loan),
    Lazy(Lazy, Client),
}

impl Picture {
    /// Who has the files.
    pub(super) fn content(&self) -> Arc<dyn Content> {
        match &self.files {
            Files::Stored(loan) => loan.content(),
            Files::Lazy(files, _) => files.content(),
        }
    }

    /// Keeps what has been fetched. Nothing can be read any more.
    pub(super) fn end(self) {
        let Files::Lazy(files, client) = self.files else { return };
        // Whoever still waits for bytes waits for nothing.
        client.shutdown();
        if let Err(e) = files.keep() {
            let why = crate::error::chain(&e);
            output::note(&format!("warning: what was fetched of the image is not kept: {why}"));
        }
    }
}

/// The image of a registry, with its files left there. `None` if it is to be taken from the store, after a pull perhaps: a name that the
/// store knows must stand for the new image afterwards.
pub(super) fn of_registry(
    store: &Store,
    args: &RunArgs,
    name: &str,
    platform: &Platform,
    signals: &process::Signals,
) -> Result<Option<Picture>, CommandError> {
    if args.pull == When::Never || image::find(store, name)?.is_some() {
        return Ok(None);
    }
    let reference = image::reference(name)?;
    let client = context::client(&args.insecure, signals.cancel())?;
    let transfers = Transfers::new(args.quiet);
    let transfer = |what: &str, done, total| transfers.update(what, done, total);
    let told = |text: String| output::note(&format!("warning: {text}"));
    let opened = build::lazy::open(store, &client, &reference, platform, &transfer, &told)?;
    drop(transfers);
    let Some(LazyImage { id, config, tree, files }) = opened else { return Ok(None) };
    let have = config.platform();
    if !platform.accepts(&have) {
        pull::warn_of_platform(&reference.familiar(), &have, platform);
    }
    if !args.quiet {
        output::note(&format!("{reference} stays in the registry: its files come when they are read"));
    }
    let files = Files::Lazy(files, client);
    Ok(Some(Picture { id, config, tree: Arc::new(tree), layers: Vec::new(), files }))
}

/// The image of the store, pulled if need be.
pub(super) fn of_store(
    store: &Store,
    args: &RunArgs,
    name: &str,
    platform: &Platform,
    signals: &process::Signals,
) -> Result<Picture, CommandError> {
    let image = get(store, args, name, platform, signals)?;
    let tree = Arc::new(build::export::tree(store, &image.record.layers)?);
    let Image { record, config, .. } = image;
    let files = Files::Stored(store.lend());
    Ok(Picture { id: record.id, config, tree, layers: record.layers, files })
}

fn get(
    store: &Store,
    args: &RunArgs,
    name: &str,
    platform: &Platform,
    signals: &process::Signals,
) -> Result<Image, CommandError> {
    if args.pull != When::Always
        && let Some(image) = image::find(store, name)?
    {
        let have = image.platform();
        if args.platform.is_none() || platform.accepts(&have) {
            return Ok(image);
        }
        if args.pull == When::Never {
            return Err(CommandError::new(Kind::User, format!("{name} is for {have}, not for {platform}")));
        }
    }
    if args.pull == When::Never {
        return image::get(store, name);
    }
    let reference = image::reference(name)?;
    let client = context::client(&args.insecure, signals.cancel())?;
    pull::pull(store, &client, &reference, platform, args.quiet)?;
    image::get(store, &reference.to_string())
}
