//! Layers that are read and not kept, for `analyse` and `diff`: bars on a terminal that go away at the end, since what was read says no
//! more than the report that follows. Where there is no terminal, nothing is said.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::region::{Frame, Model, Region, is_terminal};
use super::text::{bar, row};
use crate::human;

/// What is read faster is not announced: a flicker helps nobody.
const AFTER: Duration = Duration::from_millis(300);

/// The layers that are read at the moment, and what has been read.
#[derive(Debug)]
struct Layers {
    name: String,
    since: Instant,
    /// Name, bytes read, and all bytes (0: unknown).
    items: Vec<(String, u64, u64)>,
    finished: HashSet<String>,
    bytes: u64,
}

impl Layers {
    fn new(name: &str, since: Instant) -> Layers {
        let name = super::text::harmless(name);
        Layers { name, since, items: Vec::new(), finished: HashSet::new(), bytes: 0 }
    }

    fn update(&mut self, what: &str, done: u64, total: u64) {
        let at = self.items.iter().position(|i| i.0 == what);
        if done >= total && total > 0 {
            if self.finished.insert(what.to_owned()) {
                self.bytes += total;
            }
            at.map(|n| self.items.remove(n));
        } else if let Some(item) = at.and_then(|n| self.items.get_mut(n)) {
            (item.1, item.2) = (done, total);
        } else if !self.finished.contains(what) {
            self.items.push((what.to_owned(), done, total));
        }
    }
}

impl Model for Layers {
    fn frame(&mut self, now: Instant, width: usize, height: usize) -> Frame {
        if now.duration_since(self.since) < AFTER {
            return Frame::default();
        }
        let width = width.min(80);
        let bytes = self.bytes + self.items.iter().map(|i| i.1).sum::<u64>();
        let many = if self.finished.len() == 1 { "layer" } else { "layers" };
        let amount = format!("{}, {} {many} done", human::bytes(bytes), self.finished.len());
        let mut live = vec![row(&format!("reading {}", self.name), &amount, width)];
        for (what, done, total) in self.items.iter().take(height.saturating_sub(1)) {
            let amount = match total {
                0 => human::bytes(*done),
                t => format!("{}/{}", human::bytes(*done), human::bytes(*t)),
            };
            let cells = width.saturating_sub(what.chars().count() + 26).min(40);
            live.push(row(&format!("  {what} {}", bar(*done, *total, cells)), &amount, width));
        }
        Frame { above: Vec::new(), live }
    }
}

/// Shows that an image is being read, until it is dropped.
pub(crate) struct Reading(Option<Region<Layers>>);

impl Reading {
    /// From now on, if people look.
    pub(crate) fn new(name: &str) -> Reading {
        Reading(is_terminal().then(|| Region::open(Layers::new(name, Instant::now()))))
    }

    /// So many bytes of so many (0: unknown) have been read.
    pub(crate) fn update(&self, what: &str, done: u64, total: u64) {
        if let Some(region) = &self.0 {
            region.change(|l| l.update(what, done, total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_while_layers_are_read_and_nothing_at_the_end() {
        let start = Instant::now();
        let mut l = Layers::new("a\x1b[2Jb.tar", start);
        l.update("layer 0", 1_000_000, 4_000_000);
        assert_eq!(l.frame(start, 80, 10), Frame::default(), "not at once");
        let later = start + Duration::from_secs(1);
        l.update("layer 1", 2_000_000, 0);
        let f = l.frame(later, 79, 10);
        assert!(
            f.live[0].starts_with("reading ab.tar ") && f.live[0].ends_with("3.00MB, 0 layers done"),
            "{f:?}"
        );
        assert!(f.live[1].starts_with("  layer 0 [====") && f.live[1].ends_with("1.00MB/4.00MB"), "{f:?}");
        assert!(f.live[2].ends_with(" 2.00MB"), "{f:?}");
        for width in [1, 20, 40, 79, 200] {
            assert!(l.frame(later, width, 10).live.iter().all(|l| l.chars().count() <= width.min(80)));
        }
        assert_eq!(l.frame(later, 80, 2).live.len(), 2, "no more than fit");
        // The end is told more than once.
        for _ in 0..2 {
            l.update("layer 0", 4_000_000, 4_000_000);
        }
        let f = l.frame(later, 79, 10);
        assert!(
            f.live[0].ends_with("6.00MB, 1 layer done") && f.live.len() == 2 && f.above.is_empty(),
            "{f:?}"
        );
    }
}
