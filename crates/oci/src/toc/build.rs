//! From the entries of a table to a layer and to where its contents are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::entry::Raw;
use super::{Chunk, Content, EntryProblem, Packing, Piece, Toc, TocError};
use crate::digest::Digest;
use crate::index::show;
use crate::tar::archive::xattr_cost;
use crate::tar::read::{Assembly, ReadOptions};
use crate::tar::{Limits, Member, Problem, Type};

/// How far into a gzip member a chunk may begin. Writers fill a member up to some megabytes and begin the next one.
const MAX_INNER: u64 = 1 << 30;

/// Entries of a table, chunks among them.
const MAX_ENTRIES: u64 = if cfg!(test) { 1000 } else { 2_000_000 };

/// Collects entries.
pub(super) struct Builder {
    packing: Packing,
    /// Where the table begins: everything else lies before.
    end: u64,
    limits: Limits,
    seen: Limits,
    assembly: Assembly,
    /// A file whose chunks may still come.
    file: Option<Pending>,
    contents: Vec<Content>,
    by_digest: HashMap<Digest, usize>,
    places: Vec<Place>,
    /// Where parts of the blob begin, those that nobody needs among them.
    starts: Vec<u64>,
}

/// A file, and what was said of its chunks so far.
struct Pending {
    name: String,
    member: Member,
    digest: Option<Digest>,
    end: u64,
    chunks: Vec<Said>,
}

/// What an entry says of a chunk.
struct Said {
    at: u64,
    size: u64,
    digest: Option<Digest>,
    start: u64,
    inner: u64,
    zeros: bool,
}

/// Where a chunk is.
struct Place {
    start: u64,
    inner: u64,
    /// Where its part of the blob ends at the latest, if that was said.
    end: Option<u64>,
    content: usize,
    chunk: usize,
}

impl Builder {
    pub(super) fn new(packing: Packing, end: u64) -> Builder {
        Builder {
            packing,
            end,
            limits: Limits { entries: MAX_ENTRIES, ..Limits::default() },
            seen: Limits { entries: 0, metadata: 0, content: 0 },
            assembly: Assembly::new(ReadOptions::default()),
            file: None,
            contents: Vec::new(),
            by_digest: HashMap::new(),
            places: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Reads the JSON.
    pub(super) fn read(mut self, json: &[u8]) -> Result<Builder, TocError> {
        let mut problem = None;
        let mut d = serde_json::Deserializer::from_slice(json);
        let document = Document { builder: &mut self, problem: &mut problem };
        let read = document.deserialize(&mut d).and_then(|version| d.end().map(|()| version));
        match read {
            _ if problem.is_some() => Err(problem.unwrap_or(TocError::Place)),
            Err(e) => Err(TocError::Json(e)),
            Ok(1) => Ok(self),
            Ok(other) => Err(TocError::Version(other)),
        }
    }

    fn count(&mut self, what: &'static str, n: u64, of: fn(&mut Limits) -> &mut u64) -> Result<(), TocError> {
        let most = *of(&mut self.limits);
        let seen = of(&mut self.seen);
        *seen = seen.saturating_add(n);
        if *seen > most { Err(TocError::Layer(Box::new(Problem::Limit(what, most)))) } else { Ok(()) }
    }

    /// Takes the next entry.
    fn add(&mut self, mut raw: Raw<'_>) -> Result<(), TocError> {
        self.count("entries", 1, |l| &mut l.entries)?;
        let said = |raw: &Raw<'_>| -> Result<Said, EntryProblem> {
            Ok(Said {
                at: raw.chunk_offset,
                size: raw.chunk_size,
                digest: raw.chunk_digest()?,
                start: raw.offset,
                inner: raw.inner_offset,
                zeros: match &*raw.chunk_type {
                    "" => false,
                    "zeros" => true,
                    _ => return Err(EntryProblem::Chunks("one is of an unknown type")),
                },
            })
        };
        let in_entry = |raw: &Raw<'_>, e: EntryProblem| TocError::entry(&raw.name, e);
        if raw.kind == "chunk" {
            let chunk = said(&raw).map_err(|e| in_entry(&raw, e))?;
            return match &mut self.file {
                Some(file) if file.name == raw.name => {
                    file.chunks.push(chunk);
                    Ok(())
                }
                _ => Err(in_entry(&raw, EntryProblem::Chunks("one does not follow its file"))),
            };
        }
        self.settle()?;
        let member = raw.member().map_err(|e| in_entry(&raw, e))?;
        let held = (member.path.len() + member.link.len()) as u64 + xattr_cost(&member.xattrs);
        self.count("bytes of metadata", held, |l| &mut l.metadata)?;
        self.count("bytes of content", member.size, |l| &mut l.content)?;
        if member.kind == Type::File {
            let (digest, first) = match (raw.digest(), said(&raw)) {
                (Ok(digest), Ok(first)) => (digest, first),
                (Err(e), _) | (_, Err(e)) => return Err(in_entry(&raw, e)),
            };
            let (name, end) = (raw.name.into_owned(), raw.end_offset);
            self.file = Some(Pending { name, member, digest, end, chunks: vec![first] });
            return Ok(());
        }
        self.put(&raw.name, member, None)
    }

    fn put(&mut self, name: &str, member: Member, content: Option<Digest>) -> Result<(), TocError> {
        let wanted = self.assembly.wants(&member.path).map_err(|p| TocError::entry(name, p))?;
        if !wanted {
            return Ok(());
        }
        self.assembly.put(member, content).map_err(|p| TocError::entry(name, p))
    }

    /// Ends the file whose chunks were collected.
    fn settle(&mut self) -> Result<(), TocError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let digest = self.locate(&file).map_err(|e| TocError::entry(&file.name, e))?;
        self.put(&file.name, file.member, Some(digest))
    }

