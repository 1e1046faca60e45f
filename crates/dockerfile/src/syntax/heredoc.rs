//! Heredocs: `<<NAME` in RUN, COPY and ADD, and the lines that follow the instruction.
//!
//! A word is a heredoc if it is an optional file descriptor, `<<`, an optional `-`, blanks, and one word without
//! `<`. Quotes in that word turn expansion off and are taken off the delimiter. With `-`, tabs in front of the
//! delimiter (and, when the text is used, of every line) do not count.
//!
//! Source: BuildKit, frontend/dockerfile/parser/parser.go.

use crate::expand::{self, ExpandError};

/// A heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; for COPY and ADD, the name of the file.
    pub name: String,
    /// The file descriptor in front of `<<`; 0 if there is none.
    pub fd: u64,
    /// Whether variables in the text are to be expanded (by COPY and ADD; a RUN leaves it to the shell).
    pub expand: bool,
    /// Whether it was written `<<-`.
    pub chomp: bool,
    /// The lines, with their endings. In a [`crate::CopyInst`] or [`crate::AddInst`] leading tabs are already
    /// removed if `chomp` says so; elsewhere the lines are as written, see [`Heredoc::body`].
    pub content: String,
}

impl Heredoc {
    /// The lines as they are used: without leading tabs if `chomp` says so.
    pub fn body(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Whether `line`, with its ending, is the end of this heredoc.
    pub(crate) fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.chomp { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

/// Reads one word as a heredoc, without content.
pub(crate) fn parse(word: &str) -> Result<Option<Heredoc>, ExpandError> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (fd, rest) = word.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = expand::unexpanded_words(rest, false)?;
    let quoted = expand::unexpanded_words(rest, true)?;
    let ([name], [quoted]) = (plain.as_slice(), quoted.as_slice()) else { return Ok(None) };
    let quotes = |text: &str| text.bytes().filter(|b| matches!(b, b'\'' | b'"')).count();
    Ok(Some(Heredoc {
        expand: quotes(name) == quotes(quoted),
        name: name.clone(),
        fd: if fd.is_empty() { 0 } else { fd.parse().unwrap_or(u64::MAX) },
        chomp,
        content: String::new(),
    }))
}

/// The heredocs that a logical line opens, in order.
pub(crate) fn opened(line: &str) -> Result<Vec<Heredoc>, ExpandError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    // A line that is no proper sequence of words (shell syntax beyond what is known here) opens none.
    let words = expand::raw_words(line).unwrap_or_default();
    words.iter().filter_map(|word| parse(word).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(word: &str) -> Option<(String, u64, bool, bool)> {
        parse(word).expect("valid").map(|h| (h.name, h.fd, h.expand, h.chomp))
    }

    #[test]
    fn words() {
        let heredoc = |name: &str, fd, expand, chomp| Some((name.to_owned(), fd, expand, chomp));
        assert_eq!(one("<<EOF"), heredoc("EOF", 0, true, false));
        assert_eq!(one("3<<-EOF"), heredoc("EOF", 3, true, true));
        assert_eq!(one("<< EOF"), heredoc("EOF", 0, true, false));
        assert_eq!(one("<<'a b'"), heredoc("a b", 0, false, false));
        assert_eq!(one("<<a\"b\"c"), heredoc("abc", 0, false, false));
        assert_eq!(one("<<E\\OF"), heredoc("EOF", 0, true, false));
        assert_eq!(one("<<$EOF"), heredoc("$EOF", 0, true, false));
        assert_eq!(one("<<"), None);
        assert_eq!(one("<<<EOF"), None);
        assert_eq!(one("a<<EOF"), None);
        assert_eq!(one("'<<EOF'"), None);
    }

    #[test]
    fn lines() {
        let names = |line| opened(line).expect("valid").into_iter().map(|h| h.name).collect::<Vec<_>>();
        assert_eq!(names("RUN cat <<A > x; cat << B | sh"), ["A", "B"]);
        assert_eq!(names("RUN echo \"<<A\" '<<B' <<<C \\<<D"), Vec::<String>::new());
        assert_eq!(names("RUN ${x@Q} <<A"), Vec::<String>::new());
    }

    #[test]
    fn bodies() {
        let mut doc = parse("<<-EOF").expect("valid").expect("a heredoc");
        doc.content = "\t\ta\tb\n\n \tc\n".to_owned();
        assert_eq!(doc.body(), "a\tb\n\n \tc\n");
        assert!(doc.ends_at("\t\tEOF\r\n") && !doc.ends_at(" EOF\n"));
    }
}
