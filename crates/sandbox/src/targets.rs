//! Where mount targets lie, and the stubs that views must show for them.
//!
//! A target is resolved as a process in the step's root would: links stay inside the root, and what an earlier mount covers is
//! not looked at. Where the way leads into something that is not ours to see (a cache directory, a tmpfs), the rest is left to the
//! executor, which makes what is missing there.

use oci::tree::{Id, Node};

use crate::view::{Stub, View};

/// Links that a resolution follows at most (Linux: 40).
const MAX_LINKS: usize = 40;

/// What a mount puts at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The root of a view.
    View(usize),
    /// A directory that we know nothing of.
    Directory,
    /// Something that has no names in it.
    File,
}

#[derive(Debug, Clone, Copy)]
enum Spot {
    In(usize, Id),
    Elsewhere,
    File,
}

/// Where a mount lies, and the inode of a view that it covers there.
type Placed = (Vec<u8>, Option<(usize, Id)>);

/// Views and the mounts made so far; view 0 is the root.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) views: Vec<View>,
    /// Resolved path of each mount, and what is there.
    mounts: Vec<(Vec<Vec<u8>>, Spot)>,
    /// Paths that had to be added to the root.
    pub(crate) stubs: Vec<Vec<u8>>,
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&c| c == b'/').filter(|c| !matches!(*c, b"" | b"."))
}

impl Targets {
    pub(crate) fn new(root: View) -> Targets {
        Targets { views: vec![root], mounts: Vec::new(), stubs: Vec::new() }
    }

    /// Makes sure that `target` exists, and notes that `content` will cover it. Gives the resolved absolute path, or why not.
    pub(crate) fn add(&mut self, target: &[u8], content: Content) -> Result<Vec<u8>, String> {
        Ok(self.place(target, content)?.0)
    }

    /// [`Targets::add`] of a directory that takes the permissions of the one that it covers: those, too, if there is one.
    pub(crate) fn add_like_what_was_there(
        &mut self,
        target: &[u8],
    ) -> Result<(Vec<u8>, Option<u32>), String> {
        let (path, covered) = self.place(target, Content::Directory)?;
        let mode = covered.map(|(v, id)| {
            self.views[v].decides(id);
            self.views[v].attr(id).mode & 0o7777
        });
        Ok((path, mode))
    }

    /// The resolved path, and what is covered there of what was in the trees.
    fn place(&mut self, target: &[u8], content: Content) -> Result<Placed, String> {
        let leaf = if self.is_directory(content) { Stub::Directory } else { Stub::File };
        let mut todo: Vec<Vec<u8>> = components(target).rev().map(<[u8]>::to_vec).collect();
        let mut stack: Vec<(Vec<u8>, Spot)> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                stack.pop();
                continue;
            }
            let at = stack.last().map_or(Spot::In(0, self.views[0].root()), |(_, spot)| *spot);
            let spot = match at {
                Spot::Elsewhere => Spot::Elsewhere,
                Spot::File => return Err(format!("{:?} lies below a file", show(target))),
                Spot::In(v, dir) => {
                    let view = &self.views[v];
                    if !view.is_dir(dir) {
                        return Err(format!("{:?} lies below something that is no directory", show(target)));
                    }
                    match view.child(dir, &name) {
                        Some(id) => {
                            if let Some(Node::Symlink(to)) = view.node(id) {
                                let to = to.clone();
                                // The executor opens the resolved path: nobody else sees this link.
                                self.views[v].decides(id);
                                links += 1;
                                if links > MAX_LINKS {
                                    return Err(format!(
                                        "{:?} leads through too many symbolic links",
                                        show(target)
                                    ));
                                }
                                if to.first() == Some(&b'/') {
                                    stack.clear();
                                }
                                todo.extend(components(&to).rev().map(<[u8]>::to_vec));
                                continue;
                            }
                            Spot::In(v, id)
                        }
                        None => {
                            if name.len() > 255 {
                                return Err(format!("{:?} has a name longer than 255 bytes", show(target)));
                            }
                            let stub = if todo.is_empty() { leaf } else { Stub::Directory };
                            if v == 0 {
                                let mut path = join(stack.iter().map(|(n, _)| &**n));
                                path.extend_from_slice(b"/");
                                path.extend_from_slice(&name);
                                self.stubs.push(path[1..].to_vec());
                            }
                            Spot::In(v, self.views[v].add_stub(dir, &name, stub))
                        }
                    }
                }
            };
            stack.push((name, spot));
            // The mount that was made here last covers the others.
            if let Some((_, covered)) =
                self.mounts.iter().rev().find(|(path, _)| path.iter().eq(stack.iter().map(|(n, _)| n)))
                && let Some(top) = stack.last_mut()
            {
                top.1 = *covered;
            }
        }
        let Some((_, end)) = stack.last() else {
            return Err("nothing can be mounted over the root directory".into());
        };
        let is_dir = match *end {
            Spot::In(v, id) => Some(self.views[v].is_dir(id)),
            Spot::Elsewhere => None,
            Spot::File => Some(false),
        };
        match (is_dir, leaf) {
            (Some(true), Stub::File) => {
                return Err(format!("{:?} is a directory, what is to be mounted is none", show(target)));
            }
            (Some(false), Stub::Directory) => {
                return Err(format!("{:?} is no directory, what is to be mounted is one", show(target)));
            }
            _ => {}
        }
        let spot = match content {
            Content::View(v) => Spot::In(v, self.views[v].root()),
            Content::Directory => Spot::Elsewhere,
            Content::File => Spot::File,
        };
        let covered = match *end {
            Spot::In(v, id) if self.views[v].is_real(id) => Some((v, id)),
            _ => None,
        };
        let path = join(stack.iter().map(|(n, _)| &**n));
        self.mounts.push((stack.into_iter().map(|(n, _)| n).collect(), spot));
        Ok((path, covered))
    }

    fn is_directory(&self, content: Content) -> bool {
        match content {
            Content::View(v) => self.views[v].is_dir(self.views[v].root()),
            Content::Directory => true,
            Content::File => false,
        }
    }
}

