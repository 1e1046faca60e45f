//! The commands of a shell RUN, with their places in the Dockerfile.
//!
//! This is no shell: it splits a line such as `a && b x; c` into simple commands and their words, over continuation lines and the comments
//! between them. Where there is more (compound commands, comments of the shell, heredocs), the script is [`Script::plain`] no more, and
//! nobody may edit inside; where a word is not its own value (variables, globs, substitutions), it has no [`Word::literal`].

use std::ops::Range;

/// What stands before a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// It is the first.
    First,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `;`
    Then,
    /// `|`
    Pipe,
    /// `&`
    Beside,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, without continuation marks.
    pub raw: String,
    /// Its value, if it has no variables, globs and substitutions; `~` stays.
    pub literal: Option<String>,
    /// Its place in the text.
    pub span: Range<usize>,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What stands before it.
    pub joint: Joint,
    /// Its words; redirections are words, too.
    pub words: Vec<Word>,
    /// Its place in the text.
    pub span: Range<usize>,
}

impl Command {
    /// The name of the program: the last component of the first word that is no assignment.
    pub fn program(&self) -> Option<&str> {
        let w = self.words.iter().find(|w| !is_assignment(&w.raw))?;
        w.literal.as_deref().map(|l| l.rsplit('/').next().unwrap_or(l))
    }

    /// The words behind the program.
    pub fn args(&self) -> &[Word] {
        let at = self.words.iter().position(|w| !is_assignment(&w.raw)).map_or(self.words.len(), |n| n + 1);
        &self.words[at..]
    }

    /// Program and first argument that is no option: `apt-get install`.
    pub fn is(&self, program: &str, sub: &str) -> bool {
        let first = self.args().iter().find(|w| !w.raw.starts_with('-'));
        self.program() == Some(program) && first.is_some_and(|w| w.raw == sub)
    }

    /// Whether an argument is written like this.
    pub fn has(&self, arg: &str) -> bool {
        self.args().iter().any(|w| w.raw == arg)
    }
}

