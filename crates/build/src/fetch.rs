//! ADD of a URL or a git repository.
//!
//! A URL becomes a file of mode 0600 named after the last part of its path, with the server's `Last-Modified` as its time. A
//! repository is fetched by the `git` program (one commit deep where the server allows it) and becomes a tree: files 0644 or 0755,
//! owner 0:0, without `.git` unless asked for. Both are content of the step's key, so a changed remote is a changed step.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use oci::{Digest, Time, Tree};

use crate::context::{Needed, read};
use crate::error::BuildError;
use crate::plan::Copy;
use crate::solve::Solver;

/// A downloaded file, in the batch.
pub(crate) struct Download {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) modified: Option<Time>,
}

fn line_error(line: Option<u32>, message: String, help: Option<&str>) -> BuildError {
    BuildError::Line { line, message, help: help.map(str::to_owned) }
}

/// File name of a URL: the last part of its path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, r)| r);
    let path = rest.split(['?', '#']).next().unwrap_or("").split_once('/').map_or("", |(_, p)| p);
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Host part of a URL, with its port.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, r)| r);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit_once('@').map_or(authority, |(_, h)| h)
}

fn secret_text(solver: &Solver<'_>, id: &str) -> Option<String> {
    let bytes = match solver.options.secrets.get(id)? {
        crate::options::Secret::Bytes(b) => b.clone(),
        crate::options::Secret::File(p) => std::fs::read(p).ok()?,
    };
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Downloads a file into the batch.
pub(crate) fn http(
    solver: &Solver<'_>,
    url: &str,
    checksum: Option<&str>,
    batch: &store::Batch,
    line: Option<u32>,
) -> Result<Download, BuildError> {
    let expected =
        match checksum {
            None => None,
            Some(c) => Some(c.parse::<Digest>().map_err(|e| {
                line_error(line, e.to_string(), Some("write --checksum=sha256:<64 hex digits>"))
            })?),
        };
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .max_redirects(10)
        .user_agent(concat!("layercake/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(url);
    let host = host_of(url);
    if let Some(h) = secret_text(solver, &format!("HTTP_AUTH_HEADER_{host}")) {
        request = request.header("Authorization", h);
    } else if let Some(t) = secret_text(solver, &format!("HTTP_AUTH_TOKEN_{host}")) {
        request = request.header("Authorization", format!("Bearer {t}"));
    }
    let mut response = request.call().map_err(|e| {
        line_error(line, format!("cannot download {url}: {e}"), Some("check the address and the network"))
    })?;
    let status = response.status().as_u16();
    if !(200..300).contains(&status) {
        return Err(line_error(
            line,
            format!("cannot download {url}: invalid response status {status}"),
            None,
        ));
    }
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let modified = header("last-modified").and_then(|t| registry::parse_http_date(&t));
    let mut body = Cancel { reader: response.body_mut().as_reader(), solver };
    let (digest, size) = oci::content::ContentSink::add(&mut batch.sink(), &mut body)
        .map_err(|e| line_error(line, format!("cannot download {url}: {e}"), None))?;
    if let Some(want) = expected.filter(|w| *w != digest) {
        return Err(line_error(line, format!("digest mismatch for {url}: it is {digest}, not {want}"), None));
    }
    Ok(Download { name: file_name(url), digest, size, modified })
}

/// Stops reading when the build does.
struct Cancel<'a, 'b, R> {
    reader: R,
    solver: &'a Solver<'b>,
}

impl<R: Read> Read for Cancel<'_, '_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.solver.is_cancelled() {
            return Err(std::io::Error::other("interrupted"));
        }
        self.reader.read(buf)
    }
}

/// A git source, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct GitRef {
    remote: String,
    reference: Option<String>,
    subdir: Option<String>,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: bool,
}

