//! Progress on a terminal: what runs is drawn again and again with the end of its output, what has ended becomes one line.
//!
//! ```text
//! CACHED [1/4] COPY package.json /app/
//! DONE   [2/4] RUN npm ci (ran: /app/package.json changed)                12.3s
//! building 2/4                                                             14.1s
//! [3/4] RUN npm run build                                                   1.8s
//!   > vite build
//!   transforming...
//! ```
//!
//! The output of a step that failed is printed whole when the build ends.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use build::events::StepId;
use build::{Event, Listener, StepInfo};

use super::lines::Lines;
use super::region::{Frame, Model, Region};
use super::text::{bar, cut, harmless, row};
use crate::human;

/// Lines of output that a running step shows.
const TAIL: usize = 6;
/// Bytes of output that are kept for the case that the step fails.
const KEPT: usize = 1 << 20;

const GREEN: Style = AnsiColor::Green.on_default();
const BLUE: Style = AnsiColor::Blue.on_default();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();

/// The listener.
pub(crate) struct Tty(Region<Screen>);

impl Tty {
    pub(crate) fn open() -> Tty {
        Tty(Region::open(Screen::new(Instant::now())))
    }
}

impl Listener for Tty {
    fn event(&self, event: Event) {
        self.0.change(|s| s.event(event, Instant::now()));
    }
}

/// A step that runs.
#[derive(Debug)]
struct Running {
    id: StepId,
    began: Instant,
    lines: Lines,
    /// Whole lines, the latest [`KEPT`] bytes.
    log: VecDeque<String>,
    kept: usize,
    cut: bool,
    /// What moves: name, bytes so far, all bytes.
    transfers: Vec<(String, u64, u64)>,
    waiting: Option<String>,
}

impl Running {
    fn keep(&mut self, line: String) {
        self.kept += line.len() + 1;
        self.log.push_back(line);
        while self.kept > KEPT {
            let Some(old) = self.log.pop_front() else { break };
            self.kept -= old.len() + 1;
            self.cut = true;
        }
    }

    /// The lines below the step's own, at most `count`.
    fn below(&self, width: usize, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        for (what, done, total) in self.transfers.iter().filter(|(_, d, t)| d < t || *t == 0) {
            let amount = match total {
                0 => human::bytes(*done),
                t => format!("{}/{}", human::bytes(*done), human::bytes(*t)),
            };
            let cells = width.saturating_sub(what.chars().count() + 28).min(40);
            out.push(row(&format!("  {what} {}", bar(*done, *total, cells)), &amount, width));
        }
        if let Some(what) = &self.waiting {
            out.push(cut(&format!("  waiting for {what}"), width));
        }
        let unfinished = self.lines.unfinished();
        // A line that is written over with carriage returns shows what was written last.
        let last = |l: &str| l.rsplit('\r').find(|p| !p.is_empty()).unwrap_or_default().to_owned();
        let tail = unfinished.iter().chain(self.log.iter().rev()).map(|l| harmless(&last(l)));
        let mut tail: Vec<String> = tail.filter(|l| !l.trim().is_empty()).take(TAIL).collect();
        tail.reverse();
        out.extend(tail.into_iter().map(|l| cut(&format!("  {l}"), width)));
        let over = out.len().saturating_sub(count);
        out.drain(..over);
        out
    }
}

/// What is known of the build.
#[derive(Debug)]
struct Screen {
    began: Instant,
    steps: HashMap<StepId, StepInfo>,
    running: Vec<Running>,
    finished: usize,
    /// Lines that are to be printed for good.
    due: Vec<Due>,
    failed: Vec<String>,
}

