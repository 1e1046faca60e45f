//! One file per command, and what several of them share.

pub(crate) mod advise;
pub(crate) mod analyse;
mod build;
pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod du;
pub(crate) mod explain;
pub(crate) mod export;
mod files;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod mount;
mod mounts;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod tag;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::error::CommandError;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    if uses_store(&cli.command) {
        crate::rootless::enter(matches!(
            cli.command,
            Command::Build(_) | Command::Run(_) | Command::Mount(_)
        ))?;
    }
    let root = cli.root;
    match cli.command {
        Command::Analyse(args) => analyse::run(root, &args),
        Command::Advise(args) => advise::run(root, &args),
        Command::Build(args) => build::run(root, *args),
        Command::Check(args) => check::run(&args),
        Command::Diff(args) => diff::run(root, &args),
        Command::Du(args) => du::run(root, &args),
        Command::Explain(args) => explain::run(root, &args),
        Command::Export(args) => export::run(root, &args),
        Command::History(args) => history::run(root, &args),
        Command::Images(args) => images::run(root, &args),
        Command::Import(args) => import::run(root, &args),
        Command::Inspect(args) => inspect::run(root, &args),
        Command::Load(args) => load::run(root, &args),
        Command::Login(args) => login::run(&args),
        Command::Logout(args) => logout::run(&args),
        Command::Mount(args) => mount::run(root, &args),
        Command::Prune(args) => prune::run(root, &args),
        Command::Pull(args) => pull::run(root, &args),
        Command::Push(args) => push::run(root, &args),
        Command::Rmi(args) => rmi::run(root, &args),
        Command::Run(args) => run::run(root, &args),
        Command::Save(args) => save::run(root, &args),
        Command::Tag(args) => tag::run(root, &args),
        Command::Verify(args) => verify::run(root, &args),
    }
}

/// Whether a command opens a store.
fn uses_store(command: &Command) -> bool {
    !matches!(command, Command::Check(_) | Command::Login(_) | Command::Logout(_))
}
