//! One suite for both ways.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// `in/` is the directory; `out/` lies beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for dir in ["in/d/deep", "in/e", "out/deep"] {
            std::fs::create_dir_all(place.at(dir)).unwrap();
        }
        for file in ["in/file", "in/d/file", "in/d/deep/file"] {
            std::fs::write(place.at(file), "inside").unwrap();
        }
        for file in ["file", "out/file", "out/deep/file", "out/only"] {
            std::fs::write(place.at(file), "outside").unwrap();
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn link(&self, target: &str, path: &str) -> &Place {
        symlink(target, self.at(path)).unwrap();
        self
    }

    /// The directory, in each of the ways that this machine has.
    fn ways(&self) -> Vec<Confined> {
        let found = Confined::open(&self.at("in")).unwrap();
        let parts = Confined { way: Way::Parts, dir: found.dir.try_clone().unwrap() };
        match found.way {
            Way::Kernel => vec![found, parts],
            Way::Parts => vec![parts],
        }
    }

    fn exchange(&self, a: &str, b: &str) {
        renameat_with(CWD, self.at(a), CWD, self.at(b), RenameFlags::EXCHANGE).unwrap();
    }
}

fn text(file: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).unwrap();
    text
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);
const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
const ITSELF: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

#[test]
fn beneath_no_link_is_followed() {
    let place = Place::new();
    let out = place.at("out").display().to_string();
    place.link("../out", "in/up").link(&out, "in/absolute").link("d", "in/inner").link("file", "in/d/last");
    place.link("nothing", "in/broken").link("inner", "in/twice");
    rustix::fs::mknodat(CWD, place.at("in/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let cases: &[(&str, OFlags, Result<(), Errno>)] = &[
        ("file", READ, Ok(())),
        ("d/file", READ, Ok(())),
        ("d/deep/file", READ, Ok(())),
        ("d//deep/./file", READ, Ok(())),
        ("d/deep/file", OFlags::PATH, Ok(())),
        ("pipe", READ, Ok(())),
        ("", LIST, Ok(())),
        (".", LIST, Ok(())),
        ("d", LIST, Ok(())),
        ("d/deep", LIST, Ok(())),
        ("d/deep/", LIST, Ok(())),
        ("d/deep", OFlags::PATH, Ok(())),
        ("d/nothing", READ, Err(Errno::NOENT)),
        ("nothing/file", READ, Err(Errno::NOENT)),
        ("file/file", READ, Err(Errno::NOTDIR)),
        ("d/file/file", READ, Err(Errno::NOTDIR)),
        ("d/file", LIST, Err(Errno::NOTDIR)),
        ("pipe", LIST, Err(Errno::NOTDIR)),
        ("d/last", READ, Err(Errno::LOOP)),
        ("d/last", LIST, Err(Errno::LOOP)),
        ("d/last", OFlags::PATH, Err(Errno::LOOP)),
        ("d/last", ITSELF, Ok(())),
        ("broken", READ, Err(Errno::LOOP)),
        ("broken", ITSELF, Ok(())),
        ("inner", LIST, Err(Errno::LOOP)),
        ("inner/file", READ, Err(Errno::LOOP)),
        ("inner/file", ITSELF, Err(Errno::LOOP)),
        ("twice/file", READ, Err(Errno::LOOP)),
        ("up", LIST, Err(Errno::LOOP)),
        ("up/file", READ, Err(Errno::LOOP)),
        ("up/deep/file", READ, Err(Errno::LOOP)),
        ("up/nothing", READ, Err(Errno::LOOP)),
        ("absolute/file", READ, Err(Errno::LOOP)),
        ("absolute/file", OFlags::PATH, Err(Errno::LOOP)),
        ("../file", READ, Err(Errno::XDEV)),
        ("d/../file", READ, Err(Errno::XDEV)),
        ("d/../../file", READ, Err(Errno::XDEV)),
        ("..", LIST, Err(Errno::XDEV)),
        ("/file", READ, Err(Errno::XDEV)),
        ("/", LIST, Err(Errno::XDEV)),
    ];
    for confined in place.ways() {
        for (path, flags, want) in cases {
            let got = confined.beneath(path.as_bytes(), *flags);
            let what = format!("{path:?} with {flags:?}, {:?}", confined.way);
            assert_eq!(got.as_ref().map(drop).map_err(|e| *e), *want, "{what}");
            if let (Ok(file), true) = (got, *flags == READ && *path != "pipe") {
                assert_eq!(text(file), "inside", "{what}");
            }
        }
    }
}

#[test]
fn as_root_links_lead_nowhere_else() {
    let place = Place::new();
    let out = place.at("out").display().to_string();
    let absolute = format!("{out}/file");
    // The same path inside, so that what is absolute has something to lead to.
    let mirror = format!("in{out}");
    std::fs::create_dir_all(place.at(&mirror)).unwrap();
    std::fs::write(place.at(&format!("{mirror}/file")), "inside").unwrap();
    place.link("../file", "in/up").link("../../../../file", "in/d/far").link("/file", "in/d/deep/top");
    place.link(&absolute, "in/absolute").link(&out, "in/outer").link("../out", "in/beside");
    place.link("d/deep/..", "in/back").link("nothing", "in/broken").link("round", "in/round");
    place
        .link("file/", "in/slash")
        .link("file/..", "in/through")
        .link("/", "in/root")
        .link("..", "in/d/above");
    place.link("file", "in/l0");
    for n in 0..MAX_LINKS {
        place.link(&format!("l{n}"), &format!("in/l{}", n + 1));
    }
    let cases: &[(&str, OFlags, Result<(), Errno>)] = &[
        ("file", READ, Ok(())),
        ("/file", READ, Ok(())),
        ("../file", READ, Ok(())),
        ("d/../../../file", READ, Ok(())),
        ("up", READ, Ok(())),
        ("d/far", READ, Ok(())),
        ("d/deep/top", READ, Ok(())),
        ("absolute", READ, Ok(())),
        ("outer/file", READ, Ok(())),
        ("back/file", READ, Ok(())),
        ("root/d/above/file", READ, Ok(())),
        ("root", LIST, Ok(())),
        ("..", LIST, Ok(())),
        ("/", LIST, Ok(())),
        ("back", LIST, Ok(())),
        ("l39", READ, Ok(())),
        ("l40", READ, Err(Errno::LOOP)),
        ("round", READ, Err(Errno::LOOP)),
        ("outer/only", READ, Err(Errno::NOENT)),
        ("beside/only", READ, Err(Errno::NOENT)),
        ("beside/file", READ, Err(Errno::NOENT)),
        ("broken", READ, Err(Errno::NOENT)),
        ("", READ, Err(Errno::NOENT)),
        ("through", READ, Err(Errno::NOTDIR)),
        ("slash", READ, Err(Errno::NOTDIR)),
        ("file/.", READ, Err(Errno::NOTDIR)),
        ("file/file", READ, Err(Errno::NOTDIR)),
        ("file", LIST, Err(Errno::NOTDIR)),
    ];
    for confined in place.ways() {
        for (path, flags, want) in cases {
            let got = confined.as_root(path.as_bytes(), *flags);
            let what = format!("{path:?} with {flags:?}, {:?}", confined.way);
            assert_eq!(got.as_ref().map(drop).map_err(|e| *e), *want, "{what}");
            if let (Ok(file), true) = (got, *flags == READ) {
                assert_eq!(text(file), "inside", "{what}");
            }
        }
    }
}

/// Directories and links to the outside take each other's place while `open` is called, until both a file inside was opened and something
/// was refused often enough. What was opened must be inside.
fn race(open: impl Fn(&Confined, &[u8]) -> Result<OwnedFd, Errno>, refused: &[Errno]) {
    let place = Place::new();
    std::fs::create_dir(place.at("in/e/deep")).unwrap();
    std::fs::write(place.at("in/e/deep/file"), "inside").unwrap();
    place.link("../out", "in/link").link("../../out/deep", "in/e/link").link("../../out/file", "in/d/link");
    for confined in place.ways() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    place.exchange("in/d", "in/link");
                    place.exchange("in/e/deep", "in/e/link");
                    // A file by a link, too, while the directory is in its place.
                    let (file, link) = (place.at("in/d/file"), place.at("in/d/link"));
                    let _ = renameat_with(CWD, file, CWD, link, RenameFlags::EXCHANGE);
                }
            });
            let (mut opened, mut errors) = (0u32, 0u32);
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while opened < 2000 || errors < 2000 {
                    for path in ["d/file", "e/deep/file", "d/deep/file"] {
                        match open(&confined, path.as_bytes()) {
                            Ok(file) => {
                                assert_eq!(text(file), "inside", "{path}, {:?}", confined.way);
                                opened += 1;
                            }
                            Err(e) => {
                                assert!(refused.contains(&e), "{path}, {:?}: {e}", confined.way);
                                errors += 1;
                            }
                        }
                    }
                }
            }));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

