//! What the rules look at: stages, and which variables each instruction can see.
//!
//! Variables follow BuildKit: global arguments are seen by FROM alone; a stage sees what its base sets, ENV, and
//! ARG from the instruction behind; an instruction sees the values of before it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::CheckInput;
use super::platform::Platform;
use crate::expand::{self, Expansion};
use crate::instruction::{ArgDef, Dockerfile, FromInst, Instruction, Statement};
use crate::mount;
use crate::syntax::Heredoc;

/// Values are cut to this length: rules look at little more than whether they are empty, and a file could
/// otherwise double them with every line.
const MAX_VALUE: usize = 256;

/// How many bytes of variables stages may inherit in all. Beyond that, nothing is known about a stage's variables.
const MAX_INHERITED: usize = 16 << 20;

/// How many names may be compared in search of similar ones.
const MAX_COMPARISONS: usize = 50_000;

type Values = BTreeMap<String, String>;

pub(super) struct Model<'a> {
    pub(super) input: &'a CheckInput<'a>,
    /// All instructions.
    pub(super) statements: &'a [Statement],
    pub(super) stages: Vec<Stage<'a>>,
    /// The escape character.
    pub(super) escape: char,
    /// Global arguments with the values that this build gives them. Those without a value are in `declared`.
    pub(super) globals: Values,
    /// The names of all global arguments.
    pub(super) declared: BTreeSet<String>,
    /// Global arguments with their default values only.
    pub(super) defaults: Option<Values>,
    /// The last stage with each name.
    names: HashMap<&'a str, usize>,
    inherited: usize,
    compared: Cell<usize>,
}

pub(super) struct Stage<'a> {
    pub(super) statement: &'a Statement,
    pub(super) from: &'a FromInst,
    /// The instructions behind FROM.
    pub(super) body: &'a [Statement],
    /// The expanded name of the base, if it can be expanded.
    pub(super) image: Option<Expansion>,
    /// The expanded `--platform`.
    pub(super) platform: Option<Expansion>,
    /// The stage that this one builds on.
    pub(super) parent: Option<usize>,
    /// Uses of variables that are not set.
    pub(super) unset: Vec<Unset<'a>>,
}

/// A variable that an instruction uses and that is not set there.
pub(super) struct Unset<'a> {
    pub(super) statement: &'a Statement,
    pub(super) name: String,
    /// A variable with a similar name.
    pub(super) similar: Option<String>,
    /// Whether all variables are known; otherwise the base image may set it.
    pub(super) certain: bool,
}

/// What instructions see.
#[derive(Clone, Default)]
struct Scope {
    values: Values,
    /// Arguments that are declared, with or without value.
    arguments: BTreeSet<String>,
    /// Whether all variables of the base are known.
    complete: bool,
}

