//! A log that only grows, in BuildKit's form: `#3 [build 2/4] RUN make`, `#3 0.512 output`, `#3 CACHED`, `#3 DONE 1.2s`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use build::events::StepId;
use build::{Event, Listener, StepInfo};

use crate::output::note;

#[derive(Default)]
struct State {
    steps: HashMap<StepId, StepInfo>,
    began: HashMap<StepId, Instant>,
    /// Output after the last line feed, per step.
    rest: HashMap<StepId, Vec<u8>>,
}

/// The plain log.
#[derive(Default)]
pub(crate) struct Plain(Mutex<State>);

fn log_line(id: StepId, began: Option<&Instant>, line: &[u8]) {
    let t = began.map_or(0.0, |b| b.elapsed().as_secs_f64());
    let text = String::from_utf8_lossy(line);
    note(&format!("#{id} {t:.3} {}", text.trim_end_matches('\r')));
}

impl Listener for Plain {
    fn event(&self, event: Event) {
        let mut s = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { steps } => s.steps.extend(steps.into_iter().map(|i| (i.id, i))),
            Event::Task { step } => drop(s.steps.insert(step.id, step)),
            Event::Started { id } => {
                s.began.insert(id, Instant::now());
                if let Some(i) = s.steps.get(&id) {
                    note(&format!("#{id} {}", i.title()));
                }
            }
            Event::Log { id, data, .. } => {
                let mut rest = s.rest.remove(&id).unwrap_or_default();
                rest.extend_from_slice(&data);
                let mut lines: Vec<&[u8]> = rest.split(|&c| c == b'\n').collect();
                let last = lines.pop().unwrap_or_default().to_vec();
                for l in lines {
                    log_line(id, s.began.get(&id), l);
                }
                s.rest.insert(id, last);
            }
            Event::Transfer { id, what, done, total } => {
                if done == total && total > 0 {
                    note(&format!("#{id} {what} {:.1} MB", total as f64 / 1e6));
                }
            }
            Event::Waiting { id, what } => note(&format!("#{id} waiting for {what}")),
            Event::Cached { id, detail, .. } => {
                let why = detail.map(|d| format!(" ({d})")).unwrap_or_default();
                note(&format!("#{id} CACHED{why}"));
            }
            Event::Done { id, took, reason, adopted, .. } => {
                flush(&mut s, id);
                let why = reason.and_then(|r| r.text()).map(|t| format!(" (ran: {t})")).unwrap_or_default();
                let same = if adopted { ", same result as before" } else { "" };
                note(&format!("#{id} DONE {:.1}s{why}{same}", took.as_secs_f64()));
            }
            Event::Failed { id, error } => {
                flush(&mut s, id);
                note(&format!("#{id} ERROR: {error}"));
            }
            Event::Canceled { id } => {
                flush(&mut s, id);
                note(&format!("#{id} CANCELED"));
            }
            Event::Warning { text, line } => match line {
                Some(l) => note(&format!("WARNING: {text} (line {l})")),
                None => note(&format!("WARNING: {text}")),
            },
        }
    }
}

fn flush(s: &mut State, id: StepId) {
    if let Some(rest) = s.rest.remove(&id).filter(|r| !r.is_empty()) {
        log_line(id, s.began.get(&id), &rest);
    }
}
