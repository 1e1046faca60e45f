//! From text to nodes: which lines belong to which instruction, and its arguments as written.
//!
//! Rules (BuildKit, frontend/dockerfile/parser):
//! - Lines end at a line feed; carriage returns at the end are dropped. A byte order mark is skipped.
//! - White space in front of an instruction or comment is skipped; in front of a continuation line it stays.
//! - A line whose first character is `#` is a comment, also within a continued instruction.
//! - A line that ends with the escape character continues on the next one. Empty lines there are skipped.
//! - How arguments split depends on the instruction; see [`Args`].
//! - RUN, COPY and ADD, also behind ONBUILD, may open heredocs, unless in exec form.
//! - An instruction with an unknown name is no syntax error.
//!
//! Unlike there, an error does not end parsing: the instruction is left out, and the next line is tried.

pub mod directives;
mod heredoc;
mod json;
mod lines;
mod print;
mod split;

pub use directives::Directives;
pub use heredoc::Heredoc;
pub use print::print;

pub(crate) use heredoc::parse as parse_heredoc;
pub(crate) use lines::span;

use std::ops::Range;

use crate::{Class, Diagnostic, Span};
use lines::{Joined, Lines, MAX_LINE, continued};

/// How many ONBUILD may be chained before the rest is left as text. (More than one is an error anyway.)
const MAX_ONBUILD: usize = 16;

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as written: quotes stay, except in flags and in exec form.
    pub text: String,
    /// Where. Words of an exec form have the place of the whole array.
    pub span: Span,
}

/// The arguments of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Words, in one of these shapes: split at blanks (FROM, EXPOSE, ADD, COPY, VOLUME), split at blanks that
    /// are not quoted (ARG), the whole text as one word (MAINTAINER, STOPSIGNAL, USER, WORKDIR, and the shell
    /// form of CMD, ENTRYPOINT, RUN, SHELL), a word and the rest (HEALTHCHECK).
    Words(Vec<Word>),
    /// The strings of an exec form, behind the type for HEALTHCHECK. ADD, CMD, COPY, ENTRYPOINT, HEALTHCHECK,
    /// RUN, SHELL and VOLUME may have it; text that begins with `[` but is no JSON array is not an error, but
    /// taken in the other shape.
    Exec(Vec<Word>),
    /// ENV and LABEL: names and values as written.
    Pairs {
        /// Name, value.
        pairs: Vec<(String, String)>,
        /// Whether it was written as one name, a blank and a value.
        legacy: bool,
    },
    /// ONBUILD: the instruction behind it.
    Nested(Box<Node>),
    /// An instruction that does not exist; nothing is known about its arguments.
    Unknown,
}

/// One instruction as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written.
    pub keyword: String,
    /// Where the keyword stands.
    pub keyword_span: Span,
    /// The whole text, continuation lines joined, with trailing blanks.
    pub original: String,
    /// The flags: `--name` or `--name=value`, quotes and escapes taken off.
    pub flags: Vec<Word>,
    /// The arguments behind the flags.
    pub args: Args,
    /// Where the arguments stand.
    pub args_span: Span,
    /// The heredocs, in order. Those of an instruction behind ONBUILD are found at the ONBUILD.
    pub heredocs: Vec<Heredoc>,
    /// The comments above, without `#` and blanks. An empty comment ends them, an empty line does not.
    pub comments: Vec<String>,
    /// From the keyword to the end of the last line, including heredocs.
    pub span: Span,
    /// The first line, counted from 1.
    pub first_line: u32,
    /// The last line, counted from 1.
    pub last_line: u32,
    /// Empty lines within a continuation, with their endings.
    pub empty_continuations: Vec<(u32, Span)>,
    /// The parts of `original`: offset in it, offset in the text; ascending. None for what stands behind ONBUILD.
    pub pieces: Vec<(usize, usize)>,
}

impl Node {
    fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    fn may_open_heredocs(&self) -> bool {
        let node = match &self.args {
            Args::Nested(inner) if self.is("ONBUILD") => inner,
            _ => self,
        };
        ["ADD", "COPY", "RUN"].into_iter().any(|k| node.is(k)) && !matches!(node.args, Args::Exec(_))
    }
}

