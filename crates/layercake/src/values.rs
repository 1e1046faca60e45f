//! Values of flags that several commands take.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use sandbox::{Mount, MountSource};

use crate::env;
use crate::error::{CommandError, Kind};

/// A number of bytes with an optional unit (b, k, m, g, t; powers of 1024).
pub(crate) fn bytes(flag: &str, text: &str) -> Result<u64, CommandError> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(['b', 'i']);
    let (digits, shift) = match number.as_bytes().last() {
        Some(b'k') => (&number[..number.len() - 1], 10),
        Some(b'm') => (&number[..number.len() - 1], 20),
        Some(b'g') => (&number[..number.len() - 1], 30),
        Some(b't') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    value.ok_or_else(|| CommandError::usage(format!("--{flag} {text:?}: expected a size such as 64m")))
}

/// `90`, `10m`, `24h`, `7d`, `2w`: seconds.
pub(crate) fn seconds(flag: &str, text: &str) -> Result<u64, CommandError> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        Some(b'w') => (&text[..text.len() - 1], 7 * 86_400),
        _ => (text, 1),
    };
    let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    value.ok_or_else(|| CommandError::usage(format!("--{flag} {text:?}: expected a time such as 24h or 7d")))
}

/// `NAME=SOFT[:HARD]`.
pub(crate) fn ulimit(text: &str) -> Result<sandbox::Rlimit, CommandError> {
    let bad = || {
        CommandError::usage(format!("--ulimit {text:?}: expected NAME=SOFT[:HARD], such as nofile=1024:4096"))
    };
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let resource = sandbox::Resource::from_name(name).ok_or_else(bad)?;
    let number = |n: &str| if n == "-1" || n == "unlimited" { Some(u64::MAX) } else { n.parse().ok() };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(sandbox::Rlimit { resource, soft: number(soft).ok_or_else(bad)?, hard: number(hard).ok_or_else(bad)? })
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` of `--add-host`.
pub(crate) fn host(text: &str) -> Result<(String, String), CommandError> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) =
        split.ok_or_else(|| CommandError::usage(format!("--add-host {text:?}: expected NAME:ADDRESS")))?;
    let address = if address == "host-gateway" { "127.0.0.1" } else { address.trim_matches(['[', ']']) };
    Ok((name.to_owned(), address.to_owned()))
}

/// `KEY=VALUE`, or `KEY` with its value from the environment; none if that has no such variable.
pub(crate) fn variable(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((k, v)) => Some((k.to_owned(), v.to_owned())),
        None => env::named(text).map(|v| (text.to_owned(), v.to_string_lossy().into_owned())),
    }
}

/// The host's resolv.conf; behind systemd-resolved's stub, which a container cannot use, the real one.
pub(crate) fn resolv_conf() -> Vec<u8> {
    let read = |p: &str| std::fs::read(p).unwrap_or_default();
    let plain = read("/etc/resolv.conf");
    let only_stub = String::from_utf8_lossy(&plain)
        .lines()
        .filter_map(|l| l.strip_prefix("nameserver"))
        .all(|n| n.trim() == "127.0.0.53");
    let real = read("/run/systemd/resolve/resolv.conf");
    if only_stub && !real.is_empty() { real } else { plain }
}

/// `PATH:TARGET[:ro]` of `-v`: a directory, file or socket of this machine.
pub(crate) fn volume(text: &str) -> Result<Mount, CommandError> {
    let bad = |why: &str| {
        CommandError::usage(format!("-v {text:?}: {why}")).hint("write -v PATH:TARGET or -v PATH:TARGET:ro")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [s, t] => (*s, *t, ""),
        [s, t, m] => (*s, *t, *m),
        _ => return Err(bad("expected PATH:TARGET[:ro]")),
    };
    let mut readonly = false;
    for option in mode.split(',') {
        match option {
            "ro" => readonly = true,
            // Labels and propagation mean nothing here; Docker and Podman users write them by habit.
            "" | "rw" | "z" | "Z" => {}
            other => return Err(bad(&format!("the option {other:?} is not known"))),
        }
    }
    if !target.starts_with('/') {
        return Err(bad("the target is not an absolute path"));
    }
    if !source.starts_with(['/', '.']) {
        return Err(bad("named volumes are not supported, the source must be a path such as ./dir or /dir"));
    }
    let failed = |e| CommandError::new(Kind::User, format!("-v {text:?}: cannot use {source}: {e}"));
    let path = Path::new(source).canonicalize().map_err(failed)?;
    let kind = std::fs::metadata(&path).map_err(failed)?.file_type();
    let source = match (kind.is_dir(), kind.is_file() || kind.is_socket()) {
        (true, _) => MountSource::Dir { path, readonly },
        (_, true) => MountSource::HostFile { path, readonly },
        _ => return Err(bad("the source is neither a directory, nor a file, nor a socket")),
    };
    Ok(Mount { target: target.as_bytes().to_vec(), source })
}

/// `--view`, else LAYERCAKE_VIEW, else the best that works.
pub(crate) fn view(flag: Option<&str>) -> Result<build::View, CommandError> {
    let (name, by) = match (flag, crate::env::view()) {
        (Some(f), _) => (f.to_owned(), "--view"),
        (None, Some(v)) => (v, "LAYERCAKE_VIEW"),
        (None, None) => return Ok(build::View::Auto),
    };
    build::View::from_name(&name).ok_or_else(|| {
        CommandError::usage(format!("{by} {name:?} is not known")).hint("it is auto, fuse, overlay or copy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(bytes("x", "64m").unwrap(), 64 << 20);
        assert_eq!(bytes("x", "2GiB").unwrap(), 2 << 30);
        assert_eq!(bytes("x", "17").unwrap(), 17);
        assert_eq!(seconds("x", "7d").unwrap(), 604_800);
        assert_eq!(seconds("x", "90").unwrap(), 90);
        for bad in ["", "m", "-1", "1x", "99999999999999999999g", "ä"] {
            assert!(bytes("x", bad).is_err(), "{bad}");
            assert!(seconds("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("a:10.0.0.1").unwrap(), ("a".into(), "10.0.0.1".into()));
        assert_eq!(host("a=[::1]").unwrap(), ("a".into(), "::1".into()));
        assert!(host("a").is_err());
    }

    #[test]
    fn volumes() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().canonicalize().unwrap();
        let f = d.join("f");
        std::fs::write(&f, "x").unwrap();
        let (d, f) = (d.display(), f.display());
        let ok = |text: String| volume(&text).map(|m| m.source);
        assert!(matches!(ok(format!("{d}:/x")), Ok(MountSource::Dir { readonly: false, .. })));
        assert!(matches!(ok(format!("{d}:/x:ro,z")), Ok(MountSource::Dir { readonly: true, .. })));
        assert!(matches!(ok(format!("{f}:/x:ro")), Ok(MountSource::HostFile { readonly: true, .. })));
        assert!(matches!(ok(format!("{f}:/x")), Ok(MountSource::HostFile { readonly: false, .. })));
        let bad = [
            format!("{d}:x"),
            format!("{d}"),
            format!("{d}:/x:odd"),
            "name:/x".into(),
            "/dev/null:/x".into(),
        ];
        for bad in bad {
            assert_eq!(volume(&bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
        assert_eq!(volume("/not/there:/x").unwrap_err().kind, Kind::User);
    }
}
