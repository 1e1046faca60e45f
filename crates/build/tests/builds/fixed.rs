//! A fixed set of ways in which a step reaches files of its parent: each with an edit of what it reaches and one of something else.
//!
//! What must hold of each case, with a program of the C compiler's (`fixed/reach.c`) in the step:
//!
//! 1. The first build says what the case expects, which shows that the file was reached in this way and no other.
//! 2. After the edit of something else the step is not run again: its observations are the same.
//! 3. After the edit of what it reached it runs again, and says what the case expects then.
//! 4. After each build the image equals, entry by entry but for times, that of a build without a cache in a store of its own.
//!
//! What the sandbox forbids is tried twice. Confined, the program is refused, and reads the file as others do. With `--security=insecure`
//! it works, past the view or not; such a step is never reused by observations, so it runs again after both edits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::{Entry, Time};
use store::Store;

use self::ways::Edit::{self, Capability, Join, Link, Mode, Owner, Program, Remove};
use self::ways::{BITS_32, CHANGES, FORBIDDEN, G, LAYERS, NAMES, READS, Way};
use crate::Case;
use crate::kit::{Built, World};

mod ways;

pub(crate) const CASES: &[Case] = &[
    ("ways_to_read_a_file", || Lab::new(64).all(READS)),
    ("ways_to_learn_of_names", || Lab::new(64).all(NAMES)),
    ("ways_to_change_a_file_that_was_there", || Lab::new(64).all(CHANGES)),
    ("ways_over_several_layers", || Lab::new(64).all(LAYERS)),
    ("programs_of_32_bits", programs_of_32_bits),
    ("ways_that_a_sandbox_forbids", ways_that_a_sandbox_forbids),
    ("a_file_over_two_gigabytes", a_file_over_two_gigabytes),
    ("a_directory_of_100_000_names", a_directory_of_100_000_names),
];

/// A context, the program, a store with a cache, and one without.
struct Lab {
    w: World,
    plain: Store,
    _dir: tempfile::TempDir,
    program: PathBuf,
}

/// Builds the program. The error is the compiler's.
fn compile(bits: u32, to: &Path) -> Result<(), String> {
    let source = to.with_extension("c");
    std::fs::write(&source, include_str!("fixed/reach.c")).map_err(|e| e.to_string())?;
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-s", "-o"]).arg(to).arg(&source);
    if bits == 32 {
        cc.arg("-m32");
    }
    let out = cc.output().map_err(|e| format!("cc: {e}"))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        return Err(text.lines().next().unwrap_or("cc failed").to_owned());
    }
    match Command::new(to).arg("mark").output() {
        Ok(out) if out.stdout == b"@mark-one@" => Ok(()),
        Ok(out) => Err(format!("it ends with {}", out.status)),
        Err(e) => Err(format!("it cannot be run: {e}")),
    }
}

/// A path in which %ff stands for the byte 255.
fn decoded(path: &str) -> OsString {
    let mut parts = path.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    OsString::from_vec(out)
}

fn capability(path: &Path, bits: u8) {
    let mut value = [0; 20];
    (value[0], value[3], value[4]) = (1, 2, bits);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.capability", &value, flags).expect("root may");
}

/// The entries of an image without times.
fn entries(b: &Built) -> BTreeMap<Vec<u8>, Entry> {
    let mut all = b.tree().flatten();
    all.iter_mut().for_each(|e| e.attrs.mtime = Time::default());
    all.into_iter().map(|e| (e.path.clone(), e)).collect()
}

/// The first path at which two images differ, and how.
fn difference(traced: &BTreeMap<Vec<u8>, Entry>, plain: &BTreeMap<Vec<u8>, Entry>) -> Option<String> {
    let mut paths = traced.keys().chain(plain.keys());
    let path = paths.find(|p| traced.get(*p) != plain.get(*p))?;
    let name = String::from_utf8_lossy(path);
    Some(format!("{name}\n  traced:   {:?}\n  uncached: {:?}", traced.get(path), plain.get(path)))
}

impl Lab {
    fn new(bits: u32) -> Lab {
        Lab::try_new(bits).unwrap_or_else(|e| panic!("reach.c: {e}"))
    }

    fn try_new(bits: u32) -> Result<Lab, String> {
        let w = World::new();
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("reach");
        compile(bits, &program)?;
        let plain = Store::open(&dir.path().join("store")).expect("a store");
        std::fs::copy(&program, w.base("bin/reach")).expect("the program");
        Ok(Lab { w, plain, _dir: dir, program })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.w.at("").join(decoded(path))
    }

