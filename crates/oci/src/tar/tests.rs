//! What a layer's stream means, member by member, and what is refused.

use std::io::{self, Read};

use super::header::{self, Fields};
use super::*;
use crate::Tree;
use crate::content::{Content, ContentSink, MemoryContent};
use crate::digest::Digest;
use crate::index::{Attrs, Entry, IndexError, Kind, LayerIndex, Xattrs};
use crate::time::Time;

mod own;

const PLAIN: Fields<'static> = Fields {
    name: b"",
    flag: b'0',
    link: b"",
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 7,
    device: (0, 0),
    xattrs: &[],
};

/// A stream under construction.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn put(mut self, fields: Fields<'_>, data: &[u8]) -> Tar {
        self.0.extend(header::encode(&fields));
        self.data(data)
    }
    fn data(mut self, data: &[u8]) -> Tar {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }
    fn file(self, name: &str, text: &str) -> Tar {
        self.put(Fields { name: name.as_bytes(), size: text.len() as u64, ..PLAIN }, text.as_bytes())
    }
    fn dir(self, name: &str, mode: u32) -> Tar {
        self.put(Fields { name: name.as_bytes(), flag: b'5', mode, ..PLAIN }, b"")
    }
    fn link(self, name: &str, target: &str) -> Tar {
        self.put(Fields { name: name.as_bytes(), flag: b'1', link: target.as_bytes(), ..PLAIN }, b"")
    }
    fn symlink(self, name: &str, target: &str) -> Tar {
        self.put(Fields { name: name.as_bytes(), flag: b'2', link: target.as_bytes(), ..PLAIN }, b"")
    }
    /// An extension header before the next member: `x`, `g`, `L` or `K`.
    fn extension(self, flag: u8, data: &[u8]) -> Tar {
        self.put(Fields { name: b"ext", flag, size: data.len() as u64, ..PLAIN }, data)
    }
    fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (k, v) in records {
            header::put_pax(&mut data, k.as_bytes(), v);
        }
        self.extension(b'x', &data)
    }
    /// A header with bytes changed after the fact, and a right checksum.
    fn patched(mut self, fields: Fields<'_>, patches: &[(usize, &[u8])]) -> Tar {
        let mut block = header::encode(&fields);
        for (at, bytes) in patches {
            block[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self
    }
    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
    fn read(self) -> Result<Layer, TarError> {
        read_bytes(&self.end())
    }
    fn problem(self) -> Problem {
        match self.read() {
            Ok(l) => panic!("taken as {:?}", l.index.entries()),
            Err(e) => *e.problem,
        }
    }
}

#[derive(Debug)]
struct Layer {
    index: LayerIndex,
    content: MemoryContent,
}

impl Layer {
    /// `path:what` of every entry, in order.
    fn list(&self) -> Vec<String> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let what = |e: &Entry| match &e.kind {
            Kind::Directory { opaque: false } => format!("dir {:o}", e.attrs.mode),
            Kind::Directory { opaque: true } => format!("opaque {:o}", e.attrs.mode),
            Kind::File { digest, .. } => {
                format!("={}", text(&self.content.read_all(digest, 1 << 24).unwrap()))
            }
            Kind::HardLink { target } => format!("=>{}", text(target)),
            Kind::Symlink { target } => format!("->{}", text(target)),
            Kind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            Kind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            Kind::Fifo => "fifo".into(),
            Kind::Whiteout => "gone".into(),
        };
        self.index.entries().iter().map(|e| format!("{}:{}", text(&e.path), what(e))).collect()
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Layer, TarError> {
    let mut content = MemoryContent::default();
    let index = read_layer(bytes, &mut content, &Limits::default())?;
    Ok(Layer { index, content })
}

fn list(tar: Tar) -> Vec<String> {
    tar.read().unwrap().list()
}

/// An index with everything that the format has a form for, and its contents.
fn rich() -> (LayerIndex, MemoryContent) {
    let mut content = MemoryContent::default();
    let big: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    let mut file = |path: Vec<u8>, bytes: &[u8], attrs: Attrs| Entry {
        path,
        kind: Kind::File { size: bytes.len() as u64, digest: content.add(bytes) },
        attrs,
    };
    let attrs =
        |mode, uid, gid, secs| Attrs { mode, uid, gid, mtime: Time::from_secs(secs), xattrs: Xattrs::new() };
    let mut with_xattrs = attrs(0o755, 0, 0, 1);
    with_xattrs.xattrs = vec![
        (b"security.capability".to_vec(), b"\x01\0\0\x02\n\0\n12 path=evil\n\0\xff".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.\xffname".to_vec(), b"=".to_vec()),
    ]
    .into();
    let mut entries = vec![
        file(b"big".to_vec(), &big, attrs(0o4755, 1, 2, 1_700_000_000)),
        file(b"block".to_vec(), &big[..512], attrs(0o600, 0, 0, 0)),
        file(b"empty".to_vec(), b"", attrs(0, 0, 0, -1)),
        file(b"caf\xe9".to_vec(), b"latin", attrs(0o644, u32::MAX, 3_000_000, i64::from(i32::MIN))),
        file("zażółć".into(), b"utf", attrs(0o644, 0o7777777, 0o10000000, 0o77777777777)),
        file([b'n'; 255].to_vec(), b"long", attrs(0o644, 0, 0, 0o100000000000)),
        file(b"caps".to_vec(), b"x", with_xattrs),
        file(
            [&[b'd'; 200][..], b"/", &[b'e'; 200], b"/", &[b'f'; 99]].concat(),
            b"deep",
            attrs(0o644, 0, 0, 5),
        ),
        file(b"line\nbreak".to_vec(), b"lf", attrs(0o644, 0, 0, 5)),
    ];
    let mut more =
        |path: &[u8], kind| entries.push(Entry { path: path.to_vec(), kind, attrs: attrs(0o755, 5, 6, 9) });
    more(b"", Kind::Directory { opaque: false });
    more(b"opq", Kind::Directory { opaque: true });
    more(b"opq/d", Kind::Directory { opaque: false });
    more(&[&[b'p'; 150][..], b"/", &[b'q'; 99]].concat(), Kind::Directory { opaque: false });
    more(b"z-link", Kind::HardLink { target: b"big".to_vec() });
    more(b"a-lower-link", Kind::HardLink { target: b"usr/bin/perl".to_vec() });
    more(b"sym", Kind::Symlink { target: [b't'; 3000].to_vec() });
    more(b"sym2", Kind::Symlink { target: b"../../x\xff".to_vec() });
    more(b"sym3", Kind::HardLink { target: b"sym2".to_vec() });
    more(b"tty", Kind::CharDevice { major: 4, minor: 0xfffff });
    more(b"disk", Kind::BlockDevice { major: 259, minor: u32::MAX });
    more(b"pipe", Kind::Fifo);
    entries.push(Entry::whiteout(b"usr/gone".to_vec()));
    entries.push(Entry::whiteout(b".dot".to_vec()));
    entries.push(Entry::whiteout([b'w'; 255].to_vec()));
    (LayerIndex::from_entries(entries).unwrap(), content)
}

fn write(index: &LayerIndex, content: &MemoryContent) -> Vec<u8> {
    let mut out = Vec::new();
    write_layer(index, content, &mut out).unwrap();
    out
}

#[test]
fn reading_gives_back_what_was_written() {
    let (index, content) = rich();
    let bytes = write(&index, &content);
    let back = read_bytes(&bytes).unwrap();
    assert_eq!(back.index.entries(), index.entries());
    assert_eq!(back.index.id(), index.id());
    assert_eq!(write(&back.index, &back.content), bytes);
}

#[test]
fn written_times_are_whole_seconds_and_not_later_than_asked() {
    let mut content = MemoryContent::default();
    let digest = content.add(b"x");
    let at = |path: &str, secs, nanos| Entry {
        path: path.into(),
        kind: Kind::File { size: 1, digest },
        attrs: Attrs { mtime: Time { secs, nanos }, ..Attrs::default() },
    };
    let index =
        LayerIndex::from_entries(vec![at("a", 5, 999_999_999), at("b", -5, 1), at("c", 100, 0)]).unwrap();
    let times = |bytes: &[u8]| -> Vec<Time> {
        read_bytes(bytes).unwrap().index.entries().iter().map(|e| e.attrs.mtime).collect()
    };
    assert_eq!(times(&write(&index, &content)), [5, -5, 100].map(Time::from_secs));
    let mut out = Vec::new();
    write_layer_with(&index, &content, &mut out, &WriteOptions { clamp_mtime: Some(50) }).unwrap();
    assert_eq!(times(&out), [5, -5, 50].map(Time::from_secs));
}

#[test]
fn the_form_of_what_is_written() {
    let mut content = MemoryContent::default();
    let digest = content.add(b"hello");
    let attrs = Attrs { mode: 0o640, uid: 1000, gid: 50, mtime: Time::from_secs(1), xattrs: Xattrs::new() };
    let index = LayerIndex::from_entries(vec![
        Entry { path: b"d".to_vec(), kind: Kind::Directory { opaque: true }, attrs: attrs.clone() },
        Entry { path: b"d/f".to_vec(), kind: Kind::File { size: 5, digest }, attrs },
        Entry::whiteout(b"d/x".to_vec()),
    ])
    .unwrap();
    let bytes = write(&index, &content);
    assert_eq!(bytes.len(), 512 * (1 + 1 + 2 + 1 + 2));
    let name = |n: usize| {
        String::from_utf8(bytes[n * 512..n * 512 + 100].iter().copied().take_while(|&c| c != 0).collect())
    };
    assert_eq!([0, 1, 2, 4].map(|n| name(n).unwrap()), ["d/", "d/.wh..wh..opq", "d/f", "d/.wh.x"]);
    assert_eq!(
        &bytes[1024 + 100..1024 + 148],
        b"0000640\x000001750\x000000062\x0000000000005\x0000000000001\0"
    );
    assert_eq!(&bytes[4 * 512 + 100..4 * 512 + 108], b"0000000\0");
    assert_eq!(&bytes[257..345], &[&b"ustar\x0000"[..], &[0; 64], b"0000000\x000000000\0"].concat()[..]);
    assert!(bytes[5 * 512..].iter().all(|&b| b == 0));
}

#[test]
fn pax_records_are_sorted() {
    let index = LayerIndex::from_entries(vec![Entry {
        path: "é".into(),
        kind: Kind::Symlink { target: "ü".into() },
        attrs: Attrs {
            uid: 1 << 30,
            gid: 1 << 30,
            mtime: Time::from_secs(-1),
            xattrs: vec![(b"user.b".to_vec(), b"2".to_vec()), (b"user.a".to_vec(), b"1".to_vec())].into(),
            mode: 0,
        },
    }])
    .unwrap();
    let bytes = write(&index, &MemoryContent::default());
    let length = header::number(&bytes[124..136]).unwrap() as usize;
    let records = header::pax_records(&bytes[512..512 + length]).unwrap();
    let keys: Vec<_> = records.iter().map(|(k, _)| String::from_utf8_lossy(k)).collect();
    assert_eq!(
        keys,
        ["SCHILY.xattr.user.a", "SCHILY.xattr.user.b", "gid", "linkpath", "mtime", "path", "uid"]
    );
}

#[test]
fn the_tar_crate_reads_the_same() {
    let (index, content) = rich();
    let bytes = write(&index, &content);
    let mut theirs = ::tar::Archive::new(&bytes[..]);
    let mut seen = 0;
    for entry in theirs.entries().unwrap() {
        let mut entry = entry.unwrap();
        let raw = entry.path_bytes().into_owned();
        let path = raw.strip_suffix(b"/").unwrap_or(&raw);
        let Some(ours) = index.get(if path == b"." { b"" } else { path }) else { continue };
        if let Kind::File { size, digest } = ours.kind {
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            assert_eq!((data.len() as u64, Digest::of(&data)), (size, digest), "{raw:?}");
        }
        assert_eq!(entry.header().uid().unwrap(), u64::from(ours.attrs.uid), "{raw:?}");
        seen += 1;
    }
    let hidden = index.entries().iter().filter(|e| matches!(e.kind, Kind::Whiteout)).count();
    assert_eq!(seen, index.entries().len() - hidden);
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let content = MemoryContent::default();
    let entry = |path: &str, kind| Entry { path: path.into(), kind, attrs: Attrs::default() };
    let fails = |e: Entry, content: &dyn Content| {
        write_layer(&LayerIndex::from_entries(vec![e]).unwrap(), content, io::sink()).unwrap_err()
    };
    assert!(matches!(fails(entry("d/.wh.x", Kind::Fifo), &content), WriteError::WhiteoutName(_)));
    assert!(matches!(fails(entry(".wh.x/f", Kind::Fifo), &content), WriteError::WhiteoutName(_)));
    let mut odd = entry("f", Kind::Fifo);
    odd.attrs.xattrs = vec![(b"user.a=b".to_vec(), Vec::new())].into();
    assert!(matches!(fails(odd, &content), WriteError::Xattr { .. }));
    let mut content = MemoryContent::default();
    let digest = content.add(b"12345");
    for size in [0, 4, 6, u64::MAX] {
        let e = fails(entry("f", Kind::File { size, digest }), &content);
        assert!(matches!(e, WriteError::Size { .. }), "{size}: {e}");
    }
    let missing = Kind::File { size: 3, digest: Digest::of(b"abc") };
    assert!(matches!(fails(entry("f", missing), &content), WriteError::Content { .. }));
}

#[test]
fn names_are_relative_to_the_root() {
    assert_eq!(
        list(
            Tar::default()
                .file("/abs", "1")
                .file("./b/./c", "2")
                .file("x/../y", "3")
                .dir("./", 0o700)
                .dir("d//", 0o755)
        ),
        [":dir 700", "abs:=1", "b/c:=2", "d:dir 755", "y:=3"]
    );
    for bad in ["..", "../x", "/../x", "a/../../x", "./.././x"] {
        assert!(matches!(Tar::default().file(bad, "").problem(), Problem::Escape("name")), "{bad}");
        assert!(matches!(Tar::default().link("h", bad).problem(), Problem::Escape("link target")), "{bad}");
    }
    assert!(matches!(Tar::default().file("", "").problem(), Problem::Name("name")));
    assert!(matches!(Tar::default().file(&"n".repeat(256), "").problem(), Problem::Name("name")));
    assert!(matches!(Tar::default().file(&"n/".repeat(2100), "").problem(), Problem::Name("name")));
    assert!(matches!(Tar::default().symlink("l", "").problem(), Problem::Name("link target")));
    assert!(matches!(
        Tar::default().pax(&[("path", b"x\0y")]).file("f", "").problem(),
        Problem::Name("name")
    ));
    assert!(matches!(Tar::default().file("/", "root").problem(), Problem::Root));
    assert!(matches!(Tar::default().symlink("/", "x").problem(), Problem::Root));
}

#[test]
fn the_last_of_equal_names_counts() {
    assert_eq!(list(Tar::default().file("a", "1").file("a", "2")), ["a:=2"]);
    assert_eq!(list(Tar::default().file("a", "old").link("b", "a").file("a", "new")), ["a:=new", "b:=old"]);
    assert_eq!(
        list(Tar::default().file("a", "old").link("b", "a").link("c", "b").file("b", "new")),
        ["a:=old", "b:=new", "c:=>a"]
    );
    assert_eq!(
        list(Tar::default().file("d/f", "1").dir("d", 0o700).dir("d", 0o711)),
        ["d:dir 711", "d/f:=1"]
    );
    assert_eq!(
        list(Tar::default().dir("d", 0o755).file("d/f", "1").file("d.x", "2").file("d", "3")),
        ["d:=3", "d.x:=2"]
    );
    assert_eq!(
        list(Tar::default().symlink("l", "d").dir("l/", 0o755).file("l/n", "n")),
        ["l:dir 755", "l/n:=n"]
    );
    assert_eq!(list(Tar::default().file("l/n", "n").symlink("l", "d")), ["l:->d"]);
}

#[test]
fn entries_below_links_and_files() {
    assert_eq!(list(Tar::default().symlink("l", "/tmp").file("l/x", "1")), ["l:->/tmp", "l/x:=1"]);
    assert!(matches!(
        Tar::default().symlink("l", "d").file("l/x", "1").dir("l", 0o755).problem(),
        Problem::LinkWritten
    ));
    let below = |tar: Tar| matches!(tar.problem(), Problem::Index(IndexError::BelowFile { .. }));
    assert!(below(Tar::default().file("f", "").file("f/x/y", "")));
    assert!(below(Tar::default().file("f", "").link("g", "f").file("g/x", "")));
    assert_eq!(
        list(Tar::default().file("f", "").file("f-x/y", "").file("f.x", "")),
        ["f:=", "f-x/y:=", "f.x:="]
    );
}

#[test]
fn hard_links() {
    assert_eq!(
        list(Tar::default().file("a", "1").link("b", "/a").link("c", "./b")),
        ["a:=1", "b:=>a", "c:=>a"]
    );
    assert_eq!(list(Tar::default().symlink("s", "x").link("h", "s")), ["h:->x", "s:=>h"]);
    assert_eq!(list(Tar::default().file("a", "1").link("a", "a")), ["a:=1"]);
    assert_eq!(list(Tar::default().link("h", "lower").link("i", "h")), ["h:=>lower", "i:=>lower"]);
    let through = Tar::default().symlink("l", "/d").file("d/f", "1").link("h", "l/f");
    assert_eq!(list(through), ["d/f:=1", "h:=>d/f", "l:->/d"]);
    let circle = Tar::default().symlink("l", "l/x").link("h", "l/f");
    assert_eq!(list(circle), ["h:=>l/f", "l:->l/x"]);
    assert!(matches!(Tar::default().link("h", "h").problem(), Problem::Link(_)));
    assert!(matches!(Tar::default().dir("d", 0o755).link("h", "d").problem(), Problem::Link(_)));
    assert!(matches!(Tar::default().file("d/f", "").link("h", "d").problem(), Problem::Link(_)));
    assert!(matches!(Tar::default().link("h", "/").problem(), Problem::Link(_)));
    assert!(matches!(Tar::default().link("h", "b").file("b", "new").problem(), Problem::LinkReplaced(_)));
    for later in [".wh.b", "b/f", "b/.wh.f"] {
        let problem = Tar::default().link("h", "b").file(later, "").problem();
        assert!(matches!(problem, Problem::Index(IndexError::Link { .. })), "{later}");
    }
}

#[test]
fn whiteouts() {
    assert_eq!(list(Tar::default().file("a/.wh.x", "").dir(".wh.d", 0o755)), ["a/x:gone", "d:gone"]);
    assert_eq!(list(Tar::default().file(".wh.f", "").file("f", "1")), ["f:=1"]);
    assert_eq!(list(Tar::default().file("f", "1").file(".wh.f", "")), ["f:=1"]);
    assert_eq!(list(Tar::default().file(".wh.d", "").dir("d", 0o700)), ["d:opaque 700"]);
    assert_eq!(
        list(Tar::default().dir("d", 0o700).file("d/n", "n").file("d/.wh..wh..opq", "")),
        ["d:opaque 700", "d/n:=n"]
    );
    assert_eq!(list(Tar::default().file("d/.wh..wh..opq", "").file("d/n", "n")), ["d:opaque 755", "d/n:=n"]);
    assert_eq!(list(Tar::default().file("d/.wh..wh..opq", "").file(".wh.d", "")), ["d:opaque 755"]);
    assert_eq!(list(Tar::default().file(".wh..wh..opq", "")), [":opaque 755"]);
    assert_eq!(list(Tar::default().file(".wh.d", "").file("d/n", "n")), ["d:gone", "d/n:=n"]);
    assert_eq!(list(Tar::default().file(".wh..x", "")), [".x:gone"]);
    let aufs =
        Tar::default().file(".wh..wh.aufs", "").dir(".wh..wh.plnk", 0o700).file("a/.wh..wh.plnk/1.2", "x");
    assert_eq!(list(aufs), [""; 0]);
    for bad in [".wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
        assert!(matches!(Tar::default().file(bad, "").problem(), Problem::Whiteout), "{bad}");
    }
    let below = Tar::default().symlink("l", "/tmp").file("l/.wh..wh..opq", "");
    assert!(matches!(below.problem(), Problem::BelowFile(_)));
}

#[test]
fn a_marker_without_its_directory_leaves_the_directory_as_it_is() {
    let base = Tar::default().dir("d", 0o2750).file("d/old", "o").read().unwrap().index;
    let upper = Tar::default().file("d/.wh..wh..opq", "").file("d/new", "n").file("none/.wh..wh..opq", "");
    let mut upper = upper.read().unwrap().index;
    // Also from the store, which holds the index as bytes.
    upper = crate::LayerIndex::decode(&upper.encode().1).unwrap().1;
    let tree = Tree::from_layers([&base, &upper]).unwrap();
    assert!(tree.lookup(b"d/old").is_none() && tree.lookup(b"d/new").is_some());
    let attrs = |path: &[u8]| tree.inode(tree.lookup(path).unwrap()).attrs.clone();
    assert_eq!(attrs(b"d").mode, 0o2750);
    assert_eq!((attrs(b"none").mode, attrs(b"none").mtime), (0o755, crate::Time::default()));
    let named = Tar::default().dir("d", 0o700).file("d/.wh..wh..opq", "").read().unwrap().index;
    let tree = Tree::from_layers([&base, &named]).unwrap();
    assert_eq!(tree.inode(tree.lookup(b"d").unwrap()).attrs.mode, 0o700);
}

#[test]
fn a_whiteout_hides_only_what_lies_below_the_layer() {
    let base = Tar::default().dir("d", 0o755).file("d/old", "o").file("f", "o").read().unwrap().index;
    for upper in [
        Tar::default()
            .dir("d", 0o755)
            .file("d/new", "n")
            .file("d/.wh..wh..opq", "")
            .file("f", "n")
            .file(".wh.f", ""),
        Tar::default()
            .file(".wh.f", "")
            .file("f", "n")
            .file("d/.wh..wh..opq", "")
            .dir("d", 0o755)
            .file("d/new", "n"),
        Tar::default().file(".wh.d", "").file("d/new", "n").file("f", "n"),
    ] {
        let upper = upper.read().unwrap().index;
        let tree = Tree::from_layers([&base, &upper]).unwrap();
        assert!(tree.lookup(b"d/old").is_none());
        assert!(tree.lookup(b"d/new").is_some());
        assert!(tree.lookup(b"f").is_some());
    }
}

#[test]
fn in_a_root_file_system_no_name_is_special() {
    let bytes = Tar::default().file(".wh.f", "1").file("d/.wh..wh..opq", "2").end();
    let mut content = MemoryContent::default();
    let options = ReadOptions { whiteouts: false };
    let index = read_layer_with(&bytes[..], &mut content, &Limits::default(), options).unwrap();
    assert_eq!(Layer { index, content }.list(), [".wh.f:=1", "d/.wh..wh..opq:=2"]);
    let mut seen = Vec::new();
    read_archive(&bytes[..], &Limits::default(), &mut |m, body| {
        let mut text = String::new();
        body.read_to_string(&mut text)?;
        seen.push((m.path.clone(), m.offset, text));
        Ok(())
    })
    .unwrap();
    assert_eq!(
        seen,
        [(b".wh.f".to_vec(), 0, "1".to_owned()), (b"d/.wh..wh..opq".to_vec(), 1024, "2".to_owned())]
    );
}

#[test]
fn a_visitors_own_error_is_told_from_the_streams() {
    let bytes = Tar::default().file("f", "12345").end();
    let error =
        read_archive(&bytes[..], &Limits::default(), &mut |_, _| Err(io::Error::other("full"))).unwrap_err();
    assert!(matches!(error.problem(), Problem::Keep(e) if e.to_string() == "full"));
    assert_eq!(error.name(), Some("f"));
    let error = read_archive(&bytes[..515], &Limits::default(), &mut |_, body| {
        io::copy(body, &mut io::sink()).map(drop)
    })
    .unwrap_err();
    assert!(matches!(error.problem(), Problem::Truncated));
}

#[test]
fn attributes() {
    let (capability, empty) = (b"\x01\0\n\xff".to_vec(), Vec::new());
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.b", b"first"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.b", &empty),
            ("uid", b"4294967295"),
            ("gid", b"3000000"),
            ("mtime", b"-1.5"),
        ])
        .file("f", "1");
    let layer = tar.read().unwrap();
    let attrs = &layer.index.get(b"f").unwrap().attrs;
    assert_eq!(*attrs.xattrs, [(b"security.capability".to_vec(), capability), (b"user.b".to_vec(), empty)]);
    assert_eq!((attrs.uid, attrs.gid), (u32::MAX, 3_000_000));
    assert_eq!(attrs.mtime, Time { secs: -2, nanos: 500_000_000 });
    let too_big = Tar::default().pax(&[("uid", b"4294967296")]).file("f", "");
    assert!(matches!(too_big.problem(), Problem::Number("uid")));
    // An empty value takes the header's.
    assert_eq!(list(Tar::default().pax(&[("path", b"x"), ("path", b"")]).file("f", "1")), ["f:=1"]);
}

