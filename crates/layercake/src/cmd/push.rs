//! Pushing an image whose blobs are in the store.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use build::export::Manifested;
use oci::types::Descriptor;
use oci::{Digest, Reference};
use registry::{Client, Pushed};
use store::Store;

use crate::error::CommandError;

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
                loop {
                    let Some(d) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
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
