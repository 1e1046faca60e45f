//! SOURCE_DATE_EPOCH that is no number: the date of something that the build is made of.
//!
//! | value | the date is that of |
//! |---|---|
//! | `context` | the build's context: the commit, `Last-Modified`, or the newest file of an archive |
//! | name of a named context | that context, in the same way |
//! | name of a stage | the one source of the one ADD of that stage, which starts from scratch and does nothing else |
//!
//! Something that has no date (a directory, an image) is as if nothing had been given. The forms are BuildKit's
//! (`dockerfile2llb/epoch.go`).

use std::collections::BTreeMap;

use dockerfile::{Dockerfile, Instruction};
use oci::Digest;

use super::dispatch::remote;
use super::stages::{at, global_values};
use super::{Choices, CopySource, PlanError};
use crate::fetch::GitRef;

/// What gives a build its date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateSource {
    /// The number of seconds itself.
    Given(i64),
    /// The context.
    Context,
    /// A named context.
    Named(String),
    /// A file by URL.
    Http(String, Option<Digest>),
    /// A repository.
    Git(Box<GitRef>),
}

/// What SOURCE_DATE_EPOCH names, from `--build-arg` or the file's head; `None` if it is not set or empty.
pub fn date_source<E>(
    file: &Dockerfile,
    choices: &Choices,
    is_named_context: &dyn Fn(&str) -> bool,
) -> Result<Option<DateSource>, PlanError<E>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let globals = global_values(file, choices)?;
    let given = choices.build_args.get(NAME).or_else(|| globals.get(NAME));
    let value = match given.map(String::as_str) {
        None | Some("") => return Ok(None),
        Some(v) => v.to_owned(),
    };
    if let Ok(secs) = value.parse() {
        return Ok(Some(DateSource::Given(secs)));
    }
    if value == "context" {
        return Ok(Some(DateSource::Context));
    }
    if is_named_context(&value) {
        return Ok(Some(DateSource::Named(value)));
    }
    stage_source(file, choices, globals, &value)
}

/// The source of the one ADD of a stage.
fn stage_source<E>(
    file: &Dockerfile,
    choices: &Choices,
    mut args: BTreeMap<String, String>,
    name: &str,
) -> Result<Option<DateSource>, PlanError<E>> {
    let escape = file.directives.escape;
    args.remove("SOURCE_DATE_EPOCH");
    let mut inside = false;
    let mut found = None;
    let mut line = None;
    for s in &file.statements {
        if let Instruction::From(from) = &s.instruction {
            if inside {
                break;
            }
            inside = from.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name));
            if inside {
                line = Some(s.first_line);
                let base = expand(&from.image, &args, escape, line)?;
                if base != "scratch" {
                    return Err(at(line, "SOURCE_DATE_EPOCH stage must use FROM scratch"));
                }
            }
            continue;
        }
        if !inside {
            continue;
        }
        let here = Some(s.first_line);
        match &s.instruction {
            Instruction::Arg(defs) => {
                for def in defs {
                    let value = match (choices.build_args.get(&def.key), &def.value) {
                        (Some(v), _) => v.clone(),
                        (None, Some(default)) => expand(default, &args, escape, here)?,
                        (None, None) => continue,
                    };
                    args.insert(def.key.clone(), value);
                }
            }
            Instruction::Add(add) => {
                if found.is_some() {
                    return Err(at(here, "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"));
                }
                let [source] = add.sources.as_slice() else {
                    return Err(at(
                        here,
                        "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source",
                    ));
                };
                let source = expand(source, &args, escape, here)?;
                let checksum = match &add.checksum {
                    Some(c) => Some(expand(c, &args, escape, here)?).filter(|c| !c.is_empty()),
                    None => None,
                };
                found = Some(match remote(&source).map_err(|e| at(here, e.to_string()))? {
                    Some(CopySource::Http { url, .. }) => {
                        let digest = checksum.map(|c| c.parse()).transpose();
                        DateSource::Http(
                            url,
                            digest.map_err(|e: oci::digest::DigestError| at(here, e.to_string()))?,
                        )
                    }
                    Some(CopySource::Git(mut git)) => {
                        git.checksum = checksum.or(git.checksum);
                        DateSource::Git(git)
                    }
                    _ => {
                        let text = "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD";
                        return Err(at(here, text));
                    }
                });
            }
            other => {
                let name = other.name();
                let text = format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {name}"
                );
                return Err(at(here, text));
            }
        }
    }
    match (line, found) {
        (_, Some(source)) => Ok(Some(source)),
        (Some(_), None) => Err(at(line, "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")),
        (None, None) => Err(PlanError::Whole {
            message: format!("invalid SOURCE_DATE_EPOCH: {name}"),
            help: Some(
                "it is a number of seconds since 1970, context, or the name of a named context or stage"
                    .into(),
            ),
        }),
    }
}

