//! A tar stream, member by member, in bounded memory.
//!
//! [`Archive::next_member`] gives the next member's description; reading from the [`Archive`] then gives that member's content, holes of
//! sparse files filled with zeros. What is not read is skipped.
//!
//! # Names
//!
//! A member's path is relative to the root of the image or archive: leading slashes and `./` are dropped, `a/../b` is `b`, the
//! root is the empty path. A name that climbs above the root is refused, and so is one that no Linux file system holds (a part
//! longer than 255 bytes, 4096 in all, a NUL). Targets of hard links obey the same rules; texts of symbolic links stay as they are. The name of a
//! whiteout or an opaque marker has as much more as makes it one: it is no file's name, and who takes it for one finds it too long.
//!
//! # Sizes
//!
//! As in Go's reader, links, devices, FIFOs and directories have no data whatever their size field says.
//! A stream may end without its two zero blocks and without the padding of its last member, but not inside of a header or of
//! announced data. A single zero block before more headers is refused.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use super::BLOCK;
use super::error::{MAX_EXTENSION, MAX_XATTRS, Problem, TarError};
use super::header::{self, Block, Dialect, field, number, text};
use super::pax::Pax;
use super::{OPAQUE, WHITEOUT};
use crate::index::{MAX_PATH, Xattrs, is_link_text};
use crate::time::Time;

/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 17;
/// What an extended attribute costs beside its name and value, about.
const XATTR_COST: u64 = 64;
/// Holes of all sparse files together: they cost a few bytes of the stream, and have to be hashed like everything else.
const MAX_HOLES: u64 = 16 << 30;

/// Bounds of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of members, and of headers that belong to none. What a member has of headers with long names and attributes (three at most) is
    /// not counted: so what has no more than half as many entries can be read again when we wrote it, an opaque directory being two members.
    pub entries: u64,
    /// Bytes of names, link targets and extended attributes together: what is held in memory. An attribute counts for 64 bytes more
    /// than it has, and attributes once for every name of their file.
    pub metadata: u64,
    /// Bytes of file contents together, holes included, and of what follows the end of the archive.
    pub content: u64,
}

impl Default for Limits {
    /// Two million members, 256 MiB of metadata, 256 GiB of content: more than any image in use has.
    fn default() -> Limits {
        Limits { entries: 2_000_000, metadata: 256 << 20, content: 256 << 30 }
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Another name of an earlier member, or of a file that is there already.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path from the root, no leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Type,
    /// Path from the root for hard links, the text of a symbolic link, else empty.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Time,
    /// Bytes of content, holes included; 0 for everything but files.
    pub size: u64,
    /// Extended attributes, sorted by name; those of overlayfs are dropped.
    pub xattrs: Xattrs,
    /// Device numbers.
    pub device: (u32, u32),
    /// Where in the stream the member's own header starts.
    pub offset: u64,
    /// Where in the stream the content starts, if it lies there in one piece.
    pub data: Option<u64>,
}

/// Reads a stream member by member.
pub struct Archive<R> {
    reader: R,
    skip: fn(&mut R, u64) -> io::Result<u64>,
    /// Bytes of the stream consumed.
    pos: u64,
    /// Bytes of the current member's data that are still in the stream.
    data: u64,
    /// Padding after them.
    padding: u64,
    body: Body,
    limits: Limits,
    seen: Limits,
    holes: u64,
    current: Option<Vec<u8>>,
    header_at: u64,
    failed: Option<Problem>,
    done: bool,
}

impl<R> fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("pos", &self.pos).finish_non_exhaustive()
    }
}

/// The content of the current member: pieces of data (offset, length), zeros between them and up to `size`.
#[derive(Debug, Default)]
struct Body {
    size: u64,
    at: u64,
    pieces: Vec<(u64, u64)>,
    piece: usize,
}

impl<R: Read> Archive<R> {
    /// An archive that is read from front to back. Headers are read 512 bytes at a time: give it a buffered reader.
    pub fn new(reader: R, limits: Limits) -> Archive<R> {
        Archive::with_skip(reader, limits, |r, n| {
            let mut left = n;
            let mut buf = [0u8; 16 * 1024];
            while left > 0 {
                let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match fill(r, &mut buf[..want])? {
                    0 => break,
                    got => left -= got as u64,
                }
            }
            Ok(n - left)
        })
    }

    fn with_skip(reader: R, limits: Limits, skip: fn(&mut R, u64) -> io::Result<u64>) -> Archive<R> {
        Archive {
            reader,
            skip,
            pos: 0,
            data: 0,
            padding: 0,
            body: Body::default(),
            limits,
            seen: Limits { entries: 0, metadata: 0, content: 0 },
            holes: 0,
            current: None,
            header_at: 0,
            failed: None,
            done: false,
        }
    }

