//! Work beside the Dockerfile, as steps of the log: announced, begun, ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::error::BuildError;
use crate::events::{Event, Listener, StepId, StepInfo};

/// Numbers for steps and tasks. Whatever is shown in one log takes its numbers from one place: clones give the same sequence.
#[derive(Debug, Clone)]
pub struct Ids(Arc<AtomicU32>);

impl Default for Ids {
    /// Begins with 1.
    fn default() -> Ids {
        Ids(Arc::new(AtomicU32::new(1)))
    }
}

impl Ids {
    /// The first of `count` numbers that nobody else gets.
    pub fn take(&self, count: u32) -> StepId {
        self.0.fetch_add(count, Ordering::Relaxed)
    }
}

/// Runs tasks and tells of them.
#[derive(Clone, Copy)]
pub struct Tasks<'a> {
    /// Who is told.
    pub listener: &'a dyn Listener,
    /// Where numbers come from.
    pub ids: &'a Ids,
}

impl std::fmt::Debug for Tasks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Tasks<'_> {
    /// Announces a task, runs it, tells how it ended.
    pub fn run<T>(
        &self,
        what: &str,
        run: impl FnOnce(StepId) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let id = self.ids.take(1);
        let step =
            StepInfo { id, stage: String::new(), place: String::new(), name: what.to_owned(), lines: None };
        self.listener.event(Event::Task { step });
        self.listener.event(Event::Started { id });
        let began = Instant::now();
        let result = run(id);
        self.listener.event(match &result {
            Ok(_) => {
                Event::Done { id, took: began.elapsed(), reason: None, layer: None, bytes: 0, adopted: false }
            }
            Err(BuildError::Interrupted) => Event::Canceled { id },
            Err(e) => Event::Failed { id, error: crate::images::chain_text(e), tail: String::new() },
        });
        result
    }

    /// Tells how far a task is.
    pub fn transfer(&self, id: StepId, what: &str, done: u64, total: u64) {
        self.listener.event(Event::Transfer { id, what: what.to_owned(), done, total });
    }
}
