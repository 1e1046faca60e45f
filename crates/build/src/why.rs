//! Why a step has to run: the first input that differs from the nearest earlier run, and where it comes from.
//!
//! The nearest earlier run is, for a step whose key has records, the one that the last build of the same Dockerfile used, else the newest.
//! For a step whose key has none it is what that build had in the step's place, and what differs is part of the step itself. All
//! of it is told from records and the log of builds: where they are lost, less is known, and nothing else changes.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::sync::Arc;

use oci::index::{EncodedLayer, show};
use oci::tree::{Id, Node, components};
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use serde_json::Value;
use store::Record;

use crate::account::{BuildRecord, PAST, StepRecord};
use crate::copy::{Source, Spec, clean, select};
use crate::error::BuildError;
use crate::events::RunReason;
use crate::masking::Masker;
use crate::notes::Notes;
use crate::observe::{Difference, decode};
use crate::options::CacheMode;
use crate::plan::{Copy, CopySource, Start, StepKind};
use crate::reason::{FileState, NAMES, Origin};
use crate::solve::{At, Solver};
use crate::state::State;
use crate::steps::Prepared;

impl Solver<'_> {
    /// The builds before this one, newest first; those of the same Dockerfile and platform first, then those of another platform.
    pub(crate) fn past(&self) -> &[BuildRecord] {
        self.past.get_or_init(|| {
            let all = crate::account::past(self.store, PAST).unwrap_or_default();
            let mut all: Vec<BuildRecord> = all.into_iter().map(|(_, b)| b).collect();
            all.sort_by_key(|b| (!b.same_project(&self.header), b.platform != self.header.platform));
            all
        })
    }

    /// The last build of the same Dockerfile for the same platform, of those that a test lets pass.
    pub(crate) fn past_if(&self, test: impl Fn(&BuildRecord) -> bool) -> Option<&BuildRecord> {
        let same = |b: &&BuildRecord| b.same_project(&self.header) && b.platform == self.header.platform;
        self.past().iter().filter(same).find(|b| test(b))
    }

    /// What past builds had in a step's place, the nearest first.
    fn counterparts<'s>(
        &'s self,
        at: At<'s>,
    ) -> impl Iterator<Item = (&'s BuildRecord, &'s StepRecord)> + 's {
        let stage = self.stage_name(at.stage);
        let (title, kind) = (self.masker.text(&at.step.title), kind_of(&at.step.kind));
        self.past().iter().filter_map(move |b| {
            let near = b.same_project(&self.header);
            Some((b, b.counterpart(&stage, at.number, &title, kind, near)?))
        })
    }

    /// How long a step, or what was in its place, took when it last ran.
    pub(crate) fn took_before(&self, at: At<'_>) -> Option<u64> {
        self.counterparts(at).find(|(_, s)| s.layer.is_some()).map(|(_, s)| s.ran_ms)
    }

    /// The layer that the last build had in a step's place, if the store still has it.
    pub(crate) fn layer_before(&self, at: At<'_>) -> Option<Digest> {
        let id = self.counterparts(at).find_map(|(_, s)| s.layer)?;
        self.store.has_layer(&id).ok()?.then_some(id)
    }

    /// Why a step has to run. `earlier` are the records of its key.
    pub(crate) fn what_changed(
        &self,
        at: At<'_>,
        prepared: &Prepared<'_>,
        earlier: &[Record],
        parent: &State,
    ) -> Result<RunReason, BuildError> {
        let key = prepared.key();
        if earlier.is_empty() {
            return self.what_is_new(at, prepared);
        }
        let Prepared::Run(run) = prepared else { return Ok(RunReason::Recomputed) };
        let pruned = |r: &Record| Ok::<_, BuildError>(!self.store.has_layer(&r.layer)?);
        if self.options.cache != CacheMode::Traced || !run.may_be_observed() {
            let here = earlier.iter().find(|r| r.parent == prepared.place(parent));
            return Ok(match here {
                Some(r) if pruned(r)? => RunReason::Pruned,
                _ => RunReason::ParentChanged { origin: self.first_change_below(at, parent) },
            });
        }
        let used = self.counterparts(at).find(|(_, s)| s.key == Some(key.digest)).and_then(|(_, s)| s.parent);
        let mut sorted: Vec<&Record> = earlier.iter().filter(|r| r.has_observations).collect();
        sorted.sort_by_key(|r| Some(r.parent) != used);
        for r in sorted {
            let Some(bytes) = self.store.record_observations(r.id)? else { continue };
            let Some(recorded) = decode(&bytes).filter(|r| r.partial.is_empty()) else { continue };
            return Ok(match self.difference(prepared, &recorded, parent)? {
                Some(d) => self.input_changed(at, prepared, r, d, parent)?,
                None if pruned(r)? => RunReason::Pruned,
                None => {
                    let noise = Notes::of(r).noise;
                    let flag = if noise { "flag --cutoff" } else { "flag --cache" };
                    RunReason::StepChanged { input: flag.to_owned(), old: None, new: None }
                }
            });
        }
        Ok(RunReason::ParentChanged { origin: self.first_change_below(at, parent) })
    }

    fn input_changed(
        &self,
        at: At<'_>,
        prepared: &Prepared<'_>,
        record: &Record,
        d: Difference,
        parent: &State,
    ) -> Result<RunReason, BuildError> {
        let mut reason = RunReason::InputChanged {
            path: d.path.clone(),
            how: d.how.clone(),
            origin: None,
            old: None,
            new: None,
            added: Vec::new(),
            removed: Vec::new(),
        };
        let RunReason::InputChanged { path, how, origin, old, new, added, removed } = &mut reason else {
            return Ok(reason);
        };
        let Prepared::Run(run) = prepared else { return Ok(reason) };
        if how == "content changed" {
            "changed".clone_into(how);
        }
        if d.path.is_empty() {
            return Ok(reason);
        }
        let tree = parent.tree(self.store)?;
        let Some(view) = run.view_trees(&tree).into_iter().nth(d.view) else { return Ok(reason) };
        let now = view.lookup(d.path.as_bytes());
        *new = now.map(|id| Box::new(FileState::of(&view, id)));
        if d.view > 0 {
            *path = run.mounted_path(d.view - 1, &d.path);
            return Ok(reason);
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        // What the step saw then; if the layers are still there.
        let below = Notes::of(record).below;
        let before = State::of_layers(below.clone()).tree(self.store).ok();
        let was = before.as_ref().and_then(|t| Some((t, t.lookup(d.path.as_bytes())?)));
        *old = was.map(|(t, id)| Box::new(FileState::of(t, id)));
        if let (Some(o), Some(n)) = (old.as_ref(), new.as_ref()) {
            match o.change_to(n) {
                Some(change) if how != "names in it changed" => *how = change,
                _ => {}
            }
        }
        if let (Some((t, was)), Some(now)) = (was, now) {
            *added = missing(&view, now, t, was);
            *removed = missing(t, was, &view, now);
        }
        // Of a directory whose names changed: where the first new one comes from, or the lost one came from.
        let child = |name: Option<&String>| name.map(|n| format!("{}/{n}", d.path.trim_end_matches('/')));
        let new_one = child(added.first()).and_then(|p| view.lookup(p.as_bytes()));
        let lost = child(removed.first()).or_else(|| now.is_none().then(|| d.path.clone()));
        *origin = match (new_one, lost, before) {
            (None, Some(p), Some(before)) => self.origin_before(at, &p, &before, &below, parent),
            (Some(id), _, _) => self.origin(at, &view, id, parent)?,
            _ => now.map(|id| self.origin(at, &view, id, parent)).transpose()?.flatten(),
        };
        Ok(reason)
    }

    /// Where an inode of a step's root comes from.
    fn origin(&self, at: At<'_>, tree: &Tree, id: Id, parent: &State) -> Result<Option<Origin>, BuildError> {
        let makers = self.makers(at);
        let base = parent.layers().len().saturating_sub(makers.len());
        let layer = tree.inode(id).layer as usize;
        let Some(&(s, n)) = layer.checked_sub(base).and_then(|i| makers.get(i)) else {
            return Ok(self.base_origin(at.stage));
        };
        let step = &self.plan.stages[s].steps[n];
        let context = match &step.kind {
            StepKind::Copy(c) => self.context_path(c, &tree.path(id), &FileState::of(tree, id)),
            _ => None,
        };
        Ok(Some(Origin {
            step: self.masker.text(&step.title),
            line: step.lines.map(|l| l.0),
            stage: (s != at.stage).then(|| self.stage_name(s)),
            context,
            old_base: None,
            new_base: None,
        }))
    }

    /// The file of the context that a file of an image was copied from: of those with the same content, that whose path ends most alike.
    fn context_path(&self, copy: &Copy, wanted: &[u8], state: &FileState) -> Option<String> {
        let (None, Some(context)) = (copy.from, self.context.get()) else { return None };
        let same = |id: Id| match &context.tree.inode(id).node {
            Node::File { digest, .. } => state.digest == Some(*digest),
            Node::Symlink(target) => state.target.as_ref().is_some_and(|t| *t == show(target)),
            Node::Directory(_) => state.kind == "directory",
            _ => false,
        };
        selected(copy, &context.tree, same)
            .into_iter()
            .max_by_key(|p| alike(p, wanted))
            // Directories are alike by their names only.
            .filter(|p| state.kind != "directory" || alike(p, wanted) > 0)
            .map(|p| show(&p).trim_start_matches('/').to_owned())
    }

    /// Where something came from that is not there any more.
    fn origin_before(
        &self,
        at: At<'_>,
        path: &str,
        before: &Tree,
        below: &[Digest],
        parent: &State,
    ) -> Option<Origin> {
        let layer = below.get(before.inode(before.lookup(path.as_bytes())?).layer as usize)?;
        let base = parent.layers().len().saturating_sub(self.makers(at).len());
        let maker = self.past().iter().find_map(|b| b.maker_of(layer));
        let Some((stage, step)) = maker else {
            let in_base = below.iter().position(|l| l == layer).is_some_and(|n| n < base);
            return if in_base { self.base_origin(at.stage) } else { None };
        };
        Some(Origin {
            step: step.title.clone(),
            line: step.lines.map(|l| l.0),
            stage: (stage.name != self.stage_name(at.stage)).then(|| stage.name.clone()),
            context: None,
            old_base: None,
            new_base: None,
        })
    }

    /// The base image of a stage, and whether it is another one than in the build before.
    fn base_origin(&self, mut stage: usize) -> Option<Origin> {
        while let Start::Stage(b) = self.plan.stages[stage].start {
            stage = b;
        }
        let mut origin = Origin {
            step: String::new(),
            line: None,
            stage: None,
            context: None,
            old_base: None,
            new_base: None,
        };
        match &self.plan.stages[stage].start {
            Start::Image(image) => {
                origin.step = format!("FROM {}", image.name);
                let name = self.stage_name(stage);
                let old = self.past().iter().filter(|b| b.same_project(&self.header)).find_map(|b| {
                    let s = b.stages.iter().find(|s| s.name == name)?;
                    Some((s.base.clone()?, s.below.clone()))
                });
                if let Some((base, below)) = old
                    && below != image.layers
                {
                    origin.old_base = Some(base.digest);
                    origin.new_base = Some(crate::solve::base_digest(image));
                }
            }
            Start::Local(name) => origin.step = format!("FROM {name}"),
            _ => return None,
        }
        Some(origin)
    }

    /// What is the first thing below a step that is otherwise than in the build before.
    fn first_change_below(&self, at: At<'_>, parent: &State) -> Option<Origin> {
        let name = self.stage_name(at.stage);
        let before = self.past().iter().filter(|b| b.same_project(&self.header)).find_map(|b| {
            let stage = b.stages.iter().find(|s| s.name == name && !s.below.is_empty())?;
            let own = stage.steps.iter().map_while(|s| s.layer);
            Some(stage.below.iter().copied().chain(own).collect::<Vec<Digest>>())
        })?;
        let makers = self.makers(at);
        let base = parent.layers().len().saturating_sub(makers.len());
        let first = parent.layers().iter().zip(&before).position(|(a, b)| a != b);
        let Some(&(s, n)) = first?.checked_sub(base).and_then(|i| makers.get(i)) else {
            return self.base_origin(at.stage);
        };
        let step = &self.plan.stages[s].steps[n];
        Some(Origin {
            step: self.masker.text(&step.title),
            line: step.lines.map(|l| l.0),
            stage: (s != at.stage).then(|| self.stage_name(s)),
            context: None,
            old_base: None,
            new_base: None,
        })
    }

    /// What of a step is another than in the build before: it has no record of its key.
    fn what_is_new(&self, at: At<'_>, prepared: &Prepared<'_>) -> Result<RunReason, BuildError> {
        let new: Value = serde_json::from_str(&prepared.key().inputs).unwrap_or_default();
        for (_, step) in self.counterparts(at) {
            let (Some(key), Some(_)) = (step.key, step.layer) else { continue };
            if key == prepared.key().digest {
                return Ok(RunReason::Pruned);
            }
            let Some(record) = self.store.records(&key, 1)?.into_iter().next() else { continue };
            let old: Value = serde_json::from_str(&record.inputs).unwrap_or_default();
            let mut reason = compare(&old, &new, &self.masker);
            // What a COPY was given may have come from a variable of then, whose value we do not know: its title was masked then.
            if let (RunReason::StepChanged { old, new, .. }, false) =
                (&mut reason, matches!(prepared, Prepared::Run(_)))
            {
                *old = Some(step.title.clone());
                *new = Some(self.masker.text(&at.step.title));
            }
            return Ok(reason);
        }
        Ok(RunReason::First)
    }

    /// Which files of a COPY are others than in the build before. `layer` is what it made.
    pub(crate) fn which_files(&self, at: At<'_>, layer: &EncodedLayer) -> Option<RunReason> {
        let StepKind::Copy(copy) = &at.step.kind else { return None };
        let old = self.layer_before(at)?;
        let entries = self.store.layer_entries(&old).ok()?;
        let mut changed: Vec<Change> = Vec::new();
        let told = each_change(entries, || self.store.layer(&old), layer, &mut |change| {
            changed.push(change);
            // The sum is told, not listed; beyond this it says little.
            changed.len() <= 10_000
        });
        told.ok()?;
        // What changed says more than what came or went.
        let first = changed.iter().position(|c| c.how == "changed").unwrap_or(0);
        let more = changed.len().checked_sub(1)?;
        let Change { path, how, old, new } = changed.swap_remove(first);
        let origin = copy.from.map(|s| Origin {
            step: self.plan.stages[s].name.clone(),
            line: None,
            stage: None,
            context: None,
            old_base: None,
            new_base: None,
        });
        let source = new.as_ref().and_then(|new| self.context_path(copy, &path, new));
        let path = source.unwrap_or_else(|| format!("/{}", show(&path).trim_start_matches('/')));
        let (old, new) = (old.map(Box::new), new.map(Box::new));
        Some(RunReason::FilesChanged { path, how, more, origin, old, new })
    }

    pub(crate) fn stage_name(&self, stage: usize) -> String {
        self.plan.stages[stage].name.clone()
    }
}

