//! Which hosts are reached without the proxy: `NO_PROXY` as Go programs (Docker, Podman) read it.
//!
//! `*` is every host; `example.com` is that host and all below it; `.example.com` and `*.example.com` only those below it;
//! `10.0.0.1` is an address and `10.0.0.0/8` a range of them; each name or address may be followed by `:port`.

use std::net::IpAddr;

use crate::url::host_name;

/// Whether `host[:port]` matches one of the entries.
pub(crate) fn bypasses(entries: &[String], host: &str) -> bool {
    entries.iter().any(|entry| matches(entry.trim(), host))
}

fn matches(entry: &str, host: &str) -> bool {
    let name = host_name(host).trim_end_matches('.').to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return match (network.parse(), bits.parse(), name.parse()) {
            (Ok(network), Ok(bits), Ok(address)) => in_network(address, network, bits),
            _ => false,
        };
    }
    // An IPv6 address without brackets has colons but no port.
    let entry_name = if entry.parse::<IpAddr>().is_ok() { entry } else { host_name(entry) };
    let entry_port = entry.strip_suffix(|c: char| c.is_ascii_digit()).and(entry.rsplit_once(':'));
    if let Some((before, port)) = entry_port
        && entry_name.len() < entry.len()
        && (before == entry_name || before.ends_with(']'))
        && !host.ends_with(&format!(":{port}"))
    {
        return false;
    }
    let entry_name = entry_name.to_ascii_lowercase();
    match entry_name.strip_prefix('*').unwrap_or(&entry_name) {
        "" => false,
        suffix if suffix.starts_with('.') => name.ends_with(suffix),
        whole => {
            name == whole
                || (name.parse::<IpAddr>().is_err()
                    && name.strip_suffix(whole).is_some_and(|rest| rest.ends_with('.')))
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    bits <= width && (a ^ n).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        for (entry, host, want) in [
            ("*", "a.io", true),
            ("a.io", "a.io", true),
            ("a.io", "A.io:5000", true),
            ("a.io", "b.a.io", true),
            ("a.io", "ba.io", false),
            (".a.io", "b.a.io", true),
            (".a.io", "a.io", false),
            ("*.a.io", "b.a.io", true),
            ("*.a.io", "a.io", false),
            (" a.io ", "a.io", true),
            ("a.io:5000", "a.io:5000", true),
            ("a.io:5000", "a.io:5001", false),
            ("a.io:5000", "a.io", false),
            ("10.1.2.3", "10.1.2.3:80", true),
            ("2.3", "10.1.2.3", false),
            ("10.0.0.0/8", "10.200.0.1:5000", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.0/99", "10.0.0.0", false),
            ("10.0.0.0/8", "a.io", false),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("fd00::1", "[fd00::1]:5000", true),
            ("[fd00::1]:5000", "[fd00::1]:5000", true),
            ("[fd00::1]:5000", "[fd00::1]:5001", false),
            ("", "a.io", false),
            ("x/y", "a.io", false),
        ] {
            assert_eq!(bypasses(&[entry.to_owned()], host), want, "{entry:?} for {host}");
        }
    }
}
