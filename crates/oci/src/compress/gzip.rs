//! gzip, block by block on several threads, as one member.
//!
//! The input is cut into blocks of 1 MiB. Each is deflated on its own by libdeflate, which is two to three times as fast as zlib at the same
//! level; what the seams cost (0.2 %) is less than what it saves, so that the output is smaller than that of `gzip`.
//! libdeflate makes whole streams only: of each but the last one the mark of the last block is taken away, and a sync flush put behind
//! it ([`blocks::last`]), so that the pieces can be joined. A member for each block would be simpler, and within RFC 1952, but there are readers that
//! stop after the first one (Python's `tarfile` on a stream). Cutting depends on nothing but the position in the input, so the
//! result is the same for any number of threads, one included.
//! Memory: two blocks in flight for each thread, and their output.
//!
//! Archives, pictures and packages are compressed already, and deflate takes its time for them to gain nothing.
//! Each eighth of a block that looks like that is stored as it is ([`is_dense`]).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};

use super::blocks;

/// Bytes of input deflated at a time. A smaller block costs size at the seams, a larger one memory.
const BLOCK: usize = 1 << 20;

struct Job {
    block: Vec<u8>,
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
fn is_dense(fast: &mut Compressor, segment: &[u8]) -> bool {
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
    let mut out = [0; SAMPLE - SAMPLE / 100];
    fast.deflate_compress(&segment[..SAMPLE], &mut out).is_err()
}

/// Deflates blocks. What one becomes does not depend on what came before it.
struct Deflater {
    /// `None`: level 0, nothing is deflated.
    level: Option<Compressor>,
    fast: Compressor,
}

impl Deflater {
    fn new(level: u32) -> io::Result<Deflater> {
        let compressor = |level| {
            let level = CompressionLvl::new(level).map_err(|_| io::Error::other("gzip: no such level"))?;
            Ok::<_, io::Error>(Compressor::new(level))
        };
        let level = i32::try_from(level).unwrap_or(9).min(9);
        Ok(Deflater { level: (level > 0).then(|| compressor(level)).transpose()?, fast: compressor(1)? })
    }

    fn deflate(&mut self, job: &Job) -> io::Result<Piece> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&job.block);
        let mut deflated = Vec::new();
        for (dense, range) in self.stretches(&job.block) {
            let last = job.last && range.end == job.block.len();
            match &mut self.level {
                Some(level) if !dense => stretch(level, &job.block[range], last, &mut deflated)?,
                _ => store(&job.block[range], last, &mut deflated),
            }
        }
        Ok(Piece { deflated, crc })
    }

    /// Stretches of a block that are to be stored (`true`) or deflated; at least one.
    fn stretches(&mut self, block: &[u8]) -> Vec<(bool, Range<usize>)> {
        if self.level.is_none() {
            return vec![(true, 0..block.len())];
        }
        let mut all: Vec<(bool, Range<usize>)> = Vec::new();
        for (n, segment) in block.chunks(SEGMENT).enumerate() {
            let at = n * SEGMENT;
            let dense = is_dense(&mut self.fast, segment);
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
}

/// Deflates what begins at a byte, up to a sync flush or the end of the stream.
fn stretch(level: &mut Compressor, input: &[u8], last: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let from = out.len();
    out.resize(from + level.deflate_compress_bound(input.len()), 0);
    let length = level.deflate_compress(input, &mut out[from..]).map_err(io::Error::other)?;
    out.truncate(from + length);
    if last {
        return Ok(());
    }
    let end = blocks::last(&out[from..]).ok_or_else(|| io::Error::other("gzip: a block without an end"))?;
    out[from + end.header / 8] &= !(1 << (end.header % 8));
    // An empty stored block: three bits of zeros, zeros up to a byte, and its length. The bits behind a stream's end are zeros already.
    out.resize(from + (end.end + 3).div_ceil(8), 0);
    out.extend_from_slice(&[0, 0, 0xff, 0xff]);
    Ok(())
}

/// Stored blocks (RFC 1951 section 3.2.4). What is before them ends at a byte.
fn store(input: &[u8], last: bool, out: &mut Vec<u8>) {
    let mut blocks = input.chunks(usize::from(u16::MAX)).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[u8::from(last), 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(last && blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
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
    fn new(level: u32, threads: usize) -> Pool {
        let (jobs, queue) = channel::<(Job, SyncSender<Reply>)>();
        let queue = Arc::new(Mutex::new(queue));
        let workers = (0..threads).map_while(|_| {
            let queue = Arc::clone(&queue);
            let mut deflater = Deflater::new(level).ok()?;
            let work = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, reply)) = next else { return };
                    // Nobody waits any more when the encoder was dropped.
                    let _ = reply.send(deflater.deflate(&job));
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
    Here(Deflater),
    Pool(Pool),
}

/// Writes one gzip member.
pub(super) struct Encoder<W> {
    out: W,
    engine: Engine,
    block: Vec<u8>,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Encoder<W>> {
        let extra = match level {
            0..=1 => 4,
            9.. => 2,
            _ => 0,
        };
        // No name, no time, unknown system: nothing that says where it was made.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 255])?;
        let pool = (threads > 1).then(|| Pool::new(level, threads));
        let engine = match pool.filter(|pool| !pool.workers.is_empty()) {
            Some(pool) => Engine::Pool(pool),
            None => Engine::Here(Deflater::new(level)?),
        };
        let crc = crc32fast::Hasher::new();
        Ok(Encoder { out, engine, block: Vec::with_capacity(BLOCK), crc, bytes: 0 })
    }

    /// Sends the current block on its way.
    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(if last { 0 } else { BLOCK }));
        let job = Job { block, last };
        let piece = match &mut self.engine {
            Engine::Here(deflater) => deflater.deflate(&job)?,
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
