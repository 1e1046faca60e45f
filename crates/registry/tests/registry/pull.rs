//! Pulling: what arrives is complete and right, whatever the connection and the registry do.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oci::Digest;
use oci::types::{Descriptor, media};
use registry::{BlobReader, Client, Mirror, Options, RegistryError, Timeouts};
use serde_json::json;

use crate::fake::{Answer, Fake};
use crate::{Image, client, listening, options, ranged, reference};

fn read_all(mut reader: BlobReader) -> Result<Vec<u8>, (usize, RegistryError)> {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err((bytes.len(), RegistryError::from_io(e).expect("a registry error"))),
    }
}

/// Answers as `script` says for the first requests to `/manifests/`, in order, and then as the image does.
fn scripted(image: &Image, script: Vec<Answer>) -> Fake {
    let (image, at) = (image.clone(), AtomicUsize::new(0));
    Fake::start(move |seen| {
        if seen.path().contains("/manifests/")
            && let Some(answer) = script.get(at.fetch_add(1, Ordering::SeqCst))
        {
            return answer.clone();
        }
        image.answer(seen)
    })
}

#[test]
fn an_image_without_index() {
    let image = Image::new("amd64", 1000);
    let fake = scripted(&image, vec![]);
    let r = reference(&fake.host, "team/app");
    let got = client().resolve(&r, &"linux/amd64".parse().unwrap()).unwrap();
    assert!(got.index.is_none());
    assert_eq!((&got.manifest_bytes, &got.config_bytes), (&image.manifest, &image.config));
    assert_eq!(got.manifest_descriptor, Descriptor::of(media::MANIFEST, &image.manifest));
    let layer = client().blob(&r, &got.manifest.layers[0]).unwrap();
    assert_eq!(read_all(layer).unwrap(), image.layer);
    assert!(fake.seen()[0].header("user-agent").unwrap().starts_with("layercake/"));
    let accept = fake.seen()[0].header("accept").unwrap().to_owned();
    for kind in [media::INDEX, media::MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST] {
        assert!(accept.contains(kind), "{accept}");
    }
}

#[test]
fn an_odd_user_agent_is_sent_without_what_no_header_may_have() {
    let fake = scripted(&Image::new("amd64", 10), vec![]);
    let client = Client::new(Options { user_agent: "a\r\nb: c é".into(), ..options() }).unwrap();
    client.manifest(&reference(&fake.host, "a")).unwrap();
    assert_eq!(fake.seen()[0].header("user-agent"), Some("ab: c"));
}

