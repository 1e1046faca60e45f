//! Finding and reading an image of a layout.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::document::{self, MAX_DOCUMENT, check_layers, parse_config, parse_index, parse_manifest};
use super::files::{Damage, Files, Noted, Verified};
use super::{DocumentError, IMAGE_NAME, LayoutError, MAX_DEPTH, REFERENCE_TYPE};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::types::{Descriptor, ImageConfig, Index, Manifest, REF_NAME, media};

/// Descriptors that a search looks at, and documents that it reads: bounds on work for nothing.
const MAX_SEEN: usize = 10_000;
const MAX_READ: usize = 500;

/// Images in files.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    entries: Vec<ImageEntry>,
}

/// One image of a layout, or one index of images for several platforms.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageEntry {
    /// Its names: whole ones, and tags alone.
    pub names: Vec<String>,
    /// The manifest or index; `None` in a docker archive that is no OCI layout.
    pub descriptor: Option<Descriptor>,
    docker: Option<DockerImage>,
}

/// An element of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Which image is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The only one, or the one with the tag `latest`.
    Any,
    /// The one of a name: the text of an annotation, or a reference that means the same.
    Name(&'a str),
    /// The one of a digest: of an index, a manifest (listed or not), or in docker archives of a config.
    Digest(Digest),
}

/// An image with its documents read and checked against each other.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Names of the entry that it came from.
    pub names: Vec<String>,
    /// Descriptor, bytes and content of the manifest; `None` for docker archives.
    pub manifest: Option<(Descriptor, Vec<u8>, Manifest)>,
    /// The config.
    pub config: ImageConfig,
    /// The config's own bytes.
    pub config_bytes: Vec<u8>,
    /// Layers, base first.
    pub layers: Vec<LayerSource>,
    /// What the image runs on.
    pub platform: Platform,
    /// Whether that is the platform that was asked for. If not, it was the only image there.
    pub platform_matches: bool,
}

/// A layer and where its bytes are.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSource {
    /// Digest of the uncompressed tar, by the config.
    pub diff_id: Digest,
    /// Where the possibly compressed tar is.
    pub source: Source,
}

/// Where a layer's bytes are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A blob, whose digest and size are checked while it is read.
    Blob(Descriptor),
    /// A file of a docker archive, which only the diff ID tells right from wrong.
    File {
        /// Its name in the archive.
        path: String,
        /// Number of bytes.
        size: u64,
    },
}

struct Candidate {
    descriptor: Descriptor,
    platform: Option<Platform>,
}

impl Layout {
    /// A directory: an OCI layout, or an unpacked docker archive.
    pub fn open_dir(path: &Path) -> Result<Layout, LayoutError> {
        Layout::open(Files::Directory(path.to_path_buf()))
    }

    /// A tar that can be read at any place: an OCI layout, a docker archive, or both. Compressed ones are refused with
    /// [`LayoutError::Compressed`]; decompress them to a file first.
    pub fn open_tar(file: File) -> Result<Layout, LayoutError> {
        Layout::open(Files::tar(file)?)
    }

    /// An archive that went by in a stream, from what was noted of its files: all documents, and of layers that they were there. Images can be
    /// resolved; layers cannot be opened.
    pub fn noted(files: HashMap<String, Noted>) -> Result<Layout, LayoutError> {
        Layout::open(Files::Noted(files))
    }

