//! What the caller decides: names, credentials, limits, and what it wants to hear.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::credentials::{Anonymous, CredentialError, Credentials};
use crate::error::RegistryError;

/// Settings of a [`crate::Client`].
pub struct Options {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Asked once per host and repository.
    pub credentials: Arc<dyn Credentials>,
    /// Hosts (`host` or `host:port`, as in references) that may have a bad certificate or none. Loopback hosts always may.
    pub insecure: Vec<String>,
    /// Where to look before the registry itself when pulling.
    pub mirrors: Vec<Mirror>,
    /// The way out, if there is no direct one.
    pub proxy: Option<Proxy>,
    /// Time limits of single operations.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retry: Retry,
    /// Raised by the caller (a signal handler) to end everything. See also [`crate::Client::shutdown`].
    pub cancel: Arc<AtomicBool>,
    /// Told about what people should know of while it works. Called on the thread of the operation.
    pub on_event: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            user_agent: concat!("layercake/", env!("CARGO_PKG_VERSION")).to_owned(),
            credentials: Arc::new(Anonymous),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            proxy: None,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            cancel: Arc::default(),
            on_event: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("insecure", &self.insecure)
            .field("mirrors", &self.mirrors)
            .field("timeouts", &self.timeouts)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Stand-ins for a registry. Content is verified by digest; what a tag means is the mirror's word.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The registry as in references: `docker.io`.
    pub registry: String,
    /// Hosts that have the same repositories, tried in order before the registry.
    pub hosts: Vec<String>,
}

/// A proxy. `Debug` does not show the URL, which may hold a password.
#[derive(Clone)]
pub struct Proxy {
    /// `http://[user:password@]host:port`: a proxy that knows CONNECT.
    pub url: String,
    /// Hosts to be reached directly, as the entries of `NO_PROXY`.
    pub no_proxy: Vec<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

/// Time limits.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Finding the address, and then connecting with the TLS handshake: for each.
    pub connect: Duration,
    /// Silence of the other side.
    pub read: Duration,
    /// Bytes a second that a response has to bring, on average over `read`, while we wait for it. It counts as broken otherwise.
    pub slowest: u64,
    /// The head of a response; and the whole of one that is a document (manifest, token, list of tags, error).
    pub document: Duration,
    /// The whole of any other response. A longer download goes on where it stopped, a file that is no blob fails.
    pub whole: Duration,
    /// Silence after the last byte of an upload.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(20),
            read: Duration::from_secs(60),
            slowest: 1024,
            document: Duration::from_secs(120),
            whole: Duration::from_secs(24 * 3600),
            commit: Duration::from_secs(600),
        }
    }
}

/// Trying again after failures that may pass.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Tries in all, the first included; for downloads: failures in a row without progress.
    pub attempts: u32,
    /// Wait before the second try; doubles with each.
    pub first_wait: Duration,
    /// No wait is longer. A registry that asks for a longer one gets its error reported at once.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 5, first_wait: Duration::from_millis(300), longest_wait: Duration::from_secs(60) }
    }
}

/// Something that people may want to see.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The operation failed for now and is tried again.
    Retry {
        /// After this wait.
        wait: Duration,
        /// What failed.
        reason: &'a RegistryError,
    },
    /// A download broke off and goes on where it stopped.
    Resume {
        /// The blob.
        what: &'a str,
        /// Bytes that are there already.
        offset: u64,
    },
    /// A mirror could not be used; the next host is asked.
    MirrorFailed {
        /// The mirror.
        host: &'a str,
        /// Why.
        reason: &'a RegistryError,
    },
    /// Credentials are configured and cannot be had; access is tried without.
    CredentialsFailed {
        /// The registry.
        registry: &'a str,
        /// Why.
        reason: &'a CredentialError,
    },
}
