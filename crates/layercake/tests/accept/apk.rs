//! A repository for Alpine's package manager with one package, unsigned.
//!
//! A package (version 2 of the format) is two gzip members one after the other: a tar with `.PKGINFO`, without the two zero blocks
//! at its end, so that the reader goes on into the second, a tar with the files. `.PKGINFO` has the SHA-256 of the second member;
//! the index (a tar with a file `APKINDEX`) has the SHA-1 of the first, in Base64 behind `Q1`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab::{ok, text};

/// Writes `NAME-1.0-r0.apk` with the files below `files`, and the index, into `dir`.
pub(crate) fn repository(dir: &Path, name: &str, files: &Path) {
    fs::create_dir_all(dir).expect("directories can be made");
    let data = gzip(&tar(files, &["bin", "lib"], false));
    let hash = sum("sha256sum", &data);
    let size: u64 = data.len() as u64;
    let scratch = dir.join("scratch");
    fs::create_dir(&scratch).expect("directories can be made");
    let info = format!(
        "pkgname = {name}\npkgver = 1.0-r0\npkgdesc = a dependency\nurl = http://127.0.0.1/\nsize = {size}\n\
         arch = x86_64\nlicense = none\ndatahash = {hash}\n"
    );
    fs::write(scratch.join(".PKGINFO"), info).expect("files can be written");
    let control = gzip(&tar(&scratch, &[".PKGINFO"], true));
    let package = [control.as_slice(), &data].concat();
    fs::write(dir.join(format!("{name}-1.0-r0.apk")), &package).expect("files can be written");

    let id = base64(&unhex(&sum("sha1sum", &control)));
    let index = format!(
        "C:Q1{id}\nP:{name}\nV:1.0-r0\nA:x86_64\nS:{}\nI:{size}\nT:a dependency\nU:http://127.0.0.1/\nL:none\n\n",
        package.len()
    );
    fs::write(scratch.join("APKINDEX"), index).expect("files can be written");
    fs::write(dir.join("APKINDEX.tar.gz"), gzip(&tar(&scratch, &["APKINDEX"], false)))
        .expect("files can be written");
}

fn tar(dir: &Path, names: &[&str], open_end: bool) -> Vec<u8> {
    let mut c = Command::new("tar");
    c.args(["--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--sort=name"]);
    let mut out = ok(c.args(["--blocking-factor=1", "-c", "-C"]).arg(dir).args(names)).stdout;
    if open_end {
        let end = out.len().checked_sub(1024).expect("a tar ends with two blocks");
        assert!(out[end..].iter().all(|&b| b == 0), "of zeros");
        out.truncate(end);
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    filter("gzip", &["-n", "-c"], bytes)
}

/// The sum in hexadecimal digits.
fn sum(program: &str, bytes: &[u8]) -> String {
    text(&filter(program, &[], bytes)).split(' ').next().unwrap_or_default().to_owned()
}

fn filter(program: &str, words: &[&str], bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut c = Command::new(program);
    let mut child = c.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is there");
    let mut stdin = child.stdin.take().expect("a pipe");
    let out = std::thread::scope(|s| {
        s.spawn(move || stdin.write_all(bytes));
        child.wait_with_output()
    });
    let out = out.expect("it ends");
    assert!(out.status.success(), "{program}: {}", out.status);
    out.stdout
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn base64(bytes: &[u8]) -> String {
    text(&filter("base64", &["-w0"], bytes))
}
