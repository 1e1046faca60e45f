//! dive's score and export, for who has gates and tools that know them.
//!
//! # The score
//!
//! For every path that is a leaf of some layer's own tree of names, over the layers:
//!
//! ```text
//! s = size in the tar header                          files
//!   = 0                                               hard links, symbolic links, directories, a whiteout of a file
//!   = sizes of everything below it in the layers so far   a whiteout of a directory
//! efficiency        = sum of each path's least s / sum of all s       (1 if the latter is 0)
//! wastedBytes       = sum of all s of the paths that were seen twice or more
//! userWastedPercent = wastedBytes / sizes of all layers but the first (a fraction; NaN for 0/0)
//! ```
//!
//! It is computed as dive does it, with what follows from how: the live copy counts as waste, too; a directory's whiteout counts once, so that it is
//! no waste; a whiteout of something that is not there ends the count of its layer; opaque markers hide nothing; a directory that a
//! layer has no entry for makes dive forget that it is one. The exact figures are in [`crate::account`]. One thing cannot be known from a layer's
//! index: that a path was deleted and made again as a directory in the same layer.

use std::cmp::Reverse;

use serde::Serialize;

use crate::image::{Image, Kind, NodeId};

/// dive's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Between 0 and 1.
    pub efficiency: f64,
    /// Bytes of all layers.
    pub size: u64,
    /// Bytes that count as wasted.
    pub wasted: u64,
    /// The same as a fraction of all layers but the first; NaN or infinite if those are empty.
    pub user_wasted: f64,
    /// Paths that were seen twice or more, the largest first.
    pub references: Vec<Reference>,
}

/// A path that was seen twice or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The path.
    pub node: NodeId,
    /// How often.
    pub count: u32,
    /// Bytes in all.
    pub size: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    count: u32,
    least: u64,
    sum: u64,
}

/// A node of dive's stacked tree.
#[derive(Clone, Copy, Default)]
struct Stacked {
    present: bool,
    directory: bool,
    size: u64,
}

/// Names of the leaf in dive's order: whiteouts have a prefix.
fn key(image: &Image, node: NodeId, whiteout: bool) -> Vec<Vec<u8>> {
    let path = image.path(node);
    let mut parts: Vec<Vec<u8>> = path.split(|&c| c == b'/').map(<[u8]>::to_vec).collect();
    if whiteout && let Some(last) = parts.last_mut() {
        last.splice(0..0, b".wh.".iter().copied());
    }
    parts
}

