//! gzip, block by block on several threads, as one member.
//!
//! The input is cut into blocks of 1 MiB. Each is deflated on its own, primed with the 32 KiB before it (so that little is lost
//! at the seams), and ends in a sync flush, so that the pieces can be joined; the last one ends the stream. Cutting depends on
//! nothing but the position in the input, so the result is the same for any number of threads, one included.
//! Memory: two blocks in flight for each thread, and their output.
//!
//! Archives, pictures and packages are compressed already, and deflate takes longer for them than for anything else, to gain nothing.
//! Each eighth of a block that looks like that is stored as it is ([`is_dense`]).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, FlushCompress, Status};

/// Bytes of input deflated at a time. A smaller block costs size at the seams, a larger one memory; at 1 MiB the seams cost 0.1 %.
const BLOCK: usize = 1 << 20;

/// How far deflate looks back.
const WINDOW: usize = 32 * 1024;

struct Job {
    input: Vec<u8>,
    dictionary: Vec<u8>,
    last: bool,
}

struct Piece {
    deflated: Vec<u8>,
    crc: crc32fast::Hasher,
}

/// Bytes of input that are deflated or stored together.
const SEGMENT: usize = BLOCK / 8;

/// Bytes at the beginning of a segment that are tried.
const SAMPLE: usize = 16 * 1024;

/// Whether deflate would gain nothing worth its time: all byte values are about equally frequent (a collision entropy of 7.9 bits; what
/// deflate itself makes has 7.99), and the beginning, tried at the fastest level, shrinks by less than a hundredth.
fn is_dense(segment: &[u8]) -> bool {
    if segment.len() < SAMPLE {
        return false;
    }
    let mut counts = [0u64; 256];
    segment.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let collisions: u64 = counts.iter().map(|n| n * n).sum();
    let length = segment.len() as u64;
    if collisions * 239 > length * length {
        return false;
    }
    let sample = &segment[..SAMPLE];
    let mut out = [0; SAMPLE - SAMPLE / 100];
    let mut state = Compress::new(Compression::fast(), false);
    !matches!(state.compress(sample, &mut out, FlushCompress::Finish), Ok(Status::StreamEnd))
}

/// Stretches of a block that are to be stored (`true`) or deflated.
fn stretches(level: Compression, input: &[u8]) -> Vec<(bool, std::ops::Range<usize>)> {
    let mut all: Vec<(bool, std::ops::Range<usize>)> = Vec::new();
    for (n, segment) in input.chunks(SEGMENT).enumerate() {
        let at = n * SEGMENT;
        let dense = level.level() == 0 || is_dense(segment);
        match all.last_mut() {
            Some((same, range)) if *same == dense => range.end = at + segment.len(),
            _ => all.push((dense, at..at + segment.len())),
        }
    }
    if all.is_empty() {
        all.push((false, 0..0));
    }
    all
}

/// Stored blocks, RFC 1951 section 3.2.4. What is before them ends at a byte.
fn store(input: &[u8], last: bool, out: &mut Vec<u8>) {
    let mut blocks = input.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(last && blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

fn deflate(level: Compression, job: &Job) -> io::Result<Piece> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&job.input);
    let mut deflated = Vec::new();
    for (dense, range) in stretches(level, &job.input) {
        let last = job.last && range.end == job.input.len();
        if dense {
            store(&job.input[range], last, &mut deflated);
        } else {
            let window = if range.start == 0 {
                &job.dictionary
            } else {
                &job.input[range.start.saturating_sub(WINDOW)..range.start]
            };
            deflate_stretch(level, window, &job.input[range], last, &mut deflated)?;
        }
    }
    Ok(Piece { deflated, crc })
}

