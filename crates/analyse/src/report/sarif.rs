//! Findings as SARIF 2.1.0. Where a layer's line in a Dockerfile is known, that is the place; else the image is.

use serde_json::{Value, json};

use super::{Report, human};
use crate::account::{Cause, Class, Owner};
use crate::gate::Verdict;

fn description(cause: Cause) -> &'static str {
    match cause {
        Cause::Overwritten => "A later layer overwrites files that an earlier one ships",
        Cause::Metadata => "A layer ships files again to change only their owner, mode or times",
        Cause::Deleted => "A later layer deletes files that an earlier one ships",
        Cause::Moved => "A layer ships files again at another path",
        Cause::Duplicate => "The same content is in the image several times",
        Cause::Cruft => "A package manager or a build left files behind that nothing needs",
    }
}

/// The report as a SARIF log. `version` is that of the program.
pub fn write(report: &Report<'_>, version: &str) -> Value {
    let image = report.image;
    let rules: Vec<Value> = Cause::ALL
        .iter()
        .map(|&c| json!({ "id": c.name(), "shortDescription": { "text": description(c) } }))
        .chain([json!({ "id": "gate", "shortDescription": { "text": "A rule for images fails" } })])
        .collect();
    let findings = report.findings.iter().map(|f| {
        let level = match (f.owner, f.cause.class()) {
            (Owner::Base, _) => "note",
            (Owner::Yours, Class::Dead) => "warning",
            (Owner::Yours, _) => "note",
        };
        let source = report.origins.get(&f.layer);
        let place = match source.and_then(|s| Some((s.file.as_deref()?, s.line?, s.last_line))) {
            Some((file, line, last)) => json!({
                "artifactLocation": { "uri": file },
                "region": { "startLine": line, "endLine": last.unwrap_or(line) }
            }),
            None => json!({ "artifactLocation": { "uri": uri(&image.name) } }),
        };
        let text = format!("{}: {}. {}", human(f.sums.bytes), f.title, f.advice);
        json!({
            "ruleId": f.cause.name(),
            "level": level,
            "message": { "text": text },
            "locations": [{
                "physicalLocation": place,
                "logicalLocations": [{ "name": format!("layer {}", f.layer), "kind": "module" }]
            }],
            "partialFingerprints": { "finding/v1": f.id },
            "properties": { "bytes": f.sums.bytes, "packed": f.sums.packed, "files": f.sums.files }
        })
    });
    let gate = report.gate.iter().flat_map(|g| &g.outcomes).filter(|o| o.verdict == Verdict::Fail).map(|o| {
        json!({
            "ruleId": "gate",
            "level": "error",
            "message": { "text": format!("{}: {}", o.rule, o.message) },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(&image.name) } } }],
            "partialFingerprints": { "finding/v1": format!("gate-{}", o.rule) }
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "layercake", "version": version, "rules": rules } },
            "results": findings.chain(gate).collect::<Vec<Value>>()
        }]
    })
}

/// A relative reference that stands for an image's name.
fn uri(name: &str) -> String {
    let mut out = String::new();
    for b in name.trim_start_matches('/').bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
