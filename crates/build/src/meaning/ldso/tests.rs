use std::collections::HashSet;

use oci::index::Attrs;
use oci::{Digest, Entry as FileEntry, Hasher, Kind, LayerIndex, Tree};

use super::*;

/// A cache in the new format, behind one in the old format if `old`; with an extension if `capabilities`.
fn cache(entries: &[(&str, &str, u64)], old: bool, capabilities: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    if old {
        out.extend_from_slice(OLD);
        out.extend((entries.len() as u32).to_ne_bytes());
        let mut at = 0;
        for (name, path, _) in entries {
            for n in [3u32, at, at + name.len() as u32 + 1] {
                out.extend(n.to_ne_bytes());
            }
            at += (name.len() + path.len() + 2) as u32;
        }
        // With an old part, the strings of both lie behind the new entries.
        out.resize(out.len().next_multiple_of(8), 0);
    }
    let start = out.len();
    let table = NEW_HEADER + entries.len() * NEW_ENTRY;
    let mut strings = Vec::new();
    let mut rows = Vec::new();
    for (name, path, hwcap) in entries {
        let at = (table + strings.len()) as u32;
        for s in [name, path] {
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
        }
        for n in [0x0303u32, at, at + name.len() as u32 + 1, 0] {
            rows.extend(n.to_ne_bytes());
        }
        rows.extend(hwcap.to_ne_bytes());
    }
    out.extend_from_slice(NEW);
    out.extend((entries.len() as u32).to_ne_bytes());
    out.extend((strings.len() as u32).to_ne_bytes());
    out.push(if cfg!(target_endian = "little") { 2 } else { 3 });
    out.resize(start + NEW_HEADER, 0);
    out.extend(rows);
    out.extend(strings);
    if !capabilities.is_empty() {
        out.resize(out.len().next_multiple_of(4), 0);
        let at = out.len();
        out[start + 32..start + 36].copy_from_slice(&(at as u32).to_ne_bytes());
        let list = at + 8 + 16;
        for n in [EXTENSION_MAGIC, 1, 1, 0, list as u32, 4 * capabilities.len() as u32] {
            out.extend(n.to_ne_bytes());
        }
        let mut text = list + 4 * capabilities.len();
        for c in capabilities {
            out.extend((text as u32).to_ne_bytes());
            text += c.len() + 1;
        }
        for c in capabilities {
            out.extend_from_slice(c.as_bytes());
            out.push(0);
        }
    }
    out
}

fn tree() -> Tree {
    let file = |path: &str| FileEntry {
        path: path.into(),
        kind: Kind::File { size: 1, digest: Digest::of(b"x") },
        attrs: Attrs::default(),
    };
    let paths = ["lib/libc.so.6", "lib/libz.so.1", "lib/liba.so.1", "lib/libb.so.1", "opt/libz.so.1"];
    Tree::from_layers([&LayerIndex::from_entries(paths.map(file).to_vec()).unwrap()]).unwrap()
}

fn print(bytes: &[u8], names: &[&str], covered: &[&str]) -> Option<Digest> {
    let tree = tree();
    let covered: Vec<Vec<u8>> = covered.iter().map(|c| c.as_bytes().to_vec()).collect();
    let names: HashSet<&[u8]> = names.iter().map(|n| n.as_bytes()).collect();
    let mut h = Hasher::new();
    LinkerCache.hash(bytes, &Asked { tree: &tree, names, covered: &covered }, &mut h)?;
    Some(h.finish())
}

const Z: (&str, &str, u64) = ("libz.so.1", "/lib/libz.so.1", 0);
const C: (&str, &str, u64) = ("libc.so.6", "/lib/libc.so.6", 0);
const B: (&str, &str, u64) = ("libb.so.1", "/lib/libb.so.1", 0);
const A: (&str, &str, u64) = ("liba.so.1", "/lib/liba.so.1", 0);

#[test]
fn only_the_names_that_were_asked_for_count() {
    let of = |entries: &[(&str, &str, u64)], names: &[&str]| {
        print(&cache(entries, false, &[]), names, &[]).unwrap()
    };
    let asked = &["libc.so.6", "libz.so.1", "passwd"];
    let before = of(&[Z, C], asked);
    assert_eq!(of(&[Z, C, A], asked), before, "a library that nobody asked for");
    assert_eq!(of(&[Z, C, B, A], asked), before);
    assert_ne!(of(&[C], asked), before, "one that was asked for is gone");
    assert_ne!(of(&[("libz.so.1", "/opt/libz.so.1", 0), C], asked), before, "or elsewhere");
    assert_ne!(of(&[("libz.so.1", "/opt/libz.so.1", 0), Z, C], asked), before, "or twice");
    assert_ne!(of(&[("libz.so.1", "/lib/libz.so.1", 1 << 62), C], asked), before, "or for other machines");
    assert_ne!(of(&[Z, C, A], &["libc.so.6", "liba.so.1"]), of(&[Z, C], &["libc.so.6", "liba.so.1"]));
    // The loader takes numbers for what they are.
    assert_ne!(of(&[Z, C, A], &["liba.so.01"]), of(&[Z, C], &["liba.so.01"]));
}

