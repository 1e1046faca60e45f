//! Where Docker and Podman keep credentials.
//!
//! `config.json` (Docker) and `auth.json` (Podman) have one form:
//!
//! ```text
//! { "auths":       { KEY: { "auth": base64("user:password") } },     or username + password, identitytoken, registrytoken
//!   "credHelpers": { HOST: NAME },                                   program docker-credential-NAME for one registry
//!   "credsStore":  NAME }                                            the same for all others
//! ```
//!
//! KEY is a host, a URL whose host counts (Docker writes `https://index.docker.io/v1/` for Docker Hub), or host and repository
//! prefix (Podman); the longest prefix wins. A helper is asked first; what it does not have is looked for in `auths`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::credentials::{Credential, CredentialError, Credentials};
use crate::helper::{self, HelperSettings};
use oci::base64;

/// Docker Hub's key, and the other names that people use for it.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A `config.json` or `auth.json`.
pub struct DockerConfig {
    path: PathBuf,
    document: Map<String, Value>,
    helpers: HelperSettings,
    /// What helpers said, by (helper, server): each call is a process, and a build asks for every repository.
    answers: Mutex<HashMap<(String, String), Option<Credential>>>,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DockerConfig {
    /// Reads the file. One that does not exist is an empty one.
    pub fn load(path: &Path) -> Result<DockerConfig, CredentialError> {
        let read = |source| CredentialError::Read { path: path.into(), source };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => DockerConfig::parse(path, b""),
            Err(e) => Err(read(e)),
            Ok(meta) if meta.len() > FILE_MAX => {
                Err(CredentialError::Format { path: path.into(), problem: "it is larger than 4 MiB".into() })
            }
            Ok(_) => DockerConfig::parse(path, &std::fs::read(path).map_err(read)?),
        }
    }

