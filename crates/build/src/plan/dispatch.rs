//! One instruction after the other: what it does to the image's config, and which step it makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dockerfile::expand;
use dockerfile::{Command, Dockerfile, Instruction, Script, Statement};
use oci::platform::Platform;
use oci::types::{Healthcheck, History, ImageConfig};
use serde_json::Value;

use super::stages::{Draft, Globals, Names, at, find_source, is_proxy};
use super::text::{duration, list, quoted_list};
use super::{
    Choices, Copy, CopySource, DEFAULT_PATH, HISTORY_COMMENT, PlanError, Run, RunMount, Step, StepKind,
    Workdir, expose,
};
use crate::chmod::Chmod;
use crate::copy::clean;
use crate::fetch::{GitRef, GitRefError};

/// How large a stage's environment may be in all. No kernel starts a program with more than 6 MiB.
const MAX_ENVIRONMENT: usize = 8 << 20;

/// How many bytes of environments and history a plan may hold. Each RUN has an environment and each stage a history of its own, so that
/// some lines in a loop of stages could otherwise fill any memory.
const MAX_HELD: usize = 256 << 20;

/// What is known at one place of a stage.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) image: ImageConfig,
    pub(super) platform: Platform,
    /// ENV and ARG values, in order of their last setting.
    env: Vec<(String, String)>,
    /// ARGs declared so far, with their values.
    args: Vec<(String, Option<String>)>,
    triggers: Vec<String>,
    cmd_set: bool,
    no_cache: bool,
    /// About how many bytes this scope, those that it comes from, and those that come from them have put into the plan.
    held: Arc<AtomicUsize>,
}

fn split_env(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

impl Scope {
    pub(super) fn new(mut image: ImageConfig, platform: Platform, no_cache: bool) -> Scope {
        let triggers = image.config.on_build.take().unwrap_or_default();
        let (env, args, held) = (Vec::new(), Vec::new(), Arc::default());
        let mut scope = Scope { image, platform, env, args, triggers, cmd_set: false, no_cache, held };
        scope.enter();
        scope
    }

    /// The scope of a stage that starts from this one's end.
    pub(super) fn child(&self, no_cache: bool) -> Scope {
        let mut scope = self.clone();
        let history = scope.image.history.iter().map(|h| 128 + h.created_by.as_ref().map_or(0, String::len));
        scope.hold(history.sum::<usize>() + scope.environment());
        scope.triggers = scope.image.config.on_build.take().unwrap_or_default();
        scope.cmd_set = false;
        scope.no_cache = no_cache;
        scope.enter();
        scope
    }

    fn enter(&mut self) {
        if self.image.config.env_value("PATH").is_none() {
            self.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for e in self.image.config.env.clone() {
            let (k, v) = split_env(&e);
            self.set_env(k, v);
        }
        if !self.image.config.working_dir.is_empty() {
            self.image.config.working_dir = working_dir("/", &self.image.config.working_dir);
        }
    }

    pub(super) fn take_triggers(&mut self) -> Vec<String> {
        std::mem::take(&mut self.triggers)
    }

    fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The size of the environment.
    fn environment(&self) -> usize {
        self.env.iter().map(|(k, v)| 64 + k.len() + v.len()).sum()
    }

    /// Why no more instructions are taken, if so.
    fn too_large(&self) -> Option<String> {
        let mib = |bytes: usize| bytes >> 20;
        if self.held.load(Ordering::Relaxed) > MAX_HELD {
            return Some(format!(
                "the stages up to here hold more than {} MiB of variables and history",
                mib(MAX_HELD)
            ));
        }
        let large = self.environment() > MAX_ENVIRONMENT;
        large.then(|| format!("the environment of the stage is larger than {} MiB", mib(MAX_ENVIRONMENT)))
    }

    fn set_env(&mut self, key: &str, value: &str) {
        self.env.retain(|(k, _)| k != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    fn get(&self, key: &str) -> Option<String> {
        self.env.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    }

    fn cwd(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        }
    }

    fn history(&mut self, created_by: String, layer: bool) -> usize {
        self.hold(128 + created_by.len());
        self.image.history.push(History {
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer: !layer,
            ..History::default()
        });
        self.image.history.len() - 1
    }

    fn with_shell(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let mut words =
                    self.image.config.shell.clone().filter(|s| !s.is_empty()).unwrap_or_else(default);
                words.push(text.clone());
                words
            }
        }
    }

    /// `RUN |2 A=1 B=2 /bin/sh -c make`: the ARGs in scope are part of a RUN's history.
    fn run_history(&self, args: &[String]) -> String {
        let mut shown: Vec<(String, String)> = Vec::new();
        for (key, value) in &self.args {
            let value = self.get(key).or_else(|| value.clone()).unwrap_or_default();
            match shown.iter_mut().find(|(k, _)| k == key) {
                Some((_, v)) => *v = value,
                None => shown.push((key.clone(), value)),
            }
        }
        let mut words = vec!["RUN".to_owned()];
        if !shown.is_empty() {
            words.push(format!("|{}", shown.len()));
            words.extend(shown.into_iter().map(|(k, v)| format!("{k}={v}")));
        }
        words.extend(args.iter().cloned());
        words.push("# buildkit".to_owned());
        words.join(" ")
    }
}

/// `path` joined to `dir` if it is relative, cleaned.
fn absolute(dir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") };
    format!("/{}", clean(&joined))
}

/// A working directory: an absolute one is kept as it is written, as BuildKit does.
fn working_dir(dir: &str, path: &str) -> String {
    match path {
        "" => dir.to_owned(),
        p if p.starts_with('/') => p.to_owned(),
        p => absolute(dir, p),
    }
}

/// As [`absolute`], but a trailing slash, or `/.`, is kept: it says that the destination is a directory.
fn absolute_dest(dir: &str, path: &str) -> String {
    let path = if path.is_empty() || path == "." { "./" } else { path };
    let mut out = absolute(dir, path);
    if path.ends_with('/') && out != "/" {
        out.push('/');
    } else if path.ends_with("/.") {
        if out != "/" {
            out.push('/');
        }
        out.push('.');
    }
    out
}

struct Context<'a, 'd> {
    scope: &'a mut Scope,
    line: Option<u32>,
    escape: char,
    drafts: &'a [Draft<'d>],
    names: &'a Names,
}

