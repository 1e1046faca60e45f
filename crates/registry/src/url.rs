//! What we need of URLs and host names beyond taking them apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

/// Whether `host[:port]` is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host_name(host);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|a| IpAddr::V6(a).to_canonical().is_loopback())
}

/// `host[:port]` without the port and the brackets of an IPv6 address.
pub(crate) fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

/// Same scheme, host and port.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |u: &Uri| u.port_u16().unwrap_or(if u.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |u: &Uri| u.host().unwrap_or_default().to_ascii_lowercase();
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// A URL reference (RFC 3986 section 4.2), seen from `base`. `None` if it is none, is not http(s), or holds a user name.
pub(crate) fn join(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let lower = reference.get(..8).unwrap_or(reference).to_ascii_lowercase();
    let text = if lower.starts_with("https://") || lower.starts_with("http://") {
        reference.to_owned()
    } else if reference.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
        return None; // another scheme
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') || reference.is_empty() {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(d, _)| d);
        format!("{scheme}://{authority}{directory}/{reference}")
    };
    let url: Uri = text.parse().ok()?;
    let plain = url.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty());
    (plain && matches!(url.scheme_str(), Some("http" | "https"))).then_some(url)
}

/// A value for a query string: everything but unreserved characters escaped.
pub(crate) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for b in value.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_references() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        for (reference, want) in [
            ("https://cdn.example/b?sig=1#frag", Some("https://cdn.example/b?sig=1")),
            ("HTTP://cdn.example/b", Some("http://cdn.example/b")),
            ("//cdn.example/b", Some("https://cdn.example/b")),
            ("/v2/u/1?_state=a%3D", Some("https://r.example:5000/v2/u/1?_state=a%3D")),
            ("1-2?s", Some("https://r.example:5000/v2/a/blobs/uploads/1-2?s")),
            ("?y", Some("https://r.example:5000/v2/a/blobs/uploads/?y")),
            ("https://user:pw@cdn.example/b", None),
            ("ftp://cdn.example/b", None),
            ("file:///etc/passwd", None),
            ("data:x", None),
            ("https://", None),
            ("/a b", None),
            ("http://[::1/x", None),
        ] {
            assert_eq!(join(&base, reference).map(|u| u.to_string()).as_deref(), want, "{reference}");
        }
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://h/a", "https://H:443/b?c"));
        assert!(same("http://h:80/", "http://h/"));
        assert!(!same("https://h/", "http://h/"));
        assert!(!same("https://h:5000/", "http://h:5000/"));
        assert!(!same("https://h/", "https://h:444/"));
        assert!(!same("https://h/", "https://h.evil/"));
    }

    #[test]
    fn this_machine() {
        for yes in
            ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example", "10.0.0.1", "128.0.0.1:5000", "[::2]", "127.0.0.1.example", ""] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
