//! Platforms as `os/architecture/variant`, as far as checks need them.
//!
//! Source of names and aliases: containerd/platforms.

/// An operating system and an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

const SYSTEMS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

const ARCHITECTURES: [&str; 26] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
    "wasm64",
];

impl Platform {
    /// Reads a platform; a lone system or architecture is completed from `default`.
    pub(super) fn parse(text: &str, default: &Platform) -> Option<Platform> {
        let valid = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        let parts: Vec<&str> = text.split('/').collect();
        // A version of the system may stand behind it in brackets.
        let system = parts[0].split_once('(').map_or(parts[0], |(os, _)| os);
        if parts.len() > 3 || !valid(system) || !parts[1..].iter().all(|part| valid(part)) {
            return None;
        }
        let os = match system.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        if let Some(architecture) = parts.get(1) {
            return Some(Platform { os, architecture: normal(architecture) });
        }
        if SYSTEMS.contains(&os.as_str()) {
            return Some(Platform { os, architecture: default.architecture.clone() });
        }
        let architecture = normal(parts[0]);
        ARCHITECTURES
            .contains(&architecture.as_str())
            .then(|| Platform { os: default.os.clone(), architecture })
    }
}

impl Default for Platform {
    fn default() -> Platform {
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() }
    }
}

fn normal(architecture: &str) -> String {
    match architecture.to_lowercase().as_str() {
        "i386" => "386",
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        other => return other.to_owned(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let parse = |text| Platform::parse(text, &Platform::default()).map(|p| (p.os, p.architecture));
        let platform = |os: &str, architecture: &str| Some((os.to_owned(), architecture.to_owned()));
        assert_eq!(parse("linux/arm64/v8"), platform("linux", "arm64"));
        assert_eq!(parse("windows(10.0.1)/x86_64"), platform("windows", "amd64"));
        assert_eq!(parse("aarch64"), platform("linux", "arm64"));
        assert_eq!(parse("darwin"), platform("darwin", "amd64"));
        for bad in ["", "what", "a/b/c/d", "linux/", "linux/a b"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
