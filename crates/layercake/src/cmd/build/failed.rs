//! What a failed build says, and what it leaves: files, or a shell in them.

use std::process::ExitCode;

use build::input::Input;
use build::{BuildError, Left, Options};
use oci::platform::Platform;
use store::Store;

use super::Target;
use super::output::{Output, Sinks, write_left};
use crate::cli::OnError;
use crate::cmd::run::process;
use crate::error::{CommandError, Kind};
use crate::output as print;

/// Refuses before the build what could not be done after it. Gives whether what a failed step wrote is needed.
pub(super) fn check(on_error: OnError, targets: &[Target]) -> Result<bool, CommandError> {
    match on_error {
        OnError::Stop => Ok(false),
        OnError::Export | OnError::ExportFailed => {
            if targets.iter().any(|t| !t.outputs.iter().any(Output::is_files)) {
                return Err(CommandError::usage(
                    "--on-error=export writes files, and no --output takes files",
                )
                .hint("add --output DIR, --output type=local,dest=DIR or --output type=tar,dest=FILE"));
            }
            Ok(on_error == OnError::ExportFailed)
        }
        OnError::Shell => {
            if !(rustix::termios::isatty(rustix::stdio::stdin())
                && rustix::termios::isatty(rustix::stdio::stdout()))
            {
                return Err(CommandError::usage("--on-error=shell needs a terminal, and this is none")
                    .hint("use --on-error=export-failed with --output DIR"));
            }
            Ok(true)
        }
    }
}

/// Writes the files of a failed build to all outputs that take files. Gives the build's error, with what was done.
pub(super) fn export(
    to: Sinks<'_>,
    left: &Left,
    written: bool,
    outputs: &[Output],
    platform: Option<Platform>,
    mut error: CommandError,
) -> CommandError {
    match write_left(to, outputs, &left.layers(written), left.epoch(), platform.as_ref()) {
        Ok(places) => {
            let what =
                if written { "as the failed step left them" } else { "as they were before the failed step" };
            error.hints.push(format!("the files {what} are in {}", places.join(", ")));
        }
        Err(e) => error.hints.push(format!("its files could not be written: {}", e.message)),
    }
    error
}

/// Opens a shell in what the failed step left. The exit code is the build's.
pub(super) fn shell(
    store: &Store,
    left: &Left,
    options: &Options,
    error: &CommandError,
) -> Result<ExitCode, CommandError> {
    let code = error.report();
    print::note(
        "This shell is where the step failed. Leave it with exit; nothing that is written in it is kept.",
    );
    let signals = process::Signals::catch()?;
    let listener = crate::progress::listener(crate::progress::Mode::Quiet);
    let stdio = process::stdio(true, true);
    let ended =
        left.enter(store, options, &*listener, stdio, |start| process::run(|| Ok(start()?), true, &signals));
    match ended.map_err(CommandError::from) {
        Ok(Ok(_)) => Ok(code),
        Ok(Err(e)) | Err(e) => {
            e.report();
            Ok(code)
        }
    }
}

/// A failed build with the place in the Dockerfile.
pub(crate) fn told(e: BuildError, input: &Input) -> CommandError {
    let excerpt = excerpt(&e, input);
    let mut out = match &e {
        BuildError::Dockerfile { diagnostics, .. } => {
            let errors: Vec<_> = diagnostics.iter().filter(|d| d.is_error()).collect();
            let what = match errors.len() {
                1 => format!("an error on line {}", errors[0].line),
                n => format!("{n} errors"),
            };
            let verb =
                if errors.iter().any(|d| d.class == dockerfile::Class::Check) { "check" } else { "parse" };
            CommandError::new(Kind::User, format!("failed to {verb} {}: it has {what}", input.name))
        }
        _ => CommandError::from(e),
    };
    out.excerpt = excerpt;
    out
}

/// The lines of the Dockerfile that an error is about, drawn.
fn excerpt(e: &BuildError, input: &Input) -> Option<String> {
    match e {
        BuildError::Dockerfile { diagnostics, .. } => Some(
            diagnostics
                .iter()
                .map(|d| crate::render::diagnostic(d, &input.name, &input.text))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        BuildError::Step { lines: Some((first, last)), .. } => {
            Some(crate::render::lines(&input.name, &input.text, *first, *last))
        }
        BuildError::Step { source, .. } => excerpt(source, input),
        BuildError::Line { line: Some(l), .. } => {
            Some(crate::render::lines(&input.name, &input.text, *l, *l))
        }
        _ => None,
    }
}
