//! Images whose layers can be opened as streams, each once and in any order: hashed and measured as they pass, several at once.
//!
//! # How the compressed size is divided
//!
//! While a layer is decompressed, two counters run: bytes that came out, and bytes of the blob that the decoder took for them. A file's part is
//! the difference of the second between the end of the file before it and its own end: its header and padding (to whole blocks of a tar) are
//! its own. Where the
//! decoder takes more at once than it gives, the part of a file is found on the straight line between two points at which the decoder took
//! something. zstd takes blocks of up to 128 KiB of content, and parts of the next one early, so its points are 1 MiB of content apart.
//! What follows the last file (the end of the archive, checksums, eStargz' table of contents) is nobody's.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oci::Digest;
use oci::LayerIndex;
use oci::compress::{Decoder, Format};
use oci::content::ContentSink;
use oci::digest::Hasher;
use oci::platform::Platform;
use oci::tar::{BLOCK, Limits, ReadOptions, read_layer_located};
use oci::types::{ImageConfig, Manifest};

use super::assemble::{Head, Measured, Member};
use super::{Assembly, LoadError, Raw};
use crate::image::{Image, Origin};

/// An image whose layers can be opened.
#[derive(Debug, Clone)]
pub struct Streamed {
    /// What it was asked for by.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The config's own bytes.
    pub config: Vec<u8>,
    /// Digest and bytes of the manifest, if there is one.
    pub manifest: Option<(Digest, Vec<u8>)>,
    /// Layers, base first; as many as the config has diff IDs.
    pub layers: Vec<StreamedLayer>,
    /// What platform was asked for.
    pub platform: Option<Platform>,
}

/// A layer that can be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedLayer {
    /// Media type, where known.
    pub media_type: String,
    /// Digest of the blob, where known.
    pub digest: Option<Digest>,
    /// Size of the blob, where known.
    pub size: Option<u64>,
    /// Whether whoever opens it checks the digest while it is read. If not, the blob is hashed here.
    pub verified: bool,
}

/// Opens a layer by its number.
pub type Open<'a> = dyn Fn(usize) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// What loading may be told and may tell.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Raised to stop.
    pub cancel: &'a AtomicBool,
    /// Layers that are read at once; at least one.
    pub threads: usize,
    /// Told the number of a layer, how many of its bytes have been read, and how many there are (0: unknown).
    pub progress: &'a (dyn Fn(usize, u64, u64) + Sync),
}

impl std::fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("threads", &self.threads).finish_non_exhaustive()
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads all layers and analyses the image. The first error ends it.
pub fn load(image: Streamed, open: &Open<'_>, control: &Control<'_>) -> Result<Image, LoadError> {
    let id = Digest::of(&image.config);
    let config: ImageConfig = document(&id, "image config", &image.config)?;
    let manifest = match &image.manifest {
        Some((d, bytes)) => Some((*d, document::<Manifest>(d, "manifest", bytes)?)),
        None => None,
    };
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(LoadError::Document {
            what: id.to_string(),
            kind: "config of this image",
            why: format!("it has {} layers, the image {}", config.rootfs.diff_ids.len(), image.layers.len()),
        });
    }
    let assembly = Mutex::new(Assembly::new(image.layers.len())?);
    let failed: Mutex<Option<LoadError>> = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let (Some(layer), Some(diff_id)) = (image.layers.get(n), config.rootfs.diff_ids.get(n)) else {
                break;
            };
            let done = read(n, layer, *diff_id, open, control).and_then(|raw| lock(&assembly).add(n, raw));
            if let Err(e) = done {
                next.store(image.layers.len(), Ordering::Relaxed);
                lock(&failed).get_or_insert(e);
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..control.threads.min(image.layers.len()) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(e);
    }
    let head = Head { name: image.name, origin: image.origin, id, config, manifest, wanted: image.platform };
    assembly.into_inner().unwrap_or_else(PoisonError::into_inner).finish(head)
}

pub(crate) fn document<T: serde::de::DeserializeOwned>(
    digest: &Digest,
    kind: &'static str,
    bytes: &[u8],
) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|e| LoadError::Document {
        what: digest.to_string(),
        kind,
        why: e.to_string(),
    })
}

/// The blob as it comes: counted, hashed if nobody else does, stopped when the caller wants.
struct Blob<'a, R> {
    inner: R,
    number: usize,
    done: u64,
    all: u64,
    hasher: Option<Hasher>,
    control: &'a Control<'a>,
}

