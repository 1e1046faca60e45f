//! `build --call`: questions about a build that are answered without building, in the forms of buildx.
//!
//! `NAME[,format=text|json][,ignorestatus=BOOL]`, where NAME is `check` (also `lint`), `outline` or `targets`; `build` is no question.
//! `rules=all` is ours: `check` runs our own rules as well.
//!
//! - Locations in JSON are lists of lines. `sources` are the Dockerfile in base64.
//! - `check` ends with 1 if there is a warning, unless told to ignore it, and always if the file cannot be built.

use std::process::ExitCode;

use build::events::Listener;
use build::{Request, checks};
use dockerfile::outline::{Lines, Need, Values, outline, targets};
use dockerfile::{Diagnostic, check};
use oci::base64;
use oci::platform::Platform;
use serde_json::{Value, json};
use store::Store;

use super::failed;
use crate::error::CommandError;
use crate::output as print;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Check,
    Outline,
    Targets,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    question: Question,
    json: bool,
    ignore_status: bool,
    own_rules: bool,
}

impl Call {
    /// Reads the value of `--call`; `None` if it is a build.
    pub(super) fn parse(text: &str) -> Result<Option<Call>, CommandError> {
        let wrong = |what: String| CommandError::usage(format!("--call {text}: {what}"));
        let mut name = None;
        let mut call =
            Call { question: Question::Check, json: false, ignore_status: false, own_rules: false };
        for field in text.split(',').filter(|f| !f.is_empty()) {
            match field.split_once('=') {
                None if name.is_none() => name = Some(field),
                None => return Err(wrong(format!("there is {field} after {}", name.unwrap_or_default()))),
                Some(("format", "json")) => call.json = true,
                Some(("format", "text" | "")) => call.json = false,
                Some(("format", other)) => {
                    return Err(wrong(format!("the format must be text or json, not {other}")));
                }
                Some(("ignorestatus", value)) => {
                    call.ignore_status = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(wrong(format!("ignorestatus must be true or false, not {value}"))),
                    };
                }
                Some(("rules", "all")) => call.own_rules = true,
                Some(("rules", "buildkit")) => call.own_rules = false,
                Some(_) => return Err(wrong(format!("{field} is not known"))),
            }
        }
        call.question = match name {
            None | Some("build") => return Ok(None),
            Some("check" | "lint") => Question::Check,
            Some("outline") => Question::Outline,
            Some("targets") => Question::Targets,
            Some(other) => {
                return Err(wrong(format!("{other} is no method"))
                    .hint("methods are: build, check, outline, targets"));
            }
        };
        Ok(Some(call))
    }

    /// Answers.
    pub(super) fn answer(
        self,
        store: &Store,
        request: &Request,
        listener: &dyn Listener,
    ) -> Result<ExitCode, CommandError> {
        let input = &request.input;
        if self.question == Question::Check {
            let report = checks::without_build(store, request, listener, self.own_rules)
                .map_err(|e| failed::told(e, input))?;
            return self.report(request, report);
        }
        let parsed = dockerfile::parse(&input.text);
        if parsed.diagnostics.iter().any(Diagnostic::is_error) {
            let (file, diagnostics) = (input.name.clone(), parsed.diagnostics);
            return Err(failed::told(build::BuildError::Dockerfile { file, diagnostics }, input));
        }
        let source = base64::encode(input.text.as_bytes());
        let (text, value) = match self.question {
            Question::Targets => {
                let all = targets(&parsed.file);
                let rows = all.iter().map(|t| {
                    vec![target_name(t.name.as_deref(), t.default), t.description.clone().unwrap_or_default()]
                });
                let list: Vec<Value> = all
                    .iter()
                    .map(|t| {
                        compact(json!({
                            "name": t.name, "default": t.default, "description": t.description, "base": t.base,
                            "platform": t.platform, "location": location(t.lines),
                        }))
                    })
                    .collect();
                (
                    tabbed(&["TARGET", "DESCRIPTION"], rows.collect(), 1),
                    json!({"targets": list, "sources": [source]}),
                )
            }
            _ => {
                let target = request.options.choices.target.as_deref();
                let built_in = platforms(request);
                let Some(found) =
                    outline(&parsed.file, target, &request.options.choices.build_args, &built_in)
                else {
                    return Err(CommandError::usage(match target {
                        Some(target) => format!("target stage {target:?} could not be found"),
                        None => "the Dockerfile has no stage".to_owned(),
                    }));
                };
                let needs = |needs: &[Need]| -> Vec<Value> {
                    let one = |n: &Need| json!({"name": n.name, "required": n.required, "location": location(n.lines)});
                    needs.iter().map(|n| compact(one(n))).collect()
                };
                let args = found.args.iter().map(|a| {
                    compact(json!({
                        "name": a.name, "description": a.description, "value": a.value, "location": location(a.lines),
                    }))
                });
                let value = compact(json!({
                    "name": found.name, "description": found.description, "args": args.collect::<Vec<_>>(),
                    "secrets": needs(&found.secrets), "ssh": needs(&found.ssh), "sources": [source],
                }));
                (outline_text(&found), value)
            }
        };
        match self.json {
            true => crate::table::json(&value),
            false => print::line(text.trim_end_matches('\n')),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn report(self, request: &Request, report: checks::Report) -> Result<ExitCode, CommandError> {
        let input = &request.input;
        let parsed = dockerfile::parse(&input.text);
        // A finding is about all lines of its instruction, unless it is about a line in the middle of one.
        let place = |d: &Diagnostic| {
            let of = parsed.file.statements.iter().find(|s| s.first_line == d.line);
            of.map_or((d.line, d.line), |s| (s.first_line, s.last_line))
        };
        let summary = |code: &str| check::rules().find(|r| r.name == code).map(|r| r.summary);
        let detail = |d: &Diagnostic| match &d.help {
            Some(help) => format!("{} ({help})", d.message),
            None => d.message.clone(),
        };
        if self.json {
            let warnings: Vec<Value> = report
                .found
                .iter()
                .map(|d| {
                    compact(json!({
                        "ruleName": d.code, "description": summary(d.code), "url": check::url(d.code),
                        "detail": detail(d), "location": location(place(d)),
                    }))
                })
                .collect();
            let mut value = json!({
                "warnings": if warnings.is_empty() { Value::Null } else { warnings.into() },
                "sources": [{"filename": input.name, "data": base64::encode(input.text.as_bytes()), "language": "Dockerfile"}],
            });
            if let Some(error) = &report.error {
                let mut place = json!({});
                if let Some(line) = line_of(error) {
                    place = location((line, line));
                }
                value["buildError"] = json!({"message": crate::error::chain(error), "location": place});
            }
            crate::table::json(&value);
        } else if !report.found.is_empty() {
            print::line(&match report.found.len() {
                1 => "Check complete, 1 warning has been found!".to_owned(),
                n => format!("Check complete, {n} warnings have been found!"),
            });
            for d in &report.found {
                let url = check::url(d.code).map_or_else(String::new, |url| format!(" - {url}"));
                let excerpt = excerpt(&input.name, &input.text, place(d));
                print::line(&format!("\nWARNING: {}{url}\n{}\n{excerpt}", d.code, detail(d)));
            }
        }
        if let Some(error) = report.error {
            return Err(failed::told(error, input));
        }
        if report.found.is_empty() && !self.json {
            print::line("Check complete, no warnings found.");
        }
        let bad = !report.found.is_empty() && !self.ignore_status;
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn line_of(error: &build::BuildError) -> Option<u32> {
    match error {
        build::BuildError::Dockerfile { diagnostics, .. } => {
            diagnostics.iter().find(|d| d.is_error()).map(|d| d.line)
        }
        build::BuildError::Line { line, .. } => *line,
        _ => None,
    }
}

fn target_name(name: Option<&str>, default: bool) -> String {
    match (name, default) {
        (None, true) => "(default)".to_owned(),
        (Some(name), true) => format!("{name} (default)"),
        (name, false) => name.unwrap_or_default().to_owned(),
    }
}

/// The arguments that exist without being declared.
fn platforms(request: &Request) -> Values {
    let host = Platform::host();
    let target = request.options.choices.platform.as_ref().unwrap_or(&host);
    let mut out = Values::new();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", target)] {
        out.insert(format!("{prefix}PLATFORM"), platform.to_string());
        out.insert(format!("{prefix}OS"), platform.os.clone());
        out.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        out.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    out
}

/// An object without what is empty, as Go's `omitempty` writes it.
fn compact(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|_, v| match v {
            Value::Null => false,
            Value::Bool(b) => *b,
            Value::String(s) => !s.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => true,
        });
    }
    value
}

fn location((first, last): Lines) -> Value {
    let ranges: Vec<Value> =
        (first..=last).map(|l| json!({"start": {"line": l}, "end": {"line": l}})).collect();
    json!({"ranges": ranges})
}

fn outline_text(found: &dockerfile::outline::Outline) -> String {
    let mut out = String::new();
    if found.name.is_some() || found.description.is_some() {
        let name = found.name.clone().unwrap_or_else(|| "(default)".to_owned());
        let mut rows = vec![vec!["TARGET:".to_owned(), name]];
        rows.extend(found.description.clone().map(|text| vec!["DESCRIPTION:".to_owned(), text]));
        out.push_str(&tabbed(&[], rows, 1));
        out.push('\n');
    }
    let args = found
        .args
        .iter()
        .map(|a| vec![a.name.clone(), a.value.clone(), a.description.clone().unwrap_or_default()]);
    let needs = |needs: &[Need]| -> Vec<Vec<String>> {
        let required = |n: &Need| if n.required { "true" } else { "" }.to_owned();
        needs.iter().map(|n| vec![n.name.clone(), required(n)]).collect()
    };
    for (header, rows) in [
        (vec!["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect()),
        (vec!["SECRET", "REQUIRED"], needs(&found.secrets)),
        (vec!["SSH", "REQUIRED"], needs(&found.ssh)),
    ] {
        if !rows.is_empty() {
            out.push_str(&tabbed(&header, rows, 3));
            out.push('\n');
        }
    }
    out
}

/// Columns as Go's `text/tabwriter` makes them: all but the last as wide as their widest cell, and `gap` blanks.
fn tabbed(header: &[&str], rows: Vec<Vec<String>>, gap: usize) -> String {
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let rows: Vec<Vec<String>> = Some(header).filter(|h| !h.is_empty()).into_iter().chain(rows).collect();
    let width = |s: &str| s.chars().count();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| width(s)).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[i] - width(cell) + gap));
            }
        }
        out.push('\n');
    }
    out
}

