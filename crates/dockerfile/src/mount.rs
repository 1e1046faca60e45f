//! The values of `RUN --mount` and `RUN --device`.
//!
//! `--mount` is one line of CSV; its fields are `key=value` or `key`, keys in any case. Values are expanded,
//! except `from`. `type` must come before `required` and `size`.
//!
//! | type | keys beside `target` (`dst`, `destination`), defaults in brackets |
//! |---|---|
//! | `bind` (default) | `source`, `src` (`/`); `from` (the build context); `ro`, `readonly`, `rw`, `readwrite` (read-only) |
//! | `cache` | `id` (the target); `sharing`: `shared`, `private`, `locked` (shared); `from`, `source`; `ro` (read-write); `mode` (0755), `uid`, `gid` (0) |
//! | `tmpfs` | `size` in bytes or with k, m, g, t, p, of 1024 (no limit) |
//! | `secret` | `id` or `source` (last part of the target); `target` (`/run/secrets/` and last part of the id, unless `env`); `env`; `required` (false); `mode` (0400), `uid`, `gid` (0) |
//! | `ssh` | `id` (`default`); `target` (`/run/buildkit/ssh_agent.N`); `required` (false); `mode` (0600), `uid`, `gid` (0) |
//!
//! Other keys that belong to another type are accepted, and have no effect. Whether a target is needed and makes
//! sense is left to the builder, which knows the working directory.
//!
//! Source: BuildKit, frontend/dockerfile/instructions/commands_runmount.go and commands_rundevice.go.

use crate::expand::ExpandError;
use crate::suggest::nearest;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Files of the context, an image or a stage.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret, as a file or a variable.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

impl Kind {
    /// The name in the Dockerfile.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

const KINDS: [(&str, Kind); 5] = [
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Anyone.
    Shared,
    /// Each user at the same time gets a cache of its own.
    Private,
    /// One after the other.
    Locked,
}

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// A mount; texts that are empty are `None`, but for `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: Kind,
    /// Where.
    pub target: Option<String>,
    /// Which part of `from`; for a secret, another way to say `id`.
    pub source: Option<String>,
    /// The stage, image or context.
    pub from: Option<String>,
    /// The name of the cache, secret or agent.
    pub id: Option<String>,
    /// Whether it was asked to be read-only or not; see [`Mount::is_readonly`].
    pub readonly: Option<bool>,
    /// For caches.
    pub sharing: Option<Sharing>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// The size of a tmpfs in bytes; 0 is no limit.
    pub size: Option<u64>,
    /// Whether a missing secret or agent is an error.
    pub required: bool,
    /// The variable for a secret; if empty, it has the secret's name.
    pub env: Option<String>,
}

impl Mount {
    /// Whether the mount is read-only: as asked, otherwise all but caches and tmpfs are.
    pub fn is_readonly(&self) -> bool {
        self.readonly.unwrap_or(!matches!(self.kind, Kind::Cache | Kind::Tmpfs))
    }
}

/// What is wrong with a mount or device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not one line of CSV.
    #[error("{0}")]
    Csv(&'static str),
    /// A variable in a value.
    #[error("cannot expand {field}")]
    Expand {
        /// The field.
        field: String,
        /// Why.
        source: ExpandError,
    },
    /// `from` cannot hold variables.
    #[error("from must not hold variables: define a stage for it with FROM ... AS, and use its name")]
    FromVariable,
    /// A key that needs a value.
    #[error("{0} must be written as key=value")]
    NoValue(String),
    /// A key that does not exist.
    #[error("unknown key {key}{}", hint(*.similar))]
    UnknownKey {
        /// The key.
        key: String,
        /// A key with a similar name.
        similar: Option<&'static str>,
    },
    /// A value that a key does not take.
    #[error("invalid value {value:?} for {key}{}", hint(*.similar))]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// A possible value with a similar name.
        similar: Option<&'static str>,
    },
    /// A key that does not go with the type given so far.
    #[error("{key} is not for mounts of type {}", .kind.name())]
    KeyForKind {
        /// The key.
        key: String,
        /// The type.
        kind: Kind,
    },
    /// A secret without a name.
    #[error("a secret mount needs id, source or target")]
    NoSecret,
    /// Both are the name of the secret.
    #[error("a secret mount cannot have both source and id")]
    SourceAndId,
    /// `--device` with two names.
    #[error("device name is already {0}")]
    SecondName(String),
}

