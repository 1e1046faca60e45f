//! `layercake explain`: why the steps of a build ran, or did not.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::account::{BuildEnd, BuildRecord, PAST, StageRecord, StepEnd, StepRecord, past};
use build::context::Context;
use build::events::HitRule;
use build::explain::{Details, Teller};
use build::{Cutoff, RunReason};
use oci::Time;
use serde_json::Value;
use store::Store;

use crate::cli::BuildArgs;
use crate::error::CommandError;
use crate::table::{self, Format};
use crate::{context, human, output};

/// `layercake explain`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --dry-run: of the last build of CONTEXT or, if there is none of it, of the last build in the store. \
With --dry-run the flags are those of build, and say what is to be built. docs/explain.md describes the JSON.")]
pub(crate) struct ExplainArgs {
    /// Say what a build would do now; nothing is run, and no registry is asked
    #[arg(long)]
    dry_run: bool,
    /// Only this step, by its number in the log (#7)
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// List the files of the context that each step read
    #[arg(long)]
    files: bool,
    /// Another build than the last one, by its number
    #[arg(long, value_name = "N", conflicts_with = "dry_run")]
    build: Option<i64>,
    #[command(flatten)]
    of: BuildArgs,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &ExplainArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let all = past(&store, if args.build.is_some() { usize::MAX } else { PAST })?;
    let mut shown: Vec<Value> = Vec::new();
    if args.dry_run {
        for f in super::build::forecast(&store, &args.of)? {
            let told = Told { store: &store, all: &all, build: &f.account, number: None };
            shown.extend(told.show(args, f.context.as_deref())?);
        }
    } else {
        let (number, build) = chosen(&all, args)?;
        let told = Told { store: &store, all: &all, build, number: Some(number) };
        shown.extend(told.show(args, None)?);
    }
    if args.of.format == Format::Json {
        table::json(&shown);
    }
    Ok(ExitCode::SUCCESS)
}

/// The build that is asked for.
fn chosen<'a>(
    all: &'a [(i64, BuildRecord)],
    args: &ExplainArgs,
) -> Result<(i64, &'a BuildRecord), CommandError> {
    let hint = "it is written down by layercake build";
    let found = match args.build {
        Some(n) => all.iter().find(|(id, _)| *id == n),
        None => {
            let dir = Path::new(&args.of.context).canonicalize().unwrap_or_default().display().to_string();
            let of_it = all.iter().find(|(_, b)| b.context == dir || b.context == args.of.context);
            match of_it {
                None if args.of.context != "." => {
                    let message = format!("there is no build of {} in the log", args.of.context);
                    return Err(CommandError::usage(message).hint(hint));
                }
                found => found.or(all.first()),
            }
        }
    };
    let none = || CommandError::usage("there is no such build in the log").hint(hint);
    found.map(|(n, b)| (*n, b)).ok_or_else(none)
}

/// A build to be told of.
struct Told<'a> {
    store: &'a Store,
    all: &'a [(i64, BuildRecord)],
    build: &'a BuildRecord,
    /// Its number in the log; none of a dry run.
    number: Option<i64>,
}

