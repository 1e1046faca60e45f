//! Credential helpers: programs `docker-credential-NAME` that keep secrets in a keychain of the system.
//!
//! Protocol (docker-credential-helpers): one argument, `get`, `store` or `erase`. `get` and `erase` read the server's name from
//! standard input, `store` reads `{"ServerURL","Username","Secret"}`; `get` writes the same object. Failures are told on
//! standard output with an exit status that is not 0. The user name `<token>` marks the secret as an identity token.
//!
//! A helper may hang (a locked keychain that waits for a window nobody sees), so it has a time limit.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::credentials::{Credential, CredentialError};
use crate::error::clean;

/// How helpers are run.
#[derive(Debug, Clone)]
pub struct HelperSettings {
    /// Directory that holds the programs. `None`: wherever the system finds programs.
    pub directory: Option<PathBuf>,
    /// Limit for one call.
    pub timeout: Duration,
}

impl Default for HelperSettings {
    fn default() -> HelperSettings {
        HelperSettings { directory: None, timeout: Duration::from_secs(30) }
    }
}

const TOKEN_USER: &str = "<token>";
const OUTPUT_MAX: u64 = 1024 * 1024;

/// Asks for a server's credential. `None` if the helper has none.
pub(crate) fn get(
    settings: &HelperSettings,
    name: &str,
    server: &str,
) -> Result<Option<Credential>, CredentialError> {
    let problem = |problem: &str| CredentialError::Helper {
        name: name.to_owned(),
        action: "get",
        problem: problem.to_owned(),
    };
    let (ok, output) = run(settings, name, "get", server.as_bytes())?;
    if !ok {
        let text = said(&output);
        return if text.contains("credentials not found") { Ok(None) } else { Err(problem(&text)) };
    }
    let answer: Value = serde_json::from_slice(&output).map_err(|_| problem("its answer is not JSON"))?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(credential(text("Username"), text("Secret")))
}

/// Keeps a server's credential.
pub(crate) fn store(
    settings: &HelperSettings,
    name: &str,
    server: &str,
    credential: &Credential,
) -> Result<(), CredentialError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password.as_str()),
        Credential::IdentityToken(token) | Credential::RegistryToken(token) => (TOKEN_USER, token.as_str()),
    };
    let input = json!({ "ServerURL": server, "Username": username, "Secret": secret }).to_string();
    finish(settings, name, "store", input.as_bytes())
}

/// Forgets a server's credential.
pub(crate) fn erase(settings: &HelperSettings, name: &str, server: &str) -> Result<(), CredentialError> {
    finish(settings, name, "erase", server.as_bytes())
}

/// The credential that a pair of user name and secret stands for. `None` if there is no secret.
pub(crate) fn credential(username: String, secret: String) -> Option<Credential> {
    match (username.as_str(), secret.as_str()) {
        (_, "") => None,
        (TOKEN_USER, _) => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Password { username, password: secret }),
    }
}

fn finish(
    settings: &HelperSettings,
    name: &str,
    action: &'static str,
    input: &[u8],
) -> Result<(), CredentialError> {
    match run(settings, name, action, input)? {
        (true, _) => Ok(()),
        (false, output) => {
            Err(CredentialError::Helper { name: name.to_owned(), action, problem: said(&output) })
        }
    }
}

fn said(output: &[u8]) -> String {
    match clean(String::from_utf8_lossy(output).trim(), 200) {
        text if text.is_empty() => "it failed without a message".to_owned(),
        text => text,
    }
}