#[test]
fn sizes_in_pax_headers_move_the_next_header() {
    let tar = Tar::default()
        .pax(&[("size", b"5")])
        .patched(Fields { name: b"f", size: 0, ..PLAIN }, &[])
        .data(b"12345")
        .file("g", "2");
    assert_eq!(list(tar), ["f:=12345", "g:=2"]);
    // A size inside of another record's value is no size.
    let tar = Tar::default().pax(&[("SCHILY.xattr.user.x", b"\n10 size=9\n")]).file("f", "1").file("g", "2");
    assert_eq!(list(tar), ["f:=1", "g:=2"]);
}

#[test]
fn old_dialects() {
    let v7: &[(usize, &[u8])] = &[(257, &[0; 88])];
    assert_eq!(list(Tar::default().patched(Fields { name: b"old/", flag: 0, ..PLAIN }, v7)), ["old:dir 644"]);
    assert_eq!(
        list(Tar::default().patched(Fields { name: b"old", flag: 0, size: 1, ..PLAIN }, v7).data(b"1")),
        ["old:=1"]
    );
    let long = "p/".repeat(150) + "name";
    let gnu = Tar::default()
        .extension(b'L', format!("{long}\0").as_bytes())
        .extension(b'K', b"target\0")
        .link("x", "y");
    assert_eq!(list(gnu), [format!("{long}:=>target")]);
    assert_eq!(list(Tar::default().extension(b'g', b"not even PAX").file("f", "1")), ["f:=1"]);
    let star: &[(usize, &[u8])] = &[(345, b"prefix"), (476, b"00000000005\0"), (508, b"tar\0")];
    assert_eq!(list(Tar::default().patched(Fields { name: b"f", ..PLAIN }, star)), ["prefix/f:="]);
    let gnu_prefix: &[(usize, &[u8])] = &[(257, b"ustar  \0"), (345, b"prefix")];
    assert_eq!(list(Tar::default().patched(Fields { name: b"f", ..PLAIN }, gnu_prefix)), ["prefix/f:="]);
    let gnu_times: &[(usize, &[u8])] = &[(257, b"ustar  \0"), (345, b"00000000005\x0000000000006\0")];
    assert_eq!(list(Tar::default().patched(Fields { name: b"f", ..PLAIN }, gnu_times)), ["f:="]);
    let negative: &[(usize, &[u8])] = &[(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb")];
    let layer = Tar::default().patched(Fields { name: b"f", ..PLAIN }, negative).read().unwrap();
    assert_eq!(layer.index.get(b"f").unwrap().attrs.mtime, Time::from_secs(-5));
}

#[test]
fn devices_and_what_has_no_data() {
    let node = |flag, name| Fields { name, flag, device: (8, 300), ..PLAIN };
    let tar = Tar::default().put(node(b'3', b"c"), b"").put(node(b'4', b"b"), b"").put(node(b'6', b"p"), b"");
    assert_eq!(list(tar), ["b:block 8:300", "c:char 8:300", "p:fifo"]);
    let sized = Tar::default().put(Fields { name: b"d", flag: b'5', size: 3, ..PLAIN }, b"").file("f", "1");
    assert_eq!(list(sized), ["d:dir 644", "f:=1"]);
    let with_data =
        Tar::default().put(Fields { name: b"d", flag: b'5', size: 3, ..PLAIN }, b"abc").file("f", "1");
    assert!(matches!(with_data.problem(), Problem::Checksum));
    assert!(matches!(Tar::default().put(node(b'Z', b"z"), b"").problem(), Problem::Type('Z')));
}

/// A GNU sparse header of a file of 5000 bytes with data at 1000 (3 bytes) and 4990 (2 bytes).
fn sparse_text() -> String {
    let mut want = vec![0u8; 5000];
    want[1000..1003].copy_from_slice(b"abc");
    want[4990..4992].copy_from_slice(b"de");
    String::from_utf8(want).unwrap()
}

#[test]
fn sparse_files_are_read_in_full() {
    let want = format!("s:={}", sparse_text());
    let oct = |n: u32| format!("{n:011o}\0");
    let real = oct(5000);
    let first = [oct(1000), oct(3), oct(4990), oct(2), oct(5000), oct(0)].concat();
    let old = Tar::default()
        .patched(
            Fields { name: b"s", flag: b'S', size: 5, ..PLAIN },
            &[(257, b"ustar  \0"), (386, first.as_bytes()), (483, real.as_bytes())],
        )
        .data(b"abcde")
        .file("t", "next");
    assert_eq!(list(old), [&want, "t:=next"]);
    let mut extension = vec![0u8; 512];
    extension[..24].copy_from_slice([oct(4990), oct(2)].concat().as_bytes());
    let short = [oct(1000), oct(3)].concat();
    let extended = Tar::default()
        .patched(
            Fields { name: b"s", flag: b'S', size: 5, ..PLAIN },
            &[(257, b"ustar  \0"), (386, short.as_bytes()), (482, b"\x01"), (483, real.as_bytes())],
        )
        .data(&extension)
        .data(b"abcde");
    assert_eq!(list(extended), [&want[..]]);
    let v00: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"4990"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    assert_eq!(list(Tar::default().pax(v00).file("s", "abcde")), [&want[..]]);
    let v01: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"5000"), ("GNU.sparse.map", b"1000,3,4990,2"), ("GNU.sparse.name", b"s")];
    assert_eq!(list(Tar::default().pax(v01).file("GNUSparseFile.1/s", "abcde")), [&want[..]]);
    let v10: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let data = format!("{:\0<512}abcde", "2\n1000\n3\n4990\n2\n");
    assert_eq!(list(Tar::default().pax(v10).file("x", &data).file("t", "next")), [&want, "t:=next"]);
}

