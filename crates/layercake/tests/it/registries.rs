//! `push`, `pull`, `login` and `logout` against a real registry (Docker's, the package docker-registry).

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::lab::{BASE, Build, skip, wait_until};

const PROGRAM: &str = "/usr/bin/docker-registry";
/// `user` with the password `secret`, as bcrypt.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry on a port of its own.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
}

impl Registry {
    /// `None`, with the reason said, where there is no such program.
    pub(crate) fn start(b: &Build, with_password: bool) -> Option<Registry> {
        if !Path::new(PROGRAM).exists() {
            skip("needs docker-registry");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| b.path(name).display().to_string();
        let auth = if with_password {
            std::fs::write(b.path("htpasswd"), HTPASSWD).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd"))
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n{auth}",
            path("registry")
        );
        std::fs::write(b.path("registry.yml"), config).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", &path("registry.yml")]).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { child: command.spawn().unwrap(), host: format!("127.0.0.1:{port}") };
        wait_until("the registry listens", || {
            TcpStream::connect(&registry.host).map(drop).map_err(|e| e.to_string())
        });
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(mut b) = Build::new() else { return };
    let Some(r) = Registry::start(&b, false) else { return };
    b.dockerfile(&format!("{BASE}RUN echo content > /file\nCMD [\"cat\", \"/file\"]\n")).run().ok();
    let name = format!("{}/some/repo:1", r.host);
    let out = b.layercake(&["push", &name]);
    assert_eq!(out.code, 1, "it has no such name yet: {out}");
    b.layercake(&["tag", "t", &name]).ok();
    let out = b.layercake(&["push", &name]);
    let digest = out.ok().to_owned();
    assert!(digest.starts_with("sha256:") && !out.stderr.contains("exists"), "{out}");
    let out = b.layercake(&["push", &name]);
    assert_eq!((out.ok(), out.stderr.matches(" exists").count()), (digest.as_str(), 3), "{out}");

    let other = Build::another();
    let looked_into = |b: &Build| b.layercake(&["analyse", "--format", "json", &name]).json();
    let (there, here) = (looked_into(&other), looked_into(&b));
    assert_eq!((&there["image"]["origin"], &here["image"]["origin"]), (&"registry".into(), &"store".into()));
    assert_eq!(there["totals"]["shipped"]["bytes"], here["totals"]["shipped"]["bytes"]);
    assert_eq!(there["layers"][1]["packing"], "measured");
    assert!(!other.store().exists(), "looking into an image stores nothing");
    let out = other.layercake(&["pull", &name]);
    assert_eq!(out.ok(), name);
    assert!(out.stderr.contains(&digest), "{out}");
    assert_eq!(other.layercake(&["pull", "--quiet", &name]).stderr, "");
    let of = |b: &Build, what: &str| b.layercake(&["inspect", &name]).json()[0][what].clone();
    assert_eq!(of(&other, "id"), of(&b, "id"));
    assert_eq!(of(&other, "manifest"), digest);
    let by_digest = format!("{}/some/repo@{digest}", r.host);
    assert_eq!(other.layercake(&["run", "--pull", "never", &by_digest]).ok(), "content");

    // What is not in the store is pulled, by `run` and by a build.
    let third = Build::another();
    assert_eq!(third.layercake(&["run", "-q", &by_digest]).ok(), "content");
    let mut fourth = Build::another();
    fourth.dockerfile(&format!("FROM {name}\nRUN test -f /file\n")).run().ok();

    let zstd = b.layercake(&["push", "-q", "--compression", "zstd", &name]).ok().to_owned();
    assert_ne!(zstd, digest);
    other.layercake(&["pull", &name]).ok();
    assert_eq!(other.layercake(&["run", &name]).ok(), "content");
}

#[test]
fn a_build_pushes_and_says_so_and_notes_what_the_name_stands_for() {
    let Some(mut b) = Build::new() else { return };
    let Some(r) = Registry::start(&b, false) else { return };
    let name = format!("{}/built/one:1", r.host);
    let push = |b: &Build, words: &[&str]| {
        let context = b.path("context").display().to_string();
        b.layercake(
            &[&["build", "--progress=plain", "--push", "--metadata-file", "meta"], words, &[&context]]
                .concat(),
        )
    };
    b.dockerfile(&format!("{BASE}RUN echo content > /file\n"));
    let out = push(&b, &["-t", &name]);
    out.ok();
    let id = out
        .stderr
        .lines()
        .find_map(|l| l.strip_suffix(&format!(" [internal] push {name}")))
        .unwrap()
        .to_owned();
    assert!(out.stderr.contains(&format!("{id} DONE")), "{out}");
    let sent =
        |out: &str| out.lines().filter(|l| l.starts_with(&format!("{id} ")) && l.ends_with('B')).count();
    assert_eq!(sent(&out.stderr), 3, "two layers and the config: {out}");
    let meta = |b: &Build| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(b.path("meta")).unwrap()).unwrap()
    };
    let digest = meta(&b)["containerimage.digest"].as_str().unwrap().to_owned();
    let listed =
        |b: &Build| b.layercake(&["images", "--digests", "--format", "json"]).json()[0]["digest"].clone();
    assert_eq!(listed(&b), digest);
    // The same image by the digest that the registry knows.
    let by_digest = format!("{}/built/one@{digest}", r.host);
    b.layercake(&["run", "--pull", "never", &by_digest, "test", "-f", "/file"]).ok();
    let out = push(&b, &["-t", &name]);
    assert!(out.code == 0 && sent(&out.stderr) == 0, "nothing moves twice: {out}");
    // What cannot be pushed fails as a task, and as a command.
    let out = push(&b, &["-t", "127.0.0.1:1/x:1"]);
    assert!(out.code == 3 && out.stderr.contains(" ERROR: ") && out.stderr.contains("error: "), "{out}");

