//! `layercake inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use oci::Digest;
use oci::types::{History, RootFs, RunConfig};
use serde::Serialize;
use store::Store;

use crate::error::CommandError;
use crate::image::{self, Image};
use crate::{context, table};

/// `layercake inspect`
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Details {
    id: Digest,
    names: Vec<String>,
    /// Name to the digest of the manifest that it stands for.
    digests: BTreeMap<String, Digest>,
    manifest: Option<Digest>,
    created: Option<String>,
    author: Option<String>,
    platform: String,
    os: String,
    architecture: String,
    variant: Option<String>,
    /// Bytes of file content in all layers.
    size: u64,
    config: RunConfig,
    rootfs: RootFs,
    layers: Vec<Layer>,
    history: Vec<History>,
}

#[derive(Debug, Serialize)]
struct Layer {
    layer: Digest,
    diff_id: Option<Digest>,
    created_by: Option<String>,
    /// Files, directories, links, deletions.
    entries: usize,
    /// Bytes of file content.
    bytes: u64,
    /// Tars of this layer that the store has, compressed or not.
    blobs: Vec<Blob>,
}

#[derive(Debug, Serialize)]
struct Blob {
    media_type: String,
    digest: Digest,
    size: u64,
}

fn details(store: &Store, image: Image) -> Result<Details, CommandError> {
    let tags = image::names(store)?.remove(&image.record.id).unwrap_or_default();
    let mut layers = Vec::new();
    let indexes = image.layers(store)?;
    let lines = image.history();
    for (n, index) in indexes.iter().enumerate() {
        let diff_id = image.config.rootfs.diff_ids.get(n).copied();
        let line = lines.iter().find(|(_, l)| *l == Some(n)).and_then(|(h, _)| *h);
        let mut blobs = Vec::new();
        for b in diff_id.map(|d| store.tar_blobs(&d)).transpose()?.unwrap_or_default() {
            if store.has_blob(&b.digest)? {
                blobs.push(Blob { media_type: b.media_type, digest: b.digest, size: b.size });
            }
        }
        layers.push(Layer {
            layer: image.record.layers[n],
            diff_id,
            created_by: line.and_then(|h| h.created_by.clone()),
            entries: index.entries().len(),
            bytes: index.content_bytes(),
            blobs,
        });
    }
    let platform = image.platform().to_string();
    let c = image.config;
    Ok(Details {
        id: image.record.id,
        names: tags.iter().map(|t| image::familiar(&t.name)).collect(),
        digests: tags.iter().filter_map(|t| Some((image::familiar(&t.name), t.manifest?))).collect(),
        manifest: image.record.manifest,
        created: c.created,
        author: c.author,
        platform,
        os: c.os,
        architecture: c.architecture,
        variant: c.variant,
        size: layers.iter().map(|l| l.bytes).sum(),
        config: c.config,
        rootfs: c.rootfs,
        layers,
        history: c.history,
    })
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &InspectArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let mut out = Vec::new();
    for text in &args.images {
        out.push(details(&store, image::get(&store, text)?)?);
    }
    table::json(&out);
    Ok(ExitCode::SUCCESS)
}
