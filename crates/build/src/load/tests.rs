//! Images in files, out of the store and into another one.

use std::fs;
use std::io::{Read, Seek};

use oci::platform::Platform;
use oci::{Digest, LayerIndex};
use store::Store;

use super::{ArchiveKind, Outgoing, choose, open, open_archive, save, save_directory, take_resolved};
use crate::error::BuildError;
use crate::export::{LayerOptions, manifest};
use crate::finish::Built;
use crate::images::chain_text;
use crate::testkit::*;

struct Stores {
    dir: tempfile::TempDir,
    from: Store,
    image: Built,
}

fn layers() -> [LayerIndex; 2] {
    [layer(&[("d/f", File("one")), ("g", File("g"))]), layer(&[("d/f", File("two")), ("l", Link("g"))])]
}

impl Stores {
    fn new() -> Stores {
        let dir = tempfile::tempdir().unwrap();
        let from = Store::open(&dir.path().join("from")).unwrap();
        let image = built(&from, &layers());
        Stores { dir, from, image }
    }

    fn outgoing(&self) -> Vec<Outgoing> {
        let made = manifest(&self.from, &self.image, &LayerOptions::default()).unwrap();
        vec![Outgoing::new(&self.image, made, vec!["example.com/img:v1".parse().unwrap()])]
    }

    /// Takes the image of a file or directory into a new store.
    fn load(&self, name: &str, selector: Option<&str>) -> Result<(Store, store::ImageRecord), BuildError> {
        let to = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let store = Store::open(&to).unwrap();
        let layout = open(&store, &self.dir.path().join(name))?;
        let image = choose(&layout, name, selector, &Platform::new("linux", "amd64", None))?;
        let record = take_resolved(&store, name, &layout, &image, &|_, _, _| {});
        let images = inventory(&store)[3];
        assert_eq!(images, u64::from(record.is_ok()), "an image is there if and only if it was whole");
        Ok((store, record?.0))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn archives_and_directories_come_back_as_the_same_image() {
    let s = Stores::new();
    for (name, kind) in [("oci.tar", ArchiveKind::Oci), ("docker.tar", ArchiveKind::Docker)] {
        save(&s.from, &s.outgoing(), kind, fs::File::create(s.path(name)).unwrap()).unwrap();
    }
    save_directory(&s.from, &s.outgoing(), &s.path("dir")).unwrap();
    fs::write(s.path("oci.tar.gz"), gzip(&fs::read(s.path("oci.tar")).unwrap())).unwrap();
    for name in ["oci.tar", "docker.tar", "dir", "oci.tar.gz"] {
        let (store, record) = s.load(name, None).unwrap_or_else(|e| panic!("{name}: {}", chain_text(&e)));
        assert_eq!(record.id, s.image.id, "{name}");
        let tree = crate::export::tree(&store, &record.layers).unwrap();
        assert_eq!(lines(&tree), ["d/", "d/f: two", "g: g", "l -> g"], "{name}");
        let file = oci::Content::read_all(&store, &Digest::of(b"two"), 10).unwrap();
        assert_eq!(file, b"two");
    }
    let digest = s.outgoing()[0].digest().to_string();
    for (selector, found) in [("v1", true), ("example.com/img:v1", true), (&*digest, true), ("v2", false)] {
        assert_eq!(s.load("dir", Some(selector)).is_ok(), found, "{selector}");
    }
}

#[test]
fn a_pipe_can_be_loaded_from() {
    let s = Stores::new();
    let mut bytes = Vec::new();
    save(&s.from, &s.outgoing(), ArchiveKind::Oci, &mut bytes).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let file = fs::File::from(std::os::fd::OwnedFd::from(reader));
        let layout = open_archive(&s.from, "stdin", file).unwrap();
        let image = choose(&layout, "stdin", None, &Platform::new("linux", "amd64", None)).unwrap();
        assert_eq!(Digest::of(&image.config_bytes), s.image.id);
    });
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let s = Stores::new();
    for kind in [ArchiveKind::Oci, ArchiveKind::Docker] {
        let bytes = || {
            let mut out = Vec::new();
            save(&s.from, &s.outgoing(), kind, &mut out).unwrap();
            Digest::of(&out)
        };
        assert_eq!(bytes(), bytes());
    }
}

#[test]
fn damaged_layouts_are_refused() {
    let s = Stores::new();
    save_directory(&s.from, &s.outgoing(), &s.path("dir")).unwrap();
    let blobs: Vec<_> =
        fs::read_dir(s.path("dir/blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(blobs.len(), 4);
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let short = good[..good.len() - 1].to_vec();
        for (what, bad) in [("flipped", Some(flipped)), ("short", Some(short)), ("missing", None)] {
            match bad {
                Some(bytes) => fs::write(&blob, bytes).unwrap(),
                None => fs::remove_file(&blob).unwrap(),
            }
            let e = chain_text(&s.load("dir", None).map(|_| ()).expect_err(what));
            assert!(e.starts_with("image dir is damaged") || e.contains("dir"), "{what}: {e}");
        }
        fs::write(&blob, good).unwrap();
    }
    s.load("dir", None).expect("all is as it was");
}

#[test]
fn what_is_no_archive_is_told() {
    let s = Stores::new();
    fs::write(s.path("text"), "hello").unwrap();
    fs::write(s.path("empty"), "").unwrap();
    fs::create_dir(s.path("nothing")).unwrap();
    for name in ["text", "empty", "nothing", "missing"] {
        let e = chain_text(&s.load(name, None).map(|_| ()).unwrap_err());
        assert!(e.contains(&s.path(name).display().to_string()), "{e}");
    }
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"plain text, no archive").unwrap();
    file.rewind().unwrap();
    let e = open_archive(&s.from, "stdin", file.try_clone().unwrap()).map(|_| ()).unwrap_err();
    assert!(chain_text(&e).starts_with("image stdin is damaged"), "{e}");
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
}
