//! Makes layers with tables of contents from plain tars, as the writers of eStargz and zstd:chunked do. Tests of other crates use it, too.

use std::io::{Read, Write};

use oci::Digest;
use oci::compress::{Compression, Decoder, Encoder};
use oci::platform::Platform;
use oci::tar::{BLOCK, Limits, Member, Type, read_archive};
use oci::types::{Descriptor, media};
use serde_json::{Value, json};

/// Which format, and how files are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) zstd: bool,
    /// Largest chunk, in bytes.
    pub(crate) chunk: usize,
    /// Chunks in one gzip member; 1 for zstd.
    pub(crate) together: usize,
    /// Only the footer of zstd:chunked says where the table is.
    pub(crate) footer_only: bool,
}

pub(crate) const ESTARGZ: Form = Form { zstd: false, chunk: 1000, together: 1, footer_only: false };
pub(crate) const CHUNKED: Form = Form { zstd: true, ..ESTARGZ };

/// A layer.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) blob: Vec<u8>,
    /// With the annotations.
    pub(crate) descriptor: Descriptor,
}

/// What a change does to the table before it is written.
pub(crate) type Edit<'a> = &'a dyn Fn(&mut Value);

/// A layer of a plain tar.
pub(crate) fn layer(tar: &[u8], form: Form) -> Made {
    edited(tar, form, &|_| {})
}

/// The same, with another table.
pub(crate) fn edited(tar: &[u8], form: Form, edit: Edit<'_>) -> Made {
    let mut out = Parts { form, blob: Vec::new(), open: Vec::new(), held: 0, entries: Vec::new() };
    let (mut at, mut end) = (0, 0);
    read_archive(tar, &Limits::default(), &mut |member, _| {
        let data = member.offset as usize + BLOCK;
        let size = if member.kind == Type::File { member.size as usize } else { 0 };
        out.open.extend_from_slice(&tar[at..data]);
        out.member(member, &tar[data..data + size]);
        (at, end) = (data + size, (data + size).next_multiple_of(BLOCK));
        Ok(())
    })
    .unwrap();
    out.open.extend_from_slice(&tar[at..end]);
    let mut table = json!({"version": 1, "entries": out.entries});
    edit(&mut table);
    let json = serde_json::to_vec(&table).unwrap();
    if form.zstd { chunked(out, &json) } else { estargz(out, &json) }
}

/// Config and manifest of an image of these layers.
pub(crate) fn documents(layers: &[Made]) -> (Vec<u8>, Vec<u8>) {
    let diff_id = |made: &Made| {
        let mut tar = Vec::new();
        Decoder::new(&made.blob[..]).unwrap().read_to_end(&mut tar).unwrap();
        Digest::of(&tar).to_string()
    };
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(diff_id).collect::<Vec<_>>()},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST, "config": Descriptor::of(media::CONFIG, &config),
        "layers": layers.iter().map(|l| l.descriptor.clone()).collect::<Vec<_>>(),
    });
    (config, manifest.to_string().into_bytes())
}

struct Parts {
    form: Form,
    blob: Vec<u8>,
    /// What the next member or frame will hold.
    open: Vec<u8>,
    /// Chunks in it.
    held: usize,
    entries: Vec<Value>,
}

impl Parts {
    fn flush(&mut self) {
        if !self.open.is_empty() {
            self.blob.extend(pack(&self.open, self.form.zstd));
            self.open.clear();
        }
        self.held = 0;
    }

