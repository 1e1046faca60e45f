//! Images in files: OCI layouts, as directories and tars, and docker-save archives.

use std::io;

use oci::layout::{Choice, Layout, Source};
use oci::platform::Platform;

use super::LoadError;
use super::stream::{self, Control, Streamed, StreamedLayer};
use crate::image::{Image, Origin};

/// Loads the image of a layout that `choice` and `platform` mean. `name` is what it was asked for by.
pub fn load(
    layout: &Layout,
    choice: Choice<'_>,
    platform: &Platform,
    name: &str,
    control: &Control<'_>,
) -> Result<Image, LoadError> {
    let image = layout.resolve(choice, platform)?;
    let layers = image
        .layers
        .iter()
        .map(|l| match &l.source {
            Source::Blob(d) => StreamedLayer {
                media_type: d.media_type.clone(),
                digest: Some(d.digest),
                size: Some(d.size),
                verified: true,
            },
            Source::File { size, .. } => {
                StreamedLayer { media_type: String::new(), digest: None, size: Some(*size), verified: false }
            }
        })
        .collect();
    let streamed = Streamed {
        name: name.to_owned(),
        origin: Origin::Archive,
        config: image.config_bytes.clone(),
        manifest: image.manifest.as_ref().map(|(d, bytes, _)| (d.digest, bytes.clone())),
        layers,
        platform: Some(platform.clone()),
    };
    let open = |n: usize| match image.layers.get(n) {
        Some(layer) => layout.open_layer(layer).map_err(io::Error::other),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    stream::load(streamed, &open, control)
}