/// Lines of the file as BuildKit draws them: about four lines around, the wanted ones marked.
fn excerpt(file: &str, text: &str, (first, last): Lines) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let (mut from, mut to) = (first as usize, (last as usize).min(lines.len()));
    if from > lines.len() || from < 1 {
        return String::new();
    }
    let wanted = if from == to { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to != lines.len() {
            to += 1;
            added += 1;
        }
        added += 1;
    }
    let rule = "--------------------";
    let mut out = format!("{file}:{first}\n{rule}\n");
    for number in from..=to {
        let mark = if (first as usize..=last as usize).contains(&number) { ">>>" } else { "   " };
        out.push_str(&format!(" {number:3} | {mark} {}\n", lines[number - 1]));
    }
    out.push_str(rule);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let call = |text| Call::parse(text).map(|c| c.map(|c| (c.question, c.json, c.ignore_status)));
        assert_eq!(call("check").ok().flatten(), Some((Question::Check, false, false)));
        assert_eq!(call("format=json,lint").ok().flatten(), Some((Question::Check, true, false)));
        assert_eq!(call("outline,ignorestatus=1").ok().flatten(), Some((Question::Outline, false, true)));
        assert!(matches!((call("build"), call("")), (Ok(None), Ok(None))));
        for bad in ["what", "check,outline", "check,format=xml", "check,ignorestatus=maybe", "check,a=b"] {
            assert!(call(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_as_go_makes_them() {
        let rows = vec![vec!["a".to_owned(), "é".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(tabbed(&["X", "YY"], rows, 1), "X   YY\na   é\nbcd \n");
    }

    #[test]
    fn excerpts_as_buildkit_draws_them() {
        let text = "a\nb\nc\nd\ne\nf\n";
        let drawn = |lines| excerpt("F", text, lines);
        let rule = "--------------------";
        assert_eq!(drawn((1, 1)), format!("F:1\n{rule}\n   1 | >>> a\n   2 |     b\n   3 |     c\n{rule}"));
        assert_eq!(
            drawn((3, 4)),
            format!("F:3\n{rule}\n   2 |     b\n   3 | >>> c\n   4 | >>> d\n   5 |     e\n{rule}")
        );
        assert_eq!(drawn((9, 9)), "");
    }
}
