//! Variables and quotes, as Dockerfile instructions understand them.
//!
//! | form | meaning |
//! |---|---|
//! | `$v` `${v}` | the value; nothing when unset |
//! | `${v:-w}` `${v-w}` | w if v is unset or empty / unset |
//! | `${v:+w}` `${v+w}` | w if v is set and not empty / set |
//! | `${v:?w}` `${v?w}` | an error with the text w if v is unset or empty / unset |
//! | `${v#p}` `${v##p}` | v without the shortest / longest start that matches p |
//! | `${v%p}` `${v%%p}` | v without the shortest / longest end that matches p |
//! | `${v/p/r}` `${v//p/r}` | v with the first / every match of p replaced by r |
//!
//! Patterns know `*` and `?` (neither matches a line feed), and `\` before `*`, `?`, `\`, `}` and `/`.
//! Words nest. Single quotes keep everything; in double quotes variables are expanded, and the escape
//! character counts before `"`, `$` and itself. Outside of quotes it makes the next character ordinary.
//! A name is letters, digits and `_`, or digits alone, or one of `@*#?-$!0`.
//!
//! Source: BuildKit, frontend/dockerfile/shell/lex.go. One difference: when a line is split into words there,
//! what stands directly before a `${...}` with a modifier is lost (`80${X:-80}` gives `80`); here it stays.
//!
//! What a text can grow by is bounded by [`MAX_GROWTH`], nesting by [`MAX_DEPTH`], and the work of one expansion (characters compared
//! and made, in all its parts together) by a budget of steps, so that a hostile file (doubling `ENV A=$A$A`) ends in an error.

mod pattern;

use std::collections::BTreeSet;

use pattern::{Budget, Pattern};

/// How many bytes longer than what is written an expansion may be. (No program can be given a variable of more than 128 KiB.)
pub const MAX_GROWTH: usize = 1 << 20;

/// How deep `${a:-${b:-...}}` may nest.
pub const MAX_DEPTH: usize = 128;

/// How a variable's value is found; `None` when it is unset.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// An expanded text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The names of variables that were asked for and are unset, each once, in order of first use. Names in
    /// `${v:-w}` count too.
    pub unset: Vec<String>,
    /// The names of variables that were asked for and are set, likewise.
    pub used: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote is not closed.
    #[error("missing closing {0} quote")]
    Quote(&'static str),
    /// `${` without its `}`.
    #[error("missing '}}' after '${{'")]
    Brace,
    /// `${v/p` without the second `/`.
    #[error("missing second '/' in ${{{name}/...}}")]
    Slash {
        /// The variable.
        name: String,
    },
    /// `${}`, `${{` or `${:`.
    #[error("bad substitution: no variable name after '${{'")]
    Name,
    /// A modifier that does not exist.
    #[error("unsupported modifier {modifier} for variable {name}")]
    Modifier {
        /// The variable.
        name: String,
        /// What stands behind its name.
        modifier: String,
    },
    /// A `\` in a pattern before a character that it cannot escape.
    #[error("invalid pattern {pattern} for variable {name}: '\\' must stand before one of * ? \\ }} /")]
    Pattern {
        /// The variable.
        name: String,
        /// The pattern, after expansion.
        pattern: String,
    },
    /// `${v?w}`: the variable is needed.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text that the file gives, or one that says what is wrong with the value.
        message: String,
    },
    /// More than [`MAX_DEPTH`] levels.
    #[error("variables are nested more than {MAX_DEPTH} levels deep")]
    Depth,
    /// More than [`MAX_GROWTH`] bytes are added.
    #[error("variables make the text more than {MAX_GROWTH} bytes longer")]
    Length,
    /// The parts of the text together need too many steps.
    #[error("expanding the text takes too long")]
    Work,
    /// Matching a pattern takes too long.
    #[error("matching pattern {pattern} for variable {name} takes too long")]
    Cost {
        /// The variable.
        name: String,
        /// The pattern, after expansion.
        pattern: String,
    },
}

/// Expands `input` as one word: quotes and escapes are taken off, blanks stay.
///
/// `escape` is the file's escape character.
pub fn word(input: &str, lookup: &Lookup<'_>, escape: char) -> Result<Expansion, ExpandError> {
    Lexer::new(input, lookup, Mode { escape, ..Mode::default() }).expansion()
}

