//! The build checks, with what a plan found out about the base images.

use std::collections::BTreeMap;

use dockerfile::check::{self, CheckInput};
use dockerfile::{Diagnostic, Parsed};
use oci::platform::Platform;
use store::Store;

use crate::error::BuildError;
use crate::events::{Event, Listener};
use crate::plan::{Plan, Start};
use crate::{Request, listing, matcher};

/// Runs BuildKit's checks before a build.
pub(crate) fn before_build(
    request: &Request,
    parsed: &Parsed,
    plan: &Plan,
    listener: &dyn Listener,
) -> Result<(), BuildError> {
    let found = run(request, parsed, Some(plan), &[], false)?;
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
    for d in warnings {
        listener.event(Event::Warning { text: format!("{}: {}", d.code, d.message), line: Some(d.line) });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(BuildError::Dockerfile { file: request.input.name.clone(), diagnostics: errors })
}

/// What checks without a build found.
#[derive(Debug)]
pub struct Report {
    /// The findings, in the order of lines.
    pub found: Vec<Diagnostic>,
    /// Why the file cannot be built, if that can be seen without building.
    pub error: Option<BuildError>,
}

/// Checks what a build is asked for by, without building. Of base images only those are looked at that the store has; nothing is fetched.
///
/// `own_rules`: our own rules as well as BuildKit's.
pub fn without_build(
    store: &Store,
    request: &Request,
    listener: &dyn Listener,
    own_rules: bool,
) -> Result<Report, BuildError> {
    let parsed = dockerfile::parse(&request.input.text);
    if parsed.diagnostics.iter().any(Diagnostic::is_error) {
        let (file, diagnostics) = (request.input.name.clone(), parsed.diagnostics);
        return Ok(Report { found: Vec::new(), error: Some(BuildError::Dockerfile { file, diagnostics }) });
    }
    let (plan, unknown, error) = match listing::plan_from_store(store, request, &parsed, listener) {
        Ok((plan, unknown)) => (Some(plan), unknown, None),
        Err(error) => (None, Vec::new(), Some(error)),
    };
    let found = run(request, &parsed, plan.as_ref(), &unknown, own_rules)?;
    Ok(Report { found, error })
}

/// Runs the checks; `unknown` are base images of which the plan knows nothing.
fn run(
    request: &Request,
    parsed: &Parsed,
    plan: Option<&Plan>,
    unknown: &[String],
    own_rules: bool,
) -> Result<Vec<Diagnostic>, BuildError> {
    let choices = &request.options.choices;
    let mut bases = BTreeMap::new();
    for (i, stage) in plan.iter().flat_map(|plan| plan.stages.iter().enumerate()) {
        let Start::Image(image) = &stage.start else { continue };
        if unknown.contains(&image.name) {
            continue;
        }
        let c = &image.config;
        let platform = c.platform();
        let variables =
            c.config.env.iter().map(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k).to_owned());
        bases.insert(
            i,
            check::BaseImage {
                variables: variables.collect(),
                has_shell: c.config.shell.as_ref().is_some_and(|s| !s.is_empty()),
                platform: Some(platform.to_string()),
            },
        );
    }
    let ignore = matcher(&request.input.ignore)?;
    let host = Platform::host();
    let input = CheckInput {
        build_args: choices.build_args.clone(),
        ignore: ignore.as_ref(),
        target_platform: Some(choices.platform.as_ref().unwrap_or(&host).to_string()),
        build_platform: Some(host.to_string()),
        target_stage: choices.target.as_ref().map(|t| t.to_lowercase()),
        bases,
        own_rules,
    };
    Ok(check::run(parsed, &input))
}
