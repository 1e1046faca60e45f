//! From nodes back to text.
//!
//! The text is not the one that was parsed, but it parses to the same nodes, but for places: one line for each instruction (continued
//! where it would be too long), one blank between words, flags and JSON quoted where they must be, comments above. Comments that belong
//! to no instruction, empty lines and instructions with errors are gone.

use super::lines::{MAX_LINE, continued};
use super::{Args, Node, Tree, json, split};

/// Writes a tree.
pub fn print(tree: &Tree) -> String {
    let directives = &tree.directives;
    let mut out = String::new();
    let mut directive = |name: &str, value: &str| out.push_str(&format!("# {name}={value}\n"));
    if let Some(value) = &directives.syntax {
        directive("syntax", value);
    }
    if directives.escape != '\\' {
        directive("escape", &directives.escape.to_string());
    }
    if let Some(value) = &directives.check {
        directive("check", value);
    }
    // A comment of the first instruction is no directive.
    out.push('\n');
    for (i, node) in tree.nodes.iter().enumerate() {
        for comment in &node.comments {
            out.push_str(&format!("# {comment}\n"));
        }
        let mut line = instruction(node, directives.escape);
        if continued(&line, directives.escape).is_some() && i + 1 == tree.nodes.len() {
            // An escape character at the end of all: it was followed by one that continues with nothing.
            line.push(' ');
            line.push(directives.escape);
        }
        wrap(&line, directives.escape, &mut out);
        out.push('\n');
        for heredoc in &node.heredocs {
            out.push_str(&heredoc.content);
            out.push_str(&heredoc.name);
            out.push('\n');
        }
    }
    out
}

fn instruction(node: &Node, escape: char) -> String {
    let text = match &node.args {
        Args::Unknown => return node.original.trim().to_owned(),
        Args::Nested(inner) => instruction(inner, escape),
        Args::Words(words) => {
            let joined = |gap: &str| words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(gap);
            // Text that was no JSON for its odd blanks must not become JSON.
            match json::array(&joined(" ")) {
                json::Array::No => joined(" "),
                _ => joined("\u{b}"),
            }
        }
        Args::Exec(words) => {
            let first = usize::from(node.is("HEALTHCHECK")).min(words.len());
            let (kind, words) = words.split_at(first);
            let strings: Vec<String> = words.iter().map(|w| string(&w.text)).collect();
            let array = format!("[{}]", strings.join(", "));
            kind.first().map_or(array.clone(), |kind| format!("{} {array}", kind.text))
        }
        Args::Pairs { pairs, legacy } => {
            let mark = if *legacy { ' ' } else { '=' };
            let pairs: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{name}{mark}{value}")).collect();
            pairs.join(" ")
        }
    };
    let mut out = node.keyword.clone();
    for flag in &node.flags {
        out.push(' ');
        out.push_str(&quoted(&flag.text, escape));
    }
    if text.starts_with("--") {
        out.push_str(" --");
    }
    if !text.is_empty() {
        out.push(' ');
        out.push_str(&text);
    }
    out
}

/// A flag, in quotes behind its dashes if it needs them.
fn quoted(flag: &str, escape: char) -> String {
    let special = |c: char| c == '"' || c == '\'' || c == escape || c.is_whitespace();
    let Some(rest) = flag.strip_prefix("--").filter(|rest| rest.contains(special)) else {
        return flag.to_owned();
    };
    let mut out = "--\"".to_owned();
    for c in rest.chars() {
        if c == '"' || c == escape {
            out.push(escape);
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Appends a line, continued before it is too long.
fn wrap(line: &str, escape: char, out: &mut String) {
    let mut rest = line;
    while rest.len() >= MAX_LINE {
        let plain = |at: &usize| {
            rest.is_char_boundary(*at)
                && !rest[..*at].ends_with(|c| c == escape || split::is_blank(c))
                && !rest[*at..].starts_with(|c: char| c == '#' || c == escape || c.is_whitespace())
        };
        let Some(at) = (1..MAX_LINE - 8).rev().find(plain) else { break };
        out.push_str(&rest[..at]);
        out.push(escape);
        out.push('\n');
        rest = &rest[at..];
    }
    out.push_str(rest);
}
