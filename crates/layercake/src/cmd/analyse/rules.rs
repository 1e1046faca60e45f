//! The rules of CI on the command line: dive's names, and our own.

use std::path::{Path, PathBuf};

use analyse::Rules;
use analyse::gate::Baseline;
use analyse::report::json;

use super::source::Loader;
use crate::error::{CommandError, Kind, chain};

/// The file that is looked for unless `--ci-config` names one.
const FILE: &str = ".dive-ci";

/// Flags of the gate.
#[derive(Debug, clap::Args)]
pub(crate) struct RuleArgs {
    /// Check the rules (as if the environment had CI=true); any flag of a rule does so, too
    #[arg(long, help_heading = "Rules")]
    ci: bool,
    /// File of rules; it comes before the flags of dive's rules, as in dive
    #[arg(long, value_name = "FILE", help_heading = "Rules", default_value = FILE)]
    ci_config: PathBuf,
    /// Least efficiency, by dive's formula (0 to 1) [default: 0.9]
    #[arg(
        long = "lowestEfficiency",
        alias = "lowest-efficiency",
        value_name = "PART",
        help_heading = "Rules"
    )]
    lowest_efficiency: Option<String>,
    /// Most wasted bytes, by dive's formula [default: disabled]
    #[arg(
        long = "highestWastedBytes",
        alias = "highest-wasted-bytes",
        value_name = "SIZE",
        help_heading = "Rules"
    )]
    highest_wasted_bytes: Option<String>,
    /// Most wasted bytes as a part of all layers but the first, by dive's formula (0 to 1) [default: 0.1]
    #[arg(
        long = "highestUserWastedPercent",
        alias = "highest-user-wasted-percent",
        value_name = "PART",
        help_heading = "Rules"
    )]
    highest_user_wasted_percent: Option<String>,
    /// Most bytes of content in all layers
    #[arg(long, value_name = "SIZE", help_heading = "Rules")]
    max_size: Option<String>,
    /// Most bytes of the compressed layers
    #[arg(long, value_name = "SIZE", help_heading = "Rules")]
    max_packed_size: Option<String>,
    /// Most bytes of content in one layer
    #[arg(long, value_name = "SIZE", help_heading = "Rules")]
    max_layer_size: Option<String>,
    /// Most bytes more than --baseline or --previous has
    #[arg(long, value_name = "SIZE", help_heading = "Rules")]
    max_growth: Option<String>,
    /// Most layers
    #[arg(long, value_name = "N", help_heading = "Rules")]
    max_layers: Option<String>,
    /// Most dead bytes in layers that are not the base's
    #[arg(long, value_name = "SIZE", help_heading = "Rules")]
    max_dead: Option<String>,
    /// Least exact efficiency (0 to 1)
    #[arg(long, value_name = "PART", help_heading = "Rules")]
    min_efficiency: Option<String>,
    /// Path that no layer may have, such as '*.pem' (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = "Rules")]
    forbid: Vec<String>,
    /// Path that is allowed nevertheless, and whose dead bytes do not count (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = "Rules")]
    allow: Vec<String>,
    /// Earlier report (--format json) to compare the size with
    #[arg(long, value_name = "FILE", help_heading = "Rules")]
    baseline: Option<PathBuf>,
    /// Earlier image to compare the size with
    #[arg(long, value_name = "IMAGE", help_heading = "Rules", conflicts_with = "baseline")]
    previous: Option<String>,
}

/// The name of a rule and its value.
type Flag<'a> = (&'static str, &'a str);

impl RuleArgs {
    /// dive's rules among the flags, and ours.
    fn flags(&self) -> (Vec<Flag<'_>>, Vec<Flag<'_>>) {
        let mut dive = Vec::new();
        for (k, v) in [
            ("lowestEfficiency", &self.lowest_efficiency),
            ("highestWastedBytes", &self.highest_wasted_bytes),
            ("highestUserWastedPercent", &self.highest_user_wasted_percent),
        ] {
            dive.extend(v.as_deref().map(|v| (k, v)));
        }
        let mut own = Vec::new();
        for (k, v) in [
            ("max-size", &self.max_size),
            ("max-packed-size", &self.max_packed_size),
            ("max-layer-size", &self.max_layer_size),
            ("max-growth", &self.max_growth),
            ("max-layers", &self.max_layers),
            ("max-dead", &self.max_dead),
            ("min-efficiency", &self.min_efficiency),
        ] {
            own.extend(v.as_deref().map(|v| (k, v)));
        }
        own.extend(self.forbid.iter().map(|v| ("forbid", v.as_str())));
        own.extend(self.allow.iter().map(|v| ("allow", v.as_str())));
        (dive, own)
    }

    /// The rules to be checked; none if nobody asks for it. With flags of ours alone, dive's rules are left out.
    pub(crate) fn rules(&self, ci: bool) -> Result<Option<Rules>, CommandError> {
        let (dive, own) = self.flags();
        // Who names a file wants what is in it.
        let wants_file = ci || self.ci || !dive.is_empty() || self.ci_config != Path::new(FILE);
        if !wants_file && own.is_empty() {
            return Ok(None);
        }
        let usage = |e: analyse::gate::RulesError| CommandError::usage(format!("--{e}"));
        let mut rules = Rules::default();
        if !wants_file {
            (rules.lowest_efficiency, rules.highest_user_wasted) = (None, None);
        }
        for (k, v) in dive {
            rules.set(k, v).map_err(usage)?;
        }
        if wants_file && let Some(text) = self.file()? {
            let named = |e| CommandError::usage(format!("{}: {e}", self.ci_config.display()));
            rules = Rules::parse(&text).map_err(named)?;
        }
        for (k, v) in own {
            rules.set(k, v).map_err(usage)?;
        }
        Ok(Some(rules))
    }

    /// The text of the file of rules, if there is one. One that was named must be there.
    fn file(&self) -> Result<Option<String>, CommandError> {
        match std::fs::read_to_string(&self.ci_config) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.ci_config == Path::new(FILE) => {
                Ok(None)
            }
            Err(e) => Err(CommandError::usage(format!("cannot read {}: {e}", self.ci_config.display()))),
        }
    }

    /// What the image's size is compared with.
    pub(crate) fn baseline(&self, from: &Loader<'_>) -> Result<Option<Baseline>, CommandError> {
        if let Some(path) = &self.baseline {
            let shown = path.display();
            let text = std::fs::read(path)
                .map_err(|e| CommandError::new(Kind::Environment, format!("cannot read {shown}: {e}")))?;
            let baseline = json::baseline(&text).map_err(|e| {
                CommandError::usage(format!("{shown} is no report to compare with: {e}"))
                    .hint("make one with: layercake analyse --format json IMAGE")
            })?;
            return Ok(Some(baseline));
        }
        let Some(name) = &self.previous else { return Ok(None) };
        let image = from.load(name, None)?;
        let size = image.layers.iter().map(|l| l.size).sum();
        Ok(Some(Baseline { name: name.clone(), size }))
    }
}

/// An error of the analyser, as the user sees it.
pub(crate) fn failed(name: &str) -> impl Fn(analyse::LoadError) -> CommandError + '_ {
    move |e| {
        if matches!(e, analyse::LoadError::Cancelled) {
            return CommandError::new(Kind::Interrupted, "interrupted");
        }
        CommandError::new(Kind::User, format!("cannot analyse {name}: {}", chain(&e)))
    }
}
