//! One JSON object a line on standard error, for programs.

use build::{Event, Listener};

pub(crate) struct RawJson;

impl Listener for RawJson {
    fn event(&self, event: Event) {
        if let Ok(text) = serde_json::to_string(&event) {
            crate::output::note(&text);
        }
    }
}
