//! One line that is typed: a filter, something to search for, a file name.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a line is typed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Shows only what matches.
    Filter,
    /// Goes to what matches.
    Search,
    /// Names the file to write.
    Extract,
}

/// The line.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) purpose: Purpose,
    pub(crate) text: String,
}

/// What a key did to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    Changed,
    Done,
    Cancelled,
    Ignored,
}

impl Prompt {
    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Typed {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => Typed::Done,
            KeyCode::Esc => Typed::Cancelled,
            KeyCode::Char('c') if ctrl => Typed::Cancelled,
            KeyCode::Backspace => {
                self.text.pop();
                Typed::Changed
            }
            KeyCode::Char('h') if ctrl => {
                self.text.pop();
                Typed::Changed
            }
            KeyCode::Char('u') if ctrl => {
                self.text.clear();
                Typed::Changed
            }
            KeyCode::Char('w') if ctrl => {
                let end = self.text.trim_end().rfind([' ', '/']).map_or(0, |at| at + 1);
                self.text.truncate(if end == self.text.len() { 0 } else { end });
                Typed::Changed
            }
            KeyCode::Char(c) if !ctrl && !c.is_control() && self.text.len() < 1000 => {
                self.text.push(c);
                Typed::Changed
            }
            _ => Typed::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_typed_and_mended() {
        let mut p = Prompt { purpose: Purpose::Filter, text: String::new() };
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        for c in "usr/lib x".chars() {
            assert_eq!(p.key(key(KeyCode::Char(c))), Typed::Changed);
        }
        assert_eq!(p.key(key(KeyCode::Backspace)), Typed::Changed);
        p.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(p.text, "usr/");
        p.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(p.text, "");
        assert_eq!(p.key(key(KeyCode::Esc)), Typed::Cancelled);
        assert_eq!(p.key(key(KeyCode::Enter)), Typed::Done);
        assert_eq!(p.key(key(KeyCode::Up)), Typed::Ignored);
    }
}
