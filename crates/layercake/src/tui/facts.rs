//! What the accounting knows of an image, in the form that the screen needs: by layer, by path, and the list of what to mend.

use std::collections::HashMap;

use analyse::{Cause, Class, EntryId, Image, What};

use super::compare::Change;
use super::stack::{NodeId, Stack, State};
use super::text;

/// A path with bytes that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wasted {
    pub(crate) node: NodeId,
    /// Entries that are charged.
    pub(crate) count: u32,
    pub(crate) bytes: u64,
}

/// Something that could be mended: a cause, in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) bytes: u64,
    /// What it is, in a few words.
    pub(crate) title: String,
    /// What to change.
    pub(crate) advice: String,
    /// The layer that has to change.
    pub(crate) layer: usize,
    /// The base image's, which only who builds that can mend.
    pub(crate) base: bool,
    /// The path with most of it.
    pub(crate) node: Option<NodeId>,
}

/// One line of a path's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) layer: usize,
    pub(crate) change: Change,
    /// What happened, in words.
    pub(crate) what: String,
    /// Bytes of the file from then on.
    pub(crate) size: Option<u64>,
    /// What the layer's bytes are charged with.
    pub(crate) cause: Option<Cause>,
}

/// What happened to a path, layer by layer.
pub(crate) fn history(stack: &Stack, node: NodeId) -> Vec<Past> {
    let image = stack.image();
    let mut before: Option<State> = None;
    let mut out = Vec::new();
    for event in image.history(stack.own(node)) {
        let after = match event.what {
            What::Set(id) => Some(State::Entry(id)),
            What::Implied => Some(State::Implied),
            What::Deleted | What::DeletedWith(_) => None,
        };
        let change = super::compare::between(stack, before, after);
        let what = match (event.what, change) {
            (What::Deleted, _) => "deleted".to_owned(),
            (What::DeletedWith(dir), _) => {
                format!("deleted with {}", text::name(&stack.path(stack.place(dir))))
            }
            (What::Implied, _) => "there, without an entry of its own".to_owned(),
            (_, Change::Added) => "added".to_owned(),
            (_, Change::Modified) => "replaced".to_owned(),
            (What::Set(id), Change::Metadata) => {
                format!("{}, content as before", attributes(stack, before, id))
            }
            (_, _) => "as before".to_owned(),
        };
        let entry = match event.what {
            What::Set(id) => Some(id),
            _ => None,
        };
        out.push(Past {
            layer: event.layer,
            change,
            what,
            size: entry.filter(|&id| image.entry(id).is_file()).map(|id| image.entry(id).size),
            cause: entry.and_then(|id| image.accounts().charge(id)).map(|c| c.cause),
        });
        before = after;
    }
    out
}

/// Which attributes an entry changed.
fn attributes(stack: &Stack, before: Option<State>, after: EntryId) -> String {
    let Some(a) = before.and_then(|s| stack.entry(s)) else { return "written again".to_owned() };
    let b = stack.image().entry(after);
    let mut words = Vec::new();
    if a.mode != b.mode {
        words.push(format!("mode {:o} to {:o}", a.mode, b.mode));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        words.push(format!("owner {}:{} to {}:{}", a.uid, a.gid, b.uid, b.gid));
    }
    if stack.image().xattrs(a) != stack.image().xattrs(b) {
        words.push("xattrs".to_owned());
    }
    match words.is_empty() {
        true if a.mtime != b.mtime => "new time".to_owned(),
        true => "written again".to_owned(),
        false => words.join(", "),
    }
}

/// Paths with dead bytes, the most first, `most` of them.
pub(crate) fn wasted(stack: &Stack, most: usize) -> Vec<Wasted> {
    let image = stack.image();
    let mut by_node: HashMap<NodeId, Wasted> = HashMap::new();
    for (n, entry) in image.entries().iter().enumerate() {
        let charge = image.accounts().charge(EntryId(n as u32));
        if charge.is_some_and(|c| c.cause.class() == Class::Dead) {
            let node = stack.place(entry.place);
            let w = by_node.entry(node).or_insert(Wasted { node, count: 0, bytes: 0 });
            w.count += 1;
            w.bytes += entry.size;
        }
    }
    let mut out: Vec<Wasted> = by_node.into_values().filter(|w| w.bytes > 0).collect();
    out.sort_by(|a, b| (b.bytes, a.node).cmp(&(a.bytes, b.node)));
    out.truncate(most);
    out
}

/// What could be mended, the most bytes first.
pub(crate) fn findings(stack: &Stack) -> Vec<Finding> {
    let image = stack.image();
    let finding = |f: analyse::Finding| {
        // The largest file, where it lies in the layer's own state; a deleted one is seen in the layer that ships it.
        let node = f.files.first().map(|&id| stack.place(image.entry(id).place));
        Finding {
            bytes: f.sums.bytes,
            title: text::line(&f.title),
            advice: text::line(&f.advice),
            layer: f.layer,
            base: f.owner == analyse::Owner::Base,
            node,
        }
    };
    analyse::findings(image).into_iter().map(finding).collect()
}

/// A cause in a word or two.
pub(crate) fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Overwritten => "overwritten later",
        Cause::Metadata => "only metadata changed",
        Cause::Deleted => "deleted later",
        Cause::Moved => "moved",
        Cause::Duplicate => "duplicate",
        Cause::Cruft => "not needed",
    }
}

/// Bytes charged in a layer, of all causes that are dead weight.
pub(crate) fn dead(image: &Image, layer: usize) -> u64 {
    image.accounts().layers.get(layer).map_or(0, |l| l.class(Class::Dead).bytes)
}
