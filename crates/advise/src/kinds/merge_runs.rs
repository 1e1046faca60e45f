//! A RUN deletes or overwrites what an earlier RUN of its stage made: the bytes stay in the earlier layer for ever. The later commands
//! go to the end of the earlier RUN.
//!
//! When it is right: between the two stand only instructions that make no layer and do not change what a RUN is given, and steps that have
//! nothing to do with the later RUN: they read nothing that it writes, it reads nothing that they write, and they do not write the same
//! (known from the observations of both). If all that stands between are RUNs, and they do have to do with it, all become one.
//!
//! Commands that change the shell for what follows (`cd`, `export`, `set`) are put in parentheses; so is what is no chain of `&&`.

use dockerfile::{Instruction, Statement};

use crate::edit::{line_of, whole_lines};
use crate::facts::{Facts, Stage, Step};
use crate::kinds::size;
use crate::shell::Script;
use crate::{Advice, Edit, Kind, Worth};

/// Whether an instruction may be passed by a RUN on its way up.
fn is_neutral(i: &Instruction) -> bool {
    matches!(
        i,
        Instruction::Label(_)
            | Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Expose(_)
            | Instruction::Stopsignal(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_)
    )
}

/// Whether a script does nothing but remove paths that are written out in full.
fn only_removes(script: &Script) -> bool {
    script.is_chain()
        && script.commands.iter().all(|c| {
            c.program() == Some("rm")
                && c.args().iter().all(|w| {
                    (w.raw.starts_with('-') || w.raw.starts_with('/')) && !w.raw.contains(['$', '`', '~'])
                })
        })
}

/// A RUN that can be joined with others.
struct Part<'f> {
    statement: &'f Statement,
    step: &'f Step,
    script: Script,
}

fn part<'f>(facts: &'f Facts, step: &'f Step) -> Option<Part<'f>> {
    let statement = facts.statement(step)?;
    let script = facts.script(step)?;
    (script.plain && !script.commands.is_empty()).then_some(Part { statement, step, script })
}

impl Part<'_> {
    /// First byte of the first command, and one behind the last.
    fn body(&self) -> (usize, usize) {
        let last = self.script.commands.len() - 1;
        (self.script.commands[0].span.start, self.script.commands[last].span.end)
    }

    /// Flags other than mounts, as written.
    fn manner<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let flags = self.statement.flags.iter().filter(|f| f.name != "mount");
        flags.map(|f| &text[f.span.start..f.span.end]).collect()
    }

    fn mounts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let flags = self.statement.flags.iter().filter(|f| f.name == "mount");
        flags.map(|f| &text[f.span.start..f.span.end]).collect()
    }
}

/// The comment lines right above a statement, from the beginning of the first.
fn comments_above(text: &str, statement: &Statement) -> usize {
    let mut start = line_of(text, statement.span.start).0;
    while start > 0 {
        let (above, _) = line_of(text, start - 1);
        if !text[above..start].trim_start().starts_with('#') {
            break;
        }
        start = above;
    }
    start
}

/// The edits that put `parts[1..]` at the end of `parts[0]`.
fn merge(facts: &Facts, parts: &[&Part<'_>]) -> Option<Vec<Edit>> {
    let text = &facts.text;
    let (first, rest) = parts.split_first()?;
    let mut edits = Vec::new();
    let mut mounts = first.mounts(text);
    let (start, end) = first.body();
    if first.script.leaves_traces() {
        edits.push(Edit::insert(start, "("));
    }
    let mut tail = String::new();
    if first.script.leaves_traces() {
        tail.push(')');
    }
    let glue = format!(" && {}\n", facts.escape());
    for (n, p) in rest.iter().enumerate() {
        if p.manner(text) != first.manner(text) {
            return None;
        }
        for m in p.mounts(text) {
            if !mounts.contains(&m) {
                edits.push(Edit::insert(first.statement.keyword_span.end, format!(" {m}")));
                mounts.push(m);
            }
        }
        let above = comments_above(text, p.statement);
        tail.push_str(&glue);
        for line in text[above..p.statement.span.start].lines().filter(|l| l.trim_start().starts_with('#')) {
            tail.push_str(&format!("    {}\n", line.trim()));
        }
        let (from, to) = p.body();
        let closed = !p.script.is_chain() || (n + 1 < rest.len() && p.script.leaves_traces());
        let body = &text[from..to];
        tail.push_str(&if closed { format!("    ({body})") } else { format!("    {body}") });
        let (_, line_end) = whole_lines(text, p.statement.span.start, p.statement.span.end.saturating_sub(1));
        let mut gone = Edit::remove(above, line_end);
        gone.moves = true;
        edits.push(gone);
    }
    edits.push(Edit::insert(end, tail));
    Some(edits)
}

/// Whether all between two steps lets the later one pass.
fn may_pass(facts: &Facts, stage: &Stage, early: &Part<'_>, late: &Part<'_>) -> bool {
    let (Some(from), Some(to)) = (early.step.statement, late.step.statement) else { return false };
    let removes = only_removes(&late.script);
    let steps = stage.steps.iter().filter(|s| s.number > early.step.number && s.number < late.step.number);
    for s in steps {
        // What such a script reads is what it removes, also where nobody observed it.
        if !(s.independent_of(late.step) || (removes && s.writes_apart_from(late.step))) {
            return false;
        }
    }
    facts.file.statements[from + 1..to].iter().all(|s| match &s.instruction {
        Instruction::Workdir(_) | Instruction::Env(_) | Instruction::Arg(_) => removes,
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) => true,
        other => is_neutral(other),
    })
}

