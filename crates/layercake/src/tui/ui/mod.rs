//! Drawing: the state of the screen as cells. What is drawn costs what is seen, however large the image is.
//!
//! ```text
//! width  panes
//! >= 60  layers and details on the left, the tree on the right; the focused side gets the larger part below 110 columns
//! <  60  the focused side alone
//! ```
//! Colours are the terminal's own sixteen, so that they fit its theme; each says nothing that a letter or a word does not say, too.

mod left;
mod popup;
mod tree;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::app::{App, Pane, Phase, Popup};
use super::compare::{Change, Mode};
use super::prompt::Purpose;

/// Below this width only one side is shown.
const ONE_SIDE: u16 = 60;
/// From this width on both sides have room.
const WIDE: u16 = 110;

/// Colours and emphasis.
#[derive(Debug, Clone, Copy)]
struct Theme {
    colour: bool,
}

impl Theme {
    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        if self.colour { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    fn change(self, change: Change) -> Style {
        match change {
            Change::Added => self.fg(Color::Green),
            Change::Removed => self.fg(Color::Red),
            Change::Modified => self.fg(Color::Yellow),
            Change::Metadata => self.fg(Color::Cyan),
            Change::Unmodified | Change::Absent => Style::new(),
        }
    }

    /// The line under the cursor.
    fn cursor(self, focused: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        if focused { style } else { Style::new().add_modifier(Modifier::BOLD) }
    }

    fn title(self, focused: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if focused && self.colour { style.fg(Color::Cyan) } else { style }
    }
}

/// The letter of a change.
fn letter(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Modified => 'M',
        Change::Metadata => 'm',
        Change::Unmodified | Change::Absent => ' ',
    }
}

/// Draws everything, and notes where things are.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    if area.height < 3 || area.width < 10 {
        line(buf, area, 0, Line::raw("too small"));
        return;
    }
    let theme = Theme { colour: app.colour };
    let body = Rect { height: area.height - 1, ..area };
    let on_tree = app.focus == Pane::Tree;
    let (left, right) = sides(body, on_tree);
    app.areas = Default::default();
    if left.width > 0 {
        left::draw(buf, left, app, theme);
    }
    if left.width > 0 && right.width > 0 {
        for y in body.y..body.bottom() {
            buf[(right.x - 1, y)].set_symbol("│").set_style(theme.dim());
        }
    }
    if right.width > 0 {
        tree::draw(buf, right, app, theme);
    }
    if app.popup.is_some() {
        popup::draw(buf, body, app, theme);
    }
    status(buf, Rect { y: area.bottom() - 1, height: 1, ..area }, app, theme);
}

/// The two sides; one may have no width. Between them is one column.
fn sides(body: Rect, on_tree: bool) -> (Rect, Rect) {
    let none = Rect { width: 0, ..body };
    if body.width < ONE_SIDE {
        return if on_tree { (none, body) } else { (body, none) };
    }
    let width = match body.width {
        w if w >= WIDE => (w * 2 / 5).min(80),
        w if on_tree => (w / 3).max(24),
        w => w / 2,
    };
    let right = Rect { x: body.x + width + 1, width: body.width - width - 1, ..body };
    (Rect { width, ..body }, right)
}

/// Writes a line at a row of an area; what is too long is cut.
fn line(buf: &mut Buffer, area: Rect, row: u16, text: Line<'_>) {
    if row < area.height {
        text.render(Rect { y: area.y + row, height: 1, ..area }, buf);
    }
}

/// A title with a rule behind it.
fn title(buf: &mut Buffer, area: Rect, row: u16, text: &str, focused: bool, theme: Theme) {
    let rule = "─".repeat(usize::from(area.width));
    line(buf, area, row, Line::styled(rule, theme.dim()));
    let name = cut(text, usize::from(area.width.saturating_sub(4)));
    let mark = if focused { "▸" } else { " " };
    line(buf, area, row, Line::from(vec![Span::styled(format!("{mark}{name} "), theme.title(focused))]));
}

/// Keeps the cursor in sight: the first row of a window of `height` rows.
fn window(top: usize, cursor: usize, height: usize, len: usize) -> usize {
    let height = height.max(1);
    let top = top.min(len.saturating_sub(height));
    if cursor < top {
        cursor
    } else if cursor >= top + height {
        cursor + 1 - height
    } else {
        top
    }
}

