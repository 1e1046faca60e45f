//! Images, tags, blobs.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use oci::tar::{Digested, Mark};
use oci::{Digest, LayerIndex};
use store::{ImageRecord, Policy, Store, StoreError, TarBlob, TarOrigin};

use crate::{layer_of, open, put_image};

#[test]
fn blobs_are_kept_byte_for_byte_and_checked() {
    let (_dir, store) = open();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"blob").unwrap();
    assert_eq!(writer.bytes(), 10);
    let (digest, size) = writer.commit(Some(&Digest::of(b"hello blob"))).unwrap();
    assert_eq!((digest, size), (Digest::of(b"hello blob"), 10));
    assert_eq!(store.read_blob(&digest, 10).unwrap(), b"hello blob", "visible before it is flushed");
    store.flush().unwrap();
    assert_eq!(Store::open(store.root()).unwrap().read_blob(&digest, 10).unwrap(), b"hello blob");
    assert!(matches!(store.read_blob(&digest, 9), Err(StoreError::TooLarge { limit: 9, .. })));

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"forged").unwrap();
    let got = writer.commit(Some(&digest));
    assert!(
        matches!(got, Err(StoreError::Mismatch { expected, got }) if expected == digest && got == Digest::of(b"forged"))
    );
    assert!(!store.has_blob(&Digest::of(b"forged")).unwrap());
    assert!(matches!(store.open_blob(&Digest::of(b"forged")), Err(StoreError::Missing { kind: "blob", .. })));
}

#[test]
fn images_are_found_by_name_and_by_id() {
    let (_dir, store) = open();
    let a = put_image(&store, "docker.io/library/a:latest", b"a");
    let b = put_image(&store, "docker.io/library/b:1", b"b");
    store.tag("docker.io/library/c:2", &b.id, None).unwrap();
    let other = Store::open(store.root()).unwrap();
    for store in [&store, &other] {
        let names: Vec<_> = store.tags().unwrap().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["docker.io/library/a:latest", "docker.io/library/b:1", "docker.io/library/c:2"]);
        assert_eq!(store.images().unwrap().len(), 2);
        assert_eq!(store.find("docker.io/library/c:2").unwrap().unwrap(), b);
        assert_eq!(store.find(&a.id.to_string()).unwrap().unwrap(), a);
        assert_eq!(store.find(&a.id.hex()[..12]).unwrap().unwrap(), a);
        assert_eq!(store.find(&a.manifest.unwrap().to_string()).unwrap().unwrap(), a);
        assert_eq!(store.find(&a.id.hex()[..3]).unwrap(), None, "too short for an id");
        assert_eq!(store.find("docker.io/library/none:1").unwrap(), None);
        assert_eq!(store.find("../../format").unwrap(), None);
    }
    store.tag("docker.io/library/a:latest", &b.id, b.manifest.as_ref()).unwrap();
    assert_eq!(store.find("docker.io/library/a:latest").unwrap().unwrap(), b);
    assert_eq!(store.find_tag("docker.io/library/a:latest").unwrap().unwrap().manifest, b.manifest);
    assert!(store.untag("docker.io/library/c:2").unwrap());
    assert!(!store.untag("docker.io/library/c:2").unwrap());
    assert_eq!(store.remove_image(&b.id).unwrap(), ["docker.io/library/a:latest", "docker.io/library/b:1"]);
    assert_eq!((store.tags().unwrap(), store.images().unwrap()), (vec![], vec![a]));
    assert!(matches!(store.remove_image(&b.id), Err(StoreError::Missing { kind: "image", .. })));
}

