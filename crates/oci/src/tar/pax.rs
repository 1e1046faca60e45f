//! What the records of a PAX header say of a member.

use super::error::Problem;
use super::header;
use crate::index::Xattrs;

/// Namespaces of extended attributes by which overlayfs steers itself: never content.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Whether an extended attribute of this name is taken; no attribute has certain names.
pub(crate) fn is_xattr(name: &[u8]) -> Result<bool, Problem> {
    if name.is_empty() || name.len() > 255 {
        return Err(Problem::Name("attribute's name"));
    }
    Ok(!OVERLAY_XATTRS.iter().any(|p| name.starts_with(p)))
}

/// The records of a PAX header that mean something here. Empty values delete, except for attributes, where they are a value.
#[derive(Default)]
pub(super) struct Pax<'a> {
    pub(super) path: Option<&'a [u8]>,
    pub(super) link: Option<&'a [u8]>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: PaxSparse<'a>,
}

#[derive(Default)]
pub(super) struct PaxSparse<'a> {
    pub(super) present: bool,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<&'a [u8]>,
    pub(super) size: Option<u64>,
    pub(super) numbers: Vec<u64>,
}

impl<'a> Pax<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Pax<'a>, Problem> {
        let mut out = Pax::default();
        let mut xattrs = Vec::new();
        for (key, value) in header::pax_records(bytes).ok_or(Problem::Pax)? {
            let given = (!value.is_empty()).then_some(value);
            let decimal = |what| given.map(|v| header::decimal(v).ok_or(Problem::Number(what))).transpose();
            match key {
                b"path" => out.path = given,
                b"linkpath" => out.link = given,
                b"size" => out.size = decimal("size")?,
                b"uid" => out.uid = decimal("uid")?,
                b"gid" => out.gid = decimal("gid")?,
                b"mtime" => {
                    out.mtime =
                        given.map(|v| header::pax_time(v).ok_or(Problem::Number("mtime"))).transpose()?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        if is_xattr(name)? {
                            xattrs.push((name.to_vec(), value.to_vec()));
                        }
                    } else if let Some(what) = key.strip_prefix(b"GNU.sparse.") {
                        out.sparse.add(what, value)?;
                    }
                }
            }
        }
        // The last of equal names counts.
        xattrs.reverse();
        xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        xattrs.dedup_by(|later, first| later.0 == first.0);
        out.xattrs = xattrs.into();
        Ok(out)
    }
}

impl<'a> PaxSparse<'a> {
    fn add(&mut self, what: &[u8], value: &'a [u8]) -> Result<(), Problem> {
        let decimal = |v: &[u8]| header::decimal(v).ok_or(Problem::Sparse("not a number"));
        self.present = true;
        match what {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(value).filter(|v| !v.is_empty()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            // Version 0.0 repeats these two, 0.1 has all in one record.
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => {
                self.numbers.clear();
                if !value.is_empty() {
                    for n in value.split(|&c| c == b',') {
                        self.numbers.push(decimal(n)?);
                    }
                }
            }
            // The number of pieces follows from the pieces.
            _ => {}
        }
        Ok(())
    }
}
