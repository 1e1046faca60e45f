//! Two stacks of layers and the histories that made them.
//!
//! Layers at the bottom that are the same entry for entry are shared. Those above are paired by their history lines: the longest common
//! sequence of instructions. A pair that is not the same is compared entry by entry, as the layers have them, with deletions.

use std::collections::BTreeMap;

use oci::index::show;
use oci::types::ImageConfig;
use oci::{Entry, Kind, LayerIndex};
use serde::Serialize;

use super::files::{Amount, Change};
use super::{Side, Wanted};

/// A line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryLine {
    /// The instruction, in one line.
    pub text: String,
    /// Number of its layer, from 0; none if it made none.
    pub layer: Option<usize>,
    /// Bytes of files in the layer.
    pub bytes: u64,
}

/// What became of a line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerChange {
    /// The line in the first image; none: it is new.
    pub from: Option<HistoryLine>,
    /// The line in the second image; none: it is gone.
    pub to: Option<HistoryLine>,
    /// Whether the two have the same entries, times left out.
    pub same: bool,
    /// Entries that only the second layer has.
    pub added: Amount,
    /// Entries that only the first has.
    pub removed: Amount,
    /// Entries that both have, with other bytes or attributes.
    pub changed: Amount,
    /// The first paths of them (`PATHS`), with what became of each.
    pub paths: Vec<(Change, String)>,
}

/// The layers of two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LayerDiff {
    /// Number of layers at the bottom that are the same.
    pub shared: usize,
    /// Their bytes.
    pub shared_bytes: u64,
    /// The lines above them, paired; those that made no layer, too.
    pub lines: Vec<LayerChange>,
}

/// Paths that are named for each layer.
const PATHS: usize = 50;

/// Longer histories are paired by their places only.
const MAX_LINES: usize = 2000;

/// The history, with the number of each line's layer. Layers that no line speaks of come last.
fn history(config: &ImageConfig, layers: &[std::sync::Arc<LayerIndex>]) -> Vec<HistoryLine> {
    let mut numbers = 0..layers.len();
    let mut out: Vec<HistoryLine> = Vec::new();
    for h in &config.history {
        let layer = if h.empty_layer { None } else { numbers.next() };
        let text = h.created_by.as_deref().unwrap_or_default();
        let text = text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text);
        out.push(HistoryLine {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            layer,
            bytes: layer.map_or(0, |n| layers[n].content_bytes()),
        });
    }
    out.extend(numbers.map(|n| HistoryLine {
        text: String::new(),
        layer: Some(n),
        bytes: layers[n].content_bytes(),
    }));
    out
}

