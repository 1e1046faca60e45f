//! Case 5: other tools read what we write, and find in it what we meant: skopeo, podman, umoci, and Debian's registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, everything, ok, text};
use crate::{cache, multistage, python, small};

#[test]
fn case_5_other_tools_agree() {
    if !everything() {
        eprintln!("skipped: only with LAYERCAKE_TEST_ALL (cargo xtask accept 5)");
        return;
    }
    let lab = Lab::new().expect("nothing is skipped");
    let mut images = vec![(cache::build(&lab).expect("busybox"), vec!["cat", "/srv/words"])];
    let [one, three] = small::build(&lab).expect("Alpine");
    images.extend([one, three].map(|i| (i, vec!["cat", "/checksum"])));
    images.push((multistage::build(&lab).expect("Debian"), vec!["a", "b"]));
    images.push((python::build(&lab).expect("Debian"), vec!["python3", "app.py"]));
    images.push((odd(&lab), vec!["/bin/busybox", "echo", "odd"]));
    let registry = Registry::start(&lab);
    for (image, command) in images {
        println!("{image}:");
        one_image(&lab, &registry, image, &command);
    }
}

/// An image of everything that a layer can hold and a build seldom makes.
fn odd(lab: &Lab) -> &'static str {
    let tree = lab.path("odd/tree");
    let at = |name: &str| tree.join(name);
    fs::create_dir_all(at("d/e")).expect("directories can be made");
    fs::create_dir_all(at("bin")).expect("directories can be made");
    fs::copy("/bin/busybox", at("bin/busybox")).expect("busybox");
    let long = format!("d/{}", "n".repeat(200));
    for name in ["plain", "set-id", "owned", "capable", "hard-1", "d/with space", "d/é", &long] {
        fs::write(at(name), name).expect("files can be written");
    }
    fs::hard_link(at("hard-1"), at("d/hard-2")).expect("links can be made");
    std::os::unix::fs::symlink("/nowhere/at all", at("link")).expect("links can be made");
    std::os::unix::fs::symlink("plain", at("owned-link")).expect("links can be made");
    let own = |name: &str, uid, gid| {
        std::os::unix::fs::lchown(at(name), Some(uid), Some(gid)).expect("we are root")
    };
    own("owned", 1234, 5678);
    own("owned-link", 7, 8);
    own("d/e", 3_000_000, 4_000_000);
    for (name, mode) in [("set-id", 0o6755), ("d/e", 0o1777), ("d", 0o2750), ("plain", 0o000)] {
        fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("modes can be set");
    }
    for (name, kind) in
        [("fifo", ["p"].as_slice()), ("null", &["c", "1", "3"]), ("block", &["b", "7", "200"])]
    {
        ok(Command::new("mknod").arg(at(name)).args(kind));
    }
    let none = rustix::fs::XattrFlags::empty();
    // cap_net_raw, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("capable"), "security.capability", &capability, none).expect("we are root");
    rustix::fs::setxattr(at("capable"), "user.note", b"a\0b", none).expect("the file system has attributes");
    let tar = lab.path("odd/rootfs.tar");
    let mut command = Command::new("tar");
    command.args(["--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf"]);
    ok(command.arg(&tar).arg("-C").arg(&tree).arg("."));
    lab.print(&["import", "-c", "CMD [\"/bin/busybox\"]", tar.to_str().expect("UTF-8"), "odd-base"]);
    let remove =
        "FROM odd-base\nRUN [\"/bin/busybox\", \"rm\", \"-r\", \"/d/e\", \"/d/hard-2\"]\nLABEL odd=yes\n";
    let file = lab.write("odd/context/Dockerfile", remove);
    lab.build("odd", file.parent().expect("its directory"), &[]);
    "odd"
}

