//! apk: the installed database, one paragraph for each package, of lines `X:value`; `P` is the name, `V` the version.

use super::{Files, Installed, MAX_DATABASE, Manager};

const PLACES: [&[u8]; 2] = [b"lib/apk/db/installed", b"usr/lib/apk/db/installed"];

pub(super) fn find(files: Files<'_>, out: &mut Installed) {
    // With a merged /usr both names lead to one file.
    let mut seen = Vec::new();
    for path in PLACES {
        let Some(id) = files.file(path).filter(|id| !seen.contains(id)) else { continue };
        seen.push(id);
        match files.read(id, MAX_DATABASE) {
            Ok(bytes) => take(&String::from_utf8_lossy(&bytes), out),
            Err(why) => out.problem(path, why),
        }
    }
}

fn take(text: &str, out: &mut Installed) {
    let (mut name, mut version) = (None, None);
    for line in text.lines().chain([""]) {
        match line.split_once(':') {
            Some(("P", v)) => name = Some(v),
            Some(("V", v)) => version = Some(v),
            Some(_) => {}
            None if line.is_empty() => {
                if let (Some(n), Some(v)) = (name.take(), version.take()) {
                    out.add(Manager::Apk, n, b"", v);
                }
                (name, version) = (None, None);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{installed, short};

    #[test]
    fn packages_of_the_installed_database() {
        let text = b"C:Q1abc=\nP:musl\nV:1.2.5-r9\nF:lib\nR:libc.so\n\nP:busybox\nV:1.37.0-r12\n\nP:half\n";
        let found = installed(&[("lib/apk/db/installed", text)]);
        assert_eq!(short(&found.packages), ["apk busybox 1.37.0-r12", "apk musl 1.2.5-r9"]);
        let found = installed(&[("usr/lib/apk/db/installed", text)]);
        assert_eq!(found.packages.len(), 2);
    }
}
