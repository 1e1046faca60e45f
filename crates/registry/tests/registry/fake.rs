//! A registry that does what a test tells it: an HTTP/1.1 server on the loopback interface whose answers are a function of the
//! request. It can stop in the middle of an answer, which real ones only do when nobody looks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `METHOD /path`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    hang: bool,
    flow: Option<Flow>,
}

/// An answer without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The body again and again, as fast as it is taken.
    Body,
    /// The body again and again, a byte at a time with a pause after each.
    Drip,
    /// Headers, each after a pause.
    Headers,
    /// Announcements that the answer will come.
    Soon,
    /// The size of a chunk, a byte at a time.
    ChunkSize,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into(), cut: None, hang: false, flow: None }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Closes the connection without a word.
    pub(crate) fn none() -> Answer {
        Answer::new(0, "")
    }

    /// Announces everything, sends that many bytes of the body, and closes the connection.
    pub(crate) fn cut(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self
    }

    /// An answer that goes on until the client has enough.
    pub(crate) fn flow(mut self, flow: Flow) -> Answer {
        self.flow = Some(flow);
        self
    }

    /// As [`Answer::cut`], but keeps the connection open and silent.
    pub(crate) fn hang(mut self, bytes: usize) -> Answer {
        self.hang = true;
        self.cut(bytes)
    }
}

type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

pub(crate) struct Fake {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (seen, stop, handler) = (seen.clone(), stop.clone(), handler.clone());
                    std::thread::spawn(move || {
                        // A client that goes away ends its connection, and nothing else.
                        let _ = serve(&stream.unwrap(), &seen, &stop, &*handler);
                    });
                }
            }
        });
        Fake { host: address.to_string(), address, seen, stop, thread: Some(thread) }
    }

    /// Requests so far, without the client's look at `/v2/` for the scheme.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|s| s.target != "/v2/").cloned().collect()
    }

    /// `METHOD /path` of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// How many requests had this method and path.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|l| *l == line).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &TcpStream,
    seen: &Mutex<Vec<Seen>>,
    stop: &AtomicBool,
    handler: &Handler,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    loop {
        // A TLS handshake: this server has no certificate.
        if reader.fill_buf()?.first() == Some(&0x16) {
            return Ok(());
        }
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => break,
            }
        }
        let mut request = Seen { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |l| l.parse().unwrap());
        (&mut reader).take(length).read_to_end(&mut request.body)?;
        let answer = handler(&request);
        let head = request.method == "HEAD";
        seen.lock().unwrap().push(request);

        if answer.status == 0 {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        if let Some(flow) = answer.flow {
            return go_on(&mut writer, &answer, flow, stop);
        }
        let mut text = format!("HTTP/1.1 {} X\r\n", answer.status);
        let own_length = answer.headers.iter().any(|(n, _)| {
            n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding")
        });
        if !own_length {
            text.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        writer.write_all(text.as_bytes())?;
        if !head {
            writer.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())])?;
        }
        if answer.hang {
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        if answer.cut.is_some() {
            stream.shutdown(std::net::Shutdown::Both)?;
            return Ok(());
        }
    }
}

/// Sends without an end; the client's end is an error.
fn go_on(writer: &mut TcpStream, answer: &Answer, flow: Flow, stop: &AtomicBool) -> std::io::Result<()> {
    let pause = || std::thread::sleep(std::time::Duration::from_millis(5));
    writer.set_nodelay(true)?;
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match flow {
        Flow::Soon => {}
        Flow::Headers => writer.write_all(head.as_bytes())?,
        Flow::Body | Flow::Drip => writer.write_all(format!("{head}\r\n").as_bytes())?,
        Flow::ChunkSize => {
            writer.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n1;").as_bytes())?
        }
    }
    while !stop.load(Ordering::SeqCst) {
        match flow {
            Flow::Body => writer.write_all(&answer.body)?,
            Flow::Drip => {
                for byte in &answer.body {
                    writer.write_all(&[*byte])?;
                    pause();
                }
            }
            Flow::Headers => {
                writer.write_all(b"X-More: to come\r\n")?;
                pause();
            }
            Flow::Soon => {
                writer.write_all(b"HTTP/1.1 102 X\r\n\r\n")?;
                pause();
            }
            Flow::ChunkSize => {
                writer.write_all(b"x")?;
                pause();
            }
        }
    }
    Ok(())
}
