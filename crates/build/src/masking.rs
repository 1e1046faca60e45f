//! Keeps what looks like a secret out of explanations.
//!
//! Values of secrets (`--secret`) are never near one: they are in no key and no record. But people pass passwords as ARG and ENV, and
//! copy `.env` files. So wherever a text is told or kept for telling,
//!
//! - the value of a variable whose name looks like a secret's is `***`, also where it appears in another text (if it has four
//!   characters or more);
//! - in any text, `NAME=VALUE`, `NAME: VALUE` and `--NAME VALUE` lose the value if the name looks so; of a URL with a password nothing
//!   is left between `//` and `@`.
//!
//! A name looks like a secret's if it contains `password`, `passwd`, `passphrase`, `secret`, `token`, `apikey`, `credential` or
//! `authorization`, or if one of its parts (between `_`, `-` and `.`) is `pass`, `pwd`, `pword`, `auth`, `key`, `cred`, `creds`; in texts `key`
//! and `auth` need another part beside them.

/// What stands in place of a value.
pub const STARS: &str = "***";

const INSIDE: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "authorization"];
const PARTS: [&str; 5] = ["pass", "pwd", "pword", "cred", "creds"];
const WITH_OTHERS: [&str; 2] = ["key", "auth"];

/// Shorter values are not looked for in texts: they would be everywhere.
const SHORTEST: usize = 4;

/// Whether a variable of this name is taken for a secret.
pub fn looks_secret(name: &str) -> bool {
    is_secret(name, true)
}

fn is_secret(name: &str, alone: bool) -> bool {
    let lower = name.to_lowercase();
    let parts: Vec<&str> = lower.split(['_', '-', '.']).filter(|p| !p.is_empty()).collect();
    INSIDE.iter().any(|w| lower.contains(w))
        || parts.iter().any(|p| PARTS.contains(p) || WITH_OTHERS.contains(p) && (alone || parts.len() > 1))
}

/// Masks texts; knows the values of variables that look like secrets.
#[derive(Debug, Clone, Default)]
pub struct Masker {
    values: Vec<String>,
}

impl Masker {
    /// Notes the value of a variable, if it looks like a secret.
    pub fn learn(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if looks_secret(name) && value.len() >= SHORTEST && !self.values.iter().any(|v| v == value) {
            self.values.push(value.to_owned());
            // The longest first, where one begins with another.
            self.values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        }
    }

    /// The value of a variable, as it may be told.
    pub fn value(&self, name: &str, value: &str) -> String {
        if looks_secret(name) { STARS.to_owned() } else { self.text(value) }
    }

    /// A text, as it may be told.
    pub fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for v in &self.values {
            if out.contains(v) {
                out = out.replace(v, STARS);
            }
        }
        let lines: Vec<String> = out.split('\n').map(|l| urls(&assignments(l))).collect();
        lines.join("\n")
    }
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Masks what is given to names in one line.
fn assignments(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(in_name) {
        let (before, at) = rest.split_at(start);
        out.push_str(before);
        let end = at.find(|c| !in_name(c)).unwrap_or(at.len());
        let (name, after) = at.split_at(end);
        out.push_str(name);
        rest = after;
        if !is_secret(name.trim_start_matches('-'), false) {
            continue;
        }
        // `name`, perhaps a quote, blanks, the sign, blanks; or `--name value`.
        let mut tail = after.strip_prefix(['"', '\'', ']']).unwrap_or(after).trim_start_matches(' ');
        let sign = tail.chars().next().filter(|c| matches!(c, '=' | ':'));
        match sign {
            Some(_) => tail = tail[1..].trim_start_matches(['=', '>', ' ']),
            None if name.starts_with("--") && after.starts_with(' ') => {}
            None => continue,
        }
        let length = match (sign, tail.chars().next()) {
            (_, None) => continue,
            // A path of a URL (`token://`) is none.
            (Some(':'), Some('/')) => continue,
            (_, Some(q @ ('"' | '\''))) => tail[1..].find(q).map_or(tail.len(), |n| n + 2),
            // A header or a YAML value reaches to the end of the line, or of the quotes around it.
            (Some(':'), _) => tail.find(['"', '\'']).unwrap_or(tail.len()),
            _ => tail
                .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '&'))
                .unwrap_or(tail.len()),
        };
        out.push_str(&after[..after.len() - tail.len()]);
        out.push_str(STARS);
        rest = &tail[length..];
    }
    out.push_str(rest);
    out
}

/// The password of a URL, as it stands there.
pub(crate) fn password_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    Some(authority.rsplit_once('@')?.0.split_once(':')?.1).filter(|p| !p.is_empty())
}

/// Masks who a URL is for.
fn urls(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(who) if after[..who].contains(':') => {
                out.push_str(STARS);
                rest = &after[who..];
            }
            _ => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "API_KEY",
            "key",
            "GITHUB_TOKEN",
            "githubToken",
            "DB_PASS",
            "pwd",
            "auth",
            "PGPASSWORD",
            "x-api-key",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "monkey", "AUTHOR", "", "VERSION", "PASSENGER", "COMPASS"] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn passwords_of_proxies() {
        assert_eq!(password_of("http://me:p:w@h:80/x@y"), Some("p:w"));
        assert_eq!(password_of("me:pw@h"), Some("pw"));
        for none in ["http://h:80/", "http://me@h/", "http://me:@h/", "localhost,.a:b", ""] {
            assert_eq!(password_of(none), None, "{none}");
        }
    }

    #[test]
    fn values() {
        let mut m = Masker::default();
        m.learn("TOKEN", "canary-1");
        m.learn("TOKEN", "abc");
        m.learn("VERSION", "1.2.3.4");
        assert_eq!(m.value("TOKEN", "abc"), "***");
        assert_eq!(m.value("VERSION", "1.2.3.4"), "1.2.3.4");
        assert_eq!(m.value("URL", "https://h/?t=canary-1"), "https://h/?t=***");
        assert_eq!(m.text("curl -H canary-1 abc"), "curl -H *** abc");
    }

    #[test]
    fn texts() {
        let m = Masker::default();
        for (text, want) in [
            ("RUN DB_PASSWORD=canary make", "RUN DB_PASSWORD=*** make"),
            ("password: canary and more", "password: ***"),
            ("  \"api_token\": \"canary\", x", "  \"api_token\": ***, x"),
            ("curl -H 'Authorization: Bearer canary' u", "curl -H 'Authorization: ***' u"),
            ("login --password canary --user u", "login --password *** --user u"),
            ("login --password=canary --user u", "login --password=*** --user u"),
            ("API_KEY = 'can ary' # x", "API_KEY = *** # x"),
            ("git clone https://user:canary@host/r", "git clone https://***@host/r"),
            ("a\nSECRET=canary\nb", "a\nSECRET=***\nb"),
        ] {
            assert_eq!(m.text(text), want);
            assert!(!m.text(text).contains("canary"));
        }
        for same in
            ["sorted(x, key=len)", "the token is read", "git@host:r", "https://host/a@b", "ä=ö: ü", ""]
        {
            assert_eq!(m.text(same), same);
        }
    }
}
