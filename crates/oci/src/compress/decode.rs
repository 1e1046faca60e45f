//! Reading a stream of any of the formats.
//!
//! # Bombs
//!
//! A few kilobytes of a compressed stream can stand for terabytes. What comes out is bounded by what went in: [`Growth`], which every
//! decoder has. Memory is bounded by the windows of the formats ([`MAX_WINDOW_LOG`], and 160 MiB for xz), and members of no content
//! cost their own bytes.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

use super::{Format, SNIFF, sniff};

/// Largest zstd window, as a power of two: 128 MiB, what `zstd -d` takes unasked.
pub const MAX_WINDOW_LOG: u32 = 27;

/// Memory that an xz stream may ask for: enough for every preset (the highest has a dictionary of 64 MiB).
const XZ_MEMORY: u64 = 160 << 20;

/// How much a stream may grow: `free` bytes, and `factor` times what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Bytes that any stream may become.
    pub free: u64,
    /// Bytes for each compressed one.
    pub factor: u64,
}

impl Default for Growth {
    /// 16 GiB, and 200 times the compressed size: gzip's best is 1032, and what makes a layer so much smaller than its files is
    /// one huge file of zeros.
    fn default() -> Growth {
        Growth { free: 16 << 30, factor: 200 }
    }
}

impl Growth {
    /// What `compressed` bytes may become.
    fn most(self, compressed: u64) -> u64 {
        self.free.saturating_add(self.factor.saturating_mul(compressed))
    }
}

/// Pieces in which the compressed stream is read.
const BUFFER: usize = 128 * 1024;

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Bytes that have been taken out of a source.
fn taken<R: Read>(source: &Source<R>) -> u64 {
    let (head, rest) = source.get_ref().get_ref();
    (head.position() + rest.bytes).saturating_sub(source.buffer().len() as u64)
}

/// Decompresses a stream whose format it finds out itself.
pub struct Decoder<R: Read> {
    format: Format,
    inner: Inner<R>,
    growth: Growth,
    /// Bytes that came out.
    out: u64,
}

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(MultiGzDecoder<Source<R>>),
    Bzip2(MultiBzDecoder<Source<R>>),
    Xz(XzDecoder<Source<R>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("format", &self.format).finish_non_exhaustive()
    }
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of a stream and chooses. The reader need not be buffered.
    pub fn new(mut reader: R) -> io::Result<Decoder<R>> {
        let mut head = Vec::with_capacity(SNIFF);
        reader.by_ref().take(SNIFF as u64).read_to_end(&mut head)?;
        let format = sniff(&head);
        let source =
            BufReader::with_capacity(BUFFER, Cursor::new(head).chain(Counted { inner: reader, bytes: 0 }));
        let inner = match format {
            Format::None => Inner::Plain(source),
            Format::Gzip => Inner::Gzip(MultiGzDecoder::new(source)),
            Format::Bzip2 => Inner::Bzip2(MultiBzDecoder::new(source)),
            Format::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(io::Error::from)?;
                Inner::Xz(XzDecoder::new_stream(source, stream))
            }
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Inner::Zstd(decoder)
            }
        };
        Ok(Decoder { format, inner, growth: Growth::default(), out: 0 })
    }

    /// Another bound.
    pub fn with_growth(mut self, growth: Growth) -> Decoder<R> {
        self.growth = growth;
        self
    }

    /// Bytes of the compressed stream that were needed for what has been read so far. gzip, bzip2 and xz take bytes as they need them,
    /// zstd takes whole blocks (up to 128 KiB of content), and parts of the next one early.
    pub fn consumed(&self) -> u64 {
        match &self.inner {
            Inner::Plain(r) => taken(r),
            Inner::Gzip(r) => taken(r.get_ref()),
            Inner::Bzip2(r) => taken(r.get_ref()),
            Inner::Xz(r) => taken(r.get_ref()),
            Inner::Zstd(r) => taken(r.get_ref()),
        }
    }

    /// The compressed stream, read as far as the decoder did: further than [`Decoder::consumed`] says.
    pub fn into_inner(self) -> R {
        let source = match self.inner {
            Inner::Plain(r) => r,
            Inner::Gzip(r) => r.into_inner(),
            Inner::Bzip2(r) => r.into_inner(),
            Inner::Xz(r) => r.into_inner(),
            Inner::Zstd(r) => r.finish(),
        };
        source.into_inner().into_inner().1.inner
    }

    /// The format of the stream.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let got = match &mut self.inner {
            Inner::Plain(r) => return r.read(buf),
            Inner::Gzip(r) => r.read(buf),
            Inner::Bzip2(r) => r.read(buf),
            Inner::Xz(r) => r.read(buf),
            Inner::Zstd(r) => r.read(buf),
        };
        match got {
            Ok(n) => {
                self.out += n as u64;
                let taken = self.consumed();
                if self.out > self.growth.most(taken) {
                    let (format, out) = (self.format, self.out);
                    let text = format!("{format}: {taken} bytes become {out} and more: a decompression bomb");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", self.format))),
        }
    }
}
