//! Archives that go by in a stream, in one pass and without a temporary file: OCI and docker-save tars, compressed or not.
//!
//! What is a layer is known only when the manifest comes, which is mostly at the end. So everything that is no JSON document is read as
//! a layer when it comes, and its entries (no contents) are kept until it is known which are needed. What cannot be read as a layer is an error only if
//! the image has it.
//!
//! Every blob is hashed as it passes; one under a name that says its digest must have it.

use std::collections::HashMap;
use std::io::{self, Read};

use oci::Digest;
use oci::compress::{Decoder, Format, sniff};
use oci::index::split;
use oci::layout::{Choice, Layout, LayoutError, Noted, Source, relative};
use oci::platform::Platform;
use oci::tar::{Archive, Limits, Type};

use super::assemble::Head;
use super::stream::{Control, Hashes, Scanned, scan};
use super::{Assembly, LoadError, MAX_LAYERS, Raw};
use crate::image::{Image, Origin};

/// Largest document that is kept, and the most bytes of all together.
const MAX_DOCUMENT: u64 = 8 << 20;
const MAX_DOCUMENTS: u64 = 64 << 20;

/// A stream whose first bytes have been looked at.
struct Peeked<'a, R> {
    head: &'a [u8],
    rest: &'a mut R,
}

impl<R: Read> Read for Peeked<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            return self.rest.read(buf);
        }
        self.head.read(buf)
    }
}