fn join<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::content::MemoryContent;
    use oci::index::Attrs;
    use oci::tree::ROOT;
    use oci::{Digest, Entry, Kind, LayerIndex, Tree};
    use std::sync::Arc;

    fn view(paths: &[(&str, &str)]) -> View {
        let entries = paths.iter().map(|(path, link)| Entry {
            path: path.trim_end_matches('/').into(),
            kind: match *link {
                "" if path.ends_with('/') => Kind::Directory { opaque: false },
                "" => Kind::File { size: 0, digest: Digest::of(b"") },
                to => Kind::Symlink { target: to.into() },
            },
            attrs: Attrs::default(),
        });
        let layer = LayerIndex::from_entries(entries.collect()).unwrap();
        View::new(Arc::new(Tree::from_layers([&layer]).unwrap()), Arc::new(MemoryContent::default()), ROOT)
    }

    fn targets(paths: &[(&str, &str)]) -> Targets {
        Targets::new(view(paths))
    }

    #[test]
    fn what_exists_is_used_and_what_does_not_is_shown() {
        let mut t = targets(&[("etc/", ""), ("etc/hosts", "")]);
        assert_eq!(t.add(b"/etc/hosts", Content::File).unwrap(), b"/etc/hosts");
        assert!(t.stubs.is_empty());
        assert_eq!(t.add(b"/run/secrets/x", Content::File).unwrap(), b"/run/secrets/x");
        assert_eq!(t.stubs, [&b"run"[..], b"run/secrets", b"run/secrets/x"]);
        let run = t.views[0].child(ROOT, b"run").unwrap();
        assert!(t.views[0].is_dir(run));
        let x = t.views[0].child(t.views[0].child(run, b"secrets").unwrap(), b"x").unwrap();
        assert!(!t.views[0].is_dir(x));
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let mut t = targets(&[
            ("run/", ""),
            ("var/", ""),
            ("var/run", "/run"),
            ("etc/", ""),
            ("etc/r", "../../../run/r"),
        ]);
        assert_eq!(t.add(b"/var/run/./x/../y", Content::Directory).unwrap(), b"/run/y");
        assert_eq!(t.add(b"/etc/r", Content::File).unwrap(), b"/run/r");
        let mut loops = targets(&[("a", "b"), ("b", "a")]);
        assert!(loops.add(b"/a/x", Content::Directory).unwrap_err().contains("too many"));
    }

    #[test]
    fn what_is_covered_is_learned_of_if_it_counts() {
        let mut t = targets(&[("d/", ""), ("l", "d")]);
        let d = t.views[0].child(ROOT, b"d").unwrap();
        t.add(b"/d", Content::Directory).unwrap();
        assert!(!t.views[0].given().any(|id| id == d));
        let mut t = targets(&[("d/", ""), ("l", "d")]);
        let (path, mode) = t.add_like_what_was_there(b"/l").unwrap();
        assert_eq!((path, mode), (b"/d".to_vec(), Some(Attrs::default().mode)));
        assert!(t.views[0].given().any(|id| id == d));
        assert_eq!(t.add_like_what_was_there(b"/new").unwrap(), (b"/new".to_vec(), None));
    }

    #[test]
    fn a_target_in_another_mount_gets_its_stub_there() {
        let mut t = targets(&[("app/", ""), ("app/link", "/etc")]);
        t.views.push(view(&[("src/", "")]));
        t.add(b"/app", Content::View(1)).unwrap();
        // In the root's tree this would be a link; the mount covers it.
        assert_eq!(t.add(b"/app/link", Content::Directory).unwrap(), b"/app/link");
        assert!(t.views[0].child(ROOT, b"app").is_some_and(|app| t.views[0].children(app).count() == 1));
        assert!(t.views[1].child(ROOT, b"link").is_some());
        // Below that, the executor makes what is missing.
        assert_eq!(t.add(b"/app/link/deep/er", Content::File).unwrap(), b"/app/link/deep/er");
        assert!(t.stubs.is_empty(), "none in the root");
    }

    #[test]
    fn refuses_what_cannot_be() {
        let mut t = targets(&[("f", ""), ("d/", "")]);
        assert!(t.add(b"/", Content::Directory).unwrap_err().contains("root"));
        assert!(t.add(b"/d/..", Content::Directory).unwrap_err().contains("root"));
        assert!(t.add(b"/f/x", Content::Directory).unwrap_err().contains("no directory"));
        assert!(t.add(b"/f", Content::Directory).unwrap_err().contains("is no directory"));
        assert!(t.add(b"/d", Content::File).unwrap_err().contains("is a directory"));
        t.add(b"/f", Content::File).unwrap();
        assert!(t.add(b"/f/x", Content::File).unwrap_err().contains("below a file"));
    }
}
