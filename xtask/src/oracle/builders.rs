//! The two builders: how a case is handed to each, and how it ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::compress::Decoder;
use oci::digest::Digest;
use oci::layout::{ImageToWrite, write_oci_directory};
use oci::platform::Platform;
use oci::types::media;
use serde_json::json;

use super::case::Case;
use crate::sh::{self, Result};

/// A build that takes longer hangs.
const LIMIT: &str = "120";

/// How a build ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an image in this archive.
    Built(PathBuf),
    /// With an error, which said this.
    Refused(String),
    /// As no build may end: with a crash, or not at all.
    Broken(String),
}

/// The base image, as both get it.
#[derive(Debug)]
pub(super) struct Base {
    layout: PathBuf,
    digest: Digest,
}

impl Base {
    /// Makes an OCI layout of the archive of a root file system, which may be compressed.
    pub(super) fn new(archive: &Path, layout: PathBuf) -> Result<Base> {
        let failed =
            |e: &dyn std::fmt::Display| format!("cannot make an image of {}: {e}", archive.display());
        let file = File::open(archive).map_err(|e| failed(&e))?;
        let mut layer = Vec::new();
        Decoder::new(file).and_then(|mut d| d.read_to_end(&mut layer)).map_err(|e| failed(&e))?;
        let platform = Platform::host();
        let config = json!({
            "architecture": platform.architecture, "os": platform.os,
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
            "history": [{"created_by": "ADD rootfs"}],
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": descriptor(media::CONFIG, &config),
            "layers": [descriptor(media::LAYER, &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest);
        let image = ImageToWrite {
            media_type: media::MANIFEST.into(),
            bytes: manifest,
            platform: Some(platform),
            documents: vec![config],
            ..ImageToWrite::default()
        };
        let blob = |_: &_| -> io::Result<Box<dyn io::Read>> { Ok(Box::new(io::Cursor::new(layer.clone()))) };
        write_oci_directory(&layout, &[image], &blob).map_err(|e| failed(&e))?;
        Ok(Base { layout, digest })
    }
}

/// Both builders.
#[derive(Debug)]
pub(super) struct Builders {
    /// layercake's binary.
    pub(super) program: PathBuf,
    /// Its store, which nothing else uses.
    pub(super) store: PathBuf,
    /// BuildKit's client.
    pub(super) buildctl: PathBuf,
    /// Where its daemon listens.
    pub(super) addr: String,
    /// The image `base`, if there is one.
    pub(super) base: Option<Base>,
}

impl Builders {
    /// Whether BuildKit answers: a daemon that is not there would refuse every case.
    pub(super) fn check(&self) -> Result<()> {
        sh::read(self.buildctl().args(["debug", "workers"])).map(drop)
    }

    fn buildctl(&self) -> Command {
        let mut c = limited(&self.buildctl);
        c.args(["--addr", &self.addr]);
        c
    }

    /// Builds a case that was written into `dir` with layercake. Earlier results are not used: a case must not depend on others.
    pub(super) fn layercake(&self, case: &Case, dir: &Path) -> Result<Ended> {
        let (context, tar) = (dir.join("context"), dir.join("layercake.tar"));
        let mut c = limited(&self.program);
        c.arg("--root").arg(&self.store).args([
            "build",
            "--progress",
            "plain",
            "--no-cache",
            "--no-cache-mounts",
        ]);
        if let Some(base) = &self.base {
            c.arg("--build-context").arg(format!("base=oci-layout://{}", base.layout.display()));
        }
        if !case.other.is_empty() {
            c.arg("--build-context").arg(format!("other={}", dir.join("other").display()));
        }
        for (flag, value) in
            [("--build-arg", case.build_arg), ("--target", case.target), ("--label", case.label)]
        {
            if let Some(value) = value {
                c.args([flag, value]);
            }
        }
        c.arg("--secret").arg(format!("id=s,src={}", dir.join("secret").display()));
        c.arg("--output").arg(format!("type=oci,dest={}", tar.display())).arg(context);
        // What layercake refuses ends with 1 or 2, with 3 what the kernel refuses to mount; 70 is a fault of layercake's.
        ended(c, &dir.join("layercake.log"), tar, |code| matches!(code, 1..=3))
    }

    /// Builds it with BuildKit.
    pub(super) fn buildkit(&self, case: &Case, dir: &Path) -> Result<Ended> {
        let (context, tar) = (dir.join("context"), dir.join("buildkit.tar"));
        let mut c = self.buildctl();
        c.args(["build", "--progress", "plain", "--no-cache", "--frontend", "dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            c.arg("--local").arg(format!("{name}={}", context.display()));
        }
        if let Some(base) = &self.base {
            c.arg("--oci-layout").arg(format!("base={}", base.layout.display()));
            c.arg("--opt").arg(format!("context:base=oci-layout://base@{}", base.digest));
        }
        if !case.other.is_empty() {
            c.arg("--local").arg(format!("other={}", dir.join("other").display()));
            c.args(["--opt", "context:other=local:other"]);
        }
        for (option, value) in
            [("build-arg:", case.build_arg), ("target=", case.target), ("label:", case.label)]
        {
            if let Some(value) = value {
                c.arg("--opt").arg(format!("{option}{value}"));
            }
        }
        c.arg("--secret").arg(format!("id=s,src={}", dir.join("secret").display()));
        c.arg("--output").arg(format!("type=oci,dest={}", tar.display()));
        ended(c, &dir.join("buildkit.log"), tar, |code| code == 1)
    }
}

/// A program that is ended when it hangs.
fn limited(program: &Path) -> Command {
    let mut c = sh::command(&["timeout", "--kill-after=5", LIMIT]);
    c.arg(program);
    c
}

/// Runs a build, with its words in a log; `refusal` are the codes of a build that was refused.
fn ended(mut command: Command, log: &Path, tar: PathBuf, refusal: impl Fn(i32) -> bool) -> Result<Ended> {
    let out = command.output().map_err(|e| format!("cannot start {:?}: {e}", command.get_args().nth(2)))?;
    let written = File::create(log).and_then(|mut f| {
        f.write_all(&out.stdout)?;
        f.write_all(&out.stderr)
    });
    written.map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let said = String::from_utf8_lossy(&out.stderr).trim_end().to_owned();
    Ok(match out.status.code() {
        Some(0) => Ended::Built(tar),
        Some(code) if refusal(code) => Ended::Refused(said),
        _ => Ended::Broken(format!("{}\n{said}", out.status)),
    })
}