    fn open(files: Files) -> Result<Layout, LayoutError> {
        if let Some(bytes) = files.read("oci-layout", MAX_DOCUMENT)? {
            #[derive(Deserialize)]
            struct Version {
                #[serde(rename = "imageLayoutVersion")]
                version: String,
            }
            let v: Version =
                parse("oci-layout", || serde_json::from_slice(&bytes).map_err(DocumentError::Json))?;
            if !v.version.starts_with("1.") {
                let problem = format!("layout version {:?} is not supported", v.version);
                return Err(LayoutError::Damaged { what: "oci-layout".into(), problem });
            }
        }
        let index = files.read("index.json", MAX_DOCUMENT)?;
        let docker = files.read("manifest.json", MAX_DOCUMENT)?;
        let mut entries = Vec::new();
        if let Some(bytes) = &index {
            let index: Index = parse("index.json", || parse_index(bytes))?;
            for d in index.manifests.into_iter().filter(may_be_image) {
                add_entry(&mut entries, d);
            }
        }
        if let (true, Some(bytes)) = (entries.is_empty(), &docker) {
            let images: Vec<DockerImage> =
                parse("manifest.json", || serde_json::from_slice(bytes).map_err(DocumentError::Json))?;
            entries = images
                .into_iter()
                .map(|i| ImageEntry {
                    names: i.repo_tags.clone().unwrap_or_default(),
                    descriptor: None,
                    docker: Some(i),
                })
                .collect();
        }
        if index.is_none() && docker.is_none() {
            return Err(LayoutError::NotALayout);
        }
        Ok(Layout { files, entries })
    }

    /// The images, in the order of the listing, each once with all of its names. Attestations and entries of unknown types are left out.
    pub fn images(&self) -> &[ImageEntry] {
        &self.entries
    }