    // An output with a name of its own goes there alone: what `-t` says need not be in any registry.
    let own = format!("{}/built/own:1", r.host);
    let context = b.path("context").display().to_string();
    let output = format!("type=image,name={own},push=true");
    b.layercake(&["build", "-q", "-t", "127.0.0.1:1/x:1", "--output", &output, &context]).ok();
    Build::another().layercake(&["run", "-q", &own, "test", "-f", "/file"]).ok();

    // An index for two platforms. A store that has the name for one of them asks the registry for the other.
    let both = format!("{}/built/both:1", r.host);
    b.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY <<f /arch\n$TARGETARCH\nf\n");
    push(&b, &["-t", &both, "--platform", "linux/arm64,linux/amd64"]).ok();
    let index = meta(&b)["containerimage.digest"].as_str().unwrap().to_owned();
    let told = b.layercake(&["inspect", &both]).json()[0]["digests"].to_string();
    assert!(told.contains(&index), "{told}");
    let mut other = Build::another();
    let mut arch = |platform: &str| {
        other.dockerfile(&format!("FROM {both}\n"));
        let context = other.path("context").display().to_string();
        other.layercake(&["build", "--platform", platform, "-o", "out", &context]).ok();
        std::fs::read_to_string(other.path("out/arch")).unwrap()
    };
    assert_eq!(
        ["linux/arm64", "linux/amd64", "linux/arm64"].map(&mut arch),
        ["arm64\n", "amd64\n", "arm64\n"]
    );
}

#[test]
fn an_image_that_the_registry_does_not_have_is_the_users_mistake() {
    let Some(mut b) = Build::new() else { return };
    let Some(r) = Registry::start(&b, false) else { return };
    let name = format!("{}/none:1", r.host);
    let out = b.layercake(&["pull", &name]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("not found"), "{out}");
    assert_eq!(b.layercake(&["run", &name, "true"]).code, 125);
    let out = b.dockerfile(&format!("FROM {name}\n")).run();
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains(">>> FROM") && out.stderr.contains("not found"), "{out}");
}

#[test]
fn who_is_logged_in_may_push() {
    let Some(mut b) = Build::new() else { return };
    let Some(r) = Registry::start(&b, true) else { return };
    b.dockerfile("FROM scratch\nCOPY bin/busybox /\n").run().ok();
    let name = format!("{}/a:1", r.host);
    b.layercake(&["tag", "t", &name]).ok();
    let out = b.layercake(&["push", &name]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains(&format!("layercake login {}", r.host)), "{out}");

    let login = |password: &str| {
        b.layercake_with(&["login", "-u", "user", "--password-stdin", &r.host], password.as_bytes())
    };
    let config = b.path(".docker/config.json");
    let out = login("wrong\n");
    assert_eq!(out.code, 1, "{out}");
    assert!(!config.exists(), "a password that is not right is not kept");
    assert_eq!(login("secret\n").ok(), "Login Succeeded");
    assert!(std::fs::read_to_string(&config).unwrap().contains(&r.host));
    b.layercake(&["push", &name]).ok();
    b.layercake(&["logout", &r.host]).ok();
    assert_eq!(b.layercake(&["push", &name]).code, 3);
    assert_eq!(b.layercake(&["logout", &r.host]).code, 0, "once more is no mistake");
}
