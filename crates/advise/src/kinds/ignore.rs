//! Files of the context that a COPY takes, that no RUN looks at, and that are not in the image in the end: they belong into
//! `.dockerignore`. They are read, sent and kept for nothing, and a change of one of them makes the COPY another one.
//!
//! Known from observations: what was neither read nor looked at by any RUN of the stage, nor taken by a `COPY --from` of it. Whole
//! directories are named where nothing in them is used.
//!
//! When it is right: a step that lists the directory sees fewer names. That is said, and `--verify` finds out whether it matters.

use std::collections::{BTreeMap, BTreeSet};

use build::observe::Fact;
use oci::Kind as EntryKind;
use oci::index::split;

use crate::facts::{Facts, Stage, ancestors, is_below, source_of};
use crate::kinds::size;
use crate::{Advice, Kind, Worth};

/// Lines that are added at most.
const MOST: usize = 30;

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    // By source: bytes, and whether somebody uses it.
    let mut files: BTreeMap<String, (u64, bool)> = BTreeMap::new();
    let (mut line, mut listed) = (0, false);
    for stage in &facts.stages {
        let Some(used) = used(facts, stage) else { return };
        for step in &stage.steps {
            let Some(copy) = step.copy().filter(|c| c.from.is_none() && !c.add) else { continue };
            if line == 0 {
                line = facts.statement(step).map_or(0, |s| s.first_line);
            }
            for e in step.layer.entries() {
                let EntryKind::File { size, .. } = e.kind else { continue };
                let Some(source) = source_of(copy, &e.path) else { return };
                let in_image = stage.shipped && facts.last.lookup(&e.path).is_some();
                let is_used = in_image || ancestors(&e.path).any(|a| used.paths.contains(a));
                listed |= !is_used && used.listed.contains(split(&e.path).0);
                let f = files.entry(source).or_insert((size, false));
                f.1 |= is_used;
            }
        }
    }
    let lines = unused(&files);
    let bytes: u64 = files.values().filter(|(_, used)| !used).map(|(size, _)| size).sum();
    let count = files.values().filter(|(_, used)| !used).count();
    if lines.is_empty() || bytes < facts.min_bytes {
        return;
    }
    let warning =
        if listed { " A step lists a directory that they are in, and would see fewer names." } else { "" };
    out.push(Advice {
        kind: Kind::Ignore,
        line,
        title: format!(
            "leave {} out of the context",
            match &lines[..] {
                [one] => one.clone(),
                many => format!("{} and {} more", many[0], many.len() - 1),
            }
        ),
        why: format!(
            "{count} of {} files that are copied, {}, are read by no step and are not in the image.{warning}",
            files.len(),
            size(bytes)
        ),
        worth: Worth { build_bytes: bytes, ..Worth::default() },
        edits: Vec::new(),
        ignore: lines,
        probe: None,
        changes: Vec::new(),
    });
}

struct Used {
    /// Read or looked at; with all below it, where it was copied from the stage.
    paths: BTreeSet<Vec<u8>>,
    listed: BTreeSet<Vec<u8>>,
}

