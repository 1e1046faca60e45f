//! New content: when it is visible, to whom, and what is left of it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use oci::content::{Content, ContentSink};
use oci::{Digest, LayerIndex};
use store::{ImageRecord, Store, StoreError};

use crate::{files, findings, layer_of, object_path, open, put_step, read, record};

#[test]
fn staged_content_is_seen_at_once_by_its_process_and_after_the_flush_by_all() {
    let (_dir, store) = open();
    let other = Store::open(store.root()).unwrap();
    let batch = store.batch();
    let small = batch.add_bytes(b"small").unwrap();
    let large_bytes = vec![7u8; 3 << 20];
    let (large, size) = batch.add(&mut &large_bytes[..]).unwrap();
    assert_eq!((large, size), (Digest::of(&large_bytes), 3 << 20));
    let layer = batch.add_layer(&layer_of("f", b"small")).unwrap();
    assert_eq!(read(&store, &small).unwrap(), b"small");
    assert_eq!(read(&store, &large).unwrap(), large_bytes);
    assert_eq!(*store.layer(&layer).unwrap(), layer_of("f", b"small"));
    for digest in [&small, &large] {
        assert_eq!(Content::open(&other, digest).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
    assert!(matches!(other.layer(&layer), Err(StoreError::Missing { kind: "layer", .. })));
    assert_eq!(files(&store.root().join("objects")).len(), 0);

    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    for store in [&store, &other] {
        assert_eq!(read(store, &small).unwrap(), b"small");
        assert_eq!(read(store, &large).unwrap(), large_bytes);
        assert_eq!(*store.layer(&layer).unwrap(), layer_of("f", b"small"));
    }
    let meta = fs::metadata(object_path(&store, &small)).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o444);
    let staged: Vec<_> =
        files(&store.root().join("tmp")).into_iter().filter(|f| !f.ends_with("lock")).collect();
    assert_eq!(staged, Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_dropped_batch_leaves_nothing() {
    let (_dir, store) = open();
    let batch = store.batch();
    let sink = batch.sink();
    let object = batch.add_bytes(b"x").unwrap();
    batch.add(&mut &vec![1u8; 2 << 20][..]).unwrap();
    batch.add_layer(&layer_of("f", b"x")).unwrap();
    drop(batch);
    assert!(!store.has_object(&object).unwrap());
    assert!(matches!(sink.add_bytes(b"late"), Err(StoreError::Closed)));
    let left: Vec<_> =
        files(store.root()).into_iter().filter(|f| f.to_string_lossy().contains("staged")).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_object_of_two_batches_lives_as_long_as_either_wants_it() {
    let (_dir, store) = open();
    let (first, second) = (store.batch(), store.batch());
    let object = first.add_bytes(b"shared").unwrap();
    second.add_bytes(b"shared").unwrap();
    // Relied on through a layer only.
    let third = store.batch();
    let layer = third.add_layer(&layer_of("f", b"shared")).unwrap();
    drop(first);
    drop(second);
    assert_eq!(read(&store, &object).unwrap(), b"shared");
    third.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    assert!(object_path(&store, &object).exists());
    assert!(store.has_layer(&layer).unwrap());

    // And through a layer of a batch that is dropped.
    let (one, two) = (store.batch(), store.batch());
    one.add_bytes(b"by layer").unwrap();
    let layer = one.add_layer(&layer_of("g", b"by layer")).unwrap();
    two.set_diff_id(&layer, &Digest::of(b"tar"), 1, store::TarOrigin::Written).unwrap();
    drop(one);
    two.commit(vec![record("k", "p", layer)], vec![]).unwrap();
    store.flush().unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    assert!(store.has_layer(&layer).unwrap());

    let (one, two) = (store.batch(), store.batch());
    let object = one.add_bytes(b"again").unwrap();
    two.add_bytes(b"again").unwrap();
    one.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    drop(two);
    assert_eq!(read(&store, &object).unwrap(), b"again");
}

#[test]
fn what_the_store_has_is_never_written_again() {
    let (dir, store) = open();
    put_step(&store, "a", "p", b"content");
    store.flush().unwrap();
    let path = object_path(&store, &Digest::of(b"content"));
    let before = fs::metadata(&path).unwrap();
    let given = dir.path().join("given");
    fs::write(&given, b"content").unwrap();
    let batch = store.batch();
    batch.add_bytes(b"content").unwrap();
    batch.add(&mut &b"content"[..]).unwrap();
    batch.add_path(&given).unwrap();
    assert!(batch.reuse(&Digest::of(b"content")).unwrap());
    assert!(!batch.reuse(&Digest::of(b"nobody has it")).unwrap());
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert!(given.exists(), "a file that is not needed stays for its owner to remove");
}

#[test]
fn two_stores_that_write_the_same_keep_the_first() {
    let (_dir, store) = open();
    let other = Store::open(store.root()).unwrap();
    let (a, b) = (store.batch(), other.batch());
    let object = a.add_bytes(b"same").unwrap();
    b.add_bytes(b"same").unwrap();
    a.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    let inode = fs::metadata(object_path(&store, &object)).unwrap().ino();
    b.commit(vec![], vec![]).unwrap();
    other.flush().unwrap();
    assert_eq!(fs::metadata(object_path(&store, &object)).unwrap().ino(), inode);
    assert_eq!(read(&other, &object).unwrap(), b"same");
}

#[test]
fn a_given_file_is_moved_and_loses_its_metadata() {
    let (dir, store) = open();
    let batch = store.batch();
    for (name, mode, size) in [("small", 0o4755, 10), ("secret", 0o000, 5000), ("large", 0o640, 2 << 20)] {
        let path = dir.path().join(name);
        let content = vec![b'a' + name.len() as u8; size];
        fs::write(&path, &content).unwrap();
        rustix::fs::setxattr(&path, "user.note", b"x", rustix::fs::XattrFlags::empty()).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let (digest, n) = batch.add_path(&path).unwrap();
        assert_eq!((digest, n), (Digest::of(&content), size as u64));
        assert!(!path.exists(), "{name} was moved");
        assert_eq!(read(&store, &digest).unwrap(), content);
        let there =
            files(&store.root().join("tmp")).into_iter().find(|f| fs::metadata(f).unwrap().ino() == inode);
        let there = there.expect("the same inode is staged");
        let meta = fs::metadata(&there).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o444, "{name}");
        assert_eq!(meta.uid(), rustix::process::geteuid().as_raw(), "{name}");
        assert_eq!(rustix::fs::listxattr(&there, &mut [0u8; 64][..]).unwrap(), 0, "{name}");
    }
}

#[test]
fn a_given_file_with_two_names_is_copied() {
    let (dir, store) = open();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "linked").unwrap();
    fs::hard_link(&a, &b).unwrap();
    let batch = store.batch();
    let (digest, _) = batch.add_path(&a).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    File::options().append(true).open(&b).unwrap().write_all(b"!").unwrap();
    assert_eq!(
        read(&store, &digest).unwrap(),
        b"linked",
        "a write through the other name reached the object"
    );
}

#[test]
fn only_regular_files_are_taken() {
    let (dir, store) = open();
    let batch = store.batch();
    let target = dir.path().join("target");
    fs::write(&target, "x").unwrap();
    let link = dir.path().join("link");
    symlink(&target, &link).unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    for path in [&link, &pipe, &dir.path().to_owned()] {
        let got = batch.add_path(path);
        assert!(matches!(got, Err(StoreError::NotAFile { .. })), "{path:?}: {got:?}");
    }
    assert!(target.exists());
    let got = batch.add_path(&dir.path().join("none"));
    assert!(matches!(got, Err(StoreError::Io { .. })), "{got:?}");
}

#[test]
fn a_context_file_stays_and_is_copied_whatever_its_offset() {
    let (dir, store) = open();
    let batch = store.batch();
    for size in [0, 1, 100_000, 5 << 20] {
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let mut file = File::open(&path).unwrap();
        file.read_exact(&mut vec![0; size / 2]).unwrap();
        let (digest, n) = batch.add_file(&file, &path).unwrap();
        assert_eq!((digest, n), (Digest::of(&content), size as u64));
        assert_eq!(read(&store, &digest).unwrap(), content);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_context_file_that_changes_is_noticed() {
    let (dir, store) = open();
    let batch = store.batch();
    // Files whose size is not what can be read of them.
    for path in ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        let Ok(file) = File::open(path) else { continue };
        let got = batch.add_file(&file, path.as_ref());
        assert!(matches!(&got, Err(StoreError::Changed { path: p }) if p.to_str() == Some(path)), "{got:?}");
    }
    let path = dir.path().join("busy");
    fs::write(&path, vec![0; 48 << 20]).unwrap();
    let file = File::open(&path).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt;
            let writer = File::options().write(true).open(&path).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                writer.write_all_at(b"x", 0).unwrap();
                std::thread::yield_now();
            }
        });
        let got = batch.add_file(&file, &path);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        got
    });
    assert!(matches!(got, Err(StoreError::Changed { .. })), "{got:?}");
    drop(batch);
    assert!(files(&store.root().join("tmp")).iter().all(|f| f.ends_with("lock")), "the copy was left behind");
}