#[test]
fn nonsense_sparse_maps_are_refused() {
    for (map, size) in [
        ("1000,3,900,2", "5000"),
        ("1000,3,4990,3", "5000"),
        ("1000,3,4999,2", "5000"),
        ("1000,3,4990", "5000"),
        ("1000,5,x", "5000"),
        ("18446744073709551615,5", "5000"),
        ("", "5000"),
    ] {
        let pax: &[(&str, &[u8])] =
            &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        let problem = Tar::default().pax(pax).file("s", "abcde").problem();
        assert!(matches!(problem, Problem::Sparse(_)), "{map}: {problem}");
    }
    let version: &[(&str, &[u8])] = &[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"5")];
    assert!(matches!(Tar::default().pax(version).file("s", "abcde").problem(), Problem::Sparse(_)));
    let v10: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9999999999999999"),
    ];
    let hole = Tar::default().pax(v10).file("s", &format!("{:\0<512}", "0\n"));
    assert!(matches!(hole.problem(), Problem::Limit("bytes of content", _)));
    let endless = Tar::default().pax(v10).file("s", &"7".repeat(600));
    assert!(matches!(endless.problem(), Problem::Sparse(_)));
}

#[test]
fn damaged_streams_are_refused_with_name_and_place() {
    let good = Tar::default().file("a", "1").file("big", &"z".repeat(5000)).file("c", "3").end();
    assert!(read_bytes(&good).is_ok());
    for cut in [1, 511, 512, 1024 + 600, 1024 + 512 + 4999] {
        let e = read_bytes(&good[..cut]).unwrap_err();
        assert!(matches!(e.problem(), Problem::Truncated), "{cut}: {e}");
    }
    // Without padding or end marker nothing is lost.
    assert!(read_bytes(&good[..1024 + 512 + 5000]).is_ok());
    assert!(read_bytes(&good[..good.len() - 1024]).is_ok());
    assert!(read_bytes(b"").is_ok());
    let e = read_bytes(&good[..1024 + 600]).unwrap_err();
    assert_eq!((e.name(), e.offset()), (Some("big"), 1024));
    assert_eq!(e.to_string(), "tar entry \"big\" at byte 1024: the archive is cut off");
    let mut bad = good.clone();
    bad[1024] ^= 1;
    let e = read_bytes(&bad).unwrap_err();
    assert!(matches!(e.problem(), Problem::Checksum));
    assert_eq!(e.offset(), 1024);
    let lone = [&good[..1024], &[0; 512], &good[1024..]].concat();
    assert!(matches!(read_bytes(&lone).unwrap_err().problem(), Problem::LoneZeroBlock));
    for size in [
        &b"77777777777\0"[..],
        b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"12345678901x",
    ] {
        let tar = Tar::default().patched(Fields { name: b"a", ..PLAIN }, &[(124, size)]).data(b"1");
        let problem = tar.problem();
        assert!(
            matches!(problem, Problem::Truncated | Problem::Number("size") | Problem::Limit(..)),
            "{size:?}: {problem}"
        );
    }
}