/// Computes dive's figures.
pub fn score(image: &Image) -> Score {
    let count = image.node_count();
    let mut seen = vec![Seen::default(); count];
    let mut stack = vec![Stacked::default(); count];
    // The layer (plus one) in whose tree the node is, and in which it has children.
    let mut own = vec![0u32; count];
    let mut inner = vec![0u32; count];
    // Sizes below nodes, as of the layer (plus one) beside them.
    let mut below = vec![(0u32, 0u64); count];
    let mut order: Vec<NodeId> = Vec::new();
    for (l, _) in image.layers.iter().enumerate() {
        let stamp = l as u32 + 1;
        let mut implied: Vec<NodeId> = Vec::new();
        let mut whiteouts: Vec<NodeId> = Vec::new();
        for (_, e) in image.layer_entries(l).filter(|(_, e)| !e.replaced && e.node != crate::ROOT) {
            if e.kind == Kind::Whiteout {
                whiteouts.push(e.node);
            } else {
                own[e.node.index()] = stamp;
            }
        }
        for (_, e) in image.layer_entries(l).filter(|(_, e)| !e.replaced && e.node != crate::ROOT) {
            let mut at = e.node;
            while at != crate::ROOT {
                let parent = image.parent(at);
                let known = inner[parent.index()] == stamp;
                inner[parent.index()] = stamp;
                if parent != crate::ROOT && own[parent.index()] != stamp {
                    own[parent.index()] = stamp;
                    implied.push(parent);
                }
                if known {
                    break;
                }
                at = parent;
            }
        }
        // What whiteouts are worth, by the layers below (for the first layer: by itself, where nothing of the name can be).
        let mut worth: Vec<(NodeId, Option<u64>)> = Vec::with_capacity(whiteouts.len());
        for &w in &whiteouts {
            let s = stack[w.index()];
            let known = if !s.present {
                None
            } else if s.directory {
                Some(sum_below(image, w, stamp, &stack, &mut below, &mut order))
            } else {
                Some(0)
            };
            worth.push((w, known));
        }
        let stop = worth.iter().filter(|(_, known)| known.is_none()).map(|(w, _)| key(image, *w, true)).min();
        let counts =
            |node: NodeId, whiteout: bool| stop.as_ref().is_none_or(|s| key(image, node, whiteout) < *s);
        let mut see = |node: NodeId, size: u64| {
            let s = &mut seen[node.index()];
            s.least = if s.count == 0 { size } else { s.least.min(size) };
            s.sum += size;
            s.count += 1;
        };
        for (_, e) in image.layer_entries(l) {
            let leaf = e.kind != Kind::Whiteout && !e.replaced && inner[e.node.index()] != stamp;
            if leaf && e.node != crate::ROOT && counts(e.node, false) {
                see(e.node, e.size);
            }
        }
        for &(w, known) in &worth {
            if let Some(size) = known
                && counts(w, true)
            {
                see(w, size);
            }
        }
        // Then the layer goes onto the stack.
        for &w in &whiteouts {
            remove(image, w, &mut stack);
        }
        for (_, e) in image.layer_entries(l).filter(|(_, e)| !e.replaced && e.kind != Kind::Whiteout) {
            let directory = matches!(e.kind, Kind::Directory { .. });
            stack[e.node.index()] = Stacked { present: true, directory, size: e.size };
        }
        for &n in &implied {
            stack[n.index()] = Stacked { present: true, directory: false, size: 0 };
        }
    }
    let mut references: Vec<Reference> = seen
        .iter()
        .enumerate()
        .filter(|(_, s)| s.count >= 2)
        .map(|(n, s)| Reference { node: NodeId(n as u32), count: s.count, size: s.sum })
        .collect();
    references.sort_by_key(|r| (Reverse(r.size), r.node));
    let least: u64 = seen.iter().map(|s| s.least).sum();
    let all: u64 = seen.iter().map(|s| s.sum).sum();
    let wasted: u64 = references.iter().map(|r| r.size).sum();
    let user: u64 = image.layers.iter().skip(1).map(|l| l.size).sum();
    Score {
        efficiency: if all == 0 { 1.0 } else { least as f64 / all as f64 },
        size: image.layers.iter().map(|l| l.size).sum(),
        wasted,
        user_wasted: wasted as f64 / user as f64,
        references,
    }
}

/// Sizes of a node and what is below it; those of the nodes below are remembered for nested whiteouts.
fn sum_below(
    image: &Image,
    node: NodeId,
    stamp: u32,
    stack: &[Stacked],
    below: &mut [(u32, u64)],
    order: &mut Vec<NodeId>,
) -> u64 {
    if below[node.index()].0 == stamp {
        return below[node.index()].1;
    }
    order.clear();
    order.push(node);
    let mut at = 0;
    while at < order.len() {
        let n = order[at];
        below[n.index()] = (stamp, stack[n.index()].size);
        order.extend(image.children(n).iter().filter(|c| stack[c.index()].present));
        at += 1;
    }
    for &n in order.iter().rev().filter(|n| **n != node) {
        let size = below[n.index()].1;
        below[image.parent(n).index()].1 += size;
    }
    below[node.index()].1
}

fn remove(image: &Image, node: NodeId, stack: &mut [Stacked]) {
    let mut todo = vec![node];
    while let Some(n) = todo.pop() {
        if std::mem::take(&mut stack[n.index()]).present {
            todo.extend_from_slice(image.children(n));
        }
    }
}