    /// The next member; `None` at the end of the archive. The content of the one before is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        if self.done {
            return Ok(None);
        }
        self.current = None;
        self.header_at = self.pos;
        match self.advance() {
            Ok(Some(member)) => {
                self.current = Some(member.path.clone());
                Ok(Some(member))
            }
            Ok(None) => {
                self.done = true;
                Ok(None)
            }
            Err(problem) => {
                self.done = true;
                Err(self.error(problem))
            }
        }
    }

    /// An error at the current member.
    pub(super) fn error(&self, problem: Problem) -> TarError {
        TarError::new(self.current.as_deref(), self.header_at, problem)
    }

    /// The error of the stream that ended a read of content, if it was the stream that failed and not who read it.
    pub(super) fn stream_error(&mut self) -> Option<TarError> {
        self.failed.take().map(|p| self.error(p))
    }

    /// Reads what follows the end of the archive up to the end of the stream, so that checksums around the stream are complete.
    pub fn drain(&mut self) -> Result<(), TarError> {
        let allowed = self.limits.content - self.seen.content.min(self.limits.content);
        let mut rest = Read::take(&mut self.reader, allowed.saturating_add(1));
        let drained = io::copy(&mut rest, &mut io::sink()).map_err(|e| self.error(Problem::Read(e)))?;
        self.pos += drained;
        if drained > allowed {
            return Err(self.error(Problem::Limit("bytes of content", self.limits.content)));
        }
        Ok(())
    }

    /// The reader below.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn advance(&mut self) -> Result<Option<Member>, Problem> {
        let mut pax: Option<Vec<u8>> = None;
        let mut long_name: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            if !self.finish_member()? {
                return self.at_end(pax.is_some() || long_name.is_some() || long_link.is_some());
            }
            self.header_at = self.pos;
            let mut block: Block = [0; BLOCK];
            if !self.block(&mut block)? {
                return self.at_end(pax.is_some() || long_name.is_some() || long_link.is_some());
            }
            if block.iter().all(|&b| b == 0) {
                if self.block(&mut block)? && block.iter().any(|&b| b != 0) {
                    return Err(Problem::LoneZeroBlock);
                }
                return self.at_end(pax.is_some() || long_name.is_some() || long_link.is_some());
            }
            if !header::checksum_holds(&block) {
                return Err(Problem::Checksum);
            }
            let slot = match block[156] {
                b'x' | b'X' => &mut pax,
                b'L' => &mut long_name,
                b'K' => &mut long_link,
                b'g' => {
                    self.count_entry()?;
                    self.announce(size_field(&block)?)?;
                    continue;
                }
                _ => {
                    self.count_entry()?;
                    return self.member(&block, pax, long_name, long_link).map(Some);
                }
            };
            if slot.is_some() {
                return Err(Problem::Twice);
            }
            *slot = Some(self.extension(&block)?);
        }
    }

    fn at_end(&self, dangling: bool) -> Result<Option<Member>, Problem> {
        if dangling { Err(Problem::NoMember) } else { Ok(None) }
    }

    /// Skips what is left of the current member. `false` if the stream ended in its padding.
    fn finish_member(&mut self) -> Result<bool, Problem> {
        let skipped = (self.skip)(&mut self.reader, self.data).map_err(Problem::Read)?;
        self.pos += skipped;
        if skipped < self.data {
            return Err(Problem::Truncated);
        }
        let padding = (self.skip)(&mut self.reader, self.padding).map_err(Problem::Read)?;
        self.pos += padding;
        let whole = padding == self.padding;
        (self.data, self.padding, self.body) = (0, 0, Body::default());
        Ok(whole)
    }

    /// The next block; `false` at the end of the stream.
    fn block(&mut self, block: &mut Block) -> Result<bool, Problem> {
        let got = fill(&mut self.reader, block).map_err(Problem::Read)?;
        self.pos += got as u64;
        match got {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(Problem::Truncated),
        }
    }

    /// The stream goes on with `size` bytes of data and their padding.
    fn announce(&mut self, size: u64) -> Result<(), Problem> {
        self.padding = size.wrapping_neg() % BLOCK as u64;
        size.checked_add(self.padding)
            .and_then(|n| n.checked_add(self.pos))
            .ok_or(Problem::Number("size"))?;
        self.data = size;
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), Problem> {
        self.count("members", 1, |s| &mut s.entries, |l| l.entries)
    }

    fn count(
        &mut self,
        what: &'static str,
        n: u64,
        seen: fn(&mut Limits) -> &mut u64,
        limit: fn(&Limits) -> u64,
    ) -> Result<(), Problem> {
        let limit = limit(&self.limits);
        let seen = seen(&mut self.seen);
        *seen = seen.saturating_add(n);
        if *seen > limit { Err(Problem::Limit(what, limit)) } else { Ok(()) }
    }

    /// The data of an extension member.
    fn extension(&mut self, block: &Block) -> Result<Vec<u8>, Problem> {
        let size = size_field(block)?;
        if size > MAX_EXTENSION {
            return Err(Problem::Extension(size));
        }
        self.announce(size)?;
        let mut out = vec![0; size as usize];
        self.raw(&mut out)?;
        Ok(out)
    }

    /// Reads announced data.
    fn raw(&mut self, out: &mut [u8]) -> Result<(), Problem> {
        if out.len() as u64 > self.data {
            return Err(Problem::Truncated);
        }
        let got = fill(&mut self.reader, out).map_err(Problem::Read)?;
        self.pos += got as u64;
        self.data -= got as u64;
        if got < out.len() { Err(Problem::Truncated) } else { Ok(()) }
    }

    fn member(
        &mut self,
        block: &Block,
        pax: Option<Vec<u8>>,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member, Problem> {
        let dialect = header::dialect(block);
        let pax = Pax::parse(pax.as_deref().unwrap_or(&[]))?;
        let mut name = match &long_name {
            Some(long) => text(long).to_vec(),
            None => pax.path.map_or_else(|| header::name(block, dialect), <[u8]>::to_vec),
        };
        if let Some(real) = pax.sparse.name {
            name = real.to_vec();
        }
        // From here on an error can say whose it is.
        self.current = Some(name.clone());
        let kind = match block[156] {
            // V7 marks directories by the slash alone.
            0 if name.ends_with(b"/") => Type::Directory,
            0 | b'0' | b'7' | b'S' => Type::File,
            b'1' => Type::HardLink,
            b'2' => Type::Symlink,
            b'3' => Type::CharDevice,
            b'4' => Type::BlockDevice,
            b'5' => Type::Directory,
            b'6' => Type::Fifo,
            other => return Err(Problem::Type(char::from(other))),
        };
        let stored = match (kind, pax.size) {
            (Type::File, Some(size)) => size,
            (Type::File, None) => size_field(block)?,
            _ => 0,
        };
        self.announce(stored)?;
        let whole = Body { size: stored, at: 0, pieces: vec![(0, stored)], piece: 0 };
        let mut sparse = true;
        self.body = match (kind, block[156]) {
            (Type::File, b'S') => self.gnu_sparse(block)?,
            (Type::File, _) if pax.sparse.present => self.pax_sparse(&pax)?,
            _ => {
                sparse = false;
                whole
            }
        };
        let link = match kind {
            Type::HardLink | Type::Symlink => match &long_link {
                Some(long) => text(long),
                None => pax.link.unwrap_or_else(|| text(field(block, 157, 100))),
            },
            _ => &[],
        };
        let link = link_target(kind, link)?;
        let path = clean(&name, "name")?;
        let xattrs = pax.xattrs;
        if xattr_bytes(&xattrs) > MAX_XATTRS {
            return Err(Problem::Limit("bytes of extended attributes of one file", MAX_XATTRS));
        }
        let held = (path.len() + link.len()) as u64 + xattr_cost(&xattrs);
        self.count("bytes of metadata", held, |s| &mut s.metadata, |l| l.metadata)?;
        self.count("bytes of content", self.body.size, |s| &mut s.content, |l| l.content)?;
        self.holes = self.holes.saturating_add(self.body.size.saturating_sub(stored));
        if self.holes > MAX_HOLES {
            return Err(Problem::Limit("bytes of holes in sparse files", MAX_HOLES));
        }
        let id = |pax: Option<u64>, at: usize, what| match pax {
            Some(n) => u32::try_from(n).map_err(|_| Problem::Number(what)),
            None => small(block, at, what),
        };
        let mtime = match pax.mtime {
            Some((secs, nanos)) => Time { secs, nanos },
            None => Time::from_secs(number(field(block, 136, 12)).ok_or(Problem::Number("mtime"))?),
        };
        let device = match kind {
            Type::CharDevice | Type::BlockDevice if dialect != Dialect::V7 => {
                (small(block, 329, "device number")?, small(block, 337, "device number")?)
            }
            _ => (0, 0),
        };
        Ok(Member {
            path,
            kind,
            link,
            mode: (number(field(block, 100, 8)).ok_or(Problem::Number("mode"))? & 0o7777) as u32,
            uid: id(pax.uid, 108, "uid")?,
            gid: id(pax.gid, 116, "gid")?,
            mtime,
            size: self.body.size,
            xattrs,
            device,
            offset: self.header_at,
            data: (!sparse).then_some(self.pos),
        })
    }

    /// The map of an old GNU sparse member: four pieces in the header, then blocks of 21.
    fn gnu_sparse(&mut self, block: &Block) -> Result<Body, Problem> {
        if header::dialect(block) != Dialect::Gnu {
            return Err(Problem::Sparse("the header is not GNU's"));
        }
        let mut pieces = Vec::new();
        let mut add = |block: &Block, at: usize, n: usize| -> Result<(), Problem> {
            for i in 0..n {
                let (offset, length) = (field(block, at + i * 24, 12), field(block, at + i * 24 + 12, 12));
                if offset[0] == 0 || length[0] == 0 {
                    return Ok(());
                }
                pieces.push((unsigned(offset, "sparse offset")?, unsigned(length, "sparse length")?));
                if pieces.len() > MAX_PIECES {
                    return Err(Problem::Sparse("too many pieces"));
                }
            }
            Ok(())
        };
        add(block, 386, 4)?;
        let mut more = block[482] != 0;
        while more {
            let mut next: Block = [0; BLOCK];
            let got = fill(&mut self.reader, &mut next).map_err(Problem::Read)?;
            self.pos += got as u64;
            if got < BLOCK {
                return Err(Problem::Truncated);
            }
            // An empty block that says "more" would cost time for nothing, for ever.
            if next[0] == 0 {
                return Err(Problem::Sparse("an empty extension"));
            }
            add(&next, 0, 21)?;
            more = next[504] != 0;
        }
        self.sparse_body(unsigned(field(block, 483, 12), "real size")?, pieces)
    }

    /// The map of a sparse member described by PAX records, or by the start of its data.
    fn pax_sparse(&mut self, pax: &Pax<'_>) -> Result<Body, Problem> {
        let sparse = &pax.sparse;
        let size = sparse.size.ok_or(Problem::Sparse("no size"))?;
        let numbers = match (sparse.major, sparse.minor) {
            (None | Some(0), None | Some(0 | 1)) => sparse.numbers.clone(),
            (Some(1), Some(0)) => self.sparse_map()?,
            _ => return Err(Problem::Sparse("an unknown version")),
        };
        if numbers.len() % 2 != 0 {
            return Err(Problem::Sparse("an offset without a length"));
        }
        self.sparse_body(size, numbers.chunks_exact(2).map(|p| (p[0], p[1])).collect())
    }

    /// The map at the start of the data: number of pieces, then offset and length of each, one decimal number a line, padded
    /// to whole blocks.
    fn sparse_map(&mut self) -> Result<Vec<u64>, Problem> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut line: Vec<u8> = Vec::new();
        let mut wanted: Option<usize> = None;
        loop {
            let mut block: Block = [0; BLOCK];
            self.raw(&mut block)?;
            for &c in &block {
                if c != b'\n' {
                    line.push(c);
                    if line.len() > 20 {
                        return Err(Problem::Sparse("a number is too long"));
                    }
                    continue;
                }
                let n = header::decimal(&line).ok_or(Problem::Sparse("not a number"))?;
                line.clear();
                match wanted {
                    None => {
                        let count = usize::try_from(n).ok().filter(|&n| n <= MAX_PIECES);
                        wanted = Some(count.ok_or(Problem::Sparse("too many pieces"))? * 2);
                    }
                    Some(_) => numbers.push(n),
                }
                if wanted == Some(numbers.len()) {
                    return Ok(numbers);
                }
            }
        }
    }

    /// Checks a map against the size of the file and the data in the stream.
    fn sparse_body(&self, size: u64, mut pieces: Vec<(u64, u64)>) -> Result<Body, Problem> {
        let (mut end, mut stored) = (0u64, 0u64);
        for &(offset, length) in &pieces {
            if offset < end {
                return Err(Problem::Sparse("pieces overlap"));
            }
            end = offset.checked_add(length).ok_or(Problem::Sparse("an offset overflows"))?;
            stored += length;
        }
        if end > size {
            return Err(Problem::Sparse("a piece lies behind the end"));
        }
        if stored != self.data {
            return Err(Problem::Sparse("the pieces are not the data"));
        }
        pieces.retain(|p| p.1 > 0);
        Ok(Body { size, at: 0, pieces, piece: 0 })
    }
}

