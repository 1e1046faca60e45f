//! Layers as they come, in any order, to an [`Image`].

use std::collections::HashMap;

use oci::digest::Digest;
use oci::index::{LayerIndex, Xattrs};
use oci::platform::Platform;
use oci::tar::NO_MEMBER;
use oci::types::{ImageConfig, Manifest};

use super::{LoadError, MAX_LAYERS};
use crate::account::account;
use crate::cruft;
use crate::image::{ContentId, Entry, Image, Kind, Layer, Line, NO_EVENT, NodeId, Origin, Packing, Texts};
use crate::merge::{ABSENT, Merged, merge};
use crate::paths::{Cursor, Paths, ROOT};

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) media_type: String,
    pub(crate) compression: &'static str,
    pub(crate) digest: Option<Digest>,
    pub(crate) diff_id: Option<Digest>,
    /// Size of the blob.
    pub(crate) packed: Option<u64>,
    pub(crate) index: std::sync::Arc<LayerIndex>,
    /// What was measured while it was decompressed.
    pub(crate) measured: Option<Measured>,
}

/// What was measured while a layer was decompressed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Digest, size and compressed bytes of every file of the stream, in its order.
    pub(crate) members: Vec<Member>,
    /// For every entry of the index the number of its member.
    pub(crate) numbers: Vec<u32>,
    /// Files that later ones replaced: path and number of the member.
    pub(crate) replaced: Vec<(Vec<u8>, u32)>,
}

/// One file of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) packed: u64,
}

/// An image on its way.
#[derive(Debug)]
pub(crate) struct Assembly {
    layers: Vec<Option<(Layer, Vec<Entry>)>>,
    paths: Paths,
    texts: Texts,
    contents: Vec<Digest>,
    by_digest: HashMap<Digest, ContentId>,
    xattrs: Vec<Xattrs>,
    by_xattrs: HashMap<Xattrs, u32>,
}

/// Everything of an image but its layers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) id: Digest,
    pub(crate) config: ImageConfig,
    pub(crate) manifest: Option<(Digest, Manifest)>,
    pub(crate) wanted: Option<Platform>,
}

impl Assembly {
    pub(crate) fn new(layers: usize) -> Result<Assembly, LoadError> {
        if layers > MAX_LAYERS {
            return Err(LoadError::TooLarge("layers"));
        }
        Ok(Assembly {
            layers: (0..layers).map(|_| None).collect(),
            paths: Paths::default(),
            texts: Texts::default(),
            contents: Vec::new(),
            by_digest: HashMap::new(),
            xattrs: Vec::new(),
            by_xattrs: HashMap::new(),
        })
    }

    fn content(&mut self, digest: Digest) -> ContentId {
        let next = ContentId(self.contents.len() as u32);
        *self.by_digest.entry(digest).or_insert_with(|| {
            self.contents.push(digest);
            next
        })
    }

    fn xattrs(&mut self, xattrs: &Xattrs) -> u32 {
        if xattrs.is_empty() {
            return 0;
        }
        if let Some(&n) = self.by_xattrs.get(xattrs) {
            return n;
        }
        self.xattrs.push(xattrs.clone());
        let n = self.xattrs.len() as u32;
        self.by_xattrs.insert(xattrs.clone(), n);
        n
    }