impl Context<'_, '_> {
    fn fail<E>(&self, message: impl Into<String>) -> PlanError<E> {
        at(self.line, message)
    }

    fn word<E>(&self, text: &str) -> Result<String, PlanError<E>> {
        let result = expand::word(text, &|k| self.scope.get(k), self.escape);
        result.map(|e| e.text).map_err(|e| self.fail(e.to_string()))
    }

    fn words<E>(&self, texts: &[String]) -> Result<Vec<String>, PlanError<E>> {
        texts.iter().map(|t| self.word(t)).collect()
    }

    fn source<E>(&self, name: &str, current: usize) -> Result<usize, PlanError<E>> {
        let number = match name.parse::<usize>() {
            Ok(n) => Some(n),
            Err(_) => find_source(name, self.drafts, self.names),
        };
        let number = number.ok_or_else(|| self.fail(format!("stage {name:?} is not known")))?;
        self.before(number, name, current)
    }

    fn before<E>(&self, number: usize, name: &str, current: usize) -> Result<usize, PlanError<E>> {
        if self.drafts[number].image_only || number < current {
            return Ok(number);
        }
        let here = &self.drafts[current].name;
        Err(self.fail(format!(
            "cannot copy from stage {name:?}, it needs to be defined before current stage {here:?}"
        )))
    }
}

