use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::compress::{Compression, Decoder, Encoder};
use crate::content::MemoryContent;
use crate::digest::Digest;
use crate::index::{Attrs, Entry, Kind, LayerIndex};
use crate::platform::Platform;
use crate::tar::{Limits, read_layer, write_layer};
use crate::types::{Descriptor, media};

/// Blobs by digest, and the ways of an image through them.
#[derive(Default, Clone)]
struct Blobs(HashMap<Digest, Vec<u8>>);

struct Made {
    manifest: Vec<u8>,
    config: Vec<u8>,
    descriptor: Value,
}

fn layer_tar(name: &str, text: &str) -> Vec<u8> {
    let mut content = MemoryContent::default();
    let digest = content.add(text.as_bytes());
    let kind = Kind::File { size: text.len() as u64, digest };
    let index = LayerIndex::from_entries(vec![Entry {
        path: name.into(),
        kind,
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    }])
    .unwrap();
    let mut out = Vec::new();
    write_layer(&index, &content, &mut out).unwrap();
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new(), Compression::Gzip(6), 1).unwrap();
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

impl Blobs {
    fn add(&mut self, bytes: &[u8]) -> Digest {
        let d = Digest::of(bytes);
        self.0.insert(d, bytes.to_vec());
        d
    }

    fn descriptor(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": self.add(bytes), "size": bytes.len()})
    }

    /// An image of two layers; `tweak` may change manifest and config before they get their digests.
    fn image(&mut self, arch: &str, tweak: impl Fn(&mut Value, &mut Value)) -> Made {
        let tars = [layer_tar("base", arch), layer_tar("top", "second")];
        let mut config = json!({"architecture": arch, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": tars.each_ref().map(|t| Digest::of(t))}});
        let layers = tars.each_ref().map(|t| self.descriptor(media::LAYER_GZIP, &gzip(t)));
        let mut manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "layers": layers});
        tweak(&mut manifest, &mut config);
        let config = config.to_string().into_bytes();
        manifest["config"] = self.descriptor(media::CONFIG, &config);
        let manifest = manifest.to_string().into_bytes();
        let descriptor = self.descriptor(media::MANIFEST, &manifest);
        Made { manifest, config, descriptor }
    }