#[test]
fn an_index_by_platform() {
    let (amd, arm) = (Image::new("amd64", 10), Image::new("arm64", 10));
    let entry = |image: &Image, arch: &str| {
        let mut d = serde_json::to_value(Descriptor::of(media::MANIFEST, &image.manifest)).unwrap();
        d["platform"] = json!({"os": "linux", "architecture": arch});
        d
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry(&amd, "amd64"), entry(&arm, "arm64")]});
    let index = index.to_string().into_bytes();
    let fake = Fake::start({
        let (index, amd, arm) = (index.clone(), amd.clone(), arm.clone());
        move |seen| match seen.path() {
            "/v2/a/manifests/latest" => Answer::new(200, index.clone()).header("Content-Type", media::INDEX),
            path if path.ends_with(&Digest::of(&arm.manifest).to_string())
                || path.ends_with(&Digest::of(&arm.config).to_string()) =>
            {
                arm.answer(seen)
            }
            _ => amd.answer(seen),
        }
    });
    let r = reference(&fake.host, "a");
    let got = client().resolve(&r, &"linux/arm64".parse().unwrap()).unwrap();
    assert_eq!(got.manifest_bytes, arm.manifest);
    assert_eq!(got.config.architecture, "arm64");
    assert_eq!(got.index.unwrap().bytes, index);
    assert_eq!(got.manifest_descriptor.size, arm.manifest.len() as u64);
    match client().resolve(&r, &"linux/s390x".parse().unwrap()) {
        Err(e @ RegistryError::NoPlatform { .. }) => {
            let text = e.to_string();
            assert!(text.ends_with("no image for linux/s390x; it has: linux/amd64, linux/arm64"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_that_is_wrong_about_a_size() {
    let image = Image::new("amd64", 10);
    let mut entry = Descriptor::of(media::MANIFEST, &image.manifest);
    entry.platform = Some("linux/amd64".parse().unwrap());
    entry.size += 1;
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let fake = scripted(&image, vec![Answer::new(200, index)]);
    match client().resolve(&reference(&fake.host, "a"), &"linux/amd64".parse().unwrap()) {
        Err(RegistryError::Manifest { problem, .. }) => {
            assert!(problem.contains("bytes, but it has"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_there() {
    let fake = scripted(&Image::new("amd64", 10), vec![]);
    match client().manifest(&reference(&fake.host, "a:nope")) {
        Err(e @ RegistryError::NotFound { .. }) => {
            let want =
                format!("{0}/a:nope was not found at {0}: manifest unknown (MANIFEST_UNKNOWN)", fake.host);
            assert_eq!(e.to_string(), want);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.seen().len(), 1, "a 404 is final");
}

#[test]
fn a_manifest_that_is_not_its_digest() {
    let image = Image::new("amd64", 10);
    let other = Image::new("arm64", 10);
    // The reference says so.
    let fake = scripted(&image, vec![Answer::new(200, other.manifest.clone())]);
    let r = reference(&fake.host, "a").with_digest(Digest::of(&image.manifest));
    match client().manifest(&r) {
        Err(RegistryError::Digest { expected, got, .. }) => {
            assert_eq!((expected, got), (Digest::of(&image.manifest), Digest::of(&other.manifest)));
        }
        other => panic!("{other:?}"),
    }
    // The registry says so itself.
    let answer =
        Answer::new(200, other.manifest).header("Docker-Content-Digest", Digest::of(&image.manifest));
    let fake = scripted(&image, vec![answer]);
    let result = client().manifest(&reference(&fake.host, "a"));
    assert!(matches!(result, Err(RegistryError::Digest { .. })), "{result:?}");
}

#[test]
fn failures_that_pass() {
    let image = Image::new("amd64", 10);
    for (name, answer) in [
        ("500", Answer::new(500, "")),
        ("503", Answer::new(503, "")),
        ("truncated", Answer::new(200, image.manifest.clone()).cut(20)),
        ("no answer", Answer::none()),
        ("429", Answer::new(429, "").header("Retry-After", 0)),
    ] {
        let fake = scripted(&image, vec![answer.clone(), answer]);
        let got = client().manifest(&reference(&fake.host, "a")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got.bytes, image.manifest, "{name}");
        assert_eq!(fake.seen().len(), 3, "{name}");
    }
}

#[test]
fn failures_that_stay() {
    let image = Image::new("amd64", 10);
    let always = |answer: Answer| {
        let fake = scripted(&image, vec![answer; 10]);
        let error = client().manifest(&reference(&fake.host, "a")).unwrap_err();
        (error, fake.seen().len())
    };
    let (e, n) = always(Answer::new(500, r#"{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}"#));
    assert!(
        matches!(&e, RegistryError::Server { status: 500, message, .. } if message == "disk on fire"),
        "{e:?}"
    );
    assert_eq!(n, 4);
    let (e, n) = always(Answer::new(200, image.manifest.clone()).cut(20));
    assert!(matches!(e, RegistryError::Unreachable { .. }), "{e:?}");
    assert_eq!(n, 4);
    let (e, n) = always(Answer::new(400, ""));
    assert!(matches!(e, RegistryError::Server { status: 400, .. }), "{e:?}");
    assert_eq!(n, 1);
    let (e, n) = always(Answer::new(403, ""));
    assert!(matches!(e, RegistryError::Denied { .. }), "{e:?}");
    assert_eq!(n, 1);
}

#[test]
fn the_registry_says_when_to_come_back() {
    let image = Image::new("amd64", 10);
    let fake = scripted(&image, vec![Answer::new(429, "").header("Retry-After", 1)]);
    let (options, heard) = listening();
    Client::new(options).unwrap().manifest(&reference(&fake.host, "a")).unwrap();
    assert_eq!(*heard.lock().unwrap(), ["wait 1 s"]);
    // Nobody wants to wait for an hour in front of a silent terminal.
    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
    let fake = scripted(&image, vec![Answer::new(429, limit).header("Retry-After", 3600)]);
    match client().manifest(&reference(&fake.host, "a")) {
        Err(RegistryError::TooManyRequests { retry_after, message, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(3600)));
            assert_eq!(message, "pull rate limit (TOOMANYREQUESTS)");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn manifests_are_bounded_and_plausible() {
    let image = Image::new("amd64", 10);
    let problem = |answer: Answer| {
        let fake = scripted(&image, vec![answer]);
        match client().resolve(&reference(&fake.host, "a"), &"linux/amd64".parse().unwrap()) {
            Err(RegistryError::Manifest { problem, .. } | RegistryError::Protocol { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    let big = vec![b' '; 5 << 20];
    assert!(problem(Answer::new(200, big.clone())).contains("the limit is"));
    let mut chunked = format!("{:x}\r\n", big.len()).into_bytes();
    chunked.extend(&big);
    chunked.extend(b"\r\n0\r\n\r\n");
    assert!(
        problem(Answer::new(200, chunked).header("Transfer-Encoding", "chunked")).contains("the limit is")
    );
    assert!(problem(Answer::new(200, "<html>")).contains("not JSON"));
    assert!(problem(Answer::new(200, r#"{"schemaVersion":1,"config":{}}"#)).contains("schema 1"));
    assert!(problem(Answer::new(200, r#"{"config":1,"layers":[]}"#)).contains("specification"));

    let mut document: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    document["layers"] = json!([]);
    assert!(problem(Answer::new(200, document.to_string())).contains("0 layers"));
    document["config"]["size"] = json!(1u64 << 40);
    assert!(problem(Answer::new(200, document.to_string())).contains("its config has"));
}

#[test]
fn head_asks_without_fetching() {
    let image = Image::new("amd64", 10);
    let fake = scripted(&image, vec![]);
    let got = client().head(&reference(&fake.host, "a")).unwrap();
    assert_eq!(got, Some(Descriptor::of(media::MANIFEST, &image.manifest)));
    assert_eq!(fake.lines(), ["HEAD /v2/a/manifests/latest"]);
    // Some registries do not say the digest.
    let fake = scripted(&image, vec![Answer::new(200, image.manifest.clone())]);
    assert_eq!(client().head(&reference(&fake.host, "a")).unwrap(), None);
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let image = Image::new("amd64", 100_000);
    let tries = AtomicUsize::new(0);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| {
        if seen.target == "/v2/" {
            return Answer::new(200, "");
        }
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => ranged(seen, &blob).cut(30_000),
            1 => Answer::new(503, ""),
            2 => ranged(seen, &blob).cut(20_000),
            _ => ranged(seen, &blob),
        }
    });
    let (options, heard) = listening();
    let r = reference(&fake.host, "a");
    let reader = Client::new(options).unwrap().blob(&r, &image.layer_descriptor()).unwrap();
    assert_eq!(read_all(reader).unwrap(), image.layer);
    let ranges: Vec<_> = fake.seen().iter().map(|s| s.header("range").map(str::to_owned)).collect();
    let at = |n: u32| Some(format!("bytes={n}-"));
    assert_eq!(ranges, [None, at(30_000), at(30_000), at(50_000)]);
    assert_eq!(
        *heard.lock().unwrap(),
        ["wait", "resume 30000", "wait", "resume 30000", "wait", "resume 50000"]
    );
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let image = Image::new("amd64", 100_000);
    let tries = AtomicUsize::new(0);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| {
        if seen.target == "/v2/" {
            return Answer::new(200, "");
        }
        let answer = Answer::new(200, blob.clone());
        if tries.fetch_add(1, Ordering::SeqCst) == 0 { answer.cut(99_999) } else { answer }
    });
    let reader = client().blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    assert_eq!(read_all(reader).unwrap(), image.layer);
    assert_eq!(fake.seen().len(), 2);
}

#[test]
fn a_download_that_always_breaks_off_ends() {
    let image = Image::new("amd64", 100_000);
    let blob = image.layer.clone();
    // One byte per connection, for ever.
    let fake = Fake::start(move |seen| ranged(seen, &blob).cut(1));
    let reader = client().blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    let (n, e) = read_all(reader).unwrap_err();
    assert!(matches!(e, RegistryError::Unreachable { .. }), "{e:?}");
    assert_eq!((n, fake.seen().len()), (4, 4));
}

#[test]
fn blobs_are_what_their_descriptor_says() {
    let image = Image::new("amd64", 50_000);
    let descriptor = image.layer_descriptor();
    let fetch = |descriptor: &Descriptor, answer: Answer| {
        let fake = Fake::start(move |_| answer.clone());
        client().blob(&reference(&fake.host, "a"), descriptor).map_err(|e| (0, e)).and_then(read_all)
    };
    let mut wrong = image.layer.clone();
    wrong[49_999] ^= 1;
    let (n, e) = fetch(&descriptor, Answer::new(200, wrong)).unwrap_err();
    assert!(matches!(e, RegistryError::Digest { .. }), "{e:?}");
    assert!(n < 50_000, "the last bytes are not handed out before they are verified");

    let mut long = image.layer.clone();
    long.push(0);
    let (n, e) = fetch(&descriptor, Answer::new(200, long.clone())).unwrap_err();
    assert!(matches!(e, RegistryError::Size { expected: 50_000, got: 50_001, .. }), "{e:?}");
    assert_eq!(n, 0);
    // The same without an announced length.
    let mut chunked = format!("{:x}\r\n", long.len()).into_bytes();
    chunked.extend(&long);
    chunked.extend(b"\r\n0\r\n\r\n");
    let answer = Answer::new(200, chunked).header("Transfer-Encoding", "chunked");
    let (n, e) = fetch(&descriptor, answer).unwrap_err();
    assert!(matches!(e, RegistryError::Size { got: 50_001, .. }), "{e:?}");
    assert!(n < 50_000);

    let (_, e) = fetch(&descriptor, Answer::new(200, &image.layer[1..])).unwrap_err();
    assert!(matches!(e, RegistryError::Size { got: 49_999, .. }), "{e:?}");

    let empty = Descriptor::of(media::LAYER, b"");
    assert_eq!(fetch(&empty, Answer::new(200, "")).unwrap(), b"");
    let (_, e) =
        fetch(&Descriptor::new(media::LAYER, descriptor.digest, 0), Answer::new(200, "")).unwrap_err();
    assert!(matches!(e, RegistryError::Digest { .. }), "{e:?}");
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let image = Image::new("amd64", 1000);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| match seen.header("range") {
        None => ranged(seen, &blob).cut(500),
        Some(_) => Answer::new(206, &blob[400..900]).header("Content-Range", "bytes 400-899/1000"),
    });
    let reader = client().blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    let (n, e) = read_all(reader).unwrap_err();
    assert!(matches!(e, RegistryError::Protocol { .. }), "{e:?}");
    assert_eq!(n, 500);
}

#[test]
fn after_an_error_every_read_fails() {
    let image = Image::new("amd64", 1000);
    let fake = Fake::start(|_| Answer::new(200, vec![0u8; 1000]));
    let mut reader = client().blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    assert!(io::copy(&mut reader, &mut io::sink()).is_err());
    assert!(reader.read(&mut [0; 10]).is_err());
}

#[test]
fn redirects() {
    let image = Image::new("amd64", 10);
    let problem = |location: &'static str| {
        let fake = Fake::start(move |_| Answer::new(307, "").header("Location", location));
        match client().blob(&reference(&fake.host, "a"), &image.layer_descriptor()) {
            // The client's look for the scheme is redirected as well, and not followed.
            Err(RegistryError::Protocol { problem, .. }) => (problem, fake.seen().len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(problem("/again"), ("it redirects too often".into(), 9));
    assert_eq!(problem("http://user:pw@127.0.0.1/"), ("it redirects to no usable address".into(), 1));
    assert_eq!(problem("file:///etc/passwd"), ("it redirects to no usable address".into(), 1));
    let fake = Fake::start(|_| Answer::new(307, ""));
    let result = client().blob(&reference(&fake.host, "a"), &image.layer_descriptor());
    assert!(matches!(result, Err(RegistryError::Protocol { .. })), "{result:?}");
}

#[test]
fn the_flag_cancels() {
    let image = Image::new("amd64", 100_000);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| ranged(seen, &blob));
    let options = options();
    let cancel = options.cancel.clone();
    let client = Client::new(options).unwrap();
    let r = reference(&fake.host, "a");
    let mut reader = client.blob(&r, &image.layer_descriptor()).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    cancel.store(true, Ordering::SeqCst);
    let (_, e) = read_all(reader).unwrap_err();
    assert!(matches!(e, RegistryError::Cancelled), "{e:?}");
    assert!(matches!(client.manifest(&r), Err(RegistryError::Cancelled)));
}

#[test]
fn shutdown_ends_a_read_that_waits() {
    let image = Image::new("amd64", 100_000);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| match seen.path() {
        "/v2/" => Answer::new(200, ""),
        _ => ranged(seen, &blob).hang(1000),
    });
    let client = client();
    let mut reader = client.blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    let waiting = std::thread::spawn(move || read_all(reader));
    // Whether it already waits does not change the outcome.
    std::thread::sleep(Duration::from_millis(50));
    client.shutdown();
    let (_, e) = waiting.join().unwrap().unwrap_err();
    assert!(matches!(e, RegistryError::Cancelled), "{e:?}");
}

#[test]
fn a_silent_connection_is_given_up() {
    let image = Image::new("amd64", 1000);
    let blob = image.layer.clone();
    let fake = Fake::start(move |seen| match (seen.path(), seen.header("range")) {
        ("/v2/", _) => Answer::new(200, ""),
        (_, None) => ranged(seen, &blob).hang(400),
        _ => ranged(seen, &blob),
    });
    let timeouts = Timeouts { read: Duration::from_secs(1), ..Timeouts::default() };
    let client = Client::new(Options { timeouts, ..options() }).unwrap();
    let reader = client.blob(&reference(&fake.host, "a"), &image.layer_descriptor()).unwrap();
    assert_eq!(read_all(reader).unwrap(), image.layer);
    assert_eq!(fake.seen()[1].header("range"), Some("bytes=400-"));
}

#[test]
fn nobody_listens() {
    // The port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    match client().manifest(&reference(&format!("127.0.0.1:{port}"), "a")) {
        Err(RegistryError::Unreachable { host, source }) => {
            assert_eq!(host, format!("127.0.0.1:{port}"));
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn mirrors_first() {
    let image = Image::new("amd64", 1000);
    let full = scripted(&image, vec![]);
    let broken = Fake::start(|_| Answer::new(404, ""));
    let origin = scripted(&image, vec![]);
    let mirror = |hosts: &[&Fake]| Mirror {
        registry: origin.host.clone(),
        hosts: hosts.iter().map(|f| f.host.clone()).collect(),
    };
    let (options, heard) = listening();
    let options = Options { mirrors: vec![mirror(&[&broken, &full])], ..options };
    let client = Client::new(options).unwrap();
    let r = reference(&origin.host, "a");
    let got = client.resolve(&r, &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!(read_all(client.blob(&r, &got.manifest.layers[0]).unwrap()).unwrap(), image.layer);
    assert_eq!(origin.seen().len(), 0);
    let gone = format!("mirror {}", broken.host);
    assert_eq!(*heard.lock().unwrap(), [gone.clone(), gone.clone(), gone]);

    let (options, _) = listening();
    let client = Client::new(Options { mirrors: vec![mirror(&[&broken])], ..options }).unwrap();
    assert_eq!(client.manifest(&r).unwrap().bytes, image.manifest);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_dead_mirror_is_asked_once() {
    let image = Image::new("amd64", 1000);
    let origin = scripted(&image, vec![]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = Mirror { registry: origin.host.clone(), hosts: vec![format!("127.0.0.1:{port}")] };
    let (options, heard) = listening();
    let client = Client::new(Options { mirrors: vec![dead], ..options }).unwrap();
    client.resolve(&reference(&origin.host, "a"), &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!(*heard.lock().unwrap(), [format!("mirror 127.0.0.1:{port}")]);
}

#[test]
fn tags_page_by_page() {
    let fake = Fake::start(|seen| match seen.target.as_str() {
        "/v2/a/tags/list?n=1000" => Answer::new(200, r#"{"name":"a","tags":["1","2","../evil"]}"#)
            .header("Link", r#"</v2/a/tags/list?n=1000&last=2>; rel="next""#),
        "/v2/a/tags/list?n=1000&last=2" => Answer::new(200, r#"{"name":"a","tags":["3"]}"#)
            .header("Link", r#"<http://127.0.0.2:1/elsewhere>; rel="next""#),
        "/v2/none/tags/list?n=1000" => Answer::new(200, r#"{"name":"none","tags":null}"#),
        _ => Answer::new(404, ""),
    });
    assert_eq!(client().tags(&reference(&fake.host, "a")).unwrap(), ["1", "2", "3"]);
    assert_eq!(client().tags(&reference(&fake.host, "none")).unwrap(), [""; 0]);
    let missing = client().tags(&reference(&fake.host, "missing"));
    assert!(matches!(missing, Err(RegistryError::NotFound { .. })), "{missing:?}");
}