impl<R: Read> Read for Blob<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.control.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(LoadError::Cancelled));
        }
        let n = self.inner.read(buf)?;
        if let Some(h) = &mut self.hasher {
            h.update(&buf[..n]);
        }
        let before = self.done >> 20;
        self.done += n as u64;
        if self.done >> 20 != before || n == 0 {
            (self.control.progress)(self.number, self.done, self.all);
        }
        Ok(n)
    }
}

/// Bytes of content between two points of a zstd stream.
const ZSTD_STRETCH: u64 = 1 << 20;

/// Both counters of a stream, and the points that are known of the line between them.
#[derive(Debug, Default)]
struct Meter {
    /// Bytes that came out.
    out: u64,
    /// A point of the line: bytes out, bytes taken.
    from: (u64, u64),
    /// Bytes taken in all.
    taken: u64,
    /// Bytes of content that lie between two points at least.
    least: u64,
    /// Ends of files that lie behind `from` and are waiting for the next point.
    waiting: Vec<(usize, u64)>,
    /// For every file: how much of the blob was taken up to its end.
    ends: Vec<u64>,
}

impl Meter {
    /// `n` more bytes came, and `taken` have been taken in all.
    fn step(&mut self, n: u64, taken: u64) {
        if taken > self.taken {
            // What came out before belongs to the stretch that ends here.
            if self.out > self.from.0 && self.out - self.from.0 >= self.least {
                self.settle();
            }
            self.taken = taken;
        }
        self.out += n;
    }

    /// Here is a point: places before it are known now.
    fn settle(&mut self) {
        let (start, low) = self.from;
        let (length, part) = (self.out - start, self.taken - low);
        let known = self.waiting.partition_point(|(_, end)| *end <= self.out);
        for (file, end) in self.waiting.drain(..known) {
            let into = u128::from(end.saturating_sub(start).min(length));
            let taken = (u128::from(part) * into).checked_div(u128::from(length)).unwrap_or(0);
            if let Some(slot) = self.ends.get_mut(file) {
                *slot = low + u64::try_from(taken).unwrap_or(0);
            }
        }
        self.from = (self.out, self.taken);
    }

    /// A file ended here; what pads it is still to come.
    fn mark(&mut self) {
        self.waiting.push((self.ends.len(), self.out.next_multiple_of(BLOCK as u64)));
        self.ends.push(0);
    }

    /// The stream has ended, and so has a file whose padding did not come.
    fn finish(&mut self) {
        self.waiting.iter_mut().for_each(|(_, end)| *end = self.out.min(*end));
        self.settle();
    }
}

/// The decompressed stream, measured.
struct Plain<'a, R: Read> {
    decoder: Decoder<Blob<'a, R>>,
    hasher: Option<Hasher>,
    meter: Rc<RefCell<Meter>>,
}

impl<R: Read> Read for Plain<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf)?;
        if let Some(h) = &mut self.hasher {
            h.update(&buf[..n]);
        }
        self.meter.borrow_mut().step(n as u64, self.decoder.consumed());
        Ok(n)
    }
}

/// Hashes contents and keeps nothing.
struct Digests<'a> {
    cancel: &'a AtomicBool,
    meter: Rc<RefCell<Meter>>,
    members: Vec<Member>,
    buffer: Vec<u8>,
}

impl ContentSink for Digests<'_> {
    fn add(&mut self, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new();
        loop {
            // A hole may be long, and nothing of the blob is read for it.
            if self.cancel.load(Ordering::Relaxed) {
                return Err(io::Error::other(LoadError::Cancelled));
            }
            match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&self.buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.meter.borrow_mut().mark();
        let size = hasher.bytes();
        let digest = hasher.finish();
        self.members.push(Member { digest, size, packed: 0 });
        Ok((digest, size))
    }
}

/// What was found in a layer's stream.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) index: Arc<LayerIndex>,
    pub(crate) measured: Measured,
    pub(crate) compression: &'static str,
    /// Bytes of the blob.
    pub(crate) size: u64,
    /// Digest of the blob, if it was to be computed.
    pub(crate) digest: Option<Digest>,
    /// Digest of the tar, if it was to be computed.
    pub(crate) diff_id: Option<Digest>,
}

/// What of a stream is hashed, besides the contents of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) blob: bool,
    pub(crate) tar: bool,
}