    fn open(&self) -> impl Fn(&Descriptor) -> io::Result<Box<dyn Read>> + '_ {
        |d| match self.0.get(&d.digest) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// A layout directory with all blobs and this list of manifests.
    fn layout(&self, manifests: Value) -> Dir {
        let dir = Dir::new();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        for (d, bytes) in &self.0 {
            dir.put(&format!("blobs/sha256/{}", d.hex()), bytes);
        }
        dir.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        dir.put("index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes());
        dir
    }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
    fn resolve(&self, choice: Choice<'_>) -> Result<ResolvedImage, LayoutError> {
        Layout::open_dir(self.path())?.resolve(choice, &amd64())
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn plain(_: &mut Value, _: &mut Value) {}

fn digest(d: &Value) -> Digest {
    d["digest"].as_str().unwrap().parse().unwrap()
}

fn named(mut descriptor: Value, annotations: &[(&str, &str)]) -> Value {
    descriptor["annotations"] = annotations.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    descriptor
}

fn for_platform(mut descriptor: Value, arch: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": arch});
    descriptor
}

/// Reads all layers as a builder would and gives the texts of their files.
fn texts(layout: &Layout, image: &ResolvedImage) -> Vec<String> {
    let mut out = Vec::new();
    for layer in &image.layers {
        let raw = layout.open_layer(layer).unwrap();
        let mut tar = crate::digest::Hashing::new(Decoder::new(raw).unwrap());
        let mut content = MemoryContent::default();
        let index = read_layer(&mut tar, &mut content, &Limits::default()).unwrap();
        assert_eq!(tar.finish().1, layer.diff_id);
        for (object, _) in index.objects() {
            out.push(String::from_utf8(crate::Content::read_all(&content, &object, 1000).unwrap()).unwrap());
        }
    }
    out
}

fn to_write(made: &Made, names: &[&str]) -> ImageToWrite {
    ImageToWrite {
        media_type: media::MANIFEST.into(),
        bytes: made.manifest.clone(),
        platform: Some(amd64()),
        names: names.iter().map(|n| n.parse().unwrap()).collect(),
        created: Some("2024-01-01T00:00:00Z".into()),
        ..ImageToWrite::default()
    }
}

fn archive(docker: bool, images: &[ImageToWrite], blobs: &Blobs) -> Vec<u8> {
    let mut out = Vec::new();
    let options = WriteOptions { mtime: 5 };
    let open = blobs.open();
    if docker {
        write_docker_archive(&mut out, images, &open, &options).unwrap();
    } else {
        write_oci_archive(&mut out, images, &open, &options).unwrap();
    }
    out
}

fn member(archive: &[u8], name: &str) -> Vec<u8> {
    let mut found = None;
    crate::tar::read_archive(archive, &Limits::default(), &mut |m, body| {
        if m.path == name.as_bytes() {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            found = Some(bytes);
        }
        Ok(())
    })
    .unwrap();
    found.unwrap()
}

#[test]
fn what_is_written_is_read_back_and_always_the_same() {
    let mut blobs = Blobs::default();
    let (a, b) = (blobs.image("amd64", plain), blobs.image("arm64", plain));
    let images = [to_write(&a, &["app:1", "app:2"]), to_write(&b, &["registry.example/other:3"])];
    for docker in [false, true] {
        let bytes = archive(docker, &images, &blobs);
        assert_eq!(bytes, archive(docker, &images, &blobs.clone()));
        let dir = Dir::new();
        let layout = Layout::open_tar(File::open(dir.put("a.tar", &bytes)).unwrap()).unwrap();
        let names: Vec<_> = layout.images().iter().map(|e| e.names.clone()).collect();
        let hub = |t: &str| format!("docker.io/library/app:{t}");
        assert_eq!(names[0], [hub("1"), "1".into(), hub("2"), "2".into()]);
        assert_eq!(names[1], ["registry.example/other:3", "3"]);
        let image = layout.resolve(Choice::Name("app:2"), &amd64()).unwrap();
        assert_eq!(image.manifest.as_ref().unwrap().1, a.manifest);
        assert_eq!(image.config_bytes, a.config);
        assert!(image.platform_matches);
        assert_eq!(texts(&layout, &image), ["amd64", "second"]);
    }
}

#[test]
fn members_are_sorted_and_have_the_time_that_was_asked_for() {
    let mut blobs = Blobs::default();
    let made = blobs.image("amd64", plain);
    let bytes = archive(true, &[to_write(&made, &["app:1"])], &blobs);
    let mut names = Vec::new();
    crate::tar::read_archive(&bytes[..], &Limits::default(), &mut |m, _| {
        assert_eq!((m.mtime.secs, m.uid, m.gid), (5, 0, 0));
        names.push(String::from_utf8(m.path.clone()).unwrap());
        Ok(())
    })
    .unwrap();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names.len(), 2 + 4 + 3);
    let list: Value = serde_json::from_slice(&member(&bytes, "manifest.json")).unwrap();
    assert_eq!(list[0]["RepoTags"], json!(["app:1"]));
    for path in [&list[0]["Config"], &list[0]["Layers"][0], &list[0]["Layers"][1]] {
        assert!(names.iter().any(|n| Some(n.as_str()) == path.as_str()), "{path}");
    }
    let index: Value = serde_json::from_slice(&member(&bytes, "index.json")).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/library/app:1");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
    assert_eq!(entry["annotations"]["org.opencontainers.image.created"], "2024-01-01T00:00:00Z");
    assert_eq!(entry["platform"], json!({"os": "linux", "architecture": "amd64"}));
}

#[test]
fn an_index_is_written_with_everything_that_it_leads_to() {
    let mut blobs = Blobs::default();
    let (a, b) = (blobs.image("amd64", plain), blobs.image("arm64", plain));
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX,
        "manifests": [for_platform(a.descriptor.clone(), "amd64"), for_platform(b.descriptor.clone(), "arm64")]});
    let image = ImageToWrite {
        media_type: media::INDEX.into(),
        bytes: index.to_string().into_bytes(),
        names: vec!["app:1".parse().unwrap()],
        // Some documents at hand, the others asked for.
        documents: vec![a.manifest.clone(), b.config.clone()],
        ..ImageToWrite::default()
    };
    let (d1, d2) = (digest(&a.descriptor), digest(&b.descriptor));
    blobs.0.remove(&d1);
    let bytes = archive(false, std::slice::from_ref(&image), &blobs);
    let dir = Dir::new();
    let layout = Layout::open_tar(File::open(dir.put("a.tar", &bytes)).unwrap()).unwrap();
    for (platform, want) in [("linux/amd64", d1), ("linux/arm64", d2)] {
        let found = layout.resolve(Choice::Any, &platform.parse().unwrap()).unwrap();
        assert_eq!(found.manifest.unwrap().0.digest, want);
        assert_eq!(found.names, ["docker.io/library/app:1", "1"]);
    }
    let open = blobs.open();
    let refused = write_docker_archive(io::sink(), &[image], &open, &WriteOptions::default());
    assert!(matches!(refused, Err(LayoutError::DockerIndex)));
}

