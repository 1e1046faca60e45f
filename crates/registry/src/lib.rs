//! Registries: pulling and pushing images over HTTP (OCI distribution specification 1.1, Docker Registry API 2).
//!
//! A blocking client for many threads. It knows images (manifests, configs, blobs) and no store: bytes come out of a [`BlobReader`]
//! and go in through a closure that opens them. It reads no environment and no file but those that the caller names.
//!
//! - *what the caller sees*: [`Client`] (`client`: manifests, platforms, tags, login; `push`: blobs and manifests up),
//!   [`BlobReader`] (`blob`), [`Options`] and [`Event`] (`options`), [`RegistryError`] (`error`);
//! - *plain files*: [`Client::get`] (`download`);
//! - *who asks*: [`Credentials`] (`credentials`), [`DockerConfig`] (`docker_config`: Docker's and Podman's files), `helper`
//!   (programs that keep secrets), `auth` and `challenge` (Basic and Bearer);
//! - *transport*: `http` (connections, redirects, retries), `url`, `proxy`, `httpdate`.
//!
//! What does not trust whom: nothing that a registry says is used before it was bounded and, where there is a digest, verified;
//! credentials go to the registry and the token server that it names, and nowhere that either redirects to.

mod auth;
mod blob;
mod challenge;
mod client;
mod credentials;
mod docker_config;
mod download;
mod error;
mod helper;
mod http;
mod httpdate;
mod options;
mod pace;
mod proxy;
mod push;
mod select;
mod url;

pub use blob::BlobReader;
pub use client::{CONFIG_MAX, Client, FetchedManifest, MANIFEST_MAX, ResolvedImage};
pub use credentials::{Anonymous, Credential, CredentialError, Credentials};
pub use docker_config::{DockerConfig, Keychain};
pub use download::{Get, Got, unescape};
pub use error::RegistryError;
pub use helper::HelperSettings;
pub use options::{Event, Mirror, Options, Proxy, Retry, Timeouts};
pub use push::Pushed;

/// The time of an HTTP date header (`Last-Modified`).
pub fn parse_http_date(text: &str) -> Option<oci::Time> {
    let since = httpdate::parse(text)?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(oci::Time::from_secs(i64::try_from(since.as_secs()).ok()?))
}

/// `user:password` as the Basic scheme sends it.
pub fn basic_credentials(user: &str, password: &str) -> String {
    oci::base64::encode(format!("{user}:{password}").as_bytes())
}