/// Reads an archive to its end and analyses the image that `choice` and `platform` mean. `name` is what it was asked for by.
pub fn load(
    reader: impl Read,
    choice: Choice<'_>,
    platform: &Platform,
    name: &str,
    origin: Origin,
    control: &Control<'_>,
) -> Result<Image, LoadError> {
    let unreadable =
        |source| LoadError::Layout(LayoutError::Io { what: "cannot read the archive".into(), source });
    let decoder = Decoder::new(reader).map_err(unreadable)?;
    // Contents are bounded layer by layer.
    let limits = Limits { entries: 1 << 20, metadata: 64 << 20, content: u64::MAX };
    let mut archive = Archive::new(io::BufReader::with_capacity(256 << 10, decoder), limits);
    let mut files: HashMap<String, Noted> = HashMap::new();
    let mut layers: HashMap<String, Result<Scanned, LoadError>> = HashMap::new();
    let mut kept = 0;
    while let Some(member) = archive.next_member().map_err(|e| LoadError::Layout(LayoutError::Tar(e)))? {
        let Ok(path) = String::from_utf8(member.path.clone()) else { continue };
        match member.kind {
            Type::File => {}
            Type::HardLink => {
                if let Ok(target) = String::from_utf8(member.link) {
                    files.insert(path, Noted::Link(target));
                }
                continue;
            }
            Type::Symlink => {
                let target = relative(split(&member.path).0, &member.link);
                if let Some(target) = target.and_then(|t| String::from_utf8(t).ok()) {
                    files.insert(path, Noted::Link(target));
                }
                continue;
            }
            _ => continue,
        }
        let mut head = [0u8; 16];
        let got = fill(&mut archive, &mut head).map_err(unreadable)?;
        let head = &head[..got];
        let text = sniff(head) == Format::None
            && head.iter().find(|c| !c.is_ascii_whitespace()).is_some_and(|c| matches!(c, b'{' | b'['));
        if text && member.size <= MAX_DOCUMENT && kept + member.size <= MAX_DOCUMENTS {
            kept += member.size;
            let mut bytes = head.to_vec();
            archive.read_to_end(&mut bytes).map_err(unreadable)?;
            files.insert(path, Noted::Bytes(bytes));
            continue;
        }
        if layers.len() >= MAX_LAYERS {
            return Err(LoadError::TooLarge("blobs"));
        }
        let peeked = Peeked { head, rest: &mut archive };
        // One of the two vouches for it: the name's digest is the blob's, an old archive's config says the tar's.
        let named = named(&path);
        let hashes = Hashes { blob: named.is_some(), tar: named.is_none() };
        let scanned = scan(peeked, layers.len(), member.size, hashes, control);
        if matches!(scanned, Err(LoadError::Cancelled)) {
            return Err(LoadError::Cancelled);
        }
        files.insert(path.clone(), Noted::Size(member.size));
        layers.insert(path, scanned);
    }
    archive.drain().map_err(|e| LoadError::Layout(LayoutError::Tar(e)))?;
    let links = links(&files);
    let layout = Layout::noted(files)?;
    let image = layout.resolve(choice, platform)?;
    let mut assembly = Assembly::new(image.layers.len())?;
    let paths: Vec<String> = image.layers.iter().map(|l| followed(&links, path_of(&l.source))).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    paths.iter().for_each(|p| *uses.entry(p).or_default() += 1);
    for (n, (layer, path)) in image.layers.iter().zip(&paths).enumerate() {
        let media_type = match &layer.source {
            Source::Blob(d) => d.media_type.clone(),
            Source::File { .. } => String::new(),
        };
        let left = uses.get_mut(path.as_str()).map_or(0, |u| {
            *u -= 1;
            *u
        });
        let found = match layers.remove(path) {
            Some(Ok(scanned)) => Ok(scanned),
            Some(Err(LoadError::Layer { what, .. })) => Err(LoadError::Layer { layer: n, what }),
            Some(Err(LoadError::Read { source, .. })) => Err(LoadError::Read { layer: n, source }),
            Some(Err(e)) => Err(e),
            // What looked like a document.
            None => Err(LoadError::Layer { layer: n, what: format!("{path} is no layer") }),
        };
        let scanned = found?;
        // The same layer may be there twice.
        if left > 0 {
            layers.insert(path.clone(), Ok(scanned.clone()));
        }
        let damaged = |what: String| LoadError::Layer { layer: n, what };
        let digest = named(path);
        if let (Some(want), Some(got)) = (digest, scanned.digest)
            && got != want
        {
            return Err(damaged(format!("its bytes have digest {got}, not {want}")));
        }
        if let Some(got) = scanned.diff_id
            && got != layer.diff_id
        {
            return Err(damaged(format!("its content has diff ID {got}, the config says {}", layer.diff_id)));
        }
        let raw = Raw {
            media_type,
            compression: scanned.compression,
            digest,
            diff_id: Some(layer.diff_id),
            packed: Some(scanned.size),
            index: scanned.index,
            measured: Some(scanned.measured),
        };
        assembly.add(n, raw)?;
    }
    let id = Digest::of(&image.config_bytes);
    let head = Head {
        name: name.to_owned(),
        origin,
        id,
        config: image.config,
        manifest: image.manifest.map(|(d, _, m)| (d.digest, m)),
        wanted: Some(platform.clone()),
    };
    assembly.finish(head)
}

/// Where a layer lies in the archive.
fn path_of(source: &Source) -> String {
    match source {
        Source::Blob(d) => format!("blobs/sha256/{}", d.digest.hex()),
        Source::File { path, .. } => path.clone(),
    }
}

/// The digest in the name of a blob.
fn named(path: &str) -> Option<Digest> {
    Digest::from_hex(path.strip_prefix("blobs/sha256/")?).ok()
}

/// Links among the files of an archive.
fn links(files: &HashMap<String, Noted>) -> HashMap<String, String> {
    let link = |(path, noted): (&String, &Noted)| match noted {
        Noted::Link(target) => Some((path.clone(), target.clone())),
        _ => None,
    };
    files.iter().filter_map(link).collect()
}

fn followed(links: &HashMap<String, String>, mut path: String) -> String {
    for _ in 0..8 {
        match links.get(&path) {
            Some(target) => path.clone_from(target),
            None => break,
        }
    }
    path
}

/// Reads until the buffer is full or the content ends.
fn fill(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match reader.read(&mut buf[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}
