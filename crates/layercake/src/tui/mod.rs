//! The terminal screen of the analyser: dive's panes and keys, and what its users miss there.
//!
//! ```text
//! keys, mouse ─► app (plain data) ─► ui (cells) ─► term (the terminal)
//!                 │
//!                 ├─ layers   which layers are compared
//!                 ├─ view     rows of the tree: open directories, filter, order, cursor
//!                 │   └─ compare   every path in two states ─► stack   all paths in the order of a walk ─► analyse::Image
//!                 ├─ facts    dead bytes, findings, the history of a path
//!                 └─ prompt, viewer, pattern, text
//! ```
//!
//! Only `term` knows of a terminal; the rest is tested without one, and what is drawn is compared with texts in `snapshots/`.
//! The image is read by a thread of its own: the first frame shows what is known without it.

mod app;
mod compare;
mod facts;
mod layers;
mod pattern;
mod prompt;
mod stack;
mod term;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;
mod text;
mod ui;
mod view;
mod viewer;

use std::sync::Arc;
use std::sync::mpsc;

use analyse::Image;
use oci::content::Content;

use crate::error::{CommandError, Kind};

/// Reads the image, in a thread of its own.
pub(crate) type Load = Box<dyn FnOnce() -> Result<Image, CommandError> + Send>;

/// What is to be looked at.
pub(crate) struct Subject {
    /// What the user asked for.
    pub(crate) name: String,
    /// The instructions of its layers, base first, where they are known before it is read; else empty.
    pub(crate) instructions: Vec<String>,
    /// Reads it.
    pub(crate) load: Load,
    /// The contents of its files, where they are at hand.
    pub(crate) content: Option<Arc<dyn Content>>,
    /// Whether to use colours.
    pub(crate) colour: bool,
}

/// Shows the image until the user has seen enough.
pub(crate) fn run(subject: Subject) -> Result<(), CommandError> {
    let previews = subject.instructions.iter().map(|i| app::Preview { instruction: text::line(i) }).collect();
    let mut app = app::App::new(&subject.name, previews);
    app.colour = subject.colour;
    let (send, news) = mpsc::channel();
    let load = subject.load;
    // Not joined: who leaves does not wait for the reading to end.
    std::thread::spawn(move || {
        let _ = send.send(match load() {
            Ok(image) => {
                let base = image.base().map_or(0, |b| b.layers);
                term::News::Loaded(Box::new(app::prepare(Arc::new(image))), base)
            }
            Err(e) => term::News::Failed(Box::new(e)),
        });
    });
    match term::run(&mut app, &news, subject.content.as_deref()) {
        Ok(term::Left::Quit) => Ok(()),
        Ok(term::Left::Signal) => Err(CommandError::new(Kind::Interrupted, "interrupted")),
        Ok(term::Left::Failed(e)) => Err(*e),
        Err(e) => Err(CommandError::new(Kind::Environment, format!("cannot use the terminal: {e}"))),
    }
}
