//! Images that come, whole and damaged.

use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::Digest;
use oci::types::{ImageConfig, media};
use store::{ImageRecord, Store};

use super::{Incoming, LayerRef, chain_text, take};
use crate::error::BuildError;
use crate::testkit::*;

/// An image as a registry or an archive gives it, to be spoilt.
struct Image {
    config: Vec<u8>,
    layers: Vec<LayerRef>,
    blobs: Vec<Vec<u8>>,
    opened: AtomicUsize,
}

impl Image {
    fn new(layers: &[oci::LayerIndex]) -> Image {
        let (mut refs, mut blobs) = (Vec::new(), Vec::new());
        for layer in layers {
            let (diff_id, blob) = blob_of(layer);
            let (digest, size) = (Some(Digest::of(&blob)), Some(blob.len() as u64));
            refs.push(LayerRef { media_type: media::LAYER_GZIP.into(), digest, size, diff_id });
            blobs.push(blob);
        }
        let config = serde_json::to_vec(&config_of(refs.iter().map(|l| l.diff_id).collect())).unwrap();
        Image { config, layers: refs, blobs, opened: AtomicUsize::new(0) }
    }

    fn one() -> Image {
        Image::new(&[layer(&[("d/f", File("an image's file")), ("e", File("another"))])])
    }

    /// A blob for the last layer, with what the manifest says of it.
    fn with_blob(mut self, blob: Vec<u8>) -> Image {
        let l = self.layers.last_mut().unwrap();
        (l.digest, l.size) = (Some(Digest::of(&blob)), Some(blob.len() as u64));
        *self.blobs.last_mut().unwrap() = blob;
        self
    }

    /// A layer as a tar, with what manifest and config say of it.
    fn with_tar(mut self, tar: &[u8]) -> Image {
        self.layers.last_mut().unwrap().diff_id = Digest::of(tar);
        self.config =
            serde_json::to_vec(&config_of(self.layers.iter().map(|l| l.diff_id).collect())).unwrap();
        self.with_blob(gzip(tar))
    }

