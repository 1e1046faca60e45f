//! `COPY --from=$NAME`, which BuildKit refuses: with [`Choices::expand_from`] variables are expanded there before stages are linked.
//!
//! Which stages a build needs must be known before base images are, so only ARGs count here, and no ENV: those of the stage up to the
//! instruction (also inherited from a stage that it starts from), then those of the file's head, as for FROM. A name that has no value,
//! or is empty in the end, is an error. Triggers of base images are left as they are.

use std::collections::BTreeMap;

use dockerfile::{ArgDef, Dockerfile, Instruction};

use super::stages::{Globals, at};
use super::{Choices, PlanError};

type Args = BTreeMap<String, String>;

/// The file with all `--from` expanded.
pub(super) fn expanded<E>(
    file: &Dockerfile,
    choices: &Choices,
    globals: &Globals,
) -> Result<Dockerfile, PlanError<E>> {
    let mut out = file.clone();
    let escape = file.directives.escape;
    let mut stages: BTreeMap<String, Args> = BTreeMap::new();
    let (mut name, mut args) = (None, Args::new());
    for s in &mut out.statements {
        let line = Some(s.first_line);
        match &mut s.instruction {
            Instruction::From(from) => {
                if let Some(n) = name.take() {
                    stages.insert(n, std::mem::take(&mut args));
                }
                let base = dockerfile::expand::word(&from.image, &|k| globals.args.get(k).cloned(), escape);
                // What is wrong with it is told when the stage is made.
                let base = base.map(|e| e.text).unwrap_or_default();
                args = stages.get(&base).cloned().unwrap_or_default();
                name = from.name.as_ref().map(|n| n.to_lowercase());
            }
            Instruction::Arg(defs) => {
                declare(defs, &mut args, choices, globals, escape);
            }
            Instruction::Copy(copy) => {
                if let Some(from) = &mut copy.from {
                    *from =
                        word(from, &|k| args.get(k).or_else(|| globals.args.get(k)).cloned(), escape, line)?;
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

/// ARGs of a stage. A default that cannot be expanded is told when the stage is made.
fn declare(defs: &[ArgDef], args: &mut Args, choices: &Choices, globals: &Globals, escape: char) {
    for def in defs {
        let default = def.value.as_ref().and_then(|v| {
            let word = dockerfile::expand::word(v, &|k| args.get(k).cloned(), escape);
            word.ok().map(|e| e.text)
        });
        let given = choices.build_args.get(&def.key).cloned();
        if let Some(v) = given.or(default).or_else(|| globals.args.get(&def.key).cloned()) {
            args.insert(def.key.clone(), v);
        }
    }
}

fn word<E>(
    text: &str,
    get: &dyn Fn(&str) -> Option<String>,
    escape: char,
    line: Option<u32>,
) -> Result<String, PlanError<E>> {
    let word = dockerfile::expand::word(text, get, escape).map_err(|e| at(line, e.to_string()))?;
    if !word.text.is_empty() {
        return Ok(word.text);
    }
    Err(PlanError::At {
        line,
        message: format!("COPY --from={text} names nothing"),
        help: word.unset.first().map(|v| {
            format!(
                "no ARG gives {v} a value: declare it above with ARG {v}=NAME, or use --build-arg {v}=NAME"
            )
        }),
    })
}
