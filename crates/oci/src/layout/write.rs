//! Writing images: one archive form for OCI and Docker, and OCI layouts in directories.
//!
//! An archive is a tar whose members are sorted by name and have one time, so equal images give equal bytes:
//! `blobs/sha256/<hex>`, `index.json`, for Docker `manifest.json`, `oci-layout`. What `docker load`, `podman load` and
//! `skopeo copy docker-archive:` look for is `manifest.json`; its paths lead to the blobs.
//!
//! `index.json` lists an image once for each of its names, with the annotations that BuildKit and containerd write: the
//! whole name, the tag, the time of creation.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;

use super::document::{MAX_DOCUMENT, parse_index, parse_manifest};
use super::files::Verified;
use super::{CREATED, DocumentError, IMAGE_NAME, LayoutError};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::tar;
use crate::types::{Descriptor, Index, Manifest, REF_NAME, Rest, media};

const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image, or an index of images, to be written.
#[derive(Debug, Clone, Default)]
pub struct ImageToWrite {
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Bytes of the manifest or index.
    pub bytes: Vec<u8>,
    /// What a single image runs on; said in `index.json`.
    pub platform: Option<Platform>,
    /// Its names.
    pub names: Vec<Reference>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// More annotations for `index.json`.
    pub annotations: BTreeMap<String, String>,
    /// Documents that the caller has at hand: configs, and the manifests of an index. All others, and the layers, are asked for.
    pub documents: Vec<Vec<u8>>,
}

/// What may differ between two archives of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Time of all members of an archive, in seconds.
    pub mtime: i64,
}

/// Gives the bytes of a blob. They are checked.
pub type OpenBlob<'a> = dyn Fn(&Descriptor) -> io::Result<Box<dyn Read>> + 'a;

/// Writes an OCI layout as a tar.
pub fn write_oci_archive(
    out: impl Write,
    images: &[ImageToWrite],
    blobs: &OpenBlob<'_>,
    options: &WriteOptions,
) -> Result<(), LayoutError> {
    let contents = Contents::collect(images, blobs)?;
    let mut files = contents.files;
    files.insert("index.json".into(), Item::Bytes(index_json(contents.entries)?));
    write_tar(out, files, blobs, options)
}

/// Writes an archive that is an OCI layout and what `docker load` takes. Images must be of one platform each.
pub fn write_docker_archive(
    out: impl Write,
    images: &[ImageToWrite],
    blobs: &OpenBlob<'_>,
    options: &WriteOptions,
) -> Result<(), LayoutError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        config: String,
        repo_tags: Vec<String>,
        layers: Vec<String>,
    }
    let mut list = Vec::with_capacity(images.len());
    for image in images {
        if media::is_index(&image.media_type) {
            return Err(LayoutError::DockerIndex);
        }
        let manifest = manifest_of(&image.bytes)?;
        // A name by digest alone is no tag, and `docker load` refuses it.
        let tagged = image.names.iter().filter(|n| n.tag.is_some());
        list.push(Image {
            config: blob_path(&manifest.config.digest),
            repo_tags: tagged.map(|n| Reference { digest: None, ..n.clone() }.familiar()).collect(),
            layers: manifest.layers.iter().map(|l| blob_path(&l.digest)).collect(),
        });
    }
    let contents = Contents::collect(images, blobs)?;
    let mut files = contents.files;
    files.insert("index.json".into(), Item::Bytes(index_json(contents.entries)?));
    files.insert("manifest.json".into(), Item::Bytes(json("manifest.json", &list)?));
    write_tar(out, files, blobs, options)
}

/// Writes an OCI layout into a directory, which is made if it is not there. Images that an earlier layout there holds
/// stay, except for their names that now mean another image. Blobs that are there already with the right size are not written again.
pub fn write_oci_directory(
    path: &Path,
    images: &[ImageToWrite],
    blobs: &OpenBlob<'_>,
) -> Result<(), LayoutError> {
    let failed = |what: &Path| {
        let what = format!("cannot write {}", what.display());
        move |e| LayoutError::io(what, e)
    };
    let contents = Contents::collect(images, blobs)?;
    let dir = path.join("blobs/sha256");
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let mut old = Vec::new();
    let index = File::open(path.join("index.json"));
    let mut entries = match index.and_then(|f| f.take(MAX_DOCUMENT).read_to_end(&mut old).map(|_| old)) {
        Ok(bytes) => parse("index.json", parse_index(&bytes))?.manifests,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(LayoutError::io("cannot read index.json", e)),
    };
    let name =
        |d: &Descriptor| (d.annotations.get(IMAGE_NAME).cloned(), d.annotations.get(REF_NAME).cloned());
    entries.retain(|old| {
        let new = &contents.entries;
        let renamed = name(old) != (None, None) && new.iter().any(|n| name(n) == name(old));
        !renamed && !new.iter().any(|n| n.digest == old.digest && name(old) == (None, None))
    });
    entries.extend(contents.entries);
    // The index last: what it names is there.
    let mut files: Vec<(String, Item)> = contents.files.into_iter().collect();
    files.push(("index.json".into(), Item::Bytes(index_json(entries)?)));
    for (name, item) in files {
        let target = path.join(&name);
        if let Item::Blob(d) = &item
            && fs::symlink_metadata(&target).is_ok_and(|m| m.is_file() && m.len() == d.size)
        {
            continue;
        }
        let temporary = path.join(format!("{name}.{}.tmp", std::process::id()));
        let written = File::create(&temporary).and_then(|mut file| match &item {
            Item::Bytes(bytes) => file.write_all(bytes),
            Item::Blob(d) => io::copy(&mut Verified::new(blobs(d)?, d.digest, d.size), &mut file).map(drop),
        });
        if let Err(e) = written.and_then(|()| fs::rename(&temporary, &target)) {
            let _ = fs::remove_file(&temporary);
            return Err(failed(&target)(e));
        }
    }
    Ok(())
}

