//! One file per command.

mod build;
pub(crate) mod push;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::error::CommandError;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    match cli.command {
        Command::Build(args) => build::run(cli.root, *args),
    }
}
