//! The one form in which tar streams are written: equal indexes give equal bytes, on any machine and with any number of threads.
//!
//! - Entries in index order. Each has a USTAR header if everything fits into one, else one PAX `x` header before it, whose records
//!   are sorted by key: `SCHILY.xattr.*`, `gid`, `linkpath`, `mtime`, `path`, `size`, `uid`. Text that is not ASCII goes into
//!   PAX records; their values are the bytes of the name, UTF-8 or not.
//! - Times are whole seconds, rounded down, as containerd and BuildKit write them. User and group names are empty.
//! - A directory's name ends in a slash. The root is `./`: containerd leaves it out, but then its mode and owner could not be
//!   said; every reader takes `./` and it cannot be mistaken for an absolute path.
//! - A whiteout is an empty file `.wh.NAME`, an opaque marker an empty file `.wh..wh..opq` right after its directory; both with
//!   mode, owner and time 0, so that they never differ. Of a bare marker ([`Entry::bare_marker`]) there is no directory: a header would give
//!   the one below other attributes.
//! - Hard links have type 1, size 0, and follow the name that holds the inode.
//! - Two zero blocks at the end, and no more padding.
//!
//! An entry whose own name starts with `.wh.` cannot be said in this format and is refused: it would hide another file.

use std::io::{self, Write};
use std::sync::Arc;

use super::archive::xattr_bytes;
use super::error::MAX_XATTRS;
use super::header::{Fields, encode};
use super::{BLOCK, OPAQUE, WHITEOUT};
use crate::content::{Content, ReadAt};
use crate::digest::Digest;
use crate::index::{Attrs, Entries, Entry, IndexError, Kind, LayerIndex, Listed, Passes, join, show, split};

/// Size of the pieces in which file contents are read.
const PIECE: usize = 256 * 1024;

/// What may differ from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Later times are set to this one, in seconds (`SOURCE_DATE_EPOCH` with `rewrite-timestamp`).
    pub clamp_mtime: Option<i64>,
}

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream's receiver failed.
    #[error("the layer's tar cannot be written")]
    Write(#[source] io::Error),
    /// A file's content cannot be read.
    #[error("the content of {path:?} ({digest}) cannot be read")]
    Content {
        /// Path of the file.
        path: String,
        /// The object.
        digest: Digest,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The object is not as long as the index says.
    #[error("the content of {path:?} ({digest}) does not have the {size} bytes that the layer says")]
    Size {
        /// Path of the file.
        path: String,
        /// The object.
        digest: Digest,
        /// Bytes that the index says.
        size: u64,
    },
    /// An entry of an encoding that is none.
    #[error(transparent)]
    Entry(#[from] IndexError),
    /// A name that means something else in a layer.
    #[error("{0:?} cannot be in a layer: names that start with .wh. are whiteouts")]
    WhiteoutName(String),
    /// An attribute's name that the format cannot say.
    #[error("{path:?} has an extended attribute {name:?}, which a tar cannot hold")]
    Xattr {
        /// Path of the entry.
        path: String,
        /// Name of the attribute.
        name: String,
    },
    /// More attributes than readers take in a header.
    #[error(
        "{path:?} has {size} bytes of extended attributes, more than the {MAX_XATTRS} that a layer can hold of a file"
    )]
    Xattrs {
        /// Path of the entry.
        path: String,
        /// Their size, with what a header needs for each.
        size: u64,
    },
}

/// Writes a layer.
pub fn write_layer(index: &LayerIndex, content: &dyn Content, out: impl Write) -> Result<(), WriteError> {
    write_layer_with(index, content, out, &WriteOptions::default())
}

/// [`write_layer`] with something changed.
pub fn write_layer_with(
    index: &LayerIndex,
    content: &dyn Content,
    out: impl Write,
    options: &WriteOptions,
) -> Result<(), WriteError> {
    write(&mut Listed::new(index), content, out, options)
}

/// [`write_layer`] for a layer that is not decoded as a whole.
pub fn write_encoded<B: AsRef<[u8]>>(
    layer: &mut Entries<B>,
    content: &dyn Content,
    out: impl Write,
) -> Result<(), WriteError> {
    write(layer, content, out, &WriteOptions::default())
}

fn write(
    layer: &mut impl Passes,
    content: &dyn Content,
    out: impl Write,
    options: &WriteOptions,
) -> Result<(), WriteError> {
    let mut writer = LayerWriter::new(out, content, options);
    layer.restart();
    while let Some(entry) = layer.next()? {
        writer.entry(entry)?;
    }
    writer.finish().map(drop)
}

