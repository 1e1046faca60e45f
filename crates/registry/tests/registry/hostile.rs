//! Servers that mean harm: answers without an end, answers that come drop by drop, and questions for credentials that are none of their
//! business.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oci::types::{Descriptor, media};
use oci::{Digest, Reference};
use registry::{Client, Credential, Get, Options, RegistryError, Timeouts};
use serde_json::json;

use crate::fake::{Answer, Fake, Flow, Seen};
use crate::{Image, client, options, reference};

/// Every limit of time is short, and a single try is made: that there is an end is what counts.
fn hasty() -> Client {
    let short = Duration::from_millis(600);
    let timeouts = Timeouts {
        read: short,
        slowest: 10_000,
        document: 2 * short,
        whole: 4 * short,
        ..Timeouts::default()
    };
    let mut options = Options { timeouts, ..options() };
    options.retry.attempts = 1;
    Client::new(options).unwrap()
}

/// A registry whose manifests, or all else, are answered by `answer`.
fn bad(image: &Image, what: &'static str, answer: Answer) -> (Fake, Reference) {
    let image = image.clone();
    let fake = Fake::start(move |seen| match seen.path() {
        path if path.contains(what) => answer.clone(),
        _ => image.answer(seen),
    });
    let r = reference(&fake.host, "a");
    (fake, r)
}

#[test]
fn drop_by_drop_is_too_slow() {
    let image = Image::new("amd64", 1 << 20);
    let slow = |flow| Answer::new(200, "x").flow(flow);
    for flow in [Flow::Drip, Flow::Headers, Flow::Soon, Flow::ChunkSize] {
        let (_fake, r) = bad(&image, "/manifests/", slow(flow));
        let e = hasty().manifest(&r).unwrap_err();
        assert!(
            matches!(e, RegistryError::Unreachable { .. } | RegistryError::Protocol { .. }),
            "{flow:?}: {e:?}"
        );
        let (_fake, r) = bad(&image, "/blobs/", slow(flow));
        let read = hasty().blob(&r, &image.layer_descriptor()).map(|mut b| b.read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "{flow:?}: {read:?}");
        let fake = Fake::start(move |_| slow(flow));
        let url = format!("http://{}/f", fake.host);
        let got = hasty().get(&Get { url: &url, authorization: None, etag: None });
        let read = got.map(|mut g| g.read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "{flow:?}: {read:?}");
    }
    // An explanation that never ends is none, and the refusal is told.
    let (_fake, r) = bad(&image, "/manifests/", Answer::new(403, "x").flow(Flow::Drip));
    assert!(matches!(hasty().manifest(&r), Err(RegistryError::Denied { .. })));
}

#[test]
fn a_flood_is_cut_off() {
    let image = Image::new("amd64", 100_000);
    let flood = |status| Answer::new(status, vec![b' '; 1 << 16]).flow(Flow::Body);
    let (_fake, r) = bad(&image, "/manifests/", flood(200));
    let e = client().manifest(&r).unwrap_err().to_string();
    assert!(e.contains("its manifest has 4194305 bytes or more, the limit is 4194304"), "{e}");
    let (_fake, r) = bad(&image, "/tags/", flood(200));
    let e = client().tags(&r).unwrap_err().to_string();
    assert!(e.contains("the limit is"), "{e}");
    let (_fake, r) = bad(&image, "/manifests/", flood(404));
    assert!(matches!(client().manifest(&r), Err(RegistryError::NotFound { .. })));
    // A blob ends where its descriptor says, and is none if more comes.
    let (_fake, r) = bad(&image, "/blobs/", flood(200));
    let mut blob = client().blob(&r, &image.layer_descriptor()).unwrap();
    let mut got = Vec::new();
    let e = RegistryError::from_io(blob.read_to_end(&mut got).unwrap_err()).unwrap();
    assert!(matches!(e, RegistryError::Size { .. } | RegistryError::Digest { .. }), "{e:?}");
    assert!(got.len() <= image.layer.len());
    // Headers without an end.
    let big = Answer::new(200, "").header("X", "y".repeat(1 << 20));
    let (_fake, r) = bad(&image, "/manifests/", big);
    let e = client().manifest(&r).unwrap_err();
    assert!(matches!(e, RegistryError::Protocol { .. } | RegistryError::Unreachable { .. }), "{e:?}");
}