fn hint(similar: Option<&'static str>) -> String {
    similar.map(|s| format!(" (did you mean {s}?)")).unwrap_or_default()
}

/// Reads the value of `--mount`. `expand` expands variables in a value.
pub fn parse(
    raw: &str,
    expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
) -> Result<Mount, MountError> {
    check(raw)?;
    let mut mount = Mount {
        kind: Kind::Bind,
        target: None,
        source: None,
        from: None,
        id: None,
        readonly: None,
        sharing: None,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        required: false,
        env: None,
    };
    for field in csv(raw)? {
        let (key, value) = key_and_value(&field);
        match value {
            Some(value) => {
                let value =
                    expand(value).map_err(|source| MountError::Expand { field: field.clone(), source })?;
                mount.set(&key, value)?;
            }
            None => match key.as_str() {
                "readonly" | "ro" => mount.readonly = Some(true),
                "readwrite" | "rw" => mount.readonly = Some(false),
                "required" => mount.set("required", "true".to_owned())?,
                _ => return Err(MountError::NoValue(field)),
            },
        }
    }
    mount.validate()?;
    Ok(mount)
}

/// What can be said about the value of `--mount` before variables are known.
pub(crate) fn check(raw: &str) -> Result<(), MountError> {
    for field in csv(raw)? {
        if let (key, Some(value)) = key_and_value(&field)
            && key == "from"
            && value.find('$').is_some_and(|at| at + 1 < value.len())
        {
            return Err(MountError::FromVariable);
        }
    }
    Ok(())
}

impl Mount {
    fn set(&mut self, key: &str, value: String) -> Result<(), MountError> {
        let invalid = |similar| MountError::Value { key: key.to_owned(), value: value.clone(), similar };
        let for_kind = |right: bool, kind| match right {
            true => Ok(()),
            false => Err(MountError::KeyForKind { key: key.to_owned(), kind }),
        };
        let id = |radix| number(&value, radix).ok_or_else(|| invalid(None)).map(Some);
        match key {
            "type" => {
                self.kind = named(&KINDS, &value)
                    .ok_or_else(|| invalid(nearest(&value, KINDS.iter().map(|k| k.0))))?;
            }
            "sharing" => {
                let sharing = named(&SHARINGS, &value)
                    .ok_or_else(|| invalid(nearest(&value, SHARINGS.iter().map(|s| s.0))))?;
                self.sharing = Some(sharing);
            }
            "readonly" | "ro" => self.readonly = Some(boolean(&value).ok_or_else(|| invalid(None))?),
            "readwrite" | "rw" => self.readonly = Some(!boolean(&value).ok_or_else(|| invalid(None))?),
            "required" => {
                for_kind(matches!(self.kind, Kind::Secret | Kind::Ssh), self.kind)?;
                self.required = boolean(&value).ok_or_else(|| invalid(None))?;
            }
            "size" => {
                for_kind(self.kind == Kind::Tmpfs, self.kind)?;
                self.size = Some(size(&value).ok_or_else(|| invalid(None))?);
            }
            "mode" => self.mode = id(8)?,
            "uid" => self.uid = id(10)?,
            "gid" => self.gid = id(10)?,
            "from" => self.from = Some(value).filter(|v| !v.is_empty()),
            "source" | "src" => self.source = Some(value).filter(|v| !v.is_empty()),
            "target" | "dst" | "destination" => self.target = Some(value).filter(|v| !v.is_empty()),
            "id" => self.id = Some(value).filter(|v| !v.is_empty()),
            "env" => self.env = Some(value),
            _ => {
                return Err(MountError::UnknownKey { key: key.to_owned(), similar: nearest(key, KEYS) });
            }
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), MountError> {
        let wrong = |key: &str| Err(MountError::KeyForKind { key: key.to_owned(), kind: self.kind });
        if !matches!(self.kind, Kind::Secret | Kind::Ssh | Kind::Cache) {
            for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if value.is_some() {
                    return wrong(key);
                }
            }
        }
        if self.sharing.is_some() && self.kind != Kind::Cache {
            return wrong("sharing");
        }
        if self.kind == Kind::Secret {
            if self.from.is_some() {
                return wrong("from");
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return Err(MountError::NoSecret);
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(MountError::SourceAndId);
            }
        }
        Ok(())
    }
}