#[test]
fn blobs_are_checked_while_they_are_written() {
    let mut blobs = Blobs::default();
    let made = blobs.image("amd64", plain);
    let layer = serde_json::from_slice::<Value>(&made.manifest).unwrap()["layers"][0].clone();
    let right = blobs.0[&digest(&layer)].clone();
    for wrong in [right[1..].to_vec(), [&right[..], b"x"].concat(), [b"x", &right[1..]].concat()] {
        blobs.0.insert(digest(&layer), wrong);
        let open = blobs.open();
        let images = [to_write(&made, &["app:1"])];
        assert!(write_oci_archive(io::sink(), &images, &open, &WriteOptions::default()).is_err());
        let dir = Dir::new();
        assert!(write_oci_directory(dir.path(), &images, &open).is_err());
        let left = fs::read_dir(dir.path().join("blobs/sha256")).unwrap();
        assert!(
            left.map(|e| e.unwrap().file_name().into_string().unwrap())
                .all(|n| n.len() == 64 && n != digest(&layer).hex())
        );
        assert!(!dir.path().join("index.json").exists());
    }
}

#[test]
fn a_directory_keeps_what_it_held_but_for_names_that_moved() {
    let mut blobs = Blobs::default();
    let (a, b) = (blobs.image("amd64", plain), blobs.image("arm64", plain));
    let dir = Dir::new();
    let open = blobs.open();
    write_oci_directory(dir.path(), &[to_write(&a, &["app:1", "app:2"])], &open).unwrap();
    write_oci_directory(dir.path(), &[to_write(&b, &["app:2"])], &open).unwrap();
    let layout = Layout::open_dir(dir.path()).unwrap();
    let at = |name| layout.resolve(Choice::Name(name), &amd64()).unwrap().manifest.unwrap().1;
    assert_eq!((at("app:1"), at("app:2")), (a.manifest.clone(), b.manifest.clone()));
    assert_eq!(layout.images().len(), 2);
    assert_eq!(
        texts(&layout, &layout.resolve(Choice::Name("app:1"), &amd64()).unwrap()),
        ["amd64", "second"]
    );
}

