//! One entry of a table of contents, as JSON has it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::EntryProblem;
use crate::base64;
use crate::digest::Digest;
use crate::index::Xattrs;
use crate::tar::pax::is_xattr;
use crate::tar::{Member, Problem, Type, archive};
use crate::time::Time;

/// Extended attributes of one file; the kernel's lists end at 64 KiB.
const MAX_XATTRS: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    link_name: Cow<'a, str>,
    #[serde(default)]
    mode: i64,
    #[serde(default)]
    uid: u64,
    #[serde(default)]
    gid: u64,
    #[serde(borrow, default)]
    modtime: Option<Cow<'a, str>>,
    #[serde(default)]
    dev_major: u64,
    #[serde(default)]
    dev_minor: u64,
    #[serde(default)]
    xattrs: Option<Values>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(borrow, default)]
    digest: Cow<'a, str>,
    #[serde(default)]
    pub(super) offset: u64,
    #[serde(default)]
    pub(super) end_offset: u64,
    #[serde(default)]
    pub(super) inner_offset: u64,
    #[serde(default)]
    pub(super) chunk_offset: u64,
    #[serde(default)]
    pub(super) chunk_size: u64,
    #[serde(borrow, default)]
    chunk_digest: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) chunk_type: Cow<'a, str>,
}

impl Raw<'_> {
    /// The digest of the whole file, if there is one.
    pub(super) fn digest(&self) -> Result<Option<Digest>, EntryProblem> {
        digest(&self.digest, "the file")
    }

    /// The digest of the chunk, if there is one.
    pub(super) fn chunk_digest(&self) -> Result<Option<Digest>, EntryProblem> {
        digest(&self.chunk_digest, "a chunk")
    }

    /// The member of the tar that the entry stands for.
    pub(super) fn member(&mut self) -> Result<Member, EntryProblem> {
        let kind = match &*self.kind {
            "reg" => Type::File,
            "dir" => Type::Directory,
            "hardlink" => Type::HardLink,
            "symlink" => Type::Symlink,
            "char" => Type::CharDevice,
            "block" => Type::BlockDevice,
            "fifo" => Type::Fifo,
            _ => return Err(EntryProblem::Type),
        };
        let number = |n: u64, what| u32::try_from(n).map_err(|_| Problem::Number(what));
        let name = exact(&self.name, "name")?;
        let link = match kind {
            Type::HardLink | Type::Symlink => exact(&self.link_name, "link target")?,
            _ => &[],
        };
        let link = archive::link_target(kind, link)?;
        let mtime = match self.modtime.as_deref() {
            None | Some("") => Time::default(),
            Some(text) => Time::parse_rfc3339(text).ok_or(Problem::Number("mtime"))?,
        };
        let device = match kind {
            Type::CharDevice | Type::BlockDevice => {
                (number(self.dev_major, "device number")?, number(self.dev_minor, "device number")?)
            }
            _ => (0, 0),
        };
        let mut xattrs: Xattrs = Xattrs::new();
        for (name, value) in self.xattrs.take().map_or_else(Vec::new, |v| v.0) {
            if is_xattr(exact(&name, "attribute's name")?)? {
                let value = base64::decode_padded(&value).ok_or(EntryProblem::Text("attribute's value"))?;
                xattrs.push((name.into_bytes(), value));
            }
        }
        xattrs.sort();
        if xattrs.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(EntryProblem::Text("attribute's name"));
        }
        Ok(Member {
            path: archive::clean(name, "name")?,
            kind,
            link,
            mode: (self.mode & 0o7777) as u32,
            uid: number(self.uid, "uid")?,
            gid: number(self.gid, "gid")?,
            mtime,
            size: if kind == Type::File { self.size } else { 0 },
            xattrs,
            device,
            offset: 0,
            data: None,
        })
    }
}

/// A text as bytes, unless it holds what JSON is written with in place of bytes that are no UTF-8.
fn exact<'t>(text: &'t str, what: &'static str) -> Result<&'t [u8], EntryProblem> {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        Err(EntryProblem::Text(what))
    } else {
        Ok(text.as_bytes())
    }
}

fn digest(text: &str, what: &'static str) -> Result<Option<Digest>, EntryProblem> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| EntryProblem::Digest(what)),
    }
}

/// Extended attributes: names, and values in base64.
#[derive(Debug)]
struct Values(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Values, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("extended attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut out = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if out.len() == MAX_XATTRS {
                        return Err(A::Error::custom("too many extended attributes"));
                    }
                    out.push(pair);
                }
                Ok(Values(out))
            }
        }
        d.deserialize_map(Seen)
    }
}
