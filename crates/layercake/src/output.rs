//! Printing: the one place that writes to standard output and standard error. A closed pipe ends the program quietly.
//!
//! Lines for people go above a live region of the terminal, if one is open ([`set_live`]), so that the two do not tear each other.

use std::io::Write;
use std::sync::{Mutex, PoisonError, Weak};

fn done(result: std::io::Result<()>) {
    if result.is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Who draws on the terminal at the moment.
pub(crate) trait Live: Send + Sync {
    /// Prints a text for good, above what is redrawn.
    fn above(&self, text: &str);
    /// Prints everything that is due, and takes away what is redrawn.
    fn clear(&self);
}

static LIVE: Mutex<Option<Weak<dyn Live>>> = Mutex::new(None);

/// Says who draws from now on, as long as it lives.
pub(crate) fn set_live(live: Weak<dyn Live>) {
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
}

fn live() -> Option<std::sync::Arc<dyn Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    if let Some(l) = live() {
        l.clear();
    }
    done(writeln!(anstream::stdout().lock(), "{text}"));
}

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    match live() {
        Some(l) => l.above(text),
        None => done(writeln!(anstream::stderr().lock(), "{text}")),
    }
}

/// Writes a text without line feed to standard error: a question.
pub(crate) fn ask(text: &str) {
    let mut err = anstream::stderr().lock();
    done(write!(err, "{text}").and_then(|()| err.flush()));
}

/// Writes a frame of a live region to standard error, as it is.
pub(crate) fn frame(text: &str) {
    let mut err = std::io::stderr().lock();
    done(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}
