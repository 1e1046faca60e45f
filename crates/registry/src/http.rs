//! Requests over HTTP: connections, redirects, retries, cancelling. What the requests mean is the business of others.
//!
//! - **Redirects are followed here**, not by the HTTP library: the `Authorization` header goes along only to the scheme, host and
//!   port that it was made for, and never from https to http. A request whose body is a credential follows to its own host only.
//! - **Scheme**: https with the system's certificates. For hosts on the loopback interface and those that the user lists as
//!   insecure it is https with any certificate, and plain http where https does not work, as Docker does it; which of the two is
//!   found out once per host with an anonymous `GET /v2/`.
//! - **Time**: nothing waits for ever, neither for a silent server nor for a slow one: [`crate::Timeouts`].
//! - **Retries**: what [`RegistryError::is_transient`] says, a bounded number of times, with a wait that doubles and varies by
//!   half, so that many clients do not come back at once; `Retry-After` is honoured up to a limit.
//! - **Cancelling**: the caller's flag is looked at before every request, between reads and while waiting. [`Http::shutdown`]
//!   also ends what blocks in the kernel.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher as _};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

use crate::error::{RegistryError, message_of};
use crate::httpdate;
use crate::options::{Event, Options};
use crate::pace::Body;
use crate::proxy;
use crate::url::{is_loopback, join, same_origin};

/// What a request carries.
pub(crate) enum Payload<'a> {
    /// Nothing (GET, HEAD).
    None,
    /// A body that is there.
    Bytes(&'a [u8]),
    /// A body of known length that is opened anew for each try.
    Stream { len: u64, open: &'a dyn Fn() -> Result<Box<dyn Read + 'a>, RegistryError> },
}

/// A request to be sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The proof, and the place that it is for: it is sent nowhere else.
    pub(crate) authorization: Option<(Uri, HeaderValue)>,
    pub(crate) payload: Payload<'a>,
    /// The payload is a credential: it is sent to the origin of `url` and nowhere else.
    pub(crate) sealed: bool,
    /// What comes back may be long: a blob, a file.
    pub(crate) long: bool,
}

impl<'a> Outgoing<'a> {
    /// A request without body.
    pub(crate) fn new(method: Method, url: Uri) -> Outgoing<'a> {
        Outgoing {
            method,
            url,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::None,
            sealed: false,
            long: false,
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Outgoing<'a> {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The answer may be long.
    pub(crate) fn long(mut self) -> Outgoing<'a> {
        self.long = true;
        self
    }

