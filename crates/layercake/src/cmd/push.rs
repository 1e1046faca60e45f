//! `layercake push`, and pushing an image whose blobs are in the store.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use build::export::Manifested;
use oci::types::Descriptor;
use oci::{Digest, Reference};
use registry::{Client, Pushed};
use store::Store;

use crate::cmd::pull::insecure;
use crate::cmd::save::layer_options;
use crate::error::{CommandError, Kind};
use crate::progress::transfers::Transfers;
use crate::{context, image, output};

/// `layercake push`
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Name of an image of the store; it says where to push
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Compress the layers again: gzip, zstd, uncompressed [default: as they are; new ones gzip]
    #[arg(long, value_name = "KIND")]
    compression: Option<String>,
    /// Allow http and bad certificates
    #[arg(long)]
    insecure: bool,
    /// Print only the digest
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &PushArgs) -> Result<ExitCode, CommandError> {
    let name = image::reference(&args.name)?;
    let options = layer_options(args.compression.as_deref())?;
    let store = context::store(root)?;
    let cancel = context::interrupt_flag()?;
    let client = context::client(&insecure(args.insecure, &name), &cancel)?;
    let Some(tag) = image::find_tag(&store, &args.name)? else {
        return Err(CommandError::new(Kind::User, format!("there is no image with the name {name}"))
            .hint(format!("give it to one with: layercake tag IMAGE {}", name.familiar())));
    };
    let image = image::get(&store, &tag.name)?;
    let manifest = image.manifest(&store, options.as_ref())?;
    if !args.quiet {
        output::note(&format!("pushing {name}"));
    }
    let transfers = Transfers::new(args.quiet);
    let digest = push_image(&store, &client, &name, &manifest, &image.config_bytes, &|d, sent, how| {
        let what = d.digest.short();
        match how {
            None => transfers.update(&what, sent, d.size),
            Some(Pushed::Exists) => transfers.finish(&what, "exists"),
            Some(Pushed::Mounted) => transfers.finish(&what, "taken over"),
            Some(Pushed::Uploaded) => transfers.update(&what, d.size, d.size),
        }
    })?;
    drop(transfers);
    // The name now stands for this manifest.
    store.tag(&tag.name, &tag.id, Some(&digest))?;
    output::line(&digest.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Pushes blobs (four at a time), then the manifest. `progress` is told the blob, bytes sent and all bytes.
pub(crate) fn push_image(
    store: &Store,
    client: &Client,
    name: &Reference,
    image: &Manifested,
    config: &[u8],
    progress: &(dyn Fn(&Descriptor, u64, Option<Pushed>) + Sync),
) -> Result<Digest, CommandError> {
    let mut blobs: Vec<&Descriptor> = Vec::new();
    for d in image.manifest.layers.iter().chain([&image.manifest.config]) {
        if !blobs.iter().any(|b| b.digest == d.digest) {
            blobs.push(d);
        }
    }
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<CommandError>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..blobs.len().min(4) {
            scope.spawn(|| {
                while let Some(d) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let open = || -> io::Result<Box<dyn Read>> {
                        if d.digest == image.manifest.config.digest {
                            return Ok(Box::new(io::Cursor::new(config.to_vec())));
                        }
                        let (file, _) = store.open_blob(&d.digest)?;
                        Ok(Box::new(file))
                    };
                    match client.push_blob(name, d, &open, None, &mut |sent| progress(d, sent, None)) {
                        Ok(how) => progress(d, d.size, Some(how)),
                        Err(e) => {
                            next.store(blobs.len(), Ordering::Relaxed);
                            failed
                                .lock()
                                .unwrap_or_else(std::sync::PoisonError::into_inner)
                                .get_or_insert(e.into());
                            break;
                        }
                    }
                }
            });
        }
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(e);
    }
    Ok(client.push_manifest(name, &image.descriptor.media_type, &image.bytes)?)
}
