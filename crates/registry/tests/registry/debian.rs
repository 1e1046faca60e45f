//! The same against a registry that others wrote: the `docker-registry` of Debian. Skipped where it is not installed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oci::types::{Descriptor, Manifest, media};
use registry::{Client, Credential, Options, Proxy, Pushed, RegistryError};

use crate::{Image, client, options, reference};

const PROGRAM: &str = "/usr/bin/docker-registry";
/// bcrypt of `tr0ub4dor`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuG46VdGlZM7MD48578yjdzjFxYU4ZcC2\n";

/// A running registry with its data in a directory of its own.
struct Real {
    host: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program with `more` lines of configuration, which may name files in the directory that it is given.
/// `None`, with the reason on standard error, if it is not there.
fn start(http: &str, more: impl Fn(&Path) -> String) -> Option<Real> {
    if !Path::new(PROGRAM).exists() {
        skipped(&format!("{PROGRAM} is not installed"));
        return None;
    }
    // Between the look for a free port and the start somebody else may take it.
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = dir.path().display();
        let more = more(dir.path());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}/data}}\n\
             http:\n  addr: 127.0.0.1:{port}\n{}\n{more}\n",
            http.replace("DIR", &root.to_string()),
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Real { host: format!("127.0.0.1:{port}"), child, _dir: dir });
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "{PROGRAM} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("{PROGRAM} does not start");
}

fn push_image(
    client: &Client,
    host: &str,
    repository: &str,
    image: &Image,
    from: Option<&str>,
) -> Vec<Pushed> {
    let r = reference(host, repository);
    let manifest: Manifest = serde_json::from_slice(&image.manifest).unwrap();
    let blobs = [(&manifest.config, &image.config), (&manifest.layers[0], &image.layer)];
    let pushed = blobs.map(|(descriptor, bytes)| {
        let bytes = bytes.clone();
        let open = move || Ok(Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read>);
        client.push_blob(&r, descriptor, &open, from, &mut |_| {}).unwrap()
    });
    let digest = client.push_manifest(&r, media::MANIFEST, &image.manifest).unwrap();
    assert_eq!(digest, oci::Digest::of(&image.manifest));
    pushed.to_vec()
}

