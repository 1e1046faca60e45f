//! A RUN of `chmod` and `chown` on what a COPY just brought writes all of it again, with other attributes: the bytes are shipped twice.
//! `COPY --chmod` and `COPY --chown` set them at once.
//!
//! When it is right: the RUN does nothing but change attributes, and all that it changes came by that COPY, or is a directory that was
//! there. Owners are what the RUN says. A mode is what all of the COPY's files have in the end, if that is one; else the words of a
//! recursive `chmod`, where they are symbolic. Directories that were there before keep a RUN of their own, without `-R`: that writes no
//! bytes.

use std::collections::BTreeSet;

use oci::{Entry, Kind as EntryKind};

use crate::edit::line_of;
use crate::facts::{Facts, Stage, Step};
use crate::kinds::size;
use crate::shell::{Command, Script};
use crate::{Advice, Edit, Kind, Worth};

struct Change<'c> {
    command: &'c Command,
    owner: bool,
    recursive: bool,
    value: &'c str,
    paths: Vec<&'c str>,
}

/// The changes, if the script is nothing else.
fn changes(script: &Script) -> Option<Vec<Change<'_>>> {
    let mut out = Vec::new();
    for command in &script.commands {
        let owner = match command.program()? {
            "chmod" => false,
            "chown" => true,
            _ => return None,
        };
        let mut recursive = false;
        let mut rest = Vec::new();
        for w in command.args() {
            let text = w.literal.as_deref()?;
            match text {
                "-R" | "--recursive" => recursive = true,
                "-v" | "-f" | "-c" => {}
                _ if text.starts_with('-') && rest.is_empty() => return None,
                _ => rest.push(text),
            }
        }
        let (value, paths) = rest.split_first()?;
        out.push(Change { command, owner, recursive, value, paths: paths.to_vec() });
    }
    (script.is_chain() && !out.is_empty()).then_some(out)
}

/// The one answer of all, if there is one.
fn only<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let set: BTreeSet<T> = all.collect();
    if set.len() == 1 { set.into_iter().next() } else { None }
}

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in facts.stages.iter().filter(|s| s.shipped) {
        for n in 0..stage.steps.len() {
            out.extend(advice(facts, stage, n));
        }
    }
}

fn advice(facts: &Facts, stage: &Stage, n: usize) -> Option<Advice> {
    let step = &stage.steps[n];
    let script = facts.script(step)?;
    let changes = changes(&script)?;
    let hidden = step.hides();
    let copy_at = (0..n).rev().find(|&c| {
        let s = &stage.steps[c];
        s.copy().is_some_and(|k| !k.add && k.chown.is_none() && k.chmod.is_none())
            && hidden.get(&s.number).is_some_and(|h| h.repeated >= facts.min_bytes)
    })?;
    let copy = &stage.steps[copy_at];
    let bytes = hidden.get(&copy.number)?.repeated;
    // Everything that the RUN wrote came by the COPY, or is a directory.
    let theirs: Vec<&Entry> = step
        .layer
        .entries()
        .iter()
        .filter(|e| {
            !(matches!(e.kind, EntryKind::Directory { opaque: false }) && copy.layer.get(&e.path).is_none())
        })
        .collect();
    let from_copy = |e: &&Entry| {
        let old = step.before.lookup(&e.path).map(|id| step.before.inode(id).layer);
        old == Some(copy.number) && !matches!(e.kind, EntryKind::Whiteout)
    };
    if !theirs.iter().all(from_copy) || stage.steps[copy_at + 1..n].iter().any(|s| !s.independent_of(step)) {
        return None;
    }
    let statement = facts.statement(copy)?;
    let mut flags = String::new();
    if changes.iter().any(|c| c.owner) {
        let value = only(changes.iter().filter(|c| c.owner).map(|c| c.value))?;
        // All of the COPY's entries belong to one afterwards.
        let tree = step.after()?;
        only(copy.layer.entries().iter().filter(|e| own(copy, e)).filter_map(|e| {
            let a = &tree.inode(tree.lookup(&e.path)?).attrs;
            Some((a.uid, a.gid))
        }))?;
        flags.push_str(&format!(" --chown={value}"));
    }
    if changes.iter().any(|c| !c.owner) {
        let tree = step.after()?;
        let modes = copy
            .layer
            .entries()
            .iter()
            .filter(|e| own(copy, e) && !matches!(e.kind, EntryKind::Symlink { .. }));
        let mode = only(modes.filter_map(|e| Some(tree.inode(tree.lookup(&e.path)?).attrs.mode)));
        let symbolic = || {
            let c = changes.iter().filter(|c| !c.owner).collect::<Vec<_>>();
            match c[..] {
                [one] if one.recursive && one.value.starts_with(|c: char| !c.is_ascii_digit()) => {
                    Some(one.value.to_owned())
                }
                _ => None,
            }
        };
        let value = mode.map(|m| format!("{m:04o}")).or_else(symbolic)?;
        flags.push_str(&format!(" --chmod={value}"));
    }
    let run = facts.statement(step)?;
    let mut edits = vec![Edit::insert(statement.keyword_span.end, flags.clone())];
    // Directories that were there before the COPY.
    let old_dirs: Vec<String> = step
        .layer
        .entries()
        .iter()
        .filter(|e| copy.layer.get(&e.path).is_none() || copy.before.lookup(&e.path).is_some())
        .filter(|e| step.writes().contains(&e.path))
        .map(|e| oci::index::show(&e.path))
        .collect();
    if old_dirs.is_empty() {
        let (from, _) = line_of(&facts.text, run.span.start);
        let (_, to) = line_of(&facts.text, run.span.end.saturating_sub(1).max(run.span.start));
        let mut gone = Edit::remove(from, to);
        gone.moves = true;
        edits.push(gone);
    } else {
        for c in &changes {
            let given: Vec<&str> = c.paths.iter().map(|p| p.trim_end_matches('/')).collect();
            if !old_dirs.iter().all(|d| given.contains(&d.as_str())) {
                return None;
            }
            let words = c
                .command
                .words
                .iter()
                .filter(|w| c.recursive && matches!(w.raw.as_str(), "-R" | "--recursive"));
            for w in words {
                let space = usize::from(facts.text[w.span.end..].starts_with(' '));
                edits.push(Edit::remove(w.span.start, w.span.end + space));
            }
        }
    }
    Some(Advice {
        kind: Kind::CopyChmod,
        line: statement.first_line,
        title: format!("COPY{flags} in place of the RUN on line {}", run.first_line),
        why: format!(
            "the RUN writes {} again that the COPY brought, only to change their attributes.",
            size(bytes)
        ),
        worth: Worth { bytes, seconds: step.seconds, ..Worth::default() },
        edits,
        ignore: Vec::new(),
        probe: None,
        changes: Vec::new(),
    })
}

