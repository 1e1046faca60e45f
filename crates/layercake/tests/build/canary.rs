//! Secrets through every way in, and a search for them in everything that comes out: the store, images, archives, what was pushed, logs, metadata,
//! explanations, checks, and the command lines of all processes that were started.
//!
//! The search knows a value as it is, percent-encoded, and in base64 at each of its three alignments; it looks into gzip and zstd
//! streams and into the rows of the database. It has to find what was planted.
//!
//! One kind of value is no secret by Docker's meaning: an ARG is part of the history of the image, whatever its name is. The check
//! `SecretsUsedInArgOrEnv` warns, and everything that tells of builds masks it.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use oci::compress::Decoder;

use crate::kit::{Lab, sh};
use crate::web::{Answer, Web};

/// Odd characters, so that forms differ; without those that end a user name in a URL.
fn canary(name: &str) -> String {
    format!("Cnry<{name}>+7q{name}")
}

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// All forms in which a value may show.
fn forms(value: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::from([value.to_owned(), percent(value), percent(value).to_lowercase()]);
    for shift in 0..3 {
        // What stands before the value is unknown, and so are the digits that it shares.
        let coded = registry::basic_credentials(&"x".repeat(2 + shift), value);
        let first = (3 + shift).div_ceil(3) * 4;
        let kept = coded.trim_end_matches('=');
        out.insert(kept[first..kept.len() - 2].to_owned());
    }
    out
}

/// Which of the values are where. `at` names the place.
fn search(at: &str, bytes: &[u8], values: &[(String, BTreeSet<String>)], found: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    for (name, forms) in values {
        if forms.iter().any(|f| text.contains(f.as_str())) {
            found.push(format!("{name} in {at}"));
        }
    }
    for (i, window) in bytes.windows(4).enumerate() {
        if !matches!(window, [0x1f, 0x8b, 8, _] | [0x28, 0xb5, 0x2f, 0xfd]) {
            continue;
        }
        let mut plain = Vec::new();
        if let Ok(decoder) = Decoder::new(&bytes[i..]) {
            // What follows the stream is none; what came until then counts.
            let _ = decoder.take(64 << 20).read_to_end(&mut plain);
        }
        let text = String::from_utf8_lossy(&plain);
        for (name, forms) in values {
            if forms.iter().any(|f| text.contains(f.as_str())) {
                found.push(format!("{name} packed in {at}"));
            }
        }
    }
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        out.push(entry.path());
        if kind.is_dir() {
            files(&entry.path(), out);
        }
    }
}

/// Everything below a path.
fn search_files(dir: &Path, values: &[(String, BTreeSet<String>)], found: &mut Vec<String>) {
    let mut all = vec![dir.to_owned()];
    files(dir, &mut all);
    for path in all {
        let name = path.display().to_string();
        search(&format!("the name {name}"), name.as_bytes(), values, found);
        if std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file()) {
            search(&name, &std::fs::read(&path).unwrap(), values, found);
        }
        if name.ends_with("db.sqlite") {
            rows(&path, values, found);
        }
    }
}

/// Every value of every row: pages hold long ones in pieces.
fn rows(path: &Path, values: &[(String, BTreeSet<String>)], found: &mut Vec<String>) {
    let db = rusqlite::Connection::open(path).unwrap();
    for table in ["records", "record_data", "builds", "tars", "tar_blobs"] {
        let mut statement = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                use rusqlite::types::ValueRef;
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(column).unwrap() {
                    search(&format!("table {table}"), bytes, values, found);
                }
            }
        }
    }
}

