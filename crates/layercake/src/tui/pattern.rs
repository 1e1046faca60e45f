//! Patterns over paths: the common part of regular expressions (RE2's, which dive takes).
//!
//! ```text
//! alternatives  a|b          groups ( ) (?: )      any byte .
//! repeats       * + ? {n} {n,} {n,m}, each also lazy (the same here: only whether something matches is asked)
//! classes       [a-z] [^a-z] \d \D \w \W \s \S     anchors ^ $      (?i) at the beginning: case does not matter
//! ```
//!
//! Without a capital letter in the pattern, case does not matter either. Matching takes time linear in text and pattern: all states
//! are followed at once, nothing is tried and taken back. Patterns work on bytes, since names are bytes.

/// States that a pattern may have; counted repeats multiply.
const MAX_STATES: usize = 4000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ast {
    Empty,
    Set(Box<[bool; 256]>),
    Start,
    End,
    Sequence(Vec<Ast>),
    Either(Vec<Ast>),
    Repeat(Box<Ast>, u32, Option<u32>),
}

#[derive(Debug, Clone)]
enum State {
    Set(Box<[bool; 256]>),
    Split(usize, usize),
    Jump(usize),
    Start,
    End,
    Match,
}

/// A pattern, ready to be matched.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    /// The pattern is this text and nothing else.
    literal: Option<Vec<u8>>,
    fold: bool,
    states: Vec<State>,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadPattern(pub(crate) &'static str);

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Pattern, BadPattern> {
        let (body, fold) = match text.strip_prefix("(?i)") {
            Some(body) => (body, true),
            None => (text, !text.bytes().any(|b| b.is_ascii_uppercase())),
        };
        if !body.bytes().any(|b| b"\\.+*?()|[]{}^$".contains(&b)) {
            let literal = if fold { body.to_ascii_lowercase() } else { body.to_owned() }.into_bytes();
            return Ok(Pattern { text: text.to_owned(), literal: Some(literal), fold, states: Vec::new() });
        }
        let mut parser = Parser { bytes: body.as_bytes(), at: 0, fold, depth: 0 };
        let ast = parser.either()?;
        if parser.at < parser.bytes.len() {
            return Err(BadPattern("a ) without its ("));
        }
        let mut states = Vec::new();
        compile(&ast, &mut states)?;
        states.push(State::Match);
        Ok(Pattern { text: text.to_owned(), literal: None, fold, states })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is found anywhere in the text.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        match &self.literal {
            Some(literal) if self.fold => {
                literal.is_empty() || text.windows(literal.len()).any(|w| w.eq_ignore_ascii_case(literal))
            }
            Some(literal) => literal.is_empty() || text.windows(literal.len()).any(|w| w == literal),
            None => self.run(text),
        }
    }

    fn run(&self, text: &[u8]) -> bool {
        let mut now = Active::new(self.states.len());
        let mut next = Active::new(self.states.len());
        for at in 0..=text.len() {
            if self.add(&mut now, 0, at, text.len()) {
                return true;
            }
            let Some(&byte) = text.get(at) else { break };
            next.clear();
            for i in 0..now.list.len() {
                let s = now.list[i];
                if let State::Set(set) = &self.states[s]
                    && set[usize::from(byte)]
                    && self.add(&mut next, s + 1, at + 1, text.len())
                {
                    return true;
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        false
    }

    /// Adds a state and everything that it leads to without a byte; true if that is the end.
    fn add(&self, active: &mut Active, first: usize, at: usize, len: usize) -> bool {
        let mut todo = vec![first];
        while let Some(s) = todo.pop() {
            if std::mem::replace(&mut active.there[s], true) {
                continue;
            }
            active.list.push(s);
            match self.states[s] {
                State::Match => return true,
                State::Jump(to) => todo.push(to),
                State::Split(a, b) => todo.extend([b, a]),
                State::Start if at == 0 => todo.push(s + 1),
                State::End if at == len => todo.push(s + 1),
                State::Start | State::End | State::Set(_) => {}
            }
        }
        false
    }
}

struct Active {
    list: Vec<usize>,
    there: Vec<bool>,
}

impl Active {
    fn new(states: usize) -> Active {
        Active { list: Vec::new(), there: vec![false; states] }
    }

    fn clear(&mut self) {
        for s in self.list.drain(..) {
            self.there[s] = false;
        }
    }
}

fn compile(ast: &Ast, out: &mut Vec<State>) -> Result<(), BadPattern> {
    if out.len() > MAX_STATES {
        return Err(BadPattern("too long"));
    }
    match ast {
        Ast::Empty => {}
        Ast::Set(set) => out.push(State::Set(set.clone())),
        Ast::Start => out.push(State::Start),
        Ast::End => out.push(State::End),
        Ast::Sequence(all) => all.iter().try_for_each(|a| compile(a, out))?,
        Ast::Either(all) => {
            let mut ends = Vec::new();
            for (n, a) in all.iter().enumerate() {
                let split = out.len();
                if n + 1 < all.len() {
                    out.push(State::Split(split + 1, 0));
                }
                compile(a, out)?;
                if n + 1 < all.len() {
                    ends.push(out.len());
                    out.push(State::Jump(0));
                    out[split] = State::Split(split + 1, out.len());
                }
            }
            let end = out.len();
            ends.into_iter().for_each(|e| out[e] = State::Jump(end));
        }
        Ast::Repeat(inner, least, most) => {
            for _ in 0..*least {
                compile(inner, out)?;
            }
            match most {
                None => {
                    let split = out.len();
                    out.push(State::Split(split + 1, 0));
                    compile(inner, out)?;
                    out.push(State::Jump(split));
                    out[split] = State::Split(split + 1, out.len());
                }
                Some(most) => {
                    let mut splits = Vec::new();
                    for _ in *least..*most {
                        splits.push(out.len());
                        out.push(State::Split(out.len() + 1, 0));
                        compile(inner, out)?;
                    }
                    let end = out.len();
                    splits.into_iter().for_each(|s| out[s] = State::Split(s + 1, end));
                }
            }
        }
    }
    Ok(())
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    fold: bool,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn either(&mut self) -> Result<Ast, BadPattern> {
        let mut all = vec![self.sequence()?];
        while self.eat(b'|') {
            all.push(self.sequence()?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Ast::Either(all) })
    }

    fn sequence(&mut self) -> Result<Ast, BadPattern> {
        let mut all = Vec::new();
        while let Some(b) = self.peek().filter(|b| !matches!(b, b'|' | b')')) {
            self.at += 1;
            let atom = self.atom(b)?;
            all.push(self.repeats(atom)?);
        }
        Ok(Ast::Sequence(all))
    }

    fn atom(&mut self, b: u8) -> Result<Ast, BadPattern> {
        Ok(match b {
            b'.' => Ast::Set(Box::new([true; 256])),
            b'^' => Ast::Start,
            b'$' => Ast::End,
            b'(' => {
                if self.eat(b'?') && !self.eat(b':') {
                    return Err(BadPattern("only (?: ) and (?i) at the beginning are known of (? )"));
                }
                self.depth += 1;
                if self.depth > 50 {
                    return Err(BadPattern("too deep"));
                }
                let inner = self.either()?;
                self.depth -= 1;
                if !self.eat(b')') {
                    return Err(BadPattern("a ( without its )"));
                }
                if inner == Ast::Sequence(Vec::new()) { Ast::Empty } else { inner }
            }
            b'[' => self.class()?,
            b'\\' => self.set(|p, set| {
                let b = p.escaped()?;
                p.put_escaped(b, set);
                Ok(())
            })?,
            b'*' | b'+' | b'?' => return Err(BadPattern("a repeat of nothing")),
            b => self.set(|_, set| {
                set[usize::from(b)] = true;
                Ok(())
            })?,
        })
    }

    fn set(
        &mut self,
        fill: impl FnOnce(&mut Self, &mut [bool; 256]) -> Result<(), BadPattern>,
    ) -> Result<Ast, BadPattern> {
        let mut set = Box::new([false; 256]);
        fill(self, &mut set)?;
        self.fold(&mut set);
        Ok(Ast::Set(set))
    }

    fn fold(&self, set: &mut [bool; 256]) {
        if self.fold {
            for (a, b) in (b'a'..=b'z').zip(b'A'..=b'Z') {
                let either = set[usize::from(a)] || set[usize::from(b)];
                (set[usize::from(a)], set[usize::from(b)]) = (either, either);
            }
        }
    }

    fn escaped(&mut self) -> Result<u8, BadPattern> {
        let b = self.peek().ok_or(BadPattern("a \\ at the end"))?;
        self.at += 1;
        match b {
            b if !b.is_ascii_alphanumeric() || b"dDwWsSnt".contains(&b) => Ok(b),
            _ => Err(BadPattern("an unknown escape")),
        }
    }

    fn put_escaped(&self, b: u8, set: &mut [bool; 256]) {
        let (test, not): (fn(u8) -> bool, bool) = match b {
            b'd' | b'D' => (|b| b.is_ascii_digit(), b == b'D'),
            b'w' | b'W' => (|b| b.is_ascii_alphanumeric() || b == b'_', b == b'W'),
            b's' | b'S' => (|b| b.is_ascii_whitespace(), b == b'S'),
            b'n' => (|b| b == b'\n', false),
            b't' => (|b| b == b'\t', false),
            b => return set[usize::from(b)] = true,
        };
        for b in 0..=255u8 {
            set[usize::from(b)] |= test(b) != not;
        }
    }

    fn class(&mut self) -> Result<Ast, BadPattern> {
        let not = self.eat(b'^');
        let mut set = Box::new([false; 256]);
        let mut first = true;
        loop {
            let b = self.peek().ok_or(BadPattern("a [ without its ]"))?;
            self.at += 1;
            if b == b']' && !first {
                break;
            }
            first = false;
            let low = if b == b'\\' { self.escaped()? } else { b };
            if b == b'\\' && low.is_ascii_alphabetic() {
                self.put_escaped(low, &mut set);
                continue;
            }
            let range = self.peek() == Some(b'-') && self.bytes.get(self.at + 1).is_some_and(|&b| b != b']');
            let high = if range {
                self.at += 1;
                let b = self.peek().unwrap_or(low);
                self.at += 1;
                if b == b'\\' { self.escaped()? } else { b }
            } else {
                low
            };
            if high < low {
                return Err(BadPattern("a range that ends before it begins"));
            }
            (low..=high).for_each(|b| set[usize::from(b)] = true);
        }
        self.fold(&mut set);
        if not {
            set.iter_mut().for_each(|b| *b = !*b);
        }
        Ok(Ast::Set(set))
    }

    fn repeats(&mut self, mut atom: Ast) -> Result<Ast, BadPattern> {
        while let Some(b) = self.peek() {
            let (least, most) = match b {
                b'*' => (0, None),
                b'+' => (1, None),
                b'?' => (0, Some(1)),
                b'{' => match self.counts()? {
                    Some(counts) => counts,
                    None => return Ok(atom),
                },
                _ => break,
            };
            if b != b'{' {
                self.at += 1;
            }
            self.eat(b'?');
            atom = Ast::Repeat(Box::new(atom), least, most);
        }
        Ok(atom)
    }

    /// `{n}`, `{n,}`, `{n,m}`. Anything else in braces is an error: it was hardly meant literally.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, BadPattern> {
        let bad = BadPattern("{ } holds no count");
        let rest = &self.bytes[self.at + 1..];
        let end = rest.iter().position(|&b| b == b'}').ok_or(bad.clone())?;
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| bad.clone())?;
        let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n <= 1000).ok_or(bad.clone());
        let counts = match text.split_once(',') {
            None => number(text).map(|n| (n, Some(n)))?,
            Some((n, "")) => (number(n)?, None),
            Some((n, m)) => (number(n)?, Some(number(m)?)),
        };
        if counts.1.is_some_and(|most| most < counts.0) {
            return Err(bad);
        }
        self.at += end + 2;
        Ok(Some(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, yes, no) in [
            ("lib", "/usr/lib/x", "/usr/bin"),
            ("LIB", "/LIB", "/lib"),
            ("lib", "/LIB", "/l"),
            (r"\.py[co]?$", "/a/b.pyc", "/a/b.pyx"),
            (r"^/usr/(lib|bin)/[a-c]+$", "/usr/bin/abc", "/usr/bin/abd"),
            (r"a{2,3}b", "xaab", "xab"),
            (r"^a{2}$", "aa", "aaa"),
            (r"^[^/]*/[^/]*$", "/etc", "/etc/x"),
            (r"(?i)README", "/readme.md", "/red"),
            (r"x|^$", "", "y"),
            (r"^(?:ab)*c", "ababc", "abac"),
            (r"\d+\w\s", "12a ", "1 2"),
            (r"[]]", "]", "["),
            ("", "anything", "\u{0}never"),
        ] {
            assert!(matches(pattern, yes), "{pattern} matches {yes}");
            assert!(pattern.is_empty() || !matches(pattern, no), "{pattern} does not match {no}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for pattern in ["(", ")", "[a", "*", r"\", "a{x}", "a{2,1}", "(?P<x>a)", "[z-a]", r"\q"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::new("((a{900}){900}){900}").is_err(), "bounded");
        assert!(Pattern::new(&"(".repeat(100_000)).is_err(), "bounded depth");
    }

    #[test]
    fn no_pattern_is_slow() {
        // Backtracking would need 2^60 steps here.
        assert!(!matches(&format!("{}b", "(a*)*".repeat(20)), &"a".repeat(3000)));
    }
}
