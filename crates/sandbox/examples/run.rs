//! Runs a command on a directory of the host as a sandboxed step, and says what it learned and changed. For trying things out.
//!
//! `run [-n TIMES] [-v] ROOT COMMAND [ARGUMENT...]`

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::content::{Content, ReadAt};
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Time, Tree};
use sandbox::{Network, Security, Stdio, Step, User};

/// Files of a directory, under digests made up from their paths: hashing a whole root would take its time.
#[derive(Default)]
struct Host(std::collections::HashMap<Digest, PathBuf>);

impl Content for Host {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        let path = self.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(std::fs::File::open(path)?))
    }
}

fn scan(root: &Path, dir: &Path, host: &mut Host, entries: &mut Vec<Entry>) -> io::Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let meta = path.symlink_metadata()?;
        let ty = meta.file_type();
        let kind = if ty.is_dir() {
            Kind::Directory { opaque: false }
        } else if ty.is_symlink() {
            Kind::Symlink { target: std::fs::read_link(&path)?.as_os_str().as_bytes().to_vec() }
        } else if ty.is_file() {
            let digest = Digest::of(path.as_os_str().as_bytes());
            host.0.insert(digest, path.clone());
            Kind::File { size: meta.len(), digest }
        } else if ty.is_fifo() {
            Kind::Fifo
        } else {
            continue;
        };
        let attrs = Attrs {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: Time { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
            xattrs: oci::index::Xattrs::new(),
        };
        let name = path.strip_prefix(root).map_err(io::Error::other)?;
        entries.push(Entry { path: name.as_os_str().as_bytes().to_vec(), kind, attrs });
        if ty.is_dir() {
            scan(root, &path, host, entries)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main([]);
    }
    let (mut times, mut verbose) = (1, false);
    while let Some(flag) = args.first().filter(|a| a.starts_with('-')).cloned() {
        args.remove(0);
        match &*flag {
            "-n" => times = args.remove(0).parse()?,
            _ => verbose = true,
        }
    }
    let root = PathBuf::from(args.remove(0));
    let (mut host, mut entries) = (Host::default(), Vec::new());
    scan(&root, &root, &mut host, &mut entries)?;
    let tree = Arc::new(Tree::from_layers([&LayerIndex::from_entries(entries)?])?);
    let content: Arc<dyn Content> = Arc::new(host);
    let mut out = io::stdout();
    let mut spent = Vec::new();
    for _ in 0..times {
        let scratch = tempfile::tempdir()?;
        let started = std::time::Instant::now();
        let step = Step {
            tree: tree.clone(),
            content: content.clone(),
            files: sandbox::Files::Fuse,
            scratch: scratch.path().into(),
            argv: args.clone(),
            env: vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())],
            cwd: b"/".to_vec(),
            user: User::default(),
            hostname: "sandbox".into(),
            etc_hosts: b"127.0.0.1 localhost\n".to_vec(),
            resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
            network: Network::Host,
            security: Security::Sandbox,
            mounts: Vec::new(),
            shm_size: 64 << 20,
            rlimits: Vec::new(),
            limits: sandbox::Limits::default(),
            stdio: Stdio::Pipes,
        };
        let mut running = sandbox::spawn(step)?;
        let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
        let reader = std::thread::spawn(move || -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            stderr.map(|mut p| p.read_to_end(&mut text)).transpose()?;
            Ok(text)
        });
        let mut text = Vec::new();
        stdout.map(|mut p| p.read_to_end(&mut text)).transpose()?;
        let errors = reader.join().map_err(|_| "reader panicked")??;
        let outcome = running.wait()?;
        spent.push((started.elapsed(), outcome.stats));
        out.write_all(&text)?;
        out.write_all(&errors)?;
        let seen = &outcome.seen[0];
        writeln!(
            out,
            "{:?} {:?} inodes {} absent {} incomplete {:?}",
            outcome.exit,
            outcome.stats,
            seen.inodes.len(),
            seen.absent.len(),
            seen.incomplete
        )?;
        if verbose {
            for (id, bits) in &seen.inodes {
                writeln!(out, "  {:03b} /{}", bits.0, String::from_utf8_lossy(&tree.path(*id)))?;
            }
            for (id, name) in &seen.absent {
                let (dir, name) = (tree.path(*id), String::from_utf8_lossy(name));
                writeln!(out, "  absent /{} {name}", String::from_utf8_lossy(&dir))?;
            }
            std::process::Command::new("find").arg(&outcome.upper).arg("-ls").status()?;
        }
    }
    spent.sort_by_key(|(whole, _)| *whole);
    let (whole, stats) = spent[spent.len() / 2];
    writeln!(
        out,
        "median {whole:?} (set-up {:?}, run {:?}), least {:?}",
        stats.setup, stats.run, spent[0].0
    )?;
    Ok(())
}
