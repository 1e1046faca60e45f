//! The kinds of advice, one file each: facts in, advice out; and what some of them ask of a tree (`elf`, `owners`).

mod cache_mount;
mod copy_chmod;
mod elf;
mod flags;
mod ignore;
mod lists;
mod merge_runs;
mod narrow_copy;
mod owners;
mod split;

use crate::{Advice, Facts};

/// Everything that can be advised, the most bytes of the image first, then the most seconds, then the most bytes of the build.
pub fn advise(facts: &Facts) -> Vec<Advice> {
    let mut out = Vec::new();
    for kind in [
        merge_runs::find,
        copy_chmod::find,
        narrow_copy::find,
        ignore::find,
        cache_mount::find,
        flags::find,
        lists::find,
        split::find,
    ] {
        kind(facts, &mut out);
    }
    out.sort_by(|a: &Advice, b: &Advice| {
        let key = |x: &Advice| (x.worth.bytes, (x.worth.seconds * 1000.0) as u64, x.worth.build_bytes);
        key(b).cmp(&key(a)).then(a.line.cmp(&b.line)).then(a.kind.cmp(&b.kind))
    });
    out
}

/// Decimal bytes, as in the tables of the command line.
pub(crate) fn size(n: u64) -> String {
    match n {
        0..1000 => format!("{n} bytes"),
        1000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}
