//! Files over HTTP on loopback, for package managers and wget.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A running server; it ends with the value.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the one that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// Serves the files below a directory.
pub(crate) fn directory(dir: &Path) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it has an address");
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, dir) = (stop.clone(), dir.to_owned());
    let thread = std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let dir = dir.clone();
            // One that says nothing must not hold up the others.
            std::thread::spawn(move || answer(&connection, &dir));
        }
    });
    Server { address, stop, thread: Some(thread) }
}

/// One request, one answer; a client that went away is its own affair.
fn answer(mut connection: &TcpStream, dir: &Path) -> Option<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next()?.ok()?;
    lines.find(|l| l.as_ref().map_or(true, String::is_empty));
    let path = request.split(' ').nth(1)?.trim_start_matches('/');
    let inside = Path::new(path).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let file: Option<PathBuf> = inside.then(|| dir.join(path));
    let (status, body) = match file.and_then(|f| std::fs::read(f).ok()) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(&body).ok()
}
