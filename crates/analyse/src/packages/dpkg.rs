//! dpkg: `var/lib/dpkg/status`, one paragraph of `Field: value` lines for each package, continued by lines that begin with a blank;
//! distroless images keep one file for each package in `status.d` instead, without a `Status` field.
//!
//! A package counts if it is installed (third word of `Status`), not if only its configuration is left.

use super::{Files, Installed, MAX_DATABASE, MAX_METADATA, Manager};

/// A paragraph of a control file: its fields, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Paragraph<'a> {
    /// The first line of a field.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// Whether the package's files are there.
    pub fn is_installed(&self) -> bool {
        self.get("Status").is_none_or(|s| s.split_whitespace().nth(2) == Some("installed"))
    }
}

/// The paragraphs of a control file. Of fields with several lines, the first is kept.
pub fn paragraphs(text: &str) -> Vec<Paragraph<'_>> {
    let mut out = Vec::new();
    let mut now = Paragraph::default();
    for line in text.lines() {
        if line.trim().is_empty() {
            if !now.0.is_empty() {
                out.push(std::mem::take(&mut now));
            }
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            now.0.push((name, value.trim()));
        }
    }
    if !now.0.is_empty() {
        out.push(now);
    }
    out
}

fn take(text: &str, out: &mut Installed) {
    for p in paragraphs(text) {
        if let (Some(name), Some(version), true) = (p.get("Package"), p.get("Version"), p.is_installed()) {
            // Of libraries that may be there for several architectures the name alone says too little.
            match (p.get("Multi-Arch"), p.get("Architecture")) {
                (Some("same"), Some(arch)) => {
                    out.add(Manager::Dpkg, &format!("{name}:{arch}"), b"", version);
                }
                _ => out.add(Manager::Dpkg, name, b"", version),
            }
        }
    }
}

pub(super) fn find(files: Files<'_>, out: &mut Installed) {
    let status = b"var/lib/dpkg/status";
    if let Some(id) = files.file(status) {
        match files.read(id, MAX_DATABASE) {
            Ok(bytes) => take(&String::from_utf8_lossy(&bytes), out),
            Err(why) => out.problem(status, why),
        }
    }
    let Some(dir) = files.directory(b"var/lib/dpkg/status.d") else { return };
    for (name, id) in files.tree.children(dir) {
        // Beside the paragraphs lie lists of checksums.
        if name.ends_with(b".md5sums") || files.tree.inode(id).is_dir() {
            continue;
        }
        match files.read(id, MAX_METADATA) {
            Ok(bytes) => take(&String::from_utf8_lossy(&bytes), out),
            Err(why) => out.problem(&files.tree.path(id), why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{installed, short};

    const STATUS: &[u8] = b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36-9\n\
Description: C library\n more text: with a colon\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
Package: bash\nStatus: install ok installed\nVersion: 1:5.2-2\n";

    #[test]
    fn installed_packages_of_the_status_file() {
        let found = installed(&[("var/lib/dpkg/status", STATUS)]);
        assert_eq!(short(&found.packages), ["dpkg bash 1:5.2-2", "dpkg libc6:amd64 2.36-9"]);
        assert_eq!(found.problems, []);
    }

    #[test]
    fn distroless_keeps_a_file_for_each() {
        let found = installed(&[
            ("var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024a\n"),
            ("var/lib/dpkg/status.d/tzdata.md5sums", b"Package: trap\nVersion: 1\n"),
        ]);
        assert_eq!(short(&found.packages), ["dpkg tzdata 2024a"]);
    }
}
