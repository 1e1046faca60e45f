//! The history of paths over the layers, and the merged tree against the one that builds use.

use analyse::{Image, NodeId, What};
use oci::tree::Node;

use crate::kit::{Layer, image, indexes, layer};

#[test]
fn the_history_of_a_path() {
    let i = image(vec![
        layer().dir("d").file("d/f", 1, "a"),
        layer().file("d/f", 2, "b"),
        layer().gone("d"),
        layer().file("d/f", 3, "c"),
        layer().gone("d/f"),
    ]);
    let f = i.find(b"/d/f").unwrap();
    let d = i.find(b"d").unwrap();
    let told: Vec<(usize, &str)> = i
        .history(f)
        .iter()
        .map(|e| {
            let what = match e.what {
                What::Set(_) => "set",
                What::Implied => "implied",
                What::Deleted => "deleted",
                What::DeletedWith(by) if by == d => "deleted with d",
                What::DeletedWith(_) => "deleted with something else",
            };
            (e.layer, what)
        })
        .collect();
    assert_eq!(told, [(0, "set"), (1, "set"), (2, "deleted with d"), (3, "set"), (4, "deleted")]);
    assert_eq!(i.entry_at(f, 1).map(|e| i.entry(e).size), Some(2));
    assert_eq!(i.entry_at(f, 2), None);
    assert_eq!(i.at(d, 3), Some(What::Implied));
    assert_eq!(i.children(d), [f]);
}

/// Splitmix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| ["a", "b", "c"][self.below(3) as usize]).collect::<Vec<_>>().join("/")
    }

    /// A layer of a few entries; `None` if they do not go together.
    pub(crate) fn layer(&mut self) -> Option<Layer> {
        let mut l = layer();
        for _ in 0..1 + self.below(6) {
            let path = self.path();
            let size = self.below(4) * 10;
            let content = ["x", "y"][self.below(2) as usize];
            let directory = if self.below(8) == 0 { "" } else { path.as_str() };
            l = match self.below(14) {
                0..7 => l.mode(&path, size, content, 0o600 + self.below(2) as u32),
                7..9 => l.dir(directory),
                9 => l.opaque(directory),
                10 => l.symlink(&path, &self.path()),
                11 => l.link(&path, &self.path()),
                _ => l.gone(&path),
            };
        }
        // Each path once, and nothing below what is no directory.
        l.0.sort_by(|a, b| oci::index::compare(&a.path, &b.path));
        l.0.dedup_by(|a, b| a.path == b.path);
        let blocked: Vec<Vec<u8>> =
            l.0.iter()
                .filter(|e| !matches!(e.kind, oci::Kind::Directory { .. }))
                .map(|e| [&e.path[..], b"/"].concat())
                .collect();
        l.0.retain(|e| !blocked.iter().any(|b| e.path.starts_with(b)));
        oci::LayerIndex::from_entries(l.0.clone()).ok()?;
        Some(l)
    }
}

/// Every path of the merged image with what it is, and the bytes of its files.
fn listing(i: &Image) -> (Vec<String>, u64) {
    fn walk(i: &Image, node: NodeId, out: &mut Vec<String>) {
        for &c in i.children(node) {
            let Some(what) = i.at(c, usize::MAX) else { continue };
            let text = match what {
                What::Set(e) => match (i.entry(e).kind, i.link_target(i.entry(e))) {
                    (analyse::Kind::Directory { .. }, _) => "d".to_owned(),
                    (analyse::Kind::File { content }, _) => i.digest(content).short(),
                    (analyse::Kind::Symlink { .. }, Some(t)) => String::from_utf8_lossy(t).into_owned(),
                    (analyse::Kind::HardLink { .. }, _) => "link".to_owned(),
                    _ => "?".to_owned(),
                },
                _ => "d".to_owned(),
            };
            out.push(format!("{} {text}", i.show(c)));
            walk(i, c, out);
        }
    }
    let mut out = Vec::new();
    walk(i, analyse::ROOT, &mut out);
    (out, i.accounts().live.bytes)
}

/// The file counted as dead, because its last name went before the link was made.
#[test]
fn a_link_to_a_file_whose_directory_the_same_layer_replaces() {
    let i = image(vec![layer().file("a/a", 10, "x"), layer().file("a", 1, "y").link("c", "a/a")]);
    assert_eq!((i.accounts().live.bytes, i.accounts().reclaimable().bytes, listing(&i).1), (11, 0, 11));
}

/// Archives of whole file systems begin with `./`; the first such image made the analyser panic.
#[test]
fn layers_that_name_the_root_directory() {
    let i = image(vec![layer().dir("").file("a", 3, "a"), layer().dir("").gone("a").file("b", 1, "b")]);
    assert_eq!(listing(&i).1, 1);
    assert_eq!((i.accounts().live.bytes, i.accounts().reclaimable().bytes), (1, 3));
}

#[test]
fn merging_agrees_with_the_tree_that_builds_use() {
    let mut random = Random(7);
    let (mut same, mut refused, mut links) = (0, 0, 0);
    for round in 0..6000 {
        let layers: Vec<Layer> = (0..1 + random.below(5)).filter_map(|_| random.layer()).collect();
        let count = layers.len();
        let stack = indexes(layers);
        let tree = oci::Tree::from_layers(stack.iter().map(|l| &**l));
        let ours = analyse::load::indexes::load("r", crate::kit::config(count), &stack);
        let (tree, ours) = match (tree, ours) {
            (Ok(t), Ok(o)) => (t, o),
            (Err(_), Err(_)) => {
                refused += 1;
                continue;
            }
            (t, o) => panic!(
                "round {round}: one refuses, the other does not: {:?} {:?}\n{stack:#?}",
                t.err(),
                o.err()
            ),
        };
        let mut want = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut bytes = 0;
        let walked: Result<(), std::convert::Infallible> = tree.walk(oci::tree::ROOT, &mut |path, id| {
            let text = match &tree.inode(id).node {
                Node::Directory(_) => "d".to_owned(),
                Node::File { size, digest } => {
                    if seen.insert(id) {
                        bytes += size;
                    }
                    digest.short()
                }
                Node::Symlink(t) => String::from_utf8_lossy(t).into_owned(),
                _ => "?".to_owned(),
            };
            if !path.is_empty() {
                want.push(format!("{} {text}", oci::index::show(path)));
            }
            Ok(oci::tree::Walk::Into)
        });
        walked.unwrap();
        let (mut got, live) = listing(&ours);
        // A hard link has no digest of its own in our listing.
        for (g, w) in got.iter_mut().zip(&want) {
            if g.ends_with(" link") && g.split(' ').next() == w.split(' ').next() {
                links += 1;
                g.clone_from(w);
            }
        }
        want.sort();
        got.sort();
        assert_eq!(got, want, "round {round}: {stack:#?}");
        assert_eq!(live, bytes, "round {round}: {stack:#?}");
        let a = ours.accounts();
        assert_eq!(a.total.shipped.bytes - live, a.reclaimable().bytes, "round {round}: {stack:#?}");
        same += 1;
    }
    assert!(same > 2000 && refused > 50 && links > 50, "{same} compared, {refused} refused, {links} links");
}
