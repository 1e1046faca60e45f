//! `layercake build`.

mod call;
mod dry;
pub(crate) mod failed;
pub(crate) mod flags;
mod input;
mod listing;
mod output;
pub(crate) mod ssh;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use build::account::Totals;
use build::fetch::Fetcher;
use build::{Ids, Rebased, Request, Tasks};
use oci::Reference;
use oci::platform::Platform;

pub(crate) use self::dry::forecast;
use self::output::{Images, Made, Output, Written};
use crate::cli::{BuildArgs, OnError};
use crate::context;
use crate::error::{CommandError, Kind};
use crate::output as print;
use crate::progress;

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: BuildArgs) -> Result<ExitCode, CommandError> {
    if args.format != crate::table::Format::Table && !args.list_context {
        return Err(CommandError::usage("--format is for --list-context"));
    }
    let call = call::Call::parse(if args.check { "check" } else { &args.call })?;
    let targets = targets(&args)?;
    let mut options = flags::options(&args)?;
    options.keep_failed = failed::check(args.on_error, &targets)?;
    let mode = progress::mode(args.progress.as_deref(), args.quiet)?;
    let (place, wanted) = input::asked(&args)?;
    if args.reproducible {
        flags::date_of_checkout(&mut options, &place);
    }
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
    let mut request = Request { input: opened.input, files: opened.files, ids, options };
    if let Some(call) = call {
        request.options.choices.target = targets.first().and_then(|t| t.stage.clone());
        request.options.choices.platform = flags::platforms(&args)?.into_iter().next().flatten();
        return call.answer(&store, &request, &*listener);
    }
    if args.list_context {
        let list = build::listing::list_context(&store, &request, &*listener, &cancel);
        listing::print(&list.map_err(|e| failed::told(e, &request.input))?, args.format);
        return Ok(ExitCode::SUCCESS);
    }
    let platforms = flags::platforms(&args)?;
    let index = platforms.len() > 1 || flags::multi_platform(&request.options);
    let tasks = Tasks { listener: &*listener, ids: &request.ids };
    let sinks = output::Sinks { store: &store, client: &client, cancel: &cancel, tasks };
    let mut done: Vec<(Target, Images, Written)> = Vec::new();
    for target in targets {
        request.options.choices.target.clone_from(&target.stage);
        let mut all = Vec::new();
        for platform in &platforms {
            request.options.choices.platform.clone_from(platform);
            let several = platforms.len() > 1;
            let label = |p: &Platform| if several { p.to_string() } else { String::new() };
            request.options.label = platform.as_ref().map(label).unwrap_or_default();
            let built = build::build_or_left(&store, Some(&client), &request, &*listener, cancel.clone());
            let outcome = match built {
                Ok(o) => o,
                Err(failure) => {
                    // What was finished before the failure is kept for the next try.
                    let _ = store.flush();
                    let error = failed::told(failure.error, &request.input);
                    let Some(left) = failure.left.filter(|_| error.kind != Kind::Interrupted) else {
                        return Err(error);
                    };
                    // The flag has stopped the other steps, too; what comes now is not to stop.
                    cancel.store(false, Ordering::Relaxed);
                    let split = index.then(|| platform.clone()).flatten();
                    return match args.on_error {
                        OnError::Stop => Err(error),
                        OnError::Export | OnError::ExportFailed => {
                            let written = args.on_error == OnError::ExportFailed;
                            Err(failed::export(sinks, &left, written, &target.outputs, split, error))
                        }
                        OnError::Shell => {
                            drop(listener);
                            failed::shell(&store, &left, &request.options, &error)
                        }
                    };
                }
            };
            let platform = platform.clone().unwrap_or_else(Platform::host);
            all.push(Made { platform, outcome });
        }
        store.flush()?;
        let images = Images { all, index };
        for n in &target.names {
            store.tag(&n.to_string(), &output::local_one(&images).outcome.image.id, None)?;
        }
        let written = output::write_all(sinks, &images, &target.outputs, &target.names)?;
        store.flush()?;
        done.push((target, images, written));
    }
    if let Some(path) = &args.iidfile {
        let ids: Vec<String> = done.iter().map(|(_, images, written)| written.id(images)).collect();
        write(path, ids.join("\n").as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_vec_pretty(&metadata(&done)).unwrap_or_default();
        write(path, &text)?;
    }
    for (target, images, written) in &done {
        if args.quiet {
            print::line(&written.id(images));
        } else if mode != progress::Mode::RawJson {
            summary(target, images);
        }
    }
    drop(listener);
    Ok(ExitCode::SUCCESS)
}

/// What is to be built, and where it goes.
struct Target {
    /// The stage; none: the last.
    stage: Option<String>,
    names: Vec<Reference>,
    outputs: Vec<Output>,
}

/// The targets of the flags. With several, names and destinations say with `{target}` which of them they are for.
fn targets(args: &BuildArgs) -> Result<Vec<Target>, CommandError> {
    let given: Vec<&String> = args.target.iter().filter(|t| !t.is_empty()).collect();
    let several = given.len() > 1;
    let mut out = Vec::new();
    for stage in if given.is_empty() { vec![None] } else { given.into_iter().map(Some).collect() } {
        let fill = |flag: &str, text: &String| match stage {
            Some(s) if several && text.contains("{target}") => Ok(text.replace("{target}", s)),
            Some(_) if several && flag != "push" && !text.contains("type=cacheonly") => {
                Err(CommandError::usage(format!("--{flag} {text} cannot be used for several targets"))
                    .hint("write {target} where the name of the stage is to stand"))
            }
            _ => Ok(text.clone()),
        };
        let names = args.tag.iter().map(|t| fill("tag", t)).collect::<Result<Vec<_>, _>>()?;
        let specs = args.output.iter().map(|o| fill("output", o)).collect::<Result<Vec<_>, _>>()?;
        out.push(Target {
            stage: stage.cloned(),
            names: names.iter().map(|n| crate::image::reference(n)).collect::<Result<_, _>>()?,
            outputs: output::parse_all(&specs, args.push)?,
        });
    }
    Ok(out)
}

/// buildx's metadata file; of several targets, one object for each, as `bake` writes it.
fn metadata(done: &[(Target, Images, Written)]) -> serde_json::Value {
    let one = |(t, images, w): &(Target, Images, Written)| w.metadata(images, &t.names);
    match done {
        [single] => one(single),
        all => all
            .iter()
            .map(|d| (d.0.stage.clone().unwrap_or_default(), one(d)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    std::fs::write(path, bytes)
        .map_err(|e| CommandError::new(Kind::Environment, format!("cannot write {}: {e}", path.display())))
}

fn summary(target: &Target, images: &Images) {
    let mut text = String::new();
    if let Some(stage) = &target.stage {
        text.push_str(&format!("target {stage}\n"));
    }
    for made in &images.all {
        let for_platform =
            if images.all.len() > 1 { format!(" for {}", made.platform) } else { String::new() };
        text.push_str(&format!("image {}{for_platform}\n", made.outcome.image.id));
    }
    for n in &target.names {
        text.push_str(&format!("named {n}\n"));
    }
    for made in &images.all {
        made.outcome.rebased.iter().for_each(|r| text.push_str(&format!("{}\n", rebased(r))));
    }
    let totals: Vec<Totals> = images.all.iter().map(|m| m.outcome.account.totals()).collect();
    let took: Duration = images.all.iter().map(|m| m.outcome.took).sum();
    text.push_str(&last_line(&totals, took));
    print::note(&text);
}

/// What a build on a new base image kept.
fn rebased(r: &Rebased) -> String {
    let saved = r.saved_ms as f64 / 1000.0;
    let (name, old, new) = (&r.name, r.old.short(), r.new.short());
    format!(
        "{name} is {new} now, was {old}: {} of {} steps on it were kept, {saved:.1} s saved",
        r.kept, r.steps
    )
}

/// How much ran, and how much Docker's rule would have run. All durations of steps are recorded ones.
fn last_line(totals: &[Totals], took: Duration) -> String {
    let sum = |f: fn(&Totals) -> usize| totals.iter().map(f).sum::<usize>();
    let (ran, cached, chain) = (sum(|t| t.ran), sum(|t| t.cached), sum(|t| t.chain_ran));
    let mut text = format!("{ran} of {} steps ran, {:.1} s", ran + cached, took.as_secs_f64());
    if chain > ran {
        let took = totals.iter().map(|t| t.chain_ms).sum::<u64>() as f64 / 1000.0;
        text.push_str(&format!("; a chain cache would have run {chain}, {took:.1} s"));
    }
    text
}
