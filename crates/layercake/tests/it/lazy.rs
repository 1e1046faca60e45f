//! `run` on an image whose files are left in the registry until they are read.

use std::collections::HashMap;

use oci::content::MemoryContent;
use oci::index::Attrs;
use oci::tar::write_layer;
use oci::types::media;
use oci::{Digest, Entry, Kind, LayerIndex};

use crate::lab::Build;
use fake::{Answer, Fake};
use make::{CHUNKED, ESTARGZ, Form, Made};

#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../../registry/tests/registry/fake.rs"]
mod fake;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../../oci/tests/toc/make.rs"]
mod make;

/// The files of the image, by layer; the first has a shell, too.
const FILES: [&[(&str, &str)]; 2] = [
    &[("etc/old", "old\n"), ("etc/passwd", "web:x:33:34:w:/srv:/bin/sh\n"), ("etc/gone", "gone\n")],
    &[("etc/new", "new\n"), ("etc/old", "replaced\n")],
];

/// A layer of files of mode 755.
fn tar(files: Vec<(&str, Vec<u8>)>, whiteout: Option<&str>, programs: &[&str]) -> Vec<u8> {
    let mut content = MemoryContent::default();
    let attrs = |mode| Attrs { mode, ..Attrs::default() };
    let dir = |path: &str| Entry {
        path: path.into(),
        kind: Kind::Directory { opaque: false },
        attrs: attrs(0o755),
    };
    let mut entries = vec![dir("bin"), dir("etc")];
    for (path, bytes) in files {
        let kind = Kind::File { size: bytes.len() as u64, digest: content.add(&bytes) };
        entries.push(Entry { path: path.into(), kind, attrs: attrs(0o755) });
    }
    for name in programs {
        let kind = Kind::Symlink { target: "busybox".into() };
        entries.push(Entry { path: format!("bin/{name}").into(), kind, attrs: attrs(0o777) });
    }
    entries.extend(whiteout.map(|path| Entry::whiteout(path.into())));
    let mut tar = Vec::new();
    write_layer(&LayerIndex::from_entries(entries).unwrap(), &content, &mut tar).unwrap();
    tar
}

/// The image.
fn layers() -> Vec<Made> {
    let own = |n: usize| FILES[n].iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
    let mut lower: Vec<_> = own(0);
    lower.push(("bin/busybox", std::fs::read("/bin/busybox").unwrap()));
    // Nobody reads it. It does not compress.
    let mut state = 1u32;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    lower.push(("etc/large", (0..3_000_000).map(|_| noise()).collect()));
    let lower = tar(lower, None, &["sh", "cat", "ls", "test", "id"]);
    let upper = tar(own(1), Some("etc/gone"), &[]);
    let chunk = 100_000;
    vec![make::layer(&lower, Form { chunk, ..CHUNKED }), make::layer(&upper, Form { chunk, ..ESTARGZ })]
}

/// A registry with the image `HOST/image:latest`, of which something may be damaged there.
fn serve(mut layers: Vec<Made>, damage: impl FnOnce(&mut [Made])) -> Fake {
    let (config, manifest) = make::documents(&layers);
    damage(&mut layers);
    let mut blobs: HashMap<String, Vec<u8>> =
        layers.into_iter().map(|l| (l.descriptor.digest.to_string(), l.blob)).collect();
    blobs.insert(Digest::of(&config).to_string(), config);
    Fake::start(move |seen| {
        if seen.path().contains("/manifests/") {
            return Answer::new(200, manifest.clone()).header("Content-Type", media::MANIFEST);
        }
        let Some(blob) = seen.path().rsplit('/').next().and_then(|name| blobs.get(name)) else {
            return Answer::new(if seen.path() == "/v2/" { 200 } else { 404 }, "");
        };
        let Some(range) = seen.header("range") else { return Answer::new(200, blob.clone()) };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        Answer::new(206, &blob[first..=last])
            .header("Content-Range", format!("bytes {first}-{last}/{}", blob.len()))
    })
}

