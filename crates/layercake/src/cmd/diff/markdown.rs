//! Differences as Markdown, for a comment on a pull request.

use analyse::diff::{Diff, FileDiff, PathDiff};

use super::text::{amount, layer, package, rows, sign, value, versions};
use crate::human::bytes;
use crate::progress::text::{cut, harmless};

/// A text that may stand in a cell: as code, with what would end the cell or the code taken care of.
fn code(text: &str) -> String {
    let text = harmless(text).replace('|', "\\|").replace('`', "'");
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn table(out: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    out.push_str(&format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len())));
    for r in rows {
        out.push_str(&format!("| {} |\n", r.join(" | ")));
    }
    out.push('\n');
}

fn files(out: &mut String, d: &FileDiff, limit: usize) {
    if d.entries.is_empty() {
        out.push_str("Files: the same.\n\n");
        return;
    }
    out.push_str(&format!(
        "Files: added {}; removed {}; changed {}; other attributes only {}.\n\n",
        amount(&d.added),
        amount(&d.removed),
        amount(&d.changed),
        amount(&d.metadata)
    ));
    let all = rows(d);
    let many = if d.entries.len() == 1 { "path" } else { "paths" };
    out.push_str(&format!("<details><summary>{} {many}</summary>\n\n", d.entries.len()));
    let cells = all
        .iter()
        .take(limit)
        .map(|r| vec![sign(r.change).to_owned(), code(&r.path), r.size.clone(), code(&r.what)]);
    table(out, &["", "path", "size", "what"], cells);
    if all.len() > limit {
        out.push_str(&format!("and {} more\n\n", all.len() - limit));
    }
    out.push_str("</details>\n\n");
}

/// Everything.
pub(super) fn whole(d: &Diff, layers: bool, limit: usize) -> String {
    let mut out = String::new();
    let delta = |a: u64, b: u64| match b.cmp(&a) {
        std::cmp::Ordering::Equal => "same".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", bytes(b - a)),
        std::cmp::Ordering::Less => format!("-{}", bytes(a - b)),
    };
    table(
        &mut out,
        &["", &code(&d.a.name), &code(&d.b.name), "change"],
        [
            vec!["layers".into(), d.a.layers.to_string(), d.b.layers.to_string(), String::new()],
            vec!["bytes in layers".into(), bytes(d.a.bytes), bytes(d.b.bytes), delta(d.a.bytes, d.b.bytes)],
            vec![
                "bytes visible".into(),
                bytes(d.a.live_bytes),
                bytes(d.b.live_bytes),
                delta(d.a.live_bytes, d.b.live_bytes),
            ],
        ],
    );
    files(&mut out, &d.files, limit);
    if !d.packages.is_empty() {
        let cells = d.packages.iter().map(|p| {
            vec![
                code(&package(p)),
                p.manager.name().to_owned(),
                code(&versions(&p.from)),
                code(&versions(&p.to)),
            ]
        });
        table(&mut out, &["package", "manager", "before", "after"], cells);
    }
    for p in &d.problems {
        out.push_str(&format!("Note: {}: {}\n\n", code(&p.path), harmless(&p.why)));
    }
    if !d.config.is_empty() {
        let cells = d
            .config
            .iter()
            .map(|c| vec![code(&c.field), code(&cut(&value(&c.from), 120)), code(&cut(&value(&c.to), 120))]);
        table(&mut out, &["config", "before", "after"], cells);
    }
    if layers && !d.layers.lines.is_empty() {
        let cells = d.layers.lines.iter().map(|l| {
            let (mark, size, text) = layer(l);
            vec![mark.to_owned(), size, code(&cut(&text, 120))]
        });
        table(&mut out, &["", "size", "instruction"], cells);
    }
    out.truncate(out.trim_end().len());
    out
}

/// One path.
pub(super) fn path(d: &PathDiff, limit: usize) -> String {
    let mut out = format!("{}\n\n", code(&d.path));
    files(&mut out, &d.files, limit);
    if let Some(text) = &d.text {
        // A fence longer than any in the text.
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0).max(2);
        let fence = "`".repeat(longest + 1);
        let lines = text.lines().map(harmless).collect::<Vec<_>>().join("\n");
        out.push_str(&format!("{fence}diff\n{lines}\n{fence}\n"));
    }
    if let Some(why) = &d.no_text {
        out.push_str(&format!("The contents are not shown: {}\n", harmless(why)));
    }
    out.truncate(out.trim_end().len());
    out
}
