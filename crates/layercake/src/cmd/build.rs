//! `layercake build`.

mod flags;
mod input;
mod listing;
mod output;
mod ssh;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::fetch::Fetcher;
use build::input::Input;
use build::{BuildError, Ids, Request, Tasks};

use crate::cli::BuildArgs;
use crate::context;
use crate::error::{CommandError, Kind};
use crate::output as print;
use crate::progress;

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: BuildArgs) -> Result<ExitCode, CommandError> {
    let outputs = output::parse_all(&args)?;
    let names = flags::references(&args.tag)?;
    let mut options = flags::options(&args)?;
    let mode = progress::mode(args.progress.as_deref(), args.quiet)?;
    let (place, wanted) = input::asked(&args)?;
    let store = context::store(root)?;
    let _agents = ssh::agents(&store, &mut options.ssh)?;
    let cancel = context::interrupt_flag()?;
    let client = context::client(&args.insecure, &cancel)?;
    let listener = progress::listener(mode);
    let ids = Ids::default();
    let fetcher = Fetcher {
        store: &store,
        client: Some(&client),
        secrets: &options.secrets,
        ssh: &options.ssh,
        cancel: &cancel,
    };
    let tasks = Tasks { listener: &*listener, ids: &ids };
    let opened = build::input::open(&fetcher, &tasks, place, wanted, input::options(&options))?;
    let request = Request { input: opened.input, files: opened.files, ids, options };
    if args.list_context {
        let list = build::listing::list_context(&store, &request, &*listener, &cancel);
        listing::print(&list.map_err(|e| failed(e, &request.input))?, args.format);
        return Ok(ExitCode::SUCCESS);
    }
    let built = build::build(&store, Some(&client), &request, &*listener, cancel.clone());
    let outcome = match built {
        Ok(o) => o,
        Err(e) => {
            // What was finished before the failure is kept for the next try.
            let _ = store.flush();
            return Err(failed(e, &request.input));
        }
    };
    store.flush()?;
    for n in &names {
        store.tag(&n.to_string(), &outcome.image.id, None)?;
    }
    let result = output::write_all(&store, &client, &outcome.image, &outputs, &names)?;
    store.flush()?;
    if let Some(path) = &args.iidfile {
        write(path, outcome.image.id.to_string().as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_vec_pretty(&result.metadata(&outcome.image, &names)).unwrap_or_default();
        write(path, &text)?;
    }
    if args.quiet {
        print::line(&outcome.image.id.to_string());
    } else if mode != progress::Mode::RawJson {
        summary(&outcome, &names);
    }
    drop(listener);
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    std::fs::write(path, bytes)
        .map_err(|e| CommandError::new(Kind::Environment, format!("cannot write {}: {e}", path.display())))
}

fn summary(outcome: &build::Outcome, names: &[oci::Reference]) {
    let steps = outcome.ran + outcome.cached;
    let mut text = format!("image {}", outcome.image.id);
    for n in names {
        text.push_str(&format!("\nnamed {n}"));
    }
    text.push_str(&format!("\n{} of {steps} steps ran, {:.1} s", outcome.ran, outcome.took.as_secs_f64()));
    if outcome.chain_ran > outcome.ran {
        let took = outcome.chain_took.as_secs_f64();
        text.push_str(&format!("; a chain cache would have run {}, {took:.1} s", outcome.chain_ran));
    }
    print::note(&text);
}

/// A failed build with the place in the Dockerfile.
fn failed(e: BuildError, input: &Input) -> CommandError {
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
