//! Where files that a command writes or reads go to and come from: a path, or `-` for the standard streams.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use build::BuildError;

use crate::error::{CommandError, Kind};

fn environment(what: &str, path: &str) -> impl Fn(io::Error) -> CommandError {
    let text = format!("cannot {what} {path}");
    move |e| CommandError::new(Kind::Environment, format!("{text}: {e}"))
}

/// A file that has its name only when it is whole.
struct Partial {
    path: PathBuf,
    done: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses to write on once the flag is up, and remembers that nobody reads any more.
struct Stoppable<'a, W> {
    inner: W,
    cancel: &'a AtomicBool,
    deserted: bool,
}

impl<W> Stoppable<'_, W> {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.deserted |= result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let result = self.inner.write(buf);
        self.noted(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.noted(result)
    }
}

/// Runs `write` with standard output (`-`, also without a path) or a new file, which takes its name only when it is whole. `cancel`
/// ends it.
pub(crate) fn write_to(
    dest: Option<&str>,
    cancel: &AtomicBool,
    write: impl FnOnce(&mut dyn Write) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let run = |out: &mut dyn Write, path: &str| {
        let inner = BufWriter::with_capacity(1 << 20, out);
        let mut out = Stoppable { inner, cancel, deserted: false };
        let result = write(&mut out).and_then(|()| out.flush().map_err(environment("write", path)));
        match result {
            // As with all printing: who closes the pipe has seen enough.
            Err(_) if out.deserted => {
                // What the buffer still holds must not be tried again.
                let _ = out.inner.into_parts();
                Ok(())
            }
            Err(_) if cancel.load(Ordering::Relaxed) => {
                Err(CommandError::new(Kind::Interrupted, "interrupted"))
            }
            r => r,
        }
    };
    let path = match dest {
        None | Some("-") => {
            let out = io::stdout();
            if rustix::termios::isatty(&out) {
                return Err(CommandError::usage("an archive is not for a terminal")
                    .hint("write it to a file with -o FILE, or send it on with a pipe"));
            }
            return run(&mut out.lock(), "standard output");
        }
        Some(p) => p,
    };
    if Path::new(path).is_dir() {
        return Err(CommandError::usage(format!("{path} is a directory")).hint("name a file in it"));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_file() && !m.is_symlink()) {
        // A pipe or a device is written to, not replaced.
        let mut out = File::options().write(true).open(path).map_err(environment("open", path))?;
        return run(&mut out, path);
    }
    let name = format!("{path}.partial");
    let mut file = File::create(&name).map_err(environment("create", &name))?;
    let mut partial = Partial { path: name.clone().into(), done: false };
    run(&mut file, &name)?;
    std::fs::rename(&name, path).map_err(environment("write", path))?;
    partial.done = true;
    Ok(())
}

/// For errors about what is read or written: the library says of an archive that "image X is damaged", which is not the point.
pub(crate) fn about(what: &str) -> impl Fn(BuildError) -> CommandError + '_ {
    move |e| match e {
        BuildError::Image { why, .. } => CommandError::new(Kind::User, format!("cannot {what}: {why}")),
        e => e.into(),
    }
}

/// Opens what a command reads: a file, or standard input for `-` and for nothing. Gives its name for messages, too.
pub(crate) fn open(source: Option<&str>) -> Result<(File, String), CommandError> {
    match source {
        None | Some("-") => {
            let stdin = io::stdin();
            if rustix::termios::isatty(&stdin) {
                return Err(CommandError::usage("there is nothing to read from a terminal")
                    .hint("name a file, or send one with a pipe"));
            }
            let fd = stdin.as_fd().try_clone_to_owned().map_err(environment("read", "standard input"))?;
            Ok((fd.into(), "standard input".to_owned()))
        }
        Some(path) => Ok((File::open(path).map_err(environment("open", path))?, path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f").display().to_string();
        let go = AtomicBool::new(false);
        let failed = |out: &mut dyn Write| {
            out.write_all(b"half").unwrap();
            Err(CommandError::usage("no"))
        };
        write_to(Some(&path), &go, failed).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let whole = |out: &mut dyn Write| {
            out.write_all(b"whole").unwrap();
            Ok(())
        };
        write_to(Some(&path), &go, whole).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_flag_stops_writing_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f").display().to_string();
        let stop = AtomicBool::new(true);
        let e = write_to(Some(&path), &stop, |out| {
            out.write_all(&[0; 4]).map_err(|e| CommandError::usage(e.to_string()))
        });
        assert_eq!(e.unwrap_err().kind, Kind::Interrupted);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
