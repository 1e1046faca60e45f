//! Advice for people and programs.

use advise::verify::Verified;
use advise::{Advice, Edit, edit};
use analyse::diff::text::unified;
use analyse::{Base, BaseSource};
use serde::Serialize;

use super::{Report, Shown};
use crate::human::bytes;
use crate::progress::text::harmless;

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// Dockerfile and ignore file with all chosen changes.
pub(super) fn results(report: &Report) -> (String, String) {
    let chosen: Vec<&Advice> = report.shown.iter().filter(|s| s.chosen).map(|s| &s.advice).collect();
    let edits: Vec<&Edit> = chosen.iter().flat_map(|a| &a.edits).collect();
    let lines: Vec<String> = chosen.iter().flat_map(|a| a.ignore.clone()).collect();
    // Chosen advice fits together, so the edits do not overlap.
    let text = edit::apply(&report.facts.text, &edits).unwrap_or_else(|| report.facts.text.clone());
    (text, edit::append(&report.ignore.text, &lines))
}

/// The patch of all chosen changes, as `git apply` takes it in the directory of the context.
pub(super) fn patch(report: &Report) -> String {
    let (text, ignore) = results(report);
    let name = match &report.file {
        Some(f) => {
            f.file_name().map_or_else(|| report.facts.name.clone(), |n| n.to_string_lossy().into_owned())
        }
        None => report.facts.name.clone(),
    };
    let mut out = unified(&report.facts.text, &text, &format!("a/{name}"), &format!("b/{name}"));
    let own = &report.ignore;
    let before = if own.exists { format!("a/{}", own.name) } else { "/dev/null".to_owned() };
    out.push_str(&unified(&own.text, &ignore, &before, &format!("b/{}", own.name)));
    out
}

fn saved(v: &Verified) -> String {
    let less = bytes(v.bytes_saved().unsigned_abs());
    let less = match v.bytes_saved() {
        0 => String::new(),
        1.. => format!(" ({less} saved)"),
        _ => format!(" ({less} more)"),
    };
    let mut out = format!("image {} -> {}{less}", bytes(v.before.image_bytes), bytes(v.after.image_bytes));
    if v.before.build_bytes - v.before.image_bytes != v.after.build_bytes.saturating_sub(v.after.image_bytes)
    {
        out.push_str(&format!(
            ", all layers {} -> {}",
            bytes(v.before.build_bytes),
            bytes(v.after.build_bytes)
        ));
    }
    out.push_str(&format!(", build {:.2} s -> {:.2} s", v.before.seconds, v.after.seconds));
    if let (Some(b), Some(a)) = (v.before.again_seconds, v.after.again_seconds) {
        out.push_str(&format!(", the next one {b:.2} s -> {a:.2} s"));
    }
    if let (Some(b), Some(a)) = (v.before.again_ran, v.after.again_ran) {
        out.push_str(&format!(" ({b} -> {a} steps run)"));
    }
    out.push_str("; files ");
    out.push_str(&match v.changed {
        0 => "equal".to_owned(),
        n => format!("equal but for {n} paths that it names"),
    });
    if v.unstable > 0 {
        out.push_str(&format!(" ({} differ from build to build anyway)", v.unstable));
    }
    out
}

fn worth(a: &Advice) -> String {
    let w = a.worth;
    let mut parts = Vec::new();
    if w.bytes > 0 {
        parts.push(bytes(w.bytes));
    }
    if w.build_bytes > 0 {
        parts.push(format!("{} of context", bytes(w.build_bytes)));
    }
    if w.seconds > 0.0 {
        parts.push(format!("{:.1} s", w.seconds));
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// Everything for people.
pub(super) fn text(report: &Report, verbose: bool) -> String {
    let mut out = Vec::new();
    if let Some(b) = &report.base {
        let name = b.name.as_deref().map(|n| format!(" {}", harmless(n))).unwrap_or_default();
        let how = match b.source {
            BaseSource::Given => "as you say",
            BaseSource::Record => "by the record of its build",
            BaseSource::Annotation => "by what the image says",
            BaseSource::Prefix => "the image here with the most of its first layers",
        };
        let layers = if b.layers == 1 { "its layer is" } else { "its layers are" };
        out.push(format!("base{name} ({} of the layers, {how}): {layers} not yours to change", b.layers));
    }
    if report.shown.is_empty() {
        out.push(format!("{}: nothing to advise", report.facts.name));
    }
    for (n, s) in report.shown.iter().enumerate() {
        let a = &s.advice;
        out.push(format!(
            "{}. line {}: {}   [{}: {}]",
            n + 1,
            a.line,
            harmless(&a.title),
            a.kind.name(),
            worth(a)
        ));
        out.push(format!("   {}", harmless(&a.why)));
        if let Some(v) = &s.verified {
            out.push(format!("   verified: {}", saved(v)));
        }
        if !a.changes.is_empty() {
            let named: Vec<String> = a.changes.iter().take(4).map(|c| harmless(c)).collect();
            let more = a.changes.len().saturating_sub(4);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            out.push(format!("   differs afterwards: {}{more}", named.join(", ")));
        }
        if !s.chosen {
            out.push(
                "   not in the patch: it changes the same lines as a better one; apply that, and ask again"
                    .to_owned(),
            );
        }
    }
    match &report.together {
        Some(Ok(v)) => out.push(format!("all at once: {}", saved(v))),
        Some(Err(why)) => {
            out.push(format!(
                "all at once does not hold ({}), so the patch has the first only",
                harmless(why)
            ));
        }
        None => {}
    }
    if !report.dropped.is_empty() {
        let count = report.dropped.len();
        let hint = if verbose { "" } else { " (-v says why)" };
        out.push(format!("{count} more did not hold when they were tried, and are left out{hint}"));
        for d in report.dropped.iter().filter(|_| verbose) {
            out.push(format!("   {} on line {}: {}", d.advice.kind.name(), d.advice.line, harmless(&d.why)));
        }
    }
    let patch = patch(report);
    if !patch.is_empty() {
        out.push(String::new());
        out.push(patch.lines().map(harmless).collect::<Vec<_>>().join("\n"));
    }
    out.join("\n")
}

/// What programs get.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    file: String,
    base: Option<&'a Base>,
    advice: Vec<One<'a>>,
    dropped: Vec<Gone<'a>>,
    together: Option<&'a Verified>,
    patch: String,
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    advice: &'a Advice,
    in_patch: bool,
    verified: Option<&'a Verified>,
}

#[derive(Serialize)]
struct Gone<'a> {
    kind: advise::Kind,
    line: u32,
    why: &'a str,
}

/// The document.
pub(super) fn json(report: &Report) -> Document<'_> {
    let one = |s: &'_ Shown| -> bool { s.chosen };
    Document {
        schema: SCHEMA,
        file: report.file.as_ref().map_or_else(|| report.facts.name.clone(), |f| f.display().to_string()),
        base: report.base.as_ref(),
        advice: report
            .shown
            .iter()
            .map(|s| One { advice: &s.advice, in_patch: one(s), verified: s.verified.as_ref() })
            .collect(),
        dropped: report
            .dropped
            .iter()
            .map(|d| Gone { kind: d.advice.kind, line: d.advice.line, why: &d.why })
            .collect(),
        together: report.together.as_ref().and_then(|t| t.as_ref().ok()),
        patch: patch(report),
    }
}