/// dive's export: what `dive --json` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Export {
    layer: Vec<ExportLayer>,
    image: ExportImage,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportLayer {
    index: usize,
    id: String,
    digest_id: String,
    size_bytes: u64,
    command: String,
    file_list: Vec<ExportFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportFile {
    path: String,
    type_flag: u8,
    link_name: String,
    size: u64,
    file_mode: u32,
    uid: u32,
    gid: u32,
    is_dir: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportImage {
    size_bytes: u64,
    inefficient_bytes: u64,
    efficiency_score: f64,
    file_reference: Vec<ExportReference>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportReference {
    count: u32,
    size_bytes: u64,
    file: String,
}

/// Go's `os.FileMode`: type bits at the top, set-id and sticky bits apart from the permissions.
fn go_mode(kind: &Kind, mode: u16) -> u32 {
    let mode = u32::from(mode);
    let special = (mode & 0o4000) << 12 | (mode & 0o2000) << 12 | (mode & 0o1000) << 11;
    let kind = match kind {
        Kind::Directory { .. } => 1 << 31,
        Kind::Symlink { .. } => 1 << 27,
        Kind::BlockDevice(..) => 1 << 26,
        Kind::CharDevice(..) => 1 << 26 | 1 << 21,
        Kind::Fifo => 1 << 25,
        Kind::File { .. } | Kind::HardLink { .. } | Kind::Whiteout => 0,
    };
    kind | special | (mode & 0o777)
}

fn type_flag(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } | Kind::Whiteout => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice(..) => b'3',
        Kind::BlockDevice(..) => b'4',
        Kind::Directory { .. } => b'5',
        Kind::Fifo => b'6',
    }
}

/// What dive would export for an image with this score.
pub fn export(image: &Image, score: &Score) -> Export {
    let layers = image.layers.iter().map(|layer| {
        let history = image.line(layer.index).and_then(|l| l.history.created_by.clone()).unwrap_or_default();
        let files = image.layer_entries(layer.index).filter(|(_, e)| !e.replaced && e.node != crate::ROOT);
        let mut list: Vec<(Vec<Vec<u8>>, ExportFile)> = files
            .map(|(_, e)| {
                let whiteout = e.kind == Kind::Whiteout;
                let parts = key(image, e.node, whiteout);
                let path = String::from_utf8_lossy(&parts.join(&b'/')).into_owned();
                let link = image.link_target(e).map(|t| String::from_utf8_lossy(t).into_owned());
                let file = ExportFile {
                    path,
                    type_flag: type_flag(&e.kind),
                    link_name: link.unwrap_or_default(),
                    size: e.size,
                    file_mode: go_mode(&e.kind, e.mode),
                    uid: e.uid,
                    gid: e.gid,
                    is_dir: matches!(e.kind, Kind::Directory { .. }),
                };
                (parts, file)
            })
            .collect();
        // Children before their directory.
        list.sort_by(|(a, _), (b, _)| {
            let common = a.iter().zip(b).find(|(x, y)| x != y);
            common.map_or_else(|| b.len().cmp(&a.len()), |(x, y)| x.cmp(y))
        });
        let diff_id = layer.diff_id.map(|d| d.to_string()).unwrap_or_default();
        ExportLayer {
            index: layer.index,
            id: layer.diff_id.map(|d| d.hex()).unwrap_or_default(),
            digest_id: diff_id,
            size_bytes: layer.size,
            command: history.strip_prefix("/bin/sh -c ").unwrap_or(&history).to_owned(),
            file_list: list.into_iter().map(|(_, f)| f).collect(),
        }
    });
    let references = score.references.iter().map(|r| ExportReference {
        count: r.count,
        size_bytes: r.size,
        file: image.show(r.node),
    });
    Export {
        layer: layers.collect(),
        image: ExportImage {
            size_bytes: score.size,
            inefficient_bytes: score.wasted,
            efficiency_score: score.efficiency,
            file_reference: references.collect(),
        },
    }
}
