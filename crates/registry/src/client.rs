//! The client: reading manifests, choosing images, listing tags, checking credentials. Blobs and pushing have rooms of their own.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use oci::platform::Platform;
use oci::types::{Descriptor, ImageConfig, Index, Manifest, media};
use oci::{Digest, Reference};
use serde_json::Value;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

use crate::auth::{Host, Want};
use crate::blob::BlobReader;
use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::http::{Http, Outgoing, Reply};
use crate::options::{Event, Options};
use crate::select::select;
use crate::url::{join, same_origin};

/// Largest manifest or index (OCI distribution specification: registries must take 4 MiB).
pub const MANIFEST_MAX: u64 = 4 * 1024 * 1024;
/// Largest image config.
pub const CONFIG_MAX: u64 = 8 * 1024 * 1024;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as it came.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, verified.
    pub bytes: Vec<u8>,
}

/// An image that was chosen for a platform, with everything but its layers.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The index that it was chosen from, if the reference names one.
    pub index: Option<FetchedManifest>,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The manifest's media type, digest and size.
    pub manifest_descriptor: Descriptor,
    /// The config, parsed. Its platform is what the image says, not what was asked for: an image without index is taken as it is.
    pub config: ImageConfig,
    /// The config's bytes; its descriptor is `manifest.config`.
    pub config_bytes: Vec<u8>,
}

/// A client of any number of registries. Clones share connections and tokens; all methods may be called from many threads.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: Arc<Http>,
    options: Arc<Options>,
    /// By name. The inner lock is held while a host is sought, so that others wait for the answer.
    hosts: Arc<Mutex<HashMap<String, Slot>>>,
    /// Mirrors that could not be reached: each further try would cost its time limit again.
    unreachable: Arc<Mutex<HashSet<String>>>,
}