    /// Checks the chunks of a file and keeps where they are; gives the digest of the file.
    fn locate(&mut self, file: &Pending) -> Result<Digest, EntryProblem> {
        let size = file.member.size;
        let only = if let [only] = &file.chunks[..] { Some(only) } else { None };
        if size == 0 {
            let empty = Digest::of(b"");
            if only.is_none_or(|c| c.size != 0) {
                return Err(EntryProblem::Chunks("it is empty"));
            }
            return match file.digest {
                Some(other) if other != empty => Err(EntryProblem::Digest("the file")),
                _ => Ok(empty),
            };
        }
        let digest = match (file.digest, only.and_then(|c| c.digest)) {
            (Some(whole), Some(chunk)) if whole != chunk => return Err(EntryProblem::Digest("the file")),
            (Some(digest), _) | (None, Some(digest)) => digest,
            (None, None) => return Err(EntryProblem::Digest("the file")),
        };
        let content = self.contents.len();
        let mut chunks = Vec::with_capacity(file.chunks.len());
        let mut places = Vec::with_capacity(file.chunks.len());
        let mut at = 0u64;
        for (n, said) in file.chunks.iter().enumerate() {
            let next = file.chunks.get(n + 1);
            let rest = size - at;
            let length = if said.size == 0 && next.is_none() { rest } else { said.size };
            if said.at != at {
                return Err(EntryProblem::Chunks("one begins elsewhere than the one before it ends"));
            }
            if length == 0 || length > rest {
                return Err(EntryProblem::Chunks("one is empty, or reaches behind the end"));
            }
            let known = said.digest.or(only.and(file.digest)).ok_or(EntryProblem::Digest("a chunk"))?;
            chunks.push(Chunk { at, size: length, digest: known, piece: None });
            at += length;
            if said.start == 0 && said.zeros {
                continue;
            }
            // The tar begins with a header, so no file begins at 0.
            if said.start == 0 || said.start >= self.end {
                return Err(EntryProblem::Outside);
            }
            self.starts.push(said.start);
            if said.zeros {
                continue;
            }
            if said.inner.checked_add(length).is_none() || said.inner > MAX_INNER {
                return Err(EntryProblem::Outside);
            }
            let end = match next {
                Some(next) if next.start != said.start => Some(next.start),
                None if file.end != 0 => Some(file.end),
                _ => None,
            };
            if end.is_some_and(|end| end <= said.start || end > self.end) {
                return Err(EntryProblem::Outside);
            }
            places.push(Place { start: said.start, inner: said.inner, end, content, chunk: n });
        }
        if at != size {
            return Err(EntryProblem::Chunks("they end before it does"));
        }
        match self.by_digest.get(&digest) {
            Some(&known) if self.contents[known].size != size => {
                return Err(EntryProblem::Digest("the file"));
            }
            Some(_) => {}
            None => {
                self.by_digest.insert(digest, content);
                let path = file.member.path.clone();
                self.contents.push(Content { digest, size, path, chunks, run: None });
                self.places.append(&mut places);
            }
        }
        Ok(digest)
    }

    /// The layer; `own` is the table's own member of the tar.
    pub(super) fn finish(mut self, own: Option<(Member, Vec<u8>)>) -> Result<Toc, TocError> {
        self.settle()?;
        let own = match own {
            None => None,
            Some((member, json)) => {
                self.put("stargz.index.json", member, Some(Digest::of(&json)))?;
                Some(json)
            }
        };
        let (frames, pieces) = self.lay_out()?;
        for (n, piece) in pieces.iter().enumerate() {
            let content = &mut self.contents[piece.content];
            content.chunks[piece.chunk].piece = Some(n);
        }
        for content in &mut self.contents {
            let mut held = content.chunks.iter().filter_map(|c| c.piece);
            let first = held.next().unwrap_or(0);
            let mut end = first + usize::from(content.chunks.iter().any(|c| c.piece.is_some()));
            let follow = held.all(|piece| {
                end += 1;
                piece + 1 == end
            });
            content.run = follow.then_some(first..end);
        }
        let located = self.assembly.finish(self.limits.metadata).map_err(|(path, problem)| match path {
            Some(path) => TocError::entry(&show(&path), problem),
            None => TocError::Layer(Box::new(problem)),
        })?;
        Ok(Toc { index: located.index, packing: self.packing, contents: self.contents, frames, pieces, own })
    }