    fn take(&self, store: &Store) -> Result<(ImageRecord, ImageConfig), String> {
        let incoming = Incoming {
            name: "img",
            manifest: Some(b"{\"manifest\": 1}"),
            config: &self.config,
            layers: self.layers.clone(),
        };
        let open = |i: usize| {
            self.opened.fetch_add(1, Ordering::Relaxed);
            match self.blobs.get(i) {
                Some(b) => Ok(Box::new(Cursor::new(b.clone())) as Box<dyn Read + Send>),
                None => Err(BuildError::line(None, "no such blob")),
            }
        };
        take(store, &incoming, &open, &|_, _, _| {}).map_err(|e| chain_text(&e))
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_whole_image_is_kept_byte_for_byte() {
    let (_dir, store) = store();
    let image = Image::new(&[
        layer(&[("d/f", File("lower")), ("g", File("gone"))]),
        layer_of(vec![("d/f", File("upper")).entry(), oci::Entry::whiteout(b"g".to_vec())]),
    ]);
    let (record, config) = image.take(&store).unwrap();
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    assert_eq!(record.id, Digest::of(&image.config));
    assert_eq!(lines(&crate::export::tree(&store, &record.layers).unwrap()), ["d/", "d/f: upper"]);
    // Three files, two layers; two layers' blobs, the config, the manifest.
    assert_eq!(inventory(&store), [3, 2, 4, 1]);
    for (l, blob) in image.layers.iter().zip(&image.blobs) {
        assert_eq!(store.read_blob(&l.digest.unwrap(), 1 << 20).unwrap(), *blob);
    }
    assert_eq!(store.read_blob(&record.manifest.unwrap(), 100).unwrap(), b"{\"manifest\": 1}");
    // What is known is not asked for again.
    let again = image.take(&store).unwrap().0;
    assert_eq!((again.layers, image.opened.load(Ordering::Relaxed)), (record.layers, 2));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let flipped = |at: usize| {
        let mut i = Image::one();
        i.blobs[0][at] ^= 0x55;
        i
    };
    let cut = |by: usize| {
        let mut blob = Image::one().blobs.remove(0);
        blob.truncate(blob.len() - by);
        blob
    };
    let change = |f: fn(&mut Image)| {
        let mut i = Image::one();
        f(&mut i);
        i
    };
    let other = || blob_of(&layer(&[("other", File("other"))]));
    let cases: Vec<(&str, Image, &str)> = vec![
        ("flipped byte", flipped(40), "is damaged: layer sha256:"),
        (
            "flipped checksum",
            {
                let end = Image::one().blobs[0].len() - 6;
                flipped(end)
            },
            "is damaged: layer sha256:",
        ),
        ("cut off", Image::one().with_blob(cut(9)), "is damaged: layer sha256:"),
        (
            "cut off, as announced before",
            change(|i| {
                let n = i.blobs[0].len();
                i.blobs[0].truncate(n - 9)
            }),
            "is damaged: layer sha256:",
        ),
        ("another layer", Image::one().with_blob(other().1), "its content has diff ID sha256:"),
        (
            "another layer under the digest",
            change(|i| i.blobs[0] = blob_of(&layer(&[("other", File("other"))])).1),
            "its content has diff ID sha256:",
        ),
        (
            "other compression under the digest",
            change(|i| {
                let (_, b) = (0, i.blobs.remove(0));
                let mut tar = Vec::new();
                oci::compress::Decoder::new(&b[..]).unwrap().read_to_end(&mut tar).unwrap();
                i.layers[0].size = Some(tar.len() as u64);
                i.blobs.push(tar)
            }),
            "expected",
        ),
        ("wrong size", change(|i| i.layers[0].size = Some(1)), "bytes, the manifest says 1"),
        ("something behind the stream", change(|i| i.blobs[0].extend(b"tail")), "is damaged: layer sha256:"),
        ("no tar", Image::one().with_tar(&[1; 2048]), "is damaged: layer sha256:"),
        ("missing blob", change(|i| i.blobs.clear()), "no such blob"),
        ("config that is none", change(|i| i.config = b"[]".to_vec()), "its config cannot be read"),
        (
            "config with another diff ID",
            change(|i| i.config = serde_json::to_vec(&config_of(vec![Digest::of(b"x")])).unwrap()),
            "in the config",
        ),
        (
            "config with more layers",
            change(|i| {
                let d = i.layers[0].diff_id;
                i.config = serde_json::to_vec(&config_of(vec![d, d])).unwrap()
            }),
            "the manifest names 1 layers, the config 2",
        ),
    ];
    for (name, image, want) in cases {
        let (_dir, store) = store();
        let e = image.take(&store).map(|_| ()).expect_err(name);
        assert!(e.contains(want), "{name}: {e}");
        assert_eq!(inventory(&store), [0; 4], "{name}");
        assert!(store.layer_id_of_diff_id(&image.layers[0].diff_id).unwrap().is_none(), "{name}");
        assert!(store.tar_blobs(&image.layers[0].diff_id).unwrap().is_empty(), "{name}");
        // The same image, whole, can be taken afterwards.
        Image::one().take(&store).unwrap_or_else(|e| panic!("after {name}: {e}"));
    }
}

#[test]
fn a_good_layer_beside_a_damaged_one_makes_no_image() {
    let (_dir, store) = store();
    let mut image = Image::new(&[layer(&[("a", File("a"))]), layer(&[("b", File("b"))])]);
    let good = image.blobs[1].clone();
    image.blobs[1].truncate(20);
    image.take(&store).unwrap_err();
    assert_eq!(inventory(&store)[3], 0);
    // It need not come again.
    image.blobs[1] = good;
    image.opened = AtomicUsize::new(0);
    image.take(&store).unwrap();
    assert_eq!(image.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn layers_that_do_not_fit_on_each_other_are_refused() {
    let (_dir, store) = store();
    let image = Image::new(&[layer(&[("a", File("a"))]), layer(&[("b", Hard("missing"))])]);
    let e = image.take(&store).unwrap_err();
    assert!(e.contains("hard link \"/b\" leads to \"/missing\""), "{e}");
    assert_eq!(inventory(&store)[3], 0);
}

#[test]
fn what_follows_the_end_of_an_archive_counts() {
    let mut tar = Vec::new();
    oci::tar::write_layer(&layer(&[("a", File("a"))]), &content(), &mut tar).unwrap();
    let plain = Digest::of(&tar);
    // Padding as GNU tar writes it, and then more than any buffer holds.
    for tail in [vec![0; 7 * 1024], vec![0; 1 << 20]] {
        let (_dir, store) = store();
        let longer = [tar.clone(), tail].concat();
        Image::one().with_tar(&longer).take(&store).unwrap();
        assert!(store.layer_id_of_diff_id(&Digest::of(&longer)).unwrap().is_some());
        assert!(store.layer_id_of_diff_id(&plain).unwrap().is_none());
    }
}

#[test]
fn one_layer_may_occur_twice() {
    let (_dir, store) = store();
    let l = layer(&[("a", File("a"))]);
    let (record, _) = Image::new(&[l.clone(), l.clone(), l]).take(&store).unwrap();
    assert_eq!(record.layers.len(), 3);
    assert_eq!(inventory(&store)[1], 1);
}

#[test]
fn a_blob_without_announced_digest_is_taken_as_it_is() {
    let (_dir, store) = store();
    let mut image = Image::one();
    let l = &mut image.layers[0];
    (l.digest, l.size, l.media_type) = (None, None, String::new());
    let record = image.take(&store).unwrap().0;
    assert_eq!(record.layers.len(), 1);
    assert_eq!(store.tar_blobs(&image.layers[0].diff_id).unwrap()[0].digest, Digest::of(&image.blobs[0]));
}
