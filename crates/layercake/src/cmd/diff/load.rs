//! The two images: from the store, from archives, from registries. What is not in the store goes into one that is thrown away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use analyse::diff::Side;
use oci::Tree;
use oci::platform::Platform;
use registry::Client;
use store::{ScratchDir, Store};

use crate::cmd::load::platform;
use crate::cmd::pull;
use crate::error::CommandError;
use crate::image::{self, Image};
use crate::progress::reading::Reading;
use crate::{context, dest};

/// An image to compare.
pub(super) struct Loaded {
    pub(super) side: Side,
    /// What holds its files, if it is not the store.
    _scratch: Option<ScratchDir>,
}

pub(super) struct Loader<'a> {
    store: &'a Store,
    platform: Platform,
    client: Client,
    _cancel: Arc<AtomicBool>,
}

fn side(store: &Store, name: &str, image: Image) -> Result<Side, CommandError> {
    let layers = image.layers(store)?;
    let tree = Tree::from_layers(layers.iter().map(|l| &**l)).map_err(|e| {
        CommandError::new(crate::error::Kind::User, format!("{name}: {}", crate::error::chain(&e)))
    })?;
    Ok(Side {
        name: name.to_owned(),
        id: image.record.id.to_string(),
        config: image.config,
        layers,
        tree: Arc::new(tree),
        content: Arc::new(store.clone()),
    })
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        store: &'a Store,
        of: Option<&str>,
        insecure: &[String],
    ) -> Result<Loader<'a>, CommandError> {
        let cancel = context::interrupt_flag()?;
        let client = context::client(insecure, &cancel)?;
        Ok(Loader { store, platform: platform(of)?, client, _cancel: cancel })
    }

    /// An image by what the user typed.
    pub(super) fn load(&self, text: &str) -> Result<Loaded, CommandError> {
        if let Some(found) = image::find(self.store, text)? {
            return Ok(Loaded { side: side(self.store, text, found)?, _scratch: None });
        }
        let scratch = self.store.scratch()?;
        let other = Store::open(&scratch.path().join("store"))?;
        let record = if Path::new(text).exists() {
            let what = format!("read {text}");
            let layout = build::load::open(&other, Path::new(text)).map_err(dest::about(&what))?;
            let image = build::load::choose(&layout, text, None, &self.platform)?;
            let reading = Reading::new(text);
            let progress = |what: &str, done, all| reading.update(what, done, all);
            build::load::take_resolved(&other, text, &layout, &image, &progress)?.0.id
        } else {
            let name = image::reference(text)?;
            pull::pull(&other, &self.client, &name, &self.platform, false)?;
            other.flush()?;
            image::get(&other, text)?.record.id
        };
        other.flush()?;
        let found = image::get(&other, &record.to_string())?;
        Ok(Loaded { side: side(&other, text, found)?, _scratch: Some(scratch) })
    }
}
