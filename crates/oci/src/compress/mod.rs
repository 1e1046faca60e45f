//! Compression of layers and archives: found by magic when read, chosen when written.
//!
//! # Reading
//!
//! | format | magic | what is taken |
//! |---|---|---|
//! | gzip | `1f 8b 08` | any number of members, also empty ones, all header fields |
//! | bzip2 | `BZh` digit, and the block's or the end's magic | any number of streams |
//! | xz | `fd 37 7a 58 5a 00` | any number of streams, stream padding; a dictionary of up to about 150 MiB |
//! | zstd | `28 b5 2f fd`, or a skippable frame | any number of frames; a window of up to 128 MiB |
//!
//! A stream that is cut off is an error, and so are bytes behind its end that start nothing new. What is in none of the formats is
//! given as it is.
//!
//! # Writing
//!
//! The bytes depend on the input, the kind and the level alone: not on the number of threads, not on how the input was
//! cut into writes, not on the clock.

mod blocks;
mod decode;
mod gzip;

use std::fmt;
use std::io::{self, Write};

pub use decode::{Decoder, Growth, MAX_WINDOW_LOG};

use crate::types::media;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// None that we know.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::None => "uncompressed",
            Format::Gzip => "gzip",
            Format::Bzip2 => "bzip2",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        })
    }
}

/// How many bytes [`sniff`] looks at.
pub const SNIFF: usize = 10;

/// The format of a stream by its first bytes; [`SNIFF`] of them are enough.
pub fn sniff(head: &[u8]) -> Format {
    match head {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        // Three letters and a digit may well start a text: look at the magic that follows.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Format::Bzip2,
        _ => Format::None,
    }
}

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip with a level of 0 to 9; higher ones count as 9.
    Gzip(u32),
    /// zstd with a level of 1 to 22, or a negative one; 0 is zstd's default.
    Zstd(i32),
}

impl Compression {
    /// What layers are compressed with if nobody says otherwise: gzip, at the lowest level that makes less of a layer than the `gzip` program
    /// does by default. The next one takes a fifth more time for half a hundredth of the size.
    pub const DEFAULT: Compression = Compression::Gzip(5);

    /// The OCI media type of a layer that is compressed like this.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Compression::None => media::LAYER,
            Compression::Gzip(_) => media::LAYER_GZIP,
            Compression::Zstd(_) => media::LAYER_ZSTD,
        }
    }
}

/// Compresses what is written to it. Only [`Encoder::finish`] ends the stream: one that is dropped leaves nothing, or a stream that
/// every reader takes for cut off.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Plain(W),
    Gzip(gzip::Encoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl<W: Write> Encoder<W> {
    /// Starts a stream. `threads` says how many may compress at once, at least one; it does not change the result.
    pub fn new(writer: W, compression: Compression, threads: usize) -> io::Result<Encoder<W>> {
        Ok(Encoder(match compression {
            Compression::None => Inner::Plain(writer),
            Compression::Gzip(level) => Inner::Gzip(gzip::Encoder::new(writer, level, threads)?),
            Compression::Zstd(level) => {
                let levels = zstd::compression_level_range();
                let level = level.clamp(*levels.start(), *levels.end());
                let mut encoder = zstd::stream::write::Encoder::new(writer, level)?;
                encoder.include_checksum(true)?;
                // With one worker or more zstd cuts the input into jobs by size alone; without any it works differently.
                encoder.multithread(u32::try_from(threads.clamp(1, 64)).unwrap_or(1))?;
                Inner::Zstd(encoder)
            }
        }))
    }

    /// Ends the stream and gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::Plain(mut w) => {
                w.flush()?;
                Ok(w)
            }
            Inner::Gzip(e) => e.finish(),
            Inner::Zstd(e) => e.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(w) => w.write(buf),
            Inner::Gzip(e) => e.write(buf),
            Inner::Zstd(e) => e.write(buf),
        }
    }

    /// Does nothing to the compressed stream: a flush in its middle would change its bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
