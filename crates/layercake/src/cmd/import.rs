//! `layercake import`: the files of a tar as an image of one layer.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use build::plan::{self, BaseImage, Bases, Choices, PlanError, Resolved};
use oci::compress::Decoder;
use oci::platform::Platform;
use oci::tar::Limits;
use oci::tar::read::{ReadOptions, read_layer_with};
use oci::types::{History, ImageConfig, RunConfig};
use oci::{Digest, Time};
use store::{ImageRecord, Store};

use crate::cmd::load::platform;
use crate::error::{CommandError, Kind};
use crate::{context, dest, env, image, output};

/// `layercake import`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Instructions for --change: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR.")]
pub(crate) struct ImportArgs {
    /// Tar of a root file system, compressed or not; - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Apply a Dockerfile instruction to the image's config (repeatable)
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Comment for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// The base for planning the changes: an image of which only the platform is known.
struct Base(Arc<BaseImage>);

impl Bases for Base {
    type Error = Infallible;

    fn is_named_context(&self, _: &str) -> bool {
        false
    }

    fn resolve(&self, _: &str, _: &Platform) -> Result<Resolved, Infallible> {
        Ok(Resolved::Image(self.0.clone()))
    }
}

/// What instructions make of an empty config. Those that need files are refused.
fn changed(changes: &[String], platform: &Platform) -> Result<RunConfig, CommandError> {
    let refused = |why: String| {
        CommandError::usage(format!("--change: {why}"))
            .hint("write an instruction that changes the config, such as 'CMD [\"/bin/sh\"]' or 'ENV A=b'")
    };
    for change in changes {
        // Each alone first: a line feed must not carry a second one in.
        let (statement, diagnostics) = dockerfile::parse_instruction(change, '\\');
        let Some(statement) = statement else {
            let why = diagnostics.iter().find(|d| d.is_error()).map(|d| d.message.clone());
            return Err(refused(format!("{change:?}: {}", why.unwrap_or_else(|| "no instruction".into()))));
        };
        let name = statement.instruction.name();
        if matches!(name, "FROM" | "ARG" | "RUN" | "COPY" | "ADD" | "MAINTAINER") {
            return Err(refused(format!("{name} is not possible here")));
        }
    }
    let text = format!("FROM base\n{}\n", changes.join("\n"));
    let parsed = dockerfile::parse(&text);
    let config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    let base =
        BaseImage { name: "base".into(), config, layers: Vec::new(), digest: None, other_platform: false };
    let choices = Choices { platform: Some(platform.clone()), ..Choices::default() };
    let planned = plan::plan(&parsed.file, &choices, &Base(Arc::new(base))).map_err(|e| match e {
        PlanError::At { message, .. } | PlanError::Whole { message, .. } => refused(message),
        PlanError::Base { source, .. } => match source {},
    })?;
    Ok(planned.stages[planned.target].config.config.clone())
}

fn take(store: &Store, args: &ImportArgs) -> Result<(Digest, Digest), CommandError> {
    let (file, label) = dest::open(Some(&args.file))?;
    let failed = |e: &dyn std::error::Error| {
        CommandError::new(Kind::User, format!("cannot import {label}: {}", crate::error::chain(e)))
    };
    let batch = store.batch();
    let mut sink = batch.sink();
    let decoder = Decoder::new(file).map_err(|e| failed(&e))?;
    // The archive of a root file system: a file named .wh.x is one.
    let options = ReadOptions { whiteouts: false };
    let index = read_layer_with(decoder, &mut sink, &Limits::default(), options).map_err(|e| failed(&e))?;
    let layer = batch.add_layer(&index)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok((layer, build::diff_id(store, &layer)?))
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &ImportArgs) -> Result<ExitCode, CommandError> {
    let name = args.name.as_deref().map(image::reference).transpose()?;
    let platform = platform(args.platform.as_deref())?;
    let run_config = changed(&args.change, &platform)?;
    let epoch = match env::source_date_epoch() {
        None => None,
        Some(e) => Some(e.parse::<i64>().map_err(|_| {
            CommandError::usage(format!("SOURCE_DATE_EPOCH {e:?}: expected seconds since 1970"))
        })?),
    };
    let store = context::store(root)?;
    let (layer, diff_id) = take(&store, args)?;
    let created = Some(epoch.map_or_else(Time::now, Time::from_secs).rfc3339());
    let source = if args.file == "-" { "-" } else { &args.file };
    let line = History {
        created: created.clone(),
        created_by: Some(format!("IMPORT {source}")),
        comment: args.message.clone(),
        ..History::default()
    };
    let mut config = ImageConfig {
        created,
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        config: run_config,
        history: vec![line],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![diff_id];
    let bytes = serde_json::to_vec(&config).map_err(|e| CommandError::new(Kind::Internal, e.to_string()))?;
    let id = store.put_blob(&bytes)?;
    store.put_image(&ImageRecord { id, manifest: None, layers: vec![layer], created: Time::now() })?;
    if let Some(n) = &name {
        store.tag(&n.to_string(), &id, None)?;
    }
    output::line(&id.to_string());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(changes: &[&str]) -> Result<RunConfig, CommandError> {
        let changes: Vec<String> = changes.iter().map(|s| (*s).to_owned()).collect();
        changed(&changes, &Platform::host())
    }

    #[test]
    fn changes_are_those_of_a_dockerfile() {
        let c =
            apply(&["CMD [\"sh\"]", "ENV A=b C=$A", "WORKDIR /srv", "EXPOSE 80", "LABEL x=y", "USER web"])
                .unwrap();
        assert_eq!(c.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!((c.env_value("A"), c.working_dir.as_str(), c.user.as_str()), (Some("b"), "/srv", "web"));
        assert!(c.exposed_ports.contains_key("80/tcp") && c.labels["x"] == "y");
        assert_eq!(apply(&[]).unwrap().cmd, None);
    }

    #[test]
    fn what_needs_files_is_refused_also_behind_a_line_feed() {
        for bad in ["RUN true", "COPY a b", "FROM x", "CMD a\nRUN b", "NONSENSE", "", "ENV"] {
            assert_eq!(apply(&[bad]).unwrap_err().kind, Kind::Usage, "{bad:?}");
        }
    }
}
