//! A broad COPY stands above RUNs that read only little of it: with a cache that knows only chains of steps (Docker's), every change of
//! any file runs them again. What they read is copied first, and the broad COPY goes below them.
//!
//! What they read is not guessed (`package.json` and the like) but known from their observations. As many RUNs as read no more than a
//! few files together are put above.
//!
//! When it is right: the RUNs do not list directories that the COPY fills, since a listing would be another one; they do not write what
//! it brings; and nothing between changes how the COPY is read (WORKDIR, ENV or ARG where it uses variables).

use std::collections::{BTreeMap, BTreeSet};

use build::observe::Fact;
use dockerfile::Instruction;
use oci::Kind as EntryKind;
use oci::index::split;

use crate::edit::line_of;
use crate::facts::{Facts, Stage, Step, ancestors, source_of};
use crate::kinds::size;
use crate::{Advice, Edit, Kind, Worth};

/// More files are no narrow copy.
const MOST: usize = 12;

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in &facts.stages {
        for n in 0..stage.steps.len() {
            out.extend(advice(facts, stage, n));
        }
    }
}

/// What a RUN reads of a COPY's files; `None` if it is not known, or it lists their directories.
fn reads_of(run: &Step, files: &BTreeSet<&[u8]>, dirs: &BTreeSet<&[u8]>) -> Option<BTreeSet<Vec<u8>>> {
    let mut out = BTreeSet::new();
    for o in run.reads.as_ref()? {
        match &o.fact {
            Fact::Listing(_) if dirs.contains(o.path.as_slice()) => return None,
            Fact::SameFile(other) if files.contains(other.as_slice()) => {
                out.extend(
                    [o.path.clone(), other.clone()].into_iter().filter(|p| files.contains(p.as_slice())),
                );
            }
            Fact::Attributes(_) | Fact::Content(_) | Fact::Link(_) | Fact::SameFile(_)
                if files.contains(o.path.as_slice()) =>
            {
                out.insert(o.path.clone());
            }
            _ => {}
        }
    }
    Some(out)
}

