//! Printing: the one place that writes to standard output and standard error. A closed pipe ends the program quietly.

use std::io::Write;

fn done(result: std::io::Result<()>) {
    if result.is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    done(writeln!(anstream::stdout().lock(), "{text}"));
}

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    done(writeln!(anstream::stderr().lock(), "{text}"));
}
