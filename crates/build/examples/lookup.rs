//! Measures a look-up by observations: reading a record of 20,000 facts and comparing it with a tree of 40,000 files.
//!
//! `cargo run --release -p layercake-build --example lookup [FACTS]`

use std::io::Write;
use std::time::{Duration, Instant};

use build::observe::{Recorded, decode, encode, first_difference, observations};
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use sandbox::{Bits, Seen};

fn main() {
    let facts: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(20_000);
    let digest = Digest::of(b"x");
    let entries = (0..facts * 2).map(|n| Entry {
        path: format!("usr/lib/part{:03}/module{:02}/file{n:06}.so", n / 200, n / 20 % 10).into_bytes(),
        kind: Kind::File { size: n as u64, digest },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    });
    let layer = LayerIndex::from_entries(entries.collect()).expect("the entries fit together");
    let tree = Tree::from_layers([&layer]).expect("the layer fits");
    let mut seen = Seen::default();
    for id in 0..tree.len() as u32 {
        if seen.inodes.len() + seen.absent.len() >= facts {
            break;
        }
        // As in real steps: many looked at, some read, some sought in vain.
        match (id % 10, tree.inode(id).is_dir()) {
            (_, true) => seen.absent.push((id, b"none".to_vec())),
            (0..4, _) => seen.inodes.push((id, Bits::ATTR | Bits::CONTENT)),
            _ => seen.inodes.push((id, Bits::ATTR)),
        }
    }
    let view = observations(&tree, &seen).expect("the tree that was seen");
    let bytes = encode(&Recorded { views: vec![view], ..Recorded::default() });
    let mut times = [[Duration::ZERO; 2]; 5];
    for t in &mut times {
        let began = Instant::now();
        let recorded = decode(&bytes).expect("what was encoded");
        t[0] = began.elapsed();
        let began = Instant::now();
        assert_eq!(first_difference(&tree, &recorded.views[0], &|_, _| None), None);
        t[1] = began.elapsed();
    }
    let median = |n: usize| {
        let mut all = times.map(|t| t[n]);
        all.sort();
        all[2]
    };
    let count = decode(&bytes).map_or(0, |r| r.len());
    let _ = writeln!(
        std::io::stdout(),
        "{count} facts in {} bytes: read {:?}, compared {:?} (medians of 5)",
        bytes.len(),
        median(0),
        median(1)
    );
}
