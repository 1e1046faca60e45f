//! What our own rules look at: which stages are shipped, what RUN instructions call, and which paths instructions put into the image.

use std::cell::Cell;

use super::model::{Model, Stage};
use crate::Span;
use crate::instruction::{Command, Instruction, Script, Statement};
use crate::mount::{self, Kind};
use crate::shell::{self, Word};

/// How many pairs of paths may be compared in all; beyond that nothing more is found.
const MAX_COMPARISONS: usize = 50_000;

/// Variables that turn a manager's cache off or say where it is.
const VARIABLES: [&str; 9] = [
    "PIP_NO_CACHE_DIR",
    "UV_NO_CACHE",
    "UV_CACHE_DIR",
    "NPM_CONFIG_CACHE",
    "npm_config_cache",
    "YARN_CACHE_FOLDER",
    "COMPOSER_CACHE_DIR",
    "POETRY_CACHE_DIR",
    "POETRY_NO_CACHE",
];

/// Facts about all stages, in their order.
pub(super) struct Facts<'a> {
    pub(super) stages: Vec<StageFacts<'a>>,
    left: Cell<usize>,
}

/// Facts about a stage.
pub(super) struct StageFacts<'a> {
    pub(super) stage: &'a Stage<'a>,
    /// Whether its layers are in the image: it is the target, or the target builds on it.
    pub(super) shipped: bool,
    pub(super) runs: Vec<Run<'a>>,
    /// Paths that COPY and ADD make, in the order of the instructions.
    pub(super) added: Vec<Added<'a>>,
    /// Those of [`VARIABLES`] that it or what it builds on sets.
    set: Vec<&'static str>,
}

/// A RUN in shell form, or with a script.
pub(super) struct Run<'a> {
    pub(super) statement: &'a Statement,
    /// Its place in the stage, counting all instructions.
    pub(super) number: usize,
    pub(super) commands: Vec<shell::Command>,
    /// The text that was taken apart is that of the instruction, so that places in it are known.
    inline: bool,
    /// Targets of its cache and tmpfs mounts: what is written there is in no layer.
    pub(super) mounts: Vec<String>,
    /// The working directory, where it is known.
    pub(super) cwd: Option<String>,
    /// The shell of the stage at this point.
    pub(super) shell: Shell,
}

/// What is known about a stage's shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    /// A POSIX shell (or the base image's, which nearly always is one).
    Posix,
    /// One that was told to let pipes fail.
    Pipefail,
    /// Something else.
    Other,
}

/// What instructions hand on to those below, and stages to those that build on them.
#[derive(Clone)]
struct State {
    cwd: Option<String>,
    shell: Shell,
    set: Vec<&'static str>,
}

/// A path that an instruction makes.
pub(super) struct Added<'a> {
    pub(super) statement: &'a Statement,
    pub(super) number: usize,
    /// Absolute; the last part may be a pattern.
    pub(super) path: String,
}

impl Run<'_> {
    /// Where a part of a word of a command stands.
    pub(super) fn place(&self, start: usize, end: usize) -> Option<Span> {
        self.statement.place(start, end).filter(|_| self.inline)
    }

    /// Whether some argument in the whole instruction holds a text.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.commands.iter().flat_map(|c| &c.words).any(|w| w.text.contains(text))
    }

    /// Whether a mount keeps `path` out of the layer: it is mounted itself, or something above it.
    pub(super) fn mounted(&self, path: &str) -> bool {
        self.mounts.iter().any(|m| is_below(path, m))
    }

    /// An absolute path of an argument; `None` if it is not known.
    pub(super) fn absolute(&self, word: &Word) -> Option<String> {
        if !word.literal {
            return None;
        }
        // Where a relative path leads is not known behind a `cd`.
        let moved = || self.commands.iter().any(|c| matches!(c.program(), "cd" | "pushd"));
        match word.text.starts_with('/') {
            true => Some(clean(&word.text)),
            false if word.text.starts_with('~') || moved() => None,
            false => Some(clean(&format!("{}/{}", self.cwd.as_ref()?, word.text))),
        }
    }
}

/// Whether `path` is `directory` or lies in it.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An absolute path without `.`, `..` and slashes that say nothing.
pub(super) fn clean(path: &str) -> String {
    crate::ignore::clean(path)
}

