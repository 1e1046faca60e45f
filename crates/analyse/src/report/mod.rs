//! Everything that is to be told about an image, and its forms.
//!
//! | module | form |
//! |---|---|
//! | [`json`] | our own schema, versioned (docs/analyse.md has every field) |
//! | [`text`] | for a terminal |
//! | [`markdown`] | for a comment on a pull request |
//! | [`sarif`] | SARIF 2.1.0, for code scanning |
//! | [`csv`] | one line a finding |

pub mod csv;
pub mod json;
pub mod markdown;
pub mod sarif;
pub mod text;

use crate::account::{Class, Owner, Sums};
use crate::dive::Score;
use crate::findings::Finding;
use crate::gate::Gate;
use crate::image::Image;
use crate::origin::Origins;

/// An image, analysed.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The image.
    pub image: &'a Image,
    /// What is wrong, the largest first.
    pub findings: Vec<Finding>,
    /// dive's figures.
    pub dive: Score,
    /// The rules' results, where any were checked.
    pub gate: Option<Gate>,
    /// Where layers come from, beyond the history.
    pub origins: Origins,
}

impl<'a> Report<'a> {
    /// Computes everything but the gate.
    pub fn new(image: &'a Image) -> Report<'a> {
        Report {
            image,
            findings: crate::findings::findings(image),
            dive: crate::dive::score(image),
            gate: None,
            origins: Origins::default(),
        }
    }

    /// Sums of a class in the layers of an owner.
    pub fn owned(&self, owner: Owner, class: Class) -> Sums {
        let mut out = Sums::default();
        let layers = self.image.layers.iter().filter(|l| self.image.owner(l.index) == owner);
        for layer in layers {
            if let Some(ledger) = self.image.accounts().layers.get(layer.index) {
                out += ledger.class(class);
            }
        }
        out
    }

    /// Bytes of the compressed layers.
    pub fn packed(&self) -> u64 {
        self.image.layers.iter().map(|l| l.packed).sum()
    }
}

/// `0B`, `1.43kB`, `128MB`: decimal units, three digits.
pub fn human(n: u64) -> String {
    if n < 1000 {
        return format!("{n}B");
    }
    let mut value = n as f64;
    let mut unit = "";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        value /= 1000.0;
        unit = next;
        if value < 999.5 {
            break;
        }
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

/// A text cut to a number of characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// What control characters would do to a terminal or a table is not done: they are shown as what they are.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