#[test]
fn a_directory_that_becomes_a_link_does_not_lead_out_beneath() {
    // While a link is where the directory was, the directory is where the link was, with all it has.
    race(|c, path| c.beneath(path, READ), &[Errno::LOOP, Errno::NOTDIR]);
}

#[test]
fn a_directory_that_becomes_a_link_does_not_lead_out_as_root() {
    // EAGAIN: the kernel saw that something was renamed and cannot say where `..` leads.
    race(|c, path| c.as_root(path, READ), &[Errno::LOOP, Errno::NOTDIR, Errno::NOENT, Errno::AGAIN]);
}

#[test]
fn renames_elsewhere_disturb_nobody() {
    let place = Place::new();
    let renames = AtomicUsize::new(0);
    let failed: Vec<Errno> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while renames.fetch_add(1, Ordering::Relaxed) < 20_000 {
                place.exchange("out/deep", "out/only");
            }
        });
        let ways = place.ways();
        let path = b"d/../d/deep/../../d/../d/deep/../../file";
        let open = || ways.iter().filter_map(|way| way.as_root(path, READ).err());
        std::iter::repeat_with(open)
            .take_while(|_| renames.load(Ordering::Relaxed) < 20_000)
            .flatten()
            .collect()
    });
    assert_eq!(failed, []);
}
