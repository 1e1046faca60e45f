//! `layercake advise`: what to change in a Dockerfile, as a patch.

mod print;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use advise::verify::{Verified, Verifier, VerifyError};
use advise::{Advice, Facts, Kind};
use analyse::{Base, BaseSource};
use build::fetch::Fetcher;
use build::input::Place;
use build::{Ids, Request, Tasks};
use clap::Parser;
use oci::platform::Platform;

use crate::cli::{BuildArgs, Cli, Command};
use crate::cmd::analyse::base;
use crate::cmd::analyse::source::Loader;
use crate::cmd::build::{failed, flags, ssh};
use crate::cmd::files;
use crate::error::{CommandError, Kind as ErrorKind, chain};
use crate::{context, output, progress};

/// `layercake advise`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A Dockerfile is built first (what is in the cache is used), so that what is advised is measured: bytes on the layers, seconds and what \
the steps read from their records. Flags of `build` go behind two dashes: layercake advise . --verify -- --build-arg A=1.\n\n\
Of an image, the Dockerfile is put together from its history; such advice can be read, not applied.")]
pub(crate) struct AdviseArgs {
    /// Dockerfile, directory of a build context, or image: what `analyse` takes
    #[arg(value_name = "DOCKERFILE|DIR|IMAGE", default_value = ".")]
    what: String,
    /// Directory with the files to build from [default: the Dockerfile's]
    #[arg(long, value_name = "DIR")]
    context: Option<PathBuf>,
    /// Build before and after, and give only advice that holds
    #[arg(long)]
    verify: bool,
    /// Write the changes
    #[arg(long)]
    apply: bool,
    /// How to print the advice
    #[arg(long, value_enum, default_value = "text")]
    format: AdviseFormat,
    /// Only these kinds (repeatable, comma list): merge-runs, copy-chmod, narrow-copy, ignore, cache-mount, flags, lists, split
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<String>,
    /// Waste of fewer bytes is left alone
    #[arg(long, value_name = "BYTES", default_value = "10k")]
    min_bytes: String,
    /// Steps that take fewer seconds are left alone, where only time is to be saved
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    min_seconds: f64,
    /// The base of an image: its layers are not yours to change [default: found out]
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// Number of layers of an image that are its base's, where the base itself is not at hand
    #[arg(long, value_name = "N", conflicts_with = "base")]
    base_layers: Option<usize>,
    /// Say why advice was dropped
    #[arg(short, long)]
    verbose: bool,
    /// Flags of `build`
    #[arg(last = true, value_name = "BUILD FLAGS")]
    build: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AdviseFormat {
    Text,
    Json,
    Patch,
}

/// Advice as it is shown.
struct Shown {
    advice: Advice,
    verified: Option<Verified>,
    /// It is in the patch; else it does not go together with a better one.
    chosen: bool,
}

/// Advice that does not hold.
struct Dropped {
    advice: Advice,
    why: String,
}

/// Everything that is printed.
struct Report {
    facts: Facts,
    shown: Vec<Shown>,
    dropped: Vec<Dropped>,
    /// All of the patch at once.
    together: Option<Result<Verified, String>>,
    /// The ignore file: its name in the patch, where it is, its text, and whether it exists.
    ignore: IgnoreFile,
    /// Where the Dockerfile is; none where it was put together.
    file: Option<PathBuf>,
    /// The base of an image, as far as it is known.
    base: Option<Base>,
}

/// The ignore file of a context.
#[derive(Debug, Default)]
struct IgnoreFile {
    name: String,
    path: PathBuf,
    text: String,
    exists: bool,
}

fn kinds(args: &AdviseArgs) -> Result<Vec<Kind>, CommandError> {
    use Kind::{CacheMount, CopyChmod, Flags, Ignore, Lists, MergeRuns, NarrowCopy, Split};
    let all = [MergeRuns, CopyChmod, NarrowCopy, Ignore, CacheMount, Flags, Lists, Split];
    if args.only.is_empty() {
        return Ok(all.to_vec());
    }
    args.only
        .iter()
        .map(|name| {
            let names: Vec<&str> = all.iter().map(|k| k.name()).collect();
            all.into_iter().find(|k| k.name() == name).ok_or_else(|| {
                CommandError::usage(format!("--only {name:?} is no kind of advice"))
                    .hint(format!("it is one of {}", names.join(", ")))
            })
        })
        .collect()
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &AdviseArgs) -> Result<ExitCode, CommandError> {
    let kinds = kinds(args)?;
    let min_bytes = crate::values::bytes("min-bytes", &args.min_bytes)?;
    let path = Path::new(&args.what);
    let mut report = if path.exists() && !files::is_image(path) {
        of_dockerfile(root, args, path, &kinds, min_bytes)?
    } else {
        of_image(root, args, min_bytes)?
    };
    report.shown.retain(|s| kinds.contains(&s.advice.kind));
    match args.format {
        AdviseFormat::Text => output::line(&print::text(&report, args.verbose)),
        AdviseFormat::Json => crate::table::json(&print::json(&report)),
        AdviseFormat::Patch => {
            let patch = print::patch(&report);
            if !patch.is_empty() {
                output::line(patch.trim_end_matches('\n'));
            }
        }
    }
    if args.apply {
        apply(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_image(root: Option<PathBuf>, args: &AdviseArgs, min_bytes: u64) -> Result<Report, CommandError> {
    if args.verify || args.apply {
        return Err(CommandError::usage(format!("{} is an image, or is not there", args.what))
            .hint("--verify and --apply need a Dockerfile"));
    }
    let store = context::store(root.clone())?;
    let platform = Platform::host();
    let found =
        files::find(&store, &args.what, &files::Wanted { platform: &platform, insecure: &[], pull: false })?;
    let base = base_of(&root, args, &found, &platform)?;
    if let Some(build) = base::built_by(&store, &found.image.record.id)? {
        output::note(&format!(
            "the image was built with {} from {}: advice on these says more",
            build.dockerfile, build.context
        ));
    }
    let layers = found.image.layers(&found.store)?;
    let name = match &base {
        None => "scratch",
        Some(b) => b.name.as_deref().unwrap_or("base"),
    };
    let facts = advise::rebuilt::of_image(
        &found.image.config,
        &layers,
        base.as_ref().map_or(0, |b| b.layers),
        name,
        Arc::new(found.store.clone()),
        min_bytes,
    );
    let facts = facts.map_err(|e| CommandError::new(ErrorKind::User, chain(&e)))?;
    let all = advise::advise(&facts);
    Ok(Report { base, ..report(facts, all, None, IgnoreFile::default()) })
}

/// The base of an image: as the user says, else as `analyse` finds it out.
fn base_of(
    root: &Option<PathBuf>,
    args: &AdviseArgs,
    found: &files::Found,
    platform: &Platform,
) -> Result<Option<Base>, CommandError> {
    if let Some(layers) = args.base_layers {
        let layers = layers.min(found.image.record.layers.len());
        return Ok((layers > 0).then_some(Base { name: None, layers, source: BaseSource::Given }));
    }
    let cancel = context::interrupt_flag()?;
    let from = Loader { root, platform, insecure: false, cancel: &cancel };
    let image = analyse::load::store::load(&found.store, &found.image.record, &args.what)
        .map_err(|e| CommandError::new(ErrorKind::User, chain(&e)))?;
    base::find(&from, &image, args.base.as_deref())
}

fn report(facts: Facts, all: Vec<Advice>, file: Option<PathBuf>, ignore: IgnoreFile) -> Report {
    let mut shown: Vec<Shown> =
        all.into_iter().map(|advice| Shown { advice, verified: None, chosen: false }).collect();
    choose(&mut shown);
    Report { facts, shown, dropped: Vec::new(), together: None, ignore, file, base: None }
}

/// Says which go together: each that fits with all before it.
fn choose(shown: &mut [Shown]) {
    for n in 0..shown.len() {
        let fits = shown[..n].iter().filter(|s| s.chosen).all(|s| shown[n].advice.fits_with(&s.advice));
        shown[n].chosen = fits;
    }
}

/// The flags behind the dashes, with the context and the Dockerfile.
fn build_args(args: &AdviseArgs, path: &Path) -> Result<(BuildArgs, PathBuf, Option<PathBuf>), CommandError> {
    let (dir, file) = if path.is_dir() {
        (args.context.clone().unwrap_or_else(|| path.to_owned()), None)
    } else {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (args.context.clone().unwrap_or_else(|| parent.to_owned()), Some(path.to_owned()))
    };
    let mut line = vec!["layercake".to_owned(), "build".to_owned()];
    line.extend(args.build.iter().cloned());
    if let Some(f) = &file {
        line.extend(["--file".to_owned(), f.display().to_string()]);
    }
    line.push(dir.display().to_string());
    match Cli::try_parse_from(line).map(|c| c.command) {
        Ok(Command::Build(b)) => Ok((*b, dir, file)),
        Ok(_) => Err(CommandError::usage("flags of `build` are expected behind --")),
        Err(e) => Err(CommandError::usage(format!("behind --: {}", e.render()))),
    }
}

fn ignore_file(dir: &Path, dockerfile: &Path) -> IgnoreFile {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    let default = dir.join(".dockerignore");
    let candidates = [PathBuf::from(beside), default.clone(), dir.join(".containerignore")];
    let (path, exists) = match candidates.into_iter().find(|p| p.exists()) {
        Some(p) => (p, true),
        None => (default, false),
    };
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
    IgnoreFile { name, path, text, exists }
}

fn of_dockerfile(
    root: Option<PathBuf>,
    args: &AdviseArgs,
    path: &Path,
    kinds: &[Kind],
    min_bytes: u64,
) -> Result<Report, CommandError> {
    let (build_args, dir, file) = build_args(args, path)?;
    let mut options = flags::options(&build_args)?;
    options.choices.target = build_args.target.first().filter(|t| !t.is_empty()).cloned();
    options.choices.platform = flags::platforms(&build_args)?.into_iter().next().flatten();
    let store = context::store(root)?;
    let _agents = ssh::agents(&store, &mut options.ssh)?;
    let cancel = context::interrupt_flag()?;
    let client = context::client(&build_args.insecure, &cancel)?;
    let mode = progress::mode(build_args.progress.as_deref(), build_args.quiet)?;
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
    let wanted = match &file {
        Some(f) => build::input::Wanted::Path(f.clone()),
        None => build::input::Wanted::Default,
    };
    let opened = build::input::open(
        &fetcher,
        &tasks,
        Place::Dir(dir.clone()),
        wanted,
        build::input::OpenOptions::default(),
    )?;
    let request = Request { input: opened.input, files: opened.files, ids, options };
    let outcome = build::build(&store, Some(&client), &request, &*listener, cancel.clone())
        .map_err(|e| failed::told(e, &request.input))?;
    store.flush()?;
    drop(listener);
    let facts = Facts::of_build(&store, &request, &outcome, (min_bytes, args.min_seconds))
        .map_err(|e| CommandError::new(ErrorKind::Environment, chain(&e)))?;
    let file = file.unwrap_or_else(|| dir.join(&facts.name));
    let ignore = ignore_file(&dir, &file);
    let all: Vec<Advice> = advise::advise(&facts).into_iter().filter(|a| kinds.contains(&a.kind)).collect();
    let mut report = report(facts, all, Some(file), ignore);
    if args.verify && !report.shown.is_empty() {
        let tree = report.facts.last.clone();
        output::note("building it again, as it is, to compare with");
        let text = report.ignore.text.clone();
        let mut verifier =
            Verifier::new(&store, Some(&client), &request, &tree, &text, cancel).map_err(verify_error)?;
        verify(&mut report, &mut verifier)?;
    }
    Ok(report)
}

fn verify(report: &mut Report, verifier: &mut Verifier<'_>) -> Result<(), CommandError> {
    let all = std::mem::take(&mut report.shown);
    let count = all.len();
    for (n, mut s) in all.into_iter().enumerate() {
        output::note(&format!(
            "verifying {} of {count}: {} on line {}",
            n + 1,
            s.advice.kind.name(),
            s.advice.line
        ));
        match verifier.verify(&s.advice).map_err(verify_error)? {
            Ok(v) => {
                s.verified = Some(v);
                report.shown.push(s);
            }
            Err(why) => report.dropped.push(Dropped { advice: s.advice, why }),
        }
    }
    choose(&mut report.shown);
    let chosen: Vec<&Advice> = report.shown.iter().filter(|s| s.chosen).map(|s| &s.advice).collect();
    if chosen.len() > 1 {
        output::note("verifying all of the patch at once");
        report.together = Some(verifier.verify_all(&chosen).map_err(verify_error)?);
    }
    // A patch that does not hold as a whole is cut down to its best part.
    if matches!(report.together, Some(Err(_))) {
        let mut first = true;
        for s in report.shown.iter_mut().filter(|s| s.chosen) {
            s.chosen = std::mem::take(&mut first);
        }
    }
    Ok(())
}

fn verify_error(e: VerifyError) -> CommandError {
    let kind = match &e {
        VerifyError::Interrupted => ErrorKind::Interrupted,
        VerifyError::Before(_) => ErrorKind::User,
        _ => ErrorKind::Environment,
    };
    CommandError::new(kind, chain(&e))
}

fn apply(report: &Report) -> Result<(), CommandError> {
    let Some(file) = &report.file else { return Ok(()) };
    let (dockerfile, ignore) = print::results(report);
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|e| {
            CommandError::new(ErrorKind::Environment, format!("cannot write {}: {e}", path.display()))
        })?;
        output::note(&format!("wrote {}", path.display()));
        Ok::<(), CommandError>(())
    };
    if dockerfile != report.facts.text {
        write(file, &dockerfile)?;
    }
    if ignore != report.ignore.text {
        write(&report.ignore.path, &ignore)?;
    }
    Ok(())
}
