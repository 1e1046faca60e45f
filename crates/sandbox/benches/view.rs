//! What a step costs, and each question that it asks of its parent. `cargo bench -p layercake-sandbox`; needs root, FUSE, and a static
//! busybox at /bin/busybox.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use oci::content::{Content, ReadAt};
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use sandbox::{Files, Network, Security, Stdio, Step, User};

const QUESTIONS: usize = 5_000;

const BUSYBOX: &str = "/bin/busybox";

fn main() {
    if std::env::args().nth(1).is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main([]);
    }
    if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        let _ = io::Write::write_all(&mut io::stdout(), b"skipped: it needs root and /bin/busybox\n");
        return;
    }
    divan::main();
}

#[derive(Debug)]
struct Busybox;

impl Content for Busybox {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        if *digest == Digest::of(b"") {
            return Ok(Arc::new(std::fs::File::open("/dev/null")?));
        }
        Ok(Arc::new(std::fs::File::open(BUSYBOX)?))
    }
}

fn tree() -> Arc<Tree> {
    let size = std::fs::metadata(BUSYBOX).expect("it is there").len();
    let mut entries = vec![Entry {
        path: b"bin/busybox".to_vec(),
        kind: Kind::File { size, digest: Digest::of(b"busybox") },
        attrs: Attrs { mode: 0o755, ..Attrs::default() },
    }];
    entries.extend((0..QUESTIONS).map(|n| Entry {
        path: format!("d/{n}").into_bytes(),
        kind: Kind::File { size: 0, digest: Digest::of(b"") },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    }));
    Arc::new(Tree::from_layers([&LayerIndex::from_entries(entries).expect("they fit")]).expect("it fits"))
}

fn run(tree: &Arc<Tree>, files: Files, script: &str) {
    let scratch = tempfile::tempdir().expect("a directory");
    let words = ["/bin/busybox", "sh", "-c", script];
    let mut running = sandbox::spawn(Step {
        tree: tree.clone(),
        content: Arc::new(Busybox),
        files,
        scratch: scratch.path().into(),
        argv: words.map(str::to_owned).to_vec(),
        env: Vec::new(),
        cwd: b"/".to_vec(),
        user: User::default(),
        hostname: "bench".into(),
        etc_hosts: Vec::new(),
        resolv_conf: Vec::new(),
        network: Network::Host,
        security: Security::Sandbox,
        mounts: Vec::new(),
        shm_size: 64 << 20,
        rlimits: Vec::new(),
        limits: sandbox::Limits::default(),
        stdio: Stdio::Pipes,
    })
    .expect("it starts");
    for mut pipe in [running.stdout.take(), running.stderr.take()].into_iter().flatten() {
        pipe.read_to_end(&mut Vec::new()).expect("it can be read");
    }
    assert!(running.wait().expect("it ends").exit.success());
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn step_that_does_nothing(b: Bencher<'_, '_>) {
    let tree = tree();
    b.bench(|| run(&tree, Files::Fuse, ":"));
}

/// Names that are there: one LOOKUP each.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn lookups(b: Bencher<'_, '_>) {
    let tree = tree();
    let script = format!("i=0; while [ $i -lt {QUESTIONS} ]; do [ -e /d/$i ]; i=$((i+1)); done");
    b.counter(ItemsCount::new(QUESTIONS)).bench(|| run(&tree, Files::Fuse, &script));
}

/// The same script where names are asked for once: what the shell costs.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn lookups_of_one_name(b: Bencher<'_, '_>) {
    let tree = tree();
    let script = format!("i=0; while [ $i -lt {QUESTIONS} ]; do [ -e /d/0 ]; i=$((i+1)); done");
    b.counter(ItemsCount::new(QUESTIONS)).bench(|| run(&tree, Files::Fuse, &script));
}
