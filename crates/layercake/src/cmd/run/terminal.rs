//! The terminal of this program, for a container that has one of its own: raw mode, size, and the bytes between the two.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Raw mode of standard input. Dropped, it restores what was there.
pub(super) struct Raw(Option<Termios>);

impl Raw {
    /// Every key goes to the container, also Ctrl-C. Does nothing where standard input is no terminal.
    pub(super) fn enter() -> Raw {
        let Ok(before) = tcgetattr(stdio::stdin()) else { return Raw(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(stdio::stdin(), OptionalActions::Now, &raw) {
            Ok(()) => Raw(Some(before)),
            Err(_) => Raw(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Lines and columns of our terminal.
pub(super) fn size() -> (u16, u16) {
    match tcgetwinsize(stdio::stdout()).or_else(|_| tcgetwinsize(stdio::stdin())) {
        Ok(w) if w.ws_row > 0 && w.ws_col > 0 => (w.ws_row, w.ws_col),
        _ => (24, 80),
    }
}

/// Gives the container's terminal the size of ours.
pub(super) fn follow_size(pty: &OwnedFd) {
    let (rows, columns) = size();
    if let Ok(mut w) = tcgetwinsize(pty) {
        (w.ws_row, w.ws_col) = (rows, columns);
        let _ = tcsetwinsize(pty, w);
    }
}

/// Copies until either side ends; a terminal whose other side is gone gives an error, which is its end. False if nothing more can
/// be written.
pub(super) fn copy(mut from: impl Read, mut to: impl Write) -> bool {
    let mut buf = [0; 16 << 10];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return true,
            Ok(n) => {
                if to.write_all(&buf[..n]).and_then(|()| to.flush()).is_err() {
                    return false;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Sends what is typed to the container, in a thread that nobody waits for: it ends with the program.
pub(super) fn forward_input(pty: File) {
    let thread = std::thread::Builder::new().name("run-input".into());
    let _ = thread.spawn(move || copy(std::io::stdin(), pty));
}