#[test]
fn extension_headers_are_bounded_and_belong_to_a_member() {
    let huge = Tar::default().patched(Fields { name: b"x", flag: b'x', size: 1 << 32, ..PLAIN }, &[]);
    assert!(matches!(huge.problem(), Problem::Extension(_)));
    assert!(matches!(Tar::default().extension(b'L', b"name").problem(), Problem::NoMember));
    assert!(matches!(
        Tar::default().pax(&[("a", b"b")]).pax(&[("a", b"b")]).file("f", "").problem(),
        Problem::Twice
    ));
    assert!(matches!(Tar::default().extension(b'x', b"nonsense").file("f", "").problem(), Problem::Pax));
}

#[test]
fn limits_hold() {
    let tar = |n: usize| (0..n).fold(Tar::default(), |t, i| t.file(&format!("f{i}"), "12345")).end();
    let read = |bytes: &[u8], limits: Limits| {
        read_layer(bytes, &mut MemoryContent::default(), &limits).err().map(|e| *e.problem)
    };
    let all = Limits { entries: 10, metadata: 20, content: 50 };
    assert!(read(&tar(10), all).is_none());
    assert!(matches!(read(&tar(10), Limits { entries: 9, ..all }), Some(Problem::Limit("members", 9))));
    assert!(matches!(
        read(&tar(10), Limits { metadata: 19, ..all }),
        Some(Problem::Limit("bytes of metadata", 19))
    ));
    assert!(matches!(
        read(&tar(10), Limits { content: 49, ..all }),
        Some(Problem::Limit("bytes of content", 49))
    ));
    let mut tail = tar(1);
    tail.resize(tail.len() + 100, 0);
    assert!(matches!(read(&tail, Limits { content: 50, ..all }), Some(Problem::Limit(..))));
}