enum Item {
    Bytes(Vec<u8>),
    Blob(Descriptor),
}

/// Everything that an archive holds, and the entries of `index.json`.
struct Contents {
    files: BTreeMap<String, Item>,
    entries: Vec<Descriptor>,
}

impl Contents {
    fn collect(images: &[ImageToWrite], blobs: &OpenBlob<'_>) -> Result<Contents, LayoutError> {
        let mut out = Contents { files: BTreeMap::new(), entries: Vec::new() };
        out.files.insert("oci-layout".into(), Item::Bytes(VERSION.to_vec()));
        for image in images {
            let mut root = Descriptor::of(&image.media_type, &image.bytes);
            root.platform.clone_from(&image.platform);
            root.annotations.clone_from(&image.annotations);
            if let Some(created) = &image.created {
                root.annotations.insert(CREATED.into(), created.clone());
            }
            for name in &image.names {
                let mut entry = root.clone();
                entry.annotations.insert(IMAGE_NAME.into(), name.to_string());
                if let Some(tag) = &name.tag {
                    entry.annotations.insert(REF_NAME.into(), tag.clone());
                }
                out.entries.push(entry);
            }
            if image.names.is_empty() {
                out.entries.push(root.clone());
            }
            let documents = Documents { image, blobs };
            out.add(&root, image.bytes.clone(), &documents)?;
        }
        Ok(out)
    }

    /// Adds a manifest or index and all that it leads to.
    fn add(&mut self, d: &Descriptor, bytes: Vec<u8>, documents: &Documents<'_>) -> Result<(), LayoutError> {
        if media::is_index(&d.media_type) {
            let index: Index = parse("the index", parse_index(&bytes))?;
            for child in &index.manifests {
                // Indexes in indexes are never made here.
                if !media::is_manifest(&child.media_type) {
                    let source = DocumentError::Type(child.media_type.clone());
                    return Err(LayoutError::Document {
                        what: "an entry of the index is refused".into(),
                        source,
                    });
                }
                let bytes = documents.get(child)?;
                self.add(child, bytes, documents)?;
            }
        } else {
            let manifest = manifest_of(&bytes)?;
            let config = documents.get(&manifest.config)?;
            self.put(&manifest.config, Item::Bytes(config));
            for layer in manifest.layers {
                self.put(&layer.clone(), Item::Blob(layer));
            }
        }
        self.put(d, Item::Bytes(bytes));
        Ok(())
    }

    fn put(&mut self, d: &Descriptor, item: Item) {
        self.files.insert(blob_path(&d.digest), item);
    }
}

/// Documents at hand, and those that are asked for.
struct Documents<'a> {
    image: &'a ImageToWrite,
    blobs: &'a OpenBlob<'a>,
}

impl Documents<'_> {
    fn get(&self, d: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        if let Some(bytes) =
            self.image.documents.iter().find(|b| b.len() as u64 == d.size && Digest::of(b) == d.digest)
        {
            return Ok(bytes.clone());
        }
        let what = format!("cannot read blob {}", d.digest);
        if d.size > MAX_DOCUMENT {
            let problem = format!("its descriptor says {} bytes, more than {MAX_DOCUMENT}", d.size);
            return Err(LayoutError::Damaged { what: format!("blob {}", d.digest), problem });
        }
        let mut out = Vec::new();
        (self.blobs)(d)
            .and_then(|r| Verified::new(r, d.digest, d.size).read_to_end(&mut out))
            .map_err(|e| LayoutError::io(what, e))?;
        Ok(out)
    }
}

fn write_tar(
    out: impl Write,
    mut files: BTreeMap<String, Item>,
    blobs: &OpenBlob<'_>,
    options: &WriteOptions,
) -> Result<(), LayoutError> {
    let mut writer = tar::Writer::new(out, options.mtime);
    let mut write = || -> io::Result<()> {
        writer.directory("blobs")?;
        writer.directory("blobs/sha256")?;
        for (name, item) in std::mem::take(&mut files) {
            match item {
                Item::Bytes(bytes) => writer.file(&name, bytes.len() as u64, &mut &bytes[..])?,
                Item::Blob(d) => {
                    writer.file(&name, d.size, &mut Verified::new(blobs(&d)?, d.digest, d.size))?;
                }
            }
        }
        Ok(())
    };
    write()
        .and_then(|()| writer.finish().map(drop))
        .map_err(|e| LayoutError::io("cannot write the archive", e))
}

fn index_json(manifests: Vec<Descriptor>) -> Result<Vec<u8>, LayoutError> {
    let index = Index {
        schema_version: 2,
        media_type: Some(media::INDEX.into()),
        manifests,
        annotations: BTreeMap::new(),
        rest: Rest::new(),
    };
    json("index.json", &index)
}

fn json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, LayoutError> {
    parse(what, serde_json::to_vec(value).map_err(DocumentError::Json))
}

fn manifest_of(bytes: &[u8]) -> Result<Manifest, LayoutError> {
    parse("the manifest", parse_manifest(bytes))
}

fn parse<T>(what: &str, result: Result<T, DocumentError>) -> Result<T, LayoutError> {
    result.map_err(|source| LayoutError::Document { what: format!("{what} is refused"), source })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
