//! pip: a directory `NAME.dist-info` with METADATA, or the older `NAME.egg-info`, which is a directory with PKG-INFO or such a file
//! itself. Name and version are headers of a message, up to the first empty line.

use oci::index::split;
use oci::tree::{Id, Node};

use super::{Files, Installed, MAX_METADATA, Manager};

pub(super) fn directory(files: Files<'_>, path: &[u8], name: &[u8], id: Id, out: &mut Installed) {
    let file: &[u8] = match () {
        () if name.ends_with(b".dist-info") => b"METADATA",
        () if name.ends_with(b".egg-info") => b"PKG-INFO",
        () => return,
    };
    if let Some(metadata) = files.tree.child(id, file) {
        take(files, path, metadata, out);
    }
}

pub(super) fn file(files: Files<'_>, path: &[u8], id: Id, out: &mut Installed) {
    if path.ends_with(b".egg-info") && matches!(files.tree.inode(id).node, Node::File { .. }) {
        take(files, path, id, out);
    }
}

fn take(files: Files<'_>, path: &[u8], id: Id, out: &mut Installed) {
    let bytes = match files.read(id, MAX_METADATA) {
        Ok(bytes) => bytes,
        Err(why) => return out.problem(path, why),
    };
    let text = String::from_utf8_lossy(&bytes);
    let header = |name: &str| {
        let lines = text.lines().take_while(|l| !l.is_empty());
        lines.filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    if let (Some((_, name)), Some((_, version))) = (header("Name"), header("Version")) {
        out.add(Manager::Pip, name.trim(), split(path).0, version.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{installed, short};

    #[test]
    fn wheels_and_eggs() {
        let head =
            |n: &str, v: &str| format!("Metadata-Version: 2.1\nName: {n}\nVersion: {v}\n\nVersion: trap\n");
        let site = "usr/lib/python3/site-packages";
        let found = installed(&[
            (&format!("{site}/flask-3.0.dist-info/METADATA"), head("Flask", "3.0").as_bytes()),
            (&format!("{site}/flask-3.0.dist-info/RECORD"), b"Name: trap\nVersion: 1\n"),
            (&format!("{site}/old-1.egg-info/PKG-INFO"), head("old", "1").as_bytes()),
            (&format!("{site}/older-2.egg-info"), head("older", "2").as_bytes()),
            (&format!("{site}/none.dist-info/METADATA"), b"\nName: none\nVersion: 1\n"),
        ]);
        let place = format!("/{site}");
        assert_eq!(
            short(&found.packages),
            [format!("pip Flask 3.0 {place}"), format!("pip old 1 {place}"), format!("pip older 2 {place}")]
        );
    }
}