fn advice(facts: &Facts, stage: &Stage, n: usize) -> Option<Advice> {
    let step = &stage.steps[n];
    let (copy, at) = (step.copy()?, step.statement?);
    let statement = facts.statement(step)?;
    let Instruction::Copy(inst) = &statement.instruction else { return None };
    if copy.from.is_some() || copy.parents || !inst.heredocs.is_empty() {
        return None;
    }
    let files: BTreeSet<&[u8]> = step
        .layer
        .entries()
        .iter()
        .filter(|e| !matches!(e.kind, EntryKind::Directory { .. }))
        .map(|e| e.path.as_slice())
        .collect();
    let dirs: BTreeSet<&[u8]> = files.iter().flat_map(|f| ancestors(split(f).0)).chain([&b""[..]]).collect();
    let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
    let (mut seconds, mut last) = (0.0, None);
    for run in &stage.steps[n + 1..] {
        let (Some(_), Some(s)) = (run.run(), run.statement) else { break };
        let variables = facts.source(statement).contains('$');
        let between = &facts.file.statements[at + 1..s];
        let blocked = between.iter().any(|s| match &s.instruction {
            Instruction::Workdir(_) | Instruction::Shell(_) | Instruction::From(_) => true,
            Instruction::Env(_) | Instruction::Arg(_) => variables,
            _ => false,
        });
        let Some(reads) = reads_of(run, &files, &dirs) else { break };
        let writes = run.writes();
        let clash = files.iter().any(|f| ancestors(f).any(|a| writes.contains(a) && !dirs.contains(a)));
        let mut all = wanted.clone();
        all.extend(reads);
        if blocked || clash || all.len() > MOST || all.len() * 2 > files.len() {
            break;
        }
        wanted = all;
        seconds += run.seconds;
        last = Some(run);
    }
    let last = last.filter(|_| seconds >= facts.min_seconds)?;
    if wanted.is_empty() && stage.steps[n + 1].read_any(&files.iter().map(|f| f.to_vec()).collect()) {
        return None;
    }
    // One COPY for each directory, since a COPY of several files puts them into one.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &wanted {
        let source = source_of(copy, path)?;
        let dir = String::from_utf8(split(path).0.to_vec()).ok()?;
        groups.entry(dir).or_default().push(source);
    }
    let flags: String = statement
        .flags
        .iter()
        .filter(|f| f.name != "exclude")
        .map(|f| format!("{} ", &facts.text[f.span.start..f.span.end]))
        .collect();
    let dest = copy.dest.trim_matches('/');
    let written = inst.dest.trim_end_matches('/');
    let (line_start, line_end) = (
        line_of(&facts.text, statement.span.start).0,
        line_of(&facts.text, statement.span.end.saturating_sub(1)).1,
    );
    let mut narrow = String::new();
    for (dir, sources) in &groups {
        let below = dir.strip_prefix(dest).unwrap_or(dir).trim_start_matches('/');
        let to = match (written, below) {
            (w, "") => format!("{w}/"),
            (w, b) => format!("{w}/{b}/"),
        };
        let all: Vec<String> = sources
            .iter()
            .map(|s| if s.contains(' ') { None } else { Some(s.clone()) })
            .collect::<Option<_>>()?;
        narrow.push_str(&format!("COPY {flags}{} {to}\n", all.join(" ")));
    }
    let run = facts.statement(last)?;
    let behind = line_of(&facts.text, run.span.end.saturating_sub(1)).1;
    let mut moved = facts.text[line_start..line_end].to_owned();
    if !moved.ends_with('\n') {
        moved.push('\n');
    }
    if !facts.text[..behind].ends_with('\n') {
        moved.insert(0, '\n');
    }
    let mut edit = Edit::replace(line_start, line_end, narrow);
    edit.moves = true;
    let read_later: BTreeSet<&[u8]> =
        stage.steps.iter().filter_map(|s| s.reads.as_ref()).flatten().map(|o| o.path.as_slice()).collect();
    let unread = files.iter().find(|f| !read_later.contains(*f) && !wanted.contains(**f));
    let other = files.iter().find(|f| !wanted.contains(**f));
    let probe = unread.or(other).and_then(|f| source_of(copy, f));
    Some(Advice {
        kind: Kind::NarrowCopy,
        line: statement.first_line,
        title: match wanted.len() {
            0 => format!("move it below line {}: the steps down to there read nothing of it", run.last_line),
            n => {
                let sources: Vec<String> = wanted.iter().filter_map(|w| source_of(copy, w)).collect();
                let what = if n <= 4 { sources.join(", ") } else { format!("the {n} files that are read") };
                format!("copy {what} first, and the rest below line {}", run.last_line)
            }
        },
        why: format!(
            "of {} files ({}) the steps down to line {} read {}. With a cache like Docker's, a change of any other runs them again: {:.1} s.",
            files.len(),
            size(step.layer.content_bytes()),
            run.last_line,
            wanted.len(),
            seconds
        ),
        worth: Worth { seconds, ..Worth::default() },
        edits: vec![edit, Edit::insert(behind, moved)],
        ignore: Vec::new(),
        probe,
        changes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    fn scene(reads: &[&'static str]) -> Facts {
        Scene::new("FROM base\nCOPY --chown=1 . /app\n# install\nRUN install\nRUN test\nCMD x\n")
            .step(
                2,
                vec![
                    file("app/list", 1),
                    file("app/sub/lock", 1),
                    file("app/a", 1),
                    file("app/b", 1),
                    file("app/c", 1),
                    file("app/d", 1),
                ],
                &[],
            )
            .step(4, vec![file("app/deps/x", 1)], reads)
            .step(5, vec![], &["app/", "app/a"])
            .facts()
    }

    fn found(facts: &Facts) -> Vec<Advice> {
        let mut out = Vec::new();
        find(facts, &mut out);
        out
    }

    #[test]
    fn what_is_read_comes_first() {
        let facts = scene(&["app/list", "app/sub/lock", "bin/sh"]);
        let all = found(&facts);
        assert_eq!(
            after(&facts, &all[0]),
            "FROM base\nCOPY --chown=1 list /app/\nCOPY --chown=1 sub/lock /app/sub/\n# install\nRUN install\nCOPY --chown=1 . /app\n\
             RUN test\nCMD x\n"
        );
        assert_eq!(all[0].worth.seconds, 1.0);
    }

    #[test]
    fn a_listing_or_half_of_the_files_forbid_it() {
        assert_eq!(found(&scene(&["app/list", "app/"])), []);
        assert_eq!(found(&scene(&["app/list", "app/a", "app/b", "app/c"])), []);
    }

    #[test]
    fn a_run_that_writes_what_is_copied_stays_below() {
        let facts = Scene::new("FROM base\nCOPY . /app\nRUN install\n")
            .step(2, vec![file("app/list", 1), file("app/a", 1), file("app/b", 1)], &[])
            .step(3, vec![file("app/a", 9)], &["app/list"])
            .facts();
        assert_eq!(found(&facts), []);
    }

    #[test]
    fn a_file_without_an_end_of_line() {
        let facts = Scene::new("FROM base\nCOPY . /app\nRUN install")
            .step(2, vec![file("app/list", 1), file("app/a", 1), file("app/b", 1)], &[])
            .step(3, vec![], &["app/list"])
            .facts();
        assert_eq!(
            after(&facts, &found(&facts)[0]),
            "FROM base\nCOPY list /app/\nRUN install\nCOPY . /app\n"
        );
    }
}
