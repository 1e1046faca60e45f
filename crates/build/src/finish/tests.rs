//! Histories that do not have one entry for each layer; diff IDs.

use std::sync::atomic::AtomicBool;

use oci::index::Attrs;
use oci::tar::write_layer;
use oci::types::{History, ImageConfig};
use oci::{Digest, Entry, Kind, LayerIndex};
use store::Store;

use super::{ahead, diff_id, pad_history};

/// Pads a history (`x` has a layer, `-x` has none) for these titles; the result in the same form.
fn padded(history: &[&str], titles: &[&str]) -> Vec<String> {
    let entries = history.iter().map(|h| History {
        created_by: Some(h.trim_start_matches('-').into()),
        empty_layer: h.starts_with('-'),
        ..History::default()
    });
    let mut config = ImageConfig { history: entries.collect(), ..ImageConfig::default() };
    let titles: Vec<String> = titles.iter().map(|t| (*t).to_owned()).collect();
    pad_history(&mut config, &titles, "now");
    let layers = config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layers, titles.len(), "one entry for each layer");
    let text = |h: &History| {
        format!("{}{}", if h.empty_layer { "-" } else { "" }, h.created_by.as_deref().unwrap_or("?"))
    };
    config.history.iter().map(text).collect()
}

#[test]
fn every_layer_has_one_entry() {
    assert_eq!(padded(&["a", "-e", "b"], &["", "RUN b"]), ["a", "-e", "b"]);
    // A base without a history: what is known of the last layers is added at the end.
    assert_eq!(padded(&["b"], &["", "RUN b"]), ["b", "RUN b"]);
    assert_eq!(padded(&[], &["", ""]), ["?", "?"]);
    // More entries than layers: the last ones have none.
    assert_eq!(padded(&["a", "b", "-e", "c"], &["x"]), ["a", "-b", "-e", "-c"]);
}

#[test]
fn a_layer_that_begins_as_another_has_the_digest_of_its_own_tar() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let layer = |last: &[u8]| {
        let batch = store.batch();
        let mut entries = Vec::new();
        for (path, bytes) in [("a", &vec![b'a'; 5 << 20][..]), ("b", last)] {
            let digest = batch.add_bytes(bytes).unwrap();
            let kind = Kind::File { size: bytes.len() as u64, digest };
            entries.push(Entry { path: path.into(), kind, attrs: Attrs::default() });
        }
        let index = LayerIndex::from_entries(entries).unwrap();
        let id = batch.add_layer(&index).unwrap();
        batch.commit(vec![], vec![]).unwrap();
        let mut tar = Vec::new();
        write_layer(&index, &store, &mut tar).unwrap();
        (id, Digest::of(&tar))
    };
    let (first, tar) = layer(b"first");
    assert_eq!(diff_id(&store, &first).unwrap(), tar);
    store.flush().unwrap();
    let (second, tar) = layer(b"second");
    store.flush().unwrap();
    // Nothing of the first file is read again: it might as well be gone.
    let hex = Digest::of(&vec![b'a'; 5 << 20]).hex();
    std::fs::remove_file(store.root().join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    assert_eq!(diff_id(&store, &second).unwrap(), tar);
}

#[test]
fn diff_ids_are_found_ahead_until_the_build_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let layer = |text: &str| {
        let batch = store.batch();
        let digest = batch.add_bytes(text.as_bytes()).unwrap();
        let kind = Kind::File { size: text.len() as u64, digest };
        let entry = Entry { path: b"f".to_vec(), kind, attrs: Attrs::default() };
        let id = batch.add_layer(&LayerIndex::from_entries(vec![entry]).unwrap()).unwrap();
        batch.commit(vec![], vec![]).unwrap();
        id
    };
    let find = |layers: &[Digest], cancelled| {
        let (made, receiver) = std::sync::mpsc::channel();
        layers.iter().for_each(|l| made.send(*l).unwrap());
        drop(made);
        ahead(&store, receiver, &AtomicBool::new(cancelled));
        layers.iter().map(|l| store.diff_id(l).unwrap().is_some()).collect::<Vec<_>>()
    };
    // One that is nowhere is left to whoever needs it.
    assert_eq!(find(&[layer("a"), Digest::of(b"?"), layer("b")], false), [true, false, true]);
    assert_eq!(find(&[layer("c")], true), [false]);
}