/// Reads a layer to its end. `number` and `all` are for progress and errors.
pub(crate) fn scan<R: Read>(
    reader: R,
    number: usize,
    all: u64,
    hashes: Hashes,
    control: &Control<'_>,
) -> Result<Scanned, LoadError> {
    let failed = |e: io::Error| unreadable(number, e, control);
    let blob = Blob { inner: reader, number, done: 0, all, hasher: hashes.blob.then(Hasher::new), control };
    let decoder = Decoder::new(blob).map_err(failed)?;
    let least = if decoder.format() == Format::Zstd { ZSTD_STRETCH } else { 0 };
    let meter = Rc::new(RefCell::new(Meter { least, ..Meter::default() }));
    let compression = name(decoder.format());
    let mut plain = Plain { decoder, hasher: hashes.tar.then(Hasher::new), meter: meter.clone() };
    let mut sink = Digests {
        cancel: control.cancel,
        meter: meter.clone(),
        members: Vec::new(),
        buffer: vec![0; 128 << 10],
    };
    let located = read_layer_located(&mut plain, &mut sink, &Limits::default(), ReadOptions::default())
        .map_err(|e| {
            if control.cancel.load(Ordering::Relaxed) {
                LoadError::Cancelled
            } else {
                LoadError::Layer { layer: number, what: chain(&e) }
            }
        })?;
    // The digests are over everything, also what follows the end of the archive.
    io::copy(&mut plain, &mut io::sink()).map_err(failed)?;
    let Plain { decoder, hasher, .. } = plain;
    let mut blob = decoder.into_inner();
    io::copy(&mut blob, &mut io::sink()).map_err(failed)?;
    let mut members = sink.members;
    let mut meter = meter.borrow_mut();
    meter.finish();
    let mut before = 0;
    for (m, &end) in members.iter_mut().zip(&meter.ends) {
        m.packed = end.saturating_sub(before);
        before = end.max(before);
    }
    Ok(Scanned {
        index: Arc::new(located.index),
        measured: Measured { members, numbers: located.members, replaced: located.replaced },
        compression,
        size: blob.done,
        digest: blob.hasher.take().map(Hasher::finish),
        diff_id: hasher.map(Hasher::finish),
    })
}

fn unreadable(layer: usize, source: io::Error, control: &Control<'_>) -> LoadError {
    if control.cancel.load(Ordering::Relaxed) {
        return LoadError::Cancelled;
    }
    LoadError::Read { layer, source }
}

/// Reads one layer and checks it.
fn read(
    number: usize,
    layer: &StreamedLayer,
    diff_id: Digest,
    open: &Open<'_>,
    control: &Control<'_>,
) -> Result<Raw, LoadError> {
    let damaged = |what: String| LoadError::Layer { layer: number, what };
    // The tar is hashed only where no digest of the blob vouches for it.
    let hashes = Hashes { blob: layer.digest.is_some() && !layer.verified, tar: layer.digest.is_none() };
    let reader = open(number).map_err(|e| unreadable(number, e, control))?;
    let scanned = scan(reader, number, layer.size.unwrap_or(0), hashes, control)?;
    if let Some(got) = scanned.diff_id
        && got != diff_id
    {
        return Err(damaged(format!("its content has diff ID {got}, the config says {diff_id}")));
    }
    if let (Some(got), Some(want)) = (scanned.digest, layer.digest)
        && got != want
    {
        return Err(damaged(format!("its bytes have digest {got}, not {want}")));
    }
    if let Some(want) = layer.size
        && want != scanned.size
    {
        return Err(damaged(format!("it has {} bytes, not {want}", scanned.size)));
    }
    Ok(Raw {
        media_type: layer.media_type.clone(),
        compression: scanned.compression,
        digest: layer.digest,
        diff_id: Some(diff_id),
        packed: Some(scanned.size),
        index: scanned.index,
        measured: Some(scanned.measured),
    })
}

fn name(format: Format) -> &'static str {
    match format {
        Format::None => "uncompressed",
        Format::Gzip => "gzip",
        Format::Bzip2 => "bzip2",
        Format::Xz => "xz",
        Format::Zstd => "zstd",
    }
}

/// An error with everything that caused it, in one line.
fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        out.push_str(": ");
        out.push_str(&s.to_string());
        at = s.source();
    }
    out
}