fn one_image(lab: &Lab, registry: &Registry, image: &str, command: &[&str]) {
    let scratch = tempfile::Builder::new().tempdir_in(lab.path("")).expect("directories can be made");
    let at = |name: &str| scratch.path().join(name).to_str().expect("UTF-8").to_owned();

    // What we say.
    let (oci, docker, export) = (at("oci.tar"), at("docker.tar"), at("export.tar"));
    lab.print(&["save", "--format", "oci", "-o", &oci, image]);
    lab.print(&["save", "-o", &docker, image]);
    lab.print(&["export", "-o", &export, image]);
    let ours = unpack_tar(&export, &at("ours"));
    let id = lab.json(&["inspect", image])[0]["id"].as_str().expect("an id").to_owned();
    let layout = at("layout");
    fs::create_dir(&layout).expect("directories can be made");
    ok(Command::new("tar").args(["-xf", &oci, "-C", &layout]));
    let digest = only_manifest(&layout);

    // skopeo
    let seen: Value = json(&mut skopeo(&["inspect", &format!("oci-archive:{oci}")]));
    assert_eq!(seen["Digest"], digest.as_str());
    let copied = at("copied");
    ok(&mut skopeo(&[
        "copy",
        "--preserve-digests",
        &format!("oci-archive:{oci}"),
        &format!("oci:{copied}:x"),
    ]));
    assert_eq!(only_manifest(&copied), digest, "a copy is the same image");
    let config: Value =
        json(&mut skopeo(&["inspect", "--config", "--raw", &format!("docker-archive:{docker}")]));
    let wanted: Value = json(&mut skopeo(&["inspect", "--config", "--raw", &format!("oci-archive:{oci}")]));
    assert_eq!(config, wanted, "both archives hold the same config");

    // umoci
    let bundle = at("bundle");
    ok(Command::new("umoci").args(["unpack", "--image", &format!("{copied}:x"), &bundle]));
    same(&ours, &tree(&Path::new(&bundle).join("rootfs")), "umoci");

    // podman
    let podman = Podman { root: lab.path("podman") };
    podman.run(&["load", "-q", "-i", &docker]);
    let listed = podman.run(&["images", "-q", "--no-trunc"]);
    assert!(listed.lines().any(|l| l == id), "podman has {listed}, not {id}");
    let container = podman.run(&["create", "--network=none", &id, "x"]);
    let theirs = at("podman.tar");
    podman.run(&["export", "-o", &theirs, container.trim()]);
    let mut theirs = unpack_tar(&theirs, &at("podman"));
    let mut wanted = ours.clone();
    for facts in wanted.values_mut().chain(theirs.values_mut()) {
        // Its export has no attributes; those in its storage are looked at below.
        facts.xattrs.clear();
    }
    same(&wanted, &theirs, "podman");
    if image == "odd" {
        let mount = podman.run(&["image", "mount", &id]);
        let facts = tree(Path::new(mount.trim()));
        assert_eq!(facts["capable"].xattrs, ours["capable"].xattrs, "podman's storage");
        assert_eq!(facts["capable"].xattrs.len(), 2, "{:?}", facts["capable"]);
    }
    podman.run(&["rm", container.trim()]);
    // Within the limits of this machine, which podman's own may be above.
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    let fixed = ["run", "--rm", "--network=none", limits[0], limits[1], &id];
    let words: Vec<&str> = fixed.iter().chain(command).copied().collect();
    let theirs = podman.command(&words).output().expect("podman starts");
    let said = text(&theirs.stderr);
    let mine = lab.layercake(&[&["run", image], command].concat()).output().expect("it starts");
    // 125 is podman's own failure, 126 the runtime's.
    if matches!(theirs.status.code(), Some(125 | 126)) && mine.status.success() {
        println!("  podman cannot run containers on this machine: {}", said.trim());
    } else {
        assert_eq!(
            (text(&theirs.stdout), theirs.status.code()),
            (text(&mine.stdout), mine.status.code()),
            "{said}"
        );
    }

    // A registry, there and back, and from the other side.
    let name = format!("{}/{image}:1", registry.host);
    lab.print(&["tag", image, &name]);
    lab.print(&["push", &name]);
    let back = at("back");
    ok(&mut skopeo(&[
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &format!("oci:{back}:x"),
    ]));
    assert_eq!(only_manifest(&back), digest, "what was pushed is what was saved");
    let theirs = format!("{}/theirs-{image}:1", registry.host);
    ok(&mut skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("oci-archive:{oci}"),
        &format!("docker://{theirs}"),
    ]));
    let other = lab.path("other-store").to_str().expect("UTF-8").to_owned();
    lab.print(&["--root", &other, "pull", "-q", &theirs]);
    let pulled = &lab.json(&["--root", &other, "inspect", &theirs])[0];
    assert_eq!(pulled["id"], id.as_str());
    lab.print(&["--root", &other, "export", "-o", &export, &theirs]);
    same(&ours, &unpack_tar(&export, &at("pulled")), "a pull by another store");
    println!("  {} files, {digest}: skopeo, umoci, podman and the registry agree", ours.len());
}

fn skopeo(words: &[&str]) -> Command {
    let mut c = Command::new("skopeo");
    c.args(words);
    c
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&ok(command).stdout).expect("it is JSON")
}

/// The digest of the only manifest of an OCI layout.
fn only_manifest(layout: &str) -> String {
    let index = fs::read(Path::new(layout).join("index.json")).expect("a layout has an index");
    let index: Value = serde_json::from_slice(&index).expect("it is JSON");
    let list = index["manifests"].as_array().expect("it lists manifests");
    assert_eq!(list.len(), 1, "{index}");
    list[0]["digest"].as_str().expect("a digest").to_owned()
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    /// Whole seconds; not of directories, which change when something is put into them.
    mtime: Option<i64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    link_of: Option<String>,
}

