//! Root file systems of the distribution that this machine runs, made by mmdebstrap from the mirror that the machine uses.

use std::path::Path;
use std::process::Command;

use crate::lab::{self, Lab, skip};

/// Where apt's lists of mirrors are, best first.
const MIRRORS: [&str; 3] = [
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list.d/ubuntu.sources",
    "/etc/apt/sources.list",
];
/// Certificates that the machine trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Imports a minimal root file system as `debian:local`, with the machine's mirrors, apt and pip settings and certificates.
/// `None`, with the reason said, where it cannot be made.
pub(crate) fn base(lab: &Lab) -> Option<&'static str> {
    const NAME: &str = "debian:local";
    if lab.layercake(&["inspect", NAME]).output().is_ok_and(|o| o.status.success()) {
        return Some(NAME);
    }
    if !lab::has("mmdebstrap") {
        skip("mmdebstrap is not installed");
        return None;
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="));
    let mirror = MIRRORS.iter().find(|m| Path::new(m).is_file());
    let (Some(codename), Some(mirror)) = (codename, mirror) else {
        skip("not a Debian or Ubuntu with a list of mirrors");
        return None;
    };
    let tar = lab.path("debian.tar");
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--quiet"]);
    // Into the root file system, so that steps reach what the machine reaches.
    let apt = files("/etc/apt/apt.conf.d").into_iter().filter(|f| about_network(f));
    for file in apt.chain(files("/etc/pip.conf")).chain(files(TRUSTED)) {
        put(&mut command, &file, &file);
    }
    // Whoever installs ca-certificates later has the bundle written anew, from its own and what lies here.
    for file in files(TRUSTED) {
        put(&mut command, &file, "/usr/local/share/ca-certificates/machine.crt");
    }
    command.arg(codename.trim_matches('"')).arg(&tar).arg(mirror);
    let out = command.output().expect("it is there");
    if !out.status.success() {
        let said = lab::text(&out.stderr);
        let errors: Vec<&str> = said.lines().filter(|l| l.contains("E:")).collect();
        skip(&format!("mmdebstrap made no root file system: {}", errors.join("; ")));
        return None;
    }
    lab.print(&["import", "-c", "CMD [\"bash\"]", tar.to_str().expect("UTF-8"), NAME]);
    std::fs::remove_file(tar).expect("it is there");
    Some(NAME)
}

/// Copies a file into the root file system.
fn put(mmdebstrap: &mut Command, file: &str, place: &str) {
    let parent = place.rsplit_once('/').map_or("/", |p| p.0);
    mmdebstrap.arg(format!("--customize-hook=mkdir -p \"$1{parent}\" && cp {file} \"$1{place}\""));
}

/// Does this file of apt's say how to reach the mirror?
fn about_network(file: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|t| t.contains("Acquire::http"))
}

/// The file itself, or the files in the directory.
fn files(path: &str) -> Vec<String> {
    let path = Path::new(path);
    let mut out: Vec<String> = match std::fs::read_dir(path) {
        Ok(list) => list.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect::<Vec<_>>(),
        Err(_) if path.is_file() => vec![path.to_owned()],
        Err(_) => Vec::new(),
    }
    .iter()
    .filter_map(|p| p.to_str().map(str::to_owned))
    .collect();
    out.sort();
    out
}