    /// A blob, checked while it is read: whoever reads to the end without an error has had the right bytes.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<Verified<Box<dyn Read + Send>>, LayoutError> {
        let what = || format!("blob {}", descriptor.digest);
        let (reader, size) =
            self.files.open(&blob_path(&descriptor.digest))?.ok_or_else(|| LayoutError::Missing(what()))?;
        if size != descriptor.size {
            let problem = format!("it has {size} bytes, and its descriptor says {}", descriptor.size);
            return Err(LayoutError::Damaged { what: what(), problem });
        }
        Ok(Verified::new(reader, descriptor.digest, size))
    }

    /// A whole blob, checked; refused above `limit` bytes.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let what = || format!("blob {}", descriptor.digest);
        if descriptor.size > limit {
            let problem = format!("its descriptor says {} bytes, more than {limit}", descriptor.size);
            return Err(LayoutError::Damaged { what: what(), problem });
        }
        let mut out = Vec::new();
        match self.open_blob(descriptor)?.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => Err(match e.get_ref().and_then(|e| e.downcast_ref::<Damage>()) {
                Some(damage) => LayoutError::Damaged { what: what(), problem: damage.problem.to_owned() },
                None => LayoutError::io(format!("cannot read {}", what()), e),
            }),
        }
    }

    /// A layer's bytes as they lie there, compressed or not.
    pub fn open_layer(&self, layer: &LayerSource) -> Result<Box<dyn Read + Send>, LayoutError> {
        match &layer.source {
            Source::Blob(descriptor) => Ok(Box::new(self.open_blob(descriptor)?)),
            Source::File { path, .. } => {
                let found = self.files.open(path)?;
                Ok(found.ok_or_else(|| LayoutError::Missing(path.clone()))?.0)
            }
        }
    }

    /// Finds an image and reads its documents. If there is only one image and it is of another platform, it is taken, and
    /// [`ResolvedImage::platform_matches`] says so.
    pub fn resolve(&self, choice: Choice<'_>, platform: &Platform) -> Result<ResolvedImage, LayoutError> {
        let entries = self.choose(choice)?;
        let mut search = Search { layout: self, found: Vec::new(), seen: 0, read: 0 };
        let mut docker: Vec<ResolvedImage> = Vec::new();
        for entry in &entries {
            match (&entry.descriptor, &entry.docker) {
                (Some(d), _) => search.visit(d, 0)?,
                (None, Some(image)) => docker.push(self.docker_image(image, platform)?),
                (None, None) => {}
            }
        }
        let names = |digest: &Digest| -> Vec<String> {
            let own = |e: &&ImageEntry| e.descriptor.as_ref().is_some_and(|d| d.digest == *digest);
            let from: Vec<&ImageEntry> = match entries.iter().find(own) {
                Some(e) => vec![e],
                // Inside of an index: the index has the names.
                None if entries.len() == 1 => entries.iter().collect(),
                None => Vec::new(),
            };
            from.iter().flat_map(|e| e.names.clone()).collect()
        };
        let found = search.images()?;
        if !docker.is_empty() {
            return pick(docker, |i| Some(&i.platform), platform, |i| label(&i.names, None));
        }
        let chosen =
            pick(found, |c| c.platform.as_ref(), platform, |c| label(&names(&c.descriptor.digest), Some(c)))?;
        let names = names(&chosen.descriptor.digest);
        self.oci_image(chosen.descriptor, names, platform)
    }

    /// The entries that a choice means.
    fn choose(&self, choice: Choice<'_>) -> Result<Vec<ImageEntry>, LayoutError> {
        let all = &self.entries;
        if let Choice::Digest(digest) = choice {
            let is = |e: &&ImageEntry| match (&e.descriptor, &e.docker) {
                (Some(d), _) => d.digest == digest,
                (None, Some(i)) => digest_in(&i.config) == Some(digest),
                (None, None) => false,
            };
            if let Some(found) = all.iter().find(is) {
                return Ok(vec![found.clone()]);
            }
            let (_, size) = self.files.open(&blob_path(&digest))?.ok_or(LayoutError::NoDigest(digest))?;
            let descriptor = Some(Descriptor::new("", digest, size));
            return Ok(vec![ImageEntry { names: Vec::new(), descriptor, docker: None }]);
        }
        if all.is_empty() {
            return Err(LayoutError::NoImage);
        }
        let has_name = |e: &&ImageEntry, wanted: &str| e.names.iter().any(|n| same_name(n, wanted));
        match choice {
            Choice::Name(wanted) => {
                let found: Vec<ImageEntry> = all.iter().filter(|e| has_name(e, wanted)).cloned().collect();
                if found.is_empty() {
                    let have = listing(all.iter().map(|e| label(&e.names, None)));
                    return Err(LayoutError::NoName { wanted: wanted.to_owned(), have });
                }
                Ok(found)
            }
            _ => {
                let latest: Vec<&ImageEntry> = all
                    .iter()
                    .filter(|e| e.names.iter().any(|n| n == "latest" || n.ends_with(":latest")))
                    .collect();
                match &latest[..] {
                    [one] => Ok(vec![(*one).clone()]),
                    _ => Ok(all.clone()),
                }
            }
        }
    }

    fn oci_image(
        &self,
        descriptor: Descriptor,
        names: Vec<String>,
        wanted: &Platform,
    ) -> Result<ResolvedImage, LayoutError> {
        let bytes = self.read_blob(&descriptor, MAX_DOCUMENT)?;
        let what = format!("manifest {}", descriptor.digest);
        let manifest: Manifest = parse(&what, || parse_manifest(&bytes))?;
        let config_bytes = self.read_blob(&manifest.config, MAX_DOCUMENT)?;
        let config = parse(&format!("config {}", manifest.config.digest), || parse_config(&config_bytes))?;
        parse(&what, || check_layers(&manifest, &config))?;
        let layers = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(d, diff_id)| LayerSource { diff_id: *diff_id, source: Source::Blob(d.clone()) })
            .collect();
        let platform = config.platform();
        let platform_matches =
            wanted.accepts(&platform) || descriptor.platform.as_ref().is_some_and(|p| wanted.accepts(p));
        Ok(ResolvedImage {
            names,
            manifest: Some((descriptor, bytes, manifest)),
            config,
            config_bytes,
            layers,
            platform,
            platform_matches,
        })
    }

    fn docker_image(&self, image: &DockerImage, wanted: &Platform) -> Result<ResolvedImage, LayoutError> {
        let path = inside(&image.config)?;
        let config_bytes =
            self.files.read(&path, MAX_DOCUMENT)?.ok_or_else(|| LayoutError::Missing(path.clone()))?;
        if let Some(named) = digest_in(&path)
            && named != Digest::of(&config_bytes)
        {
            let problem = "its bytes have another digest than its name".to_owned();
            return Err(LayoutError::Damaged { what: path, problem });
        }
        let config: ImageConfig = parse(&path, || parse_config(&config_bytes))?;
        let paths = image.layers.as_deref().unwrap_or_default();
        parse("manifest.json", || document::count(paths.len(), &config))?;
        let mut layers = Vec::with_capacity(paths.len());
        for (path, diff_id) in paths.iter().zip(&config.rootfs.diff_ids) {
            let path = inside(path)?;
            let (_, size) = self.files.open(&path)?.ok_or_else(|| LayoutError::Missing(path.clone()))?;
            let source = match path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()) {
                // What lies under a digest must have it; whether it is compressed is found out when it is read.
                Some(digest) => Source::Blob(Descriptor::new(media::LAYER, digest, size)),
                None => Source::File { path, size },
            };
            layers.push(LayerSource { diff_id: *diff_id, source });
        }
        let platform = config.platform();
        let platform_matches = wanted.accepts(&platform);
        let names = image.repo_tags.clone().unwrap_or_default();
        Ok(ResolvedImage { names, manifest: None, config, config_bytes, layers, platform, platform_matches })
    }
}

