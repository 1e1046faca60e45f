//! Who gets which directory.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::testkit::{Dir, File as Text, built, layer, lines, root, tree_of, walk_dir};

fn want(id: &str, sharing: Sharing) -> Wanted {
    Wanted { id: id.to_owned(), sharing, seed: None, mode: 0o755, uid: 0, gid: 0 }
}

fn take(store: &Store, want: &Wanted, cancelled: &dyn Fn() -> bool) -> Result<Held, BuildError> {
    open(store, want, &Wait { is_cancelled: cancelled, begins: &|_| {} })
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn get(store: &Store, want: Wanted) -> Held {
    take(store, &want, &|| false).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn what_is_written_stays_for_the_next() {
    let (_dir, store) = store();
    let first = get(&store, want("a", Sharing::Shared));
    fs::write(first.path().join("f"), "1").unwrap();
    let path = first.path().to_owned();
    drop(first);
    for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
        assert_eq!(get(&store, want("a", sharing)).path(), path);
    }
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "1");
    assert_eq!(fs::read_to_string(path.with_file_name("id")).unwrap(), "a");
    let others = [
        want("b", Sharing::Shared),
        Wanted { mode: 0o700, ..want("a", Sharing::Shared) },
        Wanted { uid: 1, ..want("a", Sharing::Shared) },
        Wanted { gid: 1, ..want("a", Sharing::Shared) },
    ];
    for other in others {
        assert_ne!(get(&store, other.clone()).path(), path, "{other:?}");
    }
}

#[test]
fn it_is_made_as_asked() {
    let (_dir, store) = store();
    let held = get(&store, Wanted { mode: 0o1770, uid: 5, gid: 6, ..want("a", Sharing::Shared) });
    let m = fs::metadata(held.path()).unwrap();
    assert_eq!(m.permissions().mode() & 0o7777, 0o1770);
    if root() {
        assert_eq!((m.uid(), m.gid()), (5, 6));
    }
}

#[test]
fn a_seed_is_copied_once_and_another_seed_is_another_mount() {
    let (_dir, store) = store();
    let seed = |text: &'static str, time| {
        let mut l = layer(&[("s", Dir), ("s/f", Text(text))]).into_entries();
        l.iter_mut().for_each(|e| e.attrs.mtime = oci::Time::from_secs(time));
        let l = crate::testkit::layer_of(l);
        built(&store, std::slice::from_ref(&l));
        let tree = Arc::new(Tree::from_layers([&l]).unwrap());
        let id = tree.lookup(b"s").unwrap();
        (tree, id)
    };
    let open = |seed: &(Arc<Tree>, Id)| {
        let seed = Some(Seed::new(seed.0.clone(), seed.1));
        let held = get(&store, Wanted { seed, ..want("a", Sharing::Shared) });
        held.path().to_owned()
    };
    let first = open(&seed("1", 1));
    assert_eq!(lines(&tree_of(walk_dir(&first))), ["f: 1"]);
    fs::write(first.join("f"), "changed").unwrap();
    assert_eq!(open(&seed("1", 2)), first);
    assert_eq!(fs::read_to_string(first.join("f")).unwrap(), "changed");
    let second = open(&seed("2", 1));
    assert_eq!(lines(&tree_of(walk_dir(&second))), ["f: 2"]);
    assert_ne!(get(&store, want("a", Sharing::Shared)).path(), first);
}

#[test]
fn shared_users_use_it_together_and_private_ones_have_their_own() {
    let (_dir, store) = store();
    let a = get(&store, want("a", Sharing::Shared));
    assert_eq!(get(&store, want("a", Sharing::Shared)).path(), a.path());
    let b = get(&store, want("a", Sharing::Private));
    let c = get(&store, want("a", Sharing::Private));
    assert!(a.path() != b.path() && b.path() != c.path() && a.path() != c.path());
    drop((a, b));
    let first = get(&store, want("a", Sharing::Private));
    assert!(first.path().ends_with("data"), "the first that is free");
}

#[test]
fn a_locked_one_waits_and_stops_waiting() {
    let (_dir, store) = store();
    let held = get(&store, want("a", Sharing::Locked));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| take(&store, &want("a", Sharing::Locked), &|| stop.load(Ordering::Relaxed)));
        let shared =
            scope.spawn(|| take(&store, &want("a", Sharing::Shared), &|| stop.load(Ordering::Relaxed)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished() && !shared.is_finished());
        stop.store(true, Ordering::Relaxed);
        for w in [waiting, shared] {
            assert!(matches!(w.join().unwrap(), Err(BuildError::Interrupted)));
        }
    });
    drop(held);
    get(&store, want("a", Sharing::Locked));
}

#[test]
fn many_may_be_the_first() {
    let (_dir, store) = store();
    for round in 0..20 {
        let id = format!("mount {round}");
        let start = Barrier::new(8);
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                get(&store, Wanted { mode: 0o700, ..want(&id, Sharing::Shared) }).path().to_owned()
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|t| t.join().expect("every one gets it")).collect()
        });
        assert!(paths.iter().all(|p| *p == paths[0] && p.is_dir()), "{paths:?}");
        assert_eq!(fs::metadata(&paths[0]).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn what_a_killed_builder_left_half_made_is_made_again() {
    let (_dir, store) = store();
    let path = get(&store, want("a", Sharing::Shared)).path().to_owned();
    fs::rename(&path, path.with_file_name("new")).unwrap();
    fs::write(path.with_file_name("new").join("half"), "").unwrap();
    let held = get(&store, want("a", Sharing::Shared));
    assert!(!held.path().join("half").exists());
}

#[test]
fn one_step_may_use_a_mount_twice() {
    let (_dir, store) = store();
    let (a, b) = (want("a", Sharing::Locked), want("b", Sharing::Private));
    let wait = Wait { is_cancelled: &|| true, begins: &|_| {} };
    let held = open_all(&store, [&a, &b, &a, &b], &wait).unwrap();
    assert!(held.path(&a).unwrap().ends_with("data") && held.path(&a) != held.path(&b));
    assert!(open_all(&store, [&b, &a], &wait).is_err(), "a is held");
    drop(held);
    assert!(open_all(&store, [&b, &a], &wait).is_ok());
}

#[test]
fn clearing_waits_and_leaves_others() {
    let (_dir, store) = store();
    let a = get(&store, want("a", Sharing::Shared));
    let b = get(&store, want("b", Sharing::Shared));
    fs::write(a.path().join("f"), "x").unwrap();
    let (asked, told, held) = (Cell::new(0), Cell::new(0), Cell::new(Some(a)));
    let wait = Wait {
        is_cancelled: &|| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 {
                held.take();
            }
            false
        },
        begins: &|_| told.set(told.get() + 1),
    };
    clear(&store, &["a".into()], &wait).unwrap();
    assert_eq!((told.get(), asked.get()), (1, 2));
    let left: Vec<String> = store.cache_mounts().unwrap().into_iter().map(|m| m.id).collect();
    assert_eq!(left, ["b"]);
    drop(b);
    assert!(get(&store, want("a", Sharing::Locked)).path().read_dir().unwrap().next().is_none());
}