#[test]
fn attributes_are_counted_for_every_name() {
    let value = vec![b'x'; 900];
    let named = |links: usize| {
        let t = Tar::default().pax(&[("SCHILY.xattr.user.a", &value)]).file("f", "");
        (0..links).fold(t, |t, i| t.link(&format!("l{i}"), "f")).end()
    };
    let limits = Limits { metadata: 10_000, ..Limits::default() };
    let read = |bytes: &[u8]| read_layer(bytes, &mut MemoryContent::default(), &limits);
    assert_eq!(read(&named(5)).unwrap().entries().len(), 6);
    let e = read(&named(20)).unwrap_err();
    assert!(matches!(e.problem(), Problem::Limit("bytes of metadata", 10_000)), "{e}");
    // Many small ones cost more than their bytes.
    let names: Vec<String> = (0..200).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    let e = read(&Tar::default().pax(&records).file("f", "").end()).unwrap_err();
    assert!(matches!(e.problem(), Problem::Limit("bytes of metadata", 10_000)), "{e}");
}

#[test]
fn holes_are_bounded_before_they_are_read() {
    let sparse = |t: Tar, size: &str| {
        let records: [(&str, &[u8]); 5] = [
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.name", b"big"),
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", b""),
        ];
        t.pax(&records).file("x", "")
    };
    for size in ["17179869185", "18446744073709551615"] {
        let problem = sparse(Tar::default(), size).problem();
        assert!(matches!(problem, Problem::Limit(..)), "{problem}");
    }
    let small = |t| sparse(t, "1000");
    assert_eq!(small(small(Tar::default())).read().unwrap().index.content_bytes(), 1000);
    // Together, too: the limit is one of the archive.
    let two = sparse(sparse(Tar::default(), "10000000000"), "10000000000").end();
    let e = read_archive(&two[..], &Limits::default(), &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(e.problem(), Problem::Limit("bytes of holes in sparse files", _)), "{e}");
}