type Tree = BTreeMap<String, Facts>;

fn unpack_tar(tar: &str, dir: &str) -> Tree {
    fs::create_dir(dir).expect("directories can be made");
    let flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", tar, "-C", dir];
    ok(Command::new("tar").args(flags));
    tree(Path::new(dir))
}

/// Everything below a directory.
fn tree(dir: &Path) -> Tree {
    let mut out = Tree::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![(String::new(), dir.to_owned())];
    while let Some((name, path)) = todo.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&path).expect("it can be listed").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for entry in entries {
            let last = entry.file_name().expect("it has a name").to_string_lossy().into_owned();
            let name = if name.is_empty() { last } else { format!("{name}/{last}") };
            let meta = entry.symlink_metadata().expect("it is there");
            if meta.is_dir() {
                todo.push((name.clone(), entry.clone()));
            }
            out.insert(name.clone(), facts(&entry, &meta));
            if !meta.is_dir() && meta.nlink() > 1 {
                inodes.entry(meta.ino()).or_insert_with(Vec::new).push(name);
            }
        }
    }
    for names in inodes.into_values().filter(|n| n.len() > 1) {
        let first = names.iter().min().expect("more than one").clone();
        for n in names {
            out.get_mut(&n).expect("it was listed").link_of = Some(first.clone());
        }
    }
    out
}

fn facts(path: &Path, meta: &fs::Metadata) -> Facts {
    let file = meta.file_type();
    let kind = if file.is_dir() {
        "directory".to_owned()
    } else if file.is_symlink() {
        format!("link to {}", fs::read_link(path).expect("it is a link").display())
    } else if file.is_file() {
        let content = fs::read(path).expect("root can read it");
        format!("file of {} bytes, {}", content.len(), oci::Digest::of(&content))
    } else if file.is_fifo() {
        "fifo".to_owned()
    } else {
        let letter = if file.is_char_device() { 'c' } else { 'b' };
        format!("device {letter} {:x}", meta.rdev())
    };
    let mut names = vec![0_u8; 65536];
    let len = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let xattrs = names[..len].split(|&b| b == 0).filter(|n| !n.is_empty()).map(|n| {
        let mut value = vec![0_u8; 65536];
        let len = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(n), value.as_mut_slice());
        value.truncate(len.expect("it was listed"));
        (text(n), value)
    });
    Facts {
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (!file.is_dir()).then(|| meta.mtime()),
        xattrs: xattrs.collect(),
        link_of: None,
        kind,
    }
}

fn same(ours: &Tree, theirs: &Tree, who: &str) {
    assert!(!ours.is_empty());
    let mut bad = Vec::new();
    for (name, want) in ours {
        match theirs.get(name) {
            None => bad.push(format!("{name} is missing")),
            Some(got) if got != want => bad.push(format!("{name}: {got:?}, want {want:?}")),
            Some(_) => {}
        }
    }
    bad.extend(theirs.keys().filter(|n| !ours.contains_key(*n)).map(|n| format!("{n} should not be there")));
    let shown = bad.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(bad.is_empty(), "{who}: {} of {} paths differ\n{shown}", bad.len(), ours.len());
}

/// podman with a storage of its own.
struct Podman {
    root: PathBuf,
}

impl Podman {
    fn command(&self, words: &[&str]) -> Command {
        let mut c = Command::new("podman");
        c.arg("--root").arg(self.root.join("root")).arg("--runroot").arg(self.root.join("run"));
        c.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]).args(words);
        c.stdin(Stdio::null());
        c
    }

    fn run(&self, words: &[&str]) -> String {
        text(&ok(&mut self.command(words)).stdout)
    }
}

/// Debian's registry on loopback.
struct Registry {
    host: String,
    child: Child,
}

impl Registry {
    fn start(lab: &Lab) -> Registry {
        let data = lab.path("registry-data");
        // Between the look for a free port and the start somebody else may take it.
        for _ in 0..5 {
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback").port();
            let host = format!("127.0.0.1:{port}");
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: {host}\n",
                data.display()
            );
            let file = lab.write("registry.yml", config);
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().expect("docker-registry is installed");
            let mut registry = Registry { host, child };
            if registry.answers() {
                return registry;
            }
        }
        panic!("docker-registry does not answer");
    }

    fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end && self.child.try_wait().is_ok_and(|s| s.is_none()) {
            let mut said = String::new();
            let asked = TcpStream::connect(&self.host).and_then(|mut c| {
                c.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")?;
                c.read_to_string(&mut said)
            });
            if asked.is_ok() && said.contains(" 200 ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
