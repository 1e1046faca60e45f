//! The store from outside: one binary, so that it links once.

mod batches;
mod damage;
mod garbage;
mod images;
mod power;
mod processes;
mod records;
mod scratch;

use std::path::Path;

use oci::index::Attrs;
use oci::{Content, Digest, Entry, Kind, LayerIndex, Time};
use store::{ImageRecord, NewRecord, Store};

/// A directory with a store in it.
fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

/// A layer of one file, whose content the caller has added.
fn layer_of(name: &str, content: &[u8]) -> LayerIndex {
    LayerIndex::from_entries(vec![Entry {
        path: name.into(),
        kind: Kind::File { size: content.len() as u64, digest: Digest::of(content) },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    }])
    .unwrap()
}

fn record(key: &str, parent: &str, layer: Digest) -> NewRecord {
    NewRecord {
        key: Digest::of(key.as_bytes()),
        parent: Digest::of(parent.as_bytes()),
        layer,
        chain: Digest::of(format!("{key} on {parent}").as_bytes()),
        created: Time { secs: 1_700_000_000, nanos: 5 },
        duration_ms: 1234,
        log: format!("log of {key}").into_bytes(),
        observations: Some(format!("seen by {key}").into_bytes()),
        inputs: format!("{{\"step\":{key:?}}}"),
        notes: format!("notes of {key}"),
    }
}

/// Puts a step's result into the store: a file, its layer, a record.
fn put_step(store: &Store, key: &str, parent: &str, content: &[u8]) -> Digest {
    let batch = store.batch();
    batch.add_bytes(content).unwrap();
    let layer = batch.add_layer(&layer_of(key, content)).unwrap();
    batch.commit(vec![record(key, parent, layer)], vec![]).unwrap();
    layer
}

/// An image of one layer with a config, a manifest and a compressed blob, and a tag.
fn put_image(store: &Store, name: &str, content: &[u8]) -> ImageRecord {
    let batch = store.batch();
    batch.add_bytes(content).unwrap();
    let layer = batch.add_layer(&layer_of("file", content)).unwrap();
    let diff_id = Digest::of(&[b"tar of ", content].concat());
    let packed = [b"packed ", content].concat();
    let blob = batch.add_blob(&packed).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":{name:?},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let id = batch.add_blob(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{id}","size":{}}},"layers":[{{"mediaType":"l","digest":"{blob}","size":{}}}]}}"#,
        config.len(),
        packed.len()
    );
    let manifest = batch.add_blob(manifest.as_bytes()).unwrap();
    batch.set_diff_id(&layer, &diff_id, 10240, store::TarOrigin::Received).unwrap();
    batch.add_tar_blob(&diff_id, "l", &blob, packed.len() as u64).unwrap();
    let image = ImageRecord {
        id,
        manifest: Some(manifest),
        layers: vec![layer],
        created: Time::from_secs(1_700_000_000),
    };
    batch.put_image(&image).unwrap();
    batch.tag(name, &id, Some(&manifest)).unwrap();
    batch.commit(vec![], vec![]).unwrap();
    store.flush().unwrap();
    image
}

/// The content of an object.
fn read(store: &Store, digest: &Digest) -> std::io::Result<Vec<u8>> {
    store.read_all(digest, 1 << 30)
}

/// Path of an object's file.
fn object_path(store: &Store, digest: &Digest) -> std::path::PathBuf {
    let hex = digest.hex();
    store.root().join("objects").join(&hex[..2]).join(&hex[2..])
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out
}

/// Overwrites a file of the store, which is read-only, in place.
fn damage(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, content).unwrap();
}

/// What `verify` has to say, each finding as `part: problem`.
fn findings(store: &Store) -> Vec<String> {
    let verified = store.verify(false, &|_, _| true).unwrap();
    verified.findings.iter().map(|f| format!("{:?}: {}", f.part, f.problem)).collect()
}
