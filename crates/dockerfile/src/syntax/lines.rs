//! Physical lines, and logical lines joined from them with a map back to the text.

use crate::Span;

/// The longest line that BuildKit's scanner takes, in bytes without the line feed.
pub(crate) const MAX_LINE: usize = 65_535;

/// A physical line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The text with its line feed.
    pub(crate) text: &'a str,
    /// Where it begins in the file.
    pub(crate) offset: usize,
}

impl<'a> Line<'a> {
    /// The line without its ending.
    pub(crate) fn trimmed(&self) -> &'a str {
        self.text.trim_end_matches(['\r', '\n'])
    }

    /// The span of the line without its ending.
    pub(crate) fn span(&self) -> Span {
        Span::new(self.offset, self.offset + self.trimmed().len())
    }

    pub(crate) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }
}

/// The lines of a file, counted.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    offset: usize,
    /// How many lines were given out so far, which is the number of the last one.
    pub(crate) number: u32,
    /// Lines that are longer than [`MAX_LINE`]: number and span.
    pub(crate) too_long: Vec<(u32, Span)>,
}

impl<'a> Lines<'a> {
    /// The lines of `text`, without a byte order mark.
    pub(crate) fn new(text: &'a str) -> Lines<'a> {
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lines { text, offset, number: 0, too_long: Vec::new() }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.text[self.offset..];
        if rest.is_empty() {
            return None;
        }
        let len = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let line = Line { text: &rest[..len], offset: self.offset };
        self.offset += len;
        self.number = self.number.saturating_add(1);
        if line.text.strip_suffix('\n').unwrap_or(line.text).len() > MAX_LINE {
            self.too_long.push((self.number, line.span()));
        }
        Some(line)
    }
}

/// A logical line: text joined from pieces of the file.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) text: String,
    /// (offset in `text`, offset in the file) of each piece, ascending.
    pub(crate) pieces: Vec<(usize, usize)>,
}

impl Joined {
    pub(crate) fn push(&mut self, piece: &str, offset: usize) {
        if !piece.is_empty() || self.pieces.is_empty() {
            self.pieces.push((self.text.len(), offset));
            self.text.push_str(piece);
        }
    }

    /// Where bytes `start..end` of the joined text stand in the file.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        span(&self.pieces, start, end)
    }
}

/// Where bytes `start..end` of a text stand that was joined from `pieces`: (offset in it, offset in the file), ascending.
pub(crate) fn span(pieces: &[(usize, usize)], start: usize, end: usize) -> Span {
    let place = |at: usize| {
        let next = pieces.partition_point(|&(joined, _)| joined <= at);
        match next.checked_sub(1).and_then(|i| pieces.get(i)) {
            Some(&(joined, offset)) => offset + (at - joined),
            None => 0,
        }
    };
    let first = place(start);
    if end <= start {
        return Span::new(first, first);
    }
    Span::new(first, place(end - 1) + 1)
}

/// If `line` ends with a continuation mark, what stands before it.
///
/// The mark is the escape character, followed by blanks at most, and not preceded by another escape character.
pub(crate) fn continued(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    if before.ends_with(escape) { None } else { Some(before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuation_marks() {
        assert_eq!(continued("a \\", '\\'), Some("a "));
        assert_eq!(continued("a \\ \t", '\\'), Some("a "));
        assert_eq!(continued("\\", '\\'), Some(""));
        assert_eq!(continued("a \\\\", '\\'), None, "an escaped mark is text");
        assert_eq!(continued("a `", '\\'), None);
        assert_eq!(continued("a `", '`'), Some("a "));
    }

    #[test]
    fn spans_go_back_to_the_file() {
        let mut joined = Joined::default();
        joined.push("RUN a ", 10);
        joined.push("bc", 30);
        assert_eq!(joined.text, "RUN a bc");
        assert_eq!(joined.span(0, 3), Span::new(10, 13));
        assert_eq!(joined.span(6, 8), Span::new(30, 32));
        assert_eq!(joined.span(4, 8), Span::new(14, 32));
    }

    #[test]
    fn lines_are_counted_and_measured() {
        let text = format!("\u{feff}a\r\n{}\n{}", "x".repeat(MAX_LINE), "y".repeat(MAX_LINE + 1));
        let mut lines = Lines::new(&text);
        assert_eq!(lines.next().map(|l| (l.trimmed(), l.offset)), Some(("a", 3)));
        assert!(lines.next().is_some());
        assert!(lines.too_long.is_empty());
        assert!(lines.next().is_some());
        assert_eq!(lines.too_long.len(), 1);
        assert!(lines.next().is_none());
    }
}
