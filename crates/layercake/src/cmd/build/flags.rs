//! From the flags of `build` to the options of a build.

use std::path::PathBuf;

use build::input::Place;
use build::{CacheMode, Cutoff, NamedContext, NetworkMode, Options, Secret};
use oci::platform::Platform;

use crate::cli::BuildArgs;
use crate::error::CommandError;
use crate::{env, values};

fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), CommandError> {
    text.split_once('=').ok_or_else(|| CommandError::usage(format!("--{flag} {text:?}: expected NAME=VALUE")))
}

fn named_context(source: &str) -> Result<NamedContext, CommandError> {
    if let Some(rest) = source.strip_prefix("oci-layout://") {
        let (path, selector) = match rest.rsplit_once('@') {
            Some((p, d)) => (p, Some(d)),
            None => match rest.rsplit_once(':') {
                Some((p, t)) if !t.contains('/') => (p, Some(t)),
                _ => (rest, None),
            },
        };
        let selector = selector.map(str::to_owned);
        return Ok(NamedContext::OciLayout { path: PathBuf::from(path), selector });
    }
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(image.to_owned()));
    }
    Ok(match Place::of(source).map_err(|e| CommandError::usage(crate::error::chain(&e)))? {
        Place::Git(git) => NamedContext::Git(git),
        Place::Http(url) => NamedContext::Http(url),
        Place::Dir(dir) if !dir.is_dir() => {
            return Err(CommandError::usage(format!("--build-context: there is no directory {source}"))
                .hint("it is a directory, a git or http(s) URL, docker-image://REF or oci-layout://DIR"));
        }
        Place::Dir(dir) => NamedContext::Dir(dir),
        Place::Stream(_) => NamedContext::Dir(PathBuf::from(source)),
    })
}

/// `--platform`: each once; one `None` if there is none.
pub(crate) fn platforms(args: &BuildArgs) -> Result<Vec<Option<Platform>>, CommandError> {
    let mut out: Vec<Option<Platform>> = Vec::new();
    for text in args.platform.iter().map(|t| t.trim()).filter(|t| !t.is_empty()) {
        let platform = match text {
            "local" => Platform::host(),
            _ => text.parse().map_err(|e| CommandError::usage(format!("--platform: {e}")))?,
        };
        if !out.contains(&Some(platform.clone())) {
            out.push(Some(platform));
        }
    }
    if out.is_empty() {
        out.push(None);
    }
    Ok(out)
}

/// For `--reproducible`: the date of the last commit, where the context is a checkout and no date is given.
pub(crate) fn date_of_checkout(options: &mut Options, place: &Place) {
    let args = &mut options.choices.build_args;
    let (false, Place::Dir(dir)) = (args.contains_key("SOURCE_DATE_EPOCH"), place) else { return };
    let mut git = std::process::Command::new("git");
    git.arg("-C").arg(dir).args(["log", "-1", "--format=%ct"]).env("GIT_OPTIONAL_LOCKS", "0");
    // A directory that is no checkout, or a machine without git, gives no date.
    let Some(out) = git.output().ok().filter(|o| o.status.success()) else { return };
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    if text.parse::<i64>().is_ok() {
        args.insert("SOURCE_DATE_EPOCH".to_owned(), text);
    }
}

