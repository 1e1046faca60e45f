//! Differences for people, in a terminal.

use analyse::diff::{
    Amount, Change, Diff, FileChange, FileDiff, HistoryLine, LayerChange, PathDiff, Summary,
};
use analyse::packages::PackageChange;
use serde_json::Value;

use crate::human::bytes;
use crate::progress::text::{cut, harmless};
use crate::table::columns;

/// The sign of a change.
pub(super) fn sign(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Removed => "-",
        Change::Changed => "~",
        Change::Metadata => "m",
    }
}

/// What a row says of a path.
pub(super) struct Row {
    pub(super) change: Change,
    pub(super) path: String,
    pub(super) size: String,
    pub(super) what: String,
}

/// The rows of a list of paths. What lies below a directory that came or went is one row with the directory.
pub(super) fn rows(files: &FileDiff) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut at = 0;
    while let Some(c) = files.entries.get(at) {
        at += 1;
        let whole = matches!(c.change, Change::Added | Change::Removed) && c.kind == "directory";
        if !whole {
            out.push(row(c));
            continue;
        }
        let below = format!("{}/", c.path.trim_end_matches('/'));
        let (mut count, mut sum) = (0, 0);
        while let Some(e) =
            files.entries.get(at).filter(|e| e.path.starts_with(&below) && e.change == c.change)
        {
            count += 1;
            sum += e.size_to.or(e.size_from).unwrap_or(0);
            at += 1;
        }
        let what = match count {
            0 => "empty directory".to_owned(),
            1 => "with 1 path".to_owned(),
            n => format!("with {n} paths"),
        };
        out.push(Row { change: c.change, path: harmless(&below), size: bytes(sum), what });
    }
    out
}

fn row(c: &FileChange) -> Row {
    let size = match (c.size_from, c.size_to) {
        (Some(a), Some(b)) if a != b => format!("{} → {}", bytes(a), bytes(b)),
        (Some(n), _) | (_, Some(n)) => bytes(n),
        (None, None) => c.kind.to_owned(),
    };
    let what = c.attributes.iter().map(|a| match a.name.as_str() {
        "content" => "content".to_owned(),
        name => format!("{name} {} → {}", harmless(&a.from), harmless(&a.to)),
    });
    let what = what.collect::<Vec<_>>().join(", ");
    Row { change: c.change, path: harmless(&c.path), size, what }
}

fn side(name: &str, s: &Summary) -> Vec<String> {
    vec![
        name.to_owned(),
        harmless(&s.name),
        s.id.trim_start_matches("sha256:").chars().take(12).collect(),
        s.layers.to_string(),
        bytes(s.bytes),
        bytes(s.live_bytes),
    ]
}

