//! Rules for CI: dive's three, and our own.
//!
//! # The file
//!
//! `.dive-ci`, as dive takes it, with a section of ours that dive does not look at:
//!
//! ```text
//! rules:
//!   lowestEfficiency: 0.9               # fails below; default 0.9
//!   highestWastedBytes: 20MB            # fails above; default disabled
//!   highestUserWastedPercent: 0.1       # a fraction; fails above; default 0.1
//! layercake:
//!   max-size: 500MB                     # bytes of content in all layers
//!   max-packed-size: 200MB              # bytes of the compressed layers
//!   max-layer-size: 100MB
//!   max-growth: 10MB                    # against the image or baseline that is named
//!   max-layers: 20
//!   max-dead: 5MB                       # dead bytes in your layers (not the base's)
//!   min-efficiency: 0.95                # the exact one
//!   forbid: ["*.pem", "/root/.ssh"]     # in no layer, also where a later one deletes them
//!   allow: ["/etc/ssl/**"]              # but these; and what they mean is never counted by max-dead
//! ```
//!
//! A list is in brackets, or one `- item` a line. `disabled`, `off`, `false` and nothing turn a rule off. Sizes are a number with B, kB,
//! MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB. dive's rules use dive's figures ([`crate::dive`]), with dive's comparisons (a value that
//! equals the threshold passes, and so does NaN).

use serde::Serialize;

use crate::account::{Class, Owner};
use crate::dive::Score;
use crate::glob::Glob;
use crate::image::Image;

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It is turned off.
    Skip,
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name.
    pub rule: &'static str,
    /// What it says.
    pub verdict: Verdict,
    /// The value and the threshold, or why it is skipped.
    pub message: String,
}

/// The result of all rules.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// In a fixed order: dive's, then ours.
    pub outcomes: Vec<Outcome>,
}

impl Gate {
    /// Whether no rule fails.
    pub fn passes(&self) -> bool {
        self.outcomes.iter().all(|o| o.verdict != Verdict::Fail)
    }
}

/// Rules and their thresholds; none where a rule is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// dive: least efficiency.
    pub lowest_efficiency: Option<f64>,
    /// dive: most wasted bytes.
    pub highest_wasted_bytes: Option<u64>,
    /// dive: largest fraction of wasted bytes in all layers but the first.
    pub highest_user_wasted: Option<f64>,
    /// Most bytes of content in all layers.
    pub max_size: Option<u64>,
    /// Most bytes of the compressed layers.
    pub max_packed_size: Option<u64>,
    /// Most bytes of content in one layer.
    pub max_layer_size: Option<u64>,
    /// Most bytes more than the baseline has.
    pub max_growth: Option<u64>,
    /// Most layers.
    pub max_layers: Option<usize>,
    /// Most dead bytes in your layers.
    pub max_dead: Option<u64>,
    /// Least exact efficiency.
    pub min_efficiency: Option<f64>,
    /// Paths that no layer may have.
    pub forbid: Vec<Glob>,
    /// Exceptions.
    pub allow: Vec<Glob>,
}

impl Default for Rules {
    /// dive's defaults, and none of ours.
    fn default() -> Rules {
        Rules {
            lowest_efficiency: Some(0.9),
            highest_wasted_bytes: None,
            highest_user_wasted: Some(0.1),
            max_size: None,
            max_packed_size: None,
            max_layer_size: None,
            max_growth: None,
            max_layers: None,
            max_dead: None,
            min_efficiency: None,
            forbid: Vec::new(),
            allow: Vec::new(),
        }
    }
}

/// What an image is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// What it is called.
    pub name: String,
    /// Bytes of content in all layers.
    pub size: u64,
}

/// Why a file of rules is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A line that cannot be understood.
    #[error("line {line}: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A value that a rule cannot have.
    #[error("{rule}: {what}")]
    Value {
        /// The rule.
        rule: String,
        /// What is wrong.
        what: String,
    },
}

fn disabled(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "" | "disabled" | "off" | "false")
}

/// A size as rules have it: `20MB`, `1.5 GiB`, `1,000`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().replace(',', "");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let factor: f64 = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "ti" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

/// A fraction, from 0 to 1.
fn fraction(rule: &str, value: &str) -> Result<f64, RulesError> {
    let bad =
        || RulesError::Value { rule: rule.to_owned(), what: format!("{value:?} is no number from 0 to 1") };
    let n: f64 = value.trim().parse().map_err(|_| bad())?;
    if (0.0..=1.0).contains(&n) { Ok(n) } else { Err(bad()) }
}

