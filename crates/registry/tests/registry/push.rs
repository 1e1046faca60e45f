//! Pushing: nothing is sent twice that is there, and what fails starts again.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use oci::Digest;
use oci::types::{Descriptor, media};
use registry::{Client, Credential, Options, Pushed, RegistryError};

use crate::fake::{Answer, Fake, Seen};
use crate::{client, options, reference};

type Store = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A registry in memory: blobs by digest, uploads at `/up/N?state=a/b`.
fn memory(store: Store, special: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) -> Fake {
    Fake::start(move |seen| {
        if let Some(answer) = special(seen) {
            return answer;
        }
        let mut store = store.lock().unwrap();
        let name = seen.path().rsplit('/').next().unwrap().to_owned();
        match seen.method.as_str() {
            "HEAD" => Answer::new(if store.contains_key(&name) { 200 } else { 404 }, ""),
            "POST" => Answer::new(202, "").header("Location", "/up/1?state=a/b"),
            "PUT" if seen.path().contains("/manifests/") => {
                let digest = Digest::of(&seen.body);
                store.insert(name, seen.body.clone());
                Answer::new(201, "").header("Docker-Content-Digest", digest)
            }
            "PUT" => {
                let digest = Digest::of(&seen.body);
                if seen.target != format!("/up/1?state=a/b&digest={digest}") {
                    return Answer::new(
                        400,
                        r#"{"errors":[{"code":"DIGEST_INVALID","message":"digest invalid"}]}"#,
                    );
                }
                store.insert(digest.to_string(), seen.body.clone());
                Answer::new(201, "")
            }
            _ => Answer::new(200, ""),
        }
    })
}

fn push(
    client: &Client,
    fake: &Fake,
    blob: &[u8],
    mount_from: Option<&str>,
) -> (Result<Pushed, RegistryError>, Vec<u64>) {
    let mut steps = Vec::new();
    let bytes = blob.to_vec();
    let open = move || Ok(Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read>);
    let descriptor = Descriptor::of(media::LAYER, blob);
    let r = reference(&fake.host, "team/app");
    let result = client.push_blob(&r, &descriptor, &open, mount_from, &mut |n| steps.push(n));
    (result, steps)
}

fn blob() -> Vec<u8> {
    (0..500_000u32).map(|i| (i * 31 / 7) as u8).collect()
}

#[test]
fn a_blob_is_sent_once() {
    let store = Store::default();
    let fake = memory(store.clone(), |_| None);
    let (result, steps) = push(&client(), &fake, &blob(), None);
    assert_eq!(result.unwrap(), Pushed::Uploaded);
    assert_eq!(store.lock().unwrap()[&Digest::of(&blob()).to_string()], blob());
    assert!(steps.is_sorted() && steps.first() == Some(&0) && steps.last() == Some(&500_000), "{steps:?}");
    let put = fake.seen().pop().unwrap();
    assert_eq!(put.header("content-length"), Some("500000"));
    assert_eq!(put.header("transfer-encoding"), None);

    let (result, steps) = push(&client(), &fake, &blob(), None);
    assert_eq!((result.unwrap(), steps.len()), (Pushed::Exists, 0));
    assert_eq!(fake.lines().iter().filter(|l| l.starts_with("PUT")).count(), 1);

    let empty = push(&client(), &fake, b"", None).0.unwrap();
    assert_eq!(empty, Pushed::Uploaded);
}

#[test]
fn a_blob_of_another_repository_is_taken_over() {
    let fake = memory(Store::default(), |seen| (seen.method == "POST").then(|| Answer::new(201, "")));
    let (result, steps) = push(&client(), &fake, &blob(), Some("library/base"));
    assert_eq!((result.unwrap(), steps.len()), (Pushed::Mounted, 0));
    let want = format!("/v2/team/app/blobs/uploads/?mount={}&from=library%2Fbase", Digest::of(&blob()));
    assert_eq!(fake.seen()[1].target, want);
}

#[test]
fn a_refused_take_over_becomes_an_upload() {
    // 202 is the polite refusal; others are seen, too.
    for status in [202, 400, 401, 403, 404, 405] {
        let fake = memory(Store::default(), move |seen| {
            (seen.method == "POST" && seen.target.contains("mount=") && status != 202)
                .then(|| Answer::new(status, ""))
        });
        let (result, _) = push(&client(), &fake, &blob(), Some("base"));
        assert_eq!(result.unwrap(), Pushed::Uploaded, "{status}");
    }
    // Its own repository is nothing to take over from.
    let fake = memory(Store::default(), |_| None);
    push(&client(), &fake, &blob(), Some("team/app")).0.unwrap();
    assert!(!fake.seen()[1].target.contains("mount="));
}

