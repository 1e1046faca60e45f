//! What the targets share. A target is one file in `src/bin`; seeds for it may lie in `seeds/NAME`, words in `words/NAME`.

use dockerfile::check::{self, CheckInput};
use dockerfile::ignore::Matcher;
use dockerfile::{Diagnostic, Parsed};

/// Parses and checks a Dockerfile, and asserts what holds for every text.
pub fn examine(text: &str) -> Parsed {
    let parsed = dockerfile::parse(text);
    let lines = text.matches('\n').count() + 1;
    let within = |d: &Diagnostic| {
        assert!(text.get(d.span.start..d.span.end).is_some(), "{d:?}");
        assert!((1..=lines).contains(&(d.line as usize)), "{d:?}");
        if let Some(fix) = &d.fix {
            assert!(text.get(fix.span.start..fix.span.end).is_some(), "{fix:?}");
        }
    };
    parsed.diagnostics.iter().for_each(within);
    for s in &parsed.file.statements {
        let words = s.words.iter().map(|w| w.span).chain(s.flags.iter().map(|f| f.span));
        for span in [s.span, s.keyword_span, s.args_span].into_iter().chain(words) {
            assert!(text.get(span.start..span.end).is_some(), "{s:?}");
        }
        assert!(s.first_line <= s.last_line && s.last_line as usize <= lines, "{s:?}");
    }
    let matcher = Matcher::new(&["**/a"]).expect("a valid pattern");
    let input = CheckInput { ignore: Some(&matcher), own_rules: true, ..CheckInput::default() };
    check::run(&parsed, &input).iter().for_each(within);
    parsed
}
