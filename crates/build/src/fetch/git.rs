//! Git repositories, by the `git` program: one commit deep where the server allows it, with submodules.
//!
//! - What a reference means is asked first (`git ls-remote`), with BuildKit's order: the exact `refs/...`, then a branch, then a tag.
//!   The commit names the result: a commit that was fetched before is not fetched again.
//! - Files are 0644 or 0755, directories 0755, owner 0:0, whatever the umask is. `.git` goes, in submodules as well (BuildKit leaves a
//!   file there that names a directory of its own).
//! - A `.git` that is kept holds nothing that differs from one fetch to the next: no logs, no times of files in the index. HEAD is
//!   detached at the commit; the branch or tag that was asked for is there, and `origin` is the remote without password.
//! - git sees neither the user's nor the system's configuration. Protocols are http, https, ssh and git. Credentials go through the
//!   environment, never on a command line, and to the remote alone (as BuildKit: on github.com to all repositories). A user name and
//!   password in the URL of an http remote go the same way, to all repositories of that host, unless a secret says otherwise.
//! - A server that sends less than 1 KiB a second for a minute is given up.
//! - ssh uses the agent of `--ssh default` and no key files. Hosts that the user knows must have the key that the user knows; others are
//!   trusted, as BuildKit trusts them.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci::{LayerIndex, Time};
use serde_json::{Map, Value, json};

use super::gitref::{GitRef, is_commit};
use super::{FetchError, Fetcher};
use crate::context::read_once;

/// What a repository's commit gave; contents are in the store.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    /// The files.
    pub(crate) layer: Arc<LayerIndex>,
    /// When the commit was made.
    pub(crate) committed: Time,
    /// Which commit it is; with a `.git` that is kept, the annotated tag that names it.
    pub(crate) commit: String,
}

const KIND: &str = "git";
/// More output of git than this is cut off.
const OUTPUT_MAX: u64 = 4 << 20;

/// What a reference is at the moment.
struct Resolved {
    /// The object to fetch: a commit or an annotated tag.
    id: String,
    /// The commit that an annotated tag names.
    commit: Option<String>,
    /// Full name of the branch or tag; none if the reference is a commit.
    name: Option<String>,
}

