//! Answers conformance cases about the parser and about ignore patterns: reads one JSON object a line from standard
//! input, and writes one JSON object a line to standard output.
//!
//! | kind | given | answer |
//! |---|---|---|
//! | `dockerfile` | `input` | `ast` and `escape`, or `error`; beside them `refused` if an instruction is wrong |
//! | `word`, `words` | `input`, `env` (`NAME=value`), `escape` | `word` or `words`, or `error` |
//! | `directives` | `input` | `directives` and `syntax`, or `error` |
//! | `ignorefile` | `input` | `patterns` |
//! | `ignore` | `patterns`, `paths` | `ignored`, or `error` |

use std::io::{BufRead, Write};

use dockerfile::syntax::{self, Args, Node};
use dockerfile::{Class, expand, ignore};
use serde_json::{Map, Value, json};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str::<Value>(&line?) {
            Ok(case) => answer(&case),
            Err(error) => json!({ "error": format!("the case is no JSON: {error}") }),
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()
}

fn answer(case: &Value) -> Value {
    let input = case["input"].as_str().unwrap_or_default();
    match case["kind"].as_str() {
        Some("dockerfile") => file(input),
        Some("word") => {
            let found = expand::word(input, &|name| variable(case, name), escape(case));
            found.map_or_else(error, |e| json!({ "word": e.text }))
        }
        Some("words") => {
            let found = expand::words(input, &|name| variable(case, name), escape(case));
            found.map_or_else(error, |words| json!({ "words": words }))
        }
        Some("directives") => directives(input),
        Some("ignorefile") => json!({ "patterns": ignore::read_patterns(input) }),
        Some("ignore") => ignored(&strings(&case["patterns"]), &strings(&case["paths"])),
        other => json!({ "error": format!("unknown kind {other:?}") }),
    }
}

fn error(error: impl std::error::Error) -> Value {
    json!({ "error": error.to_string() })
}

fn strings(value: &Value) -> Vec<String> {
    let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn escape(case: &Value) -> char {
    case["escape"].as_str().and_then(|s| s.chars().next()).unwrap_or('\\')
}

fn variable(case: &Value, name: &str) -> Option<String> {
    let env = strings(&case["env"]);
    let mut pairs = env.iter().rev().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn file(input: &str) -> Value {
    let tree = syntax::parse(input);
    let parsed = dockerfile::parse(input);
    let first = |class| parsed.diagnostics.iter().find(|d| d.is_error() && d.class == class);
    if let Some(diagnostic) = first(Class::Syntax) {
        return json!({ "error": diagnostic.message });
    }
    let ast: Vec<Value> = tree.nodes.iter().map(|n| node(n, true)).collect();
    let mut answer = json!({ "ast": ast, "escape": tree.directives.escape.to_string() });
    if let Some(diagnostic) = first(Class::Instruction) {
        answer["refused"] = json!(diagnostic.message);
    }
    answer
}

fn node(node: &Node, outer: bool) -> Value {
    let mut out = Map::new();
    out.insert("instr".into(), json!(node.keyword.to_lowercase()));
    if outer {
        out.insert("lines".into(), json!([node.first_line, node.last_line]));
    }
    let texts = |words: &[dockerfile::Word]| words.iter().map(|w| w.text.clone()).collect::<Vec<_>>();
    match &node.args {
        Args::Words(words) => out.insert("args".into(), json!(texts(words))),
        Args::Exec(words) => {
            out.insert("json".into(), json!(true));
            out.insert("args".into(), json!(texts(words)))
        }
        Args::Pairs { pairs, .. } => out.insert("pairs".into(), json!(pairs)),
        Args::Nested(inner) => {
            out.insert("onbuild".into(), self::node(inner, false));
            out.insert("args".into(), json!([]))
        }
        Args::Unknown => out.insert("args".into(), json!([""])),
    };
    if !node.flags.is_empty() {
        out.insert("flags".into(), json!(texts(&node.flags)));
    }
    if !node.heredocs.is_empty() {
        let heredocs = node.heredocs.iter().map(|h| {
            json!({ "name": h.name, "fd": h.fd, "expand": h.expand, "chomp": h.chomp, "content": h.content })
        });
        out.insert("heredocs".into(), heredocs.collect());
    }
    Value::Object(out)
}

fn directives(input: &str) -> Value {
    let all = match syntax::directives::all(input) {
        Ok(all) => all,
        Err(duplicate) => return error(duplicate),
    };
    let named: Map<String, Value> = all.into_iter().map(|d| (d.name.to_owned(), json!(d.value))).collect();
    let mut answer = json!({ "directives": named });
    if let Some(found) = syntax::directives::syntax(input) {
        answer["syntax"] = json!({
            "ref": found.reference, "cmdline": found.command_line, "line": found.line
        });
    }
    answer
}

fn ignored(patterns: &[String], paths: &[String]) -> Value {
    match ignore::Matcher::new(patterns) {
        Ok(matcher) => {
            let ignored: Vec<bool> = paths.iter().map(|path| matcher.matches(path)).collect();
            json!({ "ignored": ignored })
        }
        Err(bad) => error(bad),
    }
}
