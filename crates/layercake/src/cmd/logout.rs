//! `layercake logout`.

use std::process::ExitCode;

use super::login::{config, credentials, host};
use crate::error::CommandError;
use crate::output;

/// `layercake logout`
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// Registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
}

/// Runs the command. Who is not logged in is logged out already.
pub(crate) fn run(args: &LogoutArgs) -> Result<ExitCode, CommandError> {
    let host = host(args.registry.as_deref())?;
    let (mut config, path) = config()?;
    if config.erase(&host).map_err(credentials)? {
        output::line(&format!("Removed the credentials for {host}"));
    } else {
        output::note(&format!("there are no credentials for {host} in {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}
