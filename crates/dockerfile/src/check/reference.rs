//! Whether a text can be an image's name.
//!
//! Source of the grammar: distribution/reference, with Docker's short names: `[domain/]path[:tag][@digest]`.

/// Whether `text` is a valid reference to an image.
pub(super) fn is_valid(text: &str) -> bool {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return false;
    }
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (Some(first), rest),
        _ => (None, text),
    };
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    path.len() <= 255
        && path.split('/').all(is_component)
        && domain.is_none_or(is_domain)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// Whether the first part of a name is a domain and not the beginning of a path on Docker Hub.
fn is_domain_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(char::is_uppercase)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let address = !host.is_empty() && host.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
            if !address || !(rest.is_empty() || rest.starts_with(':')) {
                return false;
            }
            ("address", rest.strip_prefix(':'))
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |label: &str| {
        label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    ends && bytes.split(|b| plain(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for valid in [
            "alpine",
            "alpine:3.20",
            "a/b",
            "localhost/a",
            "localhost:5000/a/b:c",
            "x.io/a-b--c/d__e.f",
            "Host/a",
            "[::1]:5000/a",
            &digest,
        ] {
            assert!(is_valid(valid), "{valid}");
        }
        for invalid in [
            "",
            ":",
            "alpine:",
            "Alpine",
            "a//b",
            "a/",
            "-a",
            "a..b",
            "a___b",
            "x.io:/a",
            "a@sha256:0",
            "a b",
            "x.io/",
            "a:-",
        ] {
            assert!(!is_valid(invalid), "{invalid}");
        }
        assert!(!is_valid(&"0".repeat(64)), "an image ID is no name");
    }
}