#[test]
fn the_platform_is_chosen() {
    let mut blobs = Blobs::default();
    let (a, b) = (blobs.image("amd64", plain), blobs.image("arm64", plain));
    let gone = |text: &[u8]| json!({"mediaType": media::MANIFEST, "digest": Digest::of(text), "size": 3});
    let attestation = named(gone(b"a"), &[(REFERENCE_TYPE, "attestation-manifest")]);
    let mut unknown = gone(b"b");
    unknown["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let odd = json!({"mediaType": "application/vnd.example.odd+json", "digest": Digest::of(b"x"), "size": 1});
    let list = json!([
        odd,
        for_platform(gone(b"c"), "s390x"),
        attestation,
        unknown,
        for_platform(b.descriptor.clone(), "arm64"),
        // Without a platform: the config says it.
        a.descriptor.clone(),
    ]);
    // Flat, nested, nested twice.
    let mut manifests = list;
    for depth in 0..3 {
        let dir = blobs.layout(manifests.clone());
        let layout = Layout::open_dir(dir.path()).unwrap();
        for (platform, made) in [("linux/amd64", &a), ("linux/arm64/v8", &b)] {
            let image = layout.resolve(Choice::Any, &platform.parse().unwrap()).unwrap();
            assert_eq!(image.manifest.unwrap().1, made.manifest, "{platform} {depth}");
            assert!(image.platform_matches);
        }
        let none = layout.resolve(Choice::Any, &"linux/riscv64".parse().unwrap());
        assert!(
            matches!(&none, Err(LayoutError::NoPlatform { have, .. }) if have == "linux/amd64, linux/arm64, linux/s390x"),
            "{none:?}"
        );
        assert!(matches!(
            layout.resolve(Choice::Any, &"linux/s390x".parse().unwrap()),
            Err(LayoutError::Missing(_))
        ));
        let inner =
            json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests}).to_string();
        manifests = json!([blobs.descriptor(media::INDEX, inner.as_bytes())]);
    }
    let dir = blobs.layout(json!([for_platform(b.descriptor.clone(), "arm64")]));
    let image = dir.resolve(Choice::Any).unwrap();
    assert!(!image.platform_matches);
    assert_eq!(image.platform.to_string(), "linux/arm64");
}

#[test]
fn images_are_chosen_by_name_or_digest() {
    let mut blobs = Blobs::default();
    let (a, b) = (blobs.image("amd64", plain), blobs.image("amd64", |_, c| c["author"] = json!("b")));
    let inner =
        json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [b.descriptor]}).to_string();
    let list = blobs.descriptor(media::INDEX, inner.as_bytes());
    let dir = blobs.layout(json!([
        named(a.descriptor.clone(), &[("org.opencontainers.image.ref.name", "v1")]),
        named(a.descriptor.clone(), &[("org.opencontainers.image.ref.name", "example.org/app")]),
        named(list.clone(), &[("io.containerd.image.name", "docker.io/library/b:2")]),
    ]));
    let found = |choice| dir.resolve(choice).map(|i| i.manifest.unwrap().1);
    for name in ["v1", "example.org/app:latest", "example.org/app"] {
        assert_eq!(found(Choice::Name(name)).unwrap(), a.manifest, "{name}");
    }
    for name in ["b:2", "docker.io/library/b:2"] {
        assert_eq!(found(Choice::Name(name)).unwrap(), b.manifest, "{name}");
    }
    let unknown = found(Choice::Name("b:3"));
    assert!(matches!(&unknown, Err(LayoutError::NoName { have, .. }) if have.contains("b:2")), "{unknown:?}");
    for d in [digest(&b.descriptor), digest(&list)] {
        assert_eq!(found(Choice::Digest(d)).unwrap(), b.manifest);
    }
    assert!(matches!(found(Choice::Digest(Digest::of(b"?"))), Err(LayoutError::NoDigest(_))));
    assert!(matches!(found(Choice::Any), Err(LayoutError::Ambiguous { .. })));
    let dir = blobs.layout(json!([
        named(a.descriptor.clone(), &[("org.opencontainers.image.ref.name", "v1")]),
        named(b.descriptor.clone(), &[("org.opencontainers.image.ref.name", "latest")]),
    ]));
    assert_eq!(dir.resolve(Choice::Any).unwrap().manifest.unwrap().1, b.manifest);
}