/// A line whose width is not known yet.
#[derive(Debug)]
enum Due {
    Step { style: Style, how: &'static str, title: String, why: String, time: String },
    Text { style: Style, text: String },
}

impl Due {
    fn line(self, width: usize) -> String {
        match self {
            Due::Text { style, text } => format!("{style}{text}{style:#}"),
            Due::Step { style, how, title, why, time } => {
                let room = width.saturating_sub(how.len() + 1 + time.len() + 1);
                // Why it ran is worth more than the end of a long command.
                let why = cut(&why, (room / 2).max(room.saturating_sub(title.chars().count())));
                let title = cut(&title, room.saturating_sub(why.chars().count()));
                let text = row(&format!("{how} {title}{why}"), &time, width);
                let (how, rest) = text.trim_end().split_at_checked(how.len()).unwrap_or((&text, ""));
                format!("{style}{how}{style:#}{rest}")
            }
        }
    }
}

fn seconds(from: Instant, now: Instant) -> String {
    format!("{:.1}s", now.saturating_duration_since(from).as_secs_f64())
}

impl Screen {
    fn new(began: Instant) -> Screen {
        Screen {
            began,
            steps: HashMap::new(),
            running: Vec::new(),
            finished: 0,
            due: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn title(&self, id: StepId) -> String {
        self.steps.get(&id).map_or_else(|| format!("step {id}"), |i| harmless(&i.title()))
    }

    fn of(&mut self, id: StepId) -> Option<&mut Running> {
        self.running.iter_mut().find(|r| r.id == id)
    }

    fn end(&mut self, id: StepId, style: Style, how: &'static str, why: String, time: String) {
        self.finished += 1;
        let title = self.title(id);
        self.due.push(Due::Step { style, how, title, why, time });
        self.running.retain(|r| r.id != id);
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Planned { steps } => self.steps.extend(steps.into_iter().map(|i| (i.id, i))),
            Event::Task { step } => drop(self.steps.insert(step.id, step)),
            Event::Started { id } => self.running.push(Running {
                id,
                began: now,
                lines: Lines::default(),
                log: VecDeque::new(),
                kept: 0,
                cut: false,
                transfers: Vec::new(),
                waiting: None,
            }),
            Event::Log { id, data, .. } => {
                if let Some(r) = self.of(id) {
                    r.waiting = None;
                    r.lines.push(&data).into_iter().for_each(|l| r.keep(l));
                }
            }
            Event::Transfer { id, what, done, total } => {
                let Some(r) = self.of(id) else { return };
                match r.transfers.iter_mut().find(|(w, _, _)| *w == what) {
                    Some(t) => (t.1, t.2) = (done, total),
                    None => r.transfers.push((what, done, total)),
                }
            }
            Event::Waiting { id, what } => {
                if let Some(r) = self.of(id) {
                    r.waiting = Some(harmless(&what));
                }
            }
            Event::Cached { id, detail, .. } => {
                let why = detail.map(|d| format!(" ({d})")).unwrap_or_default();
                self.end(id, BLUE, "CACHED", harmless(&why), String::new());
            }
            Event::Done { id, took, reason, adopted, .. } => {
                let mut why: Vec<String> = Vec::new();
                why.extend(reason.and_then(|r| r.text()).map(|t| format!("ran: {t}")));
                if adopted {
                    why.push("same result as before".into());
                }
                let why =
                    if why.is_empty() { String::new() } else { format!(" ({})", harmless(&why.join(", "))) };
                self.end(id, GREEN, "DONE  ", why, format!("{:.1}s", took.as_secs_f64()));
            }
            // The error itself is told when the build ends.
            Event::Failed { id, .. } => {
                self.keep_failed(id);
                let time = self.of(id).map_or_else(String::new, |r| seconds(r.began, now));
                self.end(id, RED, "ERROR ", String::new(), time);
            }
            Event::Canceled { id } => self.end(id, YELLOW, "CANCELED", String::new(), String::new()),
            Event::Warning { text, line } => {
                let place = line.map(|l| format!(" (line {l})")).unwrap_or_default();
                self.due
                    .push(Due::Text { style: YELLOW, text: format!("WARNING: {}{place}", harmless(&text)) });
            }
        }
    }

    /// Puts the output of a step by, to be printed at the end.
    fn keep_failed(&mut self, id: StepId) {
        let title = self.title(id);
        let Some(r) = self.of(id) else { return };
        if let Some(rest) = r.lines.unfinished() {
            r.keep(rest);
        }
        if r.log.is_empty() {
            return;
        }
        let mut block = vec![format!("------ {title}")];
        if r.cut {
            block.push("[earlier output left out]".into());
        }
        // As the step wrote it, colours and all.
        block.extend(r.log.drain(..));
        block.push("------".into());
        self.failed.extend(block);
    }
}

impl Model for Screen {
    fn frame(&mut self, now: Instant, width: usize, height: usize) -> Frame {
        let above = std::mem::take(&mut self.due).into_iter().map(|d| d.line(width)).collect();
        let mut live = Vec::new();
        if self.running.is_empty() {
            return Frame { above, live };
        }
        let all = self.steps.len().max(self.finished);
        live.push(row(&format!("building {}/{all}", self.finished), &seconds(self.began, now), width));
        let room = height.saturating_sub(1);
        // One line for each step, then what is left for their output, in equal parts.
        let shown = if self.running.len() > room { room.saturating_sub(1) } else { self.running.len() };
        let below = room.saturating_sub(shown).checked_div(shown).unwrap_or(0);
        for r in &self.running[..shown] {
            live.push(row(&self.title(r.id), &seconds(r.began, now), width));
            let lines = r.below(width, below.min(TAIL + 4)).into_iter();
            live.extend(lines.map(|l| format!("{FAINT}{l}{FAINT:#}")));
        }
        if shown < self.running.len() {
            live.push(cut(&format!("and {} more", self.running.len() - shown), width));
        }
        live.truncate(height);
        Frame { above, live }
    }

