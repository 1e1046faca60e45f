//! Passes connections on to a Unix socket of the host (the SSH agent's).
//!
//! The step gets a socket of its own, with the owner and mode that it asks for; the host's stays as it is, and can be reached
//! through its connections only.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};

/// Connections at a time; a further one is closed at once.
const MOST: usize = 64;

/// A socket that passes connections on until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder(UnixListener);

impl Forwarder {
    /// Makes `dir/name` and passes its connections on to `to`.
    pub(crate) fn start(
        dir: &Path,
        name: &str,
        to: PathBuf,
        (mode, uid, gid): (u32, u32, u32),
    ) -> io::Result<Forwarder> {
        use std::os::fd::AsRawFd;
        // The address of a socket holds 107 bytes, less than a path may have.
        let place = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", place.as_raw_fd()))?;
        let path = dir.join(name);
        rustix::fs::chownat(
            CWD,
            &path,
            Some(Uid::from_raw(crate::ids::Ids::here().user(uid))),
            Some(Gid::from_raw(crate::ids::Ids::here().group(gid))),
            rustix::fs::AtFlags::empty(),
        )?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode & 0o777))?;
        let accepting = listener.try_clone()?;
        std::thread::Builder::new().name("sandbox-socket".into()).spawn(move || accept(&accepting, &to))?;
        Ok(Forwarder(listener))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // Wakes the thread in accept; std has no shutdown for listeners.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

fn accept(listener: &UnixListener, to: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        if open.fetch_add(1, Ordering::Relaxed) < MOST
            && let Ok(server) = UnixStream::connect(to)
        {
            let count = open.clone();
            let thread = std::thread::Builder::new().name("sandbox-socket".into());
            let started = thread.spawn(move || {
                pass_both_ways(&client, &server);
                count.fetch_sub(1, Ordering::Relaxed);
            });
            if started.is_ok() {
                continue;
            }
        }
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn pass_both_ways(a: &UnixStream, b: &UnixStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| pass(a, b));
        pass(b, a);
    });
}

fn pass(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn both_directions_pass_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let agent = UnixListener::bind(dir.path().join("agent")).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut s, _) = agent.accept().unwrap();
            let mut text = String::new();
            s.read_to_string(&mut text).unwrap();
            s.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let long = dir.path().join("d".repeat(150));
        std::fs::create_dir(&long).unwrap();
        let f = Forwarder::start(&long, "s", dir.path().join("agent"), (0o600, ids.0, ids.1)).unwrap();
        let link = dir.path().join("short");
        std::os::unix::fs::symlink(long.join("s"), &link).unwrap();
        let mut client = UnixStream::connect(&link).unwrap();
        client.write_all(b"sign this").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "SIGN THIS");
        echo.join().unwrap();
        drop(f);
        let mut late = match UnixStream::connect(&link) {
            Err(_) => return,
            Ok(s) => s,
        };
        assert_eq!(late.read(&mut [0]).unwrap_or(0), 0, "nobody serves it any more");
    }
}