fn expand<E>(
    text: &str,
    args: &BTreeMap<String, String>,
    escape: char,
    line: Option<u32>,
) -> Result<String, PlanError<E>> {
    let word = dockerfile::expand::word(text, &|k| args.get(k).cloned(), escape);
    word.map(|w| w.text).map_err(|e| at(line, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, args: &[(&str, &str)]) -> Result<Option<DateSource>, String> {
        let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let choices = Choices { build_args, ..Choices::default() };
        let source =
            date_source::<std::io::Error>(&dockerfile::parse(text).file, &choices, &|n| n == "named");
        source.map_err(|e| e.to_string())
    }

    fn given(value: &str) -> Result<Option<DateSource>, String> {
        const TEXT: &str = "ARG H=h\nFROM scratch AS src\nARG H\nARG P=x\nADD http://${H:-h}/$P /\nFROM scratch AS repo\n\
                            ADD --checksum=abc https://h/r.git#v1 /\nFROM scratch AS two\nADD http://h/a /\nADD http://h/b /\n\
                            FROM scratch AS both\nADD http://h/a http://h/b /\nFROM scratch AS local\nADD a /\n\
                            FROM scratch AS run\nRUN x\nFROM alpine AS based\nADD http://h/a /\nFROM scratch AS none\nFROM scratch\n";
        of(TEXT, &[("SOURCE_DATE_EPOCH", value)])
    }

    #[test]
    fn what_gives_the_date() {
        assert_eq!(of("FROM scratch", &[]), Ok(None));
        assert_eq!(given(""), Ok(None));
        assert_eq!(given("17"), Ok(Some(DateSource::Given(17))));
        assert_eq!(given("-3"), Ok(Some(DateSource::Given(-3))));
        assert_eq!(of("ARG SOURCE_DATE_EPOCH=5\nFROM scratch", &[]), Ok(Some(DateSource::Given(5))));
        assert_eq!(given("context"), Ok(Some(DateSource::Context)));
        assert_eq!(given("named"), Ok(Some(DateSource::Named("named".into()))));
        assert_eq!(given("SRC"), Ok(Some(DateSource::Http("http://h/x".into(), None))));
        let Ok(Some(DateSource::Git(git))) = given("repo") else { panic!("no repository") };
        assert_eq!((git.reference.as_deref(), git.checksum.as_deref()), (Some("v1"), Some("abc")));
    }

    #[test]
    fn what_cannot() {
        for (value, said) in [
            ("nope", "invalid SOURCE_DATE_EPOCH: nope"),
            ("two", "exactly one remote ADD"),
            ("both", "exactly one remote ADD source"),
            ("local", "must be a single HTTP(S) or Git ADD"),
            ("run", "unsupported RUN"),
            ("based", "must use FROM scratch"),
            ("none", "exactly one remote ADD"),
        ] {
            let e = given(value).unwrap_err();
            assert!(e.contains(said), "{value}: {e}");
        }
    }
}
