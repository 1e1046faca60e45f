//! What a Dockerfile offers to those who build it: its targets, and the arguments, secrets and agents that a target takes.
//!
//! The rules are those of BuildKit's subrequests `frontend.targets` and `frontend.outline` (dockerfile2llb/outline.go):
//! - a comment `# NAME text` above FROM or ARG describes the stage or argument of that name;
//! - an argument counts if a needed stage declares it, if its FROM uses it, or if the default of one that counts uses it; arguments
//!   that exist without being declared do not;
//! - a stage needs what it builds on and what it takes files from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::expand;
use crate::instruction::{Dockerfile, FromInst, Instruction, Statement};
use crate::mount::{self, Kind};

/// How many bytes of variables stages may inherit in all; beyond that they inherit none.
const MAX_INHERITED: usize = 64 << 20;

/// First and last line of an instruction, counted from 1.
pub type Lines = (u32, u32);

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; `None` if it has none.
    pub name: Option<String>,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Whether it is built if none is named.
    pub default: bool,
    /// What it builds on, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Where its FROM stands.
    pub lines: Lines,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Its value in this build; empty if it has none.
    pub value: String,
    /// Where it is declared.
    pub lines: Lines,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is first used.
    pub lines: Lines,
}

/// What a target takes. Lists are in the order of lines, arguments of one line in that of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The name of the target; `None` if it has none.
    pub name: Option<String>,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Arguments.
    pub args: Vec<Arg>,
    /// Secrets.
    pub secrets: Vec<Need>,
    /// SSH agents.
    pub ssh: Vec<Need>,
}

/// The values of arguments by name.
pub type Values = BTreeMap<String, String>;

fn described(comments: &[String], name: Option<&str>) -> Option<String> {
    let name = name?;
    comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
}

fn lines(statement: &Statement) -> Lines {
    (statement.first_line, statement.last_line)
}

/// The stages, in order.
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let mut out: Vec<Target> = Vec::new();
    for statement in &file.statements {
        let Instruction::From(from) = &statement.instruction else { continue };
        out.push(Target {
            name: from.name.clone(),
            description: described(&statement.comments, from.name.as_deref()),
            default: false,
            base: from.image.clone(),
            platform: from.platform.clone(),
            lines: lines(statement),
        });
    }
    if let Some(last) = out.last_mut() {
        last.default = true;
    }
    out
}

/// A global argument.
#[derive(Clone)]
struct Global {
    arg: Arg,
    /// The arguments that its default uses.
    uses: Vec<String>,
}

struct Stage<'a> {
    from: &'a FromInst,
    statement: &'a Statement,
    body: &'a [Statement],
    /// The stage that it builds on.
    parent: Option<usize>,
    /// The arguments that its FROM uses.
    used: Vec<String>,
}

/// What a target takes, with the values that `given` (`--build-arg`) sets; `built_in` are the arguments that exist without being declared
/// (platforms). Without a target, it is the last stage. `None` if there is no such stage.
pub fn outline(
    file: &Dockerfile,
    target: Option<&str>,
    given: &Values,
    built_in: &Values,
) -> Option<Outline> {
    let escape = file.directives.escape;
    let is_from = |s: &Statement| matches!(s.instruction, Instruction::From(_));
    let first = file.statements.iter().position(is_from)?;
    let (head, rest) = file.statements.split_at(first);
    let mut values = built_in.clone();
    let mut globals: BTreeMap<String, Global> = BTreeMap::new();
    for statement in head {
        let Instruction::Arg(args) = &statement.instruction else { continue };
        for arg in args {
            let mut uses = Vec::new();
            let value = match (given.get(&arg.key), &arg.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let found =
                        expand::word(default, &|name| values.get(name).cloned(), escape).unwrap_or_default();
                    uses = found.used;
                    Some(found.text)
                }
                (None, None) => None,
            };
            let name = arg.key.clone();
            if let Some(value) = &value {
                values.insert(name.clone(), value.clone());
            }
            let description = described(&statement.comments, Some(&name));
            let arg = Arg {
                name: name.clone(),
                description,
                value: value.unwrap_or_default(),
                lines: lines(statement),
            };
            globals.insert(name, Global { arg, uses });
        }
    }
    let stages = stages(rest, &values, escape);
    let number = match target {
        None => stages.len().checked_sub(1)?,
        Some(wanted) => find(&stages, &wanted.to_lowercase(), stages.len())?,
    };
    let mut out = Outline {
        name: stages[number].from.name.clone(),
        description: described(&stages[number].statement.comments, stages[number].from.name.as_deref()),
        ..Outline::default()
    };
    let needed = needed(&stages, number);
    // What a stage sets is seen by those that build on it, which stand below it.
    let mut ends: BTreeMap<usize, Values> = BTreeMap::new();
    let mut inherited = 0;
    for &at in needed.iter().collect::<BTreeSet<_>>() {
        let mut scope = Values::new();
        if let Some(above) = stages[at].parent.and_then(|parent| ends.get(&parent)) {
            inherited += above.iter().map(|(name, value)| 64 + name.len() + value.len()).sum::<usize>();
            if inherited < MAX_INHERITED {
                scope.clone_from(above);
            }
        }
        let mut nothing = (Seen::default(), Outline::default());
        nothing.0.stage(&stages[at], &globals, &values, given, escape, &mut scope, &mut nothing.1);
        ends.insert(at, scope);
    }
    let mut seen = Seen::default();
    for at in needed {
        let above = stages[at].parent.and_then(|parent| ends.get(&parent));
        let mut scope = above.filter(|_| inherited < MAX_INHERITED).cloned().unwrap_or_default();
        seen.stage(&stages[at], &globals, &values, given, escape, &mut scope, &mut out);
    }
    out.args.sort_by(|a, b| (a.lines, &a.name).cmp(&(b.lines, &b.name)));
    out.secrets.sort_by_key(|need| need.lines);
    out.ssh.sort_by_key(|need| need.lines);
    Some(out)
}