/// Runs the helper: whether it succeeded, and its standard output.
fn run(
    settings: &HelperSettings,
    name: &str,
    action: &'static str,
    input: &[u8],
) -> Result<(bool, Vec<u8>), CredentialError> {
    // The name comes from a file that other programs write, and becomes part of a path.
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
        return Err(CredentialError::HelperName(clean(name, 100)));
    }
    let program = format!("docker-credential-{name}");
    let program = match &settings.directory {
        Some(directory) => directory.join(program),
        None => program.into(),
    };
    let start = |source| CredentialError::HelperStart { name: name.to_owned(), source };
    let mut child = Command::new(program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let deadline = Instant::now() + settings.timeout;

    // A thread each for the pipes: the helper may neither read nor write, and may leave them open to a child of its own.
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let (send, receive) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = Vec::new();
            let result = stdout.take(OUTPUT_MAX).read_to_end(&mut output);
            let _ = send.send(result.map(|_| output));
        });
    }
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = receive.recv_timeout(left());
    let status = wait_until(&mut child, deadline);
    match (status, output) {
        (Some(Ok(status)), Ok(Ok(output))) => Ok((status.success(), output)),
        (Some(Err(source)), _) | (_, Ok(Err(source))) => Err(start(source)),
        _ => {
            let problem = format!("no answer within {} s", settings.timeout.as_secs_f32().ceil());
            Err(CredentialError::Helper { name: name.to_owned(), action, problem })
        }
    }
}

/// Waits for the child, and kills it at the deadline (`None`).
fn wait_until(child: &mut Child, deadline: Instant) -> Option<std::io::Result<std::process::ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(Ok(status)),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            Err(e) => return Some(Err(e)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory with a helper `docker-credential-test` that runs `script`.
    pub(crate) fn settings(script: &str) -> (tempfile::TempDir, HelperSettings) {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("docker-credential-test"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Copied by another process: a file that this one has open for writing while another test forks cannot be run.
        assert!(Command::new("cp").arg(&text).arg(&program).status().unwrap().success());
        let settings =
            HelperSettings { directory: Some(dir.path().into()), timeout: Duration::from_secs(20) };
        (dir, settings)
    }

    #[test]
    fn get_reads_the_answer() {
        let (_dir, s) = settings(
            r#"read -r server; printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$server" "$1-$server""#,
        );
        let want = Credential::Password { username: "get-h.io".into(), password: "s".into() };
        assert_eq!(get(&s, "test", "h.io").unwrap(), Some(want));
    }

    #[test]
    fn token_user_and_missing_entry() {
        let (_dir, s) = settings(r#"echo '{"Username":"<token>","Secret":"T"}'"#);
        assert_eq!(get(&s, "test", "h.io").unwrap(), Some(Credential::IdentityToken("T".into())));
        let (_dir, s) = settings("echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(get(&s, "test", "h.io").unwrap(), None);
    }

    #[test]
    fn store_and_erase_speak_the_protocol() {
        let (dir, s) = settings("cat > \"$(dirname \"$0\")/seen-$1\"");
        let c = Credential::Password { username: "u".into(), password: "p".into() };
        store(&s, "test", "h.io", &c).unwrap();
        erase(&s, "test", "h.io").unwrap();
        let seen = |n: &str| std::fs::read_to_string(dir.path().join(n)).unwrap();
        let stored: Value = serde_json::from_str(&seen("seen-store")).unwrap();
        assert_eq!(stored, json!({"ServerURL":"h.io","Username":"u","Secret":"p"}));
        assert_eq!(seen("seen-erase"), "h.io");
    }

    #[test]
    fn failures_are_told_without_secrets() {
        let (_dir, s) = settings("echo 'keychain \x1b[31mlocked'; exit 3");
        let e = get(&s, "test", "h.io").unwrap_err();
        assert_eq!(e.to_string(), "docker-credential-test get: keychain [31mlocked");
        let (_dir, s) = settings(r#"echo '{"Username":"u","Secret":"hunter2"'"#);
        let e = get(&s, "test", "h.io").unwrap_err();
        assert!(!format!("{e} {e:?}").contains("hunter2"));
        assert!(matches!(get(&s, "absent", "h.io"), Err(CredentialError::HelperStart { .. })));
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let (_dir, s) = settings("true");
        for name in ["", "../test", "a/b", "te st", "x;y", "tést"] {
            assert!(matches!(get(&s, name, "h.io"), Err(CredentialError::HelperName(_))), "{name:?}");
        }
    }

    #[test]
    fn a_hanging_helper_is_given_up() {
        // The grandchild keeps the pipe open after the kill.
        for script in ["exec sleep 60", "sleep 2 & exec sleep 60"] {
            let (_dir, mut s) = settings(script);
            s.timeout = Duration::from_millis(100);
            let e = get(&s, "test", "h.io").unwrap_err();
            assert!(e.to_string().contains("no answer within"), "{e}");
        }
    }
}