/// A device of the Container Device Interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor/class=name`, a class, or a kind; may be empty.
    pub name: String,
    /// Whether it is an error if there is no such device.
    pub required: bool,
}

impl Device {
    /// Reads the value of `--device`: a name, and `required` or `required=BOOL`.
    pub fn parse(raw: &str) -> Result<Device, MountError> {
        let mut device = Device { name: String::new(), required: false };
        for field in csv(raw)? {
            match key_and_value(&field) {
                (key, None) if key == "required" => device.required = true,
                (_, None) if device.name.is_empty() => device.name = field,
                (_, None) => return Err(MountError::NoValue(field)),
                (key, Some(_)) if key == "name" && !device.name.is_empty() => {
                    return Err(MountError::SecondName(device.name));
                }
                (key, Some(value)) if key == "name" => device.name = value.to_owned(),
                (key, Some(value)) if key == "required" => {
                    device.required = boolean(value).ok_or_else(|| MountError::Value {
                        key: "required".to_owned(),
                        value: value.to_owned(),
                        similar: None,
                    })?;
                }
                (_, Some(_)) if device.name.is_empty() => device.name = field,
                (key, Some(_)) => {
                    let similar = nearest(&key, ["name", "required"]);
                    return Err(MountError::UnknownKey { key, similar });
                }
            }
        }
        Ok(device)
    }
}

fn key_and_value(field: &str) -> (String, Option<&str>) {
    match field.split_once('=') {
        Some((key, value)) => (key.to_lowercase(), Some(value)),
        None => (field.to_lowercase(), None),
    }
}

fn named<T: Copy>(names: &[(&str, T)], value: &str) -> Option<T> {
    let value = value.to_lowercase();
    names.iter().find(|(name, _)| *name == value).map(|(_, value)| *value)
}

/// A boolean as Go's `strconv.ParseBool` takes it.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(value: &str, radix: u32) -> Option<u32> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| u32::from_str_radix(value, radix).ok()).flatten()
}

/// A size: a number, perhaps with a fraction, and `b` or a unit `k`, `m`, `g`, `t`, `p` (of 1024, with `b` or `ib`
/// behind it if you like), in any case; a blank may stand between.
fn size(text: &str) -> Option<u64> {
    let at = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = match text.as_bytes()[at] {
        b' ' => (&text[..at], &text[at + 1..]),
        _ => text.split_at(at + 1),
    };
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let unit = unit.to_lowercase();
    let (scale, suffix) = match unit.as_bytes().first() {
        None => return Some(number as u64),
        Some(b'b') => (0, &unit[..]),
        Some(b'k') => (10, &unit[1..]),
        Some(b'm') => (20, &unit[1..]),
        Some(b'g') => (30, &unit[1..]),
        Some(b't') => (40, &unit[1..]),
        Some(b'p') => (50, &unit[1..]),
        _ => return None,
    };
    matches!(suffix, "" | "b" | "ib").then_some((number * (1u64 << scale) as f64) as u64)
}

