//! What lies in the store, file by file, and how much room it takes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci::Digest;

use crate::Store;
use crate::error::{Context, Result};
use crate::images;
use crate::paths::{self, Dir, Key, Kind};
use crate::sys::Root;

/// A number of files and the bytes that they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Number of files.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Bytes that the file system uses for them.
    pub disk: u64,
}

impl Amount {
    pub(crate) fn of(meta: &std::fs::Metadata) -> Amount {
        Amount { files: 1, bytes: meta.len(), disk: meta.blocks() * 512 }
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.disk += other.disk;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(all: I) -> Amount {
        all.fold(Amount::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// What the store holds, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Contents of files.
    pub objects: Amount,
    /// Layer indexes.
    pub layers: Amount,
    /// Compressed layers, configs, manifests.
    pub blobs: Amount,
    /// Files of images and tags.
    pub images: Amount,
    /// The database with its log, and damaged ones that were set aside.
    pub database: Amount,
    /// Memos.
    pub memo: Amount,
    /// Directories made from layers.
    pub dirs: Amount,
    /// Cache mounts.
    pub mounts: Amount,
    /// Sessions: of running processes, and what dead ones left.
    pub tmp: Amount,
    /// Number of records.
    pub records: u64,
}

impl Usage {
    /// Everything together.
    pub fn total(&self) -> Amount {
        let beside = [self.memo, self.dirs, self.mounts, self.tmp];
        [self.objects, self.layers, self.blobs, self.images, self.database].into_iter().chain(beside).sum()
    }
}

/// Content-addressed files of one kind, and names beside them that are none.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<(Digest, Amount)>,
    /// Relative to the root.
    pub(crate) strays: Vec<String>,
}

/// Lists the files of a kind. Files that go away meanwhile are left out.
pub(crate) fn list(root: &Root, kind: Kind) -> Result<Listing> {
    let mut out = Listing::default();
    match kind {
        Kind::Object => {
            for name in root.list(paths::OBJECTS)? {
                let dir = format!("{}/{}", paths::OBJECTS, name.to_string_lossy());
                let first =
                    name.to_str().filter(|n| n.len() == 2).and_then(|n| u8::from_str_radix(n, 16).ok());
                match first {
                    Some(first) if Dir::Objects(first).to_string() == dir => {
                        list_dir(root, &dir, &name.to_string_lossy(), kind, &mut out)?;
                    }
                    _ => out.strays.push(dir),
                }
            }
        }
        Kind::Layer => list_dir(root, paths::LAYERS, "", kind, &mut out)?,
        Kind::Blob => list_dir(root, paths::BLOBS, "", kind, &mut out)?,
    }
    Ok(out)
}

fn list_dir(root: &Root, dir: &str, prefix: &str, kind: Kind, out: &mut Listing) -> Result<()> {
    for name in root.list(dir)? {
        let name = name.to_string_lossy();
        let path = format!("{dir}/{name}");
        let digest = Digest::from_hex(&format!("{prefix}{name}")).ok();
        let meta = match std::fs::symlink_metadata(root.join(&path)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("read", root.join(&path))?,
        };
        match digest {
            Some(digest) if meta.is_file() && (Key { kind, digest }).path() == path => {
                out.files.push((digest, Amount::of(&meta)));
            }
            _ => out.strays.push(path),
        }
    }
    Ok(())
}

/// Everything below a path that is no directory. What cannot be read counts nothing.
pub(crate) fn amount_below(path: &Path) -> Amount {
    let mut sum = Amount::default();
    let mut work = vec![path.to_owned()];
    while let Some(path) = work.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if !meta.is_dir() {
            sum += Amount::of(&meta);
            continue;
        }
        sum.disk += meta.blocks() * 512;
        if let Ok(entries) = std::fs::read_dir(&path) {
            work.extend(entries.filter_map(|e| Some(e.ok()?.path())));
        }
    }
    sum
}

/// Files of the database: the one in use, its companions, and damaged ones.
pub(crate) fn database_files(root: &Root) -> Result<Vec<String>> {
    let names = root.list("")?;
    let names = names.iter().filter_map(|name| name.to_str());
    Ok(names.filter(|name| name.starts_with(paths::DB)).map(str::to_owned).collect())
}

impl Store {
    /// How much room everything takes.
    pub fn usage(&self) -> Result<Usage> {
        let core = self.core();
        let root = &core.root;
        let sum =
            |kind| -> Result<Amount> { Ok(list(root, kind)?.files.iter().map(|(_, amount)| *amount).sum()) };
        let database = database_files(root)?.iter().map(|name| amount_below(&root.join(name))).sum();
        Ok(Usage {
            objects: sum(Kind::Object)?,
            layers: sum(Kind::Layer)?,
            blobs: sum(Kind::Blob)?,
            images: images::ids(root)?
                .iter()
                .map(|id| amount_below(&root.join(paths::image(id))))
                .sum::<Amount>()
                + amount_below(&root.join(paths::TAGS)),
            database,
            memo: amount_below(&root.join(paths::MEMO)),
            dirs: amount_below(&root.join(paths::DIRS)),
            mounts: amount_below(&root.join(paths::MOUNTS)),
            tmp: amount_below(&root.join(paths::TMP)),
            records: core.query(|db| db.count_records())?,
        })
    }
}

impl std::ops::Add for Amount {
    type Output = Amount;
    fn add(mut self, other: Amount) -> Amount {
        self += other;
        self
    }
}
