//! Where a table of contents stands, and its way to JSON.

use std::io::{self, Read};
use std::ops::Range;

use super::build::Builder;
use super::{MAX_PACKED, MAX_TOC, OWN_NAME, Packing, Toc, TocError};
use crate::compress::{Decoder, Format, Growth};
use crate::digest::Digest;
use crate::tar::{Archive, Limits, Member, Type};
use crate::types::Descriptor;

const STARGZ_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Beginnings of the annotations of zstd:chunked, that of older writers last.
const CHUNKED: [&str; 2] = ["io.github.containers.zstd-chunked", "io.containers.zstd-chunked"];
const CHUNKED_DIGEST: &str = "manifest-checksum";
const CHUNKED_PLACE: &str = "manifest-position";

/// Bytes of the footer of eStargz.
const STARGZ_FOOTER: u64 = 51;
/// Bytes of the footer of zstd:chunked, with the header of its frame; older ones are shorter.
const CHUNKED_FOOTER: u64 = 72;
const CHUNKED_MAGIC: &[u8] = b"GNUlInUx";
/// What may be in the tar beside the JSON: a header and the end.
const AROUND: u64 = 64 << 10;

/// A layer that has a table of contents, by the word of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    packing: Packing,
    digest: Digest,
    /// Size of the blob.
    size: u64,
    /// Text of the annotation of its place.
    place: Option<String>,
}

/// Where the table is.
struct Place {
    bytes: Range<u64>,
    /// Bytes of the JSON, where that is said.
    unpacked: Option<u64>,
}

impl Announced {
    /// What the descriptor of a layer says. `None` if there is no table that could be verified.
    pub fn of(layer: &Descriptor) -> Option<Announced> {
        let ends = |with: &[&str]| with.iter().any(|end| layer.media_type.ends_with(end));
        let chunked =
            |what: &str| CHUNKED.iter().find_map(|with| layer.annotations.get(&format!("{with}.{what}")));
        let (packing, digest) = if ends(&["tar+zstd", "tar.zstd"]) {
            (Packing::Zstd, chunked(CHUNKED_DIGEST)?)
        } else if ends(&["tar+gzip", "tar.gzip"]) {
            (Packing::Gzip, layer.annotations.get(STARGZ_DIGEST)?)
        } else {
            return None;
        };
        let digest = digest.parse().ok()?;
        Some(Announced { packing, digest, size: layer.size, place: chunked(CHUNKED_PLACE).cloned() })
    }