/// The RUNs from one to another, if nothing else but what makes no layer stands between.
fn all_runs<'f>(facts: &'f Facts, stage: &'f Stage, early: usize, late: usize) -> Option<Vec<Part<'f>>> {
    let steps = &stage.steps[early..=late];
    let parts: Vec<Part<'f>> = steps.iter().map(|s| part(facts, s)).collect::<Option<_>>()?;
    let (from, to) = (steps[0].statement?, steps[steps.len() - 1].statement?);
    let fine = |s: &Statement| is_neutral(&s.instruction) || matches!(s.instruction, Instruction::Run(_));
    facts.file.statements[from..=to].iter().all(fine).then_some(parts)
}

/// Bytes that some of these steps make, and others of them hide or repeat.
fn hidden_among(steps: &[Step]) -> u64 {
    let Some(first) = steps.first() else { return 0 };
    let hidden = steps[1..].iter().flat_map(Step::hides).filter(|(maker, _)| *maker >= first.number);
    hidden.map(|(_, h)| h.gone + h.repeated).sum()
}

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in facts.stages.iter().filter(|s| s.shipped) {
        for (k, late) in stage.steps.iter().enumerate() {
            let Some(late_part) = part(facts, late) else { continue };
            let hidden = late.hides();
            let mut best: Option<(u64, Vec<Edit>, u32, usize)> = None;
            for (j, early) in stage.steps[..k].iter().enumerate() {
                let Some(early_part) = part(facts, early) else { continue };
                let Some(bytes) = hidden.get(&early.number).map(|h| h.gone + h.repeated) else { continue };
                if bytes < facts.min_bytes {
                    continue;
                }
                let (edits, merged, bytes) = if may_pass(facts, stage, &early_part, &late_part) {
                    (merge(facts, &[&early_part, &late_part]), 2, bytes)
                } else if let Some(parts) = all_runs(facts, stage, j, k) {
                    let bytes = hidden_among(&stage.steps[j..=k]);
                    (merge(facts, &parts.iter().collect::<Vec<_>>()), parts.len(), bytes)
                } else {
                    (None, 0, 0)
                };
                if let Some(edits) = edits.filter(|_| best.as_ref().is_none_or(|b| b.0 < bytes)) {
                    best = Some((bytes, edits, early_part.statement.first_line, merged));
                }
            }
            if let Some((bytes, edits, line, merged)) = best {
                out.push(Advice {
                    kind: Kind::MergeRuns,
                    line: late_part.statement.first_line,
                    title: format!(
                        "do this in the RUN on line {line}, which makes what is deleted or written again here"
                    ),
                    why: format!(
                        "{} that {} gone or replaced here, and stay in {}. {merged} RUN steps become \
                         one, so a change of any of them runs all of them again.",
                        size(bytes),
                        if merged > 2 {
                            format!("the RUNs from line {line} on make are")
                        } else {
                            format!("line {line} makes are")
                        },
                        if merged > 2 { "their layers" } else { "its layer" },
                    ),
                    worth: Worth { bytes, ..Worth::default() },
                    edits,
                    ignore: Vec::new(),
                    probe: None,
                    changes: Vec::new(),
                });
            }
        }
    }
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

    /// Only what the first of them makes was counted.
    #[test]
    fn several_runs_that_become_one_save_all_that_they_hide_of_each_other() {
        let facts = Scene::new("FROM base\nRUN get lists\nRUN install\nRUN rm -rf /lists /cache\n")
            .step(2, vec![file("lists", 5000)], &[])
            .step(3, vec![file("cache", 7000), file("tool", 1)], &["lists"])
            .step(4, vec![gone("lists"), gone("cache")], &["lists", "cache"])
            .facts();
        // What the last one hides of the second alone would be 7000.
        let all = found(&facts);
        assert_eq!(all[0].worth.bytes, 12_000, "{}", all[0].why);
        assert_eq!(
            after(&facts, &all[0]),
            "FROM base\nRUN get lists && \\\n    install && \\\n    rm -rf /lists /cache\n"
        );
        assert!(
            all[0].why.starts_with("12.0 kB that the RUNs from line 2 on make are gone"),
            "{}",
            all[0].why
        );
    }

    #[test]
    fn a_later_rm_goes_where_the_bytes_are_made() {
        let facts = Scene::new("FROM base\n# fetch\nRUN get \\\n    big\n\n# drop it\nRUN rm big\nCMD sh\n")
            .step(3, vec![file("big", 5000), file("keep", 10)], &[])
            .step(7, vec![gone("big")], &["big"])
            .facts();
        let all = found(&facts);
        assert_eq!((all.len(), all[0].worth.bytes), (1, 5000));
        assert_eq!(
            after(&facts, &all[0]),
            "FROM base\n# fetch\nRUN get \\\n    big && \\\n    # drop it\n    rm big\n\nCMD sh\n"
        );
    }

    #[test]
    fn a_copy_between_is_passed_if_they_have_nothing_to_do_with_each_other() {
        let text = "FROM base\nRUN get big\nCOPY x /x\nLABEL a=b\nRUN rm big\n";
        let scene = |reads: &[&'static str]| {
            Scene::new(text)
                .step(2, vec![file("big", 5000)], &[])
                .step(3, vec![file("x", 1)], &[])
                .step(5, vec![gone("big")], reads)
                .facts()
        };
        let facts = scene(&["big"]);
        assert_eq!(
            after(&facts, &found(&facts)[0]),
            "FROM base\nRUN get big && \\\n    rm big\nCOPY x /x\nLABEL a=b\n"
        );
        assert_eq!(found(&scene(&["big", "x"])), [], "it reads what is copied");
    }

    #[test]
    fn runs_between_that_matter_are_merged_too_and_traces_are_kept_in() {
        let facts = Scene::new("FROM base\nRUN cd /t; get big\nRUN cd /u && use big\nRUN rm big || true\n")
            .step(2, vec![file("big", 5000)], &[])
            .step(3, vec![file("u/made", 1)], &["big"])
            .step(4, vec![gone("big")], &["big"])
            .facts();
        assert_eq!(
            after(&facts, &found(&facts)[0]),
            "FROM base\nRUN (cd /t; get big) && \\\n    (cd /u && use big) && \\\n    (rm big || true)\n"
        );
    }

    #[test]
    fn what_changes_the_run_is_not_passed_except_by_plain_removals() {
        let scene = |between: &str, late: &str| {
            Scene::new(&format!("FROM base\nRUN get big\n{between}\nRUN {late}\n"))
                .step(2, vec![file("big", 5000)], &[])
                .step(4, vec![gone("big")], &["big"])
                .facts()
        };
        assert_eq!(found(&scene("USER x", "rm /big")), []);
        assert_eq!(found(&scene("ENV A=1", "clean")), []);
        assert_eq!(found(&scene("ENV A=1", "rm -f /big")).len(), 1);
        assert_eq!(found(&scene("SHELL [\"x\"]", "rm -f /big")), []);
    }

    #[test]
    fn mounts_are_put_together_and_small_waste_is_left() {
        let facts = Scene::new(
            "FROM base\nRUN --mount=type=tmpfs,target=/a get\nRUN --mount=type=tmpfs,target=/b rm big\n",
        )
        .step(2, vec![file("big", 5000)], &[])
        .step(3, vec![gone("big")], &["big"])
        .facts();
        let text = after(&facts, &found(&facts)[0]);
        assert!(
            text.contains(
                "RUN --mount=type=tmpfs,target=/b --mount=type=tmpfs,target=/a get && \\\n    rm big\n"
            ),
            "{text}"
        );
        let facts = Scene::new("FROM base\nRUN get\nRUN rm big\n")
            .step(2, vec![file("big", 50)], &[])
            .step(3, vec![gone("big")], &["big"])
            .facts();
        assert_eq!(found(&facts), []);
    }
}
