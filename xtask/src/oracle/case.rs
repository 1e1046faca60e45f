//! A case: a build context, a Dockerfile in it, and what else both builders are told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use crate::random::Random;
use crate::sh::{self, Result};

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words, variables and instructions without files or commands.
    Language,
    /// COPY and ADD.
    Copy,
    /// RUN with everything around it.
    Run,
}

impl Kind {
    /// All of them, in the order in which they are run.
    pub(super) const ALL: [Kind; 3] = [Kind::Language, Kind::Copy, Kind::Run];

    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Language => "language",
            Kind::Copy => "copy",
            Kind::Run => "run",
        }
    }
}

/// What lies at a path of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A directory.
    Directory,
    /// A file with these bytes.
    File(Vec<u8>),
    /// A symbolic link with this text.
    Symlink(String),
    /// Another name of the file at this path of the same context.
    HardLink(String),
    /// A named pipe.
    Fifo,
}

/// A file of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Where it lies. The directories of items come before them.
    pub(super) path: String,
    /// What it is.
    pub(super) what: What,
    /// Its mode, if it is not 755 for a directory and 644 for others.
    pub(super) mode: Option<u32>,
    /// User and group, if they are not root's.
    pub(super) owner: Option<(u32, u32)>,
}

impl Item {
    /// A file of text with usual mode and owner.
    pub(super) fn text(path: &str, text: &str) -> Item {
        Item { path: path.into(), what: What::File(text.into()), mode: None, owner: None }
    }

    fn write(&self, root: &Path) -> Result<()> {
        let at = root.join(&self.path);
        let made = match &self.what {
            What::Directory => fs::create_dir(&at),
            What::File(bytes) => fs::write(&at, bytes),
            What::Symlink(text) => symlink(text, &at),
            What::HardLink(first) => fs::hard_link(root.join(first), &at),
            What::Fifo => return sh::read(sh::command(&["mkfifo"]).arg(&at)).map(drop),
        };
        let owned =
            made.and_then(|()| self.owner.map_or(Ok(()), |(uid, gid)| own(&at, &self.what, uid, gid)));
        // Last: a change of the owner takes set-id bits away.
        let moded = owned.and_then(|()| match (&self.what, self.mode) {
            (What::Symlink(_) | What::HardLink(_), _) => Ok(()),
            (What::Directory, mode) => chmod(&at, mode.unwrap_or(0o755)),
            (_, mode) => chmod(&at, mode.unwrap_or(0o644)),
        });
        moded.map_err(|e| format!("cannot make {}: {e}", at.display()))
    }
}

fn own(at: &Path, what: &What, uid: u32, gid: u32) -> std::io::Result<()> {
    let change = if matches!(what, What::Symlink(_)) { lchown } else { chown };
    change(at, Some(uid), Some(gid))
}

fn chmod(at: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

/// What both builders are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Case {
    /// The Dockerfile, which lies in the context.
    pub(super) dockerfile: String,
    /// The other files of the context.
    pub(super) context: Vec<Item>,
    /// Files of a second context named `other`; there is none if there are no files.
    pub(super) other: Vec<Item>,
    /// `NAME=VALUE` of a build argument.
    pub(super) build_arg: Option<&'static str>,
    /// The stage to build, if not the last.
    pub(super) target: Option<&'static str>,
    /// `NAME=VALUE` of a label.
    pub(super) label: Option<&'static str>,
}

impl Case {
    /// The case of a kind, a seed and a number: always the same.
    pub(super) fn new(kind: Kind, seed: u64, number: u64) -> Case {
        let mut r = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        match kind {
            Kind::Language => super::language::case(&mut r),
            Kind::Copy => super::copy::case(&mut r),
            Kind::Run if r.percent(50) => super::mounts::case(&mut r),
            Kind::Run => super::run::case(&mut r),
        }
    }

    /// Writes the case into an empty directory: `context`, `other`, and the `secret` that steps can ask for as `s`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let context = dir.join("context");
        let made = fs::create_dir_all(&context)
            .and_then(|()| fs::File::create(dir.join("secret"))?.write_all(b"s3cret\n"));
        made.map_err(|e| format!("cannot write into {}: {e}", dir.display()))?;
        Item::text("Dockerfile", &self.dockerfile).write(&context)?;
        self.context.iter().try_for_each(|item| item.write(&context))?;
        if !self.other.is_empty() {
            let other = dir.join("other");
            fs::create_dir(&other).map_err(|e| format!("cannot make {}: {e}", other.display()))?;
            self.other.iter().try_for_each(|item| item.write(&other))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_number_give_the_same_case_and_others_another() {
        for kind in Kind::ALL {
            for number in 0..50 {
                assert_eq!(Case::new(kind, 7, number), Case::new(kind, 7, number));
            }
            assert_ne!(Case::new(kind, 7, 1), Case::new(kind, 7, 2), "{kind:?}");
            assert_ne!(Case::new(kind, 7, 1), Case::new(kind, 8, 1), "{kind:?}");
        }
    }

    #[test]
    fn cases_can_be_written() {
        for number in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let mut case = Case::new(Kind::Copy, 1, number);
            // Only root can give files away.
            case.context.iter_mut().chain(&mut case.other).for_each(|item| item.owner = None);
            case.write(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("context/Dockerfile")).unwrap(), case.dockerfile);
        }
    }
}