#[test]
fn what_is_put_again_stays_as_it_is() {
    let (_dir, store) = open();
    let name = "docker.io/library/a:latest";
    let image = put_image(&store, name, b"a");
    let other = put_image(&store, "docker.io/library/b:1", b"b");
    let first = store.find_tag(name).unwrap().unwrap();
    // As every file of a store, one that is there is never written to: a new one would have another number.
    let number = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino();
    let file = store.root().join(format!("images/{}.json", image.id.hex()));
    let before = number(file.clone());
    let again = ImageRecord { created: oci::Time::from_secs(77), ..image.clone() };
    store.put_image(&again).unwrap();
    store.tag(name, &image.id, image.manifest.as_ref()).unwrap();
    assert_eq!((number(file.clone()), store.image(&image.id).unwrap()), (before, Some(image.clone())));
    assert_eq!(store.find_tag(name).unwrap().unwrap(), first);
    // There and back in one group: the last one counts, though it is what was there.
    let batch = store.batch();
    batch.tag(name, &other.id, None).unwrap();
    batch.tag(name, &image.id, image.manifest.as_ref()).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    assert_eq!(store.find(name).unwrap(), Some(image.clone()));
    // What cannot be read is written anew.
    std::fs::write(&file, "damaged").unwrap();
    store.put_image(&again).unwrap();
    assert_eq!(store.image(&image.id).unwrap(), Some(again));
}

#[test]
fn a_prefix_of_several_ids_is_ambiguous() {
    let (_dir, store) = open();
    let image = put_image(&store, "n:1", b"a");
    // A second image whose id begins alike, made by hand: such digests are hard to come by.
    let mut raw = *image.id.as_bytes();
    raw[31] ^= 1;
    let twin = Digest::from_bytes(raw);
    let dir = store.root().join("images");
    let text = std::fs::read_to_string(dir.join(format!("{}.json", image.id.hex()))).unwrap();
    std::fs::write(dir.join(format!("{}.json", twin.hex())), text.replace(&image.id.hex(), &twin.hex()))
        .unwrap();
    let got = store.find(&image.id.hex()[..20]);
    assert!(matches!(got, Err(StoreError::Ambiguous { count: 2, .. })), "{got:?}");
    assert_eq!(store.find(&twin.hex()).unwrap().unwrap().id, twin);
}

#[test]
fn a_layer_may_have_several_tars_and_only_ours_is_its_diff_id() {
    let (_dir, store) = open();
    let batch = store.batch();
    batch.add_bytes(b"x").unwrap();
    let layer = batch.add_layer(&layer_of("f", b"x")).unwrap();
    let blob = batch.add_blob(b"packed").unwrap();
    let (pulled, ours) = (Digest::of(b"their tar"), Digest::of(b"our tar"));
    batch.set_diff_id(&layer, &pulled, 2048, TarOrigin::Received).unwrap();
    batch.add_tar_blob(&pulled, "gzip", &blob, 6).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    let check = |store: &Store, written: Option<(Digest, u64)>| {
        assert_eq!(store.layer_id_of_diff_id(&pulled).unwrap(), Some(layer));
        assert_eq!(store.diff_id(&layer).unwrap(), written);
        let expected = TarBlob { media_type: "gzip".into(), digest: blob, size: 6 };
        assert_eq!(store.tar_blobs(&pulled).unwrap(), [expected]);
        assert_eq!(store.tar_blobs(&ours).unwrap(), []);
    };
    check(&store, None);
    store.flush().unwrap();
    check(&Store::open(store.root()).unwrap(), None);
    let set = |origin| {
        let batch = store.batch();
        batch.set_diff_id(&layer, &ours, 1024, origin).unwrap();
        batch.commit(vec![], vec![]).unwrap();
    };
    set(TarOrigin::Written);
    // What our writer made stays ours, even when it is pulled again.
    set(TarOrigin::Received);
    check(&store, Some((ours, 1024)));
    store.flush().unwrap();
    check(&Store::open(store.root()).unwrap(), Some((ours, 1024)));
}

#[test]
fn a_layer_brings_what_it_needs() {
    let (_dir, store) = open();
    let layer = layer_of("f", b"content of f");
    let id = layer.id();
    let reuse = || {
        let batch = store.batch();
        let has = batch.reuse_layer(&id).unwrap();
        (has, batch.add_layer(&layer).is_ok())
    };
    assert_eq!(reuse(), (false, false), "neither the layer nor its file is there");
    let first = store.batch();
    first.add_bytes(b"content of f").unwrap();
    first.add_layer(&layer).unwrap();
    assert_eq!(reuse(), (true, true), "another batch of this process has it");
    let second = store.batch();
    assert!(second.reuse_layer(&id).unwrap());
    drop(first);
    // The share in what was staged outlives whoever staged it.
    second.add_layer(&layer).unwrap();
    second.commit(Vec::new(), Vec::new()).unwrap();
    store.flush().unwrap();
    assert_eq!(reuse(), (true, true), "the store has it");
    assert!(store.has_object(&Digest::of(b"content of f")).unwrap());
}