/// What the RUNs of a stage read, and what other stages take. `None` if it is not known.
fn used(facts: &Facts, stage: &Stage) -> Option<Used> {
    let mut out = Used { paths: BTreeSet::new(), listed: BTreeSet::new() };
    let dirs: BTreeSet<&[u8]> = stage
        .steps
        .iter()
        .flat_map(|s| s.layer.entries())
        .filter(|e| matches!(e.kind, EntryKind::Directory { .. }))
        .map(|e| e.path.as_slice())
        .collect();
    for s in stage.steps.iter().filter(|s| s.run().is_some()) {
        for o in s.reads.as_ref()? {
            match &o.fact {
                Fact::SameFile(other) => {
                    out.paths.extend([o.path.clone(), other.clone()]);
                }
                Fact::Listing(_) => {
                    out.listed.insert(o.path.clone());
                }
                // A directory that was passed through is no use of all that is in it.
                Fact::Attributes(_) | Fact::Content(_) | Fact::Link(_)
                    if !dirs.contains(o.path.as_slice()) && !o.path.is_empty() =>
                {
                    out.paths.insert(o.path.clone());
                }
                _ => {}
            }
        }
    }
    // A stage built on this one, or a COPY from it, uses what it names; which stage is meant is not resolved here, so any counts.
    for other in facts.stages.iter().filter(|s| s.from != stage.from) {
        for copy in other.steps.iter().filter_map(|s| s.copy()).filter(|c| c.from.is_some()) {
            for s in &copy.sources {
                if let build::plan::CopySource::Path(p) = s {
                    let fixed = p.split(['*', '?', '[']).next().unwrap_or_default();
                    let fixed =
                        if fixed.len() < p.len() { split(fixed.as_bytes()).0 } else { fixed.as_bytes() };
                    let fixed: Vec<u8> = fixed.iter().skip_while(|b| **b == b'/').copied().collect();
                    let fixed = fixed.strip_suffix(b"/").unwrap_or(&fixed).to_vec();
                    if fixed.is_empty() {
                        return None;
                    }
                    let below: Vec<Vec<u8>> = stage
                        .steps
                        .iter()
                        .flat_map(|s| s.layer.entries())
                        .filter(|e| is_below(&e.path, &fixed))
                        .map(|e| e.path.clone())
                        .collect();
                    out.paths.extend(below.into_iter().filter(|p| !dirs.contains(p.as_slice())));
                }
            }
        }
    }
    Some(out)
}

/// The shortest list of paths that names all unused files and no used one.
fn unused(files: &BTreeMap<String, (u64, bool)>) -> Vec<String> {
    let mut used_dirs: BTreeSet<&[u8]> = BTreeSet::new();
    for (f, _) in files.iter().filter(|(_, (_, used))| *used) {
        used_dirs.extend(ancestors(f.as_bytes()));
    }
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for (f, (bytes, _)) in files.iter().filter(|(_, (_, used))| !used) {
        let top = ancestors(f.as_bytes()).filter(|a| !used_dirs.contains(a)).last();
        let Some(top) = top.and_then(|t| String::from_utf8(t.to_vec()).ok()) else { continue };
        // What would be a pattern, a comment or an exception is left alone.
        if !top.contains(['*', '?', '[', '\\', '\n'])
            && !top.starts_with(['#', '!', ' '])
            && !top.ends_with(' ')
        {
            *out.entry(top).or_default() += bytes;
        }
    }
    let mut all: Vec<(u64, String)> = out.into_iter().map(|(p, b)| (b, p)).collect();
    all.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(MOST).map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    fn found(facts: &Facts) -> Vec<Advice> {
        let mut out = Vec::new();
        find(facts, &mut out);
        out
    }

    #[test]
    fn what_nothing_uses_is_named_by_its_highest_directory() {
        let facts = Scene::new(
            "FROM base AS b\nCOPY . /src\nRUN make\nFROM base\nCOPY --from=b /src/out /src/conf /\n",
        )
        .step(
            2,
            vec![
                dir("src"),
                dir("src/docs"),
                file("src/docs/a", 5000),
                file("src/docs/b/c", 1),
                file("src/main.c", 10),
                file("src/conf/x", 10),
                file("src/lib/used.h", 1),
                file("src/lib/unused.h", 1),
            ],
            &[],
        )
        .step(3, vec![file("src/out", 1)], &["src", "src/main.c", "src/lib/used.h"])
        .step(5, vec![file("out", 1), file("x", 10)], &[])
        .facts();
        let all = found(&facts);
        assert_eq!(all[0].ignore, ["docs", "lib/unused.h"]);
        assert_eq!(all[0].worth.build_bytes, 5002);
        assert!(!all[0].why.contains("lists"), "{}", all[0].why);
    }

    #[test]
    fn what_is_in_the_image_is_used() {
        let facts = Scene::new("FROM base\nCOPY . /src\nRUN make\n")
            .step(2, vec![file("src/docs", 5000)], &[])
            .step(3, vec![], &["src/"])
            .facts();
        assert_eq!(found(&facts), []);
        let facts = Scene::new("FROM base\nCOPY . /src\nRUN make && rm /src/docs\n")
            .step(2, vec![file("src/docs", 5000)], &[])
            .step(3, vec![gone("src/docs")], &["src/"])
            .facts();
        assert!(found(&facts)[0].why.contains("lists a directory"), "{:?}", found(&facts));
    }
}
