//! Which image of an index runs on a platform.
//!
//! The rule is containerd's: the platform itself, then what its CPUs run as well, best first:
//! `amd64` with a variant also lower variants, and `386`; `arm` also lower variants; `arm64` also 32-bit `arm`.
//! Attestations (BuildKit marks them with an annotation, and gives them the platform `unknown/unknown`) are no images.

use oci::platform::Platform;
use oci::types::{Descriptor, Index};

/// The entry for `wanted`, or the platforms that there are.
pub(crate) fn select<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, Vec<Platform>> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|d| !is_attestation(d)).collect();
    for candidate in candidates(wanted) {
        let fits = |d: &&&Descriptor| d.platform.as_ref().is_some_and(|p| candidate.accepts(p));
        if let Some(found) = images.iter().find(fits) {
            return Ok(found);
        }
    }
    // An index of one image that names no platform leaves no choice.
    match images.as_slice() {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(images.iter().filter_map(|d| d.platform.clone()).collect()),
    }
}

fn is_attestation(d: &Descriptor) -> bool {
    d.annotations.get("vnd.docker.reference.type").is_some_and(|t| t == "attestation-manifest")
        || d.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
}

fn candidates(wanted: &Platform) -> Vec<Platform> {
    let new = |arch: &str, variant: Option<&str>| Platform::new(&wanted.os, arch, variant);
    let variant = wanted.variant.as_deref();
    let level = |v: Option<&str>| v.and_then(|v| v.strip_prefix('v')).and_then(|n| n.parse::<u8>().ok());
    let lower = |arch: &str, from: u8, to: u8| -> Vec<Platform> {
        (to..from).rev().map(|n| new(arch, Some(&format!("v{n}")))).collect()
    };
    let mut out = vec![new(&wanted.architecture, variant)];
    match wanted.architecture.as_str() {
        "amd64" => {
            out.extend(lower("amd64", level(variant).unwrap_or(1).min(9), 1));
            out.push(new("386", None));
        }
        "arm" => out.extend(lower("arm", level(variant).unwrap_or(7).min(9), 5)),
        "arm64" => out.extend(lower("arm", 9, 5)),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;
    use oci::types::media;

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms
            .iter()
            .map(|text| {
                let mut d = Descriptor::new(media::MANIFEST, Digest::of(text.as_bytes()), 1);
                match *text {
                    "none" => {}
                    "attestation" => {
                        d.platform = Some(Platform::new("linux", "amd64", None));
                        d.annotations
                            .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
                    }
                    "unknown" => d.platform = Some(Platform::new("unknown", "unknown", None)),
                    text => d.platform = Some(text.parse().unwrap()),
                }
                d
            })
            .collect();
        Index {
            schema_version: 2,
            media_type: None,
            manifests,
            annotations: Default::default(),
            rest: Default::default(),
        }
    }

    #[test]
    fn choices() {
        for (has, wanted, want) in [
            (&["linux/arm64", "linux/amd64"][..], "linux/amd64", Some("linux/amd64")),
            (&["attestation", "unknown", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["linux/386"], "linux/amd64", Some("linux/386")),
            (&["linux/386", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", Some("linux/amd64/v2")),
            (&["linux/amd64/v3"], "linux/amd64", None),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some("linux/arm/v6")),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm64", Some("linux/arm/v7")),
            (&["windows/amd64"], "linux/amd64", None),
            (&["none"], "linux/s390x", Some("none")),
            (&["none", "unknown"], "linux/s390x", Some("none")),
            (&["none", "linux/amd64"], "linux/s390x", None),
            (&[], "linux/amd64", None),
        ] {
            let index = index(has);
            let got = select(&index, &wanted.parse().unwrap()).ok().map(|d| d.digest);
            assert_eq!(got, want.map(|w| Digest::of(w.as_bytes())), "{wanted} of {has:?}");
        }
    }

    #[test]
    fn what_there_is_leaves_out_attestations() {
        let index = index(&["linux/arm64", "unknown", "attestation", "linux/s390x"]);
        let available = select(&index, &"linux/amd64".parse().unwrap()).unwrap_err();
        let names: Vec<String> = available.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["linux/arm64", "linux/s390x"]);
    }
}
