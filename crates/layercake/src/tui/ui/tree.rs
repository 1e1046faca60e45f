//! The tree of files, and the history of the path under the cursor.

use analyse::Kind;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::app::{App, Loaded, Pane};
use super::super::compare::{Change, Mode};
use super::super::facts;
use super::super::stack::{NodeId, Stack, State};
use super::super::text;
use super::super::view::Row;
use super::{Theme, cut, letter, line, title, waiting, window, wrapped};
use crate::human;

/// Columns that permissions and owners need to be shown.
const ATTRIBUTES: u16 = 56;
/// Depth up to which lines are drawn; deeper names are indented no further.
const DEEPEST: usize = 24;

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let focused = app.focus == Pane::Tree;
    title(buf, area, 0, &heading(app), focused, theme);
    let mut body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if let Some(text) = waiting(app) {
        let style = theme.dim();
        for (n, l) in wrapped(&text, usize::from(body.width.saturating_sub(2))).into_iter().enumerate() {
            line(
                buf,
                Rect { x: body.x + 1, width: body.width - 1, ..body },
                n as u16 + 1,
                Line::styled(l, style),
            );
        }
        return;
    }
    if app.history && body.height >= 8 {
        let height = draw_history(buf, body, app, theme);
        body.height -= height;
    }
    let attributes = app.attributes && area.width >= ATTRIBUTES;
    let head = if attributes { "  Permission     UID:GID    Size  Filetree" } else { "    Size  Filetree" };
    line(buf, body, 0, Line::styled(head, Style::new().add_modifier(Modifier::BOLD)));
    let list = Rect { y: body.y + 1, height: body.height.saturating_sub(1), ..body };
    app.areas.tree = list;
    let Some(l) = app.ready() else { return };
    let (rows, cursor) = (l.view.rows(), l.view.cursor());
    if rows.is_empty() {
        let why = if l.view.filter().is_some() {
            "nothing matches the filter (Esc clears it)"
        } else {
            "nothing here"
        };
        return line(buf, list, 1, Line::styled(format!("  {why}"), theme.dim()));
    }
    let height = usize::from(list.height);
    let width = usize::from(list.width);
    let mut top = window(app.tree_top, cursor, height, rows.len());
    let lines_of = |row: &Row| -> Vec<Line<'static>> {
        let (before, name, style) = parts(l, row, attributes, theme);
        let room = width.saturating_sub(Span::raw(before.as_str()).width());
        if !app.wrap {
            return vec![full(l, row, before, cut(&name, room), style, theme)];
        }
        let indent = " ".repeat(width - room.min(width));
        let pieces = chunks(&name, room.max(8));
        pieces
            .into_iter()
            .enumerate()
            .map(|(n, piece)| match n {
                0 => full(l, row, before.clone(), piece, style, theme),
                _ => Line::from(vec![Span::raw(indent.clone()), Span::styled(piece, style)]),
            })
            .collect()
    };
    if app.wrap {
        // Rows have different heights: from the cursor upwards as many as fit.
        let mut used = lines_of(&rows[cursor]).len();
        let mut first = cursor;
        while first > top {
            used += lines_of(&rows[first - 1]).len();
            if used > height {
                break;
            }
            first -= 1;
        }
        top = first;
    }
    let mut y = 0;
    for (n, row) in rows.iter().enumerate().skip(top) {
        if y >= list.height {
            break;
        }
        for mut l in lines_of(row) {
            if n == cursor {
                l = l.patch_style(theme.cursor(focused));
                if focused {
                    let blank = " ".repeat(width);
                    line(buf, list, y, Line::styled(blank, theme.cursor(true)));
                }
            }
            line(buf, list, y, l);
            y += 1;
        }
    }
    scrollbar(buf, list, top, rows.len(), theme);
    app.tree_top = top;
}

/// What is compared, in words.
fn heading(app: &App) -> String {
    let (lower, upper) = app.layers.compared();
    if app.ready().is_none() {
        return "Files".to_owned();
    }
    let what = match (app.layers.line(), app.layers.mode()) {
        (super::super::layers::Line::Base, _) => "Base image".to_owned(),
        (_, Mode::Layer) => format!("Layer {lower}"),
        (_, Mode::Aggregated) if upper - lower > 1 => format!("Layers {lower} to {}", upper - 1),
        (_, Mode::Aggregated) => format!("Layer {lower}"),
    };
    let filter = app.ready().and_then(|l| l.view.filter());
    match filter {
        Some(f) => format!("{what}: changes, {}", text::line(f.text())),
        None => format!("{what}: files and changes"),
    }
}

