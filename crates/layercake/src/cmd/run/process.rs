//! A container while it runs: its streams, the signals that go to it, and its end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox::{Exit, Handle, Running, SandboxError, Stdio};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use super::terminal;
use crate::error::{CommandError, Kind};
use crate::output;

/// After so many SIGINT and SIGTERM a container that does not mind them is killed (Docker: 3).
const PATIENCE: u32 = 3;

/// How far the container is: it decides where signals go.
#[derive(Default)]
enum Phase {
    /// There is none, and none is being made: a signal that stops ends us.
    #[default]
    None,
    /// It is being made, and may run before we have its handle: what comes now is meant for it, and is kept, in order.
    Starting(Vec<i32>),
    Running(Handle),
}

#[derive(Default)]
struct Target {
    phase: Phase,
    pty: Option<OwnedFd>,
    /// SIGINT and SIGTERM so far.
    stops: u32,
}

/// The signals that this program gets.
pub(crate) struct Signals {
    cancel: Arc<AtomicBool>,
    target: Arc<Mutex<Target>>,
}

impl Signals {
    /// Catches them from now on. Until there is a container, the first one that stops raises the flag, the second ends the program.
    pub(crate) fn catch() -> Result<Signals, CommandError> {
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

    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the signals from now on for the container that is being made; false where one was to stop us before.
    fn start(&self) -> bool {
        let mut target = self.target();
        // Under the lock, so that a signal is either seen here or kept.
        if self.cancel.load(Ordering::Relaxed) {
            return false;
        }
        target.phase = Phase::Starting(Vec::new());
        true
    }

    /// Hands on what was kept, and from now on each signal as it comes.
    fn run(&self, container: Handle, pty: Option<OwnedFd>) {
        let mut target = self.target();
        target.pty = pty;
        if let Phase::Starting(kept) = std::mem::replace(&mut target.phase, Phase::Running(container.clone()))
        {
            kept.into_iter().for_each(|signal| container.signal(signal));
        }
    }

    fn end(&self) {
        *self.target() = Target::default();
    }
}

fn handle(signal: i32, cancel: &AtomicBool, target: &mut Target) {
    if signal == SIGWINCH {
        if let Some(pty) = &target.pty {
            terminal::follow_size(pty);
        }
        return;
    }
    target.stops += u32::from(matches!(signal, SIGINT | SIGTERM));
    let patient = target.stops < PATIENCE;
    match &mut target.phase {
        Phase::None => {
            if !matches!(signal, SIGUSR1 | SIGUSR2) && cancel.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            target.stops = 0;
        }
        Phase::Starting(kept) if patient => kept.push(signal),
        // What is half made goes with us.
        Phase::Starting(_) => std::process::exit(130),
        Phase::Running(container) if patient => container.signal(signal),
        Phase::Running(container) => {
            output::note(&format!("killing the container: it did not end after {PATIENCE} signals"));
            container.kill();
        }
    }
}

/// Which streams a container gets.
pub(crate) fn stdio(interactive: bool, tty: bool) -> Stdio {
    if tty {
        let (rows, cols) = terminal::size();
        Stdio::Pty { rows, cols }
    } else {
        Stdio::Inherit { stdin: interactive }
    }
}

/// Runs the container that `start` starts to its end. Gives the exit code.
pub(crate) fn run(
    start: impl FnOnce() -> Result<Running, CommandError>,
    interactive: bool,
    signals: &Signals,
) -> Result<u8, CommandError> {
    if !signals.start() {
        return Err(CommandError::new(Kind::Interrupted, "interrupted"));
    }
    let mut running = start().inspect_err(|_| signals.end())?;
    let pty = running.pty.take();
    let lost = |e| CommandError::from(SandboxError::Lost(format!("its terminal: {e}")));
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(lost);
    signals.run(running.handle(), pty.as_ref().map(copy).transpose()?);
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
    signals.end();
    let outcome = outcome?;
    if outcome.hits.memory {
        output::note(
            "the kernel killed a process of the container: it wanted more memory than --memory gives it",
        );
    }
    if outcome.hits.pids {
        output::note("the container had as many processes as --pids-limit allows, and could start no more");
    }
    Ok(match outcome.exit {
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

    #[test]
    fn signals_between_the_start_and_the_handle_are_the_containers() {
        let signals = Signals { cancel: Arc::default(), target: Arc::default() };
        assert!(signals.start());
        for signal in [SIGINT, SIGUSR1, SIGTERM] {
            handle(signal, &signals.cancel, &mut signals.target());
        }
        assert!(!signals.cancel.load(Ordering::Relaxed), "they are not ours");
        assert!(
            matches!(&signals.target().phase, Phase::Starting(kept) if *kept == [SIGINT, SIGUSR1, SIGTERM])
        );
        signals.end();
        handle(SIGINT, &signals.cancel, &mut signals.target());
        assert!(!signals.start(), "a signal before the start stops it");
    }
}
