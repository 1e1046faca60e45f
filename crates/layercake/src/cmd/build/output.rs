//! `--output`: what becomes of a built image.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use build::export::{self, LayerOptions, Manifested};
use build::load::{ArchiveKind, Outgoing, save, save_directory};
use build::{BuildError, Built, Outcome, StepId, Tasks, at_epoch};
use oci::compress::Compression;
use oci::platform::Platform;
use oci::types::{Descriptor, Index, Rest, media};
use oci::{Digest, Reference, Time};
use registry::{Client, Pushed};
use serde_json::{Value, json};
use store::Store;

use crate::cmd::push::push_image;
use crate::dest;
use crate::error::{CommandError, Kind};

/// One `--output`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    kind: OutputKind,
    dest: Option<String>,
    names: Vec<Reference>,
    push: bool,
    /// Write an archive, not a directory.
    archive: bool,
    layers: LayerOptions,
    /// No file of the build's own layers is younger than SOURCE_DATE_EPOCH.
    rewrite_times: bool,
    /// In place of the build's SOURCE_DATE_EPOCH.
    epoch: Option<i64>,
    /// A directory for each platform; none: if there are several.
    platform_split: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    Image,
    Oci,
    Docker,
    Local,
    Tar,
    Nothing,
}

fn bad(text: &str) -> CommandError {
    CommandError::usage(format!("--output: {text}"))
        .hint("for example --output type=oci,dest=image.tar, --output type=local,dest=DIR, --output DIR")
}

fn flag(value: &str) -> bool {
    matches!(value, "" | "1" | "true")
}

fn parse(spec: &str) -> Result<Output, CommandError> {
    let mut out = Output {
        kind: OutputKind::Local,
        dest: None,
        names: Vec::new(),
        push: false,
        archive: true,
        layers: LayerOptions::default(),
        rewrite_times: false,
        epoch: None,
        platform_split: None,
    };
    if !spec.contains('=') {
        // A path alone is a directory, - alone a tar on standard output.
        if spec == "-" {
            out.kind = OutputKind::Tar;
        }
        out.dest = Some(spec.to_owned());
        return Ok(out);
    }
    let mut level: Option<i32> = None;
    let mut kind = None;
    for field in spec.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key {
            "type" => kind = Some(value.to_owned()),
            "dest" => out.dest = Some(value.to_owned()),
            "name" => {
                out.names.push(value.parse().map_err(|e| bad(&format!("{value:?} is no image name: {e}")))?)
            }
            "push" => out.push = flag(value),
            "tar" => out.archive = flag(value),
            "compression" => {
                out.layers.compression = match value {
                    "gzip" => Compression::DEFAULT,
                    "zstd" => Compression::Zstd(3),
                    "uncompressed" => Compression::None,
                    other => {
                        return Err(bad(&format!(
                            "compression {other:?} is not known (gzip, zstd, uncompressed)"
                        )));
                    }
                }
            }
            "compression-level" => {
                level = Some(value.parse().map_err(|_| bad("compression-level is a number"))?)
            }
            "force-compression" => out.layers.force = flag(value),
            "oci-mediatypes" => out.layers.docker_types = !flag(value),
            "platform-split" => out.platform_split = Some(flag(value)),
            "rewrite-timestamp" => out.rewrite_times = flag(value),
            "source-date-epoch" => {
                let number = || bad("source-date-epoch is a number of seconds since 1970");
                out.epoch = Some(value.parse().map_err(|_| number())?);
            }
            "registry.insecure" if flag(value) => {
                return Err(CommandError::usage("--output: registry.insecure=true is not known")
                    .hint("say which registry it is with --insecure HOST[:PORT]"));
            }
            "store" | "unpack" | "registry.insecure" | "name-canonical" => {}
            other => return Err(bad(&format!("unexpected key {other:?}"))),
        }
    }
    if let Some(l) = level {
        out.layers.compression = match out.layers.compression {
            Compression::Gzip(_) => u32::try_from(l).map_or(Compression::DEFAULT, Compression::Gzip),
            Compression::Zstd(_) => Compression::Zstd(l),
            Compression::None => Compression::None,
        };
    }
    out.kind = match kind.as_deref() {
        Some("image") => OutputKind::Image,
        Some("registry") => {
            out.push = true;
            OutputKind::Image
        }
        Some("oci") => OutputKind::Oci,
        Some("docker") => OutputKind::Docker,
        Some("local") => OutputKind::Local,
        Some("tar") => OutputKind::Tar,
        Some("cacheonly") => OutputKind::Nothing,
        Some(other) => return Err(bad(&format!("type {other:?} is not known"))),
        None => return Err(bad("type is missing")),
    };
    if matches!(out.kind, OutputKind::Local) && out.dest.is_none() {
        return Err(bad("type=local needs dest=DIR"));
    }
    if matches!(out.kind, OutputKind::Oci | OutputKind::Tar) && out.dest.is_none() {
        out.dest = Some("-".into());
    }
    Ok(out)
}

