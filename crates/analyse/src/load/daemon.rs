//! Images of Docker and Podman, asked for through their sockets: `GET /images/NAME/get`, the request behind `docker save`, which Podman answers, too.
//! What comes is an archive, read by [`super::pipe`] as it comes.
//!
//! HTTP/1.1 with one request and one reply: `Content-Length`, `Transfer-Encoding: chunked`, or up to the end of the connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Longest line of a reply, and the most header lines.
const MAX_LINE: u64 = 16 << 10;
const MAX_LINES: usize = 200;
/// Most bytes of an error message.
const MAX_MESSAGE: u64 = 64 << 10;

/// Why a daemon does not give an image.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens.
    #[error("cannot connect to {}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("cannot talk to {}", .socket.display())]
    Talk {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says no.
    #[error("the daemon says {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl DaemonError {
    /// Whether it has no image of that name.
    pub fn is_missing(&self) -> bool {
        matches!(self, DaemonError::Refused { status: 404, .. })
    }
}

/// The archive of an image, as it comes.
#[derive(Debug)]
pub struct Body {
    reader: BufReader<UnixStream>,
    length: Length,
}

#[derive(Debug)]
enum Length {
    /// Bytes that are left.
    Known(u64),
    /// Bytes of the current chunk that are left; `first` as long as none has come.
    Chunked { left: u64, first: bool, done: bool },
    /// Up to the end of the connection.
    Open,
}

/// Asks for an image by name or id.
pub fn open(socket: &Path, name: &str) -> Result<Body, DaemonError> {
    let talk = |source| DaemonError::Talk { socket: socket.to_path_buf(), source };
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| DaemonError::Connect { socket: socket.to_path_buf(), source })?;
    // A daemon may take long to begin with a large image; one that is silent for so long is gone.
    stream.set_read_timeout(Some(Duration::from_secs(300))).map_err(talk)?;
    let request = format!(
        "GET /images/{}/get HTTP/1.1\r\nHost: localhost\r\nUser-Agent: layercake\r\nConnection: close\r\n\r\n",
        encoded(name)
    );
    stream.write_all(request.as_bytes()).map_err(talk)?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let status =
        status(&line(&mut reader).map_err(talk)?).ok_or_else(|| talk(bad("it does not speak HTTP")))?;
    let mut length = Length::Open;
    for n in 0.. {
        let header = line(&mut reader).map_err(talk)?;
        if header.is_empty() {
            break;
        }
        if n > MAX_LINES {
            return Err(talk(bad("its reply has too many headers")));
        }
        let (key, value) = header.split_once(':').unwrap_or((&header, ""));
        let value = value.trim();
        if key.eq_ignore_ascii_case("content-length") && !matches!(length, Length::Chunked { .. }) {
            length = Length::Known(value.parse().map_err(|_| talk(bad("its reply has no length")))?);
        } else if key.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            length = Length::Chunked { left: 0, first: true, done: false };
        }
    }
    let mut body = Body { reader, length };
    if status == 200 {
        return Ok(body);
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let mut text = Vec::new();
    body.by_ref().take(MAX_MESSAGE).read_to_end(&mut text).map_err(talk)?;
    let message = match serde_json::from_slice::<Message>(&text) {
        Ok(m) => m.message,
        Err(_) => String::from_utf8_lossy(&text).trim().to_owned(),
    };
    Err(DaemonError::Refused { status, message })
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A name in the path of a URL: slashes and colons stay.
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for b in name.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b':' | b'.' | b'-' | b'_' | b'@' => {
                out.push(char::from(b));
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// A line without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut out = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut out)?;
    if out.pop() != Some(b'\n') {
        return Err(bad("its reply is cut off"));
    }
    if out.last() == Some(&b'\r') {
        out.pop();
    }
    String::from_utf8(out).map_err(|_| bad("its reply is no text"))
}

fn status(line: &str) -> Option<u16> {
    let mut words = line.split(' ');
    words.next().filter(|w| w.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let bound = |left: u64| buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match &mut self.length {
            Length::Open => self.reader.read(buf),
            Length::Known(0) => Ok(0),
            Length::Known(left) => {
                let most = bound(*left);
                let n = self.reader.read(&mut buf[..most])?;
                *left -= n as u64;
                if n == 0 { Err(bad("the reply is cut off")) } else { Ok(n) }
            }
            Length::Chunked { done: true, .. } => Ok(0),
            Length::Chunked { left, first, done } => {
                if *left == 0 {
                    if !std::mem::take(first) && !line(&mut self.reader)?.is_empty() {
                        return Err(bad("a chunk of the reply does not end where it should"));
                    }
                    let size = line(&mut self.reader)?;
                    let size = size.split(';').next().unwrap_or_default().trim();
                    *left =
                        u64::from_str_radix(size, 16).map_err(|_| bad("a chunk of the reply has no size"))?;
                    if *left == 0 {
                        *done = true;
                        return Ok(0);
                    }
                }
                let most = bound(*left);
                let n = self.reader.read(&mut buf[..most])?;
                *left -= n as u64;
                if n == 0 { Err(bad("the reply is cut off")) } else { Ok(n) }
            }
        }
    }
}