/// `3 files, 1 directory, 5.2MB`.
pub(super) fn amount(a: &Amount) -> String {
    let count = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts = [
        count(a.files, "file", "files"),
        count(a.directories, "directory", "directories"),
        (a.files > 0).then(|| bytes(a.bytes)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn files(out: &mut Vec<String>, files: &FileDiff, limit: usize) {
    if files.entries.is_empty() {
        out.push("FILES\n  the same".to_owned());
        return;
    }
    out.push("FILES".to_owned());
    for (change, what, a) in [
        (Change::Added, "added", &files.added),
        (Change::Removed, "removed", &files.removed),
        (Change::Changed, "changed", &files.changed),
        (Change::Metadata, "other attributes only", &files.metadata),
    ] {
        if a != &Amount::default() {
            out.push(format!("  {} {what}: {}", sign(change), amount(a)));
        }
    }
    let all = rows(files);
    let cells: Vec<Vec<String>> = all
        .iter()
        .take(limit)
        .map(|r| vec![format!("  {} {}", sign(r.change), r.path), r.size.clone(), r.what.clone()])
        .collect();
    let table = columns(&["", "", ""], &cells);
    out.push(table);
    if all.len() > limit {
        out.push(format!("  ... and {} more (--limit 0 shows all)", all.len() - limit));
    }
}

/// Versions as a cell.
pub(super) fn versions(v: &[String]) -> String {
    if v.is_empty() { "-".to_owned() } else { harmless(&v.join(", ")) }
}

/// Name of a package with its place.
pub(super) fn package(p: &PackageChange) -> String {
    if p.place.is_empty() {
        harmless(&p.name)
    } else {
        format!("{} in {}", harmless(&p.name), harmless(&p.place))
    }
}

/// A value of the config, short.
pub(super) fn value(v: &Option<Value>) -> String {
    match v {
        None => "-".to_owned(),
        Some(Value::String(s)) => harmless(s),
        Some(v) => harmless(&v.to_string()),
    }
}

/// A line of the history.
pub(super) fn instruction(line: &HistoryLine) -> String {
    if line.text.is_empty() { "(no history line)".to_owned() } else { harmless(&line.text) }
}

/// Sign, size and instruction of a line of both histories.
pub(super) fn layer(l: &LayerChange) -> (&'static str, String, String) {
    match (&l.from, &l.to) {
        (Some(a), Some(b)) => {
            let mark = if l.same { "=" } else { "~" };
            let size = if a.bytes == b.bytes {
                bytes(a.bytes)
            } else {
                format!("{} → {}", bytes(a.bytes), bytes(b.bytes))
            };
            (mark, size, instruction(b))
        }
        (Some(a), None) => ("-", bytes(a.bytes), instruction(a)),
        (None, Some(b)) => ("+", bytes(b.bytes), instruction(b)),
        (None, None) => ("=", String::new(), String::new()),
    }
}

/// Everything.
pub(super) fn whole(d: &Diff, layers: bool, limit: usize) -> String {
    let head = ["", "IMAGE", "ID", "LAYERS", "IN LAYERS", "VISIBLE"];
    let mut out = vec![columns(&head, &[side("A", &d.a), side("B", &d.b)]), String::new()];
    files(&mut out, &d.files, limit);
    if !d.packages.is_empty() {
        out.push("\nPACKAGES".to_owned());
        let cells: Vec<Vec<String>> = d
            .packages
            .iter()
            .map(|p| {
                let mark = match (p.from.is_empty(), p.to.is_empty()) {
                    (true, _) => "+",
                    (_, true) => "-",
                    _ => "~",
                };
                let name = format!("  {mark} {}", package(p));
                vec![name, p.manager.name().to_owned(), versions(&p.from), versions(&p.to)]
            })
            .collect();
        out.push(columns(&["", "MANAGER", "A", "B"], &cells));
    }
    for p in &d.problems {
        out.push(format!("  note: {}: {}", harmless(&p.path), harmless(&p.why)));
    }
    if !d.config.is_empty() {
        out.push("\nCONFIG".to_owned());
        let cells: Vec<Vec<String>> = d
            .config
            .iter()
            .map(|c| {
                vec![format!("  {}", harmless(&c.field)), cut(&value(&c.from), 60), cut(&value(&c.to), 60)]
            })
            .collect();
        out.push(columns(&["", "A", "B"], &cells));
    }
    if !d.layers.lines.is_empty() {
        out.push(format!(
            "\nHISTORY above {} shared {} ({})",
            d.layers.shared,
            if d.layers.shared == 1 { "layer" } else { "layers" },
            bytes(d.layers.shared_bytes)
        ));
        for l in &d.layers.lines {
            let (mark, size, text) = layer(l);
            out.push(format!("  {mark} {size:>20}  {}", cut(&text, 90)));
            if layers && !l.same {
                let sums = [("+", &l.added), ("-", &l.removed), ("~", &l.changed)];
                for (mark, a) in sums.into_iter().filter(|(_, a)| **a != Amount::default()) {
                    out.push(format!("      {mark} {}", amount(a)));
                }
                for (change, path) in l.paths.iter().take(limit) {
                    out.push(format!("        {} {}", sign(*change), harmless(path)));
                }
            }
        }
    }
    out.join("\n")
}

/// One path.
pub(super) fn path(d: &PathDiff, limit: usize) -> String {
    let mut out = vec![harmless(&d.path)];
    for (name, side) in [("A", &d.a), ("B", &d.b)] {
        out.push(match side {
            None => format!("  {name}: not there"),
            Some(s) => {
                let size = s.size.map_or_else(String::new, |n| format!(", {}", bytes(n)));
                let layers: Vec<String> = s.layers.iter().map(|(n, what)| format!("{n} ({what})")).collect();
                format!(
                    "  {name}: {}{size}, mode {}, owner {}, in layers {}",
                    s.kind,
                    s.mode,
                    s.owner,
                    if layers.is_empty() { "none".to_owned() } else { layers.join(", ") }
                )
            }
        });
    }
    files(&mut out, &d.files, limit);
    if let Some(text) = &d.text {
        out.push(text.lines().map(harmless).collect::<Vec<_>>().join("\n"));
    }
    if let Some(why) = &d.no_text {
        out.push(format!("the contents are not shown: {}", harmless(why)));
    }
    out.join("\n")
}
