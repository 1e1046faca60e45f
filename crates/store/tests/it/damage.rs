//! What damage does: it is noticed, named, and costs no more than it must.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oci::Digest;
use store::{Part, Store, StoreError, TarBlob};

use crate::{damage, findings, object_path, open, put_image, put_step, read};

fn db_files(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(store.root())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("db.sqlite") && !n.ends_with("-wal") && !n.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

/// Damages the database, log included.
fn damage_database(root: &std::path::Path) {
    fs::remove_file(root.join("db.sqlite-wal")).unwrap();
    fs::write(root.join("db.sqlite"), vec![b'?'; 10_000]).unwrap();
}

#[test]
fn a_lost_database_costs_records_and_no_image() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"content");
    put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    let root = store.root().to_owned();
    drop(store);
    fs::remove_file(root.join("db.sqlite")).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.find("n:1").unwrap().unwrap(), image);
    let diff_id = Digest::of(b"tar of content");
    assert_eq!(store.layer_id_of_diff_id(&diff_id).unwrap(), Some(image.layers[0]));
    let blob = TarBlob { media_type: "l".into(), digest: Digest::of(b"packed content"), size: 14 };
    assert_eq!(store.tar_blobs(&diff_id).unwrap(), [blob]);
    assert_eq!(store.diff_id(&image.layers[0]).unwrap(), None, "nobody knows whether our writer made it");
    assert_eq!(store.records(&Digest::of(b"k"), 9).unwrap(), vec![]);
    put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
}

#[test]
fn a_damaged_database_is_set_aside() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"content");
    let root = store.root().to_owned();
    drop(store);
    damage_database(&root);
    let store = Store::open(&root).unwrap();
    assert_eq!(db_files(&store), ["db.sqlite", "db.sqlite.damaged-1"]);
    assert_eq!(store.find("n:1").unwrap().unwrap(), image);
    put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    drop(store);
    // While another has the store open it cannot be replaced under it.
    damage_database(&root);
    let holder = fs::File::open(root.join("locks/store")).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockShared).unwrap();
    let got = Store::open(&root);
    assert!(matches!(&got, Err(StoreError::Damaged { path, .. }) if path.ends_with("db.sqlite")), "{got:?}");
    drop(holder);
    let store = Store::open(&root).unwrap();
    assert_eq!(db_files(&store), ["db.sqlite", "db.sqlite.damaged-1", "db.sqlite.damaged-2"]);
    let freed = store.gc(&store::Policy::default(), false).unwrap();
    assert!(freed.other.files >= 2);
    assert_eq!(db_files(&store), ["db.sqlite"]);
}

#[test]
fn the_log_that_a_process_leaves_is_read_by_the_next_and_does_not_grow() {
    let (_dir, store) = open();
    let root = store.root().to_owned();
    let log = || fs::metadata(root.join("db.sqlite-wal")).map_or(0, |m| m.len());
    put_step(&store, "k", "p", b"x");
    store.flush().unwrap();
    drop(store);
    assert!((1..=256 << 10).contains(&log()), "{}", log());
    let mut longest = 0;
    for i in 0..40 {
        let store = Store::open(&root).unwrap();
        assert_eq!(store.records(&Digest::of(b"k"), 9).unwrap().len(), 1);
        store.add_build(&i.to_string().into_bytes().repeat(2_000)).unwrap();
        assert_eq!(store.builds(1).unwrap()[0].bytes.len() % 2_000, 0);
        drop(store);
        longest = longest.max(log());
    }
    assert!((1..=256 << 10).contains(&longest), "{longest}");
}

#[test]
fn damage_found_later_is_dealt_with_by_the_next_open() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"content");
    for i in 0..200 {
        put_step(&store, &format!("key {i}"), "p", b"x");
    }
    store.flush().unwrap();
    let root = store.root().to_owned();
    drop(store);
    // What the process left in the log goes into the file: SQLite does so when it closes a database.
    let other = rusqlite::Connection::open(root.join("db.sqlite")).unwrap();
    other.execute("DELETE FROM builds", []).unwrap();
    drop(other);
    // All pages but the first, which says that this is a database.
    let mut bytes = fs::read(root.join("db.sqlite")).unwrap();
    bytes[4096 * 3..].fill(0x5a);
    fs::write(root.join("db.sqlite"), bytes).unwrap();
    let store = Store::open(&root).unwrap();
    let got = (0..200).find_map(|i| store.records(&Digest::of(format!("key {i}").as_bytes()), 9).err());
    assert!(matches!(&got, Some(StoreError::Damaged { .. })), "{got:?}");
    assert_eq!(findings(&store).iter().filter(|f| f.starts_with("Database: ")).count(), 1);
    drop(store);
    let store = Store::open(&root).unwrap();
    assert_eq!(db_files(&store), ["db.sqlite", "db.sqlite.damaged-1"]);
    assert_eq!(store.find("n:1").unwrap().unwrap(), image);
    assert_eq!(store.records(&Digest::of(b"key 7"), 9).unwrap(), vec![]);
    assert_eq!(findings(&store), Vec::<String>::new());
}

#[test]
fn later_formats_are_refused_and_left_alone() {
    let (_dir, store) = open();
    let root = store.root().to_owned();
    drop(store);
    let db = rusqlite::Connection::open(root.join("db.sqlite")).unwrap();
    db.pragma_update(None, "user_version", 77).unwrap();
    drop(db);
    let got = Store::open(&root);
    assert!(matches!(&got, Err(StoreError::Newer { found: 77, .. })), "{got:?}");
    fs::remove_file(root.join("db.sqlite")).unwrap();
    assert!(Store::open(&root).is_ok());
    fs::write(root.join("format"), "layercake-store 2\n").unwrap();
    let got = Store::open(&root);
    assert!(matches!(&got, Err(StoreError::Newer { found: 2, known: 1, .. })), "{got:?}");
    fs::write(root.join("format"), "something\n").unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Damaged { .. })));
}

