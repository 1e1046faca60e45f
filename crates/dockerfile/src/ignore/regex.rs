//! The few regular expressions that ignore patterns turn into, matched in linear time.
//!
//! A pattern is translated to a regular expression as moby/patternmatcher does it, and that is then read by the
//! rules of Go's `regexp/syntax`, because what a backslash or a bracket means in a pattern follows from there:
//! `a\d` matches a digit, `[[:alpha:]]` a letter, and `[?]` is the class `[[^/]` and a bracket.
//!
//! Read are: literals, `^`, `$`, `.`, classes (ranges, `[:name:]`, `\d \s \w` and their negations), escapes
//! (`\a \f \n \r \t \v`, `\xHH`, octal, punctuation), `\A \z \b \B`, `\Q...\E`, `*` behind one of these, and
//! `(.*/)?`. There is nothing else that a translation can hold, but for Unicode classes (`\pL`), which are refused.
//!
//! Matching follows all alternatives at once, so its time is bounded by the product of both lengths.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Set {
    Is(char),
    NotLineFeed,
    /// Whether a character in one of the ranges is outside; the ranges.
    Ranges(bool, Vec<(char, char)>),
}

impl Set {
    fn has(&self, c: char) -> bool {
        match self {
            Set::Is(wanted) => c == *wanted,
            Set::NotLineFeed => c != '\n',
            Set::Ranges(negated, ranges) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    End,
    WordEdge,
    NoWordEdge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Inst {
    /// One character, then the next instruction.
    One(Set),
    /// Nothing, if the place is right.
    At(Place),
    /// Both instructions.
    Both(usize, usize),
    /// The end.
    Match,
}

/// A regular expression that is anchored at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regex {
    program: Vec<Inst>,
    /// What every match begins and ends with.
    prefix: String,
    suffix: String,
}

impl Regex {
    /// Compiles `text`, which must begin with `^`; `None` if it is none.
    pub(super) fn new(text: &str) -> Option<Regex> {
        let mut parser = Parser { chars: text.chars().peekable(), program: Vec::new() };
        parser.all()?;
        let program = parser.program;
        let literal = |inst: &Inst| match inst {
            Inst::One(Set::Is(c)) => Some(*c),
            _ => None,
        };
        // A `*` puts its own instruction in front of what it repeats, so literals are never repeated.
        let body = program.strip_prefix(&[Inst::At(Place::Begin)]).unwrap_or_default();
        let prefix = body.iter().map_while(literal).collect();
        let suffix = match body.split_last() {
            Some((Inst::At(Place::End), body)) => {
                let from = target_behind_loops(&program).saturating_sub(1).min(body.len());
                let reversed: Vec<char> = body[from..].iter().rev().map_while(literal).collect();
                reversed.into_iter().rev().collect()
            }
            _ => String::new(),
        };
        let mut program = program;
        program.push(Inst::Match);
        Some(Regex { program, prefix, suffix })
    }

    /// Whether `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        if !text.starts_with(&self.prefix) || !text.ends_with(&self.suffix) {
            return false;
        }
        let mut now = Threads::new(self.program.len());
        let mut next = Threads::new(self.program.len());
        let mut before = None;
        let mut chars = text.chars().peekable();
        self.follow(0, &mut now, before, chars.peek().copied());
        while let Some(c) = chars.next() {
            let after = chars.peek().copied();
            if now.matched {
                return true;
            }
            if now.list.is_empty() {
                return false;
            }
            next.clear();
            before = Some(c);
            for &at in &now.list {
                if let Inst::One(set) = &self.program[at]
                    && set.has(c)
                {
                    self.follow(at + 1, &mut next, before, after);
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.matched
    }

    /// Adds the instruction at `start` and all that it leads to without a character.
    fn follow(&self, start: usize, threads: &mut Threads, before: Option<char>, after: Option<char>) {
        let mut todo = vec![start];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut threads.seen[at], true) {
                continue;
            }
            threads.touched.push(at);
            match &self.program[at] {
                Inst::One(_) => threads.list.push(at),
                Inst::Both(a, b) => todo.extend([*a, *b]),
                Inst::Match => threads.matched = true,
                Inst::At(place) => {
                    let edge = is_word(before) != is_word(after);
                    let right = match place {
                        Place::Begin => before.is_none(),
                        Place::End => after.is_none(),
                        Place::WordEdge => edge,
                        Place::NoWordEdge => !edge,
                    };
                    if right {
                        todo.push(at + 1);
                    }
                }
            }
        }
    }
}

/// The first instruction behind all jumps and their targets: from there on, the program is a plain sequence.
fn target_behind_loops(program: &[Inst]) -> usize {
    let ends = program.iter().enumerate().filter_map(|(at, inst)| match inst {
        Inst::Both(a, b) => Some((at + 1).max(*a).max(*b)),
        _ => None,
    });
    ends.max().unwrap_or(0)
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[derive(Debug)]
struct Threads {
    list: Vec<usize>,
    seen: Vec<bool>,
    touched: Vec<usize>,
    matched: bool,
}

impl Threads {
    fn new(len: usize) -> Threads {
        Threads { list: Vec::new(), seen: vec![false; len], touched: Vec::new(), matched: false }
    }

    fn clear(&mut self) {
        for at in self.touched.drain(..) {
            self.seen[at] = false;
        }
        self.list.clear();
        self.matched = false;
    }
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    program: Vec<Inst>,
}

/// What an escape stands for.
enum Escape {
    Char(char),
    Ranges(bool, &'static [(char, char)]),
    At(Place),
    Quote,
}

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

const NAMED: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\u{7f}')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

impl Parser<'_> {
    fn all(&mut self) -> Option<()> {
        while let Some(c) = self.chars.next() {
            let set = match c {
                '^' => {
                    self.program.push(Inst::At(Place::Begin));
                    continue;
                }
                '$' => {
                    self.program.push(Inst::At(Place::End));
                    continue;
                }
                '(' => {
                    self.optional_directories()?;
                    continue;
                }
                '.' => Set::NotLineFeed,
                '[' => self.class()?,
                '\\' => match self.escape()? {
                    Escape::Char(c) => Set::Is(c),
                    Escape::Ranges(negated, ranges) => Set::Ranges(negated, ranges.to_vec()),
                    Escape::At(place) => {
                        self.program.push(Inst::At(place));
                        continue;
                    }
                    Escape::Quote => {
                        self.quoted();
                        continue;
                    }
                },
                '*' | '?' | '+' | ')' | '{' | '|' => return None,
                c => Set::Is(c),
            };
            if self.chars.next_if_eq(&'*').is_some() {
                self.repeat(set);
            } else {
                self.program.push(Inst::One(set));
            }
        }
        Some(())
    }

    fn repeat(&mut self, set: Set) {
        let at = self.program.len();
        self.program.extend([Inst::Both(at + 1, at + 3), Inst::One(set), Inst::Both(at, at)]);
    }

    /// `(.*/)?`, from behind its first bracket.
    fn optional_directories(&mut self) -> Option<()> {
        for wanted in ".*/)?".chars() {
            self.chars.next_if_eq(&wanted)?;
        }
        let at = self.program.len();
        // The choice, three instructions for `.*`, one for the slash.
        self.program.push(Inst::Both(at + 1, at + 5));
        self.repeat(Set::NotLineFeed);
        self.program.push(Inst::One(Set::Is('/')));
        Some(())
    }

    /// The rest of a `\Q`, up to `\E` or the end.
    fn quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            if c == '\\' && self.chars.next_if_eq(&'E').is_some() {
                return;
            }
            self.program.push(Inst::One(Set::Is(c)));
        }
    }

