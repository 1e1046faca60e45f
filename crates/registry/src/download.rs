//! Files behind plain URLs, with the client's connections, proxy, redirects and retries: what `ADD https://...` takes.
//!
//! A user name and password in the URL become Basic credentials; a header that the caller gives wins. Either goes to the URL's own
//! scheme, host and port only. Unlike Go's client (which BuildKit uses), this one does not follow a redirect from https to plain http.

use std::fmt;
use std::io::{self, Read};

use ureq::http::header::{ETAG, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED};
use ureq::http::{Method, Uri};

use crate::Client;
use crate::error::RegistryError;
use crate::http::Outgoing;

/// What to get.
#[derive(Clone, Copy)]
pub struct Get<'a> {
    /// `http://` or `https://` URL; a fragment is not sent.
    pub url: &'a str,
    /// Value of the `Authorization` header.
    pub authorization: Option<&'a str>,
    /// ETag of a version that the caller has: the answer to the same version has status 304 and no content.
    pub etag: Option<&'a str>,
}

impl fmt::Debug for Get<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both the URL and the header may hold a password.
        f.debug_struct("Get").field("etag", &self.etag).finish_non_exhaustive()
    }
}

/// What came back, whatever the status says.
pub struct Got {
    /// The HTTP status.
    pub status: u16,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<oci::Time>,
    /// `Content-Length`.
    pub length: Option<u64>,
    body: Box<dyn Read + Send>,
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Got").field("status", &self.status).field("etag", &self.etag).finish_non_exhaustive()
    }
}

impl Read for Got {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.body.read(buf)
    }
}

/// The URL without user and fragment, and the credentials in it.
fn plain(url: &str) -> Option<(Uri, Option<String>)> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((u, h)) => (Some(u), h),
        None => (None, authority),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let uri = format!("{}://{host}{slash}{path}", scheme.to_ascii_lowercase()).parse::<Uri>().ok()?;
    let good =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty());
    let basic = user.map(|u| {
        let (name, password) = u.split_once(':').unwrap_or((u, ""));
        format!("Basic {}", crate::basic_credentials(&unescape(name), &unescape(password)))
    });
    good.then_some((uri, basic))
}

/// A text with `%XX` decoded (RFC 3986, section 2.1); what is no escape stays.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let hex = bytes.get(i + 1..i + 3).filter(|h| b == b'%' && h.iter().all(u8::is_ascii_hexdigit));
        match hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                i += 3;
            }
            None => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Client {
    /// Gets a file. Redirects are followed, failures that may pass are tried again; any other status is the caller's business.
    pub fn get(&self, get: &Get<'_>) -> Result<Got, RegistryError> {
        let bad = || RegistryError::protocol("the URL", "it is no http or https URL".to_owned());
        let (url, basic) = plain(get.url).ok_or_else(bad)?;
        let authorization = match get.authorization.or(basic.as_deref()) {
            None => None,
            Some(text) => {
                let value = HeaderValue::from_str(text.trim()).map_err(|_| {
                    RegistryError::protocol("the request", "its Authorization header is no header value")
                })?;
                Some((url.clone(), value))
            }
        };
        let reply = self.http.retrying(|| {
            let mut out = Outgoing::new(Method::GET, url.clone()).long();
            out.authorization.clone_from(&authorization);
            if let Some(tag) = get.etag {
                out = out.header(IF_NONE_MATCH, tag);
            }
            let reply = self.http.send(&mut out)?;
            match reply.status {
                429 | 500.. => {
                    let path = reply.url.path().to_owned();
                    Err(reply.into_error(&path, authorization.is_none()))
                }
                _ => Ok(reply),
            }
        })?;
        Ok(Got {
            status: reply.status,
            etag: reply.header(ETAG).map(str::to_owned),
            modified: reply.header(LAST_MODIFIED).and_then(crate::parse_http_date),
            length: reply.content_length(),
            body: Box::new(reply.body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let (uri, basic) = plain("HTTPS://me:p%40ss@h.io:8443/a?b=c#d").unwrap();
        assert_eq!(uri.to_string(), "https://h.io:8443/a?b=c");
        let expected = format!("Basic {}", crate::basic_credentials("me", "p@ss"));
        assert_eq!(basic.as_deref(), Some(&*expected));
        assert_eq!(plain("http://h").unwrap().0.to_string(), "http://h/");
        assert_eq!(plain("http://h?q").unwrap().0.to_string(), "http://h/?q");
        for bad in ["ftp://h/x", "http://", "h/x", "http://:80/", "http://a b/"] {
            assert!(plain(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a%20b%zz%+4%4"), "a b%zz%+4%4");
    }
}
