//! One fetch: what is asked for with one request, and what is done with it.
//!
//! What is needed is a chunk of a large file, or all of a small one. The request goes on with what follows in the blob, up to the window:
//! small files, which archives hold next to those of the same directory, and further chunks of the same file. The window grows while
//! fetches follow each other, and is small again after a jump. What is here already ends the request. Nothing is read ahead that is not used: it
//! is verified and kept like what was asked for, and if something is wrong with it, it is as if it had not been read.
//!
//! Memory: a buffer for one small file, and the window of a decoder.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use oci::Hasher;
use oci::compress::{Decoder, Format};
use oci::toc::{Content as Listed, Packing, Toc};

use super::source::{Held, Source};
use crate::images::chain_text;
use crate::parallel::lock;

/// Files up to this size, in bytes, are fetched as a whole.
const SMALL: u64 = 1 << 20;
/// The most that may lie, compressed, between the two ends of a small file.
const SPREAD: u64 = 4 << 20;
/// What is asked for at once after a jump, in bytes.
const FIRST: u64 = 512 << 10;
/// And at most.
const LARGEST: u64 = 4 << 20;

/// How much of a layer is asked for at once.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// The piece behind the last fetch.
    next: usize,
}

impl Default for Window {
    fn default() -> Window {
        Window { bytes: FIRST, next: usize::MAX }
    }
}

/// The pieces of a file that is fetched as a whole.
fn small(toc: &Toc, content: &Listed) -> Option<Range<usize>> {
    let run = content.run.clone().filter(|_| content.size <= SMALL)?;
    match run.is_empty() {
        true => Some(run),
        false => {
            let bytes = span(toc, &run);
            (bytes.end - bytes.start <= SPREAD).then_some(run)
        }
    }
}

/// The bytes of the blob that hold some pieces.
fn span(toc: &Toc, pieces: &Range<usize>) -> Range<u64> {
    let frame = |piece: usize| &toc.frames[toc.pieces[piece].frame];
    frame(pieces.start).start..frame(pieces.end - 1).end
}

impl Source {
    /// Fetches a chunk, and what is sensible to fetch with it. An error names the file.
    pub(super) fn fetch(&self, layer: usize, content: usize, chunk: usize) -> io::Result<Held> {
        let why = match self.try_to_fetch(layer, content, chunk) {
            Ok(()) => "it did not come".to_owned(),
            Err(e) => chain_text(&e),
        };
        match self.held(layer, content, chunk)? {
            Some(held) => Ok(held),
            None => Err(self.refused(layer, content, &why)),
        }
    }

    fn try_to_fetch(&self, layer: usize, content: usize, chunk: usize) -> io::Result<()> {
        let toc = &self.layers[layer].toc;
        let mut window = lock(&self.layers[layer].window);
        // Another one may have fetched it while we waited for the window.
        if self.held(layer, content, chunk)?.is_some() {
            return Ok(());
        }
        let listed = self.listed(layer, content);
        let needed = match (small(toc, listed), listed.chunks[chunk].piece) {
            (Some(run), _) if run.is_empty() => {
                return self.keep_small(layer, content, Vec::new());
            }
            (Some(run), _) => run,
            (None, Some(piece)) => piece..piece + 1,
            (None, None) => {
                drop(self.open_spool(layer, content)?);
                return self.keep_chunk(layer, content, chunk);
            }
        };
        window.bytes = if window.next == needed.start { (window.bytes * 2).min(LARGEST) } else { FIRST };
        let all = self.plan(layer, content, &needed, window.bytes);
        window.next = all.end;
        self.take(layer, &all)
    }

    /// The pieces that are fetched: those needed, and what follows.
    fn plan(&self, layer: usize, content: usize, needed: &Range<usize>, most: u64) -> Range<usize> {
        let toc = &self.layers[layer].toc;
        let mut all = needed.clone();
        while let Some(next) = toc.pieces.get(all.end) {
            let listed = &toc.contents[next.content];
            let unit = match small(toc, listed) {
                Some(run) if run.start == all.end && !self.is_whole(layer, next.content) => run,
                None if next.content == content
                    && matches!(self.held(layer, content, next.chunk), Ok(None)) =>
                {
                    all.end..all.end + 1
                }
                _ => break,
            };
            let longer = all.start..unit.end;
            let bytes = span(toc, &longer);
            if bytes.end - bytes.start > most {
                break;
            }
            all = longer;
        }
        all
    }

