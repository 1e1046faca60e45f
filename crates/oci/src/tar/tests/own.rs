//! What we write we can read again: names, attributes and numbers at their bounds.

use super::*;
use crate::index::{MAX_PATH, Xattrs};

/// A path of so many bytes whose last name has so many.
fn path(length: usize, last: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while length - out.len() > last {
        let part = (length - out.len() - last - 1).min(255);
        // A name has a byte at least.
        let part = if length - out.len() - last - 1 - part == 1 { part - 1 } else { part };
        out.extend(std::iter::repeat_n(b'p', part));
        out.push(b'/');
    }
    out.extend(std::iter::repeat_n(b'n', last));
    assert_eq!(out.len(), length);
    out
}

fn entry(path: Vec<u8>, kind: Kind) -> Entry {
    let mtime = Time::from_secs(i64::MIN);
    Entry {
        path,
        kind,
        attrs: Attrs { mode: 0o7777, uid: u32::MAX, gid: u32::MAX, mtime, xattrs: Xattrs::new() },
    }
}

fn round(entries: Vec<Entry>, limits: &Limits) -> Result<(), TarError> {
    let index = LayerIndex::from_entries(entries).unwrap();
    let mut content = MemoryContent::default();
    content.add(b"");
    let back = read_layer(&write(&index, &content)[..], &mut MemoryContent::default(), limits)?;
    assert_eq!(back.entries(), index.entries());
    Ok(())
}

#[test]
fn the_longest_names_can_be_read_again() {
    for last in [1, 100, 101, 250, 251, 252, 254, 255] {
        for length in [last, MAX_PATH - 14, MAX_PATH - 5, MAX_PATH - 1, MAX_PATH] {
            let at = || path(length, last);
            let other = path(MAX_PATH, 255);
            for kind in [
                Kind::Whiteout,
                Kind::Directory { opaque: true },
                Kind::Directory { opaque: false },
                Kind::File { size: 0, digest: Digest::of(b"") },
                Kind::Symlink { target: [b't'; MAX_PATH - 1].to_vec() },
                Kind::CharDevice { major: u32::MAX, minor: u32::MAX },
            ] {
                let what = format!("{last} of {length} bytes: {kind:?}");
                let kept =
                    if matches!(kind, Kind::Whiteout) { Entry::whiteout(at()) } else { entry(at(), kind) };
                round(vec![kept], &Limits::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            if at() != other {
                let link = Kind::HardLink { target: other };
                round(vec![entry(at(), link)], &Limits::default()).unwrap();
            }
        }
    }
}

#[test]
fn names_that_only_whiteouts_may_have_name_nothing_else() {
    let name = [b".wh.", &[b'n'; 255][..]].concat();
    let tar = Tar::default().put(Fields { name: &name, ..PLAIN }, b"").end();
    let options = ReadOptions { whiteouts: false };
    let e =
        read_layer_with(&tar[..], &mut MemoryContent::default(), &Limits::default(), options).unwrap_err();
    assert!(matches!(e.problem(), Problem::Index(IndexError::Name(_))), "{e}");
    let longer = [&name[..], b"n"].concat();
    assert!(matches!(Tar::default().put(Fields { name: &longer, ..PLAIN }, b"").problem(), Problem::Name(_)));
}

#[test]
fn headers_with_long_names_and_attributes_do_not_count_as_members() {
    // A million files with long names were two million headers, and too many.
    let named = |n: usize| [&[b'd'; 150][..], format!("/{n}").as_bytes(), &[b'f'; 150]].concat();
    let mut entries: Vec<Entry> =
        (0..8).map(|n| entry(named(n), Kind::Symlink { target: [b't'; 200].to_vec() })).collect();
    entries.push(entry(b"opaque".repeat(20), Kind::Directory { opaque: true }));
    let limits = Limits { entries: 10, ..Limits::default() };
    round(entries.clone(), &limits).unwrap();
    entries.push(entry(b"one-more".to_vec(), Kind::Fifo));
    let e = round(entries, &limits).unwrap_err();
    assert!(matches!(e.problem(), Problem::Limit("members", 10)), "{e}");
    // GNU's long names neither; global headers do, since they belong to nobody.
    let gnu =
        Tar::default().extension(b'K', b"k").extension(b'L', b"l").pax(&[("uid", b"1")]).symlink("x", "y");
    let read = |tar: Tar, entries| {
        let limits = Limits { entries, ..Limits::default() };
        read_layer(&tar.end()[..], &mut MemoryContent::default(), &limits).map(|index| index.entries().len())
    };
    assert_eq!(read(gnu, 1).unwrap(), 1);
    let global = Tar::default().extension(b'g', b"").extension(b'g', b"");
    assert!(matches!(read(global, 1).unwrap_err().problem(), Problem::Limit("members", 1)));
}

#[test]
fn attributes_that_no_reader_takes_are_not_written() {
    let with = |bytes: usize| {
        let mut e = entry(path(MAX_PATH, 255), Kind::Symlink { target: [b't'; MAX_PATH - 1].to_vec() });
        e.attrs.xattrs =
            (0..16).map(|n| (format!("user.{n:02}").into_bytes(), vec![n; bytes / 16])).collect();
        e
    };
    let limits = Limits::default();
    let all = (1 << 20) - (16 << 10) - 16 * (32 + 7);
    round(vec![with(all)], &limits).unwrap();
    let index = LayerIndex::from_entries(vec![with(all + 16)]).unwrap();
    let e = write_layer(&index, &MemoryContent::default(), io::sink()).unwrap_err();
    assert!(matches!(e, WriteError::Xattrs { .. }), "{e}");
    // Nor read, since they could not be written again.
    let value = vec![b'v'; (1 << 20) - (10 << 10)];
    let problem = Tar::default().pax(&[("SCHILY.xattr.user.a", &value)]).file("f", "").problem();
    assert!(matches!(problem, Problem::Limit(..)), "{problem}");
}

#[test]
fn a_bare_marker_comes_back_as_one() {
    // A header of the directory would give the one below other attributes.
    let index = LayerIndex::from_entries(vec![Entry::bare_marker(b"d".to_vec())]).unwrap();
    let tar = write(&index, &MemoryContent::default());
    assert_eq!(tar.len(), 3 * BLOCK);
    assert_eq!(read_layer(&tar[..], &mut MemoryContent::default(), &Limits::default()).unwrap(), index);
}
