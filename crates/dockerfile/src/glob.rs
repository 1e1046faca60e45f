//! Go's `filepath.Match`, which COPY and ADD use for wildcards.
//!
//! `*` matches any bytes but `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` one character (even `/`), `\`
//! makes the next character ordinary. The whole name must match. A pattern is bad if a class is not closed, is
//! empty, or has `-` or `]` where a character must be, and if it ends with `\`.
//!
//! Only the last star is ever tried again, so the time is at most the product of both lengths.

/// A pattern that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern: a character class is not closed or is empty, or a backslash ends the pattern")]
pub struct BadPattern;

/// Whether `pattern` has characters that make it more than a plain name.
pub fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// Whether all of `name` matches `pattern`.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    matches_bytes(pattern.as_bytes(), name.as_bytes())
}

/// As [`matches()`], for names that need not be UTF-8.
pub fn matches_bytes(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let mut pattern = pattern;
    let mut name = name;
    'chunks: while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        // The last chunk must reach the end of the name.
        let enough = |left: &[u8]| left.is_empty() || !rest.is_empty();
        if let Some(left) = match_chunk(chunk, name)?.filter(|left| enough(left)) {
            name = left;
            continue;
        }
        if star {
            for skipped in 1..=name.len() {
                if name[skipped - 1] == b'/' {
                    break;
                }
                if let Some(left) = match_chunk(chunk, &name[skipped..])?.filter(|left| enough(left)) {
                    name = left;
                    continue 'chunks;
                }
            }
        }
        // No match; but the rest of the pattern may still be bad.
        while !pattern.is_empty() {
            let (_, chunk, rest) = next_chunk(pattern);
            match_chunk(chunk, b"")?;
            pattern = rest;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Leading stars, the part up to the next star, and the rest.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|b| **b == b'*').count();
    let pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'\\' => at += usize::from(at + 1 < pattern.len()),
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    (stars > 0, &pattern[..at], &pattern[at..])
}

/// What is left of `name` behind `chunk`, which has no stars; `None` if it does not match. All of the chunk is
/// read even then, to find whether it is bad.
fn match_chunk<'n>(mut chunk: &[u8], name: &'n [u8]) -> Result<Option<&'n [u8]>, BadPattern> {
    let mut left = Some(name);
    while let Some(&byte) = chunk.first() {
        left = left.filter(|name| !name.is_empty());
        match byte {
            b'[' => {
                let c = left.map(decode);
                left = left.zip(c).map(|(name, (_, len))| &name[len..]);
                let (inside, rest) = class(&chunk[1..], c.map_or(0, |(c, _)| c))?;
                chunk = rest;
                left = left.filter(|_| inside);
            }
            b'?' => {
                left = left.filter(|name| name[0] != b'/').map(|name| &name[decode(name).1..]);
                chunk = &chunk[1..];
            }
            _ => {
                let literal = if byte == b'\\' { &chunk[1..] } else { chunk };
                let wanted = *literal.first().ok_or(BadPattern)?;
                left = left.filter(|name| name[0] == wanted).map(|name| &name[1..]);
                chunk = &literal[1..];
            }
        }
    }
    Ok(left)
}

/// Reads a character class from behind its `[`: whether `c` is in it, and what follows.
fn class(mut chunk: &[u8], c: u32) -> Result<(bool, &[u8]), BadPattern> {
    let negated = chunk.first() == Some(&b'^');
    chunk = &chunk[usize::from(negated)..];
    let mut found = false;
    let mut ranges = 0;
    loop {
        if chunk.first() == Some(&b']') && ranges > 0 {
            return Ok((found != negated, &chunk[1..]));
        }
        let (low, rest) = class_char(chunk)?;
        let (high, rest) = match rest.strip_prefix(b"-") {
            Some(rest) => class_char(rest)?,
            None => (low, rest),
        };
        found |= (low..=high).contains(&c);
        chunk = rest;
        ranges += 1;
    }
}

/// A character of a class, perhaps escaped; something must follow.
fn class_char(chunk: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let chunk = match chunk.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &chunk[1..],
        Some(_) => chunk,
    };
    if chunk.is_empty() {
        return Err(BadPattern);
    }
    let (c, len) = decode(chunk);
    if (c == REPLACEMENT && len == 1) || chunk.len() == len {
        return Err(BadPattern);
    }
    Ok((c, &chunk[len..]))
}

const REPLACEMENT: u32 = char::REPLACEMENT_CHARACTER as u32;

/// The first character of `bytes`, which is not empty, and its length; U+FFFD and 1 for what is no UTF-8.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let part = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(part) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&part[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((REPLACEMENT, 1), |c| (u32::from(c), c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("", "", true),
            ("", "a", false),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d", "axbxcxd", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("ab[e-g]", "abc", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[[]x", "[x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*x", "xxx", true),
            ("[^a]", "/", true),
        ] {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns() {
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-", "[a-b-c]", "b[", "*["]
        {
            assert_eq!(matches(pattern, "a"), Err(BadPattern), "{pattern}");
        }
        assert_eq!(matches("x*[", "abc"), Err(BadPattern), "also behind what does not match");
    }

    #[test]
    fn names_need_not_be_text() {
        assert_eq!(matches_bytes(b"a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches_bytes(b"a\xff*", b"a\xffb"), Ok(true));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let name = "a".repeat(2_000);
        assert_eq!(matches(&format!("{}b", "a*".repeat(500)), &name), Ok(false));
    }
}
