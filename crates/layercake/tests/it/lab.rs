//! A build context, a store and the program.
//!
//! ```text
//! let Some(mut b) = Build::new() else { return };
//! let out = b.dockerfile("FROM scratch\n…").file("a", "…").run();
//! assert_eq!(out.code, 0, "{out}");
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use serde_json::Value;
use tempfile::TempDir;

/// Begins a Dockerfile: an image with a shell and some programs, in one step.
pub(crate) const BASE: &str = "FROM scratch AS base\nCOPY bin /bin\n";

const PROGRAMS: &[&str] = &[
    "awk", "cat", "df", "echo", "env", "false", "head", "hostname", "id", "ln", "ls", "mkdir", "readlink",
    "rm", "sh", "sleep", "stty", "tail", "test", "touch", "true", "wc",
];
/// Far more than anything here takes: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks whether a process has ended, and leaves it to be waited for.
const LEFT: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

const BUSYBOX: &str = "/bin/busybox";

/// Says why a test does not run; fails where everything must.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("LAYERCAKE_TEST_ALL").is_none(), "must not be skipped here: {why}");
    eprintln!("skipped: {why}");
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Ran,
    Cached,
}
pub(crate) use Step::{Cached, Ran};

impl Outcome {
    /// The steps of a plain log that ended well, in the order of their numbers, without tasks.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut out: Vec<(u32, Step)> = Vec::new();
        let lines = || self.stderr.lines().filter_map(|l| l.strip_prefix('#')?.split_once(' '));
        for (id, rest) in lines() {
            let step = match rest.split(' ').next() {
                Some("DONE") => Ran,
                Some("CACHED") => Cached,
                _ => continue,
            };
            let task = lines().any(|(i, r)| i == id && r.starts_with("[internal]"));
            if let (false, Ok(id)) = (task, id.parse()) {
                out.push((id, step));
            }
        }
        out.sort_by_key(|(id, _)| *id);
        out.into_iter().map(|(_, s)| s).collect()
    }

    /// Asserts that the command succeeded; gives what it printed, without the last line feed.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end_matches('\n')
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

/// The user that the program is run as, if not by root.
pub(crate) const USER: u32 = 54321;

/// Makes a place in which that user has a name, a FUSE device and perhaps ranges of others, and becomes it. Nobody else sees it.
const BECOME_USER: &str = r#"
set -e
place=$1 fuse=$2; shift 2
mount --make-rprivate /
for file in passwd subuid subgid; do mount --bind "$place/$file" /etc/$file; done
mount -t tmpfs layercake "$place/dev"
mknod -m 666 "$place/dev/fuse" c 10 229
test "$fuse" = yes || chmod 0 "$place/dev/fuse"
mount --bind "$place/dev/fuse" /dev/fuse
exec setpriv --reuid=54321 --regid=54321 --clear-groups -- "$@"
"#;

/// Becomes a program for which openat2(2), whose number is the same everywhere, fails with the given error.
const REFUSE_OPENAT2: &str = r#"
import ctypes, os, struct, sys
load, equal, answer = 0x20, 0x15, 0x06
rules = [(load, 0, 0, 0), (equal, 0, 1, 437), (answer, 0, 0, 0x50000 | int(sys.argv[1])), (answer, 0, 0, 0x7fff0000)]
rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *r) for r in rules), 8 * len(rules))
program = struct.pack("HxxxxxxQ", len(rules) // 8, ctypes.addressof(rules))
if ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), ctypes.c_char_p(program)) != 0:
    sys.exit("no filter can be set")
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// A context, a store, and the program.
pub(crate) struct Build {
    dir: TempDir,
    flags: Vec<String>,
    /// Run by an ordinary user, and whether that one may use FUSE.
    user: Option<bool>,
    /// What the kernel says to openat2.
    openat2: Option<Errno>,
    /// Processes that were started: control groups are named after them.
    pids: Mutex<BTreeSet<u32>>,
}