#[test]
fn the_way_through_links_is_bounded() {
    // Links that lead through each other, and hard links that lead through all of them.
    let deep = "d/".repeat(600) + &"../".repeat(600);
    let mut t = Tar::default();
    for n in 1..38 {
        let target = format!("{deep}l{}\0", n - 1);
        t = t.extension(b'K', target.as_bytes()).symlink(&format!("l{n}"), "x");
    }
    for n in 0..2000 {
        t = t.link(&format!("h{n}"), "l37/none");
    }
    let problem = t.problem();
    assert!(
        matches!(problem, Problem::Limit("steps through symbolic links to the targets of hard links", _)),
        "{problem}"
    );
}

#[test]
fn the_whole_stream_is_read_and_its_errors_are_told() {
    struct Broken(Vec<u8>, usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.1 == self.0.len() {
                return Err(io::Error::other("broken at the end"));
            }
            // Short reads, too.
            let n = buf.len().min(self.0.len() - self.1).min(100);
            buf[..n].copy_from_slice(&self.0[self.1..self.1 + n]);
            self.1 += n;
            Ok(n)
        }
    }
    let bytes = Tar::default().file("f", &"x".repeat(1000)).end();
    for cut in [300, 700, bytes.len() - 1024, bytes.len()] {
        let broken = Broken(bytes[..cut].to_vec(), 0);
        let e = read_layer(broken, &mut MemoryContent::default(), &Limits::default()).unwrap_err();
        assert!(matches!(e.problem(), Problem::Read(_)), "{cut}: {e}");
    }
}

