//! The client against registries on the loopback interface: scripted ones (`fake`), and the one that Debian packages.

mod auth;
mod debian;
mod download;
mod fake;
mod hostile;
mod parts;
mod pull;
mod push;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::types::{Descriptor, media};
use oci::{Digest, Reference};
use registry::{Client, Event, Options, Retry};
use serde_json::json;

use fake::{Answer, Seen};

/// Options that try four times and wait for nothing.
fn options() -> Options {
    let retry =
        Retry { attempts: 4, first_wait: Duration::from_millis(1), longest_wait: Duration::from_secs(5) };
    Options { retry, ..Options::default() }
}

fn client() -> Client {
    Client::new(options()).unwrap()
}

/// Options, and the events that a client with them told.
fn listening() -> (Options, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let on_event = {
        let heard = heard.clone();
        Arc::new(move |event: &Event<'_>| {
            heard.lock().unwrap().push(match event {
                Event::Retry { wait, reason } => {
                    let exact = matches!(reason, registry::RegistryError::TooManyRequests { .. });
                    if exact { format!("wait {} s", wait.as_secs()) } else { "wait".to_owned() }
                }
                Event::Resume { offset, .. } => format!("resume {offset}"),
                Event::MirrorFailed { host, .. } => format!("mirror {host}"),
                Event::CredentialsFailed { registry, reason } => format!("credentials {registry} {reason}"),
                _ => "other".to_owned(),
            });
        })
    };
    (Options { on_event, ..options() }, heard)
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// A made-up image of one layer.
#[derive(Debug, Clone)]
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn new(architecture: &str, layer_bytes: usize) -> Image {
        let layer: Vec<u8> = (0..layer_bytes).map(|i| (i * 7 + i / 251 + architecture.len()) as u8).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": Descriptor::of(media::CONFIG, &config),
            "layers": [Descriptor::of(media::LAYER, &layer)],
        })
        .to_string()
        .into_bytes();
        Image { layer, config, manifest }
    }

    fn layer_descriptor(&self) -> Descriptor {
        Descriptor::of(media::LAYER, &self.layer)
    }

    /// What a well-behaved registry answers for this image under the tag `latest` of any repository.
    fn answer(&self, seen: &Seen) -> Answer {
        let name = seen.path().rsplit('/').next().unwrap();
        if seen.path().contains("/manifests/") {
            let digest = Digest::of(&self.manifest);
            if name == "latest" || name == digest.to_string() {
                return Answer::new(200, self.manifest.clone())
                    .header("Content-Type", media::MANIFEST)
                    .header("Docker-Content-Digest", digest);
            }
        } else if seen.path().contains("/blobs/") {
            for blob in [&self.layer, &self.config] {
                if name == Digest::of(blob).to_string() {
                    return ranged(seen, blob);
                }
            }
        } else if seen.path() == "/v2/" {
            return Answer::new(200, "{}");
        }
        Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
            .header("Content-Type", "application/json")
    }
}

/// A blob, or the part of it that was asked for.
fn ranged(seen: &Seen, blob: &[u8]) -> Answer {
    let range = seen.header("range").and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    match range {
        Some((from, last)) => {
            let from: usize = from.parse().unwrap();
            let end = if last.is_empty() { blob.len() } else { last.parse::<usize>().unwrap() + 1 };
            let range = format!("bytes {from}-{}/{}", end - 1, blob.len());
            Answer::new(206, &blob[from..end]).header("Content-Range", range)
        }
        None => Answer::new(200, blob),
    }
}
