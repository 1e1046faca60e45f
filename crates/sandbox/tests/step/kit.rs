//! Trees to run on, and steps that run.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use oci::content::{Content, MemoryContent, ReadAt};
use oci::index::Attrs;
use oci::tree::Id;
use oci::{Digest, Entry, Kind, LayerIndex, Time, Tree};
use sandbox::{
    Bits, Files as Shown, Network, Outcome, Running, SandboxError, Security, Seen, Stdio, Step, User,
};

/// The ways to show files to a step. Every test is run with each.
pub(crate) const WAYS: [&str; 3] = ["fuse", "overlay", "copy"];

static WAY: AtomicUsize = AtomicUsize::new(0);

/// Has steps from now on be shown their files in one of [`WAYS`].
pub(crate) fn use_way(number: usize) {
    WAY.store(number, Ordering::Relaxed);
}

/// The number of the way that is used now.
pub(crate) fn way() -> usize {
    WAY.load(Ordering::Relaxed)
}

/// Whether it is seen what a step reads.
pub(crate) fn observed() -> bool {
    WAY.load(Ordering::Relaxed) == 0
}

fn shown() -> Shown {
    match WAY.load(Ordering::Relaxed) {
        0 => Shown::Fuse,
        1 => Shown::Overlay { lowers: Vec::new() },
        _ => Shown::Copy,
    }
}

/// Files in memory, and files of the host.
#[derive(Default)]
pub(crate) struct Files {
    memory: MemoryContent,
    host: HashMap<Digest, PathBuf>,
}

impl Content for Files {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        match self.host.get(digest) {
            Some(path) => Ok(Arc::new(std::fs::File::open(path)?)),
            None => self.memory.open(digest),
        }
    }
}

/// Builds a tree.
#[derive(Default)]
pub(crate) struct Builder {
    entries: Vec<Entry>,
    files: Files,
}

fn attrs(mode: u32) -> Attrs {
    Attrs { mode, mtime: Time { secs: 1_000_000, nanos: 5 }, ..Attrs::default() }
}

impl Builder {
    /// Nothing but this program, at /probe, and the libraries that it needs.
    pub(crate) fn new() -> Builder {
        let mut b = Builder::default();
        for (path, host) in program() {
            // Made up: hashing a large executable in a debug build takes a while, and nobody checks it.
            let digest = Digest::of(path.as_bytes());
            let size = std::fs::metadata(host).expect("the program is a file").len();
            b.files.host.insert(digest, host.clone());
            b.entry(path, Kind::File { size, digest }, 0o755);
        }
        b
    }

    pub(crate) fn entry(&mut self, path: &str, kind: Kind, mode: u32) -> &mut Entry {
        self.entries.push(Entry { path: path.trim_start_matches('/').into(), kind, attrs: attrs(mode) });
        self.entries.last_mut().expect("just pushed")
    }

    pub(crate) fn entry_of(mut self, path: &str, kind: Kind) -> Builder {
        self.entry(path, kind, 0o755);
        self
    }

    pub(crate) fn dir(mut self, path: &str, mode: u32) -> Builder {
        self.entry(path, Kind::Directory { opaque: false }, mode);
        self
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Builder {
        let digest = self.files.memory.add(text.as_bytes());
        self.entry(path, Kind::File { size: text.len() as u64, digest }, 0o644);
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Builder {
        self.entry(path, Kind::Symlink { target: target.into() }, 0o777);
        self
    }

    /// Changes the entry added last.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Entry)) -> Builder {
        change(self.entries.last_mut().expect("there is an entry"));
        self
    }

    pub(crate) fn build(self) -> (Arc<Tree>, Arc<dyn Content>) {
        let layer = LayerIndex::from_entries(self.entries).expect("test entries are good");
        (Arc::new(Tree::from_layers([&layer]).expect("test layers fit")), Arc::new(self.files))
    }

    /// A step on this tree that runs the probe.
    pub(crate) fn step(self, ops: &[&str]) -> Case {
        let (tree, content) = self.build();
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut argv: Vec<String> = ["/probe", "probe"].iter().chain(ops).map(|a| (*a).to_owned()).collect();
        if !observed() {
            // Only what we serve is listed in order.
            argv.iter_mut().filter(|a| *a == "list").for_each(|a| *a = "list-sorted".into());
        }
        let step = Step {
            tree,
            content,
            files: shown(),
            scratch: scratch.path().into(),
            argv,
            env: vec![("A".into(), "1".into())],
            cwd: b"/".to_vec(),
            user: User::default(),
            hostname: "inside".into(),
            etc_hosts: b"127.0.0.1 localhost\n".to_vec(),
            resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
            network: Network::Host,
            security: Security::Sandbox,
            mounts: Vec::new(),
            shm_size: 1 << 20,
            rlimits: Vec::new(),
            limits: sandbox::Limits::default(),
            stdio: Stdio::Pipes,
        };
        Case { step, scratch }
    }
}

/// This program and its libraries: path in the tree, path on the host.
fn program() -> &'static [(String, PathBuf)] {
    static FILES: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let exe = std::env::current_exe().expect("this program has a path");
        let mut files = vec![("/probe".to_owned(), exe.clone())];
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        for line in maps.lines() {
            let path = line.split_whitespace().nth(5).unwrap_or_default();
            if path.contains(".so") && !files.iter().any(|(p, _)| p == path) {
                files.push((path.to_owned(), path.into()));
            }
        }
        // The loader and the libraries under the names by which they are asked for, too.
        for (path, host) in files.clone().into_iter().skip(1) {
            for dir in ["/lib64", "/lib", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"] {
                let name = path.rsplit('/').next().unwrap_or_default();
                let other = format!("{dir}/{name}");
                if Path::new(&other).exists() && !files.iter().any(|(p, _)| *p == other) {
                    files.push((other, host.clone()));
                }
            }
        }
        files
    })
}

