//! Why a step ran, as data: what events carry, what the log of builds keeps, what `explain` shows.
//!
//! As JSON a reason is an object whose member `why` names the case, in kebab case; the other members are the fields of that case.
//! Nothing secret is in one: values of variables that look like secrets are masked before they get here (`masking`).

use oci::index::{Attrs, show};
use oci::tree::Id;
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use serde::{Deserialize, Serialize};

/// Names of a directory that are told of, at most.
pub(crate) const NAMES: usize = 10;

/// Where something comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The instruction that made it, variables expanded; `FROM name` for a base image.
    pub step: String,
    /// Its line, 1-based.
    pub line: Option<u32>,
    /// Name of its stage, where it is another one than that of the step that ran.
    pub stage: Option<String>,
    /// The file of the build context that it was copied from.
    pub context: Option<String>,
    /// Digest of the base image in the build before, if it was another one.
    pub old_base: Option<Digest>,
    /// Digest of the base image now, if it was another one in the build before.
    pub new_base: Option<Digest>,
}

impl Origin {
    /// `COPY . . line 4 <- requirements.txt`
    pub fn text(&self) -> String {
        let mut out = self.step.clone();
        if let Some(l) = self.line {
            out.push_str(&format!(" line {l}"));
        }
        if let Some(s) = &self.stage {
            out.push_str(&format!(" in {s}"));
        }
        if let Some(c) = &self.context {
            out.push_str(&format!(" <- {c}"));
        }
        if let (Some(old), Some(new)) = (&self.old_base, &self.new_base) {
            out.push_str(&format!(", now {} instead of {}", new.short(), old.short()));
        }
        out
    }
}

/// A file at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// `file`, `directory`, `link`, `fifo`, `device`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes, of a file.
    pub size: Option<u64>,
    /// Digest of its bytes, of a file.
    pub digest: Option<Digest>,
    /// Where a link leads.
    pub target: Option<String>,
}

impl FileState {
    /// That of an inode.
    pub(crate) fn of(tree: &Tree, id: Id) -> FileState {
        FileState::new(&tree.inode(id).to_entry(Vec::new()))
    }

    /// That of an entry of a layer, which may be missing if the entry is no hard link; none of a whiteout, and of a link to a file of a layer below.
    pub(crate) fn of_entry(layer: Option<&LayerIndex>, entry: &Entry) -> Option<FileState> {
        let entry = match &entry.kind {
            // A layer's links lead to the first name of their file, which is none.
            Kind::HardLink { target } => layer?.get(target)?,
            _ => entry,
        };
        (!matches!(entry.kind, Kind::HardLink { .. } | Kind::Whiteout)).then(|| FileState::new(entry))
    }

    /// That of an entry that is neither a hard link nor a whiteout.
    fn new(entry: &Entry) -> FileState {
        let (mut size, mut digest, mut target) = (None, None, None);
        let kind = match &entry.kind {
            Kind::Directory { .. } => "directory",
            Kind::File { size: s, digest: d } => {
                (size, digest) = (Some(*s), Some(*d));
                "file"
            }
            Kind::Symlink { target: t } => {
                target = Some(show(t));
                "link"
            }
            Kind::Fifo => "fifo",
            _ => "device",
        };
        let Attrs { mode, uid, gid, .. } = entry.attrs;
        FileState { kind: kind.to_owned(), mode, uid, gid, size, digest, target }
    }

    /// What is otherwise now, in a few words; none if nothing that is known here is.
    pub fn change_to(&self, new: &FileState) -> Option<String> {
        if self.kind != new.kind {
            return Some(format!("is a {} now, was a {}", new.kind, self.kind));
        }
        if self.target != new.target {
            let old = self.target.as_deref().unwrap_or_default();
            return Some(format!("leads to {} now, led to {old}", new.target.as_deref().unwrap_or_default()));
        }
        if self.digest != new.digest {
            return Some("changed".to_owned());
        }
        if self.mode != new.mode {
            return Some(format!("has mode {:04o} now, had {:04o}", new.mode, self.mode));
        }
        if (self.uid, self.gid) != (new.uid, new.gid) {
            return Some(format!(
                "belongs to {}:{} now, to {}:{} before",
                new.uid, new.gid, self.uid, self.gid
            ));
        }
        None
    }
}

