//! A place to build in: a store, a directory for files, and the program.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAMS: &[&str] = &[
    "basename", "cat", "chmod", "cp", "cut", "date", "echo", "env", "false", "find", "grep", "head", "id",
    "ln", "ls", "mkdir", "mv", "od", "readlink", "rm", "sed", "sh", "sleep", "sort", "stat", "tail", "test",
    "touch", "tr", "true", "wc",
];

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(out: Output) -> Ran {
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
    }

    /// It worked.
    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// It ended with this code, and said all of these things.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, said: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for s in said {
            assert!(self.stderr.contains(s), "{s:?} is not in:\n{}", self.stderr);
        }
        self
    }
}

/// A place to build in.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab { dir: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// A place where steps can run, with a directory `base` that holds a shell and some programs. `None`, with a reason, where they
    /// cannot.
    pub(crate) fn rooted() -> Option<Lab> {
        const BUSYBOX: &str = "/bin/busybox";
        let missing = if !rustix::process::geteuid().is_root() {
            Some("steps need root")
        } else if !Path::new(BUSYBOX).exists() {
            Some("there is no /bin/busybox to make a base image of")
        } else {
            None
        };
        if let Some(why) = missing {
            #[allow(clippy::disallowed_methods)]
            let all = std::env::var_os("LAYERCAKE_TEST_ALL").is_some();
            assert!(!all, "must not be skipped here: {why}");
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            return None;
        }
        let lab = Lab::new();
        std::fs::create_dir_all(lab.path("base/bin")).unwrap();
        std::fs::copy(BUSYBOX, lab.path("base/bin/busybox")).unwrap();
        for program in PROGRAMS {
            std::os::unix::fs::symlink("busybox", lab.path("base/bin").join(program)).unwrap();
        }
        lab.file("base/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n");
        Some(lab)
    }

    /// Builds `ctx/Dockerfile` with this text, on `base`.
    pub(crate) fn dockerfile(&self, text: &str, args: &[&str]) -> Ran {
        self.file("ctx/Dockerfile", text);
        self.build(&[&["--build-context", "base=base"], args, &["ctx"]].concat())
    }

    /// A path in the place.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the place, as text.
    pub(crate) fn at(&self, name: impl AsRef<Path>) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file, with the directories on its way.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Lab {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Reads a file; `-` if it is not there.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|_| "-".to_owned())
    }

    /// Sets a variable for the program.
    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Lab {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.env_clear().env("LAYERCAKE_ROOT", self.path("store")).env("HOME", self.path("home"));
        // So that all tests can be run with another way of showing files to steps.
        for name in ["PATH", "LAYERCAKE_VIEW"] {
            #[allow(clippy::disallowed_methods)]
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v))).current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts `build`, with nothing to read its output.
    pub(crate) fn start(&self, args: &[&str]) -> std::process::Child {
        let mut command = self.command(&[&["build", "--build-context", "base=base"], args].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs the program.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs the program; gives the most memory that it had, in KiB, too.
    pub(crate) fn measured(&self, args: &[&str]) -> (Ran, u64) {
        let child = self.command(args).spawn().unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak = 0;
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    let text = std::fs::read_to_string(&status).unwrap_or_default();
                    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
                    let now = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
                    peak = peak.max(now.unwrap_or(0));
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                peak
            });
            let ran = Ran::of(child.wait_with_output().unwrap());
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            (ran, watch.join().unwrap())
        })
    }

    /// Runs `build`.
    pub(crate) fn build(&self, args: &[&str]) -> Ran {
        self.run(&[&["build"], args].concat())
    }

    /// Runs `build` with something on standard input.
    pub(crate) fn build_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        self.run_with(&[&["build"], args].concat(), stdin)
    }

    /// Runs the program with something on standard input.
    pub(crate) fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran::of(out)
    }
}

/// The files below a directory: `path mode content`, sorted; links as `path -> target`.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_dir() {
                out.push(format!("{name}/ {mode:o}"));
                todo.push(path);
            } else if meta.is_symlink() {
                out.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                out.push(format!("{name} {mode:o} {text}"));
            }
        }
    }
    out.sort();
    out
}

/// A tar of `(path, mode, content)`; a path with a slash at its end is a directory.
pub(crate) fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, mode, content) in files {
        let mut head = [0u8; 512];
        head[..path.len()].copy_from_slice(path.as_bytes());
        head[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        head[108..115].copy_from_slice(b"0000012");
        head[116..123].copy_from_slice(b"0000013");
        head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        head[136..147].copy_from_slice(format!("{:011o}", 1_600_000_000).as_bytes());
        head[148..156].fill(b' ');
        head[156] = if path.ends_with('/') { b'5' } else { b'0' };
        head[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Runs a program that must succeed; gives what it wrote.
pub(crate) fn sh(dir: &Path, program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .env("GIT_AUTHOR_DATE", "1500000000 +0000")
        .env("GIT_COMMITTER_DATE", "1500000000 +0000")
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
