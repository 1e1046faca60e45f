//! One tar header block, and the records of a PAX extended header.
//!
//! # Header block (offset, length)
//!
//! ```text
//! name 0,100  mode 100,8  uid 108,8  gid 116,8  size 124,12  mtime 136,12  checksum 148,8  type 156,1  link 157,100
//! magic 257,6 version 263,2  uname 265,32  gname 297,32  major 329,8  minor 337,8  prefix 345,155   (USTAR: "ustar\0" "00")
//! GNU ("ustar " " \0"): atime 345,12 ctime 357,12 .. sparse 386,4*24 more 482,1 real size 483,12
//! star (USTAR with "tar\0" at 508): prefix 345,131
//! ```
//!
//! Numbers are octal text, or (first bit set) big-endian two's complement of the other bits. The checksum is the sum of all bytes
//! with the checksum field taken as blanks; some old tools summed signed bytes.
//!
//! # PAX records
//!
//! `LENGTH SP KEY = VALUE LF`, LENGTH in decimal counts the whole record. Values are bytes; only LENGTH says where one ends.

use super::BLOCK;

/// A header block.
pub(super) type Block = [u8; BLOCK];

/// Which of the formats wrote the block: decides what lies behind the link name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// The bytes of a field.
pub(super) fn field(block: &Block, at: usize, len: usize) -> &[u8] {
    &block[at..at + len]
}

/// The text of a field: up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&c| c == 0).unwrap_or(field.len());
    &field[..end]
}

/// The number in a field. `None` if it is none or does not fit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let head = if negative { i128::from(first) - 0x100 } else { i128::from(first & 0x3f) };
        // 12 bytes are the longest field: 96 bits, so i128 cannot overflow.
        let n = rest.iter().fold(head, |n, &b| n << 8 | i128::from(b));
        return i64::try_from(n).ok();
    }
    let blank = |c: &u8| matches!(c, b' ' | 0);
    let start = field.iter().position(|c| !blank(c)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, tail) = digits.split_at(end);
    // Blanks may follow, and whatever a tool left behind a NUL; nothing else.
    if tail.iter().take_while(|&&c| c != 0).any(|&c| c != b' ') {
        return None;
    }
    digits.iter().try_fold(0i64, |n, c| match c {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(c - b'0')),
        _ => None,
    })
}

/// Whether the block's checksum is right.
pub(super) fn checksum_holds(block: &Block) -> bool {
    let Some(said) = number(field(block, 148, 8)) else { return false };
    let bytes = block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { b' ' } else { b });
    let (unsigned, signed) = bytes.fold((0i64, 0i64), |(u, s), b| (u + i64::from(b), s + i64::from(b as i8)));
    said == unsigned || said == signed
}

/// The dialect of a block.
pub(super) fn dialect(block: &Block) -> Dialect {
    match field(block, 257, 8) {
        b"ustar  \0" => Dialect::Gnu,
        magic if magic.starts_with(b"ustar\0") => {
            if field(block, 508, 4) == b"tar\0" {
                Dialect::Star
            } else {
                Dialect::Ustar
            }
        }
        _ => Dialect::V7,
    }
}

/// The name in the block itself, prefix included.
pub(super) fn name(block: &Block, dialect: Dialect) -> Vec<u8> {
    let name = text(field(block, 0, 100));
    let prefix: &[u8] = match dialect {
        Dialect::V7 => b"",
        Dialect::Ustar => text(field(block, 345, 155)),
        Dialect::Star => text(field(block, 345, 131)),
        Dialect::Gnu => {
            // Go before 1.8 put a prefix where GNU has times: then the first "time" is no number.
            let misplaced = text(field(block, 345, 155));
            if number(field(block, 345, 12)).is_none() && misplaced.is_ascii() { misplaced } else { b"" }
        }
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Splits an extended header into its records, in order. `None` if it is malformed.
pub(super) fn pax_records(mut rest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().take(20).position(|&c| c == b' ')?;
        let length = decimal(&rest[..space])?;
        let length = usize::try_from(length).ok().filter(|&n| n > space + 1 && n <= rest.len())?;
        let (record, after) = rest.split_at(length);
        let (&last, record) = record[space + 1..].split_last()?;
        let equals = record.iter().position(|&c| c == b'=')?;
        let key = &record[..equals];
        if last != b'\n' || key.is_empty() || key.contains(&0) {
            return None;
        }
        out.push((key, &record[equals + 1..]));
        rest = after;
    }
    Some(out)
}

/// Appends one record.
pub(super) fn put_pax(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = body + digits(body);
    if digits(length) + body != length {
        length = body + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// An unsigned decimal number and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, c| match c {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(c - b'0')),
        _ => None,
    })
}