/// Whether an image of one platform is to be an index, too.
pub(crate) fn multi_platform(options: &Options) -> bool {
    let given = options.choices.build_args.get("BUILDKIT_MULTI_PLATFORM");
    matches!(given.map(String::as_str), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The options of a build.
pub(crate) fn options(args: &BuildArgs) -> Result<Options, CommandError> {
    let mut o = Options { jobs: args.jobs.max(1), pull: args.pull.unwrap_or(false), ..Options::default() };
    o.cache = match args.cache.as_str() {
        "traced" => CacheMode::Traced,
        "chain" => CacheMode::Chain,
        other => {
            return Err(
                CommandError::usage(format!("--cache {other:?} is not known")).hint("it is traced or chain")
            );
        }
    };
    o.semantics = match args.cache_semantics.as_str() {
        "on" => true,
        "off" => false,
        other => {
            return Err(CommandError::usage(format!("--cache-semantics {other:?} is not known"))
                .hint("it is on or off"));
        }
    };
    o.cutoff = match args.cutoff.as_str() {
        "exact" => Cutoff::Exact,
        "noise" => Cutoff::Noise,
        other => {
            return Err(
                CommandError::usage(format!("--cutoff {other:?} is not known")).hint("it is exact or noise")
            );
        }
    };
    o.view = crate::values::view(args.view.as_deref())?;
    for (flag, value) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
        if value.as_ref().is_some_and(|v| v != "false") {
            return Err(CommandError::usage(format!("--{flag}: attestations are not made"))
                .hint(format!("leave it out, or write --{flag}=false")));
        }
    }
    let c = &mut o.choices;
    c.no_cache = args.no_cache;
    c.expand_from = args.expand_from;
    c.no_cache_filter = args.no_cache_filter.iter().map(|s| s.to_lowercase()).collect();
    for a in &args.build_arg {
        // Without a value, and unset here: as if it had not been given.
        c.build_args.extend(values::variable(a));
    }
    for l in &args.label {
        let (k, v) = l.split_once('=').unwrap_or((l, ""));
        c.labels.push((k.to_owned(), v.to_owned()));
    }
    // As buildx: the variable is a build argument.
    if let (Some(e), false) = (env::source_date_epoch(), c.build_args.contains_key("SOURCE_DATE_EPOCH")) {
        c.build_args.insert("SOURCE_DATE_EPOCH".into(), e);
    }
    for b in &args.build_context {
        let (name, source) = pair("build-context", b)?;
        o.contexts.insert(name.to_owned(), named_context(source)?);
    }
    for s in &args.secret {
        let (id, secret) = secret(s)?;
        o.secrets.insert(id, secret);
    }
    for s in &args.ssh {
        let (id, socket) = match s.split_once('=') {
            Some((id, path)) => (id.to_owned(), PathBuf::from(path)),
            None => {
                let agent = env::ssh_auth_sock();
                let hint = "start an agent, or write --ssh ID=SOCKET";
                (
                    s.clone(),
                    agent.ok_or_else(|| CommandError::usage("--ssh: SSH_AUTH_SOCK is not set").hint(hint))?,
                )
            }
        };
        o.ssh.insert(id, socket);
    }
    o.network = match args.network.as_str() {
        "default" => NetworkMode::Host,
        "host" => {
            o.allow_host_network = true;
            NetworkMode::Host
        }
        "none" => NetworkMode::None,
        "pasta" => NetworkMode::Pasta,
        other => {
            return Err(CommandError::usage(format!("--network {other:?} is not known"))
                .hint("it is one of default, host, none, pasta"));
        }
    };
    for h in &args.add_host {
        o.hosts.push(values::host(h)?);
    }
    for v in &args.volume {
        o.volumes.push(values::volume(v)?);
    }
    for a in &args.allow {
        match a.as_str() {
            "security.insecure" => o.allow_insecure = true,
            "network.host" => o.allow_host_network = true,
            other => {
                return Err(CommandError::usage(format!("--allow {other:?} is not known"))
                    .hint("it is network.host or security.insecure"));
            }
        }
    }
    if let Some(s) = &args.shm_size {
        o.shm_size = values::bytes("shm-size", s)?;
    }
    for u in &args.ulimit {
        o.ulimits.push(values::ulimit(u)?);
    }
    o.limits = args.limits.limits()?;
    if let Some(h) = o.choices.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") {
        o.hostname = h.clone();
    }
    if let Some(ns) = o.choices.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
        o.cache_namespace.clone_from(ns);
    }
    o.no_cache_mounts = args.no_cache_mounts;
    o.reproducible = args.reproducible;
    o.resolv_conf = values::resolv_conf();
    Ok(o)
}

fn secret(text: &str) -> Result<(String, Secret), CommandError> {
    let (mut id, mut src, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let (k, v) = pair("secret", field)?;
        match k {
            "id" => id = Some(v.to_owned()),
            "src" | "source" => src = Some(v.to_owned()),
            "env" => variable = Some(v.to_owned()),
            "type" => kind = Some(v.to_owned()),
            other => return Err(CommandError::usage(format!("--secret: unexpected key {other:?}"))),
        }
    }
    let id = id.ok_or_else(|| CommandError::usage(format!("--secret {text:?}: id is missing")))?;
    let from_env = |name: &str| {
        let value = env::named(name)
            .ok_or_else(|| CommandError::usage(format!("--secret: the variable {name} is not set")));
        value.map(|v| Secret::Bytes(v.into_encoded_bytes()))
    };
    let secret = match (src, variable, kind.as_deref()) {
        (Some(s), None, Some("env")) => from_env(&s)?,
        (Some(s), None, _) => {
            let path = PathBuf::from(&s);
            if !path.exists() {
                return Err(CommandError::usage(format!("--secret: there is no file {s}")));
            }
            Secret::File(path)
        }
        (None, Some(v), _) => from_env(&v)?,
        // As buildx: a variable of that name, else a file.
        (None, None, _) => match env::named(&id) {
            Some(v) => Secret::Bytes(v.into_encoded_bytes()),
            None => Secret::File(PathBuf::from(&id)),
        },
        (Some(_), Some(_), _) => return Err(CommandError::usage("--secret: src and env exclude each other")),
    };
    Ok((id, secret))
}
