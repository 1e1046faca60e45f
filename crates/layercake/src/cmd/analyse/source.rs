//! What the command line means by an image, wherever it is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use analyse::load::stream::{Control, Streamed, StreamedLayer};
use analyse::load::{self, LoadError};
use analyse::{Image, image::Origin};
use oci::layout::{Choice, Layout, LayoutError};
use oci::platform::Platform;
use oci::{Digest, Reference};
use store::Store;

use super::rules::failed;
use crate::cmd::pull::insecure;
use crate::error::{CommandError, Kind, chain};
use crate::progress::reading::Reading;
use crate::{context, dest, env, image};

/// Layers that are read at once.
const THREADS: usize = 4;

/// What loading needs to know.
pub(crate) struct Loader<'a> {
    pub(crate) root: &'a Option<PathBuf>,
    pub(crate) platform: &'a Platform,
    pub(crate) insecure: bool,
    pub(crate) cancel: &'a Arc<AtomicBool>,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Store(String),
    /// A file or directory, and the name of the image in it.
    Path(PathBuf, Option<String>),
    Stdin,
    Registry(String),
    Docker(String),
    Podman(String),
    /// The store, a path, or a registry, in this order.
    Any(String),
}

/// What a name means, by its prefix or `--source`.
pub(crate) fn place(text: &str, source: Option<&str>) -> Result<Place, CommandError> {
    if text == "-" {
        return Ok(Place::Stdin);
    }
    let prefixed = match source {
        Some("docker-archive" | "docker-tar") => Some(("archive", text)),
        Some(s) => Some((s, text)),
        None => text.split_once(':').filter(|(p, _)| {
            matches!(
                *p,
                "store"
                    | "archive"
                    | "docker-archive"
                    | "oci-archive"
                    | "oci"
                    | "oci-layout"
                    | "registry"
                    | "docker-daemon"
                    | "docker"
                    | "podman"
                    | "docker-image"
            )
        }),
    };
    let Some((prefix, rest)) = prefixed else { return Ok(Place::Any(text.to_owned())) };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let name = rest.to_owned();
    Ok(match prefix {
        "store" => Place::Store(name),
        "archive" | "docker-archive" | "oci-archive" | "oci" | "oci-layout" => {
            let (path, selector) = split_selector(rest);
            Place::Path(path, selector)
        }
        "registry" | "docker-image" => Place::Registry(name),
        // `docker:20-dind` is an image of that name; dive's scheme has slashes.
        "docker" if source.is_none() && !text.starts_with("docker://") => Place::Any(text.to_owned()),
        "docker" | "docker-daemon" => Place::Docker(name),
        "podman" if source.is_none() && !text.starts_with("podman://") && image_like(rest) => {
            Place::Podman(name)
        }
        "podman" => Place::Podman(name),
        other => {
            return Err(CommandError::usage(format!("--source {other:?} is not known"))
                .hint("use store, archive, docker, podman or registry"));
        }
    })
}

fn image_like(rest: &str) -> bool {
    !rest.is_empty()
}

/// A path and the name of the image in it: `DIR`, `DIR:TAG`, `DIR@DIGEST`. A path that is there is meant as a whole.
pub(crate) fn split_selector(text: &str) -> (PathBuf, Option<String>) {
    if Path::new(text).exists() {
        return (text.into(), None);
    }
    let at = text.rfind('@').or_else(|| text.rfind(':').filter(|i| !text[*i..].contains('/')));
    match at {
        Some(i) if Path::new(&text[..i]).exists() => (text[..i].into(), Some(text[i + 1..].to_owned())),
        _ => (text.into(), None),
    }
}

/// A name that can only have been meant as a file's.
pub(crate) fn path_like(text: &str) -> bool {
    text.starts_with(['/', '.']) || text.ends_with(".tar")
}

fn choice(selector: Option<&str>) -> Choice<'_> {
    match selector {
        None => Choice::Any,
        Some(s) => s.parse::<Digest>().map_or(Choice::Name(s), Choice::Digest),
    }
}