fn pull_image(client: &Client, host: &str, repository: &str, image: &Image) {
    let r = reference(host, repository);
    let got = client.resolve(&r, &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!((&got.manifest_bytes, &got.config_bytes), (&image.manifest, &image.config));
    let mut layer = Vec::new();
    client.blob(&r, &got.manifest.layers[0]).unwrap().read_to_end(&mut layer).unwrap();
    assert!(layer == image.layer);
}

#[test]
fn push_and_pull() {
    let Some(real) = start("", |_| String::new()) else { return };
    let image = Image::new("amd64", 3_000_000);
    let client = client();
    let missing = client.manifest(&reference(&real.host, "team/app:1"));
    assert!(matches!(&missing, Err(RegistryError::NotFound { .. })), "{missing:?}");

    assert_eq!(push_image(&client, &real.host, "team/app:1", &image, None), [Pushed::Uploaded; 2]);
    pull_image(&client, &real.host, "team/app:1", &image);
    assert_eq!(push_image(&client, &real.host, "team/app:2", &image, None), [Pushed::Exists; 2]);
    assert_eq!(push_image(&client, &real.host, "other", &image, Some("team/app")), [Pushed::Mounted; 2]);
    pull_image(&client, &real.host, "other", &image);

    let r = reference(&real.host, "team/app:1");
    let mut tags = client.tags(&r).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(client.head(&r).unwrap(), Some(Descriptor::of(media::MANIFEST, &image.manifest)));
    assert!(client.blob_exists(&r, &oci::Digest::of(&image.layer)).unwrap());
    assert!(!client.blob_exists(&r, &oci::Digest::of(b"else")).unwrap());
    let absent = Descriptor::of(media::LAYER, b"else");
    assert!(matches!(client.blob(&r, &absent), Err(RegistryError::NotFound { .. })));

    // A manifest whose layer is not there is refused, and the registry's reason is told.
    let lonely = Image::new("arm64", 1000);
    match client.push_manifest(&r, media::MANIFEST, &lonely.manifest) {
        Err(RegistryError::NotFound { message, .. } | RegistryError::Server { status: 400, message, .. }) => {
            assert!(message.contains("blob unknown"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // Content that is not its descriptor is refused by the registry.
    let open = || Ok(Box::new(io::Cursor::new(b"evil".to_vec())) as Box<dyn Read>);
    let refused = client.push_blob(&r, &absent, &open, None, &mut |_| {});
    assert!(matches!(&refused, Err(RegistryError::Server { status: 400, .. })), "{refused:?}");
}

#[test]
fn passwords() {
    let auth = |dir: &Path| {
        let file = dir.join("htpasswd");
        std::fs::write(&file, HTPASSWD).unwrap();
        format!("auth:\n  htpasswd: {{realm: here, path: {}}}\n", file.display())
    };
    let Some(real) = start("", auth) else { return };
    let credential =
        |password: &str| Credential::Password { username: "me".into(), password: password.into() };
    let good = credential("tr0ub4dor");
    client().login_check(&real.host, &good).unwrap();
    let refused = client().login_check(&real.host, &credential("guess"));
    assert!(matches!(&refused, Err(RegistryError::Unauthorized { anonymous: false, .. })), "{refused:?}");

    let image = Image::new("amd64", 100_000);
    let credentials = Arc::new(move |_: &str, _: &str| Some(good.clone()));
    let known = Client::new(Options { credentials, ..options() }).unwrap();
    assert_eq!(push_image(&known, &real.host, "app:1", &image, None), [Pushed::Uploaded; 2]);
    pull_image(&known, &real.host, "app:1", &image);
    let refused = client().manifest(&reference(&real.host, "app:1"));
    assert!(matches!(&refused, Err(RegistryError::Unauthorized { anonymous: true, .. })), "{refused:?}");
}

/// A registry with TLS and a certificate that nobody signed.
fn start_with_tls(more: &'static str) -> Option<Real> {
    let openssl = |dir: &Path, args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    if openssl(Path::new("/"), &["version"]).is_err() {
        skipped("openssl is not installed");
        return None;
    }
    start("  tls: {certificate: DIR/cert.pem, key: DIR/key.pem}", |dir| {
        let args = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -keyout key.pem -out cert.pem";
        assert!(openssl(dir, &args.split(' ').collect::<Vec<_>>()).unwrap().success());
        more.replace("DIR", &dir.display().to_string())
    })
}

#[test]
fn any_certificate_will_do_on_this_machine() {
    let Some(real) = start_with_tls("") else { return };
    let image = Image::new("amd64", 100_000);
    assert_eq!(push_image(&client(), &real.host, "app:1", &image, None), [Pushed::Uploaded; 2]);
    pull_image(&client(), &real.host, "app:1", &image);
}

#[test]
fn no_password_leaves_tls_for_a_token() {
    let auth = "auth:\n  token: {realm: 'http://127.0.0.1:1/token', service: s, issuer: i, rootcertbundle: DIR/cert.pem}";
    let Some(real) = start_with_tls(auth) else { return };
    let credential = Credential::Password { username: "me".into(), password: "hunter2".into() };
    match client().login_check(&real.host, &credential) {
        Err(RegistryError::Protocol { problem, .. }) => {
            assert!(problem.contains("over plain http"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

/// A proxy that takes every CONNECT to one address. Gives its own, and what it was asked for.
fn proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:pw@{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    // Ends with the test process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut near, far) = (stream.unwrap(), TcpStream::connect(&to).unwrap());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.contains("Basic bWU6cHc="), "{head}");
            log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    (url, asked)
}

#[test]
fn elsewhere_certificates_count_and_the_proxy_is_used() {
    let Some(real) = start_with_tls("") else { return };
    let (url, asked) = proxy(real.host.clone());
    let through = |insecure: &[&str]| {
        let proxy = Some(Proxy { url: url.clone(), no_proxy: vec!["other.invalid".into()] });
        let insecure = insecure.iter().map(|i| i.to_string()).collect();
        Client::new(Options { proxy, insecure, ..options() }).unwrap()
    };
    let image = Image::new("amd64", 100_000);
    let refused = through(&[]).manifest(&reference("registry.invalid", "app:1"));
    assert!(matches!(&refused, Err(RegistryError::Tls { .. })), "{refused:?}");
    assert_eq!(*asked.lock().unwrap(), ["CONNECT registry.invalid:443 HTTP/1.1"]);

    let trusting = through(&["registry.invalid"]);
    assert_eq!(push_image(&trusting, "registry.invalid", "app:1", &image, None), [Pushed::Uploaded; 2]);
    pull_image(&trusting, "registry.invalid", "app:1", &image);
    // This machine is never reached through a proxy.
    let before = asked.lock().unwrap().len();
    pull_image(&through(&[]), &real.host, "app:1", &image);
    assert_eq!(asked.lock().unwrap().len(), before);
}

fn skipped(why: &str) {
    #[allow(clippy::disallowed_macros)] // the place where a skipped test is seen
    {
        eprintln!("skipped: {why}");
    }
}
