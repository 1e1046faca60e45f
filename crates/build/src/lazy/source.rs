//! The contents of files that are fetched when they are read.
//!
//! A content is an object of the store, from an earlier run or since a moment ago, or it is fetched ([`super::fetch`]). Large ones are fetched
//! chunk by chunk into a file of the scratch directory, which becomes the object when all of it is there; of small ones all chunks come
//! at once.
//!
//! Whoever serves files may hold on to them for longer than the run takes: with the end of [`Lazy`] nothing can be read any more, and the
//! store is let go.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use oci::toc::{Content as Listed, Toc};
use oci::types::Descriptor;
use oci::{Content, Digest, ReadAt};
use store::{Batch, ScratchDir, Sink, Store};

use super::fetch::{Window, bad};
use crate::error::BuildError;
use crate::parallel::lock;

/// Gives a part of a layer's blob, which nobody has verified.
pub(crate) type Parts = dyn Fn(&Descriptor, Range<u64>) -> io::Result<Box<dyn Read>> + Send + Sync;

/// The contents of an image that is not all here.
#[derive(Debug)]
pub struct Lazy(Arc<Shared>);

/// What [`Lazy`] lends.
#[derive(Debug)]
pub(crate) struct Shared(RwLock<Option<Source>>);

/// Everything that is needed to fetch.
pub(super) struct Source {
    store: Store,
    batch: Batch,
    pub(super) sink: Sink,
    scratch: ScratchDir,
    pub(super) parts: Box<Parts>,
    pub(super) layers: Vec<Layer>,
    /// Layer and content by digest.
    places: HashMap<Digest, (u32, u32)>,
    fetched: AtomicU64,
}

/// A layer and what of it is here.
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) toc: Toc,
    /// Held while something of the layer is fetched.
    pub(super) window: Mutex<Window>,
    kept: Mutex<HashMap<usize, Kept>>,
}

/// What is here of a content.
enum Kept {
    /// An object of the store.
    Whole,
    /// Some of its chunks.
    Chunks { have: Vec<bool>, missing: usize },
    /// Its chunks have their digests, and it has another one.
    Wrong,
}

/// Where a chunk can be read.
pub(super) enum Held {
    Object,
    Spool(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

impl Lazy {
    /// The contents of layers by their tables, whose own bytes are kept where they are files. `parts` fetches.
    pub(super) fn new(
        store: &Store,
        layers: Vec<(Descriptor, Toc)>,
        parts: Box<Parts>,
    ) -> Result<Lazy, BuildError> {
        let batch = store.batch();
        let mut places = HashMap::new();
        let mut out = Vec::with_capacity(layers.len());
        for (n, (descriptor, mut toc)) in layers.into_iter().enumerate() {
            if let Some(own) = toc.own.take() {
                batch.add_bytes(&own)?;
            }
            for (c, content) in toc.contents.iter().enumerate() {
                places.entry(content.digest).or_insert((n as u32, c as u32));
            }
            out.push(Layer { descriptor, toc, window: Mutex::default(), kept: Mutex::default() });
        }
        let source = Source {
            sink: batch.sink(),
            batch,
            scratch: store.scratch()?,
            store: store.clone(),
            parts,
            layers: out,
            places,
            fetched: AtomicU64::new(0),
        };
        Ok(Lazy(Arc::new(Shared(RwLock::new(Some(source))))))
    }

    /// The contents, also those that the store has.
    pub fn content(&self) -> Arc<dyn Content> {
        Arc::new(Lent(self.0.clone()))
    }

    /// Bytes that were fetched so far.
    pub fn fetched(&self) -> u64 {
        self.0.read().as_ref().map_or(0, |s| s.fetched.load(Ordering::Relaxed))
    }

    /// Ends it and keeps what came as a whole; in the store after [`Store::flush`]. Waits for who is reading.
    pub fn keep(self) -> Result<(), BuildError> {
        let source = self.0.0.write().unwrap_or_else(PoisonError::into_inner).take();
        match source {
            Some(source) => Ok(source.batch.commit(Vec::new(), Vec::new())?),
            None => Ok(()),
        }
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        self.0.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Option<Source>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not(listed: &Listed) -> String {
    format!("its digest is not {}", listed.digest)
}

fn ended() -> io::Error {
    io::Error::other("the step has ended")
}

/// The contents for somebody.
#[derive(Debug)]
struct Lent(Arc<Shared>);

impl Content for Lent {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        let source = self.0.read();
        let source = source.as_ref().ok_or_else(ended)?;
        match source.store.open(digest) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        if let Some(&(layer, content)) = source.places.get(digest) {
            let (shared, layer, content) = (self.0.clone(), layer as usize, content as usize);
            return Ok(Arc::new(LazyFile { shared, layer, content, whole: OnceLock::new() }));
        }
        if *digest == Digest::of(b"") {
            return Ok(Arc::new(Vec::new()));
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no object {digest}")))
    }
}

/// A file that is not here, or was not when it was opened.
struct LazyFile {
    shared: Arc<Shared>,
    layer: usize,
    content: usize,
    /// The object, when there is one.
    whole: OnceLock<Arc<dyn ReadAt>>,
}

impl ReadAt for LazyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(object) = self.whole.get() {
            return object.read_at(buf, offset);
        }
        let source = self.shared.read();
        let source = source.as_ref().ok_or_else(ended)?;
        let listed = source.listed(self.layer, self.content);
        if buf.is_empty() || offset >= listed.size {
            return Ok(0);
        }
        let number = listed.chunks.partition_point(|c| c.at <= offset) - 1;
        if let Held::Spool(path) = source.need(self.layer, self.content, number)? {
            match File::open(&path) {
                // Since then the last chunk has come, and it is an object.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
                Ok(file) => {
                    let chunk = &listed.chunks[number];
                    let left = usize::try_from(chunk.at + chunk.size - offset).unwrap_or(usize::MAX);
                    let n = buf.len().min(left);
                    return file.read_at(&mut buf[..n], offset);
                }
            }
        }
        let object = source.store.open(&listed.digest)?;
        let n = object.read_at(buf, offset)?;
        let _ = self.whole.set(object);
        Ok(n)
    }
}

impl Source {
    pub(super) fn listed(&self, layer: usize, content: usize) -> &Listed {
        &self.layers[layer].toc.contents[content]
    }

    /// Where a chunk can be read, after it was fetched if need be.
    fn need(&self, layer: usize, content: usize, chunk: usize) -> io::Result<Held> {
        if let Some(held) = self.held(layer, content, chunk)? {
            return Ok(held);
        }
        // Those who serve files have small stacks.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("lazy-fetch".into());
            let fetch = thread.spawn_scoped(scope, || self.fetch(layer, content, chunk))?;
            fetch.join().unwrap_or_else(|_| Err(io::Error::other("it broke down while it was fetched")))
        })
    }

