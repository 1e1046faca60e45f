//! The stage graph: which stages there are, what they start from, which of them the target needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dockerfile::{Dockerfile, Instruction, Statement};
use oci::platform::Platform;
use oci::types::{ImageConfig, RunConfig};

use super::dispatch::{Scope, dispatch};
use super::{Bases, Choices, DEFAULT_PATH, Plan, PlanError, Resolved, Stage, Start, Warning};

/// A stage while the graph is made.
pub(super) struct Draft<'a> {
    pub(super) name: String,
    /// Name of the base, expanded.
    pub(super) base: String,
    pub(super) base_stage: Option<usize>,
    /// A named context replaces the stage of this name.
    replaced: bool,
    pub(super) platform: Option<Platform>,
    pub(super) line: Option<u32>,
    pub(super) statements: Vec<&'a Statement>,
    /// Stages that instructions name, with the instruction's line.
    deps: BTreeSet<usize>,
    /// Only a `--from` names it.
    pub(super) image_only: bool,
}

/// Names of stages to their numbers.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.get(&name.to_lowercase()).copied()
    }
}

pub(super) fn at<E>(line: Option<u32>, message: impl Into<String>) -> PlanError<E> {
    PlanError::At { line, message: message.into(), help: None }
}

/// Variables of the file's head, and what `--build-arg` and the platforms give.
pub(super) struct Globals {
    pub(super) args: BTreeMap<String, String>,
    /// Keys of `--build-arg` that something declared.
    pub(super) consumed: BTreeSet<String>,
}

