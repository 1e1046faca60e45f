//! Platforms: `os/arch[/variant]` in Go's words, normalised as containerd does it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::Rest;

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `linux`, ...
    pub os: String,
    /// `v7`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Unknown fields (`os.version`, `os.features`).
    #[serde(flatten)]
    pub rest: Rest,
}

/// A text that names no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a platform: expected os/arch or os/arch/variant, as linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let arch = architecture.to_ascii_lowercase();
        let (arch, implied) = match arch.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "i386" | "i486" | "i586" | "i686" => ("386", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            other => (other, None),
        };
        let variant = variant.or(implied).map(|v| match v {
            "5" | "6" | "7" | "8" => format!("v{v}"),
            v => v.to_ascii_lowercase(),
        });
        let variant = match (arch, variant.as_deref()) {
            ("arm64", Some("v8")) | ("amd64", Some("v1")) | (_, Some("")) => None,
            ("arm", None) => Some("v7".to_owned()),
            _ => variant,
        };
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            o => o.to_owned(),
        };
        Platform { architecture: arch.to_owned(), os, variant, rest: Rest::new() }
    }

    /// The platform that this program was built for: what RUN steps execute on without emulation.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, None)
    }

    /// Whether an image made for `image` can stand in where `self` is wanted: same os, architecture and variant.
    pub fn accepts(&self, image: &Platform) -> bool {
        let image = Platform::new(&image.os, &image.architecture, image.variant.as_deref());
        self.os == image.os && self.architecture == image.architecture && self.variant == image.variant
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(s: &str) -> Result<Platform, PlatformError> {
        let bad = || PlatformError(s.chars().take(60).collect());
        let mut parts = s.split('/');
        let (first, arch, variant) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        let word = |w: &str| {
            !w.is_empty() && w.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        };
        if parts.next().is_some() || !word(first) || !arch.is_none_or(word) || !variant.is_none_or(word) {
            return Err(bad());
        }
        match arch {
            Some(a) => Ok(Platform::new(first, a, variant)),
            None if first == "local" => Ok(Platform::host()),
            // One word is an operating system or an architecture, as `docker build --platform arm64` takes it.
            None if matches!(first, "linux" | "windows" | "darwin" | "freebsd") => {
                Ok(Platform::new(first, std::env::consts::ARCH, None))
            }
            None => Ok(Platform::new("linux", first, None)),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(v) => write!(f, "/{v}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        for (given, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(given.parse::<Platform>().unwrap().to_string(), want, "{given}");
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/a b", "/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn acceptance_looks_at_normal_forms() {
        let want: Platform = "linux/arm64".parse().unwrap();
        let raw = Platform {
            architecture: "arm64".into(),
            os: "linux".into(),
            variant: Some("v8".into()),
            rest: Rest::new(),
        };
        assert!(want.accepts(&raw));
        assert!(!want.accepts(&"linux/amd64".parse().unwrap()));
    }
}
