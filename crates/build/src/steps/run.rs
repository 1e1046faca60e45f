//! RUN: the command in the sandbox, on the view of its parent.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dockerfile::mount::{Kind as MountKind, Sharing};
use oci::tree::{Id, ROOT};
use oci::{Content, Digest, Hasher, Tree};
use sandbox::{Bits, Exit, Hits, Mount, MountSource, Network, Security, Stdio};
use serde_json::{Map, Value, json};

use crate::cachemount::{self, Seed, Wait, Wanted};
use crate::commit::{Changes, layer_of_upper};
use crate::copy::{clean, hash_inode};
use crate::error::BuildError;
use crate::events::{Event, StepId, Stream};
use crate::key::{EMPTY_CHAIN, Key, chain, key};
use crate::mask::{self, Secrets};
use crate::masking::password_of;
use crate::meaning;
use crate::observe;
use crate::options::{NetworkMode, Options, Secret};
use crate::plan::{Plan, Run, RunMount, Stage, Start, Step, StepKind, is_proxy};
use crate::solve::{Ran, Solver};
use crate::sshagent::Filter;
use crate::state::State;
use crate::users;

/// Bytes of a step's output that its record keeps (the end), and that an error shows.
const LOG_KEPT: usize = 256 << 10;

/// A mount with what it needs.
enum Source {
    View {
        tree: Arc<Tree>,
        id: Id,
        writable: bool,
    },
    Cache {
        wanted: Wanted,
        readonly: bool,
    },
    Tmpfs(Option<u64>),
    /// Its value is read when the step runs: one that is found in the cache needs none.
    Secret {
        id: String,
        /// The file is left out where only the variable is wanted.
        file: bool,
        variable: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: String,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

pub(crate) struct PreparedRun<'p> {
    run: &'p Run,
    line: Option<u32>,
    mounts: Vec<(String, Source)>,
    /// Digest of the files of all bind mounts; none if there are none.
    bound: Option<Digest>,
    pub(super) key: Key,
}

/// A command that is ready to start, with what must live as long as it runs.
pub(crate) struct Entered {
    pub(crate) step: sandbox::Step,
    /// Who runs it, in the form of [`observe::Recorded::identity`].
    who: String,
    secrets: Secrets,
    caches: cachemount::AllHeld,
    agents: Vec<Filter>,
    loan: store::Loan,
    scratch: store::ScratchDir,
}

/// What lies at and below an inode: names, types, modes, owners, contents; no times.
fn tree_digest(tree: &Tree, id: Id) -> Digest {
    let mut h = Hasher::new();
    let mut links = std::collections::HashMap::new();
    let done: Result<(), std::convert::Infallible> = tree.walk(id, &mut |path, child| {
        let rel = if child == id { &[][..] } else { path };
        hash_inode(&mut h, rel, tree, child, &mut links);
        Ok(oci::tree::Walk::Into)
    });
    let Ok(()) = done;
    h.finish()
}

impl<'p> PreparedRun<'p> {
    pub(crate) fn new(
        solver: &Solver<'_>,
        stage: &Stage,
        step: &'p Step,
        run: &'p Run,
        barrier: Option<&Digest>,
    ) -> Result<PreparedRun<'p>, BuildError> {
        let line = step.lines.map(|l| l.0);
        let insecure = !matches!(run.security.as_deref(), None | Some("sandbox"));
        let mut mounts = Vec::new();
        let mut described = Vec::new();
        let mut bound = None;
        for m in &run.mounts {
            let (target, source, text) = resolve(solver, m, line, mounts.len())?;
            described.push(text);
            if let Source::View { tree, id, .. } = &source {
                bound = Some(chain(&bound.unwrap_or(EMPTY_CHAIN), &tree_digest(tree, *id)));
            }
            mounts.push((target, source));
        }
        let mut env = Map::new();
        for (k, v) in &run.env {
            env.insert(k.clone(), json!(v));
        }
        let o = solver.options;
        let mut inputs = Map::new();
        inputs.insert("step".into(), json!("run"));
        if let Some(salt) = &o.salt {
            inputs.insert("salt".into(), json!(salt));
        }
        if let Some(b) = barrier {
            inputs.insert("barrier".into(), json!(b.hex()));
        }
        // So that nothing which was once taken by what it reads is taken for it.
        if run.chain {
            inputs.insert("cache".into(), json!("chain"));
        }
        inputs.insert("args".into(), json!(run.args));
        inputs.insert("env".into(), Value::Object(env));
        inputs.insert("cwd".into(), json!(run.cwd));
        inputs.insert("user".into(), json!(run.user));
        inputs.insert("network".into(), json!(network(run, solver.options).name()));
        inputs.insert("security".into(), json!(if insecure { "insecure" } else { "sandbox" }));
        inputs.insert("platform".into(), json!(stage.platform.to_string()));
        inputs.insert("hostname".into(), json!(o.hostname));
        inputs.insert("hosts".into(), json!(o.hosts));
        inputs.insert("shm".into(), json!(o.shm_size));
        let ulimits: Vec<Value> =
            o.ulimits.iter().map(|u| json!([u.resource.name(), u.soft, u.hard])).collect();
        inputs.insert("ulimits".into(), json!(ulimits));
        inputs.insert("mounts".into(), json!(described));
        // Where they are, and whether they can be written.
        if !o.volumes.is_empty() {
            let volumes =
                o.volumes.iter().map(|v| json!([String::from_utf8_lossy(&v.target), is_readonly(v)]));
            inputs.insert("volumes".into(), volumes.collect());
        }
        if let Some((name, content)) = &run.script {
            inputs.insert("script".into(), json!([name, Digest::of(content.as_bytes()).hex()]));
        }
        Ok(PreparedRun { run, line, mounts, bound, key: key(inputs) })
    }