fn globals<E>(
    file: &Dockerfile,
    choices: &Choices,
    target: &Platform,
    target_name: &str,
) -> Result<Globals, PlanError<E>> {
    let host = Platform::host();
    let variant = |p: &Platform| p.variant.clone().unwrap_or_default();
    let mut args = BTreeMap::new();
    for (key, value) in [
        ("BUILDPLATFORM", host.to_string()),
        ("BUILDOS", host.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", host.architecture.clone()),
        ("BUILDVARIANT", variant(&host)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", target_name.to_owned()),
    ] {
        args.insert(key.to_owned(), choices.build_args.get(key).cloned().unwrap_or(value));
    }
    let mut consumed = BTreeSet::new();
    for s in &file.statements {
        let Instruction::Arg(defs) = &s.instruction else { break };
        for def in defs {
            let value = match (choices.build_args.get(&def.key), &def.value) {
                (Some(given), _) => {
                    consumed.insert(def.key.clone());
                    Some(given.clone())
                }
                (None, Some(default)) => {
                    let word =
                        dockerfile::expand::word(default, &|k| args.get(k).cloned(), file.directives.escape);
                    Some(word.map_err(|e| at(Some(s.first_line), e.to_string()))?.text)
                }
                (None, None) => None,
            };
            if let Some(v) = value {
                args.insert(def.key.clone(), v);
            }
        }
    }
    Ok(Globals { args, consumed })
}

fn all_globals<E>(file: &Dockerfile, choices: &Choices) -> Result<Globals, PlanError<E>> {
    let target_platform = choices.platform.clone().unwrap_or_else(Platform::host);
    let last_name = file.statements.iter().rev().find_map(|s| match &s.instruction {
        Instruction::From(f) => Some(f.name.clone().unwrap_or_default()),
        _ => None,
    });
    let target_name = match (&choices.target, last_name) {
        (Some(t), _) => t.clone(),
        (None, Some(n)) if !n.is_empty() => n,
        _ => "default".to_owned(),
    };
    globals(file, choices, &target_platform, &target_name)
}

/// The variables that FROM sees, with their values.
pub(super) fn global_values<E>(
    file: &Dockerfile,
    choices: &Choices,
) -> Result<BTreeMap<String, String>, PlanError<E>> {
    Ok(all_globals(file, choices)?.args)
}

/// Plans a build.
///
/// The file must have been parsed without errors. Base images are resolved only for stages that the target needs.
pub fn plan<B: Bases>(file: &Dockerfile, choices: &Choices, bases: &B) -> Result<Plan, PlanError<B::Error>> {
    let target_platform = choices.platform.clone().unwrap_or_else(Platform::host);
    let mut globals = all_globals(file, choices)?;
    let expanded;
    let file = match choices.expand_from {
        true => {
            expanded = super::from::expanded(file, choices, &globals)?;
            &expanded
        }
        false => file,
    };
    let epoch = epoch(choices, &globals)?;
    let mut names = Names::default();
    let mut drafts = drafts(file, &globals, bases, &mut names)?;
    if drafts.is_empty() {
        return Err(PlanError::Whole {
            message: "the Dockerfile has no stage to build".into(),
            help: Some("begin with FROM, for example FROM scratch".into()),
        });
    }
    let numbered = drafts.len();
    let target = match &choices.target {
        None => numbered - 1,
        Some(t) => match (names.find(t), t.parse::<usize>()) {
            (Some(i), _) => i,
            (None, Ok(i)) if i < numbered => i,
            _ => {
                let known: Vec<&str> =
                    drafts.iter().map(|d| d.name.as_str()).filter(|n| !n.is_empty()).collect();
                return Err(PlanError::Whole {
                    message: format!("target stage {t:?} could not be found"),
                    help: (!known.is_empty()).then(|| format!("the stages are {}", known.join(", "))),
                });
            }
        },
    };
    for i in 0..numbered {
        let statements = drafts[i].statements.clone();
        for s in statements {
            link(s, i, file.directives.escape, &mut drafts, &names)?;
        }
    }
    no_cycles(&drafts)?;

    // Stages are planned in file order, which a stage's base and sources come first in; images that only a `--from` names come
    // before everything that uses them.
    let mut order: Vec<usize> = (numbered..drafts.len()).collect();
    order.extend(0..numbered);
    let mut needed = reachable(&drafts, target);
    let mut scopes: Vec<Option<Scope>> = (0..drafts.len()).map(|_| None).collect();
    let mut planned: Vec<Option<Stage>> = (0..drafts.len()).map(|_| None).collect();
    let single = numbered == 1;
    let mut next = 0;
    while next < order.len() {
        let i = order[next];
        next += 1;
        if !needed.contains(&i) || planned[i].is_some() {
            continue;
        }
        let (start, mut scope) = begin(i, &drafts, &scopes, &planned, bases, &target_platform, choices)?;
        let triggers = scope.take_triggers();
        let mut inherited = Vec::new();
        for text in &triggers {
            let (statement, problems) = dockerfile::parse_instruction(text, file.directives.escape);
            if let Some(p) = problems.iter().find(|p| p.is_error()) {
                return Err(at(
                    drafts[i].line,
                    format!("ONBUILD trigger {text:?} of the base image: {}", p.message),
                ));
            }
            inherited.extend(statement);
        }
        // A trigger may name a stage or image that nothing needed so far: what it needs is planned first, and then this stage again.
        if !inherited.is_empty() {
            let before = drafts[i].deps.len();
            for s in &inherited {
                link(s, i, file.directives.escape, &mut drafts, &names)?;
            }
            if drafts[i].deps.len() > before {
                scopes.resize_with(drafts.len(), || None);
                planned.resize_with(drafts.len(), || None);
                no_cycles(&drafts)?;
                needed = reachable(&drafts, target);
                let images = (numbered..drafts.len()).chain(0..i).filter(|&d| planned[d].is_none());
                let first: Vec<usize> = images.chain([i]).collect();
                order.splice(next..next, first);
                continue;
            }
        }
        let mut steps = Vec::new();
        for s in &inherited {
            dispatch(&mut scope, s, true, &mut steps, &drafts, &names, &mut globals, choices, file, i)?;
        }
        for s in &drafts[i].statements {
            dispatch(&mut scope, s, false, &mut steps, &drafts, &names, &mut globals, choices, file, i)?;
        }
        let d = &drafts[i];
        let name = match (d.name.is_empty(), d.image_only, single) {
            (_, true, _) => d.base.clone(),
            (true, false, true) => String::new(),
            (true, false, false) => format!("stage-{i}"),
            (false, false, _) => d.name.clone(),
        };
        planned[i] = Some(Stage {
            name,
            start,
            steps,
            config: scope.image.clone(),
            platform: scope.platform.clone(),
            needed: true,
        });
        scopes[i] = Some(scope);
    }
    let mut stages: Vec<Stage> = planned
        .into_iter()
        .zip(&drafts)
        .map(|(p, d)| {
            p.unwrap_or_else(|| Stage {
                name: d.name.clone(),
                start: Start::Unknown,
                steps: Vec::new(),
                config: ImageConfig::default(),
                platform: target_platform.clone(),
                needed: false,
            })
        })
        .collect();
    finish_target(&mut stages[target], choices);
    let warnings = unused(choices, &globals, file);
    Ok(Plan { stages, target, epoch, warnings })
}

fn epoch<E>(choices: &Choices, globals: &Globals) -> Result<Option<i64>, PlanError<E>> {
    let given = choices.build_args.get("SOURCE_DATE_EPOCH").or_else(|| globals.args.get("SOURCE_DATE_EPOCH"));
    match given.map(String::as_str) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| PlanError::Whole {
            message: format!("invalid SOURCE_DATE_EPOCH: {text}"),
            help: Some("it is a number of seconds since 1970".into()),
        }),
    }
}