fn parse_git(source: &str) -> Result<GitRef, String> {
    let (rest, fragment) = match source.split_once('#') {
        Some((r, f)) => (r, Some(f)),
        None => (source, None),
    };
    let (remote, query) = match rest.split_once('?') {
        Some((r, q)) => (r, Some(q)),
        None => (rest, None),
    };
    let mut git = GitRef { remote: remote.to_owned(), submodules: true, ..GitRef::default() };
    if let Some(f) = fragment {
        let (reference, subdir) = f.split_once(':').map_or((f, None), |(r, s)| (r, Some(s)));
        git.reference = Some(reference.to_owned()).filter(|r| !r.is_empty());
        git.subdir = subdir.filter(|s| !s.is_empty()).map(str::to_owned);
    }
    for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let yes = || matches!(value, "" | "1" | "true");
        match key {
            "ref" => git.reference = Some(value.to_owned()),
            "tag" => git.reference = Some(format!("refs/tags/{value}")),
            "branch" => git.reference = Some(format!("refs/heads/{value}")),
            "commit" | "checksum" => git.checksum = Some(value.to_owned()),
            "subdir" => git.subdir = Some(value.to_owned()),
            "keep-git-dir" => git.keep_git_dir = Some(yes()),
            "submodules" => git.submodules = yes(),
            "mtime" | "fetch-by-commit" => {}
            other => return Err(format!("unexpected query {other:?} in the git source")),
        }
    }
    Ok(git)
}