    /// The way into a stage without a RUN: its environment and directory, as root.
    pub(crate) fn bare(run: &'p Run) -> PreparedRun<'p> {
        PreparedRun { run, line: None, mounts: Vec::new(), bound: None, key: key(Map::new()) }
    }

    /// Makes everything ready for the command on `tree`.
    pub(crate) fn enter(
        &self,
        solver: &Solver<'_>,
        id: StepId,
        tree: &Arc<Tree>,
        stdio: Stdio,
    ) -> Result<Entered, BuildError> {
        let run = self.run;
        let who = users::for_process(&run.user, tree, solver.store)?;
        let who_text = identity(&who);
        let mut env: Vec<(String, String)> = run.env.clone();
        env.extend(run.proxy.iter().filter(|(k, _)| !run.env.iter().any(|(e, _)| e == k)).cloned());
        let (mut secrets, mut agents) = (Secrets::default(), Vec::new());
        // Who prints all variables does not mean to tell the password of a proxy.
        let passwords = env.iter().filter(|(k, _)| is_proxy(k)).filter_map(|(_, v)| password_of(v));
        passwords.for_each(|p| secrets.add(p.as_bytes()));
        let scratch = solver.store.scratch()?;
        if !env.iter().any(|(k, _)| k == "HOME") {
            let home = who.home.clone().unwrap_or_else(|| "/".to_owned());
            env.push(("HOME".into(), home));
        }
        let loan = solver.store.lend();
        let content: Arc<dyn Content> = loan.content();
        let wanted = self.mounts.iter().filter_map(|(_, s)| match s {
            Source::Cache { wanted, .. } => Some(wanted),
            _ => None,
        });
        let wait = Wait {
            is_cancelled: &|| solver.is_cancelled(),
            begins: &|what| solver.listener.event(Event::Waiting { id, what: what.to_owned() }),
        };
        let caches = cachemount::open_all(solver.store, wanted, &wait)?;
        let mut mounts = Vec::new();
        for (target, source) in &self.mounts {
            let source = match source {
                Source::View { tree, id, writable } => MountSource::View {
                    tree: tree.clone(),
                    content: content.clone(),
                    subpath: *id,
                    writable: *writable,
                },
                Source::Cache { wanted, readonly } => {
                    let path = caches.path(wanted).map(Path::to_owned).unwrap_or_default();
                    MountSource::Dir { path, readonly: *readonly }
                }
                Source::Tmpfs(size) => MountSource::Tmpfs { size: *size, mode: None },
                Source::Secret { id, file, variable, required, mode, uid, gid } => {
                    let value = self.secret(solver, id, *required)?;
                    if let Some(v) = &value {
                        secrets.add(v);
                    }
                    if let Some(name) = variable {
                        let value = value.clone().unwrap_or_default();
                        env.retain(|(k, _)| k != name);
                        env.push((name.clone(), String::from_utf8_lossy(&value).into_owned()));
                    }
                    let Some(bytes) = value.filter(|_| *file) else { continue };
                    MountSource::File { bytes, mode: *mode, uid: *uid, gid: *gid }
                }
                Source::Ssh { id, required, mode, uid, gid } => {
                    let Some(agent) = self.agent(solver, id, *required)? else { continue };
                    let filter = Filter::start(agent, scratch.path(), &format!("agent.{}", agents.len()));
                    let filter = filter.map_err(BuildError::io("make a socket that leads to", agent))?;
                    let path = filter.path().to_owned();
                    if agents.is_empty() {
                        env.push(("SSH_AUTH_SOCK".into(), target.clone()));
                    }
                    agents.push(filter);
                    MountSource::Socket { path, mode: *mode, uid: *uid, gid: *gid }
                }
            };
            mounts.push(Mount { target: target.as_bytes().to_vec(), source });
        }
        if let Some((name, text)) = &run.script {
            let file = MountSource::File { bytes: text.clone().into_bytes(), mode: 0o755, uid: 0, gid: 0 };
            mounts.push(Mount { target: format!("/dev/pipes/{name}").into_bytes(), source: file });
        }
        let options = solver.options;
        mounts.extend(options.volumes.iter().cloned());
        let step = sandbox::Step {
            tree: tree.clone(),
            content,
            files: sandbox::Files::Fuse,
            scratch: scratch.path().to_owned(),
            argv: run.args.clone(),
            env,
            cwd: run.cwd.clone().into_bytes(),
            user: sandbox::User { uid: who.uid, gid: who.gid, groups: who.groups },
            hostname: options.hostname.clone(),
            etc_hosts: hosts(&options.hostname, &options.hosts),
            resolv_conf: options.resolv_conf.clone(),
            network: match network(run, options) {
                NetworkMode::None => Network::None,
                NetworkMode::Host => Network::Host,
                NetworkMode::Pasta => Network::Pasta,
            },
            security: if run.security.as_deref() == Some("insecure") {
                Security::Insecure
            } else {
                Security::Sandbox
            },
            mounts,
            shm_size: options.shm_size,
            rlimits: options.ulimits.clone(),
            limits: options.limits.clone(),
            stdio,
        };
        Ok(Entered { step, who: who_text, secrets, caches, agents, loan, scratch })
    }

    pub(super) fn execute(&self, solver: &Solver<'_>, id: StepId, parent: &State) -> Result<Ran, BuildError> {
        let tree = parent.tree(solver.store)?;
        let Entered { step, who, secrets, caches, agents, loan, scratch } =
            self.enter(solver, id, &tree, Stdio::Pipes)?;
        if solver.is_cancelled() {
            return Err(BuildError::Interrupted);
        }
        let command = || self.run.args.join(" ");
        let warn = |_, text| solver.listener.event(Event::Warning { text, line: None });
        let started = solver.views.spawn(solver.store, &step, parent.layers(), &warn);
        let mut running = started.map_err(|e| match e {
            BuildError::Sandbox(e) => not_run(e, command()),
            e => e,
        })?;
        drop(step);
        solver.register(id, running.handle());
        let log = Mutex::new(Log::default());
        let pipes = [(running.stdout.take(), Stream::Stdout), (running.stderr.take(), Stream::Stderr)];
        std::thread::scope(|scope| {
            for (pipe, stream) in pipes {
                let (log, masked) = (&log, secrets.stream());
                scope.spawn(move || forward(solver, id, pipe, stream, masked, log));
            }
        });
        let outcome = running.wait();
        solver.unregister(id);
        drop((caches, agents));
        let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
        // A build that stops kills its steps; their end is no failure of theirs.
        if solver.is_cancelled() {
            return Err(BuildError::Interrupted);
        }
        let outcome = outcome.map_err(|e| not_run(e, command()))?;
        if let Some((end, code)) = failure(outcome.exit, outcome.hits) {
            if solver.options.keep_failed {
                // What it wrote is wanted, but that it failed is what must be told.
                if let Ok(layer) = written(solver, &outcome, &tree) {
                    solver.keep_written(id, layer);
                }
            }
            return Err(BuildError::Command { command: command(), end, code, tail: log.tail() });
        }
        let batch = solver.store.batch();
        let Changes { layer, compared } = layer_of_upper(&outcome.upper, &tree, &outcome.stubs, &batch)?;
        let mut seen = outcome.seen;
        if let Some(root) = seen.first_mut() {
            root.inodes.extend(compared.into_iter().map(|id| (id, Bits::ATTR | Bits::CONTENT)));
            root.merge();
        }
        let observations = self.observations(solver, &tree, &seen, who, &layer);
        drop((loan, scratch));
        Ok(Ran { layer: (&layer).into(), batch, log: log.into_bytes(), observations })
    }

    /// Where a record of this step on `parent` belongs: its chain, and the files of the bind mounts if there are any.
    pub(super) fn place(&self, parent: &State) -> Digest {
        self.bound.map_or(parent.chain(), |bound| chain(&parent.chain(), &bound))
    }

    /// The value of a secret, if it was given.
    fn secret(&self, solver: &Solver<'_>, id: &str, required: bool) -> Result<Option<Vec<u8>>, BuildError> {
        match solver.options.secrets.get(id) {
            Some(Secret::Bytes(b)) => Ok(Some(b.clone())),
            Some(Secret::File(p)) => std::fs::read(p).map(Some).map_err(BuildError::io("read secret", p)),
            None if required => Err(BuildError::Line {
                line: self.line,
                message: format!("secret {id}: not found"),
                help: Some(format!("give it with --secret id={id},src=FILE or --secret id={id},env=NAME")),
            }),
            None => Ok(None),
        }
    }

    /// The socket of an agent, if it was given.
    fn agent<'s>(
        &self,
        solver: &'s Solver<'_>,
        id: &str,
        required: bool,
    ) -> Result<Option<&'s Path>, BuildError> {
        match solver.options.ssh.get(id) {
            None if required => Err(BuildError::Line {
                line: self.line,
                message: format!("no SSH key {id:?} forwarded from the client"),
                help: Some(format!("give it with --ssh {id}")),
            }),
            agent => Ok(agent.map(PathBuf::as_path)),
        }
    }

    /// Whether what the step learns is all that it can depend on. A step without confinement may reach around its view; one with
    /// `--cache=chain` says of itself that it depends on more.
    pub(crate) fn may_be_observed(&self) -> bool {
        !self.run.chain && !matches!(self.run.security.as_deref(), Some("insecure"))
    }

    /// Who the step runs as on this tree, in the form of [`observe::Recorded::identity`].
    pub(crate) fn identity(&self, solver: &Solver<'_>, tree: &Tree) -> Result<String, BuildError> {
        Ok(identity(&users::for_process(&self.run.user, tree, solver.store)?))
    }

    /// The trees that the step sees, the root first.
    pub(crate) fn view_trees(&self, root: &Arc<Tree>) -> Vec<Arc<Tree>> {
        let mounted = self.mounts.iter().filter_map(|(_, s)| match s {
            Source::View { tree, .. } => Some(tree.clone()),
            _ => None,
        });
        std::iter::once(root.clone()).chain(mounted).collect()
    }

    /// A path of the view that this number of view mount shows, as the step sees it.
    pub(crate) fn mounted_path(&self, number: usize, path: &str) -> String {
        let mut views = self.mounts.iter().filter_map(|(target, s)| match s {
            Source::View { tree, id, .. } => Some((target, oci::index::show(&tree.path(*id)))),
            _ => None,
        });
        match views.nth(number) {
            Some((target, base)) => crate::why::below_target(target, &base, path),
            None => path.to_owned(),
        }
    }

    /// What the step learned, for all views.
    fn observations(
        &self,
        solver: &Solver<'_>,
        tree: &Arc<Tree>,
        seen: &[sandbox::Seen],
        who: String,
        layer: &oci::LayerIndex,
    ) -> Option<Vec<u8>> {
        let trees = self.view_trees(tree);
        if seen.len() != trees.len() {
            return None;
        }
        let views =
            trees.iter().zip(seen).map(|(t, s)| observe::observations(t, s)).collect::<Option<_>>()?;
        let partial = match seen.iter().find_map(|s| s.incomplete.clone()) {
            Some(why) => why,
            None if !self.may_be_observed() => "it may have reached around its view".into(),
            None => String::new(),
        };
        let outside = self.outside(solver);
        let mut recorded = observe::Recorded { identity: who, partial, outside, views };
        let script = self.run.script.as_ref().map_or("", |(_, text)| text);
        let text = format!("{}\n{script}", self.run.args.join(" "));
        meaning::find(&mut recorded, tree, layer, &text, &self.covered(tree), solver.store);
        Some(observe::encode(&recorded))
    }

    /// Where the step may see files that nobody observes, resolved on this tree.
    pub(crate) fn covered(&self, tree: &Tree) -> Vec<Vec<u8>> {
        let mounts = self.mounts.iter().filter(|(_, s)| !matches!(s, Source::View { .. }));
        let targets = mounts.map(|(target, _)| target.as_str()).chain(["/dev", "/proc", "/sys"]);
        let resolved = |t: &str| {
            tree.resolve(t.as_bytes(), true).map_or_else(|_| clean(t).into_bytes(), |p| p.full_path())
        };
        targets.map(resolved).collect()
    }

    /// What the step was given that is part of no tree: see [`observe::Recorded::outside`].
    fn outside(&self, solver: &Solver<'_>) -> Vec<String> {
        let mut out = Vec::new();
        if network(self.run, solver.options) != NetworkMode::None {
            out.push("network".to_owned());
        }
        for (target, source) in &self.mounts {
            match source {
                Source::Cache { .. } => out.push(format!("cache {target}")),
                Source::Secret { id, .. } if solver.options.secrets.contains_key(id) => {
                    out.push(format!("secret {id}"));
                }
                Source::Ssh { id, .. } if solver.options.ssh.contains_key(id) => {
                    out.push(format!("ssh {id}"));
                }
                _ => {}
            }
        }
        out
    }
}