/// Deflates what comes after `window`, up to a sync flush or the end of the stream.
fn deflate_stretch(
    level: Compression,
    window: &[u8],
    input: &[u8],
    last: bool,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    // A state of its own for each block: zlib-rs' reset leaves old bytes in the window that the next block's choices can depend on
    // (seen with 0.6.8), and then the output would depend on which thread had which blocks. A new one costs next to nothing.
    let mut state = Compress::new(level, false);
    if !window.is_empty() {
        state.set_dictionary(window).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    // All in one call with room for everything: what deflate does may depend on the room that is left.
    let from = out.len();
    let room = input.len() + input.len() / 8 + 4096;
    out.resize(from + room, 0);
    let status = state.compress(input, &mut out[from..], flush).map_err(io::Error::other)?;
    let whole = state.total_in() == input.len() as u64 && (status == Status::StreamEnd) == last;
    let length = usize::try_from(state.total_out()).unwrap_or(room);
    out.truncate(from + length);
    if !whole || length == room {
        return Err(io::Error::other("gzip: a block did not fit"));
    }
    Ok(())
}

type Reply = io::Result<Piece>;

/// Threads that deflate, and the replies that are awaited, in order.
struct Pool {
    jobs: Option<Sender<(Job, SyncSender<Reply>)>>,
    workers: Vec<JoinHandle<()>>,
    replies: VecDeque<Receiver<Reply>>,
}

impl Pool {
    /// Up to `threads` workers; fewer if the system refuses.
    fn new(level: Compression, threads: usize) -> Pool {
        let (jobs, queue) = channel::<(Job, SyncSender<Reply>)>();
        let queue = Arc::new(Mutex::new(queue));
        let workers = (0..threads).map_while(|_| {
            let queue = Arc::clone(&queue);
            let work = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, reply)) = next else { return };
                    // Nobody waits any more when the encoder was dropped.
                    let _ = reply.send(deflate(level, &job));
                }
            };
            std::thread::Builder::new().name("gzip".into()).spawn(work).ok()
        });
        Pool { workers: workers.collect(), jobs: Some(jobs), replies: VecDeque::new() }
    }

    fn submit(&mut self, job: Job) -> io::Result<()> {
        let (reply, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send((job, reply)).map_err(|_| gone())?;
        self.replies.push_back(receiver);
        Ok(())
    }

    /// The oldest reply, waited for.
    fn next(&mut self) -> Option<Reply> {
        let receiver = self.replies.pop_front()?;
        Some(receiver.recv().unwrap_or_else(|_| Err(gone())))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("gzip: a worker thread ended early")
}

enum Engine {
    Here(Compression),
    Pool(Pool),
}

/// Writes one gzip member.
pub(super) struct Encoder<W> {
    out: W,
    engine: Engine,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Encoder<W>> {
        let level = level.min(9);
        let extra = match level {
            9 => 2,
            1 => 4,
            _ => 0,
        };
        // No name, no time, unknown system: nothing that says where it was made.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 255])?;
        let level = Compression::new(level);
        let engine = match threads {
            0 | 1 => Engine::Here(level),
            n => match Pool::new(level, n) {
                pool if pool.workers.is_empty() => Engine::Here(level),
                pool => Engine::Pool(pool),
            },
        };
        let crc = crc32fast::Hasher::new();
        Ok(Encoder { out, engine, block: Vec::with_capacity(BLOCK), dictionary: Vec::new(), crc, bytes: 0 })
    }

    /// Sends the current block on its way.
    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        let input = std::mem::replace(&mut self.block, Vec::with_capacity(if last { 0 } else { BLOCK }));
        let tail = input[input.len().saturating_sub(WINDOW)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let job = Job { input, dictionary, last };
        let piece = match &mut self.engine {
            Engine::Here(level) => deflate(*level, &job)?,
            Engine::Pool(pool) => {
                pool.submit(job)?;
                if pool.replies.len() < 2 * pool.workers.len() {
                    return Ok(());
                }
                pool.next().ok_or_else(gone)??
            }
        };
        self.append(piece)
    }

    fn append(&mut self, piece: Piece) -> io::Result<()> {
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.deflated)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.dispatch(true)?;
        while let Engine::Pool(pool) = &mut self.engine
            && let Some(reply) = pool.next()
        {
            self.append(reply?)?;
        }
        let crc = self.crc.clone().finalize();
        self.out.write_all(&crc.to_le_bytes())?;
        // The length modulo 2^32, as the format has it.
        self.out.write_all(&(self.bytes as u32).to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.dispatch(false)?;
        }
        let n = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
