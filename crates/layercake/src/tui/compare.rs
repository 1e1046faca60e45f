//! Two states of a stack of layers side by side: what is there, and what changed.
//!
//! Dive's two ways: *one layer* against everything below it, and *aggregated*, all layers above the base up to the chosen one against
//! the base. Below the lowest layer there is nothing, so its content is all added.
//!
//! Changes tell content from metadata: a file whose bytes are the same but that was written again (`chmod`, `chown`, `touch`) is
//! shipped a second time, and that is worth its own mark. A directory written again with equal mode, owner and xattrs is unmodified:
//! layers hold every parent directory of what they change.

use analyse::{Entry, Kind};

use super::stack::{NodeId, Stack, State};

/// What happened to a path between two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Change {
    /// In neither state.
    #[default]
    Absent,
    /// Only in the upper state.
    Added,
    /// Only in the lower state.
    Removed,
    /// Type or content differ, or something below changed.
    Modified,
    /// Mode, owner, xattrs or time differ; the content, shipped again, does not.
    Metadata,
    /// The same.
    Unmodified,
}

/// Which states are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The chosen layer against those below.
    Layer,
    /// All layers above the base up to the chosen one against the base.
    Aggregated,
}

/// A path in both states.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cell {
    /// In the lower state.
    pub(crate) lower: Option<State>,
    /// In the upper state.
    pub(crate) upper: Option<State>,
    /// The difference; of a directory with what lies below.
    pub(crate) change: Change,
}

impl Cell {
    /// The state to show: the upper one, or the lower one of what is removed.
    pub(crate) fn shown(&self) -> Option<State> {
        self.upper.or(self.lower)
    }
}

/// Every path of a stack in two states.
#[derive(Debug)]
pub(crate) struct Compare {
    cells: Vec<Cell>,
}

impl Compare {
    /// Compares the first `lower` layers with the first `upper` ones.
    pub(crate) fn new(stack: &Stack, lower: usize, upper: usize) -> Compare {
        let mut cells = vec![Cell::default(); stack.len()];
        for (id, cell) in cells.iter_mut().enumerate() {
            let id = id as NodeId;
            (cell.lower, cell.upper) = (stack.state(id, lower), stack.state(id, upper));
            cell.change = between(stack, cell.lower, cell.upper);
        }
        // Content comes after its directory, so one pass from the end carries changes up.
        for id in (1..stack.len()).rev() {
            let change = cells[id].change;
            let parent = &mut cells[stack.parent(id as NodeId) as usize].change;
            if !matches!(change, Change::Absent) && change != *parent {
                match *parent {
                    Change::Unmodified | Change::Metadata if change != Change::Unmodified => {
                        *parent = Change::Modified;
                    }
                    // Something that is a directory in one of the states only, with content of the other.
                    Change::Added | Change::Removed => *parent = Change::Modified,
                    _ => {}
                }
            }
        }
        Compare { cells }
    }

    /// A path in both states.
    pub(crate) fn cell(&self, id: NodeId) -> Cell {
        self.cells[id as usize]
    }
}

/// What happened between two states of a path, for itself.
pub(crate) fn between(stack: &Stack, lower: Option<State>, upper: Option<State>) -> Change {
    match (lower, upper) {
        (None, None) => Change::Absent,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(a), Some(b)) if a == b => Change::Unmodified,
        (Some(a), Some(b)) => difference(stack, a, b),
    }
}