#[test]
fn documents_that_do_not_fit_together_are_refused() {
    let refused = |tweak: &dyn Fn(&mut Value, &mut Value)| {
        let mut blobs = Blobs::default();
        let made = blobs.image("amd64", tweak);
        match blobs.layout(json!([made.descriptor])).resolve(Choice::Any) {
            Ok(_) => None,
            Err(LayoutError::Document { source, .. }) => Some(source),
            Err(e) => panic!("{e}"),
        }
    };
    assert!(refused(&plain).is_none());
    assert!(refused(&|m, _| drop(m.as_object_mut().unwrap().remove("mediaType"))).is_none());
    let pop = |c: &mut Value| drop(c["rootfs"]["diff_ids"].as_array_mut().unwrap().pop());
    let layers = refused(&|_, c| pop(c));
    assert!(matches!(layers, Some(DocumentError::Layers { layers: 2, diff_ids: 1 })));
    assert!(matches!(refused(&|m, _| m["layers"] = json!([])), Some(DocumentError::Layers { .. })));
    assert!(matches!(refused(&|m, _| m["schemaVersion"] = json!(1)), Some(DocumentError::Schema(1))));
    assert!(matches!(refused(&|m, _| m["manifests"] = json!([])), Some(DocumentError::Both)));
    assert!(matches!(refused(&|m, _| m["mediaType"] = json!(media::INDEX)), Some(DocumentError::Type(_))));
    let odd = |m: &mut Value, _: &mut Value| {
        m["layers"][0]["mediaType"] = json!("application/vnd.example.layer.v9")
    };
    assert!(matches!(refused(&odd), Some(DocumentError::LayerType(_))));
    let upper = |m: &mut Value, _: &mut Value| {
        let d = m["layers"][0]["digest"].as_str().unwrap().to_uppercase().replace("SHA256", "sha256");
        m["layers"][0]["digest"] = json!(d);
    };
    assert!(matches!(refused(&upper), Some(DocumentError::Json(_))));
}

#[test]
fn damaged_blobs_are_noticed() {
    let mut blobs = Blobs::default();
    let made = blobs.image("amd64", plain);
    let manifest: Value = serde_json::from_slice(&made.manifest).unwrap();
    let good = blobs.layout(json!([made.descriptor]));
    for (blob, at_once) in
        [(&made.descriptor, true), (&manifest["config"], true), (&manifest["layers"][1], false)]
    {
        let path = good.path().join("blobs/sha256").join(digest(blob).hex());
        let right = fs::read(&path).unwrap();
        let read = || -> Result<(), LayoutError> {
            let layout = Layout::open_dir(good.path())?;
            let image = layout.resolve(Choice::Any, &amd64())?;
            for layer in &image.layers {
                let copied = io::copy(&mut layout.open_layer(layer)?, &mut io::sink());
                copied.map_err(|e| LayoutError::io("layer", e))?;
            }
            Ok(())
        };
        read().unwrap();
        let mut flipped = right.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, &flipped).unwrap();
        let error = read().unwrap_err();
        assert_eq!(matches!(error, LayoutError::Damaged { .. }), at_once, "{error:?}");
        for wrong in [&right[1..], &[&right[..], b" "].concat()] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(read(), Err(LayoutError::Damaged { .. })));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(), Err(LayoutError::Missing(_))));
        fs::create_dir(&path).unwrap();
        assert!(matches!(read(), Err(LayoutError::Missing(_))));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &right).unwrap();
    }
}