    /// Takes a layer; the index can be dropped then.
    pub(crate) fn add(&mut self, number: usize, raw: Raw) -> Result<(), LoadError> {
        let Raw { media_type, compression, digest, diff_id, packed, index, measured } = raw;
        let size = index.content_bytes()
            + measured.iter().flat_map(|m| m.replaced.iter().map(|(_, n)| m.size(*n))).sum::<u64>();
        let mut entries: Vec<Entry> = Vec::with_capacity(index.entries().len());
        let mut cursor = Cursor::default();
        for (i, e) in index.entries().iter().enumerate() {
            let node = cursor.intern(&mut self.paths, &e.path);
            let member = measured.as_ref().and_then(|m| m.member(*m.numbers.get(i)?));
            let (kind, size) = match &e.kind {
                oci::Kind::Directory { opaque } => (Kind::Directory { opaque: *opaque }, 0),
                oci::Kind::File { size, digest } => (Kind::File { content: self.content(*digest) }, *size),
                oci::Kind::HardLink { target } => (Kind::HardLink { target: self.texts.add(target) }, 0),
                oci::Kind::Symlink { target } => (Kind::Symlink { target: self.texts.add(target) }, 0),
                oci::Kind::CharDevice { major, minor } => (Kind::CharDevice(*major, *minor), 0),
                oci::Kind::BlockDevice { major, minor } => (Kind::BlockDevice(*major, *minor), 0),
                oci::Kind::Fifo => (Kind::Fifo, 0),
                oci::Kind::Whiteout => (Kind::Whiteout, 0),
            };
            entries.push(Entry {
                node,
                place: node,
                kind,
                mode: (e.attrs.mode & 0o7777) as u16,
                uid: e.attrs.uid,
                gid: e.attrs.gid,
                mtime: e.attrs.mtime.secs,
                size,
                packed: member.map_or(0, |m| m.packed),
                xattrs: self.xattrs(&e.attrs.xattrs),
                replaced: false,
            });
        }
        for (path, n) in measured.iter().flat_map(|m| &m.replaced) {
            let Some(member) = measured.as_ref().and_then(|m| m.member(*n)) else { continue };
            let node = self.paths.intern_path(path);
            entries.push(Entry {
                node,
                place: node,
                kind: Kind::File { content: self.content(member.digest) },
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: 0,
                size: member.size,
                packed: member.packed,
                xattrs: 0,
                replaced: true,
            });
        }
        let packing = match (&measured, packed) {
            (Some(_), _) => Packing::Measured,
            (None, Some(_)) => Packing::Proportional,
            (None, None) => Packing::Unpacked,
        };
        let packed = packed.unwrap_or(size);
        if packing != Packing::Measured {
            divide(&mut entries, size, packed);
        }
        if self.paths.len() > u32::MAX as usize / 4 {
            return Err(LoadError::TooLarge("paths"));
        }
        let layer = Layer {
            index: number,
            line: None,
            media_type,
            compression,
            digest,
            diff_id,
            packed,
            packing,
            size,
            range: (0, 0),
        };
        if let Some(slot) = self.layers.get_mut(number) {
            *slot = Some((layer, entries));
        }
        Ok(())
    }