fn finish_target(stage: &mut Stage, choices: &Choices) {
    for (k, v) in &choices.labels {
        stage.config.config.labels.insert(k.clone(), v.clone());
    }
    let p = match &choices.platform {
        Some(p) => p.clone(),
        None => stage.config.platform(),
    };
    stage.config.os = p.os;
    stage.config.architecture = p.architecture;
    stage.config.variant = p.variant;
}

fn unused(choices: &Choices, globals: &Globals, file: &Dockerfile) -> Vec<Warning> {
    // Stages that are not built may declare an argument, too.
    let declared: BTreeSet<&str> = file
        .statements
        .iter()
        .flat_map(|s| match &s.instruction {
            Instruction::Arg(defs) => defs.iter().map(|d| d.key.as_str()).collect(),
            _ => Vec::new(),
        })
        .collect();
    let unused: Vec<&str> = choices
        .build_args
        .keys()
        .map(String::as_str)
        .filter(|k| !declared.contains(k) && !globals.consumed.contains(*k) && !is_predefined(k))
        .collect();
    if unused.is_empty() {
        return Vec::new();
    }
    let text = format!("one or more build-args {unused:?} were not consumed: no ARG declares them");
    vec![Warning { text, line: None }]
}

/// Whether a variable is one of those that say how to get to the network.
pub(crate) fn is_proxy(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    matches!(key.as_str(), "http_proxy" | "https_proxy" | "ftp_proxy" | "no_proxy" | "all_proxy")
}

