//! A log that only grows, in BuildKit's form: `#3 [build 2/4] RUN make`, `#3 0.512 output`, `#3 CACHED`, `#3 DONE 1.2s`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use build::events::StepId;
use build::{Event, Listener, StepInfo};

use super::lines::Lines;
use crate::human;
use crate::output::note;

/// What is known of the steps.
#[derive(Debug, Default)]
struct State {
    steps: HashMap<StepId, StepInfo>,
    began: HashMap<StepId, Instant>,
    output: HashMap<StepId, Lines>,
    /// Transfers whose end was told.
    moved: std::collections::HashSet<(StepId, String)>,
}

/// The plain log.
#[derive(Debug, Default)]
pub(crate) struct Plain(Mutex<State>);

impl Listener for Plain {
    fn event(&self, event: Event) {
        // The lock is held while printing: lines of one step stay in order.
        let mut s = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        s.event(event, Instant::now()).iter().for_each(|l| note(l));
    }
}

impl State {
    /// The lines that an event gives.
    fn event(&mut self, event: Event, now: Instant) -> Vec<String> {
        match event {
            Event::Planned { steps } => {
                self.steps.extend(steps.into_iter().map(|i| (i.id, i)));
                Vec::new()
            }
            Event::Task { step } => {
                self.steps.insert(step.id, step);
                Vec::new()
            }
            Event::Started { id } => {
                self.began.insert(id, now);
                self.steps.get(&id).map(|i| format!("#{id} {}", i.title())).into_iter().collect()
            }
            Event::Log { id, data, .. } => {
                let lines = self.output.entry(id).or_default().push(&data);
                lines.iter().map(|l| self.log_line(id, l, now)).collect()
            }
            Event::Transfer { id, what, done, total } => {
                if done < total || total == 0 || !self.moved.insert((id, what.clone())) {
                    return Vec::new();
                }
                vec![format!("#{id} {what} {}", human::bytes(total))]
            }
            Event::Waiting { id, what } => vec![format!("#{id} waiting for {what}")],
            Event::Cached { id, detail, .. } => {
                let why = detail.map(|d| format!(" ({d})")).unwrap_or_default();
                self.end(id, &format!("CACHED{why}"), now)
            }
            Event::Done { id, took, reason, adopted, .. } => {
                let why = reason.and_then(|r| r.text()).map(|t| format!(" (ran: {t})")).unwrap_or_default();
                let same = if adopted { ", same result as before" } else { "" };
                self.end(id, &format!("DONE {:.1}s{why}{same}", took.as_secs_f64()), now)
            }
            Event::Failed { id, error, .. } => self.end(id, &format!("ERROR: {error}"), now),
            Event::Canceled { id } => self.end(id, "CANCELED", now),
            Event::Warning { text, line: Some(l) } => vec![format!("WARNING: {text} (line {l})")],
            Event::Warning { text, line: None } => vec![format!("WARNING: {text}")],
        }
    }

    fn log_line(&self, id: StepId, line: &str, now: Instant) -> String {
        let since = self.began.get(&id).map_or(0.0, |b| now.duration_since(*b).as_secs_f64());
        format!("#{id} {since:.3} {line}")
    }

    /// The unfinished line, and how the step ended.
    fn end(&mut self, id: StepId, how: &str, now: Instant) -> Vec<String> {
        let rest = self.output.remove(&id).and_then(|l| l.unfinished());
        let mut out: Vec<String> = rest.iter().map(|l| self.log_line(id, l, now)).collect();
        out.push(format!("#{id} {how}"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::sample;
    use std::time::Duration;

    #[test]
    fn the_form_is_buildkits() {
        let mut s = State::default();
        let start = Instant::now();
        let mut lines = Vec::new();
        for (millis, event) in sample() {
            lines.extend(s.event(event, start + Duration::from_millis(millis)));
        }
        assert_eq!(
            lines,
            [
                "#1 [internal] pull docker.io/library/a:latest",
                "#1 0123456789ab 2.00MB",
                "#1 DONE 0.5s",
                "WARNING: StageNameCasing: odd name (line 2)",
                "#2 [1/3] COPY a /a",
                "#2 CACHED (the same files)",
                "#3 [2/3] RUN make",
                "#3 0.250 one",
                "#3 0.300 two three",
                "#3 waiting for process 7",
                "#3 0.900 end",
                "#3 DONE 1.2s (ran: what lies below it changed), same result as before",
                "#4 [3/3] RUN false",
                "#4 0.100 oh",
                "#4 ERROR: exit code: 1",
                "#5 CANCELED",
            ]
        );
    }
}
