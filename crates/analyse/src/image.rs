//! What is known of an image: its documents, its layers with their entries, its paths, and what happened to each.

use oci::platform::Platform;
use oci::types::{History, ImageConfig, Manifest};
use oci::{Digest, Time};

use crate::account::Accounts;
use crate::base::Base;
use crate::paths::{Paths, ROOT};

/// Number of a path of an image ([`Image::path`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Number of an entry of an image, over all layers ([`Image::entry`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u32);

/// Number of a file content of an image ([`Image::digest`]): equal contents have equal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl EntryId {
    /// Stands for "no entry".
    pub(crate) const NONE: EntryId = EntryId(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an entry of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory; `opaque` hides what the layers below have in it.
    Directory {
        /// Hides the lower layers' content of this directory.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Its content.
        content: ContentId,
    },
    /// Another name of a file: of the entry that holds it, if it is in the same layer ([`Image::link_target`] has the path).
    HardLink {
        /// Number of the text.
        target: u32,
    },
    /// A symbolic link ([`Image::link_target`] has its text).
    Symlink {
        /// Number of the text.
        target: u32,
    },
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// The path of the layers below is gone.
    Whiteout,
}

/// One entry of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Its path, as it stands in the layer: see [`Entry::place`].
    pub node: NodeId,
    /// The path where it came to lie: another one if directories on the way are symbolic links.
    pub place: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification, in seconds since 1970.
    pub mtime: i64,
    /// Bytes of content, holes of sparse files included; 0 for everything but files.
    pub size: u64,
    /// Its part of the compressed layer in bytes: see [`Packing`].
    pub packed: u64,
    /// Number of its extended attributes ([`Image::xattrs`]); 0: none.
    pub xattrs: u32,
    /// A later entry of the same path in the same layer took its place: its bytes are shipped, and no one sees them.
    pub replaced: bool,
}

impl Entry {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// Its content, if it is a file.
    pub fn content(&self) -> Option<ContentId> {
        match self.kind {
            Kind::File { content } => Some(content),
            _ => None,
        }
    }
}

/// How the compressed size of a layer was divided among its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As measured while it was decompressed: the bytes that the decoder took while the file came out. Exact for what is not
    /// compressed and for gzip (to some bytes); zstd takes much at once, so within 1 MiB of content it is divided by size.
    Measured,
    /// By size: the layer was not decompressed.
    Proportional,
    /// There is no compressed form of it, so sizes are those of the contents.
    Unpacked,
}

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its number; 0 is the base.
    pub index: usize,
    /// The line of the history that made it ([`Image::lines`]), if the history speaks of it.
    pub line: Option<usize>,
    /// Media type of the blob; empty where nobody says (docker-save archives).
    pub media_type: String,
    /// How the blob is compressed, as found.
    pub compression: &'static str,
    /// Digest of the blob, where there is one.
    pub digest: Option<Digest>,
    /// Digest of the tar.
    pub diff_id: Option<Digest>,
    /// Bytes of the blob: what is transferred. Where there is no blob, the same as `size`.
    pub packed: u64,
    /// How [`Entry::packed`] was found.
    pub packing: Packing,
    /// Bytes of file content in it, each hard linked file once.
    pub size: u64,
    /// Its entries in [`Image::entries`]: first and one behind the last.
    pub(crate) range: (u32, u32),
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As it stands in the config.
    pub history: History,
    /// The layer that it made.
    pub layer: Option<usize>,
}

impl Line {
    /// The instruction as people wrote it, in one line.
    pub fn instruction(&self) -> String {
        let text = self.history.created_by.as_deref().unwrap_or_default();
        let text = text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text);
        let text = text.strip_suffix("# buildkit").unwrap_or(text);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shell = "/bin/sh -c ";
        let command = text.strip_prefix(shell).or_else(|| text.strip_prefix("RUN ")?.strip_prefix(shell));
        command.map_or_else(|| text.clone(), |command| format!("RUN {command}"))
    }
}

