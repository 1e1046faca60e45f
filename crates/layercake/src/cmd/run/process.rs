//! A container while it runs: its streams, the signals that go to it, and its end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sandbox::{Exit, Handle, SandboxError, Stdio, Step};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use super::terminal;
use crate::error::{CommandError, Kind};
use crate::output;

/// After so many SIGINT and SIGTERM a container that does not mind them is killed (Docker: 3).
const PATIENCE: u32 = 3;

/// Where signals go: nowhere but into a flag, until there is a container.
#[derive(Default)]
struct Target {
    container: Option<Handle>,
    pty: Option<OwnedFd>,
    /// SIGINT and SIGTERM so far.
    stops: u32,
}

/// The signals that this program gets.
pub(super) struct Signals {
    cancel: Arc<AtomicBool>,
    target: Arc<Mutex<Target>>,
}

impl Signals {
    /// Catches them from now on. Until there is a container, the first one that stops raises the flag, the second ends the program.
    pub(super) fn catch() -> Result<Signals, CommandError> {
        let failed = |e| CommandError::new(Kind::Internal, format!("cannot handle signals: {e}"));
        let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];
        let mut signals = signal_hook::iterator::Signals::new(wanted).map_err(failed)?;
        let out = Signals { cancel: Arc::default(), target: Arc::default() };
        let (cancel, target) = (out.cancel.clone(), out.target.clone());
        let thread = std::thread::Builder::new().name("run-signals".into());
        let spawned = thread.spawn(move || {
            for signal in &mut signals {
                handle(signal, &cancel, &mut target.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        spawned.map_err(failed)?;
        Ok(out)
    }

    /// Raised by a signal that is to stop us.
    pub(super) fn cancel(&self) -> &Arc<AtomicBool> {
        &self.cancel
    }

    fn set(&self, container: Option<Handle>, pty: Option<OwnedFd>) {
        let mut t = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        *t = Target { container, pty, stops: 0 };
    }
}

fn handle(signal: i32, cancel: &AtomicBool, target: &mut Target) {
    if signal == SIGWINCH {
        if let Some(pty) = &target.pty {
            terminal::follow_size(pty);
        }
        return;
    }
    let stops = matches!(signal, SIGINT | SIGTERM);
    let Some(container) = &target.container else {
        if !matches!(signal, SIGUSR1 | SIGUSR2) && cancel.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        return;
    };
    target.stops += u32::from(stops);
    if target.stops >= PATIENCE {
        output::note(&format!("killing the container: it did not end after {PATIENCE} signals"));
        container.kill();
    } else {
        container.signal(signal);
    }
}

/// Which streams a container gets.
pub(super) fn stdio(interactive: bool, tty: bool) -> Stdio {
    if tty {
        let (rows, cols) = terminal::size();
        Stdio::Pty { rows, cols }
    } else {
        Stdio::Inherit { stdin: interactive }
    }
}

/// Runs a container to its end. Gives the exit code.
pub(super) fn run(step: Step, interactive: bool, signals: &Signals) -> Result<u8, CommandError> {
    if signals.cancel.load(Ordering::Relaxed) {
        return Err(CommandError::new(Kind::Interrupted, "interrupted"));
    }
    let mut running = sandbox::spawn(step)?;
    let pty = running.pty.take();
    let lost = |e| CommandError::from(SandboxError::Lost(format!("its terminal: {e}")));
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(lost);
    signals.set(Some(running.handle()), pty.as_ref().map(copy).transpose()?);
    // A signal between the check above and now was meant for the container.
    if signals.cancel.load(Ordering::Relaxed) {
        running.signal(SIGTERM);
    }
    let outcome = match pty {
        Some(pty) => {
            let raw = interactive.then(terminal::Raw::enter);
            if interactive {
                terminal::forward_input(File::from(copy(&pty)?));
            }
            let output = File::from(pty);
            let container = running.handle();
            let outcome = std::thread::scope(|scope| {
                scope.spawn(move || {
                    // Nobody sees what it writes, and it must not wait for ever until somebody does.
                    if !terminal::copy(output, std::io::stdout()) {
                        container.kill();
                    }
                });
                running.wait()
            });
            drop(raw);
            outcome
        }
        None => running.wait(),
    };
    signals.set(None, None);
    Ok(match outcome?.exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(255),
        Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_container_a_signal_raises_the_flag() {
        let (cancel, mut target) = (AtomicBool::new(false), Target::default());
        handle(SIGUSR1, &cancel, &mut target);
        handle(SIGWINCH, &cancel, &mut target);
        assert!(!cancel.load(Ordering::Relaxed));
        handle(SIGHUP, &cancel, &mut target);
        assert!(cancel.load(Ordering::Relaxed));
    }
}