#[test]
fn several_threads_fill_one_batch() {
    let (_dir, store) = open();
    let batch = store.batch();
    let content = |i: usize| format!("file {}", i % 700).into_bytes();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let mut sink = batch.sink();
            scope.spawn(move || {
                for i in 0..500 {
                    let bytes = content(t * 300 + i);
                    let (digest, _) = ContentSink::add(&mut sink, &mut &bytes[..]).unwrap();
                    assert_eq!(digest, Digest::of(&bytes));
                }
            });
        }
    });
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    assert_eq!(files(&store.root().join("objects")).len(), 700);
    for i in 0..700 {
        assert_eq!(read(&store, &Digest::of(&content(i))).unwrap(), content(i));
    }
}

#[test]
fn nothing_is_committed_that_names_what_is_not_there() {
    let (_dir, store) = open();
    let batch = store.batch();
    let got = batch.add_layer(&layer_of("f", b"never added"));
    assert!(
        matches!(got, Err(StoreError::Missing { kind: "object", digest }) if digest == Digest::of(b"never added"))
    );
    let nothing = Digest::of(b"nothing");
    let image =
        |id, layer| ImageRecord { id, manifest: None, layers: vec![layer], created: oci::Time::default() };
    assert!(matches!(
        batch.put_image(&image(nothing, nothing)),
        Err(StoreError::Missing { kind: "blob", .. })
    ));
    let config = batch.add_blob(b"{}").unwrap();
    assert!(matches!(
        batch.put_image(&image(config, nothing)),
        Err(StoreError::Missing { kind: "layer", .. })
    ));
    assert!(matches!(batch.tag("n", &config, None), Err(StoreError::Missing { kind: "image", .. })));
    assert!(matches!(
        batch.add_tar_blob(&nothing, "m", &nothing, 1),
        Err(StoreError::Missing { kind: "blob", .. })
    ));
    let got = batch.commit(vec![record("k", "p", nothing)], vec![]);
    assert!(matches!(got, Err(StoreError::Missing { kind: "layer", .. })));
    store.flush().unwrap();
    assert_eq!(store.records(&Digest::of(b"k"), 9).unwrap(), vec![]);
}

