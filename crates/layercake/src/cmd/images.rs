//! `layercake images`.

use std::path::PathBuf;
use std::process::ExitCode;

use oci::{Digest, Reference, Time};
use serde::Serialize;
use store::Tag;

use crate::error::CommandError;
use crate::image::{self, Image};
use crate::table::{self, Format};
use crate::{context, human, output};

/// `layercake images`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIZE is the number of bytes of file content in all layers, not compressed. Files and layers that several images share are \
stored once and counted for each; see `layercake du` for what the store takes.")]
pub(crate) struct ImagesArgs {
    /// Only this image, or all images of this repository
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Also images without a name
    #[arg(short, long)]
    all: bool,
    /// Show the digest of the manifest that the name stands for
    #[arg(long)]
    digests: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// How to print the list
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One name of an image, or an image without a name.
#[derive(Debug, Serialize)]
struct Row {
    id: Digest,
    /// The whole name; none for images without one.
    name: Option<String>,
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<Digest>,
    platform: String,
    created: String,
    /// Bytes of file content in all layers.
    size: u64,
    layers: usize,
    #[serde(skip)]
    at: Time,
}

fn row(image: &Image, size: u64, tag: Option<&Tag>) -> Row {
    let name = tag.and_then(|t| t.name.parse::<Reference>().ok());
    let at = image.created();
    Row {
        id: image.record.id,
        name: name.as_ref().map(Reference::familiar),
        repository: name.as_ref().map(Reference::familiar_name),
        tag: name.as_ref().and_then(|n| n.tag.clone()),
        digest: tag.and_then(|t| t.manifest),
        platform: image.platform().to_string(),
        created: at.rfc3339(),
        size,
        layers: image.record.layers.len(),
        at,
    }
}

/// Whether a tag is one of those that were asked for.
fn wanted(filter: &str, tag: &Tag) -> bool {
    let Ok(name) = tag.name.parse::<Reference>() else { return false };
    if name.familiar_name() == filter || name.name() == filter {
        return true;
    }
    filter.parse::<Reference>().is_ok_and(|f| f == name)
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &ImagesArgs) -> Result<ExitCode, CommandError> {
    let store = context::store(root)?;
    let names = image::names(&store)?;
    let mut rows = Vec::new();
    for record in store.images()? {
        let tags = names.get(&record.id).map_or(&[][..], Vec::as_slice);
        let tags: Vec<&Tag> =
            tags.iter().filter(|t| args.name.as_deref().is_none_or(|f| wanted(f, t))).collect();
        if tags.is_empty() && (!args.all || args.name.is_some() || names.contains_key(&record.id)) {
            continue;
        }
        let image = image::load(&store, record)?;
        let size = image.size(&store)?;
        match tags.as_slice() {
            [] => rows.push(row(&image, size, None)),
            some => rows.extend(some.iter().map(|t| row(&image, size, Some(t)))),
        }
    }
    rows.sort_by(|a, b| (b.at, &a.name).cmp(&(a.at, &b.name)));
    let id = |d: &Digest| if args.no_trunc { d.to_string() } else { d.short() };
    if args.quiet {
        let mut seen = std::collections::HashSet::new();
        for r in rows.iter().filter(|r| seen.insert(r.id)) {
            output::line(&id(&r.id));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        header.insert(2, "DIGEST");
    }
    let now = Time::now();
    table::print(args.format, &rows, &header, |r| {
        let or_none = |t: Option<String>| t.unwrap_or_else(|| "<none>".to_owned());
        let mut cells = vec![
            or_none(r.repository.clone()),
            or_none(r.tag.clone()),
            id(&r.id),
            human::ago(r.at, now),
            human::bytes(r.size),
        ];
        if args.digests {
            cells.insert(2, or_none(r.digest.map(|d| d.to_string())));
        }
        cells
    });
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_repository_or_a_whole_name() {
        let tag = Tag {
            name: "docker.io/library/alpine:3.20".into(),
            id: Digest::of(b""),
            manifest: None,
            set: Time::default(),
        };
        for yes in ["alpine", "docker.io/library/alpine", "alpine:3.20", "docker.io/library/alpine:3.20"] {
            assert!(wanted(yes, &tag), "{yes}");
        }
        for no in ["alpin", "alpine:3", "library", "ALPINE"] {
            assert!(!wanted(no, &tag), "{no}");
        }
    }
}
