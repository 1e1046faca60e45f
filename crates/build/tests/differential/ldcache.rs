//! Writes `/etc/ld.so.cache` as glibc's ldconfig does (elf/cache.c, sysdeps/generic/dl-cache.h): the new format alone.

use std::cmp::Ordering;

const HEADER: usize = 48;
const ENTRY: usize = 24;
/// FLAG_ELF_LIBC6, and the machine's bits beside it.
const FLAGS: u32 = if cfg!(target_arch = "x86_64") { 0x0303 } else { 0x0a03 };

/// The order of the loader's binary search: names descend, and runs of digits count as numbers.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.bytes().peekable(), b.bytes().peekable());
    let number = |i: &mut std::iter::Peekable<std::str::Bytes<'_>>| {
        let mut n = 0u64;
        while let Some(d) = i.next_if(u8::is_ascii_digit) {
            n = n * 10 + u64::from(d - b'0');
        }
        n
    };
    loop {
        match (x.peek().copied(), y.peek().copied()) {
            (None, None) => return Ordering::Equal,
            (Some(p), Some(q)) if p.is_ascii_digit() && q.is_ascii_digit() => {
                match number(&mut x).cmp(&number(&mut y)) {
                    Ordering::Equal => {}
                    other => return other,
                }
            }
            (Some(p), _) if p.is_ascii_digit() => return Ordering::Greater,
            (_, Some(q)) if q.is_ascii_digit() => return Ordering::Less,
            (p, q) if p == q => {
                x.next();
                y.next();
            }
            (p, q) => return p.unwrap_or(0).cmp(&q.unwrap_or(0)),
        }
    }
}

/// A cache of these names and paths.
pub(crate) fn new_format(entries: &[(String, String)]) -> Vec<u8> {
    let mut sorted: Vec<&(String, String)> = entries.iter().collect();
    sorted.sort_by(|a, b| compare(&b.0, &a.0));
    let mut strings = Vec::new();
    let mut table = Vec::new();
    let start = HEADER + sorted.len() * ENTRY;
    for (name, path) in sorted {
        let mut string = |s: &str| {
            let at = start + strings.len();
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
            at as u32
        };
        let (key, value) = (string(name), string(path));
        for n in [FLAGS, key, value, 0, 0, 0] {
            table.extend_from_slice(&n.to_ne_bytes());
        }
    }
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend_from_slice(&(entries.len() as u32).to_ne_bytes());
    out.extend_from_slice(&(strings.len() as u32).to_ne_bytes());
    out.push(if cfg!(target_endian = "little") { 2 } else { 3 });
    out.resize(HEADER, 0);
    out.extend(table);
    out.extend(strings);
    out
}