impl<'a> Model<'a> {
    pub(super) fn new(file: &'a Dockerfile, input: &'a CheckInput<'a>) -> Model<'a> {
        let is_from = |s: &Statement| matches!(s.instruction, Instruction::From(_));
        let first = file.statements.iter().position(is_from).unwrap_or(file.statements.len());
        let (head, rest) = file.statements.split_at(first);
        let escape = file.directives.escape;
        let built_in = platform_values(input, rest);
        let args: Vec<&ArgDef> = head
            .iter()
            .filter_map(|s| match &s.instruction {
                Instruction::Arg(args) => Some(args),
                _ => None,
            })
            .flatten()
            .collect();
        let globals = global_values(&built_in, &args, &input.build_args, escape);
        let mut declared: BTreeSet<String> = built_in.keys().cloned().collect();
        declared.extend(args.iter().map(|arg| arg.key.clone()));
        let mut model = Model {
            input,
            statements: &file.statements,
            stages: Vec::new(),
            escape,
            defaults: global_values(&built_in, &args, &Values::new(), escape),
            globals: globals.unwrap_or_default(),
            declared,
            names: HashMap::new(),
            inherited: 0,
            compared: Cell::new(0),
        };
        let mut scopes: Vec<Scope> = Vec::new();
        for group in rest.chunk_by(|_, next| !is_from(next)) {
            let Some((statement, body)) = group.split_first() else { continue };
            let Instruction::From(from) = &statement.instruction else { continue };
            let (stage, scope) = model.stage(statement, from, body, &scopes);
            if let Some(name) = &from.name {
                model.names.insert(name, model.stages.len());
            }
            model.stages.push(stage);
            scopes.push(scope);
        }
        model
    }

    fn stage(
        &mut self,
        statement: &'a Statement,
        from: &'a FromInst,
        body: &'a [Statement],
        scopes: &[Scope],
    ) -> (Stage<'a>, Scope) {
        let global = |name: &str| self.globals.get(name).cloned();
        let image = expand::word(&from.image, &global, self.escape).ok();
        let platform = from.platform.as_ref().and_then(|p| expand::word(p, &global, self.escape).ok());
        let parent = image.as_ref().and_then(|image| self.names.get(image.text.as_str()).copied());
        self.inherited += parent.map_or(0, |parent| scopes[parent].size());
        let mut scope = match parent {
            Some(_) if self.inherited > MAX_INHERITED => Scope::default(),
            Some(parent) => scopes[parent].clone(),
            None => self.base_scope(self.stages.len(), image.as_ref().map(|i| i.text.as_str())),
        };
        let mut unset = Vec::new();
        for statement in body {
            self.statement(statement, &mut scope, &mut unset);
        }
        (Stage { statement, from, body, image, platform, parent, unset }, scope)
    }

    fn base_scope(&self, stage: usize, image: Option<&str>) -> Scope {
        let known = self.input.bases.get(&stage);
        let variables = known.map(|base| base.variables.as_slice()).unwrap_or_default();
        let mut values: Values = variables.iter().map(|name| (name.clone(), String::new())).collect();
        values.insert("PATH".to_owned(), "/".to_owned());
        let complete = known.is_some() || image == Some("scratch");
        Scope { values, arguments: BTreeSet::new(), complete }
    }

    fn statement(&self, statement: &'a Statement, scope: &mut Scope, unset: &mut Vec<Unset<'a>>) {
        let mut missing = Missing::default();
        let mut changes = Vec::new();
        let word = |text: &str, missing: &mut Missing| {
            missing.expand(expand::word(text, &|name| scope.values.get(name).cloned(), self.escape))
        };
        let files = |texts: &[&[String]], heredocs: &[Heredoc], missing: &mut Missing| {
            texts.iter().copied().flatten().for_each(|text| drop(word(text, missing)));
            for heredoc in heredocs.iter().filter(|h| h.expand) {
                let found = expand::heredoc(&heredoc.content, &|name| scope.values.get(name).cloned());
                missing.expand(found);
            }
        };
        let optional = |text: &Option<String>| text.clone().into_iter().collect::<Vec<_>>();
        match &statement.instruction {
            Instruction::Copy(copy) => {
                let (chown, chmod) = (optional(&copy.chown), optional(&copy.chmod));
                let dest = std::slice::from_ref(&copy.dest);
                files(&[&chown, &chmod, &copy.sources, dest], &copy.heredocs, &mut missing);
            }
            Instruction::Add(add) => {
                let flags = [optional(&add.chown), optional(&add.chmod), optional(&add.checksum)].concat();
                let dest = std::slice::from_ref(&add.dest);
                files(&[&flags, &add.sources, dest], &add.heredocs, &mut missing);
            }
            Instruction::Workdir(text) | Instruction::User(text) | Instruction::Stopsignal(text) => {
                word(text, &mut missing);
            }
            Instruction::Volume(volumes) => files(&[volumes], &[], &mut missing),
            Instruction::Label(labels) => {
                for (name, value) in &labels.pairs {
                    word(name, &mut missing);
                    word(value, &mut missing);
                }
            }
            Instruction::Env(env) => {
                for (name, value) in &env.pairs {
                    if let (Some(name), value) = (word(name, &mut missing), word(value, &mut missing)) {
                        changes.push((name, value.unwrap_or_default()));
                    }
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    let mut expand = |text: &str| {
                        let lookup = |name: &str| scope.values.get(name).cloned();
                        let found = expand::word(text, &lookup, self.escape)?;
                        missing.expand(Ok(found.clone()));
                        Ok(found.text)
                    };
                    // What is wrong with the mount is found when it is built.
                    let _ = mount::parse(mount, &mut expand);
                }
            }
            Instruction::Arg(args) => {
                // Each argument sees those before it.
                for arg in args {
                    self.argument(statement, arg, scope, unset);
                }
                return;
            }
            _ => {}
        }
        self.report(statement, missing, scope, unset);
        for (name, value) in changes {
            scope.set(name, value);
        }
    }

    fn argument(
        &self,
        statement: &'a Statement,
        arg: &ArgDef,
        scope: &mut Scope,
        unset: &mut Vec<Unset<'a>>,
    ) {
        let mut missing = Missing::default();
        let value = match (self.input.build_args.get(&arg.key), &arg.value) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => {
                let lookup = |name: &str| scope.values.get(name).cloned();
                missing.expand(expand::word(default, &lookup, self.escape))
            }
            (None, None) => self.globals.get(&arg.key).cloned(),
        };
        self.report(statement, missing, scope, unset);
        if let Some(value) = value {
            scope.set(arg.key.clone(), value);
        }
        scope.arguments.insert(arg.key.clone());
    }