    /// Fetches pieces, verifies and keeps them, one after the other: what is kept before an error stays kept.
    fn take(&self, layer: usize, all: &Range<usize>) -> io::Result<()> {
        let toc = &self.layers[layer].toc;
        let bytes = span(toc, all);
        let mut at = bytes.start;
        let mut blob = self.part(layer, bytes)?;
        let mut buffer = Vec::new();
        let mut next = all.start;
        while next < all.end {
            let number = toc.pieces[next].frame;
            let frame = &toc.frames[number];
            skip(&mut blob, frame.start - at)?;
            let mut packed = (&mut blob).take(frame.end - frame.start);
            let mut unpacked = unpack(toc.packing, &mut packed)?;
            let mut inner = 0;
            while let Some(piece) = toc.pieces[..all.end].get(next).filter(|p| p.frame == number) {
                skip(&mut unpacked, piece.inner - inner)?;
                self.take_piece(layer, next, &mut unpacked, &mut buffer)?;
                inner = piece.inner + toc.contents[piece.content].chunks[piece.chunk].size;
                next += 1;
            }
            drop(unpacked);
            io::copy(&mut packed, &mut io::sink())?;
            at = frame.end;
        }
        Ok(())
    }

    /// Takes one piece. Those of a small file are collected in `buffer` until the last one.
    fn take_piece(
        &self,
        layer: usize,
        number: usize,
        unpacked: &mut dyn Read,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        let toc = &self.layers[layer].toc;
        let piece = toc.pieces[number];
        let listed = &toc.contents[piece.content];
        let chunk = &listed.chunks[piece.chunk];
        let small = small(toc, listed);
        let mut hasher = Hasher::new();
        let mut reader = unpacked.take(chunk.size);
        let file = match &small {
            Some(run) => {
                if run.start == number {
                    buffer.clear();
                }
                // Zeros before it.
                buffer.resize(usize::try_from(chunk.at).unwrap_or(usize::MAX), 0);
                let held = buffer.len();
                reader.read_to_end(buffer)?;
                hasher.update(&buffer[held..]);
                None
            }
            None => {
                let file = self.open_spool(layer, piece.content)?;
                io::copy(&mut reader, &mut Spool { file: &file, at: chunk.at, hasher: &mut hasher })?;
                Some(file)
            }
        };
        if hasher.bytes() != chunk.size {
            let why = format!("{} bytes at {} came, and should be {}", hasher.bytes(), chunk.at, chunk.size);
            return Err(bad(why));
        }
        let got = hasher.finish();
        if got != chunk.digest {
            let why = format!(
                "its bytes at {} have digest {got}, the table of contents says {}",
                chunk.at, chunk.digest
            );
            return Err(bad(why));
        }
        match small {
            Some(run) if run.end == number + 1 => {
                self.keep_small(layer, piece.content, std::mem::take(buffer))
            }
            Some(_) => Ok(()),
            None => {
                drop(file);
                self.keep_chunk(layer, piece.content, piece.chunk)
            }
        }
    }

    /// Keeps a small file whose chunks have come; what is missing at its end is zeros.
    fn keep_small(&self, layer: usize, content: usize, mut bytes: Vec<u8>) -> io::Result<()> {
        let listed = self.listed(layer, content);
        bytes.resize(usize::try_from(listed.size).unwrap_or(usize::MAX), 0);
        let got = oci::Digest::of(&bytes);
        if got != listed.digest {
            let why = format!("it has digest {got}, the table of contents says {}", listed.digest);
            return Err(bad(why));
        }
        self.keep_bytes(layer, content, &bytes)
    }
}

/// An error that says what is wrong with the file that is fetched.
pub(super) fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn unpack<R: Read>(packing: Packing, packed: R) -> io::Result<Decoder<R>> {
    let wanted = match packing {
        Packing::Gzip => Format::Gzip,
        Packing::Zstd => Format::Zstd,
    };
    let decoder = Decoder::new(packed)?;
    match decoder.format() {
        format if format == wanted => Ok(decoder),
        other => Err(bad(format!("its bytes are {other}, and should be {wanted}"))),
    }
}

/// Reads and forgets.
fn skip(reader: &mut dyn Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut reader.take(bytes), &mut io::sink())? {
        n if n == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes a chunk into the middle of a file, and hashes it.
struct Spool<'a> {
    file: &'a std::fs::File,
    at: u64,
    hasher: &'a mut Hasher,
}

impl Write for Spool<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(buf, self.at)?;
        self.hasher.update(&buf[..n]);
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