fn stages<'a>(statements: &'a [Statement], values: &Values, escape: char) -> Vec<Stage<'a>> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut out: Vec<Stage<'a>> = Vec::new();
    for group in statements.chunk_by(|_, next| !matches!(next.instruction, Instruction::From(_))) {
        let Some((statement, body)) = group.split_first() else { continue };
        let Instruction::From(from) = &statement.instruction else { continue };
        let get = |name: &str| values.get(name).cloned();
        let image = expand::word(&from.image, &get, escape).unwrap_or_default();
        let platform =
            from.platform.as_ref().and_then(|p| expand::word(p, &get, escape).ok()).unwrap_or_default();
        let parent = names.get(image.text.as_str()).copied();
        if let Some(name) = &from.name {
            names.insert(name, out.len());
        }
        out.push(Stage { from, statement, body, parent, used: [image.used, platform.used].concat() });
    }
    out
}

/// The stage that a name or number means, among those before `end`.
fn find(stages: &[Stage<'_>], name: &str, end: usize) -> Option<usize> {
    let named = stages[..end]
        .iter()
        .rposition(|s| s.from.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)));
    named.or_else(|| name.parse().ok().filter(|&n: &usize| n < end))
}

/// The stages that one needs, itself first.
fn needed(stages: &[Stage<'_>], target: usize) -> Vec<usize> {
    // The names of all stages before each one: the last of a name wins, and names are looked up in order of stages.
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, stage) in stages.iter().enumerate() {
        if let Some(name) = &stage.from.name {
            by_name.entry(name.clone()).or_default().push(i);
        }
    }
    let lookup = |name: &str, end: usize| {
        let named =
            by_name.get(&name.to_lowercase()).and_then(|at| at.iter().rev().find(|&&i| i < end).copied());
        named.or_else(|| name.parse().ok().filter(|&n: &usize| n < end))
    };
    let mut out = Vec::new();
    let mut known = BTreeSet::from([target]);
    let mut todo = vec![target];
    while let Some(at) = todo.pop() {
        out.push(at);
        let stage = &stages[at];
        let mut sources: Vec<usize> = stage.parent.into_iter().collect();
        for statement in stage.body {
            match &statement.instruction {
                Instruction::Copy(copy) => {
                    sources.extend(copy.from.as_deref().and_then(|name| lookup(name, at)))
                }
                Instruction::Run(run) => {
                    let from = |text: &String| mount::parse(text, &mut |v| Ok(v.to_owned())).ok()?.from;
                    sources.extend(run.mounts.iter().filter_map(from).filter_map(|name| lookup(&name, at)));
                }
                _ => {}
            }
        }
        for source in sources {
            if known.insert(source) {
                todo.push(source);
            }
        }
    }
    out
}

/// What is in an outline already.
#[derive(Default)]
struct Seen {
    args: BTreeSet<String>,
    secrets: BTreeSet<String>,
    ssh: BTreeSet<String>,
}

