//! Whether what a run learned still holds on a tree.
//!
//! Nothing is opened for it: a tree answers from its indexes. What it costs is mostly the hashing of attributes, so a long list is
//! checked in parts, by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use oci::Tree;
use oci::index::show;
use oci::tree::{Id, ROOT};

use super::{Difference, Fact, Fingerprint, Observation, Observed, attributes, listing};

/// Facts for which another thread pays: checking so many takes ten times as long as starting one.
const PART: usize = 4096;

/// Gives what a file at a path means now.
type Meaning<'a> = &'a (dyn Fn(&[u8], Id) -> Option<Fingerprint> + Sync);

/// The first observation that does not hold on `tree`, if any. `meaning` is asked what a file at a path means now where its content is
/// another one.
pub fn first_difference(tree: &Tree, view: &Observed, meaning: Meaning<'_>) -> Option<Difference> {
    if tree.has_acls() != view.acls {
        return Some(Difference::other("whether its files have access control lists"));
    }
    let (o, how) = in_parts(&view.facts, &|facts| {
        let mut at = Cursor::new(tree);
        facts.iter().enumerate().find_map(|(n, o)| Some((n, at.differs(o, meaning)?)))
    })?;
    Some(Difference { view: 0, path: show(&o.path), how: how.to_owned() })
}

/// Looks for the first of some facts that does not hold: its number among them, and how.
type Look<'a> = dyn Fn(&[Observation]) -> Option<(usize, &'static str)> + Sync + 'a;

/// What `first` finds first in `facts`, where it may be given any part of them.
fn in_parts<'o>(facts: &'o [Observation], first: &Look<'_>) -> Option<(&'o Observation, &'static str)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = (facts.len() / PART).clamp(1, threads);
    let size = facts.len().div_ceil(parts).max(1);
    // The part in which the first one known so far lies: whoever comes after it need not look.
    let best = AtomicUsize::new(usize::MAX);
    let look = |n: usize, part: &'o [Observation]| {
        if best.load(Ordering::Relaxed) < n {
            return None;
        }
        let (at, how) = first(part)?;
        best.fetch_min(n, Ordering::Relaxed);
        Some((&part[at], how))
    };
    if parts == 1 {
        return look(0, facts);
    }
    std::thread::scope(|scope| {
        let (head, tail) = facts.split_at(size);
        let others: Vec<_> =
            tail.chunks(size).enumerate().map(|(n, part)| scope.spawn(move || look(n + 1, part))).collect();
        let mine = look(0, head);
        // In their order: the first one wins, whoever was faster.
        let theirs = others.into_iter().filter_map(|t| match t.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        mine.into_iter().chain(theirs).next()
    })
}

/// A place in a tree that moves along sorted paths: neighbours share most of theirs, so a path costs one or two look-ups by name, however
/// deep it lies.
struct Cursor<'t, 'o> {
    tree: &'t Tree,
    /// The path that was sought last.
    path: &'o [u8],
    /// Of each of its components that was found: where it ends in `path`, and its inode.
    found: Vec<(usize, Id)>,
}

impl<'t, 'o> Cursor<'t, 'o> {
    fn new(tree: &'t Tree) -> Cursor<'t, 'o> {
        Cursor { tree, path: b"", found: Vec::new() }
    }

    /// The inode at exactly this path, and that of its directory.
    fn find(&mut self, path: &'o [u8]) -> (Option<Id>, Option<Id>) {
        let shared = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        let whole = |end: usize| end <= shared && path.get(end).is_none_or(|&c| c == b'/');
        while self.found.last().is_some_and(|(end, _)| !whole(*end)) {
            self.found.pop();
        }
        self.path = path;
        let mut at = self.found.last().map_or(0, |(end, _)| *end);
        loop {
            while path.get(at) == Some(&b'/') {
                at += 1;
            }
            if at == path.len() {
                break;
            }
            let end = path[at..].iter().position(|&c| c == b'/').map_or(path.len(), |n| at + n);
            let dir = self.found.last().map_or(ROOT, |(_, id)| *id);
            match self.tree.child(dir, &path[at..end]) {
                Some(id) => self.found.push((end, id)),
                None => return (None, (end == path.len()).then_some(dir)),
            }
            at = end;
        }
        match &self.found[..] {
            [] => (Some(ROOT), None),
            [(_, id)] => (Some(*id), Some(ROOT)),
            [.., (_, dir), (_, id)] => (Some(*id), Some(*dir)),
        }
    }

