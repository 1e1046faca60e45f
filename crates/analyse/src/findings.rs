//! What is wrong with an image, in pieces that one change each would mend.
//!
//! Files with the same cause, charged in the same layer because of the same other layer (and for cruft the same rule), are one finding. Findings are sorted
//! by bytes, the largest first; yours before the base's where they are equal.

use std::collections::BTreeMap;

use crate::account::{Cause, Owner, Sums};
use crate::image::{EntryId, Image};

/// Largest files that a finding lists.
pub const SHOWN: usize = 20;

/// Something that one change would mend.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is: cause, layer, other layer, rule. The same image has the same ids every time.
    pub id: String,
    /// Why the bytes are waste.
    pub cause: Cause,
    /// The layer that ships them: whose instruction is to be changed.
    pub layer: usize,
    /// The layer that made them waste; the same for copies and cruft.
    pub by: usize,
    /// Whose they are.
    pub owner: Owner,
    /// For cruft, the rule of the database.
    pub rule: Option<u16>,
    /// How much it is.
    pub sums: Sums,
    /// Its largest files, at most [`SHOWN`].
    pub files: Vec<EntryId>,
    /// The deepest directory that all of its files lie in; empty for the root.
    pub directory: Vec<u8>,
    /// What happened, in one line.
    pub title: String,
    /// What to change.
    pub advice: String,
}

/// All findings of an image.
pub fn findings(image: &Image) -> Vec<Finding> {
    type Key = (Cause, usize, usize, Option<u16>);
    let mut groups: BTreeMap<Key, Vec<EntryId>> = BTreeMap::new();
    for layer in 0..image.layers.len() {
        for (id, _) in image.layer_entries(layer) {
            if let Some(c) = image.accounts().charge(id)
                && image.entry(id).size > 0
            {
                groups.entry((c.cause, layer, c.by, c.rule)).or_default().push(id);
            }
        }
    }
    let mut out: Vec<Finding> = groups
        .into_iter()
        .map(|((cause, layer, by, rule), mut files)| {
            let mut sums = Sums::default();
            files.iter().for_each(|&f| sums.add(image.entry(f)));
            files.sort_by_key(|&f| (std::cmp::Reverse(image.entry(f).size), f));
            let directory = directory(image, &files);
            files.truncate(SHOWN);
            let owner = image.owner(layer);
            let mut finding = Finding {
                id: id(cause, layer, by, rule),
                cause,
                layer,
                by,
                owner,
                rule,
                sums,
                files,
                directory,
                title: String::new(),
                advice: String::new(),
            };
            crate::advice::word(image, &mut finding);
            finding
        })
        .collect();
    out.sort_by(|a, b| {
        b.sums.bytes.cmp(&a.sums.bytes).then(b.owner.cmp(&a.owner)).then_with(|| a.id.cmp(&b.id))
    });
    out
}

fn id(cause: Cause, layer: usize, by: usize, rule: Option<u16>) -> String {
    match rule.and_then(crate::cruft::rule) {
        Some(r) => format!("{}-{layer}-{}", cause.name(), r.name),
        None if layer == by => format!("{}-{layer}", cause.name()),
        None => format!("{}-{layer}-{by}", cause.name()),
    }
}

/// The deepest directory that all files lie in.
fn directory(image: &Image, files: &[EntryId]) -> Vec<u8> {
    let chain = |f: EntryId| {
        let mut out = vec![image.parent(image.entry(f).place)];
        while let Some(&last) = out.last()
            && last != crate::ROOT
        {
            out.push(image.parent(last));
        }
        out.reverse();
        out
    };
    let mut all = files.iter();
    let Some(mut common) = all.next().map(|&f| chain(f)) else { return Vec::new() };
    for &f in all {
        if common.len() == 1 {
            break;
        }
        let other = chain(f);
        let same = common.iter().zip(&other).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common.last().map(|&n| image.path(n)).unwrap_or_default()
}
