//! Listings: a table for people, or one JSON array for programs.

use serde::Serialize;

use crate::output;

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    // No doc comments: clap would give each value a paragraph of its own in every help.
    #[default]
    Table,
    Json,
}

/// Columns with a header, as wide as their widest cell, three blanks between.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |s: &str| s.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|h| width(h)).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, w) in cells.zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', w - width(cell) + 3));
        }
        out.truncate(out.trim_end().len());
        out
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Prints a listing.
pub(crate) fn print<T: Serialize>(
    format: Format,
    items: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) {
    match format {
        Format::Table => output::line(&columns(header, &items.iter().map(row).collect::<Vec<_>>())),
        Format::Json => json(&items),
    }
}

/// Prints a value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) {
    // Our own types have string keys and no failing serialisers.
    output::line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = vec![vec!["älpine".into(), "1MB".into()], vec!["b".into(), String::new()]];
        assert_eq!(columns(&["NAME", "SIZE"], &rows), "NAME     SIZE\nälpine   1MB\nb");
    }
}
