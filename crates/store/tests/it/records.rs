//! Records of past steps.

use oci::Digest;
use store::Store;

use crate::{layer_of, open, put_step, record};

#[test]
fn a_record_comes_back_as_it_was_put() {
    let (_dir, store) = open();
    let layer = put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    let store = Store::open(store.root()).unwrap();
    let new = record("k", "p", layer);
    let got = store.record_by_parent(&new.key, &new.parent).unwrap().unwrap();
    assert_eq!((got.key, got.parent, got.layer, got.chain), (new.key, new.parent, new.layer, new.chain));
    assert_eq!((got.created, got.duration_ms, got.has_observations), (new.created, new.duration_ms, true));
    assert_eq!(got.inputs, new.inputs);
    assert_eq!(store.record_log(got.id).unwrap().unwrap(), new.log);
    assert_eq!(store.record_observations(got.id).unwrap(), new.observations);
    assert_eq!(store.record(got.id).unwrap().unwrap(), got);
    assert_eq!(store.record_by_parent(&new.key, &Digest::of(b"q")).unwrap(), None);
    assert_eq!(store.record_by_parent(&Digest::of(b"j"), &new.parent).unwrap(), None);
    assert_eq!(store.record_log(got.id + 1).unwrap(), None);
}

#[test]
fn a_result_that_is_reused_often_does_not_push_out_others() {
    let (_dir, store) = open();
    for i in 0..20 {
        // Two results of two branches, and then a third one on ever new parents.
        let content = format!("{}", i.min(2));
        put_step(&store, "k", &format!("parent {i}"), content.as_bytes());
    }
    store.flush().unwrap();
    let parents: Vec<Digest> =
        store.records(&Digest::of(b"k"), 100).unwrap().iter().map(|r| r.parent).collect();
    let expected = (6..20).rev().chain([1, 0]).map(|i| Digest::of(format!("parent {i}").as_bytes()));
    assert_eq!(parents, expected.collect::<Vec<_>>());
}

#[test]
fn the_newest_of_a_key_are_kept_and_one_of_each_parent() {
    let (_dir, store) = open();
    let key = Digest::of(b"k");
    for i in 0..20 {
        put_step(&store, "k", &format!("parent {i}"), format!("{i}").as_bytes());
    }
    put_step(&store, "other", "parent 0", b"o");
    store.flush().unwrap();
    let parents =
        |limit| -> Vec<Digest> { store.records(&key, limit).unwrap().iter().map(|r| r.parent).collect() };
    let expected: Vec<Digest> = (4..20).rev().map(|i| Digest::of(format!("parent {i}").as_bytes())).collect();
    assert_eq!(parents(100), expected);
    assert_eq!(parents(3), expected[..3]);
    assert_eq!(
        store.records(&Digest::of(b"other"), 100).unwrap().len(),
        1,
        "another key has its own sixteen"
    );

    // The same parent again: the new run takes the old one's place, and is the newest.
    let old = store.record_by_parent(&key, &expected[5]).unwrap().unwrap();
    let batch = store.batch();
    batch.add_bytes(b"rerun").unwrap();
    let layer = batch.add_layer(&layer_of("k", b"rerun")).unwrap();
    let mut rerun = record("k", "parent 14", layer);
    rerun.observations = None;
    batch.commit(vec![rerun], vec![]).unwrap();
    store.flush().unwrap();
    let new = store.record_by_parent(&key, &expected[5]).unwrap().unwrap();
    assert_eq!((new.layer, new.has_observations), (layer, false));
    assert_eq!(store.record_observations(new.id).unwrap(), None);
    assert_eq!(store.records(&key, 100).unwrap().len(), 16);
    assert_eq!(parents(1), [expected[5]]);
    assert_eq!(store.record_log(old.id).unwrap(), None, "the old run's log is gone with it");
}

#[test]
fn a_long_log_keeps_its_end() {
    let (_dir, store) = open();
    let batch = store.batch();
    let layer = batch.add_layer(&oci::LayerIndex::default()).unwrap();
    let mut new = record("k", "p", layer);
    new.log = vec![b'x'; (16 << 20) + 5];
    new.log.extend_from_slice(b"the end");
    batch.commit(vec![new], vec![]).unwrap();
    store.flush().unwrap();
    let got = store.records(&Digest::of(b"k"), 1).unwrap().remove(0);
    let log = store.record_log(got.id).unwrap().unwrap();
    assert_eq!(log.len(), 16 << 20);
    assert!(log.ends_with(b"xthe end"));
}

#[test]
fn a_use_is_written_down_when_it_is_an_hour_later() {
    let (_dir, store) = open();
    put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    let (key, parent) = (Digest::of(b"k"), Digest::of(b"p"));
    let used = || store.record_by_parent(&key, &parent).unwrap().unwrap().last_used;
    let now = used();
    assert!(now > 1_700_000_000);
    set_last_used(&store, now - 7200);
    assert_eq!(used(), now - 7200, "a look-up does not write");
    store.flush().unwrap();
    let after = used();
    assert!(after >= now);
    set_last_used(&store, after - 60);
    used();
    store.record_used(store.records(&key, 1).unwrap()[0].id);
    store.flush().unwrap();
    assert_eq!(used(), after - 60, "a use soon after the last is not worth a write");
}

/// Ages all records.
pub(crate) fn set_last_used(store: &Store, time: i64) {
    let db = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
    assert!(db.execute("UPDATE records SET last_used = ?1", [time]).unwrap() > 0);
}
