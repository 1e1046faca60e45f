//! `--cutoff=noise`: results that differ only in what no program goes by.
//!
//! A step that runs again seldom makes the same bytes: `apt-get` writes the time into its logs, Python the time of a source into
//! what it compiled from it. Early cut-off takes the earlier layer of a step if the new one equals it in all but times; with
//! `--cutoff=noise` the following does not count either:
//!
//! | files | what of them | why |
//! |---|---|---|
//! | `/var/log/apt/{history.log,term.log,eipp.log.xz}`, `/var/log/dpkg.log`, `/var/log/alternatives.log` | bytes | logs: dates, process numbers, progress |
//! | `/var/cache/apt/{pkgcache.bin,srcpkgcache.bin}` | bytes | made from the lists of packages whenever they are missing or older |
//! | `/var/cache/ldconfig/aux-cache` | bytes | inodes and times of libraries, so that `ldconfig` need not read them; checked against them |
//! | `*.pyc` of Python 3.7 and later | the time of the source in the header | Python compares it with the source, and compiles again if they differ |
//!
//! Names, types, modes, owners and attributes of these files count, and whether they are there. A file with a second name counts
//! whole: the other name is not on the list. A `.pyc` differs in noise only if it names its source by time (not by hash), and the earlier
//! one fits the source that later steps will see: that of the earlier layer or, if it has none, of the parent. So nothing is compiled
//! again that would not have been.
//!
//! Why later steps are right: they start from the layer that was taken, not from the one that was thrown away, and their records say
//! what they saw. What the user gives up is that the listed files tell of the newest run. Records of such results are marked, and
//! a build with `--cutoff=exact` does not use them.

use std::collections::HashSet;

use oci::index::{join, split};
use oci::tree::Node;
use oci::{Content, Digest, Entry, Kind, LayerIndex, Tree};

const FILES: [&[u8]; 8] = [
    b"var/log/apt/history.log",
    b"var/log/apt/term.log",
    b"var/log/apt/eipp.log.xz",
    b"var/log/dpkg.log",
    b"var/log/alternatives.log",
    b"var/cache/apt/pkgcache.bin",
    b"var/cache/apt/srcpkgcache.bin",
    b"var/cache/ldconfig/aux-cache",
];

/// Larger compiled files are compared as they are.
const LARGEST_PYC: u64 = 16 << 20;

/// Whether two layers differ in nothing but noise and times. `parent` is the tree that the new one was made on.
pub(crate) fn same_but_noise(
    new: &LayerIndex,
    old: &LayerIndex,
    parent: &Tree,
    content: &dyn Content,
) -> bool {
    if new.entries().len() != old.entries().len() {
        return false;
    }
    let linked: HashSet<&[u8]> = [new, old]
        .iter()
        .flat_map(|l| l.entries())
        .filter_map(|e| match &e.kind {
            Kind::HardLink { target } => Some(target.as_slice()),
            _ => None,
        })
        .collect();
    new.entries().iter().zip(old.entries()).all(|(n, o)| {
        let (a, b) = (&n.attrs, &o.attrs);
        let attrs = (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs);
        if n.path != o.path || !attrs {
            return false;
        }
        if n.kind == o.kind {
            return true;
        }
        let (Kind::File { size, digest }, Kind::File { size: old_size, digest: old_digest }) =
            (&n.kind, &o.kind)
        else {
            return false;
        };
        if linked.contains(n.path.as_slice()) {
            return false;
        }
        let is_pyc = n.path.ends_with(b".pyc") && size == old_size && *size <= LARGEST_PYC;
        FILES.contains(&n.path.as_slice())
            || is_pyc && same_code(o, digest, old_digest, *size, old, parent, content).unwrap_or(false)
    })
}

/// Whether two compiled files differ only in the time of their source, and the old one fits its source.
fn same_code(
    entry: &Entry,
    new: &Digest,
    old: &Digest,
    size: u64,
    layer: &LayerIndex,
    parent: &Tree,
    content: &dyn Content,
) -> Option<bool> {
    let read = |d: &Digest| content.read_all(d, size).ok();
    let (new, old) = (read(new)?, read(old)?);
    let (head, old_head) = (new.get(..16)?, old.get(..16)?);
    // Magic, flags (0: by time), time of the source, size of the source.
    let by_time = head[4..8] == [0; 4] && old_head[4..8] == [0; 4];
    if !by_time || head[..4] != old_head[..4] || new[12..] != old[12..] {
        return Some(false);
    }
    let path = source_of(&entry.path)?;
    let modified = match layer.get(&path) {
        Some(Entry { kind: Kind::File { .. }, attrs, .. }) => attrs.mtime,
        Some(_) => return Some(false),
        None => {
            let inode = parent.inode(parent.lookup(&path)?);
            matches!(inode.node, Node::File { .. }).then_some(inode.attrs.mtime)?
        }
    };
    // Python keeps the lowest 32 bits.
    Some((modified.secs as u32).to_le_bytes() == old_head[8..12])
}

