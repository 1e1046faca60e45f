//! Parser directives: the `# name=value` lines that may open a Dockerfile.
//!
//! - Known names are `syntax`, `escape` and `check`, in any case; each may be given once.
//! - The first line that is something else (a blank line, another comment, an instruction) ends them.
//! - `escape` must be a backslash or a backtick.
//! - `syntax` and `check` are looked for in the raw text, behind a `#!` line if there is one; `syntax` may
//!   also be given as `//syntax=...` or as a JSON object `{"syntax": "..."}`, for files that are no
//!   Dockerfiles.
//!
//! Source: BuildKit, frontend/dockerfile/parser/directives.go.

use super::json;

/// The directives of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that the file asks for, with whatever follows it on the line.
    pub syntax: Option<String>,
    /// The character that escapes and continues lines: a backslash or a backtick.
    pub escape: char,
    /// The value of `check`, as far as its first space.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Directives {
        Directives { syntax: None, escape: '\\', check: None }
    }
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The name, in lower case.
    pub name: &'static str,
    /// The value, without blanks around it.
    pub value: String,
    /// The line, counted from 1.
    pub line: u32,
}

/// A directive that stands in the file twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parser directive {name} is given twice")]
pub struct DuplicateDirective {
    /// Its name.
    pub name: &'static str,
    /// The line of the second one, counted from 1.
    pub line: u32,
}

/// The frontend that a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxReference {
    /// The reference: the value up to its first space.
    pub reference: String,
    /// The whole value.
    pub command_line: String,
    /// The line, counted from 1; for the JSON form, how many lines stand before it.
    pub line: u32,
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// Takes the lines of a file one by one until the directives end.
#[derive(Debug)]
pub(crate) struct Reader {
    mark: &'static str,
    line: u32,
    seen: Vec<&'static str>,
    done: bool,
}

impl Reader {
    pub(crate) fn new(mark: &'static str) -> Reader {
        Reader { mark, line: 0, seen: Vec::new(), done: false }
    }

    /// The directive on the next line, if it is one.
    pub(crate) fn line(&mut self, line: &str) -> Result<Option<Directive>, DuplicateDirective> {
        self.line += 1;
        if self.done {
            return Ok(None);
        }
        let Some((name, value)) = line.strip_prefix(self.mark).and_then(name_and_value) else {
            self.done = true;
            return Ok(None);
        };
        let Some(name) = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(DuplicateDirective { name, line: self.line });
        }
        self.seen.push(name);
        Ok(Some(Directive { name, value: value.to_owned(), line: self.line }))
    }
}

/// Splits `name = value`, where a name is a letter and letters or digits, and a value is not empty.
fn name_and_value(text: &str) -> Option<(&str, &str)> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let (name, value) = text.trim_start().split_once('=')?;
    let name = name.trim_end_matches(blank);
    let mut letters = name.chars();
    if !letters.next()?.is_ascii_alphabetic() || !letters.all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    if value.contains('\n') {
        return None;
    }
    let trimmed = value.trim_matches(blank);
    if trimmed.is_empty() {
        // A value of blanks alone is one blank.
        let last = value.char_indices().next_back()?.0;
        return Some((name, &value[last..]));
    }
    Some((name, trimmed))
}

/// All directives that open `text`, which must not begin with a byte order mark.
pub fn all(text: &str) -> Result<Vec<Directive>, DuplicateDirective> {
    let mut out = Vec::new();
    read(text, Reader::new("#"), &mut out).map(|()| out)
}

fn read(text: &str, mut reader: Reader, out: &mut Vec<Directive>) -> Result<(), DuplicateDirective> {
    for line in text.lines() {
        if let Some(directive) = reader.line(line)? {
            out.push(directive);
        }
        if reader.done {
            break;
        }
    }
    Ok(())
}

/// The frontend that `text` asks for, in any of its forms.
pub fn syntax(text: &str) -> Option<SyntaxReference> {
    let (text, skipped) = skip_shebang(text);
    let by_line = |mark| find(text, mark, "syntax").map(|d| (d.value, d.line + skipped));
    let (command_line, line) = by_line("#")
        .or_else(|| by_line("//"))
        .or_else(|| json::object_string(text, "syntax").map(|value| (value, skipped)))?;
    let reference = command_line.split(' ').next().unwrap_or_default().to_owned();
    Some(SyntaxReference { reference, command_line, line })
}

/// The value of the `check` directive of `text`, up to its first space.
pub(crate) fn check(text: &str) -> Option<String> {
    let (text, _) = skip_shebang(text);
    find(text, "#", "check").map(|d| d.value.split(' ').next().unwrap_or_default().to_owned())
}

fn find(text: &str, mark: &'static str, name: &str) -> Option<Directive> {
    let mut found = Vec::new();
    // A second directive of the same name is an error elsewhere; here, those before it count.
    let _ = read(text, Reader::new(mark), &mut found);
    found.into_iter().find(|d| d.name == name)
}

fn skip_shebang(text: &str) -> (&str, u32) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.starts_with("#!") {
        return (text.split_once('\n').map_or("", |(_, rest)| rest), 1);
    }
    (text, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(&'static str, String)> {
        all(text).expect("no duplicate").into_iter().map(|d| (d.name, d.value)).collect()
    }

    #[test]
    fn directives_open_the_file() {
        assert_eq!(
            values("# Syntax = a b \n#escape=`\nFROM x\n# check=skip=all\n"),
            [("syntax", "a b".to_owned()), ("escape", "`".to_owned())]
        );
        for text in ["\n# escape=`\n", "# x=y\n# escape=`\n", "# hello\n# escape=`\n", "FROM a\n# escape=`\n"]
        {
            assert_eq!(values(text), [], "{text}");
        }
    }

    #[test]
    fn a_second_one_is_an_error() {
        assert_eq!(all("# escape=`\n# ESCAPE=`\n"), Err(DuplicateDirective { name: "escape", line: 2 }));
    }

    #[test]
    fn syntax_in_all_forms() {
        let found = |text| syntax(text).map(|s| (s.reference, s.command_line, s.line));
        let expect = |a: &str, b: &str, line| Some((a.to_owned(), b.to_owned(), line));
        assert_eq!(found("# syntax=a b\n"), expect("a", "a b", 1));
        assert_eq!(found("#!/bin/x\n# syntax=a\n"), expect("a", "a", 2));
        assert_eq!(found("\u{feff}//syntax=a\r\nx"), expect("a", "a", 1));
        assert_eq!(found("{\"syntax\": \"a\"}"), expect("a", "a", 0));
        assert_eq!(found("\n# syntax=a\n"), None);
    }

    #[test]
    fn check_ends_at_a_space() {
        assert_eq!(check("# check = skip=all // why\n").as_deref(), Some("skip=all"));
    }
}
