//! Names and texts of an image as text that is safe to show.
//!
//! A name in an image is any bytes but `/` and NUL. What could move a cursor, change colours, turn the direction of writing or hide
//! itself is written as an escape, as is what is no UTF-8; the backslash is doubled, so that no two names look the same.

use std::fmt::Write as _;

/// Characters without a picture of their own that change how others look: zero-width, bidirectional, separators, variation tags.
fn hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A name for the screen.
pub fn name(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_escaped(&mut out, bytes, true);
    out
}

/// A text of the image (an instruction, a label) in one line: white space becomes one space, the rest as in names, but for backslashes.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, word) in text.split_whitespace().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        push_escaped(&mut out, word.as_bytes(), false);
    }
    out
}

/// Text of a file, without line feeds and tabs: as it is, but for what must not reach the terminal.
pub fn push_plain(out: &mut String, bytes: &[u8]) {
    push_escaped(out, bytes, false);
}

fn push_escaped(out: &mut String, bytes: &[u8], double_backslash: bool) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' if double_backslash => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if u32::from(c) < 0x20 || c == '\x7f' => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c if c.is_control() || hidden(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_reaches_the_terminal() {
        assert_eq!(name(b"plain \xc3\xa4.txt"), "plain ä.txt");
        assert_eq!(name(b"a\x1b[2Jb\n\x7f"), "a\\x1b[2Jb\\n\\x7f");
        assert_eq!(name(b"\xff\xfe\\"), "\\xff\\xfe\\\\");
        assert_eq!(name("gpj.\u{202e}exe\u{85}".as_bytes()), "gpj.\\u{202e}exe\\u{85}");
        assert_eq!(line(" RUN  a \\\n\t b\x1b "), "RUN a \\ b\\x1b");
    }
}