/// `a/__pycache__/b.cpython-312.pyc` and `a/b.pyc` come from `a/b.py`.
fn source_of(pyc: &[u8]) -> Option<Vec<u8>> {
    let (dir, name) = split(pyc);
    let stem = name.split(|&c| c == b'.').next().filter(|s| !s.is_empty())?;
    let (above, last) = split(dir);
    let dir = if last == b"__pycache__" { above } else { dir };
    Some(join(dir, &[stem, b".py"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Time;
    use oci::index::Attrs;
    use std::collections::HashMap;
    use std::io;
    use std::sync::Arc;

    #[derive(Default)]
    struct Memory(HashMap<Digest, Vec<u8>>);

    impl Content for Memory {
        fn open(&self, digest: &Digest) -> io::Result<Arc<dyn oci::content::ReadAt>> {
            match self.0.get(digest) {
                Some(b) => Ok(Arc::new(b.clone())),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    struct World {
        content: Memory,
        parent: Tree,
    }

    impl World {
        fn new() -> World {
            World { content: Memory::default(), parent: Tree::new() }
        }

        fn file(&mut self, path: &str, bytes: &[u8], secs: i64) -> Entry {
            let digest = Digest::of(bytes);
            self.content.0.insert(digest, bytes.to_vec());
            Entry {
                path: path.into(),
                kind: Kind::File { size: bytes.len() as u64, digest },
                attrs: Attrs { mode: 0o644, mtime: Time::from_secs(secs), ..Attrs::default() },
            }
        }

        fn same(&self, new: &[Entry], old: &[Entry]) -> bool {
            let layer = |e: &[Entry]| LayerIndex::from_entries(e.to_vec()).unwrap();
            same_but_noise(&layer(new), &layer(old), &self.parent, &self.content)
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        let attrs = Attrs { mode: 0o644, ..Attrs::default() };
        Entry { path: path.into(), kind: Kind::HardLink { target: target.into() }, attrs }
    }

    #[test]
    fn listed_files_may_differ_in_their_bytes_and_in_nothing_else() {
        let mut w = World::new();
        let rest = w.file("usr/bin/x", b"x", 1);
        let log = w.file("var/log/dpkg.log", b"12:00", 1);
        let later = w.file("var/log/dpkg.log", b"12:00:01", 2);
        let with = |e: &Entry| vec![rest.clone(), e.clone()];
        assert!(w.same(&with(&later), &with(&log)));
        let other = w.file("usr/bin/x", b"y", 1);
        assert!(!w.same(&[other, log.clone()], &with(&log)), "another file");
        assert!(!w.same(std::slice::from_ref(&rest), &with(&log)), "the log is missing");
        let mut mode = later.clone();
        mode.attrs.mode = 0o600;
        assert!(!w.same(&with(&mode), &with(&log)), "a mode");
        let dir = Entry { kind: Kind::Directory { opaque: false }, ..log.clone() };
        assert!(!w.same(&with(&dir), &with(&log)), "a type");
        let unlisted = [w.file("var/log/other.log", b"1", 1), w.file("var/log/other.log", b"2", 1)];
        assert!(!w.same(&unlisted[..1], &unlisted[1..]), "a log that is not listed");
        let named = |e: &Entry| vec![e.clone(), link("var/log/dpkg.log2", "var/log/dpkg.log")];
        assert!(w.same(&named(&log), &named(&log)));
        assert!(!w.same(&named(&later), &named(&log)), "its other name shows the bytes");
    }

    fn pyc(flags: u32, time: u32, code: &[u8]) -> Vec<u8> {
        let parts = [0x0a0d_0dcb_u32, flags, time, 7].map(u32::to_le_bytes);
        [parts.concat(), code.to_vec()].concat()
    }

    #[test]
    fn compiled_python_may_name_another_time() {
        let mut w = World::new();
        let name = "lib/__pycache__/m.cpython-312.pyc";
        let built = |w: &mut World, flags, time: u32, code: &[u8], source: i64| {
            vec![w.file(name, &pyc(flags, time, code), 5), w.file("lib/m.py", b"x = 1\n\n", source)]
        };
        let old = built(&mut w, 0, 100, b"code", 100);
        let new = built(&mut w, 0, 200, b"code", 200);
        assert!(w.same(&new, &old));
        let other = built(&mut w, 0, 200, b"CODE", 200);
        assert!(!w.same(&other, &old), "other code");
        let (hashed, was) = (built(&mut w, 1, 200, b"code", 200), built(&mut w, 1, 100, b"code", 100));
        assert!(!w.same(&hashed, &was), "a hash is no time");
        let stale = built(&mut w, 0, 100, b"code", 101);
        assert!(!w.same(&new, &stale), "the earlier one does not fit its own source");
        // The source lies below: what counts is whether the earlier file fits what is there now.
        let source = w.file("lib/m.py", b"x = 1\n\n", 200);
        w.parent = Tree::from_layers([&LayerIndex::from_entries(vec![source]).unwrap()]).unwrap();
        assert!(!w.same(&new[..1], &old[..1]));
        assert!(w.same(&old[..1], &new[..1]));
        let mut torn = new.clone();
        torn[0] = w.file(name, b"short", 1);
        assert!(!w.same(&torn, &old));
    }

    #[test]
    fn sources() {
        let of = |p: &str| source_of(p.as_bytes()).map(|s| String::from_utf8(s).unwrap());
        assert_eq!(of("a/__pycache__/b.cpython-312.opt-1.pyc").as_deref(), Some("a/b.py"));
        assert_eq!(of("a/b.pyc").as_deref(), Some("a/b.py"));
        assert_eq!(of("__pycache__/b.x.pyc").as_deref(), Some("b.py"));
        assert_eq!(of("a/.pyc"), None);
    }
}