/// Applies one instruction.
#[allow(clippy::too_many_arguments)]
pub(super) fn dispatch<E>(
    scope: &mut Scope,
    statement: &Statement,
    inherited: bool,
    steps: &mut Vec<Step>,
    drafts: &[Draft<'_>],
    names: &Names,
    globals: &mut Globals,
    choices: &Choices,
    file: &Dockerfile,
    current: usize,
) -> Result<(), PlanError<E>> {
    let line = if inherited { drafts[current].line } else { Some(statement.first_line) };
    let lines = (!inherited).then_some((statement.first_line, statement.last_line));
    if let Some(message) = scope.too_large() {
        return Err(at(line, message));
    }
    let mut cx = Context { scope, line, escape: file.directives.escape, drafts, names };
    let mut step = |kind, title: String, no_cache, history| {
        let title = if inherited { format!("ONBUILD {title}") } else { title };
        steps.push(Step { kind, title, lines, no_cache, history });
    };
    match &statement.instruction {
        Instruction::From(_) => {}
        Instruction::Maintainer(name) => {
            cx.scope.image.author = Some(name.clone());
            cx.scope.history(format!("MAINTAINER {name}"), false);
        }
        Instruction::Env(kv) => {
            let mut text = "ENV".to_owned();
            let mut values = Vec::new();
            for (k, v) in &kv.pairs {
                values.push((cx.word(k)?, cx.word(v)?));
            }
            for (k, v) in values {
                text.push_str(&format!(" {k}={v}"));
                cx.scope.set_env(&k, &v);
                let entry = format!("{k}={v}");
                match cx.scope.image.config.env.iter_mut().find(|e| split_env(e).0 == k) {
                    Some(e) => *e = entry,
                    None => cx.scope.image.config.env.push(entry),
                }
            }
            cx.scope.history(text, false);
        }
        Instruction::Label(kv) => {
            let mut text = "LABEL".to_owned();
            for (k, v) in &kv.pairs {
                let (k, v) = (cx.word(k)?, cx.word(v)?);
                text.push_str(&format!(" {k}={v}"));
                cx.scope.image.config.labels.insert(k, v);
            }
            cx.scope.history(text, false);
        }
        Instruction::Arg(defs) => {
            // Unlike the pairs of ENV and LABEL, each definition sees those before it.
            let mut text = Vec::new();
            for def in defs {
                let value = match (choices.build_args.get(&def.key), &def.value) {
                    (Some(given), _) => {
                        globals.consumed.insert(def.key.clone());
                        Some(given.clone())
                    }
                    (None, Some(default)) => Some(cx.word(default)?),
                    (None, None) => globals.args.get(&def.key).cloned(),
                };
                if let Some(v) = &value {
                    cx.scope.set_env(&def.key, v);
                }
                text.push(match &value {
                    Some(v) => format!("{}={v}", def.key),
                    None => def.key.clone(),
                });
                cx.scope.args.push((def.key.clone(), value));
            }
            cx.scope.history(format!("ARG {}", text.join(" ")), false);
        }
        Instruction::Cmd(command) => {
            let args = cx.scope.with_shell(command);
            cx.scope.history(format!("CMD {}", quoted_list(&args)), false);
            cx.scope.image.config.cmd = Some(args);
            cx.scope.image.config.args_escaped = true;
            cx.scope.cmd_set = true;
        }
        Instruction::Entrypoint(command) => {
            let args = cx.scope.with_shell(command);
            cx.scope.history(format!("ENTRYPOINT {}", quoted_list(&args)), false);
            cx.scope.image.config.entrypoint = Some(args);
            if !cx.scope.cmd_set {
                cx.scope.image.config.cmd = None;
            }
        }
        Instruction::Shell(words) => {
            cx.scope.image.config.shell = Some(words.clone());
            cx.scope.history(format!("SHELL {}", list(words)), false);
        }
        Instruction::User(user) => {
            let user = cx.word(user)?;
            cx.scope.history(format!("USER {user}"), false);
            cx.scope.image.config.user = user;
        }
        Instruction::Volume(paths) => {
            let paths = cx.words(paths)?;
            if paths.iter().any(String::is_empty) {
                return Err(cx.fail("VOLUME specified can not be an empty string"));
            }
            for p in &paths {
                cx.scope.image.config.volumes.insert(p.clone(), Value::Object(serde_json::Map::new()));
            }
            cx.scope.history(format!("VOLUME {}", list(&paths)), false);
        }
        Instruction::Stopsignal(signal) => {
            let signal = cx.word(signal)?;
            if !is_signal(&signal) {
                return Err(cx.fail(format!("invalid signal: {signal}")));
            }
            cx.scope.history(format!("STOPSIGNAL {signal}"), false);
            cx.scope.image.config.stop_signal = Some(signal);
        }
        Instruction::Expose(words) => {
            let mut ports = Vec::new();
            for w in words {
                let get = |k: &str| cx.scope.get(k);
                let split = expand::words(w, &get, cx.escape).map_err(|e| cx.fail(e.to_string()))?;
                for word in split {
                    ports.extend(expose::ports(&word).map_err(|e| cx.fail(e.to_string()))?);
                }
            }
            for p in &ports {
                cx.scope.image.config.exposed_ports.insert(p.clone(), Value::Object(serde_json::Map::new()));
            }
            cx.scope.history(format!("EXPOSE {}", list(&ports)), false);
        }
        Instruction::Healthcheck(h) => {
            let check = healthcheck(h);
            let text = format!(
                "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
                list(check.test.as_deref().unwrap_or_default()),
                duration(check.interval),
                duration(check.timeout),
                duration(check.start_period),
                duration(check.start_interval),
                check.retries
            );
            cx.scope.image.config.healthcheck = Some(check);
            cx.scope.history(text, false);
        }
        Instruction::Onbuild(o) => {
            cx.scope.image.config.on_build.get_or_insert_with(Vec::new).push(o.text.clone());
        }
        Instruction::Workdir(path) => {
            let path = cx.word(path)?;
            let path = working_dir(cx.scope.cwd(), &path);
            cx.scope.image.config.working_dir = path.clone();
            let history = cx.scope.history(format!("WORKDIR {path}"), path != "/");
            if path != "/" {
                let user = cx.scope.image.config.user.clone();
                step(
                    StepKind::Workdir(Workdir { path: path.clone(), user }),
                    format!("WORKDIR {path}"),
                    false,
                    history,
                );
            }
        }
        Instruction::Run(r) => {
            // There are no devices to give: one that need not be there is not there.
            for device in r.devices.iter().filter_map(|raw| dockerfile::mount::Device::parse(raw).ok()) {
                if device.required {
                    return Err(
                        cx.fail(format!("device {} is required, but steps get no devices", device.name))
                    );
                }
            }
            cx.scope.hold(cx.scope.environment());
            let (args, script) = run_command(cx.scope, r);
            let history_text = cx.scope.run_history(&args);
            let mut mounts = Vec::new();
            for raw in &r.mounts {
                let mount = run_mount(&mut cx, raw, current)?;
                // Of mounts with one target the last is made, in the place of the first.
                let same = |m: &&mut RunMount| m.covers() && mount.covers() && m.target == mount.target;
                match mounts.iter_mut().find(same) {
                    Some(earlier) => *earlier = mount,
                    None => mounts.push(mount),
                }
            }
            let mut proxy = Vec::new();
            for (k, v) in &choices.build_args {
                if is_proxy(k) {
                    proxy.push((k.to_ascii_uppercase(), v.clone()));
                    proxy.push((k.to_ascii_lowercase(), v.clone()));
                }
            }
            let title = match (&r.command, r.heredocs.first()) {
                (_, Some(h)) => {
                    let summary = h.content.trim().lines().next().unwrap_or("").to_owned();
                    format!("RUN <<{} ({summary}...)", h.name)
                }
                (Command::Exec(words), None) => format!("RUN {}", serde_json::Value::from(words.clone())),
                (Command::Shell(text), None) => format!("RUN {text}"),
            };
            let run = Run {
                args,
                env: cx.scope.env.clone(),
                proxy,
                cwd: cx.scope.cwd().to_owned(),
                user: cx.scope.image.config.user.clone(),
                network: r.network.clone(),
                security: r.security.clone(),
                chain: r.cache.as_deref() == Some("chain"),
                mounts,
                always: r.no_cache,
                script,
            };
            let no_cache = cx.scope.no_cache;
            let history = cx.scope.history(history_text, true);
            step(StepKind::Run(run), title, no_cache, history);
        }
        Instruction::Copy(c) => {
            let mut copy = Copy {
                add: false,
                sources: Vec::new(),
                dest: String::new(),
                chown: c.chown.clone(),
                chmod: None,
                exclude: c.exclude.clone(),
                parents: c.parents,
                link: c.link,
                from: None,
                unpack: None,
            };
            if let Some(from) = &c.from {
                copy.from = Some(cx.source(from, current)?);
            }
            let text = sources(&mut cx, &mut copy, &c.sources, &c.dest, &c.heredocs, c.chmod.as_deref())?;
            let no_cache = cx.scope.no_cache;
            let history = cx.scope.history(format!("{text} # buildkit"), true);
            let title = title_of_copy(&text, c.from.as_deref());
            step(StepKind::Copy(copy), title, no_cache, history);
        }
        Instruction::Add(a) => {
            let mut copy = Copy {
                add: true,
                sources: Vec::new(),
                dest: String::new(),
                chown: a.chown.clone(),
                chmod: None,
                exclude: a.exclude.clone(),
                parents: false,
                link: a.link,
                from: None,
                unpack: a.unpack,
            };
            let checksum = a.checksum.as_deref().map(|c| cx.word(c)).transpose()?.filter(|c| !c.is_empty());
            let text = sources(&mut cx, &mut copy, &a.sources, &a.dest, &a.heredocs, a.chmod.as_deref())?;
            for s in &mut copy.sources {
                if let CopySource::Git(git) = s {
                    keep_git_dir(git, a.keep_git_dir).map_err(|m| cx.fail(m))?;
                }
            }
            if let Some(want) = checksum {
                match copy.sources.as_mut_slice() {
                    [CopySource::Http { checksum, .. }] => {
                        let digest = want.parse().map_err(|e| PlanError::At {
                            line: cx.line,
                            message: format!("invalid checksum {want:?}: {e}"),
                            help: Some("write --checksum=sha256:<64 hex digits>".into()),
                        })?;
                        *checksum = Some(digest);
                    }
                    [CopySource::Git(git)] => match &git.checksum {
                        Some(have) if *have != want => {
                            return Err(cx.fail(format!("checksum mismatch {want:?} != {have:?}")));
                        }
                        _ => git.checksum = Some(want),
                    },
                    [_] => return Err(cx.fail("checksum requires HTTP(S) or Git sources")),
                    _ => return Err(cx.fail("checksum can't be specified for multiple sources")),
                }
            }
            let no_cache = cx.scope.no_cache;
            let history = cx.scope.history(format!("{text} # buildkit"), true);
            step(StepKind::Copy(copy), text, no_cache, history);
        }
    }
    Ok(())
}

fn title_of_copy(text: &str, from: Option<&str>) -> String {
    match (from, text.strip_prefix("COPY")) {
        (Some(f), Some(rest)) => format!("COPY --from={f}{rest}"),
        _ => text.to_owned(),
    }
}

/// Expands and sorts the sources of a COPY or ADD; gives the history text.
fn sources<E>(
    cx: &mut Context<'_, '_>,
    copy: &mut Copy,
    paths: &[String],
    dest: &str,
    heredocs: &[dockerfile::Heredoc],
    chmod: Option<&str>,
) -> Result<String, PlanError<E>> {
    let name = if copy.add { "ADD" } else { "COPY" };
    let mut text = name.to_owned();
    if copy.parents {
        text.push_str(" --parents");
    }
    if let Some(c) = copy.chown.take() {
        let c = cx.word(&c)?;
        if !c.is_empty() {
            text.push_str(&format!(" --chown={c}"));
            copy.chown = Some(c);
        }
    }
    if let Some(c) = chmod {
        let c = cx.word(c)?;
        if !c.is_empty() {
            copy.chmod = Some(Chmod::parse(&c).map_err(|e| cx.fail(e.to_string()))?);
            text.push_str(&format!(" --chmod={c}"));
        }
    }
    for p in paths {
        let p = cx.word(p)?;
        text.push_str(&format!(" {}", crate::fetch::without_password(&p)));
        let source = match remote(&p).map_err(|e| cx.fail(e.to_string()))? {
            Some(s) if copy.add => s,
            Some(CopySource::Git(_)) => return Err(cx.fail("source can't be a git ref for COPY")),
            Some(_) => return Err(cx.fail("source can't be a URL for COPY")),
            None => CopySource::Path(p),
        };
        copy.sources.push(source);
    }
    for h in heredocs {
        let content = if h.expand {
            expand::heredoc(&h.content, &|k| cx.scope.get(k)).map_err(|e| cx.fail(e.to_string()))?.text
        } else {
            h.content.clone()
        };
        text.push_str(&format!(" <<{}", h.name));
        copy.sources.push(CopySource::Inline { name: h.name.clone(), content });
    }
    let dest = cx.word(dest)?;
    text.push_str(&format!(" {dest}"));
    copy.dest = absolute_dest(cx.scope.cwd(), &dest);
    Ok(text)
}

/// What an ADD source is that is to be fetched.
pub(super) fn remote(source: &str) -> Result<Option<CopySource>, GitRefError> {
    if let Some(git) = GitRef::parse(source)?
        && !git.like_a_path
    {
        return Ok(Some(CopySource::Git(Box::new(git))));
    }
    Ok(crate::input::is_url(source).then(|| CopySource::Http { url: source.to_owned(), checksum: None }))
}

/// Adds `--keep-git-dir` to what the source says itself.
fn keep_git_dir(git: &mut GitRef, flag: Option<bool>) -> Result<(), &'static str> {
    match (flag, git.keep_git_dir) {
        (Some(a), Some(b)) if a != b => return Err("inconsistent keep-git-dir configuration"),
        (Some(a), None) => git.keep_git_dir = Some(a),
        _ => {}
    }
    Ok(())
}

