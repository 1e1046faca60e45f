//! What is below every image: the program that steps are made of, and, in some worlds, a shell or a dynamic linker.
//!
//! The program is `program.c`, built once with the C compiler that Rust needs as well. A dynamic world has a program whose library
//! is found through `/etc/ld.so.cache` alone, in one of two versions; edits of the cache decide which. A program of the host goes
//! with it, and its `ldconfig` if that is a static one.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Rng;
use crate::ldcache;
use crate::weaken::Weakness;

/// A static busybox.
const BUSYBOX: &str = "/bin/busybox";
/// What the shell's commands need of it.
const APPLETS: &[&str] = &[
    "sh", "cat", "stat", "ls", "find", "sort", "rm", "mv", "cp", "ln", "tar", "cmp", "grep", "dd", "mkdir",
    "true", "readlink", "chmod", "chown", "touch",
];

/// What kind of world it is.
#[derive(Debug, Clone)]
pub(crate) struct Traits {
    pub(crate) shell: bool,
    pub(crate) dynamic: bool,
    /// The base is a named context, not a COPY.
    named: bool,
    /// Steps of a hundred that have bind mounts.
    pub(crate) binds: usize,
    /// Operations and edits of a hundred that are about which names are one file.
    pub(crate) twins: usize,
}

impl Traits {
    /// `lost`: the kind of observation that is not made, which the world then has more of than others.
    pub(crate) fn random(r: &mut Rng, tools: &Tools, lost: Option<Weakness>) -> Traits {
        let is = |w| lost == Some(w);
        Traits {
            shell: r.chance(20) && Path::new(BUSYBOX).exists() && lost.is_none(),
            dynamic: (r.chance(15) || is(Weakness::LinkerCache)) && tools.dynamic.is_some(),
            named: r.chance(40),
            binds: if is(Weakness::BindMounts) { 80 } else { 18 },
            twins: if is(Weakness::SameFile) { 70 } else { 4 },
        }
    }

    pub(crate) fn first_stage(&self) -> String {
        if self.named {
            "FROM basefiles AS base\n".into()
        } else {
            "FROM scratch AS base\nCOPY base/ /\n".into()
        }
    }

    /// The named context, if there is one.
    pub(crate) fn named(&self) -> Option<&'static str> {
        self.named.then_some("basefiles")
    }
}

/// The programs, built once.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) program: PathBuf,
    pub(crate) dynamic: Option<Dynamic>,
    /// Why there is no `dynamic`.
    pub(crate) missing: Option<String>,
    _dir: tempfile::TempDir,
}

/// What a dynamic world is made of: paths in the image and files of the host.
#[derive(Debug)]
pub(crate) struct Dynamic {
    pub(crate) files: Vec<(String, PathBuf)>,
    /// Directory of the C library in the image.
    pub(crate) libdir: String,
}

fn cc(args: &[&str]) -> Result<(), String> {
    let out = Command::new("cc").args(args).output().map_err(|e| format!("cc: {e}"))?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

fn build() -> Result<Tools, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).map_err(|e| e.to_string());
    write("program.c", include_str!("program.c"))?;
    let flags = [
        "-nostdlib",
        "-static",
        "-Os",
        "-ffreestanding",
        "-fno-stack-protector",
        "-fno-pie",
        "-no-pie",
        "-s",
    ];
    cc(&[&flags[..], &["-o", &at("t"), &at("program.c")]].concat())?;
    let dynamic = dynamic(dir.path());
    let (dynamic, missing) = match dynamic {
        Ok(d) => (Some(d), None),
        Err(e) => (None, Some(e)),
    };
    Ok(Tools { program: dir.path().join("t"), dynamic, missing, _dir: dir })
}

/// The programs; or why they cannot be built here.
pub(crate) fn tools() -> Result<&'static Tools, String> {
    static TOOLS: OnceLock<Result<Tools, String>> = OnceLock::new();
    TOOLS.get_or_init(build).as_ref().map_err(Clone::clone)
}

