//! What a text that names a git repository says: `ADD` sources, contexts, `--build-context`.
//!
//! | form | a repository if |
//! |---|---|
//! | `http://`, `https://` | the path ends with `.git` |
//! | `git://`, `ssh://` | always |
//! | `user@host:path` | always |
//! | `github.com/...` | only as the build's context (an old form; elsewhere it is a path) |
//!
//! What follows `#` is `REF[:SUBDIR]`. The query knows `ref`, `tag`, `branch`, `subdir`, `checksum` or `commit`, `keep-git-dir`,
//! `submodules`, `mtime=checkout|commit` and `fetch-by-commit`; both forms may be mixed as long as they agree. The table is
//! BuildKit's (`frontend/dockerfile/dfgitutil`).

use registry::unescape;

/// A reference to a commit of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitRef {
    /// What git is told to fetch from: no query, no fragment.
    pub remote: String,
    /// `http`, `https`, `ssh` or `git`.
    pub scheme: String,
    /// Host, with port where there is one.
    pub host: String,
    /// Branch, tag or commit; none: the default branch.
    pub reference: Option<String>,
    /// Directory within the repository, without leading slash; none: all of it.
    pub subdir: Option<String>,
    /// The commit that it must be, possibly shortened.
    pub checksum: Option<String>,
    /// `keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `submodules`; the default is yes.
    pub submodules: Option<bool>,
    /// Files get the commit's time, not that of the checkout.
    pub commit_times: bool,
    /// Do not ask what `reference` is at the moment: `checksum` is the commit.
    pub fetch_by_commit: bool,
    /// It could be a local path as well.
    pub like_a_path: bool,
}

/// Why a git reference cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GitRefError {
    /// The query has a key that means nothing.
    #[error("unexpected query {0:?} in the git source")]
    Key(String),
    /// A key stands there twice.
    #[error("query {0:?} of the git source has multiple values")]
    Twice(String),
    /// A key has a value that it cannot have.
    #[error("invalid {key} value in the git source: {value:?}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Two forms disagree.
    #[error("{what} conflicts: {a:?} vs {b:?}")]
    Conflict {
        /// What they disagree about.
        what: &'static str,
        /// One.
        a: String,
        /// The other.
        b: String,
    },
    /// A branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// A reference that git would take for an option.
    #[error("invalid git ref {0:?}")]
    Reference(String),
}

/// Whether a text is a full commit id (SHA-1 or SHA-256).
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn boolean(key: &str, value: Option<&str>) -> Result<bool, GitRefError> {
    match value {
        None | Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(v) => Err(GitRefError::Value { key: key.to_owned(), value: v.to_owned() }),
    }
}

/// A URL taken apart: scheme in lower case, authority, path, query and fragment as written.
struct Parts<'a> {
    scheme: String,
    authority: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

fn url(text: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return None;
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Some(Parts { scheme: scheme.to_ascii_lowercase(), authority, path, query, fragment })
}

/// `user@host:path[?query][#fragment]`.
fn scp(text: &str) -> Option<Parts<'_>> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let word = |w: &str, more: &[u8]| {
        !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || more.contains(&b))
    };
    if !word(user, b"_") || !word(host, b".") || rest.contains('\n') {
        return None;
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (path, tail) = rest.split_at(end);
    let (query, fragment) = match tail.strip_prefix('?') {
        Some(q) => q.split_once('#').unwrap_or((q, "")),
        None => ("", tail.strip_prefix('#').unwrap_or("")),
    };
    // A URL's authority ends at the colon; here that is part of how git writes it.
    let authority = &text[..user.len() + 1 + host.len()];
    Some(Parts { scheme: "ssh".into(), authority, path, query, fragment })
}

