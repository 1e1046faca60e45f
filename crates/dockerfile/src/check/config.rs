//! Which checks run: the value of the `check` directive.
//!
//! Up to three options separated by `;`: `skip=` and `experimental=` with rule names separated by commas or `all`,
//! and `error=` with a boolean. Source: BuildKit, frontend/dockerfile/linter/linter.go.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Rule;
use crate::syntax::directives;

/// A set of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    all: bool,
    names: BTreeSet<String>,
}

impl Selection {
    fn parse(value: &str) -> Selection {
        match value.trim() {
            "all" => Selection { all: true, names: BTreeSet::new() },
            list => {
                Selection { all: false, names: list.split(',').map(|name| name.trim().to_owned()).collect() }
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn add(&mut self, other: Selection) {
        self.all |= other.all;
        self.names.extend(other.names);
    }
}

/// The choice of checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    skip: Selection,
    experimental: Selection,
    error: bool,
}

/// An option that does not exist or has a wrong value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid option {0:?} for check: must be skip=, error= or experimental=")]
pub(super) struct InvalidOption(String);

impl Config {
    /// Reads the value of a directive.
    pub(super) fn parse(text: &str) -> Result<Config, InvalidOption> {
        let mut config = Config::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for option in text.trim().splitn(3, ';') {
            let invalid = || InvalidOption(option.to_owned());
            let (name, value) = option.split_once('=').ok_or_else(invalid)?;
            match name.trim() {
                "skip" => config.skip = Selection::parse(value),
                "experimental" => config.experimental = Selection::parse(value),
                "error" => {
                    config.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(invalid()),
                    }
                }
                _ => return Err(invalid()),
            }
        }
        Ok(config)
    }

    /// This choice with what comments above an instruction add to it; what is not valid there does not count.
    pub(super) fn with_comments<'c>(&self, comments: impl Iterator<Item = &'c String>) -> Cow<'_, Config> {
        let mut merged = Cow::Borrowed(self);
        for comment in comments {
            let Ok(Some(directive)) = directives::Reader::new("").line(comment) else { continue };
            if directive.name != "check" {
                continue;
            }
            let value = directive.value.split(' ').next().unwrap_or_default();
            if let Ok(more) = Config::parse(value) {
                let merged = merged.to_mut();
                merged.skip.add(more.skip);
                merged.experimental.add(more.experimental);
            }
        }
        merged
    }

    /// Whether a rule is to be run.
    ///
    /// Our own are known with and without what their names begin with.
    pub(super) fn runs(&self, rule: &Rule) -> bool {
        let short = rule.name.strip_prefix(super::OWN).unwrap_or(rule.name);
        match rule.experimental {
            true => self.experimental.has(rule.name),
            false => !self.skip.has(rule.name) && !self.skip.has(short),
        }
    }

    /// Whether findings are errors.
    pub(super) fn errors(&self) -> bool {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let config = Config::parse("skip=A, B;error=true;experimental=all").expect("valid");
        assert!(config.skip.has("A") && config.skip.has("B") && !config.skip.has("C"));
        assert!(config.error && config.experimental.has("X"));
        assert_eq!(Config::parse(" "), Ok(Config::default()));
        for bad in ["skip", "error=maybe", "what=A", "skip=all;"] {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comments_add() {
        let base = Config::parse("skip=A").expect("valid");
        let comments = ["check=skip=B why".to_owned(), "hello".to_owned(), "check=nonsense".to_owned()];
        let merged = base.with_comments(comments.iter());
        assert!(merged.skip.has("A") && merged.skip.has("B"));
        assert!(matches!(base.with_comments([].iter()), Cow::Borrowed(_)));
    }
}
