//! What a build is asked for by: its context, its Dockerfile, and what the context ignores.
//!
//! | context | Dockerfile without `-f` | with `-f PATH` | ignore file |
//! |---|---|---|---|
//! | a directory | `Dockerfile`, `dockerfile`, `Containerfile` in it | a file, seen from here, else from the context | `<Dockerfile>.dockerignore`, else the context's `.dockerignore`, `.containerignore` |
//! | a tar, compressed or not, on standard input | as above, in the tar | a file of the tar | none |
//! | a git repository | as above, in the repository | a file of the repository, or an absolute path | none |
//! | a URL | an archive: as above; else the file *is* the Dockerfile, and the context holds it as `context` | a file of the archive, or an absolute path | none |
//! | a Dockerfile on standard input | itself; the context is empty | refused | none |
//!
//! `-f -` is standard input and `-f URL` is downloaded, whatever the context is; then the context's `.dockerignore` counts. That only
//! directories have ignore files is BuildKit's rule: what else there is was chosen by somebody already.

use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::compress::{Decoder, Format, sniff};
use oci::tree::Node;
use oci::{Content, Time, Tree};

use crate::archive;
use crate::confined::Confined;
use crate::context::Context;
use crate::error::BuildError;
use crate::fetch::{FetchError, Fetcher, GitRef, MAX_FILE};
use crate::tasks::Tasks;

/// Larger Dockerfiles and ignore files are refused (BuildKit: 16 MiB of metadata).
const MAX_TEXT: u64 = 16 << 20;

/// A Dockerfile and what goes with it.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The patterns of its context's ignore file.
    pub ignore: Vec<String>,
}

/// Where the files of a build are, as asked for.
pub enum Place {
    /// A directory.
    Dir(PathBuf),
    /// A tar, compressed or not, or a Dockerfile.
    Stream(Box<dyn Read + Send>),
    /// A repository.
    Git(Box<GitRef>),
    /// A file by URL: an archive or a Dockerfile.
    Http(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Dir(p) => f.debug_tuple("Dir").field(p).finish(),
            Place::Stream(_) => f.write_str("Stream"),
            Place::Git(g) => f.debug_tuple("Git").field(&g.shown()).finish(),
            Place::Http(_) => f.write_str("Http"),
        }
    }
}

impl Place {
    /// What a text means: a directory that exists, a repository, a URL; everything else is a directory that does not exist.
    pub fn of(text: &str) -> Result<Place, FetchError> {
        if Path::new(text).is_dir() {
            return Ok(Place::Dir(text.into()));
        }
        if let Some(git) = GitRef::parse(text)? {
            return Ok(Place::Git(Box::new(git)));
        }
        if is_url(text) { Ok(Place::Http(text.to_owned())) } else { Ok(Place::Dir(text.into())) }
    }
}

/// Whether a text is a URL of a file.
pub fn is_url(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// Which Dockerfile is asked for.
pub enum Wanted {
    /// The one that the context has.
    Default,
    /// `-f PATH`.
    Path(PathBuf),
    /// `-f URL`.
    Url(String),
    /// `-f -`.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Default => f.write_str("Default"),
            Wanted::Path(p) => f.debug_tuple("Path").field(p).finish(),
            Wanted::Url(_) => f.write_str("Url"),
            Wanted::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// The files of a build.
#[derive(Debug, Clone, Default)]
pub enum Files {
    /// There are none.
    #[default]
    None,
    /// A directory, to be read as far as it is needed.
    Dir(PathBuf),
    /// Files that were fetched.
    Fetched(Arc<Context>),
}

/// A build's files and Dockerfile, at hand.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The Dockerfile.
    pub input: Input,
    /// The files.
    pub files: Files,
}

/// How contexts are fetched.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Keep `.git` of a git context (`BUILDKIT_CONTEXT_KEEP_GIT_DIR`).
    pub keep_git_dir: bool,
    /// Give the files of a git context the time of the commit (as BuildKit does with SOURCE_DATE_EPOCH).
    pub commit_times: bool,
}

