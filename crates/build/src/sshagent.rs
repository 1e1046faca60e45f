//! What a RUN sees of an SSH agent: a socket that lists keys and signs, and refuses all else (BuildKit forwards no more either).
//! A step could otherwise remove the user's keys, lock the agent, or add keys to it.
//!
//! The protocol (draft-ietf-sshm-ssh-agent): a message is its length (4 bytes, big endian), a type, and a body; each request has
//! one reply.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// OpenSSH's own limit.
const LONGEST: u32 = 256 << 10;

/// A socket before an agent; gone when this is dropped.
pub(crate) struct Filter {
    listener: UnixListener,
    path: PathBuf,
    // The path leads through it: the address of a socket holds 107 bytes, less than a path may have.
    _dir: OwnedFd,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Filter {
    /// Makes `dir/name`, which leads to `agent`.
    pub(crate) fn start(agent: &Path, dir: &Path, name: &str) -> io::Result<Filter> {
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        let listener = UnixListener::bind(&path)?;
        let (accepting, agent) = (listener.try_clone()?, agent.to_owned());
        std::thread::Builder::new().name("ssh-agent".into()).spawn(move || {
            for client in accepting.incoming() {
                let (Ok(client), agent) = (client, agent.clone()) else { return };
                // Without a thread there is no agent, which the client is told by the end of its connection.
                let _ = std::thread::Builder::new().name("ssh-agent".into()).spawn(move || {
                    let _ = connect(&agent).and_then(|agent| serve(&client, &agent));
                });
            }
        })?;
        Ok(Filter { listener, path, _dir: dir })
    }

    /// The socket, for this process.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Wakes the thread in accept; std has no shutdown for listeners.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// Connects to a socket by a path of any length.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return UnixStream::connect(path) };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// One message with its length, or `None` at the end.
fn message(mut from: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let n = u32::from_be_bytes(length);
    if n == 0 || n > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no agent message"));
    }
    let mut out = length.to_vec();
    from.take(n.into()).read_to_end(&mut out)?;
    if out.len() as u64 == u64::from(n) + 4 {
        Ok(Some(out))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn serve(mut client: &UnixStream, mut agent: &UnixStream) -> io::Result<()> {
    while let Some(request) = message(client)? {
        if !matches!(request.get(4), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST))) {
            client.write_all(&FAILURE)?;
            continue;
        }
        agent.write_all(&request)?;
        let Some(reply) = message(agent)? else { break };
        client.write_all(&reply)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("e".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let agent = UnixListener::bind(dir.path().join("agent")).unwrap();
        std::fs::rename(dir.path().join("agent"), deep.join("agent")).unwrap();
        let seen = std::thread::spawn(move || {
            let (stream, _) = agent.accept().unwrap();
            let mut types = Vec::new();
            while let Some(m) = message(&stream).unwrap() {
                types.push(m[4]);
                (&stream).write_all(&[0, 0, 0, 2, 99, m[4]]).unwrap();
            }
            types
        });
        let long = dir.path().join("d".repeat(100));
        std::fs::create_dir(&long).unwrap();
        let filter = Filter::start(&deep.join("agent"), &long, "s").unwrap();
        let client = UnixStream::connect(filter.path()).unwrap();
        let ask = |kind: u8| {
            (&client).write_all(&[0, 0, 0, 2, kind, 7]).unwrap();
            message(&client).unwrap().unwrap()
        };
        // Remove all keys, list, lock, an extension, sign.
        let replies: Vec<Vec<u8>> = [19, 11, 22, 27, 13].into_iter().map(ask).collect();
        assert_eq!(
            replies,
            [
                FAILURE.to_vec(),
                vec![0, 0, 0, 2, 99, 11],
                FAILURE.into(),
                FAILURE.into(),
                vec![0, 0, 0, 2, 99, 13]
            ]
        );
        (&client).write_all(&[255, 255, 255, 255]).unwrap();
        assert_eq!(message(&client).unwrap(), None, "nonsense ends the connection");
        drop(client);
        assert_eq!(seen.join().unwrap(), [11, 13]);
        let path = long.join("s");
        drop(filter);
        assert!(UnixStream::connect(path).is_err());
    }
}
