//! Who asks: tokens and passwords go where they belong, are renewed when they are refused, and are never told.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry::{Client, Credential, CredentialError, Options, RegistryError};

use crate::fake::{Answer, Fake, Seen};
use crate::{Image, client, listening, options, reference};

const PASSWORD: &str = "hunter2:with=odd/chars";

fn password() -> Credential {
    Credential::Password { username: "me".into(), password: PASSWORD.into() }
}

fn with(credential: Credential) -> Client {
    let credentials = Arc::new(move |_: &str, _: &str| Some(credential.clone()));
    Client::new(Options { credentials, ..options() }).unwrap()
}

/// base64 of `me:` and the password.
const BASIC: &str = "Basic bWU6aHVudGVyMjp3aXRoPW9kZC9jaGFycw==";

/// A registry with its own token server at `/token`. `allow` says whether a token opens a request.
fn guarded(
    image: Image,
    token: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    allow: impl Fn(&Seen, &str) -> bool + Send + Sync + 'static,
) -> Fake {
    let own = Arc::new(Mutex::new(String::new()));
    let fake = Fake::start({
        let own = own.clone();
        move |seen| {
            if seen.path() == "/token" {
                return token(seen);
            }
            match seen.header("authorization").and_then(|a| a.strip_prefix("Bearer ")) {
                Some(given) if allow(seen, given) => image.answer(seen),
                _ => {
                    let host = own.lock().unwrap();
                    let repository = seen.path().split('/').nth(2).unwrap_or_default();
                    let challenge = format!(
                        r#"Bearer realm="http://{host}/token?x=1",service="reg, istry",scope="repository:{repository}:pull""#
                    );
                    Answer::new(
                        401,
                        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
                    )
                    .header("WWW-Authenticate", challenge)
                }
            }
        }
    });
    own.lock().unwrap().clone_from(&fake.host);
    fake
}

