//! `WWW-Authenticate`: which proof a registry wants (RFC 9110 section 11, and the distribution project's token specification).
//!
//! One header may hold several challenges, and there may be several headers:
//!
//! ```text
//! Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull", Basic realm="x"
//! ```
//!
//! Values are tokens or quoted strings with `\` escapes. Schemes that we do not know are passed over; of those that we know,
//! Bearer is preferred: a registry that offers both wants tokens.

/// A challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token, to be had at `realm`.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Name that the token server knows the registry by.
        service: Option<String>,
        /// What the refused request would have needed.
        scope: Option<String>,
    },
}

/// Longest header that is looked at.
const HEADER_MAX: usize = 8 * 1024;

/// The challenge to answer, from all header values.
pub(crate) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.filter(|h| h.len() <= HEADER_MAX) {
        for (scheme, params) in split(header) {
            let get = |name: &str| {
                params.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Params = Vec<(String, String)>;

/// Splits one header into schemes and their parameters. What breaks the grammar ends the reading; what came before counts.
fn split(header: &str) -> Vec<(String, Params)> {
    let mut out: Vec<(String, Params)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word = token(rest);
        if word.is_empty() {
            return out;
        }
        let after = &rest[word.len()..];
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            // `name=value`: a parameter of the scheme before it.
            Some(value) => {
                let value = value.trim_start_matches([' ', '\t']);
                let Some((text, left)) = quoted_or_token(value) else { return out };
                match out.last_mut() {
                    Some((_, params)) => params.push((word.to_owned(), text)),
                    None => return out,
                }
                rest = left;
            }
            None => {
                out.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> &str {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    &text[..end]
}

fn quoted_or_token(text: &str) -> Option<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        // Some servers leave the quotes out where they are needed: take everything up to a separator.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn forms_seen_in_the_wild() {
        let cases: &[(&[&str], Option<Challenge>)] = &[
            (
                &[r#"Bearer realm="https://a/token",service="r",scope="repository:a/b:pull,push""#],
                bearer("https://a/token", Some("r"), Some("repository:a/b:pull,push")),
            ),
            (&[r#"bearer Realm = "https://a" , SERVICE=r"#], bearer("https://a", Some("r"), None)),
            (&[r#"Bearer realm=https://a/t?x,service="r""#], bearer("https://a/t?x", Some("r"), None)),
            (&[r#"Basic realm="x", Bearer realm="https://a""#], bearer("https://a", None, None)),
            (&[r#"Basic realm="x""#, r#"Bearer realm="https://a""#], bearer("https://a", None, None)),
            (&[r#"Negotiate, Basic realm="a, Bearer realm=\"x\"""#], Some(Challenge::Basic)),
            (&[r#"Bearer realm="https://a/\"q\\""#], bearer(r#"https://a/"q\"#, None, None)),
            (&["Basic"], Some(Challenge::Basic)),
            (&["Bearer service=\"r\""], None),
            (&["Bearer realm=\"unterminated"], None),
            (&["Bearer realm=\"ends with \\"], None),
            (&["Digest realm=\"x\", nonce=\"y\""], None),
            (&["=x"], None),
            (&["é"], None),
            (&[""], None),
            (&[], None),
        ];
        for (headers, want) in cases {
            assert_eq!(choose(headers.iter().copied()), *want, "{headers:?}");
        }
        let huge = format!("Basic realm=\"{}\"", "x".repeat(HEADER_MAX));
        assert_eq!(choose([huge.as_str()].into_iter()), None);
    }
}