type Slot = Arc<Mutex<Option<Arc<Host>>>>;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client. Nothing is sent yet.
    pub fn new(options: Options) -> Result<Client, RegistryError> {
        let options = Arc::new(options);
        Ok(Client {
            http: Arc::new(Http::new(options.clone())?),
            options,
            hosts: Arc::default(),
            unreachable: Arc::default(),
        })
    }

    /// Ends every operation of this client and its clones with [`RegistryError::Cancelled`], at once. It cannot be used again.
    pub fn shutdown(&self) {
        self.http.shutdown();
    }

    /// The manifest or index that a reference names, verified against the reference's digest and the registry's own.
    pub fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        self.ask_mirrors(reference, |host| self.http.retrying(|| self.manifest_from(host, reference)))
    }

    /// Media type, digest and size of the manifest that a reference names now, without fetching it. `None` if the registry does
    /// not say: then [`Client::manifest`] finds out. (Docker Hub does not count this against its limit of pulls.)
    pub fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        self.ask_mirrors(reference, |host| {
            let reply = self.http.retrying(|| self.ask_manifest(host, reference, Method::HEAD))?;
            let digest = reply.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
            let media_type = content_type(&reply);
            Ok(match (digest, reply.content_length()) {
                (Some(digest), Some(size)) if is_known(&media_type) => {
                    Some(Descriptor::new(&media_type, digest, size))
                }
                _ => None,
            })
        })
    }

    /// The image that a reference names for a platform: index, manifest and config.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        let mut fetched = self.manifest(reference)?;
        let mut index = None;
        // OCI allows an index within an index; nobody nests deeper than that.
        for _ in 0..3 {
            if !media::is_index(&fetched.descriptor.media_type) {
                return self.complete(reference, index, fetched);
            }
            let list: Index = parse(reference, "index", &fetched.bytes)?;
            let chosen = select(&list, platform).map_err(|available| RegistryError::NoPlatform {
                reference: reference.to_string(),
                wanted: Box::new(platform.clone()),
                available,
            })?;
            let next = self.manifest(&reference.with_digest(chosen.digest))?;
            if next.descriptor.size != chosen.size {
                return Err(manifest_error(
                    reference,
                    format!(
                        "the index says that manifest {} has {} bytes, but it has {}",
                        chosen.digest, chosen.size, next.descriptor.size
                    ),
                ));
            }
            index.get_or_insert(std::mem::replace(&mut fetched, next));
        }
        Err(manifest_error(reference, "indexes are nested too deeply".to_owned()))
    }

    fn complete(
        &self,
        reference: &Reference,
        index: Option<FetchedManifest>,
        fetched: FetchedManifest,
    ) -> Result<ResolvedImage, RegistryError> {
        let manifest: Manifest = parse(reference, "manifest", &fetched.bytes)?;
        let descriptor = &manifest.config;
        if descriptor.size > CONFIG_MAX {
            return Err(manifest_error(reference, format!("its config has {} bytes", descriptor.size)));
        }
        let config_bytes = self.small_blob(reference, descriptor)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(|e| {
            let kind = crate::error::clean(&descriptor.media_type, 100);
            manifest_error(reference, format!("its config ({kind}) is not an image config: {e}"))
        })?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let kind = crate::error::clean(&descriptor.media_type, 100);
            return Err(manifest_error(
                reference,
                format!(
                    "its manifest has {} layers and its config ({kind}) {}",
                    manifest.layers.len(),
                    config.rootfs.diff_ids.len()
                ),
            ));
        }
        Ok(ResolvedImage {
            index,
            manifest,
            manifest_descriptor: fetched.descriptor,
            manifest_bytes: fetched.bytes,
            config,
            config_bytes,
        })
    }

    /// A blob that fits in memory, whole; the caller has bounded `descriptor.size`.
    fn small_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut reader = self.blob(reference, descriptor)?;
        std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|e| {
            let host = reference.registry.clone();
            RegistryError::from_io(e).unwrap_or_else(|source| RegistryError::Unreachable { host, source })
        })?;
        Ok(bytes)
    }

    /// Opens a blob for reading; see [`BlobReader`] for what it promises.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, RegistryError> {
        self.ask_mirrors(reference, |host| {
            BlobReader::open(self.http.clone(), host.clone(), &reference.repository, descriptor, None)
        })
    }

    /// Opens the bytes `part` of a blob, which are not verified. The part is not empty and lies in the blob; a server that sends all of it
    /// instead is [`RegistryError::NoParts`].
    pub fn blob_part(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        part: Range<u64>,
    ) -> Result<BlobReader, RegistryError> {
        if part.is_empty() || part.end > descriptor.size {
            let problem = format!("blob {} has no bytes {} to {}", descriptor.digest, part.start, part.end);
            return Err(manifest_error(reference, problem));
        }
        self.ask_mirrors(reference, |host| {
            let part = Some(part.clone());
            BlobReader::open(self.http.clone(), host.clone(), &reference.repository, descriptor, part)
        })
    }

    /// Whether the repository has a blob.
    pub fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool, RegistryError> {
        let host = self.host(&reference.registry, reference.registry_host())?;
        self.blob_exists_at(&host, &Want::pull(&reference.repository), digest)
    }

    pub(crate) fn blob_exists_at(
        &self,
        host: &Host,
        want: &Want,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let what = format!("blob {digest}");
        let url = host.url(&format!("/v2/{}/blobs/{digest}", want.repository))?;
        let ask = || {
            let reply = host.send(&self.http, want, &what, &mut Outgoing::new(Method::HEAD, url.clone()))?;
            match reply.status {
                200..=299 => Ok(true),
                404 => Ok(false),
                _ => Err(host.renamed(reply.into_error(&what, false))),
            }
        };
        self.http.retrying(ask)
    }

    /// The tags of a repository, in the registry's order.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        const PAGES_MAX: usize = 1000;
        const TAGS_MAX: usize = 200_000;
        let host = self.host(&reference.registry, reference.registry_host())?;
        let want = Want::pull(&reference.repository);
        let what = format!("the tags of {}", reference.name());
        let mut url = host.url(&format!("/v2/{}/tags/list?n=1000", reference.repository))?;
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let (page, next) = self.http.retrying(|| {
                let mut out = Outgoing::new(Method::GET, url.clone());
                let reply = success(&host, host.send(&self.http, &want, &what, &mut out)?, &what)?;
                let next = reply.header(LINK).and_then(next_page).and_then(|l| join(&reply.url, &l));
                let document: Value = serde_json::from_slice(&reply.read("its list of tags", MANIFEST_MAX)?)
                    .map_err(|_| RegistryError::protocol(host.name(), "its list of tags is not JSON"))?;
                let page = match document.get("tags") {
                    Some(Value::Array(tags)) => {
                        tags.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                    }
                    _ => Vec::new(),
                };
                Ok((page, next))
            })?;
            tags.extend(page.into_iter().filter(|t: &String| oci::reference::is_tag(t)));
            match next {
                Some(next) if same_origin(&next, &host.base) && next != url => url = next,
                _ => return Ok(tags),
            }
            if tags.len() > TAGS_MAX {
                break;
            }
        }
        Err(RegistryError::protocol(host.name(), "its list of tags has no end"))
    }

    /// Whether a registry (`docker.io`, `localhost:5000`) accepts a credential.
    pub fn login_check(&self, registry: &str, credential: &Credential) -> Result<(), RegistryError> {
        let name = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = self.http.find_base(name)?;
        let host = Host::with_credential(registry, base, credential.clone());
        let url = host.url("/v2/")?;
        self.http.retrying(|| {
            let what = "the registry";
            let mut out = Outgoing::new(Method::GET, url.clone());
            let reply = host.send(&self.http, &Want::default(), what, &mut out)?;
            success(&host, reply, what).map(|_| ())
        })
    }

    /// The host of that name, for a registry.
    pub(crate) fn host(&self, registry: &str, name: &str) -> Result<Arc<Host>, RegistryError> {
        let slot = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.entry(name.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = &*slot {
            return Ok(host.clone());
        }
        let base = self.http.find_base(name)?;
        let host = Arc::new(Host::new(registry, base, self.options.credentials.clone()));
        *slot = Some(host.clone());
        Ok(host)
    }

    /// Asks the mirrors of a registry, then the registry itself; its error is the one that counts.
    fn ask_mirrors<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Arc<Host>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mirrors = self.options.mirrors.iter().filter(|m| m.registry == reference.registry);
        for name in mirrors.flat_map(|m| &m.hosts) {
            if self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
                continue;
            }
            // A mirror has credentials of its own.
            let reason = match self.host(name, name).and_then(|host| ask(&host)) {
                Err(RegistryError::Cancelled) => return Err(RegistryError::Cancelled),
                Err(reason) => reason,
                found => return found,
            };
            if matches!(reason, RegistryError::Unreachable { .. } | RegistryError::Tls { .. }) {
                self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
            }
            self.http.event(&Event::MirrorFailed { host: name, reason: &reason });
        }
        ask(&self.host(&reference.registry, reference.registry_host())?)
    }

    fn ask_manifest(
        &self,
        host: &Host,
        reference: &Reference,
        method: Method,
    ) -> Result<Reply, RegistryError> {
        let what = reference.to_string();
        let name = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => {
                return Err(manifest_error(reference, "it has neither tag nor digest".to_owned()));
            }
        };
        let url = host.url(&format!("/v2/{}/manifests/{name}", reference.repository))?;
        let mut out = Outgoing::new(method, url).header(ACCEPT, ACCEPTED);
        success(host, host.send(&self.http, &Want::pull(&reference.repository), &what, &mut out)?, &what)
    }

    fn manifest_from(&self, host: &Host, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        let reply = self.ask_manifest(host, reference, Method::GET)?;
        let announced = content_type(&reply);
        let header = reply.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        let sender = reply.host().to_owned();
        let bytes = reply.read("its manifest", MANIFEST_MAX)?;
        let got = Digest::of(&bytes);
        if let Some(expected) = reference.digest.or(header).filter(|expected| *expected != got) {
            let what = format!("the manifest of {reference}");
            return Err(RegistryError::Digest { host: sender, what, expected, got });
        }
        let media_type = media_type(&announced, &bytes).map_err(|p| manifest_error(reference, p))?;
        Ok(FetchedManifest { descriptor: Descriptor::new(&media_type, got, bytes.len() as u64), bytes })
    }
}

