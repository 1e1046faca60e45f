//! How a registry learns who asks: nothing, Basic, or Bearer tokens (distribution project, "Token Authentication").
//!
//! The first request of a host goes out without proof. A 401 brings the challenge, which is kept; from then on requests carry their
//! proof from the start. For Bearer:
//!
//! ```text
//! GET  realm?service=S&scope=repository:a/b:pull[&scope=...]     with Basic credentials, or without any (anonymous token)
//! POST realm  grant_type=refresh_token&...                      with an identity token
//! -> { "token" | "access_token": "...", "expires_in": seconds (60 if missing) }
//! ```
//!
//! Tokens are kept per set of scopes until shortly before their end. A 401 in spite of a kept token drops it and gets a new
//! one, with the scopes that the challenge names added; a 401 in spite of a token that was just made is final.
//!
//! # Where credentials go
//!
//! To the registry itself, or to the token server that it names. That one may be another host: Docker Hub's is `auth.docker.io`, and others
//! lie in other domains, so no comparison of names tells a right one from a wrong one. What makes it right is who says so: the
//! registry that the credential is for, which could as well ask for it by Basic. So
//!
//! - only a challenge that came from the registry's own scheme, host and port counts, never one behind a redirect;
//! - a token server without TLS gets no credential, unless the user allows plain http to that very host (loopback hosts, and
//!   those listed as insecure); one of an https registry gets not even a request;
//! - neither password nor identity token follows a redirect to another host, and tokens that were made go to the registry only.
//!
//! One host's tokens are fetched one at a time: twelve downloads that start at once need one token, not twelve.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::{HeaderValue, Method, Uri};

use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, CredentialError, Credentials};
use crate::error::RegistryError;
use crate::http::{Http, Outgoing, Payload, Reply};
use crate::options::Event;
use crate::url::{escape, join, same_origin};
use oci::base64;

/// What a request wants to do, in the token server's words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Want {
    /// The repository that it is about; empty for the registry as a whole.
    pub(crate) repository: String,
    /// `repository:NAME:ACTIONS`, one each.
    scopes: BTreeSet<String>,
}

impl Want {
    /// To read a repository.
    pub(crate) fn pull(repository: &str) -> Want {
        Want {
            repository: repository.to_owned(),
            scopes: BTreeSet::from([format!("repository:{repository}:pull")]),
        }
    }

    /// To write a repository, and to read another one, from which blobs are taken.
    pub(crate) fn push(repository: &str, mount_from: Option<&str>) -> Want {
        let mut scopes = BTreeSet::from([format!("repository:{repository}:pull,push")]);
        scopes.extend(mount_from.map(|from| format!("repository:{from}:pull")));
        Want { repository: repository.to_owned(), scopes }
    }
}

/// Where credentials come from.
#[derive(Clone)]
enum Source {
    Configured(Arc<dyn Credentials>),
    Fixed(Credential),
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    usable_until: Instant,
}

/// A proof for one request.
struct Proof {
    header: HeaderValue,
    kind: Kind,
}

enum Kind {
    /// User name and password.
    Basic,
    /// A bearer token that the user gave.
    Given,
    /// A token from the token server: its key, and whether it was made for this very request.
    Token { key: String, fresh: bool },
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
    credentials: HashMap<String, Option<Credential>>,
    /// Why configured credentials could not be had.
    failure: Option<CredentialError>,
}

/// A registry host: its address and what it was told about us.
pub(crate) struct Host {
    /// The registry as in references; credentials are looked up by it.
    pub(crate) registry: String,
    /// `scheme://host/`.
    pub(crate) base: Uri,
    source: Source,
    state: Mutex<State>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Host {
    /// A host whose credentials are looked up.
    pub(crate) fn new(registry: &str, base: Uri, credentials: Arc<dyn Credentials>) -> Host {
        Host {
            registry: registry.to_owned(),
            base,
            source: Source::Configured(credentials),
            state: Mutex::default(),
        }
    }

    /// A host and the one credential for it.
    pub(crate) fn with_credential(registry: &str, base: Uri, credential: Credential) -> Host {
        Host {
            registry: registry.to_owned(),
            base,
            source: Source::Fixed(credential),
            state: Mutex::default(),
        }
    }

    /// `host[:port]`.
    pub(crate) fn name(&self) -> &str {
        self.base.authority().map_or("", |a| a.as_str())
    }

    /// A URL on the host. `path` starts with `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Result<Uri, RegistryError> {
        join(&self.base, path)
            .ok_or_else(|| RegistryError::protocol(self.name(), "the name cannot be part of a URL"))
    }