impl Rules {
    /// Sets one rule by its name in the file (or on dive's command line), turned off by `disabled`.
    pub fn set(&mut self, rule: &str, value: &str) -> Result<(), RulesError> {
        let bad = |what: String| RulesError::Value { rule: rule.to_owned(), what };
        let off = disabled(value);
        let size = || match parse_size(value) {
            _ if off => Ok(None),
            Some(n) => Ok(Some(n)),
            None => Err(bad(format!("{value:?} is no size, such as 20MB"))),
        };
        let part = || if off { Ok(None) } else { fraction(rule, value).map(Some) };
        match rule {
            "lowestEfficiency" | "lowest-efficiency" | "lowest-efficiency-threshold" => {
                self.lowest_efficiency = part()?;
            }
            "highestWastedBytes" | "highest-wasted-bytes" => self.highest_wasted_bytes = size()?,
            "highestUserWastedPercent" | "highest-user-wasted-percent" => self.highest_user_wasted = part()?,
            "max-size" => self.max_size = size()?,
            "max-packed-size" => self.max_packed_size = size()?,
            "max-layer-size" => self.max_layer_size = size()?,
            "max-growth" => self.max_growth = size()?,
            "max-dead" => self.max_dead = size()?,
            "min-efficiency" => self.min_efficiency = part()?,
            "max-layers" if off => self.max_layers = None,
            "max-layers" => {
                let n = value.trim().parse().map_err(|_| bad(format!("{value:?} is no number")))?;
                self.max_layers = Some(n);
            }
            "forbid" => self.forbid.push(Glob::new(value)),
            "allow" => self.allow.push(Glob::new(value)),
            _ => return Err(bad("there is no such rule".to_owned())),
        }
        Ok(())
    }

    /// Reads a file of rules on top of the defaults. Rules that dive's file has and nobody knows are an error: they would not be checked.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        let mut rules = Rules::default();
        let mut list: Option<String> = None;
        for (n, raw) in text.lines().enumerate() {
            let at = |what: String| RulesError::Line { line: n + 1, what };
            let line = without_comment(raw).trim_end();
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed == "---" {
                continue;
            }
            if let Some(item) = trimmed.strip_prefix("- ") {
                let key = list.clone().ok_or_else(|| at("an item without a list".to_owned()))?;
                rules.set(&key, unquoted(item))?;
                continue;
            }
            list = None;
            let (key, value) = trimmed
                .split_once(':')
                .ok_or_else(|| at(format!("expected `key: value`, not {trimmed:?}")))?;
            let (key, value) = (unquoted(key), value.trim());
            if matches!(key, "rules" | "layercake") && value.is_empty() {
                continue;
            }
            let is_list = matches!(key, "forbid" | "allow");
            match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                Some(items) if is_list => {
                    for item in items.split(',').map(unquoted).filter(|i| !i.is_empty()) {
                        rules.set(key, item)?;
                    }
                }
                _ if is_list && value.is_empty() => list = Some(key.to_owned()),
                _ => rules.set(key, unquoted(value)).map_err(|e| at(e.to_string()))?,
            }
        }
        Ok(rules)
    }

    /// Checks an image.
    pub fn check(&self, image: &Image, score: &Score, baseline: Option<&Baseline>) -> Gate {
        let mut outcomes = self.dive(score);
        self.own(image, baseline, &mut outcomes);
        Gate { outcomes }
    }

    fn dive(&self, score: &Score) -> Vec<Outcome> {
        let row = |rule, limit: Option<String>, fails: bool, message: String| match limit {
            None => Outcome { rule, verdict: Verdict::Skip, message: "disabled".to_owned() },
            Some(limit) if fails => {
                Outcome { rule, verdict: Verdict::Fail, message: message.replace("{}", &limit) }
            }
            Some(limit) => Outcome { rule, verdict: Verdict::Pass, message: limit },
        };
        // Sorted by name, as dive prints them.
        vec![
            row(
                "highestUserWastedPercent",
                self.highest_user_wasted.map(|t| t.to_string()),
                self.highest_user_wasted.is_some_and(|t| score.user_wasted > t),
                format!(
                    "too many bytes wasted, relative to the user bytes added (%-user-wasted-bytes={:.2} > threshold={{}})",
                    score.user_wasted
                ),
            ),
            row(
                "highestWastedBytes",
                self.highest_wasted_bytes.map(|t| t.to_string()),
                self.highest_wasted_bytes.is_some_and(|t| score.wasted > t),
                format!("too many bytes wasted (wasted-bytes={} > threshold={{}})", score.wasted),
            ),
            row(
                "lowestEfficiency",
                self.lowest_efficiency.map(|t| t.to_string()),
                self.lowest_efficiency.is_some_and(|t| t > score.efficiency),
                format!("image efficiency is too low (efficiency={:.2} < threshold={{}})", score.efficiency),
            ),
        ]
    }

    fn own(&self, image: &Image, baseline: Option<&Baseline>, out: &mut Vec<Outcome>) {
        let size: u64 = image.layers.iter().map(|l| l.size).sum();
        let mut most = |rule, limit: Option<u64>, value: u64, what: &str| {
            if let Some(limit) = limit {
                let verdict = if value > limit { Verdict::Fail } else { Verdict::Pass };
                out.push(Outcome { rule, verdict, message: format!("{value} {what}, at most {limit}") });
            }
        };
        most("max-size", self.max_size, size, "bytes");
        let packed = image.layers.iter().map(|l| l.packed).sum();
        most("max-packed-size", self.max_packed_size, packed, "compressed bytes");
        if let Some(l) = image.layers.iter().max_by_key(|l| (l.size, std::cmp::Reverse(l.index))) {
            most("max-layer-size", self.max_layer_size, l.size, &format!("bytes in layer {}", l.index));
        }
        most("max-layers", self.max_layers.map(|n| n as u64), image.layers.len() as u64, "layers");
        most("max-dead", self.max_dead, self.dead(image), "dead bytes in your layers");
        if let (Some(_), Some(b)) = (self.max_growth, baseline) {
            let what = format!("bytes more than {} ({})", b.name, b.size);
            most("max-growth", self.max_growth, size.saturating_sub(b.size), &what);
        } else if self.max_growth.is_some() {
            let message = "there is nothing to compare with".to_owned();
            out.push(Outcome { rule: "max-growth", verdict: Verdict::Skip, message });
        }
        if let Some(least) = self.min_efficiency {
            let is = image.accounts().efficiency();
            let verdict = if is < least { Verdict::Fail } else { Verdict::Pass };
            let message = format!("exact efficiency {is:.4}, at least {least}");
            out.push(Outcome { rule: "min-efficiency", verdict, message });
        }
        if !self.forbid.is_empty() {
            out.push(self.forbidden(image));
        }
    }

    /// Dead bytes in layers that are not the base's, what is allowed left out.
    fn dead(&self, image: &Image) -> u64 {
        let mut sum = 0;
        for layer in image.layers.iter().filter(|l| image.owner(l.index) == Owner::Yours) {
            for (id, e) in image.layer_entries(layer.index) {
                if let Some(c) = image.accounts().charge(id)
                    && c.cause.class() == Class::Dead
                    && (self.allow.is_empty() || !self.allowed(&image.path(e.place)))
                {
                    sum += e.size;
                }
            }
        }
        sum
    }

    fn allowed(&self, path: &[u8]) -> bool {
        self.allow.iter().any(|g| g.matches(path))
    }

    fn forbidden(&self, image: &Image) -> Outcome {
        let mut found: Vec<String> = Vec::new();
        let mut count = 0;
        for layer in &image.layers {
            for (_, e) in image.layer_entries(layer.index) {
                if e.kind == crate::Kind::Whiteout {
                    continue;
                }
                let path = image.path(e.place);
                let Some(glob) = self.forbid.iter().find(|g| g.matches(&path)) else { continue };
                if self.allowed(&path) {
                    continue;
                }
                count += 1;
                if found.len() < 5 {
                    let path = image.show(e.place);
                    found.push(format!("{path} in layer {} ({})", layer.index, glob.text()));
                }
            }
        }
        let (verdict, message) = match count - found.len() {
            _ if count == 0 => (Verdict::Pass, "no forbidden path in any layer".to_owned()),
            0 => (Verdict::Fail, found.join(", ")),
            more => (Verdict::Fail, format!("{} and {more} more", found.join(", "))),
        };
        Outcome { rule: "forbid", verdict, message }
    }
}

