//! The report in its forms.

use analyse::{Base, BaseSource, Image, Report, Rules, report};

use crate::kit::{MB, image, layer};

fn example() -> Image {
    let mut i = image(vec![
        layer().file("base|x", 10 * MB, "b"),
        layer().file("opt/a", 30 * MB, "a").file("var/lib/apt/lists/x", 2 * MB, "x"),
        layer().mode("opt/a", 30 * MB, "a", 0o755).gone("base|x"),
    ]);
    i.set_base(Some(Base { name: Some("b:1".into()), layers: 1, source: BaseSource::Given }));
    i
}

fn gated(i: &Image) -> Report<'_> {
    let mut r = Report::new(i);
    r.gate = Some(Rules::default().check(i, &r.dive, None));
    r
}

#[test]
fn the_json_document_adds_up() {
    let i = example();
    let r = gated(&i);
    let doc = serde_json::to_value(report::json::document(&r)).unwrap();
    assert_eq!(doc["schema"], "layercake-analysis-1");
    let n = |v: &serde_json::Value| v.as_u64().unwrap();
    let t = &doc["totals"];
    assert_eq!(n(&t["shipped"]["bytes"]) - n(&t["live"]["bytes"]), n(&t["reclaimable"]["bytes"]));
    let dead: u64 = doc["layers"].as_array().unwrap().iter().map(|l| n(&l["reclaimable"]["bytes"])).sum();
    assert_eq!(dead, 40 * MB);
    assert_eq!(n(&t["yours"]["reclaimable"]["bytes"]), 30 * MB);
    assert_eq!(n(&t["base"]["reclaimable"]["bytes"]), 10 * MB);
    let found: u64 = doc["findings"].as_array().unwrap().iter().map(|f| n(&f["bytes"])).sum();
    assert_eq!(found, 42 * MB, "every charged byte is in one finding");
    assert_eq!(doc["findings"][0]["id"], "metadata-2");
    assert_eq!(doc["findings"][0]["owner"], "yours");
    assert_eq!(doc["gate"]["passes"], false);
    assert_eq!(doc["image"]["base"]["layers"], 1);
    // What it says of sizes is what a later gate compares with.
    let text = serde_json::to_vec(&doc).unwrap();
    let baseline = report::json::baseline(&text).unwrap();
    assert_eq!((baseline.name.as_str(), baseline.size), ("test", 72 * MB));
    assert!(report::json::baseline(b"{}").is_err());
}

#[test]
fn text_and_markdown_name_the_change() {
    let i = example();
    let r = gated(&i);
    let text = report::text::summary(&r, 10, 120);
    for part in [
        "dead",
        "40.0MB",
        "30.0MB of it in your layers",
        "COPY --chown",
        "rm -rf /var/lib/apt/lists/*",
        "[base]",
        "FAIL",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let short = report::text::summary(&r, 1, 80);
    assert!(short.contains("in 2 more findings"), "{short}");
    let md = report::markdown::write(&r, 10);
    assert!(md.contains("| **dead** | 40.0MB |"), "{md}");
    assert!(md.contains("fails"), "{md}");
    for row in md.lines().filter(|l| l.starts_with('|')) {
        let cells = row.replace("\\|", "").matches('|').count();
        assert!((4..=6).contains(&cells), "{row}");
    }
}

#[test]
fn names_cannot_draw_on_the_terminal_or_in_a_table() {
    let i = image(vec![layer().file("a\u{1b}[31m<b>|`x`", MB, "a"), layer().gone("a\u{1b}[31m<b>|`x`")]);
    let r = Report::new(&i);
    let text = report::text::summary(&r, 10, 120);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(!report::markdown::write(&r, 10).contains("<b>"));
}

#[test]
fn sarif_has_a_rule_for_every_result() {
    let i = example();
    let mut r = gated(&i);
    let source = analyse::origin::Source {
        file: Some("Dockerfile".into()),
        line: Some(4),
        last_line: Some(6),
        ..Default::default()
    };
    r.origins.insert(2, source);
    let log = report::sarif::write(&r, "1");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].as_str().unwrap())
        .collect();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3 + 2, "findings, and the two rules that fail");
    assert!(results.iter().all(|r| rules.contains(&r["ruleId"].as_str().unwrap())));
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
    assert_eq!(place["region"]["endLine"], 6);
}

#[test]
fn csv_has_one_line_a_finding() {
    let i = example();
    let r = Report::new(&i);
    let csv = report::csv::write(&r);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + r.findings.len());
    assert!(lines[0].starts_with("id,cause,owner,layer,by,files,bytes,packed,"));
    assert!(lines[1].starts_with("metadata-2,metadata,yours,2,2,1,30000000,30000000,/opt,"), "{}", lines[1]);
}
