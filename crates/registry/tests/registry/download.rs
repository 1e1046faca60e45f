//! Plain files.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use registry::{Get, RegistryError};

use crate::fake::{Answer, Fake};
use crate::{client, options};

fn get(url: &str) -> Get<'_> {
    Get { url, authorization: None, etag: None }
}

#[test]
fn a_file_with_its_time_and_tag() {
    let server = Fake::start(|seen| match (seen.target.as_str(), seen.header("if-none-match")) {
        ("/f?x=1", Some("\"one\"")) => Answer::new(304, ""),
        ("/f?x=1", None) => Answer::new(200, "text")
            .header("ETag", "\"one\"")
            .header("Last-Modified", "Sat, 01 Jan 2022 00:00:00 GMT"),
        _ => Answer::new(404, "no"),
    });
    let url = format!("http://{}/f?x=1#part", server.host);
    let mut got = client().get(&get(&url)).unwrap();
    let mut text = String::new();
    got.read_to_string(&mut text).unwrap();
    assert_eq!((got.status, text.as_str(), got.etag.as_deref()), (200, "text", Some("\"one\"")));
    assert_eq!(got.modified.map(|t| t.secs), Some(1_640_995_200));
    let again = client().get(&Get { etag: Some("\"one\""), ..get(&url) }).unwrap();
    assert_eq!(again.status, 304);
    assert_eq!(client().get(&get(&format!("http://{}/g", server.host))).unwrap().status, 404);
}

#[test]
fn credentials_stay_with_their_host() {
    let other = Fake::start(|_| Answer::new(200, "there"));
    let to = format!("http://{}/moved", other.host);
    let server = Fake::start(move |seen| match seen.path() {
        "/away" => Answer::new(302, "").header("Location", &to),
        "/near" => Answer::new(301, "").header("Location", "/here"),
        _ => Answer::new(200, "here"),
    });
    let (away, near) = (format!("http://{}/away", server.host), format!("http://me:pw@{}/near", server.host));
    client().get(&Get { authorization: Some("Bearer secret"), ..get(&away) }).unwrap();
    client().get(&get(&near)).unwrap();
    let sent = |s: &crate::fake::Seen| s.header("authorization").map(str::to_owned);
    let bearer = Some("Bearer secret".to_owned());
    let basic = Some(format!("Basic {}", registry::basic_credentials("me", "pw")));
    assert_eq!(server.seen().iter().map(sent).collect::<Vec<_>>(), [bearer, basic.clone(), basic]);
    assert_eq!(other.seen().iter().map(sent).collect::<Vec<_>>(), [None]);
}

#[test]
fn failures_that_pass_are_tried_again() {
    let tries = AtomicUsize::new(0);
    let server = Fake::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(503, ""),
        1 => Answer::none(),
        _ => Answer::new(200, "at last"),
    });
    assert_eq!(client().get(&get(&format!("http://{}/f", server.host))).unwrap().status, 200);
    assert_eq!(server.count("GET /f"), 3);
}

#[test]
fn half_a_file_is_an_error() {
    let server = Fake::start(|_| Answer::new(200, "0123456789").cut(4));
    let mut got = client().get(&get(&format!("http://{}/f", server.host))).unwrap();
    let mut bytes = Vec::new();
    assert!(got.read_to_end(&mut bytes).is_err(), "{bytes:?}");
}

#[test]
fn what_cannot_be_asked_for() {
    let asked = |get: &Get<'_>| client().get(get).unwrap_err();
    assert!(matches!(asked(&get("ftp://h/")), RegistryError::Protocol { .. }));
    let bad = Get { authorization: Some("a\nb"), ..get("http://127.0.0.1:1/") };
    assert!(matches!(asked(&bad), RegistryError::Protocol { .. }));
    let stopped = registry::Client::new(options()).unwrap();
    stopped.shutdown();
    assert!(matches!(stopped.get(&get("http://127.0.0.1:1/")), Err(RegistryError::Cancelled)));
}
