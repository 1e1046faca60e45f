//! One more layer on a tree.

use std::collections::HashMap;

use super::{Id, Listing, Name, Node, ROOT, Tree, TreeError};
use crate::index::{IndexError, Kind, Passes, compare, show, split};

/// Names that whiteouts take from a directory: the path by which they name it, the directory, and the names.
type Gone = (Vec<u8>, Id, Vec<Name>);

impl Tree {
    pub(super) fn apply_passes(&mut self, layer: &mut impl Passes) -> Result<(), TreeError> {
        // What lies below is hidden first: a whiteout never hides what its own layer brings, wherever it stands.
        let targets = self.hide(layer)?;
        // Links to files of the layers below take them as they were before this layer replaced anything.
        let lower: HashMap<Vec<u8>, Option<Id>> = absent(targets, layer)?
            .into_iter()
            .map(|target| {
                let found = self.lower(&target);
                (target, found)
            })
            .collect();
        let number = self.layers;
        // The directory of the entry before: sorted input makes it the right one most of the time.
        let mut dir: (Vec<u8>, Id) = (Vec::new(), ROOT);
        layer.restart();
        while let Some(e) = layer.next()? {
            if matches!(e.kind, Kind::Whiteout) {
                continue;
            }
            if e.path.is_empty() {
                if !e.is_bare_marker() {
                    self.set_attrs(ROOT, e, number);
                }
                continue;
            }
            self.room_for(1)?;
            let (parent_path, name) = split(&e.path);
            if dir.0 != parent_path {
                dir = (parent_path.to_vec(), self.make_dirs(parent_path, number)?);
            }
            let parent = dir.1;
            match &e.kind {
                Kind::HardLink { target } => {
                    let found = match lower.get(target) {
                        Some(id) => *id,
                        None => self.lower(target),
                    };
                    let Some(id) = found else {
                        return Err(TreeError::MissingTarget { link: show(&e.path), target: show(target) });
                    };
                    if self.inode(id).is_dir() {
                        return Err(TreeError::DirectoryTarget { link: show(&e.path), target: show(target) });
                    }
                    if self.child(parent, name) != Some(id) {
                        self.replaced(parent, name);
                        self.link_again(parent, name, id);
                    }
                }
                Kind::Directory { .. } => match self.child(parent, name) {
                    Some(id) if self.inode(id).is_dir() => {
                        if !e.is_bare_marker() {
                            self.set_attrs(id, e, number);
                        }
                    }
                    _ => {
                        let mut attrs = e.attrs.clone();
                        if e.is_bare_marker() {
                            attrs.mtime = crate::Time::default();
                        }
                        self.replaced(parent, name);
                        self.create(parent, name, Node::Directory(Listing::default()), attrs, number);
                    }
                },
                kind => {
                    let Ok(node) = Node::of(kind.clone()) else { continue };
                    self.replaced(parent, name);
                    self.create(parent, name, node, e.attrs.clone(), number);
                }
            }
        }
        self.settle();
        self.name_the_nameless();
        self.layers += 1;
        Ok(())
    }

    /// Takes away what a layer says is gone; gives the targets of its hard links.
    fn hide(&mut self, layer: &mut impl Passes) -> Result<Vec<Vec<u8>>, TreeError> {
        let mut targets: Vec<Vec<u8>> = Vec::new();
        // Whiteouts of one directory stand together, and are obeyed together: names that are taken one by one from a long list move all
        // others each time.
        let mut gone: Option<Gone> = None;
        layer.restart();
        while let Some(e) = layer.next()? {
            let above = split(&e.path).0;
            if let Some((_, dir, names)) = gone.take_if(|(path, ..)| path != above) {
                self.unlink_many(dir, names);
            }
            match &e.kind {
                Kind::Whiteout => {
                    if let Some(id) = self.lower(&e.path)
                        && id != ROOT
                    {
                        let (parent, name) = self.name_of(&e.path, id);
                        if let Some((_, dir, names)) = gone.take_if(|(_, dir, _)| *dir != parent) {
                            self.unlink_many(dir, names);
                        }
                        gone.get_or_insert_with(|| (above.to_vec(), parent, Vec::new())).2.push(name);
                    }
                }
                Kind::Directory { opaque: true } => {
                    if let Some(id) = self.lower(&e.path)
                        && self.inode(id).is_dir()
                    {
                        self.unlink_all(id, |_| true);
                    }
                }
                Kind::HardLink { target } if targets.last() != Some(target) => targets.push(target.clone()),
                _ => {}
            }
        }
        if let Some((_, dir, names)) = gone {
            self.unlink_many(dir, names);
        }
        Ok(targets)
    }
}

/// Those of these paths that a layer does not hold.
fn absent(mut paths: Vec<Vec<u8>>, layer: &mut impl Passes) -> Result<Vec<Vec<u8>>, IndexError> {
    paths.sort_unstable_by(|a, b| compare(a, b));
    paths.dedup();
    let mut out = Vec::new();
    let mut paths = paths.into_iter().peekable();
    layer.restart();
    while paths.peek().is_some()
        && let Some(e) = layer.next()?
    {
        while let Some(path) = paths.next_if(|path| compare(path, &e.path).is_lt()) {
            out.push(path);
        }
        paths.next_if(|path| *path == e.path);
    }
    out.extend(paths);
    Ok(out)
}