/// What network a step gets: its own choice, else that of the build.
fn network(run: &Run, options: &Options) -> NetworkMode {
    match run.network.as_deref() {
        Some("none") => NetworkMode::None,
        Some("host") => NetworkMode::Host,
        _ => options.network,
    }
}

fn is_readonly(volume: &Mount) -> bool {
    matches!(
        volume.source,
        MountSource::Dir { readonly: true, .. } | MountSource::HostFile { readonly: true, .. }
    )
}

/// What a failed command wrote, as a layer of the store.
fn written(solver: &Solver<'_>, outcome: &sandbox::Outcome, tree: &Tree) -> Result<Digest, BuildError> {
    let batch = solver.store.batch();
    let layer = batch.add_layer(&layer_of_upper(&outcome.upper, tree, &outcome.stubs, &batch)?.layer)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok(layer)
}

/// Everything about a user that a step can tell.
fn identity(who: &users::Identity) -> String {
    let groups: Vec<String> = who.groups.iter().map(u32::to_string).collect();
    format!("{}:{}:{}:{}", who.uid, who.gid, groups.join(","), who.home.as_deref().unwrap_or("/"))
}

/// Finds where and what a `--mount` mounts. The text describes it for the key.
fn resolve(
    solver: &Solver<'_>,
    m: &RunMount,
    line: Option<u32>,
    number: usize,
) -> Result<(String, Source, Value), BuildError> {
    let mount = &m.mount;
    let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    match mount.kind {
        MountKind::Bind => {
            let (tree, id) = subtree(solver, m, line)?;
            let writable = !mount.is_readonly();
            // Not its files: those are observed. But where in its tree it begins, since that is where paths are observed from.
            let path = oci::index::show(&tree.path(id));
            let text = json!({"type": "bind", "target": m.target, "rw": writable, "path": path});
            Ok((m.target.clone(), Source::View { tree, id, writable }, text))
        }
        MountKind::Tmpfs => {
            let size = mount.size.filter(|&s| s > 0);
            let text = json!({"type": "tmpfs", "target": m.target, "size": size});
            Ok((m.target.clone(), Source::Tmpfs(size), text))
        }
        MountKind::Cache => {
            let id = cache_id(mount, solver.options);
            let seed = match m.from {
                Some(_) => {
                    let (tree, start) = subtree(solver, m, line)?;
                    Some(Seed::new(tree, start))
                }
                None => None,
            };
            let mode = permissions(mount, 0o755);
            let sharing = mount.sharing.unwrap_or(Sharing::Shared);
            let readonly = mount.is_readonly();
            let text = json!({"type": "cache", "target": m.target, "ro": readonly, "mode": mode, "owner": [owner.0, owner.1]});
            let wanted = Wanted { id, sharing, mode, uid: owner.0, gid: owner.1, seed };
            Ok((m.target.clone(), Source::Cache { wanted, readonly }, text))
        }
        MountKind::Secret => {
            let from_target = || mount.target.as_deref().map(base_name);
            let id = mount.source.clone().or(mount.id.clone()).or(from_target()).unwrap_or_default();
            let mode = permissions(mount, 0o400);
            let variable = mount.env.as_ref().map(|e| if e.is_empty() { base_name(&id) } else { e.clone() });
            let target = match (&mount.target, &variable) {
                (Some(_), _) => Some(m.target.clone()),
                (None, Some(_)) => None,
                (None, None) => Some(format!("/run/secrets/{}", base_name(&id))),
            };
            let text = json!({"type": "secret", "id": id, "target": target, "env": variable, "mode": mode,
                "owner": [owner.0, owner.1], "required": mount.required});
            let (file, required) = (target.is_some(), mount.required);
            let source = Source::Secret { id, file, variable, required, mode, uid: owner.0, gid: owner.1 };
            Ok((target.unwrap_or_default(), source, text))
        }
        MountKind::Ssh => {
            let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
            let target = match &mount.target {
                Some(_) => m.target.clone(),
                None => format!("/run/buildkit/ssh_agent.{number}"),
            };
            let mode = permissions(mount, 0o600);
            let text =
                json!({"type": "ssh", "id": id, "target": target, "mode": mode, "owner": [owner.0, owner.1]});
            let source = Source::Ssh { id, required: mount.required, mode, uid: owner.0, gid: owner.1 };
            Ok((target, source, text))
        }
    }
}

