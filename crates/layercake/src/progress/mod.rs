//! How a build's events are shown: listeners, nothing else.

mod lines;
mod plain;
mod quiet;
mod rawjson;
pub(crate) mod reading;
pub(crate) mod region;
pub(crate) mod text;
pub(crate) mod transfers;
mod tty;

use build::Listener;

use crate::error::CommandError;

/// The ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Tty,
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
        "auto" | "tty" if region::is_terminal() => Ok(Mode::Tty),
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
        Mode::Tty => Box::new(tty::Tty::open()),
        Mode::RawJson => Box::new(rawjson::RawJson),
        Mode::Quiet => Box::<quiet::Quiet>::default(),
    }
}

/// Events of a build, each with the milliseconds since the step or the build began, for the tests of the listeners.
#[cfg(test)]
fn sample() -> Vec<(u64, build::Event)> {
    use build::events::{HitRule, RunReason, Stream};
    use build::{Event, StepInfo};
    use std::time::Duration;

    let layer = oci::Digest::of(b"");
    let step = |id, stage: &str, place: &str, name: &str, lines| StepInfo {
        id,
        stage: stage.into(),
        place: place.into(),
        name: name.into(),
        lines,
    };
    let log = |id, stream, data: &str| Event::Log { id, stream, data: data.into() };
    let transfer = |done| Event::Transfer { id: 1, what: "0123456789ab".into(), done, total: 2_000_000 };
    vec![
        (0, Event::Task { step: step(1, "", "", "pull docker.io/library/a:latest", None) }),
        (0, Event::Started { id: 1 }),
        (100, transfer(1_000_000)),
        (200, transfer(2_000_000)),
        (300, transfer(2_000_000)),
        (
            500,
            Event::Done {
                id: 1,
                took: Duration::from_millis(500),
                reason: None,
                layer: None,
                bytes: 0,
                adopted: false,
            },
        ),
        (
            500,
            Event::Planned {
                steps: vec![
                    step(2, "", "1/3", "COPY a /a", Some((2, 2))),
                    step(3, "", "2/3", "RUN make", Some((3, 4))),
                    step(4, "", "3/3", "RUN false", Some((5, 5))),
                    step(5, "other", "1/1", "RUN true", Some((7, 7))),
                ],
            },
        ),
        (500, Event::Warning { text: "StageNameCasing: odd name".into(), line: Some(2) }),
        (1000, Event::Started { id: 2 }),
        (
            1000,
            Event::Cached {
                id: 2,
                rule: HitRule::SameObservations,
                layer,
                saved: Duration::from_secs(3),
                detail: Some("the same files".into()),
            },
        ),
        (2000, Event::Started { id: 3 }),
        (2250, log(3, Stream::Stdout, "one\ntwo ")),
        (2300, log(3, Stream::Stderr, "three\nend")),
        (2400, Event::Waiting { id: 3, what: "process 7".into() }),
        (
            2900,
            Event::Done {
                id: 3,
                took: Duration::from_millis(1200),
                reason: Some(Box::new(RunReason::ParentChanged { origin: None })),
                layer: Some(layer),
                bytes: 5,
                adopted: true,
            },
        ),
        (4000, Event::Started { id: 4 }),
        (4100, log(4, Stream::Stdout, "oh\n")),
        (4200, Event::Failed { id: 4, error: "exit code: 1".into(), tail: "oh".into() }),
        (4200, Event::Canceled { id: 5 }),
    ]
}
