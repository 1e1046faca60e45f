//! Zeros cost nothing on disk: long runs of them become holes of the file.
//!
//! A few kilobytes of a layer can stand for gigabytes of zeros (a log of last logins, a disk image, a bomb). They have to be hashed; they need
//! not be written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Pieces that are looked at: large enough to be worth a hole, small against a buffer.
const PIECE: usize = 32 << 10;

/// Writes to a file from its beginning, and leaves long runs of zeros out.
#[derive(Debug)]
pub struct Holes {
    file: File,
    /// The last bytes were left out, so the file is shorter than it should be.
    open: bool,
}

/// What a piece is compared with: that is quick without the optimiser, too.
static ZEROS: [u8; PIECE] = [0; PIECE];

fn is_hole(piece: &[u8]) -> bool {
    *piece == ZEROS
}

/// How many of the first bytes are of one kind, and whether they are a hole. The buffer is not empty.
fn run(buf: &[u8]) -> (usize, bool) {
    let hole = is_hole(&buf[..buf.len().min(PIECE)]);
    let pieces = buf.chunks(PIECE).take_while(|p| is_hole(p) == hole);
    (pieces.map(<[u8]>::len).sum(), hole)
}

impl Holes {
    /// The file is empty.
    pub fn new(file: File) -> Holes {
        Holes { file, open: false }
    }

    /// The file as it is so far: what was written last may be missing if it was zeros.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// [`Write::write`]; `before` is called if bytes are about to be written.
    pub(crate) fn write_after(
        &mut self,
        buf: &[u8],
        before: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let (n, hole) = run(buf);
        if hole {
            self.file.seek(SeekFrom::Current(n as i64))?;
            self.open = true;
            return Ok(n);
        }
        before()?;
        let n = self.file.write(&buf[..n])?;
        self.open = false;
        Ok(n)
    }

    /// Gives the file its full length.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if self.open {
            let length = self.file.stream_position()?;
            self.file.set_len(length)?;
            self.open = false;
        }
        Ok(())
    }

    /// The whole file.
    pub fn finish(mut self) -> io::Result<File> {
        self.close()?;
        Ok(self.file)
    }
}

impl Write for Holes {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_after(buf, || Ok(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_are_left_out_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let zeros = |n: usize| vec![0u8; n];
        let mixed =
            [b"head".to_vec(), zeros(1 << 20), b"middle".to_vec(), zeros(100), b"tail".to_vec()].concat();
        let ends = [b"x".to_vec(), zeros(3 << 20)].concat();
        for (n, whole) in
            [mixed, ends, zeros(1 << 20), zeros(PIECE - 1), b"short".to_vec(), Vec::new()].iter().enumerate()
        {
            for cut in [1 << 20, 100_000, 4096] {
                let path = dir.path().join(format!("{n}-{cut}"));
                let mut out = Holes::new(File::create(&path).unwrap());
                whole.chunks(cut).for_each(|piece| out.write_all(piece).unwrap());
                let file = out.finish().unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), *whole, "{n} {cut}");
                let kept = file.metadata().unwrap().blocks() * 512;
                assert!(cut < PIECE || kept <= 300_000, "{n} {cut}: {kept}");
            }
        }
    }
}