/// Everything before the name, the name, and its style.
fn parts(l: &Loaded, row: &Row, attributes: bool, theme: Theme) -> (String, String, Style) {
    let cell = l.view.compare().cell(row.node);
    let stack = &l.stack;
    let mut before = String::new();
    before.push(letter(cell.change));
    before.push(' ');
    let shown = cell.shown();
    if attributes {
        let entry = shown.and_then(|s| stack.entry(s));
        let (mode, owner) = match entry {
            Some(e) => (text::mode(e), format!("{}:{}", e.uid, e.gid)),
            None => ("d---------".to_owned(), "-:-".to_owned()),
        };
        before.push_str(&format!("{mode} {owner:>11} "));
    }
    before.push_str(&format!("{:>7}  ", human::bytes(l.view.bytes(row.node))));
    let depth = stack.depth(row.node);
    for level in 1..depth.min(DEEPEST) {
        before.push_str(if row.lines & (1 << (level - 1)) != 0 { "│ " } else { "  " });
    }
    before.push_str(if row.last { "└─" } else { "├─" });
    let content = l.view.has_content(stack, row.node);
    before.push_str(match (content, l.view.is_open(row.node)) {
        (true, false) => "⊕ ",
        (true, true) => "⊖ ",
        _ => "─ ",
    });
    (before, name(stack, row.node, shown), theme.change(cell.change))
}

fn full(l: &Loaded, row: &Row, before: String, name: String, style: Style, theme: Theme) -> Line<'static> {
    let cell = l.view.compare().cell(row.node);
    let dim = if cell.change == Change::Unmodified { Style::new() } else { style };
    let mut chars = before.chars();
    let mark: String = chars.by_ref().take(1).collect();
    let _ = theme;
    Line::from(vec![
        Span::styled(mark, style.add_modifier(Modifier::BOLD)),
        Span::styled(chars.collect::<String>(), dim),
        Span::styled(name, style),
    ])
}

/// A name as it stands in the tree: with what a link leads to.
fn name(stack: &Stack, node: NodeId, shown: Option<State>) -> String {
    let mut out = text::name(stack.name(node));
    let Some(entry) = shown.and_then(|s| stack.entry(s)) else { return out };
    match (entry.kind, stack.image().link_target(entry)) {
        (Kind::Symlink { .. }, Some(to)) => {
            out.push_str(" → ");
            out.push_str(&text::name(to));
        }
        (Kind::HardLink { .. }, Some(to)) => {
            out.push_str(" ⇒ /");
            out.push_str(&text::name(to));
        }
        (Kind::Directory { .. }, _) => {}
        (Kind::CharDevice(a, b) | Kind::BlockDevice(a, b), _) => out.push_str(&format!(" ({a}, {b})")),
        _ => {}
    }
    out
}

fn chunks(text: &str, width: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut used = 0;
    for c in text.chars() {
        let w = Span::raw(c.to_string()).width();
        if used + w > width {
            out.push(String::new());
            used = 0;
        }
        used += w;
        if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out
}

/// A thumb on the right edge, if not everything is seen.
fn scrollbar(buf: &mut Buffer, area: Rect, top: usize, len: usize, theme: Theme) {
    let height = usize::from(area.height);
    if len <= height || height < 3 {
        return;
    }
    let thumb = (height * height / len).max(1);
    let at = top * (height - thumb) / (len - height).max(1);
    for y in at..(at + thumb).min(height) {
        buf[(area.right() - 1, area.y + y as u16)].set_symbol("▐").set_style(theme.dim());
    }
}

/// The history of the chosen path, at the bottom. Gives the rows that it took.
fn draw_history(buf: &mut Buffer, area: Rect, app: &App, theme: Theme) -> u16 {
    let Some(l) = app.ready() else { return 0 };
    let Some(node) = l.view.selected() else { return 0 };
    let past = facts::history(&l.stack, node);
    let most = (area.height / 2).saturating_sub(1).max(2);
    let rows = (past.len() as u16).clamp(1, most);
    let area = Rect { y: area.bottom() - rows - 1, height: rows + 1, ..area };
    let width = usize::from(area.width);
    let path = text::name(&l.stack.path(node));
    let room = width.saturating_sub(14);
    // The end of a path says more than its beginning.
    let skip = path.chars().count().saturating_sub(room);
    let tail: String = path.chars().skip(skip).collect();
    title(buf, area, 0, &format!("History of {}{tail}", if skip > 0 { "…" } else { "" }), false, theme);
    let skip = past.len().saturating_sub(usize::from(rows));
    for (n, p) in past.iter().skip(skip).enumerate() {
        let size = p.size.map(human::bytes).unwrap_or_default();
        let mut what = p.what.clone();
        if let Some(cause) = p.cause {
            what.push_str(&format!(" [{}]", facts::word(cause)));
        }
        let instruction = app.previews.get(p.layer).map(|p| p.instruction.as_str()).unwrap_or_default();
        let head = format!("{} {:>3} {size:>7} ", letter(p.change), p.layer);
        let room = width.saturating_sub(head.len());
        let text = cut(&format!("{what}  {instruction}"), room);
        let (what, rest) = text.split_at(what.len().min(text.len()));
        line(
            buf,
            area,
            n as u16 + 1,
            Line::from(vec![
                Span::styled(head, theme.change(p.change)),
                Span::raw(what.to_owned()),
                Span::styled(rest.to_owned(), theme.dim()),
            ]),
        );
    }
    rows + 1
}
