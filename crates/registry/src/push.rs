//! Pushing: blobs first, then the manifest that names them.
//!
//! A blob goes up in one piece (OCI distribution specification, "Pushing a blob monolithically"):
//!
//! ```text
//! HEAD blobs/<digest>                        200: it is there already
//! POST blobs/uploads/?mount=<digest>&from=R  201: taken over from repository R of the same registry
//!                                            202: Location of an upload
//! PUT  <Location>?digest=<digest>            201
//! ```
//!
//! A failed upload starts again with a new POST: what a registry keeps of a broken one differs too much to rely on.

use std::cell::RefCell;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci::types::Descriptor;
use oci::{Digest, Reference};
use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::{Method, Uri};

use crate::auth::{Host, Want};
use crate::client::{Client, MANIFEST_MAX, success};
use crate::error::RegistryError;
use crate::http::{Outgoing, Payload};
use crate::url::{escape, join};

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Exists,
    /// The registry took it over from another repository.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Client {
    /// Sees to it that the repository has a blob.
    ///
    /// `open` gives the blob's bytes from the start, and is called once per try. `mount_from` names a repository of the same
    /// registry that may have it. `progress` gets the bytes sent so far; the number starts again when the upload does.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        mount_from: Option<&str>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pushed, RegistryError> {
        let host = self.host(&reference.registry, reference.registry_host())?;
        let want = Want::push(&reference.repository, None);
        if self.blob_exists_at(&host, &want, &descriptor.digest)? {
            return Ok(Pushed::Exists);
        }
        let mut mount_from = mount_from.filter(|from| *from != reference.repository);
        let progress = RefCell::new(progress);
        self.http.retrying(|| {
            let location = match self.start(&host, &reference.repository, &descriptor.digest, mount_from) {
                Ok(Some(location)) => location,
                Ok(None) => return Ok(Pushed::Mounted),
                // Whatever a registry dislikes about taking it over, it can still be sent.
                Err(e) if mount_from.is_some() && !e.is_transient() && !is_final(&e) => {
                    mount_from = None;
                    match self.start(&host, &reference.repository, &descriptor.digest, None)? {
                        Some(location) => location,
                        None => return Ok(Pushed::Mounted),
                    }
                }
                Err(e) => return Err(e),
            };
            self.upload(&host, &want, descriptor, &location, open, &progress)?;
            Ok(Pushed::Uploaded)
        })
    }

    /// Opens an upload, and gives its address; `None` if the registry took the blob over from `mount_from`.
    fn start(
        &self,
        host: &Host,
        repository: &str,
        digest: &Digest,
        mount_from: Option<&str>,
    ) -> Result<Option<Uri>, RegistryError> {
        let mut path = format!("/v2/{repository}/blobs/uploads/");
        if let Some(from) = mount_from {
            path.push_str(&format!("?mount={digest}&from={}", escape(from)));
        }
        let what = format!("an upload to {}/{repository}", host.registry);
        let want = Want::push(repository, mount_from);
        let mut out = Outgoing::new(Method::POST, host.url(&path)?).body(Payload::Bytes(&[]));
        let reply = success(host, host.send(&self.http, &want, &what, &mut out)?, &what)?;
        match reply.status {
            201 if mount_from.is_some() => Ok(None),
            202 => {
                let location = reply.header(LOCATION).and_then(|l| join(&reply.url, l));
                let problem = "it gives no address for an upload";
                location.map(Some).ok_or_else(|| RegistryError::protocol(host.name(), problem))
            }
            status => {
                let problem = format!("it answers with status {status} to the start of an upload");
                Err(RegistryError::protocol(host.name(), problem))
            }
        }
    }

    fn upload(
        &self,
        host: &Host,
        want: &Want,
        descriptor: &Descriptor,
        location: &Uri,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        progress: &RefCell<&mut dyn FnMut(u64)>,
    ) -> Result<(), RegistryError> {
        let what = format!("blob {}", descriptor.digest);
        // The registry's own parameters stay as they are: it may have signed them.
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = join(location, &format!("{location}{separator}digest={}", descriptor.digest))
            .ok_or_else(|| RegistryError::protocol(host.name(), "it gives no address for an upload"))?;
        let failed = RefCell::new(None);
        let source = |source| RegistryError::Source { what: what.clone(), source };
        let start = || -> Result<Box<dyn Read + '_>, RegistryError> {
            progress.borrow_mut()(0);
            Ok(Box::new(Upload {
                inner: open().map_err(source)?,
                left: descriptor.size,
                sent: 0,
                progress,
                cancel: self.http.cancel_flag().clone(),
                failed: &failed,
            }))
        };
        let mut out = Outgoing::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Payload::Stream { len: descriptor.size, open: &start });
        let result = host.send(&self.http, want, &what, &mut out);
        // The HTTP client cannot tell a source that fails from a connection that does.
        if let Some(e) = failed.borrow_mut().take() {
            return Err(source(e));
        }
        let reply = success(host, result?, &what)?;
        match reply.status {
            201 | 204 => Ok(()),
            status => {
                let problem = format!("it answers with status {status} to an upload");
                Err(RegistryError::protocol(host.name(), problem))
            }
        }
    }

    /// Puts a manifest or index under the reference's tag, or under its digest if it has no tag. Everything that it names must be
    /// there. Gives its digest.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let what = reference.to_string();
        let digest = Digest::of(bytes);
        let problem = |problem: String| RegistryError::Manifest { reference: what.clone(), problem };
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(problem(format!(
                "its manifest has {} bytes, the limit is {MANIFEST_MAX}",
                bytes.len()
            )));
        }
        if reference.digest.is_some_and(|named| named != digest) {
            return Err(problem(format!("its manifest has digest {digest}")));
        }
        let host = self.host(&reference.registry, reference.registry_host())?;
        let want = Want::push(&reference.repository, None);
        let name = reference.tag.clone().unwrap_or_else(|| digest.to_string());
        let url = host.url(&format!("/v2/{}/manifests/{name}", reference.repository))?;
        let stored = self.http.retrying(|| {
            let mut out = Outgoing::new(Method::PUT, url.clone())
                .header(CONTENT_TYPE, media_type)
                .body(Payload::Bytes(bytes));
            let reply = success(&host, host.send(&self.http, &want, &what, &mut out)?, &what)?;
            Ok(reply.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok()))
        })?;
        match stored {
            Some(got) if got != digest => {
                let (host, what) = (host.name().to_owned(), format!("the manifest of {what}"));
                Err(RegistryError::Digest { host, what, expected: digest, got })
            }
            _ => Ok(digest),
        }
    }
}

/// Errors that the next request would meet again.
fn is_final(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Cancelled
            | RegistryError::Unreachable { .. }
            | RegistryError::Tls { .. }
            | RegistryError::Credentials { .. }
    )
}

/// The bytes of a blob on their way: counted, of the announced number, and stopped by the cancel flag.
struct Upload<'a, 'p> {
    inner: Box<dyn Read>,
    left: u64,
    sent: u64,
    progress: &'a RefCell<&'p mut dyn FnMut(u64)>,
    cancel: Arc<AtomicBool>,
    failed: &'a RefCell<Option<io::Error>>,
}

impl Read for Upload<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        let room = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let result = loop {
            match self.inner.read(&mut buf[..room]) {
                // Without an error the client would wait for the rest for ever.
                Ok(0) => {
                    break Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("it is {} bytes shorter than its descriptor says", self.left),
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match result {
            Ok(n) => {
                self.left -= n as u64;
                self.sent += n as u64;
                self.progress.borrow_mut()(self.sent);
                Ok(n)
            }
            Err(e) => {
                let told = io::Error::new(e.kind(), e.to_string());
                *self.failed.borrow_mut() = Some(e);
                Err(told)
            }
        }
    }
}