/// A PAX time: seconds with an optional sign and fraction, as (floor of the seconds, nanoseconds).
pub(super) fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|&c| c == b'.').unwrap_or(text.len());
    let secs = decimal(&text[..dot])?;
    let fraction = text.get(dot + 1..).unwrap_or(&[]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0u32, |n, i| n * 10 + fraction.get(i).map_or(0, |c| u32::from(c - b'0')));
    Some(match (negative, nanos) {
        (false, _) => (i64::try_from(secs).ok()?, nanos),
        (true, 0) => (0i64.checked_sub_unsigned(secs)?, 0),
        (true, _) => (0i64.checked_sub_unsigned(secs)?.checked_sub(1)?, 1_000_000_000 - nanos),
    })
}

/// What one written header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) name: &'a [u8],
    pub(super) flag: u8,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

const MAX_ID: u32 = 0o7777777;
const MAX_LONG: u64 = 0o77777777777;

/// The blocks of one header: USTAR alone if everything fits, else a PAX header before it.
pub(super) fn encode(f: &Fields<'_>) -> Vec<u8> {
    let split = split_name(f.name);
    let mut pax: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| pax.push((key.to_vec(), value.to_vec()));
    if split.is_none() {
        add(b"path", f.name);
    }
    if f.link.len() > 100 || !f.link.is_ascii() {
        add(b"linkpath", f.link);
    }
    if f.uid > MAX_ID {
        add(b"uid", f.uid.to_string().as_bytes());
    }
    if f.gid > MAX_ID {
        add(b"gid", f.gid.to_string().as_bytes());
    }
    if f.size > MAX_LONG {
        add(b"size", f.size.to_string().as_bytes());
    }
    let time = u64::try_from(f.mtime).ok().filter(|&t| t <= MAX_LONG);
    if time.is_none() {
        add(b"mtime", f.mtime.to_string().as_bytes());
    }
    for (name, value) in f.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    pax.sort();
    let mut out = Vec::with_capacity(BLOCK);
    if !pax.is_empty() {
        let mut records = Vec::new();
        for (key, value) in &pax {
            put_pax(&mut records, key, value);
        }
        // The name of the extended header itself means nothing to anybody who knows what it is.
        out.extend_from_slice(&block(
            b"",
            b"PaxHeaders.0",
            b'x',
            b"",
            0o644,
            (0, 0),
            records.len() as u64,
            0,
            (0, 0),
        ));
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    let short = ascii(f.name);
    let (prefix, name) = split.unwrap_or((b"", &short[..short.len().min(100)]));
    let link = ascii(f.link);
    let fit = |id: u32| if id > MAX_ID { 0 } else { id };
    out.extend_from_slice(&block(
        prefix,
        name,
        f.flag,
        &link[..link.len().min(100)],
        f.mode,
        (fit(f.uid), fit(f.gid)),
        if f.size > MAX_LONG { 0 } else { f.size },
        time.unwrap_or(0),
        f.device,
    ));
    out
}

/// Prefix and name if the name fits into a USTAR header.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The slash of a directory's name must stay in the name part.
    let reach = (name.len() - 1).min(156);
    let slash = name[..reach].iter().rposition(|&c| c == b'/').filter(|&i| i > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (rest.len() <= 100).then_some((prefix, rest))
}

/// What is left for readers that do not know PAX.
fn ascii(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(u8::is_ascii).collect()
}

#[expect(clippy::too_many_arguments, reason = "the fields of one block, in its order")]
fn block(
    prefix: &[u8],
    name: &[u8],
    flag: u8,
    link: &[u8],
    mode: u32,
    ids: (u32, u32),
    size: u64,
    mtime: u64,
    device: (u32, u32),
) -> Block {
    let mut b = [0u8; BLOCK];
    b[..name.len()].copy_from_slice(name);
    octal(&mut b[100..108], u64::from(mode));
    octal(&mut b[108..116], u64::from(ids.0));
    octal(&mut b[116..124], u64::from(ids.1));
    octal(&mut b[124..136], size);
    octal(&mut b[136..148], mtime);
    b[156] = flag;
    b[157..157 + link.len()].copy_from_slice(link);
    b[257..265].copy_from_slice(b"ustar\x0000");
    number_field(&mut b[329..337], device.0);
    number_field(&mut b[337..345], device.1);
    b[345..345 + prefix.len()].copy_from_slice(prefix);
    b[148..156].fill(b' ');
    let sum: u32 = b.iter().map(|&c| u32::from(c)).sum();
    b[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    b
}

/// Octal digits and a NUL, filling the field.
fn octal(field: &mut [u8], mut n: u64) {
    let (last, digits) = field.split_last_mut().expect("header fields have a length");
    *last = 0;
    for d in digits.iter_mut().rev() {
        *d = b'0' + (n & 7) as u8;
        n >>= 3;
    }
}

/// Octal if it fits, else base 256: PAX has no standard key for device numbers, and every reader takes this form.
fn number_field(field: &mut [u8], n: u32) {
    if n <= MAX_ID {
        return octal(field, u64::from(n));
    }
    field.fill(0);
    field[0] = 0x80;
    let at = field.len() - 4;
    field[at..].copy_from_slice(&n.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644 \0junk", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some((8 << 30) - 1)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(8 << 30)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb", Some(-5)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"12x\0", None),
            (b"8\0", None),
            (b"-1\0", None),
            (b"1 1\0", None),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }

    #[test]
    fn pax_records_count_their_own_length_and_hold_any_byte() {
        for len in (0..120).chain(970..1010).chain(9_960..10_010) {
            let value = vec![b'\n'; len];
            let mut out = Vec::new();
            put_pax(&mut out, b"k", &value);
            put_pax(&mut out, b"path", b"a=b\0\xff");
            assert_eq!(pax_records(&out), Some(vec![(&b"k"[..], &value[..]), (b"path", b"a=b\0\xff")]));
        }
        for bad in [
            "6 k=v",
            "5 k=v\n",
            "7 k=v\n",
            " k=v\n",
            "6 kvw\n",
            "99 k=v\n",
            "5 =v\n",
            "-6 k=v\n",
            "0 \n",
            "7 k\0=v\n",
        ] {
            assert_eq!(pax_records(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn times() {
        for (given, want) in [
            ("5", Some((5, 0))),
            ("5.25", Some((5, 250_000_000))),
            ("-5", Some((-5, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("5.", Some((5, 0))),
            ("-9223372036854775808", Some((i64::MIN, 0))),
            ("9223372036854775808", None),
            ("-9223372036854775808.5", None),
            ("", None),
            ("1e3", None),
            ("9999999999999999999999", None),
        ] {
            assert_eq!(pax_time(given.as_bytes()), want, "{given}");
        }
    }

    #[test]
    fn a_name_is_split_where_both_parts_fit() {
        let dir = |n: usize| "d".repeat(n);
        assert!(split_name(dir(100).as_bytes()).is_some_and(|(p, _)| p.is_empty()));
        assert_eq!(split_name(dir(101).as_bytes()), None);
        for (prefix, name, fits) in
            [(155, 100, true), (156, 100, false), (155, 101, false), (1, 100, true), (50, 99, true)]
        {
            let long = format!("{}/{}", dir(prefix), dir(name));
            let got = split_name(long.as_bytes());
            assert_eq!(got.is_some(), fits, "{prefix} {name}");
            if let Some((p, n)) = got {
                assert_eq!([p, b"/", n].concat(), long.as_bytes());
            }
        }
        assert_eq!(split_name(format!("{}/", dir(100)).as_bytes()), None, "nothing is left for the name");
    }

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let f = Fields {
            name: b"etc/passwd",
            flag: b'0',
            link: b"",
            mode: 0o4755,
            uid: 1000,
            gid: MAX_ID,
            size: MAX_LONG,
            mtime: 1_000_000_000,
            device: (259, 0xfffff),
            xattrs: &[],
        };
        let bytes = encode(&f);
        let mut b: Block = bytes.as_slice().try_into().expect("fits into USTAR");
        assert!(checksum_holds(&b));
        assert_eq!(dialect(&b), Dialect::Ustar);
        assert_eq!(name(&b, Dialect::Ustar), b"etc/passwd");
        assert_eq!(number(field(&b, 124, 12)), Some(MAX_LONG as i64));
        assert_eq!(number(field(&b, 337, 8)), Some(0xfffff));
        b[0] ^= 1;
        assert!(!checksum_holds(&b));
    }
}
