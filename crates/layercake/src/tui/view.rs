//! What of the paths is on the screen: directories open and closed, filter, hidden kinds of change, order, cursor.
//!
//! Rows are numbers of paths, and only those of open directories are listed: what a frame costs depends on its height, and what a key
//! costs on the number of paths, once, in one pass.

use super::compare::{Change, Compare};
use super::pattern::Pattern;
use super::stack::{NodeId, ROOT, Stack};

/// Order of the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The largest first.
    Size,
    /// By name.
    Name,
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) node: NodeId,
    /// Bit n: the ancestor n levels below the root has another one after it (a line goes on).
    pub(crate) lines: u64,
    /// Nothing comes after it in its directory.
    pub(crate) last: bool,
}

/// Kinds of change that may be hidden, as dive has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hidden {
    pub(crate) added: bool,
    pub(crate) removed: bool,
    pub(crate) modified: bool,
    pub(crate) unmodified: bool,
}

impl Hidden {
    /// Whether a change is hidden.
    pub(crate) fn hides(self, change: Change) -> bool {
        match change {
            Change::Absent => true,
            Change::Added => self.added,
            Change::Removed => self.removed,
            Change::Modified | Change::Metadata => self.modified,
            Change::Unmodified => self.unmodified,
        }
    }
}

/// A path that was searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) node: NodeId,
    /// Its number among all matches, from 1.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) of: usize,
}

/// What a path amounts to under the filter.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    bytes: u64,
    visible: bool,
}

/// The tree on the screen.
#[derive(Debug)]
pub(crate) struct FileView {
    compare: Compare,
    /// By node: whether the directory is open.
    open: Vec<bool>,
    amounts: Vec<Amount>,
    rows: Vec<Row>,
    hidden: Hidden,
    filter: Option<Pattern>,
    order: Order,
    cursor: usize,
}

impl FileView {
    /// A view of a comparison: the root's content and what lies in directories that are alone.
    pub(crate) fn new(stack: &Stack, compare: Compare) -> FileView {
        let mut view = FileView {
            compare,
            open: vec![false; stack.len()],
            amounts: Vec::new(),
            rows: Vec::new(),
            hidden: Hidden::default(),
            filter: None,
            order: Order::Size,
            cursor: 0,
        };
        view.open[ROOT as usize] = true;
        view.refresh(stack);
        view
    }

    /// The rows, from the top of the tree.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row under the cursor.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// The path under the cursor.
    pub(crate) fn selected(&self) -> Option<NodeId> {
        self.rows.get(self.cursor).map(|r| r.node)
    }

    /// What is compared.
    pub(crate) fn compare(&self) -> &Compare {
        &self.compare
    }

    /// Bytes of a path; of a directory, of everything below it that is not filtered or hidden.
    pub(crate) fn bytes(&self, node: NodeId) -> u64 {
        self.amounts[node as usize].bytes
    }

    /// Whether a directory is open.
    pub(crate) fn is_open(&self, node: NodeId) -> bool {
        self.open[node as usize]
    }

    /// The order of rows.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// What is hidden.
    pub(crate) fn hidden(&self) -> Hidden {
        self.hidden
    }

    /// The filter, as it was written.
    pub(crate) fn filter(&self) -> Option<&Pattern> {
        self.filter.as_ref()
    }

    /// Shows another comparison; open directories and the cursor's path stay.
    pub(crate) fn set_compare(&mut self, stack: &Stack, compare: Compare) {
        self.compare = compare;
        self.refresh(stack);
    }

    /// Changes what is hidden.
    pub(crate) fn set_hidden(&mut self, stack: &Stack, hidden: Hidden) {
        self.hidden = hidden;
        self.refresh(stack);
    }

    /// Shows only paths that match (their directories, too), or all again.
    pub(crate) fn set_filter(&mut self, stack: &Stack, filter: Option<Pattern>) {
        self.filter = filter;
        self.refresh(stack);
    }

    /// Changes the order.
    pub(crate) fn set_order(&mut self, stack: &Stack, order: Order) {
        self.order = order;
        self.list(stack);
    }

    /// Opens or closes the directory under the cursor.
    pub(crate) fn toggle(&mut self, stack: &Stack) {
        if let Some(node) = self.selected() {
            self.open[node as usize] = !self.open[node as usize];
            self.list(stack);
        }
    }