impl<R: Read + Seek> Archive<R> {
    /// An archive in a file: contents that nobody reads are jumped over. The file is read from its current position, which counts as byte 0.
    pub fn seekable(mut reader: R, limits: Limits) -> io::Result<Archive<R>> {
        let start = reader.stream_position()?;
        reader.seek(SeekFrom::Start(start))?;
        Ok(Archive::with_skip(reader, limits, |r, n| {
            let here = r.stream_position()?;
            let end = r.seek(SeekFrom::End(0))?;
            let n = n.min(end.saturating_sub(here));
            r.seek(SeekFrom::Start(here + n))?;
            Ok(n)
        }))
    }
}

impl<R: Read> Read for Archive<R> {
    /// The content of the current member.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let body = &mut self.body;
        if buf.is_empty() || body.at >= body.size {
            return Ok(0);
        }
        while body.pieces.get(body.piece).is_some_and(|&(o, l)| body.at >= o + l) {
            body.piece += 1;
        }
        let bound = |n: u64| buf.len().min(usize::try_from(n).unwrap_or(usize::MAX));
        let hole_end = body.pieces.get(body.piece).map_or(body.size, |p| p.0);
        if body.at < hole_end {
            let n = bound(hole_end - body.at);
            buf[..n].fill(0);
            body.at += n as u64;
            return Ok(n);
        }
        let (offset, length) = body.pieces[body.piece];
        let n = bound(offset + length - body.at);
        let got = match self.reader.read(&mut buf[..n]) {
            Ok(0) => {
                self.failed = Some(Problem::Truncated);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
            }
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                let told = io::Error::new(e.kind(), e.to_string());
                self.failed = Some(Problem::Read(e));
                return Err(told);
            }
        };
        self.pos += got as u64;
        self.data -= got as u64;
        self.body.at += got as u64;
        Ok(got)
    }
}

