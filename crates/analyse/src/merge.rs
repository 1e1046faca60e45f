//! The layers of an image laid over each other in one pass, with everything that happens to every path.
//!
//! # Rules
//!
//! Those of [`oci::Tree`], which says where they come from: what a layer hides (whiteouts, opaque directories) is hidden before anything of the layer
//! is put down; links to files of the layers below take them as they were then; a directory over a directory keeps the content; anything
//! else replaces; an entry below a symbolic link lands where the link leads inside of the image. A test compares the two on random stacks.
//!
//! # Cost
//!
//! Every entry, every whiteout, and every path that is hidden is touched once: directories keep a list of the names that are there *now*, so a whiteout
//! of a directory walks what it hides and nothing else.
//!
//! # Runs
//!
//! A file that ends in a layer and whose content the same layer brings again is the same file in a new place: at the same path if only
//! its attributes changed ([`Again::Attributes`]), at another if it was moved ([`Again::Moved`]). Each has at most one follower. What
//! a byte of it is charged for is decided in [`crate::account`].

use std::collections::HashMap;

use crate::image::{ContentId, Entry, EntryId, Kind, Link, NO_EVENT, NodeId, Texts, What};
use crate::load::LoadError;
use crate::paths::{Paths, ROOT, components};

/// Symbolic links that a resolution follows at most (Linux: 40).
const MAX_LINKS: usize = 40;

const NONE: u32 = u32::MAX;
/// A directory that no layer has an entry for.
const IMPLIED: u32 = u32::MAX - 1;

/// Why a content is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// At the same path: mode, owner, times or attributes changed.
    Attributes,
    /// At another path.
    Moved,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// The layer in which its last name went away.
    pub(crate) ended: u32,
    /// The entry that took its path then.
    pub(crate) replaced_by: EntryId,
    /// The entry of that layer that brings its content again.
    pub(crate) next: EntryId,
    /// The entry whose content this one brings again, and why.
    pub(crate) previous: EntryId,
    pub(crate) again: Option<Again>,
}

pub(crate) const ALIVE: u32 = NONE;

impl Default for Fate {
    fn default() -> Fate {
        Fate {
            ended: ALIVE,
            replaced_by: EntryId::NONE,
            next: EntryId::NONE,
            previous: EntryId::NONE,
            again: None,
        }
    }
}

/// What the pass found.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) events: Vec<Link>,
    pub(crate) last: Vec<u32>,
    pub(crate) fates: Vec<Fate>,
    /// For every entry the one that holds its inode.
    pub(crate) holders: Vec<u32>,
    /// For every node the entry that it is in the end; [`ABSENT`] and above: none.
    pub(crate) now: Vec<u32>,
}

/// Numbers from here on are no entries.
pub(crate) const ABSENT: u32 = IMPLIED;

/// Merges; sets the [`Entry::place`] of every entry. `ranges` are the layers' entries.
pub(crate) fn merge(
    paths: &mut Paths,
    entries: &mut [Entry],
    texts: &Texts,
    ranges: &[(u32, u32)],
) -> Result<Merged, LoadError> {
    let count = entries.len();
    let mut m = Merger {
        paths,
        entries,
        texts,
        layer: 0,
        now: Vec::new(),
        first_live: Vec::new(),
        next_live: Vec::new(),
        before_live: Vec::new(),
        stamp: Vec::new(),
        inode: vec![NONE; count],
        names: vec![0; count],
        events: Vec::with_capacity(count + count / 8),
        last: Vec::new(),
        fates: vec![Fate::default(); count],
        died: Vec::new(),
    };
    m.room();
    m.now[ROOT.index()] = IMPLIED;
    for (n, &range) in ranges.iter().enumerate() {
        m.layer = n as u32;
        m.apply(range)?;
        m.settle(range);
    }
    m.room();
    Ok(Merged { events: m.events, last: m.last, fates: m.fates, holders: m.inode, now: m.now })
}

struct Merger<'a> {
    paths: &'a mut Paths,
    entries: &'a mut [Entry],
    texts: &'a Texts,
    layer: u32,
    /// For every path the entry that it is now, or `NONE`, or `IMPLIED`.
    now: Vec<u32>,
    /// The names that are there now in a directory, as a doubly linked list.
    first_live: Vec<u32>,
    next_live: Vec<u32>,
    before_live: Vec<u32>,
    /// The last layer (plus one) that had an entry with this path.
    stamp: Vec<u32>,
    /// For every entry the one that holds its inode: itself, but for hard links.
    inode: Vec<u32>,
    /// For every entry that holds an inode: its names.
    names: Vec<u32>,
    events: Vec<Link>,
    last: Vec<u32>,
    fates: Vec<Fate>,
    /// Inodes that lost their last name in this layer, with that name.
    died: Vec<(u32, NodeId)>,
}