    fn escape(&mut self) -> Option<Escape> {
        let c = *self.chars.peek()?;
        let special = match c {
            'd' | 'D' => Escape::Ranges(c == 'D', DIGIT),
            's' | 'S' => Escape::Ranges(c == 'S', SPACE),
            'w' | 'W' => Escape::Ranges(c == 'W', WORD),
            'A' => Escape::At(Place::Begin),
            'z' => Escape::At(Place::End),
            'b' => Escape::At(Place::WordEdge),
            'B' => Escape::At(Place::NoWordEdge),
            'Q' => Escape::Quote,
            _ => return self.escaped_char().map(Escape::Char),
        };
        self.chars.next();
        Some(special)
    }

    /// The character that an escape stands for, from behind the backslash.
    fn escaped_char(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        match c {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => {
                let high = self.chars.next()?.to_digit(16)?;
                let low = self.chars.next()?.to_digit(16)?;
                char::from_u32(16 * high + low)
            }
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                // One digit alone, but for 0, would be a reference to a group.
                if c != '0' && !self.chars.peek().is_some_and(|c| c.is_digit(8)) {
                    return None;
                }
                for _ in 0..2 {
                    let Some(digit) = self.chars.next_if(|c| c.is_digit(8)) else { break };
                    code = 8 * code + digit.to_digit(8)?;
                }
                char::from_u32(code)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        }
    }

    /// A class, from behind its bracket.
    fn class(&mut self) -> Option<Set> {
        let negated = self.chars.next_if_eq(&'^').is_some();
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        loop {
            let c = *self.chars.peek()?;
            if c == ']' && !first {
                self.chars.next();
                return Some(Set::Ranges(negated, ranges));
            }
            first = false;
            if c == '[' && self.named_class(&mut ranges)? {
                continue;
            }
            if c == '\\' {
                let mut ahead = self.chars.clone();
                ahead.next();
                let set = match ahead.next()? {
                    'd' => Some((false, DIGIT)),
                    'D' => Some((true, DIGIT)),
                    's' => Some((false, SPACE)),
                    'S' => Some((true, SPACE)),
                    'w' => Some((false, WORD)),
                    'W' => Some((true, WORD)),
                    _ => None,
                };
                if let Some((negated, set)) = set {
                    self.chars = ahead;
                    add(&mut ranges, negated, set);
                    continue;
                }
            }
            let low = self.class_char()?;
            let mut ahead = self.chars.clone();
            let high = match (ahead.next(), ahead.peek()) {
                // A bracket behind the dash makes it an ordinary character.
                (Some('-'), Some(&after)) if after != ']' => {
                    self.chars.next();
                    self.class_char()?
                }
                _ => low,
            };
            if high < low {
                return None;
            }
            ranges.push((low, high));
        }
    }

