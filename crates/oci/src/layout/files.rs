//! Files of a layout by name, in a directory or in a tar.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LayoutError;
use crate::compress::{Format, SNIFF, sniff};
use crate::digest::{Digest, Hasher};
use crate::index::split;
use crate::tar::{Archive, Limits, Type};

/// Links from member to member that are followed.
const MAX_LINKS: usize = 8;

/// Where the files are.
#[derive(Debug)]
pub(super) enum Files {
    Directory(PathBuf),
    Tar(TarFiles),
    Noted(HashMap<String, Noted>),
}

/// What is known of a file of an archive that has gone by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// That it was there, and how many bytes it had: a layer, which whoever noted it has read already.
    Size(u64),
    /// That it is a link to another file, by its path in the archive.
    Link(String),
}

/// An archive whose members have been listed.
#[derive(Debug)]
pub(super) struct TarFiles {
    file: Arc<File>,
    members: HashMap<Vec<u8>, Place>,
}

#[derive(Debug)]
enum Place {
    Data { offset: u64, size: u64 },
    Link(Vec<u8>),
}

impl Files {
    /// Lists a tar once.
    pub(super) fn tar(file: File) -> Result<Files, LayoutError> {
        let failed = |e| LayoutError::io("cannot read the archive", e);
        let mut head = [0; SNIFF];
        let got = read_at_most(&file, &mut head).map_err(failed)?;
        match sniff(&head[..got]) {
            Format::None => {}
            format => return Err(LayoutError::Compressed(format)),
        }
        // Its contents are never held; what is, is what the limits on names and headers bound.
        let limits = Limits { entries: 1 << 20, metadata: 64 << 20, content: u64::MAX };
        let mut archive = Archive::seekable(&file, limits).map_err(failed)?;
        let mut members = HashMap::new();
        while let Some(m) = archive.next_member().map_err(LayoutError::Tar)? {
            let place = match m.kind {
                Type::File => match m.data {
                    Some(offset) => Place::Data { offset, size: m.size },
                    None => continue,
                },
                Type::HardLink => Place::Link(m.link),
                Type::Symlink => match relative(split(&m.path).0, &m.link) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            members.insert(m.path, place);
        }
        Ok(Files::Tar(TarFiles { file: Arc::new(file), members }))
    }

    /// Opens a file: its bytes and their number. `None` if there is no such file.
    pub(super) fn open(&self, name: &str) -> Result<Option<Opened>, LayoutError> {
        match self {
            Files::Directory(root) => open_in(root, name),
            Files::Tar(tar) => {
                let mut at = name.as_bytes();
                for _ in 0..MAX_LINKS {
                    match tar.members.get(at) {
                        None => return Ok(None),
                        Some(Place::Link(target)) => at = target,
                        Some(&Place::Data { offset, size }) => {
                            let file = Arc::clone(&tar.file);
                            return Ok(Some((Box::new(Section { file, at: offset, left: size }), size)));
                        }
                    }
                }
                Ok(None)
            }
            Files::Noted(files) => {
                let mut at = name;
                for _ in 0..MAX_LINKS {
                    match files.get(at) {
                        None => return Ok(None),
                        Some(Noted::Link(target)) => at = target,
                        Some(Noted::Bytes(bytes)) => {
                            let size = bytes.len() as u64;
                            return Ok(Some((Box::new(io::Cursor::new(bytes.clone())), size)));
                        }
                        Some(Noted::Size(size)) => return Ok(Some((Box::new(Gone), *size))),
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads a whole file, refused above `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let Some((reader, size)) = self.open(name)? else { return Ok(None) };
        if size > limit {
            let problem = format!("it has {size} bytes, and {limit} are the most that such a file may have");
            return Err(LayoutError::Damaged { what: name.to_owned(), problem });
        }
        let mut out = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut out)
            .map_err(|e| LayoutError::io(format!("cannot read {name}"), e))?;
        Ok(Some(out))
    }
}

/// A file that has gone by and cannot be read again.
struct Gone;

impl Read for Gone {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::NotSeekable, "the file went by in a stream"))
    }
}

/// A file's bytes and their number.
type Opened = (Box<dyn Read + Send>, u64);

fn open_in(root: &Path, name: &str) -> Result<Option<Opened>, LayoutError> {
    let path = root.join(name);
    let failed = |e| LayoutError::io(format!("cannot open {}", path.display()), e);
    // Looked at before it is opened: opening a FIFO would wait for ever.
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(failed(e)),
    }
    let file = File::open(&path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok(Some((Box::new(file), size)))
}

fn read_at_most(file: &File, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// Where a symbolic link in the directory `dir` of an archive leads; `None` if out of the archive.
pub fn relative(dir: &[u8], link: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> =
        if link.starts_with(b"/") { Vec::new() } else { dir.split(|&c| c == b'/').collect() };
    parts.retain(|p| !p.is_empty());
    for part in link.split(|&c| c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A part of a file that others read at the same time.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = self.file.read_at(&mut buf[..want], self.at)?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive became shorter"));
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// What a [`Verified`] reader found.
#[derive(Debug, thiserror::Error)]
#[error("blob {digest} is damaged: {problem}")]
pub(super) struct Damage {
    digest: Digest,
    pub(super) problem: &'static str,
}

/// A reader that checks what passes through it: its end is an error ([`io::ErrorKind::InvalidData`]) unless the bytes were those of
/// the digest, and of the size. What has been read before the end is not to be trusted yet.
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    left: u64,
}

impl<R> fmt::Debug for Verified<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("digest", &self.digest)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Verified<R> {
    /// A reader of `size` bytes that have this digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Verified<R> {
        Verified { inner, hasher: Some(Hasher::new()), digest, left: size }
    }

    fn damaged(&mut self, problem: &'static str) -> io::Error {
        // Reading on would only say "end".
        self.hasher = None;
        io::Error::new(io::ErrorKind::InvalidData, Damage { digest: self.digest, problem })
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(hasher) = &mut self.hasher else {
            return match self.left {
                0 => Ok(0),
                _ => Err(self.damaged("it was not what it should be")),
            };
        };
        let got = self.inner.read(buf)?;
        hasher.update(&buf[..got]);
        match self.left.checked_sub(got as u64) {
            None => {
                self.left = u64::MAX;
                return Err(self.damaged("it is longer than its descriptor says"));
            }
            Some(left) => self.left = left,
        }
        if got > 0 {
            return Ok(got);
        }
        if self.left > 0 {
            return Err(self.damaged("it is shorter than its descriptor says"));
        }
        let is = self.hasher.take().map(Hasher::finish);
        if is != Some(self.digest) {
            self.left = u64::MAX;
            return Err(self.damaged("its bytes have another digest"));
        }
        Ok(0)
    }
}