/// How two different states of a path differ.
fn difference(stack: &Stack, a: State, b: State) -> Change {
    let image = stack.image();
    let same_attrs = |a: &Entry, b: &Entry| {
        (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && image.xattrs(a) == image.xattrs(b)
    };
    if stack.is_dir(a) && stack.is_dir(b) {
        return match (stack.entry(a), stack.entry(b)) {
            (Some(x), Some(y)) if !same_attrs(x, y) => Change::Metadata,
            _ => Change::Unmodified,
        };
    }
    // Files by what their names lead to, so that a name does not change when another name becomes the first of its inode.
    if let (Some(x), Some(y)) = (stack.file(a), stack.file(b)) {
        let same = x == y || image.entry(x).content() == image.entry(y).content();
        return if same { Change::Metadata } else { Change::Modified };
    }
    let (Some(x), Some(y)) = (stack.entry(a), stack.entry(b)) else { return Change::Modified };
    let same = match (x.kind, y.kind) {
        (Kind::Symlink { .. }, Kind::Symlink { .. }) => image.link_target(x) == image.link_target(y),
        (p, q) => p == q,
    };
    match same {
        false => Change::Modified,
        true if same_attrs(x, y) => Change::Unmodified,
        true => Change::Metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use oci::{Entry, Kind};

    fn shown(
        layers: Vec<std::sync::Arc<oci::LayerIndex>>,
        lower: usize,
        upper: usize,
    ) -> Vec<(String, Change)> {
        let stack = Stack::new(image(&layers, &[]));
        let compare = Compare::new(&stack, lower, upper);
        (0..stack.len() as u32)
            .map(|n| (String::from_utf8_lossy(&stack.path(n)[1..]).into_owned(), compare.cell(n).change))
            .filter(|(_, c)| *c != Change::Absent)
            .collect()
    }

    fn list(all: &[(&str, Change)]) -> Vec<(String, Change)> {
        all.iter().map(|(p, c)| ((*p).to_owned(), *c)).collect()
    }

    use Change::{Added, Metadata, Modified, Removed, Unmodified};

    #[test]
    fn a_layer_against_those_below() {
        let base = layer(vec![dir("a"), file("a/x", "x", 1), file("a/y", "y", 1), file("b", "b", 1)]);
        let mut chmod = file("a/x", "x", 1);
        chmod.attrs.mode = 0o755;
        let up = layer(vec![dir("a"), chmod, gone("a/y"), file("b", "other", 9), file("n/new", "n", 1)]);
        assert_eq!(
            shown(vec![base.clone(), up], 1, 2),
            list(&[
                ("", Modified),
                ("a", Modified),
                ("a/x", Metadata),
                ("a/y", Removed),
                ("b", Modified),
                ("n", Added),
                ("n/new", Added),
            ])
        );
        let again = layer(vec![dir("a")]);
        assert!(shown(vec![base.clone(), again], 1, 2).iter().all(|(_, c)| *c == Unmodified));
        assert!(shown(vec![base], 0, 1)[1..].iter().all(|(_, c)| *c == Added));
    }

    #[test]
    fn whiteouts_take_directories_with_them() {
        let base = layer(vec![file("d/e/f", "f", 1), file("d/g", "g", 1)]);
        let all =
            list(&[("", Modified), ("d", Removed), ("d/e", Removed), ("d/e/f", Removed), ("d/g", Removed)]);
        assert_eq!(shown(vec![base.clone(), layer(vec![gone("d")])], 1, 2), all);
        // What comes back later is a directory again, with only the new content.
        let back = vec![base.clone(), layer(vec![gone("d")]), layer(vec![file("d/g", "2", 1)])];
        assert_eq!(shown(back.clone(), 2, 3), list(&[("", Modified), ("d", Added), ("d/g", Added)]));
        let over = shown(back, 1, 3);
        assert_eq!(
            over[1..],
            list(&[("d", Modified), ("d/e", Removed), ("d/e/f", Removed), ("d/g", Modified)])
        );
        // In one layer: gone, and made again.
        let both = layer(vec![gone("d"), file("d/n", "n", 1)]);
        let one = shown(vec![base, both], 1, 2);
        assert!(
            one.contains(&("d/n".to_owned(), Added)) && one.contains(&("d/g".to_owned(), Removed)),
            "{one:?}"
        );
    }

    #[test]
    fn opaque_directories_and_other_types_hide_what_was_below() {
        let base = layer(vec![dir("d"), file("d/old", "o", 1)]);
        let opaque = shown(vec![base.clone(), layer(vec![opaque("d"), file("d/new", "n", 1)])], 1, 2);
        assert!(
            opaque.contains(&("d/old".to_owned(), Removed)) && opaque.contains(&("d/new".to_owned(), Added))
        );
        let as_file = shown(vec![base, layer(vec![file("d", "d", 1)])], 1, 2);
        assert_eq!(as_file[1..], list(&[("d", Modified), ("d/old", Removed)]));
    }

    #[test]
    fn an_emptied_directory_stays() {
        let s = shown(vec![layer(vec![file("d/f", "f", 1)]), layer(vec![gone("d/f")])], 2, 2);
        assert_eq!(s, list(&[("", Unmodified), ("d", Unmodified)]));
    }

    #[test]
    fn links_compare_by_what_they_lead_to() {
        let link = || entry(b"l", oci::Kind::HardLink { target: b"f".to_vec() });
        let base = layer(vec![file("f", "f", 1), link()]);
        let same = layer(vec![file("f", "f", 1), link()]);
        assert!(shown(vec![base.clone(), same], 1, 2).contains(&("l".to_owned(), Metadata)));
        let other = layer(vec![file("f", "g", 1), link()]);
        assert!(shown(vec![base, other], 1, 2).contains(&("l".to_owned(), Modified)));
    }

    #[test]
    fn aggregated_is_against_the_base() {
        let s = vec![
            layer(vec![file("a", "1", 1)]),
            layer(vec![file("b", "1", 1)]),
            layer(vec![file("b", "2", 1), gone("a")]),
        ];
        assert_eq!(shown(s, 1, 3), list(&[("", Modified), ("a", Removed), ("b", Added)]));
    }

    /// The merged view of `oci` is another implementation of the same rules.
    #[test]
    fn the_upper_state_is_what_the_merged_tree_holds() {
        let mut seed = 12345u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut compared = 0;
        for round in 0..300 {
            let layers: Vec<_> = (0..1 + random(5))
                .map(|_| {
                    let mut entries: std::collections::BTreeMap<String, Entry> = Default::default();
                    for _ in 0..random(8) {
                        let depth = 1 + random(3);
                        let path = (0..depth)
                            .map(|_| ["a", "b", "c"][random(3) as usize])
                            .collect::<Vec<_>>()
                            .join("/");
                        let content = random(3).to_string();
                        let e = match random(6) {
                            0 => dir(&path),
                            1 => opaque(&path),
                            2 => gone(&path),
                            _ => file(&path, &content, 1),
                        };
                        entries.insert(path, e);
                    }
                    // No layer has something below its own file.
                    let files: Vec<String> = entries
                        .iter()
                        .filter(|(_, e)| matches!(e.kind, Kind::File { .. }))
                        .map(|(p, _)| format!("{p}/"))
                        .collect();
                    entries.retain(|p, _| !files.iter().any(|f| p.starts_with(f.as_str())));
                    layer(entries.into_values().collect())
                })
                .collect();
            // Something below a file of a lower layer: refused by both.
            let Ok(image) = try_image(&layers, &[]) else {
                assert!(oci::Tree::from_layers(layers.iter().map(|l| &**l)).is_err());
                continue;
            };
            compared += 1;
            let stack = Stack::new(image);
            for n in 0..=layers.len() {
                let tree = oci::Tree::from_layers(layers[..n].iter().map(|l| &**l)).unwrap();
                let mut want: Vec<(Vec<u8>, bool)> = tree
                    .flatten()
                    .into_iter()
                    .map(|e| (e.path, matches!(e.kind, Kind::Directory { .. })))
                    .collect();
                want.remove(0);
                let compare = Compare::new(&stack, 0, n);
                let have: Vec<(Vec<u8>, bool)> = (1..stack.len() as u32)
                    .filter_map(|id| {
                        let state = compare.cell(id).upper?;
                        Some((stack.path(id)[1..].to_vec(), stack.is_dir(state)))
                    })
                    .collect();
                assert_eq!(have, want, "round {round}, {n} of {layers:#?}");
            }
        }
        assert!(compared > 100, "{compared}");
    }
}