/// A name that is otherwise in one layer than in another.
struct Change {
    path: Vec<u8>,
    how: String,
    old: Option<FileState>,
    new: Option<FileState>,
}

/// Goes through two layers side by side and tells of what is otherwise, until it is told to stop. Directories that come or go do so with
/// what is in them. The layers may be large: they are decoded as a whole only if they have hard links.
fn each_change<E>(
    old: impl Iterator<Item = Result<Entry, E>>,
    whole: impl Fn() -> Result<Arc<LayerIndex>, E>,
    new: &EncodedLayer,
    tell: &mut dyn FnMut(Change) -> bool,
) -> Result<(), E> {
    let (mut was, mut is) = (old, new.entries().peekable());
    let decoded = OnceCell::new();
    let mut next = was.next().transpose()?;
    loop {
        let order = match (&next, is.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => oci::index::compare(&a.path, &b.path),
        };
        let a = if order.is_le() { std::mem::replace(&mut next, was.next().transpose()?) } else { None };
        let b = if order.is_ge() { is.next() } else { None };
        if let (Some(a), Some(b)) = (&a, &b)
            && a.kind == b.kind
            && a.attrs == b.attrs
            && !matches!(a.kind, Kind::HardLink { .. })
        {
            continue;
        }
        let is_link = |e: &Option<Entry>| e.as_ref().is_some_and(|e| matches!(e.kind, Kind::HardLink { .. }));
        let whole = if is_link(&a) { Some(whole()?) } else { None };
        let whole_new = is_link(&b).then(|| decoded.get_or_init(|| new.decode()));
        let old = a.as_ref().and_then(|a| FileState::of_entry(whole.as_deref(), a));
        let new = b.as_ref().and_then(|b| FileState::of_entry(whole_new, b));
        let how = match (&old, &new) {
            (Some(o), Some(n)) => o.change_to(n),
            (None, Some(n)) if n.kind != "directory" => Some("is new".to_owned()),
            (Some(o), None) if o.kind != "directory" => Some("is gone".to_owned()),
            _ => None,
        };
        if let (Some(how), Some(path)) = (how, a.or(b).map(|e| e.path))
            && !tell(Change { path, how, old, new })
        {
            return Ok(());
        }
    }
}

