//! The packages that an image holds, as its package managers wrote them down: names and versions, read from the merged tree.
//!
//! | manager | read from |
//! |---|---|
//! | dpkg | `var/lib/dpkg/status`, `var/lib/dpkg/status.d/*` (distroless) |
//! | apk | `lib/apk/db/installed`, `usr/lib/apk/db/installed` |
//! | rpm | `rpmdb.sqlite` in the usual places; the older formats are found and named, not read |
//! | pip | `*.dist-info/METADATA`, `*.egg-info` |
//! | npm | `package.json` in a directory of `node_modules` |
//!
//! A database that cannot be read is a [`Problem`] and never an error: the rest of the image can still be compared.

mod apk;
mod dpkg;
mod npm;
mod pip;
mod rpm;
mod sqlite;

use oci::index::show;
use oci::tree::{Id, Node, ROOT, Walk};
use oci::{Content, Tree};
use serde::Serialize;

pub use dpkg::{Paragraph, paragraphs};

/// Largest database that is read, in bytes.
const MAX_DATABASE: u64 = 256 << 20;

/// Largest file of a single package that is read, in bytes.
const MAX_METADATA: u64 = 4 << 20;

/// Packages that are taken of one image.
const MAX_PACKAGES: usize = 200_000;

/// Who installed a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Debian's.
    Dpkg,
    /// Alpine's.
    Apk,
    /// Red Hat's and SUSE's.
    Rpm,
    /// Python's.
    Pip,
    /// Node's.
    Npm,
}

impl Manager {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Manager::Dpkg => "dpkg",
            Manager::Apk => "apk",
            Manager::Rpm => "rpm",
            Manager::Pip => "pip",
            Manager::Npm => "npm",
        }
    }
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// Who installed it.
    pub manager: Manager,
    /// Its name; for Debian with the architecture, if it is not the only one.
    pub name: String,
    /// Directory that it is installed in, for those that may be there several times (npm, pip); else empty.
    pub place: String,
    /// Its version, with epoch and release where the manager has them.
    pub version: String,
}

/// A database that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its path.
    pub path: String,
    /// Why.
    pub why: String,
}

/// The packages of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Sorted.
    pub packages: Vec<Package>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Installed {
    fn problem(&mut self, path: &[u8], why: impl Into<String>) {
        self.problems.push(Problem { path: show(path), why: why.into() });
    }

    fn add(&mut self, manager: Manager, name: &str, place: &[u8], version: &str) {
        if self.packages.len() < MAX_PACKAGES {
            let place = if place.is_empty() { String::new() } else { show(place) };
            self.packages.push(Package { manager, name: name.into(), place, version: version.into() });
        }
    }
}

/// A tree whose files can be read.
#[derive(Clone, Copy)]
struct Files<'a> {
    tree: &'a Tree,
    content: &'a dyn Content,
}

impl Files<'_> {
    /// The file that a path leads to, links followed.
    fn file(&self, path: &[u8]) -> Option<Id> {
        let place = self.tree.resolve(path, true).ok().filter(|p| p.exists())?;
        matches!(self.tree.inode(place.id).node, Node::File { .. }).then_some(place.id)
    }

    /// The directory that a path leads to, links followed.
    fn directory(&self, path: &[u8]) -> Option<Id> {
        let place = self.tree.resolve(path, true).ok().filter(|p| p.exists())?;
        self.tree.inode(place.id).is_dir().then_some(place.id)
    }

    /// The bytes of a file.
    fn read(&self, id: Id, limit: u64) -> Result<Vec<u8>, String> {
        match &self.tree.inode(id).node {
            Node::File { digest, .. } => self.content.read_all(digest, limit).map_err(|e| e.to_string()),
            _ => Err("it is no regular file".to_owned()),
        }
    }
}