/// What a layer did to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The path is this entry from now on.
    Set(EntryId),
    /// The path is a directory that no layer has an entry for.
    Implied,
    /// The path is gone: hidden by a whiteout of its own.
    Deleted,
    /// The path is gone with a directory above it (deleted, made opaque, or replaced by something else).
    DeletedWith(NodeId),
}

/// Something that happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The path.
    pub node: NodeId,
    /// In which layer.
    pub layer: usize,
    /// What.
    pub what: What,
}

/// An event as it is kept: with the number of the one before of the same path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) layer: u32,
    pub(crate) what: What,
    pub(crate) before: u32,
}

pub(crate) const NO_EVENT: u32 = u32::MAX;

/// Where an image came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The local store.
    Store,
    /// An archive or a layout directory.
    Archive,
    /// A registry.
    Registry,
    /// The daemon of Docker or Podman.
    Daemon,
}

/// An image, read and merged.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it was asked for by.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// Its config.
    pub config: ImageConfig,
    /// Digest of the config: the image's id.
    pub id: Digest,
    /// Its manifest and that one's digest, if it has one.
    pub manifest: Option<(Digest, Manifest)>,
    /// What it runs on.
    pub platform: Platform,
    /// Whether that is what was asked for.
    pub platform_matches: bool,
    /// Its layers, base first.
    pub layers: Vec<Layer>,
    /// Its history.
    pub lines: Vec<Line>,
    pub(crate) paths: Paths,
    pub(crate) entries: Vec<Entry>,
    pub(crate) contents: Vec<Digest>,
    pub(crate) texts: Texts,
    pub(crate) xattrs: Vec<oci::index::Xattrs>,
    pub(crate) events: Vec<Link>,
    /// For every node its last event.
    pub(crate) last: Vec<u32>,
    /// Nodes by parent and name; where the children of a node start is in `first_child`.
    pub(crate) sorted: Vec<NodeId>,
    pub(crate) first_child: Vec<u32>,
    pub(crate) holders: Vec<u32>,
    pub(crate) rules: Vec<u16>,
    pub(crate) accounts: Accounts,
    pub(crate) base: Option<Base>,
}

/// Texts of links.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    pub(crate) fn add(&mut self, text: &[u8]) -> u32 {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.ends.len() as u32 - 1
    }

    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let at = number as usize;
        let start = at.checked_sub(1).map_or(0, |b| self.ends[b] as usize);
        &self.bytes[start..self.ends[at] as usize]
    }
}

impl Image {
    /// All entries, layer after layer, in each layer sorted by path (and what was replaced within the layer last).
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One entry.
    pub fn entry(&self, id: EntryId) -> &Entry {
        &self.entries[id.index()]
    }

    /// The entries of a layer with their numbers.
    pub fn layer_entries(&self, layer: usize) -> impl Iterator<Item = (EntryId, &Entry)> {
        let (from, to) = self.layers[layer].range;
        (from..to).map(|n| (EntryId(n), &self.entries[n as usize]))
    }

    /// The layer that an entry stands in.
    pub fn layer_of(&self, id: EntryId) -> usize {
        self.layers.partition_point(|l| l.range.1 <= id.0)
    }

    /// Number of paths; every number below is one.
    pub fn node_count(&self) -> usize {
        self.paths.len()
    }

    /// A path's bytes, without a leading slash; empty for the root.
    pub fn path(&self, node: NodeId) -> Vec<u8> {
        self.paths.path(node)
    }

    /// A path for people, with a leading slash.
    pub fn show(&self, node: NodeId) -> String {
        oci::index::show(&self.paths.path(node))
    }

    /// The last component of a path.
    pub fn file_name(&self, node: NodeId) -> &[u8] {
        self.paths.name(node)
    }

    /// The directory that a path lies in; the root's is the root.
    pub fn parent(&self, node: NodeId) -> NodeId {
        self.paths.parent(node)
    }