    /// The parts of the blob that are needed, and what is in them.
    fn lay_out(&mut self) -> Result<(Vec<Range<u64>>, Vec<Piece>), TocError> {
        self.starts.sort_unstable();
        self.starts.dedup();
        self.places.sort_unstable_by_key(|p| (p.start, p.inner));
        let mut frames: Vec<Range<u64>> = Vec::new();
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.places.len());
        // Where in the frame the piece before ended.
        let mut filled = 0;
        for p in &self.places {
            let content = &self.contents[p.content];
            let overlap = || TocError::entry(&show(&content.path), EntryProblem::Overlap);
            let after = self.starts.partition_point(|s| *s <= p.start);
            let next = self.starts.get(after).copied().unwrap_or(self.end);
            if p.end.is_some_and(|end| end > next) {
                return Err(overlap());
            }
            let end = p.end.unwrap_or(next);
            match frames.last_mut() {
                Some(frame) if frame.start == p.start => {
                    if p.inner < filled {
                        return Err(overlap());
                    }
                    frame.end = frame.end.max(end);
                }
                _ => frames.push(p.start..end),
            }
            filled = p.inner + content.chunks[p.chunk].size;
            let frame = frames.len() - 1;
            pieces.push(Piece { frame, inner: p.inner, content: p.content, chunk: p.chunk });
        }
        Ok((frames, pieces))
    }
}

/// The table as JSON; gives its version. What is wrong with an entry goes to `problem`, since errors of JSON are texts.
struct Document<'b> {
    builder: &'b mut Builder,
    problem: &'b mut Option<TocError>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<u64, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let (mut version, mut entries) = (None, false);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "version" => version = Some(map.next_value()?),
                "entries" if entries => return Err(A::Error::duplicate_field("entries")),
                "entries" => {
                    entries = true;
                    map.next_value_seed(Entries { builder: self.builder, problem: self.problem })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match version {
            Some(version) if entries => Ok(version),
            Some(_) => Err(A::Error::missing_field("entries")),
            None => Err(A::Error::missing_field("version")),
        }
    }
}

/// The entries, one after the other: there is never more than one in memory as JSON has it.
struct Entries<'b> {
    builder: &'b mut Builder,
    problem: &'b mut Option<TocError>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<Raw<'de>>()? {
            if let Err(e) = self.builder.add(raw) {
                *self.problem = Some(e);
                return Err(A::Error::custom("an entry is wrong"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[String]) -> Result<Toc, TocError> {
        let json = format!(r#"{{"entries":[{}],"more":{{"a":[1]}},"version":1}}"#, entries.join(","));
        Builder::new(Packing::Zstd, 10).read(json.as_bytes())?.finish(None)
    }

    #[test]
    fn there_is_an_end_of_entries_and_attributes() {
        let many = |n: u64| (0..n).map(|n| format!(r#"{{"name":"{n}","type":"dir"}}"#)).collect::<Vec<_>>();
        assert_eq!(read(&many(MAX_ENTRIES)).unwrap().index.entries().len() as u64, MAX_ENTRIES);
        let told = read(&many(MAX_ENTRIES + 1)).unwrap_err().to_string();
        assert!(told.contains("more than 1000 entries"), "{told}");
        let large = format!(
            r#"{{"version":1,"entries":[{{"name":"a","type":"symlink","linkName":"{}"}}]}}"#,
            "b".repeat(4000)
        );
        let mut little = Builder::new(Packing::Zstd, 10);
        little.limits.metadata = 4000;
        let told = little.read(large.as_bytes()).map(drop).unwrap_err().to_string();
        assert!(told.contains("more than 4000 bytes of metadata"), "{told}");
        let all: Vec<String> = (0..5000).map(|n| format!(r#""user.{n}":"""#)).collect();
        let told =
            read(&[format!(r#"{{"name":"a","type":"dir","xattrs":{{{}}}}}"#, all.join(","))]).unwrap_err();
        assert!(matches!(&told, TocError::Json(e) if e.to_string().contains("too many")), "{told}");
        let huge = |n: u64| {
            let digest = Digest::of(&n.to_le_bytes());
            format!(r#"{{"name":"{n}","type":"reg","size":{},"digest":"{digest}","offset":{n}}}"#, 1u64 << 37)
        };
        let told = read(&(1..4).map(huge).collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(told.contains("bytes of content"), "{told}");
        read(&(1..3).map(huge).collect::<Vec<_>>()).unwrap();
    }
}