impl Told<'_> {
    /// Prints it, or gives it as JSON.
    fn show(&self, args: &ExplainArgs, context: Option<&Context>) -> Result<Option<Value>, CommandError> {
        let past = self.all.iter().filter(|(n, _)| self.number.is_none_or(|own| *n <= own)).map(|(_, b)| b);
        let teller = Teller::new(self.store, self.build, past.take(PAST), context);
        let steps: Vec<(&StageRecord, &StepRecord)> =
            self.build.steps().filter(|(_, s)| args.step.is_none_or(|n| s.id == n)).collect();
        if let (Some(n), true) = (args.step, steps.is_empty()) {
            let numbers: Vec<String> = self.build.steps().map(|(_, s)| s.id.to_string()).collect();
            let message = format!("the build has no step #{n}");
            return Err(CommandError::usage(message).hint(format!("its steps are {}", numbers.join(", "))));
        }
        if args.of.format == Format::Json {
            return Ok(Some(self.json(&teller, args)));
        }
        output::line(&self.head());
        for (stage, step) in steps {
            output::line("");
            lines(stage, step, &teller.details(stage, step), args.files).iter().for_each(|l| output::line(l));
        }
        if args.step.is_none() {
            output::line("");
            output::line(&self.sum());
        }
        Ok(None)
    }

    fn json(&self, teller: &Teller<'_>, args: &ExplainArgs) -> Value {
        let mut out = serde_json::to_value(self.build).unwrap_or_default();
        out["number"] = self.number.into();
        out["totals"] = serde_json::to_value(self.build.totals()).unwrap_or_default();
        for (s, stage) in self.build.stages.iter().enumerate() {
            let mut steps = Vec::new();
            for step in stage.steps.iter().filter(|t| args.step.is_none_or(|n| t.id == n)) {
                let mut value = serde_json::to_value(step).unwrap_or_default();
                let details = serde_json::to_value(teller.details(stage, step)).unwrap_or_default();
                for name in ["reads", "diff", "runs"] {
                    value[name] = details[name].clone();
                }
                if !args.files && !value["reads"].is_null() {
                    value["reads"]["files"] = Value::Null;
                }
                value["text"] = outcome(step).into();
                steps.push(value);
            }
            out["stages"][s]["steps"] = steps.into();
        }
        out
    }

    fn head(&self) -> String {
        let b = self.build;
        let of = format!("{} ({}) for {}", b.context, b.dockerfile, b.platform);
        let Some(number) = self.number else { return format!("a build of {of} would do this now") };
        let ago =
            Time::parse_rfc3339(&b.began).map(|t| format!(", {}", human::ago(t, Time::now()).to_lowercase()));
        let end = match b.end {
            BuildEnd::Failed => "failed",
            BuildEnd::Interrupted => "interrupted",
            BuildEnd::Ok | BuildEnd::DryRun => "ok",
        };
        let error = b.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
        format!("build {number} of {of}{}: {end}, {}{error}", ago.unwrap_or_default(), seconds(b.took_ms))
    }

    fn sum(&self) -> String {
        let t = self.build.totals();
        if self.number.is_some() {
            let mut text = format!(
                "{} of {} steps ran, {}; results of {} were kept, {} saved",
                t.ran,
                t.ran + t.cached,
                seconds(t.ran_ms),
                t.cached,
                seconds(t.saved_ms)
            );
            if t.chain_ran > t.ran {
                text += &format!("; a chain cache would have run {}, {}", t.chain_ran, seconds(t.chain_ms));
            }
            return text;
        }
        let of = |end| self.build.steps().filter(move |(_, s)| s.end == end);
        let (run, unknown) = (of(StepEnd::WouldRun), of(StepEnd::Unknown).count());
        let took: u64 = of(StepEnd::WouldRun).map(|(_, s)| s.ran_ms).sum();
        let mut text = format!(
            "{} steps would run, {} when they last ran; results of {} would be kept, {} saved",
            run.count(),
            seconds(took),
            t.cached,
            seconds(t.saved_ms)
        );
        if unknown > 0 {
            text += &format!("; of {unknown} it cannot be said");
        }
        text
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// What became of a step, and why, in one line.
fn outcome(s: &StepRecord) -> String {
    let why = |default: &str| {
        let reason = s.reason.as_ref();
        reason.and_then(RunReason::text).unwrap_or_else(|| default.to_owned())
    };
    let note = s.note.clone().unwrap_or_default();
    match s.end {
        StepEnd::Cached => {
            let rule = match s.rule {
                Some(HitRule::SameParent) => "the same step on the same layers".to_owned(),
                _ if s.kind != "run" => "the same files".to_owned(),
                _ if note.is_empty() => "inputs unchanged".to_owned(),
                _ => note,
            };
            let saved =
                if s.kind == "run" { format!(", {} saved", seconds(s.ran_ms)) } else { String::new() };
            format!("cached: {rule}{saved}")
        }
        StepEnd::Ran => {
            let same = match s.adopted {
                Some(Cutoff::Exact) => "; the result is the same as before",
                Some(Cutoff::Noise) => "; the result differs from an earlier one in noise only",
                None => "",
            };
            format!("ran, {}: {}{same}", seconds(s.took_ms), why("there is no earlier run of it"))
        }
        StepEnd::WouldRun => {
            let took = if s.kind == "run" && s.ran_ms > 0 {
                format!(" ({} last time)", seconds(s.ran_ms))
            } else {
                String::new()
            };
            format!("would run{took}: {}", why("there is no earlier run of it"))
        }
        StepEnd::Failed => format!("failed: {note}; it ran because {}", why("there is no earlier run of it")),
        StepEnd::Canceled => "stopped, because another step failed or the build was interrupted".to_owned(),
        StepEnd::NotReached => "not reached".to_owned(),
        StepEnd::Unknown => format!("unknown: {note}"),
    }
}

/// What is printed of a step.
fn lines(stage: &StageRecord, s: &StepRecord, d: &Details, files: bool) -> Vec<String> {
    let place = if stage.name.is_empty() { s.place.clone() } else { format!("{} {}", stage.name, s.place) };
    let line = s.lines.map(|(l, _)| format!(" (line {l})")).unwrap_or_default();
    let mut out = vec![format!("#{} [{place}] {}{line}", s.id, s.title)];
    out.push(format!("   {}", outcome(s)));
    out.extend(values(s).map(|v| format!("   {v}")));
    out.extend(d.diff.iter().map(|l| format!("     {l}")));
    let mut facts = Vec::new();
    if let Some(r) = d.reads.as_ref().filter(|r| r.of > 0) {
        facts.push(format!("read {} of {} copied files", r.read, r.of));
    }
    if d.runs.of > 0 {
        let noun = if d.runs.of == 1 { "build" } else { "builds" };
        facts.push(format!("ran in {} of the last {} {noun}", d.runs.ran, d.runs.of));
    }
    if !facts.is_empty() {
        out.push(format!("   {}", facts.join("; ")));
    }
    if let Some(r) = d.reads.as_ref().filter(|_| files) {
        out.extend(r.files.iter().map(|f| format!("     {f}")));
    }
    out
}

/// The old and the new instruction, where that is what changed.
fn values(s: &StepRecord) -> impl Iterator<Item = String> {
    let (old, new) = match &s.reason {
        Some(RunReason::StepChanged { input, old, new }) if !input.starts_with("variable ") => (old, new),
        _ => (&None, &None),
    };
    let signed = |sign: char, v: &Option<String>| {
        v.iter().flat_map(|v| v.lines()).map(|l| format!("  {sign}{l}")).collect::<Vec<_>>()
    };
    signed('-', old).into_iter().chain(signed('+', new))
}