    /// Where a chunk can be read, if it is here.
    pub(super) fn held(&self, layer: usize, content: usize, chunk: usize) -> io::Result<Option<Held>> {
        match lock(&self.layers[layer].kept).get(&content) {
            Some(Kept::Whole) => Ok(Some(Held::Object)),
            Some(Kept::Chunks { have, .. }) if have[chunk] => {
                Ok(Some(Held::Spool(self.spool(layer, content))))
            }
            Some(Kept::Wrong) => Err(self.refused(layer, content, &not(self.listed(layer, content)))),
            _ => Ok(None),
        }
    }

    /// Whether all of a content is here.
    pub(super) fn is_whole(&self, layer: usize, content: usize) -> bool {
        matches!(lock(&self.layers[layer].kept).get(&content), Some(Kept::Whole))
    }

    /// Where the chunks of a content are until all are here.
    fn spool(&self, layer: usize, content: usize) -> PathBuf {
        self.scratch.path().join(format!("{layer}-{content}"))
    }

    /// The same, made if it is not there. Zeros need not be written to it.
    pub(super) fn open_spool(&self, layer: usize, content: usize) -> io::Result<File> {
        let file =
            File::options().write(true).create(true).truncate(false).open(self.spool(layer, content))?;
        file.set_len(self.listed(layer, content).size)?;
        Ok(file)
    }

    /// Keeps a content that is in memory and was verified.
    pub(super) fn keep_bytes(&self, layer: usize, content: usize, bytes: &[u8]) -> io::Result<()> {
        self.sink.add_bytes(bytes)?;
        lock(&self.layers[layer].kept).insert(content, Kept::Whole);
        Ok(())
    }

    /// Notes that a chunk was verified and written. With the last one the content becomes an object.
    pub(super) fn keep_chunk(&self, layer: usize, content: usize, chunk: usize) -> io::Result<()> {
        let listed = self.listed(layer, content);
        let mut kept = lock(&self.layers[layer].kept);
        let count = listed.chunks.len();
        let new = || Kept::Chunks { have: vec![false; count], missing: count };
        let Kept::Chunks { have, missing } = kept.entry(content).or_insert_with(new) else { return Ok(()) };
        if !std::mem::replace(&mut have[chunk], true) {
            *missing -= 1;
        }
        if *missing > 0 {
            return Ok(());
        }
        let (digest, _) = self.sink.add_path(&self.spool(layer, content))?;
        let right = digest == listed.digest;
        kept.insert(content, if right { Kept::Whole } else { Kept::Wrong });
        if right { Ok(()) } else { Err(bad(not(listed))) }
    }

    /// An error that names the file.
    pub(super) fn refused(&self, layer: usize, content: usize, why: &str) -> io::Error {
        let path = oci::index::show(&self.listed(layer, content).path);
        let blob = self.layers[layer].descriptor.digest.short();
        bad(format!("{path} of layer {blob}: {why}"))
    }

    /// Opens a part of a layer's blob.
    pub(super) fn part(&self, layer: usize, part: Range<u64>) -> io::Result<Box<dyn Read>> {
        self.fetched.fetch_add(part.end - part.start, Ordering::Relaxed);
        (self.parts)(&self.layers[layer].descriptor, part)
    }
}
