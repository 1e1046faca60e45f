//! From the copy that a step ran on to what it changed, in the form of an overlayfs upper directory.
//!
//! A file is unchanged if its inode and change time are those of the baseline, which was taken when the copy was made. Clocks of file
//! systems are coarse; the baseline is done when a new change is sure to have a later time than all of it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci::tree::Id;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, Timespec, Timestamps};

use crate::view::View;

/// Change times, in nanoseconds, of what was written, by inode number.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    changed: HashMap<u64, i128>,
    end: i128,
}

impl Baseline {
    pub(super) fn note(&mut self, stat: &Stat) {
        let time = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        self.changed.insert(stat.st_ino, time);
        self.end = self.end.max(time);
    }

    /// Waits until changes get later times than those that were noted. `dir` is on the same file system, and may be changed.
    pub(crate) fn settle(&self, dir: &Path) -> io::Result<()> {
        let path = dir.join("clock");
        loop {
            std::fs::write(&path, "")?;
            if nanos(&std::fs::symlink_metadata(&path)?) > self.end {
                return std::fs::remove_file(&path);
            }
            std::fs::remove_file(&path)?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn is_unchanged(&self, meta: &std::fs::Metadata) -> bool {
        self.changed.get(&meta.ino()) == Some(&nanos(meta))
    }
}

fn nanos(meta: &std::fs::Metadata) -> i128 {
    i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec())
}

/// A directory that the tree has, too.
struct Open {
    path: PathBuf,
    id: Id,
    meta: std::fs::Metadata,
    names: Vec<OsString>,
    /// Whether something in it stays.
    keeps: bool,
}

fn open(path: PathBuf, id: Id, meta: std::fs::Metadata) -> io::Result<Open> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path)? {
        names.push(entry?.file_name());
    }
    Ok(Open { path, id, meta, names, keeps: false })
}

/// Takes away what the step did not change, and puts whiteouts where it removed something. `top` was written by
/// [`super::write_view`] of `view`. The path of an error is where it happened.
pub(crate) fn condense(top: &Path, view: &View, baseline: &Baseline) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| (path, e)
    };
    let meta = std::fs::symlink_metadata(top).map_err(at(top))?;
    let mut way = vec![open(top.to_owned(), view.root(), meta).map_err(at(top))?];
    whiteouts(&mut way[0], view).map_err(at(top))?;
    while let Some(dir) = way.last_mut() {
        if let Some(name) = dir.names.pop() {
            let path = dir.path.join(&name);
            let meta = std::fs::symlink_metadata(&path).map_err(at(&path))?;
            match view.child(dir.id, name.as_bytes()) {
                Some(id) if view.is_dir(id) && meta.is_dir() => {
                    let mut open = open(path, id, meta).map_err(|e| (dir.path.join(&name), e))?;
                    whiteouts(&mut open, view).map_err(at(&open.path))?;
                    way.push(open);
                }
                // An empty file on which something was mounted.
                Some(id) if !view.is_real(id) && !meta.is_dir() => {
                    std::fs::remove_file(&path).map_err(at(&path))?
                }
                Some(_) if !meta.is_dir() && baseline.is_unchanged(&meta) => {
                    std::fs::remove_file(&path).map_err(at(&path))?;
                }
                _ => dir.keeps = true,
            }
            continue;
        }
        let Some(done) = way.pop() else { break };
        let is_top = way.is_empty();
        let stub = !view.is_real(done.id);
        if !is_top && !done.keeps && (stub || baseline.is_unchanged(&done.meta)) {
            std::fs::remove_dir(&done.path).map_err(at(&done.path))?;
            continue;
        }
        // What was just taken out of it was not the step's doing.
        let time = |secs, nanos| Timespec { tv_sec: secs, tv_nsec: nanos };
        let times = Timestamps {
            last_access: time(done.meta.atime(), done.meta.atime_nsec()),
            last_modification: time(done.meta.mtime(), done.meta.mtime_nsec()),
        };
        rustix::fs::utimensat(CWD, &done.path, &times, AtFlags::empty())
            .map_err(|e| at(&done.path)(e.into()))?;
        if let Some(parent) = way.last_mut() {
            parent.keeps = true;
        }
    }
    Ok(())
}

/// Marks the names of the tree that are not there any more.
fn whiteouts(dir: &mut Open, view: &View) -> io::Result<()> {
    let there: HashSet<&[u8]> = dir.names.iter().map(|n| n.as_bytes()).collect();
    for (name, id) in view.children(dir.id) {
        if view.is_real(id) && !there.contains(name) {
            let path = dir.path.join(std::ffi::OsStr::from_bytes(name));
            let mode = Mode::from_raw_mode(0);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, rustix::fs::makedev(0, 0))?;
            dir.keeps = true;
        }
    }
    Ok(())
}