    /// Sends a request with the proof that the host wants. `what` names the thing asked for in errors. Any status but 401 is a
    /// success here; one request is tried once, but for getting a proof.
    pub(crate) fn send(
        &self,
        http: &Http,
        want: &Want,
        what: &str,
        out: &mut Outgoing<'_>,
    ) -> Result<Reply, RegistryError> {
        self.exchange(http, want, what, out).map_err(|e| self.renamed(e))
    }

    fn exchange(
        &self,
        http: &Http,
        want: &Want,
        what: &str,
        out: &mut Outgoing<'_>,
    ) -> Result<Reply, RegistryError> {
        let mut scopes = want.scopes.clone();
        for _ in 0..3 {
            let proof = self.proof(http, want, what, &scopes)?;
            out.authorization = proof.as_ref().map(|p| (self.base.clone(), p.header.clone()));
            let reply = http.send(out)?;
            if reply.status != 401 {
                return Ok(reply);
            }
            // A host that we were redirected to never sees a proof.
            if !same_origin(&reply.url, &self.base) {
                return Err(reply.into_error(what, true));
            }
            if !self.learn(&reply, proof.as_ref(), &mut scopes) {
                return Err(self.refused(reply, what, want));
            }
        }
        Err(RegistryError::protocol(self.name(), "it refuses the tokens that it asked for"))
    }