/// A parsed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The parser directives.
    pub directives: Directives,
    /// The instructions, in order.
    pub nodes: Vec<Node>,
    /// What does not parse.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile into nodes.
pub fn parse(text: &str) -> Tree {
    let mut parser = Parser::new(text, '\\');
    parser.directives = Some(directives::Reader::new("#"));
    parser.run();
    let mut tree = parser.tree;
    tree.directives.syntax = directives::syntax(text).map(|s| s.command_line);
    tree.directives.check = directives::check(text);
    tree
}

/// Parses text without parser directives, such as an ONBUILD trigger stored in an image.
pub fn parse_with_escape(text: &str, escape: char) -> Tree {
    let mut parser = Parser::new(text, escape);
    parser.run();
    parser.tree
}

struct Parser<'a> {
    lines: Lines<'a>,
    directives: Option<directives::Reader>,
    tree: Tree,
}

/// Why arguments do not parse.
struct SyntaxError {
    code: &'static str,
    message: String,
    range: Range<usize>,
    help: Option<String>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, escape: char) -> Parser<'a> {
        let directives = Directives { escape, ..Directives::default() };
        let tree = Tree { directives, nodes: Vec::new(), diagnostics: Vec::new() };
        Parser { lines: Lines::new(text), directives: None, tree }
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span, line: u32) {
        self.tree.diagnostics.push(Diagnostic::error(Class::Syntax, code, message, span, line));
    }

    fn run(&mut self) {
        let before = self.lines.number;
        let mut comments = Vec::new();
        let mut instructions = 0;
        while let Some(line) = self.lines.next() {
            let text = line.trimmed().trim_start();
            if let Some(comment) = text.strip_prefix('#') {
                if !self.directive(text, line.span()) {
                    match comment.trim() {
                        "" => comments.clear(),
                        comment => comments.push(comment.to_owned()),
                    }
                }
                continue;
            }
            // Any other line ends the directives.
            self.directives = None;
            if text.is_empty() {
                continue;
            }
            instructions += 1;
            let offset = line.span().end - text.len();
            self.instruction(text, offset, std::mem::take(&mut comments));
        }
        for (number, span) in std::mem::take(&mut self.lines.too_long) {
            self.error("LineTooLong", format!("line is longer than {MAX_LINE} bytes"), span, number);
        }
        if instructions == 0 {
            let line = self.lines.number.max(before + 1);
            self.error("NoInstructions", "file has no instructions", Span::default(), line);
        }
    }

    /// Whether a comment line is a parser directive.
    fn directive(&mut self, text: &str, span: Span) -> bool {
        let Some(reader) = &mut self.directives else { return false };
        let number = self.lines.number;
        match reader.line(text) {
            Ok(None) => false,
            Ok(Some(directive)) => {
                if directive.name == "escape" {
                    match directive.value.as_str() {
                        "\\" => self.tree.directives.escape = '\\',
                        "`" => self.tree.directives.escape = '`',
                        other => {
                            let message = format!("escape must be \\ or `, not {other}");
                            self.error("InvalidEscape", message, span, number);
                        }
                    }
                }
                true
            }
            Err(duplicate) => {
                self.error("DuplicateDirective", duplicate.to_string(), span, number);
                true
            }
        }
    }

    /// Parses the instruction that begins with `text`, with its continuation lines and heredocs.
    fn instruction(&mut self, text: &str, offset: usize, comments: Vec<String>) {
        let first_line = self.lines.number;
        let escape = self.tree.directives.escape;
        let mut joined = Joined::default();
        let mut empty_continuations = Vec::new();
        let mut end = offset + text.len();
        let mut more = match continued(text, escape) {
            Some(before) => {
                joined.push(before, offset);
                true
            }
            None => {
                joined.push(text, offset);
                false
            }
        };
        while more {
            let Some(line) = self.lines.next() else { break };
            let text = line.trimmed();
            end = line.span().end;
            if line.is_comment() {
                continue;
            }
            if text.trim_start().is_empty() {
                let span = Span::new(line.offset, line.offset + line.text.len());
                empty_continuations.push((self.lines.number, span));
                continue;
            }
            let before = continued(text, escape);
            more = before.is_some();
            joined.push(before.unwrap_or(text), line.offset);
        }

        let mut node = match self.node(&joined, 0..joined.text.len(), 0) {
            Ok(node) => node,
            Err(error) => {
                let span = joined.span(error.range.start, error.range.end);
                let diagnostic =
                    Diagnostic::error(Class::Syntax, error.code, error.message, span, first_line)
                        .maybe_help(error.help);
                self.tree.diagnostics.push(diagnostic);
                return;
            }
        };
        node.comments = comments;
        node.empty_continuations = empty_continuations;
        if node.may_open_heredocs() {
            match heredoc::opened(&joined.text) {
                Ok(heredocs) => {
                    for heredoc in heredocs {
                        match self.heredoc_lines(heredoc, &mut end) {
                            Some(heredoc) => node.heredocs.push(heredoc),
                            None => return self.unterminated(&joined, first_line),
                        }
                    }
                }
                Err(error) => {
                    let span = joined.span(0, joined.text.len());
                    self.error("InvalidHeredoc", format!("invalid heredoc: {error}"), span, first_line);
                    return;
                }
            }
        }
        node.span = Span::new(node.keyword_span.start, end);
        node.pieces = joined.pieces;
        self.place(&mut node, first_line);
        self.tree.nodes.push(node);
    }

    /// Sets the lines of a node and of those inside.
    fn place(&self, node: &mut Node, first_line: u32) {
        node.first_line = first_line;
        node.last_line = self.lines.number;
        if let Args::Nested(inner) = &mut node.args {
            inner.span = Span::new(inner.keyword_span.start, node.span.end);
            self.place(inner, first_line);
        }
    }

    fn heredoc_lines(&mut self, mut heredoc: Heredoc, end: &mut usize) -> Option<Heredoc> {
        for line in self.lines.by_ref() {
            *end = line.span().end;
            if heredoc.ends_at(line.text) {
                return Some(heredoc);
            }
            heredoc.content.push_str(line.text);
        }
        None
    }

    fn unterminated(&mut self, joined: &Joined, line: u32) {
        let span = joined.span(0, joined.text.len());
        let help = "a line with nothing but the delimiter ends it (tabs may precede it after <<-)";
        let message = "heredoc is not terminated";
        let diagnostic = Diagnostic::error(Class::Syntax, "UnterminatedHeredoc", message, span, line);
        self.tree.diagnostics.push(diagnostic.help(help));
    }

    /// Makes a node of a part of a logical line; lines and the end of its span are set later.
    fn node(&self, joined: &Joined, range: Range<usize>, depth: usize) -> Result<Node, SyntaxError> {
        let text = &joined.text;
        let escape = self.tree.directives.escape;
        let command = split::command(text, range.clone(), escape);
        let keyword = &text[command.keyword.clone()];
        let args = if keyword.to_lowercase() == "onbuild" && depth < MAX_ONBUILD {
            match command.args.is_empty() {
                true => Args::Words(Vec::new()),
                false => Args::Nested(Box::new(self.node(joined, command.args.clone(), depth + 1)?)),
            }
        } else {
            ArgsParser { joined, range: command.args.clone(), escape }.parse(keyword)?
        };
        let word = |(text, range): split::Piece| Word { text, span: joined.span(range.start, range.end) };
        Ok(Node {
            keyword: keyword.to_owned(),
            keyword_span: joined.span(command.keyword.start, command.keyword.end),
            original: text[range].to_owned(),
            flags: command.flags.into_iter().map(word).collect(),
            args,
            args_span: joined.span(command.args.start, command.args.end),
            heredocs: Vec::new(),
            comments: Vec::new(),
            span: Span::default(),
            first_line: 0,
            last_line: 0,
            empty_continuations: Vec::new(),
            pieces: Vec::new(),
        })
    }
}