    /// The number of a path, if any layer ever had it. With or without leading slash.
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        self.paths.find(path)
    }

    /// Every path that any layer ever had in a directory, sorted by name.
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        let from = self.first_child[node.index()] as usize;
        let to = self.first_child[node.index() + 1] as usize;
        &self.sorted[from..to]
    }

    /// What happened to a path, the last first.
    pub fn history_back(&self, node: NodeId) -> impl Iterator<Item = Event> + '_ {
        let mut at = self.last[node.index()];
        std::iter::from_fn(move || {
            let link = self.events.get(at as usize)?;
            at = link.before;
            Some(Event { node, layer: link.layer as usize, what: link.what })
        })
    }

    /// What happened to a path, layer by layer.
    pub fn history(&self, node: NodeId) -> Vec<Event> {
        let mut out: Vec<Event> = self.history_back(node).collect();
        out.reverse();
        out
    }

    /// What a path is when the layers up to `layer` (included) are merged; `None` if it is not there.
    pub fn at(&self, node: NodeId, layer: usize) -> Option<What> {
        let event = self.history_back(node).find(|e| e.layer <= layer)?;
        matches!(event.what, What::Set(_) | What::Implied).then_some(event.what)
    }

    /// The entry that a path is when the layers up to `layer` (included) are merged. A hard link's is that of its own name. Directories that no
    /// layer has an entry for have none.
    pub fn entry_at(&self, node: NodeId, layer: usize) -> Option<EntryId> {
        match self.at(node, layer)? {
            What::Set(id) => Some(id),
            _ => None,
        }
    }

    /// Whether the path is there in the whole image.
    pub fn exists(&self, node: NodeId) -> bool {
        node == ROOT || self.at(node, usize::MAX).is_some()
    }

    /// The digest of a content.
    pub fn digest(&self, content: ContentId) -> &Digest {
        &self.contents[content.0 as usize]
    }

    /// Path of a hard link's target, or text of a symbolic link.
    pub fn link_target(&self, entry: &Entry) -> Option<&[u8]> {
        match entry.kind {
            Kind::HardLink { target } | Kind::Symlink { target } => Some(self.texts.get(target)),
            _ => None,
        }
    }

    /// The entry that holds an entry's inode: itself, but for hard links, whose size and attributes it has.
    pub fn holder(&self, id: EntryId) -> EntryId {
        match self.holders.get(id.index()) {
            Some(&n) if n != u32::MAX => EntryId(n),
            _ => id,
        }
    }

    /// The rule of the cruft database that all live names of a file fit, safe or not.
    pub fn cruft_rule(&self, id: EntryId) -> Option<u16> {
        self.rules.get(id.index()).copied().filter(|&r| r != crate::cruft::NO_RULE)
    }

    /// Extended attributes of an entry, sorted by name.
    pub fn xattrs(&self, entry: &Entry) -> &[(Vec<u8>, Vec<u8>)] {
        entry.xattrs.checked_sub(1).map_or(&[], |n| &self.xattrs[n as usize])
    }

    /// What every byte is for.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The line of the history that made a layer.
    pub fn line(&self, layer: usize) -> Option<&Line> {
        self.layers.get(layer)?.line.and_then(|n| self.lines.get(n))
    }

    /// The instruction that made a layer, in one line; empty if nobody says.
    pub fn instruction(&self, layer: usize) -> String {
        self.line(layer).map(Line::instruction).unwrap_or_default()
    }

    /// Says what made a layer, where somebody knows better than the history. Without an instruction, nobody does.
    pub fn set_instruction(&mut self, layer: usize, instruction: Option<&str>) {
        let Some(slot) = self.layers.get_mut(layer) else { return };
        slot.line = instruction.map(|text| {
            let history = History { created_by: Some(text.to_owned()), ..History::default() };
            self.lines.push(Line { history, layer: Some(layer) });
            self.lines.len() - 1
        });
    }

    /// When the image was made.
    pub fn created(&self) -> Option<Time> {
        self.config.created.as_deref().and_then(Time::parse_rfc3339)
    }
}