impl Fetcher<'_> {
    /// Fetches a commit's files.
    pub(crate) fn git(&self, git: &GitRef, keep_git_dir: bool) -> Result<Checkout, FetchError> {
        self.check()?;
        if let Some(c) = &git.checksum
            && (c.is_empty() || !c.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(FetchError::BadCommit(c.clone()));
        }
        // As BuildKit: of a directory of the repository there is no `.git`.
        let keep = keep_git_dir && git.subdir.is_none();
        let scratch = self.store.scratch()?;
        let dir = scratch.path().join("checkout");
        std::fs::create_dir(&dir).map_err(FetchError::io("create", &dir))?;
        let run = Git {
            fetcher: self,
            dir: &dir,
            settings: self.settings(git)?,
            ssh: self.ssh_command(git, scratch.path())?,
        };
        let resolved = self.resolve(git, &run)?;
        let mut inputs = Map::new();
        let commit = match (&resolved.commit, keep) {
            (Some(c), false) => c,
            _ => &resolved.id,
        };
        inputs.insert("commit".into(), json!(commit));
        inputs.insert("subdir".into(), json!(git.subdir));
        inputs.insert("submodules".into(), json!(git.submodules.unwrap_or(true)));
        inputs.insert("commit-times".into(), json!(git.commit_times));
        if keep {
            inputs.insert("keep".into(), json!([resolved.name, git.shown()]));
        }
        if let Some(known) = self.recall(KIND, &inputs)? {
            let at = known.facts.get("committed").and_then(Value::as_i64);
            let committed = Time::from_secs(at.unwrap_or(0));
            return Ok(Checkout { layer: known.layer, committed, commit: commit.clone() });
        }
        let began = Instant::now();
        fetch(&run, git, &resolved)?;
        if let (Some(want), None) = (&git.checksum, &resolved.name) {
            // A commit that was asked for by its id may still be a tag object.
            let got = run.line(&["rev-parse", "HEAD"])?;
            if !resolved.id.starts_with(want.as_str()) && !got.starts_with(want.as_str()) {
                return Err(FetchError::Commit { want: want.clone(), got });
            }
        }
        let committed = run.line(&["log", "-1", "--format=%ct"])?.parse().unwrap_or(0);
        if git.submodules.unwrap_or(true) && dir.join(".gitmodules").exists() {
            let update = ["submodule", "update", "-q", "--init", "--recursive"];
            run.git(&[&update[..], &["--depth=1"]].concat()).or_else(|_| run.git(&update))?;
        }
        if keep {
            settle(&run, &dir, git)?;
        } else {
            remove_git_dirs(&dir)?;
        }
        let root = match &git.subdir {
            Some(s) => subdir(&dir, s)?,
            None => dir.clone(),
        };
        let read = read_once(self.store, &root, self.cancel)?;
        let mut entries = read.layer()?.into_entries();
        for e in &mut entries {
            e.attrs.mode = match (&e.kind, e.attrs.mode) {
                (oci::Kind::Directory { .. }, _) => 0o755,
                (_, m) if m & 0o111 != 0 => 0o755,
                // Objects of git.
                (_, m) if m & 0o222 == 0 => 0o444,
                _ => 0o644,
            };
            if git.commit_times {
                e.attrs.mtime = Time::from_secs(committed);
            }
        }
        let layer = LayerIndex::from_entries(entries).map_err(crate::context::ContextError::Name)?;
        let mut facts = Map::new();
        facts.insert("committed".into(), json!(committed));
        let batch = self.store.batch();
        for (digest, _) in layer.objects() {
            batch.reuse(&digest)?;
        }
        self.remember(KIND, &inputs, facts, &layer, batch, began)?;
        let committed = Time::from_secs(committed);
        Ok(Checkout { layer: Arc::new(layer), committed, commit: commit.clone() })
    }

    /// Configuration by environment: what secrets say.
    fn settings(&self, git: &GitRef) -> Result<Vec<(String, String)>, FetchError> {
        let mut out = vec![
            ("safe.directory".to_owned(), "*".to_owned()),
            ("protocol.file.allow".into(), "user".into()),
            ("init.defaultBranch".into(), "master".into()),
            ("advice.detachedHead".into(), "false".into()),
            ("gc.auto".into(), "0".into()),
            ("http.lowSpeedLimit".into(), "1024".into()),
            ("http.lowSpeedTime".into(), "60".into()),
        ];
        if !matches!(git.scheme.as_str(), "http" | "https") {
            return Ok(out);
        }
        let names = [
            (format!("GIT_AUTH_HEADER.{}", git.host), false),
            (format!("GIT_AUTH_TOKEN.{}", git.host), true),
            ("GIT_AUTH_HEADER".to_owned(), false),
            ("GIT_AUTH_TOKEN".to_owned(), true),
        ];
        for (name, token) in names {
            let Some(value) = self.secret(&name)? else { continue };
            let value = if token {
                format!("basic {}", registry::basic_credentials("x-access-token", &value))
            } else {
                value
            };
            let everywhere = ["https://github.com/", "https://www.github.com/"];
            let remote = git.without_login();
            let scope = everywhere.into_iter().find(|p| remote.starts_with(p)).unwrap_or(&remote);
            out.push((format!("http.{scope}.extraHeader"), format!("Authorization: {value}")));
            return Ok(out);
        }
        if let Some((host, user, password)) = git.login() {
            let value = registry::basic_credentials(&user, &password);
            out.push((format!("http.{host}.extraHeader"), format!("Authorization: basic {value}")));
        }
        Ok(out)
    }

    /// The ssh command and the agent, for remotes that need them.
    fn ssh_command(&self, git: &GitRef, scratch: &Path) -> Result<Option<(String, PathBuf)>, FetchError> {
        if git.scheme != "ssh" {
            return Ok(None);
        }
        let agent = self.ssh.get("default").ok_or_else(|| FetchError::NoSsh(git.shown()))?;
        let hosts = scratch.join("known_hosts").display().to_string();
        let command = format!(
            "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new \
             -o {}",
            quote(&format!("UserKnownHostsFile=\"{hosts}\" ~/.ssh/known_hosts"))
        );
        Ok(Some((command, agent.clone())))
    }

    fn resolve(&self, git: &GitRef, run: &Git<'_>) -> Result<Resolved, FetchError> {
        let wrong = |want: &String, got: &str| FetchError::Commit { want: want.clone(), got: got.to_owned() };
        if let Some(r) = git.reference.as_ref().filter(|r| is_commit(r)) {
            return match &git.checksum {
                Some(want) if !r.starts_with(want.as_str()) => Err(wrong(want, r)),
                _ => Ok(Resolved { id: r.clone(), commit: None, name: None }),
            };
        }
        if git.fetch_by_commit {
            let id = git.checksum.clone().filter(|c| is_commit(c));
            let id = id.ok_or_else(|| FetchError::BadCommit(git.checksum.clone().unwrap_or_default()))?;
            let name = git
                .reference
                .as_ref()
                .map(|r| if r.starts_with("refs/") { r.clone() } else { format!("refs/heads/{r}") });
            return Ok(Resolved { id, commit: None, name });
        }
        let missing =
            |reference: &str| FetchError::NoRef { remote: git.shown(), reference: reference.to_owned() };
        let reference = match &git.reference {
            Some(r) => r.clone(),
            None => {
                let text = run.git(&["ls-remote", "--symref", &git.without_login(), "HEAD"])?;
                let head = text.lines().find_map(|l| l.strip_prefix("ref: ")?.split_whitespace().next());
                let branch =
                    head.and_then(|h| h.strip_prefix("refs/heads/")).ok_or_else(|| missing("HEAD"))?;
                if branch.starts_with('-') {
                    return Err(missing(branch));
                }
                branch.to_owned()
            }
        };
        let text =
            run.git(&["ls-remote", "--", &git.without_login(), &reference, &format!("{reference}^{{}}")])?;
        let found = pick(&text, &reference).ok_or_else(|| missing(&reference))?;
        if !is_commit(&found.id) {
            return Err(missing(&reference));
        }
        if let Some(want) = &git.checksum {
            let is = |id: &str| id.starts_with(want.as_str());
            if !is(&found.id) && !found.commit.as_deref().is_some_and(is) {
                return Err(wrong(want, found.commit.as_deref().unwrap_or(&found.id)));
            }
        }
        Ok(found)
    }
}