/// Expands `input` and splits the result at blanks that are not quoted; blanks in values split too.
///
/// Empty words vanish, even quoted ones.
pub fn words(input: &str, lookup: &Lookup<'_>, escape: char) -> Result<Vec<String>, ExpandError> {
    Lexer::new(input, lookup, Mode { escape, ..Mode::default() }).words()
}

/// Expands the body of a heredoc whose delimiter is not quoted: quotes are ordinary, and the escape character
/// is `\` whatever the file says.
pub fn heredoc(body: &str, lookup: &Lookup<'_>) -> Result<Expansion, ExpandError> {
    Lexer::new(body, lookup, Mode { plain_quotes: true, ..Mode::default() }).expansion()
}

/// Expands `input` for display: quotes stay, and so do variables that are unset.
pub fn display(input: &str, lookup: &Lookup<'_>, escape: char) -> Result<String, ExpandError> {
    let mode = Mode { escape, keep_quotes: true, keep_unset: true, ..Mode::default() };
    Lexer::new(input, lookup, mode).expansion().map(|e| e.text)
}

/// The words of a shell command line as far as heredocs need them: nothing is expanded.
pub(crate) fn raw_words(line: &str) -> Result<Vec<String>, ExpandError> {
    let mode = Mode { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Mode::default() };
    Lexer::new(line, &|_| None, mode).words()
}

/// The words of `text` with or without their quotes; variables stay.
pub(crate) fn unexpanded_words(text: &str, keep_quotes: bool) -> Result<Vec<String>, ExpandError> {
    Lexer::new(text, &|_| None, Mode { keep_quotes, keep_unset: true, ..Mode::default() }).words()
}

#[derive(Debug, Clone, Copy)]
struct Mode {
    escape: char,
    /// Quotes are ordinary characters.
    plain_quotes: bool,
    /// Quotes have their meaning, but stay in the result.
    keep_quotes: bool,
    /// Escape characters have their meaning, but stay in the result.
    keep_escapes: bool,
    /// Unset variables stay as written.
    keep_unset: bool,
}

impl Default for Mode {
    fn default() -> Mode {
        Mode { escape: '\\', plain_quotes: false, keep_quotes: false, keep_escapes: false, keep_unset: false }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    lookup: &'a Lookup<'a>,
    mode: Mode,
    depth: usize,
    unset: Names,
    used: Names,
    /// The longest text.
    limit: usize,
    budget: Budget,
}

/// Names in order of first use.
#[derive(Default)]
struct Names {
    order: Vec<String>,
    known: BTreeSet<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        if !self.known.contains(name) {
            self.known.insert(name.to_owned());
            self.order.push(name.to_owned());
        }
    }
}