/// A walk through indexes.
struct Search<'a> {
    layout: &'a Layout,
    found: Vec<Candidate>,
    seen: usize,
    read: usize,
}

impl Search<'_> {
    fn visit(&mut self, d: &Descriptor, depth: usize) -> Result<(), LayoutError> {
        self.seen += 1;
        if depth > MAX_DEPTH || self.seen > MAX_SEEN {
            return Err(LayoutError::Nesting);
        }
        if !may_be_image(d) {
            return Ok(());
        }
        let is_index = match d.media_type.as_str() {
            // Old tools leave the type out; the fields tell.
            "" => !self.document(d, parse_manifest_or_index)?.1,
            t => media::is_index(t),
        };
        if is_index {
            let index = self.document(d, parse_index)?;
            for child in &index.manifests {
                self.visit(child, depth + 1)?;
            }
        } else if !self.found.iter().any(|c| c.descriptor.digest == d.digest) {
            self.found.push(Candidate { descriptor: d.clone(), platform: d.platform.clone() });
        }
        Ok(())
    }

    fn document<T>(
        &mut self,
        d: &Descriptor,
        read: impl Fn(&[u8]) -> Result<T, DocumentError>,
    ) -> Result<T, LayoutError> {
        self.read += 1;
        if self.read > MAX_READ {
            return Err(LayoutError::Nesting);
        }
        let bytes = self.layout.read_blob(d, MAX_DOCUMENT)?;
        parse(&format!("blob {}", d.digest), || read(&bytes))
    }

    /// The images found, each with its platform. Artifacts that only look like images are left out.
    fn images(mut self) -> Result<Vec<Candidate>, LayoutError> {
        let mut out = Vec::new();
        for mut c in std::mem::take(&mut self.found) {
            if c.platform.is_none() {
                let manifest = self.document(&c.descriptor, parse_manifest)?;
                if !matches!(manifest.config.media_type.as_str(), media::CONFIG | media::DOCKER_CONFIG | "") {
                    continue;
                }
                let config = self.document(&manifest.config, parse_config)?;
                c.platform = Some(config.platform());
            }
            out.push(c);
        }
        Ok(out)
    }
}

/// Whether the bytes are a manifest (`true`) or an index.
fn parse_manifest_or_index(bytes: &[u8]) -> Result<((), bool), DocumentError> {
    match parse_index(bytes) {
        Ok(index) if !index.manifests.is_empty() => Ok(((), false)),
        _ => parse_manifest(bytes).map(|_| ((), true)),
    }
}

