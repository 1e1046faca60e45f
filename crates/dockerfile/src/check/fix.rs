//! Putting fixes into a text.

use crate::Diagnostic;

/// How often the text is looked at again; a fix may make room for another one.
const MAX_ROUNDS: usize = 8;

/// A text with fixes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The text. What no fix is about is as it was, byte by byte.
    pub text: String,
    /// The rules whose fixes were put in: one name for each fix, in the order of application.
    pub applied: Vec<&'static str>,
}

/// Puts in all fixes that `find` has for the text, and again for what comes out, until there are none.
///
/// Of fixes that overlap the first is taken; the other comes in the next round if it is still wanted. Fixes after which the text would no
/// longer parse are not taken.
pub fn apply(text: &str, find: &dyn Fn(&str) -> Vec<Diagnostic>) -> Fixed {
    let broken = |text: &str| crate::parse(text).diagnostics.iter().any(Diagnostic::is_error);
    let mut fixed = Fixed { text: text.to_owned(), applied: Vec::new() };
    for _ in 0..MAX_ROUNDS {
        let mut found = find(&fixed.text);
        found.retain(|d| d.fix.is_some());
        found.sort_by_key(|d| d.fix.as_ref().map(|fix| fix.span));
        let (mut next, mut applied) = (String::with_capacity(fixed.text.len()), Vec::new());
        let mut done = 0;
        for diagnostic in &found {
            let Some(fix) = &diagnostic.fix else { continue };
            let Some(before) = fixed.text.get(done..fix.span.start) else { continue };
            if fixed.text.get(fix.span.start..fix.span.end).is_none()
                || !applied.is_empty() && fix.span.start == done && fix.span.end == done
            {
                continue;
            }
            next.push_str(before);
            next.push_str(&fix.replacement);
            done = fix.span.end;
            applied.push(diagnostic.code);
        }
        next.push_str(&fixed.text[done..]);
        if applied.is_empty() || next == fixed.text || broken(&next) && !broken(&fixed.text) {
            break;
        }
        fixed.text = next;
        fixed.applied.extend(applied);
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Fix, Span};

    /// A finding for each `from` in the text, with a fix.
    fn find(from: &'static str, to: &'static str) -> impl Fn(&str) -> Vec<Diagnostic> {
        move |text| {
            let found = text.match_indices(from).map(|(at, _)| {
                let span = Span::new(at, at + from.len());
                let mut d = Diagnostic::warning(Class::Check, "X", "x", span, 1);
                d.fix = Some(Fix { span, replacement: to.to_owned() });
                d
            });
            found.collect()
        }
    }

    #[test]
    fn all_places_and_nothing_else() {
        let fixed = apply("FROM a\r\n\tRUN é  a \n\n# a", &find("a", "bb"));
        assert_eq!(fixed.text, "FROM bb\r\n\tRUN é  bb \n\n# bb");
        assert_eq!(fixed.applied, ["X"; 3]);
        assert_eq!(apply(&fixed.text, &find("a", "bb")), Fixed { text: fixed.text, applied: vec![] });
    }

    #[test]
    fn what_overlaps_waits_for_the_next_round() {
        let both = |text: &str| [find("aba", "x")(text), find("bac", "y")(text)].concat();
        assert_eq!(apply("FROM a\nRUN abac bac", &both).text, "FROM a\nRUN xc y");
    }

    #[test]
    fn it_comes_to_an_end() {
        assert_eq!(apply("FROM a\n", &find("a", "aa")).text.len(), "FROM \n".len() + (1 << MAX_ROUNDS));
    }

    #[test]
    fn a_text_that_parses_stays_one() {
        let text = "FROM a\nRUN b\n";
        assert_eq!(apply(text, &find("RUN", "RUM")), Fixed { text: text.to_owned(), applied: vec![] });
        assert_eq!(apply("RUM\nb", &find("b", "c")).text, "RUM\nc", "it had errors before");
    }
}