    fn report(&self, statement: &'a Statement, missing: Missing, scope: &Scope, unset: &mut Vec<Unset<'a>>) {
        /// Arguments that are declared for the builder alone, and are in no environment.
        const NOT_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];
        for name in missing.names {
            if scope.arguments.contains(&name) || NOT_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let similar = self.similar(&name, scope.values.len(), scope.values.keys());
            unset.push(Unset { statement, name, similar, certain: scope.complete });
        }
    }

    /// The one of `count` names that is most similar to `name`; none once too many were compared.
    pub(super) fn similar<'n>(
        &self,
        name: &str,
        count: usize,
        names: impl Iterator<Item = &'n String>,
    ) -> Option<String> {
        self.compared.set(self.compared.get() + count);
        if self.compared.get() > MAX_COMPARISONS {
            return None;
        }
        crate::suggest::nearest(name, names.map(String::as_str)).map(str::to_owned)
    }

    /// The platform to build for.
    pub(super) fn target_platform(&self) -> Platform {
        let given = self.input.target_platform.as_deref();
        given.and_then(|text| Platform::parse(text, &Platform::default())).unwrap_or_default()
    }
}

/// The names that an instruction uses and that are not set.
#[derive(Default)]
struct Missing {
    names: BTreeSet<String>,
}

impl Missing {
    fn expand(&mut self, found: Result<Expansion, expand::ExpandError>) -> Option<String> {
        let found = found.ok()?;
        self.names.extend(found.unset);
        Some(found.text)
    }
}

impl Scope {
    fn set(&mut self, name: String, mut value: String) {
        let mut end = value.len().min(MAX_VALUE);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        self.values.insert(name, value);
    }

    /// About how many bytes it holds.
    fn size(&self) -> usize {
        let values = self.values.iter().map(|(name, value)| name.len() + value.len());
        let arguments = self.arguments.iter().map(String::len);
        values.chain(arguments).map(|bytes| bytes + 64).sum()
    }
}

/// The arguments that exist without being declared, for FROM.
fn platform_values(input: &CheckInput<'_>, stages: &[Statement]) -> Values {
    let last = stages.iter().rev().find_map(|s| match &s.instruction {
        Instruction::From(from) => Some(from.name.as_deref()),
        _ => None,
    });
    let target = input.target_stage.as_deref().or(last.flatten()).unwrap_or("default");
    let mut values = Values::from([("TARGETSTAGE".to_owned(), target.to_owned())]);
    for (prefix, platform) in [("BUILD", &input.build_platform), ("TARGET", &input.target_platform)] {
        let platform = platform.as_deref().unwrap_or("linux/amd64");
        let mut parts = platform.split('/');
        values.insert(format!("{prefix}PLATFORM"), platform.to_owned());
        for part in ["OS", "ARCH", "VARIANT"] {
            values.insert(format!("{prefix}{part}"), parts.next().unwrap_or_default().to_owned());
        }
        values.insert(format!("{prefix}OSVERSION"), String::new());
    }
    values
}

/// The values of global arguments; `None` if one cannot be expanded.
fn global_values(built_in: &Values, args: &[&ArgDef], given: &Values, escape: char) -> Option<Values> {
    let mut scope = Scope { values: built_in.clone(), ..Scope::default() };
    for (name, value) in scope.values.iter_mut() {
        if let Some(given) = given.get(name) {
            value.clone_from(given);
        }
    }
    for arg in args {
        let value = match (given.get(&arg.key), &arg.value) {
            (Some(given), _) => given.clone(),
            (None, Some(default)) => {
                expand::word(default, &|name| scope.values.get(name).cloned(), escape).ok()?.text
            }
            (None, None) => continue,
        };
        scope.set(arg.key.clone(), value);
    }
    Some(scope.values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut() {
        let mut scope = Scope::default();
        scope.set("A".to_owned(), format!("a{}", "é".repeat(1_000)));
        assert_eq!(scope.values["A"].len(), MAX_VALUE - 1, "at a character's end");
    }

    #[test]
    fn stages_inherit_only_so_much() {
        let variables: String = (0..10_000).map(|i| format!("ARG A{i}=x\n")).collect();
        let stages: String = (0..40).map(|i| format!("FROM s{i} AS s{}\nUSER $NOPE\n", i + 1)).collect();
        let parsed = crate::parse(&format!("FROM scratch AS s0\n{variables}{stages}"));
        let input = CheckInput::default();
        let model = Model::new(&parsed.file, &input);
        let certain: Vec<bool> = model.stages.iter().flat_map(|s| &s.unset).map(|u| u.certain).collect();
        assert_eq!((certain.len(), certain[0], certain[39]), (40, true, false));
    }
}
