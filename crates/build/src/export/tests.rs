//! What leaves the store.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use oci::compress::Compression;
use oci::tree::ROOT;
use oci::types::media;
use oci::{Digest, Time, Tree};
use store::{Store, TarOrigin};

use super::{LayerOptions, layer_blob, local, manifest, tar, write_tree};
use crate::images::chain_text;
use crate::testkit::*;

fn write(tree: &Tree, dest: &std::path::Path) {
    write_tree(tree, ROOT, &content(), dest).unwrap_or_else(|e| panic!("{}", chain_text(&e)));
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_tree_becomes_a_directory_and_the_directory_is_the_tree() {
    if !root() {
        return;
    }
    let mut rows: Vec<_> = [
        ("d", Dir, 0o555, (1, 2)),
        ("d/f", File("f"), 0o4711, (5, 6)),
        ("d/link", Hard("d/f"), 0, (0, 0)),
        ("d/s", Dir, 0o2700, (0, 0)),
        ("d/s/sticky", Dir, 0o1777, (7, 7)),
        ("c", Char(1, 3), 0o666, (0, 0)),
        ("l", Link("/nowhere"), 0o777, (3, 4)),
        ("p", Fifo, 0o600, (1, 1)),
        ("z/link", Hard("d/f"), 0, (0, 0)),
    ]
    .iter()
    .map(Row::entry)
    .collect();
    for (i, e) in rows.iter_mut().enumerate() {
        e.attrs.mtime = Time { secs: 1_000_000 + i as i64, nanos: 123_456_789 };
    }
    rows[1].attrs.xattrs =
        vec![(b"security.capability".to_vec(), [&[1, 0, 0, 2][..], &[0; 16]].concat())].into();
    let t = tree_of(rows);
    let dir = tempfile::tempdir().unwrap();
    write(&t, dir.path());
    let found = tree_of(walk_dir(dir.path()));
    // The directory that no entry names has the time of writing.
    let facts = |t: &Tree| -> Vec<_> {
        let time = |e: &oci::Entry| if e.path == b"z" { Time::default() } else { e.attrs.mtime };
        t.flatten().iter().filter(|e| !e.path.is_empty()).map(time).collect()
    };
    assert_eq!(lines(&found), lines(&t));
    assert_eq!(facts(&found), facts(&t));
    // Once more, over what is there.
    write(&t, dir.path());
    assert_eq!(lines(&tree_of(walk_dir(dir.path()))), lines(&t));
}

#[test]
fn names_that_exist_are_replaced_and_directories_merged() {
    let t = tree(&[
        ("dir", Dir, 0o700),
        ("dir/f", File("new"), 0o644),
        ("file", File("new"), 0o644),
        ("was-dir", File("new"), 0o644),
        ("was-file/f", File("new"), 0o644),
        ("was-link", File("new"), 0o644),
        ("link-to-dir/f", File("new"), 0o644),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join("out").join(p);
    let outside = dir.path().join("outside");
    fs::create_dir_all(at("dir/kept")).unwrap();
    fs::create_dir_all(at("was-dir/full")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "old").unwrap();
    fs::write(at("file"), "old").unwrap();
    fs::hard_link(at("file"), at("other-name")).unwrap();
    fs::write(at("was-file"), "old").unwrap();
    symlink(outside.join("victim"), at("was-link")).unwrap();
    symlink(&outside, at("link-to-dir")).unwrap();
    write(&t, &dir.path().join("out"));
    let text = |p: std::path::PathBuf| fs::read_to_string(p).unwrap();
    for p in ["dir/f", "file", "was-dir", "was-file/f", "was-link", "link-to-dir/f"] {
        assert_eq!(text(at(p)), "new", "{p}");
    }
    assert!(at("dir/kept").is_dir());
    assert_eq!(fs::metadata(at("dir")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(text(at("other-name")), "old", "another name of a replaced file keeps its content");
    // Nothing was written through a link.
    assert_eq!(text(outside.join("victim")), "old");
    assert!(!outside.join("f").exists());
    assert!(!fs::symlink_metadata(at("link-to-dir")).unwrap().is_symlink());
}

#[test]
fn a_part_of_a_tree_can_be_written() {
    let t = tree(&[("a/b/c", File("c")), ("a/b/d/e", File("e")), ("x", File("x"))]);
    let dir = tempfile::tempdir().unwrap();
    write_tree(&t, t.lookup(b"a/b").unwrap(), &content(), dir.path()).unwrap();
    assert_eq!(lines(&tree_of(walk_dir(dir.path()))), ["c: c", "d/", "d/e: e"]);
}

#[test]
fn deep_trees_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let room = 4095 - dir.path().as_os_str().len() - 2;
    let deep = format!("{}f", "x/".repeat(room / 2 - 1));
    let t = tree_of(vec![(deep.as_str(), File("deep")).entry()]);
    write(&t, dir.path());
    assert_eq!(fs::read_to_string(dir.path().join(&deep)).unwrap(), "deep");
}

#[test]
fn a_missing_object_is_told() {
    let t = tree(&[("d/f", File("nobody has this"))]);
    let dir = tempfile::tempdir().unwrap();
    let nothing = oci::content::MemoryContent::default();
    let e = chain_text(&write_tree(&t, ROOT, &nothing, dir.path()).unwrap_err());
    let want = format!("cannot read the content of {:?}: no object ", dir.path().join("d/f"));
    assert!(e.starts_with(&want), "{e}");
}

#[test]
fn the_merged_image_as_directory_and_tar() {
    let (_keep, store) = store();
    let mut top = layer(&[("a", File("new")), ("d/x", File("x"))]).into_entries();
    top.push(oci::Entry::whiteout(b"gone".to_vec()));
    let image = built(&store, &[layer(&[("a", File("old")), ("gone/f", File("f"))]), layer_of(top)]);
    let ids: Vec<Digest> = image.layers.iter().map(|(l, _)| *l).collect();
    let dir = tempfile::tempdir().unwrap();
    local(&store, &ids, &dir.path().join("new/out")).unwrap();
    let want = ["a: new", "d/", "d/x: x"];
    assert_eq!(lines(&tree_of(walk_dir(&dir.path().join("new/out")))), want);
    let mut bytes = Vec::new();
    tar(&store, &ids, &mut bytes).unwrap();
    let mut content = oci::content::MemoryContent::default();
    let read = oci::tar::read::read_layer(&bytes[..], &mut content, &oci::tar::Limits::default()).unwrap();
    assert_eq!(lines(&Tree::from_layers([&read]).unwrap()), want);
}

#[test]
fn a_layer_is_compressed_once_for_each_kind() {
    let (_keep, store) = store();
    let image = built(&store, &[layer(&[("a", File("content"))])]);
    let (id, diff_id) = image.layers[0];
    let blob = |compression, force, docker_types| {
        let o = LayerOptions { compression, force, docker_types };
        let d = layer_blob(&store, &id, &diff_id, &o).unwrap();
        (d.media_type, d.digest, d.size)
    };
    let gzip = blob(Compression::Gzip(6), false, false);
    assert_eq!(gzip.0, media::LAYER_GZIP);
    assert_eq!(inventory(&store)[2], 1);
    assert_eq!(blob(Compression::Gzip(6), false, false), gzip);
    let docker = blob(Compression::Gzip(6), false, true);
    assert_eq!((docker.0.as_str(), docker.1), (media::DOCKER_LAYER_GZIP, gzip.1));
    // Our own layers are made in the kind that is asked for.
    let zstd = blob(Compression::Zstd(3), false, false);
    assert_eq!(zstd.0, media::LAYER_ZSTD);
    let none = blob(Compression::None, false, false);
    assert_eq!((none.0.as_str(), none.1), (media::LAYER, diff_id));
    assert_eq!(inventory(&store)[2], 3);
    // All of them unpack to the layer's tar.
    for (_, digest, size) in [gzip, zstd, none] {
        let bytes = store.read_blob(&digest, 1 << 20).unwrap();
        assert_eq!(bytes.len() as u64, size);
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut oci::compress::Decoder::new(&bytes[..]).unwrap(), &mut tar).unwrap();
        assert_eq!(Digest::of(&tar), diff_id);
    }
}

#[test]
fn a_blob_of_the_kind_is_taken_whatever_its_level() {
    let (_keep, store) = store();
    let l = layer(&[("a", File("content"))]);
    let (id, diff_id) = built(&store, std::slice::from_ref(&l)).layers[0];
    let (_, other) = blob_of(&l);
    // Not what we would write: a member for nothing behind it.
    let other = [other, gzip(b"")].concat();
    let digest = store.put_blob(&other).unwrap();
    store.add_tar_blob(&diff_id, media::LAYER_GZIP, &digest, other.len() as u64).unwrap();
    let found = layer_blob(&store, &id, &diff_id, &LayerOptions::default()).unwrap();
    assert_eq!(found.digest, digest);
    assert_eq!(inventory(&store)[2], 1);
    // A blob that is gone is made again.
    let _ = fs::remove_file(store.root().join("blobs/sha256").join(digest.hex()));
    assert!(!store.has_blob(&digest).unwrap());
    let made = layer_blob(&store, &id, &diff_id, &LayerOptions::default()).unwrap();
    assert!(made.digest != digest && store.has_blob(&made.digest).unwrap());
}

#[test]
fn a_layer_that_came_goes_out_as_it_came() {
    let (_keep, store) = store();
    // A tar that our writer would not write: something behind its end.
    let l = layer(&[("a", File("content"))]);
    let mut tar = Vec::new();
    oci::tar::write_layer(&l, &content(), &mut tar).unwrap();
    tar.extend([0; 4096]);
    let (diff_id, bytes) = (Digest::of(&tar), gzip(&tar));
    let batch = store.batch();
    batch.add_bytes(b"content").unwrap();
    let id = batch.add_layer(&l).unwrap();
    batch.set_diff_id(&id, &diff_id, tar.len() as u64, TarOrigin::Received).unwrap();
    batch.commit(Vec::new(), Vec::new()).unwrap();
    let came = store.put_blob(&bytes).unwrap();
    store.add_tar_blob(&diff_id, media::DOCKER_LAYER_GZIP, &came, bytes.len() as u64).unwrap();
    let blob = |compression, force| {
        let o = LayerOptions { compression, force, docker_types: false };
        layer_blob(&store, &id, &diff_id, &o).unwrap()
    };
    for compression in [Compression::Gzip(6), Compression::Zstd(3), Compression::None] {
        let d = blob(compression, false);
        assert_eq!((d.digest, d.media_type.as_str()), (came, media::LAYER_GZIP), "{compression:?}");
    }
    // By force in another kind, and still the same tar.
    let plain = blob(Compression::None, true);
    assert_eq!((plain.digest, plain.media_type.as_str()), (diff_id, media::LAYER));
    assert_eq!(store.read_blob(&plain.digest, 1 << 20).unwrap(), tar);
}

#[test]
fn manifests_are_deterministic_and_whole() {
    let layers = [layer(&[("a", File("a"))]), layer(&[("b", File("b"))])];
    let make = |options: &LayerOptions| {
        let (_keep, store) = store();
        let image = built(&store, &layers);
        let m = manifest(&store, &image, options).unwrap();
        for d in m.manifest.layers.iter().chain([&m.manifest.config, &m.descriptor]) {
            assert_eq!(store.open_blob(&d.digest).unwrap().1, d.size);
        }
        m
    };
    let oci = make(&LayerOptions::default());
    assert_eq!(make(&LayerOptions::default()).bytes, oci.bytes);
    assert_eq!(oci.descriptor.digest, Digest::of(&oci.bytes));
    assert_eq!(oci.descriptor.platform.as_ref().unwrap().to_string(), "linux/amd64");
    let types = |m: &super::Manifested| {
        let l = &m.manifest;
        [m.descriptor.media_type.clone(), l.config.media_type.clone(), l.layers[1].media_type.clone()]
    };
    assert_eq!(types(&oci), [media::MANIFEST, media::CONFIG, media::LAYER_GZIP]);
    let docker = make(&LayerOptions { docker_types: true, ..LayerOptions::default() });
    assert_eq!(types(&docker), [media::DOCKER_MANIFEST, media::DOCKER_CONFIG, media::DOCKER_LAYER_GZIP]);
    assert_eq!(docker.manifest.layers[0].digest, oci.manifest.layers[0].digest);
}

#[test]
fn an_ordinary_user_keeps_its_name_on_what_it_writes() {
    let t = tree(&[("f", File("f"), 0o640, (5, 6))]);
    let dir = tempfile::tempdir().unwrap();
    if root() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::CHOWN);
        set_capabilities(None, sets).unwrap();
    }
    write(&t, dir.path());
    let m = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!((m.uid(), m.mode() & 0o7777), (rustix::process::geteuid().as_raw(), 0o640));
}