/// The fields of one line of CSV (RFC 4180, comma, no bare quotes).
fn csv(line: &str) -> Result<Vec<String>, MountError> {
    let line = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
    if line.is_empty() {
        return Err(MountError::Csv("the value is empty"));
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, behind) = match rest.split_once(',') {
                Some((field, behind)) => (field, Some(behind)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(MountError::Csv("a field with a quote must be in quotes as a whole"));
            }
            fields.push(field.to_owned());
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut inside = quoted;
        loop {
            let Some((part, behind)) = inside.split_once('"') else {
                return Err(MountError::Csv("missing closing quote"));
            };
            field.push_str(part);
            match behind.strip_prefix('"') {
                Some(behind) => {
                    field.push('"');
                    inside = behind;
                }
                None => {
                    inside = behind;
                    break;
                }
            }
        }
        fields.push(field);
        if inside.is_empty() {
            return Ok(fields);
        }
        rest = inside.strip_prefix(',').ok_or(MountError::Csv("text behind a closing quote"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(raw: &str) -> Result<Mount, MountError> {
        parse(raw, &mut |value| Ok(value.replace("$X", "xx")))
    }

    #[test]
    fn keys_and_defaults() {
        let mount = plain("target=/t").expect("valid");
        assert_eq!(
            (mount.kind, mount.target.as_deref(), mount.is_readonly()),
            (Kind::Bind, Some("/t"), true)
        );
        let mount = plain("TYPE=Cache,dst=/c,id=$X,sharing=locked,mode=0700,uid=1,gid=2").expect("valid");
        assert_eq!(mount.id.as_deref(), Some("xx"));
        assert_eq!((mount.sharing, mount.mode), (Some(Sharing::Locked), Some(0o700)));
        assert_eq!((mount.uid, mount.gid, mount.is_readonly()), (Some(1), Some(2), false));
        let mount = plain("type=secret,id=a,required,env=E").expect("valid");
        assert_eq!((mount.required, mount.env.as_deref()), (true, Some("E")));
        let mount = plain("type=bind,\"source=a,b\",target=/t,rw").expect("valid");
        assert_eq!((mount.source.as_deref(), mount.readonly), (Some("a,b"), Some(false)));
        let mount = plain("type=tmpfs,target=/t,size=1.5gb").expect("valid");
        assert_eq!(mount.size, Some(3 << 29));
    }

    #[test]
    fn errors() {
        let text = |raw| plain(raw).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
        assert_eq!(text("type=bnd,target=/t"), "invalid value \"bnd\" for type (did you mean bind?)");
        assert_eq!(text("targt=/t"), "unknown key targt (did you mean target?)");
        assert_eq!(text("target"), "target must be written as key=value");
        assert_eq!(text("required,type=secret"), "required is not for mounts of type bind");
        assert_eq!(text("type=tmpfs,mode=1"), "mode is not for mounts of type tmpfs");
        assert_eq!(text("mode=8,type=cache"), "invalid value \"8\" for mode");
        assert_eq!(text("uid=+1,type=cache"), "invalid value \"+1\" for uid");
        assert_eq!(text("type=secret"), "a secret mount needs id, source or target");
        assert_eq!(text("type=secret,id=a,src=b"), "a secret mount cannot have both source and id");
        assert_eq!(text("from=$X,target=/t"), MountError::FromVariable.to_string());
        assert_eq!(text("sharing=shared,target=/t"), "sharing is not for mounts of type bind");
        assert_eq!(text("ro=yes,target=/t"), "invalid value \"yes\" for ro");
        for bad in ["", "a\"b", "\"a", "\"a\"b"] {
            assert!(matches!(plain(bad), Err(MountError::Csv(_))), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("1b", 1),
            ("2k", 2048),
            ("2KiB", 2048),
            ("1 mb", 1 << 20),
            ("1.5 G", 3 << 29),
            (".5k", 512),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "1x", "1bb", "1kibi", "-1", "1e3", "k"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn devices() {
        let device = |raw: &str| Device::parse(raw).map(|d| (d.name, d.required));
        assert_eq!(device("vendor.com/class=a,required"), Ok(("vendor.com/class=a".to_owned(), true)));
        assert_eq!(device("vendor.com/class"), Ok(("vendor.com/class".to_owned(), false)));
        assert_eq!(device("name=a,required=0"), Ok(("a".to_owned(), false)));
        assert_eq!(device("a,name=b"), Err(MountError::SecondName("a".to_owned())));
        assert_eq!(device("a,b"), Err(MountError::NoValue("b".to_owned())));
        assert!(device("a,x=y").is_err());
    }
}