/// Chooses among the lines of `git ls-remote`.
fn pick(text: &str, reference: &str) -> Option<Resolved> {
    let exact = format!("refs/{}", reference.strip_prefix("refs/").unwrap_or(reference));
    let head = format!("refs/heads/{}", reference.strip_prefix("refs/heads/").unwrap_or(reference));
    let tag = format!("refs/tags/{}", reference.strip_prefix("refs/tags/").unwrap_or(reference));
    let id_of = |name: &str| {
        text.lines().find_map(|l| l.split_once('\t').filter(|(_, n)| *n == name)).map(|(id, _)| id.to_owned())
    };
    let commit = id_of(&format!("{tag}^{{}}"));
    if exact != tag
        && let Some(id) = id_of(&exact)
    {
        return Some(Resolved { id, commit: None, name: Some(exact) });
    }
    if let Some(id) = id_of(&head).filter(|_| exact != tag) {
        return Some(Resolved { id, commit: None, name: Some(head) });
    }
    id_of(&tag).map(|id| Resolved { id, commit, name: Some(tag) })
}

/// Gets the objects, and checks the commit out.
fn fetch(run: &Git<'_>, git: &GitRef, resolved: &Resolved) -> Result<(), FetchError> {
    let format = if resolved.id.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    run.git(&["init", "-q", "--template=", format, "."])?;
    run.git(&["remote", "add", "origin", &git.without_login()])?;
    let by_name = resolved.name.as_ref().filter(|_| !git.fetch_by_commit);
    let spec = by_name.map(|n| format!("+{n}:{n}"));
    let wanted = spec.as_deref().unwrap_or(&resolved.id);
    let fetched = run.git(&["fetch", "-q", "-u", "--depth=1", "--no-tags", "origin", wanted]);
    match fetched {
        Ok(_) => {}
        // A server that knows no shallow clones.
        Err(FetchError::Git { message, .. })
            if message.contains("--depth") || message.contains("shallow") =>
        {
            run.git(&["fetch", "-q", "-u", "--no-tags", "origin", wanted])?;
        }
        // A server that gives no single commits.
        Err(FetchError::Git { message, .. })
            if by_name.is_none()
                && ["not our ref", "unadvertised object", "no such remote ref"]
                    .iter()
                    .any(|m| message.contains(m)) =>
        {
            run.git(&["fetch", "-q", "-u", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
        }
        Err(e) => return Err(e),
    }
    // The branch may have moved since it was asked for: what was found then is what counts.
    let there = |id: &str| run.git(&["cat-file", "-e", &format!("{id}^{{commit}}")]).is_ok();
    if !there(&resolved.id) {
        run.git(&["fetch", "-q", "--depth=1", "--no-tags", "origin", &resolved.id])?;
    }
    if let Some(name) = &resolved.name {
        run.git(&["update-ref", name, &resolved.id])?;
    }
    run.git(&["checkout", "-q", "--detach", &format!("{}^{{commit}}", resolved.id)])?;
    Ok(())
}

/// Makes a `.git` that is kept the same for each fetch of the same commit.
fn settle(run: &Git<'_>, dir: &Path, git: &GitRef) -> Result<(), FetchError> {
    run.git(&["remote", "set-url", "origin", &git.shown()])?;
    let mut todo = vec![dir.join(".git")];
    while let Some(at) = todo.pop() {
        // An index that is read from a tree holds no times and no inodes; git finds them out when it needs them.
        if at.join("HEAD").is_file() && at.join("index").is_file() {
            let place = format!("--git-dir={}", at.display());
            let index = at.join("index");
            std::fs::remove_file(&index).map_err(FetchError::io("remove", &index))?;
            run.git(&[&place, "read-tree", "HEAD"])?;
        }
        for entry in std::fs::read_dir(&at).map_err(FetchError::io("read", &at))? {
            let entry = entry.map_err(FetchError::io("read", &at))?;
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            match entry.file_name().to_str() {
                Some("logs") if is_dir => {
                    std::fs::remove_dir_all(&path).map_err(FetchError::io("remove", &path))?;
                }
                Some("FETCH_HEAD" | "ORIG_HEAD") if !is_dir => {
                    std::fs::remove_file(&path).map_err(FetchError::io("remove", &path))?;
                }
                _ if is_dir => todo.push(path),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A directory of a checkout; no link leads out of it.
fn subdir(dir: &Path, sub: &str) -> Result<PathBuf, FetchError> {
    let mut at = dir.to_owned();
    for c in sub.split('/') {
        at.push(c);
        if !std::fs::symlink_metadata(&at).is_ok_and(|m| m.is_dir()) {
            return Err(FetchError::NoSubdir(sub.to_owned()));
        }
    }
    Ok(at)
}

fn remove_git_dirs(dir: &Path) -> Result<(), FetchError> {
    for entry in std::fs::read_dir(dir).map_err(FetchError::io("read", dir))? {
        let entry = entry.map_err(FetchError::io("read", dir))?;
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if entry.file_name() == ".git" {
            let gone = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.map_err(FetchError::io("remove", &path))?;
        } else if is_dir {
            remove_git_dirs(&path)?;
        }
    }
    Ok(())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

struct Git<'a> {
    fetcher: &'a Fetcher<'a>,
    dir: &'a Path,
    settings: Vec<(String, String)>,
    /// ssh command and agent.
    ssh: Option<(String, PathBuf)>,
}

/// Variables by which git could be led elsewhere.
const FOREIGN: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_SYSTEM",
    "GIT_TEMPLATE_DIR",
    "GIT_EXEC_PATH",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_SSH",
    "GIT_PROXY_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_CURL_VERBOSE",
];

impl Git<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.dir);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .env("HOME", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (i, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{i}"), key).env(format!("GIT_CONFIG_VALUE_{i}"), value);
        }
        match &self.ssh {
            Some((ssh, agent)) => command.env("GIT_SSH_COMMAND", ssh).env("SSH_AUTH_SOCK", agent),
            None => command.env("GIT_SSH_COMMAND", "false").env_remove("SSH_AUTH_SOCK"),
        };
        // A group of its own, so that its helpers end with it.
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    /// Runs git; gives what it wrote to standard output.
    fn git(&self, args: &[&str]) -> Result<String, FetchError> {
        self.fetcher.check()?;
        let mut child = self.command(args).spawn().map_err(FetchError::NoGit)?;
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                // What is lost of an output that breaks off is only a message.
                let _ = pipe.by_ref().take(OUTPUT_MAX).read_to_end(&mut text);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        let out = child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>);
        let err = child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>);
        let (out, err, status) = std::thread::scope(|scope| {
            let out = scope.spawn(move || read(out));
            let err = scope.spawn(move || read(err));
            let status = loop {
                match child.try_wait() {
                    Ok(None) => {}
                    other => break other,
                }
                if self.fetcher.check().is_err() {
                    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
                    {
                        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
                    }
                    break child.wait().map(Some);
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            (out.join().unwrap_or_default(), err.join().unwrap_or_default(), status)
        });
        self.fetcher.check()?;
        let command = args.iter().find(|a| !a.starts_with('-')).unwrap_or(&"").to_string();
        match status {
            Ok(Some(s)) if s.success() => Ok(out),
            Ok(_) => Err(FetchError::Git { command, message: super::gitref::redact_all(err.trim()) }),
            Err(e) => Err(FetchError::NoGit(e)),
        }
    }

    /// The first line that git writes.
    fn line(&self, args: &[&str]) -> Result<String, FetchError> {
        Ok(self.git(args)?.lines().next().unwrap_or("").trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_come_before_tags() {
        let a = "a".repeat(40);
        let b = "b".repeat(40);
        let c = "c".repeat(40);
        let text =
            format!("{a}\trefs/heads/x\n{b}\trefs/tags/x\n{c}\trefs/tags/x^{{}}\n{c}\trefs/remotes/x\n");
        let of = |r: &str| pick(&text, r).map(|p| (p.id, p.commit, p.name.unwrap()));
        assert_eq!(of("x"), Some((a.clone(), None, "refs/heads/x".into())));
        assert_eq!(of("refs/heads/x"), Some((a.clone(), None, "refs/heads/x".into())));
        assert_eq!(of("heads/x"), Some((a, None, "refs/heads/x".into())));
        assert_eq!(of("refs/tags/x"), Some((b, Some(c.clone()), "refs/tags/x".into())));
        assert_eq!(of("remotes/x"), Some((c, None, "refs/remotes/x".into())));
        assert_eq!(of("y"), None);
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
    }
}