    /// Reads the table; `get` gives bytes of the blob, as many as are asked for, which need not be verified.
    pub fn read<E: From<TocError>>(
        &self,
        get: &mut dyn FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Toc, E> {
        let place = match (self.packing, &self.place) {
            (Packing::Zstd, Some(text)) => said_place(text).ok_or(TocError::Place)?,
            (packing, _) => {
                let most = if packing == Packing::Gzip { STARGZ_FOOTER } else { CHUNKED_FOOTER };
                let footer = get(self.size.saturating_sub(most)..self.size)?;
                let found = match packing {
                    Packing::Gzip => stargz_place(&footer, self.size),
                    Packing::Zstd => chunked_place(&footer),
                };
                found.ok_or(TocError::Place)?
            }
        };
        let Range { start, end } = place.bytes;
        if start >= end || end > self.size {
            return Err(TocError::Place.into());
        }
        if end - start > MAX_PACKED {
            return Err(TocError::TooLarge(MAX_PACKED).into());
        }
        if place.unpacked.is_some_and(|n| n > MAX_TOC) {
            return Err(TocError::TooLarge(MAX_TOC).into());
        }
        let packed = get(start..end)?;
        Ok(self.unpack(start, packed, place.unpacked)?)
    }

    fn unpack(&self, start: u64, packed: Vec<u8>, unpacked: Option<u64>) -> Result<Toc, TocError> {
        let verified = |got: Digest| match got == self.digest {
            true => Ok(()),
            false => Err(TocError::Digest { expected: self.digest, got }),
        };
        match self.packing {
            Packing::Zstd => {
                verified(Digest::of(&packed))?;
                let json = whole(decoder(&packed, Format::Zstd)?)?;
                if unpacked.is_some_and(|n| n != json.len() as u64) {
                    return Err(TocError::Place);
                }
                drop(packed);
                Builder::new(self.packing, start).read(&json)?.finish(None)
            }
            Packing::Gzip => {
                let (member, json) = own_file(&packed)?;
                verified(Digest::of(&json))?;
                drop(packed);
                Builder::new(self.packing, start).read(&json)?.finish(Some((member, json)))
            }
        }
    }
}

fn decoder(packed: &[u8], wanted: Format) -> Result<Decoder<&[u8]>, TocError> {
    let decoder = Decoder::new(packed).map_err(TocError::Unpack)?;
    if decoder.format() != wanted {
        let text = format!("it is {}, and should be {wanted}", decoder.format());
        return Err(TocError::Unpack(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    Ok(decoder.with_growth(Growth { free: MAX_TOC + AROUND, factor: 0 }))
}

fn whole(reader: impl Read) -> Result<Vec<u8>, TocError> {
    let mut json = Vec::new();
    reader.take(MAX_TOC + 1).read_to_end(&mut json).map_err(TocError::Unpack)?;
    if json.len() as u64 > MAX_TOC { Err(TocError::TooLarge(MAX_TOC)) } else { Ok(json) }
}

/// The only member of the tar at the end of an eStargz layer.
fn own_file(packed: &[u8]) -> Result<(Member, Vec<u8>), TocError> {
    let limits = Limits { entries: 4, metadata: AROUND, content: MAX_TOC };
    let mut archive = Archive::new(decoder(packed, Format::Gzip)?, limits);
    let bad = |e: crate::tar::TarError| TocError::Unpack(io::Error::new(io::ErrorKind::InvalidData, e));
    let member = archive.next_member().map_err(bad)?;
    let Some(member) = member.filter(|m| m.kind == Type::File && m.path == OWN_NAME) else {
        return Err(TocError::Place);
    };
    let json = whole(&mut archive)?;
    Ok((member, json))
}

/// `OFFSET:LENGTH:UNPACKED:1`.
fn said_place(text: &str) -> Option<Place> {
    let mut numbers = text.splitn(5, ':').map(|n| n.parse::<u64>().ok());
    let (offset, length, unpacked) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (numbers.next()?? == 1 && numbers.next().is_none())
        .then_some(Place { bytes: offset..offset.checked_add(length)?, unpacked: Some(unpacked) })
}

fn stargz_place(footer: &[u8], size: u64) -> Option<Place> {
    let footer: &[u8; STARGZ_FOOTER as usize] = footer.try_into().ok()?;
    let head = footer[..4] == [0x1f, 0x8b, 8, 4] && footer[10..16] == [26, 0, b'S', b'G', 22, 0];
    if !head || footer[32..38] != *b"STARGZ" || !footer[16..32].iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let offset = u64::from_str_radix(std::str::from_utf8(&footer[16..32]).ok()?, 16).ok()?;
    Some(Place { bytes: offset..size.checked_sub(STARGZ_FOOTER)?, unpacked: None })
}

fn chunked_place(footer: &[u8]) -> Option<Place> {
    let place = |payload: usize| {
        let frame = footer.get(footer.len().checked_sub(payload + 8)?..)?;
        let length = u32::try_from(payload).ok()?.to_le_bytes();
        let right = frame[..4] == [0x50, 0x2a, 0x4d, 0x18] && frame[4..8] == length;
        let numbers = frame[8..].chunks_exact(8);
        let number =
            |n: usize| numbers.clone().nth(n).and_then(|b| Some(u64::from_le_bytes(b.try_into().ok()?)));
        (right && frame.ends_with(CHUNKED_MAGIC) && number(3)? == 1)
            .then_some(Place { bytes: number(0)?..number(0)?.checked_add(number(1)?)?, unpacked: number(2) })
    };
    place(64).or_else(|| place(40))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer(payload: usize) -> Vec<u8> {
        let mut out = vec![0x50, 0x2a, 0x4d, 0x18];
        out.extend(u32::try_from(payload).unwrap().to_le_bytes());
        for n in [1000u64, 20, 300, 1] {
            out.extend(n.to_le_bytes());
        }
        out.resize(payload, 7);
        out.extend(CHUNKED_MAGIC);
        out
    }

    #[test]
    fn footers_of_both_lengths_say_the_place() {
        for payload in [64, 40] {
            let whole = [vec![9; 80], footer(payload)].concat();
            let tail = &whole[whole.len() - CHUNKED_FOOTER as usize..];
            let place = chunked_place(tail).unwrap();
            assert_eq!((place.bytes, place.unpacked), (1000..1020, Some(300)), "{payload}");
            for n in 1..=payload + 8 {
                let mut bad = tail.to_vec();
                let at = bad.len() - n;
                bad[at] ^= 0x80;
                let moved =
                    chunked_place(&bad).is_none_or(|p| p.bytes != (1000..1020) || p.unpacked != Some(300));
                // What lies between the numbers and the letters is about something else.
                assert!(moved || (9..=32).contains(&n) && payload == 64, "{payload}: byte {n} from the end");
            }
        }
        assert!(chunked_place(&[0; 20]).is_none());
    }

    #[test]
    fn places_in_annotations() {
        let place = said_place("7:8:9:1").unwrap();
        assert_eq!((place.bytes, place.unpacked), (7..15, Some(9)));
        for bad in ["", "7:8:9", "7:8:9:2", "7:8:9:1:1", "-7:8:9:1", "7:18446744073709551615:9:1"] {
            assert!(said_place(bad).is_none(), "{bad}");
        }
    }
}
