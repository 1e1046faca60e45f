//! The report as JSON: schema `layercake-analysis-1`. Fields are only ever added to it; docs/analyse.md has them all.

use serde::{Deserialize, Serialize};

use super::Report;
use crate::account::{Cause, Class, Ledger, Owner, Sums};
use crate::base::Base;
use crate::findings::Finding;
use crate::gate::{Baseline, Gate};
use crate::image::{Image, Origin, Packing};
use crate::origin::Source;

/// The schema's name and version.
pub const SCHEMA: &str = "layercake-analysis-1";

/// A report, ready to be written.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    image: Head<'a>,
    totals: Totals,
    dive: Dive,
    layers: Vec<LayerRow<'a>>,
    findings: Vec<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<GateRow<'a>>,
}

#[derive(Debug, Serialize)]
struct Head<'a> {
    name: &'a str,
    id: String,
    manifest: Option<String>,
    origin: &'static str,
    platform: String,
    created: Option<&'a str>,
    base: Option<&'a Base>,
}

#[derive(Debug, Serialize)]
struct Totals {
    layers: usize,
    /// The compressed layers.
    packed_bytes: u64,
    shipped: Sums,
    live: Sums,
    reclaimable: Sums,
    repeated: Sums,
    needless: Sums,
    efficiency: f64,
    causes: Causes,
    yours: Part,
    base: Part,
}

#[derive(Debug, Serialize)]
struct Part {
    reclaimable: Sums,
    repeated: Sums,
    needless: Sums,
}

#[derive(Debug, Serialize)]
struct Causes {
    overwritten: Sums,
    metadata: Sums,
    deleted: Sums,
    moved: Sums,
    duplicate: Sums,
    cruft: Sums,
}

impl Causes {
    fn of(l: &Ledger) -> Causes {
        Causes {
            overwritten: l.cause(Cause::Overwritten),
            metadata: l.cause(Cause::Metadata),
            deleted: l.cause(Cause::Deleted),
            moved: l.cause(Cause::Moved),
            duplicate: l.cause(Cause::Duplicate),
            cruft: l.cause(Cause::Cruft),
        }
    }
}

#[derive(Debug, Serialize)]
struct Dive {
    efficiency: f64,
    wasted_bytes: u64,
    /// None for 0/0.
    user_wasted_percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct LayerRow<'a> {
    index: usize,
    instruction: String,
    created: Option<&'a str>,
    comment: Option<&'a str>,
    owner: Owner,
    media_type: &'a str,
    compression: &'a str,
    digest: Option<String>,
    diff_id: Option<String>,
    packed_bytes: u64,
    packing: &'static str,
    bytes: u64,
    entries: usize,
    reclaimable: Sums,
    causes: Causes,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a Source>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a str,
    cause: Cause,
    class: Class,
    owner: Owner,
    layer: usize,
    by: usize,
    rule: Option<&'static str>,
    files: u64,
    bytes: u64,
    packed: u64,
    directory: String,
    title: &'a str,
    advice: &'a str,
    largest: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    bytes: u64,
    packed: u64,
}

#[derive(Debug, Serialize)]
struct GateRow<'a> {
    passes: bool,
    #[serde(flatten)]
    gate: &'a Gate,
}

/// The word for where an image came from.
pub(crate) fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::Store => "store",
        Origin::Archive => "archive",
        Origin::Registry => "registry",
        Origin::Daemon => "daemon",
    }
}

fn packing(p: Packing) -> &'static str {
    match p {
        Packing::Measured => "measured",
        Packing::Proportional => "proportional",
        Packing::Unpacked => "unpacked",
    }
}

fn finding<'a>(image: &Image, f: &'a Finding) -> Row<'a> {
    Row {
        id: &f.id,
        cause: f.cause,
        class: f.cause.class(),
        owner: f.owner,
        layer: f.layer,
        by: f.by,
        rule: f.rule.and_then(crate::cruft::rule).map(|r| r.name),
        files: f.sums.files,
        bytes: f.sums.bytes,
        packed: f.sums.packed,
        directory: oci::index::show(&f.directory),
        title: &f.title,
        advice: &f.advice,
        largest: f
            .files
            .iter()
            .map(|&id| {
                let e = image.entry(id);
                File { path: image.show(e.place), bytes: e.size, packed: e.packed }
            })
            .collect(),
    }
}

/// The report as a document.
pub fn document<'a>(report: &'a Report<'a>) -> Document<'a> {
    let image = report.image;
    let a = image.accounts();
    let part = |owner| Part {
        reclaimable: report.owned(owner, Class::Dead),
        repeated: report.owned(owner, Class::Repeated),
        needless: report.owned(owner, Class::Needless),
    };
    let layers = image.layers.iter().zip(&a.layers).map(|(l, ledger)| {
        let history = image.line(l.index).map(|l| &l.history);
        LayerRow {
            index: l.index,
            instruction: image.instruction(l.index),
            created: history.and_then(|h| h.created.as_deref()),
            comment: history.and_then(|h| h.comment.as_deref()),
            owner: image.owner(l.index),
            media_type: &l.media_type,
            compression: l.compression,
            digest: l.digest.map(|d| d.to_string()),
            diff_id: l.diff_id.map(|d| d.to_string()),
            packed_bytes: l.packed,
            packing: packing(l.packing),
            bytes: l.size,
            entries: (l.range.1 - l.range.0) as usize,
            reclaimable: ledger.class(Class::Dead),
            causes: Causes::of(ledger),
            source: report.origins.get(&l.index),
        }
    });
    Document {
        schema: SCHEMA,
        image: Head {
            name: &image.name,
            id: image.id.to_string(),
            manifest: image.manifest.as_ref().map(|(d, _)| d.to_string()),
            origin: origin(&image.origin),
            platform: image.platform.to_string(),
            created: image.config.created.as_deref(),
            base: image.base(),
        },
        totals: Totals {
            layers: image.layers.len(),
            packed_bytes: report.packed(),
            shipped: a.total.shipped,
            live: a.live,
            reclaimable: a.reclaimable(),
            repeated: a.total.class(Class::Repeated),
            needless: a.total.class(Class::Needless),
            efficiency: a.efficiency(),
            causes: Causes::of(&a.total),
            yours: part(Owner::Yours),
            base: part(Owner::Base),
        },
        dive: Dive {
            efficiency: report.dive.efficiency,
            wasted_bytes: report.dive.wasted,
            user_wasted_percent: Some(report.dive.user_wasted).filter(|n| n.is_finite()),
        },
        layers: layers.collect(),
        findings: report.findings.iter().map(|f| finding(image, f)).collect(),
        gate: report.gate.as_ref().map(|gate| GateRow { passes: gate.passes(), gate }),
    }
}

/// Reads what an earlier report says of sizes, to compare with.
pub fn baseline(text: &[u8]) -> Result<Baseline, String> {
    #[derive(Deserialize)]
    struct Old {
        schema: String,
        image: OldImage,
        totals: OldTotals,
    }
    #[derive(Deserialize)]
    struct OldImage {
        name: String,
    }
    #[derive(Deserialize)]
    struct OldTotals {
        shipped: OldSums,
    }
    #[derive(Deserialize)]
    struct OldSums {
        bytes: u64,
    }
    let old: Old = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if old.schema != SCHEMA {
        return Err(format!("it has the schema {:?}, not {SCHEMA}", old.schema));
    }
    Ok(Baseline { name: old.image.name, size: old.totals.shipped.bytes })
}
