//! The left side: layers, and below them one of three panes (two or all three, where there is room for them).

use analyse::{Cause, Packing};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::app::{App, LEFT, Pane, label};
use super::super::facts;
use super::super::layers::{Line as LayerLine, Part};
use super::super::text;
use super::{Theme, cut, line, title, waiting, window, wrapped};
use crate::human;

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let wanted = app.layers.lines().len() as u16 + 2;
    // Below the layers at least a third, if there is anything to show.
    let most = if area.height >= 14 { area.height - (area.height / 2).max(8) } else { area.height / 2 };
    let height = if app.focus == Pane::Layers { wanted.min(area.height * 3 / 5) } else { wanted.min(most) };
    let top = Rect { height: height.max(3).min(area.height), ..area };
    draw_layers(buf, top, app, theme);
    let rest = Rect { y: top.bottom(), height: area.height - top.height, ..area };
    if rest.height >= 3 {
        draw_tabs(buf, rest, app, theme);
    }
}

fn draw_layers(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let focused = app.focus == Pane::Layers;
    title(buf, area, 0, "Layers", focused, theme);
    let with_dead = area.width >= 34;
    let head = if with_dead { "     #    Size    Dead  Command" } else { "     #    Size  Command" };
    line(buf, area, 1, Line::styled(head, Style::new().add_modifier(Modifier::BOLD)));
    let list = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
    app.areas.layers = list;
    let lines = app.layers.lines();
    let height = usize::from(list.height);
    app.layers_top = window(app.layers_top, app.layers.cursor(), height, lines.len());
    for (n, &l) in lines.iter().enumerate().skip(app.layers_top).take(height) {
        let row = (n - app.layers_top) as u16;
        let bar = match app.layers.part(l) {
            Part::Lower => Span::styled("▐ ", theme.fg(Color::Green)),
            Part::Upper => Span::styled("▐▌", theme.fg(Color::Magenta)),
            Part::Outside => Span::raw("  "),
        };
        let (size, dead) = sizes(app, l);
        let command = match l {
            LayerLine::Base => format!("base image, {} layers", app.layers.base()),
            LayerLine::Layer(n) => app.previews.get(n).map(|p| p.instruction.clone()).unwrap_or_default(),
        };
        let mut text = format!(" {:>4} {size:>7}", label(l));
        if with_dead {
            text.push_str(&format!(" {dead:>7}"));
        }
        text.push_str("  ");
        let room = usize::from(list.width).saturating_sub(2 + text.len());
        let style = if n == app.layers.cursor() { theme.cursor(focused) } else { Style::new() };
        let body = format!("{text}{:room$}", cut(&command, room));
        line(buf, list, row, Line::from(vec![bar, Span::styled(body, style)]));
    }
}

/// Size and dead bytes of a line, as far as they are known.
fn sizes(app: &App, l: LayerLine) -> (String, String) {
    let Some(loaded) = app.ready() else { return (String::new(), String::new()) };
    let image = loaded.stack.image();
    let range = match l {
        LayerLine::Base => 0..app.layers.base(),
        LayerLine::Layer(n) => n..n + 1,
    };
    let size: u64 = range.clone().filter_map(|n| image.layers.get(n)).map(|l| l.size).sum();
    let dead: u64 = range.map(|n| facts::dead(image, n)).sum();
    (human::bytes(size), if dead == 0 { String::new() } else { human::bytes(dead) })
}

const TABS: [(Pane, &str); 3] =
    [(Pane::Layer, "Layer"), (Pane::Image, "Image"), (Pane::Findings, "Findings")];