fn is_assignment(raw: &str) -> bool {
    raw.split_once('=').is_some_and(|(n, _)| {
        !n.is_empty()
            && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !n.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The commands of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// In order.
    pub commands: Vec<Command>,
    /// Nothing but simple commands.
    pub plain: bool,
}

/// Words that begin a compound command.
const COMPOUND: &[&str] = &[
    "if", "for", "while", "until", "case", "function", "select", "{", "}", "!", "then", "do", "done", "fi",
    "esac", "[[",
];

impl Script {
    /// Whether everything is joined by `&&`: a command behind it runs only if all ran well.
    pub fn is_chain(&self) -> bool {
        self.plain && self.commands.iter().all(|c| matches!(c.joint, Joint::First | Joint::And))
    }

    /// Whether a command changes the shell that runs what follows.
    pub fn leaves_traces(&self) -> bool {
        const TRACES: &[&str] = &[
            "cd", "export", "set", "umask", "exec", "exit", "trap", "source", ".", "unset", "alias",
            "ulimit", "pushd", "popd", "eval",
        ];
        self.commands.iter().any(|c| {
            c.program().is_none_or(|p| TRACES.contains(&p)) || c.words.iter().all(|w| is_assignment(&w.raw))
        })
    }
}

/// Splits the part `range` of a Dockerfile.
pub fn script(text: &str, range: Range<usize>, escape: char) -> Script {
    let Some(part) = text.get(range.clone()) else { return Script { commands: Vec::new(), plain: false } };
    let mut s = Scanner { text: part, base: range.start, at: 0, escape, plain: true };
    s.run()
}

struct Scanner<'t> {
    text: &'t str,
    base: usize,
    at: usize,
    escape: char,
    plain: bool,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Length of a continuation mark with its line feed, and of comment lines and empty lines behind it.
    fn continuation(&self) -> Option<usize> {
        let rest = self.rest().strip_prefix(self.escape)?;
        let line = rest.find('\n')?;
        if !rest[..line].trim_end_matches('\r').chars().all(|c| c == ' ' || c == '\t') {
            return None;
        }
        let mut len = self.escape.len_utf8() + line + 1;
        loop {
            let next = &self.rest()[len..];
            let end = next.find('\n').map_or(next.len(), |n| n + 1);
            let line = next[..end].trim();
            if end == 0 || !(line.is_empty() || line.starts_with('#')) {
                return Some(len);
            }
            len += end;
        }
    }

    fn run(&mut self) -> Script {
        let mut commands: Vec<Command> = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        let mut joint = Joint::First;
        loop {
            if let Some(n) = self.continuation() {
                self.at += n;
                continue;
            }
            let c = self.peek();
            let next: Option<Joint> = match c {
                None => None,
                Some(' ' | '\t' | '\r') => {
                    self.at += 1;
                    continue;
                }
                Some('#') => {
                    self.plain = false;
                    None
                }
                Some(_) if self.rest().starts_with("&&") => Some(Joint::And),
                Some(_) if self.rest().starts_with("||") => Some(Joint::Or),
                Some(_) if self.rest().starts_with(";;") => {
                    self.plain = false;
                    None
                }
                Some('&') if !self.rest().starts_with("&>") => Some(Joint::Beside),
                Some('|') => Some(Joint::Pipe),
                Some(';' | '\n') => Some(Joint::Then),
                Some('(' | ')') => {
                    self.plain = false;
                    None
                }
                Some(_) => {
                    let word = self.word();
                    if words.iter().all(|w| is_assignment(&w.raw)) && COMPOUND.contains(&word.raw.as_str()) {
                        self.plain = false;
                    }
                    words.push(word);
                    continue;
                }
            };
            if let (Some(first), Some(last)) = (words.first(), words.last()) {
                let span = first.span.start..last.span.end;
                commands.push(Command { joint, words: std::mem::take(&mut words), span });
            } else if !(c.is_none() && joint == Joint::Then) {
                // An operator without a command before it.
                self.plain &= c.is_none() && joint == Joint::First;
            }
            match next {
                None => return Script { commands, plain: self.plain },
                Some(j) => {
                    self.at += if matches!(j, Joint::And | Joint::Or) { 2 } else { 1 };
                    joint = j;
                }
            }
        }
    }

    fn word(&mut self) -> Word {
        let start = self.at;
        let mut end = self.at;
        let (mut raw, mut value, mut literal) = (String::new(), String::new(), true);
        while let Some(c) = self.peek() {
            if let Some(n) = self.continuation() {
                self.at += n;
                continue;
            }
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '|' | '(' | ')' => break,
                '&' if !raw.ends_with(['>', '<']) && !self.rest().starts_with("&>") => break,
                '\'' | '"' => {
                    raw.push(c);
                    self.at += 1;
                    literal &= self.quoted(c, &mut raw, &mut value);
                }
                '\\' => {
                    self.at += 1;
                    raw.push(c);
                    if let Some(next) = self.peek() {
                        raw.push(next);
                        value.push(next);
                        self.at += next.len_utf8();
                    }
                }
                '$' if self.rest().starts_with("$(") => {
                    literal = false;
                    self.substitution(&mut raw);
                }
                '`' => {
                    literal = false;
                    raw.push(c);
                    self.at += 1;
                    while let Some(c) = self.peek() {
                        raw.push(c);
                        self.at += c.len_utf8();
                        if c == '`' {
                            break;
                        }
                    }
                }
                c => {
                    literal &= !matches!(c, '$' | '*' | '?' | '[' | '<' | '>' | '{');
                    if self.rest().starts_with("<<") {
                        self.plain = false;
                    }
                    raw.push(c);
                    value.push(c);
                    self.at += c.len_utf8();
                }
            }
            end = self.at;
        }
        let literal = literal.then_some(value);
        Word { raw, literal, span: self.base + start..self.base + end }
    }

    /// What stands in quotes, to the closing one. Gives whether it is literal.
    fn quoted(&mut self, quote: char, raw: &mut String, value: &mut String) -> bool {
        let mut literal = true;
        while let Some(c) = self.peek() {
            if let Some(n) = self.continuation() {
                self.at += n;
                continue;
            }
            self.at += c.len_utf8();
            raw.push(c);
            if c == quote {
                return literal;
            }
            if quote == '"' && c == '\\' {
                if let Some(next) = self.peek() {
                    self.at += next.len_utf8();
                    raw.push(next);
                    value.push(next);
                }
                continue;
            }
            if quote == '"' && matches!(c, '$' | '`') {
                literal = false;
            }
            value.push(c);
        }
        // A quote that does not end.
        self.plain = false;
        false
    }

    /// `$( ... )`, with what nests in it.
    fn substitution(&mut self, raw: &mut String) {
        let mut depth = 0;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            raw.push(c);
            match c {
                '(' => depth += 1,
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
        self.plain = false;
    }
}

/// The edit that takes commands out of a script: each with the joint before it, or, at the front, the one behind it. `None` if all
/// are to go.
pub fn without(script: &Script, gone: &[usize]) -> Option<Vec<crate::Edit>> {
    let mut out = Vec::new();
    let first = (0..script.commands.len()).find(|n| !gone.contains(n))?;
    if first > 0 {
        out.push(crate::Edit::remove(script.commands[0].span.start, script.commands[first].span.start));
    }
    let mut kept = first;
    for n in first + 1..script.commands.len() {
        if !gone.contains(&n) {
            kept = n;
        } else if n + 1 == script.commands.len() || !gone.contains(&(n + 1)) {
            out.push(crate::Edit::remove(script.commands[kept].span.end, script.commands[n].span.end));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Script {
        script(text, 0..text.len(), '\\')
    }

    fn shown(s: &Script) -> Vec<String> {
        let words = |c: &Command| c.words.iter().map(|w| w.raw.clone()).collect::<Vec<_>>().join("·");
        s.commands.iter().map(|c| format!("{:?} {}", c.joint, words(c))).collect()
    }

    #[test]
    fn commands_over_continuation_lines_and_comments() {
        let text = "apt-get update && \\\n    # a comment\n\n    apt-get install -y \\\n  'a b' \"$X\" c\\ d ; rm -rf /x/* 2>&1 | tee /l || true";
        let s = of(text);
        assert!(s.plain);
        assert_eq!(
            shown(&s),
            [
                "First apt-get·update",
                "And apt-get·install·-y·'a b'·\"$X\"·c\\ d",
                "Then rm·-rf·/x/*·2>&1",
                "Pipe tee·/l",
                "Or true"
            ]
        );
        let words = &s.commands[1].words;
        assert_eq!(words[3].literal.as_deref(), Some("a b"));
        assert_eq!(words[4].literal, None);
        assert_eq!(words[5].literal.as_deref(), Some("c d"));
        assert_eq!(s.commands[2].words[2].literal, None, "a glob");
        assert_eq!(&text[s.commands[2].span.clone()], "rm -rf /x/* 2>&1");
    }

    #[test]
    fn what_is_more_than_simple_commands_is_not_plain() {
        for text in [
            "if a; then b; fi",
            "(a)",
            "a # comment",
            "{ a; }",
            "for x in 1; do a; done",
            "cat <<E",
            "a 'b",
            "! a",
            "case x in y) a;; esac",
        ] {
            assert!(!of(text).plain, "{text}");
        }
        for text in ["a", "a $(b; (c)) `d`", "A=1 b", "a >x 2>&1", "a &>x", "a;", "a{b,c}"] {
            assert!(of(text).plain, "{text}");
        }
    }

    #[test]
    fn programs_and_traces() {
        let s = of("A=1 /usr/bin/apt-get -y install x");
        assert!(s.commands[0].is("apt-get", "install") && s.commands[0].has("-y"));
        assert!(!s.leaves_traces());
        assert!(of("cd /x && a").leaves_traces() && of("A=1").leaves_traces() && of("$X y").leaves_traces());
        assert!(of("a && b").is_chain() && !of("a; b").is_chain());
    }

    #[test]
    fn commands_are_taken_out_with_their_joints() {
        let text = "a && \\\n  b && \\\n  c && \\\n  d";
        let s = of(text);
        let after = |gone: &[usize]| {
            without(&s, gone).map(|e| crate::edit::apply(text, &e.iter().collect::<Vec<_>>()).unwrap())
        };
        assert_eq!(after(&[3]).as_deref(), Some("a && \\\n  b && \\\n  c"));
        assert_eq!(after(&[0, 1]).as_deref(), Some("c && \\\n  d"));
        assert_eq!(after(&[1, 2]).as_deref(), Some("a && \\\n  d"));
        assert_eq!(after(&[0, 2]).as_deref(), Some("b && \\\n  d"));
        assert_eq!(after(&[0, 1, 2, 3]), None);
    }
}