    /// Makes the context anew.
    fn reset(&self) {
        let w = &self.w;
        for dir in ["in", "late"] {
            let _ = std::fs::remove_dir_all(w.at(dir));
        }
        let files = [
            ("in/f", "one"),
            ("in/g", "unread"),
            ("in/d/a", "a"),
            ("in/d/b", "b"),
            ("in/twins/p", "twin"),
            ("in/twins/q", "twin"),
            ("in/cap", "cap"),
            ("in/pair/x", "pair"),
            ("late/late", "late"),
            ("own", "own"),
            ("in/odd/%ff%fe", "odd"),
            ("in/odd/%fe", "odd"),
        ];
        for (path, text) in files {
            self.edit(Edit::Write(path, text));
        }
        std::fs::hard_link(w.at("in/pair/x"), w.at("in/pair/y")).expect("a hard link");
        symlink("f", w.at("in/link")).expect("a link");
        symlink(decoded("odd/%fe"), w.at("in/odd-link")).expect("a link");
        capability(&w.at("in/cap"), 2);
        std::fs::copy(&self.program, w.at("in/reach")).expect("the program");
    }

    fn edit(&self, edit: Edit) {
        match edit {
            Edit::Write(path, text) => {
                std::fs::create_dir_all(self.at(path).parent().expect("a directory")).expect("its directory");
                std::fs::write(self.at(path), text).expect("a file of the context");
            }
            Mode(path, mode) => {
                std::fs::set_permissions(self.at(path), PermissionsExt::from_mode(mode)).expect("its mode");
            }
            Owner(_) => {}
            Remove(path) => std::fs::remove_file(self.at(path)).expect("a file of the context"),
            Link(path, to) => {
                std::fs::remove_file(self.at(path)).expect("a file of the context");
                symlink(decoded(to), self.at(path)).expect("a link");
            }
            Join(path, other) => {
                std::fs::remove_file(self.at(other)).expect("a file of the context");
                std::fs::hard_link(self.at(path), self.at(other)).expect("a hard link");
            }
            Program(path) => {
                let bytes = std::fs::read(self.at(path)).expect("the program");
                let mark = b"@mark-one@";
                let place = bytes.windows(mark.len()).position(|w| w == mark).expect("its mark");
                let file = std::fs::OpenOptions::new().write(true).open(self.at(path)).expect("the program");
                file.write_all_at(b"@mark-two@", place as u64).expect("its mark");
            }
            Capability(path, bits) => capability(&self.at(path), bits),
        }
    }

    /// Builds with the cache and without, which has to be equal.
    fn equal(&self, name: &str, text: &str) -> Built {
        let traced = self.w.build_with(text, |o| o.allow_insecure = true);
        let plain = self.w.build_into(&self.plain, text, |o| {
            o.allow_insecure = true;
            o.choices.no_cache = true;
        });
        if let Some(path) = difference(&entries(&traced), &entries(&plain)) {
            panic!("{name}: {path}\n{text}");
        }
        traced
    }

    /// Builds with the cache, and then once more in the same store with the stage `seen` alone made without it, which has to be equal:
    /// for files that are dear to make.
    fn seen_alone(&self, text: &str) -> Built {
        let traced = self.w.build(text);
        let plain = self.w.build_with(text, |o| o.choices.no_cache_filter = vec!["seen".into()]);
        assert!(plain.steps().iter().rev().take(2).all(|s| ["ran", "adopted"].contains(&s.as_str())));
        assert_eq!(difference(&entries(&traced), &entries(&plain)), None);
        traced
    }

    /// Builds both ways; the outcome of the last step, and what the program said.
    fn both(&self, name: &str, text: &str) -> (String, String) {
        let b = self.equal(name, text);
        (b.steps().pop().expect("a step"), b.text("out"))
    }

    fn all(&self, ways: &[Way]) {
        for way in ways {
            self.holds(way, "", "observed");
        }
    }

    /// That what must hold of a case does. `flags` are those of the step, and `reused` what becomes of it after an edit of something else.
    /// Gives what the program said last.
    fn holds(&self, way: &Way, flags: &str, reused: &str) -> String {
        self.reset();
        let args: Vec<String> = way.run.split(' ').map(|a| format!("{a:?}")).collect();
        let text = |owner: u32| {
            let above = if way.above.is_empty() { String::new() } else { format!("{}\n", way.above) };
            let args = args.join(", ");
            format!(
                "FROM base\nENV CASE=\"{}\"\nCOPY in /in\nCOPY --chown={owner} own /own\n{above}RUN {flags}[\"/bin/reach\", \"/out\", {args}]\n",
                way.name
            )
        };
        let owner = |e: Edit, before: u32| if let Owner(o) = e { o } else { before };
        let ran = |outcome: &str| ["ran", "adopted"].contains(&outcome);
        let name = format!("{} {flags}", way.name);

        let (outcome, said) = self.both(&name, &text(7));
        assert_eq!(outcome, "ran", "{name}: the first time");
        assert!(said.contains(way.says), "{name}: {said:?} should have {:?}", way.says);

        self.edit(way.other);
        let (outcome, said_then) = self.both(&name, &text(owner(way.other, 7)));
        assert_eq!(outcome, reused, "{name}: after {:?}", way.other);
        assert_eq!(said_then, said, "{name}: after {:?}", way.other);

        self.edit(way.touch);
        let (outcome, said) = self.both(&name, &text(owner(way.touch, 7)));
        assert!(ran(&outcome), "{name}: {outcome} after {:?}", way.touch);
        assert!(said.contains(way.then), "{name}: {said:?} should have {:?}", way.then);
        said
    }
}