#[test]
fn a_failed_upload_starts_again() {
    for broken in [Answer::new(500, ""), Answer::none()] {
        let tries = AtomicUsize::new(0);
        let store = Store::default();
        let fake = memory(store.clone(), move |seen| {
            (seen.method == "PUT" && tries.fetch_add(1, Ordering::SeqCst) < 2).then(|| broken.clone())
        });
        let (result, steps) = push(&client(), &fake, &blob(), None);
        assert_eq!(result.unwrap(), Pushed::Uploaded);
        assert_eq!(steps.iter().filter(|n| **n == 0).count(), 3, "progress starts again");
        let posts = fake.lines().iter().filter(|l| l.starts_with("POST")).count();
        assert_eq!(posts, 3);
        assert_eq!(store.lock().unwrap()[&Digest::of(&blob()).to_string()], blob());
    }
}

#[test]
fn what_a_registry_refuses_is_final() {
    let fake = memory(Store::default(), |seen| {
        (seen.method == "PUT")
            .then(|| Answer::new(413, r#"{"errors":[{"code":"SIZE_INVALID","message":"too big"}]}"#))
    });
    match push(&client(), &fake, &blob(), None).0 {
        Err(RegistryError::Server { status: 413, message, .. }) => {
            assert_eq!(message, "too big (SIZE_INVALID)")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.lines().iter().filter(|l| l.starts_with("PUT")).count(), 1);
}

#[test]
fn a_source_that_fails_is_told_as_such() {
    let fake = memory(Store::default(), |_| None);
    let r = reference(&fake.host, "team/app");
    let descriptor = Descriptor::of(media::LAYER, &blob());
    let short = || Ok(Box::new(io::Cursor::new(vec![0u8; 10])) as Box<dyn Read>);
    match client().push_blob(&r, &descriptor, &short, None, &mut |_| {}) {
        Err(RegistryError::Source { source, .. }) => {
            assert_eq!(source.to_string(), "it is 499990 bytes shorter than its descriptor says");
        }
        other => panic!("{other:?}"),
    }
    let missing = || Err(io::Error::new(io::ErrorKind::NotFound, "gone"));
    match client().push_blob(&r, &descriptor, &missing, None, &mut |_| {}) {
        Err(RegistryError::Source { source, .. }) => assert_eq!(source.to_string(), "gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelled_while_sending() {
    let fake = memory(Store::default(), |_| None);
    let options = options();
    let cancel = options.cancel.clone();
    let client = Client::new(options).unwrap();
    let r = reference(&fake.host, "team/app");
    let open = || Ok(Box::new(io::Cursor::new(blob())) as Box<dyn Read>);
    let descriptor = Descriptor::of(media::LAYER, &blob());
    let mut most = 0;
    let mut stop = |n: u64| {
        cancel.store(n > 0, Ordering::SeqCst);
        most = n;
    };
    let result = client.push_blob(&r, &descriptor, &open, None, &mut stop);
    assert!(matches!(result, Err(RegistryError::Cancelled)), "{result:?}");
    assert!(most < 500_000, "it stopped on the way");
}

#[test]
fn an_upload_elsewhere_gets_no_proof() {
    let store = Store::default();
    let elsewhere = memory(store.clone(), |_| None);
    let address = format!("http://{}/up/1?state=a/b", elsewhere.host);
    let fake = memory(Store::default(), move |seen| {
        if seen.header("authorization").is_none() {
            return Some(Answer::new(401, "").header("WWW-Authenticate", "Basic"));
        }
        (seen.method == "POST").then(|| Answer::new(202, "").header("Location", &address))
    });
    let credentials = Arc::new(|_: &str, _: &str| {
        Some(Credential::Password { username: "me".into(), password: "pw".into() })
    });
    let client = Client::new(Options { credentials, ..options() }).unwrap();
    push(&client, &fake, &blob(), None).0.unwrap();
    assert_eq!(store.lock().unwrap().len(), 1);
    assert!(elsewhere.seen().iter().all(|s| s.header("authorization").is_none()));
}

#[test]
fn manifests() {
    let store = Store::default();
    let fake = memory(store.clone(), |_| None);
    let bytes = br#"{"schemaVersion":2}"#;
    let r = reference(&fake.host, "team/app:1.0");
    assert_eq!(client().push_manifest(&r, media::MANIFEST, bytes).unwrap(), Digest::of(bytes));
    assert_eq!(store.lock().unwrap()["1.0"], bytes);
    assert_eq!(fake.seen()[0].header("content-type"), Some(media::MANIFEST));
    let by_digest = r.with_digest(Digest::of(bytes));
    client().push_manifest(&by_digest, media::MANIFEST, bytes).unwrap();
    assert!(store.lock().unwrap().contains_key(&Digest::of(bytes).to_string()));

    let result = client().push_manifest(&r.with_digest(Digest::of(b"x")), media::MANIFEST, bytes);
    assert!(matches!(result, Err(RegistryError::Manifest { .. })), "{result:?}");
    let result = client().push_manifest(&r, media::MANIFEST, &vec![b' '; 5 << 20]);
    assert!(matches!(result, Err(RegistryError::Manifest { .. })), "{result:?}");

    let liar = Fake::start(|_| Answer::new(201, "").header("Docker-Content-Digest", Digest::of(b"x")));
    let result = client().push_manifest(&reference(&liar.host, "a"), media::MANIFEST, bytes);
    assert!(matches!(result, Err(RegistryError::Digest { .. })), "{result:?}");
}
