//! Whose files are whose: the lists that dpkg and apk keep, with what a package needs and how it is installed.

use std::collections::{BTreeMap, BTreeSet};

use oci::Tree;
use oci::index::join;
use oci::tree::Node;

use crate::facts::Facts;
use crate::kinds::flags;

/// Largest list that is read, in bytes.
const MAX_LIST: u64 = 256 << 20;

/// The files of all installed packages.
pub(super) struct Owners {
    of: BTreeMap<Vec<u8>, String>,
    apk: bool,
}

impl Owners {
    /// As the databases of a tree have it.
    pub(super) fn read(facts: &Facts, tree: &Tree) -> Owners {
        let mut out = Owners { of: BTreeMap::new(), apk: false };
        let read = |path: &[u8]| -> Option<String> {
            let place = tree.resolve(path, true).ok().filter(|p| p.exists())?;
            let Node::File { digest, .. } = &tree.inode(place.id).node else { return None };
            Some(String::from_utf8_lossy(&facts.content.read_all(digest, MAX_LIST).ok()?).into_owned())
        };
        let mut add = |path: &str, package: &str| {
            let path = path.trim_start_matches('/').as_bytes();
            if let Some(p) = tree.resolve(path, false).ok().filter(|p| p.exists()) {
                out.of.insert(p.path, package.to_owned());
            }
        };
        if let Some(dir) = tree.resolve(b"var/lib/dpkg/info", true).ok().filter(|p| p.exists()) {
            for (name, _) in tree.children(dir.id) {
                let Some(package) = name.strip_suffix(b".list") else { continue };
                // `libc6:amd64`
                let package = String::from_utf8_lossy(package);
                let package = package.split(':').next().unwrap_or_default();
                if let Some(text) = read(&join(&dir.path, name)) {
                    text.lines().for_each(|line| add(line, package));
                }
            }
        }
        let mut apk = false;
        for db in [&b"lib/apk/db/installed"[..], b"usr/lib/apk/db/installed"] {
            let (mut package, mut folder) = (String::new(), String::new());
            for line in read(db).unwrap_or_default().lines() {
                match line.split_once(':') {
                    Some(("P", p)) => p.clone_into(&mut package),
                    Some(("F", f)) => f.clone_into(&mut folder),
                    Some(("R", r)) => {
                        apk = true;
                        add(&format!("{folder}/{r}"), &package);
                    }
                    _ => {}
                }
            }
        }
        out.apk = apk;
        out
    }

    /// The package that a file belongs to.
    pub(super) fn of(&self, path: &[u8]) -> Option<&str> {
        self.of.get(path).map(String::as_str)
    }

    /// These packages and those that they need, as far as that is known.
    pub(super) fn with_needed(
        &self,
        facts: &Facts,
        tree: &Tree,
        packages: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let named: Vec<String> = packages.iter().cloned().collect();
        match flags::status(tree, &*facts.content).filter(|_| !self.apk) {
            Some(status) => flags::needed(&status, &named).into_iter().map(str::to_owned).collect(),
            None => packages.clone(),
        }
    }

    /// The RUN that installs them and leaves nothing else behind.
    pub(super) fn install(&self, packages: &BTreeSet<String>, escape: char) -> String {
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        let names = names.join(" ");
        if self.apk {
            return format!("RUN apk add --no-cache {names}\n");
        }
        format!(
            "RUN apt-get update && {escape}\n    apt-get install -y --no-install-recommends {names} && {escape}\n    \
             apt-get clean && rm -rf /var/lib/apt/lists/*\n"
        )
    }
}
