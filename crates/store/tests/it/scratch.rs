//! Scratch directories and sessions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use store::Store;

use crate::open;

#[test]
fn a_scratch_directory_goes_with_everything_in_it() {
    let (_dir, store) = open();
    let (a, b) = (store.scratch().unwrap(), store.scratch().unwrap());
    assert_ne!(a.path(), b.path());
    assert!(a.path().is_absolute());
    assert_eq!(fs::metadata(a.path()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(a.path()).unwrap().dev(), fs::metadata(store.root()).unwrap().dev());
    fs::create_dir_all(a.path().join("work/work")).unwrap();
    fs::write(a.path().join("work/work/f"), "x").unwrap();
    fs::set_permissions(a.path().join("work/work"), fs::Permissions::from_mode(0o000)).unwrap();
    let path = a.path().to_owned();
    drop(a);
    assert!(b.path().exists());
    // In the background, but not only when the store is closed.
    let gone = (0..2000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        !path.exists()
    });
    assert!(gone);
    let root = store.root().to_owned();
    drop((b, store));
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn reading_makes_no_session() {
    let (_dir, store) = open();
    store.tags().unwrap();
    store.records(&oci::Digest::of(b"k"), 1).unwrap();
    store.flush().unwrap();
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_a_dead_process_left_is_swept_and_a_live_one_is_not() {
    let (_dir, store) = open();
    let live = store.scratch().unwrap();
    let tmp = store.root().join("tmp");
    // Dead in the middle of its making, after it, and in the middle of being swept.
    for name in ["1-1", "2-2", "dead-3-3"] {
        fs::create_dir_all(tmp.join(name).join("scratch-0/work/work")).unwrap();
        fs::set_permissions(tmp.join(name).join("scratch-0/work/work"), fs::Permissions::from_mode(0o000))
            .unwrap();
    }
    fs::write(tmp.join("2-2/lock"), "").unwrap();
    let other = Store::open(store.root()).unwrap();
    let new = other.scratch().unwrap();
    assert!(new.path().exists());
    drop((new, other));
    let left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [live.path().parent().unwrap()]);
    assert!(live.path().exists());
}

#[test]
fn a_commit_that_writes_nothing_sweeps_too() {
    let (_dir, store) = open();
    let image = crate::put_image(&store, "n:1", b"content");
    let root = store.root().to_owned();
    drop(store);
    fs::create_dir_all(root.join("tmp/1-1/staged/0")).unwrap();
    let store = Store::open(&root).unwrap();
    store.put_image(&image).unwrap();
    drop(store);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}