/// What a stretch of text gives: one text and, beside it, the words that it splits into.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Output {
    fn check(&self, limit: usize) -> Result<(), ExpandError> {
        if self.text.len() > limit { Err(ExpandError::Length) } else { Ok(()) }
    }

    /// A character that splits words if it is blank.
    fn splitting(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
            self.in_word = true;
        } else if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.in_word = false;
        }
    }

    fn whole(&mut self, text: &str) {
        self.word.push_str(text);
        self.in_word = true;
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl<'a> Lexer<'a> {
    fn new(input: &'a str, lookup: &'a Lookup<'a>, mode: Mode) -> Lexer<'a> {
        // Go's scanner drops a byte order mark at the beginning of what it reads.
        let rest = input.strip_prefix('\u{feff}').unwrap_or(input);
        Lexer {
            rest,
            lookup,
            mode,
            depth: 0,
            unset: Names::default(),
            used: Names::default(),
            limit: input.len().saturating_add(MAX_GROWTH),
            budget: Budget::default(),
        }
    }

    fn expansion(mut self) -> Result<Expansion, ExpandError> {
        let text = self.run(None)?.text;
        Ok(Expansion { text, unset: self.unset.order, used: self.used.order })
    }

    fn words(mut self) -> Result<Vec<String>, ExpandError> {
        self.run(None).map(Output::into_words)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    /// Expands up to `stop`, which is consumed, or to the end.
    fn run(&mut self, stop: Option<char>) -> Result<Output, ExpandError> {
        let mut out = Output::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(out);
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    out.text.push_str(&value);
                    value.chars().for_each(|c| out.splitting(c));
                }
                '\'' | '"' if !self.mode.plain_quotes => {
                    let quoted = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    out.text.push_str(&quoted);
                    out.whole(&quoted);
                }
                '<' => {
                    let arrows = self.heredoc_mark();
                    out.text.push_str(&arrows);
                    out.whole(&arrows);
                }
                _ => {
                    self.next();
                    if c != self.mode.escape {
                        out.splitting(c);
                        out.text.push(c);
                    } else {
                        if self.mode.keep_escapes {
                            out.text.push(c);
                            out.whole(c.encode_utf8(&mut [0; 4]));
                        }
                        // An escape character at the very end is dropped.
                        if let Some(next) = self.next() {
                            out.text.push(next);
                            out.whole(next.encode_utf8(&mut [0; 4]));
                        }
                    }
                }
            }
            out.check(self.limit)?;
        }
        match stop {
            Some(_) => Err(ExpandError::Brace),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.next();
        let (inside, rest) = self.rest.split_once('\'').ok_or(ExpandError::Quote("single"))?;
        self.rest = rest;
        Ok(if self.mode.keep_quotes { format!("'{inside}'") } else { inside.to_owned() })
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut out = Output::default();
        let keep = |out: &mut String, mode: Mode| out.push_str(if mode.keep_quotes { "\"" } else { "" });
        self.next();
        keep(&mut out.text, self.mode);
        loop {
            match self.peek().ok_or(ExpandError::Quote("double"))? {
                '"' => {
                    self.next();
                    keep(&mut out.text, self.mode);
                    return Ok(out.text);
                }
                '$' => out.text.push_str(&self.dollar()?),
                c if c == self.mode.escape => {
                    self.next();
                    if self.mode.keep_escapes {
                        out.text.push(c);
                    }
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == self.mode.escape => {
                            self.next();
                            out.text.push(next);
                        }
                        Some(_) => out.text.push(c),
                        None => {}
                    }
                }
                c => {
                    self.next();
                    out.text.push(c);
                }
            }
            out.check(self.limit)?;
        }
    }

    /// `<`, or `<<` and the blanks behind it: a heredoc's delimiter may stand apart and is one word with it.
    fn heredoc_mark(&mut self) -> String {
        self.next();
        if !self.eat('<') {
            return "<".to_owned();
        }
        let rest = self.rest.trim_start_matches(['\t', '\r', ' ']);
        let mark = format!("<<{}", &self.rest[..self.rest.len() - rest.len()]);
        self.rest = rest;
        mark
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let value = self.variable()?;
        self.budget.spend(value.len()).map_err(|_| ExpandError::Work)?;
        Ok(value)
    }

    fn variable(&mut self) -> Result<String, ExpandError> {
        self.next();
        if !self.eat('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.get(&name);
            return Ok(match value {
                None if self.mode.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        match self.peek() {
            None => return Err(ExpandError::Brace),
            Some('{' | '}' | ':') => return Err(ExpandError::Name),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::Brace),
            Some('}') => Ok(match self.get(&name) {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => {
                let modifier = self.next().ok_or(ExpandError::Brace)?;
                self.modified(name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modified(name, modifier, false),
            Some('/') => self.replaced(name),
            Some(modifier) => Err(ExpandError::Modifier { name, modifier: modifier.to_string() }),
        }
    }

    /// `${name:-word}` and its like, from behind the modifier.
    fn modified(&mut self, name: String, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let written = format!("{}{modifier}", if colon { ":" } else { "" });
        let is_pattern = matches!(modifier, '#' | '%');
        if colon && is_pattern {
            return Err(ExpandError::Modifier { name, modifier: written });
        }
        let word = self.nested('}', is_pattern)?;
        let value = self.get(&name);
        if self.mode.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let given = value.as_deref().filter(|v| !(colon && v.is_empty()));
        match modifier {
            '-' => Ok(given.map_or(word, str::to_owned)),
            '+' => Ok(given.map_or(String::new(), |_| word)),
            '?' => given.map(str::to_owned).ok_or_else(|| {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message = if word.is_empty() { format!("must not be {state}") } else { word };
                ExpandError::Required { name, message }
            }),
            '#' | '%' => {
                let value = value.unwrap_or_default();
                let (pattern, longest) = match word.strip_prefix(modifier) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let matcher = Pattern::new(pattern).ok_or_else(|| ExpandError::Pattern {
                    name: name.clone(),
                    pattern: pattern.to_owned(),
                })?;
                let rest = match modifier {
                    '#' => matcher.strip_start(&value, longest, &mut self.budget),
                    _ => matcher.strip_end(&value, longest, &mut self.budget),
                };
                rest.map_err(|_| ExpandError::Cost { name, pattern: pattern.to_owned() })
            }
            _ => Err(ExpandError::Modifier { name, modifier: written }),
        }
    }

    /// `${name/pattern/replacement}`, from behind the first slash.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.eat('/');
        let pattern = match self.nested('/', true) {
            Err(ExpandError::Brace) if self.rest.is_empty() => return Err(ExpandError::Slash { name }),
            other => other?,
        };
        let replacement = self.nested('}', true)?;
        let value = self.get(&name);
        if self.mode.keep_unset && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let Some(matcher) = Pattern::new(&pattern) else {
            return Err(ExpandError::Pattern { name, pattern });
        };
        let value = value.unwrap_or_default();
        match matcher.replace(&value, &replacement, all, self.limit, &mut self.budget) {
            Ok(text) => Ok(text),
            Err(pattern::Limit::Steps) => Err(ExpandError::Cost { name, pattern }),
            Err(pattern::Limit::Length) => Err(ExpandError::Length),
        }
    }

    /// The text up to `stop`, expanded, with escapes kept or not.
    fn nested(&mut self, stop: char, keep_escapes: bool) -> Result<String, ExpandError> {
        if self.depth == MAX_DEPTH {
            return Err(ExpandError::Depth);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.mode.keep_escapes, keep_escapes);
        let text = self.run(Some(stop)).map(|out| out.text);
        self.mode.keep_escapes = outer;
        self.depth -= 1;
        text
    }

    fn name(&mut self) -> String {
        let first = self.peek();
        let end = match first {
            Some(c) if is_digit(c) => self.rest.find(|c| !is_digit(c)).unwrap_or(self.rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len()),
        };
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_some() {
            self.used.add(name);
        } else {
            self.unset.add(name);
        }
        value
    }
}

fn is_digit(c: char) -> bool {
    c.is_numeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "A" => "foo.bar.baz",
            "E" => "",
            "S" => "a b  c",
            "N" => "one\ntwo",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn text(input: &str) -> String {
        word(input, &env, '\\').unwrap_or_else(|e| panic!("{input}: {e}")).text
    }

    #[test]
    fn values_and_quotes() {
        for (input, expected) in [
            ("$A", "foo.bar.baz"),
            ("${A}x$E", "foo.bar.bazx"),
            ("$U-${U}", "-"),
            ("'$A'", "$A"),
            ("\"$A\"", "foo.bar.baz"),
            ("\\$A", "$A"),
            ("\"a\\\"\\x\\$A\"", "a\"\\x$A"),
            ("$", "$"),
            ("$'x'", "$x"),
            ("a b", "a b"),
            ("\\", ""),
            ("$1x", "x"),
        ] {
            assert_eq!(text(input), expected, "{input}");
        }
    }

    #[test]
    fn modifiers() {
        for (input, expected) in [
            ("${U:-x}${E:-y}${A:-z}", "xyfoo.bar.baz"),
            ("${U-x}${E-y}", "x"),
            ("${U:+x}${E:+y}${A:+z}", "z"),
            ("${E+y}${U+x}", "y"),
            ("${U:-${V:-${A}}}", "foo.bar.baz"),
            ("${U:-a\\}b}", "a}b"),
            ("${A#*.}|${A##*.}|${A%.*}|${A%%.*}", "bar.baz|baz|foo.bar|foo"),
            ("${A/ba?/x}|${A//ba?/x}|${A//./\\/}", "foo.x.baz|foo.x.x|foo\\/bar\\/baz"),
        ] {
            assert_eq!(text(input), expected, "{input}");
        }
    }

    #[test]
    fn errors() {
        for (input, expected) in [
            ("'a", ExpandError::Quote("single")),
            ("\"a", ExpandError::Quote("double")),
            ("${", ExpandError::Brace),
            ("${A", ExpandError::Brace),
            ("${A:-", ExpandError::Brace),
            ("${}", ExpandError::Name),
            ("${{A}}", ExpandError::Name),
            ("${A/b}", ExpandError::Slash { name: "A".into() }),
            ("${A:%x}", ExpandError::Modifier { name: "A".into(), modifier: ":%".into() }),
            ("${A@x}", ExpandError::Modifier { name: "A".into(), modifier: "@".into() }),
            ("${A#\\x}", ExpandError::Pattern { name: "A".into(), pattern: "\\x".into() }),
            ("${U?no $A}", ExpandError::Required { name: "U".into(), message: "no foo.bar.baz".into() }),
            ("${E:?}", ExpandError::Required { name: "E".into(), message: "must not be empty".into() }),
        ] {
            assert_eq!(word(input, &env, '\\'), Err(expected), "{input}");
        }
        assert_eq!(text("${E?}"), "");
    }

    #[test]
    fn used_and_unset_names() {
        let found = word("$A ${U:-$V} $U $A", &env, '\\').expect("valid");
        assert_eq!(found.unset, ["V", "U"]);
        assert_eq!(found.used, ["A"]);
    }

    #[test]
    fn splitting() {
        let split = |input| words(input, &env, '\\').expect("valid");
        assert_eq!(split("a  $S 'x y'\"z\" a\\ b \"\" $U"), ["a", "a", "b", "c", "x yz", "a b"]);
        assert_eq!(split("80${U:-80} x"), ["8080", "x"]);
        assert_eq!(split("\"$S\""), ["a b  c"]);
    }

    #[test]
    fn backtick_escapes() {
        let found = word("`$A \\$A \"`\"\"", &env, '`').expect("valid");
        assert_eq!(found.text, "$A \\foo.bar.baz \"");
    }

    #[test]
    fn heredoc_bodies_keep_quotes() {
        let found = heredoc("it's \"$A\" \\$A\n", &env).expect("valid");
        assert_eq!(found.text, "it's \"foo.bar.baz\" $A\n");
    }

    #[test]
    fn display_keeps_what_is_unset() {
        assert_eq!(
            display("'a' $A ${U} ${U:-x}", &env, '\\').expect("valid"),
            "'a' foo.bar.baz ${U} ${U:-x}"
        );
    }

    #[test]
    fn hostile_input_ends_in_an_error() {
        let deep = format!("{}x{}", "${U:-".repeat(5_000), "}".repeat(5_000));
        assert_eq!(word(&deep, &env, '\\'), Err(ExpandError::Depth));
        let long = |name: &str| Some(name.repeat(1 << 20));
        assert_eq!(word(&"$ab".repeat(20), &long, '\\'), Err(ExpandError::Length));
        assert_eq!(word("${a//a/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb}", &long, '\\'), Err(ExpandError::Length));
    }

    /// Each level may give a long text; together they may not take longer than one.
    #[test]
    fn nested_replacements_share_one_budget() {
        let value = |_: &str| Some("x".repeat(1_000));
        let many = "${a//x/${a}}".repeat(1_000).replace("${a}", "${a///${a}}");
        assert_eq!(
            word(&many, &value, '\\'),
            Err(ExpandError::Length),
            "a million characters for each of a thousand"
        );
        let short = format!("${{b:+{}}}", "${a///${a}}".repeat(100));
        assert_eq!(word(&short, &value, '\\'), Err(ExpandError::Length));
        let each = "${b#${a///${a}}}".repeat(100);
        assert_eq!(
            word(&each, &value, '\\'),
            Err(ExpandError::Work),
            "nothing of it stays, but it takes its time"
        );
    }

    #[test]
    fn long_texts_without_variables_are_no_matter() {
        let text = "x".repeat(3 << 20);
        assert_eq!(heredoc(&format!("{text}$A"), &env).map(|e| e.text.len()), Ok(text.len() + 11));
    }
}
