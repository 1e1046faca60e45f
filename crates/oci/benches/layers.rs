//! What every build does with layers: indexes, trees, tars, compression. `cargo bench -p layercake-oci`

use std::io::{self, Write};
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use oci::compress::{Compression, Encoder};
use oci::content::{Content, ReadAt};
use oci::index::Attrs;
use oci::tar::{digest_layer, write_layer};
use oci::{Digest, Entry, Kind, LayerIndex, Tree};

const FILES: usize = 20_000;
const SIZE: usize = 10_000;

fn main() {
    divan::main();
}

/// One file's bytes, whatever the digest.
#[derive(Debug)]
struct Same(Arc<Vec<u8>>);

impl Content for Same {
    fn open(&self, _: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(Same(self.0.clone())))
    }
}

impl ReadAt for Same {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// Something like source code: gzip makes a third of it.
fn text(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let word = state >> 33;
        let _ = write!(
            out,
            "{}",
            ["if (", ") {\n    ", "return ", "value", " = ", "->next;\n", "0x"][(word % 7) as usize]
        );
        if word.is_multiple_of(5) {
            let _ = write!(out, "{:x}", word >> 10);
        }
    }
    out.truncate(size);
    out
}

fn content() -> Same {
    Same(Arc::new(text(SIZE)))
}

fn layer(prefix: &str) -> LayerIndex {
    let digest = Digest::of(&content().0);
    let entries = (0..FILES).map(|n| Entry {
        path: format!("{prefix}/part{:03}/file{n:05}.c", n / 100).into_bytes(),
        kind: Kind::File { size: SIZE as u64, digest },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    });
    LayerIndex::from_entries(entries.collect()).expect("the entries fit together")
}

#[divan::bench]
fn index_encode(b: Bencher<'_, '_>) {
    let layer = layer("app");
    b.counter(ItemsCount::new(FILES)).bench(|| black_box(&layer).encode());
}

#[divan::bench]
fn index_decode(b: Bencher<'_, '_>) {
    let bytes = layer("app").encode().1;
    b.counter(ItemsCount::new(FILES)).bench(|| LayerIndex::decode(black_box(&bytes)));
}

#[divan::bench]
fn tree_merge_of_two_layers(b: Bencher<'_, '_>) {
    let layers = [layer("app"), layer("usr")];
    b.counter(ItemsCount::new(2 * FILES)).bench(|| Tree::from_layers(black_box(&layers)));
}

#[divan::bench]
fn tree_lookup(b: Bencher<'_, '_>) {
    let layer = layer("app");
    let tree = Tree::from_layers([&layer]).expect("the layer fits");
    b.counter(ItemsCount::new(FILES))
        .bench(|| layer.entries().iter().filter(|e| tree.lookup(black_box(&e.path)).is_some()).count());
}

#[divan::bench(sample_count = 10)]
fn tar_writer(b: Bencher<'_, '_>) {
    let (layer, content) = (layer("app"), content());
    b.counter(BytesCount::new(FILES * SIZE)).bench(|| write_layer(&layer, &content, io::sink()));
}

#[divan::bench(sample_count = 10)]
fn tar_digest(b: Bencher<'_, '_>) {
    let (layer, content) = (layer("app"), content());
    b.counter(BytesCount::new(FILES * SIZE)).bench(|| digest_layer(&layer, &content, &mut |_| None));
}

/// The same after the last file changed.
#[divan::bench(sample_count = 10)]
fn tar_digest_from_a_mark(b: Bencher<'_, '_>) {
    let (layer, content) = (layer("app"), content());
    let known = digest_layer(&layer, &content, &mut |_| None).expect("the content is there").marks;
    let state = |prefix: &Digest| known.iter().find(|m| m.prefix == *prefix).map(|m| m.state.clone());
    b.counter(BytesCount::new(FILES * SIZE)).bench(|| digest_layer(&layer, &content, &mut |p| state(p)));
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn gzip(b: Bencher<'_, '_>, threads: usize) {
    compress(b, Compression::DEFAULT, threads);
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn zstd(b: Bencher<'_, '_>, threads: usize) {
    compress(b, Compression::Zstd(3), threads);
}

fn compress(b: Bencher<'_, '_>, compression: Compression, threads: usize) {
    let bytes = text(32 << 20);
    b.counter(BytesCount::new(bytes.len())).bench(|| -> io::Result<()> {
        let mut encoder = Encoder::new(io::sink(), compression, threads)?;
        encoder.write_all(black_box(&bytes))?;
        encoder.finish().map(drop)
    });
}
