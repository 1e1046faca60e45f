//! Our tars under the eyes of GNU tar and Python, and theirs under ours. What is not installed is skipped, and says so.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use oci::content::{Content, MemoryContent};
use oci::index::{Attrs, Entry, Kind, LayerIndex, Xattrs};
use oci::tar::{Limits, read_layer, write_layer};
use oci::{Digest, Time};
use serde_json::Value;

/// The output of a tool; `None` (said on the test's output) if it is not installed.
fn run(argv: &[&str]) -> Option<Vec<u8>> {
    match Command::new(argv[0]).args(&argv[1..]).output() {
        Ok(out) => {
            assert!(out.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&out.stderr));
            Some(out.stdout)
        }
        Err(_) => {
            let _ = writeln!(io::stderr(), "skipped: {} is not installed", argv[0]);
            None
        }
    }
}

fn is_gnu_tar() -> bool {
    run(&["tar", "--version"]).is_some_and(|out| out.starts_with(b"tar (GNU tar)"))
}

fn attrs(mode: u32, secs: i64) -> Attrs {
    Attrs { mode, uid: 0, gid: 0, mtime: Time::from_secs(secs), xattrs: Xattrs::new() }
}

/// Files, directories and links with names of all kinds; `hard` adds what an ordinary user cannot extract.
fn sample(hard: bool) -> (LayerIndex, MemoryContent) {
    let mut content = MemoryContent::default();
    let big: Vec<u8> = (0..300_001u32).map(|n| (n % 253) as u8).collect();
    let deep = [&[b'd'; 120][..], b"/", &[b'e'; 130], b"/", &[b'f'; 90]].concat();
    let mut entries = Vec::new();
    for (path, bytes, mode) in [
        (&b"big"[..], &big[..], 0o755),
        (b"empty", b"", 0o600),
        (b"set", b"x", 0o4755),
        (b"caf\xe9", b"latin", 0o644),
        ("zażółć".as_bytes(), b"utf", 0o644),
        (&[b'n'; 255], b"long", 0o644),
        (&deep, b"deep", 0o640),
        (b"line\nbreak", b"lf", 0o644),
    ] {
        let kind = Kind::File { size: bytes.len() as u64, digest: content.add(bytes) };
        entries.push(Entry { path: path.to_vec(), kind, attrs: attrs(mode, 1_000_000_000) });
    }
    let mut add = |path: &[u8], kind, attrs| entries.push(Entry { path: path.to_vec(), kind, attrs });
    add(b"dir", Kind::Directory { opaque: false }, attrs(0o750, 5));
    add(&[b'p'; 200], Kind::Directory { opaque: false }, attrs(0o755, 0));
    add(b"zlink", Kind::HardLink { target: b"big".to_vec() }, attrs(0, 0));
    add(b"zlonglink", Kind::HardLink { target: deep.clone() }, attrs(0, 0));
    add(b"sym", Kind::Symlink { target: vec![b't'; 300] }, attrs(0o777, 7));
    add(b"fifo", Kind::Fifo, attrs(0o644, 9));
    if hard {
        let mut odd = attrs(0o644, -12_345);
        (odd.uid, odd.gid) = (u32::MAX, 3_000_000);
        odd.xattrs = vec![
            (b"security.capability".to_vec(), b"\x01\0\0\x02\n\0=\xff".to_vec()),
            (b"user.k".to_vec(), b"v".to_vec()),
        ]
        .into();
        add(b"odd", Kind::CharDevice { major: 259, minor: 0xfffff }, odd);
        add(b"disk", Kind::BlockDevice { major: 8, minor: 1 }, attrs(0o660, 1));
        add(b"", Kind::Directory { opaque: false }, attrs(0o755, 3));
    }
    (LayerIndex::from_entries(entries).unwrap(), content)
}

fn write(index: &LayerIndex, content: &MemoryContent, to: &Path) {
    write_layer(index, content, fs::File::create(to).unwrap()).unwrap();
}

const LIST: &str = r#"
import hashlib, json, os, sys, tarfile
t = tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape")
print(json.dumps([dict(
    path=os.fsencode(m.name).hex(), type=m.type.decode(), mode=m.mode, uid=m.uid, gid=m.gid, mtime=int(m.mtime),
    link=os.fsencode(m.linkname).hex(), names=m.uname + m.gname, device=[m.devmajor, m.devminor],
    xattrs={k[13:]: os.fsencode(v).hex() for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")},
    sha256=hashlib.sha256(t.extractfile(m).read()).hexdigest() if m.isreg() else None) for m in t]))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn python_sees_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("a.tar");
    let (index, content) = sample(true);
    write(&index, &content, &tar);
    let Some(out) = run(&["python3", "-c", LIST, tar.to_str().unwrap()]) else { return };
    let members: Vec<Value> = serde_json::from_slice(&out).unwrap();
    assert_eq!(members.len(), index.entries().len());
    for (m, e) in members.iter().zip(index.entries()) {
        let (link, flag, device) = match &e.kind {
            Kind::Directory { .. } => (&b""[..], "5", (0, 0)),
            Kind::File { .. } => (&b""[..], "0", (0, 0)),
            Kind::HardLink { target } => (&target[..], "1", (0, 0)),
            Kind::Symlink { target } => (&target[..], "2", (0, 0)),
            Kind::CharDevice { major, minor } => (&b""[..], "3", (*major, *minor)),
            Kind::BlockDevice { major, minor } => (&b""[..], "4", (*major, *minor)),
            Kind::Fifo => (&b""[..], "6", (0, 0)),
            Kind::Whiteout => panic!("there is none"),
        };
        let path: &[u8] = if e.path.is_empty() { b"." } else { &e.path };
        assert_eq!(m["path"], hex(path));
        assert_eq!(m["type"], flag);
        assert_eq!(m["link"], hex(link));
        assert_eq!(m["names"], "");
        assert_eq!(m["device"], serde_json::json!([device.0, device.1]), "{m}");
        assert_eq!(
            [&m["mode"], &m["uid"], &m["gid"], &m["mtime"]].map(|v| v.as_i64().unwrap()),
            [i64::from(e.attrs.mode), i64::from(e.attrs.uid), i64::from(e.attrs.gid), e.attrs.mtime.secs]
        );
        for (name, value) in &e.attrs.xattrs {
            assert_eq!(m["xattrs"][std::str::from_utf8(name).unwrap()], hex(value));
        }
        if let Kind::File { digest, .. } = e.kind {
            assert_eq!(m["sha256"], digest.hex());
        }
    }
}