    /// What the file holds, when it has been read already.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<DockerConfig, CredentialError> {
        let format = |problem: String| CredentialError::Format { path: path.into(), problem };
        let document = if bytes.iter().all(u8::is_ascii_whitespace) {
            Map::new()
        } else {
            match serde_json::from_slice(bytes) {
                Ok(Value::Object(document)) => document,
                Ok(_) => return Err(format("it is not a JSON object".to_owned())),
                // Line and column only: the text could be a secret.
                Err(e) => {
                    return Err(format(format!("it is not JSON (line {}, column {})", e.line(), e.column())));
                }
            }
        };
        Ok(DockerConfig {
            path: path.into(),
            document,
            helpers: HelperSettings::default(),
            answers: Mutex::new(HashMap::new()),
        })
    }

    /// Other settings for running helpers.
    pub fn with_helpers(mut self, helpers: HelperSettings) -> DockerConfig {
        self.helpers = helpers;
        self
    }

    /// Keeps a credential, as `docker login` does: with the helper where one is configured, in the file otherwise.
    pub fn store(&mut self, registry: &str, credential: &Credential) -> Result<(), CredentialError> {
        let server = server_of(registry);
        let entry = match self.helper_for(registry) {
            Some((name, server)) => {
                helper::store(&self.helpers, &name, &server, credential)?;
                json!({})
            }
            None => match credential {
                Credential::Password { username, password } => {
                    json!({ "auth": base64::encode(format!("{username}:{password}").as_bytes()) })
                }
                Credential::IdentityToken(token) => json!({ "identitytoken": token }),
                Credential::RegistryToken(token) => json!({ "registrytoken": token }),
            },
        };
        self.forget(registry);
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        match auths {
            Value::Object(auths) => auths.insert(server.to_owned(), entry),
            _ => {
                let problem = "\"auths\" is not an object".to_owned();
                return Err(CredentialError::Format { path: self.path.clone(), problem });
            }
        };
        self.save()
    }

    /// Forgets the credential of a registry, as `docker logout` does. `false` if there was none.
    pub fn erase(&mut self, registry: &str) -> Result<bool, CredentialError> {
        let mut found = false;
        if let Some((name, server)) = self.helper_for(registry)
            && helper::get(&self.helpers, &name, &server)?.is_some()
        {
            helper::erase(&self.helpers, &name, &server)?;
            found = true;
        }
        if self.forget(registry) {
            self.save()?;
            found = true;
        }
        Ok(found)
    }

    /// Takes the registry's entries out of the document.
    fn forget(&mut self, registry: &str) -> bool {
        self.answers.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        let Some(Value::Object(auths)) = self.document.get_mut("auths") else { return false };
        let before = auths.len();
        auths.retain(|key, _| !same_registry(&bare(key), registry));
        auths.len() != before
    }

    /// The helper that is responsible for a registry, and the name by which it knows the registry.
    fn helper_for(&self, registry: &str) -> Option<(String, String)> {
        let server = server_of(registry);
        if let Some(Value::Object(map)) = self.document.get("credHelpers") {
            for (key, name) in map {
                if let Some(name) = name.as_str()
                    && same_registry(&bare(key), registry)
                {
                    return Some((name.to_owned(), server.to_owned()));
                }
            }
        }
        match self.document.get("credsStore").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Some((name.to_owned(), server.to_owned())),
            _ => None,
        }
    }

    fn ask_helper(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(question) = self.helper_for(registry) else { return Ok(None) };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = answers.get(&question) {
            return Ok(known.clone());
        }
        let answer = helper::get(&self.helpers, &question.0, &question.1)?;
        answers.insert(question, answer.clone());
        Ok(answer)
    }

    fn look_up(&self, registry: &str, repository: &str) -> Option<Credential> {
        let Some(Value::Object(auths)) = self.document.get("auths") else { return None };
        let mut best: Option<(usize, Credential)> = None;
        for (key, entry) in auths {
            let key = bare(key);
            let Some(credential) = credential_of(entry) else { continue };
            let depth = if same_registry(&key, registry) {
                0
            } else {
                match key.split_once('/') {
                    Some((host, prefix))
                        if same_registry(host, registry) && is_prefix(prefix, repository) =>
                    {
                        prefix.len()
                    }
                    _ => continue,
                }
            };
            if best.as_ref().is_none_or(|(d, _)| depth > *d) {
                best = Some((depth, credential));
            }
        }
        best.map(|(_, credential)| credential)
    }

    /// Writes the file whole or not at all, readable for its owner only.
    fn save(&self) -> Result<(), CredentialError> {
        let write = |source| CredentialError::Write { path: self.path.clone(), source };
        // Behind a symbolic link (dotfiles) the file that it points to is replaced, not the link.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(write)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let mut text = serde_json::to_vec_pretty(&self.document).map_err(|e| write(e.into()))?;
        text.push(b'\n');
        let result = (|| {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        })();
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result.map_err(write)
    }
}

impl Credentials for DockerConfig {
    fn get(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        let helper = self.ask_helper(registry);
        match (&helper, self.look_up(registry, repository)) {
            (Ok(Some(_)), _) | (_, None) => helper,
            (_, found) => Ok(found),
        }
    }
}

/// Several sources: the first that knows something wins. A source that fails does not hide a later one that answers.
#[derive(Debug, Default)]
pub struct Keychain(pub Vec<DockerConfig>);

