//! Garbage collection.

use oci::Digest;
use store::{Policy, Store, StoreError};

use crate::records::set_last_used;
use crate::{damage, files, findings, open, put_image, put_step, read};

#[test]
fn what_images_and_records_need_stays() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"image content");
    let layer = put_step(&store, "k", "p", b"step content");
    // Referred to by nothing.
    let batch = store.batch();
    let object = batch.add_bytes(b"garbage").unwrap();
    let blob = batch.add_blob(b"garbage blob").unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();

    let would = store.gc(&Policy::default(), true).unwrap();
    assert!(store.has_object(&object).unwrap(), "a dry run removes nothing");
    let freed = store.gc(&Policy::default(), false).unwrap();
    assert_eq!(freed, would);
    assert_eq!((freed.objects.files, freed.objects.bytes), (1, 7));
    assert_eq!((freed.blobs.files, freed.layers.files), (1, 0));
    assert_eq!(freed.kept.files, 2 + 2 + 3);
    assert_eq!((freed.records.len(), freed.images.len()), (0, 0));
    assert!(!store.has_object(&object).unwrap() && !store.has_blob(&blob).unwrap());
    assert_eq!(read(&store, &Digest::of(b"image content")).unwrap(), b"image content");
    assert_eq!(read(&store, &Digest::of(b"step content")).unwrap(), b"step content");
    assert!(store.layer(&layer).is_ok() && store.layer(&image.layers[0]).is_ok());
    assert_eq!(findings(&store), Vec::<String>::new());
    assert_eq!(store.gc(&Policy::default(), false).unwrap().total().files, 0);
}

#[test]
fn images_without_a_tag_and_old_records_go_when_asked() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"image content");
    put_step(&store, "old", "p", b"old content");
    store.flush().unwrap();
    set_last_used(&store, 1_700_000_000);
    put_step(&store, "new", "p", b"new content");
    store.memo_save("fresh", b"m").unwrap();
    store.untag("n:1").unwrap();
    assert!(store.gc(&Policy::default(), false).unwrap().records.is_empty());
    let policy = Policy { unused_for: Some(86_400), untagged_images: true, ..Policy::default() };
    let freed = store.gc(&policy, false).unwrap();
    assert_eq!(freed.images, [image.id]);
    assert_eq!(freed.records.iter().map(|r| r.key).collect::<Vec<_>>(), [Digest::of(b"old")]);
    assert_eq!((freed.layers.files, freed.objects.files, freed.blobs.files), (2, 2, 3));
    assert_eq!(store.layer_id_of_diff_id(&Digest::of(b"tar of image content")).unwrap(), None);
    assert_eq!(store.tar_blobs(&Digest::of(b"tar of image content")).unwrap(), []);
    assert!(store.record_by_parent(&Digest::of(b"new"), &Digest::of(b"p")).unwrap().is_some());
    assert_eq!(store.memo_load("fresh").unwrap(), b"m");
    assert_eq!(findings(&store), Vec::<String>::new());

    let freed = store.gc(&Policy { unused_for: Some(0), ..Policy::default() }, false).unwrap();
    assert_eq!((freed.records.len(), freed.kept.files), (1, 0));
    assert_eq!(store.memo_load("fresh"), None);
    assert_eq!(files(&store.root().join("objects")).len(), 0);
}

#[test]
fn the_least_recently_used_make_room() {
    let (_dir, store) = open();
    put_image(&store, "n:1", b"image content");
    // A record whose layer the image holds: dropping it would free nothing.
    let shared = store.image(&store.tags().unwrap()[0].id).unwrap().unwrap().layers[0];
    let batch = store.batch();
    batch.commit(vec![crate::record("shared", "p", shared)], vec![]).unwrap();
    store.flush().unwrap();
    set_last_used(&store, 1_600_000_000);
    for (i, key) in ["first", "second", "third"].iter().enumerate() {
        put_step(&store, key, "p", &vec![i as u8; 10_000]);
        store.flush().unwrap();
    }
    let db = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
    for (i, key) in ["second", "first", "third"].iter().enumerate() {
        let key = Digest::of(key.as_bytes());
        let used = 1_700_000_000 + i as i64;
        db.execute(
            "UPDATE records SET last_used = ?1 WHERE key = ?2",
            rusqlite::params![used, key.as_bytes()],
        )
        .unwrap();
    }
    drop(db);
    let keys =
        |policy| -> Vec<Digest> { store.gc(&policy, false).unwrap().records.iter().map(|r| r.key).collect() };
    assert_eq!(keys(Policy { max_bytes: Some(1 << 20), ..Policy::default() }), []);
    assert_eq!(keys(Policy { max_bytes: Some(25_000), ..Policy::default() }), [Digest::of(b"second")]);
    let rest = [Digest::of(b"first"), Digest::of(b"third")];
    assert_eq!(keys(Policy { max_bytes: Some(1), ..Policy::default() }), rest);
    assert_eq!(store.images().unwrap().len(), 1, "images do not make room");
    assert_eq!(store.records(&Digest::of(b"shared"), 1).unwrap().len(), 1);
    assert_eq!(findings(&store), Vec::<String>::new());
}

#[test]
fn it_does_not_run_beside_others() {
    let (_dir, store) = open();
    let other = Store::open(store.root()).unwrap();
    assert!(matches!(store.gc(&Policy::default(), false), Err(StoreError::InUse { .. })));
    assert!(store.gc(&Policy::default(), true).is_ok(), "a dry run may");
    assert!(matches!(store.verify(true, &|_, _| true), Err(StoreError::InUse { .. })));
    drop(other);
    let batch = store.batch();
    assert!(matches!(store.gc(&Policy::default(), false), Err(StoreError::InUse { .. })), "an open batch");
    drop(batch);
    assert!(store.gc(&Policy::default(), false).is_ok());
    // The lock is shared again afterwards.
    assert!(Store::open_waiting(store.root(), &mut || {}, &|| true).is_ok());
}

#[test]
fn it_refuses_to_guess_what_a_damaged_layer_needs() {
    let (_dir, store) = open();
    let layer = put_step(&store, "k", "p", b"step content");
    store.flush().unwrap();
    damage(&store.root().join("layers").join(layer.hex()), b"nonsense");
    assert!(matches!(store.gc(&Policy::default(), false), Err(StoreError::Damaged { .. })));
    assert!(store.has_object(&Digest::of(b"step content")).unwrap());
    store.verify(true, &|_, _| true).unwrap();
    assert_eq!(store.gc(&Policy::default(), false).unwrap().objects.files, 1);
}

#[test]
fn everything_is_counted() {
    let (_dir, store) = open();
    put_image(&store, "n:1", b"image content");
    put_step(&store, "k", "p", b"step");
    store.memo_save("m", b"memo").unwrap();
    store.flush().unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.objects.files, usage.objects.bytes), (2, 17));
    assert_eq!((usage.layers.files, usage.blobs.files, usage.images.files), (2, 3, 2));
    assert_eq!((usage.memo.files, usage.memo.bytes, usage.records), (1, 36, 1));
    assert!(usage.database.bytes > 0);
    let counted = usage.total().files;
    let there =
        files(store.root()).iter().filter(|f| !f.starts_with(store.root().join("locks"))).count() as u64;
    assert_eq!(counted, there - 1, "all but locks and the file format");
}
