//! Several processes. Each is this test binary again, running [`child`] with its job among the arguments.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oci::Digest;
use store::{Policy, Store, StoreError};

use crate::{files, findings, layer_of, open, put_image, put_step, read, record};

/// A process that does not outlive its test.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl std::ops::Deref for Other {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Other {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Starts a job in another process.
fn start(job: &str, root: &Path) -> Other {
    Other(command(&[]).args(words(job, root)).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap())
}

/// A command that runs [`child`], through the given programs.
fn command(through: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut all = through.iter().map(std::ffi::OsString::from).chain([exe.into_os_string()]);
    let mut command = Command::new(all.next().unwrap());
    command.args(all).args(["--exact", "processes::child", "--nocapture", "--test-threads=1"]);
    command
}

fn words(job: &str, root: &Path) -> [String; 2] {
    [format!("job={job}"), format!("root={}", root.display())]
}

/// The lines that a job says, without what the test harness says.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| Some(line.split_once("say ")?.1.to_owned()))
}

/// What a job says and whether it ended well.
fn run(mut command: Command) -> (Vec<String>, bool) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = lines(&mut child).collect();
    (said, child.wait().unwrap().success())
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("say {text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: the other processes of the tests below. Without a job it has nothing to do.
#[test]
fn child() {
    let argument = |name: &str| std::env::args().find_map(|a| Some(a.strip_prefix(name)?.to_owned()));
    let (Some(job), Some(root)) = (argument("job="), argument("root=")) else { return };
    let root = Path::new(&root);
    match job.as_str() {
        // Commits without end; says what it has flushed.
        "commit" => {
            let store = Store::open(root).unwrap();
            for i in 0.. {
                put_work(&store, &format!("{} {i}", std::process::id()));
                if i % 3 == 0 {
                    store.flush().unwrap();
                    say(&format!("{} {i}", std::process::id()));
                }
            }
        }
        "same" => {
            let store = Store::open(root).unwrap();
            for i in 0..100 {
                put_step(&store, &format!("key {i}"), "p", format!("content {i}").as_bytes());
            }
            store.flush().unwrap();
        }
        "hold" => {
            let store = Store::open(root).unwrap();
            let scratch = store.scratch().unwrap();
            std::fs::create_dir_all(scratch.path().join("work/work")).unwrap();
            let _lock = store.lock_step(&Digest::of(b"step"), &mut || {}, &|| false).unwrap();
            say("held");
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        "full" => {
            let store = Store::open(root).unwrap();
            put_image(&store, "n:1", b"content");
            let batch = store.batch();
            let noise: Vec<u8> =
                (0..8u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            say(&format!("large {:?}", batch.add(&mut &noise[..]).map_err(|e| e.kind())));
            drop(batch);
            let mut first = None;
            for i in 0..2000 {
                let batch = store.batch();
                let bytes = format!("{i}").repeat(2000).into_bytes();
                let added = batch.add_bytes(&bytes).and_then(|_| batch.commit(vec![], vec![]));
                if let Err(e) = added.and_then(|()| store.flush()) {
                    first = Some(e);
                    break;
                }
            }
            say(&format!("small {}", matches!(first, Some(StoreError::Full { .. }))));
            say(&format!("hint {}", first.unwrap().hint().is_some()));
            say(&format!("image {}", store.find("n:1").unwrap().is_some()));
        }
        "open" => match Store::open(root) {
            Ok(_) => say("opened"),
            Err(StoreError::ReadOnly { .. }) => say("read-only"),
            Err(StoreError::Permission { .. }) => say("permission"),
            Err(e) => say(&format!("{e:?}")),
        },
        // Without a privilege that would open closed directories.
        "scratch" => {
            use std::os::unix::fs::PermissionsExt;
            let store = Store::open(&root.join("own")).unwrap();
            let closed = |path: &Path| {
                std::fs::create_dir_all(path).unwrap();
                std::fs::write(path.join("file"), "x").unwrap();
                std::fs::set_permissions(path.join("file"), std::fs::Permissions::from_mode(0o000)).unwrap();
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
            };
            let scratch = store.scratch().unwrap();
            closed(&scratch.path().join("work/work"));
            drop((scratch, store));
            say(&format!("left {}", std::fs::read_dir(root.join("own/tmp")).unwrap().count()));
            let store = Store::open(&root.join("own")).unwrap();
            let given = root.join("secret");
            std::fs::write(&given, "secret").unwrap();
            rustix::fs::setxattr(&given, "user.note", b"x", rustix::fs::XattrFlags::empty()).unwrap();
            std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o000)).unwrap();
            let batch = store.batch();
            say(&format!("given {:?}", batch.add_path(&given).map(|(_, size)| size)));
            say(&format!("moved {}", !given.exists()));
        }
        other => panic!("no job {other}"),
    }
}

/// One batch with everything in it: objects, two layers' worth, blobs, an image, a tag, a record.
fn put_work(store: &Store, name: &str) {
    let batch = store.batch();
    for part in 0..20 {
        batch.add_bytes(format!("{name} part {part}").as_bytes()).unwrap();
    }
    let content = format!("{name} part 3");
    let layer = batch.add_layer(&layer_of("f", content.as_bytes())).unwrap();
    let config = batch.add_blob(format!("config {name}").as_bytes()).unwrap();
    let image =
        store::ImageRecord { id: config, manifest: None, layers: vec![layer], created: oci::Time::default() };
    batch.put_image(&image).unwrap();
    batch.tag(name, &config, None).unwrap();
    let step = store.lock_step(&Digest::of(name.as_bytes()), &mut || {}, &|| false).unwrap();
    batch.commit(vec![record(name, "p", layer)], vec![step]).unwrap();
}

#[test]
fn a_process_killed_at_any_time_leaves_a_sound_store_with_all_that_it_flushed() {
    let (_dir, store) = open();
    let root = store.root().to_owned();
    drop(store);
    let mut flushed = Vec::new();
    for round in 0..12u64 {
        let mut child = start("commit", &root);
        let mut said = lines(&mut child);
        flushed.push(said.next().unwrap());
        std::thread::sleep(Duration::from_micros(700 * round * round));
        child.kill().unwrap();
        flushed.extend(said);
        child.wait().unwrap();
        // What is visible is whole, without any recovery.
        let store = Store::open(&root).unwrap();
        assert_eq!(findings(&store), Vec::<String>::new(), "round {round}");
    }
    let store = Store::open(&root).unwrap();
    for name in &flushed {
        let image = store.find(name).unwrap().expect("a flushed image is there");
        let record = store.record_by_parent(&Digest::of(name.as_bytes()), &Digest::of(b"p")).unwrap();
        assert_eq!(record.expect("a flushed record is there").layer, image.layers[0]);
        let content = format!("{name} part 3");
        assert_eq!(read(&store, &Digest::of(content.as_bytes())).unwrap(), content.as_bytes());
    }
    // The next process that writes sweeps what they left.
    drop(store.scratch().unwrap());
    drop(store);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    let store = Store::open(&root).unwrap();
    store.gc(&Policy::default(), false).unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    for name in &flushed {
        assert!(store.find(name).unwrap().is_some());
    }
}

#[test]
fn processes_that_write_the_same_at_once_agree() {
    let (_dir, store) = open();
    let mut children: Vec<Other> = (0..3).map(|_| start("same", store.root())).collect();
    for child in &mut children {
        child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(files(&store.root().join("objects")).len(), 100);
    for i in 0..100 {
        assert_eq!(store.records(&Digest::of(format!("key {i}").as_bytes()), 9).unwrap().len(), 1);
    }
    assert_eq!(findings(&store), Vec::<String>::new());
    assert_eq!(files(&store.root().join("tmp")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_step_lock_of_another_process_is_waited_for_and_ends_with_it() {
    let (_dir, store) = open();
    let mut child = start("hold", store.root());
    let mut said = lines(&mut child);
    assert_eq!(said.next().unwrap(), "held");
    let key = Digest::of(b"step");
    let killed = AtomicBool::new(false);
    let told = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, killed, told) = (&store, &killed, &told);
        let waiter = scope.spawn(move || {
            let lock = store.lock_step(&key, &mut || told.store(true, Ordering::SeqCst), &|| false).unwrap();
            assert!(killed.load(Ordering::SeqCst), "two processes hold it");
            assert!(told.load(Ordering::SeqCst));
            lock
        });
        std::thread::sleep(Duration::from_millis(60));
        killed.store(true, Ordering::SeqCst);
        child.kill().unwrap();
        child.wait().unwrap();
        waiter.join().unwrap();
    });
    let left = files(&store.root().join("tmp"));
    assert_eq!(left.len(), 1, "the dead one's session is still there: {left:?}");
    drop(store.scratch().unwrap());
    let root = store.root().to_owned();
    drop(store);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn garbage_collection_names_who_is_in_the_way() {
    let (_dir, store) = open();
    let mut child = start("hold", store.root());
    let mut said = lines(&mut child);
    assert_eq!(said.next().unwrap(), "held");
    let got = store.gc(&Policy::default(), false);
    let pid = child.id().to_string();
    assert!(matches!(&got, Err(StoreError::InUse { pids, .. }) if *pids == pid), "{got:?}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    store.gc(&Policy::default(), false).unwrap();
}

/// Runs a job in a mount namespace of its own, after a script; `None` if this machine does not allow one.
fn in_namespace(script: &str, job: &str, root: &Path) -> Option<(Vec<String>, bool)> {
    let map = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    if !Command::new("unshare").args([map, "true"]).status().is_ok_and(|s| s.success()) {
        say("skipped: no mount namespace can be made here");
        return None;
    }
    let script = format!("set -e; root=$1; shift; {script}; exec \"$@\"");
    let root_word = root.to_str().unwrap();
    let mut command = command(&["unshare", map, "sh", "-c", &script, "sh", root_word]);
    command.args(words(job, root));
    Some(run(command))
}

#[test]
fn a_full_disk_is_an_error_of_its_own_and_loses_nothing_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$root\"";
    let Some((said, ok)) = in_namespace(script, "full", dir.path()) else { return };
    assert!(ok);
    assert_eq!(said, ["large Err(StorageFull)", "small true", "hint true", "image true"]);
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let (_dir, store) = open();
    let root = store.root().to_owned();
    drop(store);
    let script = "mount --bind \"$root\" \"$root\"; mount -o remount,ro,bind \"$root\"";
    let Some((said, _)) = in_namespace(script, "open", &root) else { return };
    assert_eq!(said, ["read-only"]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(run(as_user("open", &root)).0, ["permission"]);
    }
}

/// A job without root's privileges.
fn as_user(job: &str, root: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        command(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    } else {
        command(&[])
    };
    command.args(words(job, root));
    command
}

#[test]
fn an_ordinary_user_gets_rid_of_closed_directories_and_takes_closed_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run(as_user("scratch", dir.path())).0, ["left 0", "given Ok(6)", "moved true"]);
}