    /// What about an observation is otherwise here.
    fn differs(&mut self, o: &'o Observation, meaning: Meaning<'_>) -> Option<&'static str> {
        let tree = self.tree;
        let (id, dir) = self.find(&o.path);
        match (&o.fact, id) {
            // The directory must still be one: a look-up below a file is another answer.
            (Fact::Absent, None) => match dir {
                Some(d) if tree.inode(d).is_dir() => None,
                _ => Some("its directory is gone"),
            },
            (Fact::Absent, Some(_)) => Some("is new"),
            (_, None) => Some("is gone"),
            (Fact::SameFile(other), Some(id)) => {
                (tree.lookup(other) != Some(id)).then_some("is another file than its hard link")
            }
            (Fact::Attributes(p), Some(id)) => {
                (attributes(tree, id, false) != *p).then_some("attributes changed")
            }
            (Fact::Link(p), Some(id)) => (attributes(tree, id, false) != *p).then_some("leads elsewhere"),
            (Fact::Content(p), Some(id)) => (attributes(tree, id, true) != *p).then_some("content changed"),
            (Fact::Meaning { exact, meaning: old }, Some(id)) => {
                let same = attributes(tree, id, true) == *exact || meaning(&o.path, id) == Some(*old);
                (!same).then_some("content changed")
            }
            (Fact::Listing(p), Some(id)) => {
                let same = tree.inode(id).is_dir() && listing(tree, id) == *p;
                (!same).then_some("names in it changed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oci::index::Attrs;
    use oci::{Digest, Entry, Kind, LayerIndex};

    use super::*;

    fn tree(paths: &[String]) -> Tree {
        let entries = paths.iter().map(|p| Entry {
            path: p.clone().into_bytes(),
            kind: Kind::File { size: 1, digest: Digest::of(b"x") },
            attrs: Attrs { mode: 0o644, ..Attrs::default() },
        });
        Tree::from_layers([&LayerIndex::from_entries(entries.collect()).unwrap()]).unwrap()
    }

    #[test]
    fn a_cursor_finds_what_a_lookup_finds() {
        let paths: Vec<String> =
            ["a", "ab/c", "ab/cd/e", "ab/cd/ef", "b/b/b", "b/bb"].iter().map(|p| (*p).to_owned()).collect();
        let tree = tree(&paths);
        let sought: Vec<&[u8]> = [
            "", "a", "a/x", "aa", "ab", "ab/c", "ab/c/d", "ab/cd", "ab/cd/e", "ab/cd/ef", "ab/cdd", "b",
            "b/b", "b/b/b", "b/b/bb", "b/bb", "c/d/e",
        ]
        .iter()
        .map(|p| p.as_bytes())
        .collect();
        // In any order, since what is kept of the last path must never mislead.
        for first in &sought {
            for second in &sought {
                let mut at = Cursor::new(&tree);
                at.find(first);
                let (id, dir) = at.find(second);
                let name = String::from_utf8_lossy(second);
                assert_eq!(id, tree.lookup(second), "{name}");
                let parent = second.iter().rposition(|&c| c == b'/').map_or(&b""[..], |n| &second[..n]);
                let expected = (!second.is_empty()).then(|| tree.lookup(parent)).flatten();
                assert_eq!(dir, expected, "directory of {name}");
            }
        }
    }

    #[test]
    fn of_several_parts_the_first_difference_counts() {
        let paths: Vec<String> = (0..PART * 4).map(|n| format!("d{:03}/f{n:06}", n / 100)).collect();
        let before = tree(&paths);
        let facts: Vec<Observation> = paths
            .iter()
            .map(|p| {
                let id = before.lookup(p.as_bytes()).unwrap();
                Observation { path: p.clone().into(), fact: Fact::Content(attributes(&before, id, true)) }
            })
            .collect();
        let view = Observed { acls: false, facts };
        assert_eq!(first_difference(&before, &view, &|_, _| None), None);
        for gone in [0, 17, PART, PART * 3 + 5, PART * 4 - 1] {
            let mut left = paths.clone();
            // The last one is always gone, too.
            left.remove(PART * 4 - 1);
            if gone < left.len() {
                left.remove(gone);
            }
            let found = first_difference(&tree(&left), &view, &|_, _| None).unwrap();
            assert_eq!(found.path, format!("/{}", paths[gone]));
            assert_eq!(found.how, "is gone");
        }
    }
}