fn dynamic(dir: &Path) -> Result<Dynamic, String> {
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).map_err(|e| e.to_string());
    for v in ["one", "two"] {
        write("x.c", &format!("const char *version(void) {{ return \"{v}\"; }}"))?;
        cc(&["-shared", "-fPIC", "-Wl,-soname,libx.so.1", "-o", &at(v), &at("x.c")])?;
    }
    write(
        "dyn.c",
        "#include <stdio.h>\nconst char *version(void);\nint main(void) { puts(version()); return 0; }",
    )?;
    fs::copy(dir.join("one"), dir.join("libx.so")).map_err(|e| e.to_string())?;
    cc(&["-o", &at("dyn"), &at("dyn.c"), &format!("-L{}", dir.display()), "-lx"])?;
    let mut files = vec![
        ("bin/dyn".to_owned(), dir.join("dyn")),
        ("opt/one/libx.so.1".to_owned(), dir.join("one")),
        ("opt/two/libx.so.1".to_owned(), dir.join("two")),
    ];
    // The loader and the C library, as this process has them.
    let maps = fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
    let mapped = |part: &str| {
        let path = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains(part));
        path.map(PathBuf::from).ok_or_else(|| format!("{part} is not mapped"))
    };
    let libc = mapped("/libc.so.6")?;
    let loader = mapped("/ld-linux")?;
    let name = loader.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let libdir =
        libc.parent().unwrap_or(Path::new("/lib")).to_string_lossy().trim_start_matches('/').to_owned();
    let interpreter = if cfg!(target_arch = "x86_64") { "lib64" } else { "lib" };
    files.push((format!("{interpreter}/{name}"), loader));
    files.push((format!("{libdir}/libc.so.6"), libc));
    // A program of the host that needs no more than that.
    for path in ["/bin/cat", "/usr/bin/true", "/bin/true"] {
        if fs::metadata(path).is_ok_and(|m| m.is_file()) {
            files.push(("bin/host".into(), path.into()));
            break;
        }
    }
    if fs::read("/sbin/ldconfig").is_ok_and(|b| !b.windows(9).any(|w| w == b"/ld-linux")) {
        files.push(("sbin/ldconfig".into(), "/sbin/ldconfig".into()));
    }
    Ok(Dynamic { files, libdir })
}

/// Fills the base directory.
pub(crate) fn populate(base: &Path, traits: &Traits, tools: &Tools) -> io::Result<()> {
    for dir in ["bin", "out", "tmp", "etc", "home", "m"] {
        fs::create_dir_all(base.join(dir))?;
    }
    fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nu:x:7:8::/home:/bin/sh\n")?;
    fs::copy(&tools.program, base.join("bin/t"))?;
    // Some steps run as others.
    for dir in ["out", "tmp"] {
        fs::set_permissions(base.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    if traits.shell {
        fs::copy(BUSYBOX, base.join("bin/busybox"))?;
        for a in APPLETS {
            symlink("busybox", base.join("bin").join(a))?;
        }
    }
    if let (true, Some(d)) = (traits.dynamic, &tools.dynamic) {
        for (to, from) in &d.files {
            let to = base.join(to);
            fs::create_dir_all(to.parent().unwrap_or(base))?;
            fs::copy(from, to)?;
        }
        fs::create_dir_all(base.join("var/cache/ldconfig"))?;
        write_cache(base, "one", 0, d)?;
    }
    Ok(())
}

/// Writes `/etc/ld.so.cache`: which version of the library it leads to (none, if empty), and how many entries that nobody asks for.
fn write_cache(base: &Path, version: &str, others: usize, d: &Dynamic) -> io::Result<()> {
    let mut entries = vec![("libc.so.6".to_owned(), format!("/{}/libc.so.6", d.libdir))];
    if !version.is_empty() {
        entries.push(("libx.so.1".to_owned(), format!("/opt/{version}/libx.so.1")));
    }
    for n in 0..others {
        entries.push((format!("liby{n}.so.1"), format!("/opt/liby{n}.so.1")));
    }
    fs::write(base.join("etc/ld.so.cache"), ldcache::new_format(&entries))?;
    fs::write(
        base.join("etc/ld.so.conf"),
        if version.is_empty() { String::new() } else { format!("/opt/{version}\n") },
    )
}

/// An edit of what only some worlds have; says what it did.
pub(crate) fn edit(base: &Path, traits: &Traits, tools: &Tools, r: &mut Rng) -> io::Result<String> {
    if let (true, Some(d)) = (traits.dynamic && r.chance(80), &tools.dynamic) {
        let version = r.pick(&["one", "one", "one", "two", ""]);
        let others = r.below(3);
        write_cache(base, version, others, d)?;
        return Ok(format!("ld.so.cache leads to {version:?}, {others} others"));
    }
    let uid = r.pick(&[7, 9]);
    fs::write(base.join("etc/passwd"), format!("root:x:0:0::/root:/bin/sh\nu:x:{uid}:8::/home:/bin/sh\n"))?;
    Ok(format!("passwd: u is {uid}"))
}
