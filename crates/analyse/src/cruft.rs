//! The cruft database: what package managers and builds leave behind. The rules are data (`cruft.rules`, which says what a rule is), each with
//! examples that are tested.
//!
//! All paths of an image are matched in one walk over their tree: a node hands the positions that the patterns have reached on to its
//! children, so a path costs the few patterns that are still possible there, not all of them.

use std::sync::OnceLock;

use crate::glob::{Part, fits, parts};
use crate::image::NodeId;
use crate::paths::ROOT;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Who makes such files.
    pub manager: &'static str,
    /// Whether they can be left out without asking.
    pub safe: bool,
    /// What to change.
    pub advice: &'static str,
    /// Where a cache mount would keep them out of the image.
    pub mount: Option<&'static str>,
    /// Paths that it is about.
    pub examples: Vec<&'static str>,
    /// Paths that it is not about.
    pub counters: Vec<&'static str>,
    patterns: Vec<Pattern>,
    exceptions: Vec<Pattern>,
}

type Pattern = Vec<Part>;

/// All rules, in the order of the file.
pub fn rules() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| parse(include_str!("cruft.rules")))
}

/// A rule by its number.
pub fn rule(number: u16) -> Option<&'static Rule> {
    rules().get(usize::from(number))
}

fn parse(text: &'static str) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            out.push(Rule {
                name,
                manager: "",
                safe: false,
                advice: "",
                mount: None,
                examples: Vec::new(),
                counters: Vec::new(),
                patterns: Vec::new(),
                exceptions: Vec::new(),
            });
            continue;
        }
        let (Some(rule), Some((key, value))) = (out.last_mut(), line.split_once(" = ")) else { continue };
        match key {
            "manager" => rule.manager = value,
            "safe" => rule.safe = value == "yes",
            "advice" => rule.advice = value,
            "mount" => rule.mount = Some(value),
            "example" => rule.examples.push(value),
            "counter" => rule.counters.push(value),
            "path" => rule.patterns.extend(patterns(value)),
            "not" => rule.exceptions.extend(patterns(value)),
            _ => {}
        }
    }
    out
}

fn patterns(text: &str) -> Vec<Pattern> {
    match text.strip_prefix("~/") {
        Some(rest) => ["root", "home/*"].iter().map(|home| parts(&format!("{home}/{rest}"))).collect(),
        None => vec![parts(text)],
    }
}

/// How far a pattern has come: rule, pattern in it, part; exceptions are counted behind the patterns.
type State = (u16, u16, u16);

fn pattern(rule: &Rule, number: u16) -> &Pattern {
    let n = usize::from(number);
    rule.patterns.get(n).unwrap_or_else(|| &rule.exceptions[n - rule.patterns.len()])
}

fn start() -> Vec<State> {
    let mut out = Vec::new();
    for (r, rule) in rules().iter().enumerate() {
        for p in 0..rule.patterns.len() + rule.exceptions.len() {
            out.push((r as u16, p as u16, 0));
        }
    }
    out
}

/// Goes one name further: the states below it, and the rule that the name itself fits.
fn step(states: &[State], name: &[u8]) -> (Vec<State>, Option<u16>) {
    let mut next: Vec<State> = Vec::new();
    let mut found: Vec<u16> = Vec::new();
    let mut except: Vec<u16> = Vec::new();
    let mut push = |s: State| {
        if !next.contains(&s) {
            next.push(s);
        }
    };
    for &(r, p, at) in states {
        let rule = &rules()[usize::from(r)];
        let pattern = pattern(rule, p);
        let is_exception = usize::from(p) >= rule.patterns.len();
        let mut at = usize::from(at);
        let mut hit = false;
        // `**` stays where it is, and also stands for nothing.
        while pattern.get(at) == Some(&Part::Any) {
            push((r, p, at as u16));
            hit |= at + 1 == pattern.len();
            at += 1;
        }
        if let Some(Part::Name(n)) = pattern.get(at)
            && fits(n, name)
        {
            if at + 1 == pattern.len() {
                hit = true;
            } else {
                push((r, p, at as u16 + 1));
            }
        }
        if hit {
            if is_exception { except.push(r) } else { found.push(r) }
        }
    }
    let best = found.into_iter().filter(|r| !except.contains(r)).min();
    (next, best)
}

/// The rule that a path fits, if any.
pub fn of_path(path: &[u8]) -> Option<u16> {
    let mut states = start();
    let mut found = None;
    for name in crate::paths::components(path) {
        (states, found) = step(&states, name);
    }
    found
}

/// No rule.
pub(crate) const NO_RULE: u16 = u16::MAX;

/// For every node of a tree of names the rule that its path fits, or [`NO_RULE`]. `children` gives the nodes in a directory.
pub(crate) fn of_tree<'a>(
    count: usize,
    children: &dyn Fn(NodeId) -> &'a [NodeId],
    name: &dyn Fn(NodeId) -> &'a [u8],
) -> Vec<u16> {
    let mut out = vec![NO_RULE; count];
    let mut todo: Vec<(NodeId, std::rc::Rc<Vec<State>>)> = vec![(ROOT, std::rc::Rc::new(start()))];
    while let Some((dir, states)) = todo.pop() {
        for &child in children(dir) {
            let (next, found) = step(&states, name(child));
            if let Some(slot) = out.get_mut(child.index()) {
                *slot = found.unwrap_or(NO_RULE);
            }
            if !next.is_empty() && !children(child).is_empty() {
                todo.push((child, std::rc::Rc::new(next)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_whole_and_its_examples_hold() {
        assert!(rules().len() > 30);
        let mut names = std::collections::HashSet::new();
        for (n, rule) in rules().iter().enumerate() {
            let n = n as u16;
            assert!(names.insert(rule.name), "{} is there twice", rule.name);
            assert!(!rule.manager.is_empty() && !rule.advice.is_empty(), "{}", rule.name);
            assert!(!rule.examples.is_empty() && !rule.counters.is_empty(), "{}", rule.name);
            for e in &rule.examples {
                let got = of_path(e.as_bytes());
                assert_eq!(got, Some(n), "{}: {e} is {:?}", rule.name, got.and_then(super::rule));
            }
            for c in &rule.counters {
                assert_ne!(of_path(c.as_bytes()), Some(n), "{}: {c}", rule.name);
            }
        }
    }

    #[test]
    fn every_line_of_the_file_is_read() {
        let keys = ["manager", "safe", "path", "not", "advice", "mount", "example", "counter"];
        for line in include_str!("cruft.rules").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let known = line.starts_with('[') || keys.iter().any(|k| line.starts_with(&format!("{k} = ")));
            assert!(known, "{line}");
        }
    }
}
