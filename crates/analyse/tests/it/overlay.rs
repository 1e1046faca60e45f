//! The accounts against the kernel: random stacks of layers, mounted as an overlay.
//!
//! What overlayfs cannot say is left out: entries below a symbolic link of another layer, and hard links to files of the layers below. Directories
//! have entries of their own, as overlayfs has no implied ones.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use analyse::{Image, NodeId, What};
use oci::{Kind, LayerIndex};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::kit::{Layer, config, indexes, layer};
use crate::paths::Random;

/// Says why a test does not run; fails where everything must.
#[allow(clippy::disallowed_methods, clippy::disallowed_macros)]
fn skip(why: &str) {
    assert!(std::env::var_os("LAYERCAKE_TEST_ALL").is_none(), "must not be skipped here: {why}");
    eprintln!("skipped: {why}");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A layer over `below`: what paths there are is followed, so that nothing lies below a file.
fn random_layer(random: &mut Random) -> Layer {
    let mut entries: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..1 + random.below(10) {
        let depth = 1 + random.below(3);
        let path: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][random.below(3) as usize]).collect();
        for n in 1..path.len() {
            // A directory for every part of the way, mostly not opaque.
            let what = if random.below(8) == 0 { 7 } else { 6 };
            entries.entry(path[..n].join("/")).or_insert(what);
        }
        entries.insert(path.join("/"), random.below(13));
    }
    // Nothing below what is no directory.
    let others: Vec<String> =
        entries.iter().filter(|(_, w)| !matches!(w, 5..=7)).map(|(p, _)| format!("{p}/")).collect();
    entries.retain(|p, _| !others.iter().any(|o| p.starts_with(o)));
    let files: Vec<String> = entries.iter().filter(|(_, w)| **w < 5).map(|(p, _)| p.clone()).collect();
    let mut l = layer();
    for (path, what) in &entries {
        let size = 1000 * (1 + random.below(5));
        l = match what {
            0..5 => l.file(path, size, ["x", "y"][random.below(2) as usize]),
            5 | 6 => l.dir(path),
            7 => l.opaque(path),
            8 | 9 => match files.get(random.below(files.len().max(1) as u64) as usize) {
                Some(target) if target != path => l.link(path, target),
                _ => l.gone(path),
            },
            10 => l.symlink(path, "nowhere"),
            _ => l.gone(path),
        };
    }
    l
}

/// Makes the directory of a layer, as overlayfs wants it.
fn unpack(index: &LayerIndex, dir: &Path) -> std::io::Result<()> {
    for e in index.entries() {
        let path = dir.join(String::from_utf8(e.path.clone()).unwrap());
        match &e.kind {
            Kind::Directory { opaque } => {
                fs::create_dir(&path)?;
                if *opaque {
                    setxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
                }
            }
            Kind::File { size, .. } => fs::File::create(&path)?.set_len(*size)?,
            Kind::Symlink { target } => {
                std::os::unix::fs::symlink(String::from_utf8(target.clone()).unwrap(), &path)?;
            }
            Kind::HardLink { target } => {
                fs::hard_link(dir.join(String::from_utf8(target.clone()).unwrap()), &path)?;
            }
            Kind::Whiteout => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
            }
            _ => unreachable!("no such entry is made"),
        }
    }
    Ok(())
}

/// Paths with type and size, and the bytes of the files, each inode once.
fn mounted(root: &Path) -> (BTreeMap<String, String>, u64) {
    let (mut paths, mut inodes) = (BTreeMap::new(), HashMap::new());
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for e in fs::read_dir(dir).unwrap() {
            let path = e.unwrap().path();
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // A whiteout in a directory that only one layer has is listed, and is not there.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => panic!("{}: {e}", path.display()),
            };
            let what = if meta.is_dir() {
                todo.push(path.clone());
                "directory".to_owned()
            } else if meta.is_symlink() {
                "link".to_owned()
            } else {
                inodes.insert((meta.dev(), meta.ino()), meta.len());
                format!("{} bytes", meta.len())
            };
            paths.insert(path.strip_prefix(root).unwrap().display().to_string(), what);
        }
    }
    (paths, inodes.values().sum())
}

fn merged(i: &Image) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for node in (1..i.node_count() as u32).map(NodeId) {
        let Some(what) = i.at(node, usize::MAX) else { continue };
        let text = match what {
            What::Set(id) => {
                let holder = i.entry(i.holder(id));
                match holder.kind {
                    analyse::Kind::Directory { .. } => "directory".to_owned(),
                    analyse::Kind::Symlink { .. } => "link".to_owned(),
                    _ => format!("{} bytes", holder.size),
                }
            }
            _ => "directory".to_owned(),
        };
        out.insert(String::from_utf8(i.path(node)).unwrap(), text);
    }
    out
}

#[test]
fn reclaimable_bytes_are_what_the_kernel_does_not_show() {
    if !rustix::process::geteuid().is_root() {
        return skip("mounting an overlay needs root");
    }
    let mut random = Random(11);
    let mut dead = 0;
    for round in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<Layer> = (0..1 + random.below(5)).map(|_| random_layer(&mut random)).collect();
        let stack = indexes(layers);
        let bottom = dir.path().join("bottom");
        fs::create_dir(&bottom).unwrap();
        let mut lower = vec![bottom];
        for (n, l) in stack.iter().enumerate() {
            let path = dir.path().join(format!("l{n}"));
            fs::create_dir(&path).unwrap();
            if let Err(e) = unpack(l, &path) {
                return skip(&format!("this directory cannot hold an overlay's layers: {e}"));
            }
            lower.push(path);
        }
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let list: Vec<String> = lower.iter().rev().map(|p| p.display().to_string()).collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", list.join(":"))).unwrap();
        if let Err(e) = mount("overlay", &root, "overlay", MountFlags::RDONLY, options.as_c_str()) {
            return skip(&format!("no overlay can be mounted here: {e}"));
        }
        let guard = Mounted(root.clone());
        let image = analyse::load::indexes::load("x", config(stack.len()), &stack).unwrap();
        let (want, bytes) = mounted(&root);
        drop(guard);
        assert_eq!(merged(&image), want, "round {round}: {stack:#?}");
        let a = image.accounts();
        let shipped: u64 = stack.iter().map(|l| l.content_bytes()).sum();
        assert_eq!(a.reclaimable().bytes, shipped - bytes, "round {round}: {stack:#?}");
        dead += a.reclaimable().bytes;
    }
    assert!(dead > 100_000, "{dead} dead bytes in all");
}
