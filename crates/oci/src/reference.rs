//! Image references: `[registry/]repository[:tag][@digest]`, read as Docker reads them.
//!
//! The grammar is that of the distribution project's `reference` package:
//!
//! ```text
//! reference  = name [":" tag] ["@" digest]
//! name       = [domain "/"] path
//! domain     = host [":" port]        host = labels of letters, digits, inner hyphens | IPv4 | "[" IPv6 "]"
//! path       = component {"/" component}          at most 255 characters
//! component  = word {separator word}              word = [a-z0-9]+   separator = "." | "_" | "__" | "-"...
//! tag        = [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! ```
//!
//! and these are the rules for familiar names:
//!
//! - what stands before the first `/` is a domain only if it has a `.` or a `:`, is `localhost`, or has a capital letter
//!   (no repository may have one); without a domain the registry is `docker.io`, and `index.docker.io` means that, too;
//! - on `docker.io` a path of one component is short for `library/` and that component;
//! - without tag and digest the tag is `latest`; with a digest alone there is no tag;
//! - 64 hex digits alone are an image ID, not a name, and are refused.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

const HUB: &str = "docker.io";
const HUB_OLD: &str = "index.docker.io";
const HUB_API: &str = "registry-1.docker.io";
const HUB_OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;
/// Longer than any valid reference (domain 255, path 255, tag 128, digest 71): refused before it is looked at.
const TEXT_MAX: usize = 1024;

/// A complete reference: at least one of tag and digest is there when it came from a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The registry as people write it: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// The repository, complete: `library/alpine`.
    pub repository: String,
    /// The tag. Next to a digest it is only a comment.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// A URL.
    #[error("image reference {0:?} starts with a URL scheme: leave it out")]
    Scheme(String),
    /// Capital letters where none may be.
    #[error("image reference {0:?} has capital letters in the repository name: it must be lower case")]
    Uppercase(String),
    /// 64 hex digits.
    #[error("image reference {0:?} is an image ID, not a name")]
    Id(String),
    /// The part before the first slash is neither host nor host:port.
    #[error("image reference {0:?} has no valid registry host")]
    Registry(String),
    /// The path breaks the grammar.
    #[error("image reference {0:?} has no valid repository name")]
    Repository(String),
    /// The tag breaks the grammar.
    #[error("image reference {0:?} has no valid tag")]
    Tag(String),
    /// What follows `@` is not a digest that we take.
    #[error("image reference {text:?} has no valid digest")]
    Digest {
        /// The reference, shortened.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// Above the limits.
    #[error("image reference {0:?} is too long: a repository name has at most 255 characters, a tag 128")]
    TooLong(String),
}