fn healthcheck(check: &dockerfile::Healthcheck) -> Healthcheck {
    let dockerfile::Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } =
        check
    else {
        return Healthcheck { test: Some(vec!["NONE".to_owned()]), ..Healthcheck::default() };
    };
    let nanos =
        |d: &Option<std::time::Duration>| d.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    let test = match command {
        // The engine runs it with the shell of the image.
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
    };
    Healthcheck {
        test: Some(test),
        interval: nanos(interval),
        timeout: nanos(timeout),
        start_period: nanos(start_period),
        start_interval: nanos(start_interval),
        retries: retries.map_or(0, i64::from),
    }
}

/// The command of a RUN, with its shell, and the script of a heredoc that begins with `#!`.
fn run_command(scope: &Scope, run: &dockerfile::RunInst) -> (Vec<String>, Option<(String, String)>) {
    match run.script() {
        Script::Exec(words) => (words, None),
        Script::Shell(text) => (scope.with_shell(&Command::Shell(text)), None),
        Script::File { name, content } => {
            (scope.with_shell(&Command::Shell(format!("/dev/pipes/{name}"))), Some((name, content)))
        }
    }
}

fn run_mount<E>(cx: &mut Context<'_, '_>, raw: &str, current: usize) -> Result<RunMount, PlanError<E>> {
    use dockerfile::mount::Kind as MountKind;
    let escape = cx.escape;
    let scope = &*cx.scope;
    let parsed =
        dockerfile::mount::parse(raw, &mut |w| expand::word(w, &|k| scope.get(k), escape).map(|e| e.text));
    let mount = parsed.map_err(|e| cx.fail(e.to_string()))?;
    let from = match &mount.from {
        Some(name) => {
            let number = find_source(name, cx.drafts, cx.names);
            let number = number.ok_or_else(|| cx.fail(format!("stage {name:?} is not known")))?;
            if !cx.drafts[number].image_only && number >= current {
                let target = mount.target.clone().unwrap_or_default();
                return Err(cx.fail(format!(
                    "cannot mount from stage {name:?} to {target:?}, stage needs to be defined before current command"
                )));
            }
            Some(number)
        }
        None => None,
    };
    let target = match (mount.kind, &mount.target) {
        (MountKind::Secret | MountKind::Ssh, None) => String::new(),
        // No target, as one that expands to nothing, is the working directory.
        (_, target) => absolute(cx.scope.cwd(), target.as_deref().unwrap_or_default()),
    };
    if target == "/" {
        return Err(cx.fail(format!("invalid mount target {target:?}")));
    }
    Ok(RunMount { mount, from, target })
}

/// Whether a text names a signal: a number, or a name with or without SIG (Linux' names).
fn is_signal(text: &str) -> bool {
    // Any number but 0: nobody knows what signals the image's system has.
    if let Ok(n) = text.parse::<i64>() {
        return n != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    let realtime = |prefix: &str, last: u32| {
        name.strip_prefix(prefix).is_some_and(|n| (1..=last).any(|k| k.to_string() == n))
    };
    NAMES.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || realtime("RTMIN+", 15)
        || realtime("RTMAX-", 14)
}