/// Whether an entry of a COPY's layer is one that `--chown` and `--chmod` are about: not a directory that was there before.
fn own(copy: &Step, e: &Entry) -> bool {
    !(matches!(e.kind, EntryKind::Directory { .. }) && copy.before.lookup(&e.path).is_some())
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
    fn a_chown_of_all_becomes_a_flag() {
        let facts = Scene::new("FROM base\nCOPY app /app\n# who runs it\nRUN chown -R 7:8 /app\nCMD x\n")
            .step(2, vec![dir("app"), file("app/a", 3000), file("app/b", 10)], &[])
            .step(
                4,
                vec![
                    owner(dir("app"), 7, 8),
                    owner(file("app/a", 3000), 7, 8),
                    owner(file("app/b", 10), 7, 8),
                ],
                &[],
            )
            .facts();
        let all = found(&facts);
        assert_eq!((all.len(), all[0].worth.bytes), (1, 3010));
        assert_eq!(after(&facts, &all[0]), "FROM base\nCOPY --chown=7:8 app /app\n# who runs it\nCMD x\n");
    }

    #[test]
    fn a_directory_that_was_there_keeps_its_run() {
        let facts = Scene::new("FROM base\nWORKDIR /app\nCOPY . .\nRUN chown -R u /app\n")
            .step(2, vec![dir("app")], &[])
            .step(3, vec![dir("app"), file("app/a", 3000)], &[])
            .step(4, vec![owner(dir("app"), 7, 7), owner(file("app/a", 3000), 7, 7)], &[]);
        let mut facts = facts.facts();
        if let crate::facts::What::Copy(c) = &mut facts.stages[0].steps[1].what {
            c.dest = "/app/".into();
        }
        assert_eq!(
            after(&facts, &found(&facts)[0]),
            "FROM base\nWORKDIR /app\nCOPY --chown=u . .\nRUN chown u /app\n"
        );
    }

    #[test]
    fn modes_that_all_share_or_symbolic_ones() {
        let scene = |run: &str, a: u32, b: u32| {
            Scene::new(&format!("FROM base\nCOPY bin /opt/bin\nRUN {run}\n"))
                .base(vec![dir("opt")])
                .step(2, vec![dir("opt/bin"), file("opt/bin/a", 3000), file("opt/bin/b", 3000)], &[])
                .step(3, vec![mode(file("opt/bin/a", 3000), a), mode(file("opt/bin/b", 3000), b)], &[])
                .facts()
        };
        let facts = scene("chmod 755 /opt/bin/a /opt/bin/b", 0o755, 0o755);
        assert_eq!(after(&facts, &found(&facts)[0]), "FROM base\nCOPY --chmod=0755 bin /opt/bin\n");
        let facts = scene("chmod -R g+w /opt/bin", 0o664, 0o775);
        assert_eq!(after(&facts, &found(&facts)[0]), "FROM base\nCOPY --chmod=g+w bin /opt/bin\n");
        assert_eq!(found(&scene("chmod 755 /opt/bin/a", 0o755, 0o644)), []);
        assert_eq!(found(&scene("chmod 755 /opt/bin/a && touch /x", 0o755, 0o755)), []);
    }

    #[test]
    fn what_did_not_come_by_the_copy_is_left_alone() {
        let facts = Scene::new("FROM base\nCOPY a /app/\nRUN chmod 700 /app/a /bin/b\n")
            .base(vec![file("bin/b", 5000)])
            .step(2, vec![dir("app"), file("app/a", 3000)], &[])
            .step(3, vec![mode(file("app/a", 3000), 0o700), mode(file("bin/b", 5000), 0o700)], &[])
            .facts();
        assert_eq!(found(&facts), []);
    }
}
