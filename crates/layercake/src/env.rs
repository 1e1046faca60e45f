//! Every environment variable that layercake reads, in one place.

#![allow(clippy::disallowed_methods)]

use std::ffi::OsString;
use std::path::PathBuf;

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

/// `TERM`: `dumb` is a terminal that cannot be drawn on.
pub(crate) fn term() -> Option<String> {
    get("TERM").map(|v| v.to_string_lossy().into_owned())
}
