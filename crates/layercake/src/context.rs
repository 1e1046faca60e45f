//! What commands share: the store, the registry client, the interrupt flag.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use registry::{Client, DockerConfig, Keychain};
use store::Store;

use crate::env;
use crate::error::{CommandError, Kind};

/// Where the store is: `--root`, LAYERCAKE_ROOT, `/var/lib/layercake` for root, else the user's data directory.
pub(crate) fn root(flag: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    if let Some(r) = flag.or_else(env::root) {
        return Ok(r);
    }
    if crate::rootless::is_root() {
        return Ok(PathBuf::from("/var/lib/layercake"));
    }
    env::data_home().map(|d| d.join("layercake")).ok_or_else(|| {
        CommandError::new(
            Kind::Environment,
            "cannot tell where the store is: neither XDG_DATA_HOME nor HOME is set",
        )
        .hint("say where with --root or LAYERCAKE_ROOT")
    })
}

/// Opens the store.
pub(crate) fn store(flag: Option<PathBuf>) -> Result<Store, CommandError> {
    Ok(Store::open(&root(flag)?)?)
}

/// Docker's configuration file, whether it exists or not.
pub(crate) fn docker_config_file() -> Option<PathBuf> {
    env::docker_config().map(|d| d.join("config.json"))
}

/// A client with the user's credentials and proxy.
pub(crate) fn client(insecure: &[String], cancel: &Arc<AtomicBool>) -> Result<Client, CommandError> {
    let mut keys = Vec::new();
    for path in [docker_config_file(), env::podman_auth()].into_iter().flatten().filter(|p| p.exists()) {
        let config = DockerConfig::load(&path).map_err(|e| {
            CommandError::new(Kind::Environment, crate::error::chain(&e)).hint("mend the file, or remove it")
        })?;
        keys.push(config);
    }
    let options = registry::Options {
        credentials: Arc::new(Keychain(keys)),
        insecure: insecure.to_vec(),
        proxy: env::proxy().map(|(url, no_proxy)| registry::Proxy { url, no_proxy }),
        cancel: cancel.clone(),
        on_event: Arc::new(|e| crate::output::note(&told(e))),
        ..registry::Options::default()
    };
    Ok(Client::new(options)?)
}

/// What the user should know of a registry's troubles, although the work goes on.
fn told(event: &registry::Event<'_>) -> String {
    use crate::error::chain;
    match event {
        registry::Event::Retry { wait, reason } => {
            format!("warning: {}; trying again in {:.1} s", chain(*reason), wait.as_secs_f64())
        }
        registry::Event::Resume { what, offset } => {
            format!("warning: {what} broke off and goes on at {}", crate::human::bytes(*offset))
        }
        registry::Event::MirrorFailed { host, reason } => {
            format!("warning: the mirror {host} cannot be used: {}", chain(*reason))
        }
        registry::Event::CredentialsFailed { registry, reason } => {
            format!("warning: going on without credentials for {registry}: {}", chain(*reason))
        }
        other => format!("warning: {other:?}"),
    }
}

/// A flag that the first Ctrl-C or SIGTERM raises; the second one ends the program at once.
pub(crate) fn interrupt_flag() -> Result<Arc<AtomicBool>, CommandError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()));
        registered.map_err(|e| CommandError::new(Kind::Internal, format!("cannot handle signals: {e}")))?;
    }
    Ok(flag)
}