fn is_predefined(key: &str) -> bool {
    is_proxy(key)
        || key.starts_with("BUILDKIT_")
        || key == "SOURCE_DATE_EPOCH"
        || ["BUILD", "TARGET"].iter().any(|p| {
            key.strip_prefix(p)
                .is_some_and(|r| matches!(r, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT" | "STAGE"))
        })
}

fn drafts<'a, B: Bases>(
    file: &'a Dockerfile,
    globals: &Globals,
    bases: &B,
    names: &mut Names,
) -> Result<Vec<Draft<'a>>, PlanError<B::Error>> {
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    for s in &file.statements {
        let Instruction::From(from) = &s.instruction else {
            if let Some(d) = drafts.last_mut().filter(|d| !d.replaced) {
                d.statements.push(s);
            }
            continue;
        };
        let line = Some(s.first_line);
        let get = |k: &str| globals.args.get(k).cloned();
        let escape = file.directives.escape;
        let base =
            dockerfile::expand::word(&from.image, &get, escape).map_err(|e| at(line, e.to_string()))?;
        if base.text.is_empty() {
            return Err(PlanError::At {
                line,
                message: format!("base name ({}) should not be blank", from.image),
                help: base.unset.first().map(|v| format!("the variable {v} has no value: give it a default with ARG above the first FROM, or --build-arg")),
            });
        }
        let platform = match &from.platform {
            None => None,
            Some(p) => {
                let word = dockerfile::expand::word(p, &get, escape).map_err(|e| at(line, e.to_string()))?;
                if word.text.is_empty() {
                    return Err(at(line, format!("empty platform value from expression {p}")));
                }
                let parsed = word.text.parse::<Platform>();
                Some(parsed.map_err(|e| at(line, format!("failed to parse platform {p}: {e}")))?)
            }
        };
        // A named context takes the place of the whole stage.
        let replaced = from.name.as_deref().is_some_and(|n| bases.is_named_context(n));
        // A name is looked up as it is written: stages are named in lower case.
        let base_stage = if replaced { None } else { names.0.get(&base.text).copied() };
        drafts.push(Draft {
            name: from.name.clone().unwrap_or_default(),
            base: base.text,
            base_stage,
            replaced,
            platform,
            line,
            statements: Vec::new(),
            deps: base_stage.into_iter().collect(),
            image_only: false,
        });
        if let Some(name) = &from.name {
            names.0.insert(name.to_lowercase(), drafts.len() - 1);
        }
    }
    Ok(drafts)
}

/// Adds what an instruction takes from other stages and images to the graph.
fn link<E>(
    s: &Statement,
    stage: usize,
    escape: char,
    drafts: &mut Vec<Draft<'_>>,
    names: &Names,
) -> Result<(), PlanError<E>> {
    let mut wanted: Vec<String> = Vec::new();
    match &s.instruction {
        Instruction::Copy(c) => {
            if let Some(from) = &c.from {
                let plain = dockerfile::expand::word(from, &|_| None, escape)
                    .map_err(|e| at(Some(s.first_line), e.to_string()))?;
                if plain.text != *from {
                    return Err(PlanError::At {
                        line: Some(s.first_line),
                        message: "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround".into(),
                        help: Some(format!("use --expand-from, or write FROM {from} AS source above, and COPY --from=source here")),
                    });
                }
                match from.parse::<usize>() {
                    Ok(n) => {
                        let count = drafts.iter().filter(|d| !d.image_only).count();
                        if n >= count {
                            return Err(at(
                                Some(s.first_line),
                                format!("invalid stage index {n}: there are {count} stages"),
                            ));
                        }
                        drafts[stage].deps.insert(n);
                    }
                    Err(_) => wanted.push(from.clone()),
                }
            }
        }
        Instruction::Run(r) => {
            for raw in &r.mounts {
                // Values may hold variables, but `from` is taken as it is written.
                if let Ok(m) = dockerfile::mount::parse(raw, &mut |w| Ok(w.to_owned()))
                    && let Some(from) = m.from
                {
                    wanted.push(from);
                }
            }
        }
        Instruction::Onbuild(_) => {}
        _ => {}
    }
    for name in wanted {
        let number = source_stage(&name, Some(s.first_line), drafts, names);
        drafts[stage].deps.insert(number);
    }
    Ok(())
}

/// The stage that `--from` or `from=` names, or a new one for an image.
fn source_stage(name: &str, line: Option<u32>, drafts: &mut Vec<Draft<'_>>, names: &Names) -> usize {
    if let Some(i) = find_source(name, drafts, names) {
        return i;
    }
    drafts.push(Draft {
        name: String::new(),
        base: name.to_owned(),
        base_stage: None,
        replaced: false,
        platform: None,
        line,
        statements: Vec::new(),
        deps: BTreeSet::new(),
        image_only: true,
    });
    drafts.len() - 1
}