    /// Sets a body that is a credential.
    pub(crate) fn sealed(mut self, payload: Payload<'a>) -> Outgoing<'a> {
        self.sealed = true;
        self.body(payload)
    }

    /// Sets the body.
    pub(crate) fn body(mut self, payload: Payload<'a>) -> Outgoing<'a> {
        self.payload = payload;
        self
    }
}

/// A response whose body was not read yet.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from at last.
    pub(crate) url: Uri,
    pub(crate) body: Body,
}

impl Reply {
    /// A header as text.
    pub(crate) fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref()).and_then(|v| v.to_str().ok())
    }

    /// The announced length of the body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The host that it came from at last.
    pub(crate) fn host(&self) -> &str {
        self.url.authority().map_or("", |a| a.as_str())
    }

    /// The whole body, up to `limit` bytes.
    pub(crate) fn read(mut self, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let host = self.host().to_owned();
        let too_large = |got| {
            let problem = format!("{what} has {got} bytes or more, the limit is {limit}");
            RegistryError::protocol(&host, problem)
        };
        if let Some(announced) = self.content_length().filter(|n| *n > limit) {
            return Err(too_large(announced));
        }
        let mut bytes = Vec::new();
        (&mut self.body)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| RegistryError::Unreachable { host: host.clone(), source })?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// The error that a status without success stands for. `what` names the thing that was asked for.
    pub(crate) fn into_error(mut self, what: &str, anonymous: bool) -> RegistryError {
        const BODY_MAX: u64 = 64 * 1024;
        let (host, what) = (self.host().to_owned(), what.to_owned());
        let mut body = Vec::new();
        // What cannot be read of an explanation is no further error.
        let _ = (&mut self.body).take(BODY_MAX).read_to_end(&mut body);
        let message = message_of(self.header(CONTENT_TYPE).unwrap_or_default(), &body);
        match self.status {
            401 => RegistryError::Unauthorized { host, what, anonymous, message },
            403 => RegistryError::Denied { host, what, message },
            404 => RegistryError::NotFound { host, what, message },
            429 => RegistryError::TooManyRequests { host, retry_after: self.retry_after(), message },
            status => RegistryError::Server { host, status, message },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        Some(httpdate::parse(text)?.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

/// How a host may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Certificates are verified.
    Verified,
    /// Listed by the user: any certificate, or none.
    Insecure,
    /// This machine: as insecure, and never through a proxy.
    Loopback,
}

const REDIRECTS_MAX: usize = 8;

/// The sender of requests. All methods may be called from many threads.
pub(crate) struct Http {
    verified: Agent,
    unverified: Agent,
    verified_by_proxy: Option<Agent>,
    unverified_by_proxy: Option<Agent>,
    options: Arc<Options>,
}

impl Http {
    pub(crate) fn new(options: Arc<Options>) -> Result<Http, RegistryError> {
        let timeouts = &options.timeouts;
        // The library takes a header that it cannot send for a bug, and panics.
        let user_agent: String =
            options.user_agent.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let agent = |verify: bool, proxy: Option<ureq::Proxy>| -> Agent {
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .disable_verification(!verify)
                .build();
            Agent::config_builder()
                .tls_config(tls)
                // Set also when there is none: the library would look into the environment.
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .user_agent(&user_agent)
                .timeout_resolve(Some(timeouts.connect))
                .timeout_connect(Some(timeouts.connect))
                .timeout_per_read(Some(timeouts.read))
                .timeout_recv_response(Some(timeouts.document))
                .timeout_recv_body(Some(timeouts.document))
                .timeout_per_write(Some(timeouts.read))
                .max_idle_connections(32)
                .max_idle_connections_per_host(8)
                .build()
                .new_agent()
        };
        let proxy = match &options.proxy {
            Some(proxy) => Some(ureq::Proxy::new(&proxy.url).map_err(|_| RegistryError::Proxy)?),
            None => None,
        };
        Ok(Http {
            verified: agent(true, None),
            unverified: agent(false, None),
            verified_by_proxy: proxy.clone().map(|p| agent(true, Some(p))),
            unverified_by_proxy: proxy.map(|p| agent(false, Some(p))),
            options,
        })
    }

    /// Interrupts every request, also those of other threads. No request can be made afterwards.
    pub(crate) fn shutdown(&self) {
        self.options.cancel.store(true, Ordering::SeqCst);
        let proxied = self.verified_by_proxy.iter().chain(&self.unverified_by_proxy);
        for agent in [&self.verified, &self.unverified].into_iter().chain(proxied) {
            agent.clone().shutdown();
        }
    }

    pub(crate) fn cancel_flag(&self) -> &Arc<AtomicBool> {
        &self.options.cancel
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), RegistryError> {
        if self.options.cancel.load(Ordering::Relaxed) { Err(RegistryError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn event(&self, event: &Event) {
        (self.options.on_event)(event);
    }

    fn trust(&self, host: &str) -> Trust {
        if is_loopback(host) {
            Trust::Loopback
        } else if self.options.insecure.iter().any(|i| i.eq_ignore_ascii_case(host)) {
            Trust::Insecure
        } else {
            Trust::Verified
        }
    }

    /// Whether the user allows that a host is talked to without TLS.
    pub(crate) fn may_be_plain(&self, url: &Uri) -> bool {
        self.trust(url.authority().map_or("", |a| a.as_str())) != Trust::Verified
    }

    fn agent(&self, url: &Uri) -> &Agent {
        let host = url.authority().map_or("", |a| a.as_str());
        let trust = self.trust(host);
        let direct = trust == Trust::Loopback
            || self.options.proxy.as_ref().is_none_or(|p| proxy::bypasses(&p.no_proxy, host));
        let proxied = match trust {
            Trust::Verified => &self.verified_by_proxy,
            _ => &self.unverified_by_proxy,
        };
        match (proxied, trust) {
            (Some(agent), _) if !direct => agent,
            (_, Trust::Verified) => &self.verified,
            _ => &self.unverified,
        }
    }

    /// Scheme and host of a registry, as `https://host/`. Talks to the host only if it may be reached without TLS.
    pub(crate) fn find_base(&self, host: &str) -> Result<Uri, RegistryError> {
        let base = |scheme: &str| {
            format!("{scheme}://{host}/")
                .parse::<Uri>()
                .map_err(|_| RegistryError::protocol(host, "its name cannot be part of a URL"))
        };
        let https = base("https")?;
        if self.trust(host) == Trust::Verified {
            return Ok(https);
        }
        let probe = |base: &Uri| {
            let url = join(base, "/v2/").ok_or_else(|| RegistryError::protocol(host, "bad URL"))?;
            self.send_once(&mut Outgoing::new(Method::GET, url), Some(Duration::from_secs(5)))
        };
        match probe(&https) {
            Ok(_) => return Ok(https),
            Err(RegistryError::Cancelled) => return Err(RegistryError::Cancelled),
            Err(_) => {}
        }
        let http = base("http")?;
        probe(&http).map(|_| http)
    }

    /// Sends a request once, and follows redirects. Any status is a success here, except for a redirect that leads nowhere.
    pub(crate) fn send(&self, out: &mut Outgoing<'_>) -> Result<Reply, RegistryError> {
        let start = out.url.clone();
        let result = self.follow(out);
        out.url = start;
        result
    }

    fn follow(&self, out: &mut Outgoing<'_>) -> Result<Reply, RegistryError> {
        for _ in 0..=REDIRECTS_MAX {
            let reply = self.send_once(out, None)?;
            let safe = matches!(out.method, Method::GET | Method::HEAD);
            let follow = match reply.status {
                301..=303 if safe => true,
                307 | 308 => true,
                301..=303 => {
                    return Err(RegistryError::protocol(reply.host(), "it redirects an upload"));
                }
                _ => false,
            };
            if !follow {
                return Ok(reply);
            }
            let Some(next) = reply.header(LOCATION).and_then(|l| join(&reply.url, l)) else {
                return Err(RegistryError::protocol(reply.host(), "it redirects to no usable address"));
            };
            if reply.url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(RegistryError::protocol(reply.host(), "it redirects from https to plain http"));
            }
            if out.sealed && !same_origin(&next, &out.url) {
                let problem = "it redirects a request that holds a credential to another host";
                return Err(RegistryError::protocol(reply.host(), problem));
            }
            out.url = next;
        }
        let host = out.url.authority().map_or("", |a| a.as_str());
        Err(RegistryError::protocol(host, "it redirects too often"))
    }

    fn send_once(&self, out: &mut Outgoing<'_>, limit: Option<Duration>) -> Result<Reply, RegistryError> {
        self.check_cancelled()?;
        let host = out.url.authority().map_or("", |a| a.as_str()).to_owned();
        let mut request = Request::builder().method(out.method.clone()).uri(out.url.clone());
        for (name, value) in &out.headers {
            request = request.header(name, value);
        }
        // A body that is compressed on the way would not have the length and the digest that were announced.
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some((place, proof)) = &out.authorization
            && same_origin(place, &out.url)
        {
            request = request.header(AUTHORIZATION, proof);
        }
        let agent = self.agent(&out.url);
        let bad = |_| RegistryError::protocol(&host, "the request cannot be written");
        let result = match &mut out.payload {
            Payload::None => {
                let request = request.body(()).map_err(bad)?;
                match limit {
                    Some(limit) => agent.run(
                        agent
                            .configure_request(request)
                            .timeout_connect(Some(limit))
                            .timeout_recv_response(Some(limit))
                            .build(),
                    ),
                    None if out.long => {
                        let whole = Some(self.options.timeouts.whole);
                        agent.run(agent.configure_request(request).timeout_recv_body(whole).build())
                    }
                    None => agent.run(request),
                }
            }
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(bad)?),
            Payload::Stream { len, open } => {
                let mut reader = open()?;
                let request = request.header(CONTENT_LENGTH, *len);
                let request = request.body(SendBody::from_reader(&mut reader)).map_err(bad)?;
                // A registry that keeps its blobs elsewhere answers when it has moved them there, minutes after the last byte.
                let patience = self.options.timeouts.commit;
                agent.run(
                    agent
                        .configure_request(request)
                        .timeout_per_read(Some(patience))
                        .timeout_recv_response(Some(patience))
                        .build(),
                )
            }
        };
        // The flag is what interrupted it, if it was interrupted.
        self.check_cancelled()?;
        let response: Response<ureq::Body> = result.map_err(|e| from_ureq(&host, e))?;
        let (parts, body) = response.into_parts();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: out.url.clone(),
            body: Body::new(body.into_reader(), &self.options.timeouts),
        })
    }

    /// Runs `operation` until it succeeds, fails for good or was tried often enough.
    pub(crate) fn retrying<T>(
        &self,
        mut operation: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = 0;
        loop {
            self.check_cancelled()?;
            match operation() {
                Err(error) if error.is_transient() => {
                    failures += 1;
                    self.pause(failures, error)?;
                }
                other => return other,
            }
        }
    }

    /// Waits before try number `failures` + 1. Gives the error back if there shall be none.
    pub(crate) fn pause(&self, failures: u32, error: RegistryError) -> Result<(), RegistryError> {
        let retry = &self.options.retry;
        if failures >= retry.attempts {
            return Err(error);
        }
        let wait = match error.retry_after() {
            Some(asked) if asked > retry.longest_wait => return Err(error),
            Some(asked) => asked,
            None => {
                let doubled = retry.first_wait.saturating_mul(1 << (failures - 1).min(16));
                let most = doubled.min(retry.longest_wait);
                // Between half and all of it.
                let random = RandomState::new().build_hasher().finish() % 1000;
                most / 2 + (most / 2).mul_f64(random as f64 / 1000.0)
            }
        };
        self.event(&Event::Retry { wait, reason: &error });
        let mut left = wait;
        while !left.is_zero() {
            self.check_cancelled()?;
            let slice = left.min(Duration::from_millis(50));
            std::thread::sleep(slice);
            left -= slice;
        }
        self.check_cancelled()
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

fn from_ureq(host: &str, error: ureq::Error) -> RegistryError {
    let host = host.to_owned();
    match error {
        // The TLS library reports through `InvalidData`; nothing else that happens before the body does.
        ureq::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            RegistryError::Tls { host, source }
        }
        e @ (ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired) => {
            RegistryError::Tls { host, source: io::Error::other(e) }
        }
        ureq::Error::Io(source) => RegistryError::Unreachable { host, source },
        ureq::Error::HostNotFound => {
            let source = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
            RegistryError::Unreachable { host, source }
        }
        ureq::Error::Timeout(which) => {
            let source = io::Error::new(io::ErrorKind::TimedOut, format!("no answer in time ({which})"));
            RegistryError::Unreachable { host, source }
        }
        // Its text is the URL.
        ureq::Error::BadUri(_) => RegistryError::protocol(&host, "it gave an address that is no URL"),
        ureq::Error::Protocol(e) => RegistryError::protocol(&host, e.to_string()),
        ureq::Error::LargeResponseHeader(..) => {
            RegistryError::protocol(&host, "its response header is too long")
        }
        other => RegistryError::Unreachable { host, source: io::Error::other(other) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_failures_are_told_from_others() {
        let bad = ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate"));
        assert!(matches!(from_ureq("h", bad), RegistryError::Tls { .. }));
        let secret = ureq::Error::BadUri("https://u:hunter2@h/".into());
        let text = format!("{:?}", from_ureq("h", secret));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
