//! gzip, block by block on several threads, as one member.
//!
//! The input is cut into blocks of 1 MiB. Each is deflated on its own, primed with the 32 KiB before it (so that little is lost
//! at the seams), and ends in a sync flush, so that the pieces can be joined; the last one ends the stream. Cutting depends on
//! nothing but the position in the input, so the result is the same for any number of threads, one included.
//! Memory: two blocks in flight for each thread, and their output.

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

/// Deflated blocks are never larger: stored blocks of 64 KiB add 5 bytes each, and a flush adds a few.
const BOUND: usize = BLOCK + BLOCK / 8 + 4096;

struct Job {
    input: Vec<u8>,
    dictionary: Vec<u8>,
    last: bool,
}

struct Piece {
    deflated: Vec<u8>,
    crc: crc32fast::Hasher,
}

fn deflate(level: Compression, job: &Job) -> io::Result<Piece> {
    // A state of its own for each block: zlib-rs' reset leaves old bytes in the window that the next block's choices can depend on
    // (seen with 0.6.8), and then the output would depend on which thread had which blocks. A new one costs next to nothing.
    let mut state = Compress::new(level, false);
    if !job.dictionary.is_empty() {
        state.set_dictionary(&job.dictionary).map_err(io::Error::other)?;
    }
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    // All in one call with room for everything: what deflate does may depend on the room that is left.
    let mut deflated = vec![0; BOUND];
    let status = state.compress(&job.input, &mut deflated, flush).map_err(io::Error::other)?;
    let whole = state.total_in() == job.input.len() as u64 && (status == Status::StreamEnd) == job.last;
    deflated.truncate(usize::try_from(state.total_out()).unwrap_or(BOUND));
    if !whole || deflated.len() == BOUND {
        return Err(io::Error::other("gzip: a block did not fit"));
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&job.input);
    Ok(Piece { deflated, crc })
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
