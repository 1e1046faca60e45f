//! One entry of a table of contents, as JSON has it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::EntryProblem;
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
        let link = match kind {
            Type::HardLink => archive::clean(link, "link target")?,
            Type::Symlink if !archive::is_link_text(link) => return Err(Problem::Name("link target").into()),
            _ => link.to_vec(),
        };
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
        let mut xattrs: Xattrs = Vec::new();
        for (name, value) in self.xattrs.take().map_or_else(Vec::new, |v| v.0) {
            if is_xattr(exact(&name, "attribute's name")?)? {
                let value = base64(value.as_bytes()).ok_or(EntryProblem::Text("attribute's value"))?;
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

/// Base64 with padding, RFC 4648 section 4.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let six = |c: u8| {
        Some(u32::from(match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&c| c == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text[..text.len() - padding].chunks(4) {
        let word = group.iter().try_fold(0u32, |w, &c| Some(w << 6 | six(c)?))? << (6 * (4 - group.len()));
        out.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("AQAAAgD/+/8=", b"\x01\0\0\x02\0\xff\xfb\xff"),
        ] {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Z", "Zg", "Zg=", "=", "====", "Zg=v", "Zm 9", "Zm\n9"] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }
}
