//! npm: `node_modules/NAME/package.json` and `node_modules/@SCOPE/NAME/package.json`, at any depth. The same package may be there
//! several times, in several versions; the place tells them apart.

use oci::index::split;
use oci::tree::Id;
use serde::Deserialize;

use super::{Files, Installed, MAX_METADATA, Manager};

#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
}

pub(super) fn directory(files: Files<'_>, path: &[u8], name: &[u8], id: Id, out: &mut Installed) {
    let parent = split(path).0;
    let (dir, scoped) = match split(parent).1 {
        scope if scope.starts_with(b"@") => (split(parent).0, true),
        _ => (parent, false),
    };
    if split(dir).1 != b"node_modules" || (name.starts_with(b"@") && !scoped) {
        return;
    }
    let Some(json) = files.tree.child(id, b"package.json") else { return };
    let bytes = match files.read(json, MAX_METADATA) {
        Ok(bytes) => bytes,
        Err(why) => return out.problem(path, why),
    };
    // What is no such document is a directory of something else.
    if let Ok(Manifest { name: Some(name), version: Some(version) }) = serde_json::from_slice(&bytes) {
        out.add(Manager::Npm, &name, dir, &version);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{installed, short};

    #[test]
    fn plain_scoped_and_nested() {
        let found = installed(&[
            ("app/package.json", br#"{"name":"app","version":"9"}"#),
            ("app/node_modules/a/package.json", br#"{"name":"a","version":"1.0.0"}"#),
            ("app/node_modules/a/node_modules/b/package.json", br#"{"name":"b","version":"2.0.0"}"#),
            ("app/node_modules/@s/c/package.json", br#"{"name":"@s/c","version":"3.0.0"}"#),
            ("app/node_modules/@s/c/lib/package.json", br#"{"name":"trap","version":"1"}"#),
            ("app/node_modules/d/package.json", b"{ damaged"),
        ]);
        assert_eq!(
            short(&found.packages),
            [
                "npm @s/c 3.0.0 /app/node_modules",
                "npm a 1.0.0 /app/node_modules",
                "npm b 2.0.0 /app/node_modules/a/node_modules"
            ]
        );
    }
}