    fn member(&mut self, member: &Member, data: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let kind = match member.kind {
            Type::File => "reg",
            Type::Directory => "dir",
            Type::HardLink => "hardlink",
            Type::Symlink => "symlink",
            Type::CharDevice => "char",
            Type::BlockDevice => "block",
            Type::Fifo => "fifo",
        };
        let name = match text(&member.path) {
            name if member.kind == Type::Directory => format!("{name}/"),
            name => name,
        };
        let mut entry = json!({
            "name": name, "type": kind, "mode": member.mode, "uid": member.uid, "gid": member.gid,
            "modtime": member.mtime.rfc3339(), "NumLink": 0,
        });
        if !member.link.is_empty() {
            entry["linkName"] = text(&member.link).into();
        }
        if matches!(member.kind, Type::CharDevice | Type::BlockDevice) {
            (entry["devMajor"], entry["devMinor"]) = (member.device.0.into(), member.device.1.into());
        }
        for (name, value) in &member.xattrs {
            entry["xattrs"][text(name)] = base64(value).into();
        }
        let first = self.entries.len();
        self.entries.push(entry);
        if data.is_empty() {
            return;
        }
        let count = data.len().div_ceil(self.form.chunk);
        for (n, chunk) in data.chunks(self.form.chunk).enumerate() {
            if self.held == 0 || self.held >= self.form.together {
                self.flush();
            }
            if n > 0 {
                self.entries.push(json!({"name": text(&member.path), "type": "chunk"}));
            }
            let entry = self.entries.last_mut().unwrap();
            entry["offset"] = self.blob.len().into();
            if self.form.together > 1 {
                entry["innerOffset"] = self.open.len().into();
            }
            if count > 1 || !self.form.zstd {
                entry["chunkDigest"] = Digest::of(chunk).to_string().into();
                entry["chunkOffset"] = (n * self.form.chunk).into();
                // eStargz leaves out the size of the last one.
                if self.form.zstd || n + 1 < count {
                    entry["chunkSize"] = chunk.len().into();
                }
            }
            if self.form.zstd && count > 1 && chunk.iter().all(|b| *b == 0) {
                entry["chunkType"] = "zeros".into();
            }
            self.open.extend_from_slice(chunk);
            self.held += 1;
            if self.form.together == 1 {
                self.flush();
            }
        }
        let end = self.blob.len();
        let entry = &mut self.entries[first];
        entry["size"] = data.len().into();
        entry["digest"] = Digest::of(data).to_string().into();
        if self.form.zstd {
            entry["endOffset"] = end.into();
        }
    }
}

pub(crate) fn pack(bytes: &[u8], zstd: bool) -> Vec<u8> {
    let kind = if zstd { Compression::Zstd(3) } else { Compression::Gzip(6) };
    let mut encoder = Encoder::new(Vec::new(), kind, 1).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn estargz(mut out: Parts, json: &[u8]) -> Made {
    out.flush();
    let offset = out.blob.len();
    let mut tar = oci::tar::Writer::new(Vec::new(), 0);
    tar.file("stargz.index.json", json.len() as u64, &mut &json[..]).unwrap();
    out.blob.extend(pack(&tar.finish().unwrap(), false));
    out.blob.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0]);
    out.blob.extend(format!("{offset:016x}STARGZ").bytes());
    out.blob.extend([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut descriptor = Descriptor::of(media::LAYER_GZIP, &out.blob);
    let key = "containerd.io/snapshot/stargz/toc.digest";
    descriptor.annotations.insert(key.into(), Digest::of(json).to_string());
    Made { blob: out.blob, descriptor }
}

fn chunked(mut out: Parts, json: &[u8]) -> Made {
    out.open.extend([0; 2 * BLOCK]);
    out.flush();
    let table = pack(json, true);
    let offset = out.blob.len() + 8;
    skippable(&mut out.blob, &table);
    let mut footer = Vec::new();
    for n in [offset, table.len(), json.len(), 1, 0, 0, 0] {
        footer.extend((n as u64).to_le_bytes());
    }
    footer.extend(b"GNUlInUx");
    skippable(&mut out.blob, &footer);
    let mut descriptor = Descriptor::of(media::LAYER_ZSTD, &out.blob);
    let mut annotate = |key: &str, value: String| {
        descriptor.annotations.insert(format!("io.github.containers.zstd-chunked.{key}"), value);
    };
    annotate("manifest-checksum", Digest::of(&table).to_string());
    if !out.form.footer_only {
        annotate("manifest-position", format!("{offset}:{}:{}:1", table.len(), json.len()));
    }
    Made { blob: out.blob, descriptor }
}

fn skippable(out: &mut Vec<u8>, data: &[u8]) {
    out.extend([0x50, 0x2a, 0x4d, 0x18]);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let six = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= group.len() { char::from(six) } else { '=' });
        }
    }
    out
}