/// What extended attributes cost in memory, about.
pub(crate) fn xattr_cost(xattrs: &Xattrs) -> u64 {
    xattrs.iter().map(|(k, v)| (k.len() + v.len()) as u64 + XATTR_COST).sum()
}

/// What a link leads to: of a hard link a path, of a symbolic link a text that one can have; of anything else what is given.
pub(crate) fn link_target(kind: Type, text: &[u8]) -> Result<Vec<u8>, Problem> {
    match kind {
        Type::HardLink => clean(text, "link target"),
        Type::Symlink if !is_link_text(text) => Err(Problem::Name("link target")),
        _ => Ok(text.to_vec()),
    }
}

/// What extended attributes take of a header, at most: length, key and separators besides name and value.
pub(super) fn xattr_bytes(xattrs: &Xattrs) -> u64 {
    xattrs.iter().map(|(k, v)| (k.len() + v.len()) as u64 + 32).sum()
}

/// A path as images name it: relative to the root, no empty or dot components.
pub(crate) fn clean(name: &[u8], what: &'static str) -> Result<Vec<u8>, Problem> {
    if name.is_empty() || name.contains(&0) {
        return Err(Problem::Name(what));
    }
    let mut out: Vec<u8> = Vec::with_capacity(name.len());
    let mut more = 0;
    for part in name.split(|&c| c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if out.is_empty() {
                    return Err(Problem::Escape(what));
                }
                let keep = out.iter().rposition(|&c| c == b'/').unwrap_or(0);
                out.truncate(keep);
            }
            _ => {
                more = match part {
                    OPAQUE => OPAQUE.len() + 1,
                    part if part.starts_with(WHITEOUT) => WHITEOUT.len(),
                    _ => 0,
                };
                if part.len() > 255 + more {
                    return Err(Problem::Name(what));
                }
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    if out.len() > MAX_PATH + more { Err(Problem::Name(what)) } else { Ok(out) }
}

fn size_field(block: &Block) -> Result<u64, Problem> {
    unsigned(field(block, 124, 12), "size")
}

fn unsigned(field: &[u8], what: &'static str) -> Result<u64, Problem> {
    number(field).and_then(|n| u64::try_from(n).ok()).ok_or(Problem::Number(what))
}

fn small(block: &Block, at: usize, what: &'static str) -> Result<u32, Problem> {
    number(field(block, at, 8)).and_then(|n| u32::try_from(n).ok()).ok_or(Problem::Number(what))
}

/// Reads until the buffer is full or the stream ends.
fn fill<R: Read + ?Sized>(reader: &mut R, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match reader.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
