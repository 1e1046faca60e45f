//! Records that know less than they should: what the cache would be like if one kind of observation were not made. The differential
//! test must find each of them out, or it would not notice if that kind really were lost.
//!
//! Nothing of this is in the library: the records of a store are replaced by weaker ones after each build.

use build::observe::{Fact, Observed, Recorded, decode, encode};
use store::{NewRecord, Store};

/// A kind of observation that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    Attributes,
    Links,
    Content,
    Listings,
    Absence,
    SameFile,
    BindMounts,
    LinkerCache,
}

impl Weakness {
    pub(crate) const ALL: [Weakness; 8] = [
        Weakness::Attributes,
        Weakness::Links,
        Weakness::Content,
        Weakness::Listings,
        Weakness::Absence,
        Weakness::SameFile,
        Weakness::BindMounts,
        Weakness::LinkerCache,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Weakness::Attributes => "attributes",
            Weakness::Links => "links",
            Weakness::Content => "content",
            Weakness::Listings => "listings",
            Weakness::Absence => "absence",
            Weakness::SameFile => "same-file",
            Weakness::BindMounts => "bind-mounts",
            Weakness::LinkerCache => "linker-cache",
        }
    }

    fn drops(self, view: usize, path: &[u8], fact: &Fact) -> bool {
        match self {
            Weakness::Attributes => matches!(fact, Fact::Attributes(_)),
            Weakness::Links => matches!(fact, Fact::Link(_)),
            Weakness::Content => matches!(fact, Fact::Content(_)),
            Weakness::Listings => matches!(fact, Fact::Listing(_)),
            Weakness::Absence => matches!(fact, Fact::Absent),
            Weakness::SameFile => matches!(fact, Fact::SameFile(_)),
            Weakness::BindMounts => view > 0,
            Weakness::LinkerCache => path == b"etc/ld.so.cache",
        }
    }

    fn apply(self, recorded: &mut Recorded) -> bool {
        let before = recorded.len();
        for (n, Observed { facts, .. }) in recorded.views.iter_mut().enumerate() {
            facts.retain(|o| !self.drops(n, &o.path, &o.fact));
        }
        recorded.len() != before
    }
}

/// Weakens the records of a store that are newer than `last`; gives the newest number.
pub(crate) fn weaken(store: &Store, weakness: Weakness, last: i64) -> Result<i64, String> {
    // Numbers are given in order, and few are lost between two builds.
    const GAP: i64 = 64;
    let text = |e: store::StoreError| e.to_string();
    let (mut newest, mut id) = (last, last + 1);
    while id <= newest + GAP {
        if let Some(r) = store.record(id).map_err(text)? {
            newest = id;
            let recorded = store.record_observations(id).map_err(text)?.and_then(|b| decode(&b));
            if let Some(mut recorded) = recorded
                && weakness.apply(&mut recorded)
            {
                let new = NewRecord {
                    key: r.key,
                    parent: r.parent,
                    layer: r.layer,
                    chain: r.chain,
                    created: r.created,
                    duration_ms: r.duration_ms,
                    log: Vec::new(),
                    observations: Some(encode(&recorded)),
                    inputs: r.inputs,
                    notes: r.notes,
                };
                store.batch().commit(vec![new], Vec::new()).map_err(text)?;
                store.flush().map_err(text)?;
            }
        }
        id += 1;
    }
    Ok(newest)
}
