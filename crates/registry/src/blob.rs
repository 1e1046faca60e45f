//! Downloading one blob: bounded, verified, and going on where it broke off. Or a part of one, which nobody can verify here.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use oci::types::Descriptor;
use oci::{Digest, Hasher};
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Method, Uri};

use crate::auth::{Host, Want};
use crate::client::success;
use crate::error::RegistryError;
use crate::http::{Http, Outgoing, Reply};
use crate::options::Event;
use crate::pace::Body;

/// Progress that makes up for earlier failures. Smaller, and a server that hands out a byte per connection would keep us for ever.
const PROGRESS: u64 = 1024 * 1024;

/// Reads a blob.
///
/// - Whoever has read all bytes has read the right ones: size and digest are checked *before* the last bytes are handed out.
///   Whoever stops before the end knows nothing about what was read.
/// - When the connection breaks, reading goes on with a new one at the same place (`Range`), a bounded number of times.
/// - Errors are [`io::Error`]s around a [`RegistryError`]; [`RegistryError::from_io`] takes it out. After an error every read
///   fails.
///
/// A part of a blob ([`crate::Client::blob_part`]) has no digest, so what is read of it is as good as the server; its length is checked.
pub struct BlobReader {
    http: Arc<Http>,
    host: Arc<Host>,
    want: Want,
    url: Uri,
    what: String,
    digest: Digest,
    size: u64,
    /// Where the part begins and reading ends: 0 and `size` for a whole blob.
    part: Range<u64>,
    /// Where the bytes come from at last (after redirects), for errors.
    sender: String,
    body: Option<Body>,
    hasher: Option<Hasher>,
    offset: u64,
    failures: u32,
    /// `offset` at the last failure.
    failed_at: u64,
    broken: bool,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl BlobReader {
    pub(crate) fn open(
        http: Arc<Http>,
        host: Arc<Host>,
        repository: &str,
        descriptor: &Descriptor,
        part: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let url = host.url(&format!("/v2/{repository}/blobs/{}", descriptor.digest))?;
        let hasher = part.is_none().then(Hasher::new);
        let part = part.unwrap_or(0..descriptor.size);
        let mut reader = BlobReader {
            want: Want::pull(repository),
            url,
            what: format!("blob {}", descriptor.digest),
            digest: descriptor.digest,
            size: descriptor.size,
            sender: host.name().to_owned(),
            http,
            host,
            body: None,
            hasher,
            offset: part.start,
            failures: 0,
            failed_at: part.start,
            part,
            broken: false,
        };
        let http = reader.http.clone();
        http.retrying(|| reader.connect())?;
        // Nothing will be read of an empty blob that could be checked then.
        if reader.size == 0 {
            reader.verify_end()?;
        }
        Ok(reader)
    }

    /// How far in the blob reading is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn is_whole(&self) -> bool {
        self.part == (0..self.size)
    }

    /// Requests the blob, or the part of it, from `offset` on.
    fn connect(&mut self) -> Result<(), RegistryError> {
        self.body = None;
        let mut out = Outgoing::new(Method::GET, self.url.clone()).long();
        if !self.is_whole() {
            out = out.header(RANGE, &format!("bytes={}-{}", self.offset, self.part.end - 1));
        } else if self.offset > 0 {
            out = out.header(RANGE, &format!("bytes={}-", self.offset));
        }
        let reply = self.host.send(&self.http, &self.want, &self.what, &mut out)?;
        let mut reply = success(&self.host, reply, &self.what)?;
        self.sender = reply.host().to_owned();
        let rest = self.part.end - self.offset;
        if reply.status == 206 && (self.offset > 0 || !self.is_whole()) {
            self.check_range(&reply)?;
            self.check_length(&reply, rest)?;
        } else if !self.is_whole() {
            // Everything up to here would be read and thrown away, for each part anew.
            return Err(RegistryError::NoParts { host: self.sender.clone() });
        } else {
            // Everything, whether or not a part was asked for.
            self.check_length(&reply, self.size)?;
            let skipped = io::copy(&mut (&mut reply.body).take(self.offset), &mut io::sink())
                .map_err(|source| RegistryError::Unreachable { host: self.sender.clone(), source })?;
            if skipped < self.offset {
                return Err(self.wrong_size(skipped));
            }
        }
        self.body = Some(reply.body);
        Ok(())
    }

