//! The flags of an instruction against those that it knows.
//!
//! Source: BuildKit, frontend/dockerfile/instructions/bflag.go: a flag may be given once unless it collects
//! values; boolean flags take `true`, `false` (in any case) or nothing; others need `=`.

use crate::suggest::{did_you_mean, nearest};
use crate::syntax::Node;
use crate::{Class, Diagnostic, Flag, Span};

/// How a flag takes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    One,
    Many,
}

/// The flags of one instruction that are right.
#[derive(Debug)]
pub(crate) struct Flags {
    /// Name, value, place.
    given: Vec<(&'static str, String, Span)>,
}

/// The flags of `node` as they are written.
pub(crate) fn written(node: &Node) -> Vec<Flag> {
    node.flags
        .iter()
        .map(|word| {
            let text = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            Flag { name: name.to_owned(), value, span: word.span }
        })
        .collect()
}

impl Flags {
    /// Compares the flags of `node` with those it may have; what is wrong goes to `problems`.
    pub(crate) fn read(node: &Node, known: &[(&'static str, Kind)], problems: &mut Vec<Diagnostic>) -> Flags {
        let mut flags = Flags { given: Vec::new() };
        for flag in written(node) {
            let Flag { name, value, span } = flag;
            let mut problem = |code, message: String, help: Option<String>| {
                let line = node.first_line;
                problems
                    .push(Diagnostic::error(Class::Instruction, code, message, span, line).maybe_help(help));
            };
            let Some(&(known_name, kind)) = known.iter().find(|(known, _)| *known == name) else {
                let similar = nearest(&name, known.iter().map(|(name, _)| *name));
                let help = did_you_mean(similar.map(|s| format!("--{s}"))).or_else(|| list(known));
                let keyword = node.keyword.to_uppercase();
                problem("UnknownFlag", format!("{keyword} has no flag --{name}"), help);
                continue;
            };
            if kind != Kind::Many && flags.has(known_name) {
                problem("DuplicateFlag", format!("flag --{name} is given twice"), None);
                continue;
            }
            let value = match (kind, value) {
                (Kind::Bool, None) => "true".to_owned(),
                (Kind::Bool, Some(value)) => match value.to_lowercase().as_str() {
                    word @ ("true" | "false") => word.to_owned(),
                    _ => {
                        let message = format!("flag --{name} must be true or false, not {value:?}");
                        problem("InvalidFlagValue", message, None);
                        continue;
                    }
                },
                (_, Some(value)) => value,
                (_, None) => {
                    let help = Some(format!("write --{name}=VALUE, without a blank"));
                    problem("MissingFlagValue", format!("flag --{name} needs a value"), help);
                    continue;
                }
            };
            flags.given.push((known_name, value, span));
        }
        flags
    }

    fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, ..)| *given == name)
    }

    /// All values of a flag, with their places.
    pub(crate) fn places(&self, name: &str) -> impl Iterator<Item = (&str, Span)> {
        self.given
            .iter()
            .filter(move |(given, ..)| *given == name)
            .map(|(_, value, span)| (&value[..], *span))
    }

    /// All values of a flag.
    pub(crate) fn many(&self, name: &str) -> Vec<String> {
        self.places(name).map(|(value, _)| value.to_owned()).collect()
    }

    /// The value of a flag, even if it is empty.
    pub(crate) fn given_value(&self, name: &str) -> Option<String> {
        self.places(name).next().map(|(value, _)| value.to_owned())
    }

    /// The value of a flag; an empty one is as none.
    pub(crate) fn one(&self, name: &str) -> Option<String> {
        self.given_value(name).filter(|value| !value.is_empty())
    }

    /// The value of a boolean flag.
    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        self.given_value(name).map(|value| value == "true")
    }
}

fn list(known: &[(&'static str, Kind)]) -> Option<String> {
    let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    match names.is_empty() {
        true => None,
        false => Some(format!("it has {}", names.join(", "))),
    }
}