#[test]
fn a_sink_that_fails_is_told_from_the_stream() {
    struct Full;
    impl ContentSink for Full {
        fn add(&mut self, _: &mut dyn Read) -> io::Result<(Digest, u64)> {
            Err(io::Error::new(io::ErrorKind::StorageFull, "full"))
        }
    }
    struct Lazy;
    impl ContentSink for Lazy {
        fn add(&mut self, _: &mut dyn Read) -> io::Result<(Digest, u64)> {
            Ok((Digest::of(b""), 0))
        }
    }
    let bytes = Tar::default().file("f", "12").end();
    let e = read_layer(&bytes[..], &mut Full, &Limits::default()).unwrap_err();
    assert!(matches!(e.problem(), Problem::Keep(e) if e.kind() == io::ErrorKind::StorageFull));
    let e = read_layer(&bytes[..], &mut Lazy, &Limits::default()).unwrap_err();
    assert!(matches!(e.problem(), Problem::Keep(_)));
}

#[test]
fn seekable_archives_are_jumped_through() {
    struct Counting<R>(R, u64);
    impl<R: Read> Read for Counting<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.read(buf)?;
            self.1 += n as u64;
            Ok(n)
        }
    }
    impl<R: io::Seek> io::Seek for Counting<R> {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let bytes = Tar::default().file("a", &"z".repeat(50_000)).file("b", "2").end();
    let mut archive =
        Archive::seekable(Counting(io::Cursor::new(bytes.clone()), 0), Limits::default()).unwrap();
    let a = archive.next_member().unwrap().unwrap();
    let b = archive.next_member().unwrap().unwrap();
    assert_eq!((a.data, b.data), (Some(512), Some(51_200)), "padding of a: 50,000 to 50,176");
    assert!(archive.next_member().unwrap().is_none());
    assert!(archive.into_inner().1 <= 4 * 512);
    let mut cut = Archive::seekable(io::Cursor::new(&bytes[..600]), Limits::default()).unwrap();
    assert!(cut.next_member().is_ok());
    assert!(matches!(cut.next_member().unwrap_err().problem(), Problem::Truncated));
}

#[test]
fn no_damage_makes_it_panic() {
    let (index, content) = rich();
    let mut index = index.into_entries();
    index.retain(|e| e.path != b"big" && e.path != b"z-link");
    let bytes = write(&LayerIndex::from_entries(index).unwrap(), &content);
    let mut refused = 0;
    // Every field of the headers is met by some step, with values that are likely to hurt.
    for at in (0..bytes.len()).step_by(61) {
        for value in [0u8, 0x80, 0xff, b'7', b'S', b'x'] {
            let mut bad = bytes.clone();
            bad[at] = value;
            refused += usize::from(read_bytes(&bad).is_err());
        }
    }
    assert!(refused > 0);
}