/// Command lines of all processes, looked at again and again.
struct Lines {
    seen: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

impl Lines {
    fn watch(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let own = std::process::id().to_string();
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != own && name.bytes().all(|b| b.is_ascii_digit()) {
                    let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    self.seen.lock().unwrap().insert(String::from_utf8_lossy(&line).replace('\0', " "));
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// A program that writes its arguments down before it becomes the real one: what is too short-lived for [`Lines`].
fn wrap(lab: &Lab, name: &str, real: &str) {
    let log = lab.at("arguments");
    lab.file(
        &format!("wrap/{name}"),
        format!("#!/bin/sh\nprintf '%s\\n' {name} \"$@\" >> {log}\nexec {real} \"$@\"\n"),
    );
    std::fs::set_permissions(lab.path(format!("wrap/{name}")), PermissionsExt::from_mode(0o755)).unwrap();
}

/// A registry that wants a password, and keeps what it is sent.
fn registry(password: &str) -> Web {
    let proof = format!("Basic {}", registry::basic_credentials("me", password));
    let kept: Mutex<Vec<(String, Vec<u8>)>> = Mutex::default();
    Web::start(move |asked| {
        if asked.header("authorization") != Some(&proof) {
            return Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let mut kept = kept.lock().unwrap();
        let digest = oci::Digest::of(asked.body()).to_string();
        let name = asked.path().rsplit('/').next().unwrap_or_default();
        match asked.method.as_str() {
            "POST" => Answer::new(202, "").header("Location", "/v2/upload?x=y"),
            "PUT" => {
                kept.push((digest.clone(), asked.body().to_vec()));
                if asked.path().contains("/manifests/") {
                    kept.push((name.to_owned(), asked.body().to_vec()));
                }
                Answer::new(201, "").header("Docker-Content-Digest", &digest)
            }
            _ if asked.path() == "/v2/" => Answer::ok("{}"),
            _ => match kept.iter().find(|(n, _)| n == name) {
                Some((_, bytes)) => {
                    let answer = Answer::ok(bytes.clone());
                    answer.header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                }
                None => Answer::new(404, ""),
            },
        }
    })
}

#[test]
#[allow(clippy::disallowed_methods)]
fn no_secret_comes_out_anywhere() {
    let Some(mut lab) = Lab::rooted() else { return };
    let ways = [
        "file",
        "env",
        "mounted-as-env",
        "registry",
        "url",
        "http-header",
        "http-token",
        "git-token",
        "git-url",
        "proxy",
        "proxy-arg",
    ];
    let value = |way: &str| canary(way);
    let mut secrets: Vec<(String, BTreeSet<String>)> =
        ways.iter().map(|w| ((*w).to_owned(), forms(&value(w)))).collect();

    // Servers: a registry, files for those who have the right header, and repositories for those who have the right token.
    let remote = registry(&value("registry"));
    let host = remote.url.strip_prefix("http://").unwrap().to_owned();
    let wanted = [
        format!("Basic {}", registry::basic_credentials("me", &value("url"))),
        format!("Odd {}", value("http-header")),
        format!("Bearer {}", value("http-token")),
    ];
    let web = Web::start(move |asked| match asked.header("authorization") {
        Some(a) if wanted.iter().any(|w| w == a) => Answer::ok("content\n"),
        other => panic!("{other:?}"),
    });
    sh(&lab.path(""), "git", &["init", "-q", "-b", "main", "work"]);
    lab.file("work/f", "from git\n");
    sh(&lab.path("work"), "git", &["add", "f"]);
    sh(&lab.path("work"), "git", &["commit", "-q", "-m", "m"]);
    std::fs::create_dir(lab.path("repos")).unwrap();
    sh(&lab.path(""), "git", &["clone", "-q", "--bare", "work", "repos/a.git"]);
    let proof = |user: &str, v: &str| format!("basic {}", registry::basic_credentials(user, v)).leak();
    let by_token = Web::private_git(lab.path("repos"), proof("x-access-token", &value("git-token")));
    let by_url = Web::private_git(lab.path("repos"), proof("me", &value("git-url")));

    // Everything that is given.
    lab.file("secret", format!("{}\n", value("file")));
    for (name, way) in [("ENV_SECRET", "env"), ("MOUNTED", "mounted-as-env")] {
        lab.env(name, &value(way));
    }
    lab.env("HTTPS_PROXY", &format!("http://me:{}@127.0.0.1:1", percent(&value("proxy"))));
    sh(&lab.path(""), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "c", "-f", "key"]);
    let key = lab.read("key");
    secrets.push(("ssh key".into(), BTreeSet::from([key.lines().nth(2).unwrap().to_owned()])));
    lab.file("bearer", value("http-token")).file("header", format!("Odd {}", value("http-header")));
    lab.file("git-token", value("git-token"));
    for program in ["git", "ssh-keygen", "ssh-agent", "ssh-add"] {
        let path = std::env::var("PATH").unwrap();
        if let Some(real) = path.split(':').map(|d| format!("{d}/{program}")).find(|p| Path::new(p).exists())
        {
            wrap(&lab, program, &real);
        }
    }
    let path = format!("{}:{}", lab.at("wrap"), std::env::var("PATH").unwrap());
    lab.env("PATH", &path);

    // An argument with the name of a secret, and what the search has to find: in a layer, in a log, on a command line.
    let arg = ("an ARG".to_owned(), forms(&canary("arg")));
    let planted: Vec<(String, BTreeSet<String>)> =
        ["layer", "log", "line"].map(|p| (format!("planted {p}"), forms(&canary(p)))).into();

    let lines = Lines { seen: Mutex::default(), stop: AtomicBool::new(false) };
    let mut said = String::new();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| lines.watch());
        let mut say = |ran: crate::kit::Ran, ok: bool| {
            assert_eq!(ran.code == Some(0), ok, "{}{}", ran.stdout, ran.stderr);
            said.push_str(&ran.stdout);
            said.push_str(&ran.stderr);
            ran
        };
        let login =
            lab.run_with(&["login", "-u", "me", "--password-stdin", &host], value("registry").as_bytes());
        say(login, true);
        // A base goes to the private registry, and comes back from it.
        say(lab.dockerfile("FROM base\nLABEL a=b\n", &["-t", &format!("{host}/base:1"), "--push"]), true);
        say(lab.run(&["rmi", &format!("{host}/base:1")]), true);
        let text = format!(
            "FROM {host}/base:1 AS pulled\n\
             ARG API_TOKEN\nARG http_proxy\n\
             RUN --mount=type=secret,id=file --mount=type=secret,id=ENV_SECRET --mount=type=secret,id=m,env=TOKEN \
                 cat /run/secrets/*; echo \"$TOKEN\"; env | grep -v API; set -x; : $TOKEN; test -n \"$TOKEN\"\n\
             RUN --mount=type=ssh,id=k test -S $SSH_AUTH_SOCK && echo \"$API_TOKEN $http_proxy\" | wc -c\n\
             ADD http://me:{in_url}@{files}/a /a\n\
             ADD {by_token}/a.git /b\n\
             ADD --keep-git-dir=true http://me:{git_url}@{by_url}/a.git /c\n\
             RUN echo '{layer}' > /planted; echo '{log}'; sh -c 'sleep 1' '{line}'\n\
             FROM scratch\nCOPY --from=pulled / /\n",
            files = web.url.strip_prefix("http://").unwrap(),
            in_url = percent(&value("url")),
            by_token = by_token.url,
            by_url = by_url.url.strip_prefix("http://").unwrap(),
            git_url = percent(&value("git-url")),
            layer = canary("layer"),
            log = canary("log"),
            line = canary("line"),
        );
        let arg_value = format!("API_TOKEN={}", canary("arg"));
        let proxy = format!("http_proxy=http://me:{}@127.0.0.1:1", percent(&value("proxy-arg")));
        let key = format!("k={}", lab.at("key"));
        let git_token =
            format!("id=GIT_AUTH_TOKEN.{},src=git-token", by_token.url.strip_prefix("http://").unwrap());
        let given = [
            "--secret",
            "id=file,src=secret",
            "--secret",
            "id=ENV_SECRET",
            "--secret",
            "id=m,env=MOUNTED",
            "--secret",
            &git_token,
            "--ssh",
            &key,
            "--build-arg",
            &arg_value,
            "--build-arg",
            &proxy,
        ];
        let image = format!("{host}/image:1");
        let outputs = [
            "-o",
            "type=oci,dest=out-gz.tar",
            "-o",
            "type=oci,dest=out.tar,compression=uncompressed,force-compression=true",
            "-o",
            "type=docker,dest=out-docker.tar",
            "-o",
            "out-files",
        ];

        let first = [&given[..], &outputs, &["-t", &image, "--push", "--metadata-file", "out-meta"]].concat();
        say(lab.dockerfile(&text, &first), true);
        for (n, progress) in ["plain", "rawjson", "quiet", "tty"].iter().enumerate() {
            let how = ["--no-cache", "--progress", progress, "-t", "again"];
            say(lab.dockerfile(&text, &[&given[..], &how].concat()), true);
            // Secrets for the server of files: as a header, then as a token.
            let auth = [
                ["--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,src=header"],
                ["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=bearer"],
            ];
            let add = format!("FROM scratch\nADD {}/{n} /f\n", web.url);
            say(lab.dockerfile(&add, &[&auth[n % 2][..], &["--progress", progress]].concat()), true);
            // And what fails, with everything in its command's reach.
            let failing = "FROM base\nARG API_TOKEN\nRUN --mount=type=secret,id=file --mount=type=secret,id=m,env=TOKEN \
                cat /run/secrets/file >&2; echo $TOKEN; exit 3\n";
            say(lab.dockerfile(failing, &[&given[..], &["--progress", progress]].concat()), false);
            let lost = format!("FROM scratch\nADD http://me:{}@127.0.0.1:1/{n} /\n", percent(&value("url")));
            lab.file("ctx/Dockerfile", &lost);
            say(without_source(lab.build(&["--progress", progress, "ctx"])), false);
        }
        lab.file("ctx/Dockerfile", &text);
        // With the arguments alone, and with everything.
        for (n, given) in [&given[8..], &given].iter().enumerate() {
            let dry =
                [&["explain", "--dry-run", "--build-context", "base=base"][..], given, &["ctx"]].concat();
            let ran = lab.run(&dry);
            assert_eq!(ran.code, Some(0), "{dry:?}: {}", ran.stderr);
            lab.file(&format!("told/explain-dry-run-{n}"), ran.stdout + &ran.stderr);
        }
        for words in [
            &["explain"][..],
            &["explain", "--format", "json"],
            &["history", "again"],
            &["images"],
            &["du"],
            &["inspect", "again"],
            &["analyse", "again"],
            &["analyse", "--format", "json", "again"],
        ] {
            let ran = lab.run(words);
            assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.stderr);
            lab.file(&format!("told/{}", words.join("-")), ran.stdout + &ran.stderr);
        }
        for format in ["text", "json", "sarif"] {
            let ran = lab.run(&["check", "--format", format, "ctx"]);
            lab.file(&format!("told/check-{format}"), ran.stdout + &ran.stderr);
        }
        lines.stop.store(true, Ordering::SeqCst);
        watch.join().unwrap();
    });