/// Cuts a text to a width in columns, with a mark at the end of what was cut.
fn cut(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = Span::raw(c.to_string()).width();
        if used + w + 1 > width {
            break;
        }
        used += w;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Breaks a text into lines of a width, at spaces where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut out = Vec::new();
    let mut now = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let w = Span::raw(word).width();
        if used > 0 && used + 1 + w > width {
            out.push(std::mem::take(&mut now));
            used = 0;
        } else if used > 0 {
            now.push(' ');
            used += 1;
        }
        if w <= width {
            now.push_str(word);
            used += w;
            continue;
        }
        for c in word.chars() {
            let w = Span::raw(c.to_string()).width();
            if used + w > width && used > 0 {
                out.push(std::mem::take(&mut now));
                used = 0;
            }
            now.push(c);
            used += w;
        }
    }
    if used > 0 || out.is_empty() {
        out.push(now);
    }
    out
}

/// The last line: what is typed, what was said, or the keys.
fn status(buf: &mut Buffer, area: Rect, app: &App, theme: Theme) {
    if let Some(p) = &app.prompt {
        let label = match p.purpose {
            Purpose::Filter => "Filter: ",
            Purpose::Search => "/",
            Purpose::Extract => "Write to: ",
        };
        // The end of the text is where the typing is.
        let room = usize::from(area.width).saturating_sub(label.len() + 2);
        let chars: Vec<char> = p.text.chars().collect();
        let tail: String = chars[chars.len().saturating_sub(room)..].iter().collect();
        let mut spans = vec![
            Span::styled(label, theme.title(true)),
            Span::raw(tail),
            Span::styled(" ", theme.cursor(true)),
        ];
        if let Some(m) = &app.message {
            spans.push(Span::styled(format!("  {m}"), theme.dim()));
        }
        return line(buf, area, 0, Line::from(spans));
    }
    if let Some(m) = &app.message {
        return line(buf, area, 0, Line::styled(format!(" {m}"), theme.fg(Color::Yellow)));
    }
    let mode = app.layers.mode();
    let hidden = app.ready().map(|l| l.view.hidden()).unwrap_or_default();
    let keys: Vec<(&str, &str, bool)> = match (&app.popup, app.focus) {
        (Some(Popup::Help { .. }), _) => vec![("Esc", "Close", false), ("↑↓", "Move", false)],
        (Some(Popup::File(v)), _) => vec![
            ("Esc", "Close", false),
            ("↑↓←→", "Move", false),
            ("x", "Hexadecimal", v.is_hex()),
            ("^E", "Extract", false),
        ],
        (None, Pane::Tree) => vec![
            ("^C", "Quit", false),
            ("Tab", "Layers", false),
            ("?", "Help", false),
            ("/", "Search", app.searched().is_some()),
            ("^F", "Filter", app.ready().is_some_and(|l| l.view.filter().is_some())),
            ("Space", "Fold", false),
            ("i", "History", app.history),
            ("v", "View", false),
            ("^A", "Added", !hidden.added),
            ("^R", "Removed", !hidden.removed),
            ("^M", "Modified", !hidden.modified),
            ("^U", "Unmodified", !hidden.unmodified),
            ("^B", "Attributes", app.attributes),
            ("^O", "Sort", false),
            ("^E", "Extract", false),
            ("^P", "Wrap", app.wrap),
        ],
        (None, _) => vec![
            ("^C", "Quit", false),
            ("Tab", "Files", false),
            ("?", "Help", false),
            ("←→", "Pane", false),
            ("^L", "Layer", mode == Mode::Layer),
            ("^A", "Aggregated", mode == Mode::Aggregated),
            ("f", "Findings", false),
            ("Enter", "Go", false),
            ("^F", "Filter", false),
            ("b", "Base", false),
        ],
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, word, on) in keys {
        let width = Span::raw(key).width() + word.len() + 3;
        if used + width > usize::from(area.width) {
            break;
        }
        used += width;
        let style = if on { theme.cursor(true) } else { Style::new() };
        spans.push(Span::styled(format!(" {key}"), style.add_modifier(Modifier::BOLD)));
        spans.push(Span::styled(format!(" {word}"), style));
        spans.push(Span::styled(" ", style));
    }
    line(buf, area, 0, Line::from(spans));
}

/// What stands where the image is not read yet.
fn waiting(app: &App) -> Option<String> {
    match &app.phase {
        Phase::Reading => Some("reading the image …".to_owned()),
        Phase::Ready(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_wrapped_by_columns() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("x", 0), "");
        assert_eq!(wrapped("RUN apt-get install", 8), ["RUN", "apt-get", "install"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn the_cursor_stays_in_the_window() {
        assert_eq!(window(0, 5, 10, 100), 0);
        assert_eq!(window(0, 10, 10, 100), 1);
        assert_eq!(window(50, 10, 10, 100), 10);
        assert_eq!(window(99, 99, 10, 100), 90);
        assert_eq!(window(5, 0, 0, 0), 0);
    }
}
