//! Every path of the store, built in this one place. All are relative to the root, so that they can be used with `openat`.

use std::fmt;

use oci::Digest;

/// What a content-addressed file of the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The bytes of a regular file.
    Object,
    /// An encoded layer index.
    Layer,
    /// A compressed layer, config or manifest.
    Blob,
}

impl Kind {
    /// The word for people.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Layer => "layer",
            Kind::Blob => "blob",
        }
    }
}

/// Name of a content-addressed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) digest: Digest,
}

impl Key {
    pub(crate) fn object(digest: &Digest) -> Key {
        Key { kind: Kind::Object, digest: *digest }
    }

    pub(crate) fn layer(digest: &Digest) -> Key {
        Key { kind: Kind::Layer, digest: *digest }
    }

    pub(crate) fn blob(digest: &Digest) -> Key {
        Key { kind: Kind::Blob, digest: *digest }
    }

    /// Where the file lies once it is durable.
    pub(crate) fn path(&self) -> String {
        let hex = self.digest.hex();
        match self.kind {
            Kind::Object => format!("{OBJECTS}/{}/{}", &hex[..2], &hex[2..]),
            Kind::Layer => format!("{LAYERS}/{hex}"),
            Kind::Blob => format!("{BLOBS}/{hex}"),
        }
    }

    /// The directory of [`Key::path`].
    pub(crate) fn dir(&self) -> Dir {
        match self.kind {
            Kind::Object => Dir::Objects(self.digest.as_bytes()[0]),
            Kind::Layer => Dir::Layers,
            Kind::Blob => Dir::Blobs,
        }
    }
}

/// A directory that has to be flushed after names were made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dir {
    /// `objects` itself: a directory of it is new.
    AllObjects,
    /// One directory of `objects`, by the first byte of the digests.
    Objects(u8),
    Layers,
    Blobs,
    Images,
    Tags,
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dir::AllObjects => f.write_str(OBJECTS),
            Dir::Objects(first) => write!(f, "{OBJECTS}/{first:02x}"),
            Dir::Layers => f.write_str(LAYERS),
            Dir::Blobs => f.write_str(BLOBS),
            Dir::Images => f.write_str(IMAGES),
            Dir::Tags => f.write_str(TAGS),
        }
    }
}

pub(crate) const FORMAT: &str = "format";
pub(crate) const OBJECTS: &str = "objects";
pub(crate) const LAYERS: &str = "layers";
pub(crate) const BLOBS: &str = "blobs/sha256";
pub(crate) const IMAGES: &str = "images";
pub(crate) const TAGS: &str = "images/tags";
pub(crate) const MEMO: &str = "memo";
pub(crate) const MOUNTS: &str = "mounts";
pub(crate) const DIRS: &str = "dirs";
pub(crate) const TMP: &str = "tmp";
pub(crate) const STEP_LOCKS: &str = "locks/steps";
pub(crate) const DB: &str = "db.sqlite";
/// SQLite's write-ahead log.
pub(crate) const DB_LOG: &str = "db.sqlite-wal";
/// Exists while the database is known to be damaged and not yet set aside.
pub(crate) const DB_SUSPECT: &str = "db.sqlite.suspect";

/// Held shared by every process that has the store open, and alone by `gc` and `verify --repair`.
pub(crate) const STORE_LOCK: &str = "locks/store";
/// Held alone while the database is opened, made, or set aside.
pub(crate) const DB_LOCK: &str = "locks/db";
/// Held alone while a session is made, and while dead ones are looked for.
pub(crate) const SESSIONS_LOCK: &str = "locks/sessions";

/// Held alone while directories are made from layers.
pub(crate) const DIRS_LOCK: &str = "locks/dirs";

/// Directories of every store, parents first.
pub(crate) const DIRECTORIES: [&str; 9] = [OBJECTS, LAYERS, "blobs", BLOBS, IMAGES, TAGS, MEMO, TMP, "locks"];

/// File of an image.
pub(crate) fn image(id: &Digest) -> String {
    format!("{IMAGES}/{}.json", id.hex())
}

/// File of a tag. A name may be longer than a file name, and holds slashes: its digest stands for it.
pub(crate) fn tag(name: &str) -> String {
    format!("{TAGS}/{}.json", Digest::of(name.as_bytes()).hex())
}

/// File of a memo.
pub(crate) fn memo(name: &str) -> String {
    format!("{MEMO}/{}", Digest::of(name.as_bytes()).hex())
}

/// Lock file of a step.
pub(crate) fn step_lock(key: &Digest) -> String {
    format!("{STEP_LOCKS}/{}", key.hex())
}
