//! Places in a Dockerfile, drawn as rustc draws them.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use dockerfile::Diagnostic;

fn renderer() -> Renderer {
    Renderer::styled().decor_style(DecorStyle::Ascii)
}

/// One finding with its lines and what to do about it.
pub(crate) fn diagnostic(d: &Diagnostic, file: &str, text: &str) -> String {
    let level = if d.is_error() { Level::ERROR } else { Level::WARNING };
    let end = d.span.end.min(text.len());
    let start = d.span.start.min(end);
    // A span that does not lie on characters would be our mistake, not a reason to lose the message.
    let span = if text.is_char_boundary(start) && text.is_char_boundary(end) { start..end } else { 0..0 };
    let snippet = Snippet::source(text).path(file).annotation(AnnotationKind::Primary.span(span));
    let mut group = level.primary_title(d.message.as_str()).element(snippet);
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer().render(&[group])
}

/// Lines `first` to `last` (1-based) with two lines around, the wanted ones marked.
pub(crate) fn lines(file: &str, text: &str, first: u32, last: u32) -> String {
    let from = first.saturating_sub(2).max(1);
    let width = (last + 2).to_string().len();
    let mut out = format!("{file}:{first}\n");
    for (i, line) in text.lines().enumerate() {
        let n = i as u32 + 1;
        if n < from || n > last + 2 {
            continue;
        }
        let mark = if (first..=last).contains(&n) { ">>>" } else { "   " };
        out.push_str(&format!(" {n:width$} | {mark} {line}\n"));
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_the_failing_lines() {
        let text = "FROM a\nRUN b\nRUN c \\\n  d\nRUN e\n";
        assert_eq!(
            lines("Dockerfile", text, 3, 4),
            "Dockerfile:3\n 1 |     FROM a\n 2 |     RUN b\n 3 | >>> RUN c \\\n 4 | >>>   d\n 5 |     RUN e"
        );
    }

    #[test]
    fn a_diagnostic_shows_place_and_help() {
        let text = "FROM scratch\nRUNN x\n";
        let parsed = dockerfile::parse(text);
        let drawn = diagnostic(&parsed.diagnostics[0], "Dockerfile", text);
        assert!(drawn.contains("Dockerfile:2:1"), "{drawn}");
        assert!(drawn.contains("RUNN x"), "{drawn}");
    }
}