impl GitRef {
    /// Reads a reference. `None`: the text names no repository.
    pub fn parse(text: &str) -> Result<Option<GitRef>, GitRefError> {
        let mut out = GitRef::default();
        let parts;
        let full;
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        } else if text.starts_with("github.com/") {
            full = format!("https://{text}");
            let Some(p) = url(&full) else { return Ok(None) };
            parts = p;
            out.like_a_path = true;
            out.remote = format!("https://{}{}", parts.authority, parts.path);
        } else if let Some(p) = url(text) {
            parts = p;
            let good = match parts.scheme.as_str() {
                "http" | "https" => unescape(parts.path).ends_with(".git"),
                "git" | "ssh" => true,
                _ => false,
            };
            if !good {
                return Ok(None);
            }
            out.remote = format!("{}://{}{}", parts.scheme, parts.authority, parts.path);
        } else if let Some(p) = scp(text) {
            parts = p;
            out.remote = format!("{}:{}", parts.authority, parts.path);
        } else {
            return Ok(None);
        }
        out.scheme.clone_from(&parts.scheme);
        out.host = parts.authority.rsplit_once('@').map_or(parts.authority, |(_, h)| h).to_owned();
        let fragment = unescape(parts.fragment);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        out.reference = Some(reference.to_owned()).filter(|r| !r.is_empty());
        out.subdir = Some(crate::copy::clean(subdir)).filter(|s| !s.is_empty());
        out.query(parts.query)?;
        if let Some(r) = out.reference.as_ref().filter(|r| r.starts_with('-')) {
            return Err(GitRefError::Reference(r.clone()));
        }
        Ok(Some(out))
    }

    fn query(&mut self, query: &str) -> Result<(), GitRefError> {
        let (mut tag, mut branch) = (None, None);
        let mut seen = Vec::new();
        // In a query, as forms write it, a plus is a blank.
        for pair in query.replace('+', " ").split('&').filter(|p| !p.is_empty()) {
            let (key, value) = match pair.split_once('=') {
                Some((k, v)) => (unescape(k), Some(unescape(v))),
                None => (unescape(pair), None),
            };
            if seen.contains(&key) {
                return Err(GitRefError::Twice(key));
            }
            let text = || -> Result<String, GitRefError> {
                let missing = || GitRefError::Value { key: key.clone(), value: String::new() };
                value.clone().filter(|v| !v.is_empty()).ok_or_else(missing)
            };
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, text()?)?,
                "tag" => tag = Some(prefixed("refs/tags/", &text()?)),
                "branch" => branch = Some(prefixed("refs/heads/", &text()?)),
                "subdir" => {
                    let dir = crate::copy::clean(&text()?);
                    if !dir.is_empty() {
                        agree("subdir", &mut self.subdir, dir)?;
                    }
                }
                "checksum" | "commit" => agree("checksum", &mut self.checksum, text()?)?,
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, value.as_deref())?),
                "submodules" => self.submodules = Some(boolean(&key, value.as_deref())?),
                "fetch-by-commit" => self.fetch_by_commit = boolean(&key, value.as_deref())?,
                "mtime" => {
                    self.commit_times = match text()?.as_str() {
                        "commit" => true,
                        "checkout" => false,
                        v => return Err(GitRefError::Value { key, value: v.to_owned() }),
                    }
                }
                _ => return Err(GitRefError::Key(key)),
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitRefError::BranchAndTag);
        }
        match tag.or(branch) {
            Some(name) => agree("ref", &mut self.reference, name),
            None => Ok(()),
        }
    }

    /// The remote without user name and password, for messages and records.
    pub fn shown(&self) -> String {
        redact(&self.remote)
    }

    /// The remote as git is told: command lines can be read by everybody, so those of http have neither user name nor password. (Of ssh
    /// the user name is part of the address.)
    pub(super) fn without_login(&self) -> String {
        if matches!(self.scheme.as_str(), "http" | "https") { self.shown() } else { self.remote.clone() }
    }

    /// `scheme://host/`, user name and password of a remote that has them.
    pub(super) fn login(&self) -> Option<(String, String, String)> {
        let (scheme, rest) = self.remote.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (login, host) = authority.rsplit_once('@')?;
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        Some((format!("{scheme}://{host}/"), unescape(user), unescape(password)))
    }
}

/// A URL without user name and password.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