#[test]
fn a_verified_reader_goes_on_failing() {
    for (digest, size) in
        [(Digest::of(b"abcd"), 4), (Digest::of(b"abc"), 2), (Digest::of(b"abc"), 4), (Digest::of(b"x"), 3)]
    {
        let mut r = Verified::new(&b"abc"[..], digest, size);
        let mut out = Vec::new();
        assert_eq!(r.read_to_end(&mut out).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(r.read(&mut [0; 8]).is_err());
    }
    let mut r = Verified::new(&b"abc"[..], Digest::of(b"abc"), 3);
    let mut out = Vec::new();
    assert_eq!((r.read_to_end(&mut out).unwrap(), r.read(&mut [0; 8]).unwrap()), (3, 0));
}

#[test]
fn indexes_do_not_nest_for_ever() {
    let mut blobs = Blobs::default();
    let mut inner = blobs.image("amd64", plain).descriptor;
    let often = json!({"schemaVersion": 2, "manifests": vec![&inner; 10_001]}).to_string();
    for depth in 0..=MAX_DEPTH + 1 {
        let result = blobs.layout(json!([inner])).resolve(Choice::Any);
        assert_eq!(result.is_ok(), depth <= MAX_DEPTH, "{depth}");
        let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
        inner = blobs.descriptor(media::INDEX, index.as_bytes());
    }
    // One document, listed very often: as an index that is read each time, and as an image.
    let many: Vec<&Value> = vec![&inner; 5000];
    let index = json!({"schemaVersion": 2, "manifests": many}).to_string();
    let wide = blobs.descriptor(media::INDEX, index.as_bytes());
    assert!(matches!(blobs.layout(json!([wide])).resolve(Choice::Any), Err(LayoutError::Nesting)));
    let wide = blobs.descriptor(media::INDEX, often.as_bytes());
    assert!(matches!(blobs.layout(json!([wide])).resolve(Choice::Any), Err(LayoutError::Nesting)));
}

#[test]
fn what_is_no_layout_is_refused() {
    let dir = Dir::new();
    assert!(matches!(dir.resolve(Choice::Any), Err(LayoutError::NotALayout)));
    let tar = layer_tar("etc/passwd", "root");
    let open = |bytes: &[u8]| Layout::open_tar(File::open(dir.put("x.tar", bytes)).unwrap());
    assert!(matches!(open(&tar), Err(LayoutError::NotALayout)));
    assert!(matches!(open(b""), Err(LayoutError::NotALayout)));
    assert!(matches!(open(&gzip(&tar)), Err(LayoutError::Compressed(crate::compress::Format::Gzip))));
    assert!(matches!(open(&[b'x'; 600]), Err(LayoutError::Tar(_))));
    let mut blobs = Blobs::default();
    let made = blobs.image("amd64", plain);
    let dir = blobs.layout(json!([made.descriptor]));
    fs::remove_file(dir.path().join("oci-layout")).unwrap();
    assert!(dir.resolve(Choice::Any).is_ok());
    dir.put("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#);
    assert!(matches!(dir.resolve(Choice::Any), Err(LayoutError::Damaged { .. })));
    assert!(matches!(blobs.layout(json!([])).resolve(Choice::Any), Err(LayoutError::NoImage)));
}

/// A docker archive of old: a config named by its digest, layers in directories, one of them a link to another.
fn old_docker(tweak: impl Fn(&mut Value)) -> Dir {
    let tars = [layer_tar("base", "one"), layer_tar("top", "two")];
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tars[0]), Digest::of(&tars[1]), Digest::of(&tars[0])]}});
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let mut list = json!([{"Config": config_name, "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]);
    tweak(&mut list[0]);
    let mut content = MemoryContent::default();
    let mut file = |path: &str, bytes: &[u8]| Entry {
        path: path.into(),
        kind: Kind::File { size: bytes.len() as u64, digest: content.add(bytes) },
        attrs: Attrs::default(),
    };
    let mut entries = vec![
        file(&config_name, &config),
        file("a/layer.tar", &tars[0]),
        file("b/layer.tar", &gzip(&tars[1])),
        file("manifest.json", list.to_string().as_bytes()),
    ];
    for (path, target) in
        [("c/layer.tar", "../a/layer.tar"), ("loop", "loop"), ("out", "../out"), ("abs", "/a/layer.tar")]
    {
        let kind = Kind::Symlink { target: target.into() };
        entries.push(Entry { path: path.into(), kind, attrs: Attrs::default() });
    }
    let mut bytes = Vec::new();
    write_layer(&LayerIndex::from_entries(entries).unwrap(), &content, &mut bytes).unwrap();
    let dir = Dir::new();
    dir.put("a.tar", &bytes);
    dir
}

#[test]
fn old_docker_archives_are_read() {
    let open = |dir: &Dir| Layout::open_tar(File::open(dir.path().join("a.tar")).unwrap()).unwrap();
    let dir = old_docker(|_| {});
    let layout = open(&dir);
    let image = layout.resolve(Choice::Name("docker.io/library/app:1"), &amd64()).unwrap();
    assert_eq!(image.names, ["app:1"]);
    assert!(image.manifest.is_none());
    assert_eq!(texts(&layout, &image), ["one", "two", "one"]);
    let id = Digest::of(&image.config_bytes);
    assert!(layout.resolve(Choice::Digest(id), &amd64()).is_ok());
    let other = layout.resolve(Choice::Any, &"linux/arm64".parse().unwrap()).unwrap();
    assert!(!other.platform_matches);
    let refused =
        |tweak: &dyn Fn(&mut Value)| open(&old_docker(tweak)).resolve(Choice::Any, &amd64()).unwrap_err();
    for bad in ["../../etc/passwd", "/etc/passwd", "a/../../x", ""] {
        assert!(matches!(refused(&|i| i["Layers"][0] = json!(bad)), LayoutError::Path(_)), "{bad}");
        assert!(matches!(refused(&|i| i["Config"] = json!(bad)), LayoutError::Path(_)), "{bad}");
    }
    for missing in ["nowhere", "loop", "out"] {
        assert!(
            matches!(refused(&|i| i["Layers"][0] = json!(missing)), LayoutError::Missing(_)),
            "{missing}"
        );
    }
    assert!(matches!(refused(&|i| i["Layers"] = json!(["abs"])), LayoutError::Document { .. }));
    let dir = old_docker(|i| i["Layers"][0] = json!("abs"));
    assert_eq!(texts(&open(&dir), &open(&dir).resolve(Choice::Any, &amd64()).unwrap())[0], "one");
}

#[test]
fn a_docker_config_must_be_what_its_name_says() {
    let dir = old_docker(|_| {});
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let bytes = fs::read(dir.path().join("a.tar")).unwrap();
    crate::tar::read_archive(&bytes[..], &Limits::default(), &mut |m, body| {
        let mut content = Vec::new();
        body.read_to_end(&mut content)?;
        if m.kind == crate::tar::Type::File {
            files.insert(String::from_utf8_lossy(&m.path).into_owned().into(), content);
        }
        Ok(())
    })
    .unwrap();
    // The same unpacked into a directory.
    let out = Dir::new();
    for (path, content) in &files {
        fs::create_dir_all(out.path().join(path).parent().unwrap()).unwrap();
        fs::write(out.path().join(path), content).unwrap();
    }
    std::os::unix::fs::symlink("a", out.path().join("c")).unwrap();
    let layout = Layout::open_dir(out.path()).unwrap();
    assert_eq!(texts(&layout, &layout.resolve(Choice::Any, &amd64()).unwrap()), ["one", "two", "one"]);
    let config = files.keys().find(|p| p.to_str().unwrap().len() > 60).unwrap();
    let mut changed = files[config].clone();
    changed.push(b' ');
    fs::write(out.path().join(config), changed).unwrap();
    assert!(matches!(out.resolve(Choice::Any), Err(LayoutError::Damaged { .. })));
}

#[test]
fn skopeo_takes_what_is_written() {
    let mut blobs = Blobs::default();
    let made = blobs.image("amd64", plain);
    let dir = Dir::new();
    for (docker, transport) in [(false, "oci-archive"), (true, "oci-archive"), (true, "docker-archive")] {
        let path = dir.put("a.tar", &archive(docker, &[to_write(&made, &["app:1"])], &blobs));
        let run = |words: &[&str]| Command::new("skopeo").args(words).output();
        let source = format!("{transport}:{}", path.display());
        let Ok(out) = run(&["inspect", "--override-os=linux", "--override-arch=amd64", &source]) else {
            let _ = writeln!(io::stderr(), "skipped: skopeo is not installed");
            return;
        };
        assert!(out.status.success(), "{source}: {}", String::from_utf8_lossy(&out.stderr));
        let seen: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(seen["Architecture"], "amd64");
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
        // Copying reads every blob and checks it.
        let target = format!("dir:{}", dir.path().join("copy").display());
        let policy = dir.put("policy.json", br#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        let out = run(&["--policy", policy.to_str().unwrap(), "copy", &source, &target]).unwrap();
        assert!(out.status.success(), "{source}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
