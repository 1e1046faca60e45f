//! Files by URL.
//!
//! A file has mode 0600 and the server's `Last-Modified` as its time, else the beginning of 1970 (as BuildKit gives it). Credentials come from the secrets
//! `HTTP_AUTH_HEADER_<host>` (the header's value) and `HTTP_AUTH_TOKEN_<host>` (a Bearer token, which wins); the host is without
//! port. They are sent to that host only, not to where it redirects.

use std::io::Read;
use std::time::Instant;

use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Time};
use registry::{Get, RegistryError};
use serde_json::{Map, Value, json};

use super::gitref::redact;
use super::{FetchError, Fetcher, Known};

/// A downloaded file, in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Download {
    /// The last part of the URL's path.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) modified: Time,
    /// The server said when it was modified.
    pub(crate) dated: bool,
}

/// Largest file that is taken; a server may never stop sending.
pub(crate) const MAX_FILE: u64 = 256 << 30;

const KIND: &str = "http";
/// Name of the file in a record's layer.
const FILE: &[u8] = b"file";

/// File name of a URL: the last part of its path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, r)| r);
    let path = rest.split(['?', '#']).next().unwrap_or("").split_once('/').map_or("", |(_, p)| p);
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Host of a URL, without port.
fn host_name(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, r)| r);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    }
}

impl Download {
    fn of(url: &str, known: &Known) -> Option<Download> {
        let e = known.layer.get(FILE)?;
        let Kind::File { size, digest } = e.kind else { return None };
        let dated = known.facts.get("modified").and_then(Value::as_bool).unwrap_or(false);
        Some(Download { name: file_name(url), digest, size, modified: e.attrs.mtime, dated })
    }
}

/// Stops reading when the build does, and tells how far it is.
struct Watched<'a, R> {
    reader: R,
    fetcher: &'a Fetcher<'a>,
    progress: &'a dyn Fn(u64, u64),
    done: u64,
    all: u64,
    limit: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.fetcher.check().is_err() {
            return Err(std::io::Error::other("interrupted"));
        }
        let n = self.reader.read(buf)?;
        let before = self.done >> 20;
        self.done += n as u64;
        if self.done > self.limit {
            return Err(std::io::Error::other("too large"));
        }
        if self.done >> 20 != before || n == 0 {
            (self.progress)(self.done, self.all);
        }
        Ok(n)
    }
}

impl Fetcher<'_> {
    /// What a URL gave when it was last asked, and nobody is asked now.
    pub(crate) fn http_before(&self, url: &str) -> Result<Download, FetchError> {
        let known = self.recall(KIND, &self.asked(url)?.1)?;
        let before = known.as_ref().and_then(|k| Download::of(url, k));
        before.ok_or_else(|| FetchError::Offline { url: redact(url) })
    }

    /// The header that a URL is asked with, and what names the answer.
    fn asked(&self, url: &str) -> Result<(Option<String>, Map<String, Value>), FetchError> {
        let (mut authorization, mut auth_name) = (None, String::new());
        for (prefix, scheme) in [("HTTP_AUTH_HEADER_", ""), ("HTTP_AUTH_TOKEN_", "Bearer ")] {
            let id = format!("{prefix}{}", host_name(url));
            if let Some(value) = self.secret(&id)? {
                authorization = Some(format!("{scheme}{value}"));
                auth_name = id;
            }
        }
        let mut inputs = Map::new();
        inputs.insert("url".into(), json!(Digest::of(url.as_bytes()).hex()));
        inputs.insert("auth".into(), json!(auth_name));
        Ok((authorization, inputs))
    }

    /// Downloads a file. `limit` is the largest size that makes sense; `progress` is told bytes so far, and all bytes or 0.
    pub(crate) fn http(
        &self,
        url: &str,
        checksum: Option<&Digest>,
        limit: u64,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Download, FetchError> {
        self.check()?;
        let shown = redact(url);
        let (authorization, inputs) = self.asked(url)?;
        let known = self.recall(KIND, &inputs)?;
        let earlier = known.as_ref().and_then(|k| Download::of(url, k));
        if let (Some(e), Some(want)) = (&earlier, checksum)
            && e.digest == *want
        {
            return Ok(e.clone());
        }
        let client = self.client.ok_or_else(|| FetchError::Offline { url: shown.clone() })?;
        let etag = known.as_ref().and_then(|k| k.facts.get("etag")).and_then(Value::as_str);
        let began = Instant::now();
        let get =
            Get { url, authorization: authorization.as_deref(), etag: etag.filter(|_| earlier.is_some()) };
        let got = client.get(&get).map_err(|e| match e {
            RegistryError::Cancelled => FetchError::Interrupted,
            RegistryError::Server { status, .. } => FetchError::Status { url: shown.clone(), status },
            source => FetchError::Request { url: shown.clone(), source: Box::new(source) },
        })?;
        let download = match (got.status, earlier) {
            (304, Some(e)) => e,
            (200..300, _) => {
                if got.length.is_some_and(|l| l > limit) {
                    return Err(FetchError::TooLarge { url: shown, limit });
                }
                let mut facts = Map::new();
                facts.insert("etag".into(), json!(got.etag));
                facts.insert("modified".into(), json!(got.modified.is_some()));
                let (modified, dated) = (got.modified.unwrap_or_default(), got.modified.is_some());
                let batch = self.store.batch();
                let all = got.length.unwrap_or(0);
                let mut body = Watched { reader: got, fetcher: self, progress, done: 0, all, limit };
                let added = oci::content::ContentSink::add(&mut batch.sink(), &mut body);
                let (digest, size) = added.map_err(|source| match self.check() {
                    Err(e) => e,
                    Ok(()) if body.done > limit => FetchError::TooLarge { url: shown.clone(), limit },
                    Ok(()) => FetchError::Transfer { url: shown.clone(), source },
                })?;
                if let Some(want) = checksum.filter(|w| **w != digest) {
                    return Err(FetchError::Mismatch { url: shown, got: digest, want: *want });
                }
                let attrs = Attrs { mode: 0o600, mtime: modified, ..Attrs::default() };
                let entry = Entry { path: FILE.to_vec(), kind: Kind::File { size, digest }, attrs };
                // One entry with a fixed name is always a layer.
                let layer = LayerIndex::from_entries(vec![entry]).unwrap_or_default();
                self.remember(KIND, &inputs, facts, &layer, batch, began)?;
                Download { name: file_name(url), digest, size, modified, dated }
            }
            (status, _) => return Err(FetchError::Status { url: shown, status }),
        };
        match checksum {
            Some(want) if *want != download.digest => {
                Err(FetchError::Mismatch { url: shown, got: download.digest, want: *want })
            }
            _ => Ok(download),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_hosts() {
        assert_eq!(file_name("http://h/a/b.txt?x=1#y"), "b.txt");
        assert_eq!(file_name("http://h/"), "__unnamed__");
        assert_eq!(file_name("http://h"), "__unnamed__");
        assert_eq!(host_name("https://user:pw@h:80/x"), "h");
        assert_eq!(host_name("https://[::1]:80/x"), "::1");
    }
}