/// All outputs that the flags ask for.
pub(crate) fn parse_all(specs: &[String], push: bool) -> Result<Vec<Output>, CommandError> {
    let mut out = specs.iter().map(|s| parse(s)).collect::<Result<Vec<_>, _>>()?;
    if push {
        out.push(parse("type=registry")?);
    }
    Ok(out)
}

/// An image that was built.
#[derive(Debug)]
pub(crate) struct Made {
    /// The platform that it was asked for.
    pub(crate) platform: Platform,
    pub(crate) outcome: Outcome,
}

/// The images of one target: one, or one for each platform.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) all: Vec<Made>,
    /// They are one image to the world: an index.
    pub(crate) index: bool,
}

/// What was written, as metadata files tell it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    descriptor: Option<Descriptor>,
}

impl Written {
    /// buildx's metadata.
    pub(crate) fn metadata(&self, images: &Images, names: &[Reference]) -> Value {
        let mut out = json!({});
        if let [one] = images.all.as_slice() {
            out["containerimage.config.digest"] = json!(one.outcome.image.id.to_string());
        }
        if let Some(d) = &self.descriptor {
            out["containerimage.digest"] = json!(d.digest.to_string());
            out["containerimage.descriptor"] = json!(d);
        }
        if !names.is_empty() {
            let list: Vec<String> = names.iter().map(Reference::to_string).collect();
            out["image.name"] = json!(list.join(","));
        }
        out
    }

    /// The image's id; of several platforms, the digest of their index, if one was made.
    pub(crate) fn id(&self, images: &Images) -> String {
        match (images.all.as_slice(), images.index, &self.descriptor) {
            (_, true, Some(d)) => d.digest.to_string(),
            (all, ..) => all.iter().map(|m| m.outcome.image.id.to_string()).collect::<Vec<_>>().join("\n"),
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
pub(crate) struct Sinks<'a> {
    pub(crate) store: &'a Store,
    pub(crate) client: &'a Client,
    pub(crate) cancel: &'a AtomicBool,
    /// What takes time is a step of the log.
    pub(crate) tasks: Tasks<'a>,
}

/// An image on its way out, with its manifest.
struct Ready {
    image: Built,
    manifest: Manifested,
}

/// The bytes of an index of several images, and its descriptor.
fn index_of(
    store: &Store,
    images: &[Ready],
    docker_types: bool,
) -> Result<(Vec<u8>, Descriptor), CommandError> {
    let media_type = if docker_types { media::DOCKER_LIST } else { media::INDEX };
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type.to_owned()),
        manifests: images.iter().map(|i| i.manifest.descriptor.clone()).collect(),
        annotations: BTreeMap::new(),
        rest: Rest::new(),
    };
    let bytes = serde_json::to_vec_pretty(&index)
        .map_err(|e| CommandError::new(Kind::Internal, format!("the index cannot be written: {e}")))?;
    store.put_blob(&bytes)?;
    let descriptor = Descriptor::of(media_type, &bytes);
    Ok((bytes, descriptor))
}

impl Output {
    /// The image as this output has it.
    fn dated(&self, store: &Store, made: &Made) -> Result<Built, CommandError> {
        let outcome = &made.outcome;
        match (self.rewrite_times, self.epoch, outcome.epoch) {
            (true, own, given) => {
                let Some(epoch) = own.or(given) else {
                    return Err(CommandError::usage("--output: rewrite-timestamp=true needs a date")
                        .hint("set SOURCE_DATE_EPOCH, or use --reproducible"));
                };
                Ok(at_epoch(store, &outcome.image, outcome.base, epoch, true)?)
            }
            (false, Some(epoch), _) => Ok(at_epoch(store, &outcome.image, outcome.base, epoch, false)?),
            (false, None, _) => Ok(outcome.image.clone()),
        }
    }

    fn ready(&self, store: &Store, images: &Images) -> Result<Vec<Ready>, CommandError> {
        let one = |made: &Made| {
            let image = self.dated(store, made)?;
            let manifest = export::manifest(store, &image, &self.layers)?;
            Ok(Ready { image, manifest })
        };
        images.all.iter().map(one).collect()
    }

    /// Whether it takes the files and no image.
    pub(crate) fn is_files(&self) -> bool {
        matches!(self.kind, OutputKind::Local | OutputKind::Tar)
    }