/// Requests for parts of blobs and for whole ones, the config among them.
fn asked(fake: &Fake) -> (usize, usize) {
    let blobs = fake.seen().into_iter().filter(|s| s.path().contains("/blobs/"));
    let (parts, whole): (Vec<_>, Vec<_>) = blobs.partition(|s| s.header("range").is_some());
    (parts.len(), whole.len())
}

#[test]
fn a_command_runs_before_the_image_is_here() {
    let Some(b) = Build::new() else { return };
    let fake = serve(layers(), |_| {});
    let name = format!("{}/image:latest", fake.host);
    let run = |b: &Build, flags: &[&str], script: &str| {
        b.layercake(&[&["run"], flags, &[&name, "sh", "-c", script]].concat())
    };
    let script = "cat /etc/old /etc/new; test -e /etc/gone || echo no; id -u";
    let out = run(&b, &["-u", "web"], script);
    assert_eq!(out.ok(), "replaced\nnew\nno\n33");
    assert!(out.stderr.contains("stays in the registry"), "{out}");
    let (parts, whole) = asked(&fake);
    assert!(parts >= 4 && whole == 1, "{parts} parts, {whole} blobs");
    // What was read is kept, and the image is not.
    assert_eq!(b.layercake(&["images", "--format", "json"]).ok(), "[]");
    assert!(b.layercake(&["verify"]).code == 0);
    let out = run(&b, &["--quiet", "-u", "web"], script);
    assert_eq!((out.ok(), out.stderr.as_str()), ("replaced\nnew\nno\n33", ""));
    let again = asked(&fake);
    // The table of one layer; of the other one the footer, too.
    assert_eq!((again.0 - parts, again.1 - whole), (3, 1));
    b.assert_clean("no process");

    // The same as a pull, which is what the flag and other ways to show files ask for.
    for flags in [&["--lazy=off"][..], &["--view=overlay"]] {
        let other = Build::another();
        let before = asked(&fake);
        assert_eq!(run(&other, &[flags, &["-u", "web"]].concat(), script).ok(), "replaced\nnew\nno\n33");
        let after = asked(&fake);
        assert_eq!((after.0 - before.0, after.1 - before.1), (0, 3), "{flags:?}");
        assert_eq!(other.layercake(&["images", "--format", "json"]).json().as_array().unwrap().len(), 1);
        // What is here is not asked for.
        let lines = fake.lines().len();
        run(&other, &[], "exit 0").ok();
        assert_eq!(fake.lines().len(), lines);
    }
    // After a pull it is an image like all others, and a name that is known is pulled.
    b.layercake(&["pull", &name]).ok();
    let before = asked(&fake);
    assert_eq!(run(&b, &["--pull=always"], "cat /etc/new").ok(), "new");
    assert_eq!(asked(&fake).0, before.0);
    assert_eq!(run(&b, &["--pull=never"], "cat /etc/new").ok(), "new");
}

#[test]
fn bytes_that_the_table_does_not_know_end_the_command_with_the_files_name() {
    let Some(b) = Build::new() else { return };
    let fake = serve(layers(), |layers| {
        // Somewhere in the large file, behind the program.
        let middle = layers[0].blob.len() - 1_500_000;
        layers[0].blob[middle..middle + 200_000].fill(7);
    });
    let name = format!("{}/image:latest", fake.host);
    let out = b.layercake(&["run", &name, "sh", "-c", "cat /etc/new; cat /etc/large > /dev/null"]);
    assert!(out.code != 0 && out.stdout == "new\n", "{out}");
    assert!(out.stderr.contains("/etc/large") && out.stderr.contains("of layer"), "{out}");
    assert!(b.layercake(&["verify"]).code == 0);
    // A whole pull finds it, too.
    let out = b.layercake(&["pull", &name]);
    assert!(out.code != 0, "{out}");
}
