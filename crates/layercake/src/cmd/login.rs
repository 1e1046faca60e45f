//! `layercake login`, and what `logout` shares with it.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use registry::{Credential, DockerConfig, RegistryError};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::{CommandError, Kind, chain};
use crate::{context, output};

/// Longer user names and passwords are a mistake.
const MAX_LINE: usize = 64 << 10;

/// `layercake login`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The credentials are kept in Docker's config.json ($DOCKER_CONFIG or ~/.docker), or by the helper that it names.")]
pub(crate) struct LoginArgs {
    /// Registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password; other users of this machine can see it
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Allow http and bad certificates
    #[arg(long)]
    insecure: bool,
}

/// The registry's name, as in references: without scheme and path.
pub(super) fn host(text: Option<&str>) -> Result<String, CommandError> {
    let text = text.unwrap_or("docker.io");
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.split('/').next().unwrap_or("");
    let bad = || CommandError::usage(format!("{text:?} is no registry: expected HOST or HOST:PORT"));
    // A reference's grammar knows what a registry's name is; a single word is one, too, here.
    let probe: oci::Reference = format!("{bare}/x/y").parse().map_err(|_| bad())?;
    let single_word = format!("{bare}:1/x").parse::<oci::Reference>().is_ok();
    match bare {
        "index.docker.io" | "registry-1.docker.io" => Ok("docker.io".into()),
        _ if probe.registry == bare || single_word => Ok(bare.to_owned()),
        _ => Err(bad()),
    }
}

/// Docker's configuration.
pub(super) fn config() -> Result<(DockerConfig, PathBuf), CommandError> {
    let path = context::docker_config_file().ok_or_else(|| {
        CommandError::new(Kind::Environment, "cannot tell where credentials are kept: HOME is not set")
            .hint("set DOCKER_CONFIG to a directory")
    })?;
    let config = DockerConfig::load(&path).map_err(credentials)?;
    Ok((config, path))
}

pub(super) fn credentials(e: registry::CredentialError) -> CommandError {
    CommandError::new(Kind::Environment, chain(&e))
}

/// Runs the command.
pub(crate) fn run(args: &LoginArgs) -> Result<ExitCode, CommandError> {
    let host = host(args.registry.as_deref())?;
    let (mut config, path) = config()?;
    let terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let username = match &args.username {
        Some(name) => name.clone(),
        None if terminal && !args.password_stdin => {
            output::ask("Username: ");
            read_line(&mut std::io::stdin())?
        }
        None => return Err(CommandError::usage("the user name is missing").hint("give it with -u NAME")),
    };
    let password = match &args.password {
        Some(p) => {
            output::note(
                "warning: other users of this machine can see a password that is an argument; use --password-stdin",
            );
            p.clone()
        }
        None if args.password_stdin => read_line(&mut std::io::stdin())?,
        None if terminal => hidden("Password: ")?,
        None => {
            return Err(CommandError::usage("the password is missing")
                .hint("give it on standard input with --password-stdin"));
        }
    };
    if username.is_empty() || password.is_empty() {
        return Err(CommandError::usage("the user name and the password must not be empty"));
    }
    let credential = Credential::Password { username, password };
    let cancel = context::interrupt_flag()?;
    let insecure = if args.insecure { vec![host.clone()] } else { Vec::new() };
    let client = context::client(&insecure, &cancel)?;
    client.login_check(&host, &credential).map_err(|e| match e {
        RegistryError::Unauthorized { .. } => CommandError::new(
            Kind::User,
            format!("{host} refuses this user name and password: {}", chain(&e)),
        ),
        e => e.into(),
    })?;
    config.store(&host, &credential).map_err(credentials)?;
    output::note(&format!("the credentials for {host} are kept by way of {}", path.display()));
    output::line("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// The next byte; none at the end. One at a time, so that nothing behind the line is taken.
fn next(input: &mut dyn Read) -> Result<Option<u8>, CommandError> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(CommandError::new(Kind::Environment, format!("cannot read standard input: {e}")));
            }
        }
    }
}

fn push(line: &mut Vec<u8>, byte: u8) -> Result<(), CommandError> {
    if line.len() >= MAX_LINE {
        return Err(CommandError::usage("what was given is too long"));
    }
    line.push(byte);
    Ok(())
}

fn text(line: Vec<u8>) -> Result<String, CommandError> {
    String::from_utf8(line).map_err(|_| CommandError::usage("what was given is no UTF-8 text"))
}

/// One line without its end.
pub(super) fn read_line(input: &mut dyn Read) -> Result<String, CommandError> {
    let mut line = Vec::new();
    while let Some(byte) = next(input)?.filter(|b| *b != b'\n') {
        push(&mut line, byte)?;
    }
    Ok(text(line)?.trim_end_matches('\r').to_owned())
}

/// The terminal while keys are not shown. Dropped, it is as before.
struct Hidden(Termios);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks for a line that is not shown. The keys are read raw, so that also Ctrl-C finds the terminal restored.
fn hidden(question: &str) -> Result<String, CommandError> {
    let failed = |e| CommandError::new(Kind::Environment, format!("cannot read from the terminal: {e}"));
    output::ask(question);
    let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
    let restore = Hidden(before);
    let result = typed(&mut std::io::stdin());
    drop(restore);
    output::ask("\n");
    result
}

/// What keys on a raw terminal come to.
fn typed(keys: &mut dyn Read) -> Result<String, CommandError> {
    let mut line = Vec::new();
    while let Some(key) = next(keys)? {
        match key {
            b'\r' | b'\n' | 0x04 => break,
            0x03 => return Err(CommandError::new(Kind::Interrupted, "interrupted")),
            0x15 => line.clear(),
            0x08 | 0x7f => {
                // One character, however many bytes.
                while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
            }
            key => push(&mut line, key)?,
        }
    }
    text(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries() {
        for (given, want) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("http://reg.example.com/v2/"), "reg.example.com"),
            (Some("registry"), "registry"),
            (Some("[::1]:5000"), "[::1]:5000"),
        ] {
            assert_eq!(host(given).unwrap(), want);
        }
        for bad in ["", "https://", "a b", "a@b", "-x"] {
            assert!(host(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys() {
        let of = |keys: &[u8]| typed(&mut &*keys).map_err(|e| e.kind);
        assert_eq!(of("pä\x7fas\r rest".as_bytes()), Ok("pas".into()));
        assert_eq!(of(b"wrong\x15right\n"), Ok("right".into()));
        assert_eq!(of(b"sec\x03"), Err(Kind::Interrupted));
        assert_eq!(of(b"\x7f\x7fx"), Ok("x".into()));
    }

    #[test]
    fn lines_end_at_their_end() {
        let mut input: &[u8] = b"pass word\r\nrest";
        assert_eq!(read_line(&mut input).unwrap(), "pass word");
        assert_eq!(input, b"rest");
    }
}
