//! How observations are kept: encoding, version 2.
//!
//! `"layercake-observations-2\n"`, identity, reason for being not whole (empty: it is whole), number of things outside and each of
//! them, the number of views (the root, then the view mounts in order), and for each a byte (1: access control lists), the number of
//! observations, and each as: length of the prefix shared with the path before, rest of the path, one byte kind (`a`, `t` for link, `c`, `l`,
//! `m`, `n`, `s`), and the fingerprint (`a`, `t`, `c`, `l`), both (`m`), or the other name (`s`). Numbers are LEB128 varints; texts are length and bytes; paths
//! are sorted.

use oci::varint::{Reader, put, put_bytes};

use super::{Fact, Fingerprint, Observation, Observed, Recorded};

const MAGIC: &[u8] = b"layercake-observations-2\n";

/// Encodes what a run learned.
pub fn encode(recorded: &Recorded) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, recorded.identity.as_bytes());
    put_bytes(&mut out, recorded.partial.as_bytes());
    put(&mut out, recorded.outside.len() as u64);
    for text in &recorded.outside {
        put_bytes(&mut out, text.as_bytes());
    }
    put(&mut out, recorded.views.len() as u64);
    for view in &recorded.views {
        out.push(u8::from(view.acls));
        put(&mut out, view.facts.len() as u64);
        let mut before: &[u8] = &[];
        for o in &view.facts {
            let shared = before.iter().zip(&o.path).take_while(|(a, b)| a == b).count();
            put(&mut out, shared as u64);
            put_bytes(&mut out, &o.path[shared..]);
            before = &o.path;
            let (kind, print) = match &o.fact {
                Fact::Attributes(p) => (b'a', &p[..]),
                Fact::Link(p) => (b't', &p[..]),
                Fact::Content(p) => (b'c', &p[..]),
                Fact::Listing(p) => (b'l', &p[..]),
                Fact::Absent => (b'n', &[][..]),
                Fact::Meaning { exact, .. } => (b'm', &exact[..]),
                Fact::SameFile(_) => (b's', &[][..]),
            };
            out.push(kind);
            out.extend_from_slice(print);
            if let Fact::Meaning { meaning, .. } = &o.fact {
                out.extend_from_slice(meaning);
            }
            if let Fact::SameFile(other) = &o.fact {
                put_bytes(&mut out, other);
            }
        }
    }
    out
}

/// Reads an encoding; `None` if it is damaged or of another version, which makes the record useless for looking up.
pub fn decode(bytes: &[u8]) -> Option<Recorded> {
    let mut r = Reader::new(bytes.strip_prefix(MAGIC)?);
    let text = |r: &mut Reader<'_>| String::from_utf8(r.bytes()?.to_vec()).ok();
    let (identity, partial) = (text(&mut r)?, text(&mut r)?);
    let mut outside = Vec::new();
    for _ in 0..r.number()? {
        outside.push(text(&mut r)?);
    }
    let mut views = Vec::new();
    for _ in 0..r.number()? {
        let acls = match r.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let count: usize = r.small()?;
        let mut facts: Vec<Observation> = Vec::with_capacity(count.min(r.left()));
        for _ in 0..count {
            let shared: usize = r.small()?;
            let mut path = facts.last().map_or(&[][..], |o| &o.path[..]).get(..shared)?.to_vec();
            path.extend_from_slice(r.bytes()?);
            let kind = r.byte()?;
            let print = |r: &mut Reader<'_>| -> Option<Fingerprint> { r.take(16)?.try_into().ok() };
            let fact = match kind {
                b'a' => Fact::Attributes(print(&mut r)?),
                b't' => Fact::Link(print(&mut r)?),
                b'c' => Fact::Content(print(&mut r)?),
                b'l' => Fact::Listing(print(&mut r)?),
                b's' => Fact::SameFile(r.bytes()?.to_vec()),
                b'm' => Fact::Meaning { exact: print(&mut r)?, meaning: print(&mut r)? },
                b'n' => Fact::Absent,
                _ => return None,
            };
            facts.push(Observation { path, fact });
        }
        views.push(Observed { acls, facts });
    }
    (r.left() == 0).then_some(Recorded { identity, partial, outside, views })
}
