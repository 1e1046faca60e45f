//! `layercake analyse` on a terminal: the screen instead of the report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use analyse::Image;
use oci::content::Content;
use oci::platform::Platform;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;

use super::source::{Loader, Place, place};
use super::{AnalyseArgs, base, unable};
use crate::error::CommandError;
use crate::{env, image, tui};

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn possible() -> bool {
    // Keys come from the terminal itself where standard input is something else, an image for instance.
    let keys = isatty(stdin()) || isatty(stderr());
    keys && isatty(stdout()) && env::term().is_none_or(|t| t != "dumb")
}

/// Shows the image. One of the store is read behind the first frame; others before it, with the progress that reading them has.
pub(super) fn show(
    root: Option<PathBuf>,
    platform: &Platform,
    cancel: &Arc<AtomicBool>,
    args: &AnalyseArgs,
) -> Result<(), CommandError> {
    let from = Loader { root: &root, platform, insecure: args.insecure, cancel };
    let local = match place(&args.image, args.source.as_deref())? {
        Place::Store(name) | Place::Any(name) => from.store()?.map(|s| (s, name)),
        _ => None,
    };
    let found = local.map(|(store, name)| image::find(&store, &name).map(|i| i.map(|i| (store, i))));
    let mut subject = tui::Subject {
        name: args.image.clone(),
        instructions: Vec::new(),
        load: Box::new(|| Err(CommandError::usage("there is no image"))),
        content: None,
        colour: env::no_color().is_none(),
    };
    let (name, source, given) = (args.image.clone(), args.source.clone(), args.base.clone());
    let based = |from: &Loader<'_>, mut image: Image, given: Option<&str>| {
        let found = base::find(from, &image, given)?;
        image.set_base(found);
        let origins = base::origins(from, &image, None)?;
        base::name_layers(&mut image, &origins);
        Ok::<Image, CommandError>(image)
    };
    if let Some((store, image)) = found.transpose()?.flatten() {
        subject.instructions = vec![String::new(); image.record.layers.len()];
        for (line, layer) in image.history() {
            if let Some((line, place)) = line.zip(layer.and_then(|n| subject.instructions.get_mut(n))) {
                let line = analyse::Line { history: line.clone(), layer };
                *place = line.instruction();
            }
        }
        let content: Arc<dyn Content> = Arc::new(store);
        subject.content = Some(content);
        let (platform, insecure, cancel) = (platform.clone(), args.insecure, cancel.clone());
        subject.load = Box::new(move || {
            let from = Loader { root: &root, platform: &platform, insecure, cancel: &cancel };
            let image = from.load(&name, source.as_deref()).map_err(unable)?;
            based(&from, image, given.as_deref()).map_err(unable)
        });
    } else {
        let image = from.load(&name, source.as_deref()).map_err(unable)?;
        let image = based(&from, image, given.as_deref()).map_err(unable)?;
        subject.load = Box::new(move || Ok(image));
    }
    tui::run(subject)
}