/// Pairs of equal texts in order: the longest common subsequence, by the table.
fn pairs(a: &[HistoryLine], b: &[HistoryLine]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut out = Vec::new();
    if a.len() > MAX_LINES || b.len() > MAX_LINES {
        for n in 0..a.len().max(b.len()) {
            out.push(((n < a.len()).then_some(n), (n < b.len()).then_some(n)));
        }
        return out;
    }
    let same = |i: usize, j: usize| a[i].text == b[j].text && a[i].layer.is_some() == b[j].layer.is_some();
    let width = b.len() + 1;
    let mut best = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            best[i * width + j] = if same(i, j) {
                best[(i + 1) * width + j + 1] + 1
            } else {
                best[(i + 1) * width + j].max(best[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && same(i, j) {
            out.push((Some(i), Some(j)));
            i += 1;
            j += 1;
        } else if j == b.len() || (i < a.len() && best[(i + 1) * width + j] >= best[i * width + j + 1]) {
            out.push((Some(i), None));
            i += 1;
        } else {
            out.push((None, Some(j)));
            j += 1;
        }
    }
    out
}

fn count(amount: &mut Amount, e: &Entry) {
    match e.kind {
        Kind::Directory { .. } => amount.directories += 1,
        Kind::File { size, .. } => {
            amount.files += 1;
            amount.bytes += size;
        }
        _ => amount.files += 1,
    }
}

/// Compares the entries of two layers.
fn entries(a: Option<&LayerIndex>, b: Option<&LayerIndex>, wanted: Wanted, out: &mut LayerChange) {
    let plain = |e: &Entry| {
        let mut e = e.clone();
        if !wanted.times {
            e.attrs.mtime = oci::Time::default();
        }
        e
    };
    let list = |l: Option<&LayerIndex>| -> BTreeMap<Vec<u8>, Entry> {
        l.map(|l| l.entries().iter().map(|e| (e.path.clone(), plain(e))).collect()).unwrap_or_default()
    };
    let (mut before, after) = (list(a), list(b));
    let mut paths = Vec::new();
    for (path, e) in after {
        match before.remove(&path) {
            Some(old) if old == e => {}
            Some(_) => {
                count(&mut out.changed, &e);
                paths.push((path, Change::Changed));
            }
            None => {
                count(&mut out.added, &e);
                paths.push((path, Change::Added));
            }
        }
    }
    for (path, e) in before {
        count(&mut out.removed, &e);
        paths.push((path, Change::Removed));
    }
    paths.sort_by(|x, y| oci::index::compare(&x.0, &y.0));
    out.same = paths.is_empty();
    out.paths = paths.into_iter().take(PATHS).map(|(p, c)| (c, show(&p))).collect();
}

/// Compares the layers and histories of two images.
pub(super) fn compare(a: &Side, b: &Side, wanted: Wanted) -> LayerDiff {
    let shared = a.layers.iter().zip(&b.layers).take_while(|(x, y)| x == y).count();
    let above = |side: &Side| -> Vec<HistoryLine> {
        let all = history(&side.config, &side.layers);
        let from = all
            .iter()
            .position(|l| l.layer.is_some_and(|n| n >= shared))
            .unwrap_or_else(|| all.iter().rposition(|l| l.layer.is_some()).map_or(0, |n| n + 1));
        all[from..].to_vec()
    };
    let (lines_a, lines_b) = (above(a), above(b));
    let mut lines = Vec::new();
    for (i, j) in pairs(&lines_a, &lines_b) {
        let (from, to) = (i.map(|i| lines_a[i].clone()), j.map(|j| lines_b[j].clone()));
        let layer = |side: &Side, line: &Option<HistoryLine>| {
            line.as_ref().and_then(|l| l.layer).map(|n| side.layers[n].clone())
        };
        let (x, y) = (layer(a, &from), layer(b, &to));
        let mut change = LayerChange {
            from,
            to,
            same: false,
            added: Amount::default(),
            removed: Amount::default(),
            changed: Amount::default(),
            paths: Vec::new(),
        };
        entries(x.as_deref(), y.as_deref(), wanted, &mut change);
        change.same &= change.from.is_some() && change.to.is_some();
        lines.push(change);
    }
    let shared_bytes = a.layers[..shared].iter().map(|l| l.content_bytes()).sum();
    LayerDiff { shared, shared_bytes, lines }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, side};
    use super::*;

    #[test]
    fn lines_are_paired_by_their_text() {
        let base = || ("FROM base", vec![file("base", "b")]);
        let a = side(
            "a",
            vec![base(), ("RUN one", vec![file("x", "1")]), ("RUN gone", vec![file("y", "1")])],
            &[],
        );
        let b = side(
            "b",
            vec![
                base(),
                ("RUN new", vec![file("n", "123")]),
                ("RUN one", vec![file("x", "22"), Entry::whiteout(b"base".to_vec())]),
            ],
            &[],
        );
        let d = compare(&a, &b, Wanted::default());
        assert_eq!((d.shared, d.shared_bytes), (1, 1));
        let text = |l: &Option<HistoryLine>| l.as_ref().map_or("-".to_owned(), |l| l.text.clone());
        let rows: Vec<_> = d.lines.iter().map(|l| (text(&l.from), text(&l.to), l.same)).collect();
        let s = |t: &str| t.to_owned();
        assert_eq!(
            rows,
            [
                (s("-"), s("RUN new"), false),
                (s("RUN one"), s("RUN one"), false),
                (s("RUN gone"), s("-"), false)
            ]
        );
        assert_eq!(d.lines[0].added, Amount { files: 1, directories: 0, bytes: 3 });
        assert_eq!(
            d.lines[1].paths,
            [(Change::Added, "/base".to_owned()), (Change::Changed, "/x".to_owned())],
            "a deletion is an entry of its layer"
        );
    }

    #[test]
    fn an_image_built_further_shares_all_of_the_first() {
        let a = side("a", vec![("FROM", vec![file("x", "1")])], &[]);
        let b = side("b", vec![("FROM", vec![file("x", "1")]), ("RUN", vec![file("y", "1")])], &[]);
        let d = compare(&a, &b, Wanted::default());
        assert_eq!((d.shared, d.lines.len()), (1, 1));
        assert_eq!(compare(&a, &a, Wanted::default()).lines, []);
    }
}