/// A source as it is told and kept in the history of an image: a login of http and any password are left out.
pub(crate) fn without_password(source: &str) -> String {
    let Some((scheme, rest)) = source.split_once("://") else { return source.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let told = authority.rsplit_once('@').is_none_or(|(login, _)| !login.contains(':'))
        && !scheme.to_ascii_lowercase().starts_with("http");
    if told { source.to_owned() } else { redact(source) }
}

/// A text of git's in which URLs have no user name and password.
pub(crate) fn redact_all(text: &str) -> String {
    text.split_inclusive([' ', '\n', '\'', '"']).map(redact).collect()
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn agree(what: &'static str, slot: &mut Option<String>, value: String) -> Result<(), GitRefError> {
    match slot {
        Some(a) if *a != value => Err(GitRefError::Conflict { what, a: a.clone(), b: value }),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_left_out_where_they_can_be_read() {
        let git = of("https://me:p%40ss@h.io:8443/a.git#main");
        assert_eq!(git.without_login(), "https://h.io:8443/a.git");
        assert_eq!(git.login(), Some(("https://h.io:8443/".into(), "me".into(), "p@ss".into())));
        assert_eq!(of("https://h.io/a.git").login(), None);
        assert_eq!(of("ssh://git@h.io/a.git").without_login(), "ssh://git@h.io/a.git");
        assert_eq!(without_password("https://me:pw@h/f"), "https://h/f");
        assert_eq!(without_password("HTTP://token@h/f"), "HTTP://h/f");
        for kept in ["ssh://git@h/f", "git@h:f", "a/b@c", "https://h/f@g:h"] {
            assert_eq!(without_password(kept), kept);
        }
    }

    fn of(text: &str) -> GitRef {
        GitRef::parse(text).unwrap().unwrap_or_else(|| panic!("{text} is none"))
    }

    /// Remote, reference and directory.
    fn short(text: &str) -> (String, String, String) {
        let g = of(text);
        (g.remote, g.reference.unwrap_or_default(), g.subdir.unwrap_or_default())
    }

    #[test]
    fn what_is_a_repository() {
        for (text, remote, reference, subdir) in [
            ("https://h/foo.git", "https://h/foo.git", "", ""),
            ("https://h/foo.git#deadbeef", "https://h/foo.git", "deadbeef", ""),
            ("https://h/foo.git#release/1.2", "https://h/foo.git", "release/1.2", ""),
            ("https://h/foo.git#baz/qux:quux/quuz", "https://h/foo.git", "baz/qux", "quux/quuz"),
            ("https://h/foo.git#:../../x/../y", "https://h/foo.git", "", "y"),
            ("http://me:pw@h:80/.git", "http://me:pw@h:80/.git", "", ""),
            ("git://h/foo#b", "git://h/foo", "b", ""),
            ("ssh://git@h:22/foo", "ssh://git@h:22/foo", "", ""),
            ("git@h:foo/bar.git#r", "git@h:foo/bar.git", "r", ""),
            ("me@h:foo?tag=v1#", "me@h:foo", "refs/tags/v1", ""),
            ("github.com/foo/bar#r:d", "https://github.com/foo/bar", "r", "d"),
            ("https://h/r.git?branch=b&subdir=s", "https://h/r.git", "refs/heads/b", "s"),
            ("https://h/r.git?tag=v1#refs/tags/v1", "https://h/r.git", "refs/tags/v1", ""),
            ("https://h/r.git?ref=a%2Fb+c", "https://h/r.git", "a/b c", ""),
        ] {
            assert_eq!(short(text), (remote.into(), reference.into(), subdir.into()), "{text}");
        }
        for text in [
            "https://h/",
            "https://h/foo",
            "https://h/foo.git/",
            "https://h/foo.git.bar",
            "ftp://h/foo.git",
            "file:///foo.git",
            "./foo.git",
            "../github.com/foo",
            ".git",
            "foo/github.com/bar",
            "a b@h:foo",
            "https://h/ foo.git",
        ] {
            assert_eq!(GitRef::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn hosts_and_passwords() {
        assert_eq!(of("http://me:pw@h:80/x.git").host, "h:80");
        assert_eq!(of("git@h.io:x").host, "h.io");
        assert_eq!(of("http://me:pw@h:80/x.git").shown(), "http://h:80/x.git");
        assert_eq!(redact("https://u@h"), "https://h");
        assert_eq!(redact("git@h:x"), "git@h:x");
        assert_eq!(
            redact_all("fatal: 'https://u:p@h/x' no\nhttp://t@h"),
            "fatal: 'https://h/x' no\nhttp://h"
        );
    }

    #[test]
    fn switches() {
        let g = of("https://h/r.git?keep-git-dir&submodules=0&mtime=commit&commit=abc&fetch-by-commit=t");
        assert_eq!(
            (g.keep_git_dir, g.submodules, g.commit_times, g.fetch_by_commit, g.checksum.as_deref()),
            (Some(true), Some(false), true, true, Some("abc"))
        );
        assert_eq!(of("https://h/r.git?keep-git-dir=false").keep_git_dir, Some(false));
        assert!(of("github.com/a/b").like_a_path && !of("https://github.com/a/b.git").like_a_path);
    }

    #[test]
    fn what_is_wrong() {
        let wrong = |query: &str| GitRef::parse(&format!("https://h/r.git{query}")).unwrap_err().to_string();
        for (query, text) in [
            ("?odd=1", "unexpected query \"odd\""),
            ("?ref=", "invalid ref value"),
            ("?ref", "invalid ref value"),
            ("?ref=a&ref=a", "multiple values"),
            ("?keep-git-dir=maybe", "invalid keep-git-dir value"),
            ("?mtime=now", "invalid mtime value"),
            ("?tag=a&branch=b", "branch conflicts with tag"),
            ("?tag=v2#refs/heads/master", "ref conflicts: \"refs/heads/master\" vs \"refs/tags/v2\""),
            ("?subdir=a#:b", "subdir conflicts"),
            ("?commit=1&checksum=2", "checksum conflicts"),
            ("#--upload-pack=x", "invalid git ref"),
        ] {
            let got = wrong(query);
            assert!(got.contains(text), "{query}: {got}");
        }
    }

    #[test]
    fn commits() {
        assert!(is_commit(&"a".repeat(40)) && is_commit(&"0".repeat(64)));
        assert!(!is_commit(&"A".repeat(40)) && !is_commit("abc"));
    }
}
