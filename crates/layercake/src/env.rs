//! Every environment variable that layercake reads, in one place.

#![allow(clippy::disallowed_methods)]

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{CommandError, Kind};

fn get(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// `LAYERCAKE_ROOT`: where the store is, unless `--root` says so.
pub(crate) fn root() -> Option<PathBuf> {
    get("LAYERCAKE_ROOT").map(PathBuf::from)
}

/// `XDG_DATA_HOME`, else `$HOME/.local/share`: where an ordinary user's store is.
pub(crate) fn data_home() -> Option<PathBuf> {
    get("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home().map(|h| h.join(".local/share")))
}

/// `HOME`.
pub(crate) fn home() -> Option<PathBuf> {
    get("HOME").map(PathBuf::from)
}

/// `DOCKER_CONFIG`, else `$HOME/.docker`: the directory of Docker's config.json.
pub(crate) fn docker_config() -> Option<PathBuf> {
    get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home().map(|h| h.join(".docker")))
}

/// `REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json`: Podman's credentials.
pub(crate) fn podman_auth() -> Option<PathBuf> {
    let runtime = || get("XDG_RUNTIME_DIR").map(|d| PathBuf::from(d).join("containers/auth.json"));
    get("REGISTRY_AUTH_FILE").map(PathBuf::from).or_else(runtime)
}

/// Whether `CI` says that this is no place for dialogues, by dive's words for yes.
pub(crate) fn ci() -> bool {
    get("CI").is_some_and(|v| v == "true" || v == "1" || v == "yes")
}

/// The socket of a variable such as `DOCKER_HOST`; other ways to a daemon are refused.
fn socket_of(name: &str) -> Result<Option<PathBuf>, CommandError> {
    let Some(host) = get(name) else { return Ok(None) };
    let host = host.to_string_lossy();
    match host.strip_prefix("unix://") {
        Some(path) => Ok(Some(path.into())),
        None => Err(CommandError::new(
            Kind::Environment,
            format!("{name} is {host:?}, which is no socket of this machine"),
        )
        .hint("save the image there and analyse the archive: docker save IMAGE | layercake analyse -")),
    }
}

/// Docker's socket: `DOCKER_HOST`, else the usual one.
pub(crate) fn docker_socket() -> Result<PathBuf, CommandError> {
    Ok(socket_of("DOCKER_HOST")?.unwrap_or_else(|| "/var/run/docker.sock".into()))
}

/// Podman's socket: `CONTAINER_HOST`, else the user's, else the system's.
pub(crate) fn podman_socket() -> Result<PathBuf, CommandError> {
    if let Some(path) = socket_of("CONTAINER_HOST")? {
        return Ok(path);
    }
    let own = get("XDG_RUNTIME_DIR").map(|d| PathBuf::from(d).join("podman/podman.sock"));
    Ok(own.filter(|p| p.exists()).unwrap_or_else(|| "/run/podman/podman.sock".into()))
}

/// `SSH_AUTH_SOCK`: the agent of `--ssh default`.
pub(crate) fn ssh_auth_sock() -> Option<PathBuf> {
    get("SSH_AUTH_SOCK").map(PathBuf::from)
}

/// `SOURCE_DATE_EPOCH`: the time of everything that a build makes.
pub(crate) fn source_date_epoch() -> Option<String> {
    get("SOURCE_DATE_EPOCH").map(|v| v.to_string_lossy().into_owned())
}

/// `BUILDKIT_PROGRESS`: how progress is shown, unless `--progress` says so.
pub(crate) fn progress() -> Option<String> {
    get("BUILDKIT_PROGRESS").map(|v| v.to_string_lossy().into_owned())
}

/// `HTTPS_PROXY` or `https_proxy`, and `NO_PROXY` or `no_proxy`: the way to registries.
pub(crate) fn proxy() -> Option<(String, Vec<String>)> {
    let either = |a: &str, b: &str| get(a).or_else(|| get(b)).map(|v| v.to_string_lossy().into_owned());
    let url = either("HTTPS_PROXY", "https_proxy")?;
    let no = either("NO_PROXY", "no_proxy").unwrap_or_default();
    Some((url, no.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()))
}

/// A variable that the command line names (`--build-arg NAME`, `--secret id=NAME`, `-e NAME`).
pub(crate) fn named(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// `LAYERCAKE_VIEW`: how steps are shown their files, unless `--view` says so.
pub(crate) fn view() -> Option<String> {
    get("LAYERCAKE_VIEW").map(|v| v.to_string_lossy().into_owned())
}

/// `LAYERCAKE_FAULT`: `die@N`, `full@N` or `broken@N`, for tests; see [`store::fault`]. Builds without debug assertions ignore it.
pub(crate) fn fault() -> Option<(store::fault::Fault, u64)> {
    use store::fault::Fault;
    let text = get("LAYERCAKE_FAULT")?.into_string().ok()?;
    let (fault, at) = text.split_once('@')?;
    let fault = match fault {
        "die" => Fault::Die,
        "full" => Fault::Full,
        "broken" => Fault::Broken,
        _ => return None,
    };
    Some((fault, at.parse().ok()?))
}

/// `TERM`: `dumb` is a terminal that cannot be drawn on.
pub(crate) fn term() -> Option<String> {
    get("TERM").map(|v| v.to_string_lossy().into_owned())
}

/// `NO_COLOR`: no colours, please.
pub(crate) fn no_color() -> Option<OsString> {
    get("NO_COLOR")
}
