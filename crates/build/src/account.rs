//! The account of a build: what happened to every step and why, as it is kept in the store's log of builds.
//!
//! # Format, version 1
//!
//! One JSON object, [`BuildRecord`]: when, what of, how it ended, and its stages, each with what it starts from and its steps. Members that
//! a reader does not know are ignored; a record of another version is as good as none. Durations are milliseconds, digests
//! `sha256:<hex>`, times RFC 3339. Nothing secret is in one (`masking`), and nothing in it is needed to build: it is told from.
//!
//! `explain --format json` prints the same object with `reads`, `diff` and `history` added to the steps (`explain`).

use std::collections::BTreeMap;

use oci::Digest;
use serde::{Deserialize, Serialize};
use store::Store;

use crate::events::{HitRule, RunReason, StepId};
use crate::options::{CacheMode, Cutoff};

/// What this module writes.
const VERSION: u32 = 1;

/// Past builds that are looked at.
pub const PAST: usize = 20;

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// 1.
    pub version: u32,
    /// When it began.
    pub began: String,
    /// How long it took.
    pub took_ms: u64,
    /// How it ended.
    pub end: BuildEnd,
    /// The first failure.
    pub error: Option<String>,
    /// The build context: a directory, or where it was fetched from.
    pub context: String,
    /// The Dockerfile.
    pub dockerfile: String,
    /// `--target`.
    pub target: Option<String>,
    /// What it was built for.
    pub platform: String,
    /// `--cache`.
    pub cache: CacheMode,
    /// `--cutoff`.
    pub cutoff: Cutoff,
    /// Values of `--build-arg`, those that look like secrets masked.
    pub build_args: BTreeMap<String, String>,
    /// The image's id.
    pub image: Option<Digest>,
    /// The stages that were needed, in Dockerfile order.
    pub stages: Vec<StageRecord>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildEnd {
    /// With an image.
    Ok,
    /// A step failed.
    Failed,
    /// It was interrupted.
    Interrupted,
    /// It did not take place: this says what would have happened (`explain --dry-run`).
    DryRun,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its name, or `stage-N`.
    pub name: String,
    /// The image that it starts from.
    pub base: Option<BaseRecord>,
    /// The stage that it starts from.
    pub starts_from: Option<String>,
    /// Layers that it starts from, base first; empty if that was not found out.
    pub below: Vec<Digest>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// As FROM names it.
    pub name: String,
    /// Digest of its manifest or, where that is not known, of its config.
    pub digest: Digest,
    /// How many layers it has.
    pub layers: usize,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepEnd {
    /// An earlier result was used.
    Cached,
    /// It ran.
    Ran,
    /// It ran, and failed.
    Failed,
    /// It was stopped because another one failed.
    Canceled,
    /// The build ended before it began.
    NotReached,
    /// Of a dry run: it would run.
    WouldRun,
    /// Of a dry run: whether it would run depends on what another step would make.
    Unknown,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its number in the build's log (`#7`).
    pub id: StepId,
    /// Its place in the stage, as the log has it: `2/9`.
    pub place: String,
    /// The instruction, variables expanded.
    pub title: String,
    /// First and last line in the Dockerfile.
    pub lines: Option<(u32, u32)>,
    /// `run`, `copy`, `add`, `workdir`.
    pub kind: String,
    /// It copies from the build context.
    pub copies_context: bool,
    /// What became of it.
    pub end: StepEnd,
    /// The rule that gave the earlier result.
    pub rule: Option<HitRule>,
    /// Why it ran, or would.
    pub reason: Option<RunReason>,
    /// It ran, and its result was replaced by an equal earlier one: by which rule of equality.
    pub adopted: Option<Cutoff>,
    /// Of a step that failed: why. Of an unknown one: what it depends on.
    pub note: Option<String>,
    /// Its key.
    pub key: Option<Digest>,
    /// Chain of the layers that it started from.
    pub parent: Option<Digest>,
    /// Its layer.
    pub layer: Option<Digest>,
    /// How long it took in this build; 0 if an earlier result was used.
    pub took_ms: u64,
    /// How long it took when it last ran: what the hit saved, or the miss cost.
    pub ran_ms: u64,
    /// Whether Docker's rule would have run it.
    pub chain_would_run: bool,
}

/// Sums over the steps of a build. All durations are recorded ones: of this build where a step ran, else of the run whose result was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Steps that ran to their end.
    pub ran: usize,
    /// How long they took.
    pub ran_ms: u64,
    /// Steps whose earlier result was used.
    pub cached: usize,
    /// What those took when they ran.
    pub saved_ms: u64,
    /// Steps that Docker's rule would have run.
    pub chain_ran: usize,
    /// What those took when they last ran.
    pub chain_ms: u64,
}