/// What a step is called in accounts.
pub(crate) fn kind_of(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Run(_) => "run",
        StepKind::Copy(c) if c.add => "add",
        StepKind::Copy(_) => "copy",
        StepKind::Workdir(_) => "workdir",
    }
}

/// Names in a directory of one tree that are not in that of another; the first few.
fn missing(tree: &Tree, id: Id, other: &Arc<Tree>, other_id: Id) -> Vec<String> {
    let names = tree.children(id).filter(|(name, _)| other.child(other_id, name).is_none());
    names.take(NAMES).map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

/// What a COPY takes of a context and is wanted.
fn selected(copy: &Copy, tree: &Tree, wanted: impl Fn(Id) -> bool) -> Vec<Vec<u8>> {
    let spec =
        Spec { exclude: copy.exclude.clone(), parents: copy.parents, wildcards: true, ..Spec::default() };
    let paths = copy.sources.iter().filter_map(|s| match s {
        CopySource::Path(p) => Some(p),
        _ => None,
    });
    paths
        .filter_map(|path| Some(select(&Source { tree, path }, &spec).ok()?.paths(tree, &wanted)))
        .flatten()
        .collect()
}

/// How many components two paths have in common at their ends.
fn alike(a: &[u8], b: &[u8]) -> usize {
    let parts = |p| components(p).collect::<Vec<_>>();
    let (a, b) = (parts(a), parts(b));
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}

/// The first input of two keys that differs, in the order in which people would ask: platform, instruction, variables, the rest.
pub(crate) fn compare(old: &Value, new: &Value, masker: &Masker) -> RunReason {
    let mut masker = masker.clone();
    for env in [old, new].iter().filter_map(|v| v["env"].as_object()) {
        env.iter().for_each(|(name, value)| masker.learn(name, value.as_str().unwrap_or_default()));
    }
    let text = |v: &Value| match v {
        Value::Null => None,
        Value::String(s) => Some(masker.text(s)),
        v => Some(masker.text(&v.to_string())),
    };
    let changed = |input: &str, old: Option<String>, new: Option<String>| RunReason::StepChanged {
        input: input.to_owned(),
        old,
        new,
    };
    if old["platform"] != new["platform"] {
        return changed("platform", text(&old["platform"]), text(&new["platform"]));
    }
    if (&old["args"], &old["script"]) != (&new["args"], &new["script"]) {
        let command = |v: &Value| match v["args"].as_array().map(Vec::as_slice) {
            // A shell, its options and the command.
            Some([.., dash, last]) if dash == "-c" => text(last),
            _ => text(&v["args"]),
        };
        return changed("instruction", command(old), command(new));
    }
    if let (Some(a), Some(b)) = (old["env"].as_object(), new["env"].as_object()) {
        let names = a.keys().chain(b.keys()).find(|k| a.get(*k) != b.get(*k));
        if let Some(name) = names {
            let value = |v: Option<&Value>| v.and_then(Value::as_str).map(|v| masker.value(name, v));
            return changed(&format!("variable {name}"), value(a.get(name)), value(b.get(name)));
        }
    }
    if old["mounts"] != new["mounts"] {
        let list = |v: &Value| v["mounts"].as_array().cloned().unwrap_or_default();
        let (a, b) = (list(old), list(new));
        let pair = a.iter().zip(&b).find(|(a, b)| a != b);
        if let (true, Some((a, b))) = (a.len() == b.len(), pair)
            && a["target"] == b["target"]
            && a["path"] != b["path"]
        {
            let target = b["target"].as_str().unwrap_or_default();
            return changed(&format!("mount {target} (another part of its source)"), None, None);
        }
        return changed("flag --mount", text(&old["mounts"]), text(&new["mounts"]));
    }
    let names = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let first = names(new).into_iter().chain(names(old)).find(|k| old[k.as_str()] != new[k.as_str()]);
    let Some(name) = first else { return RunReason::First };
    let (a, b) = (text(&old[name.as_str()]), text(&new[name.as_str()]));
    match name.as_str() {
        "barrier" => changed("download above it", None, None),
        "sources" => changed("files", None, None),
        "dest" | "path" => changed("instruction", a, b),
        "cwd" => changed("working directory", a, b),
        "user" | "owner" => changed("user", a, b),
        "epoch" | "times" => changed("SOURCE_DATE_EPOCH", a, b),
        "hosts" => changed("flag --add-host", a, b),
        "shm" => changed("flag --shm-size", a, b),
        "ulimits" => changed("flag --ulimit", a, b),
        other => changed(&format!("flag --{other}"), a, b),
    }
}

/// The path of a mount's view, as the step sees it.
pub(crate) fn below_target(target: &str, base: &str, path: &str) -> String {
    let path = path.trim_start_matches('/');
    let base = clean(base);
    let rest = path.strip_prefix(base.as_str()).unwrap_or(path).trim_start_matches('/');
    let target = target.trim_end_matches('/');
    if rest.is_empty() { target.to_owned() } else { format!("{target}/{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(old: &Value, new: &Value) -> (String, Option<String>, Option<String>) {
        match compare(old, new, &Masker::default()) {
            RunReason::StepChanged { input, old, new } => (input, old, new),
            other => (format!("{other:?}"), None, None),
        }
    }

    #[test]
    fn the_first_input_that_differs() {
        let key = |change: &dyn Fn(&mut Value)| {
            let mut v = json!({"step": "run", "args": ["/bin/sh", "-c", "make"], "env": {"A": "1", "TOKEN": "canary-1"},
                "platform": "linux/amd64", "cwd": "/", "user": "", "network": "host", "mounts": []});
            change(&mut v);
            v
        };
        let old = key(&|_| {});
        let some = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));
        let of = |change: &dyn Fn(&mut Value)| {
            let (input, a, b) = changed(&old, &key(change));
            (input, (a, b))
        };
        assert_eq!(of(&|v| v["args"][2] = json!("make x")), ("instruction".into(), some("make", "make x")));
        assert_eq!(of(&|v| v["env"]["A"] = json!("2")), ("variable A".into(), some("1", "2")));
        assert_eq!(of(&|v| v["env"]["TOKEN"] = json!("x")), ("variable TOKEN".into(), some("***", "***")));
        assert_eq!(
            of(&|v| v["env"]["B"] = json!("canary-1")),
            ("variable B".into(), (None, Some("***".into())))
        );
        assert_eq!(of(&|v| v["network"] = json!("none")), ("flag --network".into(), some("host", "none")));
        let platform = some("linux/amd64", "linux/arm64");
        assert_eq!(of(&|v| v["platform"] = json!("linux/arm64")), ("platform".into(), platform));
        assert_eq!(of(&|v| v["cache"] = json!("chain")).0, "flag --cache");
        assert_eq!(of(&|v| v["barrier"] = json!("00")).0, "download above it");
    }

    #[test]
    fn paths() {
        assert_eq!(alike(b"app/a/b", b"src/a/b"), 2);
        assert_eq!(alike(b"a", b"b"), 0);
        assert_eq!(below_target("/mnt", "/src", "/src/a"), "/mnt/a");
        assert_eq!(below_target("/mnt/", "", "a"), "/mnt/a");
    }
}
