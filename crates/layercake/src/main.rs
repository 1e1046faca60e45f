//! The command line of layercake. The only crate that prints, reads the environment and decides about exit codes.

mod cli;
mod cmd;
mod context;
mod dest;
mod env;
mod error;
mod human;
mod image;
mod limits;
mod output;
mod progress;
mod render;
mod rootless;
mod table;
mod tui;
mod values;

use clap::Parser;

fn main() -> std::process::ExitCode {
    // Before anything else, and before any thread: this may be the process that sets a step up.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main(args);
    }
    sandbox::share_heap();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // clap prints help to stdout and mistakes to stderr; both are the user's, code 2 or 0.
            let _ = e.print();
            return std::process::ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    if let Some((fault, at)) = env::fault() {
        store::fault::set(fault, at);
    }
    match cmd::run(cli) {
        Ok(code) => code,
        Err(e) => e.report(),
    }
}
