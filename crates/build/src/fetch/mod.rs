//! What a build takes from elsewhere: files by URL (`http`), git repositories (`git`), for ADD, contexts and Dockerfiles.
//!
//! # What is remembered
//!
//! What was fetched is kept like the result of a step: a record without parent, whose layer holds the files and whose inputs hold what
//! the server said of them. So it is found again, pruned and verified like everything else.
//!
//! | source | key | a record is used if |
//! |---|---|---|
//! | URL | digest of the URL, name of the secret that is sent | the server answers 304 to its ETag, or `--checksum` is its digest |
//! | git | commit, directory, `.git` or not, submodules or not, which times | always: the key says all |
//!
//! Neither URLs nor secrets stand in a record.

mod git;
pub(crate) mod gitref;
mod http;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use oci::{Digest, LayerIndex, Time};
use registry::{Client, RegistryError};
use serde_json::{Map, Value};
use store::{NewRecord, Store};

pub use self::gitref::{GitRef, GitRefError};
pub(crate) use self::gitref::{redact as shown, without_password};
pub(crate) use self::http::{Download, MAX_FILE};
use crate::context::ContextError;
use crate::key::{EMPTY_CHAIN, chain};
use crate::options::Secret;

/// Why something cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no way to the network.
    #[error("cannot download {url}: this build is offline")]
    Offline {
        /// From where.
        url: String,
    },
    /// The request failed.
    #[error("cannot download {url}")]
    Request {
        /// From where.
        url: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The server refused.
    #[error("cannot download {url}: invalid response status {status}")]
    Status {
        /// From where.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The connection broke, or the store cannot take the file.
    #[error("cannot download {url}")]
    Transfer {
        /// From where.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large for what it is.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// From where.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The content is not what was expected.
    #[error("digest mismatch for {url}: it is {got}, not {want}")]
    Mismatch {
        /// From where.
        url: String,
        /// What came.
        got: Digest,
        /// What was to come.
        want: Digest,
    },
    /// The source is no git reference.
    #[error(transparent)]
    GitRef(#[from] GitRefError),
    /// The commit is not what was expected.
    #[error("expected checksum to match {want}, got {got}")]
    Commit {
        /// What was to come.
        want: String,
        /// What the reference is.
        got: String,
    },
    /// A checksum that no commit has.
    #[error("invalid checksum {0} for a git source, expected a hexadecimal commit id")]
    BadCommit(String),
    /// The repository has no such branch, tag or commit.
    #[error("repository {remote} does not contain ref {reference}")]
    NoRef {
        /// The repository.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// The directory is not in the repository, or is no directory.
    #[error("git subdir not a directory: {0}")]
    NoSubdir(String),
    /// git failed.
    #[error("git {command} failed: {message}")]
    Git {
        /// Its subcommand.
        command: String,
        /// What it wrote.
        message: String,
    },
    /// git cannot be started.
    #[error("cannot run git")]
    NoGit(#[source] std::io::Error),
    /// A repository over ssh, and no agent.
    #[error("no SSH key \"default\" forwarded from the client, which {0} needs")]
    NoSsh(String),
    /// A secret cannot be read.
    #[error("cannot read secret {id} from {path:?}")]
    Secret {
        /// Its id.
        id: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that was fetched, on its way into the store.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A scratch file.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The build was stopped.
    #[error("interrupted")]
    Interrupted,
}

impl FetchError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            FetchError::Offline { .. } => "give the file with the build context, or build with a network",
            FetchError::Request { source, .. } => match **source {
                RegistryError::Tls { .. } => "check the server's certificate and the clock",
                _ => "check the address, the network and the proxy settings",
            },
            FetchError::Status { status: 401 | 403, .. } => {
                "give credentials with --secret id=HTTP_AUTH_TOKEN_<host> or HTTP_AUTH_HEADER_<host>"
            }
            FetchError::Status { status: 404, .. } => "check the address",
            FetchError::NoGit(_) => "install git, or put the sources into the build context",
            FetchError::NoSsh(_) => "give it with --ssh default",
            FetchError::NoRef { .. } => {
                "name a branch, a tag or a full commit id; a shortened id goes into ?commit="
            }
            _ => return None,
        })
    }

    /// For `map_err` on file operations.
    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> FetchError {
        let path = path.into();
        move |source| FetchError::Io { what, path, source }
    }
}

/// Fetches for one build.
#[derive(Clone, Copy)]
pub struct Fetcher<'a> {
    /// Where everything goes.
    pub store: &'a Store,
    /// The network; none: only what is known already can be had by URL.
    pub client: Option<&'a Client>,
    /// Values for authentication, by id.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// SSH agents, by id.
    pub ssh: &'a BTreeMap<String, PathBuf>,
    /// Raised to stop.
    pub cancel: &'a AtomicBool,
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("offline", &self.client.is_none()).finish_non_exhaustive()
    }
}

/// Something that was fetched before.
struct Known {
    layer: Arc<LayerIndex>,
    /// What the server said of it.
    facts: Map<String, Value>,
}

fn record_key(kind: &str, inputs: &Map<String, Value>) -> Digest {
    let mut h = oci::Hasher::new();
    h.update(format!("layercake-source-1\n{kind}\n").as_bytes());
    h.update(Value::Object(inputs.clone()).to_string().as_bytes());
    h.finish()
}

impl Fetcher<'_> {
    fn check(&self) -> Result<(), FetchError> {
        if self.cancel.load(Ordering::Relaxed) { Err(FetchError::Interrupted) } else { Ok(()) }
    }

    /// The value of a secret, if it was given; blanks around it are no part of it.
    fn secret(&self, id: &str) -> Result<Option<String>, FetchError> {
        let bytes = match self.secrets.get(id) {
            None => return Ok(None),
            Some(Secret::Bytes(b)) => b.clone(),
            Some(Secret::File(path)) => std::fs::read(path).map_err(|source| FetchError::Secret {
                id: id.to_owned(),
                path: path.clone(),
                source,
            })?,
        };
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    fn recall(&self, kind: &str, inputs: &Map<String, Value>) -> Result<Option<Known>, FetchError> {
        let Some(r) = self.store.record_by_parent(&record_key(kind, inputs), &EMPTY_CHAIN)? else {
            return Ok(None);
        };
        let Ok(Value::Object(facts)) = serde_json::from_str(&r.inputs) else { return Ok(None) };
        let layer = self.store.layer(&r.layer)?;
        for (digest, _) in layer.objects() {
            if !self.store.has_object(&digest)? {
                return Ok(None);
            }
        }
        Ok(Some(Known { layer, facts }))
    }

    /// Keeps what `batch` holds the contents of.
    fn remember(
        &self,
        kind: &str,
        inputs: &Map<String, Value>,
        mut facts: Map<String, Value>,
        layer: &LayerIndex,
        batch: store::Batch,
        began: Instant,
    ) -> Result<(), FetchError> {
        facts.insert("source".into(), kind.into());
        let id = batch.add_layer(layer)?;
        let record = NewRecord {
            key: record_key(kind, inputs),
            parent: EMPTY_CHAIN,
            layer: id,
            chain: chain(&EMPTY_CHAIN, &id),
            created: Time::now(),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            log: Vec::new(),
            observations: None,
            inputs: Value::Object(facts).to_string(),
            notes: String::new(),
        };
        Ok(batch.commit(vec![record], Vec::new())?)
    }
}
