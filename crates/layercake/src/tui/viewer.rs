//! The content of a file on the screen: as text or in hexadecimal, up to a bound.

use super::text;

/// Bytes of a file that are shown at most.
pub(crate) const SHOWN: u64 = 1_000_000;

/// Bytes in a line of hexadecimal.
const HEX: usize = 16;

/// A file that is looked at.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// Its path, safe for the screen.
    pub(crate) title: String,
    bytes: Vec<u8>,
    size: u64,
    hex: bool,
    /// Where lines begin.
    starts: Vec<usize>,
    /// The first line shown.
    top: usize,
    /// Characters cut off on the left.
    left: usize,
}

impl Viewer {
    /// Shows the first bytes of a file of `size` bytes: as text, if they look like it.
    pub(crate) fn new(title: String, bytes: Vec<u8>, size: u64) -> Viewer {
        let head = &bytes[..bytes.len().min(4096)];
        let odd = head.iter().filter(|&&b| b < 0x20 && !b"\t\n\r\x0c\x1b".contains(&b)).count();
        let bad: usize = head.utf8_chunks().map(|c| c.invalid().len()).sum();
        // A character may be cut in two where the head ends.
        let hex = odd + bad.saturating_sub(3) > head.len() / 20;
        let mut starts = vec![0];
        starts.extend(bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(n, _)| n + 1));
        if starts.last() == Some(&bytes.len()) && starts.len() > 1 {
            starts.pop();
        }
        Viewer { title, bytes, size, hex, starts, top: 0, left: 0 }
    }

    /// Number of lines.
    pub(crate) fn len(&self) -> usize {
        if self.hex { self.bytes.len().div_ceil(HEX) } else { self.starts.len() }
    }

    /// The first line shown.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// Whether it is shown in hexadecimal.
    pub(crate) fn is_hex(&self) -> bool {
        self.hex
    }

    /// Size of the whole file, if not all of it is here.
    pub(crate) fn cut_from(&self) -> Option<u64> {
        (self.size > self.bytes.len() as u64).then_some(self.size)
    }

    /// Moves by lines.
    pub(crate) fn scroll(&mut self, lines: isize) {
        self.top = self.top.saturating_add_signed(lines).min(self.len().saturating_sub(1));
    }

    /// Moves sideways.
    pub(crate) fn shift(&mut self, columns: isize) {
        self.left = self.left.saturating_add_signed(columns).min(if self.hex { 0 } else { 10_000 });
    }

    /// Text or hexadecimal; the place stays about the same.
    pub(crate) fn toggle_hex(&mut self) {
        let offset = if self.hex { self.top * HEX } else { self.starts.get(self.top).copied().unwrap_or(0) };
        self.hex = !self.hex;
        self.left = 0;
        self.top = if self.hex {
            offset / HEX
        } else {
            self.starts.partition_point(|&s| s <= offset).saturating_sub(1)
        };
    }

    /// A line for the screen, `width` characters at most are needed.
    pub(crate) fn line(&self, n: usize, width: usize) -> String {
        if self.hex {
            return self.hex_line(n);
        }
        let Some(&start) = self.starts.get(n) else { return String::new() };
        let end = self.starts.get(n + 1).map_or(self.bytes.len(), |e| e - 1);
        // Four bytes make a character at most: what is further right is not looked at.
        let most = start + (self.left + width) * 4;
        let mut bytes = &self.bytes[start..end.min(most).max(start)];
        if end <= most {
            bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        let mut out = String::new();
        for (n, piece) in bytes.split(|&b| b == b'\t').enumerate() {
            if n > 0 {
                let column = out.chars().count();
                out.extend(std::iter::repeat_n(' ', 8 - column % 8));
            }
            text::push_plain(&mut out, piece);
        }
        out.chars().skip(self.left).collect()
    }

    fn hex_line(&self, n: usize) -> String {
        use std::fmt::Write as _;
        let start = n * HEX;
        let Some(bytes) = self.bytes.get(start..self.bytes.len().min(start + HEX)) else {
            return String::new();
        };
        let mut out = format!("{start:08x} ");
        for i in 0..HEX {
            if i % 8 == 0 {
                out.push(' ');
            }
            match bytes.get(i) {
                Some(b) => {
                    let _ = write!(out, "{b:02x} ");
                }
                None => out.push_str("   "),
            }
        }
        out.push(' ');
        out.extend(bytes.iter().map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' }));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(bytes: &[u8]) -> Viewer {
        Viewer::new("/x".into(), bytes.to_vec(), bytes.len() as u64)
    }

    #[test]
    fn text_is_shown_as_text() {
        let v = view("one\r\n\ttwo\x1b[1m\\n\nthr\u{e4}".as_bytes());
        assert!(!v.is_hex());
        assert_eq!(v.len(), 3);
        assert_eq!([0, 1, 2, 3].map(|n| v.line(n, 80)), ["one", "        two\\x1b[1m\\n", "thr\u{e4}", ""]);
        assert_eq!(view(b"a\n").len(), 1);
        assert_eq!((view(b"").len(), view(b"").line(0, 80)), (1, String::new()));
        assert!(Viewer::new(String::new(), vec![b'a'; 10], 11).cut_from() == Some(11));
    }

    #[test]
    fn anything_else_in_hexadecimal() {
        let mut v = view(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0>\0");
        assert!(v.is_hex());
        assert_eq!(v.len(), 2);
        assert_eq!(
            v.line(0, 80),
            "00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00  .ELF............"
        );
        assert_eq!(
            v.line(1, 80).trim_end(),
            "00000010  02 00 3e 00                                       ..>."
        );
        v.scroll(5);
        assert_eq!(v.top(), 1);
        v.toggle_hex();
        assert_eq!((v.is_hex(), v.top()), (false, 0));
    }

    #[test]
    fn a_line_without_end_costs_what_is_shown_of_it() {
        let mut v = view(&vec![b'x'; 1 << 20]);
        assert!(v.line(0, 80).len() <= 80 * 4);
        v.shift(100);
        v.shift(-50);
        assert!(!v.line(0, 80).is_empty());
    }
}