#[test]
fn no_store_is_made_among_other_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holiday.jpg"), "").unwrap();
    let got = Store::open(dir.path());
    assert!(matches!(&got, Err(StoreError::NotAStore { found, .. }) if found == "holiday.jpg"), "{got:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::remove_file(dir.path().join("holiday.jpg")).unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(fs::metadata(store.root().join("objects")).unwrap().permissions().mode() & 0o777, 0o700);
    let got = Store::open(&dir.path().join("format"));
    assert!(got.is_err(), "a file is no store");
}

#[test]
fn a_damaged_layer_is_not_used() {
    let (_dir, store) = open();
    let layer = put_step(&store, "k", "p", b"x");
    let other = put_step(&store, "k2", "p", b"y");
    store.flush().unwrap();
    let layers = store.root().join("layers");
    let sound = fs::read(layers.join(layer.hex())).unwrap();
    let mut flipped = sound.clone();
    flipped[30] ^= 1;
    for bad in [&flipped[..], &sound[..sound.len() - 1], b"", &fs::read(layers.join(other.hex())).unwrap()] {
        damage(&layers.join(layer.hex()), bad);
        let fresh = Store::open(store.root()).unwrap();
        let got = fresh.layer(&layer);
        assert!(
            matches!(&got, Err(StoreError::Damaged { path, .. }) if path.ends_with(layer.hex())),
            "{got:?}"
        );
    }
    fs::remove_file(layers.join(layer.hex())).unwrap();
    let fresh = Store::open(store.root()).unwrap();
    assert!(matches!(fresh.layer(&layer), Err(StoreError::Missing { kind: "layer", .. })));
    assert_eq!(
        fresh.record_by_parent(&Digest::of(b"k"), &Digest::of(b"p")).unwrap(),
        None,
        "a record without its layer"
    );
}

#[test]
fn a_damaged_blob_is_not_used() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"content");
    damage(&store.root().join("blobs/sha256").join(image.id.hex()), b"{}");
    assert!(matches!(store.read_blob(&image.id, 1000), Err(StoreError::Damaged { .. })));
}

#[test]
fn verify_finds_and_repair_drops_what_is_damaged_and_what_needs_it() {
    let (_dir, store) = open();
    let good = put_image(&store, "good:1", b"good");
    let bad = put_image(&store, "bad:1", b"bad");
    let unreadable = put_image(&store, "unreadable:1", b"unreadable");
    put_step(&store, "good", "p", b"good step");
    put_step(&store, "bad", "p", b"bad step");
    put_step(&store, "gone", "p", b"gone step");
    store.flush().unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());

    damage(&object_path(&store, &Digest::of(b"bad step")), b"bad stef");
    fs::remove_file(object_path(&store, &Digest::of(b"gone step"))).unwrap();
    damage(&store.root().join("blobs/sha256").join(bad.manifest.unwrap().hex()), b"{}");
    damage(&store.root().join("images").join(format!("{}.json", unreadable.id.hex())), b"{");
    fs::write(store.root().join("objects/aa-stray"), "").unwrap();
    fs::write(store.root().join("layers/stray"), "").unwrap();
    let parts = |store: &Store, repair| -> Vec<(Part, bool)> {
        let mut out: Vec<_> = store
            .verify(repair, &|_, _| true)
            .unwrap()
            .findings
            .iter()
            .map(|f| (f.part, f.dropped))
            .collect();
        out.sort();
        out
    };
    let expected = |dropped| {
        vec![
            (Part::Object, dropped),
            (Part::Layer, dropped),
            (Part::Layer, dropped),
            (Part::Blob, dropped),
            (Part::Image, dropped),
            (Part::Image, dropped),
            (Part::Tag, dropped),
            (Part::Tag, dropped),
            (Part::Record, dropped),
            (Part::Record, dropped),
            (Part::Stray, false),
            (Part::Stray, false),
        ]
    };
    assert_eq!(parts(&store, false), expected(false));
    assert_eq!(parts(&store, false), expected(false), "looking changes nothing");
    assert_eq!(parts(&store, true), expected(true));
    assert_eq!(parts(&store, true), [(Part::Stray, false), (Part::Stray, false)]);
    assert_eq!(store.images().unwrap(), [good]);
    assert_eq!(store.tags().unwrap().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["good:1"]);
    for (key, left) in [("good", 1), ("bad", 0), ("gone", 0)] {
        assert_eq!(store.records(&Digest::of(key.as_bytes()), 9).unwrap().len(), left, "{key}");
    }
    assert_eq!(read(&store, &Digest::of(b"good step")).unwrap(), b"good step");
    // The next build makes it again.
    put_step(&store, "bad", "p", b"bad step");
    store.flush().unwrap();
    assert_eq!(read(&store, &Digest::of(b"bad step")).unwrap(), b"bad step");
}

#[test]
fn verify_can_be_stopped_and_counts() {
    let (_dir, store) = open();
    put_image(&store, "n:1", b"content");
    let got = store.verify(false, &|_, _| false);
    assert!(matches!(got, Err(StoreError::Cancelled)), "{got:?}");
    let last = std::sync::Mutex::new((0, 0));
    let verified = store
        .verify(false, &|done, total| {
            let mut last = last.lock().unwrap();
            *last = (last.0.max(done), total);
            true
        })
        .unwrap();
    let (done, total) = *last.lock().unwrap();
    assert_eq!((done, verified.checked.bytes, verified.checked.files), (total, total, 5));
}