    fn check_range(&self, reply: &Reply) -> Result<(), RegistryError> {
        // bytes FIRST-LAST/TOTAL
        let text = reply.header(CONTENT_RANGE).unwrap_or_default();
        let range = text.strip_prefix("bytes ").and_then(|t| t.split_once('/')).and_then(|(range, total)| {
            let (first, last) = range.split_once('-')?;
            let number = |text: &str| text.trim().parse::<u64>().ok();
            Some((number(first)?, number(last)?, total.trim() == "*" || number(total)? == self.size))
        });
        match range {
            Some((first, last, true))
                if first == self.offset && last.checked_add(1) == Some(self.part.end) =>
            {
                Ok(())
            }
            _ => Err(RegistryError::protocol(
                &self.sender,
                "it sends another part of a blob than was asked for",
            )),
        }
    }

    fn check_length(&self, reply: &Reply, expected: u64) -> Result<(), RegistryError> {
        match reply.content_length() {
            Some(length) if length != expected => {
                Err(self.wrong_size((self.part.end - expected).saturating_add(length)))
            }
            _ => Ok(()),
        }
    }

    fn wrong_size(&self, got: u64) -> RegistryError {
        let expected = self.part.end;
        RegistryError::Size { host: self.sender.clone(), what: self.what.clone(), expected, got }
    }

    /// Reads into `buf` (not empty) until some bytes came; only called before the end.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, RegistryError> {
        let rest = usize::try_from(self.part.end - self.offset).unwrap_or(usize::MAX);
        let room = buf.len().min(rest);
        loop {
            self.http.check_cancelled()?;
            let read = match &mut self.body {
                Some(body) => body.read(&mut buf[..room]),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            let source = match read {
                Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the blob"),
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            self.http.check_cancelled()?;
            self.resume(RegistryError::Unreachable { host: self.sender.clone(), source })?;
        }
    }

    /// Opens the blob again where it broke off, after a wait.
    fn resume(&mut self, mut error: RegistryError) -> Result<(), RegistryError> {
        self.body = None;
        if self.offset - self.failed_at >= PROGRESS {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        loop {
            self.failures += 1;
            self.http.pause(self.failures, error)?;
            self.http.event(&Event::Resume { what: &self.what, offset: self.offset });
            match self.connect() {
                Ok(()) => return Ok(()),
                // It worked a moment ago, so also what is hopeless at first may pass: a registry or a network that restarts.
                Err(e) if e.is_transient() || matches!(e, RegistryError::Unreachable { .. }) => error = e,
                Err(e) => return Err(e),
            }
        }
    }

    /// After the last byte: there must be no further one, and the digest must be right.
    fn verify_end(&mut self) -> Result<(), RegistryError> {
        if let Some(mut body) = self.body.take() {
            let mut more = [0u8; 1];
            // A connection that breaks now took nothing away.
            if matches!(body.read(&mut more), Ok(1..)) {
                return Err(self.wrong_size(self.part.end + 1));
            }
        }
        let got = self.hasher.take().map_or(self.digest, Hasher::finish);
        if got != self.digest {
            return Err(RegistryError::Digest {
                host: self.sender.clone(),
                what: self.what.clone(),
                expected: self.digest,
                got,
            });
        }
        Ok(())
    }

    fn step(&mut self, buf: &mut [u8]) -> Result<usize, RegistryError> {
        if buf.is_empty() || self.offset == self.part.end {
            return Ok(0);
        }
        let n = self.fill(buf)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        self.offset += n as u64;
        if self.offset == self.part.end {
            self.verify_end()?;
        }
        Ok(n)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("the blob could not be read"));
        }
        self.step(buf).map_err(|e| {
            self.broken = true;
            self.body = None;
            e.into_io()
        })
    }
}