impl Merger<'_> {
    /// Makes room for paths that are new.
    fn room(&mut self) {
        let n = self.paths.len();
        self.now.resize(n, NONE);
        self.first_live.resize(n, NONE);
        self.next_live.resize(n, NONE);
        self.before_live.resize(n, NONE);
        self.stamp.resize(n, 0);
        self.last.resize(n, NO_EVENT);
    }

    fn event(&mut self, node: NodeId, what: What) {
        let link = Link { layer: self.layer, what, before: self.last[node.index()] };
        self.last[node.index()] = self.events.len() as u32;
        self.events.push(link);
    }

    fn is_dir(&self, node: NodeId) -> bool {
        match self.now[node.index()] {
            NONE => false,
            IMPLIED => true,
            e => matches!(self.entries[e as usize].kind, Kind::Directory { .. }),
        }
    }

    fn symlink(&self, node: NodeId) -> Option<u32> {
        match self.now[node.index()] {
            NONE | IMPLIED => None,
            // A hard link to a symbolic link is one, too.
            e => match self.entries[self.inode[e as usize] as usize].kind {
                Kind::Symlink { target } => Some(target),
                _ => None,
            },
        }
    }

    /// Puts a name into its directory's list.
    fn appear(&mut self, node: NodeId, now: u32) {
        if self.now[node.index()] == NONE && node != ROOT {
            let dir = self.paths.parent(node).index();
            let head = self.first_live[dir];
            self.next_live[node.index()] = head;
            self.before_live[node.index()] = NONE;
            if head != NONE {
                self.before_live[head as usize] = node.0;
            }
            self.first_live[dir] = node.0;
        }
        self.now[node.index()] = now;
    }

    /// Takes a name and what lies below it away. The name itself gets no event if it is about to be replaced.
    fn vanish(&mut self, node: NodeId, replaced: bool) {
        let what = if replaced { None } else { Some(What::Deleted) };
        self.take(node, what);
        let mut todo = vec![self.first_live[node.index()]];
        self.first_live[node.index()] = NONE;
        self.below(&mut todo, node);
    }

    /// Takes away everything in a directory.
    fn empty(&mut self, dir: NodeId) {
        let mut todo = vec![self.first_live[dir.index()]];
        self.first_live[dir.index()] = NONE;
        self.below(&mut todo, dir);
    }

    /// Takes away whole lists of names, with what lies below them.
    fn below(&mut self, todo: &mut Vec<u32>, top: NodeId) {
        while let Some(mut at) = todo.pop() {
            while at != NONE {
                let next = self.next_live[at as usize];
                let node = NodeId(at);
                // Out of the list as a whole: only this node's own state is left to clear.
                self.forget(node, Some(What::DeletedWith(top)));
                let inner = std::mem::replace(&mut self.first_live[at as usize], NONE);
                if inner != NONE {
                    todo.push(inner);
                }
                at = next;
            }
        }
    }

    /// Takes a name out of its directory's list.
    fn take(&mut self, node: NodeId, what: Option<What>) {
        let (before, next) = (self.before_live[node.index()], self.next_live[node.index()]);
        if before == NONE {
            let dir = self.paths.parent(node).index();
            self.first_live[dir] = next;
        } else {
            self.next_live[before as usize] = next;
        }
        if next != NONE {
            self.before_live[next as usize] = before;
        }
        self.forget(node, what);
    }

    fn forget(&mut self, node: NodeId, what: Option<What>) {
        let now = std::mem::replace(&mut self.now[node.index()], NONE);
        self.next_live[node.index()] = NONE;
        self.before_live[node.index()] = NONE;
        if let Some(what) = what {
            self.event(node, what);
        }
        if now != NONE && now != IMPLIED {
            self.drop_name(now, node);
        }
    }

    /// One name less of what an entry leads to.
    fn drop_name(&mut self, entry: u32, node: NodeId) {
        let holder = self.inode[entry as usize];
        let Some(names) = self.names.get_mut(holder as usize) else { return };
        *names = names.saturating_sub(1);
        if *names == 0 {
            self.fates[holder as usize].ended = self.layer;
            self.died.push((holder, node));
        }
    }

    /// Where a path leads: the nodes of its parts, links of directories followed; `None` if some part is not there.
    fn lower(&mut self, node: NodeId) -> Result<Option<NodeId>, LoadError> {
        // Most of the time it is there by its own name: then all above it is a directory.
        if self.now[node.index()] != NONE {
            return Ok(Some(node));
        }
        if node == ROOT {
            return Ok(Some(ROOT));
        }
        let parent = self.paths.parent(node);
        if self.is_dir(parent) {
            return Ok(None);
        }
        let Some(dir) = self.resolve(parent, false)? else { return Ok(None) };
        let name = self.paths.name(node).to_vec();
        let found = self.paths.child(dir, &name);
        Ok(found.filter(|n| self.now[n.index()] != NONE))
    }

    /// The directory that a path leads to, all links followed. With `make`, what is missing is made.
    fn resolve(&mut self, path: NodeId, make: bool) -> Result<Option<NodeId>, LoadError> {
        if self.is_dir(path) {
            return Ok(Some(path));
        }
        let whole = self.paths.path(path);
        let mut todo: Vec<Vec<u8>> = components(&whole).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut at = ROOT;
        let mut links = 0;
        // Parts that do not exist: nothing but their text is known.
        let mut missing: Vec<Vec<u8>> = Vec::new();
        while let Some(part) = todo.pop() {
            if part == b".." {
                if missing.pop().is_none() {
                    at = self.paths.parent(at);
                }
                continue;
            }
            if !missing.is_empty() {
                missing.push(part);
                continue;
            }
            let child = self
                .paths
                .child(at, &part)
                .filter(|n| self.now.get(n.index()).is_some_and(|&now| now != NONE));
            let Some(child) = child else {
                missing.push(part);
                continue;
            };
            if self.is_dir(child) {
                at = child;
                continue;
            }
            let Some(text) = self.symlink(child) else {
                return if make { Err(self.not_a_directory(&whole)) } else { Ok(None) };
            };
            links += 1;
            if links > MAX_LINKS {
                let problem = "leads through too many symbolic links";
                return if make { Err(self.problem(&whole, problem)) } else { Ok(None) };
            }
            let target = self.texts.get(text);
            if target.starts_with(b"/") {
                at = ROOT;
            }
            let parts: Vec<Vec<u8>> = components(target).map(<[u8]>::to_vec).collect();
            todo.extend(parts.into_iter().rev());
        }
        if missing.is_empty() {
            return Ok(Some(at));
        }
        if !make {
            return Ok(None);
        }
        for part in missing {
            at = self.paths.intern(at, &part);
            self.room();
            self.appear(at, IMPLIED);
            self.event(at, What::Implied);
        }
        Ok(Some(at))
    }

    fn problem(&self, path: &[u8], problem: &str) -> LoadError {
        LoadError::Layer {
            layer: self.layer as usize,
            what: format!("{:?} {problem}", oci::index::show(path)),
        }
    }

    fn not_a_directory(&self, path: &[u8]) -> LoadError {
        self.problem(path, "lies below something that is no directory")
    }

    fn apply(&mut self, range: (u32, u32)) -> Result<(), LoadError> {
        let all = range.0..range.1;
        for n in all.clone() {
            let e = self.entries[n as usize];
            self.stamp[e.node.index()] = self.layer + 1;
            match e.kind {
                Kind::Whiteout => {
                    if let Some(node) = self.lower(e.node)?
                        && node != ROOT
                    {
                        self.vanish(node, false);
                    }
                }
                Kind::Directory { opaque: true } => {
                    if let Some(node) = self.lower(e.node)?
                        && self.is_dir(node)
                    {
                        self.empty(node);
                    }
                }
                _ => {}
            }
        }
        // Links to files of the layers below take them as they were before this layer replaced anything.
        let mut lower: HashMap<u32, u32> = HashMap::new();
        for n in all.clone() {
            let e = self.entries[n as usize];
            if let Kind::HardLink { target } = e.kind
                && !e.replaced
            {
                let path = self.texts.get(target);
                let own = self.paths.find(path).filter(|t| self.stamp[t.index()] == self.layer + 1);
                if own.is_none() {
                    let found = self.link_target(e, target)?;
                    // The link's name counts from now on: its target may lose its own in this layer.
                    self.names[found as usize] += 1;
                    lower.insert(n, found);
                }
            }
        }
        let mut dir: (NodeId, NodeId) = (ROOT, ROOT);
        for n in all {
            let e = self.entries[n as usize];
            if e.replaced {
                self.inode[n as usize] = n;
                self.entries[n as usize].place = e.node;
                self.fates[n as usize].ended = self.layer;
                continue;
            }
            match e.kind {
                Kind::Whiteout => continue,
                _ if e.node == ROOT => {
                    self.inode[n as usize] = n;
                    self.now[ROOT.index()] = n;
                    self.event(ROOT, What::Set(EntryId(n)));
                    continue;
                }
                _ => {}
            }
            let parent = self.paths.parent(e.node);
            if dir.0 != parent || !self.is_dir(dir.1) {
                let made = self.resolve(parent, true)?.unwrap_or(ROOT);
                dir = (parent, made);
            }
            let place = if dir.1 == parent {
                e.node
            } else {
                let name = self.paths.name(e.node).to_vec();
                let place = self.paths.intern(dir.1, &name);
                self.room();
                place
            };
            self.entries[n as usize].place = place;
            self.put(n, e, place, lower.get(&n).copied())?;
        }
        Ok(())
    }

    /// The inode that a hard link leads to.
    fn link_target(&mut self, e: Entry, target: u32) -> Result<u32, LoadError> {
        let path = self.texts.get(target).to_vec();
        let found = match self.paths.find(&path) {
            Some(node) => self.lower(node)?,
            None => {
                let node = self.paths.intern_path(&path);
                self.room();
                self.lower(node)?
            }
        };
        let link = self.paths.path(e.node);
        let to = oci::index::show(&path);
        let Some(node) = found else {
            return Err(self.problem(&link, &format!("is a hard link to {to:?}, which is not in the image")));
        };
        match self.now[node.index()] {
            NONE | IMPLIED => Err(self.problem(&link, &format!("is a hard link to the directory {to:?}"))),
            _ if self.is_dir(node) => {
                Err(self.problem(&link, &format!("is a hard link to the directory {to:?}")))
            }
            entry => Ok(self.inode[entry as usize]),
        }
    }

    /// Puts an entry into its place.
    fn put(&mut self, n: u32, e: Entry, place: NodeId, lower: Option<u32>) -> Result<(), LoadError> {
        let there = self.now[place.index()];
        match e.kind {
            Kind::HardLink { target } => {
                let holder = match lower {
                    Some(holder) => holder,
                    None => self.link_target(e, target)?,
                };
                self.inode[n as usize] = holder;
                // The name goes to the link before the old one is dropped, so that no inode ends in between.
                if lower.is_none() {
                    self.names[holder as usize] += 1;
                }
                let same = there != NONE && there != IMPLIED && self.inode[there as usize] == holder;
                if same {
                    self.names[holder as usize] -= 1;
                } else if there != NONE {
                    self.vanish(place, true);
                }
            }
            Kind::Directory { .. } if self.is_dir(place) => {}
            _ => {
                if there != NONE {
                    self.vanish(place, true);
                }
                self.inode[n as usize] = n;
                self.names[n as usize] = 1;
            }
        }
        if matches!(e.kind, Kind::Directory { .. }) {
            self.inode[n as usize] = n;
        }
        self.appear(place, n);
        self.event(place, What::Set(EntryId(n)));
        Ok(())
    }

    /// Says what became of the files that ended in this layer.
    fn settle(&mut self, range: (u32, u32)) {
        let died = std::mem::take(&mut self.died);
        let mut gone: Vec<u32> = Vec::new();
        for (holder, node) in died {
            let Some(content) = self.entries[holder as usize].content() else { continue };
            let now = self.now[node.index()];
            let set = now != NONE && now != IMPLIED && (range.0..range.1).contains(&now);
            if !set {
                gone.push(holder);
                continue;
            }
            self.fates[holder as usize].replaced_by = EntryId(now);
            if self.inode[now as usize] == now
                && self.entries[now as usize].content() == Some(content)
                && self.fates[now as usize].again.is_none()
                && now != holder
            {
                self.follow(holder, now, Again::Attributes);
            }
        }
        if gone.is_empty() {
            return;
        }
        // Which files of this layer have a content that went away in it? First those that kept their name.
        let mut by_name: HashMap<(ContentId, &[u8]), Vec<u32>> = HashMap::new();
        let mut by_content: HashMap<ContentId, Vec<u32>> = HashMap::new();
        for &h in &gone {
            let e = &self.entries[h as usize];
            if let Some(content) = e.content()
                && e.size > 0
            {
                by_name.entry((content, self.paths.name(e.place))).or_default().push(h);
                by_content.entry(content).or_default().push(h);
            }
        }
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut taken: std::collections::HashSet<u32> = std::collections::HashSet::new();
        let mut left: Vec<u32> = Vec::new();
        for n in range.0..range.1 {
            let e = &self.entries[n as usize];
            let Some(content) = e.content() else { continue };
            if e.replaced || self.fates[n as usize].again.is_some() || !by_content.contains_key(&content) {
                continue;
            }
            match by_name.get_mut(&(content, self.paths.name(e.place))).and_then(Vec::pop) {
                Some(h) => {
                    taken.insert(h);
                    pairs.push((h, n));
                }
                None => left.push(n),
            }
        }
        for n in left {
            let Some(content) = self.entries[n as usize].content() else { continue };
            while let Some(h) = by_content.get_mut(&content).and_then(Vec::pop) {
                if taken.insert(h) {
                    pairs.push((h, n));
                    break;
                }
            }
        }
        for (h, n) in pairs {
            self.follow(h, n, Again::Moved);
        }
    }

    fn follow(&mut self, from: u32, to: u32, again: Again) {
        if from == to {
            return;
        }
        self.fates[from as usize].next = EntryId(to);
        self.fates[to as usize].previous = EntryId(from);
        self.fates[to as usize].again = Some(again);
    }
}