#[test]
fn what_a_reused_layer_has_elsewhere_is_lacking_still() {
    let (_dir, store) = open();
    let layer = |files: &[(&str, &[u8])]| {
        let entry = |(path, text): &(&str, &[u8])| layer_of(path, text).into_entries().remove(0);
        LayerIndex::from_entries(files.iter().map(entry).collect()).unwrap()
    };
    let old = layer(&[("a", b"1"), ("b", b"2"), ("d/x", b"3"), ("z", b"4")]);
    let first = store.batch();
    for text in [b"1", b"2", b"3", b"4"] {
        first.add_bytes(text).unwrap();
    }
    let id = first.add_layer(&old).unwrap();
    first.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();

    let new = layer(&[("a", b"1"), ("b", b"other"), ("c", b"3"), ("d/x", b"3"), ("d/y", b"4"), ("z", b"4")]);
    let new = oci::index::EncodedLayer::from(&new);
    let lacking = |batch: &store::Batch| {
        let mut out = Vec::new();
        let Ok(()) = batch.each_lacking::<std::convert::Infallible>(&new, |digest| {
            out.push(*digest);
            Ok(())
        });
        out
    };
    let batch = store.batch();
    assert_eq!(lacking(&batch).len(), 6, "nothing is claimed yet");
    assert!(batch.reuse_layer(&id).unwrap());
    assert_eq!(lacking(&batch), [&b"other"[..], &b"3"[..], &b"4"[..]].map(Digest::of));
    assert!(batch.add_encoded(&new).is_err(), "one content is nowhere");
    batch.add_bytes(b"other").unwrap();
    assert_eq!(batch.add_encoded(&new).unwrap(), new.id());
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    assert_eq!(*store.layer(&new.id()).unwrap(), new.decode());
}

#[test]
fn a_damaged_layer_is_not_used_again_and_stops_nobody() {
    let (_dir, store) = open();
    let layer = layer_of("f", b"content of f");
    let batch = store.batch();
    batch.add_bytes(b"content of f").unwrap();
    let id = batch.add_layer(&layer).unwrap();
    batch.commit(Vec::new(), Vec::new()).unwrap();
    store.flush().unwrap();
    let path = store.root().join(format!("layers/{}", id.hex()));
    std::fs::write(&path, b"something else").unwrap();
    assert!(!store.batch().reuse_layer(&id).unwrap());
}

#[test]
fn marks_of_a_tar_go_with_it() {
    let (_dir, store) = open();
    let batch = store.batch();
    batch.add_bytes(b"x").unwrap();
    let layer = batch.add_layer(&layer_of("f", b"x")).unwrap();
    let mark = |name: &[u8], state: &[u8]| Mark { prefix: Digest::of(name), state: state.to_vec() };
    let marks = vec![mark(b"first", b"1"), mark(b"second", b"2")];
    batch.set_digested(&layer, Digested { digest: Digest::of(b"tar"), size: 1024, marks }).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    // Another layer that begins alike: what is known stays.
    let other = Digested { digest: Digest::of(b"tar 2"), size: 9, marks: vec![mark(b"first", b"3")] };
    let batch = store.batch();
    let alike = batch.add_layer(&layer_of("g", b"x")).unwrap();
    batch.set_digested(&alike, other).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    let state = |name: &[u8]| store.tar_mark(&Digest::of(name)).unwrap();
    assert_eq!(state(b"first").as_deref(), Some(&b"1"[..]));
    assert_eq!(state(b"second").as_deref(), Some(&b"2"[..]));
    assert_eq!(state(b"third"), None);
    assert_eq!(store.diff_id(&layer).unwrap().map(|(d, _)| d), Some(Digest::of(b"tar")));
    store.gc(&Policy::default(), false).unwrap();
    assert_eq!((state(b"first"), state(b"second")), (None, None));
}