impl Reference {
    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest text that reads back as this reference, as `docker images` shows it: `alpine:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The familiar text without tag and digest: `alpine`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return self.name();
        }
        match self.repository.split_once('/') {
            Some((HUB_OFFICIAL, rest)) if !rest.contains('/') => rest.to_owned(),
            // The first component would be taken for a host if the registry were left out.
            Some((first, _)) if looks_like_domain(first) => self.name(),
            _ => self.repository.clone(),
        }
    }

    /// `host[:port]` of the registry's API. Only Docker Hub's differs from its name.
    pub fn registry_host(&self) -> &str {
        if self.registry == HUB { HUB_API } else { &self.registry }
    }

    /// The same repository at a digest, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let shown = || text.chars().take(100).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > TEXT_MAX {
            return Err(ReferenceError::TooLong(shown()));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(ReferenceError::Scheme(shown()));
        }
        if Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::Id(shown()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { text: shown(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((first, rest)) if looks_like_domain(first) => (first, rest),
            _ => (HUB, rest),
        };
        let registry = if registry == HUB_OLD { HUB } else { registry };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(shown()));
        }
        if !is_domain(registry) {
            return Err(ReferenceError::Registry(shown()));
        }
        if !path.split('/').all(is_component) {
            return Err(ReferenceError::Repository(shown()));
        }
        let repository = if registry == HUB && !path.contains('/') {
            format!("{HUB_OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > PATH_MAX || tag.is_some_and(|t| t.len() > TAG_MAX) {
            return Err(ReferenceError::TooLong(shown()));
        }
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(ReferenceError::Tag(shown()));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

fn looks_like_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|c| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inner, port)) if inner.parse::<Ipv6Addr>().is_ok() => {
                (None, port.strip_prefix(':').ok_or(port))
            }
            _ => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Ok(port)),
            None => (Some(domain), Err("")),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let port_ok = match port {
        Ok(port) => port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        Err(left_over) => left_over.is_empty(),
    };
    // A host name has at most 253 characters (RFC 1035).
    port_ok && host.is_none_or(|h| h.len() <= 253 && h.split('.').all(label))
}

fn is_component(component: &str) -> bool {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let raw = component.as_bytes();
    if !raw.first().is_some_and(|&c| word(c)) || !raw.last().is_some_and(|&c| word(c)) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-'))
}

/// Whether a text may be a tag (its length included).
pub fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn canonical_and_familiar() {
        let at = |s: &str| s.replace("@D", &format!("@{D}"));
        for (given, canonical, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("alpine@D", "docker.io/library/alpine@D", "alpine@D"),
            ("alpine:3@D", "docker.io/library/alpine:3@D", "alpine:3@D"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker/dockerfile:1", "docker.io/docker/dockerfile:1", "docker/dockerfile:1"),
            ("docker.io", "docker.io/library/docker.io:latest", "docker.io:latest"),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("ghcr.io/a/b@D", "ghcr.io/a/b@D", "ghcr.io/a/b@D"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("[2001:db8::1]/x", "[2001:db8::1]/x:latest", "[2001:db8::1]/x:latest"),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            ("a__b/c---d/e_f/g.h", "docker.io/a__b/c---d/e_f/g.h:latest", "a__b/c---d/e_f/g.h:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest"),
            ("x:_A.b-", "docker.io/library/x:_A.b-", "x:_A.b-"),
        ] {
            let (canonical, familiar) = (at(canonical), at(familiar));
            let r: Reference = at(given).parse().unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(r.to_string(), canonical, "{given}");
            assert_eq!(r.familiar(), familiar, "{given}");
            assert_eq!(canonical.parse::<Reference>().unwrap(), r, "{given}: canonical reads back");
            assert_eq!(familiar.parse::<Reference>().unwrap(), r, "{given}: familiar reads back");
        }
    }

    #[test]
    fn refused() {
        let hex = &D[7..];
        let kind = |text: &str| match text.parse::<Reference>().unwrap_err() {
            ReferenceError::Empty => "empty",
            ReferenceError::Scheme(_) => "scheme",
            ReferenceError::Uppercase(_) => "case",
            ReferenceError::Id(_) => "id",
            ReferenceError::Registry(_) => "registry",
            ReferenceError::Repository(_) => "repository",
            ReferenceError::Tag(_) => "tag",
            ReferenceError::Digest { .. } => "digest",
            ReferenceError::TooLong(_) => "long",
        };
        let cases: &[(&str, &str)] = &[
            ("", "empty"),
            ("https://ghcr.io/a", "scheme"),
            ("Alpine", "case"),
            ("ghcr.io/A/b", "case"),
            ("ALPINE:3", "case"),
            (hex, "id"),
            ("-a.b/x", "registry"),
            ("a..b/x", "registry"),
            ("a.b:x/y", "registry"),
            ("a.b:99999/y", "registry"),
            ("a.b:/y", "registry"),
            ("[::1/x", "registry"),
            ("[::1]x/y", "registry"),
            ("[zz::1]/y", "registry"),
            ("a_b.c/x", "registry"),
            ("a/", "repository"),
            ("/a", "repository"),
            ("a//b", "repository"),
            ("a.b/", "repository"),
            ("-a", "repository"),
            ("a-", "repository"),
            ("a___b", "repository"),
            ("a.-b", "repository"),
            ("a..b", "repository"),
            ("a b", "repository"),
            ("../x", "registry"),
            ("a/../x", "repository"),
            ("ä", "repository"),
            ("a\n", "repository"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a:x:y", "tag"),
            ("a:x y", "tag"),
            ("a@sha256:12", "digest"),
            ("a@", "digest"),
            ("a@sha512:00", "digest"),
        ];
        for (text, want) in cases {
            assert_eq!(kind(text), *want, "{text:?}");
        }
        assert_eq!(kind(&format!("a:{}", "x".repeat(129))), "long");
        assert_eq!(kind(&format!("h.io/{}", "x".repeat(256))), "long");
        assert_eq!(kind(&"x".repeat(100_000)), "long");
        // `library/` counts.
        assert_eq!(kind(&"x".repeat(248)), "long");
        assert!("x".repeat(247).parse::<Reference>().is_ok());
        assert!(format!("h.io/{}:{}", "x".repeat(255), "t".repeat(128)).parse::<Reference>().is_ok());
    }

    #[test]
    fn the_api_host_of_docker_hub() {
        let host = |s: &str| s.parse::<Reference>().unwrap().registry_host().to_owned();
        assert_eq!(host("alpine"), "registry-1.docker.io");
        assert_eq!(host("ghcr.io/a/b"), "ghcr.io");
        assert_eq!(host("localhost:5000/b"), "localhost:5000");
    }

    #[test]
    fn with_digest_drops_the_tag() {
        let r: Reference = "ghcr.io/a/b:c".parse().unwrap();
        assert_eq!(r.with_digest(D.parse().unwrap()).to_string(), format!("ghcr.io/a/b@{D}"));
    }
}