/// The reply, or the error that its status stands for.
pub(crate) fn success(host: &Host, reply: Reply, what: &str) -> Result<Reply, RegistryError> {
    match reply.status {
        200..=299 => Ok(reply),
        _ => Err(host.renamed(reply.into_error(what, false))),
    }
}

fn manifest_error(reference: &Reference, problem: String) -> RegistryError {
    RegistryError::Manifest { reference: reference.to_string(), problem }
}

fn parse<T: serde::de::DeserializeOwned>(
    reference: &Reference,
    kind: &str,
    bytes: &[u8],
) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes)
        .map_err(|e| manifest_error(reference, format!("its {kind} does not follow the specification: {e}")))
}

fn content_type(reply: &Reply) -> String {
    let value = reply.header(CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_known(media_type: &str) -> bool {
    media::is_index(media_type) || media::is_manifest(media_type)
}

/// The media type of a document: its own word, that of the header, or its shape. They must not disagree on what it is: a document
/// that one program takes for an index and another for a manifest would be two images with one digest.
fn media_type(announced: &str, bytes: &[u8]) -> Result<String, String> {
    let document: Value =
        serde_json::from_slice(bytes).map_err(|e| format!("its manifest is not JSON: {e}"))?;
    if document.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err("it is in Docker's old format (manifest schema 1), which is not supported".to_owned());
    }
    let (index, manifest) = (
        document.get("manifests").is_some(),
        document.get("layers").is_some() || document.get("config").is_some(),
    );
    if index == manifest {
        return Err(match index {
            true => "its manifest claims to be an index as well".to_owned(),
            false => "its manifest is neither an image nor an index".to_owned(),
        });
    }
    let own = document.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let claimed = [own, announced].into_iter().find(|m| is_known(m));
    match claimed {
        Some(claimed) if media::is_index(claimed) != index => {
            Err(format!("its manifest is not what its media type {claimed} says"))
        }
        Some(claimed) => Ok(claimed.to_owned()),
        None if own.is_empty() => Ok(if index { media::INDEX } else { media::MANIFEST }.to_owned()),
        None => Err(format!("its media type {} is not supported", crate::error::clean(own, 100))),
    }
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = params.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let ok = |announced: &str, text: &str| media_type(announced, text.as_bytes()).ok();
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(ok(media::DOCKER_MANIFEST, manifest).as_deref(), Some(media::DOCKER_MANIFEST));
        assert_eq!(ok("application/json", manifest).as_deref(), Some(media::MANIFEST));
        assert_eq!(ok("", index).as_deref(), Some(media::INDEX));
        let own = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media::DOCKER_LIST);
        assert_eq!(ok("text/plain", &own).as_deref(), Some(media::DOCKER_LIST));
        for (announced, bad) in [
            (media::INDEX, manifest),
            (media::MANIFEST, index),
            ("", r#"{"manifests":[],"layers":[]}"#),
            ("", r#"{"config":{},"mediaType":"application/x"}"#),
            ("", "{}"),
            ("", "[]"),
            ("", "no"),
            ("", ""),
            ("", r#"{"schemaVersion":1,"fsLayers":[]}"#),
        ] {
            assert_eq!(ok(announced, bad), None, "{bad}");
        }
    }

    #[test]
    fn links() {
        assert_eq!(
            next_page(r#"</v2/a/tags/list?n=1&last=x>; rel="next""#).as_deref(),
            Some("/v2/a/tags/list?n=1&last=x")
        );
        assert_eq!(next_page(r#"<a>; rel="prev", <b>; x=y; rel=next"#).as_deref(), Some("b"));
        assert_eq!(next_page("<a>"), None);
        assert_eq!(next_page("x"), None);
    }
}