impl Loader<'_> {
    /// The store, if there is one already: looking into an archive must not make one.
    pub(crate) fn store(&self) -> Result<Option<Store>, CommandError> {
        let root = context::root(self.root.clone())?;
        if root.join("format").exists() { Ok(Some(Store::open(&root)?)) } else { Ok(None) }
    }

    /// Runs what reads an image, and shows how far it is.
    fn reading<T>(&self, name: &str, run: impl FnOnce(&Control<'_>) -> T) -> T {
        let reading = Reading::new(name);
        let progress = |n: usize, done: u64, all: u64| reading.update(&format!("layer {n}"), done, all);
        run(&Control { cancel: self.cancel, threads: THREADS, progress: &progress })
    }

    /// Loads the image that a text means.
    pub(crate) fn load(&self, text: &str, source: Option<&str>) -> Result<Image, CommandError> {
        match place(text, source)? {
            Place::Store(name) => match self.load_store(&name)? {
                Some(image) => Ok(image),
                None => {
                    Err(CommandError::new(Kind::User, format!("there is no image {name:?} in the store"))
                        .hint("see what there is with: layercake images --all"))
                }
            },
            Place::Path(path, selector) => self.load_path(&path, selector.as_deref()),
            Place::Stdin => {
                let (file, label) = dest::open(Some("-"))?;
                self.load_pipe(file, &label)
            }
            Place::Registry(name) => self.load_registry(&name),
            Place::Docker(name) => self.load_daemon(&name, env::docker_socket()?),
            Place::Podman(name) => self.load_daemon(&name, env::podman_socket()?),
            Place::Any(text) => {
                if let Some(image) = self.load_store(&text)? {
                    return Ok(image);
                }
                let (path, selector) = split_selector(&text);
                if path.exists() {
                    return self.load_path(&path, selector.as_deref());
                }
                if path_like(&text) {
                    return Err(CommandError::new(Kind::User, format!("there is no file {text}")));
                }
                self.load_registry(&text)
            }
        }
    }

    fn load_store(&self, name: &str) -> Result<Option<Image>, CommandError> {
        let Some(store) = self.store()? else { return Ok(None) };
        let Some(found) = image::find(&store, name)? else { return Ok(None) };
        load::store::load(&store, &found.record, name).map(Some).map_err(failed(name))
    }

    fn load_path(&self, path: &Path, selector: Option<&str>) -> Result<Image, CommandError> {
        let name = path.display().to_string();
        let layout = |e: LayoutError| failed(&name)(LoadError::Layout(e));
        let opened = if path.is_dir() {
            Layout::open_dir(path).map_err(layout)?
        } else {
            let file = File::open(path)
                .map_err(|e| CommandError::new(Kind::Environment, format!("cannot open {name}: {e}")))?;
            // What cannot be read by place goes by once.
            let seekable = io::Seek::stream_position(&mut &file).is_ok();
            match seekable.then(|| file.try_clone().map(Layout::open_tar)) {
                Some(Ok(Ok(opened))) => opened,
                None | Some(Ok(Err(LayoutError::Compressed(_)))) => {
                    return self.load_pipe_of(file, &name, selector);
                }
                Some(Ok(Err(e))) => return Err(layout(e)),
                Some(Err(e)) => {
                    return Err(CommandError::new(Kind::Environment, format!("cannot read {name}: {e}")));
                }
            }
        };
        self.reading(&name, |c| {
            load::archive::load(&opened, choice(selector), self.platform, &name, c).map_err(failed(&name))
        })
    }

    fn load_pipe(&self, file: File, name: &str) -> Result<Image, CommandError> {
        self.load_pipe_of(file, name, None)
    }

    fn load_pipe_of(&self, file: File, name: &str, selector: Option<&str>) -> Result<Image, CommandError> {
        self.reading(name, |c| {
            load::pipe::load(file, choice(selector), self.platform, name, Origin::Archive, c)
                .map_err(failed(name))
        })
    }

    fn load_daemon(&self, name: &str, socket: PathBuf) -> Result<Image, CommandError> {
        let body = load::daemon::open(&socket, name).map_err(|e| {
            let kind = if e.is_missing() { Kind::User } else { Kind::Environment };
            CommandError::new(kind, format!("cannot analyse {name}: {}", chain(&e)))
        })?;
        self.reading(name, |c| {
            load::pipe::load(body, Choice::Any, self.platform, name, Origin::Daemon, c).map_err(failed(name))
        })
    }

    fn load_registry(&self, name: &str) -> Result<Image, CommandError> {
        let reference: Reference = image::reference(name)?;
        let client = context::client(&insecure(self.insecure, &reference), self.cancel)?;
        let found = client.resolve(&reference, self.platform)?;
        let streamed = Streamed {
            name: reference.familiar(),
            origin: Origin::Registry,
            config: found.config_bytes,
            manifest: Some((found.manifest_descriptor.digest, found.manifest_bytes)),
            layers: found
                .manifest
                .layers
                .iter()
                .map(|d| StreamedLayer {
                    media_type: d.media_type.clone(),
                    digest: Some(d.digest),
                    size: Some(d.size),
                    verified: true,
                })
                .collect(),
            platform: Some(self.platform.clone()),
        };
        let open = |n: usize| {
            let layer = found.manifest.layers.get(n).ok_or(io::ErrorKind::NotFound)?;
            let reader = client.blob(&reference, layer).map_err(registry::RegistryError::into_io)?;
            Ok(Box::new(reader) as Box<dyn io::Read + Send>)
        };
        let loaded = self.reading(name, |c| load::stream::load(streamed, &open, c));
        loaded.map_err(|e| match e {
            LoadError::Read { layer, source } => match registry::RegistryError::from_io(source) {
                Ok(e) => CommandError::from(e),
                Err(source) => failed(name)(LoadError::Read { layer, source }),
            },
            e => failed(name)(e),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_say_where() {
        for (text, want) in [
            ("-", Place::Stdin),
            ("alpine:3.20", Place::Any("alpine:3.20".into())),
            ("docker:20-dind", Place::Any("docker:20-dind".into())),
            ("docker://alpine", Place::Docker("alpine".into())),
            ("docker-daemon:alpine:3", Place::Docker("alpine:3".into())),
            ("podman:alpine", Place::Podman("alpine".into())),
            ("podman://alpine", Place::Podman("alpine".into())),
            ("registry:localhost:5000/x", Place::Registry("localhost:5000/x".into())),
            ("store:x", Place::Store("x".into())),
            ("docker-archive:///no/such.tar", Place::Path("/no/such.tar".into(), None)),
        ] {
            assert_eq!(place(text, None).unwrap(), want, "{text}");
        }
        assert_eq!(place("a:1", Some("podman")).unwrap(), Place::Podman("a:1".into()));
        assert!(place("a", Some("moon")).is_err());
    }

    #[test]
    fn a_path_may_have_a_name_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        assert_eq!(split_selector(&path), (dir.path().into(), None));
        assert_eq!(split_selector(&format!("{path}:v1")), (dir.path().into(), Some("v1".into())));
        assert_eq!(split_selector("/no/such:v1"), ("/no/such:v1".into(), None));
    }
}
