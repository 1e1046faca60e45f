//! Base64 (RFC 4648 section 4): for `Authorization: Basic`, Docker's `auth` fields, extended attributes in tables of contents.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let six = (word >> (18 - 6 * i)) as usize & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    out
}

/// Decodes; padding may be missing. `None` if a character is foreign or the length impossible.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let raw = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(raw.len() / 4 * 3 + 2);
    for chunk in raw.chunks(4) {
        let word = chunk.iter().try_fold(0u32, |w, &c| Some(w << 6 | six(c)?))?;
        let bytes = (word << (6 * (4 - chunk.len()))).to_be_bytes();
        match chunk.len() {
            1 => return None,
            n => out.extend_from_slice(&bytes[1..n]),
        }
    }
    Some(out)
}

/// Decodes what has its padding; `None` if that is missing, or there is more.
pub fn decode_padded(text: &str) -> Option<Vec<u8>> {
    let padding = text.len() - text.trim_end_matches('=').len();
    if text.len().is_multiple_of(4) && padding <= 2 { decode(text) } else { None }
}

/// The six bits that a character stands for.
fn six(c: u8) -> Option<u32> {
    Some(u32::from(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("foob\u{ff}", "Zm9vYsO/"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
            assert_eq!(decode(text.trim_end_matches('=')).unwrap(), plain.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        for bad in ["a", "Zm9v!", "Zm 9", "aaaaa", "ä"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn padding_is_there_where_it_has_to_be() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("AQAAAgD/+/8=", b"\x01\0\0\x02\0\xff\xfb\xff"),
        ] {
            assert_eq!(decode_padded(text).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Z", "Zg", "Zg=", "=", "====", "Zg=v", "Zm 9", "Zm\n9"] {
            assert_eq!(decode_padded(bad), None, "{bad}");
        }
    }
}
