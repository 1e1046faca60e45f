//! What the caller of a build chooses, as plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fetch::GitRef;
use crate::plan::Choices;
use crate::view::View;

/// A context with a name (`--build-context NAME=...`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Dir(PathBuf),
    /// An image in an OCI layout directory or tar: path, and tag or digest.
    OciLayout {
        /// The layout.
        path: PathBuf,
        /// `:tag` or `@digest`, without the sign.
        selector: Option<String>,
    },
    /// Another image.
    Image(String),
    /// A git repository.
    Git(Box<GitRef>),
    /// A file by URL; it is there as `context`.
    Http(String),
}

/// Where the value of a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Bytes(b) => write!(f, "Bytes({} bytes)", b.len()),
            Secret::File(p) => f.debug_tuple("File").field(p).finish(),
        }
    }
}

/// Network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// The host's.
    #[default]
    Host,
    /// Loopback only.
    None,
    /// A network of its own, which the program pasta connects with the host's.
    Pasta,
}

impl NetworkMode {
    /// As `--network` has it.
    pub fn name(self) -> &'static str {
        match self {
            NetworkMode::Host => "host",
            NetworkMode::None => "none",
            NetworkMode::Pasta => "pasta",
        }
    }
}

/// Which rules of the cache are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// A step is reused if nothing that it read changed.
    #[default]
    Traced,
    /// Docker's rule: a step is reused only on the same chain of steps.
    Chain,
}

/// When the result of a step that ran is taken as an earlier one (early cut-off).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cutoff {
    /// They are equal in all but times.
    #[default]
    Exact,
    /// Logs and the like do not count either: the list is that of `noise`.
    Noise,
}

/// A build, as asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the plan needs.
    pub choices: Choices,
    /// Stands before the names of stages in the log, where several builds are shown together.
    pub label: String,
    /// `--cache`.
    pub cache: CacheMode,
    /// `--cache-semantics`: what a file means to a step may be the same although its bytes are not.
    pub semantics: bool,
    /// `--cutoff`.
    pub cutoff: Cutoff,
    /// `--view`.
    pub view: View,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--secret`.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: id to socket.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--network`.
    pub network: NetworkMode,
    /// `--add-host`: name and address.
    pub hosts: Vec<(String, String)>,
    /// Host name of RUN steps.
    pub hostname: String,
    /// `/etc/resolv.conf` of RUN steps.
    pub resolv_conf: Vec<u8>,
    /// `--shm-size` in bytes.
    pub shm_size: u64,
    /// `--volume`: what all RUN steps are shown of this machine. Where it comes from and what is in it is in no key.
    pub volumes: Vec<sandbox::Mount>,
    /// `--ulimit`.
    pub ulimits: Vec<sandbox::Rlimit>,
    /// `--memory` and its kin: what each RUN step may use. In no key, as with Docker.
    pub limits: sandbox::Limits,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// `--allow network.host`, or `--network host`: what `RUN --network=host` needs.
    pub allow_host_network: bool,
    /// `BUILDKIT_CACHE_MOUNT_NS`: stands before the ids of cache mounts.
    pub cache_namespace: String,
    /// Part of the keys of RUN steps: builds with different ones share no results. For trying something out beside the user's builds.
    pub salt: Option<String>,
    /// `--no-cache-mounts`: the cache mounts of this build begin empty.
    pub no_cache_mounts: bool,
    /// `--reproducible`: the same files give the same image on another day.
    pub reproducible: bool,
    /// What a failed RUN wrote is kept, for [`crate::Left`].
    pub keep_failed: bool,
    /// `--pull`.
    pub pull: bool,
    /// How many steps run at once.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            choices: Choices::default(),
            label: String::new(),
            cache: CacheMode::Traced,
            semantics: true,
            cutoff: Cutoff::Exact,
            view: View::Auto,
            contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            network: NetworkMode::Host,
            hosts: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            resolv_conf: Vec::new(),
            shm_size: 64 << 20,
            volumes: Vec::new(),
            ulimits: Vec::new(),
            limits: sandbox::Limits::default(),
            allow_insecure: false,
            allow_host_network: false,
            cache_namespace: String::new(),
            salt: None,
            no_cache_mounts: false,
            reproducible: false,
            keep_failed: false,
            pull: false,
            jobs: 16,
        }
    }
}