/// The `mode` of a mount: permissions alone, whatever else is asked for.
fn permissions(mount: &dockerfile::mount::Mount, default: u32) -> u32 {
    mount.mode.unwrap_or(default) & 0o777
}

/// The id of a cache mount: as given, else its target as it is written, behind the namespace.
fn cache_id(mount: &dockerfile::mount::Mount, options: &Options) -> String {
    let target = mount.target.as_deref().unwrap_or("");
    let root = if target.starts_with('/') { "/" } else { "" };
    let written = || if target.is_empty() { ".".to_owned() } else { format!("{root}{}", clean(target)) };
    let id = mount.id.clone().unwrap_or_else(written);
    let namespace = &options.cache_namespace;
    if namespace.is_empty() { id } else { format!("{namespace}/{id}") }
}

/// The ids of all cache mounts that a build may use.
pub(crate) fn cache_ids(plan: &Plan, options: &Options) -> Vec<String> {
    let steps = plan.stages.iter().filter(|s| s.needed).flat_map(|s| &s.steps);
    let mounts = steps.flat_map(|s| match &s.kind {
        StepKind::Run(run) => run.mounts.as_slice(),
        _ => &[],
    });
    mounts.filter(|m| m.mount.kind == MountKind::Cache).map(|m| cache_id(&m.mount, options)).collect()
}

