//! What would make a build fail in any case is said before anything runs: entitlements that steps need and nobody gave.
//!
//! Missing secrets and agents are no such thing: a step that is found in the cache does not need them (as in BuildKit).

use dockerfile::Dockerfile;

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

/// A warning for files that ask for another program to read them. Those that read Dockerfiles go by names such as `docker/dockerfile:1`,
/// `registry.example/mirror/dockerfile-upstream:master`, `dockerfile.v0`.
pub(crate) fn foreign_syntax(file: &Dockerfile, options: &Options) -> Option<String> {
    let given = options.choices.build_args.get("BUILDKIT_SYNTAX");
    let wanted = given.or(file.directives.syntax.as_ref())?;
    let name = wanted.split_whitespace().next()?;
    let last = name.rsplit('/').next()?;
    let is_ours =
        last.split([':', '@', '.']).next().is_some_and(|n| n == "dockerfile" || n == "dockerfile-upstream");
    (!is_ours).then(|| format!("the frontend {name} is not run: the file is read as a Dockerfile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends_that_read_dockerfiles_are_ours() {
        let warned = |syntax: &str| {
            let parsed = dockerfile::parse(&format!("# syntax={syntax}\nFROM scratch\n"));
            foreign_syntax(&parsed.file, &Options::default()).is_some()
        };
        for ours in [
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile-upstream:master-labs",
            "own.example:5000/x/dockerfile@sha256:ab",
            "dockerfile.v0",
        ] {
            assert!(!warned(ours), "{ours}");
        }
        for other in ["example.org/dockerfile-plus:1", "tonistiigi/other"] {
            assert!(warned(other), "{other}");
        }
        let mut options = Options::default();
        options.choices.build_args.insert("BUILDKIT_SYNTAX".into(), "x/y:1".into());
        let parsed = dockerfile::parse("# syntax=docker/dockerfile:1\nFROM scratch\n");
        let text = foreign_syntax(&parsed.file, &options);
        assert_eq!(text.as_deref(), Some("the frontend x/y:1 is not run: the file is read as a Dockerfile"));
    }
}
