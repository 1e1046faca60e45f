//! `--fix`: a file with the fixes in it takes the place of the old one, in one step.

use std::io::Write;
use std::path::Path;

use dockerfile::Diagnostic;
use dockerfile::check::fix::{self, Fixed};

use crate::error::{CommandError, Kind};

/// Fixes a file. It is not touched when there is nothing to fix.
pub(super) fn file(path: &Path, find: &dyn Fn(&str) -> Vec<Diagnostic>) -> Result<Fixed, CommandError> {
    let failed = |what: &str, e: std::io::Error| {
        CommandError::new(Kind::Environment, format!("cannot {what} {}: {e}", path.display()))
    };
    // A link stays a link.
    let path = &std::fs::canonicalize(path).map_err(|e| failed("read", e))?;
    let bytes = std::fs::read(path).map_err(|e| failed("read", e))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CommandError::new(Kind::User, format!("{} is not UTF-8, and was not fixed", path.display()))
    })?;
    let fixed = fix::apply(&text, find);
    if !fixed.applied.is_empty() {
        replace(path, fixed.text.as_bytes()).map_err(|e| failed("write", e))?;
    }
    Ok(fixed)
}

/// Writes a new file beside the old one and gives it its name, with the mode (and, where that is allowed, the owner) of the old one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let old = std::fs::metadata(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = std::fs::File::create_new(&new)?;
        file.write_all(bytes)?;
        file.set_permissions(old.permissions())?;
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}
