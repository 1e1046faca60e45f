//! From flags and the image's config to what a container gets.

use std::path::PathBuf;

use build::plan::DEFAULT_PATH;
use sandbox::{Mount, MountSource};

use crate::error::{CommandError, Kind};
use crate::values;

/// The words to run. A command replaces the image's; an entry point of the command line replaces both.
pub(super) fn command(
    entrypoint: Option<&[String]>,
    cmd: Option<&[String]>,
    own_entrypoint: Option<&str>,
    own: &[String],
) -> Vec<String> {
    let (mut words, cmd) = match own_entrypoint {
        Some("") => (Vec::new(), None),
        Some(program) => (vec![program.to_owned()], None),
        None => (entrypoint.unwrap_or_default().to_vec(), cmd),
    };
    words.extend_from_slice(if own.is_empty() { cmd.unwrap_or_default() } else { own });
    words
}

/// Sets variables: what is there changes its value and keeps its place.
pub(super) fn merge(env: &mut Vec<(String, String)>, more: Vec<(String, String)>) {
    for (key, value) in more {
        match env.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => env.push((key, value)),
        }
    }
}

/// Docker's variables, then the image's.
pub(super) fn image_environment(image: &[String], hostname: &str, tty: bool) -> Vec<(String, String)> {
    let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOSTNAME".into(), hostname.into())];
    if tty {
        env.push(("TERM".into(), "xterm".into()));
    }
    let own = image.iter().filter_map(|e| e.split_once('='));
    merge(&mut env, own.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    env
}

/// The variables of `--env-file` and `-e`, in this order.
pub(super) fn environment(
    files: &[PathBuf],
    flags: &[String],
) -> Result<Vec<(String, String)>, CommandError> {
    let mut out = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|e| {
            CommandError::new(Kind::Environment, format!("cannot read {}: {e}", path.display()))
        })?;
        for (n, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split_once('=').map_or(line, |(k, _)| k);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(CommandError::usage(format!(
                    "{}:{}: {name:?} is no name of a variable",
                    path.display(),
                    n + 1
                )));
            }
            out.extend(values::variable(line));
        }
    }
    for flag in flags {
        if flag.split_once('=').map_or(flag.as_str(), |(k, _)| k).is_empty() {
            return Err(CommandError::usage(format!("-e {flag:?}: expected NAME or NAME=VALUE")));
        }
        out.extend(values::variable(flag));
    }
    Ok(out)
}

/// The working directory: `-w`, from the image's if it is relative.
pub(super) fn directory(image: &str, own: Option<&str>) -> Result<String, CommandError> {
    let image = if image.is_empty() { "/" } else { image };
    match own {
        None | Some("") => Ok(image.to_owned()),
        Some(dir) if dir.starts_with('/') => Ok(dir.to_owned()),
        Some(dir) => Err(CommandError::usage(format!("-w {dir:?} is not an absolute path"))),
    }
}

/// What `-v` and `--tmpfs` mount.
pub(super) fn mounts(volumes: &[String], tmpfs: &[String]) -> Result<Vec<Mount>, CommandError> {
    let mut out = volumes.iter().map(|v| values::volume(v)).collect::<Result<Vec<_>, _>>()?;
    for t in tmpfs {
        out.push(memory(t)?);
    }
    Ok(out)
}

fn memory(text: &str) -> Result<Mount, CommandError> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let bad = |why: &str| {
        CommandError::usage(format!("--tmpfs {text:?}: {why}"))
            .hint("write --tmpfs TARGET or --tmpfs TARGET:size=64m,mode=1777")
    };
    if !target.starts_with('/') {
        return Err(bad("the target is not an absolute path"));
    }
    let (mut size, mut mode) = (None, None);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("size", v)) => size = Some(values::bytes("tmpfs", v)?),
            Some(("mode", v)) => {
                let octal = u32::from_str_radix(v, 8).ok().filter(|m| *m <= 0o7777);
                mode = Some(octal.ok_or_else(|| bad("the mode is no octal number"))?);
            }
            // The defaults.
            None if matches!(option, "rw" | "nosuid" | "nodev" | "noexec") => {}
            _ => return Err(bad(&format!("the option {option:?} is not known"))),
        }
    }
    Ok(Mount { target: target.as_bytes().to_vec(), source: MountSource::Tmpfs { size, mode } })
}

/// `/etc/hosts`.
pub(super) fn etc_hosts(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_and_entry_point() {
        let (entry, cmd) = (words("entry -x"), words("cmd -y"));
        let of = |own_entry, own: &str| command(Some(&entry), Some(&cmd), own_entry, &words(own)).join(" ");
        assert_eq!(of(None, ""), "entry -x cmd -y");
        assert_eq!(of(None, "sh -c"), "entry -x sh -c");
        assert_eq!(of(Some("sh"), ""), "sh");
        assert_eq!(of(Some("sh"), "-c x"), "sh -c x");
        assert_eq!(of(Some(""), "ls"), "ls");
        assert_eq!(of(Some(""), ""), "");
        assert_eq!(command(None, Some(&cmd), None, &[]).join(" "), "cmd -y");
    }

    #[test]
    fn later_variables_win_and_keep_the_place() {
        let mut env = image_environment(&["PATH=/x".into(), "A=1".into(), "odd".into()], "h", true);
        merge(&mut env, vec![("A".into(), "2".into()), ("B".into(), "3".into())]);
        let text: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["PATH=/x", "HOSTNAME=h", "TERM=xterm", "A=2", "B=3"]);
    }

    #[test]
    fn env_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        std::fs::write(&path, "# c\n\nA=1 2\n  B=\nNOT_SET_ANYWHERE_42\n").unwrap();
        let env = environment(std::slice::from_ref(&path), &["A=3".into()]).unwrap();
        let pairs: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1 2"), ("B", ""), ("A", "3")]);
        std::fs::write(&path, "A B=1\n").unwrap();
        assert!(environment(&[path], &[]).unwrap_err().message.contains(":1:"));
        assert!(environment(&[], &["=x".into()]).is_err());
    }

    #[test]
    fn tmpfs() {
        let m = memory("/t:size=1m,mode=700").unwrap();
        assert!(matches!(m.source, MountSource::Tmpfs { size: Some(0x10_0000), mode: Some(0o700) }));
        for bad in ["t", "/t:mode=9", "/t:odd", "/t:size=x"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn working_directories() {
        assert_eq!(directory("", None).unwrap(), "/");
        assert_eq!(directory("/a", Some("/b")).unwrap(), "/b");
        assert!(directory("/a", Some("b")).is_err());
    }
}