fn give(token: &str) -> Answer {
    Answer::new(200, format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

#[test]
fn an_anonymous_token_is_fetched_once() {
    let image = Image::new("amd64", 1000);
    let fake = guarded(image.clone(), |_| give("T"), |_, token| token == "T");
    let client = client();
    let r = reference(&fake.host, "app");
    let got = client.resolve(&r, &"linux/amd64".parse().unwrap()).unwrap();
    let mut layer = Vec::new();
    client.blob(&r, &got.manifest.layers[0]).unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, image.layer);
    let tokens: Vec<Seen> = fake.seen().into_iter().filter(|s| s.path() == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].target, "/token?x=1&service=reg%2C%20istry&scope=repository%3Aapp%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
    // One refusal, and then the proof goes along from the start.
    assert_eq!(fake.count("GET /v2/app/manifests/latest"), 2);
    assert_eq!(fake.seen().len(), 5);
}

#[test]
fn a_password_goes_to_the_token_server_only() {
    let fake = guarded(
        Image::new("amd64", 10),
        |seen| if seen.header("authorization") == Some(BASIC) { give("T") } else { Answer::new(401, "") },
        |_, token| token == "T",
    );
    with(password()).manifest(&reference(&fake.host, "app")).unwrap();
    for seen in fake.seen() {
        let want = seen.path() == "/token";
        assert_eq!(seen.header("authorization") == Some(BASIC), want, "{}", seen.target);
    }
}

#[test]
fn an_identity_token_is_exchanged() {
    let fake = guarded(
        Image::new("amd64", 10),
        |seen| {
            let body = String::from_utf8(seen.body.clone()).unwrap();
            let fields: Vec<&str> = body.split('&').collect();
            let complete = [
                "grant_type=refresh_token",
                "refresh_token=R%2F1",
                "scope=repository%3Aapp%3Apull",
                "service=reg%2C%20istry",
                "client_id=layercake",
            ]
            .iter()
            .all(|f| fields.contains(f));
            match seen.method.as_str() {
                "POST" if complete => Answer::new(200, r#"{"access_token":"T"}"#),
                _ => Answer::new(401, ""),
            }
        },
        |_, token| token == "T",
    );
    with(Credential::IdentityToken("R/1".into())).manifest(&reference(&fake.host, "app")).unwrap();
}

#[test]
fn a_given_token_goes_to_the_registry_as_it_is() {
    let fake = guarded(Image::new("amd64", 10), |_| Answer::new(500, ""), |_, token| token == "GIVEN");
    with(Credential::RegistryToken("GIVEN".into())).manifest(&reference(&fake.host, "app")).unwrap();
    let result = with(Credential::RegistryToken("STALE".into())).manifest(&reference(&fake.host, "app"));
    assert!(matches!(result, Err(RegistryError::Unauthorized { anonymous: false, .. })), "{result:?}");
    assert_eq!(fake.count("GET /token"), 0);
}

#[test]
fn a_token_that_is_refused_later_is_renewed() {
    let issued = AtomicUsize::new(0);
    let uses = AtomicUsize::new(0);
    let image = Image::new("amd64", 1000);
    let fake = guarded(
        image.clone(),
        move |_| give(&format!("T{}", issued.fetch_add(1, Ordering::SeqCst))),
        // The first token is good for two requests.
        move |_, token| match token {
            "T0" => uses.fetch_add(1, Ordering::SeqCst) < 2,
            other => other == "T1",
        },
    );
    let client = client();
    let r = reference(&fake.host, "app");
    let got = client.resolve(&r, &"linux/amd64".parse().unwrap()).unwrap();
    let mut layer = Vec::new();
    client.blob(&r, &got.manifest.layers[0]).unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, image.layer);
    assert_eq!(fake.count("GET /token"), 2);
}

#[test]
fn a_token_that_opens_nothing_is_not_asked_for_again_and_again() {
    for (client, anonymous) in [(client(), true), (with(password()), false)] {
        let fake = guarded(Image::new("amd64", 10), |_| give("T"), |_, _| false);
        match client.manifest(&reference(&fake.host, "app")) {
            Err(e @ RegistryError::Unauthorized { .. }) => {
                let RegistryError::Unauthorized { host, anonymous: told, .. } = &e else { unreachable!() };
                assert_eq!((host, *told), (&fake.host, anonymous));
                assert!(e.to_string().contains("authentication required"), "{e}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fake.count("GET /token"), 1);
        assert_eq!(fake.count("GET /v2/app/manifests/latest"), 2);
    }
}

#[test]
fn a_scope_that_was_missing_is_added() {
    let fake = Fake::start(|seen| {
        let image = Image::new("amd64", 10);
        let host = seen.header("host").unwrap();
        if seen.path() == "/token" {
            let all = seen.target.contains("scope=repository%3Aapp%3Apull")
                && seen.target.contains("scope=repository%3Aparent%3Apull");
            return give(if all { "BOTH" } else { "ONE" });
        }
        let scope = match seen.header("authorization") {
            Some("Bearer BOTH") => return image.answer(seen),
            Some("Bearer ONE") => r#"repository:app:pull repository:parent:pull",error="insufficient_scope"#,
            _ => "repository:app:pull",
        };
        let challenge = format!(r#"Bearer realm="http://{host}/token",scope="{scope}""#);
        Answer::new(401, "").header("WWW-Authenticate", challenge)
    });
    client().manifest(&reference(&fake.host, "app")).unwrap();
}

#[test]
fn many_threads_need_one_token() {
    let fake = guarded(Image::new("amd64", 10), |_| give("T"), |_, token| token == "T");
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.manifest(&reference(&fake.host, "app")).unwrap());
        }
    });
    assert_eq!(fake.count("GET /token"), 1);
}

#[test]
fn basic() {
    let image = Image::new("amd64", 10);
    let fake = Fake::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => image.answer(seen),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let r = reference(&fake.host, "app");
    let known = with(password());
    known.manifest(&r).unwrap();
    known.manifest(&r).unwrap();
    let proofs: Vec<bool> = fake.seen().iter().map(|s| s.header("authorization").is_some()).collect();
    assert_eq!(proofs, [false, true, true]);

    let result = client().manifest(&r);
    assert!(matches!(result, Err(RegistryError::Unauthorized { anonymous: true, .. })), "{result:?}");
    let wrong = Credential::Password { username: "me".into(), password: "wrong-secret".into() };
    match with(wrong).manifest(&r) {
        Err(e @ RegistryError::Unauthorized { anonymous: false, .. }) => {
            assert!(!format!("{e} {e:?}").contains("wrong-secret"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_host_never_sees_the_proof() {
    let image = Image::new("amd64", 100_000);
    let cdn = Fake::start({
        let (image, tries) = (image.clone(), AtomicUsize::new(0));
        move |seen| {
            let answer = image.answer(seen);
            if tries.fetch_add(1, Ordering::SeqCst) == 0 { answer.cut(60_000) } else { answer }
        }
    });
    let fake = guarded(image.clone(), |_| give("T"), |_, token| token == "T");
    let front = Fake::start({
        let (inner, cdn) = (fake.host.clone(), cdn.host.clone());
        move |seen| match seen.header("authorization") {
            Some("Bearer T") if seen.path().contains("/blobs/") => Answer::new(307, "")
                .header("Location", format!("http://{cdn}{}?signature=s3cret", seen.path())),
            _ => Answer::new(401, "")
                .header("WWW-Authenticate", format!(r#"Bearer realm="http://{inner}/token""#)),
        }
    });
    let r = reference(&front.host, "app");
    let mut layer = Vec::new();
    with(password()).blob(&r, &image.layer_descriptor()).unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, image.layer);
    let seen = cdn.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|s| s.header("authorization").is_none()), "{seen:?}");
    assert_eq!(seen[1].header("range"), Some("bytes=60000-"), "resumed through the registry's new redirect");
    // A CDN that refuses is no reason to send it the password, and its signed address is not told.
    let cdn =
        Fake::start(|_| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"give it to me\""));
    let front = Fake::start({
        let cdn = cdn.host.clone();
        move |_| Answer::new(307, "").header("Location", format!("http://{cdn}/x?signature=s3cret"))
    });
    let e = with(password()).blob(&reference(&front.host, "app"), &image.layer_descriptor()).unwrap_err();
    assert!(matches!(e, RegistryError::Unauthorized { .. }), "{e:?}");
    assert!(!format!("{e} {e:?}").contains("s3cret"));
    assert_eq!(front.seen().len(), 1, "nor does its challenge count for the registry");
    assert!(cdn.seen().iter().all(|s| s.header("authorization").is_none()));
}

#[test]
fn a_token_server_that_redirects_elsewhere_does_not_take_the_password_along() {
    let other = Fake::start(|_| give("T"));
    let target = format!("http://{}/steal", other.host);
    let fake = guarded(
        Image::new("amd64", 10),
        move |_| Answer::new(302, "").header("Location", &target),
        |_, token| token == "T",
    );
    with(password()).manifest(&reference(&fake.host, "app")).unwrap();
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[test]
fn token_servers_that_misbehave() {
    for (answer, want) in [
        (Answer::new(200, r#"{"token":"#), "its token answer is not JSON"),
        (Answer::new(200, r#"{"token":""}"#), "its token answer holds no token"),
        (Answer::new(200, "{\"token\":\"a\\nb\"}"), "characters that no header may have"),
        (Answer::new(200, vec![b' '; 2 << 20]), "the limit is"),
        (Answer::new(404, "{}"), "was not found"),
        (Answer::new(400, "{}"), "the credentials were not accepted"),
        (
            Answer::new(401, r#"{"details":"incorrect username or password"}"#),
            "incorrect username or password",
        ),
    ] {
        let fake = guarded(Image::new("amd64", 10), move |_| answer.clone(), |_, _| true);
        let e = with(password()).manifest(&reference(&fake.host, "app")).unwrap_err();
        assert!(e.to_string().contains(want), "{e}");
        assert!(!format!("{e} {e:?}").contains("hunter2"));
    }
    // It is tried again, as everything else.
    let tries = AtomicUsize::new(0);
    let fake = guarded(
        Image::new("amd64", 10),
        move |_| if tries.fetch_add(1, Ordering::SeqCst) == 0 { Answer::new(503, "") } else { give("T") },
        |_, token| token == "T",
    );
    client().manifest(&reference(&fake.host, "app")).unwrap();
}

#[derive(Debug)]
struct Broken;

impl registry::Credentials for Broken {
    fn get(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Err(CredentialError::HelperName("a/b".into()))
    }
}

#[test]
fn a_broken_keychain_does_not_keep_from_public_images() {
    let (listening, heard) = listening();
    let open = guarded(Image::new("amd64", 10), |_| give("T"), |_, token| token == "T");
    let client = Client::new(Options { credentials: Arc::new(Broken), ..listening }).unwrap();
    client.manifest(&reference(&open.host, "app")).unwrap();
    let want = format!("credentials {} \"a/b\" is not the name of a credential helper", open.host);
    assert_eq!(*heard.lock().unwrap(), [want]);
    // Where it matters, it is the error.
    let closed = guarded(Image::new("amd64", 10), |_| Answer::new(401, ""), |_, _| false);
    let client = Client::new(Options { credentials: Arc::new(Broken), ..options() }).unwrap();
    let result = client.manifest(&reference(&closed.host, "app"));
    assert!(matches!(result, Err(RegistryError::Credentials { .. })), "{result:?}");
}

#[test]
fn login_is_checked() {
    let fake = guarded(
        Image::new("amd64", 10),
        |seen| if seen.header("authorization") == Some(BASIC) { give("T") } else { Answer::new(401, "") },
        |_, token| token == "T",
    );
    client().login_check(&fake.host, &password()).unwrap();
    let token = fake.seen().into_iter().find(|s| s.path() == "/token").unwrap();
    assert!(!token.target.contains("scope=repository%3Aapp"), "{}", token.target);
    let wrong = Credential::Password { username: "me".into(), password: "no".into() };
    match client().login_check(&fake.host, &wrong) {
        Err(RegistryError::Unauthorized { host, anonymous: false, .. }) => assert_eq!(host, fake.host),
        other => panic!("{other:?}"),
    }
}