#[test]
fn gnu_tar_extracts_what_was_written() {
    if !is_gnu_tar() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tar, out) = (dir.path().join("a.tar"), dir.path().join("out"));
    let (index, content) = sample(false);
    write(&index, &content, &tar);
    fs::create_dir(&out).unwrap();
    let (tar, target) = (tar.to_str().unwrap(), out.to_str().unwrap());
    run(&["tar", "-xpf", tar, "-C", target, "--no-same-owner", "--delay-directory-restore"]);
    let at = |path: &[u8]| out.join(std::ffi::OsStr::from_bytes(path));
    for e in index.entries() {
        let path = at(&e.path);
        let meta = fs::symlink_metadata(&path).unwrap();
        match &e.kind {
            Kind::File { digest, .. } => {
                assert_eq!(Digest::of(&fs::read(&path).unwrap()), *digest, "{path:?}")
            }
            Kind::Symlink { target } => {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target)
            }
            Kind::HardLink { target } => assert_eq!(meta.ino(), fs::metadata(at(target)).unwrap().ino()),
            Kind::Directory { .. } => assert!(meta.is_dir()),
            _ => assert!(!meta.is_file() && !meta.is_dir()),
        }
        if !meta.is_symlink() {
            assert_eq!(meta.permissions().mode() & 0o7777, e.attrs.mode, "{path:?}");
        }
        assert_eq!(meta.mtime(), { e.attrs.mtime.secs }, "{path:?}");
    }
}

/// A tree on disk that the tools pack, and what must come out: path, content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let long = format!("{}/{}", "d".repeat(120), "e".repeat(140));
    let mut files =
        vec![("a".to_owned(), b"1".to_vec()), (long, vec![b'x'; 70_000]), ("zażółć".to_owned(), Vec::new())];
    for (path, bytes) in &files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    let mut want = vec![0; 3_000_000];
    // More pieces than fit into one header.
    for n in 0..40 {
        let at = n * 65_536 + 4096;
        sparse.write_all_at(b"piece", at as u64).unwrap();
        want[at..at + 5].copy_from_slice(b"piece");
    }
    files.push(("sparse".into(), want));
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), dir.join("link")).unwrap();
    files
}

fn check(tar: &[u8], files: &[(String, Vec<u8>)], how: &str) {
    let mut content = MemoryContent::default();
    let index = read_layer(tar, &mut content, &Limits::default()).unwrap_or_else(|e| panic!("{how}: {e}"));
    for (path, want) in files {
        let e = index.get(path.as_bytes()).unwrap_or_else(|| panic!("{how}: {path} is not there"));
        let Kind::File { size, digest } = e.kind else { panic!("{how}: {e:?}") };
        assert_eq!(size, want.len() as u64, "{how}: {path}");
        assert!(content.read_all(&digest, 1 << 24).unwrap() == *want, "{how}: {path}");
    }
    let same = |path: &[u8], kind| assert_eq!(index.get(path).map(|e| &e.kind), Some(&kind), "{how}");
    same(b"b", Kind::HardLink { target: b"a".to_vec() });
    same(b"link", Kind::Symlink { target: vec![b't'; 150] });
    same(b"", Kind::Directory { opaque: false });
}

#[test]
fn gnu_tars_archives_are_read() {
    if !is_gnu_tar() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = tree(dir.path());
    let root = dir.path().to_str().unwrap();
    for how in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=oldgnu", "-S"],
        &["--format=posix"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &["--format=posix", "--xattrs", "--acls"],
    ] {
        let argv = [&["tar", "-c", "-C", root], how, &["."]].concat();
        let tar = run(&argv).unwrap();
        let has_holes = fs::metadata(dir.path().join("sparse")).unwrap().blocks() * 512 < 2_000_000;
        if how.contains(&"-S") && has_holes {
            assert!(tar.len() < 2_000_000, "{how:?}: nothing sparse in it");
        }
        check(&tar, &files, &how.join(" "));
    }
}

#[test]
fn pythons_archives_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let files = tree(dir.path());
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let script = "import sys, tarfile; t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', \
                      format=getattr(tarfile, sys.argv[2])); t.add(sys.argv[1], arcname='.'); t.close()";
        match run(&["python3", "-c", script, dir.path().to_str().unwrap(), format]) {
            Some(tar) => check(&tar, &files, format),
            None => return,
        }
    }
}
