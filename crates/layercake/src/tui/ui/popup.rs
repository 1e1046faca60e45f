//! What lies over the panes: help, and the content of a file.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::app::{App, Popup};
use super::{Theme, line, title};
use crate::human;

/// Keys and what they do; without a key it is a heading.
const KEYS: &[(&str, &str)] = &[
    ("", "Everywhere"),
    ("Tab", "layers or files"),
    ("^C q", "quit"),
    ("^Z", "suspend"),
    ("^F ^/", "filter files by a pattern (a regular expression over the path)"),
    ("Esc", "clear the filter, close what is open"),
    ("/ n N", "search a name; next, previous match"),
    ("f", "findings: what to change, and what it saves"),
    ("i", "history of the path under the cursor, layer by layer"),
    ("b", "fold or unfold the base image's layers"),
    ("", "Moving"),
    ("↑↓ k j", "up, down"),
    ("PgUp PgDn u d", "a page"),
    ("Home End g G", "to the ends"),
    ("←→ h l", "left: next pane; files: close, open a directory"),
    ("", "Layers"),
    ("^L", "changes of the chosen layer"),
    ("^A", "changes of all layers above the base up to the chosen one"),
    ("Enter", "findings and wasted paths: go to layer and path"),
    ("", "Files"),
    ("Space", "fold or unfold a directory"),
    ("^Space", "fold or unfold all"),
    ("^A ^R ^M ^U", "show or hide added, removed, modified (Enter), unmodified"),
    ("^B", "permissions and owners"),
    ("^O", "sort by size or by name"),
    ("^P", "wrap long names"),
    ("v", "view the file (x: hexadecimal or text)"),
    ("^E", "write the file to disk"),
    ("", "Letters before a name"),
    ("+ -", "added, removed"),
    ("M", "modified: type or content, or something in the directory"),
    ("m", "only mode, owner, time or xattrs; the content is shipped again"),
    ("⇒ →", "hard link, symbolic link"),
    ("", "Figures"),
    ("Dead", "bytes of the layer that the whole image does not have any more"),
    ("Mouse", "click: choose, again: fold; wheel: move"),
];

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    for y in area.y..area.bottom() {
        for x in area.x..area.right() {
            buf[(x, y)].reset();
        }
    }
    let inner = Rect { x: area.x + 1, width: area.width - 1, y: area.y + 1, height: area.height - 1 };
    app.areas.tree = inner;
    match &mut app.popup {
        Some(Popup::Help { top }) => {
            title(buf, area, 0, "Keys", true, theme);
            *top = (*top).min(KEYS.len().saturating_sub(usize::from(inner.height)));
            for (n, (key, text)) in KEYS.iter().skip(*top).enumerate() {
                let l = match key.is_empty() {
                    true => Line::styled(*text, Style::new().add_modifier(Modifier::BOLD)),
                    false => {
                        let pad = 15usize.saturating_sub(Span::raw(*key).width());
                        Line::from(vec![
                            Span::styled(format!("  {key}{}", " ".repeat(pad)), theme.title(true)),
                            Span::raw(*text),
                        ])
                    }
                };
                line(buf, inner, n as u16, l);
            }
        }
        Some(Popup::File(v)) => {
            let mut text = v.title.clone();
            if let Some(size) = v.cut_from() {
                text.push_str(&format!(
                    " (the first {} of {})",
                    human::bytes(super::super::viewer::SHOWN),
                    human::bytes(size)
                ));
            }
            title(buf, area, 0, &text, true, theme);
            let number = v.len().to_string().len();
            for row in 0..inner.height {
                let n = v.top() + usize::from(row);
                if n >= v.len() {
                    break;
                }
                let text = v.line(n, usize::from(inner.width));
                let l = match v.is_hex() {
                    true => Line::raw(text),
                    false => Line::from(vec![
                        Span::styled(format!("{:>number$} ", n + 1), theme.dim()),
                        Span::raw(text),
                    ]),
                };
                line(buf, inner, row, l);
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_eighty_columns() {
        for (key, text) in KEYS {
            assert!(18 + text.chars().count() <= 80, "{key}: {text}");
        }
    }
}
