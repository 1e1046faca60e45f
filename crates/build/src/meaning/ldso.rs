//! `/etc/ld.so.cache`: where the dynamic loader finds libraries. Every dynamically linked program reads all of it, and every package
//! with a library rewrites it.
//!
//! # Why equal entries for the names that the step asked for are enough
//!
//! Of the cache the loader uses, for each library name that it needs, the run of entries with that name (names are equal as the loader
//! compares them: runs of digits are numbers), and the list of hardware capabilities that entries refer to. It finds the run by binary
//! search, so in a sorted cache no other entry decides. Thus the cache is, to a run, the function from the names that it asked for to
//! runs of entries, and if that function gives the same, the run goes the same way.
//!
//! Every name that was asked for is known, because asking leaves a trace in the view:
//!
//! - the cache has the name: the loader opens the path of an entry. If the path is in the tree, its last component was looked up there.
//!   If it is not (a stale entry), or lies below a mount that nobody observes, the step may have found a file of its own: such entries
//!   always count.
//! - the cache lacks it: the loader tries the name in the default directories, which is an observed absence (or presence). A tree
//!   without any of them is not covered, nor is a run that removed one. (A program linked with `-z nodefaultlib` would not try. It
//!   must then have failed to find its library.)
//!
//! The last component of a path that is asked for need not be the name asked for, if the cache maps `libx.so.1` to `/lib/liby.so`: what
//! counts is then not known, so entries whose path does not end in their name always count, too.
//!
//! What is not covered, so that the bytes count: runs that read `ldconfig` (which prints and rewrites the cache), that list `/etc` (and may
//! have copied the file they found there), whose command names the file, or that leave it or a copy of it in their layer; caches that
//! are not sorted, not of this machine's byte order, or not understood to the last field. That a program which does none of these opens the
//! file by its name, for another purpose than the loader's, is assumed not to happen.
//!
//! # Format (glibc, sysdeps/generic/dl-cache.h)
//!
//! Old: `ld.so-1.7.0\0`, u32 count, entries of (flags, name, path), u32 each, then strings, to which the offsets are relative. New:
//! `glibc-ld.so.cache1.1`, u32 count, u32 length of strings, u8 byte order (0 unknown, 2 little, 3 big), 3 bytes, u32 offset of the
//! extensions (0: none), 12 bytes, entries of (flags, name, path, OS version, u32 each, and a u64 of capabilities), strings; offsets are
//! relative to the beginning of this part, but that of the extensions to the file's. A file has one of them, or the old one and the new
//! one at the next multiple of 8 behind the old entries. Extensions: u32 magic, u32 count, and for each u32 tag, flags, offset and size;
//! tag 0 is the text of the tool that wrote it, tag 1 a list of u32 offsets of capability names.

use std::cmp::Ordering;
use std::collections::HashSet;

use oci::tree::Id;
use oci::{Hasher, Kind};

use super::{Asked, Meaning, Run};
use crate::observe::Fact;

const OLD: &[u8] = b"ld.so-1.7.0\0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// The directories that loaders try by themselves, on the distributions that there are.
const DEFAULT: [&[u8]; 4] = [b"usr/lib", b"lib", b"usr/lib64", b"lib64"];

/// The case.
pub(super) struct LinkerCache;

#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    name: &'a [u8],
    path: &'a [u8],
    /// Everything else.
    rest: &'a [u8],
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Cache<'a> {
    old: Vec<Entry<'a>>,
    new: Vec<Entry<'a>>,
    order: u8,
    /// Tool, and names of capabilities.
    tool: &'a [u8],
    capabilities: Vec<&'a [u8]>,
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_ne_bytes(four.try_into().ok()?)).ok()
}

/// A text of printable ASCII that ends within `bytes`.
fn text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let found = &rest[..rest.iter().take(4096).position(|&c| c == 0)?];
    found.iter().all(u8::is_ascii_graphic).then_some(found)
}

fn parse_new<'a>(file: &'a [u8], start: usize) -> Option<Cache<'a>> {
    let part = file.get(start..)?.strip_prefix(NEW).and(file.get(start..))?;
    let (count, strings) = (number(part, 20)?, number(part, 24)?);
    let order = *part.get(28)?;
    let native = if cfg!(target_endian = "little") { 2 } else { 3 };
    if order != 0 && order != native {
        return None;
    }
    let end = count.checked_mul(NEW_ENTRY)?.checked_add(NEW_HEADER)?.checked_add(strings)?;
    if end > part.len() {
        return None;
    }
    let mut cache = Cache { order, ..Cache::default() };
    for n in 0..count {
        let e = part.get(NEW_HEADER + n * NEW_ENTRY..)?.get(..NEW_ENTRY)?;
        let (name, path) = (text(part, number(e, 4)?)?, text(part, number(e, 8)?)?);
        // The flags lie before the offsets; they are in `rest` by being put behind: see `hash`.
        cache.new.push(Entry { name, path, rest: e });
    }
    let extensions = number(part, 32)?;
    if extensions != 0 {
        if number(file, extensions)? != EXTENSION_MAGIC as usize {
            return None;
        }
        for n in 0..number(file, extensions.checked_add(4)?)? {
            let at = n.checked_mul(16)?.checked_add(extensions)?.checked_add(8)?;
            let (tag, offset, size) = (number(file, at)?, number(file, at + 8)?, number(file, at + 12)?);
            let section = file.get(offset..offset.checked_add(size)?)?;
            match tag {
                0 => cache.tool = section,
                1 => {
                    for i in (0..size / 4 * 4).step_by(4) {
                        cache.capabilities.push(text(file, number(section, i)?)?);
                    }
                }
                _ => return None,
            }
        }
    }
    Some(cache)
}