/// Writes a layer entry by entry. What it writes for an entry depends on nothing else: [`super::marks`] needs that.
pub(super) struct LayerWriter<'a, W> {
    out: W,
    content: &'a dyn Content,
    options: &'a WriteOptions,
    buf: Vec<u8>,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    pub(super) fn new(out: W, content: &'a dyn Content, options: &'a WriteOptions) -> LayerWriter<'a, W> {
        LayerWriter { out, content, options, buf: vec![0; PIECE] }
    }

    pub(super) fn out(&self) -> &W {
        &self.out
    }

    /// Writes the end, and gives back what it was written to.
    pub(super) fn finish(mut self) -> Result<W, WriteError> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(WriteError::Write)?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(WriteError::Write)
    }

    pub(super) fn entry(&mut self, e: &Entry) -> Result<(), WriteError> {
        // Whatever is below such a name is refused with it: the parents of entries are names, too.
        if e.path.split(|&c| c == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(WriteError::WhiteoutName(show(&e.path)));
        }
        let (flag, link, size, device) = match &e.kind {
            Kind::Whiteout => {
                let (parent, name) = split(&e.path);
                return self.marker(&join(parent, &[WHITEOUT, name].concat()));
            }
            Kind::Directory { .. } if e.is_bare_marker() => return self.marker(&join(&e.path, OPAQUE)),
            Kind::Directory { .. } => (b'5', &b""[..], 0, (0, 0)),
            Kind::File { size, .. } => (b'0', &b""[..], *size, (0, 0)),
            Kind::HardLink { target } => (b'1', &target[..], 0, (0, 0)),
            Kind::Symlink { target } => (b'2', &target[..], 0, (0, 0)),
            Kind::CharDevice { major, minor } => (b'3', &b""[..], 0, (*major, *minor)),
            Kind::BlockDevice { major, minor } => (b'4', &b""[..], 0, (*major, *minor)),
            Kind::Fifo => (b'6', &b""[..], 0, (0, 0)),
        };
        let name = if flag == b'5' { slashed(&e.path) } else { e.path.clone() };
        if let Some((bad, _)) =
            e.attrs.xattrs.iter().find(|(n, _)| n.is_empty() || n.iter().any(|&c| matches!(c, b'=' | 0)))
        {
            let name = String::from_utf8_lossy(bad).into_owned();
            return Err(WriteError::Xattr { path: show(&e.path), name });
        }
        let size_of_xattrs = xattr_bytes(&e.attrs.xattrs);
        if size_of_xattrs > MAX_XATTRS {
            return Err(WriteError::Xattrs { path: show(&e.path), size: size_of_xattrs });
        }
        let mtime = match self.options.clamp_mtime {
            Some(latest) => e.attrs.mtime.secs.min(latest),
            None => e.attrs.mtime.secs,
        };
        let Attrs { mode, uid, gid, ref xattrs, .. } = e.attrs;
        self.write(&encode(&Fields {
            name: &name,
            flag,
            link,
            mode,
            uid,
            gid,
            size,
            mtime,
            device,
            xattrs,
        }))?;
        match &e.kind {
            Kind::Directory { opaque: true } => self.marker(&join(&e.path, OPAQUE)),
            Kind::File { size, digest } => self.content(&e.path, *size, digest),
            _ => Ok(()),
        }
    }

    /// An empty file that means something by its name.
    fn marker(&mut self, path: &[u8]) -> Result<(), WriteError> {
        self.write(&encode(&Fields {
            name: path,
            flag: b'0',
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        }))
    }

    fn content(&mut self, path: &[u8], size: u64, digest: &Digest) -> Result<(), WriteError> {
        let failed = |source| WriteError::Content { path: show(path), digest: *digest, source };
        let wrong_size = || WriteError::Size { path: show(path), digest: *digest, size };
        if size == 0 && *digest == Digest::of(b"") {
            return Ok(());
        }
        let object: Arc<dyn ReadAt> = self.content.open(digest).map_err(failed)?;
        let mut at = 0;
        loop {
            // One byte more than is left, so that an object that is too long shows itself.
            let want = usize::try_from((size - at).saturating_add(1)).unwrap_or(usize::MAX).min(PIECE);
            let n = match object.read_at(&mut self.buf[..want], at) {
                Ok(0) if at == size => break,
                Ok(0) => return Err(wrong_size()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            if n as u64 > size - at {
                return Err(wrong_size());
            }
            self.out.write_all(&self.buf[..n]).map_err(WriteError::Write)?;
            at += n as u64;
        }
        let padding = size.wrapping_neg() as usize % BLOCK;
        self.write(&[0; BLOCK][..padding])
    }
}

fn slashed(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() }
}

/// Writes archives that are no layers, member by member: image archives. Owner 0:0, one time for all.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    mtime: i64,
}

impl<W: Write> Writer<W> {
    /// An archive whose members all have the time `mtime`, in seconds.
    pub fn new(out: W, mtime: i64) -> Writer<W> {
        Writer { out, mtime }
    }

    /// A directory, mode 0755.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.header(&format!("{path}/"), b'5', 0o755, 0)
    }

    /// A file, mode 0644, with exactly `size` bytes from `content`; [`io::ErrorKind::InvalidData`] if they are more or fewer.
    pub fn file(&mut self, path: &str, size: u64, content: &mut dyn io::Read) -> io::Result<()> {
        self.header(path, b'0', 0o644, size)?;
        let mut buf = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).saturating_add(1))];
        let mut left = size;
        loop {
            let n = match content.read(&mut buf) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if n as u64 > left || (n == 0 && left > 0) {
                let e = format!("{path} does not have the {size} bytes that were announced");
                return Err(io::Error::new(io::ErrorKind::InvalidData, e));
            }
            if n == 0 {
                break;
            }
            self.out.write_all(&buf[..n])?;
            left -= n as u64;
        }
        let padding = size.wrapping_neg() as usize % BLOCK;
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// Ends the archive and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, name: &str, flag: u8, mode: u32, size: u64) -> io::Result<()> {
        self.out.write_all(&encode(&Fields {
            name: name.as_bytes(),
            flag,
            link: b"",
            mode,
            uid: 0,
            gid: 0,
            size,
            mtime: self.mtime,
            device: (0, 0),
            xattrs: &[],
        }))
    }
}