/// A step that can be changed before it runs.
pub(crate) struct Case {
    pub(crate) step: Step,
    scratch: tempfile::TempDir,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) out: Vec<String>,
    pub(crate) err: String,
    pub(crate) outcome: Outcome,
    pub(crate) tree: Arc<Tree>,
    pub(crate) scratch: tempfile::TempDir,
}

impl Case {
    pub(crate) fn change(mut self, change: impl FnOnce(&mut Step)) -> Case {
        change(&mut self.step);
        self
    }

    pub(crate) fn spawn(self) -> (Running, tempfile::TempDir) {
        (sandbox::spawn(self.step).expect("the step starts"), self.scratch)
    }

    pub(crate) fn try_run(self) -> Result<Ran, SandboxError> {
        let tree = self.step.tree.clone();
        let mut running = sandbox::spawn(self.step)?;
        let mut err = String::new();
        let out = {
            let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
            let mut out = String::new();
            std::thread::scope(|scope| {
                scope.spawn(|| stderr.map(|mut p| p.read_to_string(&mut err)));
                stdout.map(|mut p| p.read_to_string(&mut out));
            });
            out.lines().map(str::to_owned).collect()
        };
        Ok(Ran { out, err, outcome: running.wait()?, tree, scratch: self.scratch })
    }

    pub(crate) fn run(self) -> Ran {
        self.try_run().expect("the step runs")
    }
}

impl Ran {
    /// Asserts what was learned of a path of a view, as letters: a(ttributes), c(ontent), l(isting). Where nothing is observed, that it
    /// is said.
    pub(crate) fn assert_learned_in(&self, view: usize, tree: &Tree, path: &str, expected: &str) {
        if observed() {
            assert_eq!(self.learned_in(view, tree, path), expected, "{view} {path}");
        } else {
            let seen = &self.outcome.seen[view];
            assert!(seen.incomplete.is_some() && seen.inodes.is_empty() && seen.absent.is_empty());
        }
    }

    pub(crate) fn assert_learned(&self, path: &str, expected: &str) {
        self.assert_learned_in(0, &self.tree, path, expected);
    }

    fn learned_in(&self, view: usize, tree: &Tree, path: &str) -> String {
        let id: Id = tree.lookup(path.trim_start_matches('/').as_bytes()).expect("the path is in the tree");
        let seen: &Seen = &self.outcome.seen[view];
        let bits = seen.inodes.iter().find(|(i, _)| *i == id).map_or(Bits(0), |(_, bits)| *bits);
        [(Bits::ATTR, 'a'), (Bits::CONTENT, 'c'), (Bits::LIST, 'l')]
            .iter()
            .filter(|(bit, _)| bits.contains(*bit))
            .map(|(_, letter)| letter)
            .collect()
    }

    /// Whether the absence of a path of the root was learned; true where nothing is observed.
    pub(crate) fn missed(&self, path: &str) -> bool {
        if !observed() {
            return true;
        }
        let (dir, name) =
            path.trim_start_matches('/').rsplit_once('/').unwrap_or(("", path.trim_start_matches('/')));
        let dir = self.tree.lookup(dir.as_bytes()).expect("the directory is in the tree");
        self.outcome.seen[0].absent.iter().any(|(d, n)| *d == dir && n == name.as_bytes())
    }

    /// Paths in the upper directory, sorted; directories end with a slash.
    pub(crate) fn upper(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.outcome.upper, &self.outcome.upper, &mut found);
        found.sort();
        found
    }

    pub(crate) fn upper_text(&self, path: &str) -> String {
        std::fs::read_to_string(self.outcome.upper.join(path)).expect("the file is in the upper directory")
    }
}

pub(crate) fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name =
            String::from_utf8_lossy(path.strip_prefix(root).expect("below the root").as_os_str().as_bytes())
                .into_owned();
        if path.symlink_metadata().expect("it is there").is_dir() {
            found.push(name + "/");
            walk(root, &path, found);
        } else {
            found.push(name);
        }
    }
}

/// Errno as the probe prints it.
pub(crate) fn errno(n: i32) -> String {
    format!("errno {n}")
}
