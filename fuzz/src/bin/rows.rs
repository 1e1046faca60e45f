//! The store's own files with anything in them: rows of the database, image, tag and layer files. Reading them gives an answer or an
//! error, in bounded memory.
//!
//! The first byte says which value is replaced, and by what: the rest of the input as a blob, packed by zstd, as text, or as a number.

#![no_main]

use std::path::PathBuf;

use oci::{Digest, LayerIndex, Time};
use rusqlite::types::Value;
use store::{NewRecord, Store};

struct Lab {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: Store,
    raw: rusqlite::Connection,
    key: Digest,
    parent: Digest,
    layer: Digest,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let root = dir.path().join("store");
    let store = Store::open(&root).expect("a new store");
    let (key, parent) = (Digest::of(b"key"), Digest::of(b"parent"));
    let batch = store.batch();
    let layer = batch.add_layer(&LayerIndex::default()).expect("a layer");
    let blob = batch.add_blob(b"blob").expect("a blob");
    batch.set_diff_id(&layer, &key, 1024, store::TarOrigin::Received).expect("a tar");
    batch.add_tar_blob(&key, "text", &blob, 4).expect("a tar's blob");
    let record = NewRecord {
        key,
        parent,
        layer,
        chain: parent,
        created: Time::now(),
        duration_ms: 1,
        log: vec![1; 100],
        observations: Some(vec![2; 100]),
        inputs: "{}".into(),
        notes: String::new(),
    };
    batch.commit(vec![record], Vec::new()).expect("a commit");
    store.flush().expect("a flush");
    store.add_build(b"{}").expect("a build");
    let raw = rusqlite::Connection::open(root.join("db.sqlite")).expect("the database");
    raw.execute_batch("PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF;").expect("settings");
    Lab { _dir: dir, root, store, raw, key, parent, layer }
}

/// Column and table, and what says which row.
const PLACES: &[(&str, &str)] = &[
    ("records", "key"),
    ("records", "parent"),
    ("records", "layer"),
    ("records", "chain"),
    ("records", "created_secs"),
    ("records", "created_nanos"),
    ("records", "last_used"),
    ("records", "duration_ms"),
    ("records", "inputs"),
    ("records", "notes"),
    ("records", "has_observations"),
    ("record_data", "size"),
    ("record_data", "bytes"),
    ("tars", "layer"),
    ("tars", "size"),
    ("tars", "written"),
    ("tar_blobs", "digest"),
    ("tar_blobs", "media_type"),
    ("tar_blobs", "size"),
    ("builds", "created_secs"),
    ("builds", "size"),
    ("builds", "bytes"),
];

fn value(how: u8, rest: &[u8]) -> Value {
    match how % 4 {
        0 => Value::Blob(rest.to_vec()),
        1 => Value::Blob(zstd::bulk::compress(rest, 1).expect("memory is enough")),
        2 => Value::Text(String::from_utf8_lossy(rest).into_owned()),
        _ => {
            let mut n = [0; 8];
            let len = rest.len().min(8);
            n[..len].copy_from_slice(&rest[..len]);
            Value::Integer(i64::from_le_bytes(n))
        }
    }
}

/// Everything that reads.
fn read(lab: &Lab) {
    let store = &lab.store;
    let _ = store.record_by_parent(&lab.key, &lab.parent);
    for record in store.records(&lab.key, 16).unwrap_or_default() {
        let _ = store.record(record.id);
    }
    let log = store.record_log(1).unwrap_or_default();
    assert!(log.is_none_or(|l| l.len() <= 16 << 20));
    let seen = store.record_observations(1).unwrap_or_default();
    assert!(seen.is_none_or(|o| o.len() <= 256 << 20));
    let _ = store.builds(10);
    let _ = store.layer_id_of_diff_id(&lab.key);
    let _ = store.diff_id(&lab.layer);
    let _ = store.tar_blobs(&lab.key);
}

thread_local! {
    static LAB: Lab = lab();
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [place, how, rest @ ..] = input else { return };
    LAB.with(|lab| {
        let place = *place as usize % (PLACES.len() + 3);
        if let Some((table, column)) = PLACES.get(place) {
            let _ = lab.raw.execute_batch("SAVEPOINT before");
            // Constraints may refuse it.
            let _ = lab.raw.execute(&format!("UPDATE {table} SET {column} = ?1"), [value(*how, rest)]);
            let _ = lab.raw.execute_batch("RELEASE before");
            read(lab);
            restore(lab);
            return;
        }
        let id = Digest::of(b"image");
        let name = match place - PLACES.len() {
            0 => format!("images/{}.json", id.hex()),
            1 => format!("images/tags/{}.json", Digest::of(b"name").hex()),
            _ => format!("layers/{}", id.hex()),
        };
        let path = lab.root.join(&name);
        std::fs::write(&path, rest).expect("memory is enough");
        let _ = lab.store.image(&id);
        let _ = lab.store.images();
        let _ = lab.store.tags();
        let _ = lab.store.find_tag("name");
        let _ = lab.store.layer(&id);
        std::fs::remove_file(&path).expect("it was there");
    });
});

/// Puts good values back.
fn restore(lab: &Lab) {
    let (key, parent, layer) = (lab.key.as_bytes(), lab.parent.as_bytes(), lab.layer.as_bytes());
    let packed = zstd::bulk::compress(&[1; 100], 1).expect("memory is enough");
    let all = [
        lab.raw.execute(
            "UPDATE records SET key=?1, parent=?2, layer=?3, chain=?2, created_secs=1, created_nanos=1, last_used=1, \
             duration_ms=1, inputs='{}', notes='', has_observations=1",
            (key, parent, layer),
        ),
        lab.raw.execute("UPDATE record_data SET size=100, bytes=?1", [&packed]),
        lab.raw.execute("UPDATE tars SET layer=?1, size=1024, written=0", [layer]),
        lab.raw.execute("UPDATE tar_blobs SET digest=?1, media_type='text', size=4", [key]),
        lab.raw.execute("UPDATE builds SET created_secs=1, size=100, bytes=?1", [&packed]),
    ];
    for result in all {
        assert_eq!(result.expect("good values are taken") > 0, true);
    }
}
