//! A live region: a few lines at the bottom of the terminal that are drawn again and again, and lines above them that stay.
//!
//! The cursor rests at the beginning of the line below the region. A frame is one write: up to the first line of the region, each
//! line with the rest of its row erased, then everything below erased. So nothing flickers, and nothing has to be restored when
//! the program ends or is killed. There are at most ten frames a second, but for lines that others print.

use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::output::{self, Live};

const FRAME: Duration = Duration::from_millis(100);

/// What a region shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// Lines to print for good; each is given once.
    pub(crate) above: Vec<String>,
    /// The region's lines, none wider than the terminal.
    pub(crate) live: Vec<String>,
}

/// Who knows what a region shows.
pub(crate) trait Model: Send + 'static {
    /// The next frame, for a terminal of so many columns, with at most so many live lines.
    fn frame(&mut self, now: Instant, width: usize, height: usize) -> Frame;

    /// Lines to print when the region goes.
    fn last(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Number of characters that are seen: without styles.
pub(crate) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// The text of a frame after one whose live lines had the widths `drawn`.
pub(crate) fn compose(drawn: &[usize], columns: usize, frame: &Frame) -> String {
    let columns = columns.max(1);
    // A terminal that has become narrower has wrapped the lines.
    let rows: usize = drawn.iter().map(|w| w.div_ceil(columns).max(1)).sum();
    let mut out = String::from("\x1b[?25l\r");
    if rows > 0 {
        let _ = write!(out, "\x1b[{rows}A");
    }
    for line in frame.above.iter().flat_map(|t| t.split('\n')).chain(frame.live.iter().map(String::as_str)) {
        let _ = writeln!(out, "{line}\x1b[K");
    }
    out.push_str("\x1b[J\x1b[?25h");
    out
}

struct State<M> {
    model: M,
    drawn: Vec<usize>,
    closed: bool,
}

struct Shared<M> {
    state: Mutex<State<M>>,
    wake: Condvar,
}

/// Whether people look at standard error.
pub(crate) fn is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stderr()) && crate::env::term().is_none_or(|t| t != "dumb")
}

/// Columns and lines of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(w) if w.ws_col > 0 && w.ws_row > 0 => (w.ws_col.into(), w.ws_row.into()),
        _ => (80, 24),
    }
}

/// As the user wants it: with colours or without.
fn styled(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

impl<M: Model> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, s: &mut State<M>, note: Option<&str>, with_live: bool) {
        let (columns, rows) = size();
        // A full row would leave the cursor where terminals do not agree on what erasing to its end means.
        let wide = columns.saturating_sub(1).max(1);
        let mut frame = s.model.frame(Instant::now(), wide, rows.saturating_sub(1).max(1));
        frame.above.extend(note.map(str::to_owned));
        if !with_live {
            frame.live.clear();
        }
        if frame.above.is_empty() && frame.live.is_empty() && s.drawn.is_empty() {
            return;
        }
        for line in frame.above.iter_mut().chain(&mut frame.live) {
            *line = styled(line);
        }
        output::frame(&compose(&s.drawn, columns, &frame));
        s.drawn = frame.live.iter().map(|l| width(l)).collect();
    }
}

impl<M: Model> Live for Shared<M> {
    fn above(&self, text: &str) {
        let mut s = self.lock();
        let closed = s.closed;
        self.draw(&mut s, Some(text), !closed);
    }

    fn clear(&self) {
        self.draw(&mut self.lock(), None, false);
    }
}

/// An open region. Dropped, it prints what is due and goes.
pub(crate) struct Region<M: Model> {
    shared: Arc<Shared<M>>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Model> Region<M> {
    /// Opens a region; all lines of [`output`] go above it.
    pub(crate) fn open(model: M) -> Region<M> {
        let state = State { model, drawn: Vec::new(), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
        let as_live: Arc<dyn Live> = shared.clone();
        output::set_live(Arc::downgrade(&as_live));
        let ours = shared.clone();
        // Without a thread the region shows only what others make it print.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || tick(&ours)).ok();
        Region { shared, thread }
    }

    /// Changes what is shown, from the next frame on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut M)) {
        change(&mut self.shared.lock().model);
    }
}

fn tick<M: Model>(shared: &Shared<M>) {
    let mut s = shared.lock();
    while !s.closed {
        shared.draw(&mut s, None, true);
        s = shared.wake.wait_timeout(s, FRAME).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl<M: Model> Drop for Region<M> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
        let last = self.shared.lock().model.last();
        match last.as_slice() {
            [] => self.shared.clear(),
            // The region is closed: nothing is drawn below them.
            lines => self.shared.above(&lines.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(above: &[&str], live: &[&str]) -> Frame {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Frame { above: own(above), live: own(live) }
    }

    #[test]
    fn a_frame_replaces_the_last_one() {
        assert_eq!(
            compose(&[], 80, &frame(&[], &["one", "two"])),
            "\x1b[?25l\rone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[?25h"
        );
        assert_eq!(
            compose(&[3, 3], 80, &frame(&["done"], &["two"])),
            "\x1b[?25l\r\x1b[2Adone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[?25h"
        );
    }

    #[test]
    fn lines_that_a_narrower_terminal_wrapped_count_as_several() {
        assert!(compose(&[80, 10, 0], 40, &Frame::default()).contains("\x1b[4A"));
    }

    #[test]
    fn styles_have_no_width() {
        assert_eq!(width("\x1b[31mäb\x1b[0m"), 2);
    }
}