impl Build {
    /// `None`, with the reason said, where steps cannot run. The context holds `bin`, with busybox under its names.
    pub(crate) fn new() -> Option<Build> {
        if !rustix::process::geteuid().is_root() {
            skip("needs root");
            return None;
        }
        if !Path::new("/dev/fuse").exists() {
            skip("needs /dev/fuse");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            skip("needs /bin/busybox (package busybox-static)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("layercake-it-").tempdir().unwrap();
        let bin = dir.path().join("context/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for name in PROGRAMS {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        Some(Build { dir, flags: Vec::new(), user: None, openat2: None, pids: Mutex::default() })
    }

    /// The same, with the program run by an ordinary user, who may have a range of users.
    pub(crate) fn as_user(range: bool) -> Option<Build> {
        let mut b = Build::new()?;
        let mut needed = vec!["/usr/bin/unshare", "/usr/bin/setpriv"];
        if range {
            needed.extend(["/usr/bin/newuidmap", "/usr/bin/newgidmap"]);
        }
        if let Some(missing) = needed.iter().find(|p| !Path::new(p).exists()) {
            skip(&format!("needs {missing}"));
            return None;
        }
        let made = Command::new("/usr/bin/setpriv")
            .args(["--reuid=54321", "--regid=54321", "--clear-groups", "unshare", "--user", "true"])
            .output();
        if !made.is_ok_and(|o| o.status.success()) {
            skip("ordinary users may not make user namespaces here");
            return None;
        }
        let place = b.path("place");
        std::fs::create_dir_all(place.join("dev")).unwrap();
        let ranges = if range { "tester:200000:65536\n" } else { "" };
        std::fs::write(
            place.join("passwd"),
            format!("root:x:0:0::/:/bin/sh\ntester:x:{USER}:{USER}::/:/bin/sh\n"),
        )
        .unwrap();
        std::fs::write(place.join("subuid"), ranges).unwrap();
        std::fs::write(place.join("subgid"), ranges).unwrap();
        // The one of the tests may lie where only its owner can go.
        std::fs::copy(env!("CARGO_BIN_EXE_layercake"), b.path("layercake")).unwrap();
        std::os::unix::fs::chown(b.dir.path(), Some(USER), Some(USER)).unwrap();
        b.user = Some(true);
        Some(b)
    }

    /// That user may not use FUSE.
    pub(crate) fn without_fuse(&mut self) {
        self.user = Some(false);
    }

    /// openat2 fails, as it does under old kernels and filters. `false`, with the reason said, where that cannot be had.
    #[must_use]
    pub(crate) fn refuse_openat2(&mut self, error: Errno) -> bool {
        let there = Command::new("python3").args(["-c", "import ctypes"]).output();
        if !there.is_ok_and(|o| o.status.success()) {
            skip("needs python3");
            return false;
        }
        self.openat2 = Some(error);
        true
    }

    fn program(&self) -> Command {
        if let Some(error) = self.openat2 {
            let mut c = Command::new("python3");
            c.args([
                "-c",
                REFUSE_OPENAT2,
                &error.raw_os_error().to_string(),
                env!("CARGO_BIN_EXE_layercake"),
            ]);
            return c;
        }
        let Some(fuse) = self.user else { return Command::new(env!("CARGO_BIN_EXE_layercake")) };
        let mut c = Command::new("/usr/bin/unshare");
        c.args(["--mount", "/bin/sh", "-c", BECOME_USER, "sh"]).arg(self.path("place"));
        c.arg(if fuse { "yes" } else { "no" }).arg(self.path("layercake"));
        c
    }

    /// A second store.
    pub(crate) fn another() -> Build {
        Build::new().expect("there was one already")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Sets the Dockerfile.
    pub(crate) fn dockerfile(&mut self, text: &str) -> &mut Build {
        self.file("Dockerfile", text)
    }

    /// Sets a file of the context.
    pub(crate) fn file(&mut self, name: &str, text: &str) -> &mut Build {
        let path = self.path("context").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Adds a flag to all builds that follow.
    pub(crate) fn flag(&mut self, flag: &str) -> &mut Build {
        self.flags.push(flag.to_owned());
        self
    }

    pub(crate) fn build_words(&self) -> Vec<String> {
        let mut words: Vec<String> = ["build", "--progress=plain", "-t", "t"].map(str::to_owned).into();
        words.extend(self.flags.iter().cloned());
        words.push(self.path("context").display().to_string());
        words
    }

    /// Builds the context as `t`.
    pub(crate) fn run(&self) -> Outcome {
        let words = self.build_words();
        self.layercake(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a build.
    pub(crate) fn start_build(&self) -> Started {
        let words = self.build_words();
        self.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The program with these words, on this store, and with nothing of the user's settings.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut c = self.program();
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name == "LAYERCAKE_VIEW" {
                continue; // so that all tests can be run with another way of showing files
            }
            if ["LAYERCAKE_", "DOCKER_", "BUILDKIT_", "REGISTRY_"].iter().any(|p| name.starts_with(p))
                || name.to_lowercase().ends_with("_proxy")
                || name == "SOURCE_DATE_EPOCH"
                || name == "CI"
            {
                c.env_remove(name);
            }
        }
        c.args(words)
            .env("LAYERCAKE_ROOT", self.store())
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path());
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    }

    /// Starts what [`Build::command`] made, and remembers the process.
    pub(crate) fn spawn(&self, mut command: Command) -> Child {
        let child = command.spawn().unwrap();
        self.pids.lock().unwrap().insert(child.id());
        child
    }

    /// The control groups of all processes that were started.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let pids = self.pids.lock().unwrap();
        let ours = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix("layercake-")?;
            Some(pids.contains(&name.split('-').next()?.parse().ok()?))
        };
        let mut out = Vec::new();
        directories(Path::new("/sys/fs/cgroup"), &mut out);
        out.retain(|path| ours(path) == Some(true));
        out
    }

    /// Runs the program.
    pub(crate) fn layercake(&self, words: &[&str]) -> Outcome {
        finish(self.spawn(self.command(words)))
    }

    /// Runs the program with an input.
    pub(crate) fn layercake_with(&self, words: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        let mut child = self.spawn(command);
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|s| {
            // Who does not read its input to the end closes the pipe.
            s.spawn(move || stdin.write_all(input).ok());
            finish(child)
        })
    }

    /// Starts the program.
    pub(crate) fn start(&self, words: &[&str]) -> Started {
        let mut child = self.spawn(self.command(words));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let watchdog = Some(Watchdog::of(&child));
        Started { child, watchdog, out: out.map(BufReader::new), err: err.map(BufReader::new) }
    }

    /// Asserts that nothing of this store is mounted anywhere, that its temporary directory is empty, that no process has
    /// `mark` among its words, and that no control group of a process that was started is left. What ends in the background is waited for.
    pub(crate) fn assert_clean(&self, mark: &str) {
        let store = self.store().display().to_string();
        let left = || {
            let tmp = std::fs::read_dir(self.store().join("tmp")).map_or(0, Iterator::count);
            let mut left: Vec<String> = (tmp > 0).then(|| format!("{tmp} in tmp")).into_iter().collect();
            left.extend(processes().filter(|p| p.words.contains(mark)).map(|p| p.words));
            left.extend(
                processes().filter(|p| p.mounts.contains(&store)).map(|p| format!("mounts of {}", p.words)),
            );
            left.extend(self.groups().iter().map(|g| g.display().to_string()));
            left
        };
        wait_until("nothing is left", || {
            left().is_empty().then_some(()).ok_or_else(|| format!("{:?}", left()))
        });
    }

    /// As [`Build::assert_clean`], but for files: those of a killed process are removed by the next one.
    pub(crate) fn assert_nothing_runs(&self, mark: &str) {
        let store = self.store().display().to_string();
        let left =
            || processes().filter(|p| p.words.contains(mark) || p.mounts.contains(&store)).map(|p| p.words);
        wait_until("nothing runs", || match left().next() {
            None => Ok(()),
            Some(p) => Err(p),
        });
    }
}

/// A number of seconds, longer than any test, that no other test has, of this run or of one beside it: who sleeps so long is
/// known by it.
pub(crate) fn mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("8{:08}{:02}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for something that comes soon, and fails if it does not.
pub(crate) fn wait_until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match check() {
            Ok(v) => return v,
            Err(e) if begin.elapsed() > PATIENCE => panic!("{what}: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// All directories below one.
fn directories(dir: &Path, out: &mut Vec<PathBuf>) {
    // Those of others come and go.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            out.push(entry.path());
            directories(&entry.path(), out);
        }
    }
}

struct Process {
    words: String,
    mounts: String,
}

fn processes() -> impl Iterator<Item = Process> {
    let own = std::process::id().to_string();
    let dirs = std::fs::read_dir("/proc").unwrap().flatten();
    dirs.filter(move |d| {
        let name = d.file_name();
        let name = name.to_string_lossy();
        name != own && name.bytes().all(|c| c.is_ascii_digit())
    })
    .map(|d| {
        let read = |f: &str| std::fs::read(d.path().join(f)).unwrap_or_default();
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).replace('\0', " ");
        Process { words: text(read("cmdline")), mounts: text(read("mountinfo")) }
    })
}

/// Kills a program that does not end: then the test fails instead of waiting for ever.
struct Watchdog(#[allow(dead_code, reason = "its end is what counts")] mpsc::Sender<()>);

impl Watchdog {
    fn of(child: &Child) -> Watchdog {
        let pid = Pid::from_child(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // The sender is dropped before the program is waited for, so the number is still its own.
            if receiver.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("it did not end, and is killed");
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Watchdog(sender)
    }
}

pub(crate) fn finish(mut child: Child) -> Outcome {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let watchdog = Some(Watchdog::of(&child));
    Started { child, watchdog, out: out.map(BufReader::new), err: err.map(BufReader::new) }.finish()
}

/// The program while it runs.
pub(crate) struct Started {
    child: Child,
    watchdog: Option<Watchdog>,
    out: Option<BufReader<std::process::ChildStdout>>,
    err: Option<BufReader<std::process::ChildStderr>>,
}

fn until(reader: &mut impl BufRead, wanted: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let n = reader.read_line(&mut line).unwrap();
        assert!(n > 0, "it ended without {wanted:?}: {seen}");
        seen.push_str(&line);
        if line.contains(wanted) {
            return seen;
        }
    }
}

impl Started {
    /// Reads standard output up to a line that has this.
    pub(crate) fn stdout_until(&mut self, wanted: &str) {
        until(self.out.as_mut().unwrap(), wanted);
    }

    /// Reads standard error up to a line that has this.
    pub(crate) fn stderr_until(&mut self, wanted: &str) {
        until(self.err.as_mut().unwrap(), wanted);
    }

    /// Ends the reading of standard output, as `| head` does.
    pub(crate) fn close_stdout(&mut self) {
        self.out = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the outcome has what was not read yet. A signal gives code -1.
    pub(crate) fn finish(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        std::thread::scope(|s| {
            s.spawn(|| self.out.as_mut().map(|o| o.read_to_string(&mut stdout).unwrap()));
            self.err.as_mut().map(|e| e.read_to_string(&mut stderr).unwrap());
        });
        wait_until("it has ended", || match waitid(WaitId::Pid(Pid::from_child(&self.child)), LEFT) {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.watchdog = None;
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Outcome { stdout, stderr, code }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