pub(super) fn find_source(name: &str, drafts: &[Draft<'_>], names: &Names) -> Option<usize> {
    names.find(name).or_else(|| drafts.iter().position(|d| d.image_only && d.base == name))
}

fn reachable(drafts: &[Draft<'_>], target: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(i) = todo.pop() {
        if seen.insert(i) {
            todo.extend(&drafts[i].deps);
        }
    }
    seen
}

/// A stage that needs itself is an error. Not recursive: a hostile file may have a hundred thousand stages in a row.
fn no_cycles<E>(drafts: &[Draft<'_>]) -> Result<(), PlanError<E>> {
    let mut done = vec![false; drafts.len()];
    for start in 0..drafts.len() {
        // The stages on the way here, each with what it needs and is still to be looked at.
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut on_path = BTreeSet::new();
        let mut next = Some(start);
        loop {
            if let Some(i) = next.take().filter(|&i| !done[i]) {
                if !on_path.insert(i) {
                    let from = path.iter().position(|(p, _)| *p == i).unwrap_or(0);
                    return Err(cycle(drafts, &path[from..]));
                }
                path.push((i, drafts[i].deps.iter().rev().copied().collect()));
            }
            let Some((i, rest)) = path.last_mut() else { break };
            next = rest.pop();
            if next.is_none() {
                done[*i] = true;
                on_path.remove(i);
                path.pop();
            }
        }
    }
    Ok(())
}

fn cycle<E>(drafts: &[Draft<'_>], path: &[(usize, Vec<usize>)]) -> PlanError<E> {
    let name = |i: usize| match drafts[i].name.as_str() {
        "" => format!("stage-{i}"),
        name => name.to_owned(),
    };
    let mut text: Vec<String> = path.iter().take(20).map(|(i, _)| name(*i)).collect();
    if path.len() > text.len() {
        text.push("...".to_owned());
    }
    text.push(name(path[0].0));
    at(drafts[path[0].0].line, format!("circular dependency detected on stage: {}", text.join(" -> ")))
}

/// What a stage inherits from its base.
#[allow(clippy::too_many_arguments)]
fn begin<B: Bases>(
    i: usize,
    drafts: &[Draft<'_>],
    scopes: &[Option<Scope>],
    planned: &[Option<Stage>],
    bases: &B,
    target: &Platform,
    choices: &Choices,
) -> Result<(Start, Scope), PlanError<B::Error>> {
    let d = &drafts[i];
    let no_cache =
        choices.no_cache || choices.no_cache_filter.contains(&d.name.to_lowercase()) && !d.name.is_empty();
    if let Some(b) = d.base_stage {
        let (Some(scope), Some(_)) = (&scopes[b], &planned[b]) else {
            return Err(at(
                d.line,
                format!("stage {:?} needs to be defined before it is used", drafts[b].name),
            ));
        };
        return Ok((Start::Stage(b), scope.child(no_cache)));
    }
    let platform = d.platform.clone().unwrap_or_else(|| target.clone());
    if d.base == "scratch" && !d.replaced {
        return Ok((Start::Scratch, Scope::new(empty_image(target), target.clone(), no_cache)));
    }
    let asked = if d.replaced { &d.name } else { &d.base };
    let resolved = bases.resolve(asked, &platform).map_err(|source| PlanError::Base {
        line: d.line,
        name: asked.clone(),
        source,
    })?;
    match resolved {
        Resolved::Local(name) => {
            Ok((Start::Local(name), Scope::new(empty_image(&platform), platform, no_cache)))
        }
        Resolved::Image(image) => {
            let mut config = image.config.clone();
            config.created = None;
            Ok((Start::Image(image), Scope::new(config, platform, no_cache)))
        }
    }
}

fn empty_image(platform: &Platform) -> ImageConfig {
    ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        config: RunConfig {
            working_dir: "/".into(),
            env: vec![format!("PATH={DEFAULT_PATH}")],
            ..RunConfig::default()
        },
        ..ImageConfig::default()
    }
}