/// All packages of an image.
pub fn installed(tree: &Tree, content: &dyn Content) -> Installed {
    let files = Files { tree, content };
    let mut out = Installed::default();
    dpkg::find(files, &mut out);
    apk::find(files, &mut out);
    rpm::find(files, &mut out);
    let done: Result<(), std::convert::Infallible> = tree.walk(ROOT, &mut |path, id| {
        let into = if tree.inode(id).is_dir() {
            let name = oci::index::split(path).1;
            pip::directory(files, path, name, id, &mut out);
            npm::directory(files, path, name, id, &mut out);
            Walk::Into
        } else {
            pip::file(files, path, id, &mut out);
            Walk::Skip
        };
        Ok(into)
    });
    let Ok(()) = done;
    out.packages.sort();
    out.packages.dedup();
    out
}

/// What became of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Who installed it.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// See [`Package::place`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// Versions before; none: it is new.
    pub from: Vec<String>,
    /// Versions after; none: it is gone.
    pub to: Vec<String>,
}

/// What is different between two lists of packages, in their order.
pub fn compare(a: &[Package], b: &[Package]) -> Vec<PackageChange> {
    type Key<'a> = (Manager, &'a str, &'a str);
    let mut all: std::collections::BTreeMap<Key<'_>, (Vec<String>, Vec<String>)> =
        std::collections::BTreeMap::new();
    for p in a {
        all.entry((p.manager, &p.name, &p.place)).or_default().0.push(p.version.clone());
    }
    for p in b {
        all.entry((p.manager, &p.name, &p.place)).or_default().1.push(p.version.clone());
    }
    all.into_iter()
        .filter(|(_, (from, to))| from != to)
        .map(|((manager, name, place), (from, to))| PackageChange {
            manager,
            name: name.to_owned(),
            place: place.to_owned(),
            from,
            to,
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Trees of texts.

    use oci::content::MemoryContent;
    use oci::index::Attrs;
    use oci::{Entry, Kind, LayerIndex, Tree};

    use super::{Installed, Package};

    /// A tree of files with these bytes.
    pub(crate) fn tree(files: &[(&str, &[u8])]) -> (Tree, MemoryContent) {
        let mut content = MemoryContent::default();
        let entries = files.iter().map(|(path, bytes)| Entry {
            path: path.as_bytes().to_vec(),
            kind: Kind::File { size: bytes.len() as u64, digest: content.add(bytes) },
            attrs: Attrs { mode: 0o644, ..Attrs::default() },
        });
        let layer = LayerIndex::from_entries(entries.collect()).unwrap();
        (Tree::from_layers([&layer]).unwrap(), content)
    }

    /// The packages of a tree of files.
    pub(crate) fn installed(files: &[(&str, &[u8])]) -> Installed {
        let (tree, content) = tree(files);
        super::installed(&tree, &content)
    }

    /// `name version`, with the place where there is one.
    pub(crate) fn short(packages: &[Package]) -> Vec<String> {
        packages
            .iter()
            .map(|p| format!("{} {} {} {}", p.manager.name(), p.name, p.version, p.place).trim().to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_by_name_and_place() {
        let p = |name: &str, place: &str, version: &str| Package {
            manager: Manager::Npm,
            name: name.into(),
            place: place.into(),
            version: version.into(),
        };
        let a = [p("gone", "", "1"), p("same", "", "1"), p("up", "/x", "1"), p("up", "/y", "1")];
        let b = [p("new", "", "2"), p("same", "", "1"), p("up", "/x", "2"), p("up", "/y", "1")];
        let found: Vec<_> = compare(&a, &b)
            .into_iter()
            .map(|c| (c.name, c.place, c.from.join(","), c.to.join(",")))
            .collect();
        let s = |t: &str| t.to_owned();
        assert_eq!(
            found,
            [
                (s("gone"), s(""), s("1"), s("")),
                (s("new"), s(""), s(""), s("2")),
                (s("up"), s("/x"), s("1"), s("2"))
            ]
        );
    }
}