impl BuildRecord {
    /// All steps, with their stages.
    pub fn steps(&self) -> impl Iterator<Item = (&StageRecord, &StepRecord)> {
        self.stages.iter().flat_map(|s| s.steps.iter().map(move |t| (s, t)))
    }

    /// Adds up what happened. A step that failed or was not reached is in no sum: nobody knows what it would have taken.
    pub fn totals(&self) -> Totals {
        let mut t = Totals::default();
        for (_, s) in self.steps() {
            match s.end {
                StepEnd::Ran => {
                    t.ran += 1;
                    t.ran_ms += s.ran_ms;
                }
                StepEnd::Cached => {
                    t.cached += 1;
                    t.saved_ms += s.ran_ms;
                }
                _ => continue,
            }
            if s.chain_would_run {
                t.chain_ran += 1;
                t.chain_ms += s.ran_ms;
            }
        }
        t
    }

    /// Whether both are builds of the same Dockerfile in the same context.
    pub fn same_project(&self, other: &BuildRecord) -> bool {
        (&self.context, &self.dockerfile) == (&other.context, &other.dockerfile)
    }

    /// The step in the place of another build's step: in the stage of that name the step with the same title or, if there is none and the
    /// stages are of the same project, the one of the same kind at the same place.
    pub fn counterpart(
        &self,
        stage: &str,
        number: usize,
        title: &str,
        kind: &str,
        near: bool,
    ) -> Option<&StepRecord> {
        let found = self.stages.iter().find(|s| s.name == stage)?;
        // Of several with one title the one at that place, else the first.
        let same = |s: &&StepRecord| s.title == title;
        let here = found.steps.get(number);
        here.filter(same)
            .or_else(|| found.steps.iter().find(same))
            .or_else(|| here.filter(|s| near && s.kind == kind))
    }

    /// The instruction that made a layer.
    pub fn maker_of(&self, layer: &Digest) -> Option<(&StageRecord, &StepRecord)> {
        self.steps().find(|(_, s)| s.layer.as_ref() == Some(layer))
    }
}

/// A base image that was another one than in the build before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebased {
    /// As FROM names it.
    pub name: String,
    /// Before.
    pub old: Digest,
    /// Now.
    pub new: Digest,
    /// Steps of the stages on it, and how many of them kept their results.
    pub steps: usize,
    /// See `steps`.
    pub kept: usize,
    /// What those took when they ran, in milliseconds.
    pub saved_ms: u64,
}

/// The base images of a build that were others in the last build of the same stages, and what was kept of what stands on them. Only
/// durations of RUN steps count: a copy that is computed anew saved nothing.
pub fn rebased(now: &BuildRecord, before: Option<&BuildRecord>) -> Vec<Rebased> {
    let mut out: Vec<Rebased> = Vec::new();
    let Some(before) = before else { return out };
    for (stage, base) in now.stages.iter().filter_map(|s| Some((s, s.base.as_ref()?))) {
        let Some(old) = before.stages.iter().find(|s| s.name == stage.name) else { continue };
        let Some(old_base) = old.base.as_ref().filter(|b| b.name == base.name) else { continue };
        if old.below == stage.below || old.below.is_empty() || stage.below.is_empty() {
            continue;
        }
        let all = lineage(now, &stage.name);
        let kept: Vec<&StepRecord> = all.iter().filter(|s| s.end == StepEnd::Cached).copied().collect();
        let runs = kept.iter().filter(|s| s.kind == "run");
        let one = Rebased {
            name: base.name.clone(),
            old: old_base.digest,
            new: base.digest,
            steps: all.len(),
            kept: kept.len(),
            saved_ms: runs.map(|s| s.ran_ms).sum(),
        };
        match out.iter_mut().find(|r| (&r.name, r.new) == (&one.name, one.new)) {
            Some(r) => {
                r.steps += one.steps;
                r.kept += one.kept;
                r.saved_ms += one.saved_ms;
            }
            None => out.push(one),
        }
    }
    out
}

