//! `--output`: what becomes of a built image.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use build::Built;
use build::export::{self, LayerOptions, Manifested};
use build::load::{ArchiveKind, Outgoing, save, save_directory};
use oci::Reference;
use oci::compress::Compression;
use registry::Client;
use serde_json::{Value, json};
use store::Store;

use crate::cli::BuildArgs;
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
                    "gzip" => Compression::Gzip(6),
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
            "store" | "unpack" | "registry.insecure" | "name-canonical" => {}
            other => return Err(bad(&format!("unexpected key {other:?}"))),
        }
    }
    if let Some(l) = level {
        out.layers.compression = match out.layers.compression {
            Compression::Gzip(_) => Compression::Gzip(u32::try_from(l).unwrap_or(6)),
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
pub(crate) fn parse_all(args: &BuildArgs) -> Result<Vec<Output>, CommandError> {
    let mut out = args.output.iter().map(|s| parse(s)).collect::<Result<Vec<_>, _>>()?;
    if args.push {
        out.push(parse("type=registry")?);
    }
    Ok(out)
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    manifest: Option<Manifested>,
}

impl Written {
    /// buildx's metadata file.
    pub(crate) fn metadata(&self, image: &Built, names: &[Reference]) -> Value {
        let mut out = json!({"containerimage.config.digest": image.id.to_string()});
        if let Some(m) = &self.manifest {
            out["containerimage.digest"] = json!(m.descriptor.digest.to_string());
            out["containerimage.descriptor"] = json!(m.descriptor);
        }
        if !names.is_empty() {
            let list: Vec<String> = names.iter().map(Reference::to_string).collect();
            out["image.name"] = json!(list.join(","));
        }
        out
    }
}

fn environment(what: &str, path: &str) -> impl FnOnce(std::io::Error) -> CommandError {
    let text = format!("cannot {what} {path}");
    move |e| CommandError::new(Kind::Environment, format!("{text}: {e}"))
}

/// Runs `write` with standard output or a new file, which takes its name only when it is whole.
fn to_dest(
    dest: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    if dest == "-" {
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        write(&mut out)?;
        return out.flush().map_err(environment("write", "standard output"));
    }
    if Path::new(dest).is_dir() {
        return Err(bad(&format!("dest={dest} is a directory; write dest={dest}/image.tar")));
    }
    let partial = format!("{dest}.partial");
    let file = File::create(&partial).map_err(environment("create", &partial))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out).and_then(|()| out.flush().map_err(environment("write", &partial)));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
        return written;
    }
    std::fs::rename(&partial, dest).map_err(environment("write", dest))
}

/// Writes everything.
pub(crate) fn write_all(
    store: &Store,
    client: &Client,
    image: &Built,
    outputs: &[Output],
    tags: &[Reference],
) -> Result<Written, CommandError> {
    let mut written = Written::default();
    for o in outputs {
        let mut names: Vec<Reference> = tags.to_vec();
        names.extend(o.names.iter().filter(|n| !tags.contains(n)).cloned());
        let layers: Vec<oci::Digest> = image.layers.iter().map(|(l, _)| *l).collect();
        match o.kind {
            OutputKind::Nothing => {}
            OutputKind::Image => {
                for n in &o.names {
                    store.tag(&n.to_string(), &image.id, None)?;
                }
                if o.push {
                    if names.is_empty() {
                        return Err(
                            CommandError::usage("--push needs a name").hint("add -t REGISTRY/NAME:TAG")
                        );
                    }
                    let m = export::manifest(store, image, &o.layers)?;
                    for n in &names {
                        crate::cmd::push::push_image(
                            store,
                            client,
                            n,
                            &m,
                            &image.config_bytes,
                            &|_, _, _| {},
                        )?;
                    }
                    written.manifest = Some(m);
                }
            }
            OutputKind::Oci | OutputKind::Docker => {
                let kind = if o.kind == OutputKind::Oci { ArchiveKind::Oci } else { ArchiveKind::Docker };
                let m = export::manifest(store, image, &o.layers)?;
                let out = [Outgoing::new(image, m.clone(), names)];
                match &o.dest {
                    // Docker's own store is out of our reach; the image is in ours.
                    None => {}
                    Some(d) if !o.archive => save_directory(store, &out, &PathBuf::from(d))?,
                    Some(d) => to_dest(d, |w| Ok(save(store, &out, kind, w)?))?,
                }
                written.manifest = Some(m);
            }
            OutputKind::Local => export::local(store, &layers, Path::new(o.dest.as_deref().unwrap_or(".")))?,
            OutputKind::Tar => {
                to_dest(o.dest.as_deref().unwrap_or("-"), |w| Ok(export::tar(store, &layers, w)?))?
            }
        }
    }
    Ok(written)
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
