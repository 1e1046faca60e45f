//! From what a step writes to whole lines.

/// Without a line feed for so long, a line is cut.
const MAX: usize = 64 << 10;

/// Bytes after the last line feed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\r').unwrap_or(&text).to_owned()
}

impl Lines {
    /// Takes what was written; gives the lines that are whole now.
    pub(super) fn push(&mut self, data: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        let mut pieces = data.split(|&c| c == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.rest.extend_from_slice(piece);
            out.push(text(&std::mem::take(&mut self.rest)));
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > MAX {
            out.push(text(&std::mem::take(&mut self.rest)));
        }
        out
    }

    /// What stands in the unfinished line.
    pub(super) fn unfinished(&self) -> Option<String> {
        (!self.rest.is_empty()).then(|| text(&self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let mut l = Lines::default();
        assert_eq!(l.push(b"a\nb"), ["a"]);
        assert_eq!(l.push(b"c\r\n\nd"), ["bc", ""]);
        assert_eq!(l.unfinished().as_deref(), Some("d"));
        assert_eq!(l.push(b"\n"), ["d"]);
        assert_eq!(l.unfinished(), None);
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let mut l = Lines::default();
        let count: usize = (0..100).map(|_| l.push(&[b'.'; 8 << 10]).len()).sum();
        assert!(count >= 10, "{count}");
        assert!(l.rest.len() <= MAX);
    }
}
