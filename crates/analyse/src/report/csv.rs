//! Findings as CSV (RFC 4180): a header, then one line a finding.

use super::Report;
use crate::account::Owner;

fn field(text: &str) -> String {
    // A cell that starts like a formula would be one in a spreadsheet.
    let guarded =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let mut out =
        "id,cause,owner,layer,by,files,bytes,packed,directory,instruction,title,advice\r\n".to_owned();
    for f in &report.findings {
        let owner = if f.owner == Owner::Base { "base" } else { "yours" };
        let cells = [
            f.id.clone(),
            f.cause.name().to_owned(),
            owner.to_owned(),
            f.layer.to_string(),
            f.by.to_string(),
            f.sums.files.to_string(),
            f.sums.bytes.to_string(),
            f.sums.packed.to_string(),
            oci::index::show(&f.directory),
            report.image.instruction(f.layer),
            f.title.clone(),
            f.advice.clone(),
        ];
        let line: Vec<String> = cells.iter().map(|c| field(c)).collect();
        out.push_str(&line.join(","));
        out.push_str("\r\n");
    }
    out
}
