//! The list of layers: which is chosen, how it is compared, and the base folded into one line.

use super::compare::Mode;

/// A line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The layers of the base image, together.
    Base,
    /// One layer.
    Layer(usize),
}

/// Which part of a comparison a layer belongs to: dive's bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The state compared with.
    Lower,
    /// What is looked at.
    Upper,
    /// Above both.
    Outside,
}

/// The list of layers.
#[derive(Debug)]
pub(crate) struct LayerList {
    count: usize,
    base: usize,
    folded: bool,
    cursor: usize,
    mode: Mode,
}

impl LayerList {
    /// A list of `count` layers; nothing is known of a base. The last layer is chosen where a base is folded, else the first, as dive does.
    pub(crate) fn new(count: usize) -> LayerList {
        LayerList { count, base: 0, folded: false, cursor: 0, mode: Mode::Layer }
    }

    /// Says how many of the layers are of the base image, and folds them if there are several.
    pub(crate) fn set_base(&mut self, base: usize) {
        let chosen = self.chosen();
        self.base = base.min(self.count);
        self.folded = self.base > 1;
        self.choose(chosen);
    }

    /// The lines.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let from = if self.folded { self.base } else { 0 };
        self.folded.then_some(Line::Base).into_iter().chain((from..self.count).map(Line::Layer)).collect()
    }

    /// The line under the cursor.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// The line under the cursor; the base in an image without layers.
    pub(crate) fn line(&self) -> Line {
        self.lines().get(self.cursor).copied().unwrap_or(Line::Base)
    }

    /// The chosen layer; of a folded base, its last.
    pub(crate) fn chosen(&self) -> usize {
        match self.line() {
            Line::Base => self.base.saturating_sub(1),
            Line::Layer(n) => n,
        }
    }

    /// Layers of the base image.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// How the chosen layer is compared.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Compares in another way.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Moves the cursor; it stops at the ends. True if it moved.
    pub(crate) fn move_by(&mut self, lines: isize) -> bool {
        self.put(self.cursor.saturating_add_signed(lines))
    }

    /// Puts the cursor on a line. True if it moved.
    pub(crate) fn put(&mut self, line: usize) -> bool {
        let before = self.cursor;
        self.cursor = line.min(self.lines().len().saturating_sub(1));
        self.cursor != before
    }

    /// Puts the cursor on a layer; on the folded base if it is in there.
    pub(crate) fn choose(&mut self, layer: usize) {
        let lines = self.lines();
        let line = lines.iter().position(|l| *l == Line::Layer(layer));
        self.cursor = line.unwrap_or(0);
    }

    /// Folds or unfolds the base, if the image has one of several layers.
    pub(crate) fn toggle_base(&mut self) {
        if self.base > 1 {
            let chosen = self.chosen();
            self.folded = !self.folded;
            self.choose(chosen);
        }
    }

    /// The comparison to show: layers in the lower and in the upper state.
    pub(crate) fn compared(&self) -> (usize, usize) {
        match (self.line(), self.mode) {
            (Line::Base, _) => (0, self.base),
            (Line::Layer(n), Mode::Layer) => (n, n + 1),
            (Line::Layer(n), Mode::Aggregated) => (self.base.max(1).min(n), n + 1),
        }
    }

    /// Which part of the comparison a line belongs to.
    pub(crate) fn part(&self, line: Line) -> Part {
        let (lower, upper) = self.compared();
        let last = match line {
            Line::Base => self.base.saturating_sub(1),
            Line::Layer(n) => n,
        };
        match last {
            n if n >= upper => Part::Outside,
            n if n >= lower => Part::Upper,
            _ => Part::Lower,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_or_all_above_the_base() {
        let mut l = LayerList::new(5);
        l.put(3);
        assert_eq!(l.compared(), (3, 4));
        assert_eq!(
            [0, 2, 3, 4].map(|n| l.part(Line::Layer(n))),
            [Part::Lower, Part::Lower, Part::Upper, Part::Outside]
        );
        l.set_mode(Mode::Aggregated);
        assert_eq!(l.compared(), (1, 4), "as dive: against the first layer");
        l.set_base(2);
        assert_eq!((l.lines().len(), l.chosen(), l.compared()), (4, 3, (2, 4)));
        l.put(0);
        assert_eq!((l.line(), l.chosen(), l.compared()), (Line::Base, 1, (0, 2)));
        l.toggle_base();
        assert_eq!((l.lines().len(), l.chosen(), l.compared()), (5, 1, (1, 2)));
        l.choose(0);
        assert_eq!(l.compared(), (0, 1));
        l.toggle_base();
        assert_eq!(l.line(), Line::Base);
    }

    #[test]
    fn an_image_without_layers() {
        let mut l = LayerList::new(0);
        l.set_base(3);
        assert!(!l.move_by(1));
        assert_eq!((l.compared(), l.chosen()), ((0, 0), 0));
    }
}