fn programs_of_32_bits() {
    match Lab::try_new(32) {
        Ok(lab) => lab.all(BITS_32),
        Err(e) => {
            let _ = writeln!(std::io::stdout(), "left out: programs of 32 bits: {e}");
        }
    }
}

fn ways_that_a_sandbox_forbids() {
    let lab = Lab::new(64);
    lab.reset();
    for way in FORBIDDEN {
        let mount = "--mount=type=bind,source=in,target=/bound ";
        let refused = Way { says: "refused !1, ", ..*way };
        lab.holds(&refused, mount, "observed");
        // What the machine forbids as well cannot be seen.
        let host = lab.w.at("").display().to_string();
        let args = way
            .run
            .split(' ')
            .map(|a| a.replace("/in", &format!("{host}/in")).replace("/bound", &format!("{host}/in")));
        let answers = lab.program.with_extension("answers");
        let run = Command::new(&lab.program).arg(&answers).args(args).status().expect("the program runs");
        let said = std::fs::read_to_string(&answers).expect("its answers");
        assert!(run.success() && said.contains(way.then), "{}: {said}", way.name);
        if said.contains("refused") {
            let _ = writeln!(std::io::stdout(), "left out: {} without a sandbox: {said}", way.name);
            continue;
        }
        let said = lab.holds(way, &format!("--security=insecure {mount}"), "adopted");
        assert!(!said.contains("refused"), "{}: {said}", way.name);
    }
}

/// Another program beside `/bin/reach`: that of 32 bits, or, with a word about it, the same once more.
fn second_program(lab: &Lab) {
    let to = lab.w.base("bin/reach32");
    if let Err(e) = compile(32, &to) {
        let _ = writeln!(std::io::stdout(), "left out: programs of 32 bits: {e}");
        std::fs::copy(&lab.program, to).expect("the program");
    }
}

fn a_file_over_two_gigabytes() {
    let lab = Lab::new(64);
    second_program(&lab);
    lab.reset();
    lab.edit(Edit::Write("tail", "1"));
    let text = "FROM base AS made\nCOPY tail /tail\nRUN [\"/bin/reach\", \"/made\", \"sparse\", \"/tail\", \"/big\"]\n\
                FROM made AS seen\nCOPY in /in\n\
                RUN [\"/bin/reach32\", \"/last\", \"last\", \"/big\", \",\", \"small\", \"/big\"]\n\
                RUN [\"/bin/reach\", \"/size\", \"stat\", \"/big\"]\n\
                RUN [\"/bin/reach\", \"/out\", \"last\", \"/big\"]\n";
    let told = |wanted: [&str; 4], said: &str| {
        let b = lab.seen_alone(text);
        let steps = b.steps();
        assert_eq!([&steps[1], &steps[3], &steps[4], &steps[5]], wanted);
        assert_eq!(b.text("out"), said);
        assert!(b.text("last").starts_with(said), "{}", b.text("last"));
    };
    told(["ran"; 4], "2147483649 1;\n1;\n");
    lab.edit(G);
    told(["cached", "observed", "observed", "observed"], "2147483649 1;\n1;\n");
    // The last byte, beyond 2 GB, and nothing else.
    lab.edit(Edit::Write("tail", "2"));
    told(["ran", "ran", "observed", "ran"], "2147483649 2;\n2;\n");
}

fn a_directory_of_100_000_names() {
    let lab = Lab::new(64);
    lab.reset();
    std::fs::create_dir(lab.at("wide")).expect("a directory");
    for n in 0..100_000 {
        symlink("x", lab.at("wide").join(format!("name-{n}"))).expect("a link");
    }
    let text = "FROM base AS made\nCOPY wide /wide\nFROM made AS seen\nCOPY in /in\n\
                RUN [\"/bin/reach\", \"/link\", \"readlink\", \"/wide/name-77777\", \",\", \"there\", \"/wide/no\"]\n\
                RUN [\"/bin/reach\", \"/out\", \"count\", \"/wide\"]\n";
    let told = |wanted: [&str; 2], said: &str| {
        let b = lab.seen_alone(text);
        assert_eq!(b.steps()[2..], wanted);
        assert!(b.text("out").starts_with(said), "{}", b.text("out"));
    };
    told(["ran", "ran"], "100000 names");
    lab.edit(G);
    told(["observed", "observed"], "100000 names");
    lab.edit(Edit::Write("wide/one-more", ""));
    told(["observed", "ran"], "100001 names");
}
