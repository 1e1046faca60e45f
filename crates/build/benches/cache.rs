//! What a build does before anything runs: the context, and look-ups by observations. `cargo bench -p layercake-build`

use std::path::Path;
use std::sync::atomic::AtomicBool;

use build::context::{Needed, read};
use build::observe::{Recorded, decode, encode, first_difference, observations};
use divan::Bencher;
use divan::counter::ItemsCount;
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use sandbox::{Bits, Seen};
use store::Store;

const FACTS: usize = 20_000;
const FILES: usize = 5_000;

fn main() {
    divan::main();
}

/// A tree of twice as many files as there are facts, and what a step learned of it: many looked at, some read, some sought in vain.
fn observed() -> (Tree, Recorded) {
    let digest = Digest::of(b"x");
    let entries = (0..FACTS * 2).map(|n| Entry {
        path: format!("usr/lib/part{:03}/module{:02}/file{n:06}.so", n / 200, n / 20 % 10).into_bytes(),
        kind: Kind::File { size: n as u64, digest },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    });
    let layer = LayerIndex::from_entries(entries.collect()).expect("the entries fit together");
    let tree = Tree::from_layers([&layer]).expect("the layer fits");
    let mut seen = Seen::default();
    for id in 0..tree.len() as u32 {
        if seen.inodes.len() + seen.absent.len() >= FACTS {
            break;
        }
        match (id % 10, tree.inode(id).is_dir()) {
            (_, true) => seen.absent.push((id, b"none".to_vec())),
            (0..4, _) => seen.inodes.push((id, Bits::ATTR | Bits::CONTENT)),
            _ => seen.inodes.push((id, Bits::ATTR)),
        }
    }
    let view = observations(&tree, &seen).expect("the tree that was seen");
    (tree, Recorded { views: vec![view], ..Recorded::default() })
}

#[divan::bench]
fn observations_read(b: Bencher<'_, '_>) {
    let bytes = encode(&observed().1);
    b.counter(ItemsCount::new(FACTS)).bench(|| decode(divan::black_box(&bytes)));
}

#[divan::bench]
fn observations_checked(b: Bencher<'_, '_>) {
    let (tree, recorded) = observed();
    b.counter(ItemsCount::new(FACTS)).bench(|| {
        let found = first_difference(&tree, &recorded.views[0], &|_, _| None);
        assert_eq!(found, None);
    });
}

fn files(dir: &Path) {
    for n in 0..FILES {
        let dir = dir.join(format!("part{:02}", n / 100));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join(format!("file{n:05}.c")), format!("int f{n};\n").repeat(100))
            .expect("a file");
    }
}

/// The digest memo knows every file.
#[divan::bench]
fn context_unchanged(b: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let context = dir.path().join("context");
    files(&context);
    let store = Store::open(&dir.path().join("store")).expect("a store");
    let mut needed = Needed::default();
    needed.everything();
    let go = || read(&store, &context, &needed, None, &AtomicBool::new(false)).expect("it is there");
    // What changed a moment ago is not trusted, so the memo is not filled at once.
    while go().hashed > 0 {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    b.counter(ItemsCount::new(FILES)).bench(|| assert_eq!(go().hashed, 0));
}

/// Every file is hashed, and taken into the store.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn context_new(b: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let context = dir.path().join("context");
    files(&context);
    let mut needed = Needed::default();
    needed.everything();
    b.counter(ItemsCount::new(FILES))
        .with_inputs(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::open(&dir.path().join("store")).expect("a store");
            (dir, store)
        })
        .bench_refs(|(_, store)| {
            read(store, &context, &needed, None, &AtomicBool::new(false)).expect("it is there").hashed
        });
}