fn parse(file: &[u8]) -> Option<Cache<'_>> {
    if !file.starts_with(OLD) {
        return parse_new(file, 0);
    }
    let count = number(file, 12)?;
    let end = count.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)?;
    let strings = file.get(end..)?;
    let mut old = Vec::new();
    for n in 0..count {
        let e = file.get(OLD_HEADER + n * OLD_ENTRY..)?.get(..OLD_ENTRY)?;
        old.push(Entry { name: text(strings, number(e, 4)?)?, path: text(strings, number(e, 8)?)?, rest: e });
    }
    let next = end.checked_next_multiple_of(8)?;
    let mut cache = match file.get(next..) {
        Some(part) if part.starts_with(NEW) => parse_new(file, next)?,
        _ => Cache::default(),
    };
    cache.old = old;
    Some(cache)
}

/// Digits at the beginning, without leading zeros; `None` if there are too many for the loader's integers.
fn digits(s: &[u8]) -> Option<(&[u8], &[u8])> {
    let (run, rest) = s.split_at(s.iter().take_while(|c| c.is_ascii_digit()).count());
    let run = &run[run.iter().take_while(|&&c| c == b'0').count()..];
    (run.len() <= 9).then_some((run, rest))
}

/// The loader's order of names.
fn compare(mut a: &[u8], mut b: &[u8]) -> Option<Ordering> {
    loop {
        let digit = |s: &[u8]| s.first().is_some_and(u8::is_ascii_digit);
        match (a.first(), b.first()) {
            (None, None) => return Some(Ordering::Equal),
            (Some(_), Some(_)) if digit(a) && digit(b) => {
                let ((x, after_a), (y, after_b)) = (digits(a)?, digits(b)?);
                match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                    Ordering::Equal => (a, b) = (after_a, after_b),
                    other => return Some(other),
                }
            }
            // A digit is more than anything else, but the end of the first name is less than anything.
            (Some(_), _) if digit(a) => return Some(Ordering::Greater),
            (Some(_), Some(_)) if digit(b) => return Some(Ordering::Less),
            (x, y) if x == y => (a, b) = (&a[1..], &b[1..]),
            (x, y) => return Some(x.cmp(&y)),
        }
    }
}

/// A name in a form that is equal for all that the loader takes for equal.
fn plain(name: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(name.len()), name);
    while let Some(&c) = rest.first() {
        if c.is_ascii_digit() {
            let (run, after) = digits(rest)?;
            // A zero is a run of no digits; the mark keeps it apart from nothing.
            out.push(b'#');
            out.extend_from_slice(run);
            rest = after;
        } else {
            out.push(c);
            rest = &rest[1..];
        }
    }
    Some(out)
}

fn sorted(entries: &[Entry<'_>]) -> bool {
    entries.windows(2).all(|w| compare(w[0].name, w[1].name).is_some_and(Ordering::is_ge))
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first().is_none_or(|&c| c == b'/'))
}

impl Meaning for LinkerCache {
    fn path(&self) -> &'static [u8] {
        b"etc/ld.so.cache"
    }

    fn applies(&self, run: &Run<'_>, id: Id) -> bool {
        let facts = || run.recorded.views.iter().flat_map(|v| &v.facts);
        let ran_ldconfig = facts().any(|o| {
            matches!(o.fact, Fact::Content(_)) && oci::index::split(&o.path).1.starts_with(b"ldconfig")
        });
        let listed = facts().any(|o| o.path == b"etc" && matches!(o.fact, Fact::Listing(_)));
        let digest = match &run.tree.inode(id).node {
            oci::tree::Node::File { digest, .. } => *digest,
            _ => return false,
        };
        let left = run.layer.entries().iter().any(|e| {
            let copy = matches!(&e.kind, Kind::File { digest: d, .. } if *d == digest);
            let hides = matches!(e.kind, Kind::Whiteout | Kind::Directory { opaque: true });
            copy || e.path == self.path() || (hides && DEFAULT.contains(&e.path.as_slice()))
        });
        let is_dir =
            |p: &[u8]| run.tree.resolve(p, true).is_ok_and(|p| p.exists() && run.tree.inode(p.id).is_dir());
        let named = run.text.contains("ld.so.cache");
        !ran_ldconfig && !listed && !left && !named && DEFAULT.iter().any(|d| is_dir(d))
    }

    fn hash(&self, bytes: &[u8], asked: &Asked<'_>, into: &mut Hasher) -> Option<()> {
        let cache = parse(bytes)?;
        // A name with more digits than the loader takes is in no cache that is understood.
        let names: HashSet<Vec<u8>> = asked.names.iter().filter_map(|n| plain(n)).collect();
        let mut field = |bytes: &[u8]| {
            into.update(&(bytes.len() as u64).to_le_bytes());
            into.update(bytes);
        };
        field(&[cache.order]);
        field(cache.tool);
        field(&(cache.capabilities.len() as u64).to_le_bytes());
        cache.capabilities.iter().for_each(|c| field(c));
        for entries in [&cache.old, &cache.new] {
            if !sorted(entries) {
                return None;
            }
            field(if entries.is_empty() { b"none" } else { b"some" });
            for e in entries {
                let path = e.path.strip_prefix(b"/").unwrap_or(e.path);
                let known = names.contains(&plain(e.name)?);
                let seen = oci::index::split(path).1 == e.name
                    && !asked.covered.iter().any(|c| below(path, c))
                    && asked
                        .tree
                        .resolve(path, true)
                        .is_ok_and(|p| p.exists() && !asked.covered.iter().any(|c| below(&p.full_path(), c)));
                if known || !seen {
                    field(e.name);
                    field(e.path);
                    // All but the two offsets.
                    field(&e.rest[..4]);
                    field(&e.rest[12..]);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
