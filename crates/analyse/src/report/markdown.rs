//! The report as Markdown, for a comment on a pull request.

use super::{Report, cut, human, plain};
use crate::account::{Class, Owner};
use crate::gate::Verdict;

/// Text in a cell of a table: nothing in it is Markdown or HTML.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '@' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}

/// Writes the report; `most` findings are listed.
pub fn write(report: &Report<'_>, most: usize) -> String {
    let image = report.image;
    let a = image.accounts();
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let verdict = match &report.gate {
        Some(g) if g.passes() => " — passes",
        Some(_) => " — **fails**",
        None => "",
    };
    line(format!("### {}{verdict}", cell(&image.name)));
    line(String::new());
    line("| | content | packed | files |".into());
    line("|---|---:|---:|---:|".into());
    let mut row = |label: &str, s: crate::Sums, packed: u64| {
        line(format!("| {label} | {} | {} | {} |", human(s.bytes), human(packed), s.files));
    };
    row("shipped", a.total.shipped, report.packed());
    row("live", a.live, a.live.packed);
    row("**dead**", a.reclaimable(), a.reclaimable().packed);
    if image.base().is_some() {
        let yours = report.owned(Owner::Yours, Class::Dead);
        row("dead, in your layers", yours, yours.packed);
    }
    let (repeated, needless) = (a.total.class(Class::Repeated), a.total.class(Class::Needless));
    row("repeated", repeated, repeated.packed);
    row("needless", needless, needless.packed);
    line(String::new());
    line(format!(
        "Efficiency **{:.2} %** (dive's score: {:.2} %), {} layers, {}.",
        a.efficiency() * 100.0,
        report.dive.efficiency * 100.0,
        image.layers.len(),
        image.platform
    ));
    if let Some(gate) = &report.gate {
        line(String::new());
        line("| rule | result | |".into());
        line("|---|---|---|".into());
        for o in gate.outcomes.iter().filter(|o| o.verdict != Verdict::Skip) {
            let word = if o.verdict == Verdict::Fail { "**fail**" } else { "pass" };
            line(format!("| {} | {word} | {} |", o.rule, cell(&o.message)));
        }
    }
    if !report.findings.is_empty() {
        line(String::new());
        line("| bytes | cause | where | change |".into());
        line("|---:|---|---|---|".into());
        for f in report.findings.iter().take(most) {
            let owner = if f.owner == Owner::Base { " (base)" } else { "" };
            let (title, advice) = (cell(&f.title), cell(&f.advice));
            line(format!("| {} | {}{owner} | {title} | {advice} |", human(f.sums.bytes), f.cause.name()));
        }
        if report.findings.len() > most {
            line(String::new());
            line(format!("{} more findings.", report.findings.len() - most));
        }
    }
    line(String::new());
    line("<details><summary>Layers</summary>".into());
    line(String::new());
    line("| | size | packed | dead | instruction |".into());
    line("|---:|---:|---:|---:|---|".into());
    for (l, ledger) in image.layers.iter().zip(&a.layers) {
        line(format!(
            "| {} | {} | {} | {} | {} |",
            l.index,
            human(l.size),
            human(l.packed),
            human(ledger.class(Class::Dead).bytes),
            cell(&cut(&image.instruction(l.index), 120))
        ));
    }
    line(String::new());
    line("</details>".into());
    out
}
