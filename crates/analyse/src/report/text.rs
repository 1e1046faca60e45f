//! The report for a terminal.

use super::{Report, cut, human, plain};
use crate::account::{Cause, Class, Owner};
use crate::gate::{Gate, Verdict};

/// Findings that are shown unless more are asked for.
pub const FINDINGS: usize = 10;

/// Columns with two blanks between; the first `left` are aligned left, the others but the last right.
fn table(rows: &[Vec<String>], left: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (c, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[c].saturating_sub(cell.chars().count()));
                if left.contains(&c) {
                    line.push_str(cell);
                    line.push_str(&fill);
                } else {
                    line.push_str(&fill);
                    line.push_str(cell);
                }
                line.push_str("  ");
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// The cause that most of a layer's waste has.
pub(crate) fn main_cause(report: &Report<'_>, layer: usize) -> Option<Cause> {
    let ledger = report.image.accounts().layers.get(layer)?;
    Cause::ALL
        .into_iter()
        .filter(|&c| ledger.cause(c).bytes > 0)
        .max_by_key(|&c| (c.class() == Class::Dead, ledger.cause(c).bytes))
}

/// The summary: totals, layers, the largest findings (`most` of them), the rules' results.
pub fn summary(report: &Report<'_>, most: usize, width: usize) -> String {
    let image = report.image;
    let a = image.accounts();
    let mut out: Vec<String> = Vec::new();
    out.push(format!("{}  {}  {}", plain(&image.name), image.platform, image.id.short()));
    if let Some(base) = image.base() {
        let name = base.name.as_deref().unwrap_or("an image");
        let which = if base.layers == 1 { "layer".to_owned() } else { format!("{} layers", base.layers) };
        out.push(format!("base: {} (the first {which})", plain(name)));
    }
    out.push(String::new());
    let total = |label: &str, files: u64, bytes: u64, packed: u64, note: &str| {
        vec![label.to_owned(), human(bytes), human(packed), format!("{files} files"), note.to_owned()]
    };
    let dead = a.reclaimable();
    let yours = report.owned(Owner::Yours, Class::Dead);
    let note = if image.base().is_some() {
        format!("{} of it in your layers", human(yours.bytes))
    } else {
        String::new()
    };
    let repeated = a.total.class(Class::Repeated);
    let needless = a.total.class(Class::Needless);
    let mut rows = vec![
        vec![String::new(), "content".into(), "packed".into(), String::new(), String::new()],
        total("shipped", a.total.shipped.files, a.total.shipped.bytes, report.packed(), ""),
        total("live", a.live.files, a.live.bytes, a.live.packed, ""),
        total("dead", dead.files, dead.bytes, dead.packed, &note),
        total("repeated", repeated.files, repeated.bytes, repeated.packed, "the same content at other paths"),
        total("needless", needless.files, needless.bytes, needless.packed, "left behind by package managers"),
    ];
    rows.iter_mut().for_each(|r| r[0] = format!("{:10}", r[0]));
    out.extend(table(&rows, &[0, 4]));
    out.push(String::new());
    out.push(format!(
        "efficiency {:.2} %   (dive's score: {:.2} %, wasted {})",
        a.efficiency() * 100.0,
        report.dive.efficiency * 100.0,
        human(report.dive.wasted)
    ));
    out.push(String::new());
    let mut rows: Vec<Vec<String>> = vec![
        ["", "SIZE", "PACKED", "DEAD", "CAUSE", "INSTRUCTION"].iter().map(|s| (*s).to_owned()).collect(),
    ];
    for (l, ledger) in image.layers.iter().zip(&a.layers) {
        let dead = ledger.class(Class::Dead).bytes;
        let cause = main_cause(report, l.index).map_or("", Cause::name);
        let mark = if image.owner(l.index) == Owner::Base { "base " } else { "" };
        let place = report.origins.get(&l.index).and_then(|s| s.line).map(|n| format!("line {n}: "));
        let text = format!("{mark}{}{}", place.unwrap_or_default(), plain(&image.instruction(l.index)));
        rows.push(vec![
            l.index.to_string(),
            human(l.size),
            human(l.packed),
            if dead > 0 { human(dead) } else { "-".to_owned() },
            if cause.is_empty() { "-".to_owned() } else { cause.to_owned() },
            text,
        ]);
    }
    out.extend(table(&rows, &[4, 5]).into_iter().map(|l| cut(&l, width)));
    if !report.findings.is_empty() {
        out.push(String::new());
        out.push("FINDINGS".to_owned());
    }
    for f in report.findings.iter().take(most) {
        let owner = if f.owner == Owner::Base { " [base]" } else { "" };
        out.push(format!(
            "{:>8}  {} ({} packed){owner}: {}",
            human(f.sums.bytes),
            f.cause.name(),
            human(f.sums.packed),
            plain(&f.title)
        ));
        for &id in f.files.iter().take(3) {
            let e = image.entry(id);
            out.push(cut(&format!("{:>18}  {}", human(e.size), plain(&image.show(e.place))), width));
        }
        if f.sums.files > 3 {
            out.push(format!("{:>18}  {} more", "", f.sums.files - 3));
        }
        out.push(format!("          -> {}", plain(&f.advice)));
    }
    if report.findings.len() > most {
        let rest: u64 = report.findings[most..].iter().map(|f| f.sums.bytes).sum();
        out.push(format!("{:>8}  in {} more findings", human(rest), report.findings.len() - most));
    }
    if let Some(gate) = &report.gate {
        out.push(String::new());
        out.extend(gate_lines(gate));
    }
    out.join("\n")
}

/// The rules' results, one a line, and the verdict.
pub fn gate_lines(gate: &Gate) -> Vec<String> {
    let mut out = vec!["EVALUATION".to_owned()];
    for o in &gate.outcomes {
        let word = match o.verdict {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "SKIP",
        };
        out.push(format!("  {word}  {} ({})", o.rule, plain(&o.message)));
    }
    let count = |v: Verdict| gate.outcomes.iter().filter(|o| o.verdict == v).count();
    out.push(format!(
        "{} [pass:{} fail:{} skip:{}]",
        if gate.passes() { "PASS" } else { "FAIL" },
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Skip)
    ));
    out
}
