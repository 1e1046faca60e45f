//! What would make a build fail in any case is said before anything runs: entitlements that steps need and nobody gave.
//!
//! Missing secrets and agents are no such thing: a step that is found in the cache does not need them (as in BuildKit).

use crate::error::BuildError;
use crate::options::Options;
use crate::plan::{Plan, StepKind};

/// Looks through all steps that the target needs.
pub(crate) fn check(plan: &Plan, options: &Options) -> Result<(), BuildError> {
    let steps = plan.stages.iter().filter(|s| s.needed).flat_map(|s| &s.steps);
    for step in steps {
        let StepKind::Run(run) = &step.kind else { continue };
        let refuse = |what: &str, flag: &str| {
            Err(BuildError::Line {
                line: step.lines.map(|l| l.0),
                message: format!("{what} is not allowed"),
                help: Some(format!("allow it with --allow {flag}")),
            })
        };
        if run.security.as_deref() == Some("insecure") && !options.allow_insecure {
            return refuse("--security=insecure", "security.insecure");
        }
        if run.network.as_deref() == Some("host") && !options.allow_host_network {
            return refuse("--network=host", "network.host");
        }
    }
    Ok(())
}