    /// Opens a directory.
    pub(crate) fn open(&mut self, stack: &Stack, node: NodeId) {
        self.open[node as usize] = true;
        self.list(stack);
    }

    /// The only thing in a directory, if that is a directory with content.
    pub(crate) fn only_child(&self, stack: &Stack, node: NodeId) -> Option<NodeId> {
        let mut all = stack.children(node).filter(|c| self.amounts[*c as usize].visible);
        let only = all.next()?;
        (all.next().is_none() && self.has_content(stack, only)).then_some(only)
    }

    /// Opens directories from the top until about `most` rows are there.
    pub(crate) fn open_few(&mut self, stack: &Stack, most: usize) {
        let mut level = vec![ROOT];
        while !level.is_empty() && self.rows.len() < most {
            level.iter().for_each(|&n| self.open[n as usize] = true);
            self.list(stack);
            let inner = level.iter().flat_map(|&n| stack.children(n));
            level =
                inner.filter(|&n| self.amounts[n as usize].visible && self.has_content(stack, n)).collect();
        }
    }

    /// Closes all directories if any is open, else opens all.
    pub(crate) fn toggle_all(&mut self, stack: &Stack) {
        let open = !self.open.iter().skip(1).any(|o| *o);
        self.open.iter_mut().skip(1).for_each(|o| *o = open);
        if let Some(node) = self.selected().filter(|_| !open) {
            // The cursor goes to what is left of its path.
            let mut at = node;
            while stack.parent(at) != ROOT {
                at = stack.parent(at);
            }
            self.list(stack);
            self.go_to(at);
        } else {
            self.list(stack);
        }
    }

    /// Left: closes the directory, or goes to the one that this is in.
    pub(crate) fn left(&mut self, stack: &Stack) {
        let Some(node) = self.selected() else { return };
        if self.open[node as usize] && self.has_content(stack, node) {
            self.toggle(stack);
        } else if stack.parent(node) != ROOT {
            self.go_to(stack.parent(node));
        }
    }

    /// Right: opens the directory, or goes to its first entry.
    pub(crate) fn right(&mut self, stack: &Stack) {
        let Some(node) = self.selected().filter(|&n| self.has_content(stack, n)) else { return };
        if self.open[node as usize] {
            self.cursor = (self.cursor + 1).min(self.rows.len().saturating_sub(1));
        } else {
            self.toggle(stack);
        }
    }

    /// Moves the cursor by rows; it stops at the ends.
    pub(crate) fn move_by(&mut self, rows: isize) {
        self.cursor = self.cursor.saturating_add_signed(rows).min(self.rows.len().saturating_sub(1));
    }

    /// Puts the cursor on a row.
    pub(crate) fn put(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
    }

    fn go_to(&mut self, node: NodeId) -> bool {
        let found = self.rows.iter().position(|r| r.node == node);
        self.cursor = found.unwrap_or(self.cursor);
        found.is_some()
    }

    /// Opens the directories on the way to a path and puts the cursor there; false if filter or hidden changes keep it away.
    pub(crate) fn reveal(&mut self, stack: &Stack, node: NodeId) -> bool {
        if !self.amounts[node as usize].visible {
            return false;
        }
        let mut at = node;
        while at != ROOT {
            at = stack.parent(at);
            self.open[at as usize] = true;
        }
        self.list(stack);
        self.go_to(node)
    }

    /// The next path after the cursor (or before it) that matches, in the order of the screen with all directories open; round the end.
    /// Gives its number among all matches (from 1) and theirs.
    pub(crate) fn search(
        &self,
        stack: &Stack,
        pattern: &Pattern,
        back: bool,
        from_here: bool,
    ) -> Option<Hit> {
        let mut all: Vec<Row> = Vec::new();
        self.walk(stack, |_| true, &mut all);
        let by_path = pattern.text().contains('/');
        let hit = |node: NodeId| {
            if by_path { pattern.is_match(&stack.path(node)) } else { pattern.is_match(stack.name(node)) }
        };
        let matches: Vec<usize> = (0..all.len()).filter(|&n| hit(all[n].node)).collect();
        let here = self.selected().and_then(|s| all.iter().position(|r| r.node == s)).unwrap_or(0);
        let at = if back {
            matches.partition_point(|&m| m < here).checked_sub(1).unwrap_or(matches.len().saturating_sub(1))
        } else {
            let after = matches.partition_point(|&m| if from_here { m < here } else { m <= here });
            if after < matches.len() { after } else { 0 }
        };
        let node = all[*matches.get(at)?].node;
        Some(Hit { node, number: at + 1, of: matches.len() })
    }

