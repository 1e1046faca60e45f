//! Registries: pulling and pushing images over HTTP (OCI distribution specification 1.1, Docker Registry API 2).
//!
//! A blocking client for many threads. It knows images (manifests, configs, blobs) and no store: bytes come out of a [`BlobReader`]
//! and go in through a closure that opens them. It reads no environment and no file but those that the caller names.
//!
//! - *what the caller sees*: [`Client`] (`client`: manifests, platforms, tags, login; `push`: blobs and manifests up),
//!   [`BlobReader`] (`blob`), [`Options`] and [`Event`] (`options`), [`RegistryError`] (`error`);
//! - *who asks*: [`credentials`] (Docker's and Podman's files), `helper` (programs that keep secrets), `auth` and `challenge`
//!   (Basic and Bearer);
//! - *transport*: `http` (connections, redirects, retries), `proxy`, `httpdate`, `base64`.
//!
//! What does not trust whom: nothing that a registry says is used before it was bounded and, where there is a digest, verified;
//! credentials go to the registry and the token server that it names, and nowhere that either redirects to.

mod auth;
mod base64;
mod blob;
mod challenge;
mod client;
pub mod credentials;
mod error;
mod helper;
mod http;
mod httpdate;
mod options;
mod proxy;
mod push;
mod select;

pub use blob::BlobReader;
pub use client::{CONFIG_MAX, Client, FetchedManifest, MANIFEST_MAX, ResolvedImage};
pub use credentials::{Credential, CredentialError, Credentials, DockerConfig, Keychain};
pub use error::RegistryError;
pub use helper::HelperSettings;
pub use options::{Event, Mirror, Options, Proxy, Retry, Timeouts};
pub use push::Pushed;