    fn last(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::region;
    use crate::progress::sample;
    use build::events::Stream;
    use std::time::Duration;

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|l| anstream::adapter::strip_str(l).to_string().trim_end().to_owned()).collect()
    }

    /// What is on the screen after the events up to a time: lines for good, and the live ones.
    fn screen(until: u64, width: usize, height: usize) -> (Vec<String>, Vec<String>, Screen) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut s = Screen::new(start);
        for (ms, event) in sample().into_iter().filter(|(ms, _)| *ms <= until) {
            s.event(event, at(ms));
        }
        let f = s.frame(at(until), width, height);
        (plain(&f.above), plain(&f.live), s)
    }

    #[test]
    fn what_runs_is_shown_with_the_end_of_its_output() {
        let (above, live, _) = screen(2300, 50, 20);
        assert_eq!(
            above,
            [
                "DONE   [internal] pull docker.io/library/a:l… 0.5s",
                "WARNING: StageNameCasing: odd name (line 2)",
                "CACHED [1/3] COPY a /a (the same files)",
            ]
        );
        assert_eq!(
            live,
            [
                "building 2/5                                  2.3s",
                "[2/3] RUN make                                0.3s",
                "  one",
                "  two three",
                "  end",
            ]
        );
    }

    #[test]
    fn a_failed_step_is_told_whole_at_the_end() {
        let (above, live, mut s) = screen(4200, 80, 20);
        assert!(live.is_empty(), "nothing runs any more: {live:?}");
        assert!(above.iter().any(|l| l.starts_with("ERROR  [3/3] RUN false")), "{above:?}");
        assert!(above.iter().any(|l| l.starts_with("CANCELED [other 1/1] RUN true")), "{above:?}");
        assert_eq!(s.last(), ["------ [3/3] RUN false", "oh", "------"]);
        assert!(s.frame(Instant::now(), 80, 20).above.is_empty(), "each line is given once");
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        let start = Instant::now();
        let mut s = Screen::new(start);
        for id in 0..12 {
            let name = format!("RUN a rather long command with words and more words, number {id}");
            let place = format!("{id}/12");
            let step = StepInfo { id, stage: "stage".into(), place, name, lines: None };
            s.event(Event::Task { step }, start);
            s.event(Event::Started { id }, start);
            let data = format!("\x1b[31mline ä\t{}\x1b[0m\n", "x".repeat(200)).repeat(9).into_bytes();
            s.event(Event::Log { id, stream: Stream::Stdout, data }, start);
            s.event(Event::Transfer { id, what: "abcdef".into(), done: 1, total: 2 }, start);
        }
        for (width, height) in [(80, 24), (80, 10), (40, 100), (20, 3), (3, 2), (1, 1)] {
            let f = s.frame(start, width, height);
            assert!(f.live.len() <= height, "{width}x{height}: {f:?}");
            for l in &f.live {
                assert!(region::width(l) <= width, "{width}x{height}: {l:?}");
            }
        }
        let f = s.frame(start, 80, 100);
        assert_eq!(f.live.iter().filter(|l| l.contains("RUN a rather")).count(), 12);
        assert!(f.live.iter().any(|l| l.contains("abcdef [====")), "{f:?}");
        let f = s.frame(start, 80, 10);
        assert_eq!(f.live.last().map(String::as_str), Some("and 4 more"));
        // What has ended is cut as well.
        s.event(Event::Failed { id: 0, error: "e".repeat(300), tail: String::new() }, start);
        assert!(s.frame(start, 80, 24).above.iter().all(|l| region::width(l) <= 80));
    }

    #[test]
    fn output_that_writes_over_itself_shows_its_last_state() {
        let start = Instant::now();
        let mut s = Screen::new(start);
        s.event(Event::Started { id: 1 }, start);
        let data = b"10%\r20%\r30%".to_vec();
        s.event(Event::Log { id: 1, stream: Stream::Stdout, data }, start);
        assert_eq!(plain(&s.frame(start, 40, 10).live)[2..], ["  30%"]);
    }

    #[test]
    fn the_log_that_is_kept_is_bounded() {
        let start = Instant::now();
        let mut s = Screen::new(start);
        s.event(Event::Started { id: 1 }, start);
        for n in 0..40 {
            let data = format!("{n} {}\n", "x".repeat(60_000)).into_bytes();
            s.event(Event::Log { id: 1, stream: Stream::Stdout, data }, start);
        }
        s.event(Event::Failed { id: 1, error: String::new(), tail: String::new() }, start);
        let last = s.last();
        assert!(last.iter().map(String::len).sum::<usize>() <= KEPT + 100);
        assert_eq!(last[1], "[earlier output left out]");
        assert!(last[last.len() - 2].starts_with("39 "));
    }
}
