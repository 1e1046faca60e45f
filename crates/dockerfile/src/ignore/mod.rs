//! `.dockerignore`: its lines, and which paths they exclude.
//!
//! Lines: a `#` in the first column makes a comment; white space around a pattern is dropped; `!` in front negates
//! it; then the path is cleaned as by Go's `filepath.Clean`, and a leading slash is dropped.
//!
//! Patterns are anchored at the root. `*` and `?` do not match `/`; `**` matches any number of directories; classes
//! and backslashes have the meaning that Go's regular expressions give them. A pattern that matches a directory
//! matches all below. The last pattern that matches a path decides.
//!
//! There are two ways to ask, which differ in rare cases with negations, as they do in moby/patternmatcher:
//! [`Matcher::matches`] looks at the path and all its parents for every pattern that could change the outcome;
//! [`Matcher::matches_below`] builds on the parent's outcome, and is what decides about a build context.
//!
//! One difference: a pattern that is no valid regular expression (`[z-a]`, `a\e`) is an error at once, not only
//! when a path gets as far as it.
//!
//! Source: moby/patternmatcher, patternmatcher.go and ignorefile/ignorefile.go.

mod regex;

use crate::glob;
use regex::Regex;

/// The patterns in the text of a `.dockerignore`, cleaned.
pub fn read_patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let patterns = text.split('\n').filter(|line| !line.starts_with('#')).filter_map(|line| {
        let line = line.trim();
        let (negation, path) = match line.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None if line.is_empty() => return None,
            None => ("", line),
        };
        if path.is_empty() {
            return Some(negation.to_owned());
        }
        let path = clean(path);
        let path = if path.len() > 1 { path.strip_prefix('/').unwrap_or(&path) } else { &path };
        Some(format!("{negation}{path}"))
    });
    patterns.collect()
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `!` and nothing else.
    #[error("a lone ! is no pattern")]
    Empty,
    /// The pattern is malformed.
    #[error("bad pattern {pattern}: {reason}")]
    Bad {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Patterns against which paths can be matched.
#[derive(Debug, Clone)]
pub struct Matcher {
    patterns: Vec<Pattern>,
    negations: bool,
}

/// Which patterns matched a directory or one of its parents; the default is for the root of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentMatches(Vec<bool>);

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// The path is the pattern.
    Exact,
    /// The path begins with this.
    Prefix(String),
    /// The path ends with this, or is this without its slash.
    Suffix(String),
    Regex(Box<Regex>),
}