    /// Refusals name the registry as people do when they log in, not its API or token host.
    pub(crate) fn renamed(&self, mut error: RegistryError) -> RegistryError {
        if let RegistryError::Unauthorized { host, .. } | RegistryError::Denied { host, .. } = &mut error {
            host.clone_from(&self.registry);
        }
        error
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a 401. `false`: another try makes no sense.
    fn learn(&self, reply: &Reply, proof: Option<&Proof>, scopes: &mut BTreeSet<String>) -> bool {
        let headers = reply.headers.get_all(WWW_AUTHENTICATE);
        let Some(asked) = challenge::choose(headers.iter().filter_map(|v| v.to_str().ok())) else {
            return false;
        };
        let mut more = false;
        if let Challenge::Bearer { scope: Some(scope), .. } = &asked {
            // Bounded: the scopes go into a URL.
            for scope in scope.split(' ').filter(|s| !s.is_empty() && scope.len() <= 1024) {
                more |= scopes.len() < 8 && scopes.insert(scope.to_owned());
            }
        }
        let mut state = self.state();
        let again = match proof {
            None => true,
            Some(Proof { kind: Kind::Basic, .. }) => asked != Challenge::Basic,
            Some(Proof { kind: Kind::Given, .. }) => false,
            Some(Proof { kind: Kind::Token { key, fresh }, .. }) => {
                state.tokens.remove(key);
                !fresh || more
            }
        };
        state.challenge = Some(asked);
        again
    }

    /// The proof to send, if the host is known to want one.
    fn proof(
        &self,
        http: &Http,
        want: &Want,
        what: &str,
        scopes: &BTreeSet<String>,
    ) -> Result<Option<Proof>, RegistryError> {
        let mut state = self.state();
        let Some(challenge) = state.challenge.clone() else { return Ok(None) };
        let credential = self.credential(http, &mut state, &want.repository);
        if let Some(Credential::RegistryToken(token)) = &credential {
            let header = self.header(&format!("Bearer {token}"))?;
            return Ok(Some(Proof { header, kind: Kind::Given }));
        }
        let (realm, service) = match challenge {
            Challenge::Basic => {
                return match credential {
                    Some(Credential::Password { username, password }) => {
                        let header = self.header(&basic(&username, &password))?;
                        Ok(Some(Proof { header, kind: Kind::Basic }))
                    }
                    // There is no token server to exchange an identity token at.
                    _ => Err(self.unauthorized(&mut state, what, credential.is_none())),
                };
            }
            Challenge::Bearer { realm, service, .. } => (realm, service),
        };
        let key = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        if let Some(token) = state.tokens.get(&key)
            && token.usable_until > Instant::now()
        {
            let header = token.header.clone();
            return Ok(Some(Proof { header, kind: Kind::Token { key, fresh: false } }));
        }
        let token = http
            .retrying(|| self.fetch(http, &realm, service.as_deref(), scopes, credential.as_ref(), what))
            .map_err(|e| match (e, state.failure.take()) {
                (RegistryError::Unauthorized { .. } | RegistryError::Denied { .. }, Some(source)) => {
                    RegistryError::Credentials { host: self.registry.clone(), source }
                }
                (e, _) => e,
            })?;
        let header = token.header.clone();
        state.tokens.insert(key.clone(), token);
        Ok(Some(Proof { header, kind: Kind::Token { key, fresh: true } }))
    }

    fn credential(&self, http: &Http, state: &mut State, repository: &str) -> Option<Credential> {
        let source = match &self.source {
            Source::Fixed(credential) => return Some(credential.clone()),
            Source::Configured(source) => source,
        };
        if let Some(known) = state.credentials.get(repository) {
            return known.clone();
        }
        let found = source.get(&self.registry, repository).unwrap_or_else(|reason| {
            // Most images are public: a broken keychain must not keep people from them.
            http.event(&Event::CredentialsFailed { registry: &self.registry, reason: &reason });
            state.failure = Some(reason);
            None
        });
        state.credentials.insert(repository.to_owned(), found.clone());
        found
    }

    /// Gets a token.
    fn fetch(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scopes: &BTreeSet<String>,
        credential: Option<&Credential>,
        what: &str,
    ) -> Result<Token, RegistryError> {
        const TOKEN_MAX: u64 = 1024 * 1024;
        let name = self.name();
        let realm = realm
            .parse::<Uri>()
            .ok()
            .filter(|u| u.authority().is_some_and(|a| !a.as_str().contains('@')))
            .ok_or_else(|| RegistryError::protocol(name, "the address of its token server is no URL"))?;
        let plain = realm.scheme_str() != Some("https");
        let exposed = credential.is_some() && !http.may_be_plain(&realm);
        if plain && (exposed || self.base.scheme_str() == Some("https")) {
            return Err(RegistryError::protocol(
                name,
                "its token server would get the credentials over plain http",
            ));
        }
        let mut query = Vec::new();
        query.extend(service.map(|s| format!("service={}", escape(s))));
        let started = Instant::now();
        let mut reply = if let Some(Credential::IdentityToken(token)) = credential {
            let scope = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            query.extend([
                "grant_type=refresh_token".to_owned(),
                "client_id=layercake".to_owned(),
                format!("scope={}", escape(&scope)),
                format!("refresh_token={}", escape(token)),
            ]);
            let form = query.join("&");
            let mut out = Outgoing::new(Method::POST, realm)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .sealed(Payload::Bytes(form.as_bytes()));
            http.send(&mut out)?
        } else {
            query.extend(scopes.iter().map(|s| format!("scope={}", escape(s))));
            let url = match (query.join("&"), realm.query()) {
                (query, _) if query.is_empty() => Some(realm.clone()),
                (query, None) => join(&realm, &format!("{}?{query}", realm.path())),
                (query, Some(old)) => join(&realm, &format!("{}?{old}&{query}", realm.path())),
            };
            let url = url
                .ok_or_else(|| RegistryError::protocol(name, "the address of its token server is no URL"))?;
            let mut out = Outgoing::new(Method::GET, url.clone());
            if let Some(Credential::Password { username, password }) = credential {
                out.authorization = Some((url, self.header(&basic(username, password))?));
            }
            http.send(&mut out)?
        };
        match reply.status {
            200 => {}
            // A token server says 400 to a name or password that it cannot even read.
            400 | 401 if credential.is_some() => {
                reply.status = 401;
                return Err(reply.into_error(what, false));
            }
            _ => return Err(reply.into_error(what, credential.is_none())),
        }
        let host = reply.host().to_owned();
        let bytes = reply.read("its token answer", TOKEN_MAX)?;
        // The text is not quoted: it could hold a token.
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| RegistryError::protocol(&host, "its token answer is not JSON"))?;
        let token = ["token", "access_token"]
            .iter()
            .find_map(|k| answer.get(k).and_then(Value::as_str).filter(|t| !t.is_empty()))
            .ok_or_else(|| RegistryError::protocol(&host, "its token answer holds no token"))?;
        let lifetime = answer.get("expires_in").and_then(Value::as_u64).unwrap_or(60).clamp(60, 86_400);
        Ok(Token {
            header: self.header(&format!("Bearer {token}"))?,
            // Early enough for a request that waits in a queue.
            usable_until: started + Duration::from_secs(lifetime - lifetime.min(100) / 10),
        })
    }

    fn header(&self, text: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            RegistryError::protocol(
                self.name(),
                "its token or credential has characters that no header may have",
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn unauthorized(&self, state: &mut State, what: &str, anonymous: bool) -> RegistryError {
        match state.failure.take() {
            Some(source) => RegistryError::Credentials { host: self.registry.clone(), source },
            None => RegistryError::Unauthorized {
                host: self.registry.clone(),
                what: what.to_owned(),
                anonymous,
                message: String::new(),
            },
        }
    }

    fn refused(&self, reply: Reply, what: &str, want: &Want) -> RegistryError {
        let mut state = self.state();
        if state.failure.is_some() {
            return self.unauthorized(&mut state, what, true);
        }
        let anonymous = match &self.source {
            Source::Fixed(_) => false,
            Source::Configured(_) => !matches!(state.credentials.get(&want.repository), Some(Some(_))),
        };
        drop(state);
        reply.into_error(what, anonymous)
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64::encode(format!("{username}:{password}").as_bytes()))
}
