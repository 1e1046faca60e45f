//! Images with the bytes of their files, wherever they are, for `diff` and `advise`. What is not in the store is read into one that is
//! thrown away.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::layout::Layout;
use oci::platform::Platform;
use store::{ScratchDir, Store};

use crate::cmd::analyse::source::{Place, path_like, place, split_selector};
use crate::cmd::pull;
use crate::error::{CommandError, Kind, chain};
use crate::image::{self, Image};
use crate::progress::reading::Reading;
use crate::{context, dest, env};

/// An image, and the store that has its files.
pub(crate) struct Found {
    pub(crate) store: Store,
    pub(crate) image: Image,
    /// What holds the store, if it is not the user's.
    _scratch: Option<ScratchDir>,
}

/// Where to look, beside the store.
pub(crate) struct Wanted<'a> {
    pub(crate) platform: &'a Platform,
    /// Registries that may be used over http or with a bad certificate.
    pub(crate) insecure: &'a [String],
    /// A name that nothing here has is one of a registry, also without the prefix that says so.
    pub(crate) pull: bool,
}

/// An image by what the user typed: the same names as `analyse` takes.
pub(crate) fn find(store: &Store, text: &str, wanted: &Wanted<'_>) -> Result<Found, CommandError> {
    let here = |image| Found { store: store.clone(), image, _scratch: None };
    match place(text, None)? {
        Place::Store(name) => image::get(store, &name).map(here),
        Place::Any(name) => {
            if let Some(image) = image::find(store, &name)? {
                return Ok(here(image));
            }
            let (path, selector) = split_selector(&name);
            if path.exists() {
                return Other::new(store)?.path(&path, selector.as_deref(), wanted);
            }
            if path_like(&name) {
                return Err(CommandError::new(Kind::User, format!("there is no file {name}")));
            }
            if !wanted.pull {
                return Err(CommandError::new(Kind::User, format!("there is no file, directory or image {name:?} here"))
                    .hint(format!("an image of a registry is registry:{name}; see what is in the store with: layercake images --all")));
            }
            Other::new(store)?.registry(&name, wanted)
        }
        Place::Path(path, selector) => Other::new(store)?.path(&path, selector.as_deref(), wanted),
        Place::Stdin => {
            let (file, label) = dest::open(Some("-"))?;
            Other::new(store)?.archive(file, &label, None, wanted)
        }
        Place::Registry(name) => Other::new(store)?.registry(&name, wanted),
        Place::Docker(name) => Other::new(store)?.daemon(&name, env::docker_socket()?, wanted),
        Place::Podman(name) => Other::new(store)?.daemon(&name, env::podman_socket()?, wanted),
    }
}

/// Whether a file or directory that exists is an image, not a Dockerfile or a build context.
pub(crate) fn is_image(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("oci-layout").is_file() && !path.join("Dockerfile").exists();
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(512).read_to_end(&mut head));
    let compressed = oci::compress::sniff(&head) != oci::compress::Format::None;
    read.is_ok() && (compressed || head.get(257..262) == Some(b"ustar"))
}

/// A store that is thrown away.
struct Other {
    store: Store,
    scratch: ScratchDir,
}

impl Other {
    fn new(store: &Store) -> Result<Other, CommandError> {
        let scratch = store.scratch()?;
        Ok(Other { store: Store::open(&scratch.path().join("store"))?, scratch })
    }

    fn found(self, text: &str) -> Result<Found, CommandError> {
        self.store.flush()?;
        let image = image::get(&self.store, text)?;
        Ok(Found { store: self.store, image, _scratch: Some(self.scratch) })
    }

    fn path(self, path: &Path, selector: Option<&str>, wanted: &Wanted<'_>) -> Result<Found, CommandError> {
        let name = path.display().to_string();
        let what = format!("read {name}");
        if path.is_dir() {
            let layout = build::load::open(&self.store, path).map_err(dest::about(&what))?;
            return self.take(&layout, &name, selector, wanted);
        }
        let (file, label) = dest::open(Some(&name))?;
        self.archive(file, &label, selector, wanted)
    }

    fn archive(
        self,
        file: File,
        label: &str,
        selector: Option<&str>,
        wanted: &Wanted<'_>,
    ) -> Result<Found, CommandError> {
        let what = format!("read {label}");
        let layout = build::load::open_archive(&self.store, label, file).map_err(dest::about(&what))?;
        self.take(&layout, label, selector, wanted)
    }

    fn take(
        self,
        layout: &Layout,
        name: &str,
        selector: Option<&str>,
        wanted: &Wanted<'_>,
    ) -> Result<Found, CommandError> {
        let what = format!("read {name}");
        let image =
            build::load::choose(layout, name, selector, wanted.platform).map_err(dest::about(&what))?;
        let reading = Reading::new(name);
        let progress = |layer: &str, done, all| reading.update(layer, done, all);
        let taken = build::load::take_resolved(&self.store, name, layout, &image, &progress);
        let id = taken.map_err(dest::about(&what))?.0.id;
        drop(reading);
        self.found(&id.to_string())
    }

    fn registry(self, name: &str, wanted: &Wanted<'_>) -> Result<Found, CommandError> {
        let reference = image::reference(name)?;
        let client = context::client(wanted.insecure, &context::interrupt_flag()?)?;
        pull::pull(&self.store, &client, &reference, wanted.platform, false)?;
        self.found(name)
    }

    fn daemon(self, name: &str, socket: PathBuf, wanted: &Wanted<'_>) -> Result<Found, CommandError> {
        let body = analyse::load::daemon::open(&socket, name).map_err(|e| {
            let kind = if e.is_missing() { Kind::User } else { Kind::Environment };
            CommandError::new(kind, format!("cannot read {name}: {}", chain(&e)))
        })?;
        let what = format!("read {name}");
        let reading = Reading::new(name);
        let counted = Counted { inner: body, done: 0, reading: &reading };
        let layout = build::load::open_stream(&self.store, name, counted).map_err(dest::about(&what))?;
        drop(reading);
        self.take(&layout, name, None, wanted)
    }
}

/// An archive on its way, with what has come of it.
struct Counted<'a, R> {
    inner: R,
    done: u64,
    reading: &'a Reading,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.done += n as u64;
        self.reading.update("archive", self.done, 0);
        Ok(n)
    }
}