impl Matcher {
    /// Reads patterns as [`read_patterns`] gives them, or as `--exclude` has them.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Matcher, PatternError> {
        let mut out = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let text = pattern.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let cleaned = clean(text);
            let (negated, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(PatternError::Empty),
                Some(text) => (true, text),
                None => (false, cleaned.as_str()),
            };
            let bad = |reason| PatternError::Bad { pattern: text.to_owned(), reason };
            if glob::matches(text, ".").is_err() {
                return Err(bad("a character class is not closed or is empty, or a backslash ends it"));
            }
            let test = Test::new(text).ok_or_else(|| bad("a backslash or a range has no meaning"))?;
            out.push(Pattern { text: text.to_owned(), negated, test });
        }
        let negations = out.iter().any(|p| p.negated);
        Ok(Matcher { patterns: out, negations })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern is negated.
    pub fn has_negations(&self) -> bool {
        self.negations
    }

    /// The patterns without `!`, and whether they had one.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, bool)> {
        self.patterns.iter().map(|p| (p.text.as_str(), p.negated))
    }

    /// Whether `path`, relative and with slashes, is excluded, by itself or through a parent.
    pub fn matches(&self, path: &str) -> bool {
        let parent = parent(path);
        let mut excluded = false;
        for pattern in &self.patterns {
            // A pattern that could only confirm the outcome is not looked at.
            if pattern.negated == excluded && (pattern.matches(path) || pattern.matches_parent(&parent)) {
                excluded = !pattern.negated;
            }
        }
        excluded
    }

    /// Whether `path` is excluded, given what matched its parent; and what to give for its own entries.
    ///
    /// `parent` is what was returned for the directory that holds `path`, or the default for entries of the root
    /// (and for any path whose parents were not asked for).
    pub fn matches_below(&self, path: &str, parent: &ParentMatches) -> (bool, ParentMatches) {
        let directory = if parent.0.is_empty() { self::parent(path) } else { None };
        let mut excluded = false;
        let mut own = vec![false; self.patterns.len()];
        for (i, pattern) in self.patterns.iter().enumerate() {
            let mut found = parent.0.get(i).copied().unwrap_or_default();
            if !found {
                if pattern.negated != excluded {
                    continue;
                }
                found = pattern.matches(path) || pattern.matches_parent(&directory);
            }
            own[i] = found;
            if found {
                excluded = !pattern.negated;
            }
        }
        (excluded, ParentMatches(own))
    }

    /// Whether a walk may leave out the entries of directory `path`, which was found excluded.
    ///
    /// It may not if a negated pattern could match below. The answer is careful: with wildcards in the first
    /// part of a negated pattern it is always no.
    pub fn may_skip_dir(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.patterns.iter().filter(|p| p.negated).all(|pattern| {
            match pattern.text.find(['*', '?', '[', '\\', '^']) {
                None => !pattern.text.starts_with(&directory),
                Some(at) => {
                    let literal = &pattern.text[..at];
                    !literal.starts_with(&directory) && !directory.starts_with(literal)
                }
            }
        })
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.test {
            Test::Exact => path == self.text,
            Test::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Test::Suffix(suffix) => path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path),
            Test::Regex(regex) => regex.matches(path),
        }
    }

    /// Whether one of the directories on the way to and including `directory` matches.
    fn matches_parent(&self, directory: &Option<String>) -> bool {
        let Some(directory) = directory else { return false };
        directory.match_indices('/').any(|(at, _)| self.matches(&directory[..at])) || self.matches(directory)
    }
}

impl Test {
    /// How to test for `pattern`; `None` if the regular expression for it is not valid.
    fn new(pattern: &str) -> Option<Test> {
        #[derive(PartialEq)]
        enum Kind {
            Exact,
            Prefix,
            Suffix,
            Regex,
        }
        let mut kind = Kind::Exact;
        let mut regex = String::from("^");
        let mut chars = pattern.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    // `**/` is as `**`.
                    chars.next_if_eq(&'/');
                    if chars.peek().is_some() {
                        regex.push_str("(.*/)?");
                        kind = Kind::Regex;
                    } else if kind == Kind::Exact {
                        kind = Kind::Prefix;
                    } else {
                        regex.push_str(".*");
                        kind = Kind::Regex;
                    }
                    if first {
                        kind = Kind::Suffix;
                    }
                }
                '*' => {
                    regex.push_str("[^/]*");
                    kind = Kind::Regex;
                }
                '?' => {
                    regex.push_str("[^/]");
                    kind = Kind::Regex;
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    regex.push('\\');
                    regex.push(c);
                }
                '\\' => {
                    regex.push('\\');
                    if let Some(next) = chars.next() {
                        regex.push(next);
                        kind = Kind::Regex;
                    }
                }
                '[' | ']' => {
                    regex.push(c);
                    kind = Kind::Regex;
                }
                _ => regex.push(c),
            }
            first = false;
        }
        Some(match kind {
            Kind::Exact => Test::Exact,
            Kind::Prefix => Test::Prefix(pattern.strip_suffix("**").unwrap_or(pattern).to_owned()),
            Kind::Suffix => Test::Suffix(pattern.strip_prefix("**").unwrap_or(pattern).to_owned()),
            Kind::Regex => {
                regex.push('$');
                Test::Regex(Box::new(Regex::new(&regex)?))
            }
        })
    }
}

/// The cleaned directory of `path`; `None` for the root.
fn parent(path: &str) -> Option<String> {
    let at = path.rfind('/')?;
    let directory = clean(&path[..=at]);
    (directory != ".").then_some(directory)
}

