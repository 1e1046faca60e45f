//! Splitting a logical line: keyword, flags, and the shapes of arguments.
//!
//! All offsets are bytes of the text given. Source: BuildKit, frontend/dockerfile/parser/split_command.go and
//! line_parsers.go.

use std::ops::Range;

/// A piece of text and where it stands.
pub(crate) type Piece = (String, Range<usize>);

/// The blanks that separate the words of most instructions.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The range of `text` without white space around it.
pub(crate) fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// A line split into its first word, the flags behind that, and the rest.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) keyword: Range<usize>,
    pub(crate) flags: Vec<Piece>,
    pub(crate) args: Range<usize>,
}

/// Splits the part `range` of `text`.
pub(crate) fn command(text: &str, range: Range<usize>, escape: char) -> Command {
    let line = trimmed(text, range);
    let part = &text[line.clone()];
    let Some(at) = part.find(is_blank) else {
        return Command { keyword: line.clone(), flags: Vec::new(), args: line.end..line.end };
    };
    let keyword = line.start..line.start + at;
    let rest = keyword.end + (part[at..].len() - part[at..].trim_start_matches(is_blank).len());
    let (flags, end) = flags(&text[rest..line.end], escape);
    let flags = flags.into_iter().map(|(word, r)| (word, rest + r.start..rest + r.end)).collect();
    Command { keyword, flags, args: trimmed(text, rest + end..line.end) }
}

/// The words of `text` that begin with `--`, up to the first other word or a bare `--`, and where they end.
///
/// Quotes and escapes are taken off; a quoted blank does not end a word.
fn flags(text: &str, escape: char) -> (Vec<Piece>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let start = at;
        let mut word = String::new();
        let mut quote = None;
        let mut chars = text[at..].char_indices();
        let mut end = text.len();
        while let Some((i, c)) = chars.next() {
            if quote == Some(c) {
                quote = None;
            } else if c == escape {
                // An escape character at the very end is dropped.
                word.extend(chars.next().map(|(_, next)| next));
            } else if quote.is_none() && c.is_whitespace() {
                end = at + i;
                break;
            } else if quote.is_none() && (c == '\'' || c == '"') {
                quote = Some(c);
            } else {
                word.push(c);
            }
        }
        at = end;
        if word == "--" {
            return (flags, at);
        }
        flags.push((word, start..end));
    }
}

/// The words of `text` between blanks.
pub(crate) fn blanks(text: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut start = None;
    for (i, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match start {
            None if !is_blank(c) => start = Some(i),
            Some(from) if is_blank(c) => {
                out.push((text[from..i].to_owned(), from..i));
                start = None;
            }
            _ => {}
        }
    }
    out
}

/// The words of `text`, where quotes and escapes keep blanks inside a word and stay in it.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    loop {
        while chars.next_if(|&(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, _)) = chars.peek() else { return out };
        let mut word = String::new();
        let mut quote = None;
        let mut end = text.len();
        while let Some(&(i, c)) = chars.peek() {
            if quote.is_none() && c.is_whitespace() {
                end = i;
                break;
            }
            chars.next();
            if c == escape && quote != Some('\'') {
                // An escape character at the very end is dropped.
                if let Some((_, next)) = chars.next() {
                    word.push(c);
                    word.push(next);
                }
                continue;
            }
            if quote == Some(c) {
                quote = None;
            } else if quote.is_none() && (c == '\'' || c == '"') {
                quote = Some(c);
            }
            word.push(c);
        }
        if !word.is_empty() {
            out.push((word, start..end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: Vec<Piece>) -> Vec<String> {
        pieces.into_iter().map(|(text, _)| text).collect()
    }

    fn split(line: &str) -> (&str, Vec<String>, &str) {
        let command = command(line, 0..line.len(), '\\');
        (&line[command.keyword], texts(command.flags), &line[command.args])
    }

    #[test]
    fn commands() {
        assert_eq!(split(" RUN  a  b "), ("RUN", vec![], "a  b"));
        assert_eq!(split("RUN"), ("RUN", vec![], ""));
        assert_eq!(split("COPY --a=b\t--c d --e"), ("COPY", vec!["--a=b".into(), "--c".into()], "d --e"));
        assert_eq!(split("COPY --a -- --b c"), ("COPY", vec!["--a".into()], "--b c"));
        assert_eq!(split("COPY --a='x y'\"z\"\\  b"), ("COPY", vec!["--a=x yz ".into()], "b"));
        assert_eq!(split("CMD --a"), ("CMD", vec!["--a".into()], ""));
        assert_eq!(split("CMD --"), ("CMD", vec![], ""));
        assert_eq!(split("CMD -a"), ("CMD", vec![], "-a"));
        assert_eq!(split("CMD --é=à b"), ("CMD", vec!["--é=à".into()], "b"));
    }

    #[test]
    fn flags_know_their_place() {
        let line = "COPY  --a=b --c d";
        let command = command(line, 0..line.len(), '\\');
        let places: Vec<&str> = command.flags.iter().map(|(_, r)| &line[r.clone()]).collect();
        assert_eq!(places, ["--a=b", "--c"]);
    }

    #[test]
    fn words_keep_quotes() {
        let words = |text| texts(quoted_words(text, '\\'));
        assert_eq!(words("a='b c' d=\"e \\\" f\" g=h\\ i"), ["a='b c'", "d=\"e \\\" f\"", "g=h\\ i"]);
        assert_eq!(words("a='b\\' c"), ["a='b\\'", "c"], "nothing is escaped in single quotes");
        assert_eq!(words("a=\"b"), ["a=\"b"]);
        assert_eq!(words("a \\"), ["a"]);
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn words_between_blanks() {
        assert_eq!(texts(blanks("a\t 'b  c' ")), ["a", "'b", "c'"]);
        assert_eq!(blanks(" é b").into_iter().map(|(_, r)| r).collect::<Vec<_>>(), [1..3, 4..5]);
    }
}