/// Fetches a repository into the store; gives its tree.
pub(crate) fn git(
    solver: &Solver<'_>,
    source: &str,
    copy: &Copy,
    batch: &store::Batch,
    line: Option<u32>,
) -> Result<Tree, BuildError> {
    let parsed = parse_git(source).map_err(|m| line_error(line, m, None))?;
    if let (Some(a), Some(b)) = (copy.keep_git_dir, parsed.keep_git_dir)
        && a != b
    {
        return Err(line_error(line, "inconsistent keep-git-dir configuration".into(), None));
    }
    let checksum = match (&copy.checksum, &parsed.checksum) {
        (Some(a), Some(b)) if a != b => {
            return Err(line_error(line, format!("checksum mismatch {a:?} != {b:?}"), None));
        }
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    let scratch = solver.store.scratch()?;
    let dir = scratch.path().join("checkout");
    let mut auth = Vec::new();
    let host = host_of(&parsed.remote);
    let header = secret_text(solver, &format!("GIT_AUTH_HEADER.{host}"))
        .or_else(|| secret_text(solver, "GIT_AUTH_HEADER"))
        .or_else(|| {
            let token = secret_text(solver, &format!("GIT_AUTH_TOKEN.{host}"))
                .or_else(|| secret_text(solver, "GIT_AUTH_TOKEN"))?;
            Some(format!("basic {}", registry::basic_credentials("x-access-token", &token)))
        });
    if let (Some(h), Some((scheme, _))) = (header, parsed.remote.split_once("://")) {
        auth.push((format!("http.{scheme}://{host}/.extraHeader"), format!("Authorization: {h}")));
    }
    let run = Git { dir: &dir, auth: &auth, line };
    std::fs::create_dir(&dir).map_err(BuildError::io("create", &dir))?;
    run.git(&["init", "-q", "."])?;
    run.git(&["remote", "add", "origin", &parsed.remote])?;
    let wanted = parsed.reference.clone().or_else(|| checksum.clone()).unwrap_or_else(|| "HEAD".into());
    if run.git(&["fetch", "-q", "--depth", "1", "--no-tags", "origin", &wanted]).is_ok() {
        run.git(&["checkout", "-q", "--detach", "FETCH_HEAD"])?;
    } else {
        // An abbreviated commit, or a server that gives no single commits: everything, then look.
        run.git(&["fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
        if run.git(&["checkout", "-q", "--detach", &format!("origin/{wanted}")]).is_err() {
            run.git(&["checkout", "-q", "--detach", &wanted])?;
        }
    }
    let commit = run.git(&["rev-parse", "HEAD"])?.trim().to_owned();
    if let Some(c) = &checksum
        && !(commit.starts_with(c.as_str()) && c.len() >= 7)
    {
        return Err(line_error(line, format!("expected checksum to match {c}, got {commit}"), None));
    }
    if parsed.submodules && dir.join(".gitmodules").exists() {
        run.git(&["submodule", "update", "-q", "--init", "--recursive", "--depth", "1"])
            .or_else(|_| run.git(&["submodule", "update", "-q", "--init", "--recursive"]))?;
    }
    if copy.keep_git_dir.or(parsed.keep_git_dir) != Some(true) {
        remove_git_dirs(&dir)?;
    }
    let root = match &parsed.subdir {
        Some(s) => {
            let sub = dir.join(crate::copy::clean(s));
            let real = std::fs::canonicalize(&sub)
                .ok()
                .filter(|r| std::fs::canonicalize(&dir).is_ok_and(|d| r.starts_with(d)));
            real.filter(|r| r.is_dir())
                .ok_or_else(|| line_error(line, format!("git subdir not a directory: {s}"), None))?
        }
        None => dir.clone(),
    };
    let mut needed = Needed::default();
    needed.everything();
    let context = read(solver.store, &root, &needed, None, &solver.cancel)?;
    context.provide(batch, &context.layer)?;
    Ok(Tree::clone(&context.tree))
}

fn remove_git_dirs(dir: &Path) -> Result<(), BuildError> {
    for entry in std::fs::read_dir(dir).map_err(BuildError::io("read", dir))? {
        let entry = entry.map_err(BuildError::io("read", dir))?;
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if entry.file_name() == ".git" {
            let gone = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.map_err(BuildError::io("remove", &path))?;
        } else if is_dir {
            remove_git_dirs(&path)?;
        }
    }
    Ok(())
}

struct Git<'a> {
    dir: &'a Path,
    auth: &'a [(String, String)],
    line: Option<u32>,
}

impl Git<'_> {
    /// Runs git without the user's configuration and prompts; credentials go by environment, never by command line.
    fn git(&self, args: &[&str]) -> Result<String, BuildError> {
        let mut command = Command::new("git");
        command
            .current_dir(self.dir)
            .env_remove("GIT_DIR")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_COUNT", (self.auth.len() + 1).to_string())
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null());
        for (i, (key, value)) in self.auth.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{}", i + 1), key)
                .env(format!("GIT_CONFIG_VALUE_{}", i + 1), value);
        }
        let out = command.args(args).output().map_err(|e| {
            line_error(
                self.line,
                format!("cannot run git: {e}"),
                Some("install git, or copy the sources into the build context"),
            )
        })?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&out.stderr);
        Err(line_error(
            self.line,
            format!("git {} failed: {}", args.first().unwrap_or(&""), text.trim()),
            None,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_hosts() {
        assert_eq!(file_name("http://h/a/b.txt?x=1#y"), "b.txt");
        assert_eq!(file_name("http://h/"), "__unnamed__");
        assert_eq!(file_name("http://h"), "__unnamed__");
        assert_eq!(host_of("https://user:pw@h:80/x"), "h:80");
    }

    #[test]
    fn git_sources() {
        let g = parse_git("https://h/r.git#v1:sub").unwrap();
        assert_eq!(
            (g.remote.as_str(), g.reference.as_deref(), g.subdir.as_deref()),
            ("https://h/r.git", Some("v1"), Some("sub"))
        );
        let g = parse_git("https://h/r.git?branch=b&subdir=s&keep-git-dir=true&submodules=false").unwrap();
        assert_eq!(
            (g.reference.as_deref(), g.keep_git_dir, g.submodules),
            (Some("refs/heads/b"), Some(true), false)
        );
        assert!(parse_git("https://h/r.git?odd=1").is_err());
    }
}
