//! Nothing but warnings: the command prints the result.

use build::{Event, Listener};

pub(crate) struct Quiet;

impl Listener for Quiet {
    fn event(&self, event: Event) {
        if let Event::Warning { text, .. } = event {
            crate::output::note(&format!("warning: {text}"));
        }
    }
}
