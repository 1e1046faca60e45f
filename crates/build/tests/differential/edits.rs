//! Random edits of the files of a world.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::Rng;

/// Files that exist at first, below `c/` (the context) and `base/w/` (the base).
pub(crate) fn populate(root: &Path, program: &Path, r: &mut Rng) -> std::io::Result<()> {
    for top in ["c", "base/w"] {
        let top = root.join(top);
        fs::create_dir_all(top.join("d/e"))?;
        for name in ["a", "b", "d/a", "d/b", "d/e/a", "x.sh", "unread"] {
            if r.chance(80) {
                write(&top.join(name), r)?;
            }
        }
        if r.chance(60) {
            symlink(r.pick(&["a", "d", "d/e"]), top.join("l"))?;
        }
        if r.chance(40) && top.join("a").is_file() {
            fs::hard_link(top.join("a"), top.join("k"))?;
        }
        if r.chance(30) {
            fs::copy(program, top.join("x.bin"))?;
        }
    }
    Ok(())
}

fn write(path: &Path, r: &mut Rng) -> std::io::Result<()> {
    let text = match r.below(6) {
        0 | 1 if path.extension().is_some_and(|e| e == "sh") => {
            format!("#!/bin/t -\ncat /w/{}\nls /w/{}\n", r.pick(&["a", "b", "d/a"]), r.pick(&["", "d", "n"]))
        }
        0 => "one\n".to_owned(),
        1 => "echo ran; cat /w/b /w/d/a\n".to_owned(),
        2 => String::new(),
        _ => format!("text {}\n", r.below(4)),
    };
    fs::write(path, text)?;
    if path.extension().is_some_and(|e| e == "sh") && r.chance(80) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    // Equal times make files equal in every way, as in a source tree with fixed dates.
    if r.chance(40) {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        fs::File::options().write(true).open(path)?.set_modified(at)?;
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// One edit; says what it did.
pub(crate) fn edit(root: &Path, r: &mut Rng) -> std::io::Result<String> {
    let top = if r.chance(70) { "c" } else { "base/w" };
    let name = r.pick(&[
        "a", "b", "c", "d/a", "d/b", "d/e/a", "d/e/b", "l", "k", "d", "x.sh", "n", "unread", "d/k",
        "d/unread",
    ]);
    let path: PathBuf = root.join(top).join(name);
    // What stands in the way of the path's directories goes.
    let mut at = root.join(top);
    for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
        at.push(part);
        if !fs::symlink_metadata(&at).is_ok_and(|m| m.is_dir()) {
            remove(&at)?;
            fs::create_dir(&at)?;
        }
    }
    // Mostly a name keeps its kind: most changes of kind make a COPY impossible, and nothing is learned.
    let keeps = r.chance(92);
    let kind = match name {
        "d" | "n" if keeps => r.pick(&[4, 6]),
        "l" if keeps => r.pick(&[3, 5, 5]),
        "k" | "d/k" if keeps => r.pick(&[1, 3, 7, 7]),
        _ if keeps => r.pick(&[0, 1, 2, 3, 4, 7]),
        _ => r.below(8),
    };
    let what = match kind {
        0..=2 => {
            remove(&path)?;
            write(&path, r)?;
            "write"
        }
        3 => {
            remove(&path)?;
            "remove"
        }
        4 => {
            if path.is_file() {
                fs::set_permissions(&path, fs::Permissions::from_mode(r.pick(&[0o600, 0o644, 0o755])))?;
            } else if path.is_dir() {
                fs::set_permissions(&path, fs::Permissions::from_mode(r.pick(&[0o711, 0o755])))?;
            }
            "chmod"
        }
        5 => {
            remove(&path)?;
            symlink(r.pick(&["a", "b", "d", "d/e", "../w/a"]), &path)?;
            "link"
        }
        6 => {
            remove(&path)?;
            fs::create_dir_all(&path)?;
            write(&path.join("a"), r)?;
            "directory"
        }
        _ => {
            let from = root.join(top).join(r.pick(&["a", "b"]));
            if from.is_file() && from != path {
                remove(&path)?;
                fs::hard_link(from, &path)?;
            }
            "hard link"
        }
    };
    Ok(format!("{what} {top}/{name}"))
}

/// Four names of two files with the same text: which names are one file is all that an edit changes.
pub(crate) fn twins(root: &Path, r: &mut Rng) -> std::io::Result<String> {
    let top = root.join("c");
    let cross = r.chance(50);
    fs::create_dir_all(top.join("d"))
        .or_else(|_| remove(&top.join("d")).and_then(|()| fs::create_dir(top.join("d"))))?;
    for (name, other) in if cross { [("a", "d/k"), ("b", "k")] } else { [("a", "k"), ("b", "d/k")] } {
        remove(&top.join(name))?;
        remove(&top.join(other))?;
        fs::write(top.join(name), "twin\n")?;
        fs::hard_link(top.join(name), top.join(other))?;
    }
    Ok(format!("twins, crossed {cross}"))
}
