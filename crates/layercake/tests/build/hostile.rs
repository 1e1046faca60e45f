//! Images, archives and servers that mean harm, against the program: it says what is wrong, in bounded memory, and leaves nothing.

use std::io::Write;

use oci::compress::{Compression, Encoder};
use oci::types::{Descriptor, media};
use oci::{Digest, LayerIndex};
use serde_json::json;

use crate::kit::{Lab, Ran};
use crate::web::{Answer, Web};

/// No run here may have more memory: the program with four threads that unpack, and their windows.
const MEMORY_KIB: u64 = 400 << 10;

/// One header of a tar; `size` is what it says, whatever follows.
fn header(name: &str, flag: u8, size: u64) -> Vec<u8> {
    let mut head = vec![0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[108..115].copy_from_slice(b"0000000");
    head[116..123].copy_from_slice(b"0000000");
    head[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
    head[136..147].copy_from_slice(b"00000000000");
    head[156] = flag;
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    head
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = String::new();
    for (k, v) in records {
        let body = k.len() + v.len() + 3;
        let len = (1..).map(|d| body + d).find(|n| n.to_string().len() + body == *n).unwrap();
        data.push_str(&format!("{len} {k}={v}\n"));
    }
    let mut out = header("pax", b'x', data.len() as u64);
    out.extend_from_slice(data.as_bytes());
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A sparse file of `size` bytes and no data.
fn hole(size: &str) -> Vec<u8> {
    let records = [
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.minor", "1"),
        ("GNU.sparse.name", "hole"),
        ("GNU.sparse.size", size),
        ("GNU.sparse.map", ""),
    ];
    [pax(&records), header("x", b'0', 0), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new(), Compression::Gzip(6), 1).unwrap();
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// Config and manifest of an image of these layers: blob and diff ID.
fn documents(layers: &[(&[u8], Digest)]) -> (Vec<u8>, Vec<u8>) {
    let ids: Vec<String> = layers.iter().map(|(_, id)| id.to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = config.to_string().into_bytes();
    let blobs: Vec<Descriptor> = layers.iter().map(|(b, _)| Descriptor::of(media::LAYER_GZIP, b)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": Descriptor::of(media::CONFIG, &config), "layers": blobs,
    });
    (config, manifest.to_string().into_bytes())
}

/// A registry with one image.
fn registry(config: Vec<u8>, manifest: Vec<u8>, blobs: Vec<Vec<u8>>) -> Web {
    Web::start(move |asked| {
        let name = asked.path().rsplit('/').next().unwrap_or_default().to_owned();
        if asked.path().contains("/manifests/") {
            return Answer::ok(manifest.clone()).header("Content-Type", media::MANIFEST);
        }
        let found = blobs.iter().chain([&config]).find(|b| Digest::of(b).to_string() == name);
        found.map_or_else(|| Answer::new(404, ""), |b| Answer::ok(b.clone()))
    })
}

/// Pulls an image of one layer whose tar is `tar`, packed as `blob`.
fn pull(lab: &Lab, tar: Digest, blob: Vec<u8>) -> Ran {
    let (config, manifest) = documents(&[(&blob, tar)]);
    let web = registry(config, manifest, vec![blob]);
    pull_from(lab, &web)
}

fn pull_from(lab: &Lab, web: &Web) -> Ran {
    let name = format!("{}/a:1", web.url.strip_prefix("http://").unwrap());
    let (ran, peak) = lab.measured(&["pull", &name]);
    assert!(peak > 0 && peak < MEMORY_KIB, "{peak} KiB: {}", ran.stderr);
    if ran.code != Some(0) {
        lab.run(&["verify"]).ok();
        let left = std::fs::read_dir(lab.path("store/tmp")).unwrap().count();
        assert_eq!(left, 0, "something is left");
    }
    ran
}

/// What a directory takes on disk.
fn on_disk(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        sum += if meta.is_dir() { on_disk(&entry.path()) } else { meta.blocks() * 512 };
    }
    sum
}

#[test]
fn sparse_files_and_zeros_cost_no_disk() {
    let lab = Lab::new();
    let tar = hole("300000000");
    pull(&lab, Digest::of(&tar), gzip(&tar)).ok();
    let mut dense = header("zeros", b'0', 200_000_000);
    dense.resize(512 + 200_000_256 + 1024, 0);
    pull(&lab, Digest::of(&dense), gzip(&dense)).ok();
    let kept = on_disk(&lab.path("store"));
    assert!(kept < 10_000_000, "{kept}");
    lab.run(&["verify"]).ok();
    // The same through an archive that is packed as a whole.
    lab.file("docker.tar.gz", gzip(&docker_archive(&dense)));
    let other = Lab::new();
    let (ran, peak) = other.measured(&["load", "-q", "-i", &lab.at("docker.tar.gz")]);
    ran.ok();
    assert!(peak < MEMORY_KIB, "{peak}");
    assert!(on_disk(&other.path("store")) < 10_000_000);
}

fn docker_archive(layer: &[u8]) -> Vec<u8> {
    let (config, _) = documents(&[(layer, Digest::of(layer))]);
    let list = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]).to_string();
    let mut out = Vec::new();
    for (name, bytes) in [("c.json", &config[..]), ("l.tar", layer), ("manifest.json", list.as_bytes())] {
        out.extend(header(name, b'0', bytes.len() as u64));
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn layers_that_would_fill_disk_or_memory_are_refused() {
    let lab = Lab::new();
    let no = Digest::of(b"whatever");
    let sizes = pull(&lab, no, gzip(&header("big", b'0', 300 << 30)));
    sizes.fails(1, &["the archive has more than 274877906944 bytes of content"]);
    let holes = pull(&lab, no, gzip(&hole("100000000000")));
    holes.fails(1, &["the archive has more than 17179869184 bytes of holes in sparse files"]);
    // A name of a gigabyte, and a header of as much.
    for flag in [b'L', b'K', b'x'] {
        let ran = pull(&lab, no, gzip(&header("long", flag, 1 << 30)));
        ran.fails(1, &["the extended header or long name has 1073741824 bytes, more than 1048576"]);
    }
    // Attributes: each small, many of them, at many files.
    let names: Vec<String> = (0..20_000).map(|n| format!("SCHILY.xattr.user.a{n}")).collect();
    let records: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    let one = [pax(&records), header("f", b'0', 0)].concat();
    let links: Vec<u8> = (0..200)
        .flat_map(|n| {
            let mut link = header(&format!("l{n}"), b'1', 0);
            link[157] = b'f';
            link[148..156].fill(b' ');
            let sum: u32 = link.iter().map(|&b| u32::from(b)).sum();
            link[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            link
        })
        .collect();
    let ran = pull(&lab, no, gzip(&[&one[..], &links, &[0; 1024]].concat()));
    ran.fails(1, &["the archive has more than 268435456 bytes of metadata"]);
    // Directories that no entry names: a small layer, and millions of them.
    let mut deep = Vec::new();
    for n in 0..3500 {
        let path = format!("{n}{}/f", "/d".repeat(1800));
        let size = path.len() as u64;
        deep.extend(header("long", b'L', size));
        deep.extend_from_slice(path.as_bytes());
        deep.resize(deep.len().next_multiple_of(512), 0);
        deep.extend(header("x", b'6', 0));
    }
    deep.resize(deep.len() + 1024, 0);
    let blob = gzip(&deep);
    let (config, manifest) = documents(&[(&blob, Digest::of(&deep))]);
    let web = registry(config, manifest, vec![blob]);
    let name = format!("{}/a:1", web.url.strip_prefix("http://").unwrap());
    let (ran, peak) = lab.measured(&["pull", &name]);
    ran.fails(1, &["the image has more than 500000 directories that no entry of a layer names"]);
    assert!(peak < 1 << 20, "{peak} KiB");
}

#[test]
fn images_with_absurd_documents_are_refused() {
    let lab = Lab::new();
    let layer = LayerIndex::default();
    let mut tar = Vec::new();
    oci::tar::write_layer(&layer, &oci::content::MemoryContent::default(), &mut tar).unwrap();
    let blob = gzip(&tar);
    let many = vec![(&blob[..], Digest::of(&tar)); 10_000];
    let (config, manifest) = documents(&many);
    let web = registry(config, manifest, vec![blob.clone()]);
    pull_from(&lab, &web).fails(1, &["it has 10000 layers, at most 1000 are taken"]);
    assert!(
        web.lines().iter().all(|l| !l.contains(&Digest::of(&blob).to_string())),
        "no layer was asked for"
    );
    // More than fits.
    let (config, manifest) = documents(&[(&blob, Digest::of(&tar))]);
    let text = String::from_utf8(manifest).unwrap();
    let huge = text.replace(&format!("\"size\":{}", blob.len()), "\"size\":9000000000000000000");
    assert_ne!(text, huge);
    let web = registry(config.clone(), huge.into_bytes(), vec![blob.clone()]);
    pull_from(&lab, &web).fails(1, &["it has 9000000000000000000 bytes, and the store has room for"]);
    // A config that claims to be huge, one that is, and one without an end.
    for (size, want) in [("9000000000", "its config has 9000000000 bytes"), ("100", "bytes, expected 100")] {
        let bad = text.replace(&format!("\"size\":{}", config.len()), &format!("\"size\":{size}"));
        let web = registry(config.clone(), bad.into_bytes(), vec![blob.clone()]);
        // As everything that a registry does wrong.
        pull_from(&lab, &web).fails(3, &[want]);
    }
}

#[test]
fn bombs_in_what_add_takes_are_refused() {
    let lab = Lab::new();
    // What is no archive from its first header on is copied as a file.
    let bomb = gzip(&[header("small", b'0', 0), header("big", b'0', 300 << 30)].concat());
    lab.file("ctx/bomb.tar.gz", &bomb);
    let build = |lab: &Lab, text: &str| {
        lab.file("ctx/Dockerfile", text);
        let (ran, peak) = lab.measured(&["build", "ctx"]);
        assert!(peak < MEMORY_KIB, "{peak} KiB");
        ran
    };
    let want = "the archive has more than 274877906944 bytes of content";
    build(&lab, "FROM scratch\nADD bomb.tar.gz /\n").fails(1, &[want]);
    let web = Web::start(move |_| Answer::ok(bomb.clone()));
    build(&lab, &format!("FROM scratch\nADD --unpack=true {}/bomb.tar.gz /\n", web.url)).fails(1, &[want]);
    // As a file it is a file.
    build(&lab, &format!("FROM scratch\nADD {}/bomb.tar.gz /\n", web.url)).ok();
    let web = Web::start(|asked| match asked.path() {
        "/file" => Answer::new(302, "").header("Location", "file:///etc/passwd"),
        "/ftp" => Answer::new(302, "").header("Location", "ftp://127.0.0.1/x"),
        "/again" => Answer::new(302, "").header("Location", "/again"),
        _ => Answer::new(200, "").header("Content-Length", "999999999999999"),
    });
    for (path, want) in [
        ("file", "it redirects to no usable address"),
        ("ftp", "it redirects to no usable address"),
        ("again", "it redirects too often"),
        ("huge", "is larger than 274877906944 bytes"),
    ] {
        let ran = build(&lab, &format!("FROM scratch\nADD {}/{path} /\n", web.url));
        assert!(matches!(ran.code, Some(1 | 3)) && ran.stderr.contains(want), "{path}: {}", ran.stderr);
    }
}
