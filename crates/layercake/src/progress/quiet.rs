//! Nothing but warnings, and the end of what a step wrote that failed: the command prints the result.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use build::events::StepId;
use build::{Event, Listener};

use super::text::harmless;
use crate::output::note;

/// The titles of the steps.
#[derive(Default)]
pub(crate) struct Quiet(Mutex<HashMap<StepId, String>>);

impl Quiet {
    /// What is to be printed of an event.
    fn lines(&self, event: Event) -> Vec<String> {
        let mut titles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { steps } => titles.extend(steps.iter().map(|i| (i.id, i.title()))),
            Event::Warning { text, .. } => return vec![format!("warning: {text}")],
            Event::Failed { id, tail, .. } if !tail.is_empty() => {
                let title = titles.get(&id).map_or("", String::as_str);
                let mut out = vec![format!("------ {title}")];
                out.extend(tail.lines().map(harmless));
                out.push("------".to_owned());
                return out;
            }
            _ => {}
        }
        Vec::new()
    }
}

impl Listener for Quiet {
    fn event(&self, event: Event) {
        self.lines(event).iter().for_each(|l| note(l));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::sample;

    #[test]
    fn only_warnings_and_what_the_failed_step_said_last() {
        let quiet = Quiet::default();
        let lines: Vec<String> = sample().into_iter().flat_map(|(_, e)| quiet.lines(e)).collect();
        assert_eq!(lines, ["warning: StageNameCasing: odd name", "------ [3/3] RUN false", "oh", "------"]);
    }
}
