//! The files that a build is asked for by: the Dockerfile, and what its context ignores.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::BuildError;

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

/// The file's text, bytes that are no UTF-8 replaced.
fn read(path: &Path) -> Result<Option<String>, BuildError> {
    let file = match std::fs::File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(BuildError::io("read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(BuildError::io("read", path))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(BuildError::Usage {
            message: format!("{} is larger than 16 MiB", path.display()),
            help: None,
        });
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// Finds and reads the Dockerfile of a context: `file` (relative to the current directory) if given, else `Dockerfile`, `dockerfile` or
/// `Containerfile` in the context. `<file>.dockerignore` beside it wins over the context's `.dockerignore`.
pub fn load(context: &Path, file: Option<&Path>) -> Result<Input, BuildError> {
    let candidates: Vec<PathBuf> = match file {
        Some(f) => vec![f.to_owned(), context.join(f)],
        None => ["Dockerfile", "dockerfile", "Containerfile"].iter().map(|n| context.join(n)).collect(),
    };
    if !context.is_dir() {
        return Err(BuildError::Usage {
            message: format!("the build context {} is no directory", context.display()),
            help: Some(
                "give the directory that holds the files to build from, as in: layercake build .".into(),
            ),
        });
    }
    for path in &candidates {
        if let Some(text) = read(path)? {
            let ignore = ignore_patterns(context, Some(path))?;
            let name = match path.strip_prefix(context) {
                Ok(p) if file.is_none() => p.display().to_string(),
                _ => path.display().to_string(),
            };
            return Ok(Input { name, text, ignore });
        }
    }
    let wanted = file.map_or_else(|| "Dockerfile".to_owned(), |f| f.display().to_string());
    Err(BuildError::Usage {
        message: format!("failed to read dockerfile: there is no {wanted} in {}", context.display()),
        help: Some("write one there, or name another file with -f".into()),
    })
}

/// The patterns that a context ignores.
pub fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>, BuildError> {
    let beside = dockerfile.map(|p| {
        let mut name = p.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore"), context.join(".containerignore")]) {
        if let Some(text) = read(&path)? {
            return Ok(dockerfile::ignore::read_patterns(&text));
        }
    }
    Ok(Vec::new())
}