    fn split(&self, images: &Images) -> bool {
        self.platform_split.unwrap_or(images.index)
    }

    /// The time of all files that leave as files.
    fn file_time(&self, made: &Made) -> Option<Time> {
        self.epoch.or(made.outcome.epoch).map(Time::from_secs)
    }
}

/// Directory of a platform in a local or tar output: `linux_arm64`, `linux_arm_v7`.
fn directory(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Writes everything. `tags` are the names that the image has in the store.
pub(crate) fn write_all(
    to: Sinks<'_>,
    images: &Images,
    outputs: &[Output],
    tags: &[Reference],
) -> Result<Written, CommandError> {
    let mut written = Written::default();
    for o in outputs {
        let mut names: Vec<Reference> = tags.to_vec();
        names.extend(o.names.iter().filter(|n| !tags.contains(n)).cloned());
        match o.kind {
            OutputKind::Nothing => {}
            OutputKind::Image => {
                let in_store = local_one(images);
                let image = match (o.rewrite_times, o.epoch) {
                    (false, None) => in_store.outcome.image.clone(),
                    _ => o.dated(to.store, in_store)?,
                };
                for n in
                    o.names.iter().chain(if image.id == in_store.outcome.image.id { &[][..] } else { tags })
                {
                    to.store.tag(&n.to_string(), &image.id, None)?;
                }
                if o.push {
                    // A name of its own says where it goes; `-t` names what stays here, and may have no registry at all.
                    let goes_to = if o.names.is_empty() { tags } else { &o.names };
                    written.descriptor = Some(push(to, o, images, goes_to)?);
                }
            }
            OutputKind::Oci | OutputKind::Docker => written.descriptor = Some(archive(to, o, images, names)?),
            OutputKind::Local => {
                let dest = PathBuf::from(o.dest.as_deref().unwrap_or("."));
                for made in &images.all {
                    let layers: Vec<Digest> = made.outcome.image.layers.iter().map(|(l, _)| *l).collect();
                    let dest = match o.split(images) {
                        true => dest.join(directory(&made.platform)),
                        false => dest.clone(),
                    };
                    export::local_dated(to.store, &layers, o.file_time(made), &dest)?;
                }
            }
            OutputKind::Tar => dest::write_to(o.dest.as_deref(), to.cancel, |w| tar(to.store, o, images, w))?,
        }
    }
    Ok(written)
}

/// Writes the files of a build that failed to all outputs that take files; with a platform, to its directory. Gives their places.
pub(crate) fn write_left(
    to: Sinks<'_>,
    outputs: &[Output],
    layers: &[Digest],
    epoch: Option<i64>,
    platform: Option<&Platform>,
) -> Result<Vec<String>, CommandError> {
    let mut places = Vec::new();
    for o in outputs.iter().filter(|o| o.is_files()) {
        let time = o.epoch.or(epoch).map(Time::from_secs);
        let below = platform.filter(|_| o.platform_split != Some(false)).map(directory);
        if o.kind == OutputKind::Tar {
            let place = o.dest.as_deref().unwrap_or("-");
            dest::write_to(Some(place), to.cancel, |w| match &below {
                Some(dir) => {
                    Ok(export::tar_of_several(to.store, &[(dir.clone(), layers.to_vec(), time)], w)?)
                }
                None => Ok(export::tar_dated(to.store, layers, time, w)?),
            })?;
            places.push(if place == "-" { "standard output".to_owned() } else { place.to_owned() });
        } else {
            let dest = PathBuf::from(o.dest.as_deref().unwrap_or("."));
            let dest = below.map_or(dest.clone(), |d| dest.join(d));
            export::local_dated(to.store, layers, time, &dest)?;
            places.push(dest.display().to_string());
        }
    }
    Ok(places)
}

/// The image that stands for all in the store, where a name means one: this machine's, else the first.
pub(crate) fn local_one(images: &Images) -> &Made {
    let host = Platform::host();
    let ours = images.all.iter().find(|m| host.accepts(&m.platform));
    ours.unwrap_or(&images.all[0])
}

fn tar(store: &Store, o: &Output, images: &Images, out: &mut dyn Write) -> Result<(), CommandError> {
    let layers_of = |made: &Made| made.outcome.image.layers.iter().map(|(l, _)| *l).collect::<Vec<Digest>>();
    if !o.split(images) {
        if images.all.len() > 1 {
            return Err(bad("platform-split=false: one tar cannot hold the files of several platforms"));
        }
        let made = &images.all[0];
        return Ok(export::tar_dated(store, &layers_of(made), o.file_time(made), out)?);
    }
    let all = images.all.iter().map(|m| (directory(&m.platform), layers_of(m), o.file_time(m)));
    Ok(export::tar_of_several(store, &all.collect::<Vec<_>>(), out)?)
}

/// Pushes to all names, each a task of the log, and notes in the store what the names stand for now.
fn push(to: Sinks<'_>, o: &Output, images: &Images, names: &[Reference]) -> Result<Descriptor, CommandError> {
    if names.is_empty() {
        return Err(CommandError::usage("--push needs a name").hint("add -t REGISTRY/NAME:TAG"));
    }
    let ready = o.ready(to.store, images)?;
    let index = match images.index {
        true => Some(index_of(to.store, &ready, o.layers.docker_types)?),
        false => None,
    };
    let descriptor = index.as_ref().map_or(&ready[0].manifest.descriptor, |(_, d)| d).clone();
    for n in names {
        task(to.tasks, &format!("push {n}"), |id| {
            for r in &ready {
                // Of several, only the index has the tag.
                let digest = Some(r.manifest.descriptor.digest);
                let own = Reference { tag: None, digest, ..n.clone() };
                let name = if index.is_some() { &own } else { n };
                push_image(
                    to.store,
                    to.client,
                    name,
                    &r.manifest,
                    &r.image.config_bytes,
                    &|d, sent, how| {
                        // What is there already does not move.
                        if !matches!(how, Some(Pushed::Exists | Pushed::Mounted)) {
                            let sent = if how.is_some() { d.size } else { sent };
                            to.tasks.transfer(id, &d.digest.short(), sent, d.size);
                        }
                    },
                )?;
            }
            if let Some((bytes, d)) = &index {
                to.client.push_manifest(n, &d.media_type, bytes)?;
            }
            Ok(())
        })?;
        if let Some(tag) = to.store.find_tag(&n.to_string())? {
            to.store.tag(&tag.name, &tag.id, Some(&descriptor.digest))?;
        }
    }
    Ok(descriptor)
}

/// A task of the log that fails as a command does.
fn task(
    tasks: Tasks<'_>,
    what: &str,
    run: impl FnOnce(StepId) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut failed = None;
    let result = tasks.run(what, |id| {
        run(id).map_err(|e| {
            let told = match e.kind {
                Kind::Interrupted => BuildError::Interrupted,
                _ => BuildError::Usage { message: e.message.clone(), help: None },
            };
            failed = Some(e);
            told
        })
    });
    result.map_err(|e| failed.unwrap_or_else(|| e.into()))
}

fn archive(
    to: Sinks<'_>,
    o: &Output,
    images: &Images,
    names: Vec<Reference>,
) -> Result<Descriptor, CommandError> {
    let kind = if o.kind == OutputKind::Oci { ArchiveKind::Oci } else { ArchiveKind::Docker };
    if images.index && kind == ArchiveKind::Docker {
        return Err(CommandError::usage("a docker archive cannot hold an image of several platforms")
            .hint("write --output type=oci, or build for one platform"));
    }
    let ready = o.ready(to.store, images)?;
    let (out, descriptor) = if images.index {
        let (bytes, descriptor) = index_of(to.store, &ready, o.layers.docker_types)?;
        let newest = ready.iter().filter_map(|r| r.image.config.created.clone()).max();
        let mut documents: Vec<Vec<u8>> = ready.iter().map(|r| r.manifest.bytes.clone()).collect();
        documents.extend(ready.iter().map(|r| r.image.config_bytes.clone()));
        let out = Outgoing::index(&descriptor, bytes, documents, newest, names);
        (out, descriptor)
    } else {
        let descriptor = ready[0].manifest.descriptor.clone();
        (Outgoing::new(&ready[0].image, ready[0].manifest.clone(), names), descriptor)
    };
    let out = [out];
    match &o.dest {
        // Docker's own store is out of our reach; the image is in ours.
        None => {}
        Some(d) if !o.archive => save_directory(to.store, &out, &PathBuf::from(d))?,
        Some(d) => dest::write_to(Some(d), to.cancel, |w| {
            save(to.store, &out, kind, w).map_err(dest::about("write the archive"))
        })?,
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let o = parse("type=oci,dest=x.tar,compression=zstd,compression-level=9").unwrap();
        assert_eq!(
            (o.kind, o.dest.as_deref(), o.layers.compression),
            (OutputKind::Oci, Some("x.tar"), Compression::Zstd(9))
        );
        assert_eq!(parse("out").unwrap().kind, OutputKind::Local);
        assert_eq!(parse("-").unwrap().kind, OutputKind::Tar);
        assert!(parse("type=registry,name=localhost:5000/a").unwrap().push);
        for wrong in ["type=odd", "dest=x", "type=local", "type=oci,compression=lz4", "type=oci,x=1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
