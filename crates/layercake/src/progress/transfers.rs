//! Bytes on their way, for `pull` and `push`: bars on a terminal, else one line for each blob that has come or gone.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::region::{Frame, Model, Region, is_terminal};
use super::text::{bar, row};
use crate::human;
use crate::output::note;

#[derive(Debug)]
struct Item {
    what: String,
    done: u64,
    total: u64,
}

/// The blobs that move, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    items: Vec<Item>,
    finished: Vec<String>,
}

impl Bars {
    fn update(&mut self, what: &str, done: u64, total: u64) {
        match self.items.iter_mut().find(|i| i.what == what) {
            Some(i) => (i.done, i.total) = (done, total),
            None => self.items.push(Item { what: what.to_owned(), done, total }),
        }
    }

    fn finish(&mut self, what: &str, line: String) {
        self.items.retain(|i| i.what != what);
        self.finished.push(line);
    }
}

impl Model for Bars {
    fn frame(&mut self, _: Instant, width: usize, height: usize) -> Frame {
        let live = self.items.iter().take(height).map(|i| {
            let amount = match i.total {
                0 => human::bytes(i.done),
                t => format!("{}/{}", human::bytes(i.done), human::bytes(t)),
            };
            let cells = width.saturating_sub(i.what.chars().count() + 24).min(40);
            row(&format!("{} {}", i.what, bar(i.done, i.total, cells)), &amount, width.min(80))
        });
        let live = live.collect();
        Frame { above: std::mem::take(&mut self.finished), live }
    }
}

enum How {
    Terminal(Region<Bars>),
    Lines,
    Nothing,
}

/// Shows transfers.
pub(crate) struct Transfers {
    how: How,
    finished: Mutex<HashSet<String>>,
}

impl Transfers {
    /// Nothing at all if `quiet`.
    pub(crate) fn new(quiet: bool) -> Transfers {
        let how = match quiet {
            true => How::Nothing,
            false if is_terminal() => How::Terminal(Region::open(Bars::default())),
            false => How::Lines,
        };
        Transfers { how, finished: Mutex::default() }
    }

    /// So many bytes of so many (0: unknown) have moved.
    pub(crate) fn update(&self, what: &str, done: u64, total: u64) {
        if done == total && total > 0 {
            self.finish(what, &human::bytes(total));
        } else if let How::Terminal(region) = &self.how {
            region.change(|b| b.update(what, done, total));
        }
    }

    /// Takes away what has not ended.
    pub(crate) fn drop_unfinished(self) {
        if let How::Terminal(region) = &self.how {
            region.change(|b| b.items.clear());
        }
    }

    /// Says how one ended; only the first word on each counts.
    pub(crate) fn finish(&self, what: &str, how: &str) {
        if !self.finished.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned()) {
            return;
        }
        let line = format!("{what} {how}");
        match &self.how {
            How::Terminal(region) => region.change(|b| b.finish(what, line)),
            How::Lines => note(&line),
            How::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_the_terminal_and_end_as_lines() {
        let mut b = Bars::default();
        b.update("0123456789ab", 5_000_000, 10_000_000);
        b.update("ba9876543210", 1000, 0);
        let f = b.frame(Instant::now(), 80, 10);
        assert_eq!(f.live.len(), 2);
        assert!(f.live[0].starts_with("0123456789ab [====") && f.live[0].ends_with("5.00MB/10.0MB"), "{f:?}");
        assert!(f.live[1].ends_with("1.00kB"), "{f:?}");
        for width in [1, 20, 40, 80] {
            assert!(b.frame(Instant::now(), width, 10).live.iter().all(|l| l.chars().count() <= width));
        }
        assert_eq!(b.frame(Instant::now(), 80, 1).live.len(), 1);
        b.finish("0123456789ab", "0123456789ab 10.0MB".into());
        let f = b.frame(Instant::now(), 80, 10);
        assert_eq!((f.above.len(), f.live.len()), (1, 1));
        assert!(b.frame(Instant::now(), 80, 10).above.is_empty(), "each line once");
    }
}