impl<'a> Facts<'a> {
    pub(super) fn new(model: &'a Model<'a>) -> Facts<'a> {
        let mut shipped = vec![false; model.stages.len()];
        let mut at = target(model);
        while let Some(stage) = at {
            shipped[stage] = true;
            at = model.stages[stage].parent;
        }
        let mut ends: Vec<State> = Vec::new();
        let mut stages = Vec::new();
        for (i, stage) in model.stages.iter().enumerate() {
            let scratch = stage.image.as_ref().is_some_and(|image| image.text == "scratch");
            let mut state = match stage.parent {
                Some(parent) => ends[parent].clone(),
                None => State { cwd: scratch.then(|| "/".to_owned()), shell: Shell::Posix, set: Vec::new() },
            };
            let mut facts = StageFacts {
                stage,
                shipped: shipped[i],
                runs: Vec::new(),
                added: Vec::new(),
                set: Vec::new(),
            };
            for (number, statement) in stage.body.iter().enumerate() {
                facts.look_at(statement, number, &mut state);
            }
            facts.set.clone_from(&state.set);
            ends.push(state);
            stages.push(facts);
        }
        Facts { stages, left: Cell::new(MAX_COMPARISONS) }
    }

    /// Whether two more paths may be compared.
    pub(super) fn may_compare(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'a> StageFacts<'a> {
    fn look_at(&mut self, statement: &'a Statement, number: usize, state: &mut State) {
        let mut set = |name: &str| {
            if let Some(known) =
                VARIABLES.into_iter().find(|known| *known == name && !state.set.contains(known))
            {
                state.set.push(known);
            }
        };
        let cwd = &mut state.cwd;
        match &statement.instruction {
            Instruction::Env(env) => env.pairs.iter().for_each(|(name, _)| set(name)),
            Instruction::Arg(args) => args.iter().for_each(|arg| set(&arg.key)),
            Instruction::Shell(words) => {
                let name = words[0].rsplit('/').next().unwrap_or_default();
                state.shell = match words.iter().any(|word| word.contains("pipefail")) {
                    true => Shell::Pipefail,
                    false if matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "busybox") => {
                        Shell::Posix
                    }
                    false => Shell::Other,
                };
            }
            Instruction::Workdir(path) => {
                *cwd = match (path.contains('$'), path.starts_with('/')) {
                    (true, _) => None,
                    (false, true) => Some(clean(path)),
                    (false, false) => cwd.as_ref().map(|cwd| clean(&format!("{cwd}/{path}"))),
                };
            }
            Instruction::Copy(copy) => self.add(statement, number, &copy.sources, &copy.dest, cwd.as_deref()),
            Instruction::Add(add) => self.add(statement, number, &add.sources, &add.dest, cwd.as_deref()),
            Instruction::Run(inst) => {
                let (script, inline) = match (inst.script(), &inst.command) {
                    (Script::Exec(argv), _) => {
                        // Only `["sh", "-c", "..."]` has a command line.
                        let Some([_, c, line]) = argv.first_chunk::<3>().filter(|_| argv.len() == 3) else {
                            return;
                        };
                        if c != "-c" {
                            return;
                        }
                        (line.clone(), false)
                    }
                    (Script::File { content, .. }, _) => (content, false),
                    (Script::Shell(_), Command::Shell(line)) if inst.heredocs.is_empty() => {
                        (line.clone(), true)
                    }
                    (Script::Shell(text), Command::Shell(line)) if text.starts_with(line) => {
                        (line.clone(), true)
                    }
                    (Script::Shell(text), _) => (text, false),
                };
                let mounts = inst.mounts.iter().filter_map(|text| mounted(text)).collect();
                let commands = shell::commands(&script);
                let (cwd, shell) = (cwd.clone(), state.shell);
                self.runs.push(Run { statement, number, commands, inline, mounts, cwd, shell });
            }
            _ => {}
        }
    }

    fn add(
        &mut self,
        statement: &'a Statement,
        number: usize,
        sources: &[String],
        dest: &str,
        cwd: Option<&str>,
    ) {
        if dest.contains('$') {
            return;
        }
        let base = match (dest.starts_with('/'), cwd) {
            (true, _) => clean(dest),
            (false, Some(cwd)) => clean(&format!("{cwd}/{dest}")),
            (false, None) => return,
        };
        let into = dest.ends_with('/') || matches!(dest, "." | "..") || sources.len() > 1;
        for source in sources.iter().filter(|s| !s.contains('$')) {
            let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let whole = matches!(name, "" | "." | "..") || source.ends_with('/');
            let path = match into && !whole || crate::glob::is_pattern(name) {
                true => clean(&format!("{base}/{name}")),
                false => base.clone(),
            };
            self.added.push(Added { statement, number, path });
        }
    }

    /// Whether the stage, or one that it builds on, sets one of these variables.
    pub(super) fn sets(&self, names: &[&str]) -> bool {
        self.set.iter().any(|name| names.contains(name))
    }
}

/// The number of the stage that is built.
fn target(model: &Model<'_>) -> Option<usize> {
    let last = model.stages.len().checked_sub(1)?;
    let Some(wanted) = model.input.target_stage.as_deref() else { return Some(last) };
    let named = model.stages.iter().rposition(|s| s.from.name.as_deref() == Some(wanted));
    named.or_else(|| wanted.parse().ok().filter(|&n| n <= last)).or(Some(last))
}

/// The target of a cache or tmpfs mount.
fn mounted(text: &str) -> Option<String> {
    let found = mount::parse(text, &mut |value| Ok(value.to_owned())).ok()?;
    matches!(found.kind, Kind::Cache | Kind::Tmpfs).then_some(found.target).flatten()
}