fn draw_tabs(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    title(buf, area, 0, "", false, theme);
    let mut x = area.x + 1;
    for (n, (pane, name)) in TABS.into_iter().enumerate() {
        let count = match (pane, app.ready()) {
            (Pane::Findings, Some(l)) if !l.findings.is_empty() => format!(" {}", l.findings.len()),
            _ => String::new(),
        };
        let (focused, shown) = (app.focus == pane, app.tab == pane);
        let mark = if focused { "▸" } else { " " };
        let text = format!("{mark}{name}{count} ");
        let width = Span::raw(text.as_str()).width() as u16;
        let style = match (focused, shown) {
            (true, _) => theme.title(true),
            (_, true) => theme.title(false).add_modifier(Modifier::UNDERLINED),
            _ => theme.dim(),
        };
        let place = Rect { x, y: area.y, width: width.min(area.right().saturating_sub(x)), height: 1 };
        if place.width == 0 {
            break;
        }
        line(buf, place, 0, Line::styled(text, style));
        app.areas.tabs[n] = place;
        x += width + 1;
    }
    debug_assert_eq!(LEFT[1..], TABS.map(|t| t.0));
    let body = Rect { x: area.x + 1, width: area.width - 1, y: area.y + 1, height: area.height - 1 };
    app.areas.details = body;
    if let Some(text) = waiting(app) {
        return line(buf, body, 0, Line::styled(cut(&text, usize::from(body.width)), theme.dim()));
    }
    match app.tab {
        Pane::Findings => draw_findings(buf, body, app, theme),
        Pane::Image => draw_image(buf, body, app, theme),
        _ => draw_layer(buf, body, app, theme),
    }
}

/// A word and what belongs to it.
fn field(word: &str, value: String) -> (String, String) {
    (format!("{word}: "), value)
}

