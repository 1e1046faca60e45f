//! Edits of a text: byte ranges and what to put there.

use serde::Serialize;

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// First byte that is replaced.
    pub start: usize,
    /// One behind the last.
    pub end: usize,
    /// What stands there then.
    pub text: String,
    /// The range holds a whole instruction that goes elsewhere: nothing else may be changed in it.
    #[serde(skip)]
    pub moves: bool,
}

impl Edit {
    /// Replaces a range.
    pub fn replace(start: usize, end: usize, text: impl Into<String>) -> Edit {
        Edit { start, end, text: text.into(), moves: false }
    }

    /// Puts a text in.
    pub fn insert(at: usize, text: impl Into<String>) -> Edit {
        Edit::replace(at, at, text)
    }

    /// Takes a range out.
    pub fn remove(start: usize, end: usize) -> Edit {
        Edit::replace(start, end, "")
    }

    pub(crate) fn inside(&self, other: &Edit) -> bool {
        other.start <= self.start && self.end <= other.end
    }
}

/// A text with all edits made. They must not overlap; those at one place are made in the order given.
pub fn apply(text: &str, edits: &[&Edit]) -> Option<String> {
    let mut sorted: Vec<&Edit> = edits.to_vec();
    sorted.sort_by_key(|e| (e.start, e.end));
    let mut out = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for e in sorted {
        out.push_str(text.get(at..e.start)?);
        out.push_str(&e.text);
        text.get(e.start..e.end)?;
        at = e.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// An ignore file with lines added at its end.
pub fn append(text: &str, lines: &[String]) -> String {
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    for l in lines {
        if !text.lines().any(|have| have == l) {
            out.push_str(l);
            out.push('\n');
        }
    }
    out
}

/// The line that a byte stands in, from its beginning to behind its line feed.
pub(crate) fn line_of(text: &str, at: usize) -> (usize, usize) {
    let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
    (start, end)
}

/// From the beginning of the line of `start` to behind the line feed of the line of `end`.
pub(crate) fn whole_lines(text: &str, start: usize, end: usize) -> (usize, usize) {
    (line_of(text, start).0, line_of(text, end).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_made_from_front_to_back() {
        let edits = [Edit::remove(4, 6), Edit::insert(0, "x"), Edit::replace(2, 3, "CC")];
        assert_eq!(apply("abcdef", &edits.iter().collect::<Vec<_>>()).as_deref(), Some("xabCCd"));
        let overlap = [Edit::remove(0, 3), Edit::remove(2, 4)];
        assert_eq!(apply("abcdef", &overlap.iter().collect::<Vec<_>>()), None);
    }

    #[test]
    fn ignore_lines_are_added_once() {
        assert_eq!(append("a\nb", &["b".into(), "c".into()]), "a\nb\nc\n");
        assert_eq!(append("", &["c".into()]), "c\n");
    }

    #[test]
    fn lines() {
        assert_eq!(whole_lines("ab\ncd\nef", 4, 4), (3, 6));
        assert_eq!(whole_lines("ab\ncd\nef", 1, 7), (0, 8));
    }
}