#[test]
fn pages_that_lead_in_a_circle_end() {
    let fake = Fake::start(|seen| match seen.target.as_str() {
        "/v2/" => Answer::new(200, ""),
        t if t.ends_with("at=a") => {
            Answer::new(200, r#"{"tags":["x"]}"#).header("Link", r#"</v2/a/tags/list?at=b>; rel="next""#)
        }
        _ => Answer::new(200, r#"{"tags":["x"]}"#).header("Link", r#"</v2/a/tags/list?at=a>; rel="next""#),
    });
    let e = client().tags(&reference(&fake.host, "a")).unwrap_err().to_string();
    assert!(e.contains("its list of tags has no end"), "{e}");
}

#[test]
fn documents_that_go_round_or_are_huge() {
    // An index cannot hold its own digest; one that claims to is another document.
    let lie = Digest::of(b"an index that holds itself");
    let list = |entries: Vec<Descriptor>| {
        json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": entries}).to_string().into_bytes()
    };
    let itself = list(vec![Descriptor::new(media::INDEX, lie, 100)]);
    let served = itself.clone();
    let fake = Fake::start(move |_| Answer::new(200, served.clone()).header("Content-Type", media::INDEX));
    let platform = "linux/amd64".parse().unwrap();
    let e = client().resolve(&reference(&fake.host, "a"), &platform).unwrap_err();
    assert!(matches!(e, RegistryError::Digest { .. }), "{e:?}");
    // Indexes in indexes.
    let mut documents = vec![itself];
    for _ in 0..10 {
        let inner = documents.last().unwrap();
        documents.push(list(vec![Descriptor::of(media::INDEX, inner)]));
    }
    let served = documents.clone();
    let fake = Fake::start(move |seen| {
        let name = seen.path().rsplit('/').next().unwrap().to_owned();
        let found = served.iter().find(|d| Digest::of(d).to_string() == name);
        Answer::new(200, found.unwrap_or(&served[10]).clone()).header("Content-Type", media::INDEX)
    });
    let e = client().resolve(&reference(&fake.host, "a"), &platform).unwrap_err().to_string();
    assert!(e.contains("indexes are nested too deeply"), "{e}");
    assert!(fake.seen().len() <= 4, "{:?}", fake.lines());
    // As many manifests as a document holds, none of which will do; and one document that is larger.
    let other = |n: u32| {
        let digest = Digest::of(&n.to_le_bytes());
        let mut d = serde_json::to_value(Descriptor::new(media::MANIFEST, digest, 1)).unwrap();
        d["platform"] = json!({"os": "linux", "architecture": format!("cpu{n}")});
        d
    };
    for (count, want) in [(15_000, "and 14970 more"), (100_000, "the limit is 4194304")] {
        let all: Vec<_> = (0..count).map(other).collect();
        let text = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": all}).to_string();
        let fake = Fake::start(move |_| Answer::new(200, text.clone()).header("Content-Type", media::INDEX));
        let e = client().resolve(&reference(&fake.host, "a"), &platform).unwrap_err().to_string();
        assert!(e.contains(want) && e.len() < 3000, "{e}");
    }
    // Deep nesting in a field that nobody knows.
    let deep = format!(r#"{{"manifests":[],"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let fake = Fake::start(move |_| Answer::new(200, deep.clone()).header("Content-Type", media::INDEX));
    let e = client().resolve(&reference(&fake.host, "a"), &platform).unwrap_err();
    assert!(matches!(e, RegistryError::Manifest { .. }), "{e:?}");
}

fn with(credential: Credential) -> Client {
    let credentials = Arc::new(move |_: &str, _: &str| Some(credential.clone()));
    Client::new(Options { credentials, ..options() }).unwrap()
}

fn password() -> Credential {
    Credential::Password { username: "me".into(), password: "hunter2".into() }
}

fn challenge(realm: &str) -> Answer {
    Answer::new(401, "").header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
}

/// Whether any part of the request could be a credential or a token.
fn gives_away(seen: &Seen) -> bool {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    seen.header("authorization").is_some() || body.contains("hunter2") || seen.target.contains("hunter2")
}

#[test]
fn the_registry_alone_says_who_its_token_server_is() {
    // A token server of another host, as Docker Hub's is.
    let token = Fake::start(|_| Answer::new(200, r#"{"token":"T"}"#));
    let image = Image::new("amd64", 100);
    let front = Fake::start({
        let (image, realm) = (image.clone(), format!("http://{}/token", token.host));
        move |seen| match seen.header("authorization") {
            Some("Bearer T") => image.answer(seen),
            _ => challenge(&realm),
        }
    });
    with(password()).manifest(&reference(&front.host, "a")).unwrap();
    assert_eq!(token.seen()[0].header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    let given: Vec<_> = front.seen().iter().map(|s| s.header("authorization").map(str::to_owned)).collect();
    assert_eq!(given, [None, Some("Bearer T".into())], "the password goes to the token server alone");
    // Whom the registry redirects to has no say.
    let thief = Fake::start(|_| Answer::new(200, r#"{"token":"T"}"#));
    let realm = format!("http://{}/token", thief.host);
    let middle = Fake::start(move |_| challenge(&realm));
    let to = format!("http://{}/x", middle.host);
    let front = Fake::start(move |_| Answer::new(307, "").header("Location", &to));
    let e = with(password()).manifest(&reference(&front.host, "a")).unwrap_err();
    assert!(matches!(e, RegistryError::Unauthorized { .. }), "{e:?}");
    assert!(thief.seen().is_empty() && !middle.seen().iter().any(gives_away), "{:?}", middle.seen());
}

#[test]
fn no_credential_goes_to_a_strange_host_in_plain_text() {
    // The name cannot be found: a request would fail as unreachable.
    let front = Fake::start(|_| challenge("http://registry.invalid/token"));
    let r = reference(&front.host, "a");
    for credential in [password(), Credential::IdentityToken("hunter2".into())] {
        let e = with(credential).manifest(&r).unwrap_err();
        assert!(e.to_string().contains("would get the credentials over plain http"), "{e}");
    }
    let e = client().manifest(&r).unwrap_err();
    assert!(matches!(e, RegistryError::Unreachable { .. }), "anonymous tokens are no secret: {e:?}");
    for realm in ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user:pw@127.0.0.1/", "/token", ""] {
        let front = Fake::start(move |_| challenge(realm));
        let e = with(password()).manifest(&reference(&front.host, "a")).unwrap_err();
        assert!(
            matches!(e, RegistryError::Protocol { .. } | RegistryError::Unreachable { .. }),
            "{realm}: {e:?}"
        );
    }
}

#[test]
fn an_identity_token_is_not_redirected() {
    let thief = Fake::start(|_| Answer::new(200, r#"{"token":"T"}"#));
    let to = format!("http://{}/token", thief.host);
    let token = Fake::start(move |_| Answer::new(307, "").header("Location", &to));
    let realm = format!("http://{}/token", token.host);
    let front = Fake::start(move |_| challenge(&realm));
    let e =
        with(Credential::IdentityToken("hunter2".into())).manifest(&reference(&front.host, "a")).unwrap_err();
    assert!(e.to_string().contains("holds a credential"), "{e}");
    assert!(gives_away(&token.seen()[0]), "the test can see it");
    assert!(thief.seen().is_empty(), "{:?}", thief.seen());
}

#[test]
fn links_and_locations_of_other_hosts_get_no_proof() {
    let other = Fake::start(|_| Answer::new(200, r#"{"tags":["y"]}"#));
    let to = format!("http://{}/v2/a/tags/list", other.host);
    let tries = AtomicUsize::new(0);
    let front = Fake::start(move |seen| match seen.header("authorization") {
        None => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
            Answer::new(200, r#"{"tags":["x"]}"#).header("Link", format!(r#"<{to}>; rel="next""#))
        }
        Some(_) => Answer::new(302, "").header("Location", &to),
    });
    let client = with(password());
    let r = reference(&front.host, "a");
    assert_eq!(client.tags(&r).unwrap(), ["x"], "the next page lies elsewhere and is not looked at");
    assert!(other.seen().is_empty());
    assert_eq!(client.tags(&r).unwrap(), ["y"]);
    assert!(other.seen().len() == 1 && !gives_away(&other.seen()[0]), "{:?}", other.seen());
}
