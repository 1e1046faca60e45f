//! Whatever is done in an overlay: its layer on the parent's tree gives what a walk of the mount shows, times included.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::kit::{Overlay, make_node, set_mtime, store};
use crate::testkit::*;

use oci::{Entry, Time, Tree};

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One of few names, so that operations meet.
    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let parts: Vec<&str> = (0..depth).map(|_| self.pick(&["a", "b", "c"])).collect();
        parts.join("/")
    }

    fn time(&mut self) -> Time {
        Time::from_secs(self.pick(&[1, 2, SOME_TIME.secs]))
    }
}

fn parent(r: &mut Rng) -> Tree {
    let mut rows: Vec<Entry> = Vec::new();
    for top in ["a", "b", "c"] {
        rows.push((top, Dir, r.pick(&[0o755, 0o700, 0o1777])).entry());
        for name in ["a", "b", "c"] {
            let path = format!("{top}/{name}");
            let what = [Dir, File("1"), File("2"), File(""), Link("../a"), Fifo, Char(1, 3), Hard("a/link")];
            rows.push((path.as_str(), r.pick(&what), 0o644, (r.below(2) as u32, 0)).entry());
            if matches!(rows.last().unwrap().kind, oci::Kind::Directory { .. }) {
                rows.push((format!("{path}/a").as_str(), File("1")).entry());
                rows.push((format!("{path}/b").as_str(), Dir).entry());
            }
        }
    }
    rows.push(("a/link", File("linked")).entry());
    for e in &mut rows {
        e.attrs.mtime = SOME_TIME;
        if matches!(e.kind, oci::Kind::Symlink { .. }) {
            e.attrs.mode = 0o777;
        }
    }
    tree_of(rows)
}

/// Does one thing; what cannot be done is left undone.
fn step(o: &Overlay, r: &mut Rng) -> String {
    let (path, other) = (r.path(), r.path());
    let (at, to): (PathBuf, PathBuf) = (o.at(&path), o.at(&other));
    let parent = at.parent().unwrap().to_owned();
    let text = r.pick(&["1", "2", "new"]);
    let what = match fs::metadata(&at) {
        // Opening a pipe would wait for a partner.
        Ok(m) if !m.is_file() => 3 + r.below(16),
        _ => r.below(19),
    };
    let done = match what {
        0 => fs::write(&at, text),
        1 => fs::OpenOptions::new().append(true).open(&at).and_then(|mut f| f.write_all(b"+")),
        2 => fs::OpenOptions::new().append(true).open(&at).map(drop),
        3 => fs::create_dir(&at),
        4 => fs::remove_file(&at),
        5 => fs::remove_dir_all(&at),
        6 => symlink(r.pick(&["a", "../b", "/c"]), &at),
        7 => fs::hard_link(&at, &to),
        8 | 9 => fs::rename(&at, &to),
        10 => fs::set_permissions(&at, fs::Permissions::from_mode(r.pick(&[0o600, 0o755, 0o4711, 0o644]))),
        11 => chown(&at, Some(r.below(3) as u32), Some(r.below(2) as u32)),
        12 => make_node(&at, r.pick(&[Fifo, Char(1, 3), Char(5, 1)])),
        13 if fs::symlink_metadata(&at).is_ok() => {
            set_mtime(&at, r.time());
            Ok(())
        }
        14 => fs::remove_dir_all(&at).and_then(|()| fs::create_dir(&at)),
        // What the parent tree has, as an archive would put it back.
        15..17 => put_back(o, &path),
        17 => put_back(o, &path).map(|()| {
            if parent.exists() {
                set_mtime(&parent, SOME_TIME);
            }
        }),
        _ => fs::remove_dir_all(&at).and_then(|()| put_back(o, &path)),
    };
    format!("{what} {path} {other}: {}", done.map_or_else(|e| e.kind().to_string(), |()| "done".into()))
}

fn put_back(o: &Overlay, path: &str) -> std::io::Result<()> {
    let Some(id) = o.tree.lookup(path.as_bytes()) else { return Ok(()) };
    let at = o.at(path);
    if fs::symlink_metadata(&at).is_ok_and(|m| !m.is_dir()) {
        fs::remove_file(&at)?;
    }
    if o.tree.inode(id).is_dir() {
        let _ = fs::create_dir(&at);
        crate::export::write_tree(&o.tree, id, &content(), &at).map_err(std::io::Error::other)?;
        let a = &o.tree.inode(id).attrs;
        chown(&at, Some(a.uid), Some(a.gid))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(a.mode))?;
        set_mtime(&at, a.mtime);
        return Ok(());
    }
    let mut e = o.tree.inode(id).to_entry(b"one".to_vec());
    e.attrs.xattrs = oci::index::Xattrs::new();
    let (one, dir) = (tree_of(vec![e]), tempfile::tempdir_in(o.at(""))?);
    crate::export::write_tree(&one, oci::tree::ROOT, &content(), dir.path())
        .map_err(std::io::Error::other)?;
    fs::rename(dir.path().join("one"), &at)
}

/// Everything but the root's time, which no layer holds.
fn facts(tree: &Tree) -> Vec<(String, Time)> {
    let entries = tree.flatten();
    let times = entries.iter().filter(|e| !e.path.is_empty()).map(|e| e.attrs.mtime);
    lines(tree).into_iter().zip(times).collect()
}

#[test]
fn a_layer_on_its_parent_is_what_the_step_saw() {
    let Some((_dir, store)) = store() else { return };
    for seed in 1..=200u64 {
        let mut r = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let o = Overlay::new(&parent(&mut r), &store);
        let steps = 1 + r.below(12);
        let story: Vec<String> = (0..steps).map(|_| step(&o, &mut r)).collect();
        let seen = o.seen();
        let layer = o.commit().unwrap();
        let mut after = o.tree.clone();
        after.apply(&layer).unwrap();
        let (got, want) = (facts(&after), facts(&seen));
        let wrong: Vec<_> = got.iter().filter(|f| !want.contains(f)).collect();
        let missing: Vec<_> = want.iter().filter(|f| !got.contains(f)).collect();
        assert!(
            wrong.is_empty() && missing.is_empty(),
            "seed {seed}\nparent: {:?}\nsteps: {story:#?}\nlayer: {:#?}\nwrong: {wrong:?}\nmissing: {missing:?}",
            lines(&o.tree),
            layer_lines(&layer)
        );
    }
}