/// A line up to its comment: `#` at the start or behind a blank, outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return &line[..i],
            None => {}
        }
        before = c;
    }
    line
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dives_files_are_read() {
        let text = "rules:\n  # a comment\n  lowestEfficiency: 0.95\n  highestWastedBytes: \"20MB\"\n\n  highestUserWastedPercent: disabled # off\n";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(rules.lowest_efficiency, Some(0.95));
        assert_eq!(rules.highest_wasted_bytes, Some(20_000_000));
        assert_eq!(rules.highest_user_wasted, None);
        assert_eq!(Rules::parse("").unwrap(), Rules::default());
        let plain = Rules::parse("lowest-efficiency-threshold: '0.5'").unwrap();
        assert_eq!(plain.lowest_efficiency, Some(0.5));
    }

    #[test]
    fn our_section_and_lists() {
        let text = "layercake:\n  max-size: 1.5 GiB\n  max-layers: 12\n  forbid: [\"*.pem\", /root/.ssh]\n  allow:\n    - /etc/ssl\n    - '*.crt'\n";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(rules.max_size, Some(1_610_612_736));
        assert_eq!(rules.max_layers, Some(12));
        assert_eq!(rules.forbid.iter().map(Glob::text).collect::<Vec<_>>(), ["*.pem", "/root/.ssh"]);
        assert_eq!(rules.allow.iter().map(Glob::text).collect::<Vec<_>>(), ["/etc/ssl", "*.crt"]);
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for bad in [
            "rules:\n  lowestEfficiency: 2",
            "rules:\n  lowestEfficiency: x",
            "rules:\n  highestWastedBytes: many",
            "layercake:\n  max-sise: 1MB",
            "rules\n",
            "- x\n",
        ] {
            assert!(Rules::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("20MB", Some(20_000_000)),
            ("1,000", Some(1000)),
            ("2 KiB", Some(2048)),
            ("1.5k", Some(1500)),
            ("0", Some(0)),
            ("MB", None),
            ("-1", None),
            ("1 parsec", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }
}
