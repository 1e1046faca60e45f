//! `layercake save`.

use std::path::PathBuf;
use std::process::ExitCode;

use build::export::LayerOptions;
use build::load::{ArchiveKind, Outgoing};
use oci::compress::Compression;

use crate::error::CommandError;
use crate::{context, dest, image};

/// `layercake save`
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// Names or ids of images; several go into one archive
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Form of the archive; docker is an OCI layout that `docker load` takes, too
    #[arg(long, value_enum, default_value = "docker")]
    format: SaveFormat,
    /// Compress the layers again: gzip, zstd, uncompressed [default: as they are; new ones gzip]
    #[arg(long, value_name = "KIND")]
    compression: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SaveFormat {
    #[value(alias = "docker-archive")]
    Docker,
    #[value(alias = "oci-archive")]
    Oci,
}

/// `--compression`: all layers in one compression.
pub(crate) fn layer_options(text: Option<&str>) -> Result<Option<LayerOptions>, CommandError> {
    let compression = match text {
        None => return Ok(None),
        Some("gzip") => Compression::DEFAULT,
        Some("zstd") => Compression::Zstd(3),
        Some("uncompressed") => Compression::None,
        Some(other) => {
            return Err(CommandError::usage(format!("--compression {other:?} is not known"))
                .hint("it is one of gzip, zstd, uncompressed"));
        }
    };
    Ok(Some(LayerOptions { compression, force: true, docker_types: false }))
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &SaveArgs) -> Result<ExitCode, CommandError> {
    let options = layer_options(args.compression.as_deref())?;
    let store = context::store(root)?;
    let cancel = context::interrupt_flag()?;
    let mut images = Vec::new();
    for (image, names) in image::get_all(&store, &args.images)? {
        let manifest = image.manifest(&store, options.as_ref())?;
        images.push(Outgoing::new(&image.built(), manifest, names));
    }
    let kind = match args.format {
        SaveFormat::Docker => ArchiveKind::Docker,
        SaveFormat::Oci => ArchiveKind::Oci,
    };
    dest::write_to(args.output.as_deref(), &cancel, |out| {
        build::load::save(&store, &images, kind, out).map_err(dest::about("write the archive"))
    })?;
    // Layers that were compressed for the archive are kept.
    store.flush()?;
    Ok(ExitCode::SUCCESS)
}
