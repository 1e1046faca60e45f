//! `--ssh ID=KEY[,KEY...]`: private keys in files, served by an agent of this build's own.
//!
//! The agent is OpenSSH's, which knows every kind of key and asks for passphrases on the terminal. It holds nothing but these keys, and
//! ends with the build.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use store::{ScratchDir, Store};

use crate::error::{CommandError, Kind};

/// Agents that were started; they end when this is dropped.
#[derive(Default)]
pub(crate) struct Agents(Vec<Agent>);

struct Agent {
    child: Child,
    _scratch: ScratchDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Agents by id; key files among them get one of their own.
pub(crate) fn agents(store: &Store, ssh: &mut BTreeMap<String, PathBuf>) -> Result<Agents, CommandError> {
    let mut all = Agents::default();
    for (id, path) in ssh {
        let text = path.display().to_string();
        let keys: Vec<PathBuf> = text.split(',').map(PathBuf::from).collect();
        match std::fs::metadata(&*path) {
            Ok(m) if m.file_type().is_socket() => continue,
            Err(e) if keys.len() == 1 => {
                return Err(CommandError::usage(format!("--ssh {id}={text}: {e}"))
                    .hint("name the socket of an agent, or files with private keys"));
            }
            _ => {}
        }
        let (agent, socket) = start(store, id, &keys)?;
        *path = socket;
        all.0.push(agent);
    }
    Ok(all)
}

fn environment(what: &str) -> impl Fn(std::io::Error) -> CommandError {
    let text = format!("cannot run {what}");
    move |e| {
        CommandError::new(Kind::Environment, format!("{text}: {e}"))
            .hint("--ssh with key files needs OpenSSH's client")
    }
}

fn start(store: &Store, id: &str, keys: &[PathBuf]) -> Result<(Agent, PathBuf), CommandError> {
    let keys: Vec<PathBuf> = keys
        .iter()
        .map(|k| {
            std::fs::canonicalize(k)
                .map_err(|e| CommandError::usage(format!("--ssh {id}={}: {e}", k.display())))
        })
        .collect::<Result<_, _>>()?;
    let scratch = store.scratch()?;
    let dir = scratch.path().to_owned();
    // A name without directories: the address of a socket holds 107 bytes, less than a path may have.
    let child = Command::new("ssh-agent")
        .args(["-D", "-a", "agent"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(environment("ssh-agent"))?;
    let mut agent = Agent { child, _scratch: scratch };
    let socket = dir.join("agent");
    let begin = Instant::now();
    while !socket.exists() {
        if agent.child.try_wait().ok().flatten().is_some() || begin.elapsed() > Duration::from_secs(10) {
            return Err(CommandError::new(Kind::Environment, "ssh-agent does not start"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for key in &keys {
        add(&dir, id, key)?;
    }
    Ok((agent, socket))
}

fn add(dir: &Path, id: &str, key: &Path) -> Result<(), CommandError> {
    let out = Command::new("ssh-add")
        .arg("-q")
        .arg(key)
        .current_dir(dir)
        .env("SSH_AUTH_SOCK", "agent")
        .stdin(Stdio::null())
        .output()
        .map_err(environment("ssh-add"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(CommandError::usage(format!("--ssh {id}: {} is no usable private key: {said}", key.display())))
}