    let mut found = Vec::new();
    let seen = lines.seen.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n");
    // Ours is started with the arguments' values: that is what the user wrote.
    let seen: String = seen.lines().filter(|l| !l.contains(" --build-arg ")).collect::<Vec<_>>().join("\n");
    lab.file("told/said", &said).file("told/lines", &seen);
    let sent: Vec<u8> = remote.asked().iter().flat_map(|a| a.body().to_vec()).collect();
    lab.file("told/pushed", sent);
    let places =
        ["store", "told", "arguments", "out.tar", "out-gz.tar", "out-docker.tar", "out-files", "out-meta"];
    for place in places {
        assert!(lab.path(place).exists(), "{place} was not made");
        search_files(&lab.path(place), &secrets, &mut found);
    }
    assert_eq!(found, [""; 0]);

    // The login is where Docker keeps it, for its owner alone.
    let config = lab.path("home/.docker/config.json");
    search_files(&config, &secrets, &mut found);
    assert_eq!(std::mem::take(&mut found), [format!("registry in {}", config.display())]);
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);

    // The ARG is in the history of the images that were made with it and in the records of the steps, and nothing tells of it elsewhere.
    for place in places {
        search_files(&lab.path(place), std::slice::from_ref(&arg), &mut found);
    }
    let allowed = [
        "store/blobs/",
        "store/db.sqlite",
        "out.tar",
        "out-gz.tar",
        "out-docker.tar",
        "told/pushed",
        "told/history",
    ];
    let elsewhere =
        |f: &&String| !f.ends_with("in table records") && !allowed.iter().any(|p| f.contains(&lab.at(p)));
    assert_eq!(found.iter().filter(elsewhere).collect::<Vec<_>>(), [""; 0]);

    // The search sees: layers, packed layers, logs in the database, command lines, arguments, and any form.
    let mut seen = Vec::new();
    for place in places {
        search_files(&lab.path(place), &planted, &mut seen);
    }
    for (what, place) in [
        ("planted layer", "store/objects"),
        ("planted layer", "out.tar"),
        ("planted layer packed in", "out-gz.tar"),
        ("planted layer packed in", "told/pushed"),
        ("planted layer", "out-files"),
        ("planted layer", "told/explain-dry-run-0"),
        ("planted layer", "told/explain-dry-run-1"),
        ("planted log", "told/said"),
        ("planted line", "told/lines"),
    ] {
        let place = lab.at(place);
        assert!(
            seen.iter().any(|f| f.contains(what) && f.contains(&place)),
            "no {what} in {place}: {seen:?}"
        );
    }
    assert!(seen.iter().any(|f| f == "planted log packed in table record_data"), "{seen:?}");
    assert!(std::fs::read_to_string(lab.path("arguments")).unwrap().contains("ls-remote"));
    for form in forms(&value("url")) {
        let mut found = Vec::new();
        search("a text", format!("before {form} after").as_bytes(), &secrets, &mut found);
        assert_eq!(found, ["url in a text"]);
    }
}

/// What a failed build said, without the excerpt of the Dockerfile: that is the user's own text.
fn without_source(mut ran: crate::kit::Ran) -> crate::kit::Ran {
    ran.stderr = ran.stderr.lines().filter(|l| !l.contains(" | ")).collect::<Vec<_>>().join("\n");
    ran
}