#[test]
fn a_readers_error_comes_back_as_it_was() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob ends early"))
        }
    }
    let (_dir, store) = open();
    let batch = store.batch();
    for head in [0, 2 << 20] {
        let e = batch.add(&mut io::repeat(1).take(head).chain(Bad)).unwrap_err();
        assert_eq!((e.kind(), e.to_string()), (io::ErrorKind::UnexpectedEof, "the blob ends early".into()));
    }
    assert!(files(&store.root().join("tmp")).iter().all(|f| f.ends_with("lock")));
}

#[test]
fn the_last_store_that_goes_writes_what_was_committed() {
    let (_dir, store) = open();
    let root = store.root().to_owned();
    let layer = put_step(&store, "k", "p", b"content");
    drop(store);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.record_by_parent(&Digest::of(b"k"), &Digest::of(b"p")).unwrap().unwrap().layer, layer);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0, "a session was left");
}

#[test]
fn an_empty_layer_is_a_layer() {
    let (_dir, store) = open();
    let batch = store.batch();
    let id = batch.add_layer(&LayerIndex::default()).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    assert!(Store::open(store.root()).unwrap().layer(&id).unwrap().is_empty());
}

/// The group commit is stopped at each of its stages: nothing of a later stage may be there.
#[test]
fn a_failed_commit_shows_nothing_whose_base_is_missing_and_stops_all_later_ones() {
    for stage in ["objects", "layers", "image", "images/tags"] {
        let (_dir, store) = open();
        let root = store.root().to_owned();
        let batch = store.batch();
        let object = batch.add_bytes(b"content").unwrap();
        let layer = batch.add_layer(&layer_of("f", b"content")).unwrap();
        let config = batch.add_blob(b"{}").unwrap();
        let image =
            ImageRecord { id: config, manifest: None, layers: vec![layer], created: oci::Time::default() };
        batch.put_image(&image).unwrap();
        batch.tag("n:1", &config, None).unwrap();
        let aside = root.join("aside");
        let image_file = root.join("images").join(format!("{}.json", config.hex()));
        let place = match stage {
            "objects" => root.join("objects").join(&object.hex()[..2]),
            "image" => image_file.clone(),
            other => root.join(other),
        };
        if place.exists() {
            fs::rename(&place, &aside).unwrap();
        }
        // A directory where a file is to be, or the other way round.
        if stage == "image" {
            fs::create_dir(&place).unwrap()
        } else {
            fs::write(&place, "in the way").unwrap()
        }
        batch.commit(vec![record("k", "p", layer)], vec![]).unwrap();
        let got = store.flush();
        assert!(
            matches!(&got, Err(StoreError::Io { path, .. }) if path.starts_with(&place)),
            "{stage}: {got:?}"
        );

        assert!(!root.join("layers").join(layer.hex()).exists() || stage.starts_with("image"), "{stage}");
        assert!(!image_file.is_file() || stage == "images/tags", "{stage}");
        assert_eq!(store.tags().ok().unwrap_or_default(), vec![], "{stage}");
        assert_eq!(store.records(&Digest::of(b"k"), 9).unwrap(), vec![], "{stage}");
        // This process may still be running steps on it.
        assert_eq!(read(&store, &object).unwrap(), b"content");
        assert!(store.layer(&layer).is_ok());
        let batch = store.batch();
        batch.add_bytes(b"later").unwrap();
        let got = batch.commit(vec![], vec![]);
        assert!(matches!(&got, Err(StoreError::Stopped { .. })), "{got:?}");
        assert!(store.flush().is_err(), "the error stays");
        drop(store);

        if stage == "image" {
            fs::remove_dir(&place).unwrap()
        } else {
            fs::remove_file(&place).unwrap()
        }
        if aside.exists() {
            fs::rename(&aside, &place).unwrap();
        }
        let store = Store::open(&root).unwrap();
        assert_eq!(findings(&store), Vec::<String>::new(), "{stage}");
        put_step(&store, "k", "p", b"content");
        store.flush().unwrap();
        assert_eq!(store.records(&Digest::of(b"k"), 9).unwrap().len(), 1);
    }
}

#[test]
fn a_step_lock_is_kept_until_its_record_can_be_found() {
    let (_dir, store) = open();
    let key = Digest::of(b"k");
    let lock = store.lock_step(&key, &mut || {}, &|| false).unwrap();
    let batch = store.batch();
    let layer = batch.add_layer(&LayerIndex::default()).unwrap();
    batch.commit(vec![record("k", "p", layer)], vec![lock]).unwrap();
    let other = Store::open(store.root()).unwrap();
    let _lock = other.lock_step(&key, &mut || {}, &|| false).unwrap();
    assert_eq!(other.records(&key, 9).unwrap().len(), 1);
}