/// Takes the one image of the platform, or the only one.
fn pick<T>(
    all: Vec<T>,
    platform: impl Fn(&T) -> Option<&Platform>,
    wanted: &Platform,
    label: impl Fn(&T) -> String,
) -> Result<T, LayoutError> {
    let fits = |t: &T| platform(t).is_some_and(|p| wanted.accepts(p));
    let count = all.iter().filter(|t| fits(t)).count();
    match (count, all.len()) {
        (_, 0) => Err(LayoutError::NoImage),
        (0, 1) => all.into_iter().next().ok_or(LayoutError::NoImage),
        (0, _) => Err(LayoutError::NoPlatform {
            wanted: wanted.to_string(),
            have: listing(all.iter().map(|t| platform(t).map_or_else(|| "?".into(), Platform::to_string))),
        }),
        (1, _) => all.into_iter().find(fits).ok_or(LayoutError::NoImage),
        _ => Err(LayoutError::Ambiguous { have: listing(all.iter().filter(|t| fits(t)).map(label)) }),
    }
}

fn add_entry(entries: &mut Vec<ImageEntry>, d: Descriptor) {
    let names: Vec<String> =
        [IMAGE_NAME, REF_NAME].iter().filter_map(|k| d.annotations.get(*k).cloned()).collect();
    let same = |e: &&mut ImageEntry| e.descriptor.as_ref().is_some_and(|o| o.digest == d.digest);
    match entries.iter_mut().find(same) {
        Some(entry) => {
            for name in names {
                if !entry.names.contains(&name) {
                    entry.names.push(name);
                }
            }
        }
        None => entries.push(ImageEntry { names, descriptor: Some(d), docker: None }),
    }
}

/// Whether a descriptor may lead to an image: no attestation, no unknown type.
fn may_be_image(d: &Descriptor) -> bool {
    let t = d.media_type.as_str();
    let unknown = d.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
    (t.is_empty() || media::is_index(t) || media::is_manifest(t))
        && !d.annotations.contains_key(REFERENCE_TYPE)
        && !unknown
}

fn same_name(have: &str, wanted: &str) -> bool {
    let reference = |s: &str| s.parse::<Reference>().ok();
    have == wanted || reference(have).is_some_and(|h| reference(wanted) == Some(h))
}

fn label(names: &[String], candidate: Option<&Candidate>) -> String {
    match (names, candidate) {
        ([], None) => "one without a name".into(),
        ([], Some(c)) => c.descriptor.digest.to_string(),
        _ => names.join(" = "),
    }
}

/// The first few of a list, for people.
fn listing(items: impl Iterator<Item = String>) -> String {
    let items: HashSet<String> = items.collect();
    let mut items: Vec<String> = items.into_iter().collect();
    items.sort();
    let more = items.len().saturating_sub(10);
    items.truncate(10);
    let mut out = items.join(", ");
    if more > 0 {
        out.push_str(&format!(" and {more} more"));
    }
    out
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A path out of `manifest.json`, cleaned; refused if it leads out of the archive.
fn inside(path: &str) -> Result<String, LayoutError> {
    let bad = || LayoutError::Path(path.chars().take(200).collect());
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    if path.starts_with('/') || path.contains('\0') || parts.is_empty() || parts.contains(&"..") {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

/// The digest in the name of a config file: `<hex>.json`, `blobs/sha256/<hex>`, `sha256:<hex>`.
fn digest_in(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_suffix(".json").unwrap_or(name);
    Digest::from_hex(name.strip_prefix("sha256:").unwrap_or(name)).ok()
}

/// Names the document in the error.
fn parse<T>(what: &str, read: impl FnOnce() -> Result<T, DocumentError>) -> Result<T, LayoutError> {
    read().map_err(|source| LayoutError::Document { what: format!("{what} is refused"), source })
}
