//! How a build's events are shown: listeners, nothing else.

mod plain;
mod quiet;
mod rawjson;
pub(crate) mod region;
pub(crate) mod text;
pub(crate) mod transfers;

use build::Listener;

use crate::error::CommandError;

/// The ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    RawJson,
    Quiet,
}

/// The mode that flag, environment and terminal give.
pub(crate) fn mode(flag: Option<&str>, quiet: bool) -> Result<Mode, CommandError> {
    if quiet {
        return Ok(Mode::Quiet);
    }
    let from_env = crate::env::progress();
    match flag.or(from_env.as_deref()).unwrap_or("auto") {
        "auto" | "plain" | "tty" => Ok(Mode::Plain),
        "rawjson" => Ok(Mode::RawJson),
        "quiet" | "none" => Ok(Mode::Quiet),
        other => Err(CommandError::usage(format!("--progress {other:?} is not known"))
            .hint("it is one of auto, tty, plain, rawjson, quiet")),
    }
}

/// The listener of a mode.
pub(crate) fn listener(mode: Mode) -> Box<dyn Listener> {
    match mode {
        Mode::Plain => Box::new(plain::Plain::default()),
        Mode::RawJson => Box::new(rawjson::RawJson),
        Mode::Quiet => Box::new(quiet::Quiet),
    }
}