fn base_name(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_owned()
}

/// The tree and inode that `from` and `source` of a mount name.
fn subtree(solver: &Solver<'_>, m: &RunMount, line: Option<u32>) -> Result<(Arc<Tree>, Id), BuildError> {
    let (tree, context) = match m.from {
        Some(stage) => match &solver.plan.stages[stage].start {
            Start::Local(name) if solver.plan.stages[stage].steps.is_empty() => match solver.locals.get(name)
            {
                Some(c) => (c.tree.clone(), Some(c.clone())),
                None => (Arc::new(Tree::new()), None),
            },
            _ => (solver.wait_for(stage)?.state.tree(solver.store)?, None),
        },
        None => match solver.context.get() {
            Some(c) => (c.tree.clone(), Some(c.clone())),
            None => (Arc::new(Tree::new()), None),
        },
    };
    let source = clean(m.mount.source.as_deref().unwrap_or("/"));
    let place = tree.resolve(source.as_bytes(), true).ok().filter(oci::tree::Place::exists);
    let id = match place {
        Some(p) => p.id,
        None if source.is_empty() => ROOT,
        None => {
            let hidden = context.as_ref().is_some_and(|c| c.hides(&source));
            let message = format!("mount source {source:?}: not found");
            let help = hidden.then(|| "it is in the build context, but .dockerignore excludes it".to_owned());
            return Err(BuildError::Line { line, message, help });
        }
    };
    // What a view serves must be in the store.
    if let (Some(c), false) = (context, solver.dry) {
        let batch = solver.store.batch();
        c.provide_all(&batch)?;
        batch.commit(Vec::new(), Vec::new())?;
    }
    Ok((tree, id))
}

