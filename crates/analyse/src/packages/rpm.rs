//! rpm: the database in one of three formats. `rpmdb.sqlite` (since rpm 4.16) is read: its table `Packages` holds one header for each
//! package. `Packages` (Berkeley DB) and `Packages.db` (ndb, SUSE) are found and named as what they are.
//!
//! A header, all numbers big endian: number of index entries and bytes of data, 4 bytes each; the entries, each tag, type, offset and
//! count, 4 bytes each; the data. Strings end with a NUL. Tags: 1000 name, 1001 version, 1002 release, 1003 epoch.

use super::{Files, Installed, MAX_DATABASE, Manager, sqlite};

const DIRS: [&[u8]; 3] = [b"var/lib/rpm", b"usr/lib/sysimage/rpm", b"usr/share/rpm"];

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;

pub(super) fn find(files: Files<'_>, out: &mut Installed) {
    let mut seen = Vec::new();
    for dir in DIRS {
        let Some(id) = files.directory(dir).filter(|id| !seen.contains(id)) else { continue };
        seen.push(id);
        let path = |name: &[u8]| oci::index::join(dir, name);
        if let Some(db) = files.tree.child(id, b"rpmdb.sqlite") {
            let rows = files
                .read(db, MAX_DATABASE)
                .and_then(|bytes| sqlite::blobs(&bytes, "Packages").map_err(str::to_owned));
            match rows {
                Ok(headers) => headers.iter().for_each(|h| take(h, &path(b"rpmdb.sqlite"), out)),
                Err(why) => out.problem(&path(b"rpmdb.sqlite"), why),
            }
        } else if files.tree.child(id, b"Packages.db").is_some() {
            out.problem(&path(b"Packages.db"), "an rpm database in ndb format, which is not read");
        } else if files.tree.child(id, b"Packages").is_some() {
            out.problem(&path(b"Packages"), "an rpm database in Berkeley DB format, which is not read");
        }
    }
}

/// A field of a header as text.
fn field(header: &[u8], wanted: u32) -> Option<String> {
    let word = |at: usize| {
        header.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes).map(|n| n as usize)
    };
    let (count, size) = (word(0)?, word(4)?);
    let data = 8 + count.checked_mul(16)?;
    header.get(data..data.checked_add(size)?)?;
    for n in 0..count {
        let at = 8 + n * 16;
        if word(at)? != wanted as usize {
            continue;
        }
        let from = data.checked_add(word(at + 8)?)?;
        return match word(at + 4)? {
            4 => Some(word(from)?.to_string()),
            6 | 9 => {
                let text = header.get(from..)?;
                let end = text.iter().position(|&b| b == 0)?;
                Some(String::from_utf8_lossy(&text[..end]).into_owned())
            }
            _ => None,
        };
    }
    None
}

fn take(header: &[u8], path: &[u8], out: &mut Installed) {
    let (Some(name), Some(version)) = (field(header, NAME), field(header, VERSION)) else {
        return out.problem(path, "a package's header is damaged");
    };
    let release = field(header, RELEASE).map_or_else(String::new, |r| format!("-{r}"));
    let epoch = field(header, EPOCH).filter(|e| e != "0").map_or_else(String::new, |e| format!("{e}:"));
    // Keys that signatures are checked with are kept as packages.
    if name != "gpg-pubkey" {
        out.add(Manager::Rpm, &name, b"", &format!("{epoch}{version}{release}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{installed, short};
    use super::*;

    /// A header with these fields.
    pub(crate) fn header(fields: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        let mut entry = |tag: u32, kind: u32, at: usize| {
            for n in [tag, kind, at as u32, 1] {
                index.extend_from_slice(&n.to_be_bytes());
            }
        };
        for (tag, text) in fields {
            entry(*tag, 6, data.len());
            data.extend_from_slice(text.as_bytes());
            data.push(0);
        }
        if let Some(e) = epoch {
            while data.len() % 4 > 0 {
                data.push(0);
            }
            entry(EPOCH, 4, data.len());
            data.extend_from_slice(&e.to_be_bytes());
        }
        let mut out = Vec::new();
        out.extend_from_slice(&((index.len() / 16) as u32).to_be_bytes());
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend(index);
        out.extend(data);
        out
    }

    /// A database as SQLite itself writes it; enough packages for several levels of pages, and one that overflows a page.
    fn database() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpmdb.sqlite");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA page_size = 512; CREATE TABLE other (x); INSERT INTO other VALUES (1);
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);",
        )
        .unwrap();
        db.execute_batch("BEGIN").unwrap();
        let add = |h: Vec<u8>| {
            db.execute("INSERT INTO Packages (blob) VALUES (?1)", [h]).unwrap();
        };
        for n in 0..300 {
            add(header(&[(NAME, &format!("p{n:03}")), (VERSION, "1"), (RELEASE, "2.el9")], None));
        }
        let long = "x".repeat(5000);
        add(header(&[(1005, &long), (NAME, "big"), (VERSION, "3"), (RELEASE, "4")], Some(7)));
        add(header(&[(NAME, "gpg-pubkey"), (VERSION, "1")], None));
        db.execute_batch("COMMIT").unwrap();
        drop(db);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn packages_of_an_sqlite_database() {
        let bytes = database();
        let found = installed(&[("var/lib/rpm/rpmdb.sqlite", &bytes)]);
        assert_eq!(found.problems, []);
        let names = short(&found.packages);
        assert_eq!(names.len(), 301);
        assert_eq!(names[..2], ["rpm big 7:3-4", "rpm p000 1-2.el9"]);
        assert_eq!(names[300], "rpm p299 1-2.el9");
    }

    #[test]
    fn damaged_databases_are_problems_and_no_panic() {
        let bytes = database();
        for n in (0..bytes.len()).step_by(97) {
            let mut b = bytes.clone();
            b[n] ^= 0xff;
            installed(&[("var/lib/rpm/rpmdb.sqlite", &b)]);
            installed(&[("var/lib/rpm/rpmdb.sqlite", &bytes[..n])]);
        }
        let found = installed(&[("var/lib/rpm/rpmdb.sqlite", &bytes[..600])]);
        assert_eq!(found.problems.len(), 1, "{found:?}");
    }

    #[test]
    fn other_formats_are_named() {
        let found = installed(&[("var/lib/rpm/Packages", b"x"), ("usr/lib/sysimage/rpm/Packages.db", b"x")]);
        let said: Vec<_> = found.problems.iter().map(|p| format!("{} {}", p.path, p.why)).collect();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("/var/lib/rpm/Packages") && said[0].contains("Berkeley DB"), "{said:?}");
        assert!(said[1].contains("ndb"), "{said:?}");
    }
}
