//! What a layer costs grows as the layer does, however its names lie among those of the layers below.

use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};

/// Enough for what is quadratic to show.
const MANY: usize = 120_000;

/// Nanoseconds of processor time that this thread has had.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc is mounted");
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

fn entry(path: String, kind: Kind) -> Entry {
    Entry { path: path.into_bytes(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
}

fn files(name: impl Fn(usize) -> String) -> Vec<Entry> {
    let kind = || Kind::File { size: 0, digest: Digest::of(b"") };
    (0..MANY).map(|n| entry(name(n), kind())).collect()
}

fn links(name: impl Fn(usize) -> String) -> Vec<Entry> {
    let target = |n: usize| Kind::HardLink { target: format!("d/m{n:07}").into() };
    (0..MANY).map(|n| entry(name(n), target(n))).collect()
}

/// How many times as much work a layer is on files `d/mN` as another one is, whose names lie behind all that is there.
fn ratio(behind: Vec<Entry>, layer: Vec<Entry>) -> f64 {
    let below = LayerIndex::from_entries(files(|n| format!("d/m{n:07}"))).expect("a layer");
    let [behind, layer] = [behind, layer].map(|entries| {
        let layer = LayerIndex::from_entries(entries).expect("a layer");
        cost(Tree::from_layers([&below]).expect("it fits"), &layer, true)
    });
    layer as f64 / behind as f64
}

/// Nanoseconds that it takes to put a layer on a tree, or to refuse it.
fn cost(mut tree: Tree, layer: &LayerIndex, fits: bool) -> u64 {
    let begin = spent();
    assert_eq!(tree.apply(layer).is_ok(), fits);
    spent() - begin
}

fn at_most(most: f64, ratio: f64) {
    assert!(ratio < most, "{ratio:.1} times the work, at most {most} are fine");
}

#[test]
fn a_layer_that_touches_every_file_of_a_directory() {
    at_most(8.0, ratio(files(|n| format!("d/z{n:07}")), files(|n| format!("d/m{n:07}"))));
}

#[test]
fn hard_links_before_what_is_there() {
    at_most(4.0, ratio(links(|n| format!("d/z{n:07}")), links(|n| format!("d/a{n:07}"))));
}

#[test]
fn hard_links_to_files_and_then_to_directories() {
    let directory = |n: usize| entry(format!("e/{n:07}"), Kind::Directory { opaque: false });
    let below = files(|n| format!("d/m{n:07}")).into_iter().chain((0..MANY).map(directory)).collect();
    let below = Tree::from_layers([&LayerIndex::from_entries(below).expect("a layer")]).expect("it fits");
    let good = links(|n| format!("f/a{n:07}"));
    let bad = |n: usize| {
        let kind = Kind::HardLink { target: format!("e/{n:07}").into() };
        entry(format!("f/z{n:07}"), kind)
    };
    let all = good.iter().cloned().chain((0..MANY).map(bad)).collect();
    let [good, all] = [good, all].map(|entries| LayerIndex::from_entries(entries).expect("a layer"));
    let (files, both) = (cost(below.clone(), &good, true), cost(below, &all, false));
    at_most(8.0, both as f64 / files as f64);
}

#[test]
fn a_directory_under_two_names() {
    let link = || entry("e".into(), Kind::Symlink { target: b"d".to_vec() });
    let through = |name: fn(usize) -> String| files(name).into_iter().chain([link()]).collect();
    at_most(8.0, ratio(through(|n| format!("e/z{n:07}")), through(|n| format!("e/m{n:07}-"))));
}