#[test]
fn entries_whose_use_leaves_no_trace_always_count() {
    let of = |entries: &[(&str, &str, u64)], covered: &[&str]| {
        print(&cache(entries, false, &[]), &[], covered).unwrap()
    };
    assert_eq!(of(&[Z, C], &[]), of(&[C], &[]));
    assert_ne!(of(&[("libz.so.1", "/gone/libz.so.1", 0), C], &[]), of(&[C], &[]), "a stale one");
    assert_ne!(of(&[("libz.so.1", "/lib/liba.so.1", 0), C], &[]), of(&[C], &[]), "one with another name");
    assert_ne!(of(&[Z, C], &["lib"]), of(&[C], &["lib"]), "one below a cache mount");
    assert_eq!(of(&[Z, C], &["li"]), of(&[C], &["li"]));
}

#[test]
fn both_formats_and_the_list_of_capabilities_are_read() {
    let old = |entries: &[(&str, &str, u64)]| {
        let mut only = OLD.to_vec();
        only.extend((entries.len() as u32).to_ne_bytes());
        let mut strings = Vec::new();
        for (name, path, _) in entries {
            let at = strings.len() as u32;
            for n in [3u32, at, at + name.len() as u32 + 1] {
                only.extend(n.to_ne_bytes());
            }
            for s in [name, path] {
                strings.extend_from_slice(s.as_bytes());
                strings.push(0);
            }
        }
        only.extend(strings);
        only
    };
    let names = |c: &Cache<'_>| c.old.iter().chain(&c.new).map(|e| e.name.to_vec()).collect::<Vec<_>>();
    assert_eq!(names(&parse(&old(&[Z, C])).unwrap()), [b"libz.so.1", b"libc.so.6"]);
    let asked = &["libc.so.6"];
    assert_eq!(print(&old(&[Z, C]), asked, &[]), print(&old(&[C]), asked, &[]));
    assert_ne!(print(&old(&[Z, C]), asked, &[]), print(&old(&[Z]), asked, &[]));
    let with = |caps: &[&str]| print(&cache(&[Z, C], false, caps), asked, &[]).unwrap();
    assert_ne!(with(&["x86-64-v2"]), with(&["x86-64-v3"]));
    assert_ne!(with(&["x86-64-v2"]), with(&[]));
    let longer = cache(&[("libz.so.1", "/lib/libz.so.1", 0), C, A], false, &["x86-64-v2"]);
    assert_eq!(print(&longer, asked, &[]).unwrap(), with(&["x86-64-v2"]), "wherever the extension lies");
}

#[test]
fn what_is_not_understood_has_no_meaning() {
    let good = cache(&[Z, C, A], false, &["x86-64-v2"]);
    assert!(print(&good, &[], &[]).is_some());
    assert_eq!(print(&cache(&[C, Z], false, &[]), &[], &[]), None, "not sorted");
    let long = ("lib1234567890.so", "/lib/x", 0);
    assert_eq!(print(&cache(&[long], false, &[]), &[], &[]), None, "a number that the loader may not take");
    let mut foreign = good.clone();
    foreign[28] ^= 1;
    assert_eq!(print(&foreign, &[], &[]), None, "another byte order");
    // Whatever is cut off or changed, nothing breaks.
    for n in 0..good.len() {
        let _ = print(&good[..n], &["libc.so.6"], &[]);
        for bit in [1, 0x80] {
            let mut damaged = good.clone();
            damaged[n] ^= bit;
            let _ = print(&damaged, &["libc.so.6"], &[]);
        }
    }
    assert_eq!(print(b"", &[], &[]), None);
    let mut endless = good;
    endless[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert_eq!(print(&endless, &[], &[]), None);
}

#[test]
fn the_cache_of_this_machine_is_understood() {
    // Where there is none (another C library), there is nothing to try.
    let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else { return };
    let cache = parse(&bytes).expect("glibc's own file");
    assert!(sorted(&cache.new) && sorted(&cache.old));
    assert!(cache.new.iter().chain(&cache.old).any(|e| e.name.starts_with(b"libc.so")));
}