    /// Merges and accounts.
    pub(crate) fn finish(self, head: Head) -> Result<Image, LoadError> {
        let Assembly { layers: parts, mut paths, texts, contents, xattrs, by_digest, by_xattrs } = self;
        drop((by_digest, by_xattrs));
        let total: usize = parts.iter().flatten().map(|(_, e)| e.len()).sum();
        if total >= u32::MAX as usize / 2 {
            return Err(LoadError::TooLarge("entries"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(total);
        let mut layers: Vec<Layer> = Vec::with_capacity(parts.len());
        for (mut layer, own) in parts.into_iter().flatten() {
            let from = entries.len() as u32;
            entries.extend_from_slice(&own);
            layer.range = (from, entries.len() as u32);
            layers.push(layer);
        }
        let lines = lines(&head.config, layers.len());
        for (n, line) in lines.iter().enumerate() {
            if let Some(l) = line.layer {
                layers[l].line = Some(n);
            }
        }
        let ranges: Vec<(u32, u32)> = layers.iter().map(|l| l.range).collect();
        let merged = merge(&mut paths, &mut entries, &texts, &ranges)?;
        let (sorted, first_child) = children(&paths);
        let rules = rules(&paths, &sorted, &first_child, &merged, entries.len());
        let accounts = account(&entries, &layers, merged.fates, &|n| {
            let rule = *rules.get(n)?;
            cruft::rule(rule).filter(|r| r.safe).map(|_| rule)
        });
        let c = &head.config;
        let platform = c.platform();
        let platform_matches = head.wanted.is_none_or(|w| w.accepts(&platform));
        let mut last = merged.last;
        last.resize(paths.len(), NO_EVENT);
        Ok(Image {
            name: head.name,
            origin: head.origin,
            id: head.id,
            config: head.config,
            manifest: head.manifest,
            platform,
            platform_matches,
            layers,
            lines,
            paths,
            entries,
            contents,
            texts,
            xattrs,
            events: merged.events,
            last,
            sorted,
            first_child,
            holders: merged.holders,
            rules,
            accounts,
            base: None,
        })
    }
}

impl Measured {
    fn member(&self, number: u32) -> Option<&Member> {
        if number == NO_MEMBER { None } else { self.members.get(number as usize) }
    }

    fn size(&self, number: u32) -> u64 {
        self.member(number).map_or(0, |m| m.size)
    }
}

/// Divides a blob's size among the files by their sizes, so that the parts add up (as long as there are files with bytes).
fn divide(entries: &mut [Entry], size: u64, packed: u64) {
    let (mut seen, mut given) = (0u128, 0u128);
    for e in entries.iter_mut().filter(|e| e.size > 0) {
        seen += u128::from(e.size);
        let upto = seen * u128::from(packed) / u128::from(size.max(1));
        e.packed = u64::try_from(upto - given).unwrap_or(0);
        given = upto;
    }
}

/// The history with the layers that its lines made. Lines beyond the layers made none, whatever they say.
fn lines(config: &ImageConfig, layers: usize) -> Vec<Line> {
    let mut next = 0..layers;
    let line = |h: &oci::types::History| Line {
        history: h.clone(),
        layer: if h.empty_layer { None } else { next.next() },
    };
    config.history.iter().map(line).collect()
}

/// For every entry that holds a live inode the cruft rule that *all* of its names fit: a file is not needless as long as it has another name.
fn rules(paths: &Paths, sorted: &[NodeId], first_child: &[u32], merged: &Merged, entries: usize) -> Vec<u16> {
    let children = |n: NodeId| {
        let (from, to) = (first_child[n.index()], first_child[n.index() + 1]);
        &sorted[from as usize..to as usize]
    };
    let of_node = cruft::of_tree(paths.len(), &children, &|n| paths.name(n));
    let mut out = vec![cruft::NO_RULE; entries];
    let mut kept = vec![false; entries];
    for (&now, &rule) in merged.now.iter().zip(&of_node).filter(|(now, _)| **now < ABSENT) {
        let holder = merged.holders[now as usize] as usize;
        if rule == cruft::NO_RULE {
            kept[holder] = true;
        } else {
            out[holder] = rule;
        }
    }
    for (rule, _) in out.iter_mut().zip(&kept).filter(|(_, kept)| **kept) {
        *rule = cruft::NO_RULE;
    }
    out
}

/// Nodes sorted by parent and name, and where the children of each node start.
fn children(paths: &Paths) -> (Vec<NodeId>, Vec<u32>) {
    let count = paths.len();
    let mut starts = vec![0u32; count + 1];
    for n in 1..count as u32 {
        starts[paths.parent(NodeId(n)).index() + 1] += 1;
    }
    for i in 0..count {
        starts[i + 1] += starts[i];
    }
    let mut at = starts.clone();
    let mut sorted = vec![ROOT; count.saturating_sub(1)];
    for n in 1..count as u32 {
        let slot = &mut at[paths.parent(NodeId(n)).index()];
        sorted[*slot as usize] = NodeId(n);
        *slot += 1;
    }
    for i in 0..count {
        let (from, to) = (starts[i] as usize, starts[i + 1] as usize);
        sorted[from..to].sort_unstable_by(|&a, &b| paths.name(a).cmp(paths.name(b)));
    }
    (sorted, starts)
}
