//! Findings in the form that code hosts read: SARIF 2.1.0 (OASIS). Columns count Unicode characters from 1.

use dockerfile::Span;
use dockerfile::check;
use serde_json::{Value, json};

use super::Checked;

/// The log of one run.
pub(super) fn log(files: &[Checked]) -> Value {
    let mut rules: Vec<&str> = files.iter().flat_map(|f| &f.found).map(|d| d.code).collect();
    rules.sort_unstable();
    rules.dedup();
    let results: Vec<Value> = files.iter().flat_map(|file| results(file, &rules)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "layercake",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|name| rule(name)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(name: &str) -> Value {
    let mut out = json!({"id": name});
    if let Some(rule) = check::rules().find(|rule| rule.name == name) {
        out["shortDescription"] = json!({"text": rule.summary});
    }
    if let Some(text) = check::explain(name) {
        out["help"] = json!({"text": text, "markdown": text});
    }
    if let Some(url) = check::url(name) {
        out["helpUri"] = url.into();
    }
    out
}

fn results(file: &Checked, rules: &[&str]) -> Vec<Value> {
    let lines = Lines::new(&file.text);
    let artifact = json!({"uri": uri(&file.name)});
    let one = |d: &dockerfile::Diagnostic| {
        let text = match &d.help {
            Some(help) => format!("{} ({help})", d.message),
            None => d.message.clone(),
        };
        let mut out = json!({
            "ruleId": d.code,
            "ruleIndex": rules.binary_search(&d.code).unwrap_or_default(),
            "level": if d.is_error() { "error" } else { "warning" },
            "message": {"text": text},
            "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": lines.region(d.span)}}],
        });
        if let Some(fix) = &d.fix {
            let replacement = json!({"deletedRegion": lines.region(fix.span), "insertedContent": {"text": fix.replacement}});
            out["fixes"] = json!([{
                "description": {"text": format!("mend {}", d.code)},
                "artifactChanges": [{"artifactLocation": artifact, "replacements": [replacement]}],
            }]);
        }
        out
    };
    file.found.iter().map(one).collect()
}

/// A path as a relative reference: everything but plain characters is escaped.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for b in path.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(b))
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|&start| start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        (line, self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1)
    }

    fn region(&self, span: Span) -> Value {
        let (first, last) = (self.place(span.start), self.place(span.end.max(span.start)));
        json!({"startLine": first.0, "startColumn": first.1, "endLine": last.0, "endColumn": last.1})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_have_places_rules_and_fixes() {
        let text = "FROM scratch AS x\nCOPY a /\n# é\n  add é.py /\nEXPOSE 80/TCP\n".to_owned();
        let input = check::CheckInput { own_rules: true, ..check::CheckInput::default() };
        let found = check::run(&dockerfile::parse(&text), &input);
        let log = log(&[Checked { name: "a b/Dockerfile".to_owned(), text, found }]);
        let run = &log["runs"][0];
        let result = |n: usize| &run["results"][n];
        assert_eq!(run["results"].as_array().map(Vec::len), Some(3));
        let names: Vec<&Value> = (0..3).map(|n| &result(n)["ruleId"]).collect();
        assert_eq!(names, ["ConsistentInstructionCasing", "layercake/AddInsteadOfCopy", "ExposeProtoCasing"]);
        let place = &result(1)["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b/Dockerfile");
        assert_eq!(place["region"], json!({"startLine": 4, "startColumn": 3, "endLine": 4, "endColumn": 6}));
        let replacement = &result(1)["fixes"][0]["artifactChanges"][0]["replacements"][0];
        assert_eq!(replacement["insertedContent"]["text"], "copy");
        let index = result(1)["ruleIndex"].as_u64().unwrap_or(99) as usize;
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "layercake/AddInsteadOfCopy");
    }
}