/// The shortest form of a path, as Go's `filepath.Clean` gives it.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(patterns: &[&str]) -> Matcher {
        Matcher::new(patterns).unwrap_or_else(|e| panic!("{patterns:?}: {e}"))
    }

    #[test]
    fn lines_are_cleaned() {
        let text = "\u{feff}# c\n #b\n\n/a/b/../c/\r\n! /d\n!\n./\n/\n  x y  \n!!z\n../q";
        assert_eq!(read_patterns(text), ["#b", "a/c", "!d", "!", ".", "/", "x y", "!!z", "../q"]);
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("*.go", "a.go", true),
            ("*.go", "a/b.go", false),
            ("**/*.go", "a/b.go", true),
            ("**", "a/b", true),
            ("**/", "a", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a**b", "axb", false),
            ("a**b", "ax/b", true),
            ("**/node_modules", "x/node_modules/y", true),
            ("**/node_modules", "xnode_modules", false),
            ("**file", "dir/my_file", true),
            ("a.b", "axb", false),
            ("a|)$(}+{b", "a|)$(}+{b", true),
            ("a?c", "a☺c", true),
            ("[a-c]x", "bx", true),
            ("a\\*", "a*", true),
            ("a^b", "a^b", true),
            ("/a", "a", false),
        ] {
            assert_eq!(matcher(&[pattern]).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let some = matcher(&["**", "!keep", "keep/not"]);
        let found = ["a", "keep", "keep/x", "keep/not", "keep/not/x"].map(|path| some.matches(path));
        assert_eq!(found, [true, false, false, true, true]);
        assert!(some.has_negations() && !matcher(&["a"]).has_negations());
    }

    #[test]
    fn errors() {
        let error = |pattern: &str| Matcher::new(&[pattern]).err();
        assert_eq!(error("!"), Some(PatternError::Empty));
        for bad in ["a[", "[-x]", "a\\", "[z-a]", "a\\e*"] {
            assert!(matches!(error(bad), Some(PatternError::Bad { .. })), "{bad}");
        }
        assert!(matcher(&["", "  "]).is_empty());
    }

    #[test]
    fn walking_down() {
        let some = matcher(&["a/*", "!a/b", "a/b/c", "**/*.o"]);
        let root = ParentMatches::default();
        let (a, below_a) = some.matches_below("a", &root);
        let (b, below_b) = some.matches_below("a/b", &below_a);
        let (c, below_c) = some.matches_below("a/b/c", &below_b);
        let (d, _) = some.matches_below("a/b/c/d", &below_c);
        let (e, _) = some.matches_below("a/b/e.o", &below_b);
        let (f, _) = some.matches_below("a/b/e", &below_b);
        assert_eq!([a, b, c, d, e, f], [false, false, true, true, true, false]);
        // Without knowledge of the parents they are looked at.
        assert!(some.matches_below("a/b/c/d", &root).0);
    }

    #[test]
    fn the_two_ways_differ_where_they_do_upstream() {
        let some = matcher(&["*/c", "!p"]);
        let (_, below) = some.matches_below("p", &ParentMatches::default());
        assert!(some.matches_below("p/c", &below).0);
        assert!(!some.matches("p/c"));
    }

    #[test]
    fn directories_that_a_walk_may_skip() {
        let some = matcher(&["a", "!a/b/c", "!x*/y"]);
        assert_eq!(
            ["a", "a/b", "a/b/c", "a/d", "xx", "b", "a/b/c2"].map(|dir| some.may_skip_dir(dir)),
            [false, false, true, true, false, true, true]
        );
        assert!(!matcher(&["a", "!**/x"]).may_skip_dir("a"));
        assert!(matcher(&["a"]).may_skip_dir("a"));
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/..", "a/b"),
            ("/..", "/"),
            ("../../a", "../../a"),
            ("a/../..", ".."),
            ("//a/", "/a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