fn fields(buf: &mut Buffer, area: Rect, skip: usize, list: Vec<(String, String)>, theme: Theme) -> u16 {
    let width = usize::from(area.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (word, value) in list {
        for (n, piece) in wrapped(&format!("{word}{value}"), width).into_iter().enumerate() {
            let at = if n == 0 { word.len().min(piece.len()) } else { 0 };
            let (a, b) = piece.split_at(at);
            lines.push(Line::from(vec![
                Span::styled(a.to_owned(), theme.title(false)),
                Span::raw(b.to_owned()),
            ]));
        }
    }
    let len = lines.len();
    let skip = skip.min(len.saturating_sub(1));
    for (n, l) in lines.into_iter().skip(skip).enumerate() {
        line(buf, area, n as u16, l);
    }
    (len - skip) as u16
}

fn draw_layer(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let Some(l) = app.ready() else { return };
    let image = l.stack.image();
    let n = app.layers.chosen();
    let Some(layer) = image.layers.get(n) else { return };
    let mut list = Vec::new();
    if n < app.layers.base() {
        list.push(field("Number", format!("{n} (of the base image)")));
    } else {
        list.push(field("Number", n.to_string()));
    }
    list.push(field("Command", app.previews.get(n).map(|p| p.instruction.clone()).unwrap_or_default()));
    list.push(field("Size", human::bytes(layer.size)));
    if layer.packing != Packing::Unpacked {
        let how = if layer.compression.is_empty() { "" } else { layer.compression };
        list.push(field("Compressed", format!("{} {how}", human::bytes(layer.packed)).trim_end().to_owned()));
    }
    if let Some(ledger) = image.accounts().layers.get(n) {
        for cause in Cause::ALL {
            let sums = ledger.cause(cause);
            if sums.bytes > 0 {
                let files = if sums.files == 1 { "file" } else { "files" };
                let text = format!("{} in {} {files}", human::bytes(sums.bytes), sums.files);
                list.push(field(&capital(facts::word(cause)), text));
            }
        }
    }
    if let Some(d) = layer.diff_id {
        list.push(field("Diff ID", d.to_string()));
    }
    if let Some(d) = layer.digest {
        list.push(field("Blob", d.to_string()));
    }
    if !layer.media_type.is_empty() {
        list.push(field("Media type", text::line(&layer.media_type)));
    }
    if let Some(created) = image.line(n).and_then(|l| l.history.created.as_deref()) {
        list.push(field("Created", text::line(created)));
    }
    let total: usize =
        list.iter().map(|(w, v)| wrapped(&format!("{w}{v}"), usize::from(area.width)).len()).sum();
    let skip = app.detail_top.min(total.saturating_sub(usize::from(area.height)));
    fields(buf, area, skip, list, theme);
    app.detail_top = skip;
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn draw_image(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let Some(l) = app.ready() else { return };
    let image = l.stack.image();
    let accounts = image.accounts();
    let dead = accounts.reclaimable();
    let mut list = vec![
        field("Image", app.name.clone()),
        field("Total size", human::bytes(accounts.total.shipped.bytes)),
        field("Dead bytes", human::bytes(dead.bytes)),
        field("Efficiency", format!("{:.1} %", accounts.efficiency() * 100.0)),
    ];
    if area.height >= 12 {
        list.insert(1, field("Id", image.id.short()));
        list.insert(2, field("Platform", text::line(&image.platform.to_string())));
        if image.layers.iter().any(|l| l.packing != Packing::Unpacked) {
            let packed: u64 = image.layers.iter().map(|l| l.packed).sum();
            list.insert(4, field("Compressed", human::bytes(packed)));
        }
    }
    let used = fields(buf, area, 0, list, theme);
    let table = Rect { y: area.y + used, height: area.height.saturating_sub(used), ..area };
    line(buf, table, 0, Line::styled("Count   Total  Path", Style::new().add_modifier(Modifier::BOLD)));
    let rows = Rect { y: table.y + 1, height: table.height.saturating_sub(1), ..table };
    let height = usize::from(rows.height);
    let top = window(0, app.wasted_at, height, l.wasted.len());
    let focused = app.focus == Pane::Image;
    if l.wasted.is_empty() {
        line(buf, rows, 0, Line::styled("no dead bytes", theme.dim()));
    }
    for (n, w) in l.wasted.iter().enumerate().skip(top).take(height) {
        let path = text::name(&l.stack.path(w.node));
        let head = format!("{:>5} {:>7}  ", w.count, human::bytes(w.bytes));
        let room = usize::from(rows.width).saturating_sub(head.len());
        let style = if n == app.wasted_at && focused { theme.cursor(true) } else { Style::new() };
        line(buf, rows, (n - top) as u16, Line::styled(format!("{head}{:room$}", tail(&path, room)), style));
    }
}

/// The end of a path, which says more than its beginning.
fn tail(path: &str, width: usize) -> String {
    let count = path.chars().count();
    if Span::raw(path).width() <= width || width < 2 {
        return cut(path, width);
    }
    let mut skip = count.saturating_sub(width - 1);
    loop {
        let rest: String = path.chars().skip(skip).collect();
        if Span::raw(rest.as_str()).width() < width || rest.is_empty() {
            return format!("…{rest}");
        }
        skip += 1;
    }
}

fn draw_findings(buf: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let Some(l) = app.ready() else { return };
    if l.findings.is_empty() {
        return line(buf, area, 0, Line::styled("nothing to mend", theme.dim()));
    }
    let width = usize::from(area.width);
    let chosen = l.findings.get(app.finding_at);
    let mut advice: Vec<Line<'_>> = Vec::new();
    if let Some(f) = chosen {
        let whose = if f.base { " of the base image" } else { "" };
        advice.extend(
            wrapped(&format!("{}: {}", f.title, human::bytes(f.bytes)), width)
                .into_iter()
                .map(|t| Line::styled(t, theme.title(false))),
        );
        let place = match f.node {
            Some(node) => format!("layer {}{whose}, {}", f.layer, text::name(&l.stack.path(node))),
            None => format!("layer {}{whose}", f.layer),
        };
        advice.push(Line::styled(cut(&place, width), theme.dim()));
        advice.extend(wrapped(&f.advice, width).into_iter().map(Line::raw));
    }
    let below = (advice.len() as u16 + 1).min(area.height * 2 / 3);
    let list = Rect { height: (area.height - below).max(1), ..area };
    let height = usize::from(list.height);
    let top = window(0, app.finding_at, height, l.findings.len());
    let focused = app.focus == Pane::Findings;
    for (n, f) in l.findings.iter().enumerate().skip(top).take(height) {
        let head = format!("{:>7} {:>3}  ", human::bytes(f.bytes), f.layer);
        let room = width.saturating_sub(head.len());
        let mut style = if f.base { theme.dim() } else { Style::new() };
        if n == app.finding_at {
            style = theme.cursor(focused);
        }
        line(
            buf,
            list,
            (n - top) as u16,
            Line::styled(format!("{head}{:room$}", cut(&f.title, room)), style),
        );
    }
    let below =
        Rect { y: list.bottom() + 1, height: area.bottom().saturating_sub(list.bottom() + 1), ..area };
    for (n, text) in advice.into_iter().enumerate() {
        line(buf, below, n as u16, text);
    }
}