/// The steps of a stage and of all that start from it.
fn lineage<'b>(build: &'b BuildRecord, stage: &str) -> Vec<&'b StepRecord> {
    let mut names = vec![stage];
    let mut out = Vec::new();
    // A stage starts from an earlier one.
    for s in &build.stages {
        if s.starts_from.as_deref().is_some_and(|f| names.contains(&f)) {
            names.push(&s.name);
        }
        if names.contains(&s.name.as_str()) {
            out.extend(&s.steps);
        }
    }
    out
}

/// Writes a record down.
pub(crate) fn keep(store: &Store, record: &BuildRecord) -> Result<(), store::StoreError> {
    if let Ok(bytes) = serde_json::to_vec(record) {
        store.add_build(&bytes)?;
    }
    Ok(())
}

/// Past builds with their numbers, newest first.
pub fn past(store: &Store, limit: usize) -> Result<Vec<(i64, BuildRecord)>, store::StoreError> {
    let all = store.builds(limit)?;
    let read = |b: store::PastBuild| Some((b.id, serde_json::from_slice::<BuildRecord>(&b.bytes).ok()?));
    Ok(all.into_iter().filter_map(read).filter(|(_, b)| b.version == VERSION).collect())
}

impl Default for BuildRecord {
    fn default() -> BuildRecord {
        BuildRecord {
            version: VERSION,
            began: String::new(),
            took_ms: 0,
            end: BuildEnd::Ok,
            error: None,
            context: String::new(),
            dockerfile: String::new(),
            target: None,
            platform: String::new(),
            cache: CacheMode::Traced,
            cutoff: Cutoff::Exact,
            build_args: BTreeMap::new(),
            image: None,
            stages: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn step(title: &str, end: StepEnd, ran_ms: u64, chain: bool) -> StepRecord {
        StepRecord {
            id: 1,
            place: "1/1".into(),
            title: title.into(),
            lines: None,
            kind: "run".into(),
            copies_context: false,
            end,
            rule: None,
            reason: None,
            adopted: None,
            note: None,
            key: None,
            parent: None,
            layer: None,
            took_ms: 0,
            ran_ms,
            chain_would_run: chain,
        }
    }

    fn build(steps: Vec<StepRecord>) -> BuildRecord {
        let stage = StageRecord { name: "a".into(), base: None, starts_from: None, below: Vec::new(), steps };
        BuildRecord { stages: vec![stage], ..BuildRecord::default() }
    }

    #[test]
    fn sums_hold_only_what_was_measured() {
        let b = build(vec![
            step("a", StepEnd::Cached, 10, false),
            step("b", StepEnd::Ran, 20, true),
            step("c", StepEnd::Cached, 40, true),
            step("d", StepEnd::Failed, 80, true),
            step("e", StepEnd::NotReached, 160, true),
        ]);
        let want = Totals { ran: 1, ran_ms: 20, cached: 2, saved_ms: 50, chain_ran: 2, chain_ms: 60 };
        assert_eq!(b.totals(), want);
    }

    #[test]
    fn steps_are_found_again() {
        let b = build(vec![step("x", StepEnd::Ran, 0, false), step("y", StepEnd::Ran, 0, false)]);
        let title = |n, t: &str, near| b.counterpart("a", n, t, "run", near).map(|s| s.title.as_str());
        assert_eq!(title(0, "y", false), Some("y"), "moved");
        assert_eq!(title(0, "z", true), Some("x"), "edited");
        assert_eq!(title(0, "z", false), None);
        assert_eq!(title(2, "z", true), None);
        assert_eq!(b.counterpart("b", 0, "x", "run", true), None, "another stage");
        assert_eq!(b.counterpart("a", 0, "z", "copy", true), None, "another kind");
    }

    #[test]
    fn records_come_back_and_others_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let b = build(vec![step("x", StepEnd::Ran, 1, false)]);
        keep(&store, &b).unwrap();
        store.add_build(b"{").unwrap();
        store.add_build(br#"{"version": 2}"#).unwrap();
        keep(&store, &BuildRecord { version: 9, ..b.clone() }).unwrap();
        let all = past(&store, 10).unwrap();
        assert_eq!(all.into_iter().map(|(_, b)| b).collect::<Vec<_>>(), [b]);
    }
}
