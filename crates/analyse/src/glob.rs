//! Patterns of paths: `*` is anything in a name, `?` one byte of it, `**` any number of directories. What a pattern means includes everything below.

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A name with wildcards.
    Name(Box<[u8]>),
    /// Any number of directories, also none.
    Any,
}

/// A pattern as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

/// The parts of a pattern.
pub(crate) fn parts(text: &str) -> Vec<Part> {
    let part = |p: &str| if p == "**" { Part::Any } else { Part::Name(p.as_bytes().into()) };
    text.split('/').filter(|p| !p.is_empty()).map(part).collect()
}

impl Glob {
    /// Reads a pattern. One without a slash (but for one at its end) is a name anywhere.
    pub fn new(text: &str) -> Glob {
        let mut parts = parts(text);
        if !text.trim_end_matches('/').contains('/') {
            parts.insert(0, Part::Any);
        }
        Glob { text: text.to_owned(), parts }
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it means this path, or a directory that the path lies in.
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = crate::paths::components(path).collect();
        // For every part, whether the names so far can have led to it.
        let mut at = vec![false; self.parts.len() + 1];
        at[0] = true;
        let close = |at: &mut Vec<bool>| {
            for (i, p) in self.parts.iter().enumerate() {
                if at[i] && *p == Part::Any {
                    at[i + 1] = true;
                }
            }
        };
        close(&mut at);
        for name in names {
            let mut next = vec![false; at.len()];
            for (i, part) in self.parts.iter().enumerate().filter(|(i, _)| at[*i]) {
                match part {
                    Part::Any => next[i] = true,
                    Part::Name(p) => next[i + 1] |= fits(p, name),
                }
            }
            close(&mut next);
            at = next;
            if at[self.parts.len()] {
                return true;
            }
        }
        false
    }
}

/// Whether a name fits a pattern with `*` and `?`. Takes time of the product of the two lengths at most.
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last star has to take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    p = after;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_wildcards() {
        for (p, n, want) in [
            ("*", "", true),
            ("*.deb", "a.deb", true),
            ("*.deb", "a.debx", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "ac", false),
            ("a**c", "abc", true),
            ("ab*ba", "aba", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(fits(p.as_bytes(), n.as_bytes()), want, "{p} {n}");
        }
    }

    #[test]
    fn patterns_mean_what_lies_below() {
        for (p, path, want) in [
            ("*.pem", "etc/ssl/a.pem", true),
            ("*.pem", "etc/a.pem/x", true),
            (".git", "app/.git/config", true),
            ("/etc/*.pem", "etc/ssl/a.pem", false),
            ("/etc/**/*.pem", "etc/a.pem", true),
            ("/etc/**/*.pem", "etc/b/c/a.pem", true),
            ("/etc/", "etc/x", true),
            ("etc/x", "usr/etc/x", false),
            ("/**", "a", true),
        ] {
            assert_eq!(Glob::new(p).matches(path.as_bytes()), want, "{p} {path}");
        }
    }
}