struct ArgsParser<'a> {
    joined: &'a Joined,
    range: Range<usize>,
    escape: char,
}

impl ArgsParser<'_> {
    fn text(&self) -> &str {
        &self.joined.text[self.range.clone()]
    }

    fn parse(&self, keyword: &str) -> Result<Args, SyntaxError> {
        match keyword.to_lowercase().as_str() {
            "from" | "expose" => Ok(Args::Words(self.blanks())),
            "arg" => Ok(Args::Words(self.words(split::quoted_words(self.text(), self.escape)))),
            "env" | "label" => self.pairs(&keyword.to_uppercase()),
            "add" | "copy" | "volume" => self.exec_or(self.blanks()),
            "cmd" | "entrypoint" | "run" | "shell" => self.exec_or(self.whole()),
            "maintainer" | "stopsignal" | "user" | "workdir" => Ok(Args::Words(self.whole())),
            "healthcheck" => self.healthcheck(),
            _ => Ok(Args::Unknown),
        }
    }

    fn error(&self, code: &'static str, message: impl Into<String>) -> SyntaxError {
        SyntaxError { code, message: message.into(), range: self.range.clone(), help: None }
    }

    fn word(&self, text: String, range: Range<usize>) -> Word {
        Word { text, span: self.joined.span(self.range.start + range.start, self.range.start + range.end) }
    }

    fn words(&self, pieces: Vec<split::Piece>) -> Vec<Word> {
        pieces.into_iter().map(|(text, range)| self.word(text, range)).collect()
    }

    fn blanks(&self) -> Vec<Word> {
        self.words(split::blanks(self.text()))
    }

    fn whole(&self) -> Vec<Word> {
        match self.text() {
            "" => Vec::new(),
            text => vec![self.word(text.to_owned(), 0..text.len())],
        }
    }

    /// The exec form if the arguments are one, and `other` if they are no JSON.
    fn exec_or(&self, other: Vec<Word>) -> Result<Args, SyntaxError> {
        match json::array(self.text()) {
            json::Array::Strings(strings) => {
                let whole = 0..self.text().len();
                Ok(Args::Exec(strings.into_iter().map(|s| self.word(s, whole.clone())).collect()))
            }
            json::Array::Mixed => Err(SyntaxError {
                help: Some("put numbers and other values in double quotes".to_owned()),
                ..self.error("ExecForm", "the exec form must be an array of strings only")
            }),
            json::Array::No => Ok(Args::Words(other)),
        }
    }

    fn pairs(&self, keyword: &str) -> Result<Args, SyntaxError> {
        let words = split::quoted_words(self.text(), self.escape);
        let Some((first, _)) = words.first() else {
            return Ok(Args::Pairs { pairs: Vec::new(), legacy: false });
        };
        if !first.contains('=') {
            let text = self.text();
            let Some(at) = text.find(split::is_blank) else {
                return Err(SyntaxError {
                    help: Some(format!("write {keyword} {text}=value")),
                    ..self.error("MissingValue", format!("{keyword} needs a name and a value"))
                });
            };
            let value = text[at..].trim_start_matches(split::is_blank);
            return Ok(Args::Pairs { pairs: vec![(text[..at].to_owned(), value.to_owned())], legacy: true });
        }
        let mut pairs = Vec::with_capacity(words.len());
        for (word, range) in words {
            let Some((name, value)) = word.split_once('=') else {
                let (start, end) = (self.range.start + range.start, self.range.start + range.end);
                return Err(SyntaxError {
                    range: start..end,
                    help: Some("quote values that contain blanks: name=\"a value\"".to_owned()),
                    ..self.error("MissingEquals", format!("no = in {word}: must be name=value"))
                });
            };
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Ok(Args::Pairs { pairs, legacy: false })
    }

    /// A type, and a command in either form.
    fn healthcheck(&self) -> Result<Args, SyntaxError> {
        let text = self.text();
        if text.is_empty() {
            return Ok(Args::Words(Vec::new()));
        }
        let at = text.find(char::is_whitespace).unwrap_or(text.len());
        let rest = text.len() - text[at..].trim_start().len();
        let kind = self.word(text[..at].to_owned(), 0..at);
        let start = self.range.start + rest;
        let command = ArgsParser { range: start..self.range.end, ..*self };
        Ok(match command.exec_or(command.whole())? {
            Args::Exec(words) => Args::Exec([vec![kind], words].concat()),
            Args::Words(words) => Args::Words([vec![kind], words].concat()),
            other => other,
        })
    }
}
