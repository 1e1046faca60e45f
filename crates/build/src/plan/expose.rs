//! EXPOSE: `[ip:][host:]port[-port][/proto]` to a list of `port/proto` (Docker's nat port syntax).
//!
//! Addresses and host ports say nothing about an image; they are accepted, as BuildKit does, and left out.

/// A port that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid containerPort: {0}")]
pub(super) struct PortError(String);

/// All ports of one word.
pub(crate) fn ports(word: &str) -> Result<Vec<String>, PortError> {
    let bad = || PortError(word.to_owned());
    let (address, proto) = match word.rsplit_once('/') {
        Some((a, p)) => (a, if p.is_empty() { "tcp" } else { p }),
        None => (word, "tcp"),
    };
    let proto = proto.to_ascii_lowercase();
    if !matches!(proto.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (host, range) = match address.rsplit_once(':') {
        Some((h, r)) => (Some(h), r),
        None => (None, address),
    };
    let number = |n: &str| n.parse::<u16>().map_err(|_| bad());
    let span = |r: &str| -> Result<(u16, u16), PortError> {
        let (first, last) = match r.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None => (number(r)?, number(r)?),
        };
        if first > last { Err(bad()) } else { Ok((first, last)) }
    };
    let (first, last) = span(range)?;
    if let Some(host) = host {
        let (ip, port) = match host.rsplit_once(':') {
            Some((ip, port)) => (ip, port),
            None if host.contains('.') => (host, ""),
            None => ("", host),
        };
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(bad());
        }
        if !port.is_empty() {
            let (a, b) = span(port)?;
            if first != last && b - a != last - first {
                return Err(bad());
            }
        }
    }
    Ok((first..=last).map(|p| format!("{p}/{proto}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ports() {
        let p = |w: &str| ports(w).unwrap();
        assert_eq!(p("80"), ["80/tcp"]);
        assert_eq!(p("53/UDP"), ["53/udp"]);
        assert_eq!(p("8000-8002"), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(p("127.0.0.1:80:8080"), ["8080/tcp"]);
        assert_eq!(p("80:8080/udp"), ["8080/udp"]);
        for bad in ["", "http", "70000", "5-3", "80/icmp", "-1", "1.2.3:80:80"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