    /// Whether anything visible lies in a path.
    pub(crate) fn has_content(&self, stack: &Stack, node: NodeId) -> bool {
        stack.children(node).any(|c| self.amounts[c as usize].visible)
    }

    /// Adds everything up anew, and lists the rows.
    fn refresh(&mut self, stack: &Stack) {
        let mut amounts = vec![Amount::default(); stack.len()];
        // The path of the node before, and where its components end: paths grow and shrink with the walk.
        let mut path = vec![b'/'];
        let mut ends = vec![0];
        for id in 1..stack.len() as NodeId {
            let cell = self.compare.cell(id);
            if self.filter.is_some() {
                ends.truncate(stack.depth(id));
                path.truncate(ends.last().copied().unwrap_or(0));
                path.push(b'/');
                path.extend_from_slice(stack.name(id));
                ends.push(path.len());
            }
            if cell.change == Change::Absent {
                continue;
            }
            let leaf = cell.shown().is_some_and(|s| !stack.is_dir(s));
            // A directory shows itself when something in it does; an empty one like a file.
            let own = leaf || !stack.children(id).any(|c| self.compare.cell(c).change != Change::Absent);
            let matched = match &self.filter {
                None => true,
                Some(filter) => filter.is_match(&path),
            };
            let visible = own && matched && !self.hidden.hides(cell.change);
            amounts[id as usize] =
                Amount { bytes: cell.shown().filter(|_| visible).map_or(0, |s| stack.size(s)), visible };
        }
        for id in (1..stack.len()).rev() {
            let Amount { bytes, visible } = amounts[id];
            let parent = stack.parent(id as NodeId);
            let gone = self.compare.cell(id as NodeId).change == Change::Removed
                && self.compare.cell(parent).change != Change::Removed;
            let above = &mut amounts[parent as usize];
            above.visible |= visible;
            // What was removed counts only for what was removed with it.
            above.bytes += if gone { 0 } else { bytes };
        }
        self.amounts = amounts;
        self.list(stack);
    }

    /// Lists the rows of open directories. The cursor stays on its path, or on the nearest one that is left.
    fn list(&mut self, stack: &Stack) {
        let before = self.selected();
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        self.walk(stack, |n| self.open[n as usize], &mut rows);
        self.rows = rows;
        let mut at = before;
        while let Some(node) = at {
            if self.go_to(node) {
                return;
            }
            at = Some(stack.parent(node)).filter(|&n| n != ROOT && n != node);
        }
        self.put(self.cursor);
    }

    /// Rows of the root's content and of all directories that are open.
    fn walk(&self, stack: &Stack, open: impl Fn(NodeId) -> bool, rows: &mut Vec<Row>) {
        // Directories to list, the innermost last: their entries, the last of them first.
        let mut todo: Vec<Row> = Vec::new();
        let mut next = Some((ROOT, 0u64));
        loop {
            if let Some((dir, lines)) = next.take() {
                let mut entries: Vec<NodeId> =
                    stack.children(dir).filter(|c| self.amounts[*c as usize].visible).collect();
                if self.order == Order::Size {
                    // By name among equals: the sort is stable and the input is sorted.
                    entries.sort_by_key(|c| std::cmp::Reverse(self.amounts[*c as usize].bytes));
                }
                let count = entries.len();
                let row = |(n, node)| Row { node, lines, last: n + 1 == count };
                todo.extend(entries.into_iter().enumerate().rev().map(row));
            }
            let Some(row) = todo.pop() else { break };
            rows.push(row);
            if open(row.node) {
                let bit = 1u64.checked_shl(stack.depth(row.node) as u32 - 1).unwrap_or(0);
                next = Some((row.node, if row.last { row.lines } else { row.lines | bit }));
            }
        }
    }
}
