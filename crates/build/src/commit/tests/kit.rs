//! An overlay of a tree, to do something in.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::{LayerIndex, Tree};
use rustix::mount::{MountFlags, UnmountFlags};
use store::Store;

use crate::commit::{CommitError, layer_of_upper};
use crate::export::write_tree;
use crate::testkit::{content, layer_lines, root, tree_of, walk_dir};

/// A mounted overlay: the tree below, and nothing above it. It is reached by a descriptor and has no name, so it goes with the
/// process, however that ends.
pub(super) struct Overlay {
    dir: tempfile::TempDir,
    root: OwnedFd,
    pub(super) tree: Tree,
    pub(super) store: Store,
    pub(super) stubs: Vec<Vec<u8>>,
}

/// A store for several overlays; `None` without the right to mount.
pub(super) fn store() -> Option<(tempfile::TempDir, Store)> {
    if !root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    Some((dir, store))
}

impl Overlay {
    pub(super) fn new(tree: &Tree, store: &Store) -> Overlay {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        write_tree(tree, oci::tree::ROOT, &content(), &dir.path().join("lower")).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=nofollow,index=off,metacopy=off,xino=off,volatile",
            at("lower"),
            at("upper"),
            at("work")
        );
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("overlay", at("merged"), "overlay", MountFlags::empty(), &*options).unwrap();
        let root = OwnedFd::from(std::fs::File::open(at("merged")).unwrap());
        rustix::mount::unmount(at("merged"), UnmountFlags::DETACH).unwrap();
        Overlay { dir, root, tree: tree.clone(), store: store.clone(), stubs: Vec::new() }
    }

    /// A path of the mount.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd())).join(path)
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub(super) fn commit(&self) -> Result<LayerIndex, CommitError> {
        layer_of_upper(&self.upper(), &self.tree, &self.stubs, &self.store.batch()).map(|c| c.layer)
    }

    /// The layer's lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let _ = self.seen();
        layer_lines(&self.commit().unwrap())
    }

    /// What a look at the mount shows; to be asked before the commit, which takes files away.
    pub(super) fn seen(&self) -> Tree {
        tree_of(walk_dir(&self.at("")))
    }
}

/// Sets only the modification time.
pub(super) fn set_mtime(path: &Path, time: oci::Time) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let t = Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() };
    let times = Timestamps { last_access: t, last_modification: t };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes a pipe or a device.
pub(super) fn make_node(path: &Path, what: crate::testkit::N) -> std::io::Result<()> {
    use crate::testkit::N;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let (kind, dev) = match what {
        N::Char(a, b) => (FileType::CharacterDevice, makedev(a, b)),
        _ => (FileType::Fifo, 0),
    };
    Ok(mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), dev)?)
}