    fn class_char(&mut self) -> Option<char> {
        match self.chars.next()? {
            '\\' => self.escaped_char(),
            c => Some(c),
        }
    }

    /// `[:name:]` or `[:^name:]` within a class; `Some(false)` if there is none, `None` if the name is unknown.
    fn named_class(&mut self, ranges: &mut Vec<(char, char)>) -> Option<bool> {
        let mut ahead = self.chars.clone();
        ahead.next();
        if ahead.next() != Some(':') {
            return Some(false);
        }
        let mut name = String::new();
        loop {
            match ahead.next() {
                None => return Some(false),
                Some(':') if ahead.next_if_eq(&']').is_some() => break,
                Some(c) => name.push(c),
            }
        }
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name.as_str()),
        };
        let (_, set) = NAMED.iter().find(|(known, _)| *known == name)?;
        add(ranges, negated, set);
        self.chars = ahead;
        Some(true)
    }
}

/// Adds the ranges of a set, which are in order, or what lies between them.
fn add(ranges: &mut Vec<(char, char)>, negated: bool, set: &[(char, char)]) {
    if !negated {
        ranges.extend(set);
        return;
    }
    let neighbour =
        |c: char, step: i64| u32::try_from(i64::from(u32::from(c)) + step).ok().and_then(char::from_u32);
    let mut low = Some('\0');
    for (from, to) in set {
        if let (Some(low), Some(high)) = (low, neighbour(*from, -1))
            && low <= high
        {
            ranges.push((low, high));
        }
        low = neighbour(*to, 1);
    }
    ranges.extend(low.map(|low| (low, char::MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(regex: &str, text: &str) -> bool {
        Regex::new(regex).unwrap_or_else(|| panic!("{regex} compiles")).matches(text)
    }

    #[test]
    fn translations_of_ordinary_patterns() {
        assert!(matches("^[^/]*\\.go$", "a.go") && !matches("^[^/]*\\.go$", "a/b.go"));
        assert!(matches("^a(.*/)?b$", "ab") && matches("^a(.*/)?b$", "a/x/y/b"));
        assert!(!matches("^a(.*/)?b$", "axb"));
        assert!(matches("^(.*/)?x.*$", "a/xy/z") && !matches("^(.*/)?x$", "a/xy"));
        assert!(matches("^[^/]*$", "ab") && !matches("^[^/]*$", "a/b"));
        assert!(matches("^a[^/]b$", "a☺b") && !matches("^a[^/]b$", "a/b"));
    }

    #[test]
    fn classes() {
        for (regex, yes, no) in [
            ("^[a-c]$", "b", "d"),
            ("^[^a-c]$", "d", "b"),
            ("^[[:alpha:]]$", "x", "1"),
            ("^[[:^alpha:]]$", "1", "x"),
            ("^[\\d_]$", "5", "x"),
            ("^[\\D]$", "x", "5"),
            ("^[a-]$", "-", "b"),
            ("^[\\]a]$", "]", "b"),
            ("^[[^/]]$", "[]", "a]"),
            ("^[[^/]*]$", "/^[]", "a]"),
            ("^[(.*/)?]$", "*", "a"),
        ] {
            assert!(matches(regex, yes), "{regex} {yes}");
            assert!(!matches(regex, no), "{regex} {no}");
        }
    }

    #[test]
    fn escapes() {
        for (regex, yes, no) in [
            ("^a\\d$", "a5", "ad"),
            ("^\\x41\\101$", "AA", "x41101"),
            ("^a\\b$", "a", "ab"),
            ("^a\\B.$", "ab", "a."),
            ("^\\Qa\\*\\Eb$", "a\\*b", "ab"),
            ("^\\.\\t$", ".\t", "x\t"),
        ] {
            assert!(matches(regex, yes), "{regex} {yes}");
            assert!(!matches(regex, no), "{regex} {no}");
        }
        for bad in ["^\\e$", "^\\1$", "^\\xZ1$", "^[z-a]$", "^[[:x:]]$", "^[a", "^\\pL$", "^\\é$", "^[\\b]$"]
        {
            assert_eq!(Regex::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_every_match_begins_and_ends_with() {
        let regex = Regex::new("^ab[^/]*\\.c$").expect("valid");
        assert_eq!((regex.prefix.as_str(), regex.suffix.as_str()), ("ab", ".c"));
        let regex = Regex::new("^a(.*/)?b$").expect("valid");
        assert_eq!((regex.prefix.as_str(), regex.suffix.as_str()), ("a", "b"));
        let regex = Regex::new("^[^/]*a[^/]*$").expect("valid");
        assert_eq!((regex.prefix.as_str(), regex.suffix.as_str()), ("", ""));
    }

    #[test]
    fn hostile_patterns_take_no_exponential_time() {
        let regex = format!("^{}b$", "a(.*/)?[^/]*".repeat(200));
        assert!(!matches(&regex, &format!("{}b", "a/".repeat(150))));
    }
}