/// Why a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum RunReason {
    /// There is no earlier run of this step, and none of one in its place.
    First,
    /// The step was run before, but on another parent, and what it learned there is not known or does not count (chain rule).
    ParentChanged {
        /// The first thing below that is otherwise than in the build before, if that is known.
        origin: Option<Origin>,
    },
    /// Something that the step learned of its parent is otherwise now.
    InputChanged {
        /// Path in the step's root; empty if it is no file.
        path: String,
        /// What about it: `changed`, `names in it changed`, `is gone`, `is new`, `has mode 0755 now, had 0644`.
        how: String,
        /// Where it comes from.
        origin: Option<Origin>,
        /// As it was when the step ran.
        old: Option<Box<FileState>>,
        /// As it is now.
        new: Option<Box<FileState>>,
        /// Names that are new in a directory; the first few.
        added: Vec<String>,
        /// Names that are gone from a directory; the first few.
        removed: Vec<String>,
    },
    /// The step itself is another one than in the build before.
    StepChanged {
        /// What about it: `instruction`, `variable NAME`, `platform`, `flag --network`.
        input: String,
        /// As it was.
        old: Option<String>,
        /// As it is.
        new: Option<String>,
    },
    /// A COPY or ADD takes other files than in the build before.
    FilesChanged {
        /// The first of them, as it lies in the context or in the stage that it is copied from.
        path: String,
        /// What about it.
        how: String,
        /// How many others there are.
        more: usize,
        /// Where it comes from, if that is a stage.
        origin: Option<Origin>,
        /// As it was.
        old: Option<Box<FileState>>,
        /// As it is now.
        new: Option<Box<FileState>>,
    },
    /// The earlier result is not in the store any more.
    Pruned,
    /// A step that runs nothing (COPY, ADD, WORKDIR) is computed on its new parent.
    Recomputed,
    /// `--no-cache` or `--no-cache-filter`.
    NoCache,
}

impl RunReason {
    /// The reason as a short text; none where there is nothing to explain.
    pub fn text(&self) -> Option<String> {
        let from = |o: &Option<Origin>| o.as_ref().map(|o| format!(" ({})", o.text())).unwrap_or_default();
        Some(match self {
            RunReason::First => return None,
            RunReason::ParentChanged { origin } => format!("what lies below it changed{}", from(origin)),
            RunReason::Recomputed => "what lies below it changed".to_owned(),
            RunReason::Pruned => "its earlier result was pruned".to_owned(),
            RunReason::NoCache => "--no-cache".to_owned(),
            RunReason::InputChanged { path, how, origin, added, removed, .. } => {
                let names: Vec<String> = added
                    .iter()
                    .map(|n| format!("+{n}"))
                    .chain(removed.iter().map(|n| format!("-{n}")))
                    .take(3)
                    .collect();
                let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(" ")) };
                if path.is_empty() {
                    format!("{how} changed{}", from(origin))
                } else {
                    format!("{path} {how}{names}{}", from(origin))
                }
            }
            RunReason::StepChanged { input, old, new } => match (old, new) {
                (Some(old), Some(new)) if input.starts_with("variable ") => {
                    format!("{input} is {} now, was {}", quoted(new), quoted(old))
                }
                (None, Some(_)) if input.starts_with("variable ") => format!("{input} is new"),
                (Some(_), None) if input.starts_with("variable ") => format!("{input} is gone"),
                _ => format!("its {input} changed"),
            },
            RunReason::FilesChanged { path, how, more, origin, .. } => {
                let more = if *more == 0 { String::new() } else { format!(" and {more} more") };
                format!("{path} {how}{more}{}", from(origin))
            }
        })
    }
}

/// A value in a sentence: cut, so that a line stays a line.
fn quoted(value: &str) -> String {
    let cut: String = value.chars().take(40).collect();
    if cut.len() < value.len() { format!("{cut:?}...") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(mode: u32, text: &str) -> FileState {
        let digest = Some(Digest::of(text.as_bytes()));
        FileState { kind: "file".into(), mode, uid: 0, gid: 0, size: Some(1), digest, target: None }
    }

    #[test]
    fn changes_in_words() {
        let old = state(0o644, "a");
        assert_eq!(old.change_to(&old), None);
        assert_eq!(old.change_to(&state(0o755, "b")).as_deref(), Some("changed"), "the content comes first");
        assert_eq!(old.change_to(&state(0o755, "a")).as_deref(), Some("has mode 0755 now, had 0644"));
        let link = FileState { kind: "link".into(), ..old.clone() };
        assert_eq!(old.change_to(&link).as_deref(), Some("is a link now, was a file"));
    }

    #[test]
    fn texts() {
        let origin = Some(Origin {
            step: "COPY . .".into(),
            line: Some(4),
            stage: None,
            context: Some("requirements.txt".into()),
            old_base: None,
            new_base: None,
        });
        let input = RunReason::InputChanged {
            path: "/app/requirements.txt".into(),
            how: "changed".into(),
            origin,
            old: None,
            new: None,
            added: Vec::new(),
            removed: Vec::new(),
        };
        let text = "/app/requirements.txt changed (COPY . . line 4 <- requirements.txt)";
        assert_eq!(input.text().as_deref(), Some(text));
        let json = serde_json::to_string(&input).unwrap();
        assert!(json.starts_with(r#"{"why":"input-changed","path":"#), "{json}");
        assert_eq!(serde_json::from_str::<RunReason>(&json).unwrap(), input);
        let step = |input: &str, old: Option<&str>, new: Option<&str>| {
            let (old, new) = (old.map(str::to_owned), new.map(str::to_owned));
            RunReason::StepChanged { input: input.into(), old, new }.text().unwrap_or_default()
        };
        assert_eq!(step("variable V", Some("1"), Some("2")), r#"variable V is "2" now, was "1""#);
        assert_eq!(step("variable V", None, Some("2")), "variable V is new");
        assert_eq!(step("instruction", Some("a"), Some("b")), "its instruction changed");
        assert_eq!(RunReason::First.text(), None);
    }
}