impl Seen {
    #[allow(clippy::too_many_arguments)]
    fn stage(
        &mut self,
        stage: &Stage<'_>,
        globals: &BTreeMap<String, Global>,
        values: &Values,
        given: &Values,
        escape: char,
        scope: &mut Values,
        out: &mut Outline,
    ) {
        let mut used: Vec<&str> = stage.used.iter().map(String::as_str).collect();
        for statement in stage.body {
            match &statement.instruction {
                Instruction::Arg(args) => {
                    for arg in args {
                        let global = values.get(&arg.key);
                        let value = match (given.get(&arg.key), &arg.value, global) {
                            (None, None, Some(value)) => {
                                // It is the global one.
                                scope.insert(arg.key.clone(), value.clone());
                                used.push(&arg.key);
                                continue;
                            }
                            (Some(value), _, _) => Some(value.clone()),
                            (None, Some(default), _) => {
                                expand::word(default, &|name| scope.get(name).cloned(), escape)
                                    .ok()
                                    .map(|e| e.text)
                            }
                            (None, None, None) => None,
                        };
                        if let Some(value) = &value {
                            scope.insert(arg.key.clone(), value.clone());
                        }
                        if self.args.insert(arg.key.clone()) {
                            let description = described(&statement.comments, Some(&arg.key));
                            let (name, value) = (arg.key.clone(), value.unwrap_or_default());
                            out.args.push(Arg { name, description, value, lines: lines(statement) });
                        }
                    }
                }
                Instruction::Env(env) => {
                    let get = |name: &str| scope.get(name).cloned();
                    let word = |text: &String| expand::word(text, &get, escape).ok().map(|e| e.text);
                    let pairs =
                        env.pairs.iter().filter_map(|(name, value)| Some((word(name)?, word(value)?)));
                    let pairs: Vec<(String, String)> = pairs.collect();
                    scope.extend(pairs);
                }
                Instruction::Run(run) => {
                    for text in &run.mounts {
                        let get = |name: &str| scope.get(name).cloned();
                        let mut word = |value: &str| expand::word(value, &get, escape).map(|e| e.text);
                        let Ok(found) = mount::parse(text, &mut word) else { continue };
                        self.mount(&found, statement, out);
                    }
                }
                _ => {}
            }
        }
        // Defaults of arguments that count may use others.
        while let Some(name) = used.pop() {
            let Some(global) = globals.get(name) else { continue };
            if self.args.insert(name.to_owned()) {
                out.args.push(global.arg.clone());
                used.extend(global.uses.iter().map(String::as_str));
            }
        }
    }

    fn mount(&mut self, found: &mount::Mount, statement: &Statement, out: &mut Outline) {
        let (known, list, name) = match found.kind {
            Kind::Secret => {
                let target = || found.target.as_deref().and_then(|t| t.rsplit('/').next());
                let name = found.source.as_deref().or(found.id.as_deref()).or_else(target);
                (&mut self.secrets, &mut out.secrets, name)
            }
            Kind::Ssh => (&mut self.ssh, &mut out.ssh, Some(found.id.as_deref().unwrap_or("default"))),
            _ => return,
        };
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        if known.insert(name.to_owned()) {
            list.push(Need { name: name.to_owned(), required: found.required, lines: lines(statement) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# V version of the base
# of no use
ARG V=3 W=$V
ARG NO=1
# build makes it
FROM alpine:$W AS build
# A says what
ARG A=x V
RUN --mount=type=secret,id=token,required --mount=type=ssh x
FROM scratch AS other
ARG ELSE
FROM build
ARG TARGETARCH B
COPY --from=other / /
RUN --mount=type=secret,target=/run/secrets/key,id=$A x
";

    fn of(target: Option<&str>, given: &[(&str, &str)]) -> Option<Outline> {
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let built_in = Values::from([("TARGETARCH".to_owned(), "arm".to_owned())]);
        outline(&crate::parse(TEXT).file, target, &given, &built_in)
    }

    fn names(needs: &[Need]) -> Vec<(&str, bool)> {
        needs.iter().map(|n| (n.name.as_str(), n.required)).collect()
    }

    #[test]
    fn stages_are_targets() {
        let found = targets(&crate::parse(TEXT).file);
        let names: Vec<_> = found.iter().map(|t| (t.name.as_deref(), t.default, t.lines)).collect();
        assert_eq!(
            names,
            [(Some("build"), false, (6, 6)), (Some("other"), false, (10, 10)), (None, true, (12, 12))]
        );
        assert_eq!(found[0].description.as_deref(), Some("makes it"));
        assert_eq!((found[0].base.as_str(), found[2].base.as_str()), ("alpine:$W", "build"));
    }

    #[test]
    fn a_target_takes_what_its_stages_take() {
        let found = of(Some("BUILD"), &[("A", "y")]).expect("there");
        let args: Vec<_> =
            found.args.iter().map(|a| (a.name.as_str(), a.value.as_str(), a.lines.0)).collect();
        assert_eq!(args, [("V", "3", 3), ("W", "3", 3), ("A", "y", 8)]);
        assert_eq!(found.args[2].description.as_deref(), Some("says what"));
        assert_eq!(
            (names(&found.secrets), names(&found.ssh)),
            (vec![("token", true)], vec![("default", false)])
        );
        assert_eq!((found.name.as_deref(), found.description.as_deref()), (Some("build"), Some("makes it")));
    }

    #[test]
    fn the_default_target_takes_all_that_leads_to_it() {
        let found = of(None, &[]).expect("there");
        let args: Vec<_> = found.args.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(args, ["V", "W", "A", "ELSE", "B"], "neither NO nor TARGETARCH");
        assert_eq!(names(&found.secrets), [("token", true), ("x", false)], "$A is that of the stage above");
        assert_eq!(of(Some("1"), &[]).expect("there").args.len(), 1);
        assert_eq!(of(Some("nope"), &[]), None);
    }
}