fn decode(bytes: Vec<u8>) -> String {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

fn too_large(name: &str) -> BuildError {
    BuildError::Usage { message: format!("{name} is larger than 16 MiB"), help: None }
}

/// A text, bytes that are no UTF-8 replaced.
fn read_text(reader: impl Read, name: &str) -> Result<String, BuildError> {
    let mut bytes = Vec::new();
    reader.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(BuildError::io("read", name))?;
    if bytes.len() as u64 > MAX_TEXT { Err(too_large(name)) } else { Ok(decode(bytes)) }
}

/// Opens a file. One of the context's directory is opened as if that were the root of everything, as BuildKit's client does: a link
/// in a context that is not trusted must not show files of the host, not even in a message.
fn open_file(context: &Path, path: &Path) -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let within = || {
        let root = context.canonicalize().ok()?;
        let dir = path.parent()?.canonicalize().ok()?;
        let within = dir.strip_prefix(&root).ok()?.join(path.file_name()?);
        Some((root, within))
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Some((root, within)) = within() else {
        return Ok(rustix::fs::open(path, flags, Mode::empty())?.into());
    };
    Ok(Confined::open(&root)?.as_root(within.as_os_str().as_bytes(), flags)?.into())
}

/// The text of a file, if it is there.
fn text_of_file(file: std::io::Result<std::fs::File>, path: &Path) -> Result<Option<String>, BuildError> {
    match file {
        Ok(file) => read_text(file, &path.display().to_string()).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(BuildError::io("read", path)(e)),
    }
}

/// The text of a file of the context or beside it.
fn read(context: &Path, path: &Path) -> Result<Option<String>, BuildError> {
    let text = text_of_file(open_file(context, path), path)?;
    if text.is_none() && path.exists() {
        return Err(BuildError::Usage {
            message: format!("{} is a link that leads out of the build context", path.display()),
            help: Some("name the file that it leads to with -f".into()),
        });
    }
    Ok(text)
}

/// Names of a Dockerfile that nobody named.
const DEFAULTS: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Finds and reads the Dockerfile of a directory: `file` (seen from the current directory, then from the context) if given, else a
/// default name in it. `<file>.dockerignore` beside it wins over the context's `.dockerignore`.
pub fn load(context: &Path, file: Option<&Path>) -> Result<Input, BuildError> {
    let candidates: Vec<PathBuf> = match file {
        Some(f) => vec![f.to_owned(), context.join(f)],
        None => DEFAULTS.iter().map(|n| context.join(n)).collect(),
    };
    is_directory(context)?;
    for path in &candidates {
        if let Some(text) = read(context, path)? {
            let ignore = ignore_patterns(context, Some(path))?;
            let name = match path.strip_prefix(context) {
                Ok(p) if file.is_none() => p.display().to_string(),
                _ => path.display().to_string(),
            };
            return Ok(Input { name, text, ignore });
        }
    }
    Err(no_dockerfile(file, &context.display().to_string()))
}

fn is_directory(context: &Path) -> Result<(), BuildError> {
    if context.is_dir() {
        return Ok(());
    }
    Err(BuildError::Usage {
        message: format!("the build context {} is no directory", context.display()),
        help: Some("give the directory that holds the files to build from, as in: layercake build .".into()),
    })
}

fn no_dockerfile(file: Option<&Path>, place: &str) -> BuildError {
    let wanted = file.map_or_else(|| "Dockerfile".to_owned(), |f| f.display().to_string());
    BuildError::Usage {
        message: format!("failed to read dockerfile: there is no {wanted} in {place}"),
        help: Some("write one there, or name another file with -f".into()),
    }
}

/// The patterns that a directory ignores.
pub fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>, BuildError> {
    let beside = dockerfile.map(|p| {
        let mut name = p.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore"), context.join(".containerignore")]) {
        if let Some(text) = read(context, &path)? {
            return Ok(dockerfile::ignore::read_patterns(&text));
        }
    }
    Ok(Vec::new())
}

/// A fetched context.
struct Fetched {
    context: Context,
    /// The whole context is this Dockerfile.
    dockerfile: bool,
}

/// Opens what a build is asked for by. `label` names the context in messages.
pub fn open(
    fetcher: &Fetcher<'_>,
    tasks: &Tasks<'_>,
    place: Place,
    wanted: Wanted,
    options: OpenOptions,
) -> Result<Opened, BuildError> {
    if matches!((&place, &wanted), (Place::Stream(_), Wanted::Stream(_))) {
        return Err(BuildError::Usage {
            message: "can't use standard input for both the build context and the Dockerfile".into(),
            help: Some("give one of them as a file".into()),
        });
    }
    // A Dockerfile from elsewhere is read first: it is small, and may be wrong.
    let (wanted, given) = match wanted {
        Wanted::Stream(reader) => (None, Some(("-".to_owned(), read_text(reader, "standard input")?))),
        Wanted::Url(url) => {
            let text = download_text(fetcher, tasks, &url)?;
            (None, Some((crate::fetch::shown(&url), text)))
        }
        Wanted::Path(p) => (Some(p), None),
        Wanted::Default => (None, None),
    };
    let fetched = match place {
        Place::Dir(dir) => {
            let input = match given {
                None => load(&dir, wanted.as_deref())?,
                Some((name, text)) => {
                    is_directory(&dir)?;
                    Input { name, text, ignore: ignore_patterns(&dir, None)? }
                }
            };
            return Ok(Opened { input, files: Files::Dir(dir) });
        }
        Place::Stream(mut reader) => {
            let mut head = Vec::new();
            (&mut reader)
                .take(64 << 10)
                .read_to_end(&mut head)
                .map_err(BuildError::io("read", "standard input"))?;
            if !looks_like_archive(&head) {
                if wanted.is_some() || given.is_some() {
                    return Err(BuildError::Usage {
                        message: "standard input is a Dockerfile, and -f names another one".into(),
                        help: Some("send a tar, or leave out -f".into()),
                    });
                }
                let text = read_text(Cursor::new(head).chain(reader), "standard input")?;
                let input = Input { name: "-".into(), text, ignore: Vec::new() };
                return Ok(Opened { input, files: Files::None });
            }
            tasks.run("read build context from standard input", |_| {
                of_archive(fetcher, Cursor::new(head).chain(reader), "standard input", None)
            })?
        }
        Place::Git(git) => {
            let what = format!("load git source {}", git.shown());
            tasks.run(&what, |_| {
                let mut git = *git;
                git.commit_times |= options.commit_times;
                let keep = git.keep_git_dir.unwrap_or(false) || options.keep_git_dir;
                let checkout = fetcher.git(&git, keep)?;
                let context = of_layer(git.shown(), &checkout.layer, Some(checkout.committed))?;
                Ok(Fetched { context, dockerfile: false })
            })?
        }
        Place::Http(url) => tasks.run("load remote build context", |id| {
            of_url(fetcher, &url, &|done, all| tasks.transfer(id, "context", done, all))
        })?,
    };
    let label = fetched.context.label().to_owned();
    let input = match (given, wanted) {
        (Some((name, text)), _) => Input { name, text, ignore: Vec::new() },
        (None, _) if fetched.dockerfile => {
            let text = text_of(fetcher, &fetched.context.tree, CONTEXT_FILE)?.unwrap_or_default();
            Input { name: label.clone(), text, ignore: Vec::new() }
        }
        (None, Some(path)) if path.is_absolute() => {
            let text = text_of_file(std::fs::File::open(&path), &path)?;
            let text = text.ok_or_else(|| no_dockerfile(Some(&path), "the file system"))?;
            Input { name: path.display().to_string(), text, ignore: Vec::new() }
        }
        (None, Some(path)) => {
            let name = path.display().to_string();
            let text = text_of(fetcher, &fetched.context.tree, &name)?;
            let text = text.ok_or_else(|| no_dockerfile(Some(&path), &label))?;
            Input { name, text, ignore: Vec::new() }
        }
        (None, None) => {
            let mut found = None;
            for name in DEFAULTS {
                if let Some(text) = text_of(fetcher, &fetched.context.tree, name)? {
                    found = Some(Input { name: name.to_owned(), text, ignore: Vec::new() });
                    break;
                }
            }
            found.ok_or_else(|| no_dockerfile(None, &label))?
        }
    };
    Ok(Opened { input, files: Files::Fetched(Arc::new(fetched.context)) })
}

/// Name of the file that a URL gives a context.
const CONTEXT_FILE: &str = "context";

/// A context of one file.
fn one_file(url: &str, file: &crate::fetch::Download) -> Result<Context, BuildError> {
    let attrs = oci::index::Attrs { mode: 0o600, mtime: file.modified, ..Default::default() };
    let kind = oci::Kind::File { size: file.size, digest: file.digest };
    let entry = oci::Entry { path: CONTEXT_FILE.into(), kind, attrs };
    let layer = oci::LayerIndex::from_entries(vec![entry]).map_err(crate::context::ContextError::Name)?;
    of_layer(crate::fetch::shown(url), &layer, file.dated.then_some(file.modified))
}

fn of_layer(label: String, layer: &oci::LayerIndex, made: Option<Time>) -> Result<Context, BuildError> {
    let broken = |e| BuildError::Image { name: label.clone(), why: crate::images::chain_text(&e) };
    Context::of_layer(label.clone(), layer, made).map_err(broken)
}

/// A git repository or a file by URL, as a named context gives it: a file is not unpacked.
pub(crate) fn named(fetcher: &Fetcher<'_>, place: &Place) -> Result<Context, BuildError> {
    match place {
        Place::Git(git) => {
            let checkout = fetcher.git(git, git.keep_git_dir.unwrap_or(false))?;
            of_layer(git.shown(), &checkout.layer, Some(checkout.committed))
        }
        Place::Http(url) => one_file(url, &fetcher.http(url, None, MAX_FILE, &|_, _| {})?),
        Place::Dir(_) | Place::Stream(_) => of_layer(String::new(), &oci::LayerIndex::default(), None),
    }
}

/// When a file by URL was made: `Last-Modified`, or the newest file of an archive.
pub(crate) fn made(fetcher: &Fetcher<'_>, place: &Place) -> Result<Option<Time>, BuildError> {
    match place {
        Place::Http(url) => Ok(of_url(fetcher, url, &|_, _| {})?.context.made()),
        _ => Ok(None),
    }
}

fn of_url(fetcher: &Fetcher<'_>, url: &str, progress: &dyn Fn(u64, u64)) -> Result<Fetched, BuildError> {
    let file = fetcher.http(url, None, MAX_FILE, progress)?;
    let open = || fetcher.store.open(&file.digest).map(|at| archive::Reader::new(at, file.size));
    let mut head = Vec::new();
    let failed = |e| BuildError::io("read", crate::fetch::shown(url))(e);
    open().and_then(|r| r.take(64 << 10).read_to_end(&mut head)).map_err(failed)?;
    if looks_like_archive(&head) {
        let dated = file.dated.then_some(file.modified);
        return of_archive(fetcher, open().map_err(failed)?, &crate::fetch::shown(url), dated);
    }
    Ok(Fetched { context: one_file(url, &file)?, dockerfile: true })
}

/// Compressed data, or a tar's first member.
fn looks_like_archive(head: &[u8]) -> bool {
    sniff(head) != Format::None || archive::is_tar(Cursor::new(head))
}

fn of_archive(
    fetcher: &Fetcher<'_>,
    reader: impl Read,
    label: &str,
    dated: Option<Time>,
) -> Result<Fetched, BuildError> {
    let broken = |why: String| BuildError::Usage {
        message: format!("{label} cannot be used as a build context: {why}"),
        help: Some("it must be a tar, plain or compressed, or a Dockerfile".into()),
    };
    let batch = fetcher.store.batch();
    let decoder = Decoder::new(reader).map_err(|e| broken(e.to_string()))?;
    let entries =
        archive::unpack(decoder, &mut batch.sink()).map_err(|e| broken(crate::images::chain_text(&*e)))?;
    let is_file = |e: &&oci::Entry| matches!(e.kind, oci::Kind::File { .. });
    let made = dated.or_else(|| entries.iter().filter(is_file).map(|e| e.attrs.mtime).max());
    let layer = oci::LayerIndex::from_entries(entries).map_err(crate::context::ContextError::Name)?;
    // The layer is named by nothing but this build; its contents are what later steps take.
    batch.add_layer(&layer)?;
    batch.commit(Vec::new(), Vec::new())?;
    Ok(Fetched { context: of_layer(label.to_owned(), &layer, made)?, dockerfile: false })
}

/// The text of a file of a tree.
fn text_of(fetcher: &Fetcher<'_>, tree: &Tree, path: &str) -> Result<Option<String>, BuildError> {
    let Some(place) = tree.resolve(path.as_bytes(), true).ok().filter(oci::tree::Place::exists) else {
        return Ok(None);
    };
    let Node::File { digest, size } = tree.inode(place.id).node else { return Ok(None) };
    if size > MAX_TEXT {
        return Err(too_large(path));
    }
    let object = fetcher.store.open(&digest).map_err(BuildError::io("read", path))?;
    read_text(archive::Reader::new(object, size), path).map(Some)
}

fn download_text(fetcher: &Fetcher<'_>, tasks: &Tasks<'_>, url: &str) -> Result<String, BuildError> {
    tasks.run(&format!("load Dockerfile from {}", crate::fetch::shown(url)), |_| {
        let file = fetcher.http(url, None, MAX_TEXT, &|_, _| {})?;
        let object = fetcher.store.open(&file.digest).map_err(BuildError::io("read", url))?;
        read_text(archive::Reader::new(object, file.size), url)
    })
}
