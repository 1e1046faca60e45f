//! Text for a row of the terminal: made harmless, cut to a width, and bars.

/// What a program wrote, without what a terminal would obey: escape sequences and control characters; tabs as blanks.
pub(crate) fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for part in anstream::adapter::strip_str(line) {
        for c in part.chars() {
            match c {
                '\t' => out.extend(std::iter::repeat_n(' ', 8 - out.chars().count() % 8)),
                c if c.is_control() => {}
                c => out.push(c),
            }
        }
    }
    out
}

/// Cuts to so many characters; what is cut ends with `…`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        out.push('…');
    }
    out
}

/// Two texts at the ends of a row; the left one gives way.
pub(crate) fn row(left: &str, right: &str, width: usize) -> String {
    let right_width = right.chars().count();
    let left = cut(left, width.saturating_sub(right_width + 1));
    let gap = width.saturating_sub(left.chars().count() + right_width);
    cut(&format!("{left}{}{right}", " ".repeat(gap)), width)
}

/// `[=====>    ]`, `cells` wide inside.
pub(crate) fn bar(done: u64, total: u64, cells: usize) -> String {
    let part = if total == 0 { 0.0 } else { (done as f64 / total as f64).clamp(0.0, 1.0) };
    let full = (part * cells as f64) as usize;
    let head = if full < cells && total > 0 { ">" } else { "" };
    let rest = cells - full - head.len();
    format!("[{}{head}{}]", "=".repeat(full), " ".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_controls_do_not_reach_the_terminal() {
        assert_eq!(harmless("\x1b[31mred\x1b[0m\x07\x1b]0;title\x07 \x1b[2Jx"), "red x");
        assert_eq!(harmless("a\tb"), "a       b");
    }

    #[test]
    fn rows_are_never_wider() {
        for width in [0, 1, 2, 10, 40] {
            assert!(cut("äöü and more and more and more and more and more", width).chars().count() <= width);
            assert!(row("a long text at the left of it", "12.3s", width).chars().count() <= width, "{width}");
        }
        assert_eq!(row("left", "1s", 10), "left    1s");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 100, 5), "[>    ]");
        assert_eq!(bar(50, 100, 4), "[==> ]");
        assert_eq!(bar(100, 100, 4), "[====]");
        assert_eq!(bar(7, 0, 4), "[    ]");
        assert_eq!(bar(200, 100, 4), "[====]");
    }
}