/// `/etc/hosts` as BuildKit makes it.
fn hosts(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

/// A command that could not even be started fails as it would in a shell: with 126 or 127.
fn not_run(e: sandbox::SandboxError, command: String) -> BuildError {
    match &e {
        sandbox::SandboxError::Command { code, .. } => BuildError::Command {
            command,
            end: format!("exit code: {code}: {e}"),
            code: *code,
            tail: String::new(),
        },
        _ => BuildError::Sandbox(e),
    }
}

/// Text and code of an end that is a failure.
fn failure(exit: Exit, hits: Hits) -> Option<(String, i32)> {
    let (mut end, code) = match exit {
        Exit::Code(0) => return None,
        Exit::Code(n) => (format!("exit code: {n}"), n),
        Exit::Signal(n) => {
            let name = match n {
                6 => "SIGABRT".to_owned(),
                9 if hits.memory => "SIGKILL".to_owned(),
                9 => "SIGKILL (out of memory?)".to_owned(),
                11 => "SIGSEGV".to_owned(),
                15 => "SIGTERM".to_owned(),
                n => format!("signal {n}"),
            };
            (format!("killed by {name}"), 128 + n)
        }
    };
    if hits.memory {
        end.push_str(
            "; the kernel killed a process, since the step wanted more memory than --memory gives it",
        );
    }
    if hits.pids {
        end.push_str("; it had as many processes as --pids-limit allows, and could start no more");
    }
    Some((end, code))
}

/// The last part of a step's output.
#[derive(Default)]
struct Log {
    bytes: std::collections::VecDeque<u8>,
}

impl Log {
    fn push(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        let over = self.bytes.len().saturating_sub(LOG_KEPT);
        self.bytes.drain(..over);
    }

    fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }

    /// The last lines, for an error.
    fn tail(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn forward(
    solver: &Solver<'_>,
    id: StepId,
    pipe: Option<std::io::PipeReader>,
    stream: Stream,
    mut masked: mask::Stream<'_>,
    log: &Mutex<Log>,
) {
    let Some(mut pipe) = pipe else { return };
    let tell = |data: Vec<u8>| {
        if !data.is_empty() {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(&data);
            solver.listener.event(Event::Log { id, stream, data });
        }
    };
    let mut buf = vec![0u8; 32 << 10];
    loop {
        match pipe.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => tell(masked.push(&buf[..n])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    tell(masked.finish());
}