impl Credentials for Keychain {
    fn get(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        let mut failed = None;
        for config in &self.0 {
            match config.get(registry, repository) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

/// The name under which a registry's credential is kept.
fn server_of(registry: &str) -> &str {
    if HUB_NAMES.contains(&registry) { HUB_KEY } else { registry }
}

/// A key without scheme, the API version that old clients wrote, and trailing slashes.
fn bare(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    key.to_owned()
}

fn same_registry(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || HUB_NAMES.contains(&a) && HUB_NAMES.contains(&b)
}

fn is_prefix(prefix: &str, repository: &str) -> bool {
    repository.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn credential_of(entry: &Value) -> Option<Credential> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    if let Some(token) = text("registrytoken") {
        return Some(Credential::RegistryToken(token.into()));
    }
    if let Some(token) = text("identitytoken") {
        return Some(Credential::IdentityToken(token.into()));
    }
    let (username, password) = match text("auth") {
        Some(auth) => {
            let plain = String::from_utf8(base64::decode(auth.trim())?).ok()?;
            let (username, password) = plain.split_once(':')?;
            // Docker once padded the password with zero bytes.
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => (text("username")?.to_owned(), text("password")?.to_owned()),
    };
    helper::credential(username, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let config = DockerConfig::load(&path).unwrap();
        (dir, config)
    }

    fn user(config: &DockerConfig, registry: &str, repository: &str) -> Option<String> {
        match config.get(registry, repository).unwrap() {
            Some(Credential::Password { username, .. }) => Some(username),
            Some(Credential::IdentityToken(t)) => Some(format!("identity {t}")),
            Some(Credential::RegistryToken(t)) => Some(format!("registry {t}")),
            None => None,
        }
    }

    #[test]
    fn keys_of_docker_and_podman() {
        let auth = |u: &str| json!({ "auth": base64::encode(format!("{u}:p").as_bytes()) });
        let text = json!({ "auths": {
            "https://index.docker.io/v1/": auth("hub"),
            "https://old.example/v2/": auth("old"),
            "https://ghcr.io": auth("host"),
            "ghcr.io/team": auth("team"),
            "ghcr.io/team/app": auth("app"),
            "plain.example:5000": { "username": "plain", "password": "x" },
            "id.example": { "identitytoken": "T", "auth": "" },
            "tok.example": { "username": "<token>", "password": "U" },
            "reg.example": { "registrytoken": "R" },
            "empty.example": {},
            "odd.example": { "auth": "%%%" },
            "null.example": null,
        }});
        let (_dir, c) = config(&text.to_string());
        for (registry, repository, want) in [
            ("docker.io", "library/alpine", Some("hub")),
            ("old.example", "a", Some("old")),
            ("ghcr.io", "other", Some("host")),
            ("ghcr.io", "teamwork/x", Some("host")),
            ("ghcr.io", "team/x", Some("team")),
            ("ghcr.io", "team/app", Some("app")),
            ("GHCR.io", "team/app/deep", Some("app")),
            ("plain.example:5000", "a", Some("plain")),
            ("plain.example", "a", None),
            ("id.example", "a", Some("identity T")),
            ("tok.example", "a", Some("identity U")),
            ("reg.example", "a", Some("registry R")),
            ("empty.example", "a", None),
            ("odd.example", "a", None),
            ("null.example", "a", None),
            ("unknown.example", "a", None),
        ] {
            assert_eq!(user(&c, registry, repository).as_deref(), want, "{registry}/{repository}");
        }
    }

    #[test]
    fn passwords_keep_their_colons() {
        let (_dir, c) = config(&json!({"auths": {"h.io": {"auth": base64::encode(b"u:p:q")}}}).to_string());
        let want = Credential::Password { username: "u".into(), password: "p:q".into() };
        assert_eq!(c.get("h.io", "x").unwrap(), Some(want));
    }

    #[test]
    fn broken_files_are_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ["{\"auths\": hunter2", "[\"hunter2\"]", "\"hunter2\""] {
            std::fs::write(&path, text).unwrap();
            let e = DockerConfig::load(&path).unwrap_err();
            assert!(e.to_string().contains("config.json"), "{e}");
            assert!(!format!("{e} {e:?}").contains("hunter2"), "{e:?}");
        }
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(DockerConfig::load(&path).unwrap().get("h.io", "x").unwrap(), None);
        assert_eq!(DockerConfig::load(&dir.path().join("none")).unwrap().get("h.io", "x").unwrap(), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let (_dir, c) = config(r#"{"auths":{"h.io":{"username":"u","password":"hunter2"}}}"#);
        assert!(!format!("{c:?}").contains("hunter2"));
    }

    #[test]
    fn login_and_logout_keep_the_rest_of_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, mut c) = config(r#"{"auths":{"other.io":{"auth":"eDp5"}},"proxies":{"a":1}}"#);
        let mine = Credential::Password { username: "me".into(), password: "pw".into() };
        c.store("docker.io", &mine).unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut back = DockerConfig::load(&path).unwrap();
        assert_eq!(back.get("docker.io", "library/x").unwrap(), Some(mine));
        assert_eq!(user(&back, "other.io", "x").as_deref(), Some("x"));
        assert_eq!(back.document["proxies"]["a"], 1);
        assert!(back.document["auths"].get(HUB_KEY).is_some());

        assert!(back.erase("docker.io").unwrap());
        assert!(!back.erase("docker.io").unwrap());
        let back = DockerConfig::load(&path).unwrap();
        assert_eq!(back.get("docker.io", "library/x").unwrap(), None);
        assert_eq!(user(&back, "other.io", "x").as_deref(), Some("x"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_chain_asks_in_order() {
        let (_a, first) = config(r#"{"auths":{"a.io":{"username":"first","password":"p"}}}"#);
        let (_b, second) = config(
            r#"{"auths":{"a.io":{"username":"no","password":"p"},"b.io":{"username":"second","password":"p"}}}"#,
        );
        let chain = Keychain(vec![first, second]);
        let name = |r: &str| match chain.get(r, "x").unwrap() {
            Some(Credential::Password { username, .. }) => username,
            other => format!("{other:?}"),
        };
        assert_eq!(
            (name("a.io"), name("b.io"), name("c.io")),
            ("first".into(), "second".into(), "None".into())
        );
    }

    #[test]
    fn helpers_are_asked_first_and_once() {
        let script = r#"read -r server; echo "$1 $server" >> "$(dirname "$0")/calls"
            case "$server" in
                plain.io) echo "credentials not found in native keychain"; exit 1 ;;
                broken.io) exit 2 ;;
            esac
            printf '{"Username":"helped %s","Secret":"s"}' "$server""#;
        let (helpers_dir, helpers) = crate::helper::tests::settings(script);
        let text = r#"{
            "credsStore": "test", "credHelpers": {"own.io": "absent"},
            "auths": {"plain.io": {"username": "filed", "password": "p"}, "own.io": {},
                      "broken.io": {"username": "spare", "password": "p"}}
        }"#;
        let (_dir, c) = config(text);
        let c = c.with_helpers(helpers);
        assert_eq!(user(&c, "docker.io", "library/a").as_deref(), Some("helped https://index.docker.io/v1/"));
        assert_eq!(user(&c, "ghcr.io", "a").as_deref(), Some("helped ghcr.io"));
        assert_eq!(user(&c, "ghcr.io", "b").as_deref(), Some("helped ghcr.io"));
        assert_eq!(user(&c, "plain.io", "a").as_deref(), Some("filed"));
        assert_eq!(user(&c, "broken.io", "a").as_deref(), Some("spare"));
        assert!(matches!(c.get("own.io", "a"), Err(CredentialError::HelperStart { .. })));
        let calls = std::fs::read_to_string(helpers_dir.path().join("calls")).unwrap();
        let want = "get https://index.docker.io/v1/\nget ghcr.io\nget plain.io\nget broken.io\n";
        assert_eq!(calls, want);
    }

    #[test]
    fn login_and_logout_with_a_helper_leave_no_secret_in_the_file() {
        let script = r#"cd "$(dirname "$0")" || exit 1
            case "$1" in
                store) cat > kept ;;
                erase) rm kept ;;
                get) test -f kept && cat kept || { echo "credentials not found"; exit 1; } ;;
            esac"#;
        let (_helpers_dir, helpers) = crate::helper::tests::settings(script);
        let (dir, c) =
            config(r#"{"credsStore":"test","auths":{"https://h.io/v1/":{"auth":"b2xkOnNlY3JldA=="}}}"#);
        let mut c = c.with_helpers(helpers);
        assert_eq!(user(&c, "h.io", "a").as_deref(), Some("old"));
        let mine = Credential::Password { username: "me".into(), password: "hunter2".into() };
        c.store("h.io", &mine).unwrap();
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(!text.contains("b2xk") && !text.contains("hunter2") && text.contains("h.io"), "{text}");
        assert_eq!(c.get("h.io", "a").unwrap(), Some(mine));
        assert!(c.erase("h.io").unwrap());
        assert_eq!(c.get("h.io", "a").unwrap(), None);
        assert!(!c.erase("h.io").unwrap());
    }
}
